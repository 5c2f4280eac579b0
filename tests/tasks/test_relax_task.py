"""`rutile relax` as a task: it goes on where it was stopped, holds atoms, keeps symmetry, and says what is wrong."""

import errno
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms, FixCartesian
from ase.io import read, write

from rutile.cli.main import main
from rutile.core.errors import FileError, GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.structures.formats import extxyz
from rutile.tasks import kept_relaxations, relax


def rattled(seed, size=0.1):
    atoms = bulk("Cu", cubic=True)
    atoms.positions += np.random.default_rng(seed).normal(0, size, atoms.positions.shape)
    return atoms


def settings(folder, images, **changes):
    write(folder / "in.extxyz", images)
    given = {"model": "emt", "structures": [folder / "in.extxyz"], "out": folder / "out.extxyz", "cell": "full"}
    return relax.RelaxTaskSettings.model_validate({**given, **changes})


@pytest.mark.slow
def test_table_page_and_result(tmp_path, capsys):
    how = settings(tmp_path, [rattled(0), Atoms("Cu2", [[0, 0, 0], [2.4, 0, 0]])], cell="none")
    words = [f"model={how.model}", f"structures={how.structures[0]}", f"out={how.out}"]
    assert main(["relax", *words]) == 0, capsys.readouterr()
    result = relax.RelaxTaskResult.model_validate_json(how.out.with_suffix(".json").read_text())
    assert result.converged == 2
    assert set(result.units) == {"out.csv", "out_path.csv"}
    assert result.units["out.csv"] == relax.units_of(relax.RelaxedRow)
    assert result.units[how.out.with_suffix(".csv").name]["pressure"] == "GPa"
    assert result.structures[0].spacegroup_before == "P1"
    assert result.structures[0].spacegroup == "Fm-3m"
    assert result.structures[1].spacegroup == ""
    text = how.out.with_suffix(".html").read_text()
    assert "Fm-3m" in text
    assert text.count("<svg") >= 3
    assert not list(tmp_path.glob(".out*"))


def test_a_name_without_ending_is_a_folder_and_an_unknown_ending_an_error(tmp_path, capsys):
    how = settings(tmp_path, [rattled(0)], cell="none", max_steps=1, out=tmp_path / "sub/out")
    result = relax.run(how, SilentReporter())
    names = sorted(path.name for path in how.out.iterdir())
    assert names == ["path.csv", "path.extxyz", "relaxed.extxyz", "report.html", "result.json", "table.csv"]
    assert (result.out, result.table) == (how.out / "relaxed.extxyz", how.out / "table.csv")
    assert json.loads((how.out / "result.json").read_text())["units"]["table.csv"]["volume"] == "Å³/atom"
    relax.run(how, SilentReporter())  # the folder is there: again a folder
    assert sorted(path.name for path in how.out.iterdir()) == names
    assert main(["relax", str(how.structures[0]), "model=emt", f"out={tmp_path}/out.foo"]) == 2
    assert "out.foo: the name says no file format" in capsys.readouterr().err


def stop_after(monkeypatch, count, error):
    """Let only so many structures be kept."""
    add = kept_relaxations.KeptRelaxations.add
    kept = []

    def some(self, number, relaxed, way=()):
        if len(kept) == count:
            raise error
        kept.append(number)
        add(self, number, relaxed, way)

    monkeypatch.setattr(kept_relaxations.KeptRelaxations, "add", some)
    return kept


@pytest.mark.slow
def test_what_was_stopped_goes_on_to_the_same_result(tmp_path, monkeypatch):
    images = [rattled(seed) for seed in range(7)]
    (tmp_path / "whole").mkdir()
    whole = relax.run(settings(tmp_path / "whole", images), SilentReporter())
    how = settings(tmp_path, images, atoms_at_once=8)
    with monkeypatch.context() as patch:
        first = stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            relax.run(how, SilentReporter())
    assert not how.out.exists()
    done = tmp_path / ".out.extxyz.unfinished" / "done.extxyz"
    assert len(read(done, ":")) == 3  # readable by any program
    done.write_bytes(done.read_bytes() + b"4\nrelaxed={")  # killed while writing
    way = done.with_name("path.extxyz")
    way.write_bytes(way.read_bytes() + way.read_bytes()[:700])
    reporter = SilentReporter()
    with monkeypatch.context() as patch:
        second = stop_after(patch, 99, None)
        result = relax.run(how, reporter)
    assert "going on after 3 of 7 structures" in reporter.messages
    assert sorted(first + second) == list(range(7))
    assert [r.outcome for r in result.structures] == ["converged"] * 7
    for a, b in zip(whole.structures, result.structures, strict=True):
        assert a.steps == b.steps
        assert a.energy == pytest.approx(b.energy, abs=1e-10)
    for name in ("out.extxyz", "out_path.extxyz"):
        for a, b in zip(read(tmp_path / "whole" / name, ":"), read(tmp_path / name, ":"), strict=True):
            np.testing.assert_allclose(a.positions, b.positions, atol=1e-7)
            assert a.info.get("step") == b.info.get("step")
    assert not done.parent.exists()


@pytest.mark.slow
def test_another_question_does_not_go_on(tmp_path, monkeypatch):
    how = settings(tmp_path, [rattled(seed) for seed in range(3)])
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            relax.run(how, SilentReporter())
    with pytest.raises(SettingsError, match=r"another relaxation .* remove .*unfinished, or choose another out="):
        relax.run(how.model_copy(update={"fmax": 0.5}), SilentReporter())
    relax.run(how, SilentReporter())


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_done(tmp_path, monkeypatch):
    how = settings(tmp_path, [rattled(seed) for seed in range(4)], atoms_at_once=4, paths=0)
    written = []
    text = extxyz.text

    def full(atoms):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(atoms)
        return text(atoms)

    with monkeypatch.context() as patch:
        patch.setattr(extxyz, "text", full)
        with pytest.raises(FileError, match=r"No space left on device; .* kept in .*done\.extxyz: make room") as error:
            relax.run(how, SilentReporter())
    assert "\n" not in str(error.value)
    assert len(read(tmp_path / ".out.extxyz.unfinished" / "done.extxyz", ":")) == 2
    assert relax.run(how, SilentReporter()).converged == 4


@pytest.mark.slow
def test_failures_are_kept_word_for_word(tmp_path, monkeypatch):
    close = Atoms("Cu2", [[0, 0, 0], [0.45, 0, 0]], cell=[9, 9, 9], pbc=True)
    how = settings(tmp_path, [close, rattled(1), rattled(2)], cell="none")
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            relax.run(how, SilentReporter())
    result = relax.run(how, SilentReporter())
    assert result.structures[0].outcome == "failed: two atoms are 0.45 Å apart at step 0 (closest: 0.5 Å)"
    assert result.structures[0].energy is None or np.isfinite(result.structures[0].energy)


@pytest.mark.slow
def test_atoms_held_by_file_number_and_height(tmp_path):
    slab = fcc111("Cu", (1, 1, 4), vacuum=6.0)
    slab.info.clear()
    slab.positions[3, 2] += 0.2
    slab.set_constraint(FixAtoms([1]))
    how = settings(tmp_path, [slab], cell="none", fixed=[2], fixed_below=6.5)
    result = relax.run(how, SilentReporter())
    assert result.converged == 1
    out = read(how.out)
    np.testing.assert_allclose(out.positions[:3], slab.positions[:3], atol=1e-12)
    assert abs(out.positions[3, 2] - slab.positions[3, 2]) > 0.05
    assert sorted(out.constraints[0].index) == [0, 1, 2]  # as ASE reads it again
    again = relax.run(how.model_copy(update={"structures": [how.out], "out": tmp_path / "b.extxyz", "fixed": []}),
                      SilentReporter())  # fmt: skip
    assert again.structures[0].steps == 0


def test_constraints_that_cannot_be_kept_are_refused(tmp_path, capsys):
    slab = fcc111("Cu", (1, 1, 3), vacuum=6.0)
    slab.info.clear()
    slab.set_constraint(FixCartesian([0], [True, False, False]))
    with pytest.raises(SettingsError, match="FixCartesian"):
        relax.run(settings(tmp_path, [slab], cell="none"), SilentReporter())
    slab.set_constraint()
    with pytest.raises(SettingsError, match="no atom 7"):
        relax.run(settings(tmp_path, [slab], cell="none", fixed=[7]), SilentReporter())
    with pytest.raises(SettingsError, match="all 3 atoms are fixed"):
        relax.run(settings(tmp_path, [slab], cell="none", fixed_below=99.0), SilentReporter())


@pytest.mark.slow
def test_symmetry_is_kept(tmp_path):
    atoms = bulk("Cu", "sc", a=2.5).repeat(2)
    result = relax.run(settings(tmp_path, [atoms], keep_symmetry=True), SilentReporter())
    assert result.structures[0].spacegroup == result.structures[0].spacegroup_before == "Pm-3m"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("twice", "apart"),
        ("element", "Xe"),
        ("flat", "cell"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, change, words):
    atoms = rattled(0)
    if change == "twice":
        atoms.positions[1] = atoms.positions[0]
    elif change == "element":
        atoms.numbers[2] = 54
    else:
        atoms.set_cell([[3.6, 0, 0], [0, 3.6, 0], [3.6, 3.6, 0]])
    write(tmp_path / "in.extxyz", [rattled(1), atoms])
    out = tmp_path / "out.extxyz"
    assert main(["relax", "model=emt", f"structures={tmp_path / 'in.extxyz'}", f"out={out}", "cell=full"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert "in.extxyz" in error
    assert not out.exists()


@pytest.mark.slow
def test_a_molecule_whose_cell_shall_move_is_called_by_the_name_of_its_file(tmp_path):
    how = settings(tmp_path, [bulk("Cu"), Atoms("Cu2", [[0, 0, 0], [2.4, 0, 0]])])
    with pytest.raises(
        GeometryError, match=r"in.extxyz#1 is not periodic in three directions: relax it with cell=none"
    ):
        relax.run(how, SilentReporter())


@pytest.mark.slow
def test_a_left_handed_cell_relaxes_as_its_mirror_image(tmp_path):
    atoms = rattled(3)
    mirror = atoms.copy()
    mirror.set_cell(atoms.cell.array * [1, 1, -1])
    mirror.positions[:, 2] *= -1
    result = relax.run(settings(tmp_path, [atoms, mirror]), SilentReporter())
    assert result.converged == 2
    a, b = result.structures
    assert a.energy == pytest.approx(b.energy, abs=1e-9)
    assert a.volume == pytest.approx(b.volume, abs=1e-6)
    assert json.loads(result.model_dump_json())["converged"] == 2
