"""Every architecture that says it is smooth conserves energy in molecular dynamics: below 1e-5 eV/atom/ps in float64.

Each is trained for seconds on starter frames, so that its forces are those of TiO2 (to a fraction of an eV/Angstrom),
and moves rutile from a minimum of its own. The velocities are of 600 K, of which half goes into the potential. The
step is 0.25 fs, a hundredth of the fastest period (Ti-O stretching, about 40 fs; stiffer in a crude model). Verlet's
energy then oscillates by about 1e-6 eV/atom, which over 0.5 ps limits the slope of the line to a few 1e-6 eV/atom/ps.
"""

import numpy as np
import pytest
import torch
from ase.io import write
from test_every_architecture import FIXED, SMALL, run

from rutile import starter
from rutile.core.reporting import SilentReporter
from rutile.core.units import KB
from rutile.potentials.catalogue import make
from rutile.potentials.checks import smoothness_note
from rutile.potentials.save import load_model
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.simulate.verlet import thermal_velocities, velocity_verlet
from rutile.structures.structures import Structures
from rutile.tasks.train import TrainTaskSettings

MOST = 1e-5
"""eV/atom/ps."""
TIME_STEP, STEPS, TEMPERATURE = 0.25, 2000, 600.0
ORDINARY = 8.0
"""Frames with larger forces (eV/Angstrom) are not trained on."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Frames of one formula unit pair, rattled, heated and strained."""
    kinds = ("rattled", "heated", "strained")
    frames = [
        a
        for a in starter.frames()
        if len(a) == 6 and a.info["config_type"] in kinds and abs(a.arrays["REF_forces"]).max() < ORDINARY
    ]
    path = tmp_path_factory.mktemp("data") / "tio2.extxyz"
    write(path, frames[::2])
    return path


def rutile() -> Structures:
    """Twelve atoms, rattled, so that no symmetry keeps a model on top of a saddle."""
    (atoms,) = (p.atoms for p in starter.dft_polymorphs() if p.name == "rutile")
    atoms = atoms.repeat((1, 1, 2))
    atoms.rattle(0.1, seed=1)
    return Structures.from_ase(atoms)


def smooth(name):
    """What the potential says of itself."""
    settings = {"data": ["none"], "potential": {"name": name, **SMALL[name]}}
    return not smoothness_note(make(TrainTaskSettings.model_validate(settings).potential, (8, 22)))


def test_only_the_local_frame_potential_says_that_it_jumps():
    assert [name for name in SMALL if not smooth(name)] == ["deepmd"]


@pytest.mark.physics
@pytest.mark.parametrize("name", sorted(set(SMALL) - FIXED - {"deepmd"}))
def test_energy_does_not_drift(name, data, tmp_path):
    assert smooth(name)
    trained = run(name, data, tmp_path / "run", epochs=30, batch_size=6)
    (potential,) = load_model(trained.model).members(torch.float64)
    relaxed = relax(rutile(), potential, RelaxSettings(fmax=0.05, max_steps=300), SilentReporter())
    assert relaxed.converged[0], relaxed.failure
    at = relaxed.structures
    velocities = thermal_velocities(at, TEMPERATURE, torch.Generator().manual_seed(0))
    path = velocity_verlet(at, velocities, potential, TIME_STEP, STEPS, SilentReporter())
    n = at.n_atoms
    temperature = (path.kinetic / (1.5 * KB * n)).mean().item()
    assert 200 < temperature < 500  # about half of it, and the atoms have not fallen into a deeper minimum
    drift = np.polyfit(path.time.numpy() / 1000, path.total[:, 0].numpy() / n, 1)[0]
    assert abs(drift) < MOST, f"{drift:.1e} eV/atom/ps at {temperature:.0f} K"
