"""How many workers one driver of `rutile search` keeps at work, where it breeds itself or has its workers do so.

    python benchmarks/search_driver.py [seconds=60] [workers=4,8,16,32,64,128,256]

The search is that for TiO2 with 24 atoms in the cell; its decisions, its log on a disk and the desk that shares out
work are those of real runs. Workers and time are simulated (`rutile.testing.simulated`): a group of 16 structures
takes 8 s (0.5 s for each), and while the driver's code runs, the clock goes on by as much as it takes here. What Dask
takes to carry a group to a worker process and back is measured first, with such groups, and added. A "relaxed"
structure is the child itself with a made-up energy; where workers breed they take one from a store of children, with
its fingerprint, at no cost here, for the time in which they would make them is theirs. Writes
results/search_driver.{json,md}.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from rutile.core.executors.catalogue import open_stations
from rutile.core.executors.desk import share_out
from rutile.core.executors.settings import LocalSettings
from rutile.core.reporting import SilentReporter
from rutile.search.crystals import Crystals
from rutile.search.fingerprint import POINTS
from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate, Order, Relaxed
from rutile.search.log import Log
from rutile.search.settings import CrystalSearch, GeneticSettings
from rutile.testing.simulated import Simulated, simulate

UNITS, BATCH, EACH = 8, 16, 0.5
"""Formula units in the cell, structures in a group, seconds of a relaxation."""
STORE, SEED = 96, 0
Group = list[Order | Candidate]


def fresh() -> Genetic:
    """The search."""
    return Genetic(Crystals("TiO2", CrystalSearch(units=(UNITS,))), GeneticSettings(), SEED)


def stored() -> list[tuple[Atoms, np.ndarray]]:
    """Children to take from, those of a pool among them, and their fingerprints."""
    search, out = fresh(), list[Candidate]()
    for group in search.batches(BATCH, STORE):
        search.receive([(c.number, relaxed(c)[1]) for c in group])
        out += group
    return [(c.atoms, search.breeder.mark(c.atoms)) for c in out]


def relaxed(child: Candidate, mark: np.ndarray | None = None) -> tuple[Candidate, Relaxed]:
    """At no cost: where its numbers say."""
    return child, Relaxed(child.atoms, float(np.sin(1e3 * child.atoms.positions.sum())), "", 40, mark)


def raised(store: list[tuple[Atoms, np.ndarray]], group: Group) -> list[tuple[Candidate, Relaxed]]:
    """What workers bring."""
    out = []
    for one in group:
        if isinstance(one, Candidate):
            out.append(relaxed(one))
            continue
        rng, way = np.random.default_rng(one.number), one.ways[0]
        atoms, mark = store[one.number % len(store)]
        atoms = atoms.copy()
        atoms.positions += rng.normal(0, 0.2, atoms.positions.shape)
        child = Candidate(one.number, atoms, way.operator, way.parents)
        out.append(relaxed(child, mark * rng.uniform(0.5, 1.5, mark.shape)))
    return out


def light(group: Group) -> list[tuple[Candidate, Relaxed]]:
    """Structures and fingerprints of the usual size, for nothing."""
    atoms = Atoms("Ti8O16", positions=np.random.default_rng(0).random((24, 3)), cell=np.eye(3), pbc=True)
    return raised([(atoms, np.zeros(3 * POINTS))], group)


def carried(many: int = 60) -> float:
    """Processor time of the driver for carrying a group to a worker process and back (s)."""
    search = fresh()
    search.receive([(c.number, relaxed(c)[1]) for group in search.batches(BATCH, 2 * BATCH) for c in group])
    groups = [[search.order() for _ in range(BATCH)] for _ in range(many)]
    with open_stations({"a": (light, LocalSettings(), 2)}, SilentReporter()) as stations:
        stations.give("a", 0, groups[0])
        stations.next()
        began, given = time.process_time(), 1
        for _ in range(1, many):
            while stations.free("a") and given < many:
                stations.give("a", given, groups[given])
                given += 1
            stations.next()
        return (time.process_time() - began) / (many - 1)


def fed(workers: int, by_workers: bool, carry: float, store: Any, seconds: float) -> dict[str, Any]:
    """A search with so many workers, for so long on the clock."""
    how = Simulated(partial(raised, store), lambda group, rng: EACH * len(group), workers, start=0.0, take=carry)
    sim = simulate({"search": how}, SEED)
    carrier = sim.carriers["search"]
    search, groups = fresh(), dict[int, Group]()
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder) / "search.jsonl", {})

        def children() -> Iterator[Group]:
            drawn = search.orders(BATCH, 10**9) if by_workers else search.batches(BATCH, 10**9)
            for number, group in enumerate(drawn):
                log.made(group)
                groups[number] = list(group)
                yield groups[number]

        began = time.process_time()
        for number, found in share_out(carrier, lambda wait: sim.clock.get(wait)[1], how.work, children()):
            log.done(search, found)
            del groups[number]
            if sim.clock.now > seconds:
                break
    return {
        "workers": workers, "breeds": "workers" if by_workers else "driver", "relaxed": search.done,
        "busy": round(search.done * EACH / (workers * (sim.clock.now - BATCH * EACH)), 3),
        "driver": round(sim.clock.driver / sim.clock.now, 3), "each": round(sim.clock.driver / max(1, search.done), 5),
        "seconds_here": round(time.process_time() - began, 1),
    }  # fmt: skip


def as_table(rows: list[dict[str, Any]], carry: float) -> str:
    """What was found."""
    lines = [
        f"TiO2, {3 * UNITS} atoms; {EACH} s for a relaxation, groups of {BATCH}; to carry a group takes the driver "
        f"{1e3 * carry:.1f} ms.", "",
        "| who breeds | workers | workers at work | driver busy | of the driver, for each structure (ms) |",
        "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {r['breeds']} | {r['workers']} | {min(1, r['busy']):.0%} | {r['driver']:.0%} | {1e3 * r['each']:.2f} |"
        for r in rows
    ]
    for who, breeds in (("driver", "breeds"), ("workers", "breed")):
        each = [r["each"] for r in rows if r["breeds"] == who]
        many = EACH / float(np.median(each))
        lines += ["", f"Where the {who} {breeds}, one driver keeps up with some {many:.0f} workers."]
    return "\n".join([*lines, ""])


def main(words: list[str]) -> None:
    """Both ways."""
    from accuracy import RESULTS, write

    given = dict(w.split("=", 1) for w in words)
    store = stored()
    carry, rows = carried(), list[dict[str, Any]]()
    for by_workers in (False, True):
        for workers in map(int, given.get("workers", "4,8,16,32,64,128,256").split(",")):
            if workers > 32 and not by_workers:
                continue
            rows.append(fed(workers, by_workers, carry, store, float(given.get("seconds", 60))))
            print(rows[-1], flush=True)
    write("search_driver", {"carry": carry, "rows": rows}, as_table(rows, carry))
    print((RESULTS / "search_driver.md").read_text(), json.dumps(carry))


if __name__ == "__main__":
    main(sys.argv[1:])
