"""A platform in a temporary folder, and browsers that have signed in."""

import pytest
from platform_site import make_site


@pytest.fixture
def site(tmp_path, database_url):
    site = make_site(tmp_path / "home", database=database_url)
    yield site
    site.platform.close()


@pytest.fixture
def ben(site):
    return site.page("ben")


@pytest.fixture
def eve(site):
    return site.page("eve")


@pytest.fixture
def ada(site):
    return site.page("ada")
