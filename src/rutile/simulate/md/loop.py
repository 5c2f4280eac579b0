"""The loop of molecular dynamics: many runs at once, each with its own thermostat, noise and end.

    dynamics = Dynamics(members, settings)
    state = dynamics.begin(structures)
    for moment in dynamics.run(state):
        ...                                 # moment.state: after each time step; moment.stopped: runs that ended

The loop knows no files: whoever listens writes what it wants. What comes next follows from a state alone, so that a run
that goes on from a stored one equals, bit for bit on a CPU, one that was never interrupted.
Letters of shapes: N atoms, S systems (runs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.units import GPA, KB
from rutile.potentials.calibration import Calibration
from rutile.potentials.checks import check_structures
from rutile.potentials.combine import common_elements
from rutile.potentials.potential import Potential
from rutile.simulate.forces import ForceField
from rutile.simulate.md.barostats import (
    CellRescale,
    Freedom,
    ParrinelloRahman,
    is_still,
    strain_per_femtosecond,
    strained,
)
from rutile.simulate.md.settings import (
    AnyEnsemble,
    CellFreedom,
    CellRescaleSettings,
    CsvrSettings,
    LangevinSettings,
    MdSettings,
    NoseHooverSettings,
    NveSettings,
    ParrinelloRahmanSettings,
    Pressed,
    Thermal,
)
from rutile.simulate.md.state import (
    State,
    beginning,
    degrees_of_freedom,
    stilled,
    thermal_velocities,
)
from rutile.simulate.md.thermostats import Csvr, Integrator, Langevin, NoseHoover, Nve, Targets
from rutile.simulate.md.watch import Watch, highest, leaps
from rutile.structures.structures import Structures

SKIN = 1.0
"""Extra radius of the neighbour list (Angstrom)."""
STILL_EVERY = 100
"""Steps after which rounding errors of the momentum are taken out, with thermostats that keep it."""
Rule = Callable[[State], list[str]]
"""For each run of a state why it ends there, or ""."""


@dataclass(frozen=True)
class Stopped:
    """A run that ended early."""

    number: int
    """Which run."""
    step: int
    """Time steps done."""
    why: str
    """For people."""
    state: State
    """The run alone, as it was when it ended; before its last step, if that leads beyond all bounds."""


@dataclass(frozen=True)
class Moment:
    """What there is after a time step."""

    state: State
    """The runs that go on."""
    stopped: tuple[Stopped, ...]
    """Those that ended with this step."""


class Dynamics:
    """Molecular dynamics with a potential, or with the mean of a committee.

    Args:
        members: one potential or several of one cutoff, precision and device.
        settings: how.
        calibration: of a committee: disagreement then is in the size of errors.
        rule: when runs end, instead of `settings.watch`.
        skin: extra radius of the neighbour list (Angstrom).
    """

    def __init__(
        self,
        members: Sequence[Potential],
        settings: MdSettings,
        *,
        calibration: Calibration | None = None,
        rule: Rule | None = None,
        skin: float = SKIN,
    ) -> None:
        self.settings, self.field = settings, ForceField(members, skin)
        self.elements = common_elements(members)
        self.rate = torch.from_numpy(strain_per_femtosecond(settings.strain_rate))
        self.deforms = not is_still(self.rate.numpy())
        self.integrator = integrator(settings.ensemble, Freedom(_cell(settings.ensemble), self.rate.numpy()))
        self.stills = settings.ensemble.keeps_momentum and isinstance(settings.ensemble, Thermal)
        self.rule = rule
        self.bars = calibration.forces if calibration is not None and len(members) > 1 else None
        self.temperatures = torch.zeros(0, 2)
        """At the start and at the end of each run that was begun (K), [S0, 2]."""
        self._heat: tuple[Tensor | None, Tensor, Tensor] = None, self.temperatures, self.temperatures
        """Runs, kB times their first temperatures, and what these grow by until the end (eV)."""

    def begin(
        self,
        structures: Structures,
        *,
        temperatures: Tensor | None = None,
        velocities: Tensor | None = None,
        fixed: Tensor | None = None,
        names: Sequence[str] = (),
    ) -> State:
        """The state at step 0, with forces.

        Args:
            structures: one for each run; not changed.
            temperatures: at the start and at the end of each run (K), [S, 2]; default: those of the settings.
            velocities: (Angstrom/fs), [N, 3]; default: of the temperatures at the start.
            fixed: atoms that no force moves, [N] bool; default: none.
            names: of the structures, for messages; default: their numbers.

        Raises:
            GeometryError: a structure cannot be evaluated, or does not suit the ensemble.
            ElementError: it holds an element that the potential was not trained on.
            SettingsError: a barostat with fixed atoms.
        """
        check_structures(structures, self.elements)
        at = structures.to(dtype=torch.float64, device=self.field.device)
        fixed = torch.zeros(at.n_atoms, dtype=torch.bool) if fixed is None else fixed
        fixed = fixed.to(at.positions.device)
        self._check(at, fixed, names)
        self.temperatures = self._temperatures(at.n_systems) if temperatures is None else temperatures.double()
        self.temperatures = self.temperatures.to(at.positions.device)
        still, seed = self.settings.ensemble.keeps_momentum, self.settings.seed
        if velocities is None:
            numbers = torch.arange(at.n_systems)
            velocities = thermal_velocities(at, self.temperatures[:, 0], seed, fixed, still, numbers)
        state = beginning(at, velocities, fixed, degrees_of_freedom(at, fixed, still))
        self._watch(at.volume)
        return self.integrator.begin(self._look(state), self.targets(state))

    def resume(self, state: State, temperatures: Tensor, volume: Tensor) -> None:
        """Be ready to go on from a stored state: temperatures [S0, 2] and first volumes [S0] of all runs."""
        self.temperatures = temperatures.to(state.energy)
        self._watch(volume.to(state.energy))

    def _watch(self, volume: Tensor) -> None:
        self.volume = volume
        own = self.settings.watch.hottest
        hottest = highest(self.temperatures) if own is None else torch.full_like(volume, own)
        self._heat = None, self.temperatures, self.temperatures
        self._rule = self.rule or Watch(self.settings.watch, hottest, volume).after

    def _temperatures(self, n: int) -> Tensor:
        """Of the settings, [S, 2]."""
        e = self.settings.ensemble
        end = e.temperature_end if isinstance(e, Thermal) and e.temperature_end is not None else e.temperature
        return torch.tensor([[e.temperature, end]], dtype=torch.float64).repeat(n, 1)

    def _check(self, structures: Structures, fixed: Tensor, names: Sequence[str]) -> None:
        """Refuse structures that do not suit the ensemble."""
        moves = self.settings.ensemble.MOVES_CELL
        if not (moves or self.deforms):
            return
        if not bool(structures.pbc.all()):
            s = int((~structures.pbc.all(1)).nonzero()[0])
            what = f"ensemble.name={self.settings.ensemble.name}" if moves else "strain_rate"
            name = names[s] if names else f"structure {s}"
            raise GeometryError(f"{name} is not periodic in three directions: {what} needs a cell that can move")
        if moves and bool(fixed.any()):
            s = int(structures.system[fixed.nonzero()[0, 0]])
            name = names[s] if names else f"structure {s}"
            raise SettingsError(
                f"a barostat moves all atoms with the cell: give no fixed atoms ({name} has some), or take "
                "ensemble.name=csvr"
            )

    def targets(self, state: State) -> Targets:
        """What the next time step is made with; after the last one that of the last."""
        s, e = self.settings, self.settings.ensemble
        part = min(1.0, (state.step + 1) / s.steps)
        if self._heat[0] is not state.number:
            mine = KB * self.temperatures[state.number]
            self._heat = state.number, mine[:, 0], mine[:, 1] - mine[:, 0]
        _, start, rise = self._heat
        pressure = 0.0
        if isinstance(e, Pressed):
            end = e.pressure if e.pressure_end is None else e.pressure_end
            pressure = (e.pressure + part * (end - e.pressure)) * GPA
        return Targets(s.timestep, torch.add(start, rise, alpha=part), pressure, s.seed)

    def run(self, state: State) -> Iterator[Moment]:
        """All time steps that are left, one after another; ends early when no run goes on.

        Raises:
            GeometryError: as `find_edges`.
        """
        if state.step == 0:
            state, stopped = self._parted(state, self._rule(state))
            if stopped:
                yield Moment(state, stopped)
        while state.step < self.settings.steps and state.n_systems:
            state, stopped = self._step(state)
            yield Moment(state, stopped)

    def _step(self, state: State) -> tuple[State, tuple[Stopped, ...]]:
        """One time step of all runs."""
        targets = self.targets(state)
        after = self.integrator.first(state, targets)
        if self.deforms:
            strain = (self.rate.to(after.energy) * targets.dt).expand(after.n_systems, 3, 3)
            after = strained(after, strain)
        after, burst = self._parted(after, leaps(after, targets.dt), shown=state)
        if not after.n_systems:
            return after, burst
        after = self.integrator.second(self._look(after), self.targets(after) if burst else targets)
        after = after.replace(step=state.step + 1)
        if self.stills and after.step % STILL_EVERY == 0:
            after = after.replace(velocities=stilled(after.structures, after.velocities, after.fixed))
        after, ended = self._parted(after, self._rule(after))
        return after, (*burst, *ended)

    def _look(self, state: State) -> State:
        """The state with forces."""
        seen = self.field.look(state.structures)
        p = seen.prediction
        doubt = state.doubt
        if seen.spread is not None:
            doubt = seen.spread.forces.norm(dim=1)
            if self.bars is not None:
                doubt = self.bars.scale * doubt.clamp(min=self.bars.floor)
        return state.replace(energy=p.energy, forces=p.forces, stress=p.stress, closest=seen.closest, doubt=doubt)

    def _parted(
        self, state: State, reasons: list[str], shown: State | None = None
    ) -> tuple[State, tuple[Stopped, ...]]:
        """Runs that go on, and those that end: as they are in `shown`, from which the step leads nowhere."""
        if not any(reasons):
            return state, ()
        ending = torch.tensor([bool(why) for why in reasons], device=state.energy.device)
        self.field.keep(~ending)
        stopped = []
        for k in ending.nonzero().squeeze(1).tolist():
            alone = (shown or state).keep(torch.arange(state.n_systems, device=state.energy.device) == k)
            stopped.append(Stopped(int(state.number[k]), state.step + (shown is not None), reasons[k], alone))
        return state.keep(~ending), tuple(stopped)


def integrator(ensemble: AnyEnsemble, freedom: Freedom) -> Integrator:
    """The integrator of an ensemble."""
    match ensemble:
        case LangevinSettings():
            return Langevin(ensemble.friction_time)
        case NoseHooverSettings():
            return NoseHoover(ensemble.thermostat_time, ensemble.chain)
        case CsvrSettings():
            return Csvr(ensemble.thermostat_time)
        case CellRescaleSettings():
            beta = ensemble.compressibility / GPA
            local = ensemble.thermostat == "langevin"
            return CellRescale(freedom, ensemble.thermostat_time, ensemble.barostat_time, beta, local=local)
        case ParrinelloRahmanSettings():
            return ParrinelloRahman(freedom, ensemble.thermostat_time, ensemble.barostat_time, ensemble.chain)
        case _:
            assert isinstance(ensemble, NveSettings)
            return Nve()


def _cell(ensemble: AnyEnsemble) -> CellFreedom:
    """What of the cell moves."""
    return ensemble.cell if isinstance(ensemble, Pressed) else "full"
