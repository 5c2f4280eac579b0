"""`rutile screen`: a chain of tasks on many structures."""

import csv
import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.screen import TASK, ScreenSettings

CHAIN = [{"task": "relax", "cell": "full", "fmax": 0.02}, {"task": "eos", "points": 5}]


@pytest.fixture
def metals(tmp_path):
    """Rattled metals that EMT knows, and titanium, which it does not."""
    rng = np.random.default_rng(0)
    images = [bulk("Cu", cubic=True), bulk("Ti"), bulk("Al", cubic=True), bulk("Au", cubic=True)]
    for atoms in images:
        atoms.rattle(0.05, rng=rng)
    write(tmp_path / "metals.extxyz", images)
    return tmp_path / "metals.extxyz"


def settings(metals, **more):
    given = {"structures": [metals], "model": "emt", "chain": CHAIN, "chunk": 3, "out": metals.parent / "out"} | more
    return ScreenSettings(**given)


def test_a_chain_gives_one_table_and_one_bad_structure_does_not_spoil_it(metals):
    reporter = SilentReporter()
    result = TASK.run(settings(metals), reporter)
    assert (result.structures, result.done, result.known) == (4, 3, 0)
    with result.table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["formula"] for row in rows] == ["Cu4", "Ti2", "Al4", "Au4"]
    assert "Ti" in rows[1]["outcome"]
    assert rows[1]["outcome"].startswith("relax: ")
    assert len(reporter.warnings) == 1
    assert float(rows[0]["eos.bulk_modulus"]) == pytest.approx(134.4, rel=0.02)  # of EMT, and not of the rattled start
    assert float(rows[2]["eos.bulk_modulus"]) == pytest.approx(39.3, rel=0.02)
    finals = read(result.final, ":")
    assert finals[0].cell.lengths() == pytest.approx([3.59] * 3, abs=0.01)  # relax has passed them on
    assert finals[2].info["relax_spacegroup"] == "Fm-3m"
    page = result.report.read_text()
    assert 'class="sortable"' in page
    assert "addEventListener" in page


def test_what_is_done_is_not_done_again(metals):
    first = TASK.run(settings(metals), SilentReporter())
    before = first.table.read_text()
    parts = sorted((metals.parent / "out/parts").glob("*/rows.json"))
    assert len(parts) == 2
    marked = json.loads(parts[0].read_text())
    times = {path: path.stat().st_mtime_ns for path in parts}
    parts[1].unlink()  # as after a kill
    again = TASK.run(settings(metals), SilentReporter())
    assert again.known == len(marked)
    assert again.table.read_text() == before
    assert parts[0].stat().st_mtime_ns == times[parts[0]]
    other = TASK.run(settings(metals, chain=CHAIN[:1]), SilentReporter())
    assert other.known == 0


@pytest.mark.slow
def test_processes_give_the_same_table(metals):
    here = TASK.run(settings(metals, chunk=1), SilentReporter())
    there = TASK.run(
        settings(metals, chunk=1, workers=2, executor={"name": "local"}, out=metals.parent / "there"), SilentReporter()
    )
    assert here.table.read_text() == there.table.read_text()


def test_parquet(metals):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'rutile[parquet]'")
    TASK.run(settings(metals, chain=CHAIN[:1], parquet=True), SilentReporter())
    table = parquet.read_table(metals.parent / "out/table.parquet").to_pylist()
    assert [row["formula"] for row in table] == ["Cu4", "Ti2", "Al4", "Au4"]
    assert table[0]["relax.energy"] == pytest.approx(-0.007, abs=1e-3)


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ({"task": "train"}, "tasks of a chain are relax"),
        ({}, "tasks of a chain are relax"),
        ({"task": "relax", "fmax": -1}, "fmax"),
        ({"task": "relax", "cel": "full"}, "cel"),
        ({"task": "eos", "model": "other"}, "set for all tasks together"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_before_anything_is_done(metals, link, says):
    with pytest.raises(SettingsError, match=says):
        TASK.run(settings(metals, chain=[*CHAIN, link]), SilentReporter())
    assert not (metals.parent / "out").exists()
