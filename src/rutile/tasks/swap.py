"""`rutile swap`: who lies where in nanoparticles and alloys, by Monte Carlo exchanges of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from rutile.build.settings import Element, Positive
from rutile.core.elements import formula, symbol
from rutile.core.errors import SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import EVPerAtom, Kelvin
from rutile.simulate.swap_settings import SwapSettings
from rutile.tasks.apply import members_and_bars, model_content, readings_given
from rutile.tasks.property import DONE, GivenProperty, PropertyResult, as_csv, part, write_result
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.data.frames import Frame
    from rutile.potentials.potential import Potential
    from rutile.simulate.swap import SwapState
    from rutile.tasks.kept_swaps import Seen


class ParticleSettings(Settings):
    """Particles that are built: a shape whose places are filled at random."""

    shape: Literal["icosahedron", "decahedron", "octahedron"] = "octahedron"
    """octahedron: (truncated) octahedra of fcc."""
    atoms: int = Field(default=79, ge=2)
    """About so many: the nearest number that the shape can have."""
    composition: dict[Element, Positive] = Field(min_length=2)
    """Parts of the elements, such as {Cu: 1, Ni: 1, Pd: 1, Ag: 1, Pt: 1}."""
    count: int = Field(default=1, ge=1)
    """Particles, each filled in another way."""


class SwapTaskSettings(SwapSettings, GivenProperty):
    """Which particles or alloys, and how their atoms are exchanged."""

    structures: list[Path] = []
    """Files, folders or patterns of particles, or of crystals."""
    particles: ParticleSettings | None = None
    """Particles that are built instead, or as well."""
    keep_every: int = Field(default=20, ge=1)
    """Runs are kept every so many steps, to go on from."""
    out: Path = Path("swaps")
    """Folder for table.csv, energies.csv (by step), profile.csv (by shell of the particle), order.csv (Warren-Cowley,
    by shell of neighbours), best.extxyz, last.extxyz, report.html and result.json. The same command goes on where it
    was stopped."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.structures and self.particles is None:
            raise SettingsError("no particles: give files, or particles.composition={Cu: 1, Ag: 1}")
        return self


class SwapRow(Result):
    """One run: a particle at a temperature."""

    structure: str
    """File and 0-based frame number, or shape and number."""
    formula: str
    """Composition."""
    temperature: Kelvin
    """At the end."""
    outcome: str
    """done, or how often a relaxation or a burst of dynamics failed."""
    best: EVPerAtom
    """Lowest energy."""
    mean: EVPerAtom
    """Mean energy over the second half of the steps."""
    gain: EVPerAtom
    """Energy at the start above the lowest."""
    cohesive: EVPerAtom
    """Cohesive energy of the structure with the lowest energy: energy of its atoms, each alone, above it."""
    cohesive_std: EVPerAtom | None = None
    """Standard deviation of a committee at the same structure."""
    acceptance: float
    """Part of the exchanges that were taken (dimensionless)."""
    surface: str
    """Element that is enriched most in the outermost shell, with its share there and in all."""
    order: str
    """The pair of elements whose first neighbours differ most from a random mixture, with alpha."""


class SwapResult(PropertyResult):
    """Runs, particle by particle."""

    runs: list[SwapRow]
    """One row for each particle and temperature."""
    best_structures: Path
    """Of the lowest energy of each run."""


def run(settings: SwapTaskSettings, reporter: Reporter) -> SwapResult:
    """Order and segregation in nanoparticles and alloys: Monte Carlo exchanges with relaxations, many runs at once.

    Raises:
        SettingsError: a particle holds a single element.
    """
    from rutile.potentials.combine import mean_potential
    from rutile.simulate.swap import Swaps
    from rutile.structures.io import write_frames
    from rutile.structures.structures import concatenate
    from rutile.tasks.kept_swaps import KeptSwaps, Seen
    from rutile.tasks.swap_page import page

    members, _ = members_and_bars(settings, reporter)
    potential = mean_potential(members)
    frames = [frame for frame in _frames(settings, potential, reporter) for _ in settings.temperatures]
    temperatures = list(settings.temperatures) * (len(frames) // len(settings.temperatures))
    given = concatenate(frame.structures() for frame in frames)
    with folder_for_results(settings.out), alone_in(settings.out, reporter):
        kept = KeptSwaps(settings.out, _question(settings, frames))
        swaps = Swaps(potential, _tensor(temperatures), part(settings, SwapSettings), reporter)
        found = kept.read(given)
        if found is None:
            state, seen = swaps.begin(given), Seen.nothing(given)
            seen.energies.append(state.energy.numpy())
            kept.write(state, seen)
        else:
            state, seen = found
            reporter.info(f"going on after {state.step} of {settings.steps} steps")
        state = _ran(swaps.run(state), state, seen, kept, settings, reporter)
        rows = _rows(state, seen, frames, temperatures, members, settings, reporter)
        result = SwapResult(runs=rows, best_structures=settings.out / "best.extxyz")
        images = _images(state.best, state.best_energy.tolist(), rows)
        write_frames(result.best_structures, images)
        write_frames(settings.out / "last.extxyz", _images(state.structures, state.energy.tolist(), rows))
        _write_tables(settings.out, seen, state)
        text = page(rows, images, seen, settings.model_dump(mode="json"))
        result = write_result(settings.out, result, rows, text, {"energies.csv": {"energy": "eV"}})
        kept.done()
    return result


def _tensor(values: Sequence[float]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def _frames(settings: SwapTaskSettings, potential: Potential, reporter: Reporter) -> list[Frame]:
    """Particles from files and those that are built, each of several elements."""
    from rutile.build.particles import mixed_particle
    from rutile.core.seeds import stream
    from rutile.data.frames import Frame

    readings = readings_given(settings, potential.elements, reporter) if settings.structures else ()
    out = [r.frame for r in readings if r.frame is not None]
    if (how := settings.particles) is not None:
        for n in range(how.count):
            atoms = mixed_particle(how.shape, how.atoms, how.composition, stream(settings.seed, "particle", n))
            out.append(Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, source=f"{how.shape}#{n}"))
    for frame in out:
        if len(np.unique(frame.numbers)) < 2:
            raise SettingsError(f"{frame.source}: holds {symbol(int(frame.numbers[0]))} only: nothing to exchange")
    return out


def _question(settings: SwapTaskSettings, frames: Sequence[Frame]) -> str:
    """Everything that the results depend on."""
    from rutile.tasks.kept_relaxations import question

    plain = settings.model_copy(update={"keep_every": 1})
    return question(plain, frames, np.zeros(0, dtype=bool), model_content(settings.model))


def _ran(
    states: Any, state: SwapState, seen: Seen, kept: Any, settings: SwapTaskSettings, reporter: Reporter
) -> SwapState:
    """All steps that are left; the last state."""
    for now in reporter.track(states, "Exchanging", settings.steps - state.step):
        state = now
        seen.energies.append(state.energy.numpy())
        if 2 * state.step > settings.steps and state.step % settings.observe_every == 0:
            seen.add(state)
        if state.step % settings.keep_every == 0:
            kept.write(state, seen)
    if not seen.observations:
        seen.add(state)
    return state


def _rows(
    state: SwapState,
    seen: Seen,
    frames: Sequence[Frame],
    temperatures: Sequence[float],
    members: Sequence[Potential],
    settings: SwapTaskSettings,
    reporter: Reporter,
) -> list[SwapRow]:
    """The table."""
    energies = np.array(seen.energies)
    cohesive = np.array([_cohesive(state, seen.elements, member) for member in members])
    rows = []
    for k, (frame, temperature) in enumerate(zip(frames, temperatures, strict=True)):
        n, lost = len(frame.numbers), int(state.lost[k])
        row = SwapRow(
            structure=frame.source,
            formula=formula(frame.numbers.tolist()),
            temperature=temperature,
            outcome=DONE if not lost else f"{lost} relaxations or bursts failed",
            best=float(state.best_energy[k]) / n,
            mean=float(energies[len(energies) // 2 :, k].mean()) / n,
            gain=float(energies[0, k] - state.best_energy[k]) / n,
            cohesive=float(cohesive[:, k].mean()),
            cohesive_std=float(cohesive[:, k].std()) if len(members) > 1 else None,
            acceptance=float(state.accepted[k]) / settings.steps,
            surface=_enriched(seen, k),
            order=_strongest(seen, k),
        )
        rows.append(row)
        if row.outcome != DONE:
            reporter.warn(f"{row.structure} ({row.formula}) at {temperature:g} K: {row.outcome}")
    return rows


def _cohesive(state: SwapState, elements: np.ndarray, potential: Potential) -> np.ndarray:
    """Cohesive energies of the best structures by one potential (eV/atom), [S]."""
    from ase import Atoms

    from rutile.core.reporting import SilentReporter
    from rutile.simulate.forces import evaluate_many
    from rutile.structures.structures import Structures

    alone = evaluate_many(
        Structures.from_ase([Atoms([int(z)]) for z in elements]), potential, 1000, SilentReporter()
    ).energy.numpy()
    whole = evaluate_many(state.best, potential, 1000, SilentReporter()).energy.numpy()
    of_atoms = alone[np.searchsorted(elements, state.best.numbers.numpy())]
    sums = np.bincount(state.best.system.numpy(), of_atoms)
    return np.asarray((sums - whole) / state.best.counts.numpy())


def alphas(seen: Seen, run: int) -> np.ndarray:
    """Warren-Cowley parameters of one run, [M, E, E]; NaN for elements that it does not hold."""
    from rutile.simulate.ordering import warren_cowley

    return warren_cowley(seen.pairs[run], seen.shells[run].sum(axis=0))


def _enriched(seen: Seen, run: int) -> str:
    """The element whose share at the surface exceeds its share in all by most; "" without a surface."""
    counts = seen.shells[run]
    if not counts[1:].any():
        return ""
    outer, all_ = counts[0] / counts[0].sum(), counts.sum(axis=0) / counts.sum()
    k = int((outer - all_).argmax())
    return f"{symbol(int(seen.elements[k]))} {100 * outer[k]:.0f} % ({100 * all_[k]:.0f} %)"


def _strongest(seen: Seen, run: int) -> str:
    """The pair of first neighbours that is farthest from a random mixture."""
    first = np.triu(np.nan_to_num(alphas(seen, run)[0]), 1)
    i, j = np.unravel_index(int(np.abs(first).argmax()), first.shape)
    return f"{symbol(int(seen.elements[i]))}-{symbol(int(seen.elements[j]))} {first[i, j]:+.2f}"


def _images(structures: Any, energies: Sequence[float], rows: Sequence[SwapRow]) -> list[Any]:
    """Structures as they are written."""
    images = structures.to_ase()
    for atoms, energy, row in zip(images, energies, rows, strict=True):
        atoms.info = {"source": row.structure, "temperature": row.temperature, "total_energy": energy}
    return list(images)


def _write_tables(folder: Path, seen: Seen, state: SwapState) -> None:
    """Energies by step, shares by shell, alpha by shell of neighbours."""
    names = [symbol(int(z)) for z in seen.elements]
    energies = [
        {"step": step, "run": run, "energy": float(e)}
        for step, row in enumerate(seen.energies)
        for run, e in enumerate(row)
    ]
    profile, order = [], []
    for run in range(len(state.energy)):
        counts = seen.shells[run]
        for shell in np.flatnonzero(counts.any(axis=1)):
            whole = counts[shell].sum()
            profile += [
                {"run": run, "shell": int(shell), "element": e, "share": float(c / whole),
                 "atoms": float(whole / seen.observations)}
                for e, c in zip(names, counts[shell], strict=True)
            ]  # fmt: skip
        for m, table in enumerate(alphas(seen, run)):
            order += [
                {"run": run, "shell": m + 1, "i": a, "j": b, "alpha": float(table[x, y])}
                for x, a in enumerate(names) for y, b in enumerate(names) if np.isfinite(table[x, y])
            ]  # fmt: skip
    write_atomically(folder / "energies.csv", as_csv(energies))
    write_atomically(folder / "profile.csv", as_csv(profile))
    write_atomically(folder / "order.csv", as_csv(order))


TASK = Task(
    "swap",
    SwapTaskSettings,
    SwapResult,
    run,
    positional="structures",
    examples=(
        "rutile swap model=emt 'particles.composition={Cu: 1, Ni: 1, Pd: 1, Ag: 1, Pt: 1}' steps=2000 hot=1500",
        "rutile swap particles.extxyz model=run temperatures=300,600,900 relax=sometimes md_every=100",
    ),
)
