"""Settings that are kept under a name: who sees and changes them, and how often they are used."""

import pytest
from platform_site import ok

from rutile.jobs.tables import AuditLine, Group, Job, User

WISH = {"name": "quick", "task": "doctor", "settings": {"folder": "x"}}


def kept(page, **wish):
    return ok(page.post("/api/templates", json=WISH | wish), 201)


def names(page, **query):
    return [one["name"] for one in ok(page.get("/api/templates", params=query))["items"]]


def test_a_template_is_kept_found_renamed_and_deleted(site, ben):
    one = kept(ben)
    assert (one["task"], one["settings"], one["privacy"], one["owner"], one["mine"], one["jobs"]) == (
        "doctor", {"folder": "x"}, "private", "ben", True, 0)  # fmt: skip
    kept(ben, name="Another", task="relax", settings={})
    assert names(ben) == ["Another", "quick"]
    assert names(ben, task="doctor") == names(ben, search="UICK") == ["quick"]
    url = f"/api/templates/{one['id']}"
    changed = ok(ben.patch(url, json={"name": "quicker", "settings": {"folder": "y"}}))
    assert ok(ben.get(url)) == changed == one | {"name": "quicker", "settings": {"folder": "y"}}
    assert ben.delete(url).status_code == 204
    assert ben.get(url).status_code == 404
    with site.platform.database.reading() as session:
        did = [(line.action, line.thing) for line in session.query(AuditLine) if "template" in line.thing]
    assert did == [("kept a template", "template 1"), ("kept a template", "template 2"),
                   ("changed", "template 1"), ("deleted", "template 1")]  # fmt: skip


def test_what_is_no_template_is_refused(ben):
    assert ben.post("/api/templates", json=WISH | {"task": "nothing"}).status_code == 404
    for wish in ({"name": ""}, {"name": "two\nlines"}, {"settings": 3}, {"privacy": "secret"}):
        assert ben.post("/api/templates", json=WISH | wish).status_code == 422


def test_others_see_what_privacy_says_and_change_nothing(site, ben, eve, ada):
    one, group, public = (kept(ben, name=p, privacy=p) for p in ("private", "group", "public"))
    assert names(eve) == ["public"]
    with site.platform.database.writing() as session:
        course = Group(name="course")
        for user in session.query(User).filter(User.name.in_(["ben", "eve"])):
            user.group = course
    assert names(eve) == ["group", "public"]
    assert names(ada) == ["group", "private", "public"]
    for number, status in ((one["id"], 404), (group["id"], 403), (public["id"], 403)):
        url = f"/api/templates/{number}"
        assert eve.patch(url, json={"name": "taken"}).status_code == status
        assert eve.delete(url).status_code == status
        wish = {"task": "doctor", "settings": {}, "template_id": number}
        assert eve.post("/api/jobs", json=wish).status_code == (404 if status == 404 else 201)
    assert not ok(eve.get(f"/api/templates/{group['id']}"))["mine"]


def test_jobs_that_begin_with_a_template_are_counted(site, ben, eve):
    one, other = kept(ben, privacy="public"), kept(ben, name="other")
    for template, page in ((one, ben), (one, ben), (one, eve), (other, ben)):
        wish = {"task": "doctor", "settings": {}, "cores": 2, "template_id": template["id"]}
        job = ok(page.post("/api/jobs", json=wish), 201)
    assert ok(ben.get(f"/api/templates/{one['id']}"))["jobs"] == 3
    rows = [(row["id"], row["name"], row["task"], row["jobs"]) for row in ok(ben.get("/api/hot"))["templates"]]
    assert rows == [(one["id"], "quick", "doctor", 2), (other["id"], "other", "doctor", 1)], "eve's job is her own"
    assert [row["id"] for row in ok(eve.get("/api/hot"))["templates"]] == [one["id"]]
    assert ok(ben.get(f"/api/jobs/{job['id']}/clone"))["template_id"] is None
    assert ben.delete(f"/api/templates/{other['id']}").status_code == 204
    with site.platform.database.reading() as session:
        assert session.get_one(Job, job["id"]).template_id is None
    assert len(ok(ben.get("/api/hot"))["templates"]) == 1


def test_a_template_of_another_task_is_refused(ben):
    one = kept(ben)
    settings = {"structures": ["a.cif"], "model": "emt"}
    answer = ben.post("/api/jobs", json={"task": "relax", "settings": settings, "template_id": one["id"]})
    told = (
        f"template_id = {one['id']}: the template quick is of the task doctor, this job of relax: "
        "submit task=doctor, or leave template_id out"
    )
    assert (answer.status_code, answer.json()["detail"]) == (422, told)
    assert ok(ben.get("/api/jobs"))["total"] == 0


@pytest.mark.parametrize(("scopes", "status"), [(["read"], 403), (["read", "submit"], 201)])
def test_a_token_that_may_only_read_keeps_no_template(ben, site, scopes, status):
    token = ok(ben.post("/api/account/tokens", json={"name": "t", "scopes": scopes}), 201)["token"]
    header = {"Authorization": f"Bearer {token}"}
    program = site.page()
    assert program.get("/api/templates", headers=header).status_code == 200
    assert program.post("/api/templates", json=WISH, headers=header).status_code == status
