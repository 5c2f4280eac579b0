"""`rutile search` from its settings to its files, and on after a kill."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.build import fcc111
from ase.io import read, write

from rutile.core.errors import RutileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.search.settings import ClusterSearch, CrystalSearch, SurfaceSearch
from rutile.tasks.search import SearchSettings, problem_of, run

CLUSTER = {"formula": "Cu7", "model": "emt", "structure": ClusterSearch(), "relaxations": 40, "first": 10, "batch": 8}


@pytest.mark.slow
def test_cluster(tmp_path):
    reporter = SilentReporter()
    result = run(SearchSettings(**CLUSTER, out=tmp_path / "out"), reporter)
    best = result.structures[0]
    assert best.symmetry == "D5h"  # the pentagonal bipyramid
    assert best.above == 0
    assert result.relaxed == 40
    images = read(result.best, ":")
    assert len(images) == len(result.structures)
    assert [r.energy for r in result.structures] == sorted(r.energy for r in result.structures)
    assert images[0].info["operator"] == best.operator
    page = result.report.read_text()
    assert "Ancestry" in page
    assert "D5h" in page
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["relaxed"] == 40
    assert told["units"]["table.csv"]["energy"] == "eV/atom"

    more = run(SearchSettings(**CLUSTER | {"relaxations": 48}, out=tmp_path / "out"), reporter)
    assert more.relaxed == 48
    assert any("40 relaxations are known" in m for m in reporter.messages)
    again = run(SearchSettings(**CLUSTER | {"relaxations": 48}, out=tmp_path / "out"), SilentReporter())
    assert again == more
    with pytest.raises(SettingsError, match="seed"):
        run(SearchSettings(**CLUSTER | {"seed": 1}, out=tmp_path / "out"), reporter)


@pytest.mark.slow
def test_crystal_under_pressure_and_target(tmp_path):
    settings = SearchSettings(
        formula="Cu", model="emt", structure=CrystalSearch(units=(1, 2, 4), pressure=5.0), relaxations=200, target=0.5,
        out=tmp_path / "out", first=8, batch=8,
    )  # fmt: skip
    result = run(settings, SilentReporter())
    assert result.reached
    assert result.relaxed < 200
    atoms = read(result.best, "0")
    enthalpy = result.structures[0].energy
    volume = atoms.cell.volume / len(atoms)
    assert enthalpy == pytest.approx(5 * volume / 160.2177, abs=0.05)  # PV is nearly all of it; copper of EMT has E ~ 0
    assert volume < 11.5


@pytest.mark.slow
def test_killed_and_gone_on(tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "rutile", "search", "Cu13", "structure=cluster", "model=emt", "relaxations=64", "batch=4",
        f"out={out}",
    ]  # fmt: skip
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = out / "search.jsonl"
    until = time.monotonic() + 240
    while not (log.exists() and log.read_text().count('{"done"') >= 12):
        assert time.monotonic() < until
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    subprocess.run(command, check=True, capture_output=True, timeout=400)
    after = [json.loads(line) for line in log.read_text().splitlines()]
    assert after[: len(before) - 1] == before[:-1]
    done = [line["done"]["number"] for line in after if "done" in line]
    assert sorted(done) == list(range(64))  # none lost, none twice
    made = [line["made"]["number"] for line in after if "made" in line]
    assert made == list(range(64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"formula": "Xx4"}, "Xx"),
        ({"formula": "123"}, "no atoms"),
        ({"formula": "Cu0"}, "no atoms"),
        ({"operators": {"rattel": 1.0}}, "rattel"),
        ({"model": "nothing"}, "nothing"),
        (
            {
                "operators": dict.fromkeys(
                    ("new", "heredity", "twist", "rattle", "relocate", "resurface", "symmetrise"), 0
                )
            },
            "weights",
        ),
    ],
)
def test_wrong_settings(tmp_path: Path, changes, text):
    with pytest.raises(RutileError, match=text):
        run(SearchSettings(**CLUSTER | changes, out=tmp_path / "out"), SilentReporter())


@pytest.mark.parametrize(
    ("structure", "formula", "text"),
    [
        (ClusterSearch(molecules={"H2O": 2}, symmetric=0.2), "", "structure.symmetric is for atoms"),
        (CrystalSearch(molecules={"CO2": 1}, closest=0.5), "", "structure.closest is for atoms"),
    ],
)
def test_settings_that_do_nothing_for_molecules(structure, formula, text):
    with pytest.raises(SettingsError, match=text):
        problem_of(formula, structure)


def test_ranges_ascend():
    with pytest.raises(ValueError, match="is no range"):
        CrystalSearch(atoms=(5, 3))


def test_more_atoms_than_fit_on_a_slab_are_refused_at_once(tmp_path):
    slab = fcc111("Cu", (3, 3, 3), vacuum=8.0, periodic=True)
    slab.info.clear()
    write(tmp_path / "slab.extxyz", slab)
    with pytest.raises(SettingsError, match=r"Cu80 has 80 atoms; .* is room for \d+"):
        problem_of("Cu80", SurfaceSearch(slab=tmp_path / "slab.extxyz"))
    problem_of("Cu12", SurfaceSearch(slab=tmp_path / "slab.extxyz"))


def test_an_element_that_the_model_does_not_know(tmp_path):
    with pytest.raises(RutileError, match="Ti"):
        run(SearchSettings(**CLUSTER | {"formula": "Ti7"}, out=tmp_path / "out"), SilentReporter())


def test_folders_of_adaptive_searches_are_refused(tmp_path):
    (tmp_path / "adapt.jsonl").write_text("")
    with pytest.raises(RutileError, match=r"another kind of search \(adapt.jsonl\)"):
        run(SearchSettings(**CLUSTER, out=tmp_path), SilentReporter())


def test_weights_are_not_negative():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        SearchSettings(**CLUSTER | {"operators": {"rattle": -1.0}})
