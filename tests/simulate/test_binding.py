"""Guests in frameworks: energies against explicit sums, and where guests are put."""

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from ase.spacegroup import crystal

from rutile.build.inserting import open_sites, with_guests
from rutile.build.placing import far_enough
from rutile.build.recipe import Refused
from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.suited import suited_defaults
from rutile.potentials.catalogue import make
from rutile.potentials.combine import Sum
from rutile.potentials.lennard_jones import LennardJones
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import DispersionSettings, PaiNNSettings
from rutile.simulate.adsorbates import condition
from rutile.simulate.forces import evaluate_many
from rutile.structures.fingerprint import pairs_within
from rutile.structures.structures import Structures
from rutile.tasks.binding import TASK, BindTaskSettings, with_dispersion


def sodalite():
    """The all-silica framework SOD (IZA), Im-3m, 36 atoms."""
    made = crystal(["Si", "O"], [(0.25, 0.5, 0), (0.3534, 0.3534, 0)], spacegroup=229, cellpar=[8.965] * 3 + [90] * 3)
    return Atoms(made.numbers, positions=made.positions, cell=made.cell, pbc=True)


def settings(tmp_path, **more):
    write(tmp_path / "sodalite.extxyz", sodalite())
    given = {"model": "lennard_jones", "structures": [tmp_path / "sodalite.extxyz"], "guests": ["Ar"], "held": True,
             "starts": 4, "fmax": 0.005, "out": tmp_path / "out"}  # fmt: skip
    return BindTaskSettings(**given | more)


@pytest.mark.slow
def test_argon_in_sodalite_with_and_without_dispersion(tmp_path):
    result = TASK.run(settings(tmp_path, starts=2, fmax=0.02), SilentReporter())
    (row,) = result.binding
    assert row.outcome == "done"
    assert row.energy_d3 < row.energy < -0.1  # bound, and by dispersion the more
    assert row.dispersion == pytest.approx(row.energy_d3 - row.energy)
    assert (row.starts, row.whole) == (2, 2)
    with result.table.open() as file:
        (line,) = csv.DictReader(file)
    assert float(line["energy_d3"]) == pytest.approx(row.energy_d3)
    final = read(result.structures)
    assert np.allclose(final.positions[:36], sodalite().positions)
    plain = TASK.run(
        settings(tmp_path, starts=2, fmax=0.02, dispersion=None, out=tmp_path / "plain"), SilentReporter()
    ).binding[0]
    assert plain.energy == pytest.approx(row.energy, abs=1e-9)
    assert plain.energy_d3 is None
    alone = read(tmp_path / "plain/bound.extxyz")
    i, j, d = pairs_within(alone.positions, alone.cell.array, alone.pbc, 10.2)
    guest = (i == 36) | (j == 36)  # all pairs of the guest, also with its images
    x = np.clip(3 * d[guest] / 10.2 - 2, 0, 1)
    s6 = (3.4 / d[guest]) ** 6
    assert plain.energy == pytest.approx(
        float((4 * 0.0103 * (s6**2 - s6) * (1 - x**3 * (10 - 15 * x + 6 * x**2))).sum())
    )


@pytest.mark.slow
def test_the_lowest_start_counts_and_a_stopped_run_goes_on(tmp_path, monkeypatch):
    from rutile.tasks import kept_relaxations

    given = settings(tmp_path, dispersion=None, counts=[2], fmax=0.05)
    whole = TASK.run(settings(tmp_path, dispersion=None, counts=[2], fmax=0.05, out=tmp_path / "w"), SilentReporter())
    add, done = kept_relaxations.KeptRelaxations.add, []

    def stop(self, number, relaxed, way=()):
        add(self, number, relaxed, way)
        done.append(number)
        if len(done) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kept_relaxations.KeptRelaxations, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            TASK.run(given, SilentReporter())
    reporter = SilentReporter()
    row = TASK.run(given, reporter).binding[0]
    assert any("going on after 2 of 4" in text for text in reporter.messages)
    assert row.energy == pytest.approx(whole.binding[0].energy, abs=1e-9)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in (tmp_path / "w").iterdir())


def test_a_sum_of_potentials_is_the_sum_of_their_energies():
    argon = Structures.from_ase(Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.8]]))
    alone = LennardJones()
    both = with_dispersion(alone, "pbe", {18})
    pair, more = (float(evaluate_many(argon, p, 10, SilentReporter()).energy) for p in (alone, both))
    assert pair == pytest.approx(4 * 0.0103 * ((3.4 / 3.8) ** 12 - (3.4 / 3.8) ** 6))
    assert -0.02 < more - pair < -0.004  # D3(BJ) of two argon atoms


@pytest.mark.slow
def test_dispersion_follows_what_the_model_holds(tmp_path):
    network = make(PaiNNSettings(features=4, interactions=1, radial=4), (18,))
    both = Sum.of([network, make(DispersionSettings(), (18,))])
    Model([make(PaiNNSettings(features=4, interactions=1, radial=4), (18,))], ModelInfo(elements=(18,))).save(
        tmp_path / "plain.rutile"
    )
    (tmp_path / "run").mkdir()
    Model([both], ModelInfo(elements=(18,))).save(tmp_path / "run/model.rutile")
    assert settings(tmp_path, model=tmp_path / "plain.rutile").dispersion == "pbe"
    assert settings(tmp_path, model=tmp_path / "run").dispersion is None
    told = suited_defaults(BindTaskSettings, {"model": str(tmp_path / "run"), "dispersion": "r2scan"})
    assert told == {"dispersion": None}
    given = settings(tmp_path, model=tmp_path / "run", guests=["Ar"], held=False, dispersion="r2scan")
    write(tmp_path / "sodalite.extxyz", Atoms("Ar", cell=[12] * 3, pbc=True))
    with pytest.raises(SettingsError, match=r"dispersion = r2scan: .* has D3 in it: take dispersion=null"):
        TASK.run(given, SilentReporter())


def pyramid():
    """Magnesium with five oxygen atoms and an open place above, in a large cell."""
    around = 2.05 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, -1]])
    return Atoms("MgO5", positions=np.vstack([[0, 0, 0], around]) + 6, cell=[12] * 3, pbc=True)


def test_water_binds_to_an_open_metal_atom_by_its_oxygen():
    (site,) = open_sites(pyramid())
    assert site.direction == pytest.approx([0, 0, 1], abs=1e-9)
    made = with_guests(pyramid(), molecule("H2O"), 1, 1.7, np.random.default_rng(1), at_open=True)
    oxygen, hydrogen = made.positions[6] - 6, made.positions[7:] - 6
    assert np.linalg.norm(oxygen) == pytest.approx(1.1 * (1.41 + 0.66))
    assert (np.linalg.norm(hydrogen, axis=1) > np.linalg.norm(oxygen)).all()
    closed = pyramid() + Atoms("O", positions=[[6, 6, 8.05]])
    assert open_sites(closed) == []


@pytest.mark.slow
def test_guests_at_random_keep_away_and_too_many_are_refused():
    host = sodalite()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        made = with_guests(host, molecule("H2O"), 2, 1.7, rng, at_open=True)  # no metal: at random
        assert far_enough(made[:36], made[36:], 1.7)
        assert far_enough(made[36:39], made[39:], 1.7)
        assert condition(made, [molecule("H2O")] * 2) == ""
    with pytest.raises(Refused, match="no room"):
        with_guests(host, molecule("C6H6"), 8, 1.7, np.random.default_rng(0), at_open=False)


def test_broken_guests_are_seen():
    water = molecule("H2O")
    whole = sodalite() + Atoms(water.numbers, positions=water.positions)
    whole.positions[37] += [2.0, 0, 0]
    assert condition(whole, [water]) == "dissociated"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "kind", "match"),
    [
        ({"guests": ["C6H6"], "counts": [9], "starts": 1}, GeometryError, r"9 C6H6 in \w+ \(host 0\): no room"),
        ({"guests": ["nothing"]}, SettingsError, "'nothing' is no file and no molecule"),
    ],
)
def test_bad_input_of_binding_is_one_line(tmp_path, more, kind, match):
    with pytest.raises(kind, match=match):
        TASK.run(settings(tmp_path, **more), SilentReporter())


def test_a_molecule_is_no_framework(tmp_path):
    write(tmp_path / "water.extxyz", molecule("H2O"))
    with pytest.raises(GeometryError, match="no framework"):
        TASK.run(settings(tmp_path, structures=[tmp_path / "water.extxyz"]), SilentReporter())
