"""`rutile generate` and `rutile build`: files, page, result, and what is said about wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rutile.build.plan import images
from rutile.cli.main import main, read_settings
from rutile.core.reporting import SilentReporter
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings
from rutile.tasks.catalogue import load_task
from rutile.tasks.generate import GenerateResult

PLAN = """
seed: 3
steps:
  - {name: dimer, elements: [Cu, Au], points: 4}
  - name: bulk
    label: copper
    count: 6
    crystals: {elements: [Cu], prototypes: [fcc, bcc]}
    vacancies: 0.2
  - name: disorder
    count: 2
    formulas: [Cu3Au]
    atoms: [8, 8]
    melt: {forces: emt, time: 5, quench_time: 5, snapshots: 2}
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


def error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(argv) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error:" in x]
    return line


@pytest.mark.slow
def test_a_plan_becomes_structures_a_page_and_a_result(here, capsys):
    assert main(["generate", "plan.yaml", "out=all.extxyz", "--json"]) == 0
    result = GenerateResult.model_validate_json(capsys.readouterr().out)
    assert result == GenerateResult.model_validate_json(Path("all.json").read_text())
    assert [(s.label, s.asked, s.made) for s in result.steps] == [
        ("dimer", 12, 12),
        ("copper", 6, 6),
        ("disorder", 2, 2),
    ]
    assert result.made == 20
    assert result.elements["Cu"] >= 8 + 6 + 2
    page = Path("all.html").read_text()
    for word in ("copper", "Nearest atoms", "Density", "Examples", "<svg"):
        assert word in page
    assert sorted(p.name for p in here.iterdir()) == ["all.extxyz", "all.html", "all.json", "plan.yaml"]
    frames = list(read_frames([Path("all.extxyz")], ReadSettings(group_key="parent"), SilentReporter()))
    assert len({f.group for f in frames}) == 3 + 2 + 1
    assert "exists: choose another out=, or say overwrite=true" in error(
        ["generate", "plan.yaml", "out=all.extxyz"], capsys
    )
    assert main(["generate", "plan.yaml", "out=all.extxyz", "overwrite=true"]) == 0


@pytest.mark.slow
def test_one_builder_from_words(here):
    words = ["dimer", "elements=Cu,Au", "points=3", "out=d.extxyz", "label=pairs"]
    assert main(["build", *words]) == 0
    found = list(images(Path("d.extxyz")))
    assert len(found) == 9
    assert found[0].info["config_type"] == "pairs"
    dotted = ["builder=dimer", "builder.elements=Cu,Au", "builder.points=3", "out=d.extxyz", "builder.label=pairs"]
    assert read_settings(load_task("build"), words) == read_settings(load_task("build"), dotted)


BAD = {
    "no plan": (["generate", "nosuch.yaml"], "nosuch.yaml: no such file"),
    "no steps": (["generate", "seed=1"], "steps: missing"),
    "unknown builder": (["build", "bulky", "count=3"], "builder = 'bulky': unknown; known are molecule"),
    "unknown setting": (["build", "dimer", "elements=Cu", "pionts=3"], "did you mean builder.points?"),
    "unknown element": (["build", "dimer", "elements=Cu,Xx"], "unknown element 'Xx'"),
    "no crystals": (["build", "bulk", "crystals.order=all"], "give files=[...], or elements=[...]"),
    "crystals missing": (["build", "bulk"], "builder.crystals: missing"),
    "missing file": (["build", "slab", "crystals.files=nosuch.cif"], "slab: nosuch.cif: no such file"),
    "prototype": (["build", "bulk", "crystals.elements=Cu", "crystals.prototypes=foc"], "crystals.prototypes"),
    "span": (["build", "bulk", "crystals.elements=Cu", "rattle=[0.3,0.1]"], "the first must not be the larger"),
    "no composition": (["build", "disorder", "density=[1,1]"], "give formulas=[...] or elements=[...]"),
    "formula": (["build", "disorder", "formulas=Ti2Xy"], "unknown element"),
    "model": (["build", "disorder", "formulas=Cu", "melt.forces=model", "melt.forces.file=no.rutile"], "no.rutile"),
    "output": (["build", "dimer", "elements=Cu", "out=x.cif"], "end the name with .extxyz"),
    "output folder": (["build", "dimer", "elements=Cu", "out=plan.yaml/x.extxyz"], "plan.yaml"),
    "all refused": (
        ["build", "bulk", "crystals.elements=Cu", "crystals.prototypes=fcc", "crystals.volume=3", "count=2"],
        "every structure was refused: atoms too close",
    ),
    "zero surface": (["build", "slab", "crystals.elements=Cu", "miller=[[0,0,0]]"], "(0, 0, 0) is no surface"),
    "not cubic": (["build", "boundary", "crystals.elements=Ti", "crystals.prototypes=hcp"], "hcp Ti is not cubic"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_told_in_one_line(name, here, capsys):
    argv, words = BAD[name]
    assert words in error(argv, capsys)
    assert sorted(p.name for p in here.iterdir()) == ["plan.yaml"]


def test_two_steps_of_one_name_are_refused(here, capsys):
    plan = {"steps": [{"name": "dimer", "elements": ["Cu"]}, {"name": "dimer", "elements": ["Au"]}]}
    Path("two.json").write_text(json.dumps(plan))
    assert "two steps are named dimer: give them different labels" in error(["generate", "two.json"], capsys)


def test_help_of_one_builder_leaves_out_the_others(capsys):
    assert main(["build", "slab", "--help"]) == 0
    one = capsys.readouterr().out
    assert "builder=slab" in one
    assert "builder.terminations" in one
    assert "builder=bulk:" not in one
    assert main(["build", "--help"]) == 0
    assert "builder=bulk:" in capsys.readouterr().out
