"""One small universal model of all data sets of ../shared/data at once, each in its own calc mode.

    python benchmarks/universal.py [FOLDER OF THE DATA SETS] [seconds=1500] [atoms=10000] [only=MODE,MODE]
        [key=value of `rutile train` ...]

`rutile train architecture=anatase` on all of them, on one thread. A set that mixes reference methods has a mode for
each (the parts of universal-mattersim, Ag-Au with and without D3). Of a set larger than `atoms` (trajectories, mostly)
as many frames as hold so many atoms are drawn at random; the parts of universal-mattersim, with few structures of each
of their 89 elements, are taken whole. Held-out frames are those of the set's validation file (mlearn: the published
test file without its symmetry copies of training frames), at most `atoms` / 4 of their atoms (the parts of
universal-mattersim whole); sets without such a file give up every tenth frame, or the end of each trajectory. They
choose nothing: the weights are those at the end. A trial on a tenth of the data says how many epochs fit into the
time, so that the learning rate falls to its end; without one if `epochs` are given.

Settings that differ from those of the train task, and why: the loss is Huber's (forces reach 200 eV/Å in
mptrj-highest-stress, whose squares would hide all else), virials are trained on, steps hold as many neighbour pairs
(structures have 2 to 523 atoms), modes count with the square root of their frames, and reference energies are fitted
in all modes (isolated atoms are there for the molecules alone; zeros of two kinds would have to be learned as offsets).

Left out: lj-clusters (model potentials, no forces), cspbenchmark (no labels), isolated_atoms.extxyz (see above), and
files of the molecules named test, which stay tests of their sets.
Writes results/universal.{json,md}.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import HERE, SHARED, one_line_errors, write
from ase import Atoms

from rutile.cli.terminal import RichReporter
from rutile.core.config import load
from rutile.core.errors import DataError
from rutile.core.reporting import Reporter
from rutile.core.seeds import stream
from rutile.potentials.save import load_model
from rutile.structures.io import read_all, write_frames
from rutile.tasks import train
from rutile.tasks.train import TrainResult, TrainTaskSettings

OUT = HERE.parent / "runs" / "universal"
MATTERSIM = (
    "alexandria-random-1k", "mptrj-random-1k", "mptrj-highest-stress-1k", "mpf-TP", "mpf-alkali-TP", "random-TP",
)  # fmt: skip
MODES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    **{part: ("universal-mattersim", (f"{part}_train*",), (f"{part}_valid*",)) for part in MATTERSIM},
    "tio2": ("tio2-aenet", ("train*",), ("valid*",)),
    "lmnto": ("lmnto-aenet", ("train*",), ("valid*",)),
    "mlearn": ("mlearn", ("*_train*",), ("*_test*",)),
    "nbmotaw": ("nbmotaw-snap", ("train*",), ("valid*",)),
    "ta": ("ta-snap", ("train*",), ("valid*",)),
    "inp": ("inp-snap", ("train*",), ("valid*",)),
    "hfo2": ("hfo2-matpl", ("train*",), ("valid*",)),
    "lisic": ("lisic-matpl", ("train*",), ("valid*",)),
    "agau": ("agau-matpl", ("auag_train*",), ("auag_valid*",)),
    "agau-d3": ("agau-matpl", ("agau_d3_train*",), ("agau_d3_valid*",)),
    "pwmat": ("pwmat-md", ("*_first70pct*",), ()),
    "polymorphs": ("polymorphs-bo2", ("eos_*.extxyz",), ()),
    "3bpa": ("3bpa", ("train_300K*",), ("valid_300K*",)),
    "acac": ("acac", ("train_*",), ("valid_*",)),
    "ethanol": ("ethanol-botnet", ("train*",), ("valid*",)),
    "aspirin": ("rmd17-aspirin", ("train*",), ("valid*",)),
    "water": ("water-deepmd", ("train*",), ("valid*",)),
    "water-rpbe-d3": ("water-n2p2-rpbed3", ("train*",), ()),
}
"""Calc mode -> folder of the set, its training files, its held-out files."""
JOB: dict[str, Any] = {
    "potential": {"name": "anatase", "size": "small"},
    "mode_balance": 0.5,
    "references": {"method": "least_squares"},
    "loss": {
        "kind": "huber",
        "delta": 0.02,
        "energy": {"start": 2, "limit": 5},
        "force": {"start": 1, "limit": 1},
        "virial": {"start": 0.3, "limit": 0.3},
    },
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "schedule": {"name": "cosine", "stop": 0.01},
    "batch_edges": 6000,
    "ema": 0.999,
    "keep": "last",
    "threads": 1,
    "resume": False,
    "split": {"duplicates": "ignore"},
}
COPY = 1e-4
"""Energies (eV) of a held-out and a training frame that are nearer than this are of symmetry copies (mlearn)."""
HELD = 10
"""One in so many frames is held out where a set has no file for it."""
TRIAL = 10
"""Part of the data whose first epoch says how long all take."""
SHARE = 0.92
"""Part of the time that epochs are planned for."""
GPA = 160.21766
COLUMNS = {"energy": ("energy", 1000, 0), "force": ("force", 1000, 0), "stress": ("stress", GPA, 2)}
"""Quantity -> its name in the errors of the train task, factor to the unit of the table, digits."""


def main(words: list[str]) -> None:
    """Draw the data, train, write the table."""
    root = next((Path(w) for w in words if "=" not in w), SHARED)
    own = dict(w.split("=", 1) for w in words if w.startswith(("seconds=", "atoms=", "only=")))
    pairs = [w for w in words if "=" in w and not w.startswith(("seconds=", "atoms=", "only="))]
    seconds, atoms = float(own.get("seconds", 1500)), int(own.get("atoms", 10_000))
    modes = own["only"].split(",") if "only" in own else list(MODES)
    with RichReporter() as reporter:
        drawn = {mode: draw(root, mode, atoms) for mode in reporter.track(modes, "reading", len(modes))}
        job = files(drawn, 1)
        if not any(w.startswith("epochs=") for w in pairs):
            epoch = TRIAL * run(files(drawn, TRIAL), [*pairs, "epochs=1"], seconds, reporter).seconds
            pairs.append(f"epochs={max(1, round(SHARE * seconds / epoch))}")
            reporter.info(f"{pairs[-1]} of about {epoch:.0f} s")
        result = run(job, pairs, seconds, reporter)
    rows = [row(mode, drawn[mode], result) for mode in modes]
    text = table(rows, result, seconds)
    settings = load(TrainTaskSettings, [], words_of(job, pairs)).model_dump(mode="json", include={*JOB} - {"split"})
    write("universal", {"seconds": result.seconds, "epochs": result.epochs, "settings": settings, "modes": rows}, text)


def draw(root: Path, mode: str, limit: int) -> dict[str, list[Atoms]]:
    """Training and held-out frames of one mode."""
    folder, learned, held = MODES[mode]
    frames = list(read(root / folder / "public", learned))
    if held:
        out = list(read(root / folder / "public", held))
        if mode == "mlearn":
            energies = np.array([a.get_potential_energy() for a in frames])
            out = [a for a in out if np.abs(energies - a.get_potential_energy()).min() > COPY]
    else:
        chosen = set(range(HELD // 2, len(frames), HELD))
        if mode == "pwmat":  # trajectories: their ends
            kinds = [a.info["config_type"] for a in frames]
            each = [[k for k, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)]
            chosen = {k for ids in each for k in ids[-(len(ids) // HELD) :]}
        out = [a for k, a in enumerate(frames) if k in chosen]
        frames = [a for k, a in enumerate(frames) if k not in chosen]
    whole = mode in MATTERSIM
    return {"train": some(frames, 0 if whole else limit, mode), "valid": some(out, 0 if whole else limit // 4, mode)}


def read(folder: Path, patterns: tuple[str, ...]) -> Iterator[Atoms]:
    """Frames of the files that fit.

    Raises:
        DataError: there are none.
    """
    paths = [p for p in sorted(folder.glob("*")) if any(fnmatch.fnmatch(p.name, pattern) for pattern in patterns)]
    if not paths:
        raise DataError(f"{folder} has no files {', '.join(patterns)}")
    for path in paths:
        yield from read_all(path)


def some(frames: list[Atoms], limit: int, name: str) -> list[Atoms]:
    """Frames in random order up to a number of atoms (0: all), back in the order of the files."""
    order = stream(0, "universal", name).permutation(len(frames))
    total = np.cumsum([len(frames[k]) for k in order])
    kept = order if limit == 0 else order[: max(1, int(np.searchsorted(total, limit, side="right")))]
    return [frames[k] for k in sorted(kept)]


def files(drawn: dict[str, dict[str, list[Atoms]]], part: int) -> dict[str, Any]:
    """Job of the train task with one in `part` of the frames, which are written for it."""
    folder = OUT / (f"trial-{part}" if part > 1 else "data")
    paths: dict[str, list[str]] = {"train": [], "valid": []}
    names = {}
    for mode, sides in drawn.items():
        for side, frames in sides.items():
            path = folder / f"{mode}.{side}.extxyz"
            write_frames(path, frames[::part])
            paths[side].append(str(path))
            names[path.name] = mode
    out = str(OUT / (f"trial-run-{part}" if part > 1 else "run"))
    return {"data": paths["train"], "valid": paths["valid"], "modes": names, "out": out}


def words_of(job: dict[str, Any], pairs: list[str]) -> list[str]:
    """The job as words of the command line; `pairs` come last and win."""
    split = JOB["split"] | {"valid_files": job["valid"]}
    settings = JOB | {"data": job["data"], "read": {"modes": job["modes"]}, "split": split, "out": job["out"]}
    return [*(f"{key}={json.dumps(value)}" for key, value in settings.items()), *pairs]


def run(job: dict[str, Any], pairs: list[str], seconds: float, reporter: Reporter) -> TrainResult:
    """Train with the normal task; an older run in the same folder is removed."""
    shutil.rmtree(job["out"], ignore_errors=True)
    settings = load(TrainTaskSettings, [], words_of(job, [f"max_seconds={seconds}", *pairs]))
    return train.run(settings, reporter)


def row(mode: str, sides: dict[str, list[Atoms]], result: TrainResult) -> dict[str, Any]:
    """Frames and held-out errors of one mode, with the spread of the labels."""
    out: dict[str, Any] = {"set": MODES[mode][0], "mode": mode}
    for side, frames in sides.items():
        out[side] = {"frames": len(frames), "atoms": sum(map(len, frames))}
    out["elements"] = len({z for a in sides["train"] for z in a.numbers.tolist()})
    model = load_model(result.model)
    references = model.potentials[0].reference.by_element(model.modes.index(mode))  # type: ignore[attr-defined]
    out["spread"] = spread(sides["valid"], references)
    for quantity, (name, _, _) in COLUMNS.items():
        found = [e for e in result.errors if (e.part, e.quantity, e.frames) == ("valid", name, mode)]
        if found:
            out[quantity] = {"mae": found[0].mae, "rmse": found[0].rmse, "max": found[0].max}
    return out


def spread(frames: list[Atoms], references: dict[int, float]) -> dict[str, float]:
    """What there is to predict.

    Standard deviation of the energy per atom beyond the reference energies (eV/atom), root mean square of force
    (eV/Angstrom) and of stress components (eV/Angstrom^3).
    """
    energy = [(a.get_potential_energy() - sum(references[z] for z in a.numbers.tolist())) / len(a) for a in frames]
    force = np.concatenate([a.get_forces() for a in frames])
    stress = [a.get_stress(voigt=False) for a in frames if a.calc is not None and "stress" in a.calc.results]
    out = {"energy": float(np.std(energy)), "force": float(np.sqrt(np.square(force).mean()))}
    return out | ({"stress": float(np.sqrt(np.square(stress).mean()))} if stress else {})


def table(rows: list[dict[str, Any]], result: TrainResult, seconds: float) -> str:
    """The results as a page."""
    lines = [
        "# One universal model of all sets",
        "",
        f"Anatase (small), {len(rows)} calc modes, trained jointly for {result.seconds:.0f} s (limit {seconds:g} s, "
        f"{result.epochs} epochs) on one thread. Errors on held-out frames: MAE / RMSE; in brackets what there is to "
        "predict: the standard deviation of energies beyond the reference energies of the elements, the root mean "
        "square of forces and stresses.",
        "",
        "| set | calc mode | elements | training frames | held out | energy (meV/atom) | force (meV/Å) |"
        " stress (GPa) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = []
        for quantity, (_, factor, digits) in COLUMNS.items():
            if quantity not in r:
                cells.append("-")
                continue
            mae, rmse, size = (factor * x for x in (r[quantity]["mae"], r[quantity]["rmse"], r["spread"][quantity]))
            cells.append(f"{mae:.{digits}f} / {rmse:.{digits}f} ({size:.{digits}f})")
        lines.append(
            f"| {r['set']} | {r['mode']} | {r['elements']} | {r['train']['frames']} | {r['valid']['frames']} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    one_line_errors(main, sys.argv[1:])
