"""Real engines on the smallest systems, with the self-check; `make test-slow` runs them where they are installed.

Install (docs/label.md): apt install quantum-espresso quantum-espresso-data cp2k abinit abinit-data; GPAW in an
environment of its own, whose Python is named in RUTILE_GPAW_PYTHON; tblite and pyscf in this environment, or in that
whose Python is named in RUTILE_MOLECULES_PYTHON.
"""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read

from rutile.core.config import load
from rutile.core.errors import LabelError
from rutile.core.reporting import SilentReporter
from rutile.label.campaign import for_atoms, references
from rutile.label.catalogue import make
from rutile.label.labeler import Label
from rutile.structures.io import write_frames
from rutile.tasks import label

GPAW = os.environ.get("RUTILE_GPAW_PYTHON", sys.executable)
MOLECULES = os.environ.get("RUTILE_MOLECULES_PYTHON", sys.executable)


def needs(package, python, install):
    """Skip where a Python has no such package."""
    try:
        found = subprocess.run([python, "-c", f"import {package}"], check=False, capture_output=True).returncode == 0
    except OSError:
        found = False
    return pytest.mark.skipif(not found, reason=f"{python} has no {package}: {install}")


def program(name, install):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name}: {install}")


@pytest.fixture
def run(tmp_path):
    def do(structures, *words):
        write_frames(tmp_path / "in.extxyz", structures)
        pairs = [
            f"structures={tmp_path / 'in.extxyz'}",
            f"out={tmp_path / 'out.extxyz'}",
            f"cache={tmp_path / 'cache'}",
        ]
        result = label.run(load(label.LabelSettings, pairs=[*pairs, *words]), SilentReporter())
        return result, read(result.out, ":")

    return do


def silicon():
    atoms = bulk("Si")
    atoms.rattle(0.03, seed=0)
    return atoms


CRYSTALS = [
    pytest.param("gpaw", f"engine.python={GPAW}",
                 marks=needs("gpaw", GPAW, "see docs/label.md, then RUTILE_GPAW_PYTHON=gpaw/bin/python")),
    pytest.param("espresso", "engine.spin=false",
                 marks=program("pw.x", "apt install quantum-espresso quantum-espresso-data")),
    pytest.param("cp2k", "engine.cutoff=3000", marks=program("cp2k", "apt install cp2k")),
    pytest.param("abinit", "engine.functional=LDA", marks=program("abinit", "apt install abinit abinit-data")),
]  # fmt: skip


@pytest.mark.dft
@pytest.mark.parametrize(("engine", "word"), CRYSTALS)
def test_silicon_passes_the_self_check(run, engine, word):
    words = [f"engine={engine}", word, "engine.protocol=fast", "engine.k_density=5", "isolated_atoms=false"]
    result, (frame,) = run([silicon()], *words)
    assert (result.labelled, result.with_stress) == (1, 1)
    assert np.allclose(frame.arrays["REF_forces"].sum(axis=0), 0.0, atol=1e-3)
    assert 0.1 < np.abs(frame.arrays["REF_forces"]).max() < 3.0
    assert np.abs(frame.info["REF_stress"]).max() < 0.1
    assert frame.info["kpoints"].tolist() == [2, 2, 2]
    assert frame.info["calc_mode"] == result.calc_mode
    again, _ = run([silicon()], *words)
    assert again.computed == 0


@pytest.mark.dft
@needs("tblite", MOLECULES, "pip install 'rutile[xtb]', or RUTILE_MOLECULES_PYTHON=...")
def test_xtb_labels_molecules_and_refuses_crystals(run):
    result, frames = run([molecule("H2O"), molecule("CH3OH"), silicon()], "engine=xtb", f"engine.python={MOLECULES}")
    assert (result.labelled, result.failed, result.isolated_atoms) == (2, 1, 4)
    assert result.failures[0].kind == "unsuitable"
    assert frames[0].info["REF_energy"] == pytest.approx(-137.97, abs=0.02)
    atoms = {f.get_chemical_formula(): f.info["REF_energy"] for f in frames[2:]}
    assert -16.0 < frames[0].info["REF_energy"] - 2 * atoms["H"] - atoms["O"] < -8.0  # atomisation


@pytest.mark.dft
@needs("pyscf", MOLECULES, "pip install 'rutile[pyscf]', or RUTILE_MOLECULES_PYTHON=...")
def test_pyscf_water(run):
    words = ["engine=pyscf", "engine.protocol=fast", f"engine.python={MOLECULES}"]
    _, frames = run([molecule("H2O")], *words)
    atoms = {f.get_chemical_formula(): f.info["REF_energy"] for f in frames[1:]}
    assert -11.0 < frames[0].info["REF_energy"] - 2 * atoms["H"] - atoms["O"] < -8.0  # PBE: 10.2 eV with large bases


@pytest.mark.dft
@program("pw.x", "apt install quantum-espresso quantum-espresso-data")
def test_espresso_failures_are_classified(run):
    words = [
        "engine=espresso",
        "engine.protocol=fast",
        "engine.k_density=5",
        "isolated_atoms=false",
        "self_check=false",
    ]
    with pytest.raises(LabelError, match="none of 1 structures has a label: longer than time_limit"):
        run([silicon()], *words, "engine.time_limit=0.2")
    with pytest.raises(LabelError, match="no pseudopotential of Tc"):
        run([bulk("Tc")], *words)


@pytest.mark.dft
def test_rigid_ions_as_labels(run):
    from ase.spacegroup import crystal

    made = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    result, frames = run([made, bulk("Cu")], "engine=rigid_ion")
    assert (result.labelled, result.failed, result.with_stress) == (1, 1, 1)
    assert frames[0].info["REF_energy"] / 2 == pytest.approx(-39.75, abs=0.1)


@pytest.mark.dft
@program("abinit", "apt install abinit abinit-data")
@pytest.mark.parametrize("element", ["Cu", "Ti"])
def test_abinit_isolated_atoms_gain_energy_by_their_spin(element):
    words = ["structures=none", "engine=abinit", "engine.functional=LDA", "engine.protocol=fast", "engine.vacuum=4"]
    plain = load(label.LabelSettings, pairs=words).engine
    (atom,) = references([Atoms(element)], plain)
    found = [make(how).label(atom) for how in (for_atoms(plain), plain)]
    assert all(isinstance(one, Label) for one in found)
    assert found[0].energy < found[1].energy - 0.05
    assert np.abs(found[0].forces).max() < 1e-3
