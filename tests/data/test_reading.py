"""Reading labelled frames: which labels, in which units, and a clear word about each bad frame."""

import tracemalloc

import numpy as np
import pytest
from pydantic import ValidationError
from reading_files import frame_text, read, write

from rutile.core.errors import DataError, FileError, LabelError, RutileError
from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA, HARTREE
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings

STRESS = "1 6 5 6 2 4 5 4 3"
"""Nine numbers whose Voigt form is 1 2 3 4 5 6."""
VOIGT = [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


@pytest.mark.parametrize("prefix", ["", "REF_", "ref_", "dft_", "DFT_"])
def test_labels_are_found_under_the_usual_names(prefix, tmp_path):
    text = frame_text(f'{prefix}energy=-1.5 {prefix}stress="{STRESS}"', forces=f"{prefix}forces")
    (frame,) = read(write(tmp_path / "a.xyz", text))
    assert frame.energy == -1.5
    assert frame.forces.tolist() == [[0, 0, 1], [0, 0, -1]]
    assert frame.stress.tolist() == VOIGT
    assert frame.source == f"{tmp_path / 'a.xyz'}#0"


def test_named_keys_win(tmp_path):
    text = frame_text('energy=-1.5 my_e=-7 my_s="1 2 3 4 5 6"', forces="my_f")
    (frame,) = read(write(tmp_path / "a.xyz", text), energy_key="my_e", forces_key="my_f", stress_key="my_s")
    assert (frame.energy, frame.forces[0, 2]) == (-7, 1)
    assert frame.stress.tolist() == VOIGT
    (frame,) = read(tmp_path / "a.xyz", energy_key="energy")
    assert frame.energy == -1.5
    assert frame.forces is None
    (frame,) = read(tmp_path / "a.xyz", energy_key="none")
    assert frame.energy is None


@pytest.mark.parametrize("stress", ["1 2 3 4 5 6", STRESS])
def test_stress_of_six_and_of_nine_numbers(stress, tmp_path):
    (frame,) = read(write(tmp_path / "a.xyz", frame_text(f'stress="{stress}"')))
    assert frame.stress.tolist() == VOIGT


@pytest.mark.parametrize("name", ["virial", "virials", "REF_virial", "dft_virial", "REF_virials"])
def test_a_virial_becomes_a_stress_with_the_other_sign(name, tmp_path):
    (frame,) = read(write(tmp_path / "a.xyz", frame_text(f'{name}="{STRESS}"')))
    assert frame.stress == pytest.approx(-np.array(VOIGT) / 125)


def test_a_virial_without_a_cell_is_an_error(tmp_path):
    text = frame_text(f'virial="{STRESS}"', lattice='pbc="F F F"')
    with pytest.raises(LabelError, match="a virial needs a cell"):
        read(write(tmp_path / "a.xyz", text))


def test_units_are_converted_once(tmp_path):
    path = write(tmp_path / "a.xyz", frame_text(f'energy=2 stress="{STRESS}" config_weight=2.5 calc_mode=PBE'))
    (frame,) = read(path, energy_unit="Hartree", length_unit="nm", stress_unit="GPa", stress_sign="compression")
    assert frame.energy == pytest.approx(2 * HARTREE)
    assert frame.positions[1, 0] == 20
    assert frame.cell[2, 2] == 50
    assert frame.forces[0, 2] == pytest.approx(HARTREE / 10)
    assert frame.stress == pytest.approx(-GPA * np.array(VOIGT))
    assert (frame.weight, frame.calc_mode) == (2.5, "PBE")
    (frame,) = read(path, energy_unit="kcal/mol")
    assert frame.stress[0, 0] == pytest.approx(0.0433641153)


def test_two_different_energies_are_refused_and_equal_ones_are_not(tmp_path):
    path = write(tmp_path / "a.xyz", frame_text("energy=-1.5 REF_energy=-1.6"))
    with pytest.raises(
        LabelError, match=r"REF_energy \(-1\.6\), energy \(-1\.5\).*energy_key=REF_energy or energy_key=energy"
    ):
        read(path)
    assert read(path, energy_key="REF_energy")[0].energy == -1.6
    write(path, frame_text("energy=-1.5 REF_energy=-1.5"))
    assert read(path)[0].energy == -1.5


def test_stress_and_virial_must_agree(tmp_path):
    good = " ".join(str(-125 * float(x)) for x in STRESS.split())
    (frame,) = read(write(tmp_path / "a.xyz", frame_text(f'stress="{STRESS}" virial="{good}"')))
    assert frame.stress.tolist() == VOIGT
    with pytest.raises(LabelError, match="stress is found under several names"):
        read(write(tmp_path / "a.xyz", frame_text(f'stress="{STRESS}" virial="{STRESS}"')))


def test_free_energy_alone_is_used_and_beside_energy_is_not(tmp_path):
    assert read(write(tmp_path / "a.xyz", frame_text("energy=-1.5 free_energy=-1.6")))[0].energy == -1.5
    assert read(write(tmp_path / "a.xyz", frame_text("free_energy=-1.6")))[0].energy == -1.6


def test_a_wrong_key_name_never_reads_nothing(tmp_path):
    path = write(tmp_path / "a.xyz", frame_text("REF_energy=-1.5"))
    with pytest.raises(
        LabelError,
        match=r"energy_key='REF_enrgy' is in no frame \(keys there: REF_energy, forces\); did you mean REF_energy",
    ):
        read(path, energy_key="REF_enrgy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (frame_text("energy=nan"), "the energy is not finite"),
        (frame_text("energy=-1e400"), "the energy is not finite"),
        (frame_text("energy=abc"), "energy under 'energy'"),
        (frame_text('energy="1 2"'), "one number expected, found 2"),
        (frame_text(rows=("Ti 0 0 0 0 0 nan", "O 2 0 0 0 0 0")), "atom 0: the force is not finite"),
        (frame_text(rows=("Ti 0 0 0 0 0 1", "O nan 0 0 0 0 0")), "atom 1: the position is not finite"),
        (frame_text(rows=("Ti 0 0 0 0 0 1", "O 0 0 0.2 0 0 0")), r"atoms 0 and 1 \(Ti and O\) are 0.2 Angstrom apart"),
        (frame_text(rows=("Ti 0 0 0 0 0 1", "O 4.9 0 0 0 0 0")), "are 0.1 Angstrom apart"),
        (frame_text(rows=("Ti 0 0 0 0 0 1", "Zz 2 0 0 0 0 0")), "unknown element or property 'Zz'"),
        (frame_text(rows=("Ti 0 0 0 0 0 1", "X 2 0 0 0 0 0")), "atom 1: unknown element"),
        (frame_text(rows=("Ti 0 0 0 0 0 1", "O 2 0 0 0 0")), "not a valid extended XYZ frame"),
        (frame_text(rows=("Ti 0 0 0 0 0 1", "O 1e30 0 0 0 0 0")), "not a position"),
        (frame_text(lattice='pbc="T T T"'), "periodic along cell vector 0"),
        (frame_text(lattice='Lattice="5 0 0 5 0 0 0 0 5"'), "singular cell"),
        (frame_text(lattice='Lattice="5 0 0 0 nan 0 0 0 5"'), "the cell is not finite"),
        (frame_text(lattice='Lattice="5 0 0 0 5 0"'), "not a valid extended XYZ frame"),
        (frame_text('stress="1 2 3"'), "stress should be 6"),
        (frame_text('stress="a b c d e f"'), "stress should be 6"),
        (frame_text('stress="1 2 3 inf 5 6"'), "the stress is not finite"),
        (frame_text("config_weight=-1"), "a number of at least 0"),
        (frame_text(count="0", rows=()), "the frame has no atoms"),
        (frame_text(count="1"), "1 atoms announced, but 1 more lines follow"),
    ],
)
def test_a_bad_frame_is_named_or_skipped(text, message, tmp_path):
    path = write(tmp_path / "a.xyz", frame_text(), text, frame_text("energy=-3"))
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: frame 1: ")
    reporter = SilentReporter()
    assert [f.energy for f in read(path, reporter, on_bad="skip")] == [-1.5, -3]
    assert len(reporter.warnings) == 2
    assert reporter.warnings[0].startswith(f"skipped: {path}: frame 1: ")
    assert reporter.warnings[1] == "1 of 3 frames were skipped (on_bad=skip)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (frame_text(count="3"), "truncated"),
        (frame_text(count="999999999999999"), "announces 999999999999999 atoms, but only"),
        (frame_text()[:-40], "truncated"),
        ("2\n", "announces 2 atoms"),
        ("\n\n3\n", "line 7 announces 3 atoms"),
    ],
)
def test_a_damaged_rest_is_named(text, message, tmp_path):
    path = write(tmp_path / "a.xyz", frame_text(), text)
    with pytest.raises(RutileError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: frame ")
    reporter = SilentReporter()
    assert len(read(path, reporter, on_bad="skip")) >= 1
    assert "nothing behind this frame can be read" in reporter.warnings[0]


@pytest.mark.parametrize("count", ["99999999999999999999999", "-2", "2.0", "two"])
def test_a_header_that_is_no_number_of_atoms(count, tmp_path):
    path = write(tmp_path / "a.xyz", frame_text(count=count))
    with pytest.raises(FileError, match="line 1 should be a number of atoms"):
        read(path)
    write(path, frame_text(), frame_text(count=count), frame_text("energy=-3"))
    with pytest.raises(DataError, match="frame 0: 2 atoms announced, but 4 more lines follow"):
        read(path)
    assert [f.energy for f in read(path, on_bad="skip")] == [-3]


def test_blank_lines_and_line_ends_of_windows(tmp_path):
    text = frame_text() + "\n\n" + frame_text("energy=-3") + "\n  \n"
    (tmp_path / "a.xyz").write_bytes(text.replace("\n", "\r\n").encode())
    assert [f.energy for f in read(tmp_path / "a.xyz")] == [-1.5, -3]


def test_plain_xyz_without_labels(tmp_path):
    path = write(tmp_path / "a.xyz", "2\n\nH 0 0 0\nH 0 0 0.74\n2\nit's a \"comment\nH 0 0 0\nH 0 0 0.75\n")
    first, second = read(path)
    assert first.energy is first.forces is first.stress is None
    assert second.positions[1, 2] == 0.75


def test_truncated_numbers_in_the_last_line_are_seen(tmp_path):
    text = frame_text()
    path = write(tmp_path / "a.xyz", text[: text.rindex("-1.0") - 1])
    with pytest.raises(DataError, match="not a valid extended XYZ frame"):
        read(path)


def test_garbage_and_empty_files(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "garbage.xyz").write_bytes(rng.bytes(5000))
    with pytest.raises(FileError, match=r"binary or damaged|number of atoms"):
        read(tmp_path / "garbage.xyz")
    (tmp_path / "zeros.xyz").write_bytes(bytes(1 << 16))
    with pytest.raises(FileError, match=r"zeros\.xyz: frame 0: line 1 is not text"):
        read(tmp_path / "zeros.xyz")
    (tmp_path / "empty.xyz").write_bytes(b"")
    with pytest.raises(DataError, match="no usable frame: empty"):
        read(tmp_path / "empty.xyz")


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.xsf", "input.data", "a.traj", "a.db", "a.aselmdb", "a.xyz"])
def test_garbage_in_every_format(name, tmp_path):
    rng = np.random.default_rng(1)
    for size in (0, 1, 100, 10000):
        (tmp_path / name).write_bytes(rng.bytes(size))
        with pytest.raises(RutileError) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_all_frames_bad_is_an_error_also_when_skipping(tmp_path):
    path = write(tmp_path / "a.xyz", frame_text("energy=nan"))
    with pytest.raises(DataError, match=r"no usable frame \(1 skipped\); the first: .*frame 0: .*energy"):
        read(path, on_bad="skip")


def test_wrong_unit_names_are_refused():
    with pytest.raises(ValidationError, match="'eV', 'meV', 'Hartree'"):
        ReadSettings(energy_unit="ev")


@pytest.mark.slow
def test_reading_streams(tmp_path):
    """A file far larger than what is held: the first frames come without reading the rest, memory stays flat."""
    path = tmp_path / "big.xyz"
    with path.open("w") as handle:
        handle.writelines([frame_text()] * 20_000)
        handle.write("broken\n")
    frames = read_frames([path], ReadSettings(), SilentReporter())
    tracemalloc.start()
    for _ in range(200):
        next(frames)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < path.stat().st_size
