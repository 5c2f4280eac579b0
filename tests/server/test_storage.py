"""What takes space is listed and removed: one's own, only what has ended, and only what nobody else needs."""

import pytest
from platform_site import ok

from rutile.jobs.folder import FILES
from rutile.jobs.tables import Dataset, DatasetVersion, Job, Upload, User

pytestmark = pytest.mark.databases


@pytest.fixture
def things(site):
    """Of ben: three jobs, a data set in three versions of two contents, an upload that broke off."""
    home = site.platform.home
    with site.platform.database.writing() as session:
        ben = session.query(User).filter_by(name="ben").one()
        mine = {"owner_id": ben.id, "created": 0.0}
        for number, state, size in ((1, "DONE", 3000), (2, "FAIL", 2000), (3, "RUNNING", 0)):
            session.add(Job(id=number, name=f"job {number}", task="md", settings={}, key="k", state=state, bytes=size,
                            **mine))  # fmt: skip
            (home.job(number) / FILES).mkdir(parents=True)
            (home.job(number) / FILES / "trajectory").write_bytes(b"x" * size)
            (home.job(number) / "log.txt").write_text("what happened")
        session.add(Dataset(id=1, name="set", **mine))
        session.flush()
        for number, content in ((1, "a"), (2, "b"), (3, "b")):
            session.add(DatasetVersion(dataset_id=1, number=number, sha256=64 * content, file="a.extxyz", format="x",
                                       created=0.0, bytes=500, state="ready"))  # fmt: skip
            home.dataset(64 * content).mkdir(exist_ok=True)
            (home.dataset(64 * content) / "a.extxyz").write_bytes(b"x" * 500)
        session.add(Upload(id="c" * 24, name="big.extxyz", size=900, received=300, **mine))
    home.upload("c" * 24).write_bytes(b"x" * 300)
    return site


def listed(page, **query):
    return {one["reference"]: one["bytes"] for one in ok(page.get("/api/storage", params=query))}


def free(page, *references, sure=True):
    return ok(page.post("/api/storage/free", json={"references": references, "sure": sure}))


def test_what_takes_space_is_listed_largest_first(things, ben, eve, ada):
    assert list(listed(ben).items()) == [("job:1", 3000), ("job:2", 2000)]
    assert listed(ben, kind="files") == {"files:2": 2000}
    assert listed(ben, kind="version") == {"version:1@1": 500, "version:1@2": 500}
    assert listed(ben, kind="upload") == {"upload:" + "c" * 24: 300}
    assert listed(eve) == {}
    assert listed(ada) == {}
    assert list(listed(ada, everybody=True)) == ["job:1", "job:2"]
    assert eve.get("/api/storage", params={"everybody": True}).status_code == 403
    with things.platform.database.writing() as session:
        session.get_one(Job, 2).created = 9e9
    assert list(listed(ben, days=1)) == ["job:1"]


def test_nothing_is_removed_before_one_is_sure(things, ben):
    answer = free(ben, "job:1", "version:1@1", "version:1@2", "job:3", "upload:" + "c" * 24, sure=False)
    assert answer["freed"]["version:1@1"] == 500
    assert answer["freed"]["version:1@2"] == 0  # the newest version has the same content
    assert answer["freed"]["job:1"] >= 3000
    assert answer["problems"] == ["job 3 is RUNNING: cancel it first"]
    assert not answer["done"]
    assert len(listed(ben)) == 2


def test_space_is_freed_and_written_down(things, ben, ada):
    home = things.platform.home
    answer = free(ben, "job:1", "files:2", "version:1@1", "version:1@2", "upload:" + "c" * 24)
    assert answer["problems"] == []
    assert not home.job(1).exists()
    assert (home.job(2) / "log.txt").exists()
    assert not (home.job(2) / FILES).exists()
    assert ok(ben.get("/api/jobs/2"))["bytes"] == len("what happened")
    assert not home.dataset(64 * "a").exists()
    assert home.dataset(64 * "b").exists()
    assert [v["number"] for v in ok(ben.get("/api/datasets/1"))["versions"]] == [3]
    assert not home.upload("c" * 24).exists()
    lines = [line["thing"] for line in ok(ada.get("/api/admin/audit", params={"action": "freed space"}))]
    assert sorted(lines) == sorted(answer["freed"])


def test_what_is_anothers_or_needed_stays(things, ben, eve, ada):
    every = ["job:1", "files:2", "version:1@1", "upload:" + "c" * 24]
    answer = free(eve, *every)
    assert (answer["bytes"], len(answer["problems"])) == (0, 4)
    assert free(things.page("ada"), "version:1@3")["problems"][0].startswith("dataset:1@3 is the newest version")
    for wrong in ("job:99", "job:../..", "version:1@x", "files:", "nothing", "upload:../x", "job:\u00b2"):
        assert free(ben, wrong)["problems"] == [f"{wrong}: there is none that you may remove"]
    assert things.page("vic").post("/api/storage/free", json={"references": ["job:1"]}).status_code == 403
    assert len(free(ada, *every)["freed"]) == 4


STRUCTURE = "2\n\nCu 0 0 0\nCu 0 0 2.5\n"


@pytest.mark.slow
def test_data_and_structures_take_space_and_are_refused_without_room(site, ada, ben):
    made = ok(ben.post("/api/structures", json={"name": "copper", "text": STRUCTURE}), 201)
    size = site.platform.home.structure(made["id"]).stat().st_size
    assert ok(ben.get("/api/account/use"))["disk"]["structures"] == pytest.approx(size / 1e9)
    ok(ben.post("/api/datasets", json={"name": "set", "file": f"structure:{made['id']}"}), 201)
    site.platform.librarian.wait()
    with site.platform.database.reading() as session:
        version = session.query(DatasetVersion).one()
    folder = site.platform.home.dataset(version.sha256)
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    use = ok(ben.get("/api/account/use"))
    assert use["disk"]["datasets"] == pytest.approx(taken / 1e9)
    assert use["disk_gb"] == pytest.approx((size + taken) / 1e9)
    (row,) = ok(ada.get("/api/admin/use"))
    assert (row["user"], row["disk_gb"]) == ("ben", use["disk_gb"])
    with site.platform.database.writing() as session:
        session.query(User).filter_by(name="ben").one().disk_gb = use["disk_gb"] + size / 2e9
    for address, wish in (("structures", {"text": STRUCTURE}), ("datasets", {"file": f"structure:{made['id']}"})):
        answer = ben.post(f"/api/{address}", json={"name": "more", **wish})
        assert (answer.status_code, "quota is too small" in answer.text) == (409, True)
    assert len(list(site.platform.home.structures.iterdir())) == 1
    assert [one["name"] for one in ok(ben.get("/api/datasets"))["items"]] == ["set"]
