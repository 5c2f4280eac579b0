"""Accuracy on mlearn's Cu, Ni and Si with the published train/test splits.

    python benchmarks/accuracy_mlearn.py [FOLDER WITH Cu_train.extxyz ...] [Cu Ni Si] [key=value ...]

Weights are chosen by a validation part carved from the training file, never by the test file. Beside it: force MAE of
SNAP refitted on these sets (JARVIS-Leaderboard, mlearn; Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020),
doi:10.1021/acs.jpca.9b08723). Known defects of the set: about a third of the test frames of Cu and Ni and 3 of 25 of Si
have the same energy as a training frame (copies by symmetry), so that force errors without those are given too;
stresses were corrected upstream of this benchmark.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from accuracy import EXAMPLES, RESULTS, SHARED, error, errors_without_copies, one_line_errors, train_and_evaluate, write

SNAP = {"Cu": 0.060, "Ni": 0.062, "Si": 0.176}  # force MAE, eV/Angstrom


def main(words: list[str]) -> None:
    """Train and evaluate each element; the others keep their earlier results."""
    elements = [w for w in words if w in SNAP] or list(SNAP)
    folder = next((Path(w) for w in words if "=" not in w and w not in SNAP), SHARED / "mlearn" / "public")
    pairs = [w for w in words if "=" in w]
    earlier = RESULTS / "accuracy_mlearn.json"
    results: dict[str, Any] = json.loads(earlier.read_text())["elements"] if earlier.exists() else {}
    for element in elements:
        files = [f"data=[{folder / f'{element}_train.extxyz'}]"]
        test, out = folder / f"{element}_test.extxyz", Path("runs") / f"accuracy_mlearn_{element}"
        job = EXAMPLES / f"mlearn_{element.lower()}.yaml"
        results[element] = train_and_evaluate(job, [*files, *pairs], test, out)
        training = folder / f"{element}_train.extxyz"
        results[element]["without_copies"] = errors_without_copies(out, training, test, out)
    write("accuracy_mlearn", {"snap_force_mae": SNAP, "elements": results}, table(results))


def table(results: dict[str, Any]) -> str:
    """One line for each element."""
    rows = []
    for element, r in sorted(results.items()):
        e = [1000 * error(r, "energy", kind, "eV/atom") for kind in ("mae", "rmse")]
        f = [error(r, "force", kind, "eV/Å") for kind in ("mae", "rmse")]
        s = [error(r, "stress", kind, "GPa") for kind in ("mae", "rmse")]
        errors = (f"{f[0]:.4f}", f"{SNAP[element]:.3f}", f"{f[1]:.4f}", f"{e[0]:.2f}", f"{e[1]:.2f}", f"{s[0]:.3f}",
                  f"{s[1]:.3f}")  # fmt: skip
        copies = r["without_copies"]
        unseen = (f"{error(copies, 'force', 'mae', 'eV/Å'):.4f}", copies["frames"])
        cost = (r["epochs"], round(r["training_wall_seconds"]), round(r["training_cpu_seconds"]), r["code"])
        rows.append(f"| {' | '.join(map(str, (element, *errors, *unseen, *cost)))} |")
    return "\n".join(
        [
            "# mlearn, published test sets",
            "",
            "| element | force MAE (eV/Å) | SNAP's | force RMSE | energy MAE (meV/atom) | energy RMSE | "
            "stress MAE (GPa) | stress RMSE | force MAE without copies | frames | epochs | wall (s) | CPU (s) | code |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    one_line_errors(main, sys.argv[1:])
