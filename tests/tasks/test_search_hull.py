"""`rutile search` of variable composition, from its settings to its files, live, and on after a kill."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase.io import read

from rutile.core.errors import RutileError
from rutile.core.reporting import SilentReporter
from rutile.search.settings import ClusterSearch, CrystalSearch
from rutile.tasks.hull_figures import hull_figure
from rutile.tasks.search import SearchSettings, run

CUAU = {
    "formula": "Cu-Au", "model": "emt", "structure": CrystalSearch(atoms=(1, 4)), "relaxations": 64, "first": 12,
    "batch": 8, "fmax": 0.02,
}  # fmt: skip


def table(folder):
    return list(csv.DictReader((folder / "table.csv").read_text().splitlines()))


@pytest.mark.slow
def test_the_hull_of_copper_and_gold(tmp_path):
    reporter = SilentReporter()
    result = run(SearchSettings(**CUAU, out=tmp_path / "out", every=0.0), reporter)
    rows = result.structures
    stable = [r for r in rows if r.above < 1e-6]
    assert {"Cu", "Au"} <= {r.formula for r in stable}
    assert result.stable == len(stable)
    assert [r.above for r in rows] == sorted(r.above for r in rows)
    assert all(r.formation == pytest.approx(0, abs=1e-9) for r in stable if r.formula in ("Cu", "Au"))
    assert all(r.formation < 0 for r in stable if r.formula not in ("Cu", "Au"))
    assert max(r.above for r in rows) <= 0.3
    images = read(result.best, ":")
    assert [i.info["formula"] for i in images] == [r.formula for r in rows]
    assert [len(i) for i in images] == [r.atoms for r in rows]
    page = result.report.read_text()
    assert "Convex hull" in page
    assert page.count("<svg") >= 2
    told = table(tmp_path / "out")
    assert [float(t["above"]) for t in told] == [r.above for r in rows]
    units = json.loads((tmp_path / "out" / "result.json").read_text())["units"]["table.csv"]
    assert units["formation"] == "eV/atom"
    again = run(SearchSettings(**CUAU, out=tmp_path / "out"), SilentReporter())
    assert again == result


@pytest.mark.long
def test_killed_and_gone_on(tmp_path):
    """As if it had not been killed: the same structures are made of the same parents."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    command = [
        sys.executable, "-m", "rutile", "search", "Cu-Au", "structure.atoms=[1,4]", "model=emt", "relaxations=80",
        "batch=8", "first=8", "every=0",
    ]  # fmt: skip
    subprocess.run([*command, f"out={whole}"], check=True, capture_output=True, timeout=500)
    first = subprocess.Popen([*command, f"out={out}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = out / "search.jsonl"
    until = time.monotonic() + 400
    while not (log.exists() and log.read_text().count('{"done"') >= 40):
        assert time.monotonic() < until
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    if (out / "table.csv").exists():  # whole, however the kill came
        assert table(out)
    subprocess.run([*command, f"out={out}"], check=True, capture_output=True, timeout=500)
    lines = [[json.loads(x) for x in (f / "search.jsonl").read_text().splitlines()] for f in (whole, out)]
    ordered = [[x["made"] for x in one if "made" in x] for one in lines]
    assert ordered[0] == ordered[1]
    made = [[x["done"]["made"] for x in one if "done" in x] for one in lines]
    assert made[0] == made[1]
    assert (whole / "table.csv").read_text() == (out / "table.csv").read_text()


@pytest.mark.slow
def test_the_table_lives_while_the_search_runs(tmp_path):
    class Watching(SilentReporter):
        seen = 0

        def info(self, text):
            if "relaxed" in text and (tmp_path / "out" / "report.html").exists():
                page = (tmp_path / "out" / "report.html").read_text()
                self.seen += bool(table(tmp_path / "out") and "of 48" in page)

    reporter = Watching()
    small = {"formula": "Cu5", "model": "emt", "structure": ClusterSearch(), "relaxations": 48, "first": 4, "batch": 2}
    run(SearchSettings(**small, out=tmp_path / "out", every=0.0), reporter)
    assert reporter.seen >= 1
    assert "of 48" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"formula": "Cu-Xx"}, "Xx"),
        ({"formula": "Cu-"}, "two end members"),
        ({"formula": "Cu-Cu"}, "not independent"),
        ({"formula": "Cu3Au-Cu5Au4"}, "Cu5Au4, whose unit has 9 atoms"),
        ({"structure": ClusterSearch()}, "is for crystals"),
        ({"structure": CrystalSearch(units=(3,))}, "structure.units"),
        ({"formula": "CuAu"}, "structure.atoms"),
        ({"target": -3.0}, "target"),
        ({"formula": "Cu-Ti"}, "Ti"),
        ({"operators": {"ad": 1.0}}, "no such operator; did you mean add"),
    ],
)
def test_wrong_settings(tmp_path, changes, text):
    with pytest.raises(RutileError, match=text):
        run(SearchSettings(**CUAU | changes, out=tmp_path / "out"), SilentReporter())


@pytest.mark.slow
def test_figures_of_hulls():
    ends = np.eye(3)
    parts = np.vstack([ends, [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.2, 0.6]]])
    formation, above = np.array([0, 0, 0, -0.2, -0.3, 0.1]), np.array([0, 0, 0, 0, 0, 0.3])
    picture = hull_figure("Hull", ["Li", "Fe", "O"], parts, formation, above)
    assert all(f">{name}<" in picture for name in ("Li", "Fe", "O"))
    line = hull_figure("Hull", ["Li", "Fe"], parts[[0, 1, 3]][:, :2], formation[[0, 1, 3]], above[[0, 1, 3]])
    assert "part of Fe" in line
    assert hull_figure("Hull", ["a", "b", "c", "d"], np.eye(4), np.zeros(4), np.zeros(4)) is None
