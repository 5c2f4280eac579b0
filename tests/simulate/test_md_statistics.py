"""Whether dynamics samples what it says: statistics of thermostats and barostats, and what energy does without them."""

import warnings

import numpy as np
import pytest
import torch
from ase.build import bulk
from scipy.stats import chi2, kstest

from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA, KB
from rutile.potentials.emt import Emt
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.means import mean_with_error
from rutile.simulate.md.settings import (
    CellRescaleSettings,
    CsvrSettings,
    LangevinSettings,
    MdSettings,
    NoseHooverSettings,
    NveSettings,
    ParrinelloRahmanSettings,
)
from rutile.simulate.md.state import kinetic_energy, kinetic_of, pressure_tensor
from rutile.simulate.verlet import velocity_verlet
from rutile.structures.structures import Structures

pytestmark = [pytest.mark.physics]

LJ = LennardJones(sigma=2.55, epsilon=0.31, cutoff=4.9)
"""A crystal with a bulk modulus of 170 GPa that melts far above the temperatures here."""
RUNS, TIMESTEP = 32, 3.0
BURN = 800
"""Steps before the first sample."""


def crystals(runs=RUNS):
    atoms = bulk("Cu", "fcc", a=4.0, cubic=True).repeat((2, 1, 1))
    atoms.symbols[::2] = "Al"
    return Structures.from_ase([atoms] * runs)


def sampled(ensemble, steps, every, potential=LJ, structures=None):
    """Kinetic and potential energies, volumes, pressures and kinetic energies of Al: [samples, runs]."""
    how = MdSettings(ensemble=ensemble, time=(BURN + steps) * TIMESTEP / 1000, timestep=TIMESTEP, seed=3)
    dynamics = Dynamics([potential], how)
    state = dynamics.begin(crystals() if structures is None else structures)
    rows = []
    for moment in dynamics.run(state):
        assert not moment.stopped
        s = moment.state
        if s.step > BURN and s.step % every == 0:
            light = (s.structures.numbers == 13)[:, None]
            aluminium = kinetic_energy(s.velocities * light, s.mass, s.structures)
            p = pressure_tensor(s).diagonal(dim1=1, dim2=2).mean(1)
            rows.append(torch.stack([kinetic_of(s), s.energy, s.structures.volume, p, aluminium]))
    return torch.stack(rows, 1).numpy(), state.dof[0].item()


THERMOSTATS = {
    "langevin": LangevinSettings(friction_time=60),
    "nose_hoover": NoseHooverSettings(thermostat_time=60),
    "csvr": CsvrSettings(thermostat_time=60),
    "cell_rescale": CellRescaleSettings(thermostat_time=60, barostat_time=300, cell="full"),
    "cell_rescale_langevin": CellRescaleSettings(
        thermostat_time=60, barostat_time=300, cell="full", thermostat="langevin"
    ),
    "parrinello_rahman": ParrinelloRahmanSettings(thermostat_time=60, barostat_time=300, cell="full"),
}


@pytest.mark.parametrize("kelvin", [200.0, 500.0])
@pytest.mark.parametrize("name", list(THERMOSTATS))
def test_kinetic_energies_are_those_of_the_canonical_ensemble(name, kelvin):
    ensemble = THERMOSTATS[name].model_copy(update={"temperature": kelvin})
    (kinetic, _, _, _, aluminium), dof = sampled(ensemble, 1500, 50)
    assert dof == (24 if name.endswith("langevin") else 21)
    x = 2 * kinetic / (KB * kelvin)
    assert kstest(x.ravel(), chi2(dof).cdf).pvalue > 0.01
    # each element has its share of the degrees of freedom: the light ones lose those of the whole by their mass
    light, heavy = 4 * 26.98, 4 * 63.55
    share = 12 - 3 * (light / (light + heavy)) * (dof == 21)
    each = (2 * aluminium / (KB * kelvin)).mean(0)
    error = each.std(ddof=1) / np.sqrt(RUNS)
    assert abs(each.mean() - share) < 4 * error + 0.01 * share


def data(ensemble, kelvin, pressure, kinetic, potential, volume, dof):
    import physical_validation as pv

    unit = pv.data.UnitData(
        kb=KB, energy_conversion=1.0, length_conversion=1.0, volume_conversion=1.0, temperature_conversion=1.0,
        pressure_conversion=1.0, time_conversion=1.0, energy_str="eV", length_str="A", volume_str="A^3",
        temperature_str="K", pressure_str="eV/A^3", time_str="fs",
    )  # fmt: skip
    constant = {"volume": 1.0} if ensemble == "NVT" else {"pressure": pressure}
    moving = 8
    return pv.data.SimulationData(
        units=unit, dt=TIMESTEP,
        ensemble=pv.data.EnsembleData(ensemble=ensemble, natoms=moving, temperature=kelvin, **constant),
        system=pv.data.SystemData(
            natoms=moving, nconstraints=0, ndof_reduction_tra=24 - int(dof), ndof_reduction_rot=0
        ),
        observables=pv.data.ObservableData(
            kinetic_energy=kinetic.ravel(), potential_energy=potential.ravel(),
            total_energy=(kinetic + potential).ravel(), volume=volume.ravel(), constant_of_motion=None,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("name", list(THERMOSTATS))
def test_energies_and_volumes_at_two_temperatures_differ_as_boltzmann_says(name):
    import physical_validation as pv

    kind = "NPT" if THERMOSTATS[name].MOVES_CELL else "NVT"
    pair = []
    for kelvin in (300.0, 345.0):
        ensemble = THERMOSTATS[name].model_copy(update={"temperature": kelvin})
        (kinetic, potential, volume, _, _), dof = sampled(ensemble, 2400, 60)
        pair.append(data(kind, kelvin, 0.0, kinetic, potential, volume, dof))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantiles = pv.ensemble.check(*pair, data_is_uncorrelated=True, bootstrap_seed=1, verbosity=0)
        mean, width = pv.kinetic_energy.distribution(
            pair[0], strict=False, bootstrap_seed=1, verbosity=0, data_is_uncorrelated=True
        )
    assert max(map(abs, quantiles)) < 4
    assert max(abs(mean), abs(width)) < 4


@pytest.mark.parametrize("name", ["cell_rescale", "parrinello_rahman"])
@pytest.mark.parametrize("cell", ["isotropic", "full"])
def test_pressure_and_compressibility(name, cell):
    """The mean pressure is that asked for; volumes fluctuate as they answer to pressure: <dV^2> = kT V kappa."""
    found = {}
    for pressure in (-1.5, 1.5):
        ensemble = THERMOSTATS[name].model_copy(update={"temperature": 300.0, "cell": cell, "pressure": pressure})
        (_, _, volume, p, _), _ = sampled(ensemble, 4000 if name == "parrinello_rahman" else 2000, 10)
        runs = p.mean(0) / GPA
        assert abs(runs.mean() - pressure) < 4 * runs.std(ddof=1) / np.sqrt(RUNS) + 0.05
        found[pressure] = volume
    mean = {p: v.mean() for p, v in found.items()}
    middle = (mean[1.5] + mean[-1.5]) / 2
    answer = (mean[-1.5] - mean[1.5]) / (3 * GPA) / middle
    fluctuation = np.mean([(v.var() / v.mean()) for v in found.values()]) / (KB * 300)
    assert fluctuation == pytest.approx(answer, rel=0.1)


def test_energy_of_copper_is_conserved_as_in_the_reference():
    """32 atoms of copper with EMT at 600 K: a scatter of 0.008 meV/atom at 2 fs and no drift."""
    atoms = bulk("Cu", "fcc", a=3.58983, cubic=True).repeat(2)
    how = MdSettings(ensemble=NveSettings(temperature=600), time=5, timestep=2)
    start = Dynamics([Emt()], how).begin(Structures.from_ase(atoms))
    scatter = {}
    for step, steps in ((2.0, 2500), (4.0, 1250)):
        path = velocity_verlet(start.structures, start.velocities, Emt(), step, steps, SilentReporter())
        scatter[step] = 1000 * path.scatter().item() / 32
        if step == 2.0:
            assert abs(1000 * 1000 * path.drift().item() / 32) < 0.01
    assert 0.003 < scatter[2.0] < 0.02
    assert scatter[4.0] / scatter[2.0] == pytest.approx(4, rel=0.15)


def test_a_thousand_steps_back():
    atoms = bulk("Cu", "fcc", a=3.58983, cubic=True).repeat(2)
    how = MdSettings(ensemble=NveSettings(temperature=600), time=2, timestep=2)
    start = Dynamics([Emt()], how).begin(Structures.from_ase(atoms))
    there = velocity_verlet(start.structures, start.velocities, Emt(), 2.0, 1000, SilentReporter())
    back = velocity_verlet(there.structures, -there.velocities, Emt(), 2.0, 1000, SilentReporter())
    assert (there.structures.positions - start.structures.positions).norm(dim=1).max() > 0.1
    assert (back.structures.positions - start.structures.positions).norm(dim=1).max() < 1e-6


def test_blocks_see_through_correlation():
    """Error bars of means of a correlated series are those of many independent ones."""
    rng = np.random.default_rng(0)
    decay, length = 0.98, 4000
    means, errors = [], []
    for _ in range(200):
        x = np.zeros(length)
        noise = rng.standard_normal(length)
        x[0] = noise[0] / np.sqrt(1 - decay**2)
        for k in range(1, length):
            x[k] = decay * x[k - 1] + noise[k]
        mean, error = mean_with_error(x)
        means.append(mean)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.2)
    assert mean_with_error(np.arange(5.0)) == (2.0, None)
