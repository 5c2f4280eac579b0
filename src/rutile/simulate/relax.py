"""Relaxation of many structures at once, atoms and cells, with FIRE.

Every structure has its own time step and its own memory, so that a structure relaxes along the same path alone and
in company. Converged (and failed) structures leave the batch, waiting ones enter.

Degrees of freedom: positions, and for a moving cell a symmetric strain increment d of each step, applied as
cell -> cell exp(d), R -> R exp(d). The force on d is exactly -V (stress + P) at d = 0; steps are multiplied, so it is
the logarithm of the strain that is relaxed, as with ASE's FrechetCellFilter, and no step can turn a cell inside out.
d is measured in units of 1/s with s = sqrt(N) (V/N)^(1/3), which gives cell and atoms like stiffnesses.

    P = F.v;  P > 0: dt -> min(1.1 dt, dt_max), a -> 0.99 a (after 20 such steps);  else R -= v dt/2, v = 0, dt -> dt/2
    v += F dt;  v -> (1 - a) v + a F |v|/|F|;  R += v dt

Sources: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201; FIRE 2.0:
J. Guenole et al., Comput. Mater. Sci. 175, 109584 (2020), doi:10.1016/j.commatsci.2020.109584.
Letters of shapes: N atoms, S systems.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.core.units import GPA
from rutile.potentials.checks import check_structures
from rutile.potentials.potential import Potential, Prediction
from rutile.simulate.forces import ForceField
from rutile.simulate.settings import CellMode, RelaxSettings
from rutile.structures.structures import Structures, concatenate

TIME_STEP, SHORTEST, LONGEST = 0.1, 2e-3, 1.0
"""First, shortest and longest time step (Angstrom / sqrt(eV), unit mass)."""
MIXING = 0.25
"""First value of a."""
PATIENCE = 20
"""Downhill steps before the time step grows."""
LARGEST_STRAIN = 0.05
"""Largest strain component of one step."""
BURST = 8.0
"""A cell that grew or shrank by more than this factor has failed."""
PLUNGE = 100.0
"""A structure whose energy fell by more than this (eV/atom) has failed: no chemistry is so strong."""


@dataclass(frozen=True)
class RelaxResult:
    """What became of each structure, in the order given."""

    structures: Structures
    """Where they ended; where they were last sound, for failed ones."""
    converged: Tensor
    """[S] bool: forces (and stress, if the cell moved) are below the limits."""
    failure: tuple[str, ...]
    """Why a structure failed, [S]; empty for those that did not. Not converged and not failed: out of steps."""
    steps: Tensor
    """Steps taken, [S] int64."""
    fmax: Tensor
    """Largest force on an atom that may move at the end (eV/Angstrom), [S]."""
    smax: Tensor
    """Largest difference of stress and outer pressure among components that may move (eV/Angstrom^3), [S]."""
    start_energy: Tensor
    """Energy of the structures given (eV), [S]."""
    energy: Tensor
    """Energy at the end (eV), [S]."""
    forces: Tensor
    """Forces at the end, also on fixed atoms (eV/Angstrom), [N, 3]."""
    stress: Tensor
    """Stress at the end (eV/Angstrom^3), [S, 3, 3]; 0 where a system is not periodic in 3-D."""


@dataclass(frozen=True)
class _Moving:
    """Structures on their way, each with its own FIRE."""

    structures: Structures
    number: Tensor
    """Which of the given structures, [S]."""
    atom: Tensor
    """Which of the given atoms, [N]."""
    free: Tensor
    """Atoms that may move, [N] bool."""
    velocity: Tensor
    """Of the atoms, [N, 3]."""
    cell_velocity: Tensor
    """Of s times the strain, [S, 3, 3]."""
    time_step: Tensor
    """[S]."""
    mixing: Tensor
    """a, [S]."""
    downhill: Tensor
    """Steps downhill in a row, [S]."""
    step: Tensor
    """Steps taken, [S]."""


class _Ledger:
    """Where every structure stood when it was last sound, and why it left."""

    def __init__(self, given: Structures, free: Tensor) -> None:
        n, s = given.n_atoms, given.n_systems
        nan = float("nan")
        self.given, self.free = given, free
        self.positions, self.cell = given.positions.clone(), given.cell.clone()
        self.forces, self.stress = torch.full((n, 3), nan).double(), torch.full((s, 3, 3), nan).double()
        self.energy, self.start_energy = torch.full((s,), nan).double(), torch.full((s,), nan).double()
        self.fmax, self.smax = torch.full((s,), nan).double(), torch.full((s,), nan).double()
        self.steps = torch.zeros(s, dtype=torch.long)
        self.converged = torch.zeros(s, dtype=torch.bool)
        self.failure = [""] * s

    def note(self, moving: _Moving, now: Prediction, fmax: Tensor, smax: Tensor, sound: Tensor) -> None:
        """Take down the sound ones among the moving structures."""
        number, atoms = moving.number[sound], sound[moving.structures.system]
        atom = moving.atom[atoms]
        self.positions[atom], self.forces[atom] = moving.structures.positions[atoms], now.forces[atoms]
        self.cell[number], self.stress[number] = moving.structures.cell[sound], now.stress[sound]
        self.energy[number], self.fmax[number], self.smax[number] = now.energy[sound], fmax[sound], smax[sound]
        self.steps[number] = moving.step[sound]
        first = number[moving.step[sound] == 0]
        self.start_energy[first] = self.energy[first]

    def result(self) -> RelaxResult:
        """Everything, in the order given."""
        return RelaxResult(
            self.given.replace(positions=self.positions, cell=self.cell),
            self.converged,
            tuple(self.failure),
            self.steps,
            self.fmax,
            self.smax,
            self.start_energy,
            self.energy,
            self.forces,
            self.stress,
        )


def relax(
    structures: Structures,
    potential: Potential,
    settings: RelaxSettings,
    reporter: Reporter,
    fixed: Tensor | None = None,
) -> RelaxResult:
    """Relax structures to the nearest minima.

    Args:
        structures: any number of them; not changed.
        potential: gives the forces, in its own precision and on its own device; the path is kept in float64.
        settings: limits, cell mode, pressure.
        reporter: told how many structures are done.
        fixed: atoms that do not move, [N] bool; where the cell moves, they keep their fractional coordinates.

    Raises:
        ValueError: `fixed` is not of one bool for each atom.
        GeometryError: a given structure cannot be evaluated, or its cell shall move and it is not periodic in 3-D.
        ElementError: a given structure holds an element that the potential was not trained on.
    """
    given = structures.to(dtype=torch.float64, device="cpu")
    check_structures(given, potential.elements)
    if settings.cell != "none" and not bool(given.pbc.all()):
        s = int((~given.pbc.all(1)).nonzero()[0])
        raise GeometryError(f"structure {s} is not periodic in three directions: relax it with cell=none")
    if fixed is not None and (fixed.dtype != torch.bool or fixed.shape != given.numbers.shape):
        raise ValueError(f"fixed is {fixed.dtype} {list(fixed.shape)}, not bool [{given.n_atoms}]")
    free = torch.ones(given.n_atoms, dtype=torch.bool) if fixed is None else ~fixed.cpu()
    ledger = _Ledger(given, free)
    for _ in reporter.track(_relax_all(ledger, potential, settings), "Relaxing", total=given.n_systems):
        pass
    return ledger.result()


def _relax_all(ledger: _Ledger, potential: Potential, settings: RelaxSettings) -> Iterator[int]:
    """The loop; yields the number of each structure that leaves."""
    forces = ForceField(potential)
    waiting = deque(_fresh(ledger.given, ledger.free))
    moving = waiting.popleft() if waiting else None
    while moving is not None:
        while waiting and moving.structures.n_atoms + waiting[0].structures.n_atoms <= settings.atoms_at_once:
            moving = _together(moving, waiting.popleft())
        now, closest = forces(moving.structures)
        reasons = _failures(moving, now, closest, ledger, settings)
        push, unbalanced = _cell_push(now.stress, moving.structures, settings)
        forces_of_free = torch.where(moving.free[:, None], now.forces, 0.0)
        fmax = _largest(forces_of_free.norm(dim=1), moving.structures)
        smax = unbalanced.abs().amax((1, 2))
        sound = torch.tensor([not reason for reason in reasons])
        ledger.note(moving, now, fmax, smax, sound)
        converged = sound & (fmax <= settings.fmax) & (smax <= settings.smax * GPA)
        leaving = converged | ~sound | (moving.step >= settings.max_steps)
        ledger.converged[moving.number] = converged
        for s in leaving.nonzero().squeeze(1).tolist():
            ledger.failure[int(moving.number[s])] = reasons[s]
            yield int(moving.number[s])
        staying = ~leaving
        if bool(staying.any()):
            moving = _fire(moving, forces_of_free, push, settings.max_move)
            moving = _keep(moving, staying)
        else:
            moving = waiting.popleft() if waiting else None


def _failures(moving: _Moving, now: Prediction, closest: Tensor, ledger: _Ledger, settings: RelaxSettings) -> list[str]:
    """For each moving structure why it has failed, or ""."""
    atoms = moving.structures.counts
    finite = _largest((~torch.isfinite(now.forces).all(1)).double(), moving.structures) == 0
    finite &= torch.isfinite(now.energy) & torch.isfinite(now.stress).all(2).all(1)
    growth = moving.structures.volume / ledger.given.volume[moving.number]
    fall = (ledger.start_energy[moving.number] - now.energy) / atoms
    reasons = []
    for s, step in enumerate(moving.step.tolist()):
        if closest[s] < settings.closest:
            reasons.append(f"two atoms are {closest[s]:.2f} Å apart at step {step} (closest: {settings.closest} Å)")
        elif not finite[s]:
            reasons.append(f"energy, forces or stress are not finite at step {step} (energy {now.energy[s]} eV)")
        elif growth[s] > BURST or growth[s] < 1 / BURST:
            reasons.append(f"the volume of the cell changed by a factor of {growth[s]:.3g} until step {step}")
        elif fall[s] > PLUNGE:
            reasons.append(f"the energy fell by {fall[s]:.0f} eV/atom until step {step}: a hole in the potential")
        else:
            reasons.append("")
    return reasons


def _cell_push(stress: Tensor, structures: Structures, settings: RelaxSettings) -> tuple[Tensor, Tensor]:
    """Force on the strain (eV) and stress + pressure (eV/Angstrom^3), both only where the cell may move, [S, 3, 3]."""
    unbalanced = stress + settings.pressure * GPA * torch.eye(3, dtype=stress.dtype)
    unbalanced = _allowed(0.5 * (unbalanced + unbalanced.mT), settings.cell)
    return -structures.volume[:, None, None] * unbalanced, unbalanced


def _allowed(strain: Tensor, mode: CellMode) -> Tensor:
    """The part of symmetric matrices [S, 3, 3] that the cell mode lets move."""
    if mode == "none":
        return torch.zeros_like(strain)
    if mode == "full":
        return strain
    size = strain.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(3, dtype=strain.dtype)
    return size if mode == "isotropic" else strain - size


def _fire(moving: _Moving, forces: Tensor, cell_push: Tensor, max_move: float) -> _Moving:
    """One step of FIRE 2.0 for each structure."""
    now = moving.structures
    system, count = now.system, now.counts.double()
    scale = (count.sqrt() * (now.volume / count) ** (1 / 3)).clamp(min=1e-12)[:, None, None]  # s
    push = cell_push / scale
    v, w = moving.velocity, moving.cell_velocity
    down = _dot(forces, v, push, w, now) > 0
    first = moving.step == 0
    downhill = torch.where(down, moving.downhill + 1, 0)
    grow = downhill > PATIENCE
    dt = torch.where(grow, (1.1 * moving.time_step).clamp(max=LONGEST), moving.time_step)
    dt = torch.where(down | first, dt, (0.5 * dt).clamp(min=SHORTEST))
    a = torch.where(grow, 0.99 * moving.mixing, torch.where(down, moving.mixing, MIXING))
    back = torch.where(down, 0.0, -0.5 * dt)
    move, stretch = back[system, None] * v, back[:, None, None] * w
    v = torch.where(down[system, None], v, 0.0) + dt[system, None] * forces
    w = torch.where(down[:, None, None], w, 0.0) + dt[:, None, None] * push
    speed = (_dot(v, v, w, w, now) / _dot(forces, forces, push, push, now).clamp(min=1e-300)).sqrt()
    v = (1 - a)[system, None] * v + (a * speed)[system, None] * forces
    w = (1 - a)[:, None, None] * w + (a * speed)[:, None, None] * push
    move, stretch = move + dt[system, None] * v, stretch + dt[:, None, None] * w
    limit = torch.minimum(
        max_move / _largest(move.norm(dim=1), now).clamp(min=1e-12),
        LARGEST_STRAIN / (stretch / scale).abs().amax((1, 2)).clamp(min=1e-12),
    ).clamp(max=1.0)
    deform = torch.linalg.matrix_exp(limit[:, None, None] * stretch / scale)
    positions = torch.einsum("na,nab->nb", now.positions + limit[system, None] * move, deform[system])
    return dataclasses.replace(
        moving,
        structures=now.replace(positions=positions, cell=now.cell @ deform),
        velocity=v * limit[system, None],
        cell_velocity=w * limit[:, None, None],
        time_step=dt,
        mixing=a,
        downhill=downhill,
        step=moving.step + 1,
    )


def _dot(a: Tensor, b: Tensor, cell_a: Tensor, cell_b: Tensor, structures: Structures) -> Tensor:
    """Scalar product over atoms and strain of each structure, [S]."""
    return (cell_a * cell_b).sum((1, 2)).index_add(0, structures.system, (a * b).sum(1))


def _largest(values: Tensor, structures: Structures) -> Tensor:
    """Largest of the non-negative values of the atoms [N] of each structure, [S]."""
    return values.new_zeros(structures.n_systems).scatter_reduce(0, structures.system, values, "amax")


def _fresh(given: Structures, free: Tensor) -> Iterator[_Moving]:
    """Every structure at rest."""
    start = 0
    for s, one in enumerate(given.split()):
        n = one.n_atoms
        yield _Moving(
            one,
            torch.tensor([s]),
            torch.arange(start, start + n),
            free[start : start + n],
            torch.zeros(n, 3, dtype=torch.float64),
            torch.zeros(1, 3, 3, dtype=torch.float64),
            torch.tensor([TIME_STEP], dtype=torch.float64),
            torch.tensor([MIXING], dtype=torch.float64),
            torch.tensor([0]),
            torch.tensor([0]),
        )
        start += n


def _together(a: _Moving, b: _Moving) -> _Moving:
    """Both in one batch."""
    pairs = {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a) if f.name != "structures"}
    return _Moving(
        structures=concatenate([a.structures, b.structures]), **{name: torch.cat(both) for name, both in pairs.items()}
    )


def _keep(moving: _Moving, which: Tensor) -> _Moving:
    """Only some of the systems, [S] bool."""
    s = moving.structures
    atoms = which[s.system]
    renumber = torch.cumsum(which, 0) - 1
    kept = Structures(s.numbers[atoms], s.positions[atoms], s.cell[which], s.pbc[which], renumber[s.system[atoms]])
    per_atom = {name: getattr(moving, name)[atoms] for name in ("atom", "free", "velocity")}
    names = ("number", "cell_velocity", "time_step", "mixing", "downhill", "step")
    return _Moving(structures=kept, **per_atom, **{name: getattr(moving, name)[which] for name in names})
