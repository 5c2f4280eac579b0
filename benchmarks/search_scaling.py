"""New structures saved in a fixed time against the number of nodes for GA and for DFT, parallel or in turn.

    python benchmarks/search_scaling.py measure MODEL    times of one relaxation, label, training, and of the driver
    python benchmarks/search_scaling.py small            this machine, real worker processes, beside their simulation
    python benchmarks/search_scaling.py large [nodes=..] simulated: 2 to 512 nodes, 8 hours
    python benchmarks/search_scaling.py splits [nodes=..] the same nodes, shared out in several ways
    python benchmarks/search_scaling.py figure

The search is the adaptive one of `rutile adapt`: its decisions (`search.Adaptive`), its driver (`drive`), its log on a
disk and the desk that shares out work are those of real runs. A structure counts as saved when its label is in the log:
labelled structures differ by their fingerprints. A toy stands for physics: four atoms on a grid,
an energy with many minima, potentials whose errors fall with the number of labels; so that each relaxation costs
nothing here, and takes the time that a measured one took.

    once  relaxations, DFT and training beside each other, each on nodes of its own
    own   one after another, and again: each on nodes of its own, which wait for the others
    all   one after another, and again: all nodes relax, then all do DFT, then all train

In `small` work is sleep in processes (executor=local): it shows the framework, not the machine. In `large`, the time of
the driver's own code is measured while it runs, and what the toy does not cost (making and reading real structures,
carrying work to workers) is added as it was measured. Writes results/search_scaling.{json,md,png}.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.core.executors.catalogue import open_stations
from rutile.core.executors.settings import LocalSettings
from rutile.core.reporting import SilentReporter
from rutile.search import adaptive, breeding
from rutile.search.adaptive import Adaptive
from rutile.search.adaptive_driver import drive
from rutile.search.adaptive_items import Answer, Errors, Group, Lesson, Question, Scored, Trained
from rutile.search.adaptive_log import AdaptiveLog
from rutile.search.adaptive_settings import AdaptiveSettings, AdaptiveStop, AskSettings, TeachSettings
from rutile.search.crystals import Crystals
from rutile.search.individual import Relaxed
from rutile.search.operators.operator import Breed, Operator
from rutile.search.settings import CrystalSearch, GeneticSettings, PoolSettings
from rutile.testing.simulated import Simulated, simulate

SIDE, GRID, ATOMS = 6.0, 6, 4
FIRST, SECOND = np.triu_indices(ATOMS, 1)
MEASURED = Path(__file__).parent / "results" / "search_scaling_times.json"
HOURS = 8.0
NODES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
MEMBERS = 4
"""Potentials of a committee; up to so many nodes train side by side."""
SEED = 0


# --- the toy ---


class Toy(Crystals):
    """Atoms on a grid."""

    def __init__(self) -> None:
        super().__init__("Cu", CrystalSearch(units=(ATOMS,)))
        self.distance = 2.5
        self.operators = (Operator("move", 1, moved),)

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """Anywhere."""
        del before
        return snapped(rng.random((ATOMS, 3)))

    def tidied(self, atoms: Atoms) -> Atoms:
        """Nothing to do."""
        return atoms


def moved(parents: Any, breed: Breed, rng: np.random.Generator) -> Atoms:
    """One atom elsewhere."""
    del breed
    x = parents[0].get_scaled_positions()
    x[rng.integers(1, ATOMS)] += rng.normal(0, 0.25, 3)
    return snapped(x)


def mark(atoms: Atoms, distance: float, *elements: Any) -> np.ndarray:
    """A fingerprint: numbers that belong to a place."""
    del distance, elements
    places = np.round(atoms.positions * GRID / SIDE).astype(np.int64) % GRID
    key = int((places.ravel() * 31 ** np.arange(places.size, dtype=np.int64) % 2_147_483_647).sum())
    return np.sin(key % 1_000_003 * np.arange(1.0, 9.0))


def snapped(x: np.ndarray) -> Atoms:
    """On the grid, the first atom at the origin, no two at one place."""
    places = np.round((x - x[0]) * GRID).astype(int) % GRID
    if len({tuple(p) for p in places}) < ATOMS:
        raise Refused("two atoms at one place")
    return Atoms("Cu" * ATOMS, positions=places * SIDE / GRID, cell=[SIDE] * 3, pbc=True)


def energy(atoms: Atoms, version: int = 0, error: float = 0.0) -> float:
    """A funnel with noise (eV/atom); the potential's error is another noise."""
    places = np.round(atoms.positions * GRID / SIDE).astype(np.int64) % GRID
    away = (places[FIRST] - places[SECOND] + GRID // 2) % GRID - GRID // 2
    d = np.sqrt((away**2).sum(1)) * SIDE / GRID
    funnel = 0.05 * float(((d - 2.5) ** 2).mean())
    return funnel + 0.1 * _noise(places, 0) + error * _noise(places, 1 + version)


def _noise(places: np.ndarray, seed: int) -> float:
    """A number in (0, 1) that belongs to a place."""
    key = int((places.ravel() * 31 ** np.arange(places.size, dtype=np.int64) % 2_147_483_647).sum()) + 7919 * seed
    return float(np.modf(np.sin(key % 1_000_003) * 43758.5453)[0] % 1.0)


def relaxed(group: Group) -> list[tuple[int, Scored]]:
    """Down a step or two of the grid, as the potential of this version has it."""
    error = float(group.model)
    out = []
    for c in group.candidates:
        e = energy(c.atoms, group.version, error)
        out.append((c.number, Scored(Relaxed(c.atoms, e, "", 40), error * _noise(np.arange(3) + c.number, 9))))
    return out


def labelled(question: Question) -> Answer:
    """The truth."""
    frame = question.atoms.copy()
    return Answer(frame, energy(question.atoms), 1.0, "")


def taught(lesson: Lesson) -> Trained:
    """The error falls with the number of labels."""
    learned = len(lesson.new) + len(lesson.old)
    return Trained(f"{0.3 / np.sqrt(1 + learned / 20):.4f}", learned, Errors(), Errors(0, 0), Errors(), Errors(0, 0))


# --- searches ---


@dataclass(frozen=True)
class Split:
    """Nodes of each kind."""

    search: int
    label: int
    train: int = 1

    @property
    def all(self) -> int:
        """Nodes together."""
        return self.search + self.label + self.train


class Over(Exception):
    """Time is up."""


class Timed:
    """Stations until the time is up; what was saved when.

    Args:
        stations: who does the work.
        clock: the time (s).
        end: when it is up (s).
        turns: whether only one kind may be at work at a time.
    """

    def __init__(self, stations: Any, clock: Callable[[], float], end: float, turns: bool) -> None:
        self.stations, self.clock, self.end, self.turns = stations, clock, end, turns
        self.open = {"search": 0, "label": 0, "train": 0}
        self.waited, self.results = 0.0, 0
        self.saved: list[float] = []
        self.lowest: list[tuple[float, float]] = []

    def free(self, kind: str) -> bool:
        """In turn, also nobody else is at work."""
        if self.turns and any(many for k, many in self.open.items() if k != kind):
            return False
        return bool(self.stations.free(kind))

    def give(self, kind: str, number: int, item: Any) -> None:
        """As `Stations`."""
        self.open[kind] += 1
        self.stations.give(kind, number, item)

    def next(self) -> Any:
        """As `Stations`."""
        began = self.clock()
        found = self.stations.next()
        now = self.clock()
        self.waited, self.results = self.waited + now - began, self.results + 1
        if now > self.end:
            raise Over
        self.open[found[0]] -= 1
        if found[0] == "label" and isinstance(found[2], Answer):
            self.saved.append(now)
            if not self.lowest or found[2].energy < self.lowest[-1][1]:
                self.lowest.append((now, found[2].energy))
        return found

    def close(self) -> None:
        """Nothing."""


def settings_for(split: Split, batch: int) -> tuple[AdaptiveSettings, GeneticSettings]:
    """More labels for each version where there are more nodes for DFT, and a pool to choose them from."""
    per = max(12, 2 * split.label)
    ask = AskSettings(per_version=per, after=max(8, per // 4), apart=1e-6, closest=0.0)
    teach = TeachSettings(after=max(8, split.label // 2))
    stop = AdaptiveStop(versions=10**6, labels=10**7, relaxations=10**8)
    how = AdaptiveSettings(
        begin=max(20, split.label), ask=ask, teach=teach, stop=stop, rest=max(96, 4 * per), batch=batch
    )
    size = max(24, per)
    pool = PoolSettings(size=size, niche=0.0, same=1e-6, same_energy=1e-9, age=10**6, patience=10**7)
    return how, GeneticSettings(pool=pool, first=size)


def run(stations: Timed, split: Split, batch: int, folder: Path) -> Adaptive:
    """A search until the time is up."""
    breeding.fingerprint = adaptive.fingerprint = mark  # the toy's own
    search = Adaptive(Toy(), *settings_for(split, batch), SEED)
    log = AdaptiveLog(folder / "adaptive.jsonl", {"split": str(split)})
    with suppress(Over):
        drive(search, stations, log, clock=stations.clock)
    return search


# --- simulated ---


@dataclass(frozen=True)
class Times:
    """What was measured (s)."""

    relax: tuple[float, ...]
    """Of a structure."""
    label: tuple[float, ...]
    """Of a structure."""
    epoch: float
    """Of training, for each frame and member."""
    epochs: int
    child: float
    """Of the driver for a structure that is made."""
    receive: float
    """For one that came back, its lines in the log with it."""
    carry: float
    """For a piece of work."""
    batch: int = 16

    def training(self, lesson: Lesson, nodes: int) -> float:
        """Of a version: new frames and four times as many old ones (as far as there are), all members.

        More nodes than members share batches of one member, with the efficiency that data-parallel training has here.
        """
        frames = len(lesson.new) + min(len(lesson.old), 4 * len(lesson.new))
        work = MEMBERS * self.epochs * frames * self.epoch
        side, each = min(nodes, MEMBERS), max(1, nodes // MEMBERS)
        return work / side / each**0.8


WAYS = ("once", "own", "all")


def simulated(
    split: Split, times: Times, hours: float, way: str = "once", losses: float = 0.0, start: float = 10.0
) -> dict[str, Any]:
    """A search on simulated nodes."""
    everywhere = split.all if way == "all" else 0

    def relax(item: Group, rng: np.random.Generator) -> float:
        return MEMBERS * float(rng.choice(times.relax, len(item.candidates)).sum())

    def label(item: Question, rng: np.random.Generator) -> float:
        return float(rng.choice(times.label))

    def train(item: Lesson, rng: np.random.Generator) -> float:
        return times.training(item, everywhere or split.train)

    one = times.batch * (times.child + times.receive)
    kinds = {
        "search": Simulated(relaxed, relax, everywhere or split.search, losses, start, give=one, take=times.carry),
        "label": Simulated(labelled, label, everywhere or split.label, losses, start, take=times.carry),
        "train": Simulated(taught, train, 1, losses, start, take=times.carry),
    }
    sim = simulate(kinds, SEED)
    timed = Timed(sim.stations, lambda: sim.clock.now, 3600 * hours, way != "once")
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        search = run(timed, Split(split.all, split.all) if everywhere else split, times.batch, Path(folder))
        log = (Path(folder) / "adaptive.jsonl").stat().st_size
    whole = 3600 * hours
    there = {kind: c.workers * whole for kind, c in sim.carriers.items()}
    return {
        "split": [split.search, split.label, split.train], "way": way, "hours": hours, "saved": len(timed.saved),
        "relaxed": search.relaxed, "versions": len(search.versions),
        "busy": {kind: round(c.busy / there[kind], 4) for kind, c in sim.carriers.items()},
        "driver": round(sim.clock.driver / whole, 4), "lost": sum(c.lost for c in sim.carriers.values()),
        "lowest": [[round(t / 3600, 4), round(e, 5)] for t, e in timed.lowest], "log_mb": round(log / 2**20, 1),
        "seconds_here": round(time.process_time() - began, 1),
    }  # fmt: skip


# --- real, with sleep for work ---

SLEEPS = {"relax": 0.15, "label": 2.0, "train": 3.0}
"""Seconds, mean of times that are spread evenly by half of that to both sides."""
SMALL_BATCH, SMALL_SECONDS = 8, 90.0
SMALL = (Split(1, 2), Split(2, 8))
WARM = Question(0, 0, Atoms("Cu4", positions=np.eye(4)[:, :3], pbc=True, cell=[SIDE] * 3), "first", None, 0.0)


def spread(name: str, many: int = 1, seed: int | None = None) -> float:
    """Seconds of sleep."""
    return float(SLEEPS[name] * np.random.default_rng(seed).uniform(0.5, 1.5, many).sum())


def sleep_relax(group: Group) -> Any:
    """Work."""
    time.sleep(spread("relax", len(group.candidates)))
    return relaxed(group)


def sleep_label(question: Question) -> Answer:
    """Work."""
    time.sleep(spread("label"))
    return labelled(question)


def sleep_train(lesson: Lesson) -> Trained:
    """Work."""
    time.sleep(spread("train"))
    return taught(lesson)


def real(split: Split, way: str) -> dict[str, Any]:
    """A search with worker processes here; nobody is called while it warms up."""
    local = LocalSettings()
    many = (split.search, split.label) if way != "all" else (split.all - 1,) * 2
    work = {"search": sleep_relax, "label": sleep_label, "train": sleep_train}
    kinds = {kind: (work[kind], local, n) for kind, n in zip(work, (*many, 1), strict=True)}
    with open_stations(kinds, SilentReporter()) as stations, tempfile.TemporaryDirectory() as folder:
        for number in range(sum(many)):  # processes start and load
            kind = "search" if number < many[0] else "label"
            stations.give(kind, -1 - number, Group(0, "0.3", ()) if kind == "search" else WARM)
        for kind, item in (("train", Lesson(0, None, "", (), ())),):
            stations.give(kind, -(10**6), item)
        for _ in range(sum(many) + 1):
            stations.next()
        began = time.monotonic()
        timed = Timed(stations, lambda: time.monotonic() - began, SMALL_SECONDS, way != "once")
        search = run(timed, Split(*many), SMALL_BATCH, Path(folder))
        return {
            "split": [split.search, split.label, split.train], "way": way, "saved": len(timed.saved),
            "relaxed": search.relaxed, "versions": len(search.versions), "results": timed.results,
            "driver": round(time.monotonic() - began - timed.waited, 2),
        }  # fmt: skip


# --- times ---

UNITS = 8
"""Formula units of TiO2 in the cell: 24 atoms."""
RELAXED = 2
"""Groups that are relaxed."""


def nothing(item: int) -> int:
    """The least that a worker can do."""
    return item


def measure(model: Path, rate: float) -> None:
    """Processor times of one thread; labels as they are in the starter set of TiO2, 24 atoms.

    Args:
        model: that relaxes.
        rate: structures per second of its training, as `rutile train` says it.
    """
    import torch
    from ase.io import read

    from rutile.search.genetic import Genetic
    from rutile.search.log import Log
    from rutile.search.relaxing import Relaxer
    from rutile.simulate.settings import RelaxSettings

    torch.set_num_threads(1)
    work = Relaxer(
        model, "float64", "cpu", None, RelaxSettings(fmax=0.05, smax=0.2, max_steps=300, max_move=0.4, cell="full")
    )
    search = Genetic(Crystals("TiO2", CrystalSearch(units=(UNITS,))), GeneticSettings(first=16), SEED)
    child, receive, relax = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder) / "search.jsonl", {})
        for _ in range(RELAXED):
            began = time.process_time()
            group = [search.child() for _ in range(16)]
            log.made(group)
            child.append(time.process_time() - began)
            for made in group:
                began = time.process_time()
                ((_, done),) = work([made])
                relax.append(round(time.process_time() - began, 3))
                began = time.process_time()
                log.done(search, [(made, done)])
                receive.append(time.process_time() - began)
    frames = read(Path(__file__).parent.parent / "src/rutile/starter/tio2.extxyz", ":")
    label = [a.info["seconds"] for a in frames if len(a) == 3 * UNITS and "seconds" in a.info]
    atoms = np.mean([len(a) for a in frames])
    times = {
        "relax": relax, "label": label, "epoch": 3 * UNITS / atoms / rate, "epochs": 100,
        "child": sum(child) / 16 / RELAXED, "receive": float(np.mean(receive)), "carry": carried(),
    }  # fmt: skip
    MEASURED.write_text(json.dumps(times, indent=1) + "\n")
    print({k: np.mean(v) for k, v in times.items()})


def carried(many: int = 600) -> float:
    """Processor time of the driver for a piece of work that costs nothing (s)."""
    with open_stations({"a": (nothing, LocalSettings(), 2)}, SilentReporter()) as stations:
        stations.give("a", 0, 0)
        stations.next()
        began, given = time.process_time(), 0
        for _ in range(many):
            while stations.free("a") and given < many:
                given += 1
                stations.give("a", given, given)
            stations.next()
        return (time.process_time() - began) / many


# --- the study ---

FILE = "search_scaling"


def split_of(nodes: int, search: float = 0.12, train: float = 0.1) -> Split:
    """Parts of the nodes, at least one for each kind."""
    s, t = max(1, round(search * nodes)), max(1, round(train * nodes))
    return Split(s, max(1, nodes - s - t), t)


def large(times: Times, nodes: tuple[int, ...], known: dict[str, Any], keep: Callable[[], None]) -> None:
    """Each number of nodes, all at once and in turn."""
    for n in nodes:
        split = split_of(n)
        for way in WAYS:
            name = f"{n}:{way}"
            if name not in known:
                known[name] = simulated(split, times, HOURS, way)
                print(name, {k: v for k, v in known[name].items() if k != "lowest"}, flush=True)
                keep()


def small(known: dict[str, Any], keep: Callable[[], None]) -> None:
    """Real processes that sleep, and their simulation."""
    for split in SMALL:
        for way in ("once", "own"):
            name = f"{split.search}:{split.label}:{split.train}:{way}"
            if name in known:
                continue
            one = real(split, way)
            driver = one["driver"] / max(1, one["results"])
            known[name] = {"real": one, "simulated": simulated_sleep(split, way, driver)}
            print(name, {k: v["saved"] for k, v in known[name].items()}, flush=True)
            keep()


def simulated_sleep(split: Split, way: str, driver: float) -> dict[str, Any]:
    """The same without processes; for each result the driver takes the time (s) that it took here on a busy machine."""

    def seconds(name: str, item: Any, rng: np.random.Generator) -> float:
        many = len(item.candidates) if isinstance(item, Group) else 1
        return float(SLEEPS[name] * rng.uniform(0.5, 1.5, many).sum())

    kinds = {
        "search": Simulated(relaxed, lambda i, r: seconds("relax", i, r), split.search, start=0.0, take=driver),
        "label": Simulated(labelled, lambda i, r: seconds("label", i, r), split.label, start=0.0, take=driver),
        "train": Simulated(taught, lambda i, r: seconds("train", i, r), 1, start=0.0, take=driver),
    }
    sim = simulate(kinds, SEED, speed=0.0)
    timed = Timed(sim.stations, lambda: sim.clock.now, SMALL_SECONDS, way != "once")
    with tempfile.TemporaryDirectory() as folder:
        search = run(timed, split, SMALL_BATCH, Path(folder))
    return {"saved": len(timed.saved), "relaxed": search.relaxed, "versions": len(search.versions)}


def splits(times: Times, nodes: int, known: dict[str, Any], keep: Callable[[], None], hours: float = 2.0) -> None:
    """One number of nodes, shared out in several ways."""
    for search in (0.03, 0.06, 0.12, 0.25, 0.5):
        for train in (0.03, 0.1, 0.2, 0.3):
            split = split_of(nodes, search, train)
            name = f"{nodes}:{split.search}:{split.label}:{split.train}"
            if name not in known:
                known[name] = simulated(split, times, hours)
                print(name, {k: v for k, v in known[name].items() if k != "lowest"}, flush=True)
                keep()


NAMED = {"once": "all at once", "own": "in turn, each on its own nodes", "all": "in turn, all nodes for each"}


def as_table(results: dict[str, Any], times: Times) -> str:
    """What was found."""
    lines = [
        f"Times, mean (s): relaxation {np.mean(times.relax):.2f} for each of {MEMBERS} members, label "
        f"{np.mean(times.label):.0f}, training {times.epoch:.4f} for each frame, epoch and member; driver: a child "
        f"{times.child:.4f}, one received {times.receive:.4f}, a piece of work {times.carry:.4f}.",
        "", f"Simulated, {HOURS:g} hours:", "",
        "| nodes (GA + DFT + training) | way | saved | of ideal | GA busy | DFT busy | training busy | driver |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name, r in sorted(results.get("large", {}).items(), key=lambda x: (int(x[0].split(":")[0]), x[1]["way"])):
        split = Split(*r["split"])
        b = r["busy"]
        lines.append(
            f"| {split.all} ({' + '.join(map(str, r['split']))}) | {NAMED[r['way']]} | {r['saved']} | "
            f"{r['saved'] / ideal(split.all, times):.0%} | {b['search']:.0%} | {b['label']:.0%} | {b['train']:.0%} | "
            f"{r['driver']:.1%} |"
        )  # fmt: skip
        del name
    lines += ["", "Ideal: all nodes do DFT all the time, and nothing else has to be done.", ""]
    if results.get("splits"):
        lines += ["Split of 64 nodes, 2 hours:", "", "| GA | DFT | training | saved | GA busy | DFT busy |"]
        lines += ["|---:|---:|---:|---:|---:|---:|"]
        for r in sorted(results["splits"].values(), key=lambda r: -r["saved"]):
            g, d, t = r["split"]
            lines.append(f"| {g} | {d} | {t} | {r['saved']} | {r['busy']['search']:.0%} | {r['busy']['label']:.0%} |")
    if results.get("small"):
        seconds = f"{SMALL_SECONDS:g} s, work is sleep in processes of this machine (2 cores, shared)"
        lines += ["", f"Real and simulated, {seconds}:", "", "| GA + DFT + training | way | saved | simulated |"]
        lines += ["|---|---|---:|---:|"]
        for r in results["small"].values():
            real_one = r["real"]
            lines.append(
                f"| {' + '.join(map(str, real_one['split']))} | {NAMED[real_one['way']]} | {real_one['saved']} | "
                f"{r['simulated']['saved']} |"
            )
    return "\n".join([*lines, ""])


def ideal(nodes: int, times: Times) -> float:
    """Labels in the time if there were nothing else to do."""
    return nodes * 3600 * HOURS / float(np.mean(times.label))


def draw(results: dict[str, Any], times: Times, path: Path) -> None:
    """Saved structures and efficiency against nodes; the splits."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from rutile.train.drawing import STYLE, look

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        saved, part, shares = figure.subplots(1, 3)
        for k, way in enumerate(WAYS):
            mine = sorted((sum(r["split"]), r) for r in results["large"].values() if r["way"] == way)
            nodes = [n for n, _ in mine]
            saved.loglog(nodes, [r["saved"] for _, r in mine], "o", label=NAMED[way], **look(k))
            each = [r["saved"] / ideal(n, times) for n, r in mine]
            part.semilogx(nodes, each, "o", label=NAMED[way], **look(k))
        every = [4, 512]
        saved.loglog(every, [ideal(n, times) for n in every], ":", color="0.5", label="all nodes, DFT only")
        saved.set(xlabel="nodes", ylabel=f"structures saved in {HOURS:g} h", title="Saved")
        saved.legend(fontsize=7)
        part.set(xlabel="nodes", ylabel="of what DFT alone could save", ylim=(0, 1), title="Efficiency")
        for r in results.get("splits", {}).values():
            g, _, t = r["split"]
            at = (g, t)
            shares.scatter(*at, s=r["saved"] / 8, color=look(0)["color"], alpha=0.6)
            shares.annotate(str(r["saved"]), at, fontsize=7, ha="center", va="center")
        shares.set(xlabel="nodes for GA", ylabel="nodes for training", title="Split of 64 nodes: saved in 2 h")
        shares.set_xscale("log", base=2)
        shares.margins(0.15)
        for axes in (saved, part):
            axes.set_xticks([4, 16, 64, 256, 512], ["4", "16", "64", "256", "512"])
            axes.minorticks_off()
        shares.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        shares.minorticks_off()
        figure.savefig(path, dpi=150)


def main(words: list[str]) -> None:
    """One part."""
    from accuracy import RESULTS, write

    if words[0] == "measure":
        measure(Path(words[1]), float(words[2]))
        return
    given = dict(w.split("=", 1) for w in words[1:])
    file = RESULTS / f"{FILE}.json"

    def known() -> dict[str, Any]:
        return json.loads(file.read_text()) if file.exists() else {}

    times = Times(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(MEASURED.read_text()).items()})
    part = known().get(words[0], {})

    def keep() -> None:
        file.write_text(json.dumps(known() | {words[0]: part}, indent=1) + "\n")

    nodes = tuple(int(n) for n in given["nodes"].split(",")) if "nodes" in given else NODES
    if words[0] == "small":
        small(part, keep)
    elif words[0] == "large":
        large(times, nodes, part, keep)
    elif words[0] == "splits":
        for n in nodes:
            splits(times, n, part, keep, float(given.get("hours", 2)))
    else:
        write(FILE, known(), as_table(known(), times))
        draw(known(), times, RESULTS / f"{FILE}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
