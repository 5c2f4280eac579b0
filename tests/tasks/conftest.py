import ase.io
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A file of sixteen frames of rattled copper with energies and forces of effective medium theory."""
    frames = []
    for seed in range(16):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.15, seed=seed)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    path = tmp_path_factory.mktemp("copper") / "frames.extxyz"
    ase.io.write(path, frames)
    return path
