"""Folders of searches: gone on with by `search resume`, exported by `search export`, read by the next one as seeds."""

import json
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read

from rutile.cli.main import main
from rutile.core.errors import RutileError
from rutile.core.reporting import SilentReporter
from rutile.search.settings import CrystalSearch
from rutile.structures.io import read_all
from rutile.structures.symmetry import describe_crystal, standard_cell
from rutile.tasks import search, search_export, search_resume
from rutile.tasks.search import SearchSettings
from rutile.tasks.search_export import ExportSettings
from rutile.tasks.search_resume import ResumeSettings
from rutile.tasks.search_start import composition_of, write_each


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("search") / "cu"
    settings = SearchSettings(
        formula="CuAu", model="emt", structure=CrystalSearch(units=(1, 2)), relaxations=24, first=8, batch=8, out=out,
        seed=4,
    )  # fmt: skip
    search.run(settings, SilentReporter())
    return out


@pytest.mark.slow
def test_resume_is_the_same_search(folder, tmp_path):
    assert json.loads((folder / "settings.json").read_text())["formula"] == "CuAu"
    more = search_resume.run(ResumeSettings(folder=folder, relaxations=32), SilentReporter())
    assert more.relaxed == 32
    whole = search.run(
        SearchSettings(
            formula="CuAu", model="emt", structure=CrystalSearch(units=(1, 2)), relaxations=32, first=8, batch=8,
            seed=4, out=tmp_path / "whole",
        ),
        SilentReporter(),
    )  # fmt: skip
    assert [r.energy for r in more.structures] == [r.energy for r in whole.structures]
    assert search_resume.run(ResumeSettings(folder=folder), SilentReporter()).relaxed == 32  # as it was last


def test_a_file_for_each_leaves_the_files_of_others(tmp_path):
    mine, old = tmp_path / "structures" / "seed.cif", tmp_path / "structures" / "007_Cu_P1.cif"
    old.parent.mkdir()
    for path in (mine, old):
        path.write_text("")
    write_each(tmp_path, [bulk("Cu")])
    assert sorted(p.name for p in old.parent.iterdir()) == ["001_Cu_P1.cif", "seed.cif"]


@pytest.mark.slow
def test_export_and_seeds(folder, tmp_path):
    result = search_export.run(
        ExportSettings(folder=folder, format="cif", cell="conventional", most=2, out=tmp_path / "x"), SilentReporter()
    )
    best = read_all(folder / "best.extxyz")
    assert len(result.structures) == 2
    for row, atoms in zip(result.structures, best, strict=False):
        (again,) = read_all(tmp_path / "x" / row.file)
        assert describe_crystal(again).spacegroup == row.symmetry == describe_crystal(atoms).spacegroup
        assert again.cell.volume / len(again) == pytest.approx(row.volume, rel=1e-3)
    only = search_export.run(
        ExportSettings(folder=folder, symmetry=[result.structures[1].symmetry], format="poscar"), SilentReporter()
    )
    assert {r.symmetry for r in only.structures} == {result.structures[1].symmetry}
    assert only.out == folder / "export"
    assert sorted(p.name for p in (folder / "structures").glob("*.cif"))[0] == result.structures[0].file

    seeded = search.run(
        SearchSettings(
            formula="CuAu", model="emt", structure=CrystalSearch(units=(1, 2)), relaxations=len(best) + 2, first=2,
            seeds=[folder / "best.extxyz"], out=tmp_path / "seeded",
        ),
        SilentReporter(),
    )  # fmt: skip
    assert seeded.structures[0].operator == "seed"
    assert seeded.structures[0].energy == pytest.approx(result.structures[0].energy, abs=1e-4)
    page = seeded.report.read_text()
    assert "structures/001_" in page


@pytest.mark.slow
def test_what_cannot_be(folder, tmp_path, capsys):
    for words, text in (
        (["search", "resume", str(tmp_path / "no")], "no such folder"),
        (["search", "export", str(tmp_path)], "no search"),
        (["search", "export", str(folder), "symmetry=Pbca"], "none of"),
        (["search", "Cu4", "model=emt", "structure=cluster", f"seeds={folder / 'best.extxyz'}",
          f"out={tmp_path / 'a'}"], "best.extxyz: frame 0: it is periodic"),
    ):  # fmt: skip
        assert main(words) == 2
        told = capsys.readouterr().err
        assert text in told
        assert told.startswith(f"rutile search{' ' + words[1] if words[1] in ('resume', 'export') else ''}: error: ")
    (tmp_path / "settings.json").write_text('{"formula": "Cu", "nothing": 1}')
    with pytest.raises(RutileError, match="nothing"):
        search_resume.run(ResumeSettings(folder=tmp_path), SilentReporter())
    (tmp_path / "result.json").write_text('{"structures": [{"energy": 1}]}')
    with pytest.raises(RutileError, match="is not the result of a search: give"):
        search_export.run(ExportSettings(folder=tmp_path), SilentReporter())


@pytest.mark.slow
def test_export_of_a_search_that_runs_or_was_stopped(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "on")
    (tmp_path / "on" / "result.json").unlink()
    log = tmp_path / "on" / "search.jsonl"
    with log.open("a") as file:
        file.write('{"made": {"number": 99')  # it is at work
    before = log.read_bytes()
    reporter = SilentReporter()
    found = search_export.run(ExportSettings(folder=tmp_path / "on", most=3), reporter)
    assert log.read_bytes() == before
    assert any("not finished" in w for w in reporter.warnings)
    known = json.loads((folder / "result.json").read_text())["structures"]
    assert found.structures[0].symmetry == known[0]["symmetry"]
    assert found.structures[0].energy == pytest.approx(known[0]["energy"], abs=2e-3)
    log.write_bytes(before[: before.index(b'{"done"')])
    with pytest.raises(RutileError, match="none of 0 relaxed"):
        search_export.run(ExportSettings(folder=tmp_path / "on"), SilentReporter())


def test_compositions_are_written_as_the_search_writes_them():
    rutile, gold, cluster = (Atoms("O4Ti2", pbc=True), Atoms("AuCu3", pbc=True), Atoms("Cu4"))
    assert composition_of(rutile, "TiO2") == "TiO2"
    assert composition_of(gold, "Cu-Au") == "Cu3Au"
    assert composition_of(Atoms("Cu2", pbc=True), "Cu-Au") == "Cu"
    assert composition_of(cluster, "Cu4") == "Cu4"
    assert composition_of(Atoms("CH4"), "") == "CH4"


def test_help_of_two_words(capsys):
    assert main(["search", "resume", "--help"]) == 0
    assert "rutile search resume [FOLDER]" in capsys.readouterr().out
    assert main(["help", "search", "export"]) == 0
    assert "rutile search export [FOLDER]" in capsys.readouterr().out
    assert main(["schema", "search", "export"]) == 0
    assert "folder" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.slow
def test_standard_cells_are_the_same_crystal(folder):
    atoms = read(folder / "best.extxyz", "0")
    primitive, conventional = standard_cell(atoms, primitive=True), standard_cell(atoms, primitive=False)
    assert len(conventional) % len(primitive) == 0
    assert np.isclose(primitive.cell.volume / len(primitive), conventional.cell.volume / len(conventional))


@pytest.mark.slow
def test_export_spares_the_table_of_the_search(folder):
    before = (folder / "table.csv").read_bytes()
    with pytest.raises(RutileError, match="would be lost"):
        search_export.run(ExportSettings(folder=folder, out=folder / ".." / folder.name), SilentReporter())
    assert (folder / "table.csv").read_bytes() == before
