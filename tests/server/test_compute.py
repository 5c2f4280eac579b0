"""What the page Compute is told of GPUs and of nodes of clusters."""

from platform_site import ok

from rutile.core.executors.queue import Node
from rutile.jobs.gpus import Watch
from rutile.jobs.places import Slurm
from rutile.jobs.settings import SlurmPlace
from rutile.jobs.tables import Job, User
from rutile.testing.fake_nvml import Nvml


def test_where_there_is_none_nothing_is_told(site, ben):
    site.platform.gpus = Watch(None)
    assert ok(ben.get("/api/compute/gpus")) == []
    assert ok(ben.get("/api/compute/nodes")) == []


def test_gpus_say_whose_they_are(site, ben, eve):
    site.platform.gpus = Watch(Nvml([40, 0]))
    with site.platform.database.writing() as session:
        owner = session.query(User).filter_by(name="ben").one()
        job = Job(owner_id=owner.id, name="a", task="md", settings={}, key="k", created=0.0, state="RUNNING", gpus=1,
                  gpu_ids=[0])  # fmt: skip
        session.add(job)
        session.flush()
        number = job.id
    first, second = ok(ben.get("/api/compute/gpus", params={"parts": 6}))
    assert (first["index"], first["name"], first["load"], first["memory"], first["memory_there"]) == (
        0, "NVIDIA H100", 40, 20, 80,
    )  # fmt: skip
    assert (first["job"], first["owner"]) == (number, "ben")
    assert (second["job"], second["owner"]) == (None, None)
    assert first["history"] == [None] * 5 + [40]
    others = ok(eve.get("/api/compute/gpus"))[0]
    assert (others["job"], others["owner"]) == (None, "ben")  # a private job of somebody else


def test_nodes_are_asked_for_now_and_then(site, ben, monkeypatch):
    node = Node("gpu01", "mixed", ("gpu", "debug"), 96, 24, 1031.0, 256.0, 4, 3)
    asked = []
    monkeypatch.setattr("rutile.core.executors.queue.shutil.which", lambda name: name)
    cluster = Slurm(site.platform.home, SlurmPlace(name="big", partition="gpu"))
    monkeypatch.setattr(cluster.queue, "nodes", lambda *words: asked.append(words) or [node])
    monkeypatch.setitem(site.platform.places, "big", cluster)
    (told,) = ok(ben.get("/api/compute/nodes"))
    assert told == vars(node) | {"queue": "big", "partitions": ["gpu", "debug"]}
    assert ok(ben.get("/api/compute/nodes")) == [told]
    assert asked == [("gpu", "gpu")]
    monkeypatch.setattr(cluster.queue, "nodes", lambda *words: None)
    monkeypatch.setattr("rutile.jobs.places.NODES_GOOD", 0.0)
    assert ok(ben.get("/api/compute/nodes")) == []
