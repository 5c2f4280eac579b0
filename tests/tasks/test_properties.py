"""Tasks that compute properties, from files to folders of results, through the command line."""

import csv
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from rutile.cli.main import main
from rutile.core.errors import GeometryError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import make
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import BehlerSettings
from rutile.tasks import elastic, eos


@pytest.fixture
def metals(tmp_path):
    write(tmp_path / "metals.extxyz", [bulk("Cu"), bulk("Al")])
    return tmp_path / "metals.extxyz"


def ran(capsys, *words):
    code = main([*map(str, words), "--json"])
    out = capsys.readouterr()
    assert code == 0, out.err
    return json.loads(out.out)


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys, *words):
    assert main([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return " ".join(error.split())


@pytest.mark.slow
def test_eos_of_two_metals(tmp_path, metals, capsys):
    out = tmp_path / "eos"
    result = ran(capsys, "eos", metals, "model=emt", f"out={out}")
    copper, aluminium = result["structures"]
    assert copper["bulk_modulus"] == pytest.approx(134.4, abs=0.3)
    assert aluminium["bulk_modulus"] == pytest.approx(39.3, abs=0.3)
    assert copper["outcome"] == "done"
    assert copper["bulk_modulus_std"] is None
    assert json.loads((out / "result.json").read_text()) == result
    assert [row["formula"] for row in rows_of(out / "table.csv")] == ["Cu", "Al"]
    points = rows_of(out / "points.csv")
    assert len(points) == 18
    assert float(points[0]["pressure"]) > 5
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "134.4" in page
    assert "bulk modulus (GPa)" in page
    assert result["units"]["table.csv"]["bulk_modulus"] == "GPa"
    for file, units in result["units"].items():
        assert set(units) <= set(rows_of(out / file)[0]), file


@pytest.mark.slow
def test_elastic_constants_of_two_metals(tmp_path, metals, capsys):
    result = ran(capsys, "elastic", metals, "model=emt", f"out={tmp_path / 'elastic'}")
    copper, aluminium = result["structures"]
    assert copper["tensor"][0][0] == pytest.approx(172.6, abs=0.4)
    assert copper["tensor"][3][3] == pytest.approx(89.9, abs=0.3)
    assert copper["stable"]
    assert aluminium["bulk_modulus"] == pytest.approx((53.3 + 2 * 32.9) / 3, abs=0.1)
    assert len(rows_of(tmp_path / "elastic" / "table.csv")) == 2
    page = (tmp_path / "elastic" / "report.html").read_text()
    assert "89.9" in page
    assert page.count("<svg") == 2
    assert "x to y, y to z, z to x" in page  # equal in a cubic crystal


@pytest.mark.slow
def test_phonons_leave_files_that_phonopy_reads(tmp_path, metals, capsys):
    phonopy = pytest.importorskip("phonopy")
    out = tmp_path / "phonons"
    words = ["supercell=2,2,2", "mesh_length=15", "band_points=5", "temperature_step=100"]
    result = ran(capsys, "phonons", metals, "model=emt", f"out={out}", *words)
    copper, aluminium = result["structures"]
    assert copper["imaginary"] == aluminium["imaginary"] == 0
    assert copper["highest"] == pytest.approx(8.1, abs=0.4)
    assert copper["heat_capacity"] == pytest.approx(2.8, abs=0.1)
    assert copper["acoustic"] < 0.05
    again = phonopy.load(out / "000_Cu" / "phonopy.yaml", log_level=0)
    again.run_qpoints([[0.5, 0.5, 0.0]])
    assert again.get_qpoints_dict()["frequencies"].max() <= copper["highest"] + 1e-3
    lines = rows_of(out / "001_Al" / "bands.csv")
    assert len(lines) == 10 * 5
    assert float(lines[0]["band0"]) == pytest.approx(0, abs=1e-3)
    assert [line["point"] for line in lines[:6]] == ["Γ", "", "", "", "X", "X"]
    assert (out / "000_Cu" / "band.yaml").stat().st_size > 1000
    thermal = rows_of(out / "000_Cu" / "thermal.csv")
    assert float(thermal[0]["free_energy"]) == pytest.approx(copper["zero_point"], rel=1e-6)
    assert len(rows_of(out / "000_Cu" / "dos.csv")) > 50
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "Γ" in page


@pytest.mark.slow
def test_expansion_of_copper(tmp_path, capsys):
    pytest.importorskip("phonopy")
    write(tmp_path / "cu.extxyz", bulk("Cu"))
    words = ["supercell=3,3,3", "mesh_length=20", "temperature_step=50", "volumes=5", "max_temperature=600"]
    result = ran(capsys, "expansion", tmp_path / "cu.extxyz", "model=emt", f"out={tmp_path / 'out'}", *words)
    (row,) = result["structures"]
    assert row["outcome"] == "done"
    assert row["volume"] > row["static_volume"]
    assert 30 < row["expansion"] < 80
    lines = rows_of(tmp_path / "out" / "by_temperature.csv")
    assert len(lines) == 13
    assert float(lines[-1]["volume"]) > float(lines[0]["volume"])
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") == 4


@pytest.mark.slow
def test_vibrations_of_molecules(tmp_path, capsys):
    write(tmp_path / "in.extxyz", [molecule("N2"), molecule("H2O"), Atoms("O")])
    out = tmp_path / "out"
    result = ran(capsys, "vibrations", tmp_path / "in.extxyz", "model=emt", f"out={out}")
    nitrogen, water, oxygen = result["structures"]
    assert nitrogen["frequencies"] == pytest.approx([1231.3], abs=1.5)
    assert nitrogen["shortest"] == pytest.approx(0.9980318, abs=1e-4)  # spec/apps_emt_reference.json
    assert oxygen["shortest"] is None
    assert water["symmetry_number"] == 2
    assert len(water["frequencies"]) == 3
    assert water["zero_point"] == pytest.approx(sum(water["frequencies"]) / 2 * 1.239842e-4, rel=1e-5)
    assert oxygen["frequencies"] == []
    assert oxygen["gibbs"] < -0.3  # translation alone
    assert len(rows_of(out / "modes.csv")) == 4
    frames = read(out / "modes.extxyz", ":")
    assert len(frames) == 5
    assert np.linalg.norm(frames[1].arrays["mode"]) == pytest.approx(1, abs=1e-6)
    page = (out / "report.html").read_text()
    assert "1231" in page
    assert page.count("<svg") == page.count("modes per 1/cm") == 2  # the atom has no modes


@pytest.mark.slow
def test_infrared_spectrum_of_rigid_ions(tmp_path, capsys):
    write(tmp_path / "in.extxyz", Atoms("TiO2", [[0, 0, 0], [1.5, 0.7, 0], [-1.5, 0.7, 0.1]]))
    result = ran(capsys, "vibrations", tmp_path / "in.extxyz", "model=rigid_ion", f"out={tmp_path / 'out'}")
    (row,) = result["structures"]
    assert len(row["intensities"]) == len(row["frequencies"]) in (3, 4)
    assert max(row["intensities"]) > 100
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") == 1


@pytest.mark.slow
def test_surfaces_of_two_metals(tmp_path, metals, capsys):
    out = tmp_path / "out"
    result = ran(capsys, "surfaces", metals, "model=emt", f"out={out}", "thickness=9")
    rows = {(row["formula"], row["miller"]): row for row in result["surfaces"]}
    assert rows["Cu", "(1 1 1)"]["energy"] == pytest.approx(1.044, abs=0.02)
    assert rows["Al", "(1 0 0)"]["energy"] == pytest.approx(0.731, abs=0.02)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(2)
    assert 1.0 < result["mean_energy"][0] < 1.15
    assert len(read(out / "slabs.extxyz", ":")) == len(rows_of(out / "table.csv")) == 6
    assert (out / "report.html").read_text().count("<svg") == 2


@pytest.mark.slow
def test_defects_of_two_metals(tmp_path, metals, capsys):
    out = tmp_path / "out"
    result = ran(capsys, "defects", metals, "model=emt", f"out={out}", "length=9", "kinds=vacancy")
    copper, aluminium = result["defects"]
    assert (copper["defect"], aluminium["defect"]) == ("vacancy Cu", "vacancy Al")
    assert copper["formation"] == pytest.approx(1.224, abs=0.05)
    assert aluminium["formation"] == pytest.approx(0.952, abs=0.05)
    assert len(read(out / "defects.extxyz", ":")) == 2
    assert (out / "report.html").read_text().count("<svg") == 2


@pytest.mark.slow
def test_a_grain_boundary_of_aluminium(tmp_path, capsys):
    write(tmp_path / "al.extxyz", bulk("Al"))
    out = tmp_path / "out"
    words = ["axes=[[1,0,0]]", "planes=[[0,-2,1]]", "merge=0.6", "shifts=5,2"]
    result = ran(capsys, "boundaries", tmp_path / "al.extxyz", "model=emt", f"out={out}", *words)
    (row,) = result["boundaries"]
    assert row["energy"] == pytest.approx(0.1612, rel=5e-3)
    assert (row["atoms"], row["starts"], row["found"]) == (38, 10, 2)
    assert len(rows_of(out / "starts.csv")) == 10
    assert len(read(out / "boundaries.extxyz")) == 38
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 1
    assert "start, lowest first" in page


@pytest.mark.slow
def test_phases_of_copper_and_gold(tmp_path, capsys):
    pair = bulk("Cu", a=3.8, cubic=True)
    pair.numbers[:2] = 79  # L1_0
    third = bulk("Au", a=3.9, cubic=True)
    third.numbers[0] = 29  # L1_2, Au3Cu
    write(tmp_path / "in.extxyz", [bulk("Cu"), bulk("Au"), pair, third, bulk("Cu", "bcc", a=2.87)])
    out = tmp_path / "out"
    result = ran(capsys, "hull", tmp_path / "in.extxyz", "model=emt", f"out={out}")
    copper, gold, equal, _, bcc = result["phases"]
    assert copper["above_hull"] == gold["above_hull"] == copper["formation"] == 0
    assert equal["formation"] < 0
    assert bcc["above_hull"] > 0.01
    assert bcc["decays_into"].startswith("1 Cu (in.extxyz#0)")
    assert result["stable"] >= 3
    assert (out / "report.html").read_text().count("<svg") == 1
    write(tmp_path / "in.extxyz", [bulk("Cu"), pair])
    error = refused(capsys, "hull", tmp_path / "in.extxyz", "model=emt", f"out={out}", "relax=false")
    assert "no structure of pure Au" in error
    again = ran(capsys, "hull", tmp_path / "in.extxyz", "model=emt", f"out={out}", "references={Au: 0.0}")
    assert again["phases"][1]["above_hull"] is not None


def test_an_unstable_crystal_and_a_stressed_one_are_told(tmp_path, capsys):
    write(tmp_path / "bcc.extxyz", bulk("Al", "sc", a=2.9))
    reporter = SilentReporter()
    settings = elastic.ElasticTaskSettings(
        model="emt", structures=[tmp_path / "bcc.extxyz"], relax=False, out=tmp_path / "out"
    )
    row = elastic.run(settings, reporter).structures[0]
    assert not row.stable
    assert row.bulk_modulus is None
    assert any("not stable" in w for w in reporter.warnings)
    assert any("under a stress" in w for w in reporter.warnings)


@pytest.mark.slow
def test_a_committee_gives_the_spread_of_its_members(tmp_path, committee):
    write(tmp_path / "cu.extxyz", bulk("Cu", a=3.6))
    given = {"structures": [tmp_path / "cu.extxyz"], "relax": False, "out": tmp_path / "out"}
    whole = elastic.run(elastic.ElasticTaskSettings(model=committee, inner="none", **given), SilentReporter())
    from rutile import load

    tensors = []
    for k, member in enumerate(load(committee).potentials):
        Model([member], ModelInfo(elements=(29,))).save(tmp_path / f"{k}.rutile")
        settings = elastic.ElasticTaskSettings(model=tmp_path / f"{k}.rutile", inner="none", **given)
        tensors.append(elastic.run(settings, SilentReporter()).structures[0].tensor)
    row = whole.structures[0]
    np.testing.assert_allclose(row.tensor, np.mean(tensors, axis=0), atol=1e-6)
    np.testing.assert_allclose(row.tensor_std, np.std(tensors, axis=0), atol=1e-6)


@pytest.mark.slow
def test_members_that_disagree_about_stability_are_told_of(tmp_path):
    write(tmp_path / "cu.extxyz", bulk("Cu", a=3.6))
    settings = BehlerSettings(auto={"cutoff": 4.0}, hidden=(4,), activation="tanh", scaling="none")
    stable = 0
    for seed in range(8):
        members = [make(settings, (29,), seed) for _ in range(2)]
        for member, scale in zip(members, (0.3, -0.1), strict=True):
            member.set_energy_scale(scale)
        Model(members, ModelInfo(elements=(29,))).save(tmp_path / "opposed.rutile")
        reporter = SilentReporter()
        task = elastic.ElasticTaskSettings(
            model=tmp_path / "opposed.rutile", structures=[tmp_path / "cu.extxyz"], relax=False, inner="none",
            out=tmp_path / str(seed),
        )  # fmt: skip
        row = elastic.run(task, reporter).structures[0]
        assert row.stable_members in (0, 1)  # both signs of one tensor are never stable
        told = [w for w in reporter.warnings if "members of the committee disagree" in w]
        assert len(told) == row.stable_members
        stable += row.stable_members
    assert stable


@pytest.mark.slow
def test_poor_equations_of_state_are_told_of(tmp_path, capsys):
    write(tmp_path / "al.extxyz", bulk("Al"))
    words = ["eos", str(tmp_path / "al.extxyz"), "model=emt", f"out={tmp_path / 'out'}"]
    assert main([*words, "span=0.03"]) == 0
    assert "poor fit" not in capsys.readouterr().err
    assert main([*words, "span=0.3"]) == 0
    told = capsys.readouterr().err
    assert "poor fit" in told
    assert "make span smaller" in told
    write(tmp_path / "al.extxyz", bulk("Al", a=3.9))
    assert main([*words, "relax=false", "span=0.06", "inner=none"]) == 0
    told = capsys.readouterr()
    assert "lies outside" in told.err
    assert "relax=true" in told.err


def test_a_mirror_plane_is_no_boundary(tmp_path, metals, capsys):
    error = refused(capsys, "boundaries", metals, "model=emt", f"out={tmp_path / 'o'}", "planes=[[1,0,0]]")
    assert "Sigma 1" in error
    assert "(1 0 0)" in error


@pytest.mark.parametrize("what", ["axes", "planes"])
def test_no_direction_is_no_boundary(tmp_path, metals, capsys, what):
    error = refused(capsys, "boundaries", metals, "model=emt", f"out={tmp_path / 'o'}", f"{what}=[[0,0,0]]")
    assert f"{what}: (0, 0, 0) is none" in error


def test_bad_input_is_one_line(tmp_path, metals, capsys):
    write(tmp_path / "molecule.extxyz", Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]]))
    for task in ("eos", "elastic", "phonons", "expansion", "surfaces", "defects", "boundaries"):
        error = refused(capsys, task, tmp_path / "molecule.extxyz", "model=emt", f"out={tmp_path / 'no'}")
        assert "crystals" in error
        assert not (tmp_path / "no").exists()
    assert "span" in refused(capsys, "eos", metals, "model=emt", "span=0.9")
    assert eos.EosTaskSettings(model="emt", structures=[metals]).out.name == "eos"


@pytest.mark.parametrize("task", ["phonons", "expansion", "defects"])
def test_no_repeats_is_no_supercell(metals, tmp_path, capsys, task):
    error = refused(capsys, task, metals, "model=emt", "supercell=0,2,2", f"out={tmp_path / 'out'}")
    assert "supercell.0 = '0': expected integer >= 1" in error


def test_a_structure_that_is_no_crystal_is_called_by_the_name_of_its_file(tmp_path):
    crystal, slab = bulk("Cu"), bulk("Cu")
    slab.pbc = (True, True, False)
    write(tmp_path / "two.extxyz", [crystal, slab])
    given = eos.EosTaskSettings(structures=[tmp_path / "two.extxyz"], model="emt", out=tmp_path / "out")
    with pytest.raises(GeometryError, match=r"two.extxyz#1 is periodic along 2 of 3"):
        eos.run(given, SilentReporter())
