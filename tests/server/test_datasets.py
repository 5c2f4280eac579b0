"""Data sets: read once, asked often."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase.io import read, write
from platform_site import ok
from test_files_of_users import copper, sent

import rutile
from rutile.jobs.reading import read_limited
from rutile.jobs.shelf import Picture, Shelf, write_shelf
from rutile.jobs.tables import Dataset, DatasetVersion
from rutile.server import librarian
from rutile.server.platform import Platform


def added(site, page, tmp_path, frames=6, **wish):
    data, images = copper(tmp_path, frames)
    upload = sent(page, "copper.extxyz", data, 100_000)
    made = ok(page.post("/api/datasets", json={"name": "copper", "file": f"upload:{upload['id']}"} | wish), 201)
    site.platform.librarian.wait()
    return ok(page.get(f"/api/datasets/{made['id']}")), images


@pytest.mark.slow
def test_a_data_set_is_read_and_everything_can_be_asked(site, ben, eve, tmp_path):
    data, images = added(site, ben, tmp_path, licence="CC0")
    version = data["versions"][0]
    assert (version["state"], version["frames"]) == ("ready", 6)
    assert version["elements"] == {"Cu": 6}
    assert version["labels"] == {"energy": 6, "forces": 6, "stress": 6}
    url = f"/api/datasets/{data['id']}"
    for k in (0, 5):
        frame = ok(ben.get(f"{url}/frames/{k}"))
        np.testing.assert_allclose(frame["positions"], images[k].positions, atol=1e-7)
        assert frame["energy"] == pytest.approx(images[k].get_potential_energy())
    forces = [np.linalg.norm(a.get_forces(), axis=1).max() for a in images]
    drawn = ok(ben.get(f"{url}/histogram", params={"of": "fmax", "bins": 4}))
    assert drawn["counts"] == np.histogram(forces, 4)[0].tolist()
    bound = sorted(forces)[3]
    some = {"column": "fmax", "low": bound - 1e-6}  # the file has eight decimals
    points = ok(ben.get(f"{url}/points", params={"x": "atoms", "y": "fmax"} | some))
    assert points["selected"] == 3
    assert min(points["y"]) == pytest.approx(bound, abs=1e-6)
    table = ok(ben.get(f"{url}/table", params={"sort": "fmax", "down": True, "size": 2}))
    assert table["frames"] == np.argsort(-np.array(forces))[:2].tolist()
    assert ok(ben.get(f"{url}/table", params={"elements": "Ti"}))["selected"] == 0
    part = ok(ben.post(f"{url}/selection", json={"name": "strong"} | some), 201)
    site.platform.librarian.wait()
    assert ok(ben.get(f"/api/datasets/{part['id']}"))["versions"][0]["frames"] == 3
    assert part["source"] == f"3 structures of dataset:{data['id']}@1"
    assert eve.get(f"{url}/table").status_code == 404
    assert ok(ben.patch(url, json={"privacy": "public"}))["privacy"] == "public"
    assert ok(eve.get(f"{url}/table"))["selected"] == 6
    assert eve.patch(url, json={"privacy": "private"}).status_code == 403


@pytest.mark.slow
def test_same_content_is_kept_once_and_versions_stay(site, ben, tmp_path):
    first, _ = added(site, ben, tmp_path)
    second, _ = added(site, ben, tmp_path)
    assert first["versions"][0]["sha256"] == second["versions"][0]["sha256"]
    folder = site.platform.home.dataset(first["versions"][0]["sha256"])
    (tmp_path / "more").mkdir()
    data, _ = copper(tmp_path / "more", 8)
    upload = sent(ben, "more.extxyz", data, 100_000)
    ok(ben.post(f"/api/datasets/{first['id']}/versions", json={"file": f"upload:{upload['id']}"}), 201)
    site.platform.librarian.wait()
    both = ok(ben.get(f"/api/datasets/{first['id']}"))["versions"]
    assert [(v["number"], v["frames"]) for v in both] == [(1, 6), (2, 8)]
    assert ben.delete(f"/api/datasets/{first['id']}").status_code == 204
    assert folder.exists()
    assert ben.delete(f"/api/datasets/{second['id']}").status_code == 204
    assert not folder.exists()


@pytest.mark.slow
def test_a_job_reads_the_version_that_it_names(site, ben, tmp_path):
    data, images = added(site, ben, tmp_path)
    settings = {"files": [f"dataset:{data['id']}@1"]}
    job = ok(ben.post("/api/jobs", json={"task": "inspect", "settings": settings}), 201)
    assert job["inputs"][0]["sha256"] == data["versions"][0]["sha256"]
    done = site.wait(ben, job["id"])
    assert done["state"] == "DONE", done["reason"]
    text = ben.get(f"/api/jobs/{job['id']}/log").json()["text"]
    assert str(len(images)) in text
    wrong = ben.post("/api/jobs", json={"task": "inspect", "settings": {"files": [f"dataset:{data['id']}@2"]}})
    assert wrong.status_code == 422


@pytest.mark.slow
def test_what_is_no_data_set_is_refused_with_a_reason(site, ben):
    upload = sent(ben, "bomb.extxyz", b"99999999999\nbomb\n")
    made = ok(ben.post("/api/datasets", json={"name": "x", "file": f"upload:{upload['id']}"}), 201)
    site.platform.librarian.wait()
    version = ok(ben.get(f"/api/datasets/{made['id']}"))["versions"][0]
    assert version["state"] == "refused"
    assert "line 1 announces 99999999999 atoms" in version["reason"]
    assert ben.get(f"/api/datasets/{made['id']}/table").status_code == 409


def test_data_whose_file_is_gone_says_so(site):
    """Such as after a copy of the database alone was put back."""
    with site.platform.database.writing() as session:
        session.add(Dataset(id=1, owner_id=2, name="cu", created=0.0))
        session.flush()
        row = {"dataset_id": 1, "number": 1, "sha256": "0" * 64, "file": "cu.extxyz", "format": "extxyz"}
        session.add(DatasetVersion(**row, created=0.0, state="reading"))
    site.platform.librarian.begin()
    site.platform.librarian.wait()
    with site.platform.database.reading() as session:
        version = session.get_one(DatasetVersion, 1)
    assert (version.state, version.reason) == ("refused", "cu.extxyz is not there any more: add the data again")


@pytest.mark.slow
def test_a_reader_that_a_killed_server_left_may_be_faster(site, ben, tmp_path, monkeypatch):
    def twice(*asked):
        read_limited(*asked)
        return read_limited(*asked)

    monkeypatch.setattr(librarian, "read_limited", twice)
    version = added(site, ben, tmp_path)[0]["versions"][0]
    assert (version["state"], version["frames"]) == ("ready", 6)


@pytest.mark.slow
def test_a_reader_ends_with_the_server_that_is_killed_and_leaves_nothing(site, ben, tmp_path):
    """What it leaves is removed when the file is read again."""
    folder = tmp_path / "folder"
    folder.mkdir()
    frame = "1\nProperties=species:S:1:pos:R:3 energy=-1\nCu 0 0 0\n"
    (folder / "large.extxyz").write_text(frame * 300_000)  # a minute
    read = "import sys; from pathlib import Path; from rutile.jobs.reading import *; f = Path(sys.argv[1]); "
    read += "read_limited(DATA, f / 'large.extxyz', f / 'shelf', FOR_DATA)"
    server = subprocess.Popen(
        [sys.executable, "-c", read, folder], env={**os.environ, "PYTHONPATH": str(Path(rutile.__file__).parents[1])}
    )
    end = time.monotonic() + 60
    while not list(folder.glob(".shelf*")) and time.monotonic() < end:
        time.sleep(0.05)
    (reader,) = psutil.Process(server.pid).children()
    server.kill()
    server.wait()
    assert psutil.wait_procs([reader], timeout=10)[1] == []
    left = list(folder.glob(".shelf*"))
    assert left
    home = added(site, ben, tmp_path)[0]["versions"][0]["sha256"]
    kept = site.platform.home.dataset(home)
    shutil.copytree(left[0], kept / left[0].name)
    shutil.rmtree(kept / "shelf")
    with site.platform.database.writing() as session:
        session.get_one(DatasetVersion, 1).state = "reading"
    site.platform.librarian.begin()
    site.platform.librarian.wait()
    assert not list(kept.glob(".shelf*"))
    assert (kept / "shelf").is_dir()


@pytest.mark.slow
def test_a_small_one_does_not_wait_for_a_large_one(site, ben, tmp_path, monkeypatch):
    free = threading.Event()

    def slow(kind, file, *more):
        assert file.stat().st_size < 4000 or free.wait(60)
        return read_limited(kind, file, *more)

    monkeypatch.setattr(librarian, "LARGE", 4000)
    monkeypatch.setattr(librarian, "read_limited", slow)
    sizes = [len(copper(tmp_path, frames)[0]) for frames in (60, 1)]
    assert sizes[0] > 4000 > sizes[1]
    numbers = []
    for frames in (60, 1):
        upload = sent(ben, "copper.extxyz", copper(tmp_path, frames)[0], 100_000)
        made = ok(ben.post("/api/datasets", json={"name": "copper", "file": f"upload:{upload['id']}"}), 201)
        numbers.append(made["id"])

    def states():
        return [ok(ben.get(f"/api/datasets/{number}"))["versions"][0]["state"] for number in numbers]

    end = time.monotonic() + 60
    while states()[1] == "reading" and time.monotonic() < end:
        time.sleep(0.1)
    assert states() == ["reading", "ready"]
    free.set()
    site.platform.librarian.wait()
    assert states() == ["ready", "ready"]


@pytest.mark.slow
def test_reading_goes_on_after_a_restart(site, ben, tmp_path):
    added(site, ben, tmp_path)
    with site.platform.database.writing() as session:
        session.get_one(DatasetVersion, 1).state = "reading"
    site.platform.close()
    platform = Platform.open(site.platform.settings)
    platform.librarian.begin()
    platform.librarian.wait()
    with platform.database.reading() as session:
        assert session.get_one(DatasetVersion, 1).state == "ready"
    platform.close()


@pytest.mark.slow
def test_a_shelf_of_many_frames_opens_without_reading_them(tmp_path):
    one = Picture(np.array([29]), np.zeros((1, 3)), np.eye(3), np.array([True] * 3), energy=-1.0)
    write_shelf((one for _ in range(20_000)), tmp_path / "shelf")
    shelf = Shelf(tmp_path / "shelf")
    assert len(shelf) == 20_000
    assert shelf.frame(19_999).energy == -1.0


def odd_copper(tmp_path):
    """Copper with one structure for each finding: number of the structure by the name of the check."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    _, images = copper(tmp_path, 8)
    for k, atoms in enumerate(images):
        atoms.info["config_type"] = ("shaken", "strained")[k % 2]
        atoms.info["calc_mode"] = "PBE"
        atoms.calc.results["forces"] -= atoms.calc.results["forces"].mean(axis=0)
    images[1].calc.results.pop("stress")
    images[2].calc.results["forces"][0] += [40.0, 0, 0]
    images[2].calc.results["forces"][1] -= [40.0, 0, 0]
    images[3].calc.results["forces"][0] += [0.2, 0, 0]
    images[4].calc.results["energy"] += 50.0
    images.append(images[5].copy())
    images[-1].calc = SinglePointCalculator(images[-1], **images[5].calc.results)
    images[-1].translate([0.3, 0.2, 0.1])
    atom = Atoms("Cu", info={"calc_mode": "PBE"})
    atom.calc = SinglePointCalculator(atom, energy=-0.2, forces=np.zeros((1, 3)))
    images.append(atom)
    path = tmp_path / "odd.extxyz"
    write(path, images)
    return path.read_bytes(), {
        "no_stress": [1, 9], "large_forces": [2], "net_forces": [3], "outliers": [4], "copies": [8],
        "isolated_atoms": [9],
    }  # fmt: skip


@pytest.mark.slow
def test_what_is_odd_is_found_and_can_be_chosen(site, ben, tmp_path):
    data, odd = odd_copper(tmp_path)
    upload = sent(ben, "odd.extxyz", data, 100_000)
    made = ok(ben.post("/api/datasets", json={"name": "odd", "file": f"upload:{upload['id']}"}), 201)
    site.platform.librarian.wait()
    url = f"/api/datasets/{made['id']}"
    version = ok(ben.get(url))["versions"][0]
    assert {c["name"]: c["frames"] for c in version["checks"]} == {name: len(k) for name, k in odd.items()}
    for name, frames in odd.items():
        assert ok(ben.get(f"{url}/table", params={"check": name}))["frames"] == frames, name
    assert version["groups"] == {"strained": 5, "shaken": 4, "": 1}
    assert version["modes"] == {"PBE": 10}
    rows = ok(ben.get(f"{url}/table", params={"size": 10}))
    assert {name: rows["groups"].count(name) for name in rows["groups"]} == version["groups"]
    assert (rows["groups"][9], rows["modes"]) == ("", ["PBE"] * 10)
    assert ok(ben.get(f"{url}/table", params={"mode": "HSE06"}))["selected"] == 0
    near = ok(ben.get(f"{url}/histogram", params={"of": "nearest"}))
    assert 1.5 < near["edges"][0] < near["edges"][-1] < 4.0
    part = ok(ben.post(f"{url}/selection", json={"name": "strained", "group": "strained"}), 201)
    site.platform.librarian.wait()
    kept = ok(ben.get(f"/api/datasets/{part['id']}"))["versions"][0]
    assert kept["modes"] == {"PBE": kept["frames"]}
    assert list(kept["groups"]) == ["strained"]


@pytest.mark.slow
def test_a_data_set_is_divided_as_training_would(site, ben, eve, tmp_path):
    data, _ = odd_copper(tmp_path)
    upload = sent(ben, "odd.extxyz", data, 100_000)
    made = ok(ben.post("/api/datasets", json={"name": "odd", "file": f"upload:{upload['id']}", "licence": "CC0"}), 201)
    site.platform.librarian.wait()
    url = f"/api/datasets/{made['id']}"
    wish = {"by": "frames", "valid": 0.25, "test": 0.25, "seed": 3}
    three = ok(ben.post(f"{url}/parts", json=wish), 201)
    site.platform.librarian.wait()
    assert [d["name"] for d in three] == ["odd, train", "odd, validation", "odd, test"]
    assert {d["licence"] for d in three} == {"CC0"}
    assert three[1]["source"].endswith(f"of dataset:{made['id']}@1 (validation, frames, seed 3)")
    versions = [ok(ben.get(f"/api/datasets/{d['id']}"))["versions"][0] for d in three]
    assert sum(v["frames"] for v in versions) == 10
    assert sum(c["frames"] for v in versions for c in v["checks"] if c["name"] == "copies") == 1  # both on one side
    again = ok(ben.post(f"{url}/parts", json=wish), 201)
    assert [d["versions"][0]["sha256"] for d in again] == [v["sha256"] for v in versions]
    whole = ok(ben.post(f"{url}/parts", json=wish | {"by": "groups", "valid": 0.4, "test": 0.0}), 201)
    site.platform.librarian.wait()
    named = [set(ok(ben.get(f"/api/datasets/{d['id']}"))["versions"][0]["groups"]) for d in whole]
    assert named[0].isdisjoint(named[1])
    assert ben.post(f"{url}/parts", json={"valid": 0.6, "test": 0.5}).status_code == 422
    assert eve.post(f"{url}/parts", json=wish).status_code == 404


@pytest.mark.slow
def test_versions_are_compared_frame_by_frame(site, ben, tmp_path):
    _, images = copper(tmp_path, 6)
    write(tmp_path / "one.extxyz", images)
    other = [images[3], images[0], images[1]]
    other[1].calc.results["energy"] += 0.5
    copper(tmp_path, 7)
    write(tmp_path / "two.extxyz", [*other, *read(tmp_path / "cu.extxyz", "6:")])
    numbers = []
    for name in ("one", "two"):
        data = (tmp_path / f"{name}.extxyz").read_bytes()
        upload = sent(ben, f"{name}.extxyz", data, 100_000)
        if not numbers:
            made = ok(ben.post("/api/datasets", json={"name": "cu", "file": f"upload:{upload['id']}"}), 201)
        else:
            ok(ben.post(f"/api/datasets/{made['id']}/versions", json={"file": f"upload:{upload['id']}"}), 201)
        numbers.append(upload["id"])
        site.platform.librarian.wait()
    found = ok(ben.get(f"/api/datasets/{made['id']}/differences", params={"first": 1, "second": 2}))
    assert (found["same"], found["relabelled_frames"], found["added_frames"]) == (2, [1], [3])
    assert found["removed_frames"] == [2, 4, 5]
    assert [s["largest"] for s in found["columns"]["atoms"]] == [8, 4]
    assert ben.get(f"/api/datasets/{made['id']}/differences", params={"first": 1, "second": 9}).status_code == 404
