"""Links show one thing, to everybody, until they end; nothing else answers to them, and nothing changes by them."""

import re
import time

import pytest
import sqlalchemy as sql
from platform_site import ok
from test_everybody_apart import SECRET, fill
from test_signing_in import FREE

from rutile.jobs.folder import FILES
from rutile.jobs.safe_files import identity
from rutile.jobs.tables import Job, Share, StoredStructure, User

pytestmark = pytest.mark.databases
KINDS = {"job": "jobs", "search": "searches", "dataset": "datasets", "model": "models", "structure": "structures"}


@pytest.fixture
def things(site):
    fill(site)
    with site.platform.database.writing() as session:
        ben = next(u for u in session.query(User) if u.name == "ben")
        session.add(
            Job(id=2, owner_id=ben.id, name="other", task="search", settings={}, key="k", state="DONE", created=0.0)
        )
        session.add(StoredStructure(id=2, owner_id=ben.id, name="public", privacy="public", formula="Cu", atoms=1,
                                    created=0.0))  # fmt: skip
    return site


def link(page, kind, number, **wish):
    made = ok(page.post("/api/shares", json={"kind": kind, "number": number, **wish}), 201)
    return made["link"].rsplit("/", 1)[1], made["view"]


@pytest.mark.slow
def test_a_link_shows_its_thing_to_everybody(things, ben):
    stranger = things.page()
    for kind, number in (("job", 1), ("search", 2), ("dataset", 1), ("model", 1), ("structure", 1)):
        secret, view = link(ben, kind, number)
        assert abs(view["expires"] - time.time() - 7 * 86400) < 60
        shown = ok(stranger.get(f"/api/shared/{secret}"))
        assert (shown["kind"], shown["number"], shown["owner"]) == (kind, number, "ben")
        thing = ok(stranger.get(f"/api/shared/{secret}/{KINDS[kind]}/{number}"))
        assert not thing.get("mine")
    secret, _ = link(ben, "job", 1)
    base = f"/api/shared/{secret}/jobs/1"
    (file,) = ok(stranger.get(f"{base}/files"))
    assert stranger.get(f"{base}/files/{file['id']}/download").text == SECRET
    assert SECRET in ok(stranger.get(f"{base}/log"))["text"]
    secret, _ = link(ben, "structure", 1)
    assert ok(stranger.get(f"/api/shared/{secret}/structures/1/frames/0"))["formula"] == "Cu"


@pytest.mark.slow
def test_a_link_opens_nothing_but_its_thing(things, ben):
    """Over every route that the description knows, with the link as token, cookie and path."""
    secret, _ = link(ben, "job", 1)
    (things.platform.home.job(2) / FILES).mkdir(parents=True)
    paths = ok(ben.get("/api/openapi.json"))["paths"]
    below = [path for path in paths if path.startswith("/api/shared/")]
    assert len(below) > 20
    stranger = things.page()
    for path in below:
        for number in (1, 2):
            values = {"link": secret, "number": str(number), "file": identity("secret.txt"), "frame": "0",
                      "structure": "1"}  # fmt: skip
            url = re.sub(r"\{(\w+)\}", lambda m, known=values: known[m[1]], path)
            code = stranger.get(url, params={"of": "fmax", "x": "fmax", "y": "atoms", "text": "x"}).status_code
            own = path.endswith("{link}") or ("/jobs/" in path and number == 1)
            absent = path.endswith(("/page", "/frames/{frame}", "/track"))  # the file is neither page nor structures
            assert code in ((404, 422) if absent else (200,)) if own else code == 404, (path, number, code)
            for method in paths[path].keys() | {"post", "put", "patch", "delete"}:
                if method != "get":
                    assert stranger.request(method, url).status_code in (401, 403, 404, 405), (method, path)
    program = things.page()
    program.headers["Authorization"] = f"Bearer {secret}"
    guest = things.page()
    guest.cookies.set("rutile_session", secret)
    for path in paths:
        if path not in below and (path, "get") not in FREE and "get" in paths[path]:
            url = path.replace("{number}", "1").replace("{id}", "a" * 24)
            for page in (program, guest):
                assert page.get(url).status_code == 401, path


def test_only_who_may_change_a_thing_shares_it(things, ben, eve, ada):
    assert eve.post("/api/shares", json={"kind": "job", "number": 1}).status_code == 404
    assert eve.post("/api/shares", json={"kind": "structure", "number": 2}).status_code == 403
    assert things.page("vic").post("/api/shares", json={"kind": "structure", "number": 2}).status_code == 403
    assert ben.post("/api/shares", json={"kind": "search", "number": 1}).status_code == 404
    assert ben.post("/api/shares", json={"kind": "job", "number": 1, "days": 1000}).status_code == 422
    assert things.page().post("/api/shares", json={"kind": "job", "number": 1}).status_code == 401


@pytest.mark.slow
def test_links_that_ended_were_taken_back_or_lost_their_thing_are_refused(things, ben, eve):
    old, _ = link(ben, "job", 1)
    with things.platform.database.writing() as session:
        session.execute(sql.update(Share).values(expires=time.time() - 1))
    back, view = link(ben, "job", 1)
    lost, _ = link(ben, "structure", 1)
    assert [one["name"] for one in ok(ben.get("/api/shares"))] == [SECRET, SECRET]
    assert ok(eve.get("/api/shares")) == []
    assert eve.delete(f"/api/shares/{view['id']}").status_code == 404
    assert ben.delete(f"/api/shares/{view['id']}").status_code == 204
    ok(ben.delete("/api/structures/1"), 204)
    for secret in (old, back, lost, "", "nothing"):
        assert things.page().get(f"/api/shared/{secret}").status_code in (401, 404), secret
        assert things.page().get(f"/api/shared/{secret}/jobs/1").status_code in (401, 404), secret


def test_a_new_thing_that_gets_an_old_number_is_not_shared(things, ben):
    secret, _ = link(ben, "structure", 2)
    ok(ben.delete("/api/structures/2"), 204)
    with things.platform.database.writing() as session:
        session.add(StoredStructure(id=2, owner_id=2, name="new", formula="Cu", atoms=1, created=0.0))
    assert things.page().get(f"/api/shared/{secret}/structures/2").status_code == 401


@pytest.mark.slow
def test_links_of_a_closed_account_show_nothing(things, ben):
    secret, _ = link(ben, "job", 1)
    with things.platform.database.writing() as session:
        session.execute(sql.update(User).where(User.name == "ben").values(disabled=True))
    assert things.page().get(f"/api/shared/{secret}").status_code == 401


@pytest.mark.slow
def test_the_secret_of_a_link_is_kept_as_a_hash_and_its_use_is_noted(things, ben, ada):
    secret, _ = link(ben, "job", 1)
    assert ok(ben.get("/api/shares"))[0]["used"] is None
    ok(things.page().get(f"/api/shared/{secret}"))
    assert ok(ben.get("/api/shares"))[0]["used"] == pytest.approx(time.time(), abs=30)
    with things.platform.database.reading() as session:
        assert secret not in str([vars(row) for row in session.scalars(sql.select(Share))])
    lines = ok(ada.get("/api/admin/audit", params={"user": "ben"}))
    assert ("shared", "job 1") in [(line["action"], line["thing"]) for line in lines]
    assert secret not in str(lines)
