"""Runs one program with a time limit, and ends it when nobody waits for it any more. Run as a script.

    python watch.py SECONDS COMMAND [ARGUMENT...]      (output goes where that of this script goes)

The program and all it starts are one process group, which is killed when the time is over (exit code 124) or when this
script's standard input closes: that is, when the process that labels was killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time

OVER_TIME = 124
"""Exit code where the time limit ended the program."""
NOT_STARTED = 127
"""Exit code where there is no such program."""
SCRATCH = "RUTILE_LABEL_SCRATCH"
"""Names a folder that goes when nobody waits any more."""


def main(seconds: float, command: list[str]) -> int:
    """Run it; its exit code (128 + number for a signal, as shells say)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that labels; it closes our input
    signal.signal(signal.SIGTERM, _end)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return NOT_STARTED
    end, pause, abandoned = time.monotonic() + seconds, 0.002, False
    try:
        while process.poll() is None:
            left = end - time.monotonic()
            if left <= 0:
                return OVER_TIME
            if _closed(min(pause, left)):
                abandoned = True
                return OVER_TIME
            pause = min(2 * pause, 0.1)
    finally:
        _kill(process)
        if abandoned and SCRATCH in os.environ:
            shutil.rmtree(os.environ[SCRATCH], ignore_errors=True)
    code = process.returncode
    return code if code >= 0 else 128 - code


def _end(number: int, frame: object) -> None:
    """What SIGTERM does: leave, and end the group on the way."""
    del frame
    sys.exit(128 + number)


def _closed(seconds: float) -> bool:
    """Wait so long; whether standard input was closed."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 1)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the whole group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
