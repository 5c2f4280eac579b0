"""Figure of error against speed, from the results of accuracy_per_time.py and peers.py.

    python benchmarks/speed_and_error.py [3bpa|acac]

Force RMSE on hotter molecules after equal training time, against the time of energy + forces of water, for all models
that both benchmarks have measured. Writes docs/flagship.md and docs/flagship.png.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accuracy import RESULTS
from accuracy_per_time import LABELS

DOCS = Path(__file__).resolve().parent.parent / "docs"
SPEED = {"nequip": "nequip:nequip_l1", "mace:64x0e": "mace:small", "schnetpack": "schnetpack:painn",
         "matgl": "matgl:tensornet"}  # fmt: skip
"""Names in peers.py of what accuracy_per_time.py trains; the settings are the same."""


def main(words: list[str]) -> None:
    """Draw, and write the page."""
    name = words[0] if words else "3bpa"
    trained = read(f"accuracy_per_time_{name}.json")
    timed = read("peers_infer.json")
    points = {}
    for model, r in trained["models"].items():
        rows = timed.get(f"{SPEED.get(model, model)} n=192")
        if rows:
            points[model] = (min(x["ms"]["median"] for x in rows), r["test"]["F_rmse"])
    if not points:
        sys.exit("error: no model is in both results")
    draw(points, name, trained["seconds"])
    tables = [(RESULTS / f).read_text() for f in (
        "peers_infer.md", "peers_train.md", *(p.name for p in sorted(RESULTS.glob("accuracy_per_time_*.md")))
    ) if (RESULTS / f).exists()]  # fmt: skip
    text = "\n".join(
        [
            "# The flagship beside its peers",
            "",
            "![error against inference time](flagship.png)",
            "",
            f"Force RMSE on hotter molecules ({name.upper()}) after {trained['seconds']:g} s of training on "
            f"{trained['threads']} thread(s), one seed, against the time of energy, forces and stress of 192 atoms of "
            "water on two threads. Lower and further left is better. The commands are in `benchmarks/`: "
            "`accuracy_per_time.py`, `peers.py`, and `speed_and_error.py` for this page.",
            "",
            *(t.replace("# ", "## ", 1) for t in tables),
        ]
    )
    (DOCS / "flagship.md").write_text(text.rstrip() + "\n")
    print(f"docs/flagship.md with {len(points)} models")


def read(name: str) -> dict:  # type: ignore[type-arg]
    """A result file.

    Exits with one line where it has not been written yet.
    """
    path = RESULTS / name
    if not path.exists():
        sys.exit(f"error: no {path}: run accuracy_per_time.py and peers.py infer first")
    found: dict = json.loads(path.read_text())  # type: ignore[type-arg]
    return found


def draw(points: dict[str, tuple[float, float]], name: str, seconds: float) -> None:
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for model, (ms, error) in points.items():
        ours = model.startswith("anatase")
        axes.plot(ms, error, "o", color="tab:red" if ours else "tab:gray", markersize=8)
        label = f"Anatase {model.split(':')[1]}" if ours else LABELS.get(model, model)
        axes.annotate(label, (ms, error), xytext=(7, 5), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="energy, forces and stress of 192 atoms (ms)",
             ylabel="force RMSE, hotter test frames (meV/Å)",
             title=f"{name.upper()}, {seconds:g} s of training")  # fmt: skip
    axes.margins(0.25)
    figure.savefig(DOCS / "flagship.png", dpi=130)


if __name__ == "__main__":
    main(sys.argv[1:])
