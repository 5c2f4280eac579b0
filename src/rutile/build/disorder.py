"""Disordered matter: random packings, melts and quenched melts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.formula import Formula
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from rutile.build.alloy import whole
from rutile.build.packing import push_apart
from rutile.build.recipe import Calculators, Draft, Recipe, Refused, between, rounded
from rutile.build.settings import DisorderSettings, Melt
from rutile.build.sizes import reference_volume
from rutile.core.elements import number as atomic_number
from rutile.core.errors import SettingsError
from rutile.core.seeds import stream

BURST = 20.0
"""A melt hotter than this times the temperature asked for has burst."""
USUAL_RUNS = 20
"""Melts of each composition where no count is given."""


@dataclass(frozen=True)
class _Packing:
    atoms: Atoms
    parameters: dict[str, Any]
    volume: float


def disordered(settings: DisorderSettings, seed: int, calculators: Calculators) -> Recipe:
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
    melt, calculator = settings.melt, calculators(settings.melt.forces)
    runs = -(-settings.count // (melt.snapshots * len(names))) if settings.count else USUAL_RUNS
    parents = [(name, run) for run in range(runs) for name in names]

    def prepare(k: int) -> list[Draft]:
        rng = stream(seed, "melt", settings.label, *parents[k])
        return melted(packing(parents[k][0], settings, rng), melt, calculator, rng)

    def take(frames: list[Draft], number: int, rng: np.random.Generator) -> Draft:
        del rng
        return frames[number]

    return Recipe([f"{name} melt {run}" for name, run in parents], prepare, take, each=melt.snapshots)


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


def melted(start: _Packing, melt: Melt, calculator: Any, rng: np.random.Generator) -> list[Draft]:
    """Structures along a melt and its quench, [snapshots].

    Raises:
        Refused: the run bursts, or its forces cannot be computed.
    """
    atoms = start.atoms.copy()
    atoms.calc = calculator
    temperature = between(rng, melt.temperature)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    step = melt.timestep * units.fs
    md = Langevin(
        atoms, step, temperature_K=temperature, friction=1 / (melt.friction_time * units.fs), rng=rng, fixcm=False
    )
    hot, cold = (max(1, round(t / melt.timestep)) if t else 0 for t in (melt.time, melt.quench_time))
    taken: list[Draft] = []
    if cold:
        _run(md, atoms, hot, temperature)
    steps = cold or hot
    done = 0
    for n in range(1, melt.snapshots + 1):
        until = steps * n // melt.snapshots
        for _ in range(until - done):
            done += 1
            now = temperature + (melt.quench_temperature - temperature) * done / steps if cold else temperature
            if cold:
                md.set_temperature(temperature_K=now)
            _run(md, atoms, 1, temperature)
        made = Atoms(atoms.numbers, positions=atoms.get_positions(wrap=True), cell=atoms.cell, pbc=True)
        facts = {
            "melt": rounded(temperature),
            "thermostat": rounded(now),
            "time": rounded(melt.timestep * (done + hot * bool(cold))),
        }
        taken.append(Draft(made, start.parameters | facts, start.volume))
    return taken


def _run(md: Langevin, atoms: Atoms, steps: int, temperature: float) -> None:
    """Some steps.

    Raises:
        Refused: the run bursts, or its forces cannot be computed.
    """
    try:
        md.run(steps)
    except Exception as error:  # engines raise errors of their own
        raise Refused(f"melt failed ({type(error).__name__})") from None
    if not np.isfinite(atoms.positions).all() or atoms.get_temperature() > BURST * temperature:
        raise Refused("melt burst")
