"""`rutile choose` from files to files."""

import csv

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from rutile.active.choose import Levels
from rutile.cli.main import main
from rutile.core.config import load
from rutile.core.errors import ElementError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.structures.io import write_frames
from rutile.tasks import choose, train
from rutile.tasks.choose import ChooseSettings

QUICK = ["architecture=behler", "potential.auto.cutoff=4.5", "potential.hidden=[6]", "epochs=40", "batch_size=4",
         "optimizer.learning_rate=0.02", "tensorboard=false", "threads=1", "workers=1"]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def committee(data, tmp_path_factory):
    """Three small networks trained on rattled copper."""
    out = tmp_path_factory.mktemp("committee") / "run"
    words = [f"data=[{data}]", f"out={out}", "members=3", *QUICK]
    train.run(load(train.TrainTaskSettings, [], words), SilentReporter())
    return out


@pytest.fixture
def unlike(tmp_path):
    """Copper squeezed far beyond the training data, one cell with two atoms nearly at one place."""
    frames = []
    for k, factor in enumerate((0.76, 0.78, 0.8, 0.82, 0.84)):
        atoms = bulk("Cu", a=3.6 * factor, cubic=True)
        atoms.rattle(0.1, seed=100 + k)
        frames.append(atoms)
    broken = bulk("Cu", cubic=True)
    broken.positions[1] = broken.positions[0] + [0, 0, 0.9]
    path = tmp_path / "unlike.extxyz"
    ase.io.write(path, [*frames, broken])
    return path


def chosen(structures, committee, folder, *more, reporter=None):
    words = [f"structures=[{', '.join(map(str, structures))}]", f"model={committee}", *more]
    words += [f"{name}={folder / file}" for name, file in
              (("out", "chosen.extxyz"), ("decisions", "decisions.csv"), ("report", "choice.html"))]  # fmt: skip
    return choose.run(load(ChooseSettings, [], words), reporter or SilentReporter())


def rows(result):
    with result.decisions.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_the_data_lack_is_chosen_and_what_they_hold_is_not(data, committee, unlike, tmp_path):
    known = rows(chosen([data], committee, tmp_path, "high=1000"))
    usual = max(float(row["force_std_eV_per_A"]) for row in known)
    reporter = SilentReporter()
    result = chosen([data, unlike], committee, tmp_path, f"known=[{data}]", f"low={1.01 * usual}", "high=1000",
                    "budget=3", "max_force=1000", reporter=reporter)  # fmt: skip
    table = rows(result)
    assert len(table) == 22
    assert all(row["class"] == "accurate" and not row["rank"] for row in table[:16])
    assert table[-1]["class"] == "impossible"
    assert "0.90 Å" in table[-1]["reason"]
    assert result.chosen == 3
    assert result.classes["candidate"] >= 3
    images = ase.io.read(result.out, ":")
    order = sorted((int(row["rank"]), row) for row in table if row["rank"])
    for atoms, (_, row) in zip(images, order, strict=True):
        assert atoms.info["source"] == row["structure"]
        assert atoms.info["force_std"] == pytest.approx(float(row["force_std_eV_per_A"]), rel=1e-5)
        assert atoms.calc is None  # a label is still to be made
    assert not result.calibrated
    assert any("not calibrated" in w for w in reporter.warnings)
    assert "Structures worth a label" in result.report.read_text()


def test_chosen_structures_keep_what_their_files_say_about_them(committee, tmp_path):
    """Except labels and how those were made; `parent` keeps relatives on one side of a split later."""
    said = {
        "parent": "fcc 3",
        "config_type": "hot 'liquid'",
        "number": 7,
        "parameters": '{"a": 1.5}',
        "note": "two\nlines",
    }
    said |= {"temperature": 812.5, "charge": 1, "kpoints": np.array([2, 2, 3]), "nothing": None}
    labels = {"REF_energy": -3.0, "energy": -4.0, "calc_mode": "PBE", "code": "GPAW", "seconds": 3.5}
    frames = []
    for k in range(4):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.2, seed=k)
        atoms.info |= said | labels | {"name": f"frame {k}"}
        atoms.set_initial_magnetic_moments([0.5, -0.5, 0.0, 1.0])
        atoms.arrays["REF_forces"] = atoms.positions * 0
        frames.append(atoms)
    write_frames(tmp_path / "pool.extxyz", frames)
    result = chosen([tmp_path / "pool.extxyz"], committee, tmp_path, "low=1e-9", "high=1000", "budget=2")
    (tmp_path / "again").mkdir()
    second = chosen([result.out], committee, tmp_path / "again", "low=1e-9", "high=1000", "budget=2")
    for atoms in [*ase.io.read(result.out, ":"), *ase.io.read(second.out, ":")]:
        info = dict(atoms.info)
        assert info.pop("kpoints").tolist() == [2, 2, 3]
        assert (info.pop("name"), info.pop("energy_std") > 0) in [(f"frame {k}", True) for k in range(4)]
        assert info.pop("source").rpartition("#")[0] in (str(tmp_path / "pool.extxyz"), str(result.out))
        assert info.pop("force_std") > 0
        assert info == {k: v for k, v in said.items() if k not in ("kpoints", "nothing")} | {"note": "two lines"}
        assert atoms.get_initial_magnetic_moments().tolist() == [0.5, -0.5, 0.0, 1.0]
        assert "REF_forces" not in atoms.arrays
        assert atoms.calc is None
    assert result.chosen == second.chosen == 2


def test_known_structures_are_not_asked_for_again(data, committee, tmp_path):
    """Though the members disagree about them, if the level says so."""
    low = ("low=1e-9", "high=1000", "budget=100")
    assert chosen([data], committee, tmp_path, *low).chosen > 10
    reporter = SilentReporter()
    result = chosen([data], committee, tmp_path, f"known=[{data}]", *low, reporter=reporter)
    assert result.chosen == 0
    assert {row["reason"] for row in rows(result)} == {"like known or chosen structures"}
    assert not result.out.exists()
    assert any("nothing was chosen" in w for w in reporter.warnings)


def test_what_cannot_be_done_is_refused(data, committee, tmp_path, capsys):
    with pytest.raises(SettingsError, match="must be above low"):
        chosen([data], committee, tmp_path, "high=0.01")
    single = tmp_path / "single"
    train.run(
        load(train.TrainTaskSettings, [], [f"data=[{data}]", f"out={single}", *QUICK, "epochs=1"]), SilentReporter()
    )
    with pytest.raises(SettingsError, match="cannot disagree with itself: train with members=4"):
        chosen([data], single, tmp_path)
    ase.io.write(tmp_path / "gold.extxyz", bulk("Au"))
    with pytest.raises(ElementError, match="holds Au"):
        chosen([tmp_path / "gold.extxyz"], committee, tmp_path)
    assert main(["choose", str(tmp_path / "missing.extxyz"), f"model={committee}"]) == 2
    assert "missing.extxyz" in capsys.readouterr().err


def test_agreement_of_a_model_that_knows_little_is_doubted():
    assert "low = 3.46 eV/Å" in choose.doubt_about(Levels(3.464, 34.64))
    assert choose.doubt_about(Levels(0.3, 3.0)) == ""
