"""Surface energies by Miller index, and the shape of a crystal in equilibrium.

    gamma = (E_slab - N E_bulk / N_bulk) / (2 A),

the mean of both sides of a slab with the composition of the crystal. Wulff's shape is the set of x with
n . x <= gamma(n) for every facet n; the energies of facets that symmetry makes equal are equal.

Sources: V. Fiorentini and M. Methfessel, J. Phys. Condens. Matter 8, 6525 (1996), doi:10.1088/0953-8984/8/36/005
(slabs); C. Herring, Phys. Rev. 82, 87 (1951), doi:10.1103/PhysRev.82.87 (shape). Letters of shapes: F facets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import spglib
import torch
from ase import Atoms
from scipy.spatial import HalfspaceIntersection

from rutile.build.guards import Known, measure
from rutile.build.slab import ALONG, EMPTY
from rutile.build.surface import Slab, miller_indices, slabs, with_vacuum
from rutile.core.elements import formula
from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.eos import require_crystals
from rutile.simulate.forces import evaluate_many
from rutile.simulate.relax import relax
from rutile.simulate.settings import SurfaceSettings
from rutile.simulate.start import relaxation
from rutile.structures.structures import Structures
from rutile.structures.symmetry import SYMPREC

Miller = tuple[int, int, int]
THICKER = 15.0
"""A slab may be so much thicker than asked for (Angstrom), until it has the composition of the crystal."""


@dataclass(frozen=True)
class Surface:
    """One termination."""

    crystal: int
    """Which of the given structures."""
    slab: Slab
    """As cut: index, lowest plane, whether both sides are alike."""
    area: float
    """Of one side (Angstrom^2)."""
    cut: float
    """Energy of the slab as cut (eV/Angstrom^2)."""
    energy: float
    """Relaxed (eV/Angstrom^2)."""
    relaxed: Structures
    """The slab at its minimum."""
    failure: str
    """What went wrong with its relaxation, or ""."""


@dataclass(frozen=True)
class Facet:
    """One face of a Wulff shape."""

    miller: Miller
    """One of the indices that symmetry makes equal: the one that was computed."""
    corners: np.ndarray
    """In order around it, in units of energy (eV/Angstrom^2), [M, 3]."""
    area: float
    """In those units squared."""


@dataclass(frozen=True)
class Wulff:
    """The shape of a crystal."""

    facets: tuple[Facet, ...]
    """Those that are there."""
    share: dict[Miller, float]
    """Part of the surface by index; 0 for those that are not there."""
    energy: float
    """Mean over the surface (eV/Angstrom^2)."""


def surface_energies(
    structures: Structures, potential: Potential, settings: SurfaceSettings, reporter: Reporter
) -> tuple[list[Atoms], list[Surface]]:
    """Conventional cells, and energies of all their surfaces; all slabs of all crystals are one batch.

    Args:
        structures: crystals at their minimum; `settings.relax` is the caller's.
        potential: gives energies and forces.
        settings: indices, thickness, vacuum.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not a crystal.
        SettingsError: no slab fits the settings.
    """
    require_crystals(structures, "a surface energy")
    crystals = [conventional(atoms) for atoms in structures.to_ase()]
    pieces = [(k, slab) for k, crystal in enumerate(crystals) for slab in cuts(crystal, settings)]
    bulk = evaluate_many(Structures.from_ase(crystals), potential, settings.atoms_at_once, reporter, "Crystals").energy
    per_atom = bulk / torch.tensor([len(c) for c in crystals])
    images = []
    for _, slab in pieces:
        image = with_vacuum(slab.atoms, settings.vacuum)
        image.pbc = True  # so that potentials with charges can be used
        images.append(image)
    batch = Structures.from_ase(images)
    if settings.inner == "atoms":
        done = relax(batch, potential, relaxation(settings), reporter)
        start, end, relaxed, why = done.start_energy, done.energy, done.structures, list(done.failure)
        for k in (~done.converged).nonzero().flatten().tolist():
            why[k] = why[k] or f"not relaxed after {int(done.steps[k])} steps"
    else:
        start = end = evaluate_many(batch, potential, settings.atoms_at_once, reporter, "Slabs").energy
        relaxed, why = batch, [""] * batch.n_systems
    areas = torch.linalg.cross(batch.cell[:, 0], batch.cell[:, 1]).norm(dim=1)
    base = per_atom[[k for k, _ in pieces]] * batch.counts
    cut, energy = ((e - base) / (2 * areas) for e in (start, end))
    return crystals, [
        Surface(k, slab, float(areas[n]), float(cut[n]), float(energy[n]), one, why[n])
        for n, ((k, slab), one) in enumerate(zip(pieces, relaxed.split(), strict=True))
    ]


def conventional(atoms: Atoms) -> Atoms:
    """The standardised conventional cell of a crystal.

    Raises:
        GeometryError: spglib finds none.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.standardize_cell(cell, to_primitive=False, symprec=SYMPREC)
    if found is None:
        raise GeometryError(f"no space group found for {formula(atoms.numbers)}: is it a crystal?")
    return Atoms(found[2], scaled_positions=found[1], cell=found[0], pbc=True)


def cuts(crystal: Atoms, settings: SurfaceSettings) -> list[Slab]:
    """Different terminations with the composition of the crystal.

    Raises:
        SettingsError: an index has none, or is (0, 0, 0).
    """
    out, known = [], Known()
    if (0, 0, 0) in settings.miller:
        raise SettingsError("miller: (0, 0, 0) is no surface; give indices such as (1, 1, 0)")
    for miller in settings.miller or miller_indices(crystal, settings.max_index):
        found = slabs(crystal, miller, (settings.thickness, settings.thickness + THICKER), "stoichiometric")
        if not found and settings.miller:
            raise SettingsError(
                f"miller={miller}: {formula(crystal.numbers)} has no slab of its composition up to "
                f"{settings.thickness + THICKER:g} Å thick; take another thickness"
            )
        out += [s for s in found if known.add(measure(with_vacuum(s.atoms, EMPTY)), ALONG)]
    return out


def wulff(crystal: Atoms, energies: Mapping[Miller, float]) -> Wulff:
    """The equilibrium shape.

    Args:
        crystal: the cell that the indices refer to.
        energies: lowest energy of each index (eV/Angstrom^2), positive; of those that symmetry makes equal one is
            enough.

    Raises:
        GeometryError: an energy is not positive, or the facets do not close.
    """
    if min(energies.values()) <= 0:
        raise GeometryError("a surface energy is not positive: the crystal gains energy by being cut")
    normals, owner = _normals(crystal, list(energies))
    gamma = np.array([energies[m] for m in owner])
    if np.linalg.matrix_rank(normals, tol=1e-6) < 3:
        raise GeometryError("these facets do not close a shape; take more Miller indices")
    corners = HalfspaceIntersection(np.hstack([normals, -gamma[:, None]]), np.zeros(3)).intersections
    facets = []
    for n, g, miller in zip(normals, gamma, owner, strict=True):
        mine = corners[np.abs(corners @ n - g) < 1e-7 * g]
        ring = _ring(mine, n)
        area = _area(ring, n)
        if area > 1e-6 * g**2:
            facets.append(Facet(miller, ring, area))
    whole = sum(f.area for f in facets)
    share = {m: sum(f.area for f in facets if f.miller == m) / whole for m in energies}
    return Wulff(tuple(facets), share, sum(share[m] * e for m, e in energies.items()))


def _normals(crystal: Atoms, indices: list[Miller]) -> tuple[np.ndarray, list[Miller]]:
    """Unit normals of all facets that symmetry makes equal to the indices, [F, 3], and to which each belongs."""
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    found = spglib.get_symmetry(cell, symprec=SYMPREC)
    turns = np.eye(3, dtype=int)[None] if found is None else found["rotations"]
    owner: dict[tuple[int, ...], Miller] = {}
    for miller in indices:
        for w in turns:
            turned = np.array(miller) @ w
            for sign in (1, -1):
                owner.setdefault(tuple((sign * turned).tolist()), miller)
    normals = np.array(list(owner)) @ np.linalg.inv(crystal.cell.array).T
    return normals / np.linalg.norm(normals, axis=1)[:, None], list(owner.values())


def _ring(points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Corners in order around a facet."""
    if len(points) < 3:
        return points
    x = points - points.mean(0)
    first = x[np.linalg.norm(x, axis=1).argmax()]
    angle = np.arctan2(x @ np.cross(normal, first), x @ first)
    return np.asarray(points[np.argsort(angle)])


def _area(ring: np.ndarray, normal: np.ndarray) -> float:
    """Of a polygon in order."""
    if len(ring) < 3:
        return 0.0
    return 0.5 * abs(float(np.cross(ring, np.roll(ring, -1, axis=0)).sum(0) @ normal))
