"""Page and figure of error against speed, from the results of accuracy_per_time.py and peers.py.

    python benchmarks/speed_and_error.py

Force RMSE after equal training time, against the time of energy + forces of water, for all sets and models that both
benchmarks have measured. Writes docs/flagship.md and docs/flagship.png.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from accuracy import RESULTS
from accuracy_per_time import LABELS, SETS

DOCS = Path(__file__).resolve().parent.parent / "docs"
SPEED = {"nequip": "nequip:nequip_l1", "mace:64x0e": "mace:small", "schnetpack": "schnetpack:painn",
         "matgl": "matgl:tensornet"}  # fmt: skip
"""Names in peers.py of what accuracy_per_time.py trains; the settings are the same."""
TITLES = {
    ("3bpa", "valid"): "3BPA, 300 K", ("3bpa", "test"): "3BPA, 300 to 1200 K",
    ("acac", "valid"): "AcAc, 300 K", ("acac", "test"): "AcAc, 600 K",
    ("tio2", "valid"): "TiO2, validation", ("tio2", "test"): "TiO2, test",
}  # fmt: skip


def main() -> None:
    """Draw, and write the page."""
    timed = results("peers_infer")
    runs = {name: trainings(name) for name in SETS if trainings(name)}
    trained = {name: max(found, key=lambda run: len(run["models"])) for name, found in runs.items()}
    if not trained or not timed:
        sys.exit("error: run accuracy_per_time.py and peers.py infer first")
    draw(trained, timed)
    files = [RESULTS / f"{name}.md" for name in ("peers_infer", "peers_train")]
    files += [path for name in runs for path in sorted(RESULTS.glob(f"accuracy_per_time_{name}_*.md"))]
    tables = [path.read_text() for path in files if path.exists()]
    looked_at = [
        f"{name.upper()} after {run['seconds']:g} s"
        for name, found in runs.items()
        for run in found
        if run.get("looked at", True)
    ]
    text = [
        "# The flagship beside its peers",
        "",
        "![error against inference time](flagship.png)",
        "",
        "Force RMSE after the same time of training (of each set the table with most models), one seed, against the "
        "time of energy, forces and stress of 192 atoms of water on two threads. Lower and further left is better. The "
        "commands are in `benchmarks/`: `accuracy_per_time.py`, `peers.py`, and `speed_and_error.py` for this page.",
        "",
        "Where the times of training differ, a peer was slower than its probe or faster. No model is fully trained "
        "after so short a time.",
        "",
        "How Anatase is built and why: [decision 12](decisions/0012-the-flagship.md); how normalisation and training "
        "were chosen, with the figures: [decision 14](decisions/0014-anatase-off-the-training-set.md). That choice was "
        f"made looking at the test frames of these tables: {', '.join(looked_at) or 'none'}; Anatase's test errors are "
        "not blind there. Frames of the other tables were not looked at.",
        "",
        "Rows of Anatase in the tables that were looked at were made before the core repulsion was taken away from "
        "bonds, and before short waves counted less, which both help on hot frames: [decision "
        "16](decisions/0016-core-repulsion-ends-before-bonds.md), [22](decisions/0022-short-waves-count-less.md).",
        "",
        *(t.replace("# ", "## ", 1) for t in tables),
    ]
    (DOCS / "flagship.md").write_text("\n".join(text).rstrip() + "\n")
    print(f"docs/flagship.md with {', '.join(trained)}")


def results(name: str) -> dict[str, Any]:
    """A result file; empty if there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def trainings(name: str) -> list[dict[str, Any]]:
    """Results of a set, one for each time of training."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"accuracy_per_time_{name}_*.json"))]


def draw(trained: dict[str, dict[str, Any]], timed: dict[str, Any]) -> None:
    """The figure, one column for each set: frames like those trained on above, others below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    columns = len(trained)
    figure, panels = plt.subplots(2, columns, figsize=(4.6 * columns, 7.6), layout="constrained", squeeze=False)
    for column, (name, found) in enumerate(trained.items()):
        for axes, part in zip(panels[:, column], ("valid", "test"), strict=True):
            for model, record in found["models"].items():
                rows = timed.get(f"{SPEED.get(model, model)} n=192")
                if not rows:
                    continue
                ours = model.startswith("anatase")
                ms = min(row["ms"]["median"] for row in rows)
                axes.plot(ms, record[part]["F_rmse"], "o", color="tab:red" if ours else "tab:gray")
                label = f"Anatase {model.split(':')[1]}" if ours else LABELS[model].split(",")[0]
                up = {"mace:64x0e": -10, "anatase:medium": -10}.get(model, 4)  # two names would cover each other
                at = (ms, record[part]["F_rmse"])
                axes.annotate(label, at, xytext=(5, up), textcoords="offset points", fontsize=8)
            highest = max(record[part]["F_rmse"] for record in found["models"].values())
            axes.set(xscale="log", xlim=(15, 1500), ylim=(0, 1.12 * highest), title=TITLES[name, part])
            axes.set_xticks([20, 50, 100, 200, 500, 1000], ["20", "50", "100", "200", "500", "1000"])
            axes.xaxis.set_minor_locator(NullLocator())
    figure.supxlabel("energy + forces + stress of 192 atoms of water, two threads (ms)")
    figure.supylabel("force RMSE (meV/Å)")
    figure.savefig(DOCS / "flagship.png", dpi=110)


if __name__ == "__main__":
    main()
