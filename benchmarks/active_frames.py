"""Pool and test structures of active_against_random.py, which says what they are; does nothing when run itself.

Everything is made and labelled by rutile (`rutile generate`, `rutile label`), except the snapshots of molecular
dynamics of crystals, which ASE's Langevin thermostat makes on the rigid-ion potential.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from rutile.build.forces_settings import RigidIonForces
from rutile.build.plan import images
from rutile.cli.terminal import RichReporter
from rutile.core.seeds import integer, stream
from rutile.structures.io import iterate, write_frames
from rutile.tasks import generate, label
from rutile.tasks.forces import calculator

COMMON, RARE, TEST = 300, 75, 50
"""Structures of each common and each rare kind in the pool, and of each kind in the test set."""
VOLUME = {"rutile": 10.4, "anatase": 11.35, "brookite": 10.72}
"""Of the crystals at rest (Angstrom^3/atom)."""
CELLS = {"rutile": (2, 1, 2), "anatase": (2, 1, 1), "brookite": (1, 1, 1)}
"""Repeats of the conventional cells: 24 atoms each."""
TEMPERATURES, SCALES, HOT = (300.0, 600.0, 1000.0), (0.985, 1.015), 2500.0
"""Of the dynamics of crystals (K), and of all lengths."""
STEP, SETTLING, APART = 2.0, 100, 5
"""Time step (fs), steps before the first snapshot, steps between snapshots."""
MOLECULES = {
    "alcohol, ether": ("CH3CH2OH", "CH3OCH3"),
    "acid, ketone": ("CH3COOH", "CH3COCH3"),
    "hydrocarbons": ("C6H6", "C3H8"),
}
OTHERS = ("C4H4O", "OCHCHO", "CH2OCH2", "HCOOCH3", "C2H2", "H2CCO")
KINDS = {
    "tio2": ("rutile", "anatase", "brookite", "hot", "melt", "slab", "other crystals"),
    "molecules": (*MOLECULES, "hot", "turned", "stretched", "other molecules"),
}
"""The first three are common, the others rare."""


def labelled(system: str, side: str, folder: Path, python: str) -> Path:
    """File of the labelled structures of a system, made where it is not there yet.

    Args:
        system: tio2 or molecules.
        side: pool or test.
        folder: where files are kept.
        python: interpreter that has tblite; "" for this one.
    """
    bare, out = folder / f"{system}_{side}.extxyz", folder / f"{system}_{side}_labelled.extxyz"
    if not bare.exists():
        counts = (COMMON, RARE) if side == "pool" else (TEST, TEST)
        write_frames(bare, tio2(*counts, side, folder) if system == "tio2" else molecules(*counts, side, folder))
    if not out.exists():
        engine = {"name": "rigid_ion"} if system == "tio2" else {"name": "xtb", "python": python}
        settings = label.LabelSettings.model_validate(
            {"structures": [bare], "engine": engine, "out": out, "cache": folder / "labels"}
        )
        with RichReporter() as reporter:
            label.run(settings, reporter)
    return out


def tio2(common: int, rare: int, side: str, folder: Path) -> list[Atoms]:
    """Crystals in motion; hot ones, melts, slabs, and other crystals."""
    out = [a for name in VOLUME for a in crystal_motion(name, common, side, folder)]
    hot = [a for name in VOLUME for a in motion(cell(name, folder), HOT, rare // 3 + 1, side, f"hot {name}")]
    crystals = {"elements": ["Ti", "O"], "volume": 10.8}
    steps = [
        {"name": "disorder", "label": "melt", "formulas": ["TiO2"], "volume": 10.8, "atoms": [24, 24],
         "density": [0.8, 1.1], "count": rare, "melt": {"forces": {"name": "rigid_ion"}, "time": 300,
         "quench_time": 300, "timestep": 1.5, "snapshots": 10}},
        {"name": "slab", "crystals": crystals | {"prototypes": ["rutile", "anatase"]}, "count": rare, "atoms": 36,
         "thickness": [5, 8], "terminations": "stoichiometric", "missing_rows": 0, "steps": 0},
        {"name": "bulk", "label": "other crystals", "count": rare, "atoms": 24,
         "crystals": crystals | {"prototypes": ["columbite", "fluorite", "pyrite", "cadmium_iodide"]}},
    ]  # fmt: skip
    made = generated(steps, side, folder)
    for atoms in made:
        atoms.pbc = True  # of slabs, which have vacuum: the rigid-ion potential knows no other boundaries
    return [*out, *hot[:rare], *made]


def cell(name: str, folder: Path) -> Atoms:
    """A crystal at rest, 24 atoms."""
    source = {"elements": ["Ti", "O"], "prototypes": [name], "volume": VOLUME[name]}
    path = folder / f"{name}.extxyz"
    if not path.exists():
        run_plan([{"name": "bulk", "crystals": source, "count": 1}], 0, path)
    first: Atoms = next(images(path)).repeat(CELLS[name])
    return first


def crystal_motion(name: str, count: int, side: str, folder: Path) -> list[Atoms]:
    """Snapshots at all temperatures and scales."""
    runs = [(t, s) for t in TEMPERATURES for s in SCALES]
    each, out = -(-count // len(runs)), []
    for temperature, scale in runs:
        start = cell(name, folder)
        start.set_cell(start.cell * scale, scale_atoms=True)
        out.append(motion(start, temperature, each, side, name, scale))
    return [a for several in zip(*out, strict=True) for a in several][:count]


def motion(start: Atoms, temperature: float, count: int, side: str, name: str, scale: float = 1.0) -> list[Atoms]:
    """Snapshots of a Langevin dynamics."""
    rng = stream(0, "motion", side, name, temperature, scale)
    atoms = start.copy()
    atoms.calc = calculator(RigidIonForces())
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    md = Langevin(atoms, STEP * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False)
    md.run(SETTLING)
    out = []
    for _ in range(count):
        md.run(APART)
        made = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        made.info["config_type"] = name.split()[0]
        out.append(made)
    return out


def molecules(common: int, rare: int, side: str, folder: Path) -> list[Atoms]:
    """Molecules displaced along their normal modes; hot ones, with turned and stretched bonds, and other molecules."""
    usual = [name for names in MOLECULES.values() for name in names]

    def step(title: str, count: int, names: tuple[str, ...], spans: tuple[float, float], **more: Any) -> dict[str, Any]:
        modes = {"forces": {"name": "xtb"}, "temperature": spans}
        return {"name": "molecule", "label": title.replace(" ", "_"), "count": count, "molecules": {"names": names},
                "modes": modes} | more  # fmt: skip

    return generated(
        [
            *(step(title, common, names, (300, 600)) for title, names in MOLECULES.items()),
            step("hot", rare, tuple(usual), (1500, 2500)),
            step("turned", rare, tuple(usual), (300, 600), torsions=1),
            step("stretched", rare, tuple(usual), (300, 600), stretched=1, stretch=(0.8, 1.5)),
            step("other molecules", rare, OTHERS, (300, 1000)),
        ],
        side,
        folder,
    )


def generated(steps: list[dict[str, Any]], side: str, folder: Path) -> list[Atoms]:
    """Structures of a plan of builders; test structures from another seed."""
    path = folder / f"{steps[-1]['name']}_{side}_built.extxyz"
    if not path.exists():
        for one in steps:
            one["label"] = one.get("label", one["name"]).replace(" ", "_")
        run_plan(steps, integer(0, side) % 2**31, path)
    return list(images(path))


def run_plan(steps: list[dict[str, Any]], seed: int, path: Path) -> None:
    """`rutile generate`."""
    settings = generate.GenerateSettings.model_validate({"steps": steps, "seed": seed, "out": path})
    with RichReporter() as reporter:
        generate.run(settings, reporter)


def kinds(path: Path) -> Iterator[str]:
    """Kind of each labelled structure, "" of isolated atoms."""
    for atoms in iterate(path):
        name = str(atoms.info["config_type"]).replace("_", " ")
        yield "" if name == "isolated atom" else name


def counts(path: Path) -> dict[str, int]:
    """Structures of each kind."""
    names, found = np.unique(list(kinds(path)), return_counts=True)
    return dict(zip(names.tolist(), found.tolist(), strict=True))
