"""Single sign-on in a browser: by mouse through a provider and back, what is said where it fails, and who sees what."""

import pytest
from page_site import Site, serving, signed_in
from playwright.sync_api import expect

pytest.importorskip("authlib")
from openid_provider import CLIENT, SECRET, provider_at_work

pytestmark = pytest.mark.web


@pytest.fixture(scope="module")
def provider():
    with provider_at_work() as provider:
        yield provider


@pytest.fixture(scope="module")
def server(provider, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sign_on")
    (folder / "secret").write_text(SECRET, encoding="utf-8")
    settings = {"issuer": provider.issuer, "client": CLIENT, "secret_file": folder / "secret", "name": "Chemistry"}
    with serving(folder, *(f"sign_on.{key}={value}" for key, value in settings.items())) as told:
        yield told


@pytest.fixture
def stranger(server, browser):
    """A browser that nobody has signed in with."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    yield Site(context.new_page(), server[0])
    context.close()


@pytest.fixture(scope="module")
def site(server, browser):
    """An administrator."""
    with signed_in(server, browser) as page:
        yield page


def test_somebody_is_invited_and_comes_by_the_provider(site, stranger):
    site.open("/admin")
    site.tab.get_by_text("Make an account").click()
    site.tab.get_by_label("Name", exact=True).fill("benjamin")
    site.tab.get_by_label("Invite by mail address").fill("ben@example.org")
    site.tab.get_by_role("button", name="Make", exact=True).click()
    row = site.tab.get_by_role("row", name="benjamin")
    row.get_by_text("ben@example.org is invited").wait_for()
    assert site.barriers() == []

    guest = stranger.tab
    stranger.open("/compute")
    guest.get_by_role("link", name="Sign in with Chemistry").wait_for()
    assert stranger.barriers() == []
    guest.get_by_role("link", name="Sign in with Chemistry").click()
    guest.get_by_role("heading", name="Compute").wait_for()
    assert guest.url == f"{stranger.address}/#/compute"
    assert stranger.get("session")["user"]["name"] == "benjamin"
    assert [c for c in stranger.complaints if "401" not in c] == []

    site.open("/account")
    site.open("/admin")
    row.get_by_text("Chemistry ben").wait_for()


def test_who_is_refused_is_told_in_words(provider, stranger):
    provider.person = provider.person | {"sub": "2", "email": "zed@example.org"}
    guest = stranger.tab
    stranger.open("/")
    guest.get_by_role("link", name="Sign in with Chemistry").click()
    guest.get_by_role("alert").get_by_text("Chemistry knows you, this server does not yet").wait_for()
    assert stranger.barriers() == []
    guest.set_viewport_size({"width": 400, "height": 900})
    assert guest.evaluate("document.documentElement.scrollWidth") <= 400
    expect(guest.get_by_label("Password")).to_be_visible()


def test_one_connects_the_own_account_and_takes_it_back(provider, site):
    provider.person = provider.person | {"sub": "3", "preferred_username": "the boss"}
    site.open("/account")
    site.tab.get_by_role("button", name="Connect", exact=True).click()
    site.tab.get_by_text("You can sign in with Chemistry, where you are called the boss.").wait_for()
    assert site.barriers() == []
    site.tab.get_by_role("button", name="Take back", exact=True).click()
    site.tab.get_by_role("alert").get_by_text("set a password first").wait_for()
    site.complaints[:] = [c for c in site.complaints if "409" not in c]
