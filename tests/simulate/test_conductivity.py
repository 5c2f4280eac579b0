"""Thermal conductivity: phono3py done one at a time, argon, symmetry, isotopes, committees and what is missing."""

import csv
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from rutile.core.errors import GeometryError, MissingPackageError
from rutile.core.reporting import SilentReporter
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.settings import ConductivitySettings
from rutile.structures.structures import Structures
from rutile.tasks.conductivity import TASK, ConductivityTaskSettings

QUIET = SilentReporter()
ARGON = bulk("Ar", cubic=True, a=5.27)
SMALL = {"supercell": (2, 2, 2), "mesh": (5, 5, 5), "temperatures": [80.0, 20.0]}


def test_without_the_package_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "phono3py", None)
    write(tmp_path / "ar.extxyz", ARGON)
    settings = ConductivityTaskSettings(structures=[tmp_path / "ar.extxyz"], model="lennard_jones", out=tmp_path / "k")
    with pytest.raises(MissingPackageError, match=r"pip install 'rutile\[conductivity\]'"):
        TASK.run(settings, QUIET)


phono3py = pytest.importorskip("phono3py")


def found(atoms, **settings):
    from rutile.simulate.conductivity import conductivities

    how = ConductivitySettings(**SMALL | settings)
    batch = Structures.from_ase(atoms)
    return conductivities(batch, LennardJones(), how, QUIET)


@pytest.mark.slow
def test_as_phono3py_one_at_a_time_on_the_same_forces():
    from phonopy.structure.atoms import PhonopyAtoms

    hcp = bulk("Ar", "hcp", a=3.72, c=6.07)
    both = found([ARGON, hcp])
    cell = PhonopyAtoms(numbers=hcp.numbers, cell=hcp.cell.array, positions=hcp.positions, masses=hcp.get_masses())
    theirs = phono3py.Phono3py(cell, np.diag([2, 2, 2]), "P", symprec=1e-3)
    theirs.generate_displacements(distance=0.03)
    images = [Atoms(c.numbers, c.positions, cell=c.cell, pbc=True) for c in theirs.supercells_with_displacements]
    forces = []
    for image in images:
        image.calc = RutileCalculator([LennardJones()])
        forces.append(image.get_forces())
    theirs.forces = np.array(forces)
    theirs.produce_fc3()
    theirs.symmetrize_fc3()
    theirs.produce_fc2()
    theirs.symmetrize_fc2()
    theirs.mesh_numbers = [5, 5, 5]
    theirs.init_phph_interaction()
    theirs.run_thermal_conductivity(temperatures=[20.0, 80.0])
    expected = theirs.thermal_conductivity.kappa[0]
    mine = both[1]
    assert mine.displaced == len(images)
    assert mine.temperature.tolist() == [20.0, 80.0]
    np.testing.assert_allclose(np.diagonal(mine.tensor, axis1=1, axis2=2), expected[:, :3], rtol=0.02)  # ties
    np.testing.assert_allclose(mine.phono3py.fc2, theirs.fc2, atol=1e-10)
    np.testing.assert_allclose(mine.phono3py.fc3, theirs.fc3, atol=1e-10)
    assert mine.tensor[0, 0, 0] == pytest.approx(mine.tensor[0, 1, 1], rel=1e-6)  # hexagonal
    assert mine.tensor[0, 0, 0] != pytest.approx(mine.tensor[0, 2, 2], rel=1e-3)
    cubic = both[0]
    np.testing.assert_allclose(cubic.tensor, cubic.mean[:, None, None] * np.eye(3), atol=1e-6)
    np.testing.assert_allclose(cubic.cumulative[:, -1], cubic.mean, rtol=1e-6)
    assert (np.diff(cubic.cumulative, axis=1) > -1e-12).all()


@pytest.mark.slow
def test_solid_argon_conducts_as_badly_as_it_does():
    (one,) = found(ARGON, mesh=(9, 9, 9))
    assert 0.1 < one.mean[1] < 0.6  # at 80 K; measured: 0.3 to 0.4 W/m/K
    assert 2.5 < one.mean[0] / one.mean[1] < 4.5  # about 1/T


@pytest.mark.slow
def test_more_scattering_conducts_less_and_the_direct_solution_more():
    (plain,) = found(ARGON)
    (isotopes,) = found(bulk("Kr", cubic=True, a=5.27), isotopes=True)
    (heavy,) = found(bulk("Kr", cubic=True, a=5.27))
    (grains,) = found(ARGON, boundary=0.001)
    (direct,) = found(ARGON, method="direct")
    (cut,) = found(ARGON, pair_cutoff=4.5)
    assert isotopes.mean[0] < heavy.mean[0] < plain.mean[0]
    assert grains.mean[0] < 0.8 * plain.mean[0]
    assert direct.mean[0] > plain.mean[0]
    assert cut.displaced < plain.displaced
    assert cut.mean[1] == pytest.approx(plain.mean[1], rel=0.3)


@pytest.mark.slow
def test_the_task_writes_tables_pages_and_files_of_phono3py(tmp_path):
    write(tmp_path / "ar.extxyz", ARGON)
    out = tmp_path / "k"
    settings = ConductivityTaskSettings(structures=[tmp_path / "ar.extxyz"], model="lennard_jones", out=out, **SMALL)
    result = TASK.run(settings, QUIET)
    assert [row.temperature for row in result.structures] == [20.0, 80.0]
    assert result.crystals[0].mesh == (5, 5, 5)
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["kappa"]) == pytest.approx(result.structures[0].kappa)
    again = phono3py.load(out / "000_Ar4/phono3py_params.yaml", log_level=0)
    assert again.fc3 is not None
    with (out / "000_Ar4/cumulative.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["kappa_80K"]) == pytest.approx(result.structures[1].kappa, rel=1e-6)
    assert "svg" in result.report.read_text()


@pytest.mark.slow
def test_modes_that_do_not_collide_are_said():
    (small,) = found(bulk("Ar", a=5.27), mesh=(7, 7, 7))  # in two cells each way opposite neighbours are one atom
    assert small.failure.startswith("force constants of third order vanish")
    (coarse,) = found(ARGON, mesh=(2, 2, 2))
    assert "modes collide with no others on a mesh of 2 x 2 x 2: take a finer one" in coarse.failure
    (fine,) = found(ARGON)
    assert fine.failure == ""


def test_molecules_are_refused():
    with pytest.raises(GeometryError, match="thermal conductivity"):
        found(Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]]))
