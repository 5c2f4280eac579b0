"""What users send and what jobs wrote: read within limits, found by number, never by path."""

import os

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from platform_site import ok

from rutile.jobs import folder as kept
from rutile.jobs.safe_files import identity, listing, open_inside
from rutile.jobs.shelf import Picture, Shelf, write_shelf


def sent(page, name, data, piece=1000):
    upload = ok(page.post("/api/uploads", json={"name": name, "size": len(data)}), 201)
    for start in range(0, len(data), piece):
        upload = ok(
            page.put(f"/api/uploads/{upload['id']}", params={"offset": start}, content=data[start : start + piece])
        )
    return upload


def copper(tmp_path, frames=3):
    images = []
    for k in range(frames):
        atoms = bulk("Cu", cubic=True) * (1 + (k == 2), 1, 1)
        atoms.rattle(0.01 * (k + 1), seed=k)
        atoms.calc = EMT()
        atoms.get_stress()
        images.append(atoms)
    path = tmp_path / "cu.extxyz"
    ase.io.write(path, images)
    return path.read_bytes(), images


def test_an_upload_goes_on_where_it_broke_off(ben, eve):
    data = bytes(range(256)) * 20
    upload = ok(ben.post("/api/uploads", json={"name": "../../x.bin", "size": len(data)}), 201)
    assert upload["name"] == "_.._x.bin"
    url = f"/api/uploads/{upload['id']}"
    ok(ben.put(url, params={"offset": 0}, content=data[:3000]))
    assert ben.put(url, params={"offset": 0}, content=data[:3000]).status_code == 409
    assert ben.put(url, params={"offset": 3000}, content=data).status_code == 413
    assert eve.get(url).status_code == eve.put(url, params={"offset": 3000}, content=b"x").status_code == 404
    assert ok(ben.get(url))["received"] == 3000
    done = ok(ben.put(url, params={"offset": 3000}, content=data[3000:]))
    assert len(done["sha256"]) == 64
    assert ben.delete(url).status_code == 204
    assert ben.get(url).status_code == 404


def test_a_request_that_is_too_long_is_refused_before_it_is_read(site, ben):
    assert ben.post("/api/jobs", content=b"x" * 5_000_000).status_code == 413
    assert ben.post("/api/uploads", json={"name": "x", "size": 10**14}).status_code == 413


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data", "told"), [
    ("nan.extxyz", b"1\nProperties=species:S:1:pos:R:3\nCu nan 0 0\n", "nan.extxyz: frame 0: position of atom 0 = "),
    ("cell.extxyz", b'1\nLattice="inf 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3\nCu 0 0 0\n', "its cell"),
    ("all.zip", b"PK\x03\x04", "all.zip: files of this kind are not read here (an archive: unpack it"),
    ("notes.txt", b"hello\n", "notes.txt: files of this kind are not read here; known are extxyz, "),
])  # fmt: skip
def test_files_that_hold_no_structure_are_refused_in_one_sentence(ben, name, data, told):
    upload = sent(ben, name, data)
    answer = ben.post("/api/structures", json={"name": "x", "file": f"upload:{upload['id']}"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert "format=" not in answer.json()["detail"]


def test_an_empty_file_is_told_so(ben):
    answer = ben.post("/api/uploads", json={"name": "cu.cif", "size": 0})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "cu.cif: the file is empty (0 bytes): choose another"


@pytest.mark.slow
def test_structures_are_kept_and_seen_frame_by_frame(ben, eve, tmp_path):
    data, images = copper(tmp_path)
    upload = sent(ben, "cu.extxyz", data)
    kept_one = ok(ben.post("/api/structures", json={"name": "copper", "file": f"upload:{upload['id']}"}), 201)
    assert (kept_one["formula"], kept_one["frames"], kept_one["elements"]) == ("Cu4", 3, ["Cu"])
    url = f"/api/structures/{kept_one['id']}"
    for k, atoms in enumerate(images):
        frame = ok(ben.get(f"{url}/frames/{k}"))
        np.testing.assert_allclose(frame["positions"], atoms.positions, atol=1e-7)
        np.testing.assert_allclose(frame["forces"], atoms.get_forces(), atol=1e-5)
        np.testing.assert_allclose(frame["stress"], atoms.get_stress(voigt=False), atol=1e-7)
        assert frame["energy"] == pytest.approx(atoms.get_potential_energy())
    assert ben.get(f"{url}/frames/3").status_code == 404
    assert eve.get(f"{url}/frames/0").status_code == 404
    along = ok(ben.get(f"{url}/track"))
    assert along["energy_per_atom"][2] == pytest.approx(images[2].get_potential_energy() / 8)
    assert ok(ben.get("/api/structures", params={"search": "cu4"}))["total"] == 1
    one = ok(ben.post("/api/structures", json={"name": "third", "file": f"upload:{upload['id']}", "frame": 2}), 201)
    assert (one["formula"], one["frames"]) == ("Cu8", 1)
    assert ben.delete(url).status_code == 204


@pytest.mark.slow
def test_pasted_text_is_read_by_its_format(ben):
    poscar = "cubic\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
    row = ok(ben.post("/api/structures", json={"name": "salt", "text": poscar, "format": "poscar"}), 201)
    assert row["formula"] == "NaCl"
    assert ok(ben.get(f"/api/structures/{row['id']}/frames/0"))["symbols"] == ["Na", "Cl"]
    wrong = ben.post("/api/structures", json={"name": "x", "text": "no structure", "format": "cif"})
    assert wrong.status_code == 422
    assert "\n" not in wrong.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bomb.extxyz", b"99999999999\nbomb\n"),
        ("bomb.traj", b"\x80\x04\x95cposix\nsystem\n"),
        ("x.db", b"SQLite format 3\0"),
        ("x.pickle", b"\x80\x04K\x01."),
        ("empty.xyz", b"\n"),
    ],
)
def test_files_that_are_traps_are_refused(ben, name, data):
    upload = sent(ben, name, data)
    answer = ben.post("/api/structures", json={"name": "x", "file": f"upload:{upload['id']}"})
    assert answer.status_code == 422
    assert "\n" not in answer.json()["detail"]


def test_a_shelf_gives_back_what_was_put_on_it(tmp_path):
    rng = np.random.default_rng(0)
    given = [
        Picture(np.array([8, 22, 8][: k + 1]), rng.normal(size=(k + 1, 3)), np.eye(3) * 4, np.array([True] * 3),
                energy=-1.0 * k if k else None, forces=rng.normal(size=(k + 1, 3)) if k == 2 else None)
        for k in range(3)
    ]  # fmt: skip
    assert write_shelf(given, tmp_path / "shelf") == 3
    shelf = Shelf(tmp_path / "shelf")
    for k, one in enumerate(given):
        back = shelf.frame(k)
        np.testing.assert_array_equal(back.numbers, one.numbers)
        np.testing.assert_array_equal(back.positions, one.positions)
        assert back.energy == one.energy
        assert (back.forces is None) == (one.forces is None)
    assert [shelf.formula(k) for k in range(3)] == ["O", "TiO", "TiO2"]
    assert shelf.of_elements(["Ti"], only=False).tolist() == [False, True, True]
    assert shelf.of_elements(["O"], only=True).tolist() == [True, False, False]
    np.testing.assert_array_equal(shelf.column("atoms"), [1, 2, 3])
    assert shelf.column("energy_per_atom")[2] == pytest.approx(-2 / 3)


def folder_of_a_job(site, ben):
    number = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    root = site.platform.home.job(number) / kept.FILES
    (root / "run").mkdir(parents=True)
    return number, root


@pytest.mark.slow
def test_links_and_devices_of_a_job_are_not_there(site, ben, tmp_path):
    """Whatever a job makes in its folder, nothing outside of it can be read."""
    number, root = folder_of_a_job(site, ben)
    (root / "run" / "good.txt").write_text("good")
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "etc").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    names = [f["path"] for f in ok(ben.get(f"/api/jobs/{number}/files"))]
    assert names == ["run", "run/good.txt"]
    for path in ("link", "etc/passwd", "../job.json", "pipe", "run", "run/../link"):
        assert ben.get(f"/api/jobs/{number}/files/{identity(path)}/download").status_code == 404, path
    for path in ("link", "etc/passwd", "../job.json", "run/../link", "pipe", "/etc/passwd", ""):
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
            open_inside(root, path)
    with open_inside(root, "run/good.txt") as file:
        assert file.read() == b"good"
    assert ben.get(f"/api/jobs/{number}/files/..%2f..%2fjob.json/download").status_code in (404, 422)


def test_a_folder_that_becomes_a_link_leads_nowhere(site, ben, tmp_path):
    _, root = folder_of_a_job(site, ben)
    (root / "run" / "a").write_text("x")
    before = listing(root)
    (root / "run" / "a").unlink()
    (root / "run").rmdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_text("secret")
    (root / "run").symlink_to(tmp_path / "outside")
    assert any(e.path == "run/a" for e in before)
    with pytest.raises(OSError):  # noqa: PT011
        open_inside(root, "run/a")


def test_pages_of_users_run_nothing(site, ben):
    number, root = folder_of_a_job(site, ben)
    (root / "evil.html").write_text("<script>alert(1)</script>")
    (root / "x.svg").write_text("<svg onload='alert(1)'/>")
    page = ben.get(f"/api/jobs/{number}/files/{identity('evil.html')}/page")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'; script-src 'sha256-")
    assert "allow-same-origin" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    for name in ("evil.html", "x.svg"):
        raw = ben.get(f"/api/jobs/{number}/files/{identity(name)}/download")
        assert raw.headers["content-type"] == "application/octet-stream"
        assert raw.headers["content-disposition"].startswith("attachment")
    assert ben.get(f"/api/jobs/{number}/files/{identity('x.svg')}/page").status_code == 404


@pytest.mark.slow
def test_structures_of_an_upload_are_seen_by_who_sent_it_once_all_is_here(ben, eve, tmp_path):
    data, images = copper(tmp_path)
    upload = ok(ben.post("/api/uploads", json={"name": "cu.extxyz", "size": len(data)}), 201)
    url = f"/api/uploads/{upload['id']}"
    assert ben.get(f"{url}/frames/0").status_code == 409
    ok(ben.put(url, params={"offset": 0}, content=data))
    frame = ok(ben.get(f"{url}/frames/2"))
    assert (frame["frames"], frame["number"], len(frame["symbols"])) == (3, 2, len(images[2]))
    assert frame["fmax"] == pytest.approx(np.linalg.norm(images[2].get_forces(), axis=1).max())
    assert eve.get(f"{url}/frames/0").status_code == 404
    other = sent(ben, "notes.txt", b"no structure")
    assert ben.get(f"/api/uploads/{other['id']}/frames/0").status_code == 422
