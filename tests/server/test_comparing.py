"""Jobs beside each other, and what is used most."""

import json
import time

import pytest
from platform_site import ok

from rutile.jobs.folder import METRICS, RESULT
from rutile.jobs.tables import Dataset, Job, StoredModel, User


def put(site, rows=(), owner="ben", inputs=(), result=None, **changes):
    """A finished job that reported rows; its number."""
    read = [{"setting": "x", "reference": r, "name": "f", "source": "/x", "sha256": ""} for r in inputs]
    with site.platform.database.writing() as session:
        user = session.query(User).filter_by(name=owner).one()
        row = {"name": "a", "task": "train", "settings": {}, "key": "k", "created": time.time(), "state": "DONE"}
        job = Job(owner_id=user.id, inputs=read, **row | changes)
        session.add(job)
        session.flush()
        number = job.id
    folder = site.platform.home.job(number)
    folder.mkdir(parents=True)
    (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / RESULT).write_text(json.dumps(result or {}))
    return number


def test_what_differs_is_told_and_on_demand_what_is_the_same(site, ben):
    first = put(site, settings={"epochs": 3, "seed": 1}, cores=2, result={"error": 0.1})
    second = put(site, settings={"epochs": 3, "seed": 2}, cores=4, result={"error": 0.1})
    query = {"ids": [first, second]}
    assert ok(ben.get("/api/jobs/compare", params=query)) == {"settings.seed": [1, 2], "place.cores": [2, 4]}
    whole = ok(ben.get("/api/jobs/compare", params=query | {"same": True}))
    assert (whole["settings.epochs"], whole["result.error"], whole["task"]) == ([3, 3], [0.1, 0.1], ["train"] * 2)


def test_the_best_is_told_not_the_last(site, ben):
    losses = [0.9, 0.5, 0.2, 0.4, 0.8]
    first = put(site, [{"epoch": k, "valid_loss": loss, "seconds": k} for k, loss in enumerate(losses)])
    second = put(site, [{"epoch": k, "valid_loss": 1 / (k + 1), "lr": 0.1} for k in range(3000)])
    told = ok(ben.get("/api/jobs/compare/curves", params={"ids": [first, second], "points": 50}))
    assert told["x_name"] == "epoch"
    assert told["best"] == {
        "valid_loss": [{"job": first, "value": 0.2, "at": 2.0}, {"job": second, "value": 1 / 3000, "at": 2999.0}]
    }
    curves = {curve["job"]: curve for curve in told["curves"]["valid_loss"]}
    assert curves[first]["y"] == losses
    assert len(curves[second]["y"]) < 400
    assert [curve["job"] for curve in told["curves"]["lr"]] == [second]


def test_jobs_without_curves_or_a_common_axis_can_be_compared(site, ben, eve):
    first, second = put(site), put(site, [{"energy": -1.0}, {"energy": -3.0}])
    told = ok(ben.get("/api/jobs/compare/curves", params={"ids": [first, second]}))
    assert (told["x_name"], told["best"]) == ("", {})
    assert told["curves"] == {"energy": [{"job": second, "x": [0.0, 1.0], "y": [-1.0, -3.0]}]}
    assert eve.get("/api/jobs/compare/curves", params={"ids": [first]}).status_code == 404


@pytest.fixture
def used(site):
    """Models and a data set of ben's, of which jobs read the second model most."""
    with site.platform.database.writing() as session:
        ben = session.query(User).filter_by(name="ben").one().id
        for number, name in ((1, "first"), (2, "second"), (3, "unused")):
            session.add(StoredModel(id=number, name=name, owner_id=ben, created=0.0, sha256="0" * 64))
        session.add(Dataset(id=7, name="melts", owner_id=ben, created=0.0))
    for inputs in (["model:2"], ["model:2", "model:1"], ["model:9"], ["dataset:7@1", "dataset:7@2"]):
        put(site, inputs=inputs, task="relax")
    put(site, inputs=["model:1"] * 1, task="md", created=1.0)


@pytest.mark.slow
def test_what_is_used_most_comes_first(site, ben, eve, used):
    put(site, task="md")
    told = ok(ben.get("/api/hot"))
    assert [(row["name"], row["jobs"]) for row in told["tasks"]] == [("relax", 4), ("md", 1)]
    assert [(row["id"], row["name"], row["jobs"]) for row in told["models"]] == [(2, "second", 2), (1, "first", 1)]
    assert [(row["id"], row["jobs"]) for row in told["datasets"]] == [(7, 1)], "a job counts once"
    assert len(ok(ben.get("/api/hot", params={"most": 1}))["models"]) == 1
    assert ok(eve.get("/api/hot")) == {"tasks": [], "models": [], "datasets": [], "templates": []}
    put(site, owner="ben", inputs=["model:2"], privacy="public")
    assert ok(eve.get("/api/hot"))["models"] == [], "the model itself is not to be seen"
