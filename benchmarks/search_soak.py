"""A search for hours whose workers are killed every minute, and whose driver is killed and started again now and then.

    python benchmarks/search_soak.py [hours=2] [kill=60] [restart=1200] [workers=2] [out=FOLDER] [nice=15]
    python benchmarks/search_soak.py check out=FOLDER

Runs `rutile search` (TiO2, 2 formula units, rigid ions, executor=local) and, every `kill` seconds, kills one of its
worker processes at random (SIGKILL); every `restart` seconds the driver, which is started again with the same command.
At the end the search is stopped, finishes what it had begun, and its log is checked:

    lost        structures that were made and of which nothing became
    twice       structures that were made or evaluated more than once
    orphans     children whose parents were not known when they were made
    replay      the log, read anew, gives each child again from the state before it, to the last digit: the run is one
                that an undisturbed run with the same order of results would have been
    memory      RSS of driver and workers, every 10 s; slope over the second half of each life of the driver

The second form does the last part for a run that is over. Writes results/search_soak.{json,md,png}.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SEED = 0
SETTINGS = ["TiO2", "model=rigid_ion", "structure.units=[2]", "batch=8", "executor=local", f"seed={SEED}"]
MANY = 10_000_000
POLL = 10.0


def command(out: Path, workers: int, relaxations: int) -> list[str]:
    """The search."""
    words = [*SETTINGS, f"workers={workers}", f"relaxations={relaxations}", f"out={out}"]
    return [sys.executable, "-m", "rutile", "search", *words]


class Run:
    """A driver and its workers."""

    def __init__(self, out: Path, workers: int) -> None:
        self.out, self.workers, self.began = out, workers, time.time()
        self.records: list[dict[str, Any]] = []
        self.kills = self.restarts = 0
        self.start()

    def start(self) -> None:
        """Begin, or go on."""
        with (self.out.parent / "driver.log").open("a") as log:
            self.process = subprocess.Popen(
                command(self.out, self.workers, MANY), stdout=log, stderr=log, start_new_session=True
            )
        self.driver = psutil.Process(self.process.pid)

    def working(self) -> list[psutil.Process]:
        """The worker processes: those that have loaded what relaxes."""
        found = []
        for p in self.driver.children(recursive=True):
            with suppress(psutil.Error):
                if "spawn_main" in " ".join(p.cmdline()):
                    found.append(p)
        return found

    def look(self) -> None:
        """Write down how much memory there is, and how far the log is."""
        assert self.process.poll() is None, f"the driver ended: see {self.out.parent / 'driver.log'}"
        with suppress(psutil.Error):
            log = self.out / "search.jsonl"
            self.records.append(
                {
                    "time": round(time.time() - self.began, 1), "life": self.restarts,
                    "driver": round(self.driver.memory_info().rss / 2**20, 1),
                    "workers": [round(p.memory_info().rss / 2**20, 1) for p in self.working()],
                    "log": log.stat().st_size if log.exists() else 0,
                }
            )  # fmt: skip
            (self.out.parent / "memory.json").write_text(
                json.dumps({"kills": self.kills, "restarts": self.restarts, "records": self.records})
            )

    def kill_worker(self, rng: random.Random) -> None:
        """One, at random."""
        if found := self.working():
            with suppress(psutil.Error):
                rng.choice(found).kill()
                self.kills += 1

    def kill_driver(self) -> None:
        """And start again."""
        self.driver.kill()
        self.process.wait()
        self.restarts += 1
        time.sleep(5.0)
        self.start()

    def stop(self) -> None:
        """As a user does."""
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(120)
        self.driver.kill() if self.process.poll() is None else None


def soak(out: Path, hours: float, kill: float, restart: float, workers: int) -> None:
    """The run."""
    rng = random.Random(1)
    run = Run(out, workers)
    end = run.began + 3600 * hours
    killed = restarted = time.time()
    while time.time() < end:
        time.sleep(POLL)
        run.look()
        if time.time() - restarted > restart:
            run.kill_driver()
            restarted = time.time()
        elif time.time() - killed > kill:
            run.kill_worker(rng)
            killed = time.time()
    run.stop()


def finish(out: Path) -> None:
    """Have what was begun be done."""
    made = sum(line.startswith(b'{"made"') for line in (out / "search.jsonl").read_bytes().splitlines(keepends=True))
    words = command(out, 1, made)
    words.remove("executor=local")
    subprocess.run([*words, "keep=10"], check=True, timeout=1800)


def check(out: Path) -> dict[str, Any]:
    """What the log says."""
    lines = [json.loads(line) for line in (out / "search.jsonl").read_bytes().splitlines()]
    made: dict[int, int] = {}
    done: dict[int, int] = {}
    good: set[int] = set()
    orphans = children = 0
    for line in lines[1:]:
        if "made" in line:
            one = line["made"]
            made[one["number"]] = made.get(one["number"], 0) + 1
            orphans += any(p not in good for _, parents, _ in one["ways"] for p in parents)
        else:
            one = line["done"]
            done[one["number"]] = done.get(one["number"], 0) + 1
            children += bool(one["made"]["parents"])
            if not one["failure"]:
                good.add(one["number"])
    return {
        "made": len(made), "evaluated": len(done), "failed": len(done) - len(good),
        "lost": len(set(range(max(made) + 1)) - done.keys()),
        "twice": sum(n > 1 for n in made.values()) + sum(n > 1 for n in done.values()),
        "orphans": orphans, "children": children, "replay": replay(lines),
    }  # fmt: skip


def replay(lines: list[dict[str, Any]]) -> str:
    """Whether each order follows from the state before it, and each child from its order."""
    from rutile.search.crystals import Crystals
    from rutile.search.genetic import Genetic
    from rutile.search.log import begun_record, candidate_record, relaxed_of
    from rutile.search.settings import CrystalSearch, GeneticSettings

    known = {k: v for k, v in lines[0]["search"].items() if k in GeneticSettings.model_fields}
    problem = Crystals("TiO2", CrystalSearch.model_validate(lines[0]["search"]["structure"]))
    search = Genetic(problem, GeneticSettings.model_validate(known), SEED)
    same = 0
    for line in lines[1:]:
        if "made" in line:
            order = search.order()
            if json.loads(json.dumps(begun_record(order))) != line["made"]:
                return f"order {order.number} is another"
        else:
            one = line["done"]
            child = search.breeder(search.waiting[one["number"]])  # type: ignore[arg-type]
            if json.loads(json.dumps(candidate_record(child))) != one["made"]:
                return f"child {child.number} is another: {child.operator} {child.parents}"
            search.settle(child)
            search.receive([(child.number, relaxed_of(one))])
            same += 1
    return f"{same} children again, all the same"


def slopes(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Growth of memory (MB/h) over the second half of each life of the driver, and its largest size (MB)."""
    out: dict[str, Any] = {"driver_mb": [], "driver_mb_per_hour": [], "worker_mb": 0.0}
    for life in sorted({r["life"] for r in records}):
        mine = [r for r in records if r["life"] == life]
        half = mine[len(mine) // 2 :]
        if len(half) < 10:
            continue
        t, m = np.array([r["time"] / 3600 for r in half]), np.array([r["driver"] for r in half])
        out["driver_mb"].append(float(m[-1]))
        out["driver_mb_per_hour"].append(round(float(np.polyfit(t, m, 1)[0]), 1))
    out["worker_mb"] = max((w for r in records for w in r["workers"]), default=0.0)
    return out


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Memory against time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from rutile.train.drawing import STYLE, look

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        t = [r["time"] / 3600 for r in records]
        axes.plot(t, [r["driver"] for r in records], label="driver", color=look(0)["color"])
        points = [(r["time"] / 3600, w) for r in records for w in r["workers"]]
        axes.plot(*zip(*points, strict=True), ".", ms=2, label="workers", color=look(1)["color"])
        axes.set(xlabel="time (h)", ylabel="memory (MB)", ylim=(0, None), title="Workers killed every minute")
        axes.legend()
        figure.savefig(path, dpi=150)


def main(words: list[str]) -> None:
    """The soak, or its end."""
    from accuracy import RESULTS, write

    given = dict(w.split("=", 1) for w in words if "=" in w)
    os.nice(int(given.get("nice", 15)))
    folder = Path(given.get("out", "soak")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "search"
    hours, kill, restart = (float(given.get(k, d)) for k, d in (("hours", 2), ("kill", 60), ("restart", 1200)))
    if "check" not in words:
        soak(out, hours, kill, restart, int(given.get("workers", 2)))
    finish(out)
    memory = json.loads((folder / "memory.json").read_text())
    found = check(out) | slopes(memory["records"])
    result = {
        "hours": round(memory["records"][-1]["time"] / 3600, 2), "workers_killed": memory["kills"],
        "drivers_killed": memory["restarts"], **found,
    }  # fmt: skip
    table = "| | |\n|---|---|\n" + "".join(f"| {k.replace('_', ' ')} | {v} |\n" for k, v in result.items())
    write("search_soak", result | {"records": memory["records"]}, table)
    draw(memory["records"], RESULTS / "search_soak.png")


if __name__ == "__main__":
    main(sys.argv[1:])
