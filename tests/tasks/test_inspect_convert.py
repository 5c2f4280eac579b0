"""`rutile inspect` and `rutile convert` through their tasks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from rutile.core.errors import DataError, FileError, LabelError, RutileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data.frames import Frame
from rutile.data.store import Store, build_store
from rutile.structures import io
from rutile.tasks.catalogue import load_task


def run(name: str, reporter: SilentReporter | None = None, **settings):
    task = load_task(name)
    return task.run(task.settings.model_validate(settings), reporter or SilentReporter())


@pytest.fixture
def data(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    frames = []
    for k in range(3):
        atoms = Atoms("TiO2", positions=rng.normal(0, 0.1, (3, 3)) + 2 * np.eye(3), cell=[5, 6, 7], pbc=True)
        atoms.info |= {
            "dft_energy": -10.0 - k,
            "dft_virial": -np.eye(3) * 210 / 7,
            "made_by": "hand",
        }
        atoms.arrays["dft_forces"] = rng.normal(0, 1, (3, 3))
        frames.append(atoms)
    io.write_frames(tmp_path / "in.extxyz", frames)
    return tmp_path / "in.extxyz"


def test_inspect_data(data):
    result = run("inspect", files=[data])
    assert result.models == []
    assert result.census.frames == 3
    assert [r.found_as for r in result.census.labels] == ["dft_energy", "dft_forces", "dft_virial"]
    again = type(result).model_validate_json(result.model_dump_json())
    assert again == result


def test_inspect_files_without_a_usable_frame(data, tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(DataError, match=r"no usable frame: .*empty\.xyz: empty"):
        run("inspect", files=[tmp_path / "empty.xyz"])
    data.write_text(data.read_text().replace("dft_energy=-1", "dft_energy=nan dft_old=-1"))
    with pytest.raises(DataError, match=r"frame 0: the energy is not finite \(nan\) \(and 2 more\)"):
        run("inspect", files=[data])


def test_inspect_a_model(tmp_path):
    import torch

    from rutile.potentials.save import write_tensors

    write_tensors(tmp_path / "m.rutile", {"w": torch.zeros(3, 4)}, {"kind": "model", "info": {"elements": [8, 22]}})
    result = run("inspect", files=[tmp_path / "m.rutile"])
    assert result.census is None
    assert result.models[0].endswith("12 numbers in 1 tensors")
    assert "    elements: 8, 22" in result.models
    with pytest.raises(SettingsError, match="not both"):
        run("inspect", files=[tmp_path / "m.rutile", tmp_path / "x.xyz"])


def test_convert_gives_clean_names_and_keeps_the_rest(data, tmp_path):
    result = run("convert", files=[data], out=tmp_path / "out.extxyz")
    assert (result.frames, result.format, result.labels) == (3, "extxyz", {"energy": 3, "forces": 3, "stress": 3})
    assert result.names == {"energy": "dft_energy", "forces": "dft_forces", "stress": "dft_virial"}
    first = next(io.iterate(tmp_path / "out.extxyz"))
    assert first.info["REF_energy"] == -10
    assert np.reshape(first.info["REF_stress"], (3, 3)) == pytest.approx(np.eye(3) / 7)
    assert first.info["made_by"] == "hand"
    assert not {"dft_energy", "dft_virial", "dft_forces"} & (set(first.info) | set(first.arrays))


def test_convert_says_what_is_lost(data, tmp_path):
    reporter = SilentReporter()
    result = run("convert", reporter, files=[data], out=tmp_path / "input.data")
    assert result.lost == {"stress": 3}
    assert reporter.warnings == ["n2p2 (RuNNer) input.data cannot hold stress: lost in 3 frames"]


def test_convert_to_units_that_the_user_names(data, tmp_path):
    run("convert", files=[data], out=tmp_path / "ev.data", energy_unit="eV", length_unit="Angstrom")
    text = (tmp_path / "ev.data").read_text()
    assert float(text[text.index("energy ") :].split()[1]) == pytest.approx(-10)
    assert [float(x) for x in text[text.index("lattice ") :].split()[1:4]] == pytest.approx([5, 0, 0])
    run("convert", files=[data], out=tmp_path / "ha.data")
    back = run("convert", files=[tmp_path / "ha.data"], out=tmp_path / "back.extxyz")
    assert back.frames == 3
    first, original = next(io.iterate(tmp_path / "back.extxyz")), next(io.iterate(data))
    assert first.info["REF_energy"] == pytest.approx(-10, rel=1e-14)
    assert first.arrays["REF_forces"] == pytest.approx(original.arrays["dft_forces"], rel=1e-13)


def test_convert_never_overwrites_by_itself_and_leaves_nothing_behind(data, tmp_path):
    (tmp_path / "old.extxyz").write_text("precious")
    with pytest.raises(FileError, match="overwrite=true"):
        run("convert", files=[data], out=tmp_path / "old.extxyz")
    with pytest.raises(FileError, match="one of the files to read"):
        run("convert", files=[data], out=data, overwrite=True)
    data.write_text(data.read_text()[:-30])
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(RutileError, match="frame 2"):
        run("convert", files=[data], out=tmp_path / "old.extxyz", overwrite=True)
    assert (tmp_path / "old.extxyz").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    result = run("convert", files=[data], out=tmp_path / "old.extxyz", overwrite=True, read={"on_bad": "skip"})
    assert (result.frames, result.skipped) == (2, 1)


def test_convert_refuses_a_key_that_is_not_there(data, tmp_path):
    with pytest.raises(LabelError, match="did you mean dft_energy"):
        run("convert", files=[data], out=tmp_path / "out.extxyz", read={"energy_key": "energie"})
    assert not (tmp_path / "out.extxyz").exists()


@pytest.mark.slow
def test_settings_of_these_tasks_need_no_torch():
    code = (
        "import sys; from rutile.tasks.catalogue import load_task; "
        "load_task('inspect'); load_task('convert'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_convert_to_a_store(data, tmp_path):
    from rutile.data.store import Store

    out = tmp_path / "data.store"
    result = run("convert", files=[data], out=out)
    assert (result.format, result.frames, result.labels["forces"], result.lost) == ("store", 3, 3, {})
    assert Store.open(out, verify=True)[2].energy == pytest.approx(-12)
    with pytest.raises(FileError, match="overwrite=true"):
        run("convert", files=[data], out=out)
    run("convert", files=[data, data], out=out, overwrite=True)
    assert len(Store.open(out)) == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.store", "in.extxyz"]
    with pytest.raises(FileError, match="is no store"):
        run("convert", files=[out / ".." / "in.extxyz"], out=data, format="store", overwrite=True)
    with pytest.raises(SettingsError, match="a store is in eV"):
        run("convert", files=[data], out=tmp_path / "x.store", energy_unit="Ry")


@pytest.mark.parametrize(
    ("out", "how"), [("b.extxyz", {}), ("b", {"format": "deepmd"}), ("b.aselmdb", {}), ("b.store", {})]
)
def test_a_store_is_converted_to_files_and_back(tmp_path, out, how):
    frames = [f for k, f in enumerate(teacher_like(7)) if k != 3]
    first = build_store(frames, tmp_path / "a.store")
    result = run("convert", files=[tmp_path / "a.store"], out=tmp_path / out, **how)
    assert result.frames == 6
    assert result.labels == {"energy": 6, "forces": 6, "stress": 5}
    run("convert", files=[tmp_path / out], out=tmp_path / "c.store")
    again = Store.open(tmp_path / "c.store")
    order = [next(k for k, g in enumerate(again) if g.energy == f.energy) for f in frames]
    assert out == "b" or order == sorted(order)  # DeePMD puts systems of one composition together
    for k, f in zip(order, frames, strict=True):
        g = again[k]
        assert np.array_equal(g.numbers, f.numbers)
        for name in ("positions", "forces", "stress"):
            a, b = getattr(f, name), getattr(g, name)
            assert (a is None) == (b is None)
            assert a is None or np.allclose(a, b, rtol=0, atol=1e-7)
        assert out in ("b", "b.aselmdb") or (f.group, f.calc_mode, f.weight) == (g.group, g.calc_mode, g.weight)
    if out == "b.store":
        assert again.hash == first.hash


def test_a_store_is_inspected_as_the_files_it_was_made_from(tmp_path):
    build_store(teacher_like(7), tmp_path / "a.store")
    run("convert", files=[tmp_path / "a.store"], out=tmp_path / "a.extxyz")
    stored = run("inspect", files=[tmp_path / "a.store"]).census
    from_file = run("inspect", files=[tmp_path / "a.extxyz"]).census
    assert stored.files[0].format == "store"
    for name in ("frames", "atoms", "elements", "formulas", "groups", "periodicity"):
        assert getattr(stored, name) == getattr(from_file, name), name
    with pytest.raises(SettingsError, match="chosen when it was made"):
        run("inspect", files=[tmp_path / "a.store"], read={"energy_unit": "Hartree"})
    (tmp_path / "a.store/forces.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"forces\.bin"):
        run("inspect", files=[tmp_path / "a.store"])


def teacher_like(n):
    """Frames of some groups and modes; one without stress, one of another composition."""
    rng = np.random.default_rng(0)
    out = []
    for k in range(n):
        numbers = np.array([8, 8, 22] if k != 5 else [8, 22, 22])
        stress = None if k == 2 else np.diag(rng.random(3))
        cell, forces = np.eye(3) * 6, rng.random((3, 3))
        positions = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0]]) + 0.1 * rng.random((3, 3))
        names = {"group": "ab"[k % 2], "calc_mode": "pbe", "weight": 1.0 + k % 2, "source": f"there.extxyz#{k}"}
        pbc = np.ones(3, dtype=bool)
        out.append(Frame(numbers, positions, cell, pbc, -20.0 - rng.random(), forces, stress, **names))
    return out
