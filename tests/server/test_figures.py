"""Tables of results become curves; where a job comes from leaves as a graph and as an RO-Crate."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from platform_site import ok

from rutile.jobs.folder import FILES, LOG, MADE_WITH, RESULT, write_json
from rutile.jobs.tables import Dataset, DatasetVersion, Job, StoredModel, User

FRAME = '1\nLattice="3 0 0 0 3 0 0 0 3" pbc="T T T"\nCu 0 0 0\n'


def put(site, task, files, result=None, owner="ben", **changes):
    """A finished job with files; its number."""
    with site.platform.database.writing() as session:
        user = session.query(User).filter_by(name=owner).one()
        row = {"name": "a", "settings": {}, "key": "k", "created": 1.0, "state": "DONE", "version": "0.1.0"}
        job = Job(owner_id=user.id, task=task, **row | changes)
        session.add(job)
        session.flush()
        number = job.id
    folder = site.platform.home.job(number)
    (folder / FILES).mkdir(parents=True)
    for path, text in files.items():
        (folder / FILES / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / FILES / path).write_text(text, encoding="utf-8")
    (folder / RESULT).write_text(json.dumps(result or {}))
    (folder / LOG).write_text("done\n")
    return number


def figures(page, number):
    return {figure["title"]: figure for figure in ok(page.get(f"/api/jobs/{number}/figures"))}


@pytest.mark.slow
def test_images_of_a_path_know_their_structures(site, ben):
    profile = "path,image,coordinate,energy\n0,0,0.0,0.0\n0,1,1.5,0.4\n1,0,0.0,0.0\n1,1,2.0,-0.1\n"
    units = {"profiles.csv": {"coordinate": "Å", "energy": "eV"}}
    number = put(site, "barrier", {"b/profiles.csv": profile, "b/paths.extxyz": FRAME * 4}, {"units": units})
    figure = figures(ben, number)["energy: b/profiles.csv"]
    assert (figure["x_name"], figure["y_name"]) == ("coordinate (Å)", "energy (eV)")
    assert [(line["name"], line["x"], line["y"], line["frames"]) for line in figure["lines"]] == [
        ("path 0", [0.0, 1.5], [0.0, 0.4], [0, 1]), ("path 1", [0.0, 2.0], [0.0, -0.1], [2, 3]),
    ]  # fmt: skip
    shown = ok(ben.get(f"/api/jobs/{number}/files/{figure['file']}/frames/3"))
    assert shown["frames"] == 4


def test_rows_of_a_log_point_at_frames_of_the_trajectory(site, ben):
    rows = "".join(f"0,{s},{2 * s},{300 + s},-1,{s / 1000 - 7},0.5,10\n" for s in range(0, 101, 10))
    log = "run,step,time_fs,temperature_K,potential_eV,conserved_eV,pressure_GPa,volume_A3\n" + rows
    number = put(site, "md", {"md/log.csv": log, "md/trajectory.extxyz": FRAME * 3}, settings={"every": 50})
    found = figures(ben, number)
    assert {title.partition(":")[0] for title in found} == {
        "temperature", "potential", "conserved", "pressure", "volume",
    }  # fmt: skip
    axes = [(figure["x_name"], figure["y_name"]) for figure in found.values()]
    assert axes[0] == ("time (fs)", "temperature (K)")
    assert axes[1:3] == [("time (fs)", "potential (eV)"), ("time (fs)", "change of conserved (eV)")]
    assert axes[4] == ("time (fs)", "volume (Å³)")
    (line,) = found["temperature: md/log.csv"]["lines"]
    assert line["frames"] == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]
    drift = np.arange(0, 101, 10) / 1000
    assert found["conserved: md/log.csv"]["lines"][0]["y"] == pytest.approx(drift)
    assert [figure["live"] for figure in found.values()] == [
        ["temperature_K", "runs"], ["potential_eV_atom"], [], ["pressure_GPa"], ["volume_A3_atom"],
    ]  # fmt: skip
    assert line["name"] == "run 0"
    runs = [{"run": 0, "formula": "Ti2O4", "temperature": 301.6}]
    (site.platform.home.job(number) / RESULT).write_text(json.dumps({"runs": runs}))
    found = figures(ben, number)
    assert found["temperature: md/log.csv"]["lines"][0]["name"] == "run 0 (Ti2O4, 302 K)"
    change = found["conserved: md/log.csv"]
    assert change["y_name"] == "change of conserved (meV/atom)"
    assert change["lines"][0]["y"] == pytest.approx(1000 * drift / 6)
    (site.platform.home.job(number) / RESULT).write_text(json.dumps({"runs": [{"run": 0, "formula": "no formula"}]}))
    assert figures(ben, number)["conserved: md/log.csv"]["y_name"] == "change of conserved (eV)"


def test_bands_are_all_drawn_and_long_curves_keep_their_peaks(site, ben):
    bands = "distance,point,band0,band1\n0,Γ,0,1\n0.2,,0,1\n0.5,X,1,\n0.5,K,1,\n0.7,Γ,0,1\n"
    states = np.zeros(50_000)
    states[31_234] = 7.0
    dos = "frequency,states\n" + "".join(f"{k},{s}\n" for k, s in enumerate(states))
    found = figures(ben, put(site, "phonons", {"p/0/bands.csv": bands, "p/0/dos.csv": dos}))
    assert found["band: p/0/bands.csv"]["y_name"] == "band (THz)"
    assert [line["y"] for line in found["band: p/0/bands.csv"]["lines"]] == [
        [0.0, 0.0, 1.0, 1.0, 0.0], [1.0, 1.0, None, None, 1.0],
    ]  # fmt: skip
    marks = [(one["x"], one["name"]) for one in found["band: p/0/bands.csv"]["marks"]]
    assert marks == [(0.0, "Γ"), (0.5, "X|K"), (0.7, "Γ")]
    assert found["states: p/0/dos.csv"]["marks"] == []
    (line,) = found["states: p/0/dos.csv"]["lines"]
    assert max(line["y"]) == 7.0
    assert len(line["y"]) < 5000
    assert found["states: p/0/dos.csv"]["file"] is None


def test_steps_of_a_relaxation_know_their_structures(site, ben):
    way = "structure,step,energy,fmax,pressure,volume\na#0,0,-1,2,,\na#0,1,-2,0.1,,\nb#0,0,-3,1,,\n"
    told = {"path_table": "to/relaxed_path.csv", "units": {"relaxed_path.csv": {"energy": "eV/atom"}}}
    number = put(site, "relax", {"to/relaxed_path.csv": way, "to/relaxed_path.extxyz": FRAME * 3}, told)
    found = figures(ben, number)
    assert set(found) == {"energy: to/relaxed_path.csv", "fmax: to/relaxed_path.csv"}
    figure = found["energy: to/relaxed_path.csv"]
    assert (figure["x_name"], figure["y_name"], figure["joined"]) == ("step", "energy (eV/atom)", True)
    assert [(line["name"], line["x"], line["y"], line["frames"]) for line in figure["lines"]] == [
        ("a#0", [0.0, 1.0], [-1.0, -2.0], [0, 1]), ("b#0", [0.0], [-3.0], [2]),
    ]  # fmt: skip


def test_relaxed_structures_are_points_and_strange_tables_are_left_alone(site, ben):
    table = "structure,energy,fmax,steps\na,-1,0.01,5\nb,,0.2,9\n"
    units = {"units": {"relaxed.csv": {"energy": "eV/atom", "fmax": "eV/Å"}}}
    number = put(site, "relax", {"relaxed.csv": table, "relaxed.extxyz": FRAME * 2, "log.csv": "a,b\n1,2\n"}, units)
    found = figures(ben, number)
    assert found["energy: relaxed.csv"]["lines"][0]["y"] == [-1.0, None]
    assert found["fmax: relaxed.csv"]["y_name"] == "fmax (eV/Å)"
    assert not found["energy: relaxed.csv"]["joined"]  # structures of their own do not follow each other
    assert figures(ben, put(site, "md", {"log.csv": "", "msd.csv": "lag,x\n1,2\n", "dos.csv": "\0\n"})) == {}


def test_of_a_potential_that_learns_again_only_the_newest_weights_are_drawn(site, ben):
    tables = {f"adapt/versions/00{k}/model/weights.csv": f"frame,weight,loss\n0,{k},1\n" for k in (1, 2, 3)}
    found = figures(ben, put(site, "adapt", tables | {"adapt/points.csv": "structure,volume,energy\na,1,2\n"}))
    assert sorted(found) == [
        "energy: adapt/points.csv", "loss: adapt/versions/003/model/weights.csv",
        "weight: adapt/versions/003/model/weights.csv",
    ]  # fmt: skip


@pytest.fixture
def chain(site):
    """A data set, a training on it, its model, and a relaxation with that."""

    def read(reference):
        return {"setting": "x", "reference": reference, "name": "file", "source": "/x", "sha256": "ab"}

    with site.platform.database.writing() as session:
        ben = session.query(User).filter_by(name="ben").one()
        session.add(Dataset(id=3, name="melts", owner_id=ben.id, created=0.0))
    train = put(site, "train", {}, inputs=[read("dataset:3@1")])
    with site.platform.database.writing() as session:
        session.add(StoredModel(id=5, name="best", owner_id=ben.id, created=0.0, sha256="0" * 64, job_id=train))
    relax = put(site, "relax", {"relaxed.csv": "x\n1\n"}, inputs=[read("model:5")], started=10.0, ended=20.0,
                settings={"model": "model:5"}, tags=["oxides"])  # fmt: skip
    return train, relax


def test_a_graph_leads_from_data_to_the_model_to_the_result(ben, eve, chain):
    train, relax = chain
    graph = ok(ben.get(f"/api/jobs/{relax}/lineage"))
    assert [(n["reference"], n["name"], n["level"]) for n in graph["nodes"]] == [
        ("dataset:3", "melts", -3), (f"job:{train}", "a", -2), ("model:5", "best", -1), (f"job:{relax}", "a", 0),
    ]  # fmt: skip
    edges = [["model:5", f"job:{relax}"], [f"job:{train}", "model:5"], ["dataset:3", f"job:{train}"]]
    assert graph["edges"] == edges
    down = ok(ben.get(f"/api/jobs/{train}/lineage"))
    assert [(n["reference"], n["level"]) for n in down["nodes"]] == [
        ("dataset:3", -1), (f"job:{train}", 0), ("model:5", 1), (f"job:{relax}", 2),
    ]  # fmt: skip
    assert eve.get(f"/api/jobs/{relax}/lineage").status_code == 404


def test_data_sets_are_among_what_a_job_made(site, ben, chain):
    _, relax = chain
    with site.platform.database.writing() as session:
        owner = session.query(User).filter_by(name="ben").one().id
        session.add(Dataset(id=7, name="relaxed", owner_id=owner, created=0.0))
        session.flush()
        version = {"number": 1, "sha256": "0" * 64, "file": "a.extxyz", "format": "extxyz", "created": 0.0}
        session.add(DatasetVersion(dataset_id=7, job_id=relax, **version))
    read = {"setting": "data", "reference": "dataset:7@1", "name": "f", "source": "/x", "sha256": ""}
    later = put(site, "train", {}, inputs=[read])
    graph = ok(ben.get(f"/api/jobs/{relax}/lineage"))
    made = [(n["reference"], n["level"]) for n in graph["nodes"] if n["level"] > 0]
    assert made == [("dataset:7", 1), (f"job:{later}", 2)]


@pytest.mark.slow
def test_structures_are_among_what_a_job_made_and_say_so(site, ben, eve):
    relax = put(site, "relax", {"relaxed.extxyz": FRAME * 2})
    wish = {"name": "second", "file": f"job:{relax}/relaxed.extxyz", "frame": 1}
    kept = ok(ben.post("/api/structures", json=wish), 201)
    other = put(site, "relax", {"relaxed.extxyz": FRAME})
    pasted = ok(ben.post("/api/structures", json={"name": "pasted", "text": FRAME}), 201)
    read = {"setting": "x", "reference": f"structure:{kept['id']}", "name": "f", "source": "/x", "sha256": ""}
    later = put(site, "md", {}, inputs=[read])
    graph = ok(ben.get(f"/api/jobs/{relax}/lineage"))
    made = [(n["reference"], n["name"], n["level"]) for n in graph["nodes"] if n["level"] > 0]
    assert made == [(f"structure:{kept['id']}", "second", 1), (f"job:{later}", "a", 2)]
    assert len(ok(ben.get(f"/api/jobs/{other}/lineage"))["nodes"]) == 1
    up = ok(ben.get(f"/api/jobs/{later}/lineage"))
    assert [n["reference"] for n in up["nodes"]] == [f"job:{relax}", f"structure:{kept['id']}", f"job:{later}"]
    listed = {one["id"]: one["job_id"] for one in ok(ben.get("/api/structures"))["items"]}
    assert listed == {kept["id"]: relax, pasted["id"]: None}
    ok(ben.patch(f"/api/structures/{kept['id']}", json={"privacy": "public"}))
    assert ok(eve.get(f"/api/structures/{kept['id']}"))["job_id"] is None


def made_of(page, number):
    """References of what the lineage says that a job made."""
    return [n["reference"] for n in ok(page.get(f"/api/jobs/{number}/lineage"))["nodes"] if n["level"] == 1]


@pytest.mark.slow
def test_what_was_kept_of_a_job_names_no_other_job_that_gets_its_number(site, ben):
    relax = put(site, "relax", {"relaxed.extxyz": FRAME})
    kept = ok(ben.post("/api/structures", json={"name": "x", "file": f"job:{relax}/relaxed.extxyz"}), 201)
    data = ok(ben.post("/api/datasets", json={"name": "d", "file": f"job:{relax}/relaxed.extxyz"}), 201)
    with site.platform.database.writing() as session:
        owner = session.get(Job, relax).owner_id
        session.add(StoredModel(id=5, name="m", owner_id=owner, created=0.0, sha256="0" * 64, job_id=relax))
    assert kept["job_id"] == relax
    made = sorted(["model:5", f"dataset:{data['id']}", f"structure:{kept['id']}"])
    assert sorted(made_of(ben, relax)) == made
    ok(ben.delete(f"/api/jobs/{relax}"), 204)
    assert ok(ben.get(f"/api/structures/{kept['id']}"))["job_id"] is None
    put(site, "md", {}, id=relax)
    assert made_of(ben, relax) == []


def test_what_one_may_not_see_has_no_name_in_the_graph(site, eve, chain):
    read = {"setting": "x", "reference": "model:5", "name": "f", "source": "/x", "sha256": ""}
    number = put(site, "relax", {}, inputs=[read], privacy="public")
    nodes = ok(eve.get(f"/api/jobs/{number}/lineage"))["nodes"]
    assert [(n["reference"], n["name"]) for n in nodes] == [("model:5", ""), (f"job:{number}", "a")]


def test_what_several_jobs_wrote_is_one_archive(site, ben, eve):
    first = put(site, "doctor", {"a.txt": "1", "in/b.txt": "2"})
    second = put(site, "doctor", {"a.txt": "3"}, privacy="public")
    answer = ben.get("/api/jobs/zip", params={"ids": [first, second, first]})
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert {name: archive.read(name) for name in archive.namelist()} == {
        f"a-{first}/a.txt": b"1", f"a-{first}/in/b.txt": b"2", f"a-{second}/a.txt": b"3",
    }  # fmt: skip
    assert eve.get("/api/jobs/zip", params={"ids": [second]}).status_code == 200
    assert eve.get("/api/jobs/zip", params={"ids": [second, first]}).status_code == 404


@pytest.mark.slow
def test_a_crate_describes_all_that_is_in_it(site, ben, chain):
    write_json(site.platform.home.job(chain[1]) / MADE_WITH, {"rutile": "0.1.0", "torch": "2.13.0", "seed": "3"})
    archive = zipfile.ZipFile(io.BytesIO(ben.get(f"/api/jobs/{chain[1]}/crate").content))
    told = json.loads(archive.read("ro-crate-metadata.json"))
    assert told["@context"] == "https://w3id.org/ro/crate/1.1/context"
    graph = {entity["@id"]: entity for entity in told["@graph"]}
    assert len(graph) == len(told["@graph"])
    assert graph["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = graph[graph["ro-crate-metadata.json"]["about"]["@id"]]
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    members = set(archive.namelist()) - {"ro-crate-metadata.json"}
    assert {part["@id"] for part in root["hasPart"]} == members == {"files/relaxed.csv", "log.txt"}
    for name in members:
        data = archive.read(name)
        assert (graph[name]["contentSize"], graph[name]["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    run = graph[f"#job:{chain[1]}"]
    assert (run["@type"], run["startTime"]) == ("CreateAction", "1970-01-01T00:00:10+00:00")
    assert graph[run["instrument"]["@id"]]["version"] == "0.1.0"
    (torch,) = graph[run["instrument"]["@id"]]["softwareRequirements"]
    assert (graph[torch["@id"]]["name"], graph[torch["@id"]]["version"]) == ("torch", "2.13.0")
    assert {"#model:5", "#setting/model"} == {one["@id"] for one in run["object"]}
    assert {graph[one["@id"]]["identifier"] for one in root["isBasedOn"]} == {"dataset:3", f"job:{chain[0]}", "model:5"}

    def pointed(value):
        if isinstance(value, dict):
            yield from [value["@id"]] if set(value) == {"@id"} else (x for v in value.values() for x in pointed(v))
        elif isinstance(value, list):
            yield from (x for v in value for x in pointed(v))

    outside = {x for entity in told["@graph"] for x in pointed(list(entity.values())) if not x.startswith("http")}
    assert outside <= graph.keys(), "everything that is pointed at is described"
