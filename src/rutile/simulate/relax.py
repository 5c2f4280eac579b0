"""Relaxation of many structures at once, atoms and cells. One loop for all optimizers.

Every structure has its own optimizer, so that it relaxes along the same path alone and in company. Converged (and
failed) structures leave the batch, waiting ones enter.

Degrees of freedom: positions, and for a moving cell a symmetric strain increment d of each step, applied as
cell -> cell exp(d), R -> R exp(d). The force on d is exactly -V (stress + P) at d = 0; steps are multiplied, so it is
the logarithm of the strain that is relaxed, as with ASE's FrechetCellFilter, and no step can turn a cell inside out.
Letters of shapes: N atoms, S systems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.core.units import GPA
from rutile.graph.neighbors import find_edges
from rutile.potentials.checks import check_structures
from rutile.potentials.potential import Potential, Prediction
from rutile.simulate.fire import FireSteps
from rutile.simulate.forces import ForceField
from rutile.simulate.keeper import Keeper, keeper, key_of
from rutile.simulate.kept_symmetry import KeptSymmetry
from rutile.simulate.lbfgs import LbfgsSteps
from rutile.simulate.ledger import Ledger, RelaxResult
from rutile.simulate.room import Room
from rutile.simulate.settings import CellMode, RelaxLbfgs, RelaxOptimizer, RelaxSettings
from rutile.simulate.steps import Layout, Memory, Optimizer
from rutile.structures.structures import Structures, concatenate

BURST = 8.0
"""A cell that grew or shrank by more than this factor has failed."""
PLUNGE = 100.0
"""A structure whose energy fell by more than this (eV/atom) has failed: no chemistry is so strong."""
Watch = Callable[[Tensor, Tensor, Structures, Prediction, Tensor], None]
"""Is shown every step: numbers [S], steps [S], structures, predictions, largest forces [S] (NaN: it has failed)."""


@dataclass(frozen=True)
class _Moving:
    """Structures on their way."""

    structures: Structures
    number: Tensor
    """Which of the given structures, [S]."""
    atom: Tensor
    """Which of the given atoms, [N]."""
    free: Tensor
    """Atoms that may move, [N] bool."""
    step: Tensor
    """Steps taken, [S]."""
    edges: Tensor
    """Neighbours when it entered, [S]."""
    memory: Memory
    """Of the optimizer."""


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
        settings: limits, optimizer, cell mode, pressure.
        reporter: told how many structures are done.
        fixed: atoms that do not move, [N] bool; where the cell moves, they keep their fractional coordinates.

    Raises:
        ValueError: `fixed` is not of one bool for each atom.
        GeometryError: a given structure cannot be evaluated, its cell shall move or its symmetry be kept and it is not
            periodic in 3-D.
        ElementError: a given structure holds an element that the potential was not trained on.
    """
    kept = keeper()
    if kept is not None:
        return _relax_kept(kept, structures, potential, settings, reporter, fixed)
    relaxation = Relaxation(structures, potential, settings, fixed)
    for _ in reporter.track(relaxation, "Relaxing", total=structures.n_systems):
        pass
    return relaxation.ledger.result()


def _relax_kept(
    kept: Keeper,
    structures: Structures,
    potential: Potential,
    settings: RelaxSettings,
    reporter: Reporter,
    fixed: Tensor | None,
) -> RelaxResult:
    """`relax` of those that are not done; each is kept as it is done."""
    given = structures.to(dtype=torch.float64, device="cpu")
    held = torch.zeros(given.n_atoms, dtype=torch.bool) if fixed is None else fixed.cpu()
    ledger = Ledger(given, ~held)
    parts = held.split(given.counts.tolist())
    keys = [key_of("relax", one, mask, settings) for one, mask in zip(given.split(), parts, strict=True)]
    left = []
    for number, key in enumerate(keys):
        found = kept.recall(key)
        if found is None:
            left.append(number)
        else:
            ledger.take(number, found)
    if left:
        these = torch.zeros(given.n_systems, dtype=torch.bool)
        these[left] = True
        relaxation = Relaxation(given.select(these), potential, settings, held[these[given.system]])
        for n in reporter.track(relaxation, "Relaxing", total=len(left)):
            values = relaxation.ledger.plain(n)
            ledger.take(left[n], values)
            kept.keep(keys[left[n]], values)
    return ledger.result()


class Relaxation:
    """Relaxes structures while it is iterated; yields the number of each as it is done, and the ledger has the rest.

    Arguments and errors are those of `relax`; `names` are of the structures, for messages (default: their numbers), and
    `watch` is shown the way down.
    """

    ledger: Ledger
    """What became of each structure so far."""

    def __init__(
        self,
        structures: Structures,
        potential: Potential,
        settings: RelaxSettings,
        fixed: Tensor | None = None,
        names: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> None:
        given = structures.to(dtype=torch.float64, device="cpu")
        check_structures(given, potential.elements)
        if (settings.cell != "none" or settings.keep_symmetry) and not bool(given.pbc.all()):
            s = int((~given.pbc.all(1)).nonzero()[0])
            remedy = "cell=none" if settings.cell != "none" else "keep_symmetry=false"
            name = names[s] if names else f"structure {s}"
            raise GeometryError(f"{name} is not periodic in three directions: relax it with {remedy}")
        if fixed is not None and (fixed.dtype != torch.bool or fixed.shape != given.numbers.shape):
            raise ValueError(f"fixed is {fixed.dtype} {list(fixed.shape)}, not bool [{given.n_atoms}]")
        free = torch.ones(given.n_atoms, dtype=torch.bool) if fixed is None else ~fixed.cpu()
        self.ledger, self.settings, self._watch = Ledger(given, free), settings, watch
        self._forces, self._room = ForceField(potential), Room(potential)
        self._optimizer = _optimizer(settings.optimizer)
        self._symmetry = KeptSymmetry() if settings.keep_symmetry else None
        self._waiting = enumerate(given.split())
        self._next: _Moving | None = self._fresh()

    def __iter__(self) -> Iterator[int]:
        """The loop."""
        moving: _Moving | None = None
        while (moving := self._entered(moving)) is not None:
            now, force, push, leaving = self._looked_at(moving)
            if bool(leaving.any()):
                yield from moving.number[leaving].tolist()
                self._forces.keep(~leaving)
                if self._symmetry is not None:
                    self._symmetry.keep(~leaving)
                force, push = force[~leaving[now.system]], push[~leaving]
                moving = _keep(moving, ~leaving)
            if moving.structures.n_systems:
                moving = _moved(moving, force, push, self._optimizer, self.settings.max_move)

    def _entered(self, moving: _Moving | None) -> _Moving | None:
        """The batch with as many of those that wait as there is room for; None: all are done."""
        parts = [] if moving is None or not moving.structures.n_systems else [moving]
        atoms = sum(p.structures.n_atoms for p in parts)
        edges = sum(int(p.edges.sum()) for p in parts)
        while self._next is not None:
            atoms, edges = atoms + self._next.structures.n_atoms, edges + int(self._next.edges)
            most = self.settings.atoms_at_once
            full = edges > self._room.edges(self._forces.pieces) if most is None else atoms > most
            if parts and full:
                break
            one = self._next
            if self._symmetry is not None:
                one = dataclasses.replace(one, structures=self._symmetry.enter(one.structures, one.free))
            parts.append(one)
            self._next = self._fresh()
        return _together(parts) if parts else None

    def _fresh(self) -> _Moving | None:
        """The next of those that wait, at rest."""
        number, one = next(self._waiting, (0, None))
        if one is None:
            return None
        n, start = one.n_atoms, int(self.ledger.start[number])
        edges = len(find_edges(one, self._forces.neighbors.cutoff).i) if self.settings.atoms_at_once is None else 0
        memory = self._optimizer.begin(n + 3, 1)
        atom = torch.arange(start, start + n)
        free = self.ledger.free[start : start + n]
        return _Moving(one, torch.tensor([number]), atom, free, torch.tensor([0]), torch.tensor([edges]), memory)

    def _looked_at(self, moving: _Moving) -> tuple[Structures, Tensor, Tensor, Tensor]:
        """Evaluate and take down; gives the batch, forces on atoms and on the strain (eV), and who leaves, [S] bool."""
        ledger, settings, structures = self.ledger, self.settings, moving.structures
        p, closest = self._forces(structures)
        forces, stress = p.forces, p.stress
        if self._symmetry is not None:
            forces, stress = self._symmetry(forces, stress)
        forces = torch.where(moving.free[:, None], forces, 0.0)
        if settings.along == "z":
            forces = forces * torch.tensor([0.0, 0.0, 1.0], dtype=forces.dtype)
        push, unbalanced = _cell_push(stress, structures, settings)
        fmax, smax = _largest(forces.norm(dim=1), structures), unbalanced.abs().amax((1, 2))
        ledger.begin(moving.number[moving.step == 0], p.energy[moving.step == 0])
        reasons = _failures(moving, p, closest, ledger, settings)
        reasons |= {s: "too little memory for it alone" for s in self._forces.too_large}
        sound = torch.ones_like(moving.step, dtype=torch.bool)
        sound[list(reasons)] = False
        ledger.note(moving.number, moving.atom, (structures, p, fmax, smax, moving.step), sound)
        if self._watch is not None:
            self._watch(moving.number, moving.step, structures, p, fmax.where(sound, torch.nan))
        converged = sound & (fmax <= settings.fmax) & (smax <= settings.smax * GPA)
        ledger.converged[moving.number] = converged
        for s, reason in reasons.items():
            ledger.failure[int(moving.number[s])] = reason
        return structures, forces, push, converged | ~sound | (moving.step >= settings.max_steps)


def _optimizer(settings: RelaxOptimizer) -> Optimizer:
    """By its settings."""
    return LbfgsSteps(settings.history) if isinstance(settings, RelaxLbfgs) else FireSteps()


def _failures(
    moving: _Moving, now: Prediction, closest: Tensor, ledger: Ledger, settings: RelaxSettings
) -> dict[int, str]:
    """Which of the moving structures have failed, and why."""
    finite = _largest((~torch.isfinite(now.forces).all(1)).double(), moving.structures) == 0
    finite &= torch.isfinite(now.energy) & torch.isfinite(now.stress).all(2).all(1)
    growth = moving.structures.volume / ledger.volume[moving.number]
    fall = (ledger.start_energy[moving.number] - now.energy) / moving.structures.counts
    burst = (growth > BURST) | (growth < 1 / BURST)
    reasons = {}
    for s in ((closest < settings.closest) | ~finite | burst | (fall > PLUNGE)).nonzero().squeeze(1).tolist():
        step = int(moving.step[s])
        if closest[s] < settings.closest:
            reason = f"two atoms are {closest[s]:.2f} Å apart at step {step} (closest: {settings.closest} Å)"
        elif not finite[s]:
            reason = f"energy, forces or stress are not finite at step {step} (energy {now.energy[s]} eV)"
        elif burst[s]:
            reason = f"the volume of the cell changed by a factor of {growth[s]:.3g} until step {step}"
        else:
            reason = f"the energy fell by {fall[s]:.0f} eV/atom until step {step}: a hole in the potential"
        reasons[s] = reason
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
    if mode == "height":
        return strain * torch.tensor([0.0, 0.0, 1.0], dtype=strain.dtype).diag()
    size = strain.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(3, dtype=strain.dtype)
    return size if mode == "isotropic" else strain - size


def _moved(moving: _Moving, forces: Tensor, push: Tensor, optimizer: Optimizer, max_move: float) -> _Moving:
    """One step further, by forces on the atoms (eV/Angstrom) and on the strain (eV)."""
    now = moving.structures
    layout = Layout.of(now, max_move)
    rows, memory = optimizer.step(layout.rows(forces, push), layout, moving.memory)
    move, strain = layout.moves(rows)
    positions, cell = now.positions + move, now.cell
    if bool(strain.any()):
        deform = torch.linalg.matrix_exp(strain)
        positions, cell = torch.einsum("na,nab->nb", positions, deform[now.system]), cell @ deform
    return dataclasses.replace(
        moving, structures=now.replace(positions=positions, cell=cell), memory=memory, step=moving.step + 1
    )


def _largest(values: Tensor, structures: Structures) -> Tensor:
    """Largest of the non-negative values of the atoms [N] of each structure, [S]."""
    return values.new_zeros(structures.n_systems).scatter_reduce(0, structures.system, values, "amax")


def _together(parts: list[_Moving]) -> _Moving:
    """All in one batch."""
    if len(parts) == 1:
        return parts[0]
    per = {name: torch.cat([getattr(p, name) for p in parts]) for name in ("number", "atom", "free", "step", "edges")}
    memory = Memory.joined([(p.memory, p.structures.n_atoms) for p in parts])
    return _Moving(structures=concatenate(p.structures for p in parts), memory=memory, **per)


def _keep(moving: _Moving, which: Tensor) -> _Moving:
    """Only some of the systems, [S] bool."""
    atoms = which[moving.structures.system]
    memory = moving.memory.keep(atoms, which)
    per_system = {name: getattr(moving, name)[which] for name in ("number", "step", "edges")}
    kept = moving.structures.select(which)
    return _Moving(kept, atom=moving.atom[atoms], free=moving.free[atoms], memory=memory, **per_system)
