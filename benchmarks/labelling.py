"""Labelling on two workers: how busy they are, what the executor costs for each task, and workers killed at random.

    python benchmarks/labelling.py [TASKS]

TASKS: labels for each executor in the first part (60: half a minute for each of two executors on two free cores).
Three minutes in all. Other work on the machine takes cores away from the labels: their part of two cores is then too
small; what the executor's own records say (time at work between a worker's first task and its last) is less disturbed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

WORKERS = 2
SIZE, CUTOFF = 4, 30.0
"""Argon crystals of 4 SIZE^3 atoms: with so long a cutoff (Angstrom) about a second of work each, like a small quantum
calculation of which little has to be written."""
NOTHING = 2000
"""Tasks that do nothing."""
MANY = 10_000
"""Tasks while workers are killed."""


def nothing(item: int) -> int:
    """The least that a task can do."""
    return item


def marked(job: tuple[str, int]) -> int:
    """Note that the task was begun; a value that can be checked."""
    folder, item = job
    with (Path(folder) / str(os.getpid())).open("a") as file:
        file.write(f"{item}\n")
    return item * item + 1


def main(words: list[str]) -> None:
    """All three parts."""
    import accuracy

    tasks = int(words[0]) if words else 60
    with accuracy.RichReporter() as reporter:
        results: dict[str, Any] = {"code": accuracy._version(), "cores": os.cpu_count(), "workers": WORKERS}
        results["busy"] = {name: busy(name, tasks, reporter) for name in ("threads", "local")}
        results["overhead"] = overhead(reporter)
        results["killed"] = killed(reporter)
    accuracy.write("labelling", results, table(results))


def executor(name: str) -> Any:
    """An executor by name, with two workers."""
    from rutile.core.executors.catalogue import open_executor
    from rutile.core.executors.settings import LocalSettings, ThreadsSettings
    from rutile.core.reporting import SilentReporter

    return open_executor(LocalSettings() if name == "local" else ThreadsSettings(), WORKERS, SilentReporter())


def busy(name: str, tasks: int, reporter: Any) -> dict[str, Any]:
    """Labels by Lennard-Jones with a cache; what part of two cores they had."""
    from ase.build import bulk

    from rutile.label.cache import LabelCache
    from rutile.label.labeler import Label
    from rutile.label.settings import LennardJonesSettings
    from rutile.label.work import Work, close_all

    structures = []
    for seed in range(tasks):
        atoms = bulk("Ar", cubic=True, a=5.26) * (SIZE, SIZE, SIZE)
        atoms.rattle(0.1, seed=seed)
        structures.append(atoms)
    with executor(name) as opened, tempfile.TemporaryDirectory() as folder:
        cache, work, seconds = LabelCache(Path(folder)), Work(LennardJonesSettings(cutoff=CUTOFF)), []
        for _ in opened.each(work, structures[: 2 * WORKERS]):  # everything is imported
            pass
        if name == "local":
            opened.shifts.clear()
        before, driver, began = of_children(), time.process_time(), time.monotonic()
        for number, label in reporter.track(opened.each(work, structures), f"labels, {name}", tasks):
            assert isinstance(label, Label)
            cache.put(f"{number:032d}", label)
            seconds.append(float(str(label.provenance["seconds"])))
        wall = time.monotonic() - began
        used, driver = of_children() - before, time.process_time() - driver
        record = opened.busy if name == "local" else sum(seconds) / (WORKERS * wall)
    close_all()
    return {
        "tasks": tasks,
        "seconds_for_a_task": round(sum(seconds) / tasks, 3),
        "wall_seconds": round(wall, 2),
        "cpu_seconds_of_workers": round(used, 2),
        "cpu_seconds_of_driver": round(driver, 2),
        "part_of_two_cores": round(used / (WORKERS * wall), 4),
        "part_with_driver": round((used + driver) / (WORKERS * wall), 4),
        "at_work_by_own_records": round(record, 4),
        "load_of_machine": round(os.getloadavg()[0], 2),
    }


def of_children() -> float:
    """CPU time of all processes below this one (s)."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def overhead(reporter: Any) -> dict[str, float]:
    """Time of a worker (ms) that a task costs beyond its work: with tasks that do nothing, all of it."""
    from distributed import Client, LocalCluster

    out = {}
    for name in ("threads", "local"):
        with executor(name) as opened:
            list(opened.each(nothing, range(100)))
            began = time.monotonic()
            for _ in reporter.track(opened.each(nothing, range(NOTHING)), f"no work, {name}", NOTHING):
                pass
            out[name] = (time.monotonic() - began) * WORKERS / NOTHING * 1e3
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(nothing, range(100), pure=False))
        began = time.monotonic()
        client.gather(client.map(nothing, range(NOTHING), pure=False))
        out["dask map"] = (time.monotonic() - began) * WORKERS / NOTHING * 1e3
    return {name: round(value, 3) for name, value in out.items()}


def processes() -> list[int]:
    """The worker processes, also one that only begins."""
    out = []
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(process.cmdline()):
                out.append(process.pid)
    return out


def killed(reporter: Any) -> dict[str, Any]:
    """Many tasks; every few seconds one of the workers is killed."""
    rng, stop, kills = random.Random(0), threading.Event(), []

    def kill() -> None:
        while not stop.wait(rng.uniform(2.0, 5.0)):
            workers = processes()
            if workers:
                kills.append(rng.choice(workers))
                with suppress(ProcessLookupError):
                    os.kill(kills[-1], signal.SIGKILL)

    with executor("local") as opened, tempfile.TemporaryDirectory() as folder:
        list(opened.each(nothing, range(10)))
        thread = threading.Thread(target=kill)
        thread.start()
        began, results = time.monotonic(), Counter[tuple[int, int]]()
        try:
            jobs = ((folder, k) for k in range(MANY))
            for found in reporter.track(opened.each(marked, jobs), "workers are killed", MANY):
                results[found] += 1
        finally:
            stop.set()
            thread.join()
        runs = Counter(int(line) for file in Path(folder).iterdir() for line in file.read_text().split())
        return {
            "tasks": MANY,
            "results": sum(results.values()),
            "tasks_with_exactly_one_right_result": sum(results[(k, k * k + 1)] == 1 for k in range(MANY)),
            "kills": len(kills),
            "workers_lost_at_work": opened.lost,
            "tasks_begun_again": sum(n - 1 for n in runs.values()),
            "wall_seconds": round(time.monotonic() - began, 1),
        }


def table(results: dict[str, Any]) -> str:
    """The page."""
    rows = [
        f"| {name} | {r['seconds_for_a_task']:.2f} | {r['part_of_two_cores']:.1%} "
        f"| {r['part_with_driver']:.1%} | {r['at_work_by_own_records']:.1%} "
        f"| {r['cpu_seconds_of_driver'] / r['tasks'] * 1e3:.1f} | {r['load_of_machine']:.1f} |"
        for name, r in results["busy"].items()
    ]
    killed, costs = results["killed"], results["overhead"]
    lines = [
        "# Labelling on two workers",
        "",
        f"{results['busy']['local']['tasks']} Lennard-Jones labels of argon ({4 * SIZE**3} atoms, cutoff {CUTOFF:g} "
        "Angstrom), each kept on disk.",
        "",
        "| executor | seconds for a label | part of two cores used by the workers | with the driver "
        "| at work, by own records | CPU of the driver for a label (ms) | load of the machine |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Time of a worker that a task costs beyond its work (ms): "
        + ", ".join(f"{name} {value:.2f}" for name, value in costs.items())
        + f" ({NOTHING} tasks that do nothing).",
        "",
        f"{killed['tasks']} tasks while {killed['kills']} workers were killed (SIGKILL) at random: "
        f"{killed['tasks_with_exactly_one_right_result']} tasks with exactly one right result, {killed['results']} "
        f"results in all; {killed['tasks_begun_again']} tasks were begun again; {killed['wall_seconds']:.0f} s.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
