"""The story: data, training, a model that is known by itself, using it, searching with it."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import sqlalchemy as sql
from ase.io import read
from platform_site import ok
from test_datasets import added
from test_files_of_users import sent

from rutile.jobs.tables import DONE, Job, StoredModel, User


def trained(site, page, data):
    settings = {"data": [f"dataset:{data['id']}"], "epochs": 2, "write_report": False}
    job = ok(page.post("/api/jobs", json={"task": "train", "name": "copper", "settings": settings}), 201)
    done = site.wait(page, job["id"], seconds=240)
    assert done["state"] == "DONE", done["reason"]
    return done


@pytest.mark.slow
def test_a_trained_model_is_in_the_registry_with_where_it_comes_from(site, ben, eve, tmp_path):
    data, _ = added(site, ben, tmp_path, 12)
    job = trained(site, ben, data)
    curves = ok(ben.get(f"/api/jobs/{job['id']}/metrics"))
    assert curves["rows"] == 2
    assert curves["columns"]["epoch"] == [0, 1]
    (model,) = ok(ben.get("/api/models"))["items"]
    assert (model["job_id"], model["elements"], model["stage"]) == (job["id"], ["Cu"], "draft")
    assert [m["id"] for m in ok(ben.get(f"/api/models?job={job['id']}"))["items"]] == [model["id"]]
    assert ok(ben.get("/api/models?job=999"))["total"] == 0
    assert model["datasets"] == [{"reference": f"dataset:{data['id']}", "sha256": data["versions"][0]["sha256"]}]
    assert {m["set"] for m in model["metrics"]} >= {"train", "valid"}
    url = f"/api/models/{model['id']}"
    settings = {"model": f"model:{model['id']}", "data": [f"dataset:{data['id']}"]}
    measured = ok(ben.post("/api/jobs", json={"task": "evaluate", "settings": settings}), 201)
    done = site.wait(ben, measured["id"], seconds=240)
    assert done["state"] == "DONE", done["reason"]
    errors = ok(ben.get(url))["metrics"][-1]
    assert errors["set"] == f"dataset:{data['id']}"
    assert errors["values"]["atoms_per_second"] > 0
    assert errors["threads"] >= 1
    assert errors["device"]
    known = ok(ben.get(url))["known"]
    assert known["speed"] == errors
    assert known["force_rmse"]["set"] == "valid", "it was trained on what it was evaluated on"
    trained_on = {m["set"]: m["values"] for m in model["metrics"]}
    for name, value in errors["values"].items():  # the same frames, most of them: the same units
        if name in trained_on["train"]:
            assert value == pytest.approx(trained_on["train"][name], rel=1.0), name
    assert [j["id"] for j in ok(ben.get(f"{url}/jobs"))] == [measured["id"]]
    cu = '4\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" pbc="T T T"\nCu 0 0 0\nCu 0 1.8 1.8\nCu 1.8 0 1.8\nCu 1.8 1.8 0\n'
    kept = ok(ben.post("/api/structures", json={"name": "fcc", "text": cu}), 201)
    tried = ok(ben.post(f"{url}/try", json={"structure": f"structure:{kept['id']}"}), 201)
    assert site.wait(ben, tried["id"], seconds=240)["state"] == "DONE"
    files = {f["path"]: f["id"] for f in ok(ben.get(f"/api/jobs/{tried['id']}/files"))}
    frame = ok(ben.get(f"/api/jobs/{tried['id']}/files/{files['result.extxyz']}/frames/0"))
    assert frame["energy"] is not None
    assert len(frame["forces"]) == 4
    oxide = "2\n\nCu 0 0 0\nO 0 0 1.8\n"
    other = ok(ben.post("/api/structures", json={"name": "oxide", "text": oxide}), 201)
    check = {"settings": {"structures": [f"structure:{other['id']}"], "model": f"model:{model['id']}"}}
    warned = ok(ben.post("/api/tasks/relax/check", json=check))["warnings"]
    assert warned == ["structures: oxide holds O, which the potential copper does not know"]
    assert ben.get(f"{url}/download").content[:1] != b""
    assert ok(ben.patch(url, json={"stage": "production"}))["stage"] == "production"
    assert ben.delete(url).status_code == 409
    assert eve.get(url).status_code == 404
    twin = ok(ben.post("/api/models", json={"name": "twin", "file": f"job:{job['id']}/run/model.rutile"}), 201)
    assert (model["version"], twin["version"]) == (1, 1)
    assert ok(ben.patch(f"/api/models/{twin['id']}", json={"name": "copper"}))["version"] == 2
    assert ok(ben.patch(f"/api/models/{twin['id']}", json={"name": "copper", "description": "x"}))["version"] == 2
    differ = ok(ben.get("/api/models/compare", params={"ids": [model["id"], twin["id"]]}))
    assert differ["stage"] == ["production", "draft"]
    with site.platform.database.writing() as session:
        session.get_one(StoredModel, twin["id"]).metrics = [
            {"set": "own", "values": {"energy_mae": 0.5, "atoms_per_second": 7.0}}
        ]
    differ = ok(ben.get("/api/models/compare", params={"ids": [model["id"], twin["id"]]}))
    assert differ["own energy_mae (eV/atom)"] == [None, 0.5]
    assert differ["own atoms_per_second"] == [None, 7.0]
    assert ben.delete(f"/api/models/{twin['id']}").status_code == 204
    assert ben.get(f"{url}/download").status_code == 200


@pytest.mark.slow
def test_what_is_no_model_is_no_model(site, ben):
    upload = sent(ben, "evil.rutile", b"\x80\x04cposix\nsystem\n" * 10)
    answer = ben.post("/api/models", json={"name": "x", "file": f"upload:{upload['id']}"})
    assert answer.status_code == 422
    assert "not a model file" in answer.json()["detail"]


@pytest.mark.slow
def test_a_search_is_followed_from_its_log(site, ben, eve):
    settings = {"formula": "Cu4", "model": "emt", "structure": {"name": "cluster"}, "relaxations": 12, "out": "found"}
    job = ok(ben.post("/api/jobs", json={"task": "search", "settings": settings}), 201)
    done = site.wait(ben, job["id"], seconds=240)
    assert done["state"] == "DONE", done["reason"]
    assert ok(ben.get("/api/searches"))["total"] == 1
    seen = ok(ben.get(f"/api/searches/{job['id']}"))
    assert seen["done"] == 12
    energies = [f["energy"] for f in seen["found"] if f["energy"] is not None]
    assert energies == sorted(energies)
    assert sum(seen["operators"].values()) == seen["made"] >= 12
    first = seen["found"][0]
    assert (first["formula"], first["elements"]) == ("Cu4", {"Cu": 4})
    frame = ok(ben.get(f"/api/searches/{job['id']}/structures/{first['number']}"))
    assert frame["energy"] == pytest.approx(4 * first["energy"])
    (name,) = ok(ben.get(f"/api/searches/{job['id']}/names", params={"structures": first["number"]}))
    assert name["number"] == first["number"]
    assert name["symmetry"]
    text = ben.get(f"/api/searches/{job['id']}/export", params={"most": 3}).text
    images = read(io.StringIO(text), ":", format="extxyz")
    assert [a.get_potential_energy() / 4 for a in images] == pytest.approx(energies[:3], abs=1e-6)
    kept = ok(ben.post(f"/api/searches/{job['id']}/keep", json={"name": "three", "most": 3}), 201)
    assert (kept["frames"], kept["formula"], kept["job_id"]) == (3, "Cu4", job["id"])
    wish = {"name": "first", "structure": first["number"]}
    one = ok(ben.post(f"/api/searches/{job['id']}/keep", json=wish), 201)
    assert (one["frames"], ok(ben.get(f"/api/structures/{one['id']}/frames/0"))["positions"]) == (1, frame["positions"])
    missing = ben.post(f"/api/searches/{job['id']}/keep", json=wish | {"structure": 9999})
    assert (missing.status_code, "structure = 9999" in missing.json()["detail"]) == (404, True)
    assert (seen["work"], seen["hull"], first["cycle"]) == ({}, None, None)
    assert eve.post(f"/api/searches/{job['id']}/keep", json={"name": "three"}).status_code == 404
    assert eve.get(f"/api/searches/{job['id']}").status_code == 404
    assert ben.get(f"/api/searches/{job['id']}/structures/9999").status_code == 404


def crystal(numbers):
    cell = (3.0 * np.eye(3)).tolist()
    positions = (0.9 * np.arange(3 * len(numbers)).reshape(-1, 3) % 3).tolist()
    return {"numbers": numbers, "positions": positions, "cell": cell, "pbc": [True] * 3}


def adaptive_log():
    """Of a search of three elements: cycles, labels, a training, times."""
    hull = {(22,): 0.0, (29,): 0.0, (8,): 0.0, (22, 8): -1.0, (22, 29): -0.2, (22, 29, 8): -0.9, (22, 22, 8): -0.6}
    rows = [{"search": {}}]
    for k, (numbers, energy) in enumerate(hull.items()):
        made = {"number": k, "operator": "new", "parents": [k - 1] if k else [], "atoms": crystal(numbers)}
        done = {"number": k, "energy": energy, "failure": "", "atoms": crystal(numbers)}
        rows.append({"gave": {"kind": "search", "number": k, "at": 100.0 + k, "version": k // 4, "made": [made]}})
        rows.append({"came": {"kind": "search", "number": k, "at": 100.5 + k, "done": [done]}})
    rows.append({"gave": {"kind": "label", "number": 0, "at": 101.0, "why": "new", "energy": -0.9, "spread": 0.1}})
    rows.append({"gave": {"kind": "label", "number": 1, "at": 102.0, "why": "new", "energy": -0.8, "spread": 0.1}})
    rows.append({"came": {"kind": "label", "number": 0, "at": 104.0, "energy": -1.0, "failure": ""}})
    rows.append({"gave": {"kind": "train", "number": 0, "at": 105.0}})
    return rows


@pytest.mark.slow
def test_hull_cycles_and_workers_are_read_from_the_log_as_it_grows(site, ben):
    with site.platform.database.writing() as session:
        owner = session.scalar(sql.select(User).where(User.name == "ben"))
        session.add(Job(name="titanates", task="adapt", settings={}, key="k", owner_id=owner.id, state=DONE,
                        created=1.0, tags=[], inputs=[]))  # fmt: skip
    folder = site.platform.home.job(1) / "files" / "adapt"
    folder.mkdir(parents=True)
    log = folder / "adapt.jsonl"
    rows = [json.dumps(row) + "\n" for row in adaptive_log()]
    log.write_text("".join(rows[:5]) + rows[5][:20])
    assert ok(ben.get("/api/searches/1"))["done"] == 2
    log.write_text("".join(rows[:5]))
    with log.open("a") as file:
        file.write("".join(rows[5:]))
    seen = ok(ben.get("/api/searches/1"))
    assert seen["done"] == 7
    assert [f["cycle"] for f in sorted(seen["found"], key=lambda f: f["number"])] == [0, 0, 0, 0, 1, 1, 1]
    hull = seen["hull"]
    above = dict(zip(hull["numbers"], hull["above"], strict=True))
    assert hull["elements"] == ["Cu", "O", "Ti"]
    # TiCuO lies between TiO and Cu: (2/3)(-1) = -0.667; Ti2O between TiO and Ti: the same
    assert above == pytest.approx({0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0.6667 - 0.6}, abs=1e-4)
    corners = {hull["numbers"][k] for facet in hull["facets"] for k in facet}
    assert corners == {0, 1, 2, 3, 4, 5}
    assert [(s["at"], s["busy"]) for s in seen["work"]["label"]] == [(1.0, 1), (2.0, 2), (4.0, 1)]
    assert seen["work"]["train"][-1]["busy"] == 1
    assert [(s["at"], s["structures"], s["labels"]) for s in seen["saved"]] == [
        *((k + 0.5, k + 1, 0) for k in range(7)), (4.0, 7, 1),
    ]  # fmt: skip
    assert seen["labels"][0]["energy"] == -1.0
    assert seen["hard"] is None
    again = {"number": 6, "energy": -0.7, "failure": "", "atoms": crystal((22, 22, 8))}
    with log.open("a") as file:
        file.write(json.dumps({"came": {"kind": "search", "number": 9, "at": 108.0, "done": [again]}}) + "\n")
    later = ok(ben.get("/api/searches/1"))
    assert later["saved"][-1]["structures"] == 7
    assert (later["done"], len(later["found"])) == (8, 7)  # relaxed again: not twice in the list
    assert next((f["energy"], f["order"]) for f in later["found"] if f["number"] == 6) == (-0.7, 8)
    assert sum(later["operators"].values()) == 7
    for version, weight in (("version_000", 2.5), ("version_001", 1.5)):
        (folder / version / "model").mkdir(parents=True)
        table = folder / version / "model" / "weights.csv"
        table.write_text(f"structure,loss,weight\n{version}/new.extxyz#3,0.2,{weight}\nnew.extxyz#1,0.1,0.5\n")
        os.utime(table, ns=(k := 10**18 + int(version[-1]) * 10**9, k))
    with log.open("a") as file:
        file.write(json.dumps({"came": {"kind": "train", "number": 0, "at": 109.0}}) + "\n")
    hard = ok(ben.get("/api/searches/1"))["hard"]
    assert (hard["file"], hard["weights"]) == ("adapt/version_001/model/weights.csv", [1.5, 0.5])
    assert hard["hardest"][0] == {"structure": "version_001/new.extxyz#3", "loss": 0.2, "weight": 1.5}
    assert ok(ben.get("/api/searches/1/structures/3"))["symbols"] == ["Ti", "O"]
    archive = zipfile.ZipFile(io.BytesIO(ben.get("/api/searches/1/export", params={"format": "cif"}).content))
    assert len(archive.namelist()) == 7
    assert archive.namelist()[0].startswith("0001-TiO-3")
