import ase.io
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from rutile.potentials.catalogue import make
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import BehlerSettings


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


@pytest.fixture
def committee(tmp_path):
    """Three random networks, smooth and with little curvature."""
    settings = BehlerSettings(auto={"cutoff": 4.0}, hidden=(4,), activation="tanh", scaling="none")
    members = [make(settings, (29,), seed) for seed in range(3)]
    for member in members:
        member.set_energy_scale(0.2)
    Model(members, ModelInfo(elements=(29,))).save(tmp_path / "committee.rutile")
    return tmp_path / "committee.rutile"
