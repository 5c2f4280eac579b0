"""`rutile infrared`: from trajectories to spectra, peaks and a page."""

import csv
import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read, write

from rutile.core.errors import DataError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import make
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.save import save_model
from rutile.potentials.settings import AnataseSettings
from rutile.tasks.infrared import TASK, InfraredSettings

TINY = {
    "channels": 4, "radial": 4, "sources": 2, "hidden": 8, "embedding": 3, "waves": 4, "radial_hidden": 8,
    "readout": 4, "cutoffs": (4.0,),
}  # fmt: skip


def shaken(path, frames=600, wave=800.0, cell=None):
    """TiO whose bond swings; a frame every 4 fs."""
    w = 2 * np.pi * 2.99792458e-5 * wave
    images = []
    for t in np.arange(frames) * 4.0:
        atoms = Atoms("TiO", [[0, 0, 0], [1.7 + 0.02 * np.cos(w * t), 0, 0]], cell=cell, pbc=cell is not None)
        atoms.set_velocities([[0, 0, 0], [-0.02 * w * np.sin(w * t) / units.fs, 0, 0]])
        atoms.info["time"] = t
        images.append(atoms)
    write(path, images)
    return path


def run(**given):
    return TASK.run(InfraredSettings(**given), SilentReporter())


@pytest.mark.slow
@pytest.mark.parametrize("carried", [{"charges": {"Ti": 2.0, "O": -2.0}}, {"model": "rigid_ion"}])
def test_a_line_a_table_and_a_page(tmp_path, carried):
    result = run(trajectories=[shaken(tmp_path / "t.extxyz")], out=tmp_path / "out", **carried)
    (peak,) = result.peaks
    assert peak.wave_number == pytest.approx(800.0, abs=2)
    (row,) = result.spectra
    assert row.unit == "km/mol per 1/cm"
    assert row.total == pytest.approx(peak.area, rel=0.05)
    with (tmp_path / "out/spectra.csv").open() as file:
        curve = [(float(r["absorption"]), float(r["wave_number"])) for r in csv.DictReader(file)]
    assert max(curve)[1] == pytest.approx(800.0, abs=5)
    assert json.loads((tmp_path / "out/result.json").read_text())["peaks"]
    assert "svg" in (tmp_path / "out/report.html").read_text()
    crystal = run(trajectories=[shaken(tmp_path / "c.extxyz", cell=[6.0] * 3)], out=tmp_path / "c", **carried)
    assert crystal.spectra[0].unit == "1/cm"
    assert crystal.peaks[0].wave_number == pytest.approx(800.0, abs=2)


@pytest.mark.slow
def test_a_committee_says_how_far_its_charges_agree(tmp_path):
    members = [make(AnataseSettings(**TINY, electrostatics=True), (8, 22), seed=k) for k in range(2)]
    save_model(tmp_path / "pair.rutile", Model(members, ModelInfo(elements=(8, 22))))
    result = run(
        trajectories=[shaken(tmp_path / "t.extxyz", 200)], model=tmp_path / "pair.rutile", out=tmp_path / "out"
    )
    main = max(result.peaks, key=lambda p: p.height)
    assert main.height_std > 0
    assert main.wave_number_std < 10.0


def test_what_cannot_be_is_said(tmp_path):
    path = shaken(tmp_path / "t.extxyz", 100)
    with pytest.raises(SettingsError, match="neither model nor charges"):
        run(trajectories=[path], out=tmp_path / "out")
    with pytest.raises(SettingsError, match=r"model=emt predicts no charges: take rigid_ion"):
        run(trajectories=[path], model="emt", out=tmp_path / "out")
    with pytest.raises(SettingsError, match="charges: none for O"):
        run(trajectories=[path], charges={"Ti": 1.0}, out=tmp_path / "out")
    other = read(path, ":")
    for atoms in other:
        atoms.numbers[0] = 29
    write(tmp_path / "cu.extxyz", other)
    with pytest.raises(SettingsError, match=r"charges: none for Cu, which is in .*cu.extxyz: take another model"):
        run(trajectories=[tmp_path / "cu.extxyz"], model="rigid_ion", out=tmp_path / "out")
    with pytest.raises(SettingsError, match="'Xx' is no element"):
        run(trajectories=[path], charges={"Xx": 1.0}, out=tmp_path / "out")
    with pytest.raises(DataError, match="too few for an infrared spectrum"):
        run(trajectories=[shaken(tmp_path / "s.extxyz", 20)], charges={"Ti": 1.0, "O": -1.0}, out=tmp_path / "out")
