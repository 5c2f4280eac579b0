"""Molecules: conformers, displaced along normal modes, with turned and stretched bonds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from rutile.build import distort
from rutile.build.bonds import Bond, bonds, stretched, turned
from rutile.build.forces_settings import MmffForces
from rutile.build.molecules_source import Molecule, Named, named_molecules
from rutile.build.normal_modes import Modes, displacement, normal_modes, numerical_hessian
from rutile.build.recipe import Draft, Mechanics, Recipe, Refused, between, rounded
from rutile.build.settings import MoleculeSettings
from rutile.core.errors import SettingsError

FMAX, STEPS = 0.005, 500
"""Largest force of a relaxed molecule (eV/Angstrom), and steps to it."""


@dataclass(frozen=True)
class _Parent:
    atoms: Atoms
    modes: Modes | None
    bonds: list[Bond]


def molecules(settings: MoleculeSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Molecules relaxed and displaced along their normal modes; the first of each as it is.

    Raises:
        MissingPackageError: RDKit or the package of the forces is not installed.
        SettingsError: a molecule is not known, or the force field needs SMILES.
        FileError: a file cannot be read.
    """
    found = named_molecules(settings.molecules, seed)
    calculator: Any = None
    if settings.modes is not None and isinstance(settings.modes.forces, MmffForces):
        if settings.molecules.names or settings.molecules.files:
            raise SettingsError(
                "modes.forces = mmff: knows the bonds of SMILES only; for names and files choose modes.forces=xtb, emt "
                "or model, or modes=null"
            )
    elif settings.modes is not None:
        calculator = mechanics.calculator(settings.modes.forces)

    def draw(parent: _Parent, number: int, rng: np.random.Generator) -> Draft:
        if number == 0:
            return Draft(parent.atoms, {"pristine": True})
        return _disturbed(parent, settings, rng)

    return Recipe([m.name for m in found], lambda k: _prepared(found[k], settings, calculator), draw)


def _prepared(named: Named, settings: MoleculeSettings, calculator: Any) -> _Parent:
    """Relaxed geometry with its modes.

    Raises:
        Refused: the molecule does not relax, or the force field does not know it.
    """
    made = named.make()
    if settings.modes is None or len(made.atoms) == 1:
        return _Parent(made.atoms, None, bonds(made.atoms))
    if calculator is None:
        if made.mmff is None:
            raise Refused("MMFF94 does not know it")
        forces = made.mmff
    else:
        made = _relaxed(made, calculator)

        def forces(x: np.ndarray) -> np.ndarray:
            return np.asarray(calculator.get_forces(Atoms(made.atoms.numbers, positions=x)))

    hessian = numerical_hessian(forces, made.atoms.positions)
    return _Parent(made.atoms, normal_modes(made.atoms, hessian), bonds(made.atoms))


def _relaxed(made: Molecule, calculator: Any) -> Molecule:
    """The molecule at a minimum of a calculator.

    Raises:
        Refused: it is not reached.
    """
    atoms = made.atoms.copy()
    atoms.calc = calculator
    try:
        done = BFGS(atoms, logfile=None).run(fmax=FMAX, steps=STEPS)
    except Exception as error:  # engines raise errors of their own
        raise Refused(f"relaxation failed ({type(error).__name__})") from None
    if not done:
        raise Refused("not relaxed")
    return Molecule(Atoms(atoms.numbers, positions=atoms.positions))


def _disturbed(parent: _Parent, settings: MoleculeSettings, rng: np.random.Generator) -> Draft:
    """One structure with everything that the settings ask for.

    Raises:
        Refused: an atom moved too far along the modes.
    """
    atoms, drawn = parent.atoms, dict[str, object]()
    if parent.modes is not None and settings.modes is not None:
        temperature = between(rng, settings.modes.temperature)
        moved = displacement(parent.modes, temperature, rng)
        if np.linalg.norm(moved, axis=1).max() > settings.modes.largest_displacement:
            raise Refused("moved too far")
        atoms = Atoms(atoms.numbers, positions=atoms.positions + moved)
        drawn["temperature"] = rounded(temperature)
    if parent.bonds and rng.random() < settings.torsions:
        inner = [b for b in parent.bonds if b.inner]
        for bond in inner:
            atoms = turned(atoms, bond, float(rng.uniform(-180, 180)))
        drawn["torsions"] = len(inner)
    if parent.bonds and rng.random() < settings.stretched:
        bond, factor = parent.bonds[int(rng.integers(len(parent.bonds)))], between(rng, settings.stretch)
        atoms = stretched(atoms, bond, factor)
        drawn |= {"stretched": [bond.a, bond.b], "stretch": rounded(factor)}
    rattle = between(rng, settings.rattle)
    return Draft(distort.rattled(atoms, rattle, rng), drawn | {"rattle": rounded(rattle)})
