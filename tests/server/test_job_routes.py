"""Jobs from a form to a result, and what their owners can do with them."""

import io
import platform
import zipfile

import numpy as np
import pytest
from platform_site import ok

CU = {
    "builder": {"name": "bulk", "count": 1, "crystals": {"elements": ["Cu"], "prototypes": ["fcc"]}},
    "out": "cu.extxyz",
}
STEPS = {"task": "doctor", "settings": {}}


def submit(page, **wish):
    return ok(page.post("/api/jobs", json=STEPS | wish), 201)


@pytest.mark.slow
def test_a_job_runs_and_everything_about_it_can_be_read(site, ben):
    job = submit(ben, name="first", cores=1, memory=2.0)
    assert job["state"] == "QUEUED"
    done = site.wait(ben, job["id"])
    assert (done["state"], done["exit_code"], done["reason"]) == ("DONE", 0, "")
    assert done["result"]["checks"][0]["name"] == "rutile"
    assert done["command"] == "rutile doctor"
    assert done["made_with"] | {"numpy": np.__version__, "Python": platform.python_version()} == done["made_with"]
    assert "commit" not in done["made_with"] or len(done["made_with"]["commit"].removesuffix("-dirty")) == 40
    assert done["progress"] == 1.0
    assert done["waited"] >= 0
    assert done["ran"] > 0
    assert done["bytes"] > 0
    log = ok(ben.get(f"/api/jobs/{job['id']}/log"))
    assert "python" in log["text"]
    found = ok(ben.get(f"/api/jobs/{job['id']}/log/search", params={"text": "PYTHON"}))
    assert found["hits"]
    assert log["text"][found["hits"][0]["offset"] :].startswith(found["hits"][0]["text"][:20])
    used = ok(ben.get(f"/api/jobs/{job['id']}/performance"))
    assert used["rows"] >= 1
    assert max(used["columns"]["memory"]) > 0


@pytest.mark.slow
def test_a_job_reads_what_another_one_wrote(site, ben):
    built = submit(ben, task="build", settings=CU)
    done = site.wait(ben, built["id"])
    assert done["state"] == "DONE", done["reason"]
    files = {f["path"]: f for f in ok(ben.get(f"/api/jobs/{built['id']}/files"))}
    reference = files["cu.extxyz"]["reference"]
    assert files["cu.extxyz"]["kind"] == "structures"
    shown = ok(ben.get(f"/api/jobs/{built['id']}/files/{files['cu.extxyz']['id']}/preview"))
    assert "Lattice" in shown["text"]
    raw = ben.get(f"/api/jobs/{built['id']}/files/{files['cu.extxyz']['id']}/download")
    assert raw.headers["content-disposition"].startswith("attachment")
    assert raw.headers["content-security-policy"].startswith("sandbox")
    archive = zipfile.ZipFile(io.BytesIO(ben.get(f"/api/jobs/{built['id']}/zip").content))
    assert any(name.endswith("/cu.extxyz") for name in archive.namelist())
    relax = {"structures": [reference], "model": "emt", "cell": "full"}
    job = submit(ben, task="relax", settings=relax)
    assert job["inputs"] == [{"setting": "structures", "reference": reference, "name": "cu.extxyz", "sha256": ""}]
    assert "cu.extxyz" in job["command"]
    done = site.wait(ben, job["id"])
    assert done["state"] == "DONE", done["reason"]
    assert done["result"]["converged"] == len(done["result"]["structures"]) >= 1
    again = ok(ben.post("/api/tasks/relax/check", json={"settings": relax}))
    assert again["same"] == job["id"]
    assert again["expected"]["jobs"] == 1


@pytest.mark.slow
def test_a_job_that_fails_says_why_in_one_line(site, ben):
    job = submit(ben, task="relax", settings={"structures": ["missing.extxyz"], "model": "emt"})
    done = site.wait(ben, job["id"])
    assert (done["state"], done["exit_code"]) == ("FAIL", 2)
    assert "missing.extxyz" in done["reason"]
    assert "\n" not in done["reason"]


def test_settings_that_are_wrong_are_refused_with_their_key(ben):
    answer = ben.post(
        "/api/jobs", json={"task": "relax", "settings": {"structures": ["a.cif"], "model": "emt", "fmax": -1}}
    )
    assert answer.status_code == 422
    assert [p["key"] for p in answer.json()["problems"]] == ["fmax"]
    assert ben.post("/api/jobs", json={"task": "serve"}).status_code == 404
    assert ben.post("/api/jobs", json=STEPS | {"queue": "moon"}).status_code == 422


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("structures", ["/etc/passwd"]),
        ("structures", ["../../platform.db"]),
        ("model", "~/model.rutile"),
        ("out", "inputs/x.extxyz"),
        ("structures", ["file:///etc/passwd"]),
        ("structures", ["job:1/../../../etc/passwd"]),
        ("structures", ["job:1/a"]),
        ("structures", ["upload:abc"]),
    ],
)
def test_settings_name_nothing_on_the_server(ben, key, value):
    settings = {"structures": ["a.cif"], "model": "emt"} | {key: value}
    answer = ben.post("/api/jobs", json={"task": "relax", "settings": settings})
    assert answer.status_code == 422
    assert key in answer.json()["detail"]


def test_programs_are_named_only_where_the_server_allows_it(ben):
    engine = {"name": "gpaw", "python": "evil.sh"}
    answer = ben.post("/api/tasks/label/check", json={"settings": {"structures": ["a.cif"], "engine": engine}})
    assert "engine.python" in [p["key"] for p in ok(answer)["problems"]]


def test_lists_are_filtered_sorted_and_paged(site, ben):
    for k in range(7):
        submit(ben, name=f"job {k % 3}", tags=[f"t{k % 2}"])
    page = ok(ben.get("/api/jobs", params={"size": 3, "sort": "name", "page": 1}))
    assert [j["name"] for j in page["items"]] == ["job 0"] * 3
    assert page["total"] == 7
    assert page["counts"]["QUEUED"] == 7
    second = ok(ben.get("/api/jobs", params={"size": 3, "sort": "-id", "page": 2}))
    assert [j["id"] for j in second["items"]] == [4, 3, 2]
    assert ok(ben.get("/api/jobs", params={"search": "JOB 1"}))["total"] == 2
    assert ok(ben.get("/api/jobs", params={"search": "%"}))["total"] == 0
    assert ok(ben.get("/api/jobs", params={"tag": "t1"}))["total"] == 3
    assert ok(ben.get("/api/jobs", params={"state": ["DONE", "FAIL"]}))["total"] == 0
    assert ok(ben.get("/api/jobs", params={"owner": "me", "task": "doctor"}))["total"] == 7


def test_jobs_are_changed_cancelled_cloned_compared_and_deleted(site, ben):
    job = submit(ben)
    number = job["id"]
    changed = ok(ben.patch(f"/api/jobs/{number}", json={"name": "new", "tags": ["a"], "privacy": "public"}))
    assert (changed["name"], changed["tags"], changed["privacy"]) == ("new", ["a"], "public")
    assert ben.delete(f"/api/jobs/{number}").status_code == 422
    gone = ok(ben.post(f"/api/jobs/{number}/cancel"))
    assert (gone["state"], gone["reason"]) == ("CANCEL", "cancelled before it began")
    assert ben.post(f"/api/jobs/{number}/cancel").status_code == 422
    clone = ok(ben.get(f"/api/jobs/{number}/clone"))
    twin = submit(ben, **clone)
    assert twin["key"] == job["key"]
    again = ok(ben.post(f"/api/jobs/{number}/rerun"), 201)
    assert again["cloned_from"] == number
    other = submit(ben, settings={"folder": "elsewhere"})
    assert other["key"] != job["key"]
    differ = ok(ben.get("/api/jobs/compare", params={"ids": [number, other["id"]]}))
    assert differ == {"settings.folder": [None, "elsewhere"]}
    some = ok(ben.post("/api/jobs/actions", json={"action": "cancel", "ids": [again["id"], number, 99999]}))
    assert some["done"] == [again["id"]]
    assert len(some["problems"]) == 2
    assert ben.delete(f"/api/jobs/{number}").status_code == 204
    assert ben.get(f"/api/jobs/{number}").status_code == 404


def test_children_make_a_tree(ben):
    top = submit(ben)["id"]
    child = submit(ben, parent_id=top)["id"]
    leaf = submit(ben, parent_id=child)["id"]
    assert [j["id"] for j in ok(ben.get(f"/api/jobs/{top}/tree"))] == [top, child, leaf]
    assert ok(ben.get("/api/jobs", params={"parent": top}))["total"] == 1


def test_others_see_what_is_public_and_change_nothing(site, ben, eve, ada):
    private, public = submit(ben)["id"], submit(ben, privacy="public")["id"]
    assert eve.get(f"/api/jobs/{private}").status_code == 404
    seen = ok(eve.get(f"/api/jobs/{public}"))
    assert not seen["mine"]
    assert eve.post(f"/api/jobs/{public}/cancel").status_code == 403
    assert eve.post("/api/jobs", json=STEPS | {"parent_id": public}).status_code == 403
    assert [j["id"] for j in ok(eve.get("/api/jobs"))["items"]] == [public]
    assert ok(ada.get("/api/jobs"))["total"] == 2
    assert ok(ada.post(f"/api/jobs/{private}/cancel"))["state"] == "CANCEL"


def test_too_large_a_job_waits_and_says_why(site, ben):
    number = submit(ben, cores=64)["id"]
    site.platform.reconciler.round()
    job = ok(ben.get(f"/api/jobs/{number}"))
    assert (job["state"], job["reason"]) == ("QUEUED", "asks for 64 cores; this machine has 2")


def test_compute_tells_what_there_is(ben):
    seen = ok(ben.get("/api/compute"))
    assert seen["queues"][0]["cores"] == 2
    assert ok(ben.get("/api/compute/waiting")) == []
