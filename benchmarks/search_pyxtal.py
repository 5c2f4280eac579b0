"""Random TiO2 crystals by PyXtal, in an environment of its own; see search_crystals.py.

    python benchmarks/search_pyxtal.py UNITS SEED COUNT FILE

needs `pip install pyxtal`, not rutile: COUNT crystals with a random space group and UNITS formula units in the
primitive cell, to FILE.
"""

from __future__ import annotations

import random
import sys

import numpy as np
from ase.io import write
from pyxtal import pyxtal


def main(units: int, seed: int, count: int, file: str) -> None:
    """The crystals."""
    random.seed(seed)
    np.random.seed(seed)
    made = []
    while len(made) < count:
        crystal = pyxtal()
        try:
            crystal.from_random(
                3, random.randint(1, 230), ["Ti", "O"], [units, 2 * units], random_state=random.randrange(2**31)
            )
        except Exception:
            continue  # PyXtal says in many ways that atoms do not fit a group
        if crystal.valid:
            atoms = crystal.to_pymatgen().get_primitive_structure().to_ase_atoms()
            if len(atoms) == 3 * units:
                made.append(atoms)
    write(file, [a.__class__(a.numbers, positions=a.positions, cell=a.cell, pbc=True) for a in made])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
