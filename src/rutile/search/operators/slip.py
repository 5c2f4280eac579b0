"""A part of a crystal slips along a plane, or all of it waves: ripple and shear.

Source of the ripple: D. C. Lonie and E. Zurek, Comput. Phys. Commun. 182, 372 (2011), doi:10.1016/j.cpc.2010.07.048.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator

WAVE = (0.1, 0.4)
"""Height of the wave in units of the distance of neighbours is drawn between these."""


def slip(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Half of the time the atoms above a plane move by a random vector in it; else they are moved by a wave.

    Raises:
        Refused: all atoms are on one side of the plane.
    """
    child: Atoms = parents[0].copy()
    axis, along = (int(k) for k in rng.permutation(3)[:2])
    x = child.get_scaled_positions()
    if rng.random() < 0.5:
        above = (x[:, axis] - rng.random()) % 1.0 < rng.uniform(0.25, 0.75)
        if above.all() or not above.any():
            raise Refused("all atoms on one side of the plane")
        move = rng.random(3)
        move[axis] = 0
        x[above] += move
    else:
        height = rng.uniform(*WAVE) * breed.distance / np.linalg.norm(child.cell.array[along])
        times = int(rng.integers(1, 3))
        x[:, along] += height * np.cos(2 * np.pi * (times * x[:, axis] + rng.random()))
    child.set_scaled_positions(x)
    return child


OPERATOR = Operator("slip", 1, slip)
