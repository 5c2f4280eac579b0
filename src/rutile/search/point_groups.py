"""Point groups of molecules and clusters, and atoms at random on their orbits.

A site is a random point, moved onto what up to two random operations leave in place, with all its images; so axes,
planes and the centre come up without tables of them.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from rutile.build.recipe import Refused

SAME = 1e-6
"""Points nearer than this (in units of the cluster's radius) are one."""
TRIES = 60
"""Random sites that are tried."""
STARTS = 10
"""How often that is begun anew."""
RARELY = 0.95
"""How often an atom at the centre is refused where the number of atoms is even."""
SPECIAL = (0.75, 0.15, 0.1)
"""How often 0, 1 or 2 operations are to leave a point in place."""
SMALL = (0.2, 0.4, 0.4)
"""The same where a general orbit has too many points."""
NAMES = (
    "C2", "C3", "C4", "C5", "Cs", "Ci", "S4", "S6", "C2v", "C3v", "C4v", "C5v", "C6v", "C2h", "C3h", "D2", "D3", "D4",
    "D5", "D6", "D2h", "D3h", "D4h", "D5h", "D6h", "D2d", "D3d", "D4d", "D5d", "T", "Td", "Th", "O", "Oh", "I", "Ih",
)  # fmt: skip
"""Those that are drawn from."""
NAMED = (*NAMES, "C6", "C4h", "C5h", "C6h", "S8", "S10", "D6d")
"""Those that are recognised."""
_INVERSION = -np.eye(3)
_MIRROR_Z = np.diag([1.0, 1.0, -1.0])
_MIRROR_X = np.diag([-1.0, 1.0, 1.0])
_TURN_X = np.diag([1.0, -1.0, -1.0])


@cache
def point_group(name: str) -> np.ndarray:
    """Its operations as matrices [M, 3, 3]; the principal axis is z (cubic and icosahedral groups: their own axes)."""
    return _closed(_generators(name))


def random_point_group(rng: np.random.Generator) -> np.ndarray:
    """One of NAMES, with a weight of the logarithm of its order: the higher ones leave less to chance."""
    weight = np.log([len(point_group(name)) for name in NAMES])
    return point_group(NAMES[int(rng.choice(len(NAMES), p=weight / weight.sum()))])


def _generators(name: str) -> list[np.ndarray]:
    if name in ("T", "Td", "Th", "O", "Oh", "I", "Ih"):
        return _high(name)
    if name in ("Cs", "Ci"):
        return [_MIRROR_Z if name == "Cs" else _INVERSION]
    n, kind, end = int(name[1]), name[0], name[2:]
    if kind == "S":
        return [_turn(n) @ _MIRROR_Z]
    out = [_turn(n)]
    if kind == "D":
        out.append(_TURN_X)
    if end == "v":
        out.append(_MIRROR_X)
    if end == "h":
        out.append(_MIRROR_Z)
    if end == "d":
        out.append(_turn(2 * n) @ _MIRROR_Z)
    return out


def _high(name: str) -> list[np.ndarray]:
    """Tetrahedral, cubic and icosahedral groups."""
    three = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    if name[0] == "I":
        golden = (1 + np.sqrt(5)) / 2
        five = Rotation.from_rotvec(2 * np.pi / 5 * np.array([0, 1, golden]) / np.hypot(1, golden)).as_matrix()
        return [three, five] + ([_INVERSION] if name == "Ih" else [])
    two = np.diag([-1.0, -1.0, 1.0])
    more = {"T": [], "Td": [np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])], "Th": [_INVERSION]}
    if name in more:
        return [three, two, *more[name]]
    return [three, _turn(4)] + ([_INVERSION] if name == "Oh" else [])


def _turn(n: int) -> np.ndarray:
    """By 1/n of a full turn about z."""
    return np.asarray(Rotation.from_rotvec([0, 0, 2 * np.pi / n]).as_matrix())


def _closed(generators: list[np.ndarray]) -> np.ndarray:
    """All products."""
    group = [np.eye(3)]
    for one in group:  # grows while it is walked through
        for g in generators:
            product = one @ g
            if all(np.abs(product - known).max() > 1e-8 for known in group):
                group.append(product)
    return np.array(group)


def orbits(group: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points in the unit ball on whole orbits, [count, 3].

    Raises:
        Refused: the sizes of the orbits that came up do not add up to the count.
    """
    for _ in range(STARTS):
        places: list[np.ndarray] = []
        left = count
        for _ in range(TRIES):
            if not left:
                return np.concatenate(places)
            x = _special(group, rng, SPECIAL if left >= len(group) else SMALL)
            if left % 2 == 0 and np.linalg.norm(x) < SAME and rng.random() < RARELY:
                continue  # most groups have an even number of atoms elsewhere
            taken = np.concatenate(places) if places else np.full((1, 3), np.inf)
            if _images(group, x) <= left and np.linalg.norm(taken - x, axis=1).min() > SAME:
                places.append(orbit(group, x))
                left -= len(places[-1])
    raise Refused("orbits do not add up")


def _images(group: np.ndarray, x: np.ndarray) -> int:
    """Points on the orbit: order of the group over the number of operations that leave the point in place."""
    return len(group) // int((np.linalg.norm(group @ x - x, axis=1) < SAME).sum())


def _special(group: np.ndarray, rng: np.random.Generator, often: tuple[float, ...]) -> np.ndarray:
    """A random point of the unit ball, moved onto what up to two random operations leave in place."""
    x = rng.normal(size=3)
    x *= rng.random() ** (1 / 3) / np.linalg.norm(x)
    chosen = group[rng.integers(len(group), size=int(rng.choice(3, p=often)))]
    if not len(chosen):
        return x
    moves = np.concatenate([w - np.eye(3) for w in chosen])
    _, sizes, rows = np.linalg.svd(moves)
    still = rows[np.sum(sizes > 1e-8) :]
    return np.asarray(still.T @ (still @ x))


def orbit(group: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A point and its images, each once."""
    images = group @ x
    apart = np.linalg.norm(images[:, None] - images[None], axis=2)
    return np.asarray(images[(apart < SAME).argmax(1) == np.arange(len(images))])


def point_group_of(atoms: Atoms, tolerance: float = 0.05) -> str:
    """Point group of a cluster (Schoenflies), "order n" for one without a name here; "" for atoms in one line.

    Args:
        atoms: not periodic.
        tolerance: how far atoms may be from their images (Angstrom).
    """
    x = atoms.positions - atoms.positions.mean(0)
    found = operations_of(x, atoms.numbers, tolerance)
    if not len(found):
        return ""
    if len(found) == 1:
        return "C1"
    mark = _signature(found)
    return next((name for name in NAMED if _signature(point_group(name)) == mark), f"order {len(found)}")


def operations_of(x: np.ndarray, numbers: np.ndarray, tolerance: float) -> np.ndarray:
    """Rotations and improper rotations that map centred positions [N, 3] onto themselves, [M, 3, 3]; M = 0: in line."""
    radius = np.linalg.norm(x, axis=1)
    like = (np.abs(radius[:, None] - radius) < tolerance) & (numbers[:, None] == numbers)
    off = np.flatnonzero(radius > 4 * tolerance)
    order = off[np.argsort(like[off].sum(1), kind="stable")]
    first = next(iter(order), None)
    if first is None:
        return np.zeros((0, 3, 3))
    across = np.linalg.norm(np.cross(x, x[first]), axis=1) / radius[first]
    second = next((int(k) for k in order if across[k] > 0.2 * radius[k]), None)
    if second is None:
        return np.zeros((0, 3, 3))
    frame, out = _frame(x[first], x[second]), []
    length = np.linalg.norm(x[first] - x[second])
    tree = cKDTree(x)
    for a in np.flatnonzero(like[first]):
        for b in np.flatnonzero(like[second] & (np.abs(np.linalg.norm(x - x[a], axis=1) - length) < 2 * tolerance)):
            for mirror in (1.0, -1.0):
                w = (_frame(x[a], x[b]) * [1.0, 1.0, mirror]) @ frame.T
                away, at = tree.query(x @ w.T)
                if away.max() < 3 * tolerance and (numbers[at] == numbers).all():
                    out.append(w)
    return np.array(out)


def _frame(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Columns: along a, towards b normal to a, and normal to both."""
    u = a / np.linalg.norm(a)
    v = b - (b @ u) * u
    v /= np.linalg.norm(v)
    return np.stack([u, v, np.cross(u, v)], axis=1)


def _signature(group: np.ndarray) -> Counter[tuple[int, int]]:
    """How many operations are proper or not, and turn by which angle: tells the named groups apart."""
    sign = np.sign(np.linalg.det(group))
    cosine = np.clip((np.trace(group, axis1=1, axis2=2) * sign - 1) / 2, -1, 1)
    angle = np.rint(np.degrees(np.arccos(cosine)) / 2).astype(int)
    return Counter(zip(sign.astype(int).tolist(), angle.tolist(), strict=True))
