"""Every format gives back what was written: hypothesis round trips, and files written by hand."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rutile.core.errors import DataError, FileError, RutileError
from rutile.core.reporting import SilentReporter
from rutile.data.reading import read_frames, to_atoms
from rutile.data.settings import ReadSettings
from rutile.structures import io

NAMES = {
    "extxyz": "f.extxyz", "cif": "f.cif", "poscar": "POSCAR_f", "xsf": "f.xsf", "n2p2": "input.data",
    "deepmd": "system", "traj": "f.traj", "db": "f.db", "aselmdb": "f.aselmdb",
}  # fmt: skip
ROUND_TRIP = settings(
    max_examples=6, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@st.composite
def labelled(draw, periodic=True):
    """Atoms on a jittered grid (no overlaps), a skewed cell, labels of all kinds and awkward numbers."""
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = rng.choice([1, 8, 22, 79], n)
    grid = 2.5 * np.array([(k % 2, k // 2 % 2, k // 4) for k in range(n)], dtype=float)
    cell = np.diag([6.0, 7.0, 8.0]) + rng.normal(0, 0.4, (3, 3))
    pbc = periodic
    atoms = Atoms(numbers, positions=grid + rng.normal(0, 0.1, (n, 3)), cell=cell if pbc else None, pbc=pbc)
    atoms.info["REF_energy"] = float(rng.normal(-20000, 1e3))
    atoms.arrays["REF_forces"] = rng.normal(0, 1, (n, 3)) * 10.0 ** rng.integers(-8, 2)
    if pbc:
        stress = rng.normal(0, 0.1, (3, 3))
        atoms.info["REF_stress"] = stress + stress.T
    atoms.info["config_type"] = draw(st.sampled_from(["bulk", "heated 300 K", 'a "quoted" name', "12", "Ti"]))
    return atoms


def read(path, **settings_):
    return list(read_frames([Path(path)], ReadSettings(**settings_), SilentReporter()))


def fresh(folder: Path, name: str) -> Path:
    """A path that does not exist yet, for each example of hypothesis."""
    k = len(list(folder.iterdir()))
    (folder / str(k)).mkdir()
    return folder / str(k) / name


def assert_same(atoms: Atoms, frame, format: str, tolerance: float) -> None:
    holds = io.FORMATS[format].holds
    order = np.argsort(atoms.numbers, kind="stable") if format == "deepmd" else np.arange(len(atoms))
    assert frame.numbers.tolist() == atoms.numbers[order].tolist()
    assert frame.pbc.tolist() == atoms.pbc.tolist()
    if format == "cif":  # keeps the shape of the cell, not its orientation
        back = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True)
        assert back.cell.cellpar() == pytest.approx(atoms.cell.cellpar(), rel=1e-9)
        assert back.get_all_distances(mic=True) == pytest.approx(atoms.get_all_distances(mic=True), abs=1e-8)
    else:
        assert frame.cell == pytest.approx(atoms.cell.array, rel=tolerance, abs=1e-14)
        assert frame.positions == pytest.approx(atoms.positions[order], rel=tolerance, abs=1e-14)
    labels = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
    want = {
        "energy": atoms.info.get("REF_energy"),
        "forces": atoms.arrays["REF_forces"][order],
        "stress": atoms.info.get("REF_stress"),
    }
    for name, value in labels.items():
        if name not in holds or want[name] is None:
            assert value is None, name
        else:
            assert value is not None, name
            assert value == pytest.approx(want[name], rel=tolerance, abs=1e-14), name


@pytest.mark.slow
@pytest.mark.parametrize("format", list(NAMES))
@ROUND_TRIP
@given(atoms=labelled())
def test_one_crystal_comes_back(format, atoms, tmp_path):
    path = fresh(tmp_path, NAMES[format])
    assert io.write_frames(path, atoms, format) == 1
    (frame,) = read(path, format=format)
    assert_same(atoms, frame, format, 0.0 if format in ("extxyz", "poscar", "xsf", "traj", "db", "aselmdb") else 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["extxyz", "xsf", "n2p2", "deepmd", "traj", "db", "aselmdb"])
@ROUND_TRIP
@given(atoms=labelled(periodic=False))
def test_one_molecule_comes_back(format, atoms, tmp_path):
    path = fresh(tmp_path, NAMES[format])
    io.write_frames(path, atoms, format)
    (frame,) = read(path, format=format)
    assert_same(atoms, frame, format, 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["extxyz", "cif", "n2p2", "traj", "db", "aselmdb"])
@ROUND_TRIP
@given(frames=st.lists(labelled(), min_size=2, max_size=4))
def test_many_frames_come_back_in_order(format, frames, tmp_path):
    path = fresh(tmp_path, NAMES[format])
    assert io.write_frames(path, iter(frames), format) == len(frames)
    back = read(path, format=format)
    assert len(back) == len(frames)
    for atoms, frame in zip(frames, back, strict=True):
        assert_same(atoms, frame, format, 1e-13)
        if format != "cif":
            assert frame.group == atoms.info["config_type"]


@pytest.mark.parametrize("format", ["poscar", "xsf"])
def test_formats_of_one_structure_write_numbered_files(format, tmp_path):
    frames = [crystal(seed) for seed in range(3)]
    assert io.write_frames(tmp_path / "many", frames, format) == 3
    back = read(tmp_path / "many")
    for atoms, frame in zip(frames, back, strict=True):
        assert_same(atoms, frame, format, 0.0)


def crystal(seed: int, numbers=(22, 8, 8)) -> Atoms:
    rng = np.random.default_rng(seed)
    n = len(numbers)
    atoms = Atoms(
        numbers, positions=np.arange(3 * n).reshape(n, 3) + rng.normal(0, 0.1, (n, 3)), cell=[9, 10, 11], pbc=True
    )
    atoms.info["REF_energy"] = rng.normal()
    atoms.arrays["REF_forces"] = rng.normal(size=(n, 3))
    atoms.info["REF_stress"] = np.diag(rng.normal(size=3))
    return atoms


def test_deepmd_writes_one_system_for_each_composition_and_the_virial_sign(tmp_path):
    frames = [crystal(0), crystal(1, (8, 22, 8)), crystal(2, (22, 22))]
    del frames[2].info["REF_stress"]
    assert io.write_frames(tmp_path / "d", frames, "deepmd") == 3
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["O2Ti", "Ti2"]
    virial = np.load(tmp_path / "d" / "O2Ti" / "set.000" / "virial.npy")
    assert virial[0].reshape(3, 3) == pytest.approx(-990.0 * frames[0].info["REF_stress"])
    assert not (tmp_path / "d" / "Ti2" / "set.000" / "virial.npy").exists()
    back = read(tmp_path / "d")
    assert len(back) == 3
    assert back[0].numbers.tolist() == [8, 8, 22]
    assert back[0].stress == pytest.approx(frames[0].info["REF_stress"])
    assert back[2].stress is None
    assert back[2].forces is not None


def test_deepmd_mixed_layout_and_pickles(tmp_path):
    folder = tmp_path / "s"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0 0 0")
    (folder / "type_map.raw").write_text("O\nTi\n")
    np.save(folder / "set.000" / "coord.npy", np.arange(18.0).reshape(2, 9))
    np.save(folder / "set.000" / "box.npy", np.tile(np.diag([9.0, 9, 9]).ravel(), (2, 1)))
    np.save(folder / "set.000" / "real_atom_types.npy", np.array([[0, 1, 1], [1, 0, -1]]))
    first, second = read(folder)
    assert first.numbers.tolist() == [8, 22, 22]
    assert second.numbers.tolist() == [22, 8]
    assert second.energy is None
    np.save(folder / "set.000" / "energy.npy", np.array([{"a": 1}, 2], dtype=object))
    with pytest.raises(FileError, match=r"energy\.npy: not a NumPy array"):
        read(folder)
    np.save(folder / "set.000" / "energy.npy", np.zeros(3))
    with pytest.raises(FileError, match=r"shape \[2, 1\] expected, found \[3\]"):
        read(folder)
    (folder / "set.000" / "energy.npy").unlink()
    (folder / "type_map.raw").unlink()
    with pytest.raises(FileError, match="elements are unknown"):
        read(folder)


def test_xsf_of_aenet(tmp_path):
    text = """# total energy = -12.5 eV

CRYSTAL
PRIMVEC
  4.0 0.0 0.0
  0.0 5.0 0.0
  0.0 0.0 6.0
PRIMCOORD
 2 1
Ti  0.0 0.0 0.0  0.1 -0.2 0.3
O   2.0 0.0 0.0  -0.1 0.2 -0.3
"""
    (tmp_path / "a.xsf").write_text(text)
    (frame,) = read(tmp_path / "a.xsf")
    assert frame.energy == -12.5
    assert frame.numbers.tolist() == [22, 8]
    assert frame.forces[0].tolist() == [0.1, -0.2, 0.3]
    assert np.diag(frame.cell).tolist() == [4, 5, 6]
    (tmp_path / "b.xsf").write_text(text.replace(" 2 1", " 99999999 1"))
    with pytest.raises(DataError, match=r"b\.xsf: frame 0: 99999999 atoms announced, 2 found"):
        read(tmp_path / "b.xsf")
    (tmp_path / "c.xsf").write_text(text.replace("Ti", "Qq"))
    with pytest.raises(DataError, match="unknown element 'Qq'"):
        read(tmp_path / "c.xsf")


N2P2 = """begin
comment a frame
lattice 10.0 0.0 0.0
lattice 0.0 10.0 0.0
lattice 0.0 0.0 10.0
atom 0.0 0.0 0.0 O -0.8 0.0 0.1 0.0 0.0
atom 2.0 0.0 0.0 H 0.4 0.0 -0.1 0.0 0.0
energy -76.0
charge -0.4
end
"""


def test_n2p2_is_in_bohr_and_hartree_unless_the_user_says_otherwise(tmp_path):
    (tmp_path / "input.data").write_text(N2P2)
    (frame,) = read(tmp_path / "input.data")
    assert frame.energy == pytest.approx(-76 * 27.211386245988)
    assert frame.positions[1, 0] == pytest.approx(2 * 0.529177210903)
    assert frame.forces[0, 0] == pytest.approx(0.1 * 27.211386245988 / 0.529177210903)
    (frame,) = read(tmp_path / "input.data", energy_unit="eV", length_unit="Angstrom")
    assert frame.energy == pytest.approx(-76)
    assert frame.positions[1, 0] == pytest.approx(2)
    assert frame.cell[0, 0] == pytest.approx(10)
    assert frame.forces[0, 0] == pytest.approx(0.1)


def test_n2p2_charges_survive(tmp_path):
    (tmp_path / "input.data").write_text(N2P2)
    (atoms,) = io.iterate(tmp_path / "input.data")
    io.write_frames(tmp_path / "out.data", atoms)
    text = (tmp_path / "out.data").read_text()
    assert "charge -0.4" in text
    assert "comment a frame" in text
    (again,) = io.iterate(tmp_path / "out.data")
    assert again.get_initial_charges().tolist() == [-0.8, 0.4]


def test_n2p2_refuses_frames_without_forces(tmp_path):
    atoms = crystal(0)
    del atoms.arrays["REF_forces"]
    with pytest.raises(DataError, match="frame 0 has no forces"):
        io.write_frames(tmp_path / "input.data", atoms)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("end\n", ""), "no 'end'"),
        (("begin\n", ""), "'begin' expected"),
        ((" O ", " Zz "), "unknown element 'Zz'"),
        (("energy -76.0", "energy minus"), "could not convert"),
        (("lattice 10.0 0.0 0.0\n", ""), "3 lattice lines"),
        (("energy", "enrgy"), "unknown keyword 'enrgy'"),
        (("H 0.4", "H"), "9 words expected"),
    ],
)
def test_n2p2_damage_is_named(change, message, tmp_path):
    (tmp_path / "input.data").write_text(N2P2.replace(*change))
    with pytest.raises(RutileError, match=message) as caught:
        read(tmp_path / "input.data")
    assert "input.data: frame 0: " in str(caught.value)


def test_poscar_variants(tmp_path):
    text = (
        "TiO2\n2.0\n2 0 0\n0 2 0\n0 0 2\nTi O\n1 2\nSelective dynamics\nDirect\n0 0 0 T T T\n.5 .5 0 F F F\n.5 0 .5\n"
    )
    (tmp_path / "CONTCAR").write_text(text)
    (frame,) = read(tmp_path / "CONTCAR")
    assert frame.positions.tolist() == [[0, 0, 0], [2, 2, 0], [2, 0, 2]]
    assert frame.numbers.tolist() == [22, 8, 8]
    (tmp_path / "POSCAR").write_text(text.replace("2.0\n2", "-27.0\n2", 1))
    (frame,) = read(tmp_path / "POSCAR")
    assert np.diag(frame.cell) == pytest.approx(3.0)
    (tmp_path / "POSCAR_old").write_text(text.replace("TiO2\n", "Ti O\n").replace("2\nTi O\n1", "2\n1"))
    assert read(tmp_path / "POSCAR_old")[0].numbers.tolist() == [22, 8, 8]
    for bad, message in [
        (text.replace("1 2\n", "1 9999999999\n"), "10000000000 atoms announced"),
        (text.replace("Ti O", "Ti Qq"), "unknown element 'Qq'"),
        (text.replace("TiO2\n", "old\n").replace("Ti O\n", ""), "VASP 4"),
        (text[:-11], "3 atoms announced, 2 found"),
    ]:
        (tmp_path / "POSCAR").write_text(bad)
        with pytest.raises(DataError, match=message):
            read(tmp_path / "POSCAR")


def test_cif_with_partial_occupancy_is_refused(tmp_path):
    atoms = crystal(0)
    io.write_frames(tmp_path / "a.cif", atoms)
    text = (tmp_path / "a.cif").read_text()
    (tmp_path / "a.cif").write_text(text.replace(" 1.0\n", " 0.5\n", 1))
    with pytest.raises(DataError, match="partly occupied"):
        read(tmp_path / "a.cif")


def test_ase_reads_what_the_extxyz_writer_writes(tmp_path):
    from ase.io import read as ase_read

    atoms = crystal(0)
    atoms.info["spins"] = np.array([1.0, -1.0, 0.5])
    atoms.arrays["fixed"] = np.array([True, False, False])
    io.write_frames(tmp_path / "a.xyz", [atoms, atoms])
    first, _ = ase_read(tmp_path / "a.xyz", ":")
    assert first.info["REF_energy"] == atoms.info["REF_energy"]
    assert (first.arrays["REF_forces"] == atoms.arrays["REF_forces"]).all()
    assert first.info["REF_stress"].reshape(3, 3) == pytest.approx(atoms.info["REF_stress"])
    assert (first.cell.array == atoms.cell.array).all()
    assert first.arrays["fixed"].tolist() == [True, False, False]
    assert first.info["spins"].tolist() == [1.0, -1.0, 0.5]


def test_whatever_a_frame_says_about_itself_breaks_no_file(tmp_path):
    """What the format cannot say is left out, a line break becomes a blank; the frame behind it stays whole."""
    kept = {"text": 'two words, "quotes", a = b', "path": "C:\\new\\dir", "flag": True, "number": -3, "real": 0.1}
    atoms = crystal(0)
    atoms.info |= kept | {"lines": "one\ntwo\tthree", "empty": "", "nothing": None, "thing": object(), "pbc": "no"}
    atoms.info |= {"Lattice": "1 2 3", "Properties": "x"}
    io.write_frames(tmp_path / "a.xyz", [atoms, atoms])
    for back in io.iterate(tmp_path / "a.xyz"):
        assert {k: back.info[k] for k in kept} == kept
        assert back.info["lines"] == "one two three"
        assert not {"empty", "nothing", "thing"} & back.info.keys()
        assert (back.pbc == atoms.pbc).all()
        assert (back.cell.array == atoms.cell.array).all()


def test_results_of_a_calculator_are_written(tmp_path):
    atoms = Atoms("TiO", [[0, 0, 0], [0, 0, 2]], cell=[5, 5, 5], pbc=True)
    forces, stress = np.array([[0, 0, 1.0], [0, 0, -1]]), np.arange(6) / 10
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=forces, stress=stress)
    for name in ("a.extxyz", "a.traj", "a.db", "a.aselmdb", "sys"):
        io.write_frames(tmp_path / name, atoms, "deepmd" if name == "sys" else None)
        (frame,) = read(tmp_path / name)
        assert frame.energy == -3.0
        assert frame.stress[1, 2] == pytest.approx(0.3)
        assert abs(frame.forces).sum() == 2.0


def test_the_writer_leaves_nothing_half_written(tmp_path):
    def failing():
        yield crystal(0)
        raise DataError("stop")

    for format, name in NAMES.items():
        if io.FORMATS[format].one_frame:
            continue
        with pytest.raises(DataError, match="stop"):
            io.write_frames(tmp_path / name, failing(), format)
        assert list(tmp_path.iterdir()) == [], format


FULL_DISK = """
import resource, sys
from pathlib import Path
from ase.build import bulk
from rutile.core.errors import FileError
from rutile.structures import io
atoms = bulk("Cu", cubic=True) * (3, 3, 3)
atoms.info["REF_energy"], atoms.arrays["REF_forces"] = 1.0, atoms.positions
names = dict(word.split("=") for word in sys.argv[2:])
for format, name in names.items():
    io.write_frames(Path(sys.argv[1], "good", name), atoms, format)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
for format, name in names.items():
    path = Path(sys.argv[1], "full", name)
    try:
        io.write_frames(path, atoms, format)
    except FileError as error:
        assert str(path) in str(error), error
        print(format)
"""


@pytest.mark.slow
def test_a_disk_that_takes_no_more(tmp_path):
    """Files may grow to 1500 bytes only: one error that names the file, and no file, in every format."""
    words = [sys.executable, "-c", FULL_DISK, str(tmp_path), *(f"{k}={v}" for k, v in NAMES.items())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, list(NAMES)), done.stderr
    assert len(list((tmp_path / "good").iterdir())) == len(NAMES)
    assert list((tmp_path / "full").iterdir()) == []


def test_a_second_frame_for_a_format_of_one_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds one structure"):
        io.write_frames(tmp_path / "POSCAR", [crystal(0), crystal(1)])
    assert list(tmp_path.iterdir()) == []


def test_frames_through_every_format_in_a_chain(tmp_path):
    first = read_back = [crystal(seed) for seed in range(3)]
    for format in ("traj", "n2p2", "aselmdb", "db", "extxyz"):
        io.write_frames(tmp_path / NAMES[format], read_back, format)
        read_back = [to_atoms(f) for f in read(tmp_path / NAMES[format], format=format)]
        if format == "n2p2":
            for atoms, start in zip(read_back, first, strict=True):
                atoms.info["REF_stress"] = start.info["REF_stress"]
    for atoms, start in zip(read_back, first, strict=True):
        assert atoms.positions == pytest.approx(start.positions, rel=1e-13)
        assert atoms.arrays["REF_forces"] == pytest.approx(start.arrays["REF_forces"], rel=1e-13)
        assert atoms.info["REF_stress"] == pytest.approx(start.info["REF_stress"], rel=1e-13)


def test_folders_patterns_and_missing_files(tmp_path):
    for k in range(3):
        io.write_frames(tmp_path / "in" / f"part_{k}.extxyz", crystal(k))
    (tmp_path / "in" / "notes.txt").write_text("no structures")
    assert len(read(tmp_path / "in")) == 3
    assert len(read(tmp_path / "in" / "part_[01].extxyz")) == 2
    with pytest.raises(FileError, match=r"no such file \(did you mean .*part_1\.extxyz"):
        read(tmp_path / "in" / "part_1.extxy")
    with pytest.raises(FileError, match="no file matches"):
        read(tmp_path / "*.nothing")
    with pytest.raises(FileError, match="unknown file format"):
        read(tmp_path / "in" / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="holds no file of a known format"):
        read(tmp_path / "empty")


def test_a_missing_lmdb_is_said(tmp_path, monkeypatch):
    import sys

    from rutile.core.errors import MissingPackageError

    (tmp_path / "a.aselmdb").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingPackageError, match="pip install lmdb"):
        read(tmp_path / "a.aselmdb")


def test_an_error_of_the_frames_does_not_blame_the_file_being_written(tmp_path):
    def frames():
        yield Atoms("H", cell=[4, 4, 4], pbc=True)
        raise DataError("input.cif: frame 3: bad")

    with pytest.raises(DataError) as error:
        io.write_frames(tmp_path / "out.extxyz", frames())
    assert str(error.value) == "input.cif: frame 3: bad"
    assert list(tmp_path.iterdir()) == []
