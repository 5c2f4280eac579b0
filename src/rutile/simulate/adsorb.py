"""Adsorption energies of molecules on slabs.

    E_ads = E(slab with molecules) - E(slab) - sum of the references of the molecules,

negative where they are bound. Slabs and molecules are relaxed first; molecules are put on every place of the relaxed
slabs that symmetry does not make equal, in several poses, and all these structures relax together. What ended at the
same minimum is one. Of several molecules on one slab, combinations of their minima alone (and of their images by the
symmetry of the slab) are relaxed, and the energy of interaction is

    E_int = E_ads(together) - sum of E_ads(alone, at the lowest minimum).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.guards import Known, measure
from rutile.build.placing import poses, put
from rutile.build.sites import Sites, sites_of
from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import Reporter
from rutile.core.seeds import stream
from rutile.simulate.adsorb_settings import AdsorbSettings
from rutile.simulate.adsorbates import DESORBED, Fate, fates, same_surroundings, surroundings
from rutile.simulate.combined import combinations
from rutile.simulate.minima import Minimum, Relaxer
from rutile.simulate.references import Reference, reference_of
from rutile.structures.structures import Structures

SPLIT = 5.0
"""A wider gap between atoms (Angstrom) than that above them, in a periodic cell, is vacuum."""
ROOM = 5.0
"""A slab in a periodic cell has at least so much vacuum above it (Angstrom)."""


@dataclass(frozen=True)
class Slab:
    """A slab to put molecules on."""

    name: str
    """For people."""
    atoms: Atoms
    """Its first two cell vectors lie in the plane of x and y."""
    fixed: np.ndarray
    """Atoms that stay, [N] bool."""


@dataclass(frozen=True)
class Adsorbed:
    """One minimum."""

    slab: int
    """Number of the slab."""
    what: tuple[int, ...]
    """Numbers of the adsorbates."""
    end: Minimum
    """The structure: slab, and adsorbates behind it."""
    starts: tuple[str, ...]
    """Sites and poses from which it was reached."""
    fates: tuple[Fate, ...]
    """What became of each adsorbate."""
    moved: float
    """Largest displacement of an atom of the slab, from the relaxed slab alone (Angstrom)."""

    @property
    def stays(self) -> bool:
        """Whether this is a minimum, and no molecule has desorbed."""
        return not self.end.failure and all(f.state != DESORBED for f in self.fates)


@dataclass(frozen=True)
class Adsorption:
    """Everything that was found."""

    names: tuple[str, ...]
    """Of the adsorbates."""
    slabs: tuple[Minimum, ...]
    """Relaxed, alone."""
    molecules: dict[str, Minimum]
    """Of the references."""
    references: tuple[Reference, ...]
    """Of each adsorbate."""
    sites: tuple[Sites, ...]
    """Of each slab."""
    found: tuple[Adsorbed, ...]
    """Minima; of each slab and each set of adsorbates the lowest first."""
    tried: int
    """Structures that were relaxed to find them."""

    def energies(
        self, ends: Sequence[float], slabs: Sequence[float], molecules: Mapping[str, float]
    ) -> tuple[list[float], list[float | None]]:
        """Energies of adsorption, and of interaction where there are several adsorbates (eV), by total energies (eV).

        Args:
            ends: of what was found.
            slabs: of the slabs alone.
            molecules: of the molecules of the references.
        """
        zero = [ref.energy(molecules) for ref in self.references]
        bound = [e - slabs[f.slab] - sum(zero[k] for k in f.what) for e, f in zip(ends, self.found, strict=True)]
        alone: dict[tuple[int, int], float] = {}
        for f, e in zip(self.found, bound, strict=True):
            if len(f.what) == 1 and f.stays:
                alone.setdefault((f.slab, f.what[0]), e)
        between = [
            e - sum(alone[f.slab, k] for k in f.what) if len(f.what) > 1 else None
            for f, e in zip(self.found, bound, strict=True)
        ]
        return bound, between


def adsorb(
    slabs: Sequence[Slab],
    adsorbates: Mapping[str, Atoms],
    settings: AdsorbSettings,
    relaxed: Relaxer,
    reporter: Reporter,
) -> Adsorption:
    """Minima of molecules on slabs, alone and together.

    Args:
        slabs: to put them on.
        adsorbates: by name.
        settings: where they are put, and what energies count from.
        relaxed: relaxes the structures of a stage.
        reporter: told what cannot be done.

    Raises:
        GeometryError: a slab does not lie in the plane of x and y, stands across the cell, or has no vacuum.
        SettingsError: a reference or a set of adsorbates makes no sense.
    """
    for slab in slabs:
        _require_surface(slab)
    names = tuple(adsorbates)
    sets = dict.fromkeys(tuple(sorted(_number(names, n, one) for n in one)) for one in settings.together)
    pairs = [reference_of(n, a, settings.reference, settings.references) for n, a in adsorbates.items()]
    molecules = {n: a for _, found in pairs for n, a in found.items()} | dict(adsorbates)
    start = [s.atoms for s in slabs] + list(molecules.values())
    fixed = [s.fixed for s in slabs] + [np.zeros(len(a), dtype=bool) for a in molecules.values()]
    alone = relaxed("alone", [Structures.from_ase(a) for a in start], fixed)
    clean = alone[: len(slabs)]
    whole = dict(zip(molecules, alone[len(slabs) :], strict=True))
    for name, one in [(s.name, m) for s, m in zip(slabs, clean, strict=True)] + list(whole.items()):
        if one.failure:
            reporter.warn(f"{name} alone: {one.failure}")
    places = [sites_of(one.atoms, settings.sites, settings.depth) for one in clean]
    search = _Search(slabs, clean, places, [whole[n].atoms for n in names], settings, relaxed)
    found = search.alone()
    for several in sets:
        found += search.together(several, found, reporter)
    references = tuple(ref for ref, _ in pairs)
    return Adsorption(names, tuple(clean), whole, references, tuple(places), tuple(found), search.tried)


class _Search:
    """The structures that are tried, and what they become."""

    def __init__(
        self,
        slabs: Sequence[Slab],
        clean: Sequence[Minimum],
        places: Sequence[Sites],
        molecules: Sequence[Atoms],
        settings: AdsorbSettings,
        relaxed: Relaxer,
    ) -> None:
        self.slabs, self.places, self.molecules = slabs, places, molecules
        self.clean = [one.atoms for one in clean]
        self.settings, self.relaxed = settings, relaxed
        self.tried = 0

    def alone(self) -> list[Adsorbed]:
        """Minima of one adsorbate on each slab."""
        drafts = []
        for s, slab in enumerate(self.clean):
            for m, molecule in enumerate(self.molecules):
                known = Known()
                rng = stream(self.settings.seed, "starts", s, m)
                for site in self.places[s].different:
                    for pose in poses(molecule, self.settings.tilts, self.settings.turns):
                        for height in self.settings.heights or (None,):
                            x = put(slab, site, pose, molecule.numbers, height)
                            made = slab + Atoms(molecule.numbers, positions=x)
                            if known.add(measure(made), made.pbc):
                                made.positions[len(slab) :] += self.settings.shift * _direction(rng)
                                drafts.append((s, (m,), made, ", ".join(t for t in (site.name, pose.name) if t)))
        return self._settled("adsorbed", drafts)

    def together(self, what: tuple[int, ...], found: Sequence[Adsorbed], reporter: Reporter) -> list[Adsorbed]:
        """Minima of several adsorbates on each slab, from those alone."""
        drafts = []
        for s, slab in enumerate(self.clean):
            mine = [[f for f in found if f.slab == s and f.what == (k,) and f.stays] for k in what]
            if not all(mine):
                reporter.warn(f"{self.slabs[s].name}: not every one of the adsorbates stays on it alone")
                continue
            n = len(slab)
            choices = [[(f.end.atoms[n:], f.fates[0].site) for f in fs[: self.settings.minima]] for fs in mine]
            made = combinations(slab, choices, self.settings.combinations, self.settings.seed)
            if not made:
                reporter.warn(f"{self.slabs[s].name}: no room for all adsorbates; take a larger surface")
            drafts += [(s, what, atoms, name) for atoms, name in made]
        return self._settled("together " + "-".join(map(str, what)), drafts) if drafts else []

    def _settled(self, stage: str, drafts: Sequence[tuple[int, tuple[int, ...], Atoms, str]]) -> list[Adsorbed]:
        """Relaxed; equal ones are one; lowest first."""
        self.tried += len(drafts)
        fixed = [
            np.concatenate([self.slabs[s].fixed, np.zeros(len(made) - len(self.clean[s]), dtype=bool)])
            for s, _, made, _ in drafts
        ]
        ends = self.relaxed(stage, [Structures.from_ase(made) for _, _, made, _ in drafts], fixed)
        every = [self._seen(d, end) for d, end in zip(drafts, ends, strict=True)]
        order = sorted(every, key=lambda f: (f.slab, f.what, bool(f.end.failure), f.end.energy))
        return _merged(order, [len(a) for a in self.clean], self.settings.same)

    def _seen(self, draft: tuple[int, tuple[int, ...], Atoms, str], end: Minimum) -> Adsorbed:
        """What became of one structure."""
        s, what, _, start = draft
        final, clean = end.atoms, self.clean[s]
        molecules = [self.molecules[k] for k in what]
        became = fates(final, molecules, self.places[s], self.settings.desorbed)
        moved = np.linalg.norm(final.positions[: len(clean)] - clean.positions, axis=1).max()
        return Adsorbed(s, what, end, (start,), tuple(became), float(moved))


def _merged(order: Sequence[Adsorbed], sizes: Sequence[int], same: float) -> list[Adsorbed]:
    """One for all that are the same minimum, in order; those that failed stay as they are."""
    out: list[Adsorbed] = []
    seen: list[dict[tuple[int, int], np.ndarray]] = []
    for one in order:
        around = surroundings(one.end.atoms, sizes[one.slab])
        for k, other in enumerate(out):
            if (other.slab, other.what) != (one.slab, one.what) or other.end.failure or one.end.failure:
                continue
            gone = all(f.state == DESORBED for f in one.fates + other.fates)
            near = abs(one.end.energy - other.end.energy) < same
            if near and (gone or same_surroundings(around, seen[k])):
                out[k] = Adsorbed(
                    other.slab, other.what, other.end, other.starts + one.starts, other.fates, other.moved
                )
                break
        else:
            out.append(one)
            seen.append(around)
    return out


def _require_surface(slab: Slab) -> None:
    """Refuse slabs that lie in another plane, whose upper side is not above, or that have no vacuum."""
    cell = slab.atoms.cell.array
    if np.abs(cell[:2, 2]).max() > 1e-3 or abs(np.linalg.det(cell[:2, :2])) < 1e-3 or not slab.atoms.pbc[:2].all():
        raise GeometryError(
            f"{slab.name}: its first two cell vectors are not periodic in the plane of x and y: turn the slab so that "
            "its surface is normal to z"
        )
    if slab.atoms.pbc[2]:
        z = np.sort(slab.atoms.positions[:, 2])
        inside, outside = float(np.diff(z).max(initial=0.0)), abs(cell[2, 2]) - float(z[-1] - z[0])
        if inside > max(SPLIT, outside):
            raise GeometryError(
                f"{slab.name}: it stands across the upper face of its cell, with {inside:.1f} Å of vacuum inside: "
                "shift its atoms along z until the vacuum is above them"
            )
        if outside < ROOM:
            raise GeometryError(
                f"{slab.name}: no slab, with {outside:.1f} Å of vacuum above it (at least {ROOM:g} Å): of a crystal, "
                "crystals.files and miller cut slabs"
            )


def _number(names: Sequence[str], name: str, one: Sequence[str]) -> int:
    """Of an adsorbate by its name."""
    if name not in names:
        raise SettingsError(f"together: {list(one)}: {name} is not among the adsorbates ({', '.join(names)})")
    return list(names).index(name)


def _direction(rng: np.random.Generator) -> np.ndarray:
    """A random unit vector along the surface, [3]."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle), 0.0])
