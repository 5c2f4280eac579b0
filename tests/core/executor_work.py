"""Work for workers in other processes."""

import os
import signal
import time
from pathlib import Path


def square(x):
    return x * x


def fail_at_three(x):
    if x == 3:
        raise ValueError(f"{x} is not liked")
    return x


def note(job):
    """Leave a mark that this was begun, take a while, give the number back."""
    folder, number, seconds = job
    with (Path(folder) / f"{number}.begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return number


def kill_own_process(job):
    """End the worker where the number is among the bad ones, so often as is asked; otherwise as `note`."""
    folder, number, seconds, bad, times = job
    note((folder, number, 0.0))
    if number in bad and len((Path(folder) / f"{number}.begun").read_text().split()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return number
