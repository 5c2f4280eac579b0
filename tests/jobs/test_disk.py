"""What takes space is summed from noted sizes; what is shared by its content counts once."""

import pytest

from rutile.jobs import disk, queue
from rutile.jobs.database import open_database
from rutile.jobs.home import Home
from rutile.jobs.tables import Dataset, DatasetVersion, Group, Job, StoredModel, StoredStructure, Upload, User

pytestmark = pytest.mark.databases
A, B = 64 * "a", 64 * "b"


@pytest.fixture
def database(tmp_path, database_url):
    database = open_database(database_url, tmp_path)
    yield database
    database.close()


@pytest.fixture
def filled(database):
    """ben and eve share a group and a content; ann has nothing."""
    with database.writing() as session:
        lab = Group(name="lab")
        ben, eve, ann = (User(name=name, created=0.0, group=group)
                         for name, group in (("ben", lab), ("eve", lab), ("ann", None)))  # fmt: skip
        session.add_all([ben, eve, ann])
        session.flush()
        for who in (ben, eve):
            mine = {"owner_id": who.id, "created": 0.0}
            session.add(Job(name="j", task="md", settings={}, key="k", bytes=1, **mine))
            data = Dataset(name="set", **mine)
            for number, content in enumerate((A, B, B), 1):
                data.versions.append(DatasetVersion(number=number, sha256=content, file="x", format="x", created=0.0,
                                                    bytes=100, index_bytes=10))  # fmt: skip
            session.add_all([data, StoredStructure(name="s", formula="Cu", atoms=1, bytes=100_000, **mine)])
            session.add_all(StoredModel(name=f"m{k}", sha256=A, bytes=1000, **mine) for k in range(2))
            session.add(Upload(id=who.name, name="u", size=99_999, received=10_000, **mine))
    return database


def test_every_kind_counts_and_shared_contents_count_once(filled):
    with filled.reading() as session:
        assert disk.bytes_by_kind(session, [1]) == {
            "jobs": 1, "datasets": 220, "models": 1000, "uploads": 10_000, "structures": 100_000,
        }  # fmt: skip
        assert disk.bytes_by_kind(session, [1, 2]) == {
            "jobs": 2, "datasets": 220, "models": 1000, "uploads": 20_000, "structures": 200_000,
        }  # fmt: skip
        assert queue.used(session, [3])[2] == 0
        assert disk.bytes_by_user(session) == {1: 111_221, 2: 111_221}
        assert disk.bytes_by_group(session) == {1: 221_222}


def test_a_quota_of_disk_counts_what_is_no_job(filled):
    with filled.writing() as session:
        session.get_one(User, 1).disk_gb = 111_000 / 1e9
        session.get_one(Group, 1).disk_gb = 221_223 / 1e9
    with filled.reading() as session:
        assert queue.over_quota(session, session.get_one(User, 1)).startswith("your quota is used up")
        assert queue.over_quota(session, session.get_one(User, 2)) == ""


def test_sizes_of_what_was_made_before_are_noted(filled, tmp_path):
    home = Home.open(tmp_path / "home")
    home.structure(1).write_bytes(b"x" * 7)
    (home.dataset(A) / disk.SHELF).mkdir(parents=True)
    (home.dataset(A) / disk.SHELF / "offsets").write_bytes(b"x" * 5)
    with filled.writing() as session:
        for kind, column in ((StoredStructure, "bytes"), (DatasetVersion, "index_bytes")):
            setattr(session.get_one(kind, 1), column, None)
        disk.note_sizes(session, home)
    with filled.reading() as session:
        assert session.get_one(StoredStructure, 1).bytes == 7
        assert session.get_one(DatasetVersion, 1).index_bytes == 5
