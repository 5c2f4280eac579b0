"""How structures come down: every step with its geometry, of as many as were asked for, and live of one alone."""

import csv

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from ase.units import GPa

from rutile.core.reporting import SilentReporter
from rutile.tasks import relax, relax_paths


def rattled(seed):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
    return atoms


def relaxed(folder, images, **changes):
    write(folder / "in.extxyz", images)
    given = {"model": "emt", "structures": [folder / "in.extxyz"], "out": folder / "out.extxyz", "cell": "full"}
    return relax.run(relax.RelaxTaskSettings.model_validate(given | changes), SilentReporter())


def table(result):
    return list(csv.DictReader(result.path_table.read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
def test_every_step_is_that_of_its_geometry(tmp_path):
    result = relaxed(tmp_path, [rattled(0), rattled(1), rattled(2)], paths=2)
    rows, frames = table(result), read(result.path_frames, ":")
    assert [row["structure"] for row in rows] == [frame.info["source"] for frame in frames]
    assert [frame.info["step"] for frame in frames] == [
        step for one in result.structures[:2] for step in range(one.steps + 1)
    ]
    for row, frame in zip(rows, frames, strict=True):
        frame.calc = EMT()  # places have eight digits after the point
        assert float(row["energy"]) == pytest.approx(frame.get_potential_energy() / 4, abs=1e-7)
        assert float(row["fmax"]) == pytest.approx(np.linalg.norm(frame.get_forces(), axis=1).max(), abs=1e-6)
        assert float(row["pressure"]) == pytest.approx(-frame.get_stress()[:3].mean() / GPa, abs=1e-5)
        assert float(row["volume"]) == pytest.approx(frame.get_volume() / 4)
    ends = [row for row, after in zip(rows, [*rows[1:], None], strict=True) if after is None or after["step"] == "0"]
    assert [float(row["energy"]) for row in ends] == pytest.approx([one.energy for one in result.structures[:2]])


@pytest.mark.slow
def test_of_none_there_is_no_table(tmp_path):
    result = relaxed(tmp_path, [rattled(0)], paths=0)
    assert result.path_table is result.path_frames is None
    assert not list(tmp_path.glob("*_path*"))


@pytest.mark.slow
def test_of_large_structures_some_steps_are_kept_and_always_first_and_last(tmp_path, monkeypatch):
    monkeypatch.setattr(relax_paths, "MOST_ATOMS", 40)  # of 4 atoms at 40 steps every fourth
    result = relaxed(tmp_path, [rattled(0)], max_steps=40)
    steps = [int(row["step"]) for row in table(result)]
    last = result.structures[0].steps
    assert last > 4
    assert steps == sorted({*range(0, last + 1, 4), last})


@pytest.mark.slow
def test_a_structure_alone_is_shown_live(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(SilentReporter, "metrics", lambda self, row: shown.append(row))
    monkeypatch.setattr(relax_paths, "LIVE", -1.0)
    result = relaxed(tmp_path, [rattled(0)])
    assert [row["step"] for row in shown] == list(range(result.structures[0].steps + 1))
    assert [row["fmax_eV_A"] for row in shown] == pytest.approx([float(row["fmax"]) for row in table(result)])
    assert shown[0]["energy_eV_atom"] > shown[-1]["energy_eV_atom"] == pytest.approx(result.structures[0].energy)
    shown.clear()
    relaxed(tmp_path, [rattled(0), rattled(1)])
    assert shown == []
