"""Damaged files give a RutileError or a valid frame, never anything else."""

import io as std
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rutile.core.errors import RutileError
from rutile.core.reporting import SilentReporter
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings
from rutile.structures import io

FUZZ = settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
NAMES = {
    "extxyz": "f.extxyz", "cif": "f.cif", "poscar": "POSCAR_f", "xsf": "f.xsf", "n2p2": "input.data",
    "traj": "f.traj", "db": "f.db", "aselmdb": "f.aselmdb",
}  # fmt: skip


def some_frames(n: int) -> list[Atoms]:
    rng = np.random.default_rng(7)
    frames = []
    for k in range(n):
        atoms = Atoms("TiO2", positions=rng.normal(0, 0.1, (3, 3)) + 2 * np.eye(3), cell=[5, 6, 7], pbc=True)
        atoms.info |= {"REF_energy": -10.0 - k, "REF_stress": np.eye(3) / 7, "config_type": "x y"}
        atoms.arrays["REF_forces"] = rng.normal(0, 1, (3, 3))
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder, out = tmp_path_factory.mktemp("originals"), {}
    for format, name in NAMES.items():
        io.write_frames(folder / name, some_frames(1 if io.FORMATS[format].one_frame else 3), format)
        out[format] = (folder / name).read_bytes()
    return out


def damage(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut, flipped bytes, a repeated or removed piece, or strange words in the place of a piece."""
    out = bytearray(data)
    at = st.integers(0, len(data) - 1)
    kind = draw(st.sampled_from(["cut", "flip", "remove", "repeat", "insert"]))
    a, b = sorted((draw(at), draw(at)))
    if kind == "cut":
        del out[a:]
    elif kind == "flip":
        for k in draw(st.lists(at, min_size=1, max_size=8)):
            out[k] ^= draw(st.integers(1, 255))
    elif kind == "remove":
        del out[a : min(b, a + 200)]
    elif kind == "repeat":
        out[a:a] = data[a : min(b, a + 200)]
    else:
        words = [
            b"\n",
            b" ",
            b"nan",
            b"1e999",
            b'"',
            b"=",
            b"999999999",
            b"\n\n",
            b"-",
            b"\xff\xfe",
            b"{",
            b"_JSON [",
            b":",
        ]
        out[a:a] = draw(st.sampled_from(words))
    return bytes(out)


def assert_only_valid_or_error(path: Path, format: str) -> None:
    for on_bad in ("error", "skip"):
        frames = []
        try:
            frames = list(read_frames([path], ReadSettings(format=format, on_bad=on_bad), SilentReporter()))
        except RutileError as error:
            message = str(error)
        else:
            message = str(path)
        assert str(path) in message
        assert "\n" not in message
        for frame in frames:
            n = len(frame.numbers)
            assert n > 0
            assert frame.positions.shape == (n, 3)
            assert np.isfinite(frame.positions).all()
            assert np.isfinite(frame.cell).all()
            assert frame.energy is None or np.isfinite(frame.energy)
            assert frame.forces is None or (frame.forces.shape == (n, 3) and np.isfinite(frame.forces).all())
            assert frame.stress is None or (frame.stress.shape == (3, 3) and np.isfinite(frame.stress).all())


@pytest.mark.parametrize("format", ["extxyz", "n2p2", "xsf", "poscar", "cif", "traj", "db"])
@FUZZ
@given(data=st.data())
def test_damage_never_surprises(format, data, originals, tmp_path):
    path = tmp_path / NAMES[format]
    path.write_bytes(damage(data.draw, originals[format]))
    assert_only_valid_or_error(path, format)


@settings(FUZZ, max_examples=25)
@given(data=st.data())
def test_damage_of_a_deepmd_folder(data, tmp_path):
    path = tmp_path / "system"
    if not path.exists():
        io.write_frames(path, some_frames(3), "deepmd")
    file = data.draw(st.sampled_from(sorted(p for p in path.rglob("*") if p.is_file())))
    original = file.read_bytes()
    file.write_bytes(damage(data.draw, original))
    assert_only_valid_or_error(path, "deepmd")
    file.write_bytes(original)


def test_every_truncation_of_a_text_file(originals, tmp_path):
    """A cut in front of the last line loses frames with an error, never quietly within a frame."""
    data = originals["extxyz"]
    starts = [0]
    for line in std.BytesIO(data):
        starts.append(starts[-1] + len(line))
    whole = {starts[k] for k in range(0, len(starts), 5)}
    path = tmp_path / "f.extxyz"
    for cut in starts[1:-1]:
        path.write_bytes(data[:cut])
        if cut in whole:
            assert len(list(read_frames([path], ReadSettings(), SilentReporter()))) == len(
                [w for w in whole if 0 < w <= cut]
            )
        else:
            with pytest.raises(RutileError, match="truncated"):
                list(read_frames([path], ReadSettings(), SilentReporter()))


def test_a_truncated_aselmdb(originals, tmp_path):
    """LMDB has no checksums, so only its length can be checked; what is missing is never touched."""
    data = originals["aselmdb"]
    for size in range(0, len(data), 512):
        (tmp_path / "f.aselmdb").write_bytes(data[:size])
        with pytest.raises(RutileError, match=r"truncated|not an LMDB file"):
            list(read_frames([tmp_path / "f.aselmdb"], ReadSettings(), SilentReporter()))


def test_a_damaged_row_of_an_aselmdb(tmp_path):
    import lmdb

    io.write_frames(tmp_path / "f.aselmdb", some_frames(3))
    with (
        lmdb.open(str(tmp_path / "f.aselmdb"), subdir=False, lock=False) as environment,
        environment.begin(write=True) as t,
    ):
        t.put(b"2", b"not compressed")
        t.put(b"deleted_ids", b"x")
    with pytest.raises(RutileError, match="frame 1: row 2 is damaged"):
        list(read_frames([tmp_path / "f.aselmdb"], ReadSettings(), SilentReporter()))
    kept = list(read_frames([tmp_path / "f.aselmdb"], ReadSettings(on_bad="skip"), SilentReporter()))
    assert [f.energy for f in kept] == [-10, -12]
