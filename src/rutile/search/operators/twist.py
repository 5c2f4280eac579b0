"""One half of a cluster is turned against the other."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.rotation import turned


def twist(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """About a random axis through the centre, by a random angle; what lies above a plane near the centre turns."""
    del breed
    child: Atoms = parents[0].copy()
    if len(child) < 4:
        raise Refused("too few atoms to turn")
    x = turned(child.positions, rng)
    above = x[:, 2] > rng.uniform(-0.3, 0.3) * np.abs(x[:, 2]).max()
    if above.all() or not above.any():
        raise Refused("nothing to turn")
    angle = rng.uniform(0.3, 2 * np.pi - 0.3)
    c, s = np.cos(angle), np.sin(angle)
    x[above, :2] = x[above, :2] @ np.array([[c, s], [-s, c]])
    child.positions = x
    return child


OPERATOR = Operator("twist", 1, twist)
