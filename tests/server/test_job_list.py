"""Jobs are found by what they are about, and the list leaves as a file."""

import csv
import json
import time

import pytest
from platform_site import ok

from rutile.core.client import Client
from rutile.jobs.tables import Job, StoredModel, User


def put(site, owner="ben", **changes):
    """A job in the table, whose folder is never asked for; its number."""
    with site.platform.database.writing() as session:
        user = session.query(User).filter_by(name=owner).one()
        row = {"name": "a", "task": "relax", "settings": {}, "key": "k", "state": "DONE", "created": time.time()}
        job = Job(owner_id=user.id, **row | changes)
        session.add(job)
        session.flush()
        return job.id


def found(page, **query):
    return [job["id"] for job in ok(page.get("/api/jobs", params={"sort": "id"} | query))["items"]]


@pytest.fixture
def three(site):
    return [
        put(site, name="Anatase", settings={"formula": "TiO2", "note": 'say "yes"'}, tags=["oxides"]),
        put(site, task="md", reason="used 9 GB, more than its 8 GB", state="FAIL", settings={"model": "model:1"}),
        put(site, settings={"model": "model:12", "data": ["dataset:3@2"]}, created=1000.0, memory=64.0, priority=90),
    ]


@pytest.mark.parametrize(
    ("text", "places"),
    [("anat", [0]), ("tio2", [0]), ("OXID", [0]), ('say "yes', [0]), ("md", [1]), ("more than its", [1]),
     ("2", [0, 1, 2]), ("model:1", [1, 2]), ("_", []), ("%", []), ("nothing", [])],
)  # fmt: skip
def test_text_finds_jobs_by_what_they_say(ben, three, text, places):
    hits = found(ben, search=text)
    assert hits == [three[k] for k in places]


def test_the_name_of_a_model_finds_the_jobs_that_read_it(site, ben, eve, three):
    with site.platform.database.writing() as session:
        user = session.query(User).filter_by(name="ben").one()
        session.add(StoredModel(id=1, name="Best-of-all", owner_id=user.id, created=0.0, sha256="0" * 64))
    assert found(ben, search="best-of") == [three[1]]
    public = put(site, owner="ben", settings={"model": "model:1"}, privacy="public")
    assert found(eve, search="best-of") == [], "what others named for themselves says nothing"
    assert found(eve, search="model:1") == [public]


def test_days_owners_and_columns_narrow_and_order_the_list(site, ben, ada, three):
    assert found(ben, until=2000) == [three[2]]
    assert found(ben, since=2000) == three[:2]
    other = put(site, owner="eve")
    assert found(ada, owner="eve") == [other]
    assert found(ben, owner="eve") == []
    assert found(ben, sort="-memory")[0] == three[2]
    assert found(ben, sort="-priority")[0] == three[2]


def test_a_list_leaves_as_a_file_with_everything_that_fits(site, ben, eve, monkeypatch):
    monkeypatch.setattr("rutile.server.job_export.AT_ONCE", 3)
    numbers = [put(site, name=f"job {k}", tags=["x", "y"], core_seconds=7200.0) for k in range(8)]
    put(site, task="md", name="other")
    put(site, owner="eve", name="hers")
    query = {"task": "relax", "sort": "-id", "size": 2, "page": 2}
    answer = ben.get("/api/jobs/export", params=query)
    assert answer.headers["content-disposition"] == 'attachment; filename="jobs.csv"'
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [int(row["id"]) for row in rows] == numbers[::-1]
    assert (rows[0]["tags"], float(rows[0]["core_seconds"]), rows[0]["owner"]) == ("x y", 7200.0, "ben")
    whole = ben.get("/api/jobs/export", params=query | {"format": "json"}).json()
    listed = ok(ben.get("/api/jobs", params=query | {"size": 100, "page": 1}))["items"]
    assert [row["id"] for row in whole] == numbers[::-1]
    assert whole[0].keys() == listed[0].keys()
    assert [row["name"] for row in eve.get("/api/jobs/export", params={"format": "json"}).json()] == ["hers"]
    assert json.loads(ben.get("/api/jobs/export", params={"format": "json", "task": "none"}).text) == []


def test_names_that_a_spreadsheet_would_compute_stay_text(site, ben):
    put(site, name='=HYPERLINK("x")', reason="-1 is no number")
    row = next(csv.DictReader(ben.get("/api/jobs/export").text.splitlines()))
    assert (row["name"], row["reason"]) == ('\'=HYPERLINK("x")', "'-1 is no number")


def test_a_program_takes_the_whole_list(site, ben, monkeypatch):
    for _ in range(12):
        put(site)
    answers = []
    monkeypatch.setattr(Client, "_send", lambda self, method, path, body=None, query=None: answers.append(
        ben.request(method, f"/api{path}", params=query).content) or answers[-1])  # fmt: skip
    assert len(Client("http://x", "rtl_x").every_job(owner="me")) == 12
