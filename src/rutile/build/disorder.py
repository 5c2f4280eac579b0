"""Disordered matter: random packings, melts and quenched melts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.formula import Formula

from rutile.build.alloy import whole
from rutile.build.packing import push_apart
from rutile.build.recipe import Draft, Mechanics, Melting, Recipe, Refused, Snapshot, between, rounded
from rutile.build.settings import DisorderSettings
from rutile.build.sizes import reference_volume
from rutile.core.elements import number as atomic_number
from rutile.core.errors import SettingsError
from rutile.core.seeds import integer, stream

USUAL_RUNS = 20
"""Melts of each composition where no count is given."""
TOGETHER = 8
"""Melts that are made in one batch."""


@dataclass(frozen=True)
class _Packing:
    atoms: Atoms
    parameters: dict[str, Any]
    volume: float


def disordered(settings: DisorderSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Atoms at random places, pushed apart; melted and quenched at constant volume if forces are given.

    Raises:
        SettingsError: a formula has more atoms than allowed.
        RutileError: the forces cannot be had.
    """
    names = list(settings.formulas) or ["-".join(dict.fromkeys(settings.elements))]
    for text in settings.formulas:
        check_size(text, settings.atoms)
    if settings.melt is None:

        def draw(name: str, number: int, rng: np.random.Generator) -> Draft:
            del number
            packed = packing(name, settings, rng)
            return Draft(packed.atoms, packed.parameters, packed.volume)

        return Recipe(names, lambda k: names[k], draw)
    melt = settings.melt
    runs = -(-settings.count // (melt.snapshots * len(names))) if settings.count else USUAL_RUNS
    parents = [(name, run) for run in range(runs) for name in names]

    melts = _Melts(settings, parents, seed, mechanics.melts(melt))

    def take(snapshots: list[Draft], number: int, rng: np.random.Generator) -> Draft:
        del rng
        return snapshots[number]

    titles = [f"{name} melt {run}" for name, run in parents]
    return Recipe(titles, melts.prepare, take, each=melt.snapshots, together=TOGETHER)


def check_size(text: str, span: Sequence[int]) -> None:
    """Whether whole formulas can have so many atoms.

    Raises:
        SettingsError: they cannot.
    """
    size = len(Formula(text))
    if -(-span[0] // size) > span[1] // size:
        raise SettingsError(
            f"formulas: {text} has {size} atoms, and no multiple of it lies between atoms = {span[0]} and {span[1]}"
        )


def composition(text: str, span: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Atomic numbers of a random number of whole formulas; of elements "A-B-C", of a random composition."""
    if "-" in text:
        elements = text.split("-")
        size = int(rng.integers(span[0], span[1], endpoint=True))
        counts: dict[str, int] = dict(
            zip(elements, whole(rng.dirichlet(np.ones(len(elements))), size).tolist(), strict=True)
        )
    else:
        size = len(Formula(text))
        units_ = int(rng.integers(-(-span[0] // size), span[1] // size, endpoint=True))
        counts = {name: n * units_ for name, n in Formula(text).count().items()}
    return np.repeat([atomic_number(name) for name in counts], list(counts.values()))


def packing(name: str, settings: DisorderSettings, rng: np.random.Generator) -> _Packing:
    """Atoms at random places of a cubic cell at a random density, pushed apart."""
    numbers = composition(name, settings.atoms, rng)
    volume, density = settings.volume or reference_volume(numbers), between(rng, settings.density)
    edge = (volume * len(numbers) / density) ** (1 / 3)
    atoms = Atoms(numbers, positions=rng.random((len(numbers), 3)) * edge, cell=[edge] * 3, pbc=True)
    return _Packing(push_apart(atoms, settings.packing), {"density": rounded(density)}, volume)


class _Melts:
    """Melts of random packings, `TOGETHER` at a time; remembers the last batch.

    Args:
        settings: of the packings.
        parents: composition and number of each melt.
        seed: of the plan.
        melting: makes melts.
    """

    def __init__(
        self, settings: DisorderSettings, parents: Sequence[tuple[str, int]], seed: int, melting: Melting
    ) -> None:
        assert settings.melt is not None
        self.settings, self.melt, self.parents, self.seed = settings, settings.melt, parents, seed
        self.melting = melting
        self._batch, self._made = -1, dict[int, list[Draft] | Refused]()

    def prepare(self, k: int) -> list[Draft]:
        """Structures along one melt and its quench, [snapshots].

        Raises:
            Refused: there is no packing, or the melt burst.
        """
        if k // TOGETHER != self._batch:
            self._batch, self._made = k // TOGETHER, self._together(k // TOGETHER)
        made = self._made[k]
        if isinstance(made, Refused):
            raise made
        return made

    def _together(self, batch: int) -> dict[int, list[Draft] | Refused]:
        """All melts of a batch."""
        out: dict[int, list[Draft] | Refused] = {}
        starts: dict[int, tuple[_Packing, float]] = {}
        for k in range(batch * TOGETHER, min((batch + 1) * TOGETHER, len(self.parents))):
            rng = stream(self.seed, "melt", self.settings.label, *self.parents[k])
            try:
                starts[k] = packing(self.parents[k][0], self.settings, rng), between(rng, self.melt.temperature)
            except Refused as reason:
                out[k] = reason
        seed = integer(self.seed, "melts", self.settings.label, batch)
        paths = self.melting([p.atoms for p, _ in starts.values()], [t for _, t in starts.values()], seed)
        for (k, (start, kelvin)), path in zip(starts.items(), paths, strict=True):
            out[k] = Refused("melt burst") if path is None else [_draft(start, kelvin, one) for one in path]
        return out


def _draft(start: _Packing, kelvin: float, one: Snapshot) -> Draft:
    """A structure of a melt, with what was drawn for it."""
    facts = {"melt": rounded(kelvin), "thermostat": rounded(one.thermostat), "time": rounded(one.time)}
    return Draft(one.atoms, start.parameters | facts, start.volume)
