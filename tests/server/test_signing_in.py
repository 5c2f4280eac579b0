"""Who may come in, and what a browser or a program must show."""

import re
import time

import pytest
import sqlalchemy as sql
from platform_site import PASSWORD, make_site, ok

from rutile.core.errors import FileError
from rutile.jobs.tables import ApiToken, AuditLine, LoginLink, SignIn, User
from rutile.server.people import COOKIE, CSRF, IDLE
from rutile.server.platform import Platform
from rutile.server.secrets import Patience
from rutile.server.settings import ServeSettings

FREE = {
    ("/api/health", "get"): "for load balancers; says that server and database answer",
    ("/api/ready", "get"): "for load balancers; says that jobs are started, too",
    ("/api/session", "post"): "signs in by password",
    (
        "/api/sign-on",
        "get",
    ): "the page for signing in asks whether there is a provider, and whether it answers",
    ("/api/sign-on/begin", "get"): "a browser begins to sign in by the provider; nothing is kept or changed here",
    ("/api/sign-on/back", "get"): "the provider sends the browser back; what it brings is checked instead",
}
"""Routes that ask nobody who they are, and why."""


@pytest.mark.slow
def test_every_route_of_the_api_asks_who_it_is(site):
    """But for those in `FREE`; taken from the description of the API, so that new routes are in it."""
    stranger = site.page()
    paths = ok(site.page("ben").get("/api/openapi.json"))["paths"]
    for path, methods in paths.items():
        for method in methods:
            if (path, method) not in FREE:
                url = re.sub(r"\{\w+\}", "1", path)
                assert stranger.request(method, url).status_code == 401, (method, path)


def test_the_description_of_the_api_is_not_for_strangers(site):
    assert site.page().get("/api/openapi.json").status_code == 401


def test_a_change_by_a_browser_needs_the_word_of_the_page(site, ben):
    word = ben.headers.pop(CSRF)
    for method in ("post", "put", "patch", "delete"):
        assert ben.request(method, "/api/jobs/1").status_code in (403, 405)
    assert ben.post("/api/account/tokens", json={"name": "x"}).status_code == 403
    ben.headers[CSRF] = word[::-1]
    assert ben.post("/api/account/tokens", json={"name": "x"}).status_code == 403
    ben.headers[CSRF] = word
    assert ben.post("/api/account/tokens", json={"name": "x"}).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_change_that_another_site_asks_for_is_refused(ben, headers):
    assert ben.post("/api/account/tokens", json={"name": "x"}, headers=headers).status_code == 403
    assert ben.get("/api/session", headers=headers).status_code == 200


def test_a_strange_host_name_is_refused(site, ben):
    """A name that an attacker points at 127.0.0.1 (DNS rebinding) is not ours."""
    assert ben.get("/api/session", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.slow
def test_names_and_passwords_that_are_wrong_look_the_same(site):
    page = site.page()
    wrong = page.post("/api/session", json={"name": "ben", "password": "not it at all"})
    nobody = page.post("/api/session", json={"name": "nobody", "password": PASSWORD})
    assert wrong.status_code == nobody.status_code == 401
    assert wrong.json() == nobody.json()
    with site.platform.database.reading() as session:
        told = session.scalars(sql.select(AuditLine.user).where(AuditLine.action == "failed to sign in")).all()
    assert told == ["ben", "nobody"]


def test_too_many_tries_have_to_wait(site):
    site.platform.patience = Patience(tries=3, seconds=1000.0)
    page = site.page()
    codes = [page.post("/api/session", json={"name": "ben", "password": "x"}).status_code for _ in range(5)]
    assert codes == [401, 401, 401, 429, 429]


def test_secrets_are_kept_as_hashes_only(site, ben, tmp_path):
    token = ok(ben.post("/api/account/tokens", json={"name": "mine"}), 201)["token"]
    link = site.platform.first_link().rsplit("/", 1)[1]
    everything = b"".join(p.read_bytes() for p in (tmp_path / "home").glob("platform.db*"))
    with site.platform.database.reading() as session:
        assert session.scalars(sql.select(ApiToken)).one().secret
    for secret in (token, ben.cookies[COOKIE], link, PASSWORD):
        assert secret.encode() not in everything


def test_the_login_link_works_once(site):
    link = site.platform.first_link()
    page = site.page()
    assert page.get(link, follow_redirects=False).status_code == 303
    who = ok(page.get("/api/session"))
    assert (who["user"]["name"], who["user"]["role"]) == ("ada", "admin")
    assert site.page().get(link, follow_redirects=False).status_code == 401


def test_an_old_link_and_an_old_browser_are_nobody(site, ben):
    link = site.platform.first_link()
    with site.platform.database.writing() as session:
        session.execute(sql.update(LoginLink).values(expires=time.time() - 1))
        session.execute(sql.update(SignIn).values(used=time.time() - IDLE - 1))
    assert site.page().get(link, follow_redirects=False).status_code == 401
    assert ben.get("/api/session").status_code == 401


def test_a_new_password_signs_every_other_browser_out(site, ben):
    other = site.page("ben")
    new = "another good password"
    assert ben.put("/api/account/password", json={"old": "wrong", "new": new}).status_code == 403
    assert ben.put("/api/account/password", json={"old": PASSWORD, "new": new}).status_code == 204
    assert other.get("/api/session").status_code == 401
    assert ben.get("/api/session").status_code == 200


def test_a_token_does_what_it_may_and_no_more(site, ben):
    made = ok(ben.post("/api/account/tokens", json={"name": "looks", "scopes": ["read"]}), 201)
    program = site.page()
    program.headers["Authorization"] = f"Bearer {made['token']}"
    assert program.get("/api/jobs").status_code == 200
    assert program.post("/api/jobs", json={"task": "doctor"}).status_code == 403
    assert program.post("/api/account/tokens", json={"name": "more", "scopes": ["submit"]}).status_code == 403
    assert ben.post("/api/account/tokens", json={"name": "more", "scopes": ["admin"]}).status_code == 403
    assert ben.delete(f"/api/account/tokens/{made['view']['id']}").status_code == 204
    assert program.get("/api/jobs").status_code == 401


def test_a_viewer_looks_and_changes_nothing(site):
    vic = site.page("vic")
    assert vic.get("/api/jobs").status_code == 200
    assert vic.post("/api/jobs", json={"task": "doctor"}).status_code == 403
    assert vic.delete("/api/session").status_code == 204


def test_a_closed_account_is_out_at_once(site, ben):
    with site.platform.database.writing() as session:
        session.execute(sql.update(User).where(User.name == "ben").values(expires=time.time() - 1))
    assert ben.get("/api/session").status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts(site):
    answer = site.page().post("/api/session", json={"name": "ben", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


@pytest.mark.slow
def test_answers_say_what_browsers_may_do_with_them(ben):
    for path in ("/", "/api/jobs", "/api/nothing"):
        headers = ben.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert ben.get("/api/nothing").status_code == 404
    assert ben.get("/api/jobs").headers["cache-control"] == "no-store"


def test_a_server_that_others_reach_needs_tls_and_a_password(tmp_path):
    with pytest.raises(ValueError, match="unencrypted"):
        ServeSettings(home=tmp_path, host="0.0.0.0")
    platform = Platform.open(ServeSettings(home=tmp_path, host="0.0.0.0", proxy=True))
    with pytest.raises(FileError, match="nobody has a password"):
        platform.first_link()
    platform.close()
    site = make_site(tmp_path, host="0.0.0.0", proxy=True)
    assert "/login/" in site.platform.first_link()
    site.platform.close()


def test_the_folder_of_the_platform_is_open_to_nobody_else(site, tmp_path):
    for name in ("", "jobs", "uploads", "models", "datasets"):
        assert (tmp_path / "home" / name).stat().st_mode & 0o077 == 0, name


def test_addresses_as_other_programs_write_them_lead_to_the_page(site):
    page = site.page()
    for asked, leads in (
        ("/jobs/5?tab=log", "/#/jobs/5?tab=log"),
        ("/api", "/#/api"),
        ("/a b//evil.org", "/#/a%20b//evil.org"),
        ("//evil.org/x", "/#//evil.org/x"),
    ):
        answer = page.get(f"http://127.0.0.1{asked}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, leads)
    assert "<!doctype html" in page.get("/").text.lower()
    for path in ("/assets/gone-12345678.js", "/api/nothing"):
        assert page.get(path, follow_redirects=False).status_code == 404


def test_it_is_ready_only_while_jobs_are_started(site):
    page = site.page()
    site.platform.reconciler.start()
    assert page.get("/api/ready").json()["status"] == "ok"
    site.platform.reconciler.stop()
    answer = page.get("/api/ready")
    assert (answer.status_code, answer.json()["detail"]) == (503, "what starts and ends jobs is not at work")
    assert page.get("/api/health").status_code == 200
