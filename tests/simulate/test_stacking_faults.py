"""Stacking faults against the same job in ASE with free surfaces, and what symmetry says of the curves."""

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixedLine
from ase.io import write
from ase.optimize import BFGS

from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.emt import Emt
from rutile.potentials.evaluate import evaluate
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.faults import extremes, faults, shifted, stacked
from rutile.simulate.relax import relax
from rutile.simulate.settings import FaultSettings, RelaxSettings
from rutile.structures.structures import Structures
from rutile.tasks.faults import TASK, FaultTaskSettings

QUIET = SilentReporter()
JOULE = 0.1 / GPA
METALS = {"Cu": 3.58983, "Al": 3.99427}
"""EMT lattice constants (Angstrom)."""


def crystals(*atoms):
    return Structures.from_ase(list(atoms))


@pytest.fixture(scope="module")
def fcc():
    return faults(crystals(*(bulk(name, a=a) for name, a in METALS.items())), Emt(), FaultSettings(), QUIET)


def by_ase(metal: str, parts: tuple[float, ...]) -> list[float]:
    """Fault energies (J/m^2) of slabs with free surfaces, the upper half shifted by parts of a/2 [1 1 -2]."""
    a, energies = METALS[metal], []
    for part in (0.0, *parts):
        slab = fcc111(metal, (1, 1, 14), a=a, vacuum=8.0, periodic=True)
        third = (slab.cell[0] + slab.cell[1]) / 3  # from one hollow to the next
        upper = slab.positions[:, 2] > slab.positions[:, 2].mean()
        slab.positions[upper] += 3 * part * third
        slab.calc = EMT()
        slab.set_constraint([FixedLine(k, (0, 0, 1)) for k in range(len(slab))])
        BFGS(slab, logfile=None).run(fmax=0.002, steps=300)
        energies.append(slab.get_potential_energy())
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    return [(e - energies[0]) / area * JOULE for e in energies[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 1])
def test_faults_of_fcc_are_those_of_ase(fcc, k):
    found = fcc[2 * k]
    assert (found.plane, found.direction) == ((1, 1, 1), (1, 1, -2))
    assert found.at == pytest.approx(1 / 3)
    # along +[1 1 -2] or -[1 1 -2]: the intrinsic fault is on one side, atoms on top of each other on the other
    one, other = by_ase(list(METALS)[k], (1 / 3, 2 / 3))
    low, high = sorted((one, other))
    assert found.stable * JOULE == pytest.approx(low, abs=1.5e-3)
    assert found.energy.max() * JOULE == pytest.approx(high, abs=0.02 * high)
    sixth = min(by_ase(list(METALS)[k], (1 / 6,))[0], by_ase(list(METALS)[k], (5 / 6,))[0])
    assert found.energy[2] * JOULE == pytest.approx(sixth, rel=0.02)
    assert found.unstable == pytest.approx(found.energy[2], rel=0.02)


@pytest.mark.slow
def test_curves_have_the_symmetry_of_the_crystal(fcc):
    for along_bond in (fcc[1], fcc[3]):
        np.testing.assert_allclose(along_bond.energy, along_bond.energy[::-1], atol=1e-5)
        assert along_bond.stable is None
        assert along_bond.unstable == pytest.approx(along_bond.energy.max(), rel=1e-3)
    assert fcc[0].period == pytest.approx(3.58983 * 1.5**0.5, abs=1e-4)
    assert fcc[1].period == pytest.approx(3.58983 / 2**0.5, abs=1e-4)


def test_a_surface_holds_its_curves():
    how = FaultSettings(grid=(3, 3), planes=((1, 1, 1),), directions=((1, 1, -2),))
    (one,) = faults(crystals(bulk("Cu", a=3.58983)), Emt(), how, QUIET)
    assert one.surface.min() == pytest.approx(one.stable, abs=1e-6)
    assert sorted(one.surface.round(5).flatten().tolist())[-1] == pytest.approx(one.energy.max(), abs=1e-4)
    assert one.surface[0, 0] == 0.0


@pytest.mark.parametrize(
    ("atoms", "plane"),
    [
        (bulk("Fe", cubic=True), (1, 1, 0)),
        (bulk("Fe", cubic=True), (1, 1, 2)),
        (bulk("Mg"), (0, 0, 1)),
        (bulk("Mg"), (1, 0, 0)),
        (bulk("Cu", cubic=True), (2, 1, 0)),
        (bulk("NaCl", "rocksalt", a=5.64, cubic=True), (1, 1, 0)),
    ],
)
def test_stacks_are_the_crystal_again(atoms, plane):
    """Energy per atom of the stack, and of the stack shifted by its own vectors, is that of the crystal."""
    potential = LennardJones(cutoff=6.0)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell * 1.5, scale_atoms=True)
    stack = stacked(atoms, plane, 15.0, 0)
    assert stack.atoms.cell[2, 2] >= 15.0
    assert stack.atoms.cell[:2, 2] == pytest.approx(0.0)
    both = [atoms, stack.atoms, shifted(stack.atoms, stack.atoms.cell[0]), shifted(stack.atoms, stack.atoms.cell[1])]
    found = evaluate(potential, crystals(*both)).energy.numpy() / [len(a) for a in both]
    np.testing.assert_allclose(found, found[0], atol=1e-9)
    z = np.sort(stack.atoms.positions[:, 2])
    assert z[0] > 0.1
    assert z[-1] < stack.atoms.cell[2, 2] - 0.1


@pytest.mark.slow
def test_the_basal_fault_of_hcp():
    given = bulk("Cu", "hcp", a=2.54, c=4.14)
    found = relax(crystals(given), Emt(), RelaxSettings(cell="full", fmax=1e-3), QUIET)
    one, other = faults(found.structures, Emt(), FaultSettings(), QUIET)
    assert one.direction == (1, -1, 0)
    assert one.at in (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert one.stable < 0.2 * one.unstable
    np.testing.assert_allclose(other.energy, other.energy[::-1], atol=1e-5)


def test_extremes_of_a_known_curve():
    x = np.linspace(0, 1, 25)
    unstable, stable, at = extremes(x, 1 - np.cos(2 * np.pi * x) + 1.2 * (1 - np.cos(4 * np.pi * x)))
    assert (stable, at) == (pytest.approx(2.0), pytest.approx(0.5))
    c = -1 / 4.8  # where the slope, sin + 2.4 sin 2x, is 0
    assert unstable == pytest.approx(1 - c + 1.2 * (2 - 2 * c**2), rel=2e-3)
    assert extremes(x, 1 - np.cos(2 * np.pi * x))[1:] == (None, None)


def test_the_height_of_a_cell_relaxes_alone():
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * [1.01, 1.0, 1.06], scale_atoms=True)
    atoms.positions[0] += [0.1, 0.05, 0.08]
    done = relax(crystals(atoms), Emt(), RelaxSettings(cell="height", along="z", fmax=1e-3), QUIET)
    assert bool(done.converged)
    cell = done.structures.cell[0].numpy()
    assert cell[0] == pytest.approx(atoms.cell[0])
    assert cell[2, 2] < atoms.cell[2, 2] - 0.05
    assert float(done.stress[0, 2, 2].abs()) < 0.05 * GPA
    assert done.structures.positions[:, :2].numpy() == pytest.approx(atoms.positions[:, :2])


@pytest.mark.slow
def test_the_task_writes_tables_and_refuses_what_cannot_be(tmp_path):
    write(tmp_path / "cu.extxyz", bulk("Cu", a=3.58983))
    given = {"structures": [tmp_path / "cu.extxyz"], "model": "emt", "relax": False, "out": tmp_path / "out"}
    result = TASK.run(FaultTaskSettings(**given, points=7, inner="none", grid=(3, 2)), QUIET)
    assert [row.direction for row in result.faults] == ["[1 1 -2]", "[1 -1 0]"]
    with (tmp_path / "out/curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    assert float(rows[6]["energy"]) == 0.0
    assert result.report.read_text().count("<svg") == 3  # one surface for both directions
    for more, says in (
        ({"planes": [(1, 1, 1)], "directions": [(1, 0, 0)]}, "not in the plane"),
        ({"planes": [(1, 1, 1)]}, "one for each plane"),
        ({"planes": [(0, 0, 0)]}, r"planes: \[0, 0, 0\] is none; give three indices that are not all 0"),
        ({"planes": [(1, 1, 1)], "directions": [(0, 0, 0)]}, r"directions: \[0, 0, 0\] is none"),
        ({"cut": 3}, "1 gaps, counted from 0"),
    ):
        with pytest.raises(SettingsError, match=says):
            TASK.run(FaultTaskSettings(**given, **more), QUIET)
    write(tmp_path / "cu.extxyz", Atoms("Cu2", [(0, 0, 0), (1.5, 1.6, 1.7)], cell=[3, 3.3, 4], pbc=True))
    with pytest.raises(SettingsError, match="none are usual"):
        TASK.run(FaultTaskSettings(**given), QUIET)
