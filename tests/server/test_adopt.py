"""Runs made outside are shown as jobs with their data sets and models, once."""

import json
import shutil
from pathlib import Path

import pytest
from platform_site import ok

from rutile.core.errors import FileError
from rutile.jobs.data_sets import sha256_of

MODEL = Path(__file__).parents[1] / "potentials" / "models" / "v4_behler_committee.rutile"
XYZ = '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 energy=-1.5 pbc="T T T"\nCu 0 0 0\n'


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    (folder / "run").mkdir(parents=True)
    (folder / "train.extxyz").write_text(XYZ)
    shutil.copyfile(MODEL, folder / "run" / "model.rutile")
    (folder / "run" / "metrics.csv").write_text("epoch,loss,note\n0,2.5,a\n1,1.25,\n")
    (folder / "report.html").write_text("<p>fine</p>")
    errors = [{"quantity": "energy", "subset": "all", "mae": 0.1, "rmse": 0.2}]
    record = {
        "folder": "here/runs",
        "datasets": [{"name": "copper", "file": "train.extxyz", "licence": "CC0-1.0"}],
        "jobs": [
            {"task": "train", "name": "mine", "started": 100.0, "ended": 160.0, "files": ["run"],
             "settings": {"data": ["here/runs/train.extxyz"], "out": "here/runs/run", "potential": {"name": "behler"}},
             "result": {"model": "here/runs/run/model.rutile"}, "metrics": "run/metrics.csv"},
            {"task": "evaluate", "started": 160.0, "ended": 170.0, "files": ["report.html"],
             "settings": {"model": "here/runs/run", "data": ["here/runs/train.extxyz"], "out": "here/runs"},
             "result": {"errors": errors, "report": "here/runs/report.html"}},
        ],
    }  # fmt: skip
    (folder / "jobs.json").write_text(json.dumps(record))
    return folder


def changed(folder, change):
    record = json.loads((folder / "jobs.json").read_text())
    change(record)
    (folder / "jobs.json").write_text(json.dumps(record))


@pytest.mark.slow
def test_runs_become_jobs_with_data_models_and_errors(site, runs, ada):
    first, second = site.platform.adopt(runs)
    job = ok(ada.get(f"/api/jobs/{first}"))
    assert site.platform.home.job(first).stat().st_mode & 0o077 == 0
    assert (job["name"], job["state"], job["ran"], job["core_seconds"]) == ("mine", "DONE", 60.0, 60.0)
    (data,) = ok(ada.get("/api/datasets"))["items"]
    assert (data["name"], data["licence"]) == ("copper", "CC0-1.0")
    assert job["settings"] == {"data": [f"dataset:{data['id']}"], "out": "run", "potential": {"name": "behler"}}
    assert job["result"] == {"model": "run/model.rutile"}
    curves = ok(ada.get(f"/api/jobs/{first}/metrics"))
    assert curves["columns"] == {"epoch": [0, 1], "loss": [2.5, 1.25]}
    (model,) = ok(ada.get("/api/models"))["items"]
    assert (model["job_id"], model["sha256"]) == (first, sha256_of(MODEL))
    assert model["datasets"] == [{"reference": f"dataset:{data['id']}", "sha256": sha256_of(runs / "train.extxyz")}]
    assert model["metrics"][-1]["values"] == {"energy_mae": 0.1, "energy_rmse": 0.2}
    other = ok(ada.get(f"/api/jobs/{second}"))
    assert other["settings"]["model"] == f"model:{model['id']}"
    assert {f["path"] for f in ok(ada.get(f"/api/jobs/{second}/files"))} == {"report.html", "settings.json"}


def test_they_are_put_in_once(site, runs):
    assert len(site.platform.adopt(runs)) == 2
    assert site.platform.adopt(runs) == []


def test_what_leads_out_of_the_folder_is_refused_and_nothing_is_put_in(site, runs, ada):
    (runs.parent / "secret").write_text("x")
    changed(runs, lambda r: r["jobs"][1].update(files=["../secret"]))
    with pytest.raises(FileError, match=r"'\.\./secret' is not in this folder"):
        site.platform.adopt(runs)
    assert ok(ada.get("/api/jobs"))["total"] == 0
    assert ok(ada.get("/api/models"))["total"] == 0


def test_a_folder_that_says_nothing_is_one_line(site, runs, tmp_path):
    with pytest.raises(FileError, match=r"no jobs\.json"):
        site.platform.adopt(tmp_path)
    changed(runs, lambda r: r["jobs"][0].pop("task"))
    with pytest.raises(FileError, match="not as expected: KeyError 'task'"):
        site.platform.adopt(runs)
