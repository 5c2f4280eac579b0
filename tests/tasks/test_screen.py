"""`rutile screen`: a chain of tasks on many structures."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from rutile.build.catalogue import recipe
from rutile.core.config import load
from rutile.core.errors import DataError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.forces import MECHANICS
from rutile.tasks.screen import TASK, ScreenSettings, _chunks, column_units
from rutile.tasks.screen_chain import check_chain
from rutile.tasks.screen_items import built, varied

PLAN = Path(__file__).parents[2] / "examples/co_dissociation.yaml"

CHAIN = [{"task": "relax", "cell": "full", "fmax": 0.02}, {"task": "eos", "points": 5}]


@pytest.fixture
def metals(tmp_path):
    """Rattled metals that EMT knows, and titanium, which it does not."""
    rng = np.random.default_rng(0)
    images = [bulk("Cu", cubic=True), bulk("Ti"), bulk("Al", cubic=True), bulk("Au", cubic=True)]
    for atoms in images:
        atoms.rattle(0.05, rng=rng)
    write(tmp_path / "metals.extxyz", images)
    return tmp_path / "metals.extxyz"


def settings(metals, **more):
    given = {"structures": [metals], "model": "emt", "chain": CHAIN, "chunk": 3, "out": metals.parent / "out"} | more
    return ScreenSettings(**given)


@pytest.mark.slow
def test_a_chain_gives_one_table_and_one_bad_structure_does_not_spoil_it(metals):
    reporter = SilentReporter()
    result = TASK.run(settings(metals), reporter)
    assert (result.structures, result.done, result.known) == (4, 3, 0)
    with result.table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["formula"] for row in rows] == ["Cu4", "Ti2", "Al4", "Au4"]
    assert "Ti" in rows[1]["outcome"]
    assert rows[1]["outcome"].startswith("relax: ")
    assert len(reporter.warnings) == 1
    assert float(rows[0]["eos.bulk_modulus"]) == pytest.approx(134.4, rel=0.02)  # of EMT, and not of the rattled start
    assert float(rows[2]["eos.bulk_modulus"]) == pytest.approx(39.3, rel=0.02)
    finals = read(result.final, ":")
    assert finals[0].cell.lengths() == pytest.approx([3.59] * 3, abs=0.01)  # relax has passed them on
    assert finals[2].info["relax_spacegroup"] == "Fm-3m"
    page = result.report.read_text()
    units = json.loads((result.table.parent / "result.json").read_text())["units"]["table.csv"]
    assert units["eos.bulk_modulus"] == "GPa"
    assert units["relax.volume"] == "Å³/atom"
    assert set(units) <= set(rows[0])
    assert "eos.bulk_modulus (GPa)" in page
    assert page.count("<svg") == 4
    assert 'class="sortable"' in page
    assert "addEventListener" in page


def test_columns_have_the_units_of_their_tasks():
    columns = ["structure", "eos.volume", "relax2.fmax", "surfaces[(1 1 1) 0].energy", "phonons.imaginary", "no.energy"]
    assert column_units(columns) == {
        "eos.volume": "Å³/atom", "relax2.fmax": "eV/Å", "surfaces[(1 1 1) 0].energy": "J/m²",
    }  # fmt: skip


@pytest.mark.slow
def test_what_is_done_is_not_done_again(metals):
    first = TASK.run(settings(metals), SilentReporter())
    before = first.table.read_text()
    parts = sorted((metals.parent / "out/parts").glob("*/rows.json"))
    assert len(parts) == 2
    marked = json.loads(parts[0].read_text())
    times = {path: path.stat().st_mtime_ns for path in parts}
    parts[1].unlink()  # as after a kill
    again = TASK.run(settings(metals), SilentReporter())
    assert again.known == len(marked)
    assert again.table.read_text() == before
    assert parts[0].stat().st_mtime_ns == times[parts[0]]
    other = TASK.run(settings(metals, chain=CHAIN[:1]), SilentReporter())
    assert other.known == 0


@pytest.mark.slow
def test_processes_give_the_same_table(metals):
    here = TASK.run(settings(metals, chunk=1), SilentReporter())
    there = TASK.run(
        settings(metals, chunk=1, workers=2, executor={"name": "local"}, out=metals.parent / "there"), SilentReporter()
    )
    assert here.table.read_text() == there.table.read_text()


@pytest.mark.slow
def test_parquet(metals):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'rutile[parquet]'")
    TASK.run(settings(metals, chain=CHAIN[:1], parquet=True), SilentReporter())
    table = parquet.read_table(metals.parent / "out/table.parquet").to_pylist()
    assert [row["formula"] for row in table] == ["Cu4", "Ti2", "Al4", "Au4"]
    assert table[0]["relax.energy"] == pytest.approx(-0.007, abs=1e-3)


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ({"task": "train"}, r"chain\[2\].task = 'train': no task of a chain; tasks of a chain are relax"),
        ({"task": "relx"}, r"chain\[2\].task = 'relx': .*did you mean relax"),
        ({}, r"chain\[2\].task: missing"),
        ({"task": "relax", "fmax": -1}, r"chain\[2\].fmax = -1: expected number > 0"),
        ({"task": "relax", "cel": "full"}, r"chain\[2\].cel: unknown setting; did you mean cell"),
        ({"task": "eos", "model": "other"}, r"chain\[2\].model: it is set for all tasks together"),
        ({"task": "eos", "out": "here"}, r"chain\[2\].out: rutile screen fills that in"),
        ({"task": "barrier"}, r"chain\[2\].task = 'barrier': paths have two ends"),
        ({"task": "analyse"}, r"chain\[2\].task = 'analyse': it needs .* md"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_before_anything_is_done(metals, link, says):
    with pytest.raises(SettingsError, match=says):
        TASK.run(settings(metals, chain=[*CHAIN, link]), SilentReporter())
    assert not (metals.parent / "out").exists()


@pytest.mark.slow
def test_what_cannot_be_worked_on_stops_the_screen_if_asked(metals):
    with pytest.raises(DataError, match=r"metals.extxyz#1: relax: .*Ti.*on_bad=skip"):
        TASK.run(settings(metals, on_bad="error"), SilentReporter())
    with pytest.raises(DataError, match=r"metals.extxyz#1"):  # also where it was done before
        TASK.run(settings(metals, on_bad="error"), SilentReporter())
    assert TASK.run(settings(metals), SilentReporter()).done == 3


@pytest.mark.slow
def test_trajectories_belong_to_their_structures_also_where_a_run_or_a_structure_fails(tmp_path):
    near = bulk("Ni", cubic=True)
    near.positions[1] = near.positions[0] + [0.95, 0.0, 0.0]  # flies apart at once
    images = {"Al": bulk("Al", cubic=True), "Ni": near, "Cu": bulk("Cu", cubic=True)}
    chain = [{"task": "md", "time": 0.05, "every": 2, "log_every": 1}, {"task": "analyse"}]
    for name, given in (("run", [*images.values()]), ("structure", [*images.values(), bulk("Ti")])):
        write(tmp_path / "metals.extxyz", given)
        result = TASK.run(settings(tmp_path / "metals.extxyz", chain=chain, chunk=4, out=tmp_path / name),
                          SilentReporter())  # fmt: skip
        with result.table.open() as file:
            rows = {row["formula"]: row for row in csv.DictReader(file)}
        assert [rows[f"{m}4"]["analyse.element"] for m in images] == ["Al", "", "Cu"]
        assert [rows[f"{m}4"]["outcome"].split(":")[0] for m in images] == ["done", "md", "done"]
    assert "Ti" in rows["Ti2"]["outcome"]


@pytest.mark.slow
def test_tasks_with_several_rows_and_trajectories(tmp_path):
    write(tmp_path / "metals.extxyz", [bulk("Cu"), bulk("Al")])
    chain = [
        {"task": "surfaces", "miller": [[1, 1, 1], [1, 0, 0]], "thickness": 6, "inner": "none"},
        {"task": "defects", "supercell": [2, 2, 2]},
        {"task": "md", "time": 0.02, "every": 2},
        {"task": "analyse"},
    ]
    result = TASK.run(settings(tmp_path / "metals.extxyz", chain=chain), SilentReporter())
    assert result.done == 2
    with result.table.open() as file:
        copper, aluminium = csv.DictReader(file)
    assert float(copper["surfaces[(1 1 1) 0].energy"]) < float(copper["surfaces[(1 0 0) 0].energy"])
    assert float(copper["surfaces[(1 1 1) 0].energy"]) > float(aluminium["surfaces[(1 1 1) 0].energy"])
    assert copper["defects.defect"] == "vacancy Cu"
    assert float(copper["md.time"]) == pytest.approx(0.02)
    assert (copper["analyse.element"], aluminium["analyse.element"]) == ("Cu", "Al")


@pytest.mark.slow
def test_what_was_built_of_a_file_is_built_anew_when_the_file_is_another(tmp_path):
    given = {
        "model": "emt", "out": tmp_path / "out", "structures": [], "chain": [{"task": "eos", "points": 5}],
        "build": {"name": "slab", "miller": [[1, 1, 1]], "thickness": [4, 8], "count": 1,
                  "crystals": {"files": [str(tmp_path / "crystal.cif")]}},
    }  # fmt: skip
    made = []
    for metal in ("Cu", "Pd", "Cu"):
        write(tmp_path / "crystal.cif", bulk(metal, cubic=True))
        (item,) = built(ScreenSettings(**given), tmp_path / "built", SilentReporter())
        made.append((item.source, set(item.images[0].get_chemical_symbols())))
    assert [elements for _, elements in made] == [{"Cu"}, {"Pd"}, {"Cu"}]
    assert made[0] == made[2]


@pytest.mark.slow
def test_adsorption_on_slabs_of_several_metals(tmp_path):
    given = {
        "model": "emt", "out": tmp_path / "out", "structures": [], "vary": {"crystals.elements": [["Cu"], ["Pd"]]},
        "build": {"name": "slab", "miller": [[1, 1, 1]], "thickness": [4, 8], "count": 1,
                  "crystals": {"elements": ["Cu"], "prototypes": ["fcc"]}},
        "chain": [{"task": "adsorb", "adsorbates": ["O"], "fmax": 0.05}],
    }  # fmt: skip
    with TASK.run(ScreenSettings(**given), SilentReporter()).table.open() as file:
        copper, palladium = csv.DictReader(file)
    assert float(copper["adsorb.energy"]) == pytest.approx(-4.62, abs=0.02)
    assert copper["adsorb.site"].startswith("hollow Cu3")
    assert palladium["adsorb.site"].startswith("hollow Pd3")


@pytest.mark.slow
def test_a_reaction_over_promoters(tmp_path):
    given = {
        "model": "emt", "out": tmp_path / "out", "structures": [], "chunk": 2,
        "build": {"name": "dissociation", "width": 5, "miller": [[1, 1, 1]],
                  "crystals": {"elements": ["Cu"], "prototypes": ["fcc"], "volume": 11.565}},
        "vary": {"promoter": [None, "Pd", "Au"]},
        "chain": [{"task": "relax", "fixed_below": 9.0, "fmax": 0.1},
                  {"task": "barrier", "fixed_below": 9.0, "images": 3, "fmax": 0.15, "check": False}],
    }  # fmt: skip
    result = TASK.run(ScreenSettings(**given), SilentReporter())
    assert (result.structures, result.done) == (3, 3)
    with result.table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["build.promoter"] for row in rows] == ["", "Pd", "Au"]
    assert len({row["barrier.reaction_energy"] for row in rows}) == 3
    for row in rows:
        assert float(row["barrier.reverse_barrier"]) - float(row["barrier.barrier"]) == pytest.approx(
            -float(row["barrier.reaction_energy"]), abs=1e-6
        )
        assert float(row["relax.end_energy"]) < float(row["relax.energy"])
    again = TASK.run(ScreenSettings(**given), SilentReporter())
    assert again.known == 3


@pytest.mark.slow
def test_what_a_builder_made_is_known_where_other_files_come_and_go(tmp_path, monkeypatch):
    """Words of its settings are no names of folders: neither nothing, nor that of the builder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slab").mkdir()
    given = {
        "model": "emt", "out": "out", "structures": [], "chain": [{"task": "eos", "points": 5}],
        "build": {"name": "bulk", "crystals": {"elements": ["Cu"], "prototypes": ["fcc"]}, "atoms": 4, "count": 1},
        "vary": {"label": ["", "slab"]},
    }  # fmt: skip
    first = TASK.run(ScreenSettings(**given), SilentReporter())
    assert (first.done, first.known) == (2, 0)
    for name in ("a.extxyz", "slab/b.extxyz"):
        write(tmp_path / name, bulk("Al"))
    again = TASK.run(ScreenSettings(**given), SilentReporter())
    assert (again.done, again.known) == (2, 2)
    assert len(list((tmp_path / "out/built").glob("*.extxyz"))) == 2


def test_ends_go_with_their_beginnings(tmp_path):
    atoms = bulk("Cu", cubic=True)
    write(tmp_path / "a.extxyz", [atoms, atoms])
    write(tmp_path / "b.extxyz", [atoms])
    given = {"model": "emt", "out": tmp_path / "out", "structures": [tmp_path / "a.extxyz"],
             "ends": [tmp_path / "b.extxyz"], "chain": [{"task": "barrier"}]}  # fmt: skip
    with pytest.raises(SettingsError, match="1 of them for 2 structures"):
        TASK.run(ScreenSettings(**given), SilentReporter())
    with pytest.raises(SettingsError, match="with ends, a chain is of relax and barrier"):
        TASK.run(ScreenSettings(**(given | {"chain": [{"task": "eos"}]})), SilentReporter())


def test_ranges_and_combinations():
    given = ScreenSettings(
        model="emt", build={"name": "bulk", "crystals": {"elements": ["Cu"], "prototypes": ["fcc"]}},
        vary={"crystals.volume": {"start": 11, "stop": 12, "points": 3}, "crystals.elements": [["Cu"], ["Ni"]]},
        chain=[{"task": "eos"}],
    )  # fmt: skip
    made = varied(given)
    assert [facts["build.crystals.volume"] for _, facts in made] == [11, 11, 11.5, 11.5, 12, 12]
    assert made[1][0].builder.crystals.elements == ("Ni",)
    assert made[1][1]["build.crystals.elements"] == '["Ni"]'


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"vary": {"milller": [1]}}, r"vary.milller: unknown setting; did you mean miller"),
        ({"vary": {"crystals.elements": [["Xx"]]}}, r"vary.crystals.elements.*'Xx'"),
        ({"structures": [Path("some.cif")]}, "not both"),
        ({"build": None}, "give files of structures, or a builder"),
        ({"ends": [Path("b.cif")]}, "ends: they belong to structures of files"),
    ],
)
def test_what_cannot_be_built_is_refused(more, says):
    slab = {"name": "slab", "crystals": {"elements": ["Cu"], "prototypes": ["fcc"]}}
    given = {"model": "emt", "structures": [], "build": slab, "chain": [{"task": "relax"}]} | more
    with pytest.raises(SettingsError, match=says):
        TASK.run(ScreenSettings(**given), SilentReporter())


def test_the_plan_for_cobalt_with_promoters_can_be():
    settings = load(ScreenSettings, [PLAN], ["model=run"])
    shared = {"model": "run"}
    check_chain(settings.chain, shared, pairs=True)
    made = varied(settings)
    assert [facts["build.promoter"] for _, facts in made][:2] == [None, "V"]
    drawn = recipe(made[1][0].builder, 0, MECHANICS)
    assert len(drawn.parents) == 1


@pytest.mark.slow
def test_exchanges_of_atoms_in_each_alloy_of_a_screen(tmp_path):
    alloys = [bulk(metal, cubic=True) for metal in ("Cu", "Pd")]
    for atoms in alloys:
        atoms.numbers[0] = 79
    write(tmp_path / "alloys.extxyz", alloys)
    chain = [{"task": "swap", "relax": "never", "steps": 5, "temperatures": [300, 900]}]
    result = TASK.run(settings(tmp_path / "alloys.extxyz", chain=chain), SilentReporter())
    assert result.done == 2
    with result.table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["swap[900.0].order"][:2] for row in rows] == ["Cu", "Pd"]
    assert all(0 <= float(row["swap[300.0].acceptance"]) <= 1 for row in rows)


def test_a_structure_that_cannot_be_read_has_a_row(tmp_path):
    good = bulk("Cu", cubic=True)
    bad = good.copy()
    bad.positions[1] = bad.positions[0]
    write(tmp_path / "two.extxyz", [bad, good])
    given = {"structures": [tmp_path / "two.extxyz"], "chain": [{"task": "relax"}], "model": "emt"}
    result = TASK.run(ScreenSettings(**given, out=tmp_path / "out"), SilentReporter())
    assert (result.structures, result.done) == (2, 1)
    with result.table.open() as file:
        rows = {row["structure"]: row["outcome"] for row in csv.DictReader(file)}
    assert rows["two.extxyz#0"].startswith("reading: ")
    assert "0 Angstrom apart" in rows["two.extxyz#0"]
    with pytest.raises(DataError, match="0 Angstrom apart"):
        TASK.run(ScreenSettings(**given, on_bad="error", out=tmp_path / "other"), SilentReporter())


def test_a_file_that_a_link_names_is_part_of_what_was_done(tmp_path):
    write(tmp_path / "cu.extxyz", bulk("Cu", cubic=True))
    (tmp_path / "guest.xyz").write_text("1\n\nAr 0 0 0\n")
    links = [{"task": "binding", "guests": [str(tmp_path / "guest.xyz")]}]
    given = ScreenSettings(structures=[tmp_path / "cu.extxyz"], chain=links, model="emt", out=tmp_path / "out")
    (before,), _ = _chunks(given, SilentReporter())
    (tmp_path / "guest.xyz").write_text("1\n\nAr 0 0 1\n")
    (after,), _ = _chunks(given, SilentReporter())
    assert before.folder != after.folder
