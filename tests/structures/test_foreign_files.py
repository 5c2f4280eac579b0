"""Files that other programs wrote are read, and ASE reads the files written here."""

import json
import zlib

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from rutile.core.reporting import SilentReporter
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings
from rutile.structures import io


def labelled(seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms.positions += 0.5 + rng.normal(0, 0.1, atoms.positions.shape)  # inside of the cell: reading a CIF wraps
    stress = rng.normal(0, 0.1, 6)
    atoms.calc = SinglePointCalculator(atoms, energy=-27.0 - seed, forces=rng.normal(0, 1, (8, 3)), stress=stress)
    return atoms


def read(path, **settings):
    return list(read_frames([path], ReadSettings(**settings), SilentReporter()))


@pytest.mark.parametrize("name", ["f.extxyz", "f.traj", "f.db"])
def test_what_ase_writes(name, tmp_path):
    images = [labelled(k) for k in range(3)]
    ase.io.write(tmp_path / name, images)
    for atoms, frame in zip(images, read(tmp_path / name), strict=True):
        assert frame.positions == pytest.approx(atoms.positions, abs=1e-8)
        assert frame.energy == atoms.get_potential_energy()
        assert frame.forces == pytest.approx(atoms.get_forces(), abs=1e-8)
        assert frame.stress == pytest.approx(atoms.get_stress(voigt=False), abs=1e-8)


@pytest.mark.parametrize("name", ["f.extxyz", "f.traj", "f.db", "f.cif", "POSCAR"])
def test_what_ase_reads(name, tmp_path):
    atoms = labelled()
    io.write_frames(tmp_path / name, atoms)
    back = ase.io.read(tmp_path / name)
    assert back.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert back.positions == pytest.approx(atoms.positions, abs=1e-9)
    if name not in ("f.cif", "POSCAR"):
        assert back.get_potential_energy() == atoms.get_potential_energy()
        assert back.get_stress() == pytest.approx(atoms.get_stress())


@pytest.mark.parametrize("name", ["f.cif", "POSCAR", "f.xsf"])
def test_structures_that_ase_writes(name, tmp_path):
    atoms = labelled()
    atoms.calc = None
    ase.io.write(tmp_path / name, atoms)
    (frame,) = read(tmp_path / name)
    assert frame.numbers.tolist() == atoms.numbers.tolist()
    assert frame.positions == pytest.approx(atoms.positions, abs=1e-4)
    assert frame.energy is frame.forces is None


def test_a_database_with_key_value_pairs_and_data(tmp_path):
    with connect(tmp_path / "f.db") as database:
        atoms = bulk("Cu")
        database.write(atoms, config_type="bulk", dft_energy=-3.7, data={"dft_forces": np.zeros((1, 3)), "note": "x"})
    (frame,) = read(tmp_path / "f.db")
    assert (frame.energy, frame.group) == (-3.7, "bulk")
    assert frame.forces.tolist() == [[0, 0, 0]]


CIF = """data_rutile
_cell_length_a 4.5937(2)
_cell_length_b 4.5937(2)
_cell_length_c 2.9587(1)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 42/m n m'
_symmetry_Int_Tables_number 136
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ti1 Ti4+ 0 0 0 1.0
O1 O2- 0.30478(6) 0.30478(6) 0 1
"""


def test_a_cif_from_a_data_base_with_symmetry_and_uncertainties(tmp_path):
    (tmp_path / "rutile.cif").write_text(CIF)
    (frame,) = read(tmp_path / "rutile.cif")
    assert sorted(frame.numbers.tolist()) == [8, 8, 8, 8, 22, 22]
    atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True)
    ti = int(np.flatnonzero(frame.numbers == 22)[0])
    bonds = np.sort(atoms.get_distances(ti, np.flatnonzero(frame.numbers == 8), mic=True))
    assert bonds.min() == pytest.approx(1.949, abs=2e-3)


def test_an_aselmdb_as_fairchem_writes_it(tmp_path):
    """Layout of fairchem-core's lmdb_database.py: compressed JSON rows under ids, deleted ids left out."""
    lmdb = pytest.importorskip("lmdb")

    def pack(value: object) -> bytes:
        return zlib.compress(json.dumps(value).encode())

    row = {
        "numbers": [11, 17], "positions": [[0.0, 0.0, 0.0], [2.8, 0.0, 0.0]], "cell": (np.eye(3) * 5.6).tolist(),
        "pbc": [True, True, True], "ctime": 25.1, "mtime": 25.1, "user": "someone", "calculator": "unknown",
        "calculator_parameters": {}, "energy": -6.5, "forces": [[0.1, 0, 0], [-0.1, 0, 0]],
        "stress": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "constraints": [{"name": "FixAtoms", "kwargs": {"indices": [0]}}],
        "unique_id": "a1", "key_value_pairs": {"config_type": "bulk"}, "data": {"sid": "x7", "charge": 0},
    }  # fmt: skip
    with (
        lmdb.open(str(tmp_path / "f.aselmdb"), subdir=False, map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in (1, 2, 10):
            transaction.put(str(number).encode(), pack({**row, "energy": -float(number)}))
        transaction.put(b"nextid", pack(11))
        transaction.put(b"deleted_ids", pack([3, 4, 5, 6, 7, 8, 9]))
        transaction.put(b"metadata", pack({"format": "x"}))
    frames = read(tmp_path / "f.aselmdb")
    assert [f.energy for f in frames] == [-1, -2, -10]
    assert frames[0].forces[0, 0] == 0.1
    assert frames[0].stress.tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]
    assert frames[0].group == "bulk"


def test_a_deepmd_system_with_old_shapes_and_single_precision(tmp_path):
    """Energies of shape [F, 1], float32 numbers, several sets, and no virial, as in deepmd-kit's water example."""
    for k in range(2):
        folder = tmp_path / "data_0" / f"set.00{k}"
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", np.arange(12, dtype=np.float32).reshape(2, 6))
        np.save(folder / "box.npy", np.tile(np.eye(3, dtype=np.float32).ravel() * 12.5, (2, 1)))
        np.save(folder / "energy.npy", np.array([[-466.25], [-467.5]], dtype=np.float32) - k)
        np.save(folder / "force.npy", np.ones((2, 6), dtype=np.float32))
    (tmp_path / "data_0" / "type.raw").write_text("0 1\n")
    (tmp_path / "data_0" / "type_map.raw").write_text("O H\n")
    frames = read(tmp_path)
    assert [f.energy for f in frames] == [-466.25, -467.5, -467.25, -468.5]
    assert frames[1].positions.tolist() == [[6, 7, 8], [9, 10, 11]]
    assert frames[0].stress is None
    assert frames[0].source == f"{tmp_path / 'data_0'}#0"
