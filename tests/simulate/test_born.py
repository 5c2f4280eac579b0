"""The macroscopic field of optical phonons: against long supercells, Ewald's sums, and files of phonopy."""

import csv

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.io import write
from ase.spacegroup import crystal as from_group
from torch import nn

from rutile.core.errors import FileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.units import ACCELERATION, COULOMB
from rutile.potentials.parts.ewald import coulomb
from rutile.potentials.rigid_ion import RigidIon
from rutile.simulate.md.state import masses_of
from rutile.simulate.settings import PhononSettings
from rutile.simulate.start import settled
from rutile.structures.structures import Structures
from rutile.tasks.phonons import TASK, PhononTaskSettings

pytest.importorskip("phonopy")
QUIET = SilentReporter()
THZ = ACCELERATION**0.5 * 1000 / (2 * np.pi)
"""Square root of 1 eV/Angstrom^2/amu in THz."""
RUTILE = from_group(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.49, 4.49, 3.01, 90, 90, 90])


class Salt(nn.Module):
    """Ions of charge 1 and -1 with a repulsion of neighbours: rock salt near 5.6 Angstrom."""

    elements = (11, 17)
    cutoff = 6.0

    def __init__(self):
        super().__init__()
        table = torch.zeros(18, dtype=torch.float64)
        table[11], table[17] = 1.0, -1.0
        self.charges: torch.Tensor
        self.register_buffer("charges", table)

    def forward(self, graph):
        r = graph.vectors.norm(dim=1).double()
        inside = (1 - (r / self.cutoff) ** 2).clamp(min=0) ** 3
        pair = 0.5 * 1100.0 * torch.exp(-r / 0.33) * inside
        energy = coulomb(self.charges[graph.numbers], graph, self.cutoff, decays=6.0)
        return energy.index_add(0, graph.i, pair)


def waves(structure, potential, supercell, points, **settings):
    """Frequencies at wave vectors (THz), ascending, and the Phonopy object."""
    from rutile.simulate.phonons import force_constants

    how = PhononSettings(supercell=supercell, **settings)
    (phonon,) = force_constants(structure, potential, how, QUIET)
    phonon.symmetrize_force_constants(level=3, show_drift=False)
    phonon.run_qpoints(points)
    return np.sort(np.asarray(phonon.get_qpoints_dict()["frequencies"]), axis=1), phonon


@pytest.fixture(scope="module")
def salt():
    start, why = settled(
        Structures.from_ase(bulk("NaCl", "rocksalt", a=5.6, cubic=True)), Salt(), PhononSettings(), QUIET
    )
    assert not any(why)
    return start


@pytest.mark.slow
def test_the_splitting_of_rock_salt_is_that_of_its_plasma(salt):
    """Rigid ions in a cubic crystal: LO^2 - TO^2 = 4 pi k q^2 / (mu V), and TO^2 + ... nothing else."""
    _, phonon = waves(salt, Salt(), (2, 2, 2), [[0, 0, 0]], born="model")
    phonon.run_qpoints([[0, 0, 0]], nac_q_direction=[1, 0, 0])
    split = np.sort(phonon.get_qpoints_dict()["frequencies"][0])
    m = masses_of(salt)[:2].unique().numpy()
    mu = m.prod() / m.sum()
    plasma = 4 * np.pi * COULOMB / (mu * float(salt.volume[0]) / 4)
    assert split[3] == pytest.approx(split[4], rel=1e-6)
    assert (split[5] / THZ) ** 2 - (split[3] / THZ) ** 2 == pytest.approx(plasma, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["salt", "rutile"])
def test_long_waves_are_those_of_a_long_supercell(kind, salt):
    """A supercell along z holds the waves (0, 0, 1/8) exactly; a short one only with the field of the Born charges."""
    if kind == "salt":
        potential, start, short, long, at = Salt(), salt, (2, 2, 2), (1, 1, 4), [1 / 8, 1 / 8, 0]  # [0, 0, 1/4] of cube
    else:
        potential = RigidIon()
        start, why = settled(Structures.from_ase(RUTILE), potential, PhononSettings(), QUIET)
        assert not any(why)
        short, long, at = (2, 2, 3), (1, 1, 8), [0, 0, 1 / 8]
    exact, _ = waves(start, potential, long, [at])
    mine, _ = waves(start, potential, short, [at], born="model")
    without, _ = waves(start, potential, short, [at])
    better, worse = np.abs(mine - exact).max(), np.abs(without - exact).max()
    assert better < 0.2 * worse
    assert better < 0.03 * exact.max()
    assert worse > 0.05 * exact.max()


@pytest.mark.slow
def test_a_file_says_the_same_as_the_model(tmp_path, salt):
    (tmp_path / "BORN").write_text("14.3996454784\n1 0 0 0 1 0 0 0 1\n1 0 0 0 1 0 0 0 1\n-1 0 0 0 -1 0 0 0 -1\n")
    a, _ = waves(salt, Salt(), (1, 1, 1), [[0.1, 0.1, 0]], born="model")
    b, _ = waves(salt, Salt(), (1, 1, 1), [[0.1, 0.1, 0]], born=tmp_path / "BORN")
    np.testing.assert_allclose(a, b, rtol=1e-6)
    (tmp_path / "BORN").write_text("14.4\n2.5 0 0 0 2.5 0 0 0 2.5\n1 0 0 0 1 0 0 0 1\n-1 0 0 0 -1 0 0 0 -1\n")
    c, _ = waves(salt, Salt(), (1, 1, 1), [[0.1, 0.1, 0]], born=tmp_path / "BORN")
    assert c.max() < a.max()


@pytest.mark.slow
def test_the_task_tells_the_splitting_and_the_charges(tmp_path):
    write(tmp_path / "tio2.extxyz", RUTILE)
    settings = PhononTaskSettings(
        structures=[tmp_path / "tio2.extxyz"], model="rigid_ion", born="model", out=tmp_path / "out", band_points=5,
        supercell=(1, 1, 2), mesh_length=15.0,
    )  # fmt: skip
    result = TASK.run(settings, QUIET)
    (row,) = result.structures
    assert row.splitting > 3.0
    with (row.folder / "born.csv").open() as file:
        charges = list(csv.DictReader(file))
    assert [float(c["xx"]) for c in charges if c["element"] == "Ti"] == pytest.approx([2.196] * 2)
    assert [float(c["zz"]) for c in charges if c["element"] == "O"] == pytest.approx([-1.098] * 4)
    assert result.units["born.csv"]["xx"] == "e"


def test_what_cannot_be_is_said(tmp_path):
    argon = Structures.from_ase(bulk("Ar", cubic=True, a=5.3))
    from rutile.potentials.lennard_jones import LennardJones

    with pytest.raises(SettingsError, match="born=model: the potential predicts no charges"):
        waves(argon, LennardJones(cutoff=6.0), (1, 1, 1), [[0, 0, 0]], born="model")
    for text in ("", "14.4\n1 0 0\n", "14.4\n1 0 0 0 1 0 0 0 1\n5 0 0 0 5 0 0 0 5\n"):
        (tmp_path / "BORN").write_text(text)
        with pytest.raises(FileError, match="BORN"):
            waves(argon, LennardJones(cutoff=6.0), (1, 1, 1), [[0, 0, 0]], born=tmp_path / "BORN")
    with pytest.raises(FileError, match="cannot read"):
        waves(argon, LennardJones(cutoff=6.0), (1, 1, 1), [[0, 0, 0]], born=tmp_path / "nothing")
