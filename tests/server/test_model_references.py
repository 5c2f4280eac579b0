"""Properties of a model beside references: another job, typed values, energies by volume of a data set."""

import numpy as np
import pytest
from platform_site import ok
from test_figures import put
from test_files_of_users import sent

from rutile.jobs.tables import StoredModel, User
from rutile.simulate.birch_murnaghan import BirchMurnaghan

SILICON = BirchMurnaghan(volume=20.0, energy=-5.0, bulk=0.6, slope=4.2)
"""Of one atom: 96.1 GPa."""
VOLUMES = np.linspace(18.5, 21.5, 7)


def model_of(site, owner="ben"):
    with site.platform.database.writing() as session:
        user = session.query(User).filter_by(name=owner).one()
        row = StoredModel(owner_id=user.id, name="m", created=1.0, sha256="0" * 64, elements=["Si"], card={"info": {}})
        session.add(row)
        session.flush()
        return row.id


def inputs(model, structure="structure:7", name="diamond.extxyz"):
    read = [(f"model:{model}", "m.rutile"), (structure, name)]
    return [{"setting": "x", "reference": reference, "name": file, "sha256": ""} for reference, file in read]


def eos(site, model, bulk=100.0, shift=0.0, **changes):
    """A finished job that found an equation of state of silicon."""
    row = {"structure": "inputs/diamond.extxyz#0", "formula": "Si2", "volume": 21.0, "bulk_modulus": bulk}
    points = "structure,formula,volume,energy,pressure\n" + "".join(
        f"inputs/diamond.extxyz#0,Si2,{v},{SILICON.energy_at(v) + shift},0\n" for v in VOLUMES
    )
    result = {"points": "eos/points.csv", "structures": [row | {"bulk_derivative": 4.0}]}
    files = {"eos/points.csv": points}
    return put(site, "eos", files, result, **{"inputs": inputs(model), "owner": "ben", **changes})


def curve(tmp_path):
    """Energies by volume of a crystal, and a strained cell that is none of them."""
    lines = []
    for volume in VOLUMES:
        a = (4 * 2 * volume) ** (1 / 3) / 2
        energy = 2 * float(SILICON.energy_at(volume))
        sheared = f"0 {a} {a} {a} 0 {a} {a} {a} 0"
        lines += ["2", f'Lattice="{sheared}" energy={energy:.10f} pbc="T T T" Properties=species:S:1:pos:R:3']
        lines += ["Si 0 0 0", f"Si {a / 2} {a / 2} {a / 2}"]
    lines += ["2", 'Lattice="4 0 0 0 3 0 0 0 5" energy=-3 pbc="T T T" Properties=species:S:1:pos:R:3']
    lines += ["Si 0 0 0", "Si 2 1.5 2.5"]
    path = tmp_path / "curve.extxyz"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_another_job_is_a_reference_that_is_kept(site, ben, eve):
    model, other = model_of(site), model_of(site)
    mine, reference = eos(site, model, shift=3.0), eos(site, other, bulk=80.0)
    eos(site, other, owner="eve")
    url = f"/api/models/{model}/properties/{mine}"
    seen = ok(ben.get(url))
    assert (seen["reference"], seen["rows"], seen["figures"]) == ("", [], [])
    assert [one["reference"] for one in seen["choices"]] == [f"job:{reference}"]  # what eve found is hers
    ok(ben.put(f"/api/models/{model}/references", json={"chosen": {"eos": f"job:{reference}"}}), 204)
    seen = ok(ben.get(url))
    assert seen["reference"] == f"job:{reference}"
    rows = {row["property"]: row for row in seen["rows"]}
    assert (rows["bulk_modulus"]["value"], rows["bulk_modulus"]["reference"]) == (100.0, 80.0)
    assert rows["bulk_modulus"]["percent"] == pytest.approx(25.0)
    assert (rows["bulk_modulus"]["unit"], rows["volume"]["unit"]) == ("GPa", "Å³/atom")
    (figure,) = seen["figures"]
    assert [line["name"] for line in figure["lines"]] == ["model", "reference"]
    assert figure["lines"][0]["y"] == pytest.approx(figure["lines"][1]["y"])  # each above its own lowest
    assert "references" not in ok(ben.get(f"/api/models/{model}"))["card"]
    assert ok(ben.get(url, params={"reference": ""}))["rows"] == []
    assert eve.get(url).status_code == 404
    assert eve.put(f"/api/models/{model}/references", json={"typed": []}).status_code == 404
    assert ben.get(url, params={"reference": "job:999"}).status_code == 404
    assert ben.get(f"/api/models/{other}/properties/{mine}").status_code == 404  # that model found nothing there


def test_only_the_same_structure_or_the_only_one_of_its_composition_is_compared(site, ben):
    model = model_of(site)
    mine = eos(site, model)
    elsewhere = eos(site, model, inputs=inputs(model, "structure:8"))  # another structure, but the only Si here too
    found = [one["reference"] for one in ok(ben.get(f"/api/models/{model}/properties/{mine}"))["choices"]]
    assert found == [f"job:{elsewhere}"]
    row = {"structure": "inputs/b.extxyz#0", "formula": "Si2", "volume": 15.0, "bulk_modulus": 1.0}
    rows = {"structures": [row, row | {"structure": "inputs/b.extxyz#1"}]}
    put(site, "eos", {}, rows, inputs=inputs(model, "structure:9", "b.extxyz"))  # two of silicon: which one?
    found = [one["reference"] for one in ok(ben.get(f"/api/models/{model}/properties/{mine}"))["choices"]]
    assert found == [f"job:{elsewhere}"]


def test_typed_values_are_kept_in_their_units(site, ben):
    model = model_of(site)
    row = {"structure": "inputs/diamond.extxyz#0", "formula": "Si2", "bulk_modulus": 90.0}
    tensor = np.diag([150.0, 150, 150, 75, 75, 75])
    job = put(site, "elastic", {}, {"structures": [row | {"tensor": tensor.tolist()}]}, inputs=inputs(model))
    url, keep = f"/api/models/{model}/properties/{job}", f"/api/models/{model}/references"
    value = {"structure": "Si", "property": "bulk_modulus", "value": 1000.0, "unit": "kbar", "source": "measured"}
    own = value | {"structure": "inputs/diamond.extxyz#0", "property": "C44", "value": 50.0, "unit": "GPa"}
    for wrong, word in (({"unit": "Å"}, "kbar"), ({"property": "colour"}, "C11"), ({"source": ""}, "source")):
        refused = ben.put(keep, json={"typed": [value | wrong]})
        assert refused.status_code == 422
        assert word in refused.text
    ok(ben.put(keep, json={"typed": [value, own], "chosen": {"elastic": "typed"}}), 204)
    seen = ok(ben.get(url))
    rows = {one["property"]: one for one in seen["rows"]}
    assert rows.keys() == {"bulk_modulus", "C44"}
    assert rows["bulk_modulus"]["reference"] == pytest.approx(100.0)
    assert (rows["C44"]["percent"], rows["C44"]["source"]) == (pytest.approx(50.0), "measured")
    ok(ben.put(keep, json={"typed": []}), 204)
    assert (ok(ben.get(url))["reference"], ok(ben.get(url))["choices"]) == ("", [])


def test_phonon_bands_of_a_reference_are_stretched_onto_those_of_the_model(site, ben):
    model = model_of(site)
    row = {
        "structure": "inputs/diamond.extxyz#0",
        "formula": "Si2",
        "highest": 15.0,
        "lowest": 1e-7,
        "folder": "p/000_Si2",
    }
    numbers = []
    for wide, top in ((1.0, 15.0), (2.0, 12.0)):
        bands = f"distance,point,band0,band1\n0,Γ,0,{top}\n{wide / 2},,1,{top - 1}\n{wide},X,2,{top - 2}\n"
        files = {"p/000_Si2/bands.csv": bands, "p/000_Si2/dos.csv": "frequency,states\n0,0\n1,2\nx,3\n"}
        numbers.append(put(site, "phonons", files, {"structures": [row | {"highest": top}]}, inputs=inputs(model)))
    url = f"/api/models/{model}/properties/{numbers[0]}"
    seen = ok(ben.get(url, params={"reference": f"job:{numbers[1]}"}))
    percent = {one["property"]: one["percent"] for one in seen["rows"]}
    assert percent == {"lowest": None, "highest": pytest.approx(25.0)}  # 1e-7 THz is rounding: no part of it is told
    bands, states = seen["figures"]
    assert [(line["name"], line["x"]) for line in bands["lines"]] == [
        (name, [0.0, 0.5, 1.0]) for name in ("model", "model", "reference", "reference")
    ]
    assert bands["marks"] == [{"x": 0.0, "name": "Γ"}, {"x": 1.0, "name": "X"}]
    assert states["lines"][1]["y"] == [0.0, 2.0]  # a row that is no number is left out


@pytest.mark.slow
def test_a_data_set_gives_energy_by_volume(site, ben, tmp_path):
    model = model_of(site)
    mine = eos(site, model)
    upload = sent(ben, "curve.extxyz", curve(tmp_path).read_bytes(), 100_000)
    data = ok(ben.post("/api/datasets", json={"name": "E(V)", "file": f"upload:{upload['id']}"}), 201)["id"]
    site.platform.librarian.wait()
    url = f"/api/models/{model}/properties/{mine}"
    assert [one["reference"] for one in ok(ben.get(url))["choices"]] == [f"dataset:{data}"]
    seen = ok(ben.get(url, params={"reference": f"dataset:{data}"}))
    rows = {one["property"]: one for one in seen["rows"]}
    assert rows["volume"]["reference"] == pytest.approx(20.0, rel=1e-5)
    assert rows["bulk_modulus"]["reference"] == pytest.approx(0.6 * 160.2176634, rel=1e-4)
    assert rows["bulk_derivative"]["reference"] == pytest.approx(4.2, rel=1e-3)
    assert rows["volume"]["source"] == f"dataset:{data}, 7 structures"  # not the cell that is strained otherwise
    (figure,) = seen["figures"]
    assert min(figure["lines"][1]["y"]) == pytest.approx(0.0, abs=1e-6)
