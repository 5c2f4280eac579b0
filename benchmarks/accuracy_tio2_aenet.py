"""Accuracy on the TiO2 reference set of aenet (real DFT, 757 + 108 frames) with energies and forces.

    python benchmarks/accuracy_tio2_aenet.py [FOLDER WITH train.extxyz AND valid.extxyz] [key=value ...]

Published on the 1,000-structure set that most of these frames come from (aenet-PyTorch's example, 100 test structures,
all with forces under 3 eV/Angstrom): energy RMSE 7.74 meV/atom, force component RMSE 0.224 eV/Angstrom, 3190 s of CPU
time (J. Lopez-Zorrilla et al., J. Chem. Phys. 158, 164105 (2023), doi:10.1063/5.0146803). The frames with larger
forces, up to 50 eV/Angstrom, are reported beside.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accuracy import EXAMPLES, SHARED, error, one_line_errors, train_and_evaluate, write

LIMIT = 3.0  # eV/Angstrom
TARGETS = {"energy": 7.74, "force": 0.224}


def main(words: list[str]) -> None:
    """Train, evaluate, write."""
    folder = next((Path(w) for w in words if "=" not in w), SHARED / "tio2-aenet" / "public")
    pairs = [w for w in words if "=" in w]
    valid = folder / "valid.extxyz"
    files = [f"data=[{folder / 'train.extxyz'}]", f"split.valid_files=[{valid}]"]
    out = Path("runs") / "accuracy_tio2_aenet"
    result = train_and_evaluate(EXAMPLES / "tio2_behler.yaml", [*files, *pairs], valid, out, LIMIT)
    rows = []
    for frames in (f"max |F| < {LIMIT:g} eV/Å", f"max |F| ≥ {LIMIT:g} eV/Å", "all"):
        e = [1000 * error(result, "energy", kind, "eV/atom", frames) for kind in ("mae", "rmse")]
        f = [error(result, "force", kind, "eV/Å", frames) for kind in ("mae", "rmse")]
        rows.append(f"| {frames.replace('|', '')} | {e[0]:.2f} | {e[1]:.2f} | {f[0]:.4f} | {f[1]:.4f} |")
    table = "\n".join(
        [
            "# TiO₂ (aenet reference set), validation split",
            "",
            "| frames | energy MAE (meV/atom) | energy RMSE (meV/atom) | force MAE (eV/Å) | force RMSE (eV/Å) |",
            "|---|---|---|---|---|",
            *rows,
            f"| published, max F < 3 eV/Å | 5.42 | {TARGETS['energy']} | - | {TARGETS['force']} |",
            "",
            f"Training: {result['epochs']} epochs, {result['training_wall_seconds']:.0f} s of wall time, "
            f"{result['training_cpu_seconds']:.0f} s of CPU time; rutile {result['code']}.",
        ]
    )
    write("accuracy_tio2_aenet", {"published": TARGETS, **result}, table + "\n")


if __name__ == "__main__":
    one_line_errors(main, sys.argv[1:])
