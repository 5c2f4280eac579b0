"""Page and figure of error against speed, from the results of accuracy_per_time.py and peers.py.

    python benchmarks/speed_and_error.py

Force RMSE on test frames after equal training time, against the time of energy + forces of water, for all sets and
models that both benchmarks have measured. Writes docs/flagship.md and docs/flagship.png.
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
TEST = {"3bpa": "3BPA, 300 to 1200 K", "acac": "AcAc, 600 K", "tio2": "TiO2"}


def main() -> None:
    """Draw, and write the page."""
    timed = results("peers_infer")
    trained = {name: found for name in SETS if (found := results(f"accuracy_per_time_{name}"))}
    if not trained or not timed:
        sys.exit("error: run accuracy_per_time.py and peers.py infer first")
    draw(trained, timed)
    names = ("peers_infer", "peers_train", *(f"accuracy_per_time_{name}" for name in trained))
    tables = [path.read_text() for name in names if (path := RESULTS / f"{name}.md").exists()]
    text = [
        "# The flagship beside its peers",
        "",
        "![error against inference time](flagship.png)",
        "",
        "Force RMSE on test frames after the same time of training, one seed, against the time of energy, forces and "
        "stress of 192 atoms of water on two threads. Lower and further left is better. The commands are in "
        "`benchmarks/`: `accuracy_per_time.py`, `peers.py`, and `speed_and_error.py` for this page. How sizes and "
        "cutoffs compare: [study.md](study.md).",
        "",
        *(t.replace("# ", "## ", 1) for t in tables),
    ]
    (DOCS / "flagship.md").write_text("\n".join(text).rstrip() + "\n")
    print(f"docs/flagship.md with {', '.join(trained)}")


def results(name: str) -> dict[str, Any]:
    """A result file; empty if there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def draw(trained: dict[str, dict[str, Any]], timed: dict[str, Any]) -> None:
    """The figure, one panel for each set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    width = 5 * len(trained)
    figure, panels = plt.subplots(1, len(trained), figsize=(width, 4.2), layout="constrained", squeeze=False)
    for axes, (name, found) in zip(panels[0], trained.items(), strict=True):
        for model, record in found["models"].items():
            rows = timed.get(f"{SPEED.get(model, model)} n=192")
            if not rows:
                continue
            ours = model.startswith("anatase")
            at = (min(row["ms"]["median"] for row in rows), record["test"]["F_rmse"])
            axes.plot(*at, "o", color="tab:red" if ours else "tab:gray", markersize=8)
            label = f"Anatase {model.split(':')[1]}" if ours else LABELS[model]
            axes.annotate(label, at, xytext=(7, 5), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", yscale="log", xlabel="energy + forces + stress, 192 atoms (ms)",
                 ylabel="force RMSE (meV/Å)",
                 title=f"{TEST[name]}, {found['seconds']:g} s on {found['threads']} thread(s)")  # fmt: skip
        axes.margins(0.3)
    figure.savefig(DOCS / "flagship.png", dpi=110)


if __name__ == "__main__":
    main()
