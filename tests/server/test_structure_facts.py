"""What the page of a structure says about it: found in a child with limits."""

import pytest
from platform_site import ok

CELL = '6\nLattice="4.594 0 0 0 4.594 0 0 0 2.959" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
RUTILE = (
    CELL + "Ti 0 0 0\nTi 2.297 2.297 1.4795\nO 1.403 1.403 0\nO 3.191 3.191 0\nO 3.7 0.894 1.4795\nO 0.894 3.7 1.4795\n"
)
WATER = "3\n\nO 0 0 0\nH 0.757 0.586 0\nH -0.757 0.586 0\n"


@pytest.mark.slow
def test_a_crystal_and_a_molecule_are_known(site, ben, eve):
    crystal, molecule = (
        ok(ben.post("/api/structures", json={"name": name, "text": text}), 201)["id"]
        for name, text in (("rutile", RUTILE), ("water", WATER))
    )
    known = ok(ben.get(f"/api/structures/{crystal}/frames/0/facts"))
    assert (known["symmetry"], known["group"], known["name"]) == ("P4_2/mnm", 136, "rutile")
    assert known["density"] == pytest.approx(4.25, abs=0.02)
    assert known["nearest"] == pytest.approx(1.95, abs=0.05)
    known = ok(ben.get(f"/api/structures/{molecule}/frames/0/facts"))
    assert (known["symmetry"], known["group"], known["density"]) == ("C2v", None, None)
    assert ben.get(f"/api/structures/{molecule}/frames/1/facts").status_code == 404
    assert eve.get(f"/api/structures/{molecule}/frames/0/facts").status_code == 404


@pytest.mark.slow
def test_a_structure_that_would_fill_the_memory_is_refused_in_one_line(site, ben):
    thin = '1\nLattice="0.002 0 0 0 0.002 0 0 0 0.002" Properties=species:S:1:pos:R:3 pbc="T T T"\nCu 0 0 0\n'
    number = ok(ben.post("/api/structures", json={"name": "thin", "text": thin}), 201)["id"]
    answer = ben.get(f"/api/structures/{number}/frames/0/facts")
    assert answer.status_code == 422
    assert len(answer.json()["problems"]) == 1
