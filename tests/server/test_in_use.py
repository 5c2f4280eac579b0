"""What a job reads cannot be taken from under it, and what is gone is said by its name."""

import pytest
import sqlalchemy as sql
from platform_site import ok
from test_files_of_users import copper, sent

from rutile.core.errors import FileError
from rutile.jobs.references import Input, bring
from rutile.jobs.tables import Upload, User


def waiting(page, reference):
    """A job that will never begin here: it asks for more cores than there are."""
    wish = {"task": "relax", "settings": {"structures": [reference], "model": "emt"}, "cores": 64}
    return ok(page.post("/api/jobs", json=wish), 201)["id"]


@pytest.mark.slow
def test_what_a_waiting_job_reads_stays_until_it_is_cancelled(site, ben, tmp_path):
    data, _ = copper(tmp_path)
    upload = f"upload:{sent(ben, 'cu.extxyz', data)['id']}"
    structure = ok(ben.post("/api/structures", json={"name": "copper", "file": upload}), 201)["id"]
    for reference, url in ((upload, f"/api/uploads/{upload[7:]}"),
                           (f"structure:{structure}", f"/api/structures/{structure}")):  # fmt: skip
        number = waiting(ben, reference)
        answer = ben.delete(url)
        assert answer.status_code == 422
        assert answer.json()["detail"] == (
            f"job {number} (QUEUED) reads {reference}: wait until it has ended, or cancel it first"
        )
        ok(ben.get(url))
        ok(ben.post(f"/api/jobs/{number}/cancel"))
        assert ben.delete(url).status_code == 204


@pytest.mark.slow
def test_a_job_that_another_one_reads_stays(site, ben, tmp_path):
    first = ok(ben.post("/api/jobs", json={"task": "starter", "settings": {"names": ["silicon"]}}), 201)["id"]
    assert site.wait(ben, first)["state"] == "DONE"
    file = next(f["path"] for f in ok(ben.get(f"/api/jobs/{first}/files")) if f["path"].endswith(".extxyz"))
    second = waiting(ben, f"job:{first}/{file}")
    assert f"job {second} (QUEUED) reads job:{first}" in ben.delete(f"/api/jobs/{first}").json()["detail"]
    freed = ok(ben.post("/api/storage/free", json={"references": [f"job:{first}"], "sure": True}))
    assert f"job {second} (QUEUED)" in freed["problems"][0]
    ok(ben.post(f"/api/jobs/{second}/cancel"))
    assert ben.delete(f"/api/jobs/{first}").status_code == 204


def test_an_input_that_is_gone_is_named_as_the_user_named_it(tmp_path):
    gone = Input("model", "model:5", "m.rutile", str(tmp_path / "secret" / "abc.rutile"))
    with pytest.raises(FileError, match=r"^model = model:5: it is not there any more; clone the job") as caught:
        bring(tmp_path, [gone])
    assert "secret" not in str(caught.value)


def test_an_upload_is_forgotten_after_days_but_not_while_a_job_reads_it(site, ben, tmp_path):
    data, _ = copper(tmp_path)
    old, read = (sent(ben, "cu.extxyz", data)["id"] for _ in range(2))
    number = waiting(ben, f"upload:{read}")
    with site.platform.database.writing() as session:
        session.execute(sql.update(Upload).values(created=1.0))
    fresh = sent(ben, "cu.extxyz", data)["id"]
    assert {one["id"] for one in ok(ben.get("/api/uploads"))} == {read, fresh}
    assert not site.platform.home.upload(old).exists()
    ok(ben.post(f"/api/jobs/{number}/cancel"))
    sent(ben, "cu.extxyz", data)
    assert ben.get(f"/api/uploads/{read}").status_code == 404


def test_uploads_count_as_disk_and_a_full_quota_takes_no_more(site, ben, tmp_path):
    data, _ = copper(tmp_path)
    with site.platform.database.writing() as session:
        session.execute(sql.update(User).where(User.name == "ben").values(disk_gb=2 * len(data) / 1e9, core_hours=0))
    first, second = (sent(ben, "cu.extxyz", data)["id"] for _ in range(2))
    told = ben.post("/api/uploads", json={"name": "cu.extxyz", "size": len(data)})
    assert told.status_code == 409
    assert "your quota is used up" in told.json()["detail"]
    assert "GB of disk: free some" in told.json()["detail"]
    assert ben.delete(f"/api/uploads/{second}").status_code == 204
    told = ben.post("/api/uploads", json={"name": "cu.extxyz", "size": len(data) + 1})
    assert told.status_code == 409
    assert "your quota is too small for it" in told.json()["detail"]
    sent(ben, "cu.extxyz", data)
    assert ok(ben.get(f"/api/uploads/{first}"))["received"] == len(data)
