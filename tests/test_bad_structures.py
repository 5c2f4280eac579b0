"""Structures that no simulation can use, and a full disk: one clear line from every task."""

import errno
import json
import os

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from rutile.cli.main import main

TASKS = {
    "relax": ["cell=full"],
    "md": ["time=0.01"],
    "barrier": [],
    "eos": ["points=5"],
    "elastic": [],
    "phonons": ["supercell=2,2,2"],
    "conductivity": ["supercell=3,3,3", "mesh=5,5,5"],
    "melt": ["lowest=500", "highest=1000"],
    "expansion": ["supercell=2,2,2", "volumes=5"],
    "surfaces": ["thickness=5", "miller=[[1,1,1]]"],
    "defects": ["length=5"],
    "boundaries": ["shifts=2,2", "thickness=4"],
    "hull": ["references={Cu: 0}"],
    "vibrations": [],
    "adsorb": ["adsorbates=O"],
    "hop": ["species=Cu", "supercell=2,2,2", "images=1", "max_steps=2", "check=false"],
    "saddles": ["tries=1", "max_steps=2"],
    "faults": ["thickness=5", "inner=none"],
    "screen": ["chain=[{task: eos, points: 5}]"],
}


def ran(task, structures, folder, capsys):
    """Exit code and what was said."""
    given = [str(structures)] * (2 if task == "barrier" else 1)
    code = main([task, *given, "model=emt", f"out={folder / 'out.extxyz'}", *TASKS[task]])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return code, error


@pytest.mark.parametrize("task", TASKS)
def test_two_atoms_at_one_place(task, tmp_path, capsys):
    atoms = bulk("Cu", cubic=True)
    atoms.positions[2] = atoms.positions[1]
    ase.io.write(tmp_path / "x.extxyz", atoms)
    code, error = ran(task, tmp_path / "x.extxyz", tmp_path, capsys)
    assert code == 2
    assert "x.extxyz: frame 0: atoms 1 and 2 (Cu and Cu) are 0 Angstrom apart" in error


@pytest.mark.parametrize("task", TASKS)
def test_an_element_that_the_potential_does_not_know(task, tmp_path, capsys):
    ase.io.write(tmp_path / "x.extxyz", bulk("Si"))
    code, error = ran(task, tmp_path / "x.extxyz", tmp_path, capsys)
    assert code == (0 if task == "screen" else 2)  # a screen tells of it, and goes on with the others
    assert "x.extxyz#0" in error
    assert "Si" in error


@pytest.mark.slow
@pytest.mark.parametrize("task", ["eos", "elastic", "phonons", "conductivity", "expansion", "defects", "hull"])
def test_a_left_handed_cell_has_the_properties_of_its_lattice(task, tmp_path, capsys):
    right = bulk("Cu")
    left = right.copy()
    left.set_cell(right.cell[[1, 0, 2]])
    assert np.linalg.det(left.cell) < 0
    ase.io.write(tmp_path / "x.extxyz", [right, left])
    code, error = ran(task, tmp_path / "x.extxyz", tmp_path, capsys)
    assert code == 0
    assert "x.extxyz#1: its cell vectors are left-handed (volume -11.76" in error
    told = json.loads((tmp_path / "out.extxyz" / "result.json").read_text())
    first, second = next(rows for rows in told.values() if isinstance(rows, list))
    for name, value in first.items():
        if isinstance(value, float):
            assert second[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_a_supercell_of_one_atom(tmp_path, capsys):
    ase.io.write(tmp_path / "x.extxyz", bulk("Cu"))
    assert main(["phonons", str(tmp_path / "x.extxyz"), "model=emt", "supercell=1,1,1", f"out={tmp_path / 'o'}"]) == 2
    assert "a supercell of one atom does not vibrate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "task", ["eos", "phonons", "surfaces", "hull", "vibrations", "screen", "hop", "saddles", "faults"]
)
def test_a_full_disk(task, tmp_path, capsys, monkeypatch):
    ase.io.write(tmp_path / "x.extxyz", bulk("Cu"))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, error = ran(task, tmp_path / "x.extxyz", tmp_path, capsys)
    assert code == 2
    assert "No space left on device" in error.splitlines()[-1]
    assert "make room" in error.splitlines()[-1]
