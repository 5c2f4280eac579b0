"""`rutile starter`: lists the sets, and copies them."""

import pytest
import yaml

from rutile import starter
from rutile.core.errors import FileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.generate import GenerateSettings
from rutile.tasks.starter import StarterSettings, run


@pytest.mark.slow
def test_without_names_all_sets_are_listed_and_nothing_is_written(tmp_path):
    found = run(StarterSettings(out=tmp_path / "new"), SilentReporter())
    assert [s.name for s in found.sets] == list(starter.SETS)
    assert [s.frames for s in found.sets] == [len(starter.frames(name)) for name in starter.SETS]
    assert found.files == []
    assert not (tmp_path / "new").exists()


def test_copies_are_the_files_themselves(tmp_path):
    found = run(StarterSettings(names=["silicon", "tio2_rpbe"], out=tmp_path / "new"), SilentReporter())
    assert {p.name for p in found.files} == {
        "silicon.extxyz", "silicon.json", "silicon.yaml", "tio2_rpbe.extxyz", "tio2_rpbe.json"
    }  # fmt: skip
    assert (tmp_path / "new/silicon.extxyz").read_bytes() == starter.path("silicon").read_bytes()
    assert starter.frames("silicon", folder=tmp_path / "new") == starter.frames("silicon")
    run(StarterSettings(names=["silicon"], out=tmp_path / "new"), SilentReporter())  # the same again is no harm


def test_a_file_of_other_content_is_not_overwritten(tmp_path):
    (tmp_path / "silicon.json").write_text("mine")
    with pytest.raises(FileError, match=r"silicon\.json is there with other content"):
        run(StarterSettings(names=["silicon"], out=tmp_path), SilentReporter())
    assert (tmp_path / "silicon.json").read_text() == "mine"
    assert not (tmp_path / "silicon.extxyz").exists()


def test_unknown_set_names_those_that_are():
    with pytest.raises(SettingsError, match="'sillicon': there are tio2, tio2_extension"):
        run(StarterSettings(names=["sillicon"]), SilentReporter())


@pytest.mark.parametrize("name", [n for n in starter.SETS if starter.plan(n)])
def test_plans_are_valid_and_do_not_write_over_the_set(name):
    settings = GenerateSettings.model_validate(yaml.safe_load(starter.plan(name).read_text()))
    assert settings.out.name != f"{name}.extxyz"
    assert len(settings.steps) >= 2
