"""Public data through the API: all of it, and what may hold some elements; the command line shows the same."""

import pytest
from platform_site import ok

from rutile import starter
from rutile.core.reporting import SilentReporter
from rutile.starter.public_sets import PUBLIC_SETS
from rutile.tasks.starter import StarterSettings, run


@pytest.fixture
def everything(site):
    return ok(site.page("vic").get("/api/resources"))


def test_what_comes_with_rutile_stands_before_what_others_keep(everything):
    names = [one["name"] for one in everything]
    assert names == [*starter.SETS, *(one.name for one in PUBLIC_SETS)]
    assert [one["comes"] for one in everything] == [True] * len(starter.SETS) + [False] * len(PUBLIC_SETS)
    assert all(one["licence"] and one["method"] and one["frames"] for one in everything)
    assert all(one["doi"] and one["files"].startswith("https://") for one in everything if not one["comes"])


def test_sets_without_an_element_are_left_out_and_those_of_all_elements_stay(site, everything):
    found = ok(site.page("ben").get("/api/resources?elements=Ti,O"))
    names = {one["name"] for one in found}
    assert {"tio2", "TiO2", "MPtrj"} <= names
    assert not {"silicon", "Water", "3BPA"} & names
    assert len(found) < len(everything)
    listed = run(StarterSettings(elements=["Ti", "O"]), SilentReporter())
    assert [*(s.name for s in listed.sets), *(s.name for s in listed.public)] == [one["name"] for one in found]


def test_what_is_no_symbol_is_refused(site):
    assert site.page("ben").get("/api/resources?elements=ti o").status_code == 422
