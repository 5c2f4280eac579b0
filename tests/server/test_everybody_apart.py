"""Nobody touches another one's things: over every route that the description of the API knows."""

import re

import pytest
from platform_site import ok

from rutile.jobs.folder import FILES
from rutile.jobs.safe_files import identity
from rutile.jobs.tables import Dataset, DatasetVersion, Job, Share, StoredModel, StoredStructure, Template, Upload, User

pytestmark = pytest.mark.databases
BODIES = {
    ("/api/jobs/{number}", "patch"): {"name": "taken"},
    ("/api/structures", "post"): {"name": "x", "file": "structure:1"},
    ("/api/datasets", "post"): {"name": "x", "file": "dataset:1"},
    ("/api/datasets/{number}", "patch"): {"name": "taken"},
    ("/api/datasets/{number}/versions", "post"): {"file": "upload:" + "a" * 24},
    ("/api/datasets/{number}/selection", "post"): {"name": "taken"},
    ("/api/datasets/{number}/parts", "post"): {"by": "frames"},
    ("/api/searches/{number}/keep", "post"): {"name": "taken"},
    ("/api/structures/{number}", "patch"): {"name": "taken"},
    ("/api/models", "post"): {"name": "x", "file": "job:1/secret.txt"},
    ("/api/models/{number}", "patch"): {"name": "taken"},
    ("/api/models/{number}/try", "post"): {"structure": "structure:1"},
    ("/api/models/{number}/references", "put"): {"typed": []},
    ("/api/jobs", "post"): {"task": "relax", "settings": {"structures": ["structure:1"], "model": "model:1"}},
    ("/api/jobs/actions", "post"): {"action": "delete", "ids": [1]},
    ("/api/storage/free", "post"): {"references": ["job:1", "files:1", "upload:" + "a" * 24], "sure": True},
    ("/api/templates", "post"): {"name": "x", "task": "nothing", "settings": {}},
    ("/api/templates/{number}", "patch"): {"name": "taken"},
    ("/api/shares", "post"): {"kind": "job", "number": 1},
}
"""What a request needs to be understood at all."""
QUERIES = {
    "/api/jobs/compare": {"ids": [1]}, "/api/models/compare": {"ids": [1]}, "/api/uploads/{id}": {"offset": 0},
    "/api/datasets/{number}/histogram": {"of": "fmax"}, "/api/datasets/{number}/points": {"x": "fmax", "y": "atoms"},
    "/api/datasets/{number}/differences": {"first": 1, "second": 1}, "/api/searches/{number}/names": {"structures": 1},
    "/api/jobs/{number}/log/search": {"text": "secret"}, "/api/search": {"text": "secret"},
    "/api/jobs/compare/curves": {"ids": [1]}, "/api/jobs/zip": {"ids": [1]},
}  # fmt: skip
OWN = (
    "/api/account",
    "/api/session",
    "/api/tasks",
    "/api/compute",
    "/api/announcements",
    "/api/health",
    "/api/ready",
    "/metrics",
)
"""Routes about oneself, or about nobody."""
SECRET = "TopSecret"


def fill(site):
    """One of everything, ben's and private."""
    with site.platform.database.writing() as session:
        ben = next(u for u in session.query(User) if u.name == "ben")
        mine = {"owner_id": ben.id, "name": SECRET, "created": 0.0}
        session.add(Job(**mine, task="doctor", settings={"folder": SECRET}, key="k", state="DONE"))
        session.add(Dataset(**mine, description=SECRET))
        session.flush()
        session.add(DatasetVersion(dataset_id=1, number=1, sha256="0" * 64, file="a.extxyz", format="x", created=0.0,
                                   state="ready"))  # fmt: skip
        session.add(StoredModel(**mine, sha256="0" * 64, elements=["Cu"], card={"info": {}}))
        session.add(StoredStructure(**mine, formula=SECRET, atoms=1))
        session.add(Template(**mine, task="relax", settings={"out": SECRET}))
        session.add(Upload(**mine, id="a" * 24, size=3, received=3, sha256="0" * 64))
    home = site.platform.home
    (home.job(1) / FILES).mkdir(parents=True)
    (home.job(1) / FILES / "secret.txt").write_text(SECRET)
    (home.job(1) / "log.txt").write_text(SECRET)
    home.upload("a" * 24).write_bytes(b"abc")
    home.structure(1).write_text("1\n\nCu 0 0 0\n")
    return site


@pytest.fixture
def things(site):
    return fill(site)


def calls(paths):
    for path, methods in paths.items():
        for method in methods:
            if not path.startswith(OWN):
                yield path, method


def asked(page, path, method):
    values = {
        "number": "1",
        "id": "a" * 24,
        "file": identity("secret.txt"),
        "frame": "0",
        "structure": "1",
        "job": "1",
        "name": "x",
        "link": "1",
    }
    url = re.sub(r"\{(\w+)\}", lambda m: values[m[1]], path)
    body = BODIES.get((path, method))
    content = b"x" if path == "/api/uploads/{id}" and method == "put" else None
    return page.request(method, url, json=body, params=QUERIES.get(path), content=content)


def rows(site):
    with site.platform.database.reading() as session:
        kinds = (Job, Dataset, DatasetVersion, Share, StoredModel, StoredStructure, Template, Upload)
        return {k.__name__: [{c.name: getattr(r, c.name) for c in k.__table__.columns} for r in session.query(k)]
                for k in kinds}  # fmt: skip


@pytest.mark.slow
def test_no_route_shows_or_changes_what_is_anothers(things, eve):
    before = rows(things)
    paths = ok(eve.get("/api/openapi.json"))["paths"]
    every = list(calls(paths))
    assert len(every) > 60
    for path, method in every:
        answer = asked(eve, path, method)
        assert answer.status_code < 500, (method, path, answer.text)
        assert SECRET not in answer.text, (method, path)
        if "{" in path:
            refused = (401,) if "{link}" in path else (403, 404)
            assert answer.status_code in refused, (method, path, answer.status_code, answer.text)
        if path.startswith("/api/admin"):
            assert answer.status_code == 403, (method, path)
    assert rows(things) == before
    assert things.platform.home.upload("a" * 24).read_bytes() == b"abc"


@pytest.mark.slow
def test_the_same_requests_do_reach_the_owner(things, ben):
    """So the test above refuses for the right reason: every thing is there for its owner."""
    paths = ok(ben.get("/api/openapi.json"))["paths"]
    reached = {}
    for path, method in calls(paths):
        if method == "get" and "{" in path and "events" not in path and "{link}" not in path:
            reached[path] = asked(ben, path, method).status_code
    unreached = {p for p, code in reached.items() if code in (401, 403)}
    assert not unreached
    shown = [p for p, code in reached.items() if code == 200]
    assert len(shown) > 12, reached


def test_references_of_others_are_refused(things, eve):
    for reference in ("job:1/secret.txt", "dataset:1", "model:1", "structure:1", f"upload:{'a' * 24}"):
        settings = {"structures": [reference], "model": "emt"}
        answer = ok(eve.post("/api/tasks/relax/check", json={"settings": settings}))
        assert not answer["ok"], reference
        assert SECRET not in str(answer)


@pytest.mark.slow
def test_administrators_alone_administer(things, eve, ada):
    paths = ok(ada.get("/api/openapi.json"))["paths"]
    admin = [(p, m) for p, m in calls(paths) if p.startswith("/api/admin")]
    assert len(admin) >= 12
    for path, method in admin:
        assert asked(eve, path, method).status_code == 403, (method, path)
        assert asked(ada, path, method).status_code not in (401, 403), (method, path)
