"""Who may open notebooks, what signs them in, and that nobody else ever sees it."""

import io
import json
import stat
import sys
import time
import zipfile

import pytest
import sqlalchemy as sql
from platform_site import make_site, ok, opened
from test_everybody_apart import asked, calls

from rutile.core.client import Client
from rutile.core.connection import CERTIFICATE, CONNECTION, DOOR, KEY, VARIABLE, write_private
from rutile.core.errors import FileError, SettingsError
from rutile.jobs import folder as kept
from rutile.jobs import launch
from rutile.jobs.tables import ApiToken, Job, User
from rutile.server import notebooks
from rutile.server.secrets import kept_of

WISH = {"task": "notebook", "memory": 1.0}
SLEEP = "import time; time.sleep(300)"
DOOR_TOKEN = "ab" * 24


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """What a notebook runs here: a program that tells what it sees, and waits."""
    monkeypatch.setattr(notebooks, "installed", lambda: True)
    code = f"import os; print(sorted(os.environ)); {SLEEP}"
    monkeypatch.setattr(launch, "words_of", lambda task: [sys.executable, "-c", code])


@pytest.fixture
def site(tmp_path, database_url):
    site = make_site(tmp_path / "home", database=database_url, notebooks="users")
    yield site
    site.platform.close()


@pytest.fixture
def at_work(site, ben):
    """A notebook of ben's at work, with its door."""
    number = ok(ben.post("/api/jobs", json=WISH), 201)["id"]
    site.wait(ben, number, ("RUNNING",))
    write_private(site.platform.home.job(number) / DOOR, {
        "port": 8890, "token": DOOR_TOKEN, "address": "127.0.0.1", "host": "node7",
    })  # fmt: skip
    yield number
    ben.post(f"/api/jobs/{number}/cancel")
    site.wait(ben, number)


def connection(site, number):
    return json.loads((site.platform.home.job(number) / CONNECTION).read_text())


def holder(site, secret):
    page = site.page()
    page.headers["Authorization"] = f"Bearer {secret}"
    return page


def tokens(site):
    with site.platform.database.reading() as session:
        return list(session.scalars(sql.select(ApiToken)))


@pytest.mark.parametrize(
    ("who", "setting", "allowed"),
    [
        ("ada", "nobody", False), ("ben", "nobody", False), ("ada", "admins", True), ("ben", "admins", False),
        ("ada", "users", True), ("ben", "users", True),
    ],
)  # fmt: skip
def test_who_may_open_notebooks_is_a_setting_that_holds_for_every_way(tmp_path, who, setting, allowed):
    open_site = make_site(tmp_path / "home", notebooks="users")
    number = ok(open_site.page(who).post("/api/jobs", json=WISH), 201)["id"]
    clone = ok(open_site.page(who).get(f"/api/jobs/{number}/clone"))
    open_site.platform.close()
    site = opened(tmp_path / "home", notebooks=setting)
    page = site.page(who)
    assert ok(page.get("/api/session"))["notebooks"] is allowed
    checked = ok(page.post("/api/tasks/notebook/check", json={}))
    assert checked["ok"] is allowed
    assert bool(checked["problems"]) is not allowed
    ways = [
        page.post("/api/jobs", json=WISH), page.post("/api/jobs", json=clone), page.post(f"/api/jobs/{number}/rerun"),
    ]  # fmt: skip
    assert [answer.status_code for answer in ways] == ([201] * 3 if allowed else [422] * 3)
    many = ok(page.post("/api/jobs/actions", json={"action": "rerun", "ids": [number]}))
    assert (len(many["done"]), len(many["problems"])) == ((1, 0) if allowed else (0, 1))
    if not allowed:
        words = checked["problems"][0]["message"]
        assert words.startswith(("this server runs no notebooks", "only administrators"))
        assert all(answer.json()["detail"] == words for answer in ways)
        site.platform.reconciler.round()  # the one that waits was submitted when it was allowed
        job = ok(page.get(f"/api/jobs/{number}"))
        assert job["state"] == "FAIL"
        assert words in job["reason"]
        assert not (site.platform.home.job(number) / CONNECTION).exists()
        assert not tokens(site)
    site.platform.close()


def test_nobody_may_unless_the_administrator_says_so():
    from rutile.server.settings import ServeSettings

    assert ServeSettings().notebooks == "nobody"
    assert "notebooks=users" in notebooks.why_not(ServeSettings(), User(role="admin"))


def test_a_server_without_jupyterlab_says_how_to_get_it(site, ben, monkeypatch):
    monkeypatch.setattr(notebooks, "installed", lambda: False)
    answer = ben.post("/api/jobs", json=WISH)
    assert answer.status_code == 422
    assert "pip install 'rutile[notebook]'" in answer.json()["detail"]


@pytest.mark.slow
def test_a_notebook_acts_as_its_owner_while_it_is_at_work(site, ben, eve, at_work):
    theirs = ok(eve.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    found = connection(site, at_work)
    assert found["address"] == "http://127.0.0.1:8765"
    inside = holder(site, found["token"])
    assert ok(inside.get("/api/session"))["user"]["name"] == "ben"
    assert ok(inside.get("/api/session"))["user"]["scopes"] == ["read", "submit"]
    assert [job["id"] for job in ok(inside.get("/api/jobs"))["items"]] == [at_work]
    assert inside.get(f"/api/jobs/{theirs}").status_code == 404
    assert inside.post("/api/account/tokens", json={"name": "more"}).status_code == 403
    row = next(token for token in tokens(site) if token.secret == kept_of(found["token"]))
    assert row.scopes == ["read", "submit", f"job:{at_work}"]
    ok(ben.post(f"/api/jobs/{at_work}/cancel"))
    assert inside.get("/api/jobs").status_code == 401  # at once, not when it has ended
    site.wait(ben, at_work)
    assert not tokens(site)
    for name in (CONNECTION, DOOR):
        assert not (site.platform.home.job(at_work) / name).exists()


@pytest.mark.slow
def test_the_token_of_an_administrators_notebook_does_not_administer(site, ada):
    number = ok(ada.post("/api/jobs", json=WISH), 201)["id"]
    site.wait(ada, number, ("RUNNING",))
    inside = holder(site, connection(site, number)["token"])
    assert ok(inside.get("/api/jobs"))["items"]
    assert inside.get("/api/admin/users").status_code == 403
    ok(ada.post(f"/api/jobs/{number}/cancel"))
    site.wait(ada, number)


@pytest.mark.slow
def test_a_token_ends_with_its_job_also_where_nobody_took_it_back(site, ben, at_work):
    """The server was killed between the end of the job and what follows from it."""
    inside = holder(site, connection(site, at_work)["token"])
    assert ok(inside.get("/api/jobs"))["items"]
    with site.platform.database.writing() as session:
        session.execute(sql.update(Job).where(Job.id == at_work).values(state="FAIL"))
    assert inside.get("/api/jobs").status_code == 401
    with site.platform.database.writing() as session:
        session.execute(sql.update(Job).where(Job.id == at_work).values(state="RUNNING"))


@pytest.mark.slow
def test_a_job_that_is_started_again_keeps_the_token_that_it_has_read(site, ben, at_work):
    before = connection(site, at_work)
    with site.platform.database.writing() as session:
        notebooks.begin(
            session, site.platform.home, site.platform.settings, session.get_one(Job, at_work), "http://x:1"
        )
    assert connection(site, at_work) == before
    site.platform.address = "http://127.0.0.1:9000"
    site.platform.begin()
    assert connection(site, at_work) == before | {"address": "http://127.0.0.1:9000"}


@pytest.mark.slow
def test_in_the_sandbox_no_notebook_gets_the_key_of_the_server(site, ben, at_work, tmp_path):
    settings = site.platform.settings.model_copy(
        update={"sandbox": True, "certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    )
    for file in (settings.certificate, settings.key):
        file.write_text("secret")
    folder = site.platform.home.job(at_work)
    with site.platform.database.writing() as session:
        job = session.get_one(Job, at_work)
        notebooks.begin(session, site.platform.home, settings, job, "https://x:1")
        assert (folder / CERTIFICATE).read_text() == "secret"
        job.settings = {"address": "0.0.0.0"}
        with pytest.raises(SettingsError, match=r"address = 0\.0\.0\.0: .* use the tunnel"):
            notebooks.begin(session, site.platform.home, settings, job, "https://x:1")
        assert not (folder / KEY).exists()
        notebooks.begin(session, site.platform.home, settings.model_copy(update={"sandbox": False}), job, "https://x:1")
        assert (folder / KEY).read_text() == "secret"


@pytest.mark.slow
def test_a_notebook_ends_with_the_account_of_its_owner(site, ada, at_work):
    other = ok(ada.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    site.wait(ada, other, ("RUNNING",))
    user = next(u["id"] for u in ok(ada.get("/api/admin/users")) if u["name"] == "ben")
    ok(ada.patch(f"/api/admin/users/{user}", json={"expires": time.time() - 1}))
    assert site.wait(ada, at_work)["state"] == "CANCEL"
    assert ok(ada.get(f"/api/jobs/{other}"))["state"] == "RUNNING"
    ok(ada.post(f"/api/jobs/{other}/cancel"))
    ok(ada.patch(f"/api/admin/users/{user}", json={"expires": None}))


def test_nobody_can_make_a_token_that_looks_like_that_of_a_job(ben):
    answer = ben.post("/api/account/tokens", json={"name": "x", "scopes": ["read", "job:1"]})
    assert answer.status_code == 422


@pytest.mark.slow
def test_no_route_no_log_and_no_archive_shows_the_secrets(site, ben, at_work):
    folder = site.platform.home.job(at_work)
    token = connection(site, at_work)["token"]
    (folder / kept.FILES / "mine.txt").write_text("mine")
    for name in (CONNECTION, DOOR):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    order = json.loads((folder / kept.JOB).read_text())
    assert token not in json.dumps(order)
    assert order["environment"][VARIABLE] == str(folder / CONNECTION)
    link = ok(ben.post("/api/shares", json={"kind": "job", "number": at_work, "days": 1}), 201)["link"]
    secret = link.split("/")[-1]
    paths = ok(ben.get("/api/openapi.json"))["paths"]
    reached = 0
    for path, method in calls(paths):
        if method != "get" or "events" in path:
            continue
        answer = asked(ben, path.replace("{number}", str(at_work)).replace("{link}", secret), method)
        reached += answer.status_code == 200
        assert token not in answer.text, path
        if not path.endswith("/notebook"):
            assert DOOR_TOKEN not in answer.text, path
    assert reached > 20
    for way in ("zip", "crate"):
        archive = zipfile.ZipFile(io.BytesIO(ben.get(f"/api/jobs/{at_work}/{way}").content))
        assert any(name.endswith("mine.txt") for name in archive.namelist())
        for name in archive.namelist():
            content = archive.read(name).decode(errors="replace")
            assert token not in content, name
            assert DOOR_TOKEN not in content, name
            assert CONNECTION not in name
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in (CONNECTION, DOOR):
            assert token not in path.read_text(errors="replace"), path
    another = ben.post("/api/jobs", json={"task": "inspect", "settings": {"files": [f"job:{at_work}/../{CONNECTION}"]}})
    assert another.status_code == 422


@pytest.mark.slow
def test_only_its_owner_is_told_how_a_notebook_is_opened(site, ben, eve, ada, at_work):
    view = ok(ben.get(f"/api/jobs/{at_work}/notebook"))
    assert view == {"ready": True, "tunnel": "",
                    "link": f"http://localhost:8890/lab/tree/start.ipynb?token={DOOR_TOKEN}"}  # fmt: skip
    assert ada.get(f"/api/jobs/{at_work}/notebook").status_code == 403
    assert eve.get(f"/api/jobs/{at_work}/notebook").status_code == 404
    ok(ben.patch(f"/api/jobs/{at_work}", json={"privacy": "public"}))
    assert eve.get(f"/api/jobs/{at_work}/notebook").status_code == 403
    reads = ok(ben.post("/api/account/tokens", json={"name": "reads", "scopes": ["read"]}), 201)["token"]
    assert holder(site, reads).get(f"/api/jobs/{at_work}/notebook").status_code == 403
    other = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    assert ben.get(f"/api/jobs/{other}/notebook").status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"port": 0}, {"port": "javascript:"}, {"token": "<script>"}, {"host": "a b"}, {"address": "/"},
     {"more": 1}],
)  # fmt: skip
def test_a_door_that_its_user_has_changed_leads_nowhere_else(site, ben, at_work, change):
    path = site.platform.home.job(at_work) / DOOR
    write_private(path, json.loads(path.read_text()) | change)
    view = ok(ben.get(f"/api/jobs/{at_work}/notebook"))
    assert view["link"].startswith("http://localhost:8890/") or not view["ready"]


def test_the_name_of_a_notebook_is_not_that_of_the_platform(tmp_path):
    """Cookies do not know ports: what is sent to one name of this machine is not sent to the other."""
    from rutile.jobs.home import Home
    from rutile.server.settings import ServeSettings

    home, local = Home.open(tmp_path), ServeSettings()
    away = ServeSettings(host="0.0.0.0", proxy=True)
    door = {"port": 5, "token": DOOR_TOKEN, "address": "127.0.0.1", "host": "node7"}
    home.job(1).mkdir()
    job = Job(id=1, state="RUNNING", cancelled=False, queue="local")

    def link(settings, asked_at, **change):
        write_private(home.job(1) / DOOR, door | change)
        view = notebooks.door_of(home, settings, job, asked_at)
        return view.link.split("/lab")[0], view.tunnel

    assert link(local, "127.0.0.1") == ("http://localhost:5", "")
    assert link(local, "localhost") == ("http://127.0.0.1:5", "")
    assert link(away, "rutile.example.org") == ("http://localhost:5", "ssh -N -L 5:127.0.0.1:5 node7")
    assert link(away, "rutile.example.org", address="0.0.0.0") == ("http://node7:5", "")
    assert link(away, "rutile.example.org", address="0.0.0.0", secure=True) == ("https://node7:5", "")
    assert link(local, "localhost", address="::1") == ("http://[::1]:5", "")


def test_a_client_finds_the_platform_by_itself(tmp_path, monkeypatch):
    for name in (VARIABLE, "RUTILE_ADDRESS", "RUTILE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileError, match="no platform is known here"):
        Client()
    with pytest.raises(FileError, match="belong together"):
        Client("http://127.0.0.1:1")
    monkeypatch.setenv(VARIABLE, str(tmp_path / CONNECTION))
    with pytest.raises(FileError, match="no address and token"):
        Client()
    write_private(tmp_path / CONNECTION, {"address": "http://127.0.0.1:1/", "token": "rtl_a"})
    client = Client()
    assert (client.address, client.token) == ("http://127.0.0.1:1", "rtl_a")
    assert "rtl_a" not in repr(client)
    monkeypatch.setenv("RUTILE_ADDRESS", "http://127.0.0.1:2")
    monkeypatch.setenv("RUTILE_TOKEN", "rtl_b")
    assert Client().token == "rtl_b"
    assert Client("http://127.0.0.1:3", "rtl_c").token == "rtl_c"


@pytest.mark.slow
def test_a_file_that_only_one_may_read_was_never_open_to_others(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, {"a": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.slow
def test_the_wall_time_of_a_notebook_ends_its_token(site, ben):
    number = ok(ben.post("/api/jobs", json=WISH | {"wall_time": 600.0}), 201)["id"]
    site.wait(ben, number, ("RUNNING",))
    row = tokens(site)[0]
    assert 600 < row.expires - time.time() < 600 + 3700
    ok(ben.post(f"/api/jobs/{number}/cancel"))
    site.wait(ben, number)
