"""Who signs in by a provider: names, invitations, groups and roles; and a provider that is away or set up wrongly."""

import pytest
import sqlalchemy as sql
from platform_site import make_site, ok
from sign_on_site import back_from, browser, come, enter, invited, there, who

pytest.importorskip("authlib")
from openid_provider import SECRET

from rutile.core.errors import FileError, MissingPackageError
from rutile.jobs.tables import ApiToken, AuditLine, Identity, User
from rutile.server import sign_on
from rutile.server.routes.sign_on import COOKIE as FLOW
from rutile.server.settings import ServeSettings

pytestmark = pytest.mark.slow


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
