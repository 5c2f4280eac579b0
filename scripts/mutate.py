"""Plant bugs one at a time and see which tests notice: `python scripts/mutate.py [words of a name] > table`.

Works on a copy; the table is kept in docs/mutations.md. Two groups of tests are run for each bug, each until its first
failure: the contract (symmetries and derivatives; knows nothing of the model) and the oracles (published vectors, naive
loops, brute force). A bug that only the oracles find shows what no symmetry can.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
POTENTIALS, PARTS = "potentials", "potentials/parts"
CONTRACT = ["tests/potentials/test_behler_contract.py"]
ORACLES = [
    "tests/potentials/test_behler_vectors.py",
    "tests/potentials/test_behler_symmetry.py",
    "tests/potentials/test_native_symmetry.py",
    "tests/potentials/test_behler.py",
    "tests/graph/test_neighbors.py",
]
COMPILED, EAGER = "AutoCompiled", "AutoEager"

# (name, file, old, new, which contract)
MUTATIONS: list[tuple[str, str, str, str, str]] = [
    ("no change", "__init__.py", "__version__", "__version__", COMPILED),
    ("sign of the forces", f"{POTENTIALS}/evaluate.py", "energy, -d_positions,", "energy, d_positions,", COMPILED),
    ("virial instead of stress", f"{POTENTIALS}/evaluate.py", "d_strain / safe[:, None, None]", "d_strain", COMPILED),
    (
        "half of the strain forgotten",
        f"{PARTS}/contract.py",
        "return positions, 0.5 * (product + product.mT)",
        "return positions, product + product.mT",
        COMPILED,
    ),
    (
        "unsymmetrised strain (an equivalent change: dE/dstrain of an invariant energy is symmetric)",
        f"{PARTS}/contract.py",
        "return positions, 0.5 * (product + product.mT)",
        "return positions, product",
        COMPILED,
    ),
    (
        "neighbours beyond the part left out of the forces",
        f"{POTENTIALS}/evaluate.py",
        "total.d_positions.index_add_(0, part.atoms, d_positions)",
        "total.d_positions[part.atoms[: part.n_centres]] += d_positions[: part.n_centres]",
        COMPILED,
    ),
    (
        "pair_i and pair_j swapped in linearised forces",
        f"{POTENTIALS}/evaluate.py",
        "index_add(0, batch.pair_j, pushes)",
        "index_add(0, batch.pair_i, pushes)",
        COMPILED,
    ),
    (
        "yz and xy swapped in the linearised stress",
        f"{POTENTIALS}/evaluate.py",
        "[0, 5, 4, 5, 1, 3, 4, 3, 2]",
        "[0, 3, 4, 3, 1, 5, 4, 5, 2]",
        COMPILED,
    ),
    ("cell transposed", "graph/graph.py", '"ea,eab->eb"', '"ea,eba->eb"', COMPILED),
    (
        "cell of the first structure for all",
        "graph/graph.py",
        "structures.cell[structures.system[edges.i]]",
        "structures.cell[torch.zeros_like(edges.i)]",
        COMPILED,
    ),
    ("sign of the shift of images", "graph/graph.py", "[edges.j] + offset", "[edges.j] - offset", COMPILED),
    ("half neighbour list", "graph/neighbors.py", "full_list=True", "full_list=False", COMPILED),
    ("atoms of a batch not renumbered", "graph/neighbors.py", "pairs.append(pair + first)", "pairs.append(pair)", COMPILED),
    (
        "systems of a batch not renumbered",
        "structures/structures.py",
        "torch.cat([b.system + o for",
        "torch.cat([b.system + 0 * o for",
        COMPILED,
    ),
    (
        "element of the centre for that of the neighbour",
        f"{PARTS}/symmetry_eager.py",
        "(graph.numbers == group.neighbors[0])[graph.j]",
        "(graph.numbers == group.neighbors[0])[graph.i]",
        EAGER,
    ),
    (
        "elements of neighbours ignored in angles",
        f"{PARTS}/symmetry_eager.py",
        "(low == group.neighbors[0]) & (high == group.neighbors[1]) & (reach",
        "(low > 0) & (reach",
        EAGER,
    ),
    (
        "hard cutoff",
        f"{PARTS}/cutoff.py",
        "return torch.where(inside, f, zero), torch.where(inside, slope / r_c, zero)",
        "return torch.where(inside, f + 0.01, zero), torch.where(inside, slope / r_c, zero)",
        EAGER,
    ),
    (
        "slope of the cutoff function not divided by r_c",
        f"{PARTS}/cutoff.py",
        "torch.where(inside, slope / r_c, zero)",
        "torch.where(inside, slope, zero)",
        EAGER,
    ),
    ("2^(1 - zeta) missing", f"{PARTS}/symmetry_eager.py", "= 2.0 * _pow(", "= 2.0**zeta * _pow(", EAGER),
    ("zeta off by one", f"{PARTS}/symmetry_eager.py", "_pow(self._half(lambda_), zeta)", "_pow(self._half(lambda_), zeta + 1)", EAGER),
    (
        "sign of the radial shift",
        f"{PARTS}/symmetry_eager.py",
        "term = torch.exp(-f.eta * (r - f.r_s) ** 2) * fc",
        "term = torch.exp(-f.eta * (r + f.r_s) ** 2) * fc",
        EAGER,
    ),
    ("sign of lambda", f"{PARTS}/symmetry_eager.py", "0.5 * (1.0 + lambda_ * self.cos)", "0.5 * (1.0 - lambda_ * self.cos)", EAGER),
    ("r_jk forgotten in G4", f"{PARTS}/symmetry_eager.py", "square + (self.o - r_s) ** 2 if", "square if", EAGER),
    ("slope of zeta in the kernel", f"{PARTS}/symmetry.c", "slope[p] = lambda * (REAL)g->zeta[p] * lower;", "slope[p] = lambda * lower;", COMPILED),
    ("reference energy missing", f"{POTENTIALS}/behler.py", "self.energy_scale + reference", "self.energy_scale", COMPILED),
    ("energy scale forgotten", f"{POTENTIALS}/behler.py", "change.double() * self.energy_scale", "change.double()", COMPILED),
    ("energy of G = 0 not subtracted", f"{POTENTIALS}/behler.py", "(out[:-1] - out[-1])", "out[:-1]", COMPILED),
    (
        "descriptors not scaled",
        f"{PARTS}/scaling.py",
        "scaled = (descriptors - self.shift[element]) * self.factor[element]",
        "scaled = descriptors",
        COMPILED,
    ),
    ("network of the wrong element", f"{POTENTIALS}/behler.py", "(position == e).nonzero()", "(position == len(self.elements) - 1 - e).nonzero()", COMPILED),
    ("precision lost on saving", f"{POTENTIALS}/save.py", "tensor.detach().cpu()", "tensor.detach().cpu().to(torch.float16).to(tensor.dtype)", COMPILED),
]  # fmt: skip


def first_failure(folder: Path, tests: list[str], select: str = "") -> str:
    """Name of the first test that fails; empty if all pass."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "RUTILE_EXAMPLES": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    command += ["-k", select] if select else []
    out = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if out.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", out.stdout, re.MULTILINE)
    return failed[1].rpartition("::")[2].removeprefix("test_") if failed else f"exit {out.returncode}"


def main() -> None:
    """One line of a Markdown table for each bug."""
    words = " ".join(sys.argv[1:])
    print("| bug | contract | oracle |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "repository"
        folder.mkdir()
        if (ROOT.parent / "shared").exists():  # the published vectors, where they are
            (folder.parent / "shared").symlink_to((ROOT.parent / "shared").resolve())
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for name, where, old, new, contract in MUTATIONS:
            if words not in name:
                continue
            path = folder / "src" / "rutile" / where
            text = path.read_text()
            if text.count(old) < 1:
                raise SystemExit(f"{name}: {where} holds no {old!r} any more; update this script")
            path.write_text(text.replace(old, new))
            by_contract, by_oracle = first_failure(folder, CONTRACT, contract), first_failure(folder, ORACLES)
            path.write_text(text)
            print(f"| {name} | {by_contract or 'missed'} | {by_oracle or 'missed'} |", flush=True)


if __name__ == "__main__":
    main()
