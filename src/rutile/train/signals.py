"""Asking a run to stop by signal: SIGTERM (schedulers) and SIGINT (Ctrl-C) are remembered, the loop looks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def remember_signals() -> Iterator[Callable[[], str | None]]:
    """While open, the first SIGTERM or SIGINT is only remembered; a second one acts as it did before.

    Yields:
        A function that returns "SIGTERM", "SIGINT" or None.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers in the main thread only
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(signal.Signals(number).name)
        for one, old in before.items():
            signal.signal(one, old)

    for number in before:
        signal.signal(number, handle)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, old in before.items():
            signal.signal(number, old)
