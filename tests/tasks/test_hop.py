"""`rutile hop`: barriers by direction against ASE's elastic band, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from ase.mep import NEB
from ase.optimize import BFGS, FIRE

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.hop import TASK, HopTaskSettings

TAVORITE = Path(__file__).parents[2] / "examples/lifeso4f.cif"


def settings(folder, atoms, **more):
    write(folder / "crystal.extxyz", atoms)
    given = {"structures": [folder / "crystal.extxyz"], "model": "emt", "species": "Cu", "out": folder / "out"} | more
    return HopTaskSettings(**given)


@pytest.mark.slow
def test_a_vacancy_in_copper_hops_as_in_ase(tmp_path):
    given = settings(tmp_path, bulk("Cu"), supercell=(3, 3, 3), images=3, fmax=0.02)
    result = TASK.run(given, SilentReporter())
    assert [row.barrier for row in result.directions] == pytest.approx([result.hops[0].barrier] * 3)
    (hop,) = result.hops
    assert (hop.outcome, hop.equal, hop.imaginary) == ("done", 6, 1)
    assert hop.distance == pytest.approx(3.58983 / 2**0.5, abs=1e-3)  # of the relaxed crystal
    start, end = read(tmp_path / "out/ends.extxyz", ":")
    images = [start.copy() for _ in range(4)] + [end]
    for atoms in images:
        atoms.calc = EMT()
    for atoms in (images[0], images[-1]):
        BFGS(atoms, logfile=None).run(fmax=0.01)
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate(mic=True)
    FIRE(band, logfile=None).run(fmax=0.02, steps=300)
    energies = [atoms.get_potential_energy() for atoms in images]
    assert hop.barrier == pytest.approx(max(energies) - energies[0], abs=3e-3)
    with result.table.open() as file:
        assert [row["direction"] for row in csv.DictReader(file)] == ["[1 0 0]", "[0 1 0]", "[0 0 1]"]
    assert "Along directions" in result.report.read_text()
    again = TASK.run(given, reporter := SilentReporter())  # goes on from what it kept
    assert any("going on" in text for text in reporter.messages)
    assert again.hops[0].barrier == pytest.approx(hop.barrier, abs=1e-9)  # what had converged stays


@pytest.mark.long
def test_lithium_in_tavorite_by_direction(tmp_path):
    given = settings(
        tmp_path, read(TAVORITE), species="Li", model="bond_valence", framework="held", supercell=(2, 2, 2), fmax=0.02,
        directions=[(1, 1, 1), (1, 0, 1), (1, 0, 0)],
    )  # fmt: skip
    result = TASK.run(given, SilentReporter())
    rows = {row.direction: row for row in result.directions}
    assert all(row.outcome == "done" for row in rows.values())
    assert rows["[1 1 1]"].barrier == pytest.approx(0.494, abs=5e-3)  # of this potential, a regression only
    assert rows["[1 1 1]"].barrier < rows["[1 0 0]"].barrier < rows["[1 0 1]"].barrier
    assert len(rows["[1 1 1]"].hops.split()) == 2
    assert all(row.imaginary == 1 for row in result.hops)
    images = read(result.images, ":")
    still = images[0].positions - images[4].positions
    assert (abs(still).max(1) > 1e-9).sum() == 1  # the framework is held


def test_what_cannot_hop_is_said(tmp_path):
    with pytest.raises(GeometryError, match=r"crystal.extxyz#0 \(Cu\): it holds no atom of the species"):
        TASK.run(settings(tmp_path, bulk("Cu"), species="Pd", relax=False), SilentReporter())
    with pytest.raises(SettingsError, match="mechanism=interstitial"):
        TASK.run(settings(tmp_path, bulk("Cu"), sites=[(0.5, 0.5, 0.5)]), SilentReporter())
    with pytest.raises(SettingsError, match=r"\[0, 0, 0\] is no direction"):
        TASK.run(settings(tmp_path, bulk("Cu"), directions=[(0, 0, 0)], relax=False), SilentReporter())
    with pytest.raises(SettingsError, match="cell=true"):
        TASK.run(settings(tmp_path, bulk("Cu"), cell=True), SilentReporter())
    with pytest.raises(GeometryError, match="larger supercell"):
        TASK.run(settings(tmp_path, bulk("Cu"), supercell=(1, 1, 1), relax=False), SilentReporter())
    molecule = bulk("Cu")
    molecule.pbc = False
    with pytest.raises(GeometryError, match="periodic"):
        TASK.run(settings(tmp_path, molecule), SilentReporter())


@pytest.mark.slow
@pytest.mark.parametrize("turned", [True, False])
def test_sites_are_fractions_of_the_cell_of_the_file_left_handed_or_not(tmp_path, turned):
    cell = 4.0 * np.eye(3) * (-1 if turned else 1)
    crystal = Atoms("PdCu", scaled_positions=[(0, 0, 0), (0.25, 0.25, 0.25)], cell=cell, pbc=True)
    given = settings(
        tmp_path, crystal, species="H", mechanism="interstitial", relax=False, framework="held", images=1,
        sites=[(0.6, 0.6, 0.6)], longest=4.5, supercell=(3, 3, 3), max_steps=0, check=False, directions=[(1, 0, 0)],
    )  # fmt: skip
    result = TASK.run(given, SilentReporter())
    ends = read(tmp_path / "out/ends.extxyz", ":")
    copper = [k for k, atom in enumerate(ends[0]) if atom.symbol == "Cu"]
    nearest = ends[0].get_distances(-1, copper, mic=True).min()
    assert nearest == pytest.approx(0.35 * 4.0 * 3**0.5, abs=1e-6)  # 0.15 of the diagonal from -(0.6, 0.6, 0.6)
    way = (ends[len(ends) // 2].positions[-1] - ends[0].positions[-1]) @ np.linalg.inv(crystal.cell.array)
    assert result.hops[0].way == pytest.approx(tuple(way), abs=1e-5)


def test_hops_that_lead_nowhere_are_said(tmp_path):
    given = settings(
        tmp_path, bulk("Pd", cubic=True), species="H", mechanism="interstitial", relax=False,
        sites=[(0.5, 0.5, 0.5), (0.3, 0.5, 0.5)], directions=[(1, 0, 0)], longest=1.0,
    )  # fmt: skip
    with pytest.raises(GeometryError, match="leads along any of the directions"):
        TASK.run(given, SilentReporter())


@pytest.mark.slow
def test_a_committee_gives_the_spread_of_its_barriers(tmp_path, committee):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)  # so that no hop has a barrier of nothing
    given = settings(
        tmp_path, atoms, model=committee, relax=False, framework="held", supercell=(2, 2, 2),
        images=1, max_steps=0, check=False,
    )  # fmt: skip
    result = TASK.run(given, SilentReporter())
    assert max(row.barrier for row in result.hops) > 0
    for row in result.hops:
        assert (row.barrier_std > 0) == (row.barrier > 0)
    spreads = {row.barrier_std for row in result.hops}
    assert all(row.barrier_std in spreads for row in result.directions)
    assert "not converged after 0 steps" in result.directions[0].outcome
