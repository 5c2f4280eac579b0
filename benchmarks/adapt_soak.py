"""An adaptive search whose workers and driver are killed again and again.

    python benchmarks/adapt_soak.py [minutes=12] [kill=30] [restart=120] [out=FOLDER]

Runs `rutile adapt` for copper with EMT as labeler; searching, labelling and training each in worker processes
(executor=local). Every `kill` seconds one of these is killed at random (SIGKILL), every `restart` seconds the driver,
which is started again with the same command. When the time is up it goes on undisturbed to its end. Then its log is
read (`rutile.testing.audit`): was anything lost, or done twice? Writes results/adapt_soak.{json,md}.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from rutile.testing.adaptive_plan import QUICK
from rutile.testing.audit import audit

PLAN: dict[str, Any] = QUICK | {
    "batch": 4, "final_steps": 4, "ask": {"per_version": 5, "after": 12, "apart": 0.001, "gain": 0.0},
    "search": {"executor": {"name": "local"}, "workers": 2}, "label": {"executor": {"name": "local"}, "workers": 1},
    "train": {"executor": {"name": "local"}},
}  # fmt: skip
SURE = ("labels_not_done", "structures_missing", "orphans", "not_asked_for", "came_twice", "labelled_twice",
        "relaxed_twice_on_a_version")  # fmt: skip


class Run:
    """A driver and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kills, self.restarts = folder, 0, 0
        self.start(10**6)

    def start(self, labels: int) -> None:
        """Begin, or go on."""
        plan = self.folder / "plan.yaml"
        stop = {"labels": labels, "versions": 1000, "relaxations": 10**6}
        plan.write_text(yaml.safe_dump(PLAN | {"stop": stop, "out": str(self.folder / "adapt")}))
        with (self.folder / "driver.log").open("a") as log:
            words = [sys.executable, "-m", "rutile", "adapt", str(plan)]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    def kill_worker(self, rng: random.Random) -> None:
        """One, at random."""
        with suppress(psutil.Error):
            workers = [
                p for p in psutil.Process(self.process.pid).children(recursive=True)
                if "spawn_main" in " ".join(p.cmdline())
            ]  # fmt: skip
            if workers:
                rng.choice(workers).kill()
                self.kills += 1

    def kill_driver(self) -> None:
        """And start again."""
        self.process.kill()
        self.process.wait()
        self.restarts += 1
        self.start(10**6)


def main(words: list[str]) -> None:
    """The soak, and what its log says."""
    from accuracy import write

    given = dict(w.split("=", 1) for w in words)
    folder = Path(given.get("out", "soak-adapt")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    minutes, kill, restart = (float(given.get(k, d)) for k, d in (("minutes", 12), ("kill", 30), ("restart", 120)))
    rng, run, began = random.Random(1), Run(folder), time.time()
    killed = restarted = began
    while time.time() < began + 60 * minutes:
        time.sleep(1)
        assert run.process.poll() is None, f"the driver ended: see {folder / 'driver.log'}"
        if time.time() - restarted > restart:
            run.kill_driver()
            restarted = time.time()
        elif time.time() - killed > kill:
            run.kill_worker(rng)
            killed = time.time()
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    log = folder / "adapt" / "adapt.jsonl"
    run.start(max(8, audit(log)["labels"]))
    code = run.process.wait(1800)
    found = audit(log)
    result = {"minutes": minutes, "workers_killed": run.kills, "drivers_killed": run.restarts + 1, "exit_code": code}
    result |= found | {"good": code == 0 and not any(found[k] for k in SURE)}
    print(json.dumps(result))
    table = "| | |\n|---|---|\n" + "".join(f"| {k.replace('_', ' ')} | {v} |\n" for k, v in result.items())
    write("adapt_soak", result, table)


if __name__ == "__main__":
    main(sys.argv[1:])
