"""The census sees what was planted, and is silent about what is in order."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from reading_files import SHARED, frame_text, write

from rutile.core.errors import LabelError
from rutile.core.reporting import SilentReporter
from rutile.data.census import estimate_frames, take_census
from rutile.data.checks import require_labels
from rutile.data.settings import ReadSettings
from rutile.structures import io


def solid(seed: int, strain: float = 0.0, rattle: float = 0.05, sign: float = 1.0) -> Atoms:
    """Copper-like atoms on springs: E = K V0 (ln V/V0)^2 / 2, stress = dE/dV, forces of springs to the sites."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array * (1 + strain), scale_atoms=True)
    v, v0, k = atoms.cell.volume, atoms.cell.volume / (1 + strain) ** 3, 0.9
    move = rng.normal(0, rattle, (len(atoms), 3))
    move -= move.mean(axis=0)
    atoms.positions += move
    atoms.info["REF_energy"] = -28.0 + k * v0 * np.log(v / v0) ** 2 / 2 + 2.5 * (move**2).sum()
    atoms.info["REF_stress"] = sign * k * np.log(v / v0) * v0 / v * np.eye(3)
    atoms.arrays["REF_forces"] = -5.0 * move
    return atoms


def census(folder, frames, **settings):
    io.write_frames(folder / "f.extxyz", frames)
    return take_census([folder / "f.extxyz"], ReadSettings(**settings), SilentReporter())


def strained(sign: float = 1.0) -> list[Atoms]:
    return [solid(k, strain, sign=sign) for k, strain in enumerate(np.linspace(-0.04, 0.04, 12))]


def isolated(symbol: str, energy: float) -> Atoms:
    atoms = Atoms(symbol, [[0, 0, 0]])
    atoms.info["REF_energy"] = energy
    return atoms


def test_a_set_in_order(tmp_path):
    found = census(tmp_path, [*strained(), isolated("Cu", -0.2)])
    assert (found.frames, found.atoms) == (13, 97)
    assert [(r.label, r.frames, r.missing, r.found_as) for r in found.labels] == [
        ("energy", 13, 0, "REF_energy"),
        ("forces", 12, 1, "REF_forces"),
        ("stress", 12, 1, "REF_stress"),
    ]
    assert found.labels[2].unit == "eV/Angstrom^3"
    (copper,) = found.elements
    assert (copper.element, copper.frames, copper.isolated_atom) == ("Cu", 13, -0.2)
    assert found.stress_sign.startswith("as in ASE")
    assert (found.duplicates, found.n_problems) == (0, 0)
    assert [w for w in found.warnings if "missing" not in w] == ["mixed periodicity: TTT (12), FFF (1)"]


def test_the_wrong_stress_sign_is_seen_and_the_setting_cures_it(tmp_path):
    found = census(tmp_path, strained(sign=-1))
    assert found.stress_sign.startswith("looks opposite")
    assert any("stress_sign=compression" in w for w in found.warnings)
    cured = take_census([tmp_path / "f.extxyz"], ReadSettings(stress_sign="compression"), SilentReporter())
    assert cured.stress_sign.startswith("as in ASE")


def test_the_stress_sign_is_not_guessed_at_one_volume(tmp_path):
    assert census(tmp_path, [solid(k) for k in range(6)]).stress_sign.startswith("cannot be judged")


@pytest.mark.parametrize(("unit", "factor"), [("GPa", 160.21766), ("kbar", 1602.1766)])
def test_stresses_in_another_unit_are_seen_and_the_setting_cures_it(unit, factor, tmp_path):
    frames = [solid(0, strain, rattle=0.01) for strain in np.linspace(-0.04, 0.04, 12)]
    assert not [w for w in census(tmp_path, frames).warnings if "stress_unit" in w]
    for atoms in frames:
        atoms.info["REF_stress"] *= factor
    (warning,) = [w for w in census(tmp_path, frames).warnings if "stress_unit" in w]
    assert warning.endswith(f"say stress_unit={unit}")
    assert not [w for w in census(tmp_path, frames, stress_unit=unit).warnings if "stress_unit" in w]


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1.0, None), (-1.0, "the forces have the wrong sign"), (0.0194469, "forces in Hartree/Bohr?")],
)
def test_forces_against_energies(factor, message, tmp_path):
    frames = [solid(k) for k in range(8)]
    frames[3].positions += frames[3].cell.array.sum(axis=0)  # the same place
    for atoms in frames:
        atoms.arrays["REF_forces"] *= factor
    found = census(tmp_path, frames)
    warnings = [w for w in found.warnings if "forces" in w]
    if message is None:
        assert found.forces_against_energies.startswith("agree with the energies")
        assert "slope +1, 7 steps" in found.forces_against_energies
        assert warnings == []
    else:
        assert message in warnings[0]


def test_copies_are_found_whatever_was_done_to_them(tmp_path):
    frames = strained()
    rng = np.random.default_rng(3)
    copy = frames[4].copy()
    copy.rotate(40, (1, 2, 3), rotate_cell=True)
    copy.positions += [0.3, -8.0, 20.0]
    copy.wrap()
    copy = copy[rng.permutation(len(copy))]
    copy.info = dict(frames[4].info)
    found = census(tmp_path, [*frames, copy, frames[7]])
    assert found.duplicates == 2
    assert found.duplicate_pairs == ["f.extxyz frame 12 = f.extxyz frame 4", "f.extxyz frame 13 = f.extxyz frame 7"]
    assert any("2 frames repeat an earlier one" in w for w in found.warnings)


def test_two_energies_of_one_geometry(tmp_path):
    frames = strained()
    other = frames[2].copy()
    other.info["REF_energy"] += 0.5
    found = census(tmp_path, [*frames, other])
    assert found.duplicates == 0
    (warning,) = [w for w in found.warnings if w.startswith("1 pairs of one geometry")]
    assert warning.endswith("f.extxyz frame 12 and f.extxyz frame 2 (0.0625 eV/atom)")


def test_a_small_move_is_no_copy(tmp_path):
    frames = [bulk("Cu", cubic=True) * (2, 2, 2) for _ in range(2)]
    for k, atoms in enumerate(frames):
        atoms.positions[0, 0] += 0.01 * k
        atoms.info["REF_energy"] = -112.0 + 2.5 * 0.01**2 * k
    assert census(tmp_path, frames).duplicates == 0


def test_mixed_energy_scales(tmp_path):
    frames = strained()
    for atoms in frames[:4]:
        atoms.info["REF_energy"] -= 8 * 1600.0
    (warning,) = [w for w in census(tmp_path, frames).warnings if "away from all others" in w]
    assert warning.startswith("the energies of 4 of 12 frames are 1")


def test_net_force_placeholders_and_missing_atoms(tmp_path):
    frames = strained()
    for atoms in frames:
        atoms.arrays["REF_forces"] = np.zeros((8, 3))
    frames[3].arrays["REF_forces"][0] = [0.3, 0, 0.4]
    found = census(tmp_path, frames)
    text = " | ".join(found.warnings)
    assert "the forces of 1 frames do not add up to zero" in text
    assert "all forces are exactly zero in 11 frames" in text
    assert "no isolated atom of Cu" in text
    extremes = {e.quantity: e for e in found.extremes}
    assert extremes["largest force"].value == pytest.approx(0.5)
    assert extremes["largest force"].where == "f.extxyz frame 3, atom 0 (Cu)"


def test_extremes(tmp_path):
    frames = [Atoms("OH", [[0, 0, 0], [0, 0, d]], cell=[9, 9, 9], pbc=True) for d in (1.2, 0.9, 1.5)]
    for k, atoms in enumerate(frames):
        atoms.info["REF_energy"] = float(-k)
    extremes = {e.quantity: (e.value, e.where) for e in census(tmp_path, frames).extremes}
    assert extremes["smallest distance"] == (pytest.approx(0.9), "f.extxyz frame 1, atoms 0 and 1 (O-H)")
    assert extremes["smallest energy per atom"] == (-1.0, "f.extxyz frame 2")
    assert extremes["largest energy per atom"] == (0.0, "f.extxyz frame 0")
    assert extremes["largest volume per atom"][0] == pytest.approx(364.5)


def test_bad_frames_are_listed_and_never_stop_a_census(tmp_path):
    path = write(tmp_path / "a.xyz", frame_text(), frame_text("energy=nan"), frame_text("energy=1 REF_energy=2"))
    found = take_census([path], ReadSettings(), SilentReporter())
    assert (found.frames, found.n_problems) == (1, 2)
    assert f"{path}: frame 1: the energy is not finite (nan)" in found.problems
    assert "different values" in found.problems[1]
    assert found.files[0].unusable == 2
    assert any("2 frames cannot be used" in w for w in found.warnings)


def test_different_names_in_different_frames(tmp_path):
    path = write(tmp_path / "a.xyz", frame_text("energy=1"), frame_text("dft_energy=1.5 bandgap=3.1"))
    found = take_census([path], ReadSettings(), SilentReporter())
    assert found.labels[0].found_as == "energy (1), dft_energy (1)"
    assert [(k.name, k.frames) for k in found.other_keys] == [("bandgap", 1)]
    assert any("energy has different names" in w for w in found.warnings)


def test_a_wrong_key_is_named(tmp_path):
    path = write(tmp_path / "a.xyz", frame_text("REF_energy=1"))
    found = take_census([path], ReadSettings(energy_key="REF_enrgy"), SilentReporter())
    assert found.warnings[0].endswith("did you mean REF_energy?")
    assert "no frame has an energy" in found.warnings


def test_training_never_starts_without_its_labels(tmp_path):
    found = take_census([write(tmp_path / "a.xyz", frame_text("Etot=-1"))], ReadSettings(), SilentReporter())
    counts, keys = {r.label: r.frames for r in found.labels}, [k.name for k in found.other_keys]
    require_labels(counts, found.frames, keys, forces=True)
    message = r"a\.xyz: no energy in any of 1 frames \(keys there: Etot\); say read\.energy_key=Etot"
    with pytest.raises(LabelError, match=message):
        require_labels(counts, found.frames, keys, energy=True, forces=True, place="a.xyz")


def test_the_estimate_of_frames_for_progress(tmp_path):
    io.write_frames(tmp_path / "f.extxyz", strained())
    assert estimate_frames(tmp_path / "f.extxyz") == 12


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data sets are not at {SHARED}")


def shared(*names: str, **settings):
    return take_census([SHARED / n for n in names], ReadSettings(**settings), SilentReporter())


@pytest.mark.slow
@needs_shared
def test_real_tio2():
    found = shared("tio2-aenet/public/train.extxyz")
    assert (found.frames, found.atoms, found.n_formulas, found.n_problems) == (757, 15949, 8, 0)
    assert [r.frames for r in found.labels] == [757, 757, 0]
    assert [(e.element, e.frames) for e in found.elements] == [("O", 757), ("Ti", 757)]
    extremes = {e.quantity: e.value for e in found.extremes}
    assert extremes["largest total force of a cell"] < 1e-5
    assert extremes["largest force"] > 52.13  # the README's largest component
    assert found.duplicates == 0


@pytest.mark.slow
@needs_shared
def test_real_mlearn_test_frames_that_are_copies_of_training_frames():
    """The README counts 9 copper frames by energies equal to 1e-6 eV; two more have the same geometry to 1e-11."""
    found = shared("mlearn/public/Cu_test.extxyz", "mlearn/public/Cu_train.extxyz")
    assert (found.frames, found.n_problems) == (293, 0)
    assert "11 different frames are both in Cu_test.extxyz and in Cu_train.extxyz" in found.warnings
    assert found.stress_sign.startswith("as in ASE")
    wrong = shared("mlearn/public/Cu_test.extxyz", stress_sign="compression")
    assert not wrong.stress_sign.startswith("as in ASE")


@pytest.mark.slow
@needs_shared
def test_real_tantalum_and_water():
    tantalum = shared("ta-snap/public")
    assert tantalum.frames == 289
    assert tantalum.stress_sign.startswith("as in ASE")
    assert "slope +0.987" in tantalum.forces_against_energies
    assert {g.name for g in tantalum.groups} >= {"Displaced_A15", "Displaced_BCC"}
    water = shared("water-deepmd/public/valid_data3_a.extxyz")
    assert water.frames == 40
    assert any("do not add up to zero" in w for w in water.warnings)  # said by the README
    assert water.labels[2].frames == 0


@needs_shared
def test_real_multi_element_set():
    found = shared(*(f"universal-mattersim/public/{kind}-TP_valid.extxyz" for kind in ("mpf", "random")))
    assert (found.frames, found.n_problems) == (107 + 69, 0)
    assert len(found.elements) > 60
    assert any("no isolated atom of" in w and "more" in w for w in found.warnings)
