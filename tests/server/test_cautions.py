"""What is said before a job is submitted: elements and stress that a potential does not know."""

import json
import struct

import numpy as np
import pytest
from platform_site import ok
from test_files_of_users import sent

from rutile.jobs.shelf import Picture
from rutile.jobs.tables import StoredModel, User
from rutile.server.cautions import moves_cells
from rutile.structures.surroundings import Surroundings
from rutile.tasks.catalogue import all_tasks

CELL = 'Lattice="0 2.7 2.7 2.7 0 2.7 2.7 2.7 0" Properties=species:S:1:pos:R:3:forces:R:3 pbc="T T T"'
SILICON = f"2\n{CELL} energy=-1.0{{}}\nSi 0 0 0 0 0 0\nSi 1.36 1.36 1.36 0 0 0\n"
STRESS = ' stress="0 0 0 0 0 0 0 0 0"'


def said(page, task, **settings):
    return ok(page.post(f"/api/tasks/{task}/check", json={"settings": settings}))["warnings"]


def model(site, metrics):
    """A model of silicon in the registry, with these errors on its training data."""
    with site.platform.database.writing() as session:
        owner = session.query(User).filter_by(name="ben").one().id
        row = StoredModel(name="net", owner_id=owner, created=1.0, sha256="0" * 64, elements=["Si"],
                          metrics=[{"set": "train", "job": None, "values": metrics}])  # fmt: skip
        session.add(row)
        session.flush()
        path = site.platform.home.model(row.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return f"model:{row.id}"


@pytest.mark.parametrize(("task", "settings", "moves"), [
    ("relax", {}, False),
    ("relax", {"cell": "full"}, True),
    ("elastic", {}, True),
    ("elastic", {"relax": False}, False),
    ("md", {}, False),
    ("md", {"ensemble": {"name": "cell_rescale"}}, True),
    ("barrier", {"cell": True}, True),
])  # fmt: skip
def test_it_is_known_where_cells_move(task, settings, moves):
    (found,) = (one for one in all_tasks() if one.name == task)
    given = {"structures": ["a.cif"], "start": "a.cif", "end": "b.cif", "model": "emt"} | settings
    known = {name: value for name, value in given.items() if name in found.settings.model_fields}
    assert moves_cells(found.settings.model_validate(known)) is moves


@pytest.mark.slow
def test_a_potential_without_stress_is_told_of_where_cells_move(site, ben):
    one = ok(ben.post("/api/structures", json={"name": "si", "text": SILICON.format("")}), 201)
    structures = [f"structure:{one['id']}"]
    blind, seeing = (model(site, {"force_rmse": 0.1} | more) for more in ({}, {"stress_rmse": 0.1}))
    (told,) = said(ben, "relax", structures=structures, model=blind, cell="full")
    assert told.startswith("the potential net has learned no stress")
    assert said(ben, "relax", structures=structures, model=blind) == []
    assert said(ben, "relax", structures=structures, model=seeing, cell="full") == []


@pytest.mark.slow
def test_elements_that_a_potential_without_file_does_not_know(ben):
    one = ok(ben.post("/api/structures", json={"name": "si", "text": SILICON.format("")}), 201)
    structures = [f"structure:{one['id']}"]
    assert said(ben, "relax", structures=structures, model="emt") == [
        "structures: si holds Si, which the potential emt is not made for"
    ]
    assert said(ben, "relax", structures=structures, model="lennard_jones") == []


@pytest.mark.slow
def test_data_without_stress_is_told_of_before_training(site, ben):
    labelled, atom = SILICON.format(STRESS), '1\nProperties=species:S:1:pos:R:3 energy=-1 pbc="F F F"\nSi 0 0 0\n'
    frames = labelled + SILICON.format("").replace("1.36 1.36 1.36", "1.3 1.3 1.3")
    for text, told in ((frames, "stress for 1 of 2 periodic structures"), (labelled + atom, None)):
        upload = sent(ben, "si.extxyz", text.encode())
        data = ok(ben.post("/api/datasets", json={"name": "si", "file": f"upload:{upload['id']}"}), 201)["id"]
        site.platform.librarian.wait()
        warnings = said(ben, "train", data=[f"dataset:{data}"])
        assert [told in one for one in warnings] == ([True] if told else [])


@pytest.mark.slow
def test_structures_unlike_the_training_data_are_told_of(site, ben):
    known = model(site, {})
    met = Surroundings.of([pressed(scale) for scale in (0.98, 1.0, 1.02)])
    path = site.platform.home.model("0" * 64)
    described = json.dumps({"__metadata__": {"rutile": json.dumps({"surroundings": met.model_dump(mode="json")})}})
    path.write_bytes(struct.pack("<Q", len(described)) + described.encode())
    one = ok(ben.post("/api/structures", json={"name": "si", "text": SILICON.format("")}), 201)
    assert said(ben, "relax", structures=[f"structure:{one['id']}"], model=known) == []
    near = SILICON.replace("1.36 1.36 1.36", "0.9 0.9 0.9").format("")
    two = ok(ben.post("/api/structures", json={"name": "near", "text": near * 3}), 201)
    (told,) = said(ben, "relax", structures=[f"structure:{two['id']}"], model=known)
    assert told.startswith("structures: near.extxyz: 2 of 2 atoms are unlike all that the potential was trained on")
    assert told.endswith("and so in 2 more of its first 3 structures")


def pressed(scale):
    """Silicon as in `SILICON`, larger or smaller."""
    cell = 2.7 * scale * (np.ones((3, 3)) - np.eye(3))
    positions = np.array([[0.0] * 3, [1.36 * scale] * 3])
    return Picture(np.array([14, 14]), positions, cell, np.ones(3, bool))


@pytest.mark.slow
def test_a_model_file_that_is_a_bomb_is_no_error_of_the_server(site, ben):
    known = model(site, {})
    one = ok(ben.post("/api/structures", json={"name": "si", "text": SILICON.format("")}), 201)
    deep = json.dumps({"__metadata__": {"rutile": "[" * 200_000}}).encode()
    for content in (deep, b"[" * 200_000, struct.pack("<Q", 2**62), b""):
        header = content if len(content) < 9 else struct.pack("<Q", len(content)) + content
        site.platform.home.model("0" * 64).write_bytes(header)
        assert said(ben, "relax", structures=[f"structure:{one['id']}"], model=known) == []
