"""Small frames with every combination of present and absent labels."""

import numpy as np

from rutile.data.frames import Frame


def some_frames(n=12, seed=0, elements=(8, 22), smallest=1):
    """n different frames of `smallest` to 7 atoms; every third lacks forces, fourth stress, fifth the energy."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(n):
        size = int(rng.integers(smallest, 8))
        stress = rng.normal(size=(3, 3))
        out.append(
            Frame(
                numbers=rng.choice(elements, size).astype(np.int64),
                positions=rng.normal(size=(size, 3)) * 3,
                cell=np.eye(3) * 5 + rng.normal(size=(3, 3)) * 0.1 if k % 2 else np.zeros((3, 3)),
                pbc=np.array([k % 2 == 1] * 3),
                energy=None if k % 5 == 4 else float(rng.normal()),
                forces=None if k % 3 == 2 else rng.normal(size=(size, 3)),
                stress=None if k % 4 == 3 else stress + stress.T,
                group=("bulk", "molecule", "Fläche")[k % 3],
                calc_mode=("PBE", "PBE+U")[k % 2],
                weight=1.0 + k % 2,
                source=f"data {k % 3}.extxyz#{k}",
            )
        )
    return out
