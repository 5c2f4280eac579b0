"""Hypothesis strategies for structures and labelled frames, and the seeded generators below them.

Everything that hypothesis draws is a small integer or a choice, so examples shrink well and are the same on every
machine. `DETERMINISTIC` are the settings for continuous integration: no example database, no random start, no clock.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import hypothesis
import numpy as np
import torch
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from rutile.core.seeds import stream
from rutile.data.frames import Frame
from rutile.structures.structures import Structures

EXAMPLES = int(os.environ.get("RUTILE_EXAMPLES", "4"))
"""Examples for each property; more for a thorough search by hand: `RUTILE_EXAMPLES=200 pytest ...`."""
DETERMINISTIC = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # examples are small from the start: nothing to shrink
)
"""Decorate property tests with this."""
PBC = ((True, True, True), (True, True, False), (False, True, False), (False, False, False))
"""Bulk, slab, wire and molecule."""


def random_structure(
    seed: int,
    numbers: Sequence[int],
    *,
    pbc: tuple[bool, bool, bool] = (True, True, True),
    volume_per_atom: float = 13.0,
    closest: float = 1.4,
) -> Structures:
    """Atoms at random in a skewed cell, none closer than about `closest` (Angstrom).

    Args:
        seed: same seed, same structure.
        numbers: atomic numbers, [N].
        pbc: periodic directions; others keep a cell vector.
        volume_per_atom: Angstrom^3.
        closest: smallest distance between atoms and images; relaxed by 5 % whenever 200 trials in a row fail.
    """
    random = stream(seed, "structure")
    edge = (volume_per_atom * max(len(numbers), 1)) ** (1 / 3)
    cell = edge * (np.eye(3) + random.uniform(-0.15, 0.15, (3, 3)))
    images = np.array(np.meshgrid(*[[-1, 0, 1] if p else [0] for p in pbc])).reshape(3, -1).T @ cell
    points = np.zeros((0, 3))
    failures = 0
    while len(points) < len(numbers):
        trial = random.uniform(0, 1, 3) @ cell
        near = np.linalg.norm((points[:, None] + images[None]) - trial, axis=-1)
        if near.size and near.min() < closest * 0.95 ** (failures // 200):
            failures += 1
            continue
        points = np.vstack([points, trial])
    return Structures.from_arrays(np.array(numbers, dtype=np.int64), points, cell, np.array(pbc))


def random_crystal(seed: int, elements: Sequence[int] = (8, 22), n_atoms: int = 6) -> Structures:
    """A small triclinic crystal with every element in it (in turn)."""
    return random_structure(seed, [elements[k % len(elements)] for k in range(n_atoms)])


def random_rotation(seed: int) -> torch.Tensor:
    """A rotation, improper for odd seeds, [3, 3] float64."""
    q, r = np.linalg.qr(stream(seed, "rotation").normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= (-1 if seed % 2 else 1) * np.sign(np.linalg.det(q))
    return torch.from_numpy(q)


def seeds() -> SearchStrategy[int]:
    """Seeds of the generators above."""
    return st.integers(0, 9999)


@st.composite
def structures(
    draw: st.DrawFn,
    elements: Sequence[int] = (8, 22),
    max_atoms: int = 8,
    pbc: Sequence[tuple[bool, bool, bool]] = PBC,
) -> Structures:
    """One structure of 1 to `max_atoms` atoms with any of the periodicities."""
    numbers = draw(st.lists(st.sampled_from(list(elements)), min_size=1, max_size=max_atoms))
    return random_structure(draw(seeds()), numbers, pbc=draw(st.sampled_from(list(pbc))))


@st.composite
def frames(draw: st.DrawFn, elements: Sequence[int] = (8, 22), max_atoms: int = 8) -> Frame:
    """One frame with any subset of labels (random numbers), group and calc mode."""
    one = draw(structures(elements, max_atoms))
    random = stream(draw(seeds()), "labels")
    n = one.n_atoms
    forces, stress = random.normal(size=(n, 3)), random.normal(size=(3, 3)) * 0.01
    return Frame(
        one.numbers.numpy(),
        one.positions.numpy(),
        one.cell[0].numpy(),
        one.pbc[0].numpy(),
        energy=draw(st.sampled_from([None, -7.5 * n + float(random.normal())])),
        forces=forces if draw(st.booleans()) else None,
        stress=stress + stress.T if bool(one.pbc.all()) and draw(st.booleans()) else None,
        group=draw(st.sampled_from(["", "bulk", "rattled"])),
        calc_mode=draw(st.sampled_from(["", "PBE"])),
    )
