"""Molecules to begin with: SMILES through RDKit, ASE's own, and files."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import atomic_numbers

from rutile.build.crystals import bare
from rutile.build.recipe import Refused
from rutile.build.settings import MoleculeSource
from rutile.core.errors import MissingPackageError, SettingsError
from rutile.core.seeds import integer
from rutile.core.units import ENERGY_UNITS
from rutile.structures.io import expand, iterate

MMFF_STEPS = 2000
"""Steps of a relaxation with MMFF94."""


@dataclass(frozen=True)
class Molecule:
    """A geometry, and forces of MMFF94 where its bonds are known."""

    atoms: Atoms
    mmff: Callable[[np.ndarray], np.ndarray] | None = None
    """Positions [N, 3] (Angstrom) -> forces [N, 3] (eV/Angstrom)."""


@dataclass(frozen=True)
class Named:
    """A molecule that can be made."""

    name: str
    make: Callable[[], Molecule]
    """May raise `Refused`."""


def named_molecules(source: MoleculeSource, seed: int) -> list[Named]:
    """The molecules of a source; conformers one by one.

    Raises:
        MissingPackageError: RDKit is not installed and SMILES are given.
        SettingsError: a SMILES or a name is wrong.
        FileError: a file cannot be read.
    """
    return [*_from_smiles(source, seed), *_from_names(source), *_from_files(source)]


def molecule_called(text: str, seed: int) -> Atoms:
    """A molecule by the name of a file, a name that ASE knows (also an element), or a SMILES, tried in this order.

    Raises:
        SettingsError: it is none of them, or has no geometry.
        MissingPackageError: it may be a SMILES, and RDKit is not installed.
        FileError: the file cannot be read.
    """
    path = Path(text)
    if path.is_file():
        source = MoleculeSource(files=[path])
    elif text in g2.names or text in atomic_numbers:
        source = MoleculeSource(names=(text,))
    else:
        source = MoleculeSource(smiles=(text,))
    try:
        return named_molecules(source, seed)[0].make().atoms
    except Refused as why:
        raise SettingsError(f"{text!r}: {why}; give a file with its geometry") from None
    except (SettingsError, MissingPackageError) as error:
        if source.smiles:
            reason = str(error).removeprefix("molecules.smiles: ").replace("molecules.smiles needs", "a SMILES needs")
            told = f"{text!r} is no file and no molecule that ASE knows, such as H2O or CO; {reason}"
            raise type(error)(told) from None
        raise


def _from_smiles(source: MoleculeSource, seed: int) -> Iterator[Named]:
    if not source.smiles:
        return
    if importlib.util.find_spec("rdkit") is None:
        raise MissingPackageError("molecules.smiles needs the package rdkit: pip install 'rutile[molecules]'")
    for text in source.smiles:
        graph = _graph(text)
        for n in range(source.conformers):
            yield Named(f"{text}/{n}", partial(_conformer, graph, integer(seed, "conformer", text, n)))


def _graph(smiles: str) -> Any:
    """RDKit molecule with hydrogens.

    Raises:
        SettingsError: this is no SMILES.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        graph = Chem.MolFromSmiles(smiles)
    if graph is None or graph.GetNumAtoms() == 0:
        raise SettingsError(f"molecules.smiles: {smiles!r} is no SMILES, such as CCO for ethanol")
    return Chem.AddHs(graph)


def _conformer(graph: Any, seed: int) -> Molecule:
    """A conformer by ETKDG (Riniker and Landrum 2015, doi:10.1021/acs.jcim.5b00654), relaxed by MMFF94 where it can be.

    Raises:
        Refused: no geometry is found.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import AllChem, rdDistGeom, rdForceFieldHelpers

    graph = Chem.Mol(graph)
    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = seed % (2**31 - 1)
    numbers = [a.GetAtomicNum() for a in graph.GetAtoms()]
    if len(numbers) == 1:
        return Molecule(Atoms(numbers))
    with rdBase.BlockLogs():
        if rdDistGeom.EmbedMolecule(graph, settings) < 0:
            raise Refused("no conformer")
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(graph)
        if properties is None:
            return Molecule(Atoms(numbers, positions=graph.GetConformer().GetPositions()))
        field = AllChem.MMFFGetMoleculeForceField(graph, properties)
        field.Minimize(maxIts=MMFF_STEPS, forceTol=1e-6, energyTol=1e-10)
    atoms = Atoms(numbers, positions=graph.GetConformer().GetPositions())
    return Molecule(atoms, lambda x: _mmff_forces(field, x))


def _mmff_forces(field: Any, positions: np.ndarray) -> np.ndarray:
    """Forces (eV/Angstrom), [N, 3]; RDKit's are gradients in kcal/mol/Angstrom."""
    field.Initialize()  # forgets the distances of the positions before
    gradient = np.array(field.CalcGrad(positions.ravel().tolist()))
    return -gradient.reshape(-1, 3) * ENERGY_UNITS["kcal/mol"]


def _from_names(source: MoleculeSource) -> Iterator[Named]:
    for name in source.names:
        if name not in g2.names and name not in atomic_numbers:
            raise SettingsError(
                f"molecules.names: ASE knows no {name!r}; give an element, a molecule of the G2 set such as H2O, "
                "CH3OH, C6H6, or molecules.smiles"
            )
        yield Named(name, partial(_known, name))


def _known(name: str) -> Molecule:
    return Molecule(known_molecule(name))


def known_molecule(name: str) -> Atoms:
    """An atom, or a molecule of ASE's G2 set; the name is one of these."""
    return Atoms(name) if name in atomic_numbers else bare(molecule(name))


def _from_files(source: MoleculeSource) -> Iterator[Named]:
    for path in expand(source.files) if source.files else []:
        for n, atoms in enumerate(iterate(path)):
            if atoms.pbc.any():
                raise SettingsError(f"molecules.files: {path} frame {n} is periodic: no molecule")
            yield Named(f"{path.name}#{n}", partial(Molecule, bare(atoms)))
