"""Tables of symmetry functions: shipped, custom, generated, imported; and their errors."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from rutile.core.errors import FileError, SettingsError
from rutile.potentials.parts.generate import AutomaticTable, automatic_table
from rutile.potentials.parts.symmetry import SymmetryFunction
from rutile.potentials.parts.tables import (
    compact,
    expand,
    parse_table,
    read_n2p2,
    read_table,
    shipped_tables,
    table_key,
)
from rutile.potentials.settings import BehlerSettings

GOOD = """
name = "small"
centers = ["O", "Ti"]
[[blocks]]
kind = "G2"
cutoff = 6.0
etas = [0.1, 0.2]
neighbors = [["O"], ["Ti"]]
[[blocks]]
kind = "G4"
cutoff = 5.0
etas = [0.01]
lambdas = [-1, 1]
zetas = [1, 4]
neighbors = [["Ti", "O"]]
centers = ["O"]
order = ["etas", "zetas", "lambdas", "shifts", "neighbors"]
"""


@pytest.mark.parametrize(
    ("name", "centers", "rows", "key"),
    [
        ("tio2_artrith_urban_2016", (8, 22), 70, "41cb151c287dc812"),
        ("cuauoh_artrith", (1, 8, 29, 79), 148, "e8b4fc54b40a226b"),
        ("cuauoh_artrith_bohr", (1, 8, 29, 79), 148, "1da2f71e363bf1d5"),
    ],
)
def test_shipped_tables(name, centers, rows, key):
    table = expand(read_table(name))
    assert name in shipped_tables()
    assert table.elements == centers
    assert {len(f) for f in table.functions.values()} == {rows}
    assert table.cutoff == 6.5
    assert table_key(table)[:16] == key


def test_loops_run_in_the_given_order():
    table = expand(parse_table(GOOD, "test"))
    assert [(f.eta, f.neighbors) for f in table.functions[22]] == [(0.1, (8,)), (0.1, (22,)), (0.2, (8,)), (0.2, (22,))]
    assert [(f.zeta, f.lambda_) for f in table.functions[8][4:]] == [(1, -1), (1, 1), (4, -1), (4, 1)]
    assert table.functions[8][4].neighbors == (8, 22)
    assert table.cutoff == 6.0
    assert table.width == 8


def test_lengths_in_bohr():
    table = expand(
        parse_table(GOOD.replace('centers = ["O", "Ti"]', 'centers = ["O", "Ti"]\nlength_unit = "Bohr"', 1), "t")
    )
    assert table.cutoff == pytest.approx(6.0 * 0.529177210903)
    assert table.functions[22][0].eta == pytest.approx(0.1 / 0.529177210903**2)


def test_rows_survive_compaction():
    table = expand(parse_table(GOOD, "test"))
    again = expand(compact(table))
    assert again == table
    assert table_key(again) == table_key(table)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cutoff = 6.0", "cutoff = -6.0", r"blocks\.0\.cutoff: .*greater than 0.*-6\.0"),
        ("cutoff = 6.0", 'cutoff = "six"', r"blocks\.0\.cutoff: .*number.*six"),
        ("cutoff = 6.0", "cutoff = nan", r"blocks\.0\.cutoff: .*finite"),
        ("cutoff = 6.0\n", "", r"blocks\.0\.cutoff: Field required"),
        ('["Ti"]]', '["Tj"]]', r"blocks\.0\.neighbors\.1\.0: unknown element 'Tj'"),
        ('["Ti", "O"]]', '["Ti"]]', r"blocks\.1: G4 needs 2 neighbour"),
        ("zetas = [1, 4]\n", "", r"blocks\.1: G4 needs lambdas and zetas"),
        ("zetas = [1, 4]", "zetas = [0.5]", r"blocks\.1\.zetas\.0: .*greater than or equal to 1"),
        ("lambdas = [-1, 1]", "lambdas = [2]", r"blocks\.1\.lambdas\.0: .*-1 or 1"),
        ("etas = [0.1, 0.2]", "etas = []", r"blocks\.0\.etas: "),
        ("etas = [0.1, 0.2]", "eta = [0.1]", r"blocks\.0\.eta"),
        ("etas = [0.1, 0.2]", "etas = [0.1, 0.2]\nzetas = [1]", r"blocks\.0: G2 has no lambdas"),
        ('"G2"', '"G3"', r"blocks\.0\.kind: .*'G2', 'G4' or 'G5'.*G3"),
        ('centers = ["O"]\n', 'centers = ["Cu"]\n', r"block 1: centers \['Cu'\]"),
        ('"etas", "zetas", "lambdas"', '"etas", "etas", "lambdas"', r"blocks\.1: order must name each"),
        ('name = "small"', "name = small", r"not a TOML file"),
    ],
)
def test_errors_say_place_and_value(old, new, message):
    assert old in GOOD
    with pytest.raises(SettingsError, match=r"^my\.toml: .*" + message):
        parse_table(GOOD.replace(old, new), "my.toml")


def test_missing_table_lists_the_shipped_ones(tmp_path):
    with pytest.raises(SettingsError, match=r"'tio3': no such file and no shipped table .*tio2_artrith_urban_2016"):
        read_table("tio3")
    binary = tmp_path / "x.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="cannot be read as text"):
        read_table(str(binary))


N2P2 = """
cutoff_type 2 0.0
symfunction_short H  2     H  0.001   0.0   12.00  # radial
symfunction_short H 3 O H 0.2 -1.0 4.0 12.0
symfunction_short O 9 H H 0.07 1.0 1.0 10.0 0.5
number_of_elements 2
"""


def test_n2p2_lines(tmp_path):
    path = tmp_path / "input.nn"
    path.write_text(N2P2)
    table = read_n2p2(path, "Angstrom")
    assert table.cutoff_function == "tanh3_unit"
    assert table.functions == {
        1: (SymmetryFunction("G2", (1,), 0.001, 0.0, 12.0), SymmetryFunction("G4", (1, 8), 0.2, 0.0, 12.0, -1.0, 4.0)),
        8: (SymmetryFunction("G5", (1, 1), 0.07, 0.5, 10.0, 1.0, 1.0),),
    }
    assert expand(BehlerSettings(table=str(path)).resolve_table((1, 8))).cutoff == pytest.approx(12 * 0.529177210903)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" 3 O", " 12 O"),
        ("12.00", "far"),
        ("12.00", "-12.00"),
        ("12.00", "nan"),
        ("0.2 -1.0", "0.2 -0.5"),
        ("-1.0 4.0", "-1.0 0.5"),
        ("O 9 H", "Q 9 H"),
        ("cutoff_type 2 0.0", "cutoff_type 2 0.5"),
    ],
)
def test_n2p2_errors_say_the_line(tmp_path, old, new):
    path = tmp_path / "input.nn"
    path.write_text(N2P2.replace(old, new))
    with pytest.raises(SettingsError, match=r"input\.nn, line \d: cannot use"):
        read_n2p2(path)


@pytest.mark.parametrize(
    "wrong", [{"cutoff": -1}, {"zetas": [0.5]}, {"angular_etas": []}, {"n_radial": 0}, {"rmin": 1}]
)
def test_automatic_tables_refuse_wrong_parameters(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AutomaticTable.model_validate(wrong)


@pytest.mark.parametrize("elements", [(29,), (8, 22), (1, 8, 29, 79), (1, 6, 7, 8, 16)])
@pytest.mark.parametrize("angular", ["G4", "G5"])
def test_automatic_tables_cover_every_element_and_pair(elements, angular):
    settings = AutomaticTable(angular=angular)
    table = expand(automatic_table(elements, settings))
    assert table.elements == elements
    assert table.cutoff == settings.cutoff
    for functions in table.functions.values():
        assert len(set(functions)) == len(functions)
        radial = [f for f in functions if f.kind == "G2"]
        pairs = {f.neighbors for f in functions if f.kind == angular}
        m = len(elements)
        assert {f.neighbors for f in radial} == {(z,) for z in elements}
        assert pairs == {(a, b) for a in elements for b in elements if a <= b}
        assert len(functions) == len(radial) + len(settings.angular_etas) * 2 * len(settings.zetas) * m * (m + 1) // 2
        assert all(settings.r_min <= f.r_s < settings.cutoff for f in radial if f.r_s)


@pytest.mark.slow
def test_settings_do_not_import_torch():
    code = "import sys; from rutile.potentials import settings, catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
