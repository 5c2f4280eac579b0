"""The story: data, training, a model that is known by itself, using it, searching with it."""

import pytest
from platform_site import ok
from test_datasets import added
from test_files_of_users import sent


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
    differ = ok(ben.get("/api/models/compare", params={"ids": [model["id"], twin["id"]]}))
    assert differ["stage"] == ["production", "draft"]
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
    assert seen["best"][-1]["energy"] == pytest.approx(energies[0])
    assert sum(seen["operators"].values()) == seen["made"] >= 12
    first = seen["found"][0]
    assert (first["formula"], first["elements"]) == ("Cu4", {"Cu": 4})
    frame = ok(ben.get(f"/api/searches/{job['id']}/structures/{first['number']}"))
    assert frame["energy"] == pytest.approx(4 * first["energy"])
    assert eve.get(f"/api/searches/{job['id']}").status_code == 404
    assert ben.get(f"/api/searches/{job['id']}/structures/9999").status_code == 404
