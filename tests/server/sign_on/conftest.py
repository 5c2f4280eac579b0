"""A provider of OpenID Connect, and a platform that knows it."""

import pytest
from platform_site import make_site


@pytest.fixture
def provider():
    """One that signs people in."""
    pytest.importorskip("authlib")
    from openid_provider import provider_at_work

    with provider_at_work() as provider:
        yield provider


@pytest.fixture
def served(provider, tmp_path, database_url):
    """Make a site that knows the provider; more settings of single sign-on."""
    from openid_provider import CLIENT, SECRET

    made = []

    def make(**more):
        (tmp_path / "secret").write_text(SECRET + "\n", encoding="utf-8")
        asked = {"issuer": provider.issuer, "client": CLIENT, "secret_file": tmp_path / "secret", "unknown": True}
        site = make_site(tmp_path / "home", database=database_url, sign_on=asked | more)
        made.append(site)
        return site

    yield make
    for site in made:
        site.platform.close()


@pytest.fixture
def site(served):
    return served()
