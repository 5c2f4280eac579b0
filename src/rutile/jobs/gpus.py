"""GPUs of this machine, by NVIDIA's management library where it is there: how many, how busy, over the last hour."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

KEPT = 3600.0
"""Seconds that are remembered."""
EVERY = 20.0
"""Seconds between two samples."""


def library() -> Any:
    """NVIDIA's management library (nvidia-ml-py), ready; None where it or its driver is not there."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def count(nvml: Any) -> int:
    """GPUs that there are; 0 without a library."""
    if nvml is None:
        return 0
    with suppress(nvml.NVMLError):
        return int(nvml.nvmlDeviceGetCount())
    return 0


@dataclass(frozen=True)
class Sample:
    """One GPU at one time; None: it does not say (a GPU in parts, for one)."""

    name: str
    """Of its model."""
    load: float | None
    """Time at work (percent)."""
    memory: float | None
    """Memory that is used (GB)."""
    whole: float | None
    """Memory that there is (GB)."""


def samples(nvml: Any) -> list[Sample]:
    """Every GPU as it is now, in the library's order."""
    return [_sample(nvml, k) for k in range(count(nvml))]


def _sample(nvml: Any, index: int) -> Sample:
    name, load, memory, whole = "", None, None, None
    with suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        said = nvml.nvmlDeviceGetName(handle)
        name = said.decode(errors="replace") if isinstance(said, bytes) else str(said)  # old releases say bytes
        with suppress(nvml.NVMLError):
            load = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        with suppress(nvml.NVMLError):
            info = nvml.nvmlDeviceGetMemoryInfo(handle)
            memory, whole = info.used / 1e9, info.total / 1e9
    return Sample(name, load, memory, whole)


class Watch:
    """Samples the GPUs of this machine while the platform runs; nothing is kept where there are none.

    Args:
        nvml: the library, or what stands for it.
        clock: seconds since 1970.
    """

    def __init__(self, nvml: Any, clock: Callable[[], float] = time.time) -> None:
        self.nvml, self.clock = nvml, clock
        self._kept: deque[tuple[float, list[Sample]]] = deque()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, where there are GPUs."""
        if count(self.nvml):
            self._over.clear()
            self._thread = threading.Thread(target=self._run, name="gpus", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> list[Sample]:
        """Take a sample."""
        now = self.clock()
        found = samples(self.nvml)
        with self._lock:
            self._kept.append((now, found))
            while now - self._kept[0][0] > KEPT:
                self._kept.popleft()
        return found

    def loads(self, index: int, parts: int) -> list[float | None]:
        """Mean load (percent) of a GPU in equal parts of the last hour, the newest last; None: no sample."""
        now, width = self.clock(), KEPT / parts
        said: list[list[float]] = [[] for _ in range(parts)]
        with self._lock:
            for then, found in self._kept:
                part = parts - 1 - int((now - then) / width)
                if part >= 0 and index < len(found) and found[index].load is not None:
                    said[part].append(found[index].load or 0.0)
        return [sum(one) / len(one) if one else None for one in said]

    def _run(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(EVERY)
