"""Are an engine's forces and stress the derivatives of its energy? Asked before its labels are accepted.

    F . u = -[E(R + h u) - E(R - h u)] / 2h          sigma : s = [E((1 + h s) cell) - E((1 - h s) cell)] / 2hV

along two random directions u of all atoms together, and for the strains s of pure size and of pure shape, with the
k-points of the unstrained cell. Engines do fail: a stress that is not converged with the plane waves, a wrong
deviatoric stress of a code with one kind of pseudopotential, wrong units in an interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from rutile.core.elements import formula
from rutile.label.kpoints import kpoints
from rutile.label.labeler import Failure, Label, Labeler, Outcome
from rutile.label.settings import EmtSettings, EngineBase, RigidIonSettings
from rutile.label.settings.common import Crystal, Molecule

MOST_ATOMS = 12
"""Of a given structure that is checked."""
MOVE, STRAIN = 0.008, 0.003
"""h: length of the move of all atoms together (Angstrom), and of the strain."""
FORCE_TOLERANCE, STRESS_TOLERANCE = (0.01, 0.02), (0.001, 0.03)
"""Allowed: so many eV/Angstrom (eV/Angstrom^3), and that part of the largest component."""


@dataclass(frozen=True)
class Verdict:
    """What the self-check found."""

    failure: Failure | None
    """Why no label can be accepted."""
    stress: bool
    """Whether the stress can be accepted."""
    force_error: float
    """Largest difference between force and finite difference (eV/Angstrom)."""
    stress_error: float | None
    """The same of the stress (eV/Angstrom^3); None: nothing to check."""
    note: str
    """One line for people."""


def check_cell(structures: Sequence[Atoms], settings: EngineBase, labeler: Labeler) -> Atoms:
    """A small structure to check: a crystal, which has a stress, with most elements and fewest atoms."""
    small = [a for a in structures if 2 <= len(a) <= MOST_ATOMS and labeler.refuse(a) is None]
    if small:
        return prepared(min(small, key=lambda a: (not a.pbc.all(), -len(set(a.numbers.tolist())), len(a))), settings)
    if isinstance(settings, EmtSettings):
        return prepared(bulk("Cu", cubic=True), settings)
    if isinstance(settings, RigidIonSettings):
        positions = [(0, 0, 0), (0.5, 0.5, 0.5), (0.3, 0.3, 0), (0.7, 0.7, 0), (0.2, 0.8, 0.5), (0.8, 0.2, 0.5)]
        return prepared(Atoms("Ti2O4", scaled_positions=positions, cell=[4.5, 4.5, 3.0], pbc=True), settings)
    if isinstance(settings, Molecule) or not structures or not any(a.pbc.any() for a in structures):
        return prepared(molecule("H2O"), settings)
    if isinstance(settings, Crystal):
        return prepared(bulk("Si", "diamond", a=5.43), settings)
    return prepared(min(structures, key=len), settings)


def prepared(atoms: Atoms, settings: EngineBase) -> Atoms:
    """A copy, rattled so that no force is zero, with k-points that its strained copies share."""
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for key in ("charge", "multiplicity", "kpoints"):
        if key in atoms.info:
            out.info[key] = atoms.info[key]
    if isinstance(settings, Crystal):
        out.info["kpoints"] = list(kpoints(atoms, float(str(settings.complete()["k_density"]))))
    out.positions += np.random.default_rng(0).normal(0, 0.03, out.positions.shape)
    return out


def variations(atoms: Atoms) -> list[Atoms]:
    """The structures to compute: itself; two moves to both sides; of a crystal two strains to both sides."""
    out = [atoms.copy()]
    for u in _moves(len(atoms)):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions += sign * MOVE * u
            out.append(moved)
    for s in _strains() if atoms.pbc.all() else []:
        for sign in (1, -1):
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * STRAIN * s), scale_atoms=True)
            out.append(strained)
    return out


def judge_check(atoms: Atoms, outcomes: Sequence[Outcome]) -> Verdict:
    """Compare the labels of `variations`."""
    failed = next((o for o in outcomes if isinstance(o, Failure)), None)
    if failed is not None:
        text = f"the self-check on {formula(atoms.numbers)} could not be computed: {failed.kind}: {failed.reason}"
        return Verdict(Failure("self-check", text, failed.last_lines), False, float("nan"), None, text)
    labels = [o for o in outcomes if isinstance(o, Label)]
    energies, first = [x.energy for x in labels], labels[0]
    slopes = -np.diff(energies[1:5])[::2] / (2 * MOVE)
    wanted = np.array([-(first.forces * u).sum() for u in _moves(len(atoms))])
    force_error = float(np.abs(slopes - wanted).max())
    allowed = FORCE_TOLERANCE[0] + FORCE_TOLERANCE[1] * float(np.abs(first.forces).max())
    stress_error, stress_allowed = None, 0.0
    if first.stress is not None and len(labels) > 5:
        slopes = -np.diff(energies[5:])[::2] / (2 * STRAIN) / atoms.get_volume()
        wanted = np.array([(first.stress * s).sum() for s in _strains()])
        stress_error = float(np.abs(slopes - wanted).max())
        stress_allowed = STRESS_TOLERANCE[0] + STRESS_TOLERANCE[1] * float(np.abs(first.stress).max())
    return _verdict(atoms, (force_error, allowed), (stress_error, stress_allowed))


def _verdict(atoms: Atoms, force: tuple[float, float], stress: tuple[float | None, float]) -> Verdict:
    """Errors and what is allowed, in words."""
    where = f"on {formula(atoms.numbers)} ({len(atoms)} atoms)"
    if not force[0] <= force[1]:
        text = (
            f"self-check {where}: forces differ from finite differences of the energy by {force[0]:.3g} eV/Angstrom "
            f"(allowed: {force[1]:.2g}): take a more precise protocol, or another engine"
        )
        return Verdict(Failure("self-check", text), False, force[0], stress[0], text)
    note = f"self-check {where}: forces agree within {force[0]:.2g} eV/Angstrom"
    if stress[0] is None:
        return Verdict(None, False, force[0], None, f"{note}; no stress to check")
    if not stress[0] <= stress[1]:
        text = f"{note}; stress differs by {stress[0]:.2g} eV/Angstrom^3 (allowed: {stress[1]:.2g})"
        return Verdict(None, False, force[0], stress[0], f"{text}: labels will have no stress")
    return Verdict(None, True, force[0], stress[0], f"{note}, stress within {stress[0]:.2g} eV/Angstrom^3")


def _moves(n: int) -> list[np.ndarray]:
    """Two random directions of n atoms, of length 1, [n, 3]."""
    drawn = np.random.default_rng(1).normal(size=(2, n, 3))
    drawn -= drawn.mean(axis=1, keepdims=True) if n > 1 else 0.0
    return [u / np.linalg.norm(u) for u in drawn]


def _strains() -> list[np.ndarray]:
    """A change of size and one of shape, of length 1, [3, 3]."""
    shape = np.random.default_rng(2).normal(size=(3, 3))
    shape = shape + shape.T
    shape -= np.eye(3) * np.trace(shape) / 3
    return [np.eye(3) / np.sqrt(3), shape / np.linalg.norm(shape)]
