"""Train again and again in forked processes that are killed at random: run_killed.py FOLDER DATA KILLS SEED.

One interpreter imports everything once; each training is a fork of it. Prints one JSON line: see `main`.
"""

import contextlib
import gc
import importlib
import json
import mmap
import os
import pkgutil
import random
import signal
import sys
import time
from pathlib import Path

import rutile
from rutile.cli.main import main as rutile_command
from rutile.core.files import UNFINISHED
from rutile.train import figures
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "shutil.rmtree"}
"""What Python tells before it touches a file (audit events); beside them, each flush of a file to the disk."""
IN_A_ROW = 4
"""Kills of one run before it may end."""


def words(data: Path, out: Path) -> list[str]:
    """The command: a small training with caches in files that writes a checkpoint after each step."""
    return [
        "train", str(data), f"out={out}", "potential.hidden=[3]", "potential.auto.cutoff=4", "epochs=5", "batch_size=4",
        "split.valid=0.25", "ema=0.9", "keep=last", "tensorboard=false", "checkpoint_seconds=0", "cache_memory=0.01",
    ]  # fmt: skip


def at_each_touch(out: Path, told) -> None:
    """Call `told` whenever this process is about to change something in the folder of the run."""

    def hook(event, arguments):
        if event not in EVENTS or arguments[1:2] == ("r",):
            return
        in_open_folder = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # shutil.rmtree at work
        if in_open_folder or any(str(out) in str(a) for a in arguments):
            told()

    sys.addaudithook(hook)
    flush = os.fsync

    def fsync(handle):
        told()
        flush(handle)

    os.fsync = fsync


def fork(command: list[str], log: Path, prepare) -> int:
    """Start the command in a copy of this process."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    with contextlib.suppress(BaseException):
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        prepare()
        code = rutile_command(command)
        sys.stdout.flush()
    os._exit(code)


def finish(pid: int) -> int:
    """Exit code of a process; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def count_touches(data: Path, out: Path) -> tuple[int, float]:
    """Train without a fault: how often files are touched, and how long it takes."""
    counted = mmap.mmap(-1, 8)  # shared with the fork

    def prepare():
        def told():
            counted[:] = (int.from_bytes(counted, "little") + 1).to_bytes(8, "little")

        at_each_touch(out, told)

    began = time.monotonic()
    assert finish(fork(words(data, out), out.with_suffix(".log"), prepare)) == 0, out.with_suffix(".log").read_text()
    return int.from_bytes(counted, "little"), time.monotonic() - began


def suicide(out: Path, number: int):
    """Kill this process when it touches a file for the so-manieth time."""

    def prepare():
        left = number

        def told():
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        at_each_touch(out, told)

    return prepare


def kill_once(data: Path, out: Path, draw: random.Random, touches: int, seconds: float) -> int:
    """Train, and kill the training at a random touch of a file, or at a random instant; its exit code."""
    log = out.with_suffix(".log")
    if draw.random() < 0.5:
        return finish(fork(words(data, out), log, suicide(out, draw.randint(1, touches))))
    pid = fork(words(data, out), log, lambda: None)
    time.sleep(draw.uniform(0, seconds))
    os.kill(pid, signal.SIGKILL)
    return finish(pid)


def step(out: Path) -> int:
    """Step of the checkpoint; -1 without one. A damaged checkpoint is an error here."""
    path = out / CHECKPOINT_FILE
    return read_checkpoint(path)["step"] if path.exists() else -1


def main(folder: Path, data: Path, kills: int, seed: int) -> None:
    """Train once without a fault, then kill; prints what was found.

    killed: number of trainings that a signal ended. steps: step of the checkpoint after each kill.
    half: how often a half-written file or folder was left.
    lost: how often a kill made the checkpoint go back. codes: exit codes of the final, undisturbed calls.
    """
    for module in pkgutil.walk_packages(rutile.__path__, "rutile."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:  # Alembic's own scripts
            with contextlib.suppress(ModuleNotFoundError):  # packages that are extras
                importlib.import_module(module.name)
    figures.svg = lambda figure: "<svg/>"  # the report is written, but drawing would take most of the time
    gc.freeze()
    touches, seconds = count_touches(data, folder / "straight")
    draw = random.Random(seed)
    found = {"touches": touches, "killed": 0, "steps": [], "half": 0, "lost": 0, "codes": [], "runs": []}
    while found["killed"] < kills:
        out = folder / f"run-{len(found['runs'])}"
        last = -1
        for _ in range(min(IN_A_ROW, kills - found["killed"])):
            found["killed"] += kill_once(data, out, draw, touches, seconds) == -signal.SIGKILL
            found["half"] += any(out.rglob(f".*{UNFINISHED}"))
            now = step(out)
            found["lost"] += now < last
            found["steps"].append(now)
            last = now
        found["codes"].append(finish(fork(words(data, out), out.with_suffix(".log"), lambda: None)))
        found["runs"].append(str(out))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
