"""Commands in docs/ that need no trained model find their structures once `examples/structures.py` has run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import read

ROOT = Path(__file__).parent.parent
PAGES = ("properties", "adsorption", "paths", "md")
SHIPPED = ("emt", "lennard_jones", "rigid_ion", "bond_valence")
COMMAND = re.compile(r"(?:^    |^|`)rutile (?!build|generate)([^`\n]*)", re.MULTILINE)


def commands():
    """Words of the commands with a potential that ships."""
    for page in PAGES:
        text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8").replace("\\\n", " ")
        for found in COMMAND.finditer(text):
            if any(f"model={name}" in found[1] for name in SHIPPED):
                yield page, found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("structures")
    subprocess.run([sys.executable, str(ROOT / "examples/structures.py")], cwd=place, check=True, capture_output=True)
    return place


def test_they_are_there(folder):
    named = {(page, name) for page, text in commands() for name in re.findall(r"\S+\.(?:cif|extxyz)\b", text)}
    assert len(named) > 8
    missing = [each for each in sorted(named) if not ((folder / each[1]).exists() or (ROOT / each[1]).exists())]
    assert not missing


def test_they_are_what_they_say(folder):
    assert len(read(folder / "sodalite.cif")) == 36
    assert len(read(folder / "cu.cif")) == 4
    assert read(folder / "tio2.cif").get_chemical_formula() == "O4Ti2"
    assert [a.get_chemical_formula() for a in read(folder / "phases.extxyz", ":")] == ["Cu", "Au", "Au2Cu2", "AuCu3"]
    start, end = read(folder / "start.extxyz"), read(folder / "end.extxyz")
    assert abs(end.positions - start.positions).max() == pytest.approx(start.cell[0, 0] / 2)
