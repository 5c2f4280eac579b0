"""Does a committee choose better than chance? Test error of the force against the number of labels, two systems.

    python benchmarks/active_against_random.py [tio2|molecules] [seeds=5] [out=FOLDER] [python=PYTHON]

Each seed begins with 20 structures of the pool drawn at random. In each round a committee of 4 Behler-Parrinello
potentials is trained from scratch on all labels so far, and as many structures again are labelled (20, 40, 80, 160;
random goes on to 320): drawn at random from the rest of the pool, or chosen as `rutile choose low=0.05
high=1000` does, after calibrating the committee on the tenth of the labels that was set aside for that. Everything
else is the same in both arms, the first committee too. With out= a stopped run goes on where it was, round by round.

Pools of 1200 structures as they come about: three common kinds of 300 and four rare ones of 75. Test sets of 350, 50 of
each kind, made apart with other random numbers (and other runs of dynamics), so that every kind counts alike; errors
weighted by the shares of the pool are given beside.

    tio2        labels of the rigid-ion potential. Common: dynamics of 24 atoms of rutile, anatase and brookite at 300,
                600 and 1000 K, lengths scaled by 0.985 and 1.015, a snapshot every 10 fs. Rare: the same crystals at
                2500 K; melts and their quenches; slabs of rutile and anatase; columbite, fluorite, pyrite and cadmium
                iodide structures, scaled, strained and rattled.
    molecules   GFN2-xTB labels. Common: six molecules of C, H and O along their normal modes at 300 to 600 K. Rare: the
                same at 1500 to 2500 K; with bonds turned at random; with a bond of 0.8 to 1.5 times its length; six
                other molecules at 300 to 1000 K.

Potentials: 46 or 81 symmetry functions within 5 Å for each element, two layers of 20 (tanh), 160 iterations of L-BFGS.
Error: of force components of the committee's mean. The table says with how many labels each arm first has the error
that random choice has with 80, 160 and 320; curves are straight between points of log(error) against log(labels).

Needs tblite for the molecules (for labels python= may name an interpreter that has it). Writes
results/active_against_random.{json,md} and docs/active_against_random.png.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import active_frames
import numpy as np
import torch
from accuracy import HERE, _version, write

from rutile.active.choose import Levels, choose
from rutile.active.disagreement import Disagreement, disagreement, joined
from rutile.active.look import structure_features, too_close
from rutile.active.settings import ChoiceSettings
from rutile.core.files import remove_folder, write_atomically
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import integer, stream
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings, ReferenceSettings
from rutile.data.statistics import references_by_mode, statistics
from rutile.data.store import Store, build_store
from rutile.graph.graph import Graph, build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.behler import Behler
from rutile.potentials.calibration import Calibration
from rutile.potentials.settings import BehlerSettings
from rutile.train import calibration
from rutile.train.assess import compare_examples
from rutile.train.caches import Ragged, cache_descriptors
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import fit
from rutile.train.settings import TrainSettings

CHOICE = ChoiceSettings(low=0.05, high=1000)
"""The builders' guards have looked at all structures: none is taken for broken."""
FIRST, LAST = 20, {"chosen": 160, "random": 320}
"""Labels of the first round and of the last one."""
MEMBERS, HELD = 4, 0.1
"""Size of the committee, and part of the labels that calibrates it."""
POTENTIAL = BehlerSettings.model_validate(
    {
        "auto": {"cutoff": 5.0, "n_radial": 5, "angular_etas": (0.003, 0.05), "zetas": (1.0, 4.0)},
        "hidden": (20, 20),
        "activation": "tanh",
    }
)
TRAINING = TrainSettings.model_validate({
    "epochs": 16, "validate_every": 16, "keep": "last", "ema": None, "tensorboard": False, "checkpoint_seconds": 1e9,
    "optimizer": {"name": "lbfgs"}, "schedule": {"name": "constant"}, "threads": 1, "device": "cpu",
    "loss": {"energy": {"start": 1, "limit": 1}, "force": {"start": 1, "limit": 1}},
})  # fmt: skip
COMPARED = (80, 160, 320)
"""Labels of random choice whose errors are the levels of the table."""
TITLES = {"tio2": "TiO₂", "molecules": "molecules"}
MOST_SEEDS = 100
QUIET = SilentReporter()


def main(words: list[str]) -> None:
    """Run what is not done yet, and write what there is."""
    given = dict(w.split("=", 1) for w in words if "=" in w)
    systems = [w for w in words if "=" not in w] or list(active_frames.KINDS)
    if unknown := set(systems) - set(active_frames.KINDS):
        sys.exit(f"error: no system {', '.join(unknown)}; known: {', '.join(active_frames.KINDS)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.get("out", temporary))
        folder.mkdir(parents=True, exist_ok=True)
        data = {system: load(system, folder, given.get("python", "")) for system in systems}
        for seed in range(int(given.get("seeds", 5))):
            for system in systems:
                for arm in LAST:
                    run(data[system], seed, arm, folder / f"{system}_{seed}_{arm}.json")
                report(folder)


def run(data: Data, seed: int, arm: str, path: Path) -> None:
    """All rounds of one arm, from where it was stopped."""
    drawn = stream(seed, "pool").permutation(data.pool)
    rounds = json.loads(path.read_text()) if path.exists() else []
    while not rounds or len(rounds[-1]["labels"]) < LAST[arm]:
        labels = np.array(sorted(rounds[-1]["labels"] + rounds[-1]["next"])) if rounds else np.sort(drawn[:FIRST])
        first = path.with_name(path.name.replace(arm, "chosen"))
        if not rounds and first.exists():  # the same in both arms
            now = json.loads(first.read_text())[0]
        else:
            found = committee(data, labels, seed)
            now = {
                "labels": labels.tolist(),
                "errors": errors(data, found),
                "kinds": Counter(data.kinds[labels].tolist()),
            }
        if arm == "random":
            more = drawn[len(labels) : 2 * len(labels)]
        else:
            more = pick(data, labels, found, CHOICE.model_copy(update={"budget": len(labels)}))
        rounds.append(now | {"next": more.tolist()})
        write_atomically(path, json.dumps(rounds).encode())
        print(f"{path.stem}: {len(labels)} labels, RMSE {rmse(now['errors'], 'even'):.3f} eV/Å", flush=True)


def rmse(found: dict[str, dict[str, float]], weights: str) -> float:
    """Root mean square error of a round (eV/Angstrom): weights: see `_mean`."""
    return float(np.sqrt(_mean(found, "squares", weights)))


def mae(found: dict[str, dict[str, float]], weights: str) -> float:
    """Mean absolute error of a round (eV/Angstrom)."""
    return _mean(found, "sizes", weights)


def _mean(found: dict[str, dict[str, float]], what: str, weights: str) -> float:
    """Mean over the kinds: "even", all alike; "pool", by their shares of the pool; "common", the common ones alone."""
    common = {kind for kinds in active_frames.KINDS.values() for kind in kinds[:3]}
    of_common, of_rare = {"even": (1, 1), "pool": (active_frames.COMMON, active_frames.RARE), "common": (1, 0)}[weights]
    share = {kind: of_common if kind in common else of_rare for kind in found}
    total = sum(share.values())
    return sum(share[kind] * sums[what] / sums["number"] for kind, sums in found.items()) / total


MEASURES = {
    "RMSE": (rmse, "even"),
    "MAE": (mae, "even"),
    "RMSE, weighted as the pool": (rmse, "pool"),
    "RMSE, common kinds": (rmse, "common"),
}


LISTED = ("RMSE", "MAE", "RMSE, weighted as the pool")
"""Errors in the table of labels."""


def needed(labels: Sequence[int], error: Sequence[float], level: float) -> float:
    """Labels with which a curve of errors first falls to a level, inf where it does not.

    Between points it is straight in log(error) against log(labels).
    """
    if error[0] <= level:
        return float(labels[0])
    for (n, e), (m, f) in pairwise(zip(labels, error, strict=True)):
        if f <= level:
            return float(n * (m / n) ** (np.log(e / level) / np.log(e / f)))
    return float("inf")


def report(folder: Path) -> None:
    """Table, figure and results of all that is done."""
    curves: dict[str, dict[str, dict[int, Any]]] = {}
    for system in active_frames.KINDS:
        for seed in range(MOST_SEEDS):
            paths = {arm: folder / f"{system}_{seed}_{arm}.json" for arm in LAST}
            rounds = {arm: json.loads(path.read_text()) for arm, path in paths.items() if path.exists()}
            if all(arm in rounds and len(rounds[arm][-1]["labels"]) >= LAST[arm] for arm in LAST):
                for arm, several in rounds.items():
                    curves.setdefault(system, {}).setdefault(arm, {})[seed] = [curve_point(r) for r in several]
    if curves:
        draw(curves)
        write("active_against_random", {"code": _version(), "curves": curves}, table(curves))


def curve_point(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a round."""
    of_kinds = {k: float(np.sqrt(v["squares"] / v["number"])) for k, v in found["errors"].items()}
    measured = {name: function(found["errors"], weights) for name, (function, weights) in MEASURES.items()}
    return {"labels": len(found["labels"]), "kinds": found["kinds"], "rmse_of_kinds": of_kinds} | measured


def table(curves: dict[str, dict[str, dict[int, Any]]]) -> str:
    """Labels that both ways need for the errors that random choice reaches."""
    lines = [
        "Labels until a committee of four Behler-Parrinello potentials has the error (force components on 350 test "
        "structures) that random choice has with 80, 160 and 320 labels in the same seed: median of the seeds (range).",
        "",
        "| system, seeds | error | random: labels | its error (eV/Å) | chosen: labels | random / chosen |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for system, arms in curves.items():
        for measure in LISTED:
            title = f"| {TITLES[system]}, {len(arms['random'])} | {measure} | "
            lines += [title + " | ".join(row) + " |" for row in levels(arms, measure)]
    lines += [
        "",
        f"With {LAST['chosen']} labels, means of the seeds: how many of them are of each kind, and its RMSE (eV/Å).",
        "",
        "| system | kind | in the pool | chosen: labels | random: labels | chosen: RMSE | random: RMSE |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for system, arms in curves.items():
        for k, kind in enumerate(active_frames.KINDS[system]):
            cells = [str(active_frames.COMMON if k < 3 else active_frames.RARE)]
            cells += [f"{np.mean([p['kinds'].get(kind, 0) for p in last(arms, arm)]):.0f}" for arm in LAST]
            cells += [f"{np.mean([p['rmse_of_kinds'][kind] for p in last(arms, arm)]):.3f}" for arm in LAST]
            lines.append(f"| {TITLES[system]} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def last(arms: dict[str, dict[int, Any]], arm: str) -> list[dict[str, Any]]:
    """Points of all seeds with the most labels that both arms have."""
    return [next(p for p in points if p["labels"] >= LAST["chosen"]) for points in arms[arm].values()]


def levels(arms: dict[str, dict[int, Any]], measure: str) -> list[list[str]]:
    """Cells for each number of labels of random choice that is compared."""
    rows = []
    for count in COMPARED:
        of: dict[str, list[float]] = {"level": [], "chosen": [], "ratio": []}
        for seed, points in arms["random"].items():
            labels, error = [p["labels"] for p in points], [p[measure] for p in points]
            level = error[labels.index(count)]
            mine = arms["chosen"][seed]
            chosen = needed([p["labels"] for p in mine], [p[measure] for p in mine], level)
            of["level"].append(level)
            of["chosen"].append(chosen)
            of["ratio"].append(
                needed(labels, error, level) / min(chosen, LAST["chosen"])
            )  # at most, where chosen is inf
        most = f"> {LAST['chosen']}"
        rows.append(
            [str(count), stated(of["level"], "3f"), stated(of["chosen"], "0f", most), stated(of["ratio"], "1f")]
        )
    return rows


def stated(values: list[float], form: str, most: str = "") -> str:
    """Median and range."""
    low, middle, high = (
        most if np.isinf(v) else f"{v:.{form}}" for v in (min(values), float(np.median(values)), max(values))
    )
    return f"{middle} ({low} to {high})"


def draw(curves: dict[str, dict[str, dict[int, Any]]]) -> None:
    """Errors against labels: each seed, and their geometric mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    shown = ("RMSE", "RMSE, common kinds")
    figure, axes = plt.subplots(len(curves), 2, figsize=(10, 4 * len(curves)), layout="constrained", squeeze=False)
    for row, (system, arms) in zip(axes, curves.items(), strict=True):
        for panel, measure in zip(row, shown, strict=True):
            for (arm, seeds), color in zip(arms.items(), ("tab:red", "tab:blue"), strict=True):
                labels = [p["labels"] for p in next(iter(seeds.values()))]
                errors = np.array([[p[measure] for p in points] for points in seeds.values()])
                panel.plot(labels, errors.T, color=color, lw=0.7, alpha=0.4)
                panel.plot(labels, np.exp(np.log(errors).mean(0)), "o-", color=color, label=arm)
            panel.set(xscale="log", yscale="log", xlabel="labels", ylabel="force error (eV/Å)")
            panel.set(title=f"{TITLES[system]}: {measure}", xticks=labels, xticklabels=labels)
            panel.minorticks_off()
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.legend()
    figure.savefig(HERE.parent / "docs" / "active_against_random.png", dpi=110)
    plt.close(figure)


@dataclass(frozen=True)
class Data:
    """Labelled structures of a system, with their descriptors."""

    store: Store
    """Pool, then test structures, each with isolated atoms at its end."""
    kinds: np.ndarray
    """Of each structure, str; "" of isolated atoms."""
    pool: np.ndarray
    """Numbers of the pool's structures."""
    test: np.ndarray
    """Numbers of the test structures."""
    alone: np.ndarray
    """Numbers of isolated atoms: of molecules, whose potentials count from them."""
    cache: Ragged
    """Descriptors of all."""
    graphs: list[Graph]
    """Of the pool, one structure each."""
    impossible: list[str]
    """Why a structure of the pool cannot be; empty: it can."""


def load(system: str, folder: Path, python: str) -> Data:
    """Make, label and read pool and test structures."""
    paths = [active_frames.labelled(system, side, folder, python) for side in ("pool", "test")]
    names = [list(active_frames.kinds(path)) for path in paths]
    if (folder / f"{system}.store").exists():
        remove_folder(folder / f"{system}.store")
    store = build_store(read_frames(paths, ReadSettings(), QUIET), folder / f"{system}.store", QUIET)
    kinds, number = np.array([*names[0], *names[1]]), np.arange(len(store))
    first = number < len(names[0])
    pool, test = np.flatnonzero(first & (kinds != "")), np.flatnonzero(~first & (kinds != ""))
    alone = np.flatnonzero(first & (kinds == "")) if system == "molecules" else np.zeros(0, dtype=np.int64)
    any_member = member(store, 0)
    graphs = []
    for k in pool.tolist():
        structures = store.structures([k]).to(dtype=torch.float32)
        graphs.append(build_graph(structures, find_edges(structures, any_member.cutoff)))
    cache = cache_descriptors(store, any_member, torch.float32, reporter=QUIET)
    impossible = [too_close(graph, CHOICE.closest)[0] for graph in graphs]
    return Data(store, kinds, pool, test, alone, cache, graphs, impossible)


def member(store: Store, seed: int) -> Behler:
    """An untrained potential in float32."""
    return Behler(POTENTIAL, store.elements, torch.Generator().manual_seed(seed)).float()


def examples(
    data: Data, ids: np.ndarray, potential: Behler, energies: dict[str, dict[int, float]]
) -> LinearisedExamples:
    """Some structures, ready for training or for predictions."""
    return LinearisedExamples(data.store, ids, potential, references=energies, dtype=torch.float32, cache=data.cache)


@dataclass(frozen=True)
class Committee:
    """Trained potentials, which count from reference energies that are not theirs."""

    members: list[Behler]
    energies: dict[str, dict[int, float]]
    mae: float
    """Of force components of the structures that were held out (eV/Angstrom)."""
    bars: Calibration
    """From the same structures."""


def committee(data: Data, labels: np.ndarray, seed: int) -> Committee:
    """Train on labelled structures but for those that are set aside, and calibrate on these."""
    held = stream(seed, "held").permutation(labels)[: max(2, round(HELD * len(labels)))]
    ids = np.setdiff1d(labels, held)
    energies = references_by_mode(data.store, np.concatenate([ids, data.alone]), ReferenceSettings(), QUIET)
    found = statistics(data.store, ids, energies)
    members = []
    for m in range(MEMBERS):
        own = integer(seed, "member", m) % 2**31
        potential = member(data.store, own)
        potential.set_energy_scale(float(np.nanmax([found.energy_std, 0.1 * found.force_rms])))
        train = examples(data, ids, potential, energies)
        potential.fit_scaling(train.descriptors())
        with tempfile.TemporaryDirectory() as folder:
            settings = TRAINING.model_copy(update={"seed": own})
            fit(potential, train, examples(data, held, potential, energies), settings, Path(folder), QUIET)
        members.append(potential)
    compared = list(compare_examples(members, data.store, examples(data, held, members[0], energies), "", QUIET))
    scores = calibration.collect(compared)["force"]
    mae = float(torch.cat([c.prediction.forces - c.labelled.forces for c in compared]).abs().mean())
    bars = Calibration(coverage=0.5, members=MEMBERS, forces=calibration.fit(scores, 0.5, "force"))
    return Committee(members, energies, mae, bars)


def errors(data: Data, found: Committee) -> dict[str, dict[str, float]]:
    """Sum of squares, sum of sizes and number of the force errors of each kind of the test set."""
    out: dict[str, dict[str, float]] = {}
    those = examples(data, data.test, found.members[0], found.energies)
    for batch in compare_examples(found.members, data.store, those, "", QUIET):
        error = (batch.prediction.forces.double() - batch.labelled.forces).numpy()
        kinds = data.kinds[data.test][batch.labelled.index.numpy()][batch.labelled.structures.system.numpy()]
        for kind in np.unique(kinds).tolist():
            mine, sums = error[kinds == kind], out.setdefault(kind, {"squares": 0.0, "sizes": 0.0, "number": 0})
            sums["squares"] += float((mine**2).sum())
            sums["sizes"] += float(np.abs(mine).sum())
            sums["number"] += mine.size
    return out


def pick(data: Data, labels: np.ndarray, found: Committee, settings: ChoiceSettings) -> np.ndarray:
    """Numbers of the structures to label next, as `rutile choose` finds them."""
    rest = np.setdiff1d(data.pool, labels)
    said = look(data, rest, found)
    features = structure_rows(data, found, rest)
    impossible = [
        data.impossible[k] or ("" if force <= settings.max_force else "a large force")
        for k, force in zip(np.searchsorted(data.pool, rest), said.largest, strict=True)
    ]
    assert settings.low is not None
    assert settings.high is not None
    levels = Levels(settings.low, settings.high)
    decisions = choose(said, features, structure_rows(data, found, labels), impossible, levels, settings)
    return rest[[decision.rank is not None for decision in decisions]]


def look(data: Data, ids: np.ndarray, found: Committee) -> Disagreement:
    """What the members say about structures of the pool."""
    parts, asked = [], examples(data, ids, found.members[0], found.energies)
    for some in np.array_split(np.arange(len(ids)), -(-len(ids) // 64)):
        predictions = []
        for potential in found.members:
            asked.potential = potential
            labelled, predict = asked.batch(some)
            predictions.append(predict(False))
        parts.append(disagreement(predictions, labelled.structures, found.bars))
    return joined(parts)


def structure_rows(data: Data, found: Committee, ids: np.ndarray) -> np.ndarray:
    """Features of structures of the pool as the first member sees them, [S, F]."""
    places = np.searchsorted(data.pool, ids)
    return np.concatenate([structure_features(found.members[0], data.graphs[k]) for k in places])


if __name__ == "__main__":
    main(sys.argv[1:])
