"""`rutile adsorb`."""

import csv
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms
from ase.io import read, write

from rutile.core.errors import ElementError, GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import make
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import BehlerSettings
from rutile.tasks import kept_relaxations
from rutile.tasks.adsorb import TASK, AdsorbTaskSettings

CUT = {"crystals": {"elements": ["Cu"], "prototypes": ["fcc"]}, "miller": [(1, 1, 1)]}


def bare_slab(element, size, a=3.59):
    """As files hold it."""
    slab = fcc111(element, size, a=a, vacuum=8.0, periodic=True)
    return Atoms(slab.numbers, positions=slab.positions, cell=slab.cell, pbc=True)


def settings(tmp_path, **more):
    given = {"model": "emt", "adsorbates": ["O"], "fmax": 0.01, "out": tmp_path / "out"} | more
    return AdsorbTaskSettings(**given)


@pytest.mark.slow
def test_slabs_are_cut_from_relaxed_crystals(tmp_path):
    result = TASK.run(settings(tmp_path, references={"O": "0.5 O2"}, together=[["O", "O"]], **CUT), SilentReporter())
    single = [row for row in result.minima if row.interaction is None]
    assert {row.site for row in single} <= {"hollow Cu3 fcc", "hollow Cu3 hcp"}
    assert all(row.reference == "0.5 O2" and row.coverage == 0.25 for row in single)
    oxygen = next(a for a in read(tmp_path / "out/alone.extxyz", ":") if a.info["name"] == "O2")
    atom = next(a for a in read(tmp_path / "out/alone.extxyz", ":") if a.info["name"] == "O")
    to_atom = oxygen.info["total_energy"] / 2 - atom.info["total_energy"]
    assert single[0].energy + to_atom == pytest.approx(-4.616, abs=3e-3)
    pairs = [row for row in result.minima if row.interaction is not None]
    assert pairs[0].interaction == pytest.approx(pairs[0].energy - 2 * single[0].energy, abs=1e-9)
    assert pairs[0].coverage == 0.5
    with result.table.open() as file:
        assert len(list(csv.DictReader(file))) == len(result.minima)
    best = read(result.structures, 0)
    assert len(best.constraints[0].index) == 8  # the lower two of four layers
    assert best.info["adsorption_energy"] == pytest.approx(single[0].energy)
    page = result.report.read_text()
    assert page.count("<svg") >= 5
    assert json.loads((tmp_path / "out/result.json").read_text())["tried"] == result.tried


@pytest.mark.slow
def test_atoms_fixed_in_a_file_stay_and_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    slab = bare_slab("Cu", (1, 1, 3))
    slab.set_constraint(FixAtoms([0]))
    write(tmp_path / "slab.extxyz", slab)
    given = settings(tmp_path, structures=[tmp_path / "slab.extxyz"])
    other = settings(tmp_path, structures=[tmp_path / "slab.extxyz"], out=tmp_path / "whole")
    whole = TASK.run(other, SilentReporter())
    add, count = kept_relaxations.KeptRelaxations.add, []

    def stop(self, number, relaxed, way=()):
        add(self, number, relaxed, way)
        count.append(number)
        if len(count) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(kept_relaxations.KeptRelaxations, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        TASK.run(given, SilentReporter())
    monkeypatch.setattr(kept_relaxations.KeptRelaxations, "add", add)
    reporter = SilentReporter()
    result = TASK.run(given, reporter)
    assert "going on after" in " ".join(reporter.messages)
    energies = [row.energy for row in result.minima]
    assert energies == pytest.approx([row.energy for row in whole.minima], abs=1e-6)
    final = read(result.structures, 0)
    assert np.allclose(final.positions[0], slab.positions[0])
    assert not list((tmp_path / "out").glob(".*.unfinished"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "kind", "match"),
    [
        ({}, SettingsError, "no slabs"),
        (CUT | {"adsorbates": ["Xx"]}, SettingsError, "'Xx' is no file and no molecule"),
        (CUT | {"adsorbates": ["F"]}, ElementError, "adsorbate F"),
        (CUT | {"references": {"O": "O2"}}, SettingsError, "1 O too many"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, more, kind, match):
    with pytest.raises(kind, match=match) as caught:
        TASK.run(settings(tmp_path, **more), SilentReporter())
    assert "\n" not in str(caught.value)


def test_a_crystal_is_no_slab(tmp_path):
    write(tmp_path / "cu.cif", bulk("Cu", cubic=True))
    with pytest.raises(GeometryError, match=r"cu.cif#0: no slab, with 1.8 Å of vacuum") as caught:
        TASK.run(settings(tmp_path, structures=[tmp_path / "cu.cif"]), SilentReporter())
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("periodic", [True, False], ids=["periodic", "not along z"])
def test_a_left_handed_slab_is_told_of_and_binds_as_its_lattice_does(tmp_path, periodic):
    right = bare_slab("Cu", (2, 1, 3))
    right.pbc = (True, True, periodic)
    left = right.copy()
    left.set_cell(right.cell[[1, 0, 2]])
    write(tmp_path / "slabs.extxyz", [right, left])
    reporter = SilentReporter()
    given = settings(tmp_path, structures=[tmp_path / "slabs.extxyz"], sites=["hollow"])
    rows = TASK.run(given, reporter).minima
    (said,) = [w for w in reporter.warnings if "left-handed" in w]
    assert said.startswith(f"{tmp_path / 'slabs.extxyz'}#1: its cell vectors are left-handed (volume -")
    lowest = [min(r.energy for r in rows if r.slab.endswith(f"#{n}")) for n in (0, 1)]
    assert lowest[0] < -3
    assert lowest[1] == pytest.approx(lowest[0], abs=2e-3)


def test_an_element_that_the_model_does_not_know_in_a_slab(tmp_path):
    write(tmp_path / "slab.extxyz", bare_slab("Ir", (1, 1, 3)))
    with pytest.raises(ElementError, match="Ir"):
        TASK.run(settings(tmp_path, structures=[tmp_path / "slab.extxyz"]), SilentReporter())


def test_a_committee_says_how_sure_it_is(tmp_path):
    """Random networks; and what is not relaxed is said not to be."""
    how = BehlerSettings(auto={"cutoff": 4.0}, hidden=(4,), activation="tanh", scaling="none")
    members = [make(how, (8, 29), seed) for seed in (1, 2)]
    for member in members:
        member.set_energy_scale(0.2)
    Model(members, ModelInfo(elements=(8, 29))).save(tmp_path / "two.rutile")
    write(tmp_path / "slab.extxyz", bare_slab("Cu", (1, 1, 2)))
    given = {"structures": [tmp_path / "slab.extxyz"], "model": tmp_path / "two.rutile", "max_steps": 3}
    rows = TASK.run(settings(tmp_path, **given), SilentReporter()).minima
    assert all(row.energy_std is not None and row.energy_std > 0 for row in rows)
    assert any("not relaxed after 3 steps" in row.outcome for row in rows)
