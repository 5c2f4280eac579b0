"""Signing in by a provider: the good way, and what attackers try at each step of it."""

import time
from urllib.parse import parse_qsl, quote_plus, urlsplit

import pytest
import sqlalchemy as sql
from platform_site import make_site, ok

pytest.importorskip("authlib")
from joserfc.jwk import ECKey, RSAKey
from openid_provider import CLIENT, SECRET, provider_at_work

from rutile.core.errors import FileError, MissingPackageError
from rutile.jobs.tables import ApiToken, AuditLine, Identity, SignIn, User
from rutile.server import sign_on
from rutile.server.people import COOKIE
from rutile.server.routes.sign_on import COOKIE as FLOW
from rutile.server.secrets import Patience
from rutile.server.settings import ServeSettings


@pytest.fixture
def provider():
    with provider_at_work() as provider:
        yield provider


@pytest.fixture
def served(provider, tmp_path, database_url):
    """Make a site that knows the provider; more settings of single sign-on."""
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


def there(page, place="/"):
    """Go to the provider and sign in; the address to which it sends the browser back, as path and query."""
    began = page.get("/api/sign-on/begin", params={"place": place}, follow_redirects=False)
    assert began.status_code == 303, began.text
    return back_from(began.headers["location"], page)


def back_from(way, page):
    parts = urlsplit(way)
    assert f"{parts.scheme}://{parts.netloc}" == page.provider.issuer, way
    back = page.provider.authorize(dict(parse_qsl(parts.query)))
    assert back.startswith("http://127.0.0.1:8765/api/sign-on/back?"), back
    return back


def come(page, back):
    """Come back; why the page says that it did not go well, or where it leads."""
    answer = page.get(back, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    head, _, rest = answer.headers["location"].partition("/#")
    assert head == "http://127.0.0.1:8765"
    return rest


def browser(site, provider, name=None):
    page = site.page(name)
    page.provider = provider
    return page


def enter(site, provider, place="/"):
    """A browser that signs in, and why not."""
    page = browser(site, provider)
    return page, come(page, there(page, place))


def who(page):
    answer = page.get("/api/session")
    return answer.json()["user"] if answer.status_code == 200 else None


def told(site):
    """Why somebody was refused, from the audit log."""
    with site.platform.database.reading() as session:
        lines = session.scalars(sql.select(AuditLine).where(AuditLine.action == "failed to sign in"))
        return [line.after["why"] for line in lines]


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


def test_the_same_name_and_address_are_not_the_same_person(site, provider):
    """There is a ben with a password, another one comes, then a third with the address of the second."""
    provider.person["preferred_username"] = "Ben"
    assert who(enter(site, provider)[0])["name"] == "Ben-2"
    provider.person["sub"] = "2"
    page, _ = enter(site, provider)
    assert who(page)["name"] == "Ben-3"
    with site.platform.database.reading() as session:
        assert session.scalar(sql.select(sql.func.count(Identity.user_id))) == 2


@pytest.fixture
def closed(served):
    """A site where one must have been invited."""
    return served(unknown=False)


def invited(site, provider, mail="ben@example.org"):
    ada = browser(site, provider, "ada")
    return ada, ok(ada.post("/api/admin/users", json={"name": "invited", "role": "viewer", "invited": mail}), 201)


def test_strangers_are_refused_where_one_must_be_invited(closed, provider):
    page, place = enter(closed, provider)
    assert place == "/?sign-on=stranger"
    assert who(page) is None
    with closed.platform.database.reading() as session:
        assert len(session.scalars(sql.select(User)).all()) == 4


@pytest.mark.databases
def test_an_invitation_holds_for_a_verified_address_once(closed, provider):
    ada, made = invited(closed, provider, "Ben@Example.org")
    assert (made["invited"], made["sign_on"]) == ("ben@example.org", None)
    provider.person["email_verified"] = False
    assert enter(closed, provider)[1] == "/?sign-on=stranger"
    del provider.person["email_verified"]
    assert enter(closed, provider)[1] == "/?sign-on=stranger"
    provider.person |= {"email_verified": True, "email": "BEN@example.org"}
    page, place = enter(closed, provider)
    assert place == "/"
    assert (who(page)["name"], who(page)["role"]) == ("invited", "viewer")
    provider.person["sub"] = "2"
    assert enter(closed, provider)[1] == "/?sign-on=stranger"
    (row,) = [u for u in ok(ada.get("/api/admin/users")) if u["name"] == "invited"]
    assert (row["invited"], row["sign_on"], row["has_password"]) == (None, "ben", False)


def test_an_address_is_invited_to_one_account(closed, provider):
    ada, made = invited(closed, provider)
    wish = {"name": "another", "invited": "BEN@example.org"}
    assert ada.post("/api/admin/users", json=wish).status_code == 409
    ok(ada.patch(f"/api/admin/users/{made['id']}", json={"invited": "ben@example.org"}))


def test_taking_the_invitation_back_signs_out(closed, provider):
    ada, made = invited(closed, provider)
    page, _ = enter(closed, provider)
    ok(ada.patch(f"/api/admin/users/{made['id']}", json={"invited": None}))
    assert who(page) is None
    assert enter(closed, provider)[1] == "/?sign-on=stranger"


@pytest.mark.databases
def test_one_connects_ones_own_account(closed, provider):
    """Begun by a change that needs the word of the page; ended by the same user in the same browser only."""
    ben, eve = browser(closed, provider, "ben"), browser(closed, provider, "eve")
    back = back_from(ok(ben.post("/api/account/sign-on"))["address"], ben)
    eve.cookies.set(FLOW, ben.cookies[FLOW])
    assert come(eve, back) == "/account?sign-on=again"
    back = back_from(ok(ben.post("/api/account/sign-on"))["address"], ben)
    assert come(ben, back) == "/account"
    assert ok(ben.get("/api/account/sign-on")) == {"connected": True, "name": "ben"}
    assert who(enter(closed, provider)[0])["name"] == "ben"
    back = back_from(ok(eve.post("/api/account/sign-on"))["address"], eve)
    assert come(eve, back) == "/account?sign-on=taken"
    ok(ben.delete("/api/account/sign-on"), 204)
    assert enter(closed, provider)[1] == "/?sign-on=stranger"


def test_another_site_cannot_connect_an_account(closed, provider):
    """A way that was begun to sign in, by a link of anybody, signs in and never connects."""
    ben = browser(closed, provider, "ben")
    ben.headers.pop("X-CSRF-Token")
    assert ben.post("/api/account/sign-on").status_code == 403
    assert come(ben, there(ben, "/account")) == "/?sign-on=stranger"
    assert ok(ben.get("/api/account/sign-on")) == {"connected": False, "name": ""}


def test_the_last_way_in_is_not_taken_away(site, provider):
    page, _ = enter(site, provider)
    page.headers["X-CSRF-Token"] = ok(page.get("/api/session"))["csrf"]
    assert page.delete("/api/account/sign-on").status_code == 409
    ok(page.put("/api/account/password", json={"new": "a good long password"}), 204)
    ok(page.delete("/api/account/sign-on"), 204)


RIGHTS = {"roles": {"chem-admins": "admin", "chem": "user"}, "groups": {"lab-b": "bees", "chem": "chemistry"}}


@pytest.mark.databases
def test_groups_give_roles_and_take_them_away_at_the_next_sign_in(served, provider):
    site = served(**RIGHTS, role="viewer")
    rights = []
    for groups in (["chem", "chem-admins"], ["chem", "lab-b"], [], "chem", ["chem", 7, None]):
        provider.person["groups"] = groups
        first, _ = enter(site, provider)
        rights.append((who(first)["role"], who(first)["group"]))
    assert rights == [
        ("admin", "chemistry"), ("user", "bees"), ("viewer", None), ("user", "chemistry"), ("user", "chemistry")
    ]  # fmt: skip
    with site.platform.database.reading() as session:
        assert session.scalar(sql.select(sql.func.count(Identity.user_id))) == 1
        changes = session.scalars(sql.select(AuditLine).where(AuditLine.action == "changed an account")).all()
    assert changes[1].before == {"role": "admin", "group": "chemistry"}
    assert changes[1].after == {"role": "user", "group": "bees"}


@pytest.mark.databases
def test_who_is_in_no_group_any_more_is_out(served, provider):
    site = served(**RIGHTS, role="none")
    assert enter(site, provider)[1] == "/?sign-on=nobody"
    with site.platform.database.reading() as session:
        assert len(session.scalars(sql.select(User)).all()) == 4
    provider.person["groups"] = ["chem"]
    page, _ = enter(site, provider)
    page.headers["X-CSRF-Token"] = ok(page.get("/api/session"))["csrf"]
    token = ok(page.post("/api/account/tokens", json={"name": "x"}), 201)["token"]
    provider.person["groups"] = ["others"]
    assert enter(site, provider)[1] == "/?sign-on=nobody"
    assert who(page) is None
    assert site.page().get("/api/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    with site.platform.database.reading() as session:
        assert session.scalars(sql.select(ApiToken)).all() == []


def test_where_groups_decide_nothing_administrators_do(site, provider):
    page, _ = enter(site, provider)
    ada = browser(site, provider, "ada")
    ok(ada.patch(f"/api/admin/users/{who(page)['id']}", json={"role": "viewer"}))
    assert who(enter(site, provider)[0])["role"] == "viewer"


def test_claims_may_lie_deep_or_beside_the_token(served, provider):
    site = served(roles={"boss": "admin"}, groups_claim="realm_access.roles", name_claim="nick")
    provider.info = {"realm_access": {"roles": ["boss"]}, "nick": "zed"}
    assert (who(enter(site, provider)[0])["name"], who(enter(site, provider)[0])["role"]) == ("zed", "admin")
    provider.info["sub"] = "somebody else"
    assert enter(site, provider)[1] == "/?sign-on=invalid"


def test_a_provider_that_is_away_is_said_and_passwords_go_on(served, provider, monkeypatch):
    site = served(issuer="http://127.0.0.1:9")
    page = browser(site, provider)
    view = ok(page.get("/api/sign-on"))
    assert (view["name"], view["problem"]) == ("single sign-on", "unreachable")
    answer = page.get("/api/sign-on/begin", follow_redirects=False)
    assert answer.headers["location"].endswith("/#/?sign-on=unreachable")
    assert site.page("ben").post("/api/account/sign-on").status_code == 503


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"issuer": "https://evil.example"}, "wrong"),
        ({"jwks_uri": "file:///etc/passwd"}, "wrong"),
        ({"token_endpoint": "http://evil.example/token"}, "wrong"),
        ({"token_endpoint": None}, "wrong"),
        ({}, ""),
    ],
)
def test_a_provider_that_cannot_be_right_is_said(site, provider, document, problem):
    provider.document = document
    assert ok(site.page().get("/api/sign-on"))["problem"] == problem


def test_a_wrong_secret_of_ours_is_said(served, provider, tmp_path):
    (tmp_path / "wrong").write_text("wrong")
    assert enter(served(secret_file=tmp_path / "wrong"), provider)[1] == "/?sign-on=wrong"


def test_without_a_provider_nothing_is_offered(tmp_path):
    site = make_site(tmp_path)
    assert ok(site.page().get("/api/sign-on")) == {"name": None, "begin": "", "problem": ""}
    for path in ("begin", "back"):
        assert site.page().get(f"/api/sign-on/{path}").status_code == 404
    assert site.page("ada").post("/api/admin/users", json={"name": "x", "invited": "x@y.z"}).status_code == 409
    site.platform.close()


def test_what_is_missing_is_one_line_at_the_start(tmp_path, monkeypatch):
    asked = sign_on.SignOnSettings(issuer="https://login.example.org", client="x", secret_file=tmp_path / "none")
    with pytest.raises(FileError, match=r"sign_on.secret_file = .*none: cannot be read"):
        sign_on.Provider(asked)
    (tmp_path / "none").write_text("\n")
    with pytest.raises(FileError, match="it is empty"):
        sign_on.Provider(asked)
    monkeypatch.setattr(sign_on.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'rutile\[oidc\]'"):
        sign_on.Provider(asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"issuer": "http://login.example.org"}, "expected https"),
        ({"issuer": "https://login.example.org?x=1"}, "nothing behind it"),
        ({"scopes": ["email"]}, "openid must be among them"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, message):
    asked = {"issuer": "https://login.example.org", "client": "x"} | change
    with pytest.raises(ValueError, match=message):
        ServeSettings(home=tmp_path, sign_on=asked)


def test_a_server_for_others_says_its_address(tmp_path):
    asked = {"home": tmp_path, "host": "0.0.0.0", "proxy": True}
    asked["sign_on"] = {"issuer": "https://login.example.org", "client": "x"}
    with pytest.raises(ValueError, match="give address"):
        ServeSettings(**asked)
    assert "rutile.example.org" in ServeSettings(**asked, address="https://rutile.example.org").hosts
    with pytest.raises(ValueError, match="address"):
        ServeSettings(**asked, address="https://rutile.example.org/evil")


def test_the_secret_is_nowhere(site, provider, tmp_path, caplog):
    enter(site, provider)
    provider.claims = {"nonce": "wrong"}
    enter(site, provider)
    everything = b"".join(p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert SECRET.encode() not in everything
    assert SECRET not in caplog.text
    assert SECRET not in str(site.platform.settings)
