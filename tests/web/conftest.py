"""A real browser in front of a real server; without Debian's Chromium these tests are skipped."""

from pathlib import Path

import pytest
from page_site import CHROMIUM, serving, signed_in


@pytest.fixture(scope="session")
def browser_type_launch_args():
    if not Path(CHROMIUM["executable_path"]).exists():
        pytest.skip(f"no browser at {CHROMIUM['executable_path']}: apt-get install chromium fonts-dejavu-core")
    return CHROMIUM


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """A server: its address and its login link."""
    with serving(tmp_path_factory.mktemp("platform")) as told:
        yield told


@pytest.fixture(scope="session")
def site(platform, browser):
    """A page that has signed in; every test goes on with it."""
    with signed_in(platform, browser) as page:
        yield page


@pytest.fixture(autouse=True)
def quiet(request):
    """No test may leave an error in the console."""
    if "site" not in request.fixturenames:
        yield
        return
    site = request.getfixturevalue("site")
    site.complaints.clear()
    yield
    assert not site.complaints, site.complaints
