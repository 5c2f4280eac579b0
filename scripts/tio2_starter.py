"""Make the TiO2 starter set: real PBE labels for `make demo`, by GPAW.

The set is a few hundred small frames (6 to 24 atoms) of six polymorphs - relaxed, strained,
rattled, heated - and of random structures, as packed and part of the way to a minimum. Anyone can make it again
(docs/label.md says how to get GPAW; its own environment needs spglib, too):

    gpaw/bin/python scripts/tio2_starter.py relax      --out runs/tio2     # DFT lattice constants of the polymorphs
    gpaw/bin/python scripts/tio2_starter.py structures --out runs/tio2     # runs/tio2/structures.extxyz
    rutile label runs/tio2/structures.extxyz engine=gpaw engine.cutoff=800 engine.k_density=10.5 \\
        engine.density_tolerance=1e-4 engine.calc_mode=gpaw-pbe-pw800-k10.5 engine.python=gpaw/bin/python \\
        isolated_atoms=false cache=runs/tio2/labels out=runs/tio2/labelled.extxyz
    gpaw/bin/python scripts/tio2_starter.py collect    --out runs/tio2 --to src/rutile/starter

Needs only GPAW, ASE, NumPy and spglib (not rutile), so that it runs in GPAW's own environment. Without `relax`, `structures`
begins from the relaxed polymorphs of the shipped set (--to). The frames that ship were labelled before `rutile label`
existed, by GPAW with the same settings: labels made again by `rutile label` agree to 1e-8 eV, 2e-7 eV/Angstrom and
2e-9 eV/Angstrom^3.

Settings (one calc mode, recorded with a hash in each frame): PBE, plane waves to 800 eV (600 eV is
enough for forces, not for stress), Fermi-Dirac smearing 0.05 eV, Gamma-centred k-points with
N_i = ceil(10.5 Angstrom / d_i), d_i the spacing of the lattice planes of the *parent* polymorph, so that all
strained children of one parent share one grid. Energies are force-consistent (free) energies,
the quantity whose derivatives GPAW's forces and stress are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

SETTINGS = {
    "code": "GPAW",
    "functional": "PBE",
    "mode": "PW",
    "cutoff_eV": 800.0,
    "smearing": "Fermi-Dirac 0.05 eV",
    "kpoints": "Gamma-centred, N_i = ceil(10.5 A / plane spacing of the parent)",
    "energy": "force-consistent (free) energy, relative to GPAW's atomic references",
    "spin": "none",
}
CALC_MODE = "gpaw-pbe-pw800-k10.5"
SETTINGS_HASH = hashlib.sha256(json.dumps(SETTINGS, sort_keys=True).encode()).hexdigest()[:16]

# Start geometries: (space group, cell parameters, basis, fractional coordinates, primitive?).
# Ambient phases from experiment; dense phases near published high-pressure cells, scaled to 0 GPa.
POLYMORPHS = {
    "rutile": (136, [4.594, 4.594, 2.959, 90, 90, 90], ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], False),
    "anatase": (141, [3.785, 3.785, 9.514, 90, 90, 90], ["Ti", "O"], [(0, 0, 0), (0, 0, 0.2081)], True),
    "brookite": (61, [9.26, 5.51, 5.18, 90, 90, 90], ["Ti", "O", "O"],
                 [(0.1289, 0.0972, 0.8628), (0.0095, 0.1491, 0.1835), (0.2314, 0.1110, 0.5366)], False),
    "columbite": (60, [4.541, 5.493, 4.906, 90, 90, 90], ["Ti", "O"],
                  [(0, 0.171, 0.25), (0.2716, 0.3814, 0.4142)], False),
    "pyrite": (205, [4.90, 4.90, 4.90, 90, 90, 90], ["Ti", "O"], [(0, 0, 0), (0.34, 0.34, 0.34)], False),
    "fluorite": (225, [4.82, 4.82, 4.82, 90, 90, 90], ["Ti", "O"], [(0, 0, 0), (0.25, 0.25, 0.25)], True),
}  # fmt: skip
# How many frames of each kind a parent gets: (strained, rattled, heated, distorted within its symmetry).
COUNTS = {"rutile": (12, 30, 20, 16), "anatase": (12, 30, 20, 16), "columbite": (4, 6, 5, 6),
          "pyrite": (2, 3, 2, 10), "fluorite": (6, 8, 6, 10), "brookite": (1, 2, 2, 1)}  # fmt: skip
RANDOM = {2: 30, 4: 2}  # formula units -> frames
QUENCHED = {2: 28}  # formula units -> frames: random packings on their way down to a minimum
KAPPA = 10.5  # Angstrom


def parent(name: str) -> Atoms:
    """Start structure of a polymorph (Angstrom), at least 6 atoms."""
    group, cell, symbols, basis, primitive = POLYMORPHS[name]
    atoms = crystal(symbols, basis, spacegroup=group, cellpar=cell, primitive_cell=primitive)
    atoms = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    return atoms * (1, 1, 2) if len(atoms) < 6 else atoms


def kpoints(atoms: Atoms) -> tuple[int, int, int]:
    """Gamma-centred grid of a cell."""
    inverse_spacing = np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    return tuple(int(n) for n in np.ceil(KAPPA * inverse_spacing - 1e-9))


class RigidIon(Calculator):
    """Matsui and Akaogi (1991) Buckingham + damped shifted Coulomb: a cheap truth to heat TiO2 with.

    Only used to draw thermally plausible geometries; the labels are DFT's.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    A = {"TiTi": (31120.2, 0.154, 5.25), "OTi": (16957.5, 0.194, 12.59), "OO": (11782.7, 0.234, 30.22)}
    CHARGE = {"Ti": 2.196, "O": -1.098}
    RC, ALPHA = 7.0, 0.25

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Energy (eV) and forces (eV/Angstrom)."""
        from scipy.special import erfc

        super().calculate(atoms, properties, system_changes)
        i, j, r, d = neighbor_list("ijdD", self.atoms, self.RC)
        symbols = np.array(self.atoms.get_chemical_symbols())
        a, rho, c = np.array([self.A["".join(sorted((p, q)))] for p, q in zip(symbols[i], symbols[j])]).T
        charge = np.array([self.CHARGE[s] for s in symbols])
        qq = 14.3996454784 * charge[i] * charge[j]

        def coulomb(x):
            e = erfc(self.ALPHA * x) / x
            return e, e / x + 2 * self.ALPHA / np.sqrt(np.pi) * np.exp(-((self.ALPHA * x) ** 2)) / x

        (e, f), (e_c, f_c) = coulomb(r), coulomb(self.RC)
        energy = a * np.exp(-r / rho) - c / r**6 + qq * (e - e_c + f_c * (r - self.RC))
        slope = a / rho * np.exp(-r / rho) - 6 * c / r**7 + qq * (f - f_c)  # -dE/dr
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, -(slope / r)[:, None] * d)
        self.results = {"energy": 0.5 * energy.sum(), "forces": forces}


def heated(atoms: Atoms, temperature: float, rng: np.random.Generator) -> Atoms:
    """A snapshot of Langevin dynamics of the rigid-ion crystal (0.6 ps, 2 fs) at `temperature` (K)."""
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    hot = atoms.copy()
    hot.calc = RigidIon()
    MaxwellBoltzmannDistribution(hot, temperature_K=temperature, rng=rng)
    Langevin(hot, 2 * units.fs, temperature_K=temperature, friction=0.05 / units.fs, rng=rng).run(300)
    return Atoms(hot.numbers, positions=hot.positions, cell=hot.cell, pbc=True)


def strained(atoms: Atoms, size: float, rng: np.random.Generator) -> Atoms:
    """A symmetric random strain with components of standard deviation `size`."""
    e = rng.normal(0, size, (3, 3))
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ (np.eye(3) + (e + e.T) / 2), scale_atoms=True)
    return out


def random_crystal(units: int, rng: np.random.Generator) -> Atoms:
    """`units` TiO2 in a random triclinic cell of 24 to 42 cubic Angstrom each, with distance guards."""
    numbers = [22] * units + [8] * (2 * units)
    least = {(22, 22): 2.4, (8, 22): 1.65, (8, 8): 2.1}
    while True:
        lengths, angles = rng.uniform(0.7, 1.4, 3), rng.uniform(65, 115, 3)
        atoms = Atoms(numbers, cell=[*lengths, *angles], pbc=True)
        if not np.isfinite(atoms.cell.volume) or atoms.cell.volume < 0.2:
            continue
        atoms.set_cell(atoms.cell.array * (units * rng.uniform(24, 42) / atoms.cell.volume) ** (1 / 3))
        if 1 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1).max() < 2.5:
            continue
        atoms.set_scaled_positions(rng.random((3 * units, 3)))
        for _ in range(200):  # push apart what is too close
            i, j, r, d = neighbor_list("ijdD", atoms, 2.5)
            want = np.array([least[tuple(sorted((atoms.numbers[p], atoms.numbers[q])))] for p, q in zip(i, j)])
            short = (r < want) & (i != j)
            if not (r < want).any():
                return atoms
            move = np.zeros((len(atoms), 3))
            step = 0.3 * (want - r)[short, None] * d[short] / np.maximum(r[short, None], 1e-3)
            np.add.at(move, i[short], -step)
            atoms.positions += move


def plan(relaxed: dict[str, Atoms]) -> list[tuple[str, Callable[[], Atoms]]]:
    """(frame id, maker) of all frames to label, in an order in which every prefix is a balanced set."""
    frames: list[tuple[float, str, Callable[[], Atoms]]] = []

    def add(name: str, kind: str, k: int, of: int, make: Callable[[], tuple[Atoms, str]]) -> None:
        frame_id = f"{name}-{kind}-{k:02d}"

        def maker() -> Atoms:
            atoms, note = make()
            grid = kpoints(parent(name) if name in POLYMORPHS else atoms)
            atoms.info = {"frame_id": frame_id, "parent": name, "config_type": kind, "kpoints": grid, "made_by": note}
            return atoms

        frames.append(((k + 0.5) / of, frame_id, maker))

    for name, (n_strain, n_rattle, n_heat, n_symmetric) in COUNTS.items():
        base, tag = relaxed[name], sum(map(ord, name))
        for k in range(n_symmetric):  # cheap, so they come first
            add(name, "symmetric", k, 2 * n_symmetric, partial(make_symmetric, base, k, [k, tag, 5]))
        for k in range(n_strain):
            add(name, "strained", k, n_strain, partial(make_strained, base, k, [k, tag, 1]))
        for k in range(n_rattle):
            add(name, "rattled", k, n_rattle, partial(make_rattled, base, k, [k, tag, 2]))
        for k in range(n_heat):
            add(name, "heated", k, n_heat, partial(make_heated, base, k, [k, tag, 3]))
    packings = [("random", u, n, make_random, 4) for u, n in RANDOM.items()]
    packings += [("quenched", u, n, make_quenched, 6) for u, n in QUENCHED.items()]
    for kind, units, count, make, tag in packings:
        for k in range(count):
            add(f"random{3 * units}", kind, k, count, partial(make, units, [k, units, tag]))
    return [(frame_id, make) for _, frame_id, make in sorted(frames, key=lambda item: item[:2])]


def make_strained(base: Atoms, k: int, seed: list[int]) -> tuple[Atoms, str]:
    """The k-th strained child of a polymorph."""
    size = (0.02, 0.04, 0.06)[k % 3]
    return strained(base, size, np.random.default_rng(seed)), f"strain {size}"


def make_symmetric(base: Atoms, k: int, seed: list[int]) -> tuple[Atoms, str]:
    """The k-th child that keeps the space group: random volume, axes and free coordinates."""
    from ase.constraints import FixSymmetry

    rng, size = np.random.default_rng(seed), (0.01, 0.025, 0.04)[k % 3]
    atoms = Atoms(base.numbers, positions=base.positions, cell=base.cell, pbc=True)
    atoms.set_constraint(FixSymmetry(atoms))
    e = rng.normal(0, size / 2, (3, 3)) + np.eye(3) * rng.normal(0, size)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (e + e.T) / 2), scale_atoms=True)
    atoms.set_positions(atoms.positions + rng.normal(0, 3 * size, atoms.positions.shape))
    atoms.set_constraint()
    return atoms, f"symmetry kept, strain {size}, displacements {3 * size:.2f} A"


def make_rattled(base: Atoms, k: int, seed: list[int]) -> tuple[Atoms, str]:
    """The k-th rattled (and slightly strained) child of a polymorph."""
    rng, sigma = np.random.default_rng(seed), (0.03, 0.08, 0.15, 0.25)[k % 4]
    atoms = strained(base, 0.025, rng)
    atoms.positions += rng.normal(0, sigma, atoms.positions.shape)
    return atoms, f"rattle {sigma} A, strain 0.025"


def make_heated(base: Atoms, k: int, seed: list[int]) -> tuple[Atoms, str]:
    """The k-th heated child of a polymorph."""
    rng, kelvin = np.random.default_rng(seed), (300, 700, 1200, 2000)[k % 4]
    return heated(strained(base, 0.02, rng), kelvin, rng), f"rigid-ion MD {kelvin} K, strain 0.02"


def make_random(units: int, seed: list[int]) -> tuple[Atoms, str]:
    """A random packing."""
    return random_crystal(units, np.random.default_rng(seed)), "random packing"


def make_quenched(units: int, seed: list[int]) -> tuple[Atoms, str]:
    """A random packing part of the way down to a minimum of the rigid-ion energy (atoms only, cell kept)."""
    from ase.optimize import FIRE

    atoms, steps = random_crystal(units, np.random.default_rng(seed)), (10, 25, 60, 200)[seed[0] % 4]
    atoms.calc = RigidIon()
    FIRE(atoms, logfile=None, maxstep=0.1).run(fmax=0.05, steps=steps)
    quenched = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    return quenched, f"random packing, {steps} steps of rigid-ion FIRE"


def gpaw_calculator(grid, log: Path | None):
    """The calculator of this calc mode."""
    from gpaw import GPAW, PW, FermiDirac

    return GPAW(mode=PW(SETTINGS["cutoff_eV"]), xc="PBE", kpts={"size": tuple(grid), "gamma": True},
                occupations=FermiDirac(0.05), txt=str(log) if log else None)  # fmt: skip


def save(path: Path, frames: list[Atoms] | Atoms) -> None:
    """Write whole or not at all."""
    part = path.with_suffix(".part")
    write(part, frames, format="extxyz")
    part.replace(path)


def run_structures(out: Path, shipped: Path) -> None:
    """Write all planned frames with their k-points, ready for `rutile label`."""
    relaxed = {p.stem: read(p, -1) for p in (out / "relaxed").glob("*.extxyz")}
    if not relaxed:
        relaxed = {f.info["parent"]: f for f in read(shipped / "tio2.extxyz", ":") if f.info.get("relaxed")}
    if missing := sorted(set(POLYMORPHS) - set(relaxed)):
        sys.exit(f"not relaxed yet: {', '.join(missing)}")
    out.mkdir(parents=True, exist_ok=True)
    save(out / "structures.extxyz", [make() for _, make in plan(relaxed)])


def run_relax(out: Path, names: list[str]) -> None:
    """Relax each polymorph (atoms and cell, symmetry kept) to 0.03 eV/Angstrom and keep every step as a label."""
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    (out / "relaxed").mkdir(parents=True, exist_ok=True)
    for name in names:
        path = out / "relaxed" / f"{name}.extxyz"
        if path.exists():
            continue
        atoms = parent(name)
        grid, steps = kpoints(atoms), []
        atoms.calc = gpaw_calculator(grid, None)
        atoms.set_constraint(FixSymmetry(atoms))

        def keep(atoms=atoms, name=name, grid=grid, steps=steps):
            frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
            frame.arrays["REF_forces"] = atoms.get_forces(apply_constraint=False)
            frame.info = {"frame_id": f"{name}-relax-{len(steps):02d}", "parent": name, "config_type": "relax",
                          "kpoints": list(grid), "made_by": "DFT relaxation", "REF_stress": atoms.get_stress(voigt=False),
                          "REF_energy": atoms.get_potential_energy(force_consistent=True), "calc_mode": CALC_MODE,
                          "code": f"GPAW {__import__('gpaw').__version__}", "settings_hash": SETTINGS_HASH}  # fmt: skip
            steps.append(frame)
            print(name, len(steps), round(frame.info["REF_energy"], 4), atoms.cell.cellpar().round(4), flush=True)

        relaxer = BFGS(FrechetCellFilter(atoms), logfile=None)
        relaxer.attach(keep)
        converged = relaxer.run(fmax=0.03, steps=30)
        steps[-1].info["relaxed"] = bool(converged)
        save(path, steps)


def run_collect(out: Path, to: Path) -> None:
    """Merge what is labelled into the two files that ship in the package."""
    frames = [f for p in sorted((out / "relaxed").glob("*.extxyz")) for f in read(p, ":")]
    frames += sorted(read(out / "labelled.extxyz", ":"), key=lambda f: f.info["frame_id"])
    for f in frames:
        f.calc = None
        f.info["REF_stress"] = np.array(f.info["REF_stress"], dtype=float).reshape(3, 3)
        f.info["settings_hash"] = SETTINGS_HASH
    to.mkdir(parents=True, exist_ok=True)
    path = to / "tio2.extxyz"
    write(path, frames, format="extxyz", write_results=False)
    kinds: dict[str, int] = {}
    for f in frames:
        key = f"{f.info['parent']} {f.info['config_type']}"
        kinds[key] = kinds.get(key, 0) + 1
    provenance = {
        "what": "TiO2: six polymorphs, relaxed, strained, displaced, heated; random structures (PBE)",
        "made_by": "scripts/tio2_starter.py",
        "licence": "CC0-1.0 (made by this project)",
        "calc_mode": CALC_MODE,
        "settings": SETTINGS,
        "settings_hash": SETTINGS_HASH,
        "code": sorted({f.info["code"] for f in frames}),
        "paw_datasets": "gpaw-data 1.2.1 (Ti.PBE, O.PBE)",
        "units": {"energy": "eV", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3, positive under tension"},
        "frames": len(frames),
        "frames_by_kind": kinds,
        "relaxed": {f.info["parent"]: f.info["frame_id"] for f in frames if f.info.get("relaxed")},
        "core_seconds": round(sum(f.info.get("seconds", 0.0) for f in frames), 0),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (to / "tio2.json").write_text(json.dumps(provenance, indent=1) + "\n")
    print(f"{len(frames)} frames -> {path} ({path.stat().st_size / 1e6:.2f} MB)")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["relax", "structures", "collect"])
    parser.add_argument("--out", type=Path, default=Path("runs/tio2"))
    parser.add_argument("--to", type=Path, default=Path("src/rutile/starter"))
    parser.add_argument("--polymorphs", nargs="*", default=list(POLYMORPHS), choices=list(POLYMORPHS))
    args = parser.parse_args()
    if args.step == "relax":
        run_relax(args.out, args.polymorphs)
    elif args.step == "structures":
        run_structures(args.out, args.to)
    else:
        run_collect(args.out, args.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
