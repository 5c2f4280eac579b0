"""Signing in by a provider: the good way, and what attackers try at each step of it."""

import time
from urllib.parse import parse_qsl, quote_plus, urlsplit

import pytest
import sqlalchemy as sql
from platform_site import ok
from sign_on_site import browser, come, enter, there, told, who

pytest.importorskip("authlib")
from joserfc.jwk import ECKey, RSAKey
from openid_provider import CLIENT, SECRET

from rutile.jobs.tables import AuditLine, SignIn, User
from rutile.server import sign_on
from rutile.server.people import COOKIE
from rutile.server.routes.sign_on import COOKIE as FLOW
from rutile.server.secrets import Patience

pytestmark = pytest.mark.slow


def test_somebody_signs_in_and_comes_back_to_the_same_account(site, provider):
    provider.person = {"sub": "a-1", "preferred_username": "Zoë Müller", "name": "Zoë Müller"}
    page, place = enter(site, provider, "/jobs?state=FAIL")
    assert place == "/jobs?state=FAIL"
    first = who(page)
    assert (first["name"], first["full_name"], first["role"]) == ("Zoe-Muller", "Zoë Müller", "user")
    assert not first["has_password"]
    provider.person = {"sub": "a-1", "preferred_username": "married"}
    again, _ = enter(site, provider)
    assert who(again)["id"] == first["id"]
    with site.platform.database.reading() as session:
        lines = [(x.user, x.action, x.thing) for x in session.scalars(sql.select(AuditLine).order_by(AuditLine.id))]
    assert lines == [
        ("Zoe-Muller", "made an account", "user Zoe-Muller"),
        ("Zoe-Muller", "signed in", "single sign-on"),
        ("Zoe-Muller", "signed in", "single sign-on"),
    ]


def test_the_session_is_like_that_of_a_password(site, provider):
    page = browser(site, provider)
    answer = page.get(there(page), follow_redirects=False)
    cookies = [line.lower() for line in answer.headers.get_list("set-cookie")]
    (mine,) = [line for line in cookies if line.startswith(COOKIE)]
    assert "httponly" in mine
    assert "samesite=lax" in mine
    assert any(line.startswith(FLOW) and "max-age=0" in line for line in cookies)
    with site.platform.database.reading() as session:
        assert session.scalars(sql.select(SignIn.secret)).one() != page.cookies[COOKIE]
    page.headers["X-CSRF-Token"] = ok(page.get("/api/session"))["csrf"]
    ok(page.delete("/api/session"), 204)
    assert who(page) is None


def test_the_way_there_is_bound_to_the_browser_and_proved(site, provider):
    """State, nonce and PKCE (S256) are asked for, differ each time, and tell nothing of the cookie."""
    seen = []
    for _ in range(2):
        page = browser(site, provider)
        began = page.get("/api/sign-on/begin", follow_redirects=False)
        query = dict(parse_qsl(urlsplit(began.headers["location"]).query))
        assert query["redirect_uri"] == "http://127.0.0.1:8765/api/sign-on/back"
        assert (query["client_id"], query["scope"]) == (CLIENT, "openid profile email")
        assert "httponly" in began.headers["set-cookie"].lower()
        assert page.cookies[FLOW] not in began.headers["location"]
        seen += [query["state"], query["nonce"], query["code_challenge"]]
    assert len(set(seen)) == 6
    assert all(len(word) == 43 for word in seen)


def test_cookies_of_https_can_be_set_by_nobody_else(site, provider):
    site.platform.address = "https://rutile.example.org"
    began = browser(site, provider).get("/api/sign-on/begin", follow_redirects=False)
    assert began.headers["set-cookie"].startswith(f"__Host-{FLOW}=")
    assert "; Secure" in began.headers["set-cookie"]
    assert "redirect_uri=https%3A%2F%2Frutile.example.org%2Fapi" in began.headers["location"]


def test_a_wrong_state_is_refused(site, provider):
    page = browser(site, provider)
    back = there(page)
    right = dict(parse_qsl(urlsplit(back).query))["state"]
    assert come(page, back.replace(right, "x" * 43)) == "/?sign-on=again"
    assert who(page) is None
    assert "/token" not in provider.asked


def test_another_browser_cannot_end_what_this_one_began(site, provider):
    """Nobody is signed in as an attacker who sends them a link that is good for the attacker's browser."""
    mine, other = browser(site, provider), browser(site, provider)
    back = there(mine)
    assert come(other, back) == "/?sign-on=again"
    there(other)
    assert come(other, back) == "/?sign-on=again"
    assert who(other) is None


@pytest.mark.parametrize("once", [True, False])
def test_a_code_is_good_once(site, provider, once):
    """Also where the provider would take it again, and the browser kept its cookie."""
    provider.once = once
    page = browser(site, provider)
    back = there(page)
    cookie = page.cookies[FLOW]
    assert come(page, back) == "/"
    page.cookies.clear()
    assert come(page, back) == "/?sign-on=again"
    page.cookies.set(FLOW, cookie)
    assert come(page, back) == "/?sign-on=again"
    assert who(page) is None


def test_a_code_of_another_browser_does_not_fit(site, provider):
    """An attacker puts a stolen code into a way of their own: the verifier is not that of the code."""
    victim, attacker = browser(site, provider), browser(site, provider)
    stolen = dict(parse_qsl(urlsplit(there(victim)).query))["code"]
    back = there(attacker)
    own = dict(parse_qsl(urlsplit(back).query))["code"]
    assert come(attacker, back.replace(own, stolen)) == "/?sign-on=invalid"
    assert who(attacker) is None


def test_a_way_that_took_too_long_is_refused(site, provider, monkeypatch):
    page = browser(site, provider)
    back = there(page)
    now, cookie = time.time(), page.cookies[FLOW]
    monkeypatch.setattr(sign_on.time, "time", lambda: now + sign_on.FLOW_LIVES + 2)
    page.cookies.clear()
    page.cookies.set(FLOW, cookie)  # a browser that keeps it too long
    assert come(page, back) == "/?sign-on=again"


LIES = {
    "nonce": {"nonce": "of another"},
    "no nonce": {"nonce": None},
    "audience": {"aud": "another client"},
    "audience by hand": {"aud": "another client", "azp": CLIENT},
    "audiences": {"aud": [CLIENT, "another"], "azp": "another"},
    "many audiences for nobody": {"aud": [CLIENT, "another"]},
    "no audience": {"aud": None},
    "issuer": {"iss": "https://evil.example"},
    "no issuer": {"iss": None},
    "expired": {"exp": 1_000_000_000},
    "no end": {"exp": None},
    "of tomorrow": {"iat": 9_000_000_000},
    "nobody": {"sub": None},
    "nobody's name": {"sub": ""},
    "no text": {"sub": 7},
    "another access token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_token_with_a_wrong_claim_is_refused(site, provider, lie):
    provider.claims = lie
    page, place = enter(site, provider)
    assert place == "/?sign-on=invalid"
    assert who(page) is None
    assert told(site) == ["invalid"]
    provider.claims = {}
    assert enter(site, provider)[1] == "/"


def test_a_signature_by_another_key_is_refused(site, provider):
    """Under the name of a key that is known, and under a name that is not."""
    right = provider.key
    for kid in (right.kid, "unknown"):
        provider.key, provider.header = RSAKey.generate_key(2048), {"kid": kid}
        page, place = enter(site, provider)
        assert place == "/?sign-on=invalid"
        assert who(page) is None


def test_a_token_without_a_signature_is_refused(site, provider):
    provider.header = {"alg": "none"}
    assert enter(site, provider)[1] == "/?sign-on=invalid"


@pytest.mark.parametrize("secret", ["client", "public key"])
def test_a_signature_with_a_secret_is_refused(site, provider, secret):
    """Whoever knows the client's secret, or takes the public key for one (algorithm confusion), signs nothing."""
    provider.header = {"alg": "HS256"}
    provider.secret = SECRET.encode() if secret == "client" else provider.key.as_pem(private=False)
    assert enter(site, provider)[1] == "/?sign-on=invalid"


def test_new_keys_are_asked_for_when_they_are_used(site, provider, monkeypatch):
    """Keys are kept, asked for again where a token names one that is not known, but not for every such token."""
    assert enter(site, provider)[1] == "/"
    assert enter(site, provider)[1] == "/"
    assert provider.asked.count("/keys") == 1
    assert provider.asked.count("/.well-known/openid-configuration") == 1
    provider.keys.append(ECKey.generate_key("P-256", auto_kid=True))
    provider.key = provider.keys[-1]
    assert enter(site, provider)[1] == "/?sign-on=invalid"
    assert provider.asked.count("/keys") == 1
    monkeypatch.setattr(sign_on, "AGAIN", 0.0)
    assert enter(site, provider)[1] == "/"
    assert provider.asked.count("/keys") == 2


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/x\r\nX: y", ""]
)
def test_nobody_is_led_to_another_site(site, provider, place):
    """`come` sees to it that the address is ours; what was asked for is at most a place of the page behind its #."""
    page, led = enter(site, provider, place)
    assert led in ("/", "//evil.example")
    assert who(page)


def test_a_forged_cookie_leads_nowhere_else(site, provider):
    page = browser(site, provider)
    for cookie in ("x", "1.0.Lw." + "a" * 43, f"{int(time.time())}.0.{'_' * 43}", "9" * 400):
        page.cookies.set(FLOW, cookie)
        assert come(page, "/api/sign-on/back?state=x&code=y") == "/?sign-on=again"


def test_what_the_provider_refuses_is_said(site, provider):
    page = browser(site, provider)
    state = dict(parse_qsl(urlsplit(there(page)).query))["state"]
    assert come(page, f"/api/sign-on/back?state={state}&error=access_denied") == "/?sign-on=declined"
    back = there(page).replace(quote_plus(provider.issuer), quote_plus("https://evil.example"))
    assert "evil" in back
    assert come(page, back) == "/?sign-on=invalid"


@pytest.mark.parametrize("change", [{"disabled": True}, {"expires": 1.0}])
def test_a_closed_account_stays_closed(site, provider, change):
    page, _ = enter(site, provider)
    with site.platform.database.writing() as session:
        session.execute(sql.update(User).where(User.id == who(page)["id"]).values(**change))
    page, place = enter(site, provider)
    assert place == "/?sign-on=closed"
    assert who(page) is None
    assert told(site) == ["closed"]


def test_too_many_tries_have_to_wait(site, provider):
    site.platform.patience = Patience(tries=3, seconds=1000.0)
    page = browser(site, provider)
    places = [come(page, "/api/sign-on/back?state=x&code=y") for _ in range(5)]
    assert places == ["/?sign-on=again"] * 3 + ["/?sign-on=wait"] * 2
