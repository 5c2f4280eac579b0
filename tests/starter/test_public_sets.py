"""Public sets: each entry can be followed, and what it says that rutile does with the files is understood."""

import re
import shlex
from pathlib import Path

import pytest

from rutile.cli.main import read_settings
from rutile.core.elements import number
from rutile.starter.public_sets import PUBLIC_SETS, that_hold
from rutile.structures.io import FORMATS, by_name
from rutile.tasks.catalogue import TASKS, load_task

every_set = pytest.mark.parametrize("one", PUBLIC_SETS, ids=lambda one: one.name)


@every_set
def test_the_command_is_one_of_rutile(one):
    program, task, *words = shlex.split(one.command)
    assert program == "rutile"
    assert task in TASKS
    settings = read_settings(load_task(task), words)
    files = settings.files if task == "convert" else settings.data
    assert files
    assert all(by_name(Path(str(file))) in FORMATS for file in files if Path(str(file)).suffix)
    if task == "convert":
        assert settings.out.suffix in (".store", ".extxyz")


@every_set
def test_it_says_where_it_is_and_whose(one):
    assert re.fullmatch(r"10\.\d{4,}/\S+", one.doi)
    assert one.files.startswith("https://")
    assert one.licence
    assert [number(symbol) for symbol in one.elements] == sorted({number(symbol) for symbol in one.elements})


def test_names_are_not_given_twice():
    assert len({one.name for one in PUBLIC_SETS}) == len(PUBLIC_SETS)


def test_a_set_of_few_elements_is_found_by_them_alone():
    named = {one.name for one in that_hold(["Sn", "O"]) if one.elements}
    assert named == {"MO2 polymorphs"}
    assert {one.name for one in that_hold([])} == {one.name for one in PUBLIC_SETS}
    assert "MPtrj" in {one.name for one in that_hold(["Sn", "O"])}
