"""Write the structures that commands in docs/ name, into the folder where this is run.

python examples/structures.py
"""

from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.io import write
from ase.spacegroup import crystal


def structures() -> dict[str, Atoms | list[Atoms]]:
    """By name of the file."""
    hollow = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(hollow, "Au", 1.7, "hollow")
    hollow.info = {}
    hollow.center(axis=2, vacuum=4.0)
    hopped = hollow.copy()
    hopped.positions[-1, 0] += hopped.cell[0, 0] / 2
    ordered = [bulk("Cu", cubic=True, a=a) for a in (3.9, 3.75)]  # CuAu as L1_0, Cu3Au as L1_2
    ordered[0].symbols[[0, 1]] = "Au"
    ordered[1].symbols[0] = "Au"
    oxide = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.59, 4.59, 2.96, 90, 90, 90])
    framework = crystal(  # all-silica sodalite (SOD of the IZA)
        ["Si", "O"], [(0.25, 0.5, 0), (0.3534, 0.3534, 0)], spacegroup=229, cellpar=[8.965] * 3 + [90] * 3
    )
    return {
        "metals.extxyz": [bulk("Cu"), bulk("Al")],
        "molecules.extxyz": [molecule("H2O"), molecule("N2")],
        "phases.extxyz": [bulk("Cu"), bulk("Au"), *ordered],
        "ar.cif": bulk("Ar", a=5.26, cubic=True),
        "al.cif": bulk("Al", cubic=True),
        "cu.cif": bulk("Cu", cubic=True),
        "copper.cif": bulk("Cu", cubic=True).repeat(2),
        "tio2.cif": oxide,
        "sodalite.cif": framework,
        "start.extxyz": hollow,
        "end.extxyz": hopped,
    }


if __name__ == "__main__":
    for name, images in structures().items():
        each = images if isinstance(images, list) else [images]
        write(name, [Atoms(a.numbers, positions=a.positions, cell=a.cell, pbc=a.pbc) for a in each])
