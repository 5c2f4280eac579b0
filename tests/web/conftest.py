"""A real browser in front of a real server; without Debian's Chromium these tests are skipped."""

from pathlib import Path

import pytest
from page_site import serving, signed_in

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def browser_type_launch_args():
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium fonts-dejavu-core")
    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    arguments += ["--disable-gpu-rasterization"]  # software that plays a GPU draws pages slower than none
    return {"executable_path": str(CHROMIUM), "args": arguments}


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
