"""What a search costs in labels: a potential that learns meanwhile, or the labeler for every step of every relaxation.

    python benchmarks/adaptive.py [seeds=0,1,2,3] [most=240] [ways=genetic,random,adaptive]

TiO2 with 2 and 4 formula units in the cell; the labeler is the rigid-ion potential, whose lowest structure is rutile
(12 meV/atom below columbite, see docs/search.md). Every way begins with nothing but the formula, knows no answer, and
ends by a criterion of its own. Labels are calculations of energy, forces and stress.

    adaptive  `rutile adapt` with plans/tio2_adaptive.yaml, in turns: 20 random structures make the first potential. It
              ends by `stop`, or after `most` labels, and its lowest structures are relaxed with the labeler
    genetic   the same genetic search, every structure relaxed with the labeler to the same limits; it ends when the
              lowest energy has not changed for 100 relaxations
    random    random symmetric structures alone, relaxed in the same way, and the same end

Noted besides is after how many labels each known structure type was there: of `adaptive` a label that the labeler
relaxes to it (that relaxation is only looked at, and not counted). Runs that are in the results already are not
repeated. Writes results/adaptive.{json,md} after every run.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import RESULTS, _version, write
from ase import Atoms

from rutile.build.crystals import prototype
from rutile.core.config import load
from rutile.core.reporting import SilentReporter
from rutile.search.adaptive_items import Question
from rutile.search.crystals import Crystals
from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate
from rutile.search.names import prototype_of
from rutile.search.relaxing import Relaxer
from rutile.search.settings import GeneticSettings
from rutile.simulate.settings import RelaxSettings
from rutile.tasks import adapt
from rutile.tasks.adapt import AdaptSettings
from rutile.tasks.adapt_results import ROUGH
from rutile.tasks.property import part

PLAN = Path(__file__).parents[1] / "plans" / "tio2_adaptive.yaml"
PHASES = ("rutile", "columbite", "pyrite", "anatase", "fluorite")
"""Structure types of rigid ions with up to 12 atoms in the cell, lowest first."""
NEAR = 0.005
"""eV/atom: a structure is a phase."""
LOW = 0.5
"""Labels so far above the lowest phase (eV/atom) are looked at: to what the labeler relaxes them."""
GROUP, IDLE = 8, 100


def relaxer(settings: AdaptSettings, fmax: float, smax: float, steps: int) -> Relaxer:
    """The labeler as a potential to relax with."""
    how = RelaxSettings(fmax=fmax, smax=smax, max_steps=steps, max_move=adapt.MOVE, cell="full")
    return Relaxer(Path("rigid_ion"), settings.precision, settings.device, None, how)


def phases(settings: AdaptSettings) -> dict[str, float]:
    """Energy of each phase (eV/atom)."""
    work = relaxer(settings, 0.005, 0.02, 500)
    return {name: minimum(work, prototype(name, ("Ti", "O"), 10.2))[0] for name in PHASES}  # type: ignore[arg-type]


def minimum(work: Relaxer, atoms: Atoms) -> tuple[float, Atoms]:
    """Energy of a structure at its minimum (eV/atom; NaN: failed), and the structure there."""
    ((_, one),) = work([Candidate(0, atoms, "", ())])
    return math.nan if one.failure else one.energy, one.atoms


def phase_of(energy: float, atoms: Atoms, known: dict[str, float]) -> str:
    """Which phase a relaxed structure is, or ""."""
    near = [name for name, e in known.items() if abs(energy - e) < NEAR]
    return next((name for name in near if prototype_of(atoms, ROUGH) == name), "")


def by_labeler(settings: AdaptSettings, seed: int, known: dict[str, float], *, random: bool) -> dict[str, Any]:
    """A search that relaxes everything with the labeler."""
    genetic = part(settings, GeneticSettings)
    if random:
        genetic = genetic.model_copy(update={"first": 10**9})
    search = Genetic(Crystals(settings.formula, settings.structure), genetic, seed)  # type: ignore[arg-type]
    work = relaxer(settings, settings.fmax, settings.smax, settings.max_steps)
    labels, lowest, first, since = 0, math.inf, {}, 0
    for group in search.batches(GROUP, 10**6):
        done = work(group)
        for _, one in done:
            labels, since = labels + one.steps + 1, since + 1
            if not one.failure and one.energy < lowest - 1e-3:
                lowest, since = one.energy, 0
            if not one.failure and (name := phase_of(one.energy, one.atoms, known)):
                first.setdefault(name, labels)
        search.receive(done)
        if since >= IDLE:
            break
    return {"labels": labels, "relaxations": search.made, "lowest": lowest, "first": first}


def adaptive(settings: AdaptSettings, known: dict[str, float]) -> dict[str, Any]:
    """A search on a potential that learns."""
    from rutile.label.work import close_all
    from rutile.search.adaptive_driver import drive
    from rutile.search.adaptive_log import AdaptiveLog

    version, mode = adapt._engine(settings)
    search = adapt._adaptive(settings, None)
    work, first = relaxer(settings, 0.03, 0.1, 300), {}

    def told(kind: str, item: Any, outcome: Any) -> None:
        if not isinstance(item, Question) or outcome.failure or outcome.energy > min(known.values()) + LOW:
            return
        if item.why != "final" and (name := phase_of(*minimum(work, outcome.frame), known)):
            first.setdefault(name, search.cost)
        print(search.cost, search.relaxed, outcome.energy, item.why, first, flush=True)

    try:
        with adapt._stations(settings, version, SilentReporter()) as stations:
            drive(search, stations, AdaptiveLog(settings.out / adapt.ADAPT_LOG, adapt._identity(settings, mode)), told)
    finally:
        close_all()
    energies = [a.answer.energy for a in search.finals.values() if a.answer and not a.answer.failure]
    return {
        "labels": search.cost, "relaxations": search.relaxed, "lowest": min([*energies, search.lowest]), "first": first,
        "versions": len(search.versions), "ended": search.ended,
    }  # fmt: skip


def as_table(runs: dict[str, Any], known: dict[str, float]) -> str:
    """Labels for each way."""
    goal = known[PHASES[0]] + NEAR
    lines = [
        "# What a search costs in labels", "", "`python benchmarks/adaptive.py`", "",
        "| way | ended with rutile as the lowest | labels in all, median (range) | relaxations, median | processor "
        "time (s), median |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    medians, ways = {}, {w: [r for n, r in runs.items() if n.startswith(f"{w}:")] for w in WAYS}
    for way, mine in ways.items():
        if not mine:
            continue
        labels = np.array([r["labels"] for r in mine])
        medians[way] = float(np.median(labels))
        lines.append(
            f"| {way} | {sum(r['lowest'] < goal for r in mine)}/{len(mine)} | {medians[way]:.0f} ({labels.min()} to "
            f"{labels.max()}) | {np.median([r['relaxations'] for r in mine]):.0f} | "
            f"{np.median([r['seconds'] for r in mine]):.0f} |"
        )
    lines += ["", "Labels until a structure type was there: median of the runs that met it (how many did)", ""]
    lines += ["| way | " + " | ".join(PHASES) + " |", "|---|" + "---:|" * len(PHASES)]
    for way, mine in ways.items():
        met = [[r["first"][p] for r in mine if p in r["first"]] for p in PHASES]
        cells = [f"{np.median(m):.0f} ({len(m)}/{len(mine)})" if m else "–" for m in met]
        lines += [f"| {way} | " + " | ".join(cells) + " |"] if mine else []
    for way in ("genetic", "random"):
        if "adaptive" in medians and way in medians:
            times = medians[way] / medians["adaptive"]
            lines += ["", f"`{way}` took {times:.0f} times the labels of `adaptive` (medians of all)."]
    return "\n".join([*lines, ""])


def main(words: list[str]) -> None:
    """All runs, and the table."""
    torch.set_num_threads(1)
    given = dict(w.split("=", 1) for w in words)
    pairs = ["at_once=false", f"stop.labels={given.get('most', '240')}", "final=3", "final_steps=20"]
    plan = load(AdaptSettings, [PLAN], pairs)
    known = phases(plan)
    file = RESULTS / "adaptive.json"
    for seed in map(int, given.get("seeds", "0,1,2,3").split(",")):
        for way in given.get("ways", "genetic,random,adaptive").split(","):
            name = f"{way}:{seed}"
            runs = json.loads(file.read_text())["runs"] if file.exists() else {}
            if name in runs:
                continue
            began = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                if way == "adaptive":
                    one = adaptive(plan.model_copy(update={"out": Path(folder), "seed": seed}), known)
                else:
                    one = by_labeler(plan, seed, known, random=way == "random")
            one |= {"seconds": round(time.process_time() - began, 1), "version_of_code": _version()}
            print(name, one, flush=True)
            runs = json.loads(file.read_text())["runs"] if file.exists() else {}  # others may work on other seeds
            write(
                "adaptive",
                {"phases": known, "near": NEAR, "runs": runs | {name: one}},
                as_table(runs | {name: one}, known),
            )


WAYS = ("adaptive", "genetic", "random")

if __name__ == "__main__":
    main(sys.argv[1:])
