"""Which optimizer suits a Behler-Parrinello potential? The comparison of `rutile compare-optimizers` on two systems.

    python benchmarks/optimizers.py [passes=40] [seeds=2] [out=FOLDER]

400 frames of TiO2 (aenet's set) and all of Si (mlearn, 132) with forces under 3 eV/Å. A quarter of the frames chooses
the rate and the epoch. Energies and forces with weights of 1, batches of 8, the learning rate falling to a hundredth
(but for L-BFGS), no averaging of the weights, float32, one thread. With out= a comparison that was stopped goes on.

Writes results/optimizers.{json,md}, docs/optimizers.md and docs/optimizers.png.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from accuracy import RESULTS, SHARED

SYSTEMS = {"TiO2": ("tio2-aenet/public/train.extxyz", 400), "Si": ("mlearn/public/Si_train.extxyz", 132)}
"""File, and how many of its frames."""
LIMIT = 3.0
"""Largest force component of the frames (eV/Angstrom)."""
DOCS = Path(__file__).resolve().parent.parent / "docs"


def main(words: list[str]) -> None:
    """Compare on each system, write everything."""
    given = dict(w.split("=", 1) for w in words)
    if not SHARED.is_dir():
        sys.exit(f"error: needs the data at {SHARED}")
    setup = {name: int(given.get(name, usual)) for name, usual in (("passes", 40), ("seeds", 2))}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.get("out", temporary))
        found = {name: compare(name, setup, folder) for name in SYSTEMS}
    (RESULTS / "optimizers.json").write_text(json.dumps(setup | {"systems": found}) + "\n")
    report(setup, found)


def compare(system: str, setup: dict[str, int], folder: Path) -> dict[str, Any]:
    """All runs on one system, and how many frames there were."""
    from ase.io import read, write

    from rutile.cli.terminal import RichReporter
    from rutile.tasks.compare_optimizers import CompareOptimizersSettings, run
    from rutile.train.contest import RUNS_FILE

    file, count = SYSTEMS[system]
    images = [a for a in read(SHARED / file, ":") if np.abs(a.get_forces()).max() <= LIMIT]
    images = images[:: max(1, len(images) // count)][:count]
    place = folder / system
    place.mkdir(parents=True, exist_ok=True)
    write(place / "frames.extxyz", images, format="extxyz")
    settings = CompareOptimizersSettings.model_validate({
        "data": [place / "frames.extxyz"], "out": place / "runs", "epochs": setup["passes"], "repeats": setup["seeds"],
        "threads": 1, "split": {"valid": 0.25}, "potential": {"name": "behler"},
    })  # fmt: skip
    with RichReporter() as reporter:
        result = run(settings, reporter)
    runs = json.loads((place / "runs" / RUNS_FILE).read_text())["runs"]
    seeds = list(dict.fromkeys(r["seed"] for r in runs))[: setup["seeds"]]  # a folder may hold more
    runs = [r | {"problem": "not finite" if r["problem"] else ""} for r in runs if r["seed"] in seeds]
    return {"frames": len(images), "target": result.target, "rows": result.model_dump(mode="json")["optimizers"],
            "runs": runs}  # fmt: skip


def report(setup: dict[str, int], found: dict[str, dict[str, Any]]) -> None:
    """Tables, figure and page."""
    lines = []
    for system, one in found.items():
        lines += [f"## {system}", "", *table(system, one), ""]
    how = (
        f"{setup['passes']} passes over the training frames for each training (gradient evaluations, line searches "
        f"included), {setup['seeds']} seeds; medians."
    )
    (RESULTS / "optimizers.md").write_text("\n".join(["# Optimizers", "", how, "", *lines]))
    draw(found)
    page = (DOCS / "optimizers.md").read_text() if (DOCS / "optimizers.md").exists() else PAGE
    head = page.split(MARK)[0]
    (DOCS / "optimizers.md").write_text(head + MARK + "\n\n" + "\n".join([how, "", *lines]))
    print("\n".join(lines))


MARK = "<!-- from here on written by benchmarks/optimizers.py -->"
PAGE = """# Which optimizer?

![Lowest validation loss by pass, and best loss by learning rate](optimizers.png)

"""


def table(system: str, one: dict[str, Any]) -> list[str]:
    """One line for each optimizer, the best first."""
    from rutile.train.contestants import PUBLISHED

    lines = [
        f"{one['frames']} frames, a quarter of them for validation. Target: a validation loss of {one['target']:.3g}.",
        "",
        "| optimizer | rate | best loss | worst seed | at the end | energy meV/atom | force eV/Å | passes to target "
        "| CPU s | diverged | published TiO2 | published SiAu |",
        "|---|" + "---:|" * 11,
    ]
    for row in one["rows"]:
        name = row["optimizer"]
        old = [f"{x:.4f}" for x in PUBLISHED[name]] if name in PUBLISHED else ["–", "–"]
        best = chosen(one, name, row)
        if not best:
            lines.append(f"| {name} |" + " – |" * 8 + f" {row['diverged']} of {row['runs']} | {old[0]} | {old[1]} |")
            continue
        energy = 1000 * median(r["energy_rmse"] for r in best)
        cpu = median(r["cpu_seconds"] for r in best)
        at = "–" if row["to_target"] is None else f"{row['to_target']:.0f}"
        lines.append(
            f"| {name} | {row['rate']:.3g} | {row['loss']:.4g} | {float(row['worst']):.4g} | {row['final']:.4g} "
            f"| {energy:.1f} | {row['force_rmse']:.3f} | {at} | {cpu:.1f} | {row['diverged']} of {row['runs']} "
            f"| {old[0]} | {old[1]} |"
        )
    return lines


def chosen(one: dict[str, Any], name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs at the best rate with the whole budget."""
    from rutile.train.contestants import rate_of

    most = max(r["passes"] for r in one["runs"])
    mine = [r for r in one["runs"] if r["optimizer"] == name and r["passes"] == most and not r["problem"]]
    return [r for r in mine if row["rate"] and rate_of(r["half_decades"]) == row["rate"]]


def draw(found: dict[str, dict[str, Any]]) -> None:
    """Lowest loss by pass, all seeds; and best loss by learning rate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from rutile.train.contestants import CONTESTANTS, rate_of

    figure, axes = plt.subplots(len(found), 2, figsize=(11, 4.6 * len(found)), layout="constrained", squeeze=False)
    looks = {name: (f"C{k % 10}", "-" if k < 10 else "--") for k, name in enumerate(CONTESTANTS)}
    for (left, right), (system, one) in zip(axes, found.items(), strict=True):
        for row in one["rows"]:
            name = row["optimizer"]
            colour, line = looks[name]
            for k, r in enumerate(chosen(one, name, row)):
                best = np.minimum.accumulate(r["losses"])
                left.plot(r["at"], best, color=colour, ls=line, lw=1.2, alpha=1 if k == 0 else 0.4,
                          label=f"{name} ({row['rate']:.3g})" if k == 0 else None)  # fmt: skip
            fewest = min(r["passes"] for r in one["runs"])
            tried = [r for r in one["runs"] if r["optimizer"] == name and r["passes"] == fewest and not r["problem"]]
            tried.sort(key=lambda r: r["half_decades"])
            x, y = [rate_of(r["half_decades"]) for r in tried], [min(r["losses"]) for r in tried]
            right.plot(x, y, marker="o", color=colour, ls=line, lw=1.2, ms=3)
        left.axhline(one["target"], color="0.6", lw=0.8, ls=":")
        left.set(yscale="log", xlabel="passes over the data", ylabel="lowest validation loss so far", title=system)
        left.legend(fontsize=8, ncols=2)
        right.set(xscale="log", yscale="log", xlabel="learning rate", title=f"{system}: after {fewest} passes")
        right.set_ylim(top=min(10, right.get_ylim()[1]))
    figure.savefig(DOCS / "optimizers.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
