"""`rutile learn`: a whole loop on copper with a cheap truth, killed everywhere, paused, changed, and refused."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import ase.io
import pytest
from ase.build import bulk

import rutile
from rutile.active.loop import FIRST, ROUND, State, knows_enough, read_state, require_kept, why_end
from rutile.active.plan import StopSettings
from rutile.cli.help import task_help
from rutile.cli.main import main
from rutile.core.config import load
from rutile.core.errors import FileError, MissingPackageError, ModeError, RutileError, SettingsError, TrainingError
from rutile.core.lock import alone_in
from rutile.core.reporting import SilentReporter
from rutile.label.catalogue import make
from rutile.tasks import learn, learn_plan
from rutile.tasks.catalogue import TASKS
from rutile.tasks.learn import LearnSettings
from rutile.tasks.learn_steps import Steps
from rutile.train import figures

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """No figures, which take longer than all the rest (`test_loop_page.py` draws); an engine is asked for once."""
    known = {}

    class Asked:
        def __init__(self, settings):
            self.settings = settings

        def probe(self, numbers):
            key = self.settings.model_dump_json()
            if key not in known:
                engine = make(self.settings)
                known[key] = engine.probe(numbers)
                engine.close()
            return known[key]

        def close(self):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "svg", lambda figure: "<svg></svg>")
        patch.setattr(learn_plan, "make", Asked)
        yield


class Killed(BaseException):
    """The process ends here."""


def plan(folder, **more):
    """A small loop: one round on copper."""
    seeds = folder / "seeds.extxyz"
    frames = [bulk("Cu", cubic=True) for _ in range(2)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
    ase.io.write(seeds, frames)
    cu = {"elements": ["Cu"], "prototypes": ["fcc"]}
    whole = {
        "initial": {"steps": [{"name": "bulk", "crystals": cu, "count": 8, "atoms": 4, "rattle": [0.05, 0.15]}]},
        "systems": [{"label": "cu", "files": [str(seeds)], "explorers": [
            {"name": "md", "temperature": [300, 1500], "time": 24, "timestep": 2, "every": 4, "runs": 2},
            {"name": "relax", "runs": 2, "steps": 4, "every": 2, "cell": "full"},
            {"name": "generate", "steps": [
                {"name": "bulk", "crystals": cu, "count": 3, "atoms": 4, "rattle": [0.1, 0.3]}]},
        ]}],
        "engine": {"name": "emt"},
        "committee": {"potential": {"name": "behler", "hidden": [4], "auto": {"cutoff": 4.0}}, "members": 2,
                      "epochs": 6, "batch_size": 4, "optimizer": {"name": "adam", "learning_rate": 0.02},
                      "valid": 0.3, "workers": 1, "threads": 1, "tensorboard": False, "checkpoint_seconds": 0},
        "retrain": {"name": "warm", "epochs": 3},
        "choose": {"budget": 4, "low": 0.01, "high": 50, "max_force": 500},
        "stop": {"rounds": 1, "candidates": 0.0},
        "self_check": False,
        "out": str(folder / "learn"),
    }  # fmt: skip
    return whole | more


def learned(whole, reporter=None):
    return learn.run(load(LearnSettings, [write(whole)]), reporter or SilentReporter())


def write(whole):
    path = Path(whole["out"]).parent / "plan.yaml"
    path.write_text(json.dumps(whole))  # JSON is YAML, and has no aliases
    return path


def table(whole):
    """The rows without times."""
    with (Path(whole["out"]) / "table.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A loop that ran to its end."""
    given = plan(tmp_path_factory.mktemp("whole"))
    return given, learned(given)


@pytest.mark.slow
def test_a_loop_learns_what_it_met(whole):
    given, result = whole
    rows = table(given)
    assert result.ended == "1 round"
    assert [row["round"] for row in rows] == ["0", "1"]
    assert rows[0]["labelled"] == "8"
    for row in rows[1:]:
        kinds = [int(row[k]) for k in ("accurate", "candidates", "failed", "impossible")]
        assert sum(kinds) == int(row["explored"]) > 10
        assert 0 < int(row["chosen"]) <= 4
        assert int(row["chosen"]) == int(row["labelled"])
        assert float(row["new_force_rmse"]) > 0
        assert float(row["valid_force_rmse"]) > 0
    frames = [int(row["frames"]) for row in rows]
    assert frames == sorted(frames)
    out = result.model.parent
    first = ase.io.read(out / "round-00" / "train.extxyz", ":")
    assert sum(len(a) == 1 and not a.pbc.any() for a in first) == 1  # the isolated atom, once
    assert all(a.pbc.all() for a in ase.io.read(out / "round-01" / "train.extxyz", ":"))
    page = result.report.read_text()
    assert "Round 1" in page
    assert 'href="round-01/choice.html"' in page
    assert "cu-md" in page
    assert result.model.read_bytes() == (out / "round-01" / "model" / "model.rutile").read_bytes()


@pytest.mark.slow
def test_a_loop_that_is_killed_after_every_step_ends_the_same(whole, tmp_path, monkeypatch):
    given = plan(tmp_path)
    real = learn.write_atomically
    kills, result, last = 0, None, b""
    while result is None:
        done = min(kills, 1)  # steps that end well in this process, before the one that is killed
        monkeypatch.setattr(learn, "write_atomically", killed_after(done, real))
        try:
            result = learned(given)
        except Killed:
            kills += 1
            state = (tmp_path / "learn" / "state.json").read_bytes()
            assert state != last
            last = state
    assert kills == len(FIRST) + len(ROUND) + 1  # each step once, and the end
    assert result.ended == "1 round"
    assert table(given) == table(whole[0])
    assert energy(result.model) == energy(whole[1].model)


def killed_after(steps, real):
    """A writer that ends the process after a step whose end the state does not know yet."""
    seen = []

    def write_(path, data):
        real(path, data)
        if path.name == learn.TABLE_FILE:
            seen.append(path)
            if len(seen) > steps:
                raise Killed

    return write_


def energy(model):
    """Of a squeezed cell, by the committee."""
    atoms = bulk("Cu", a=3.5, cubic=True)
    atoms.calc = rutile.load(model).calculator()
    return float(atoms.get_potential_energy())


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_to_the_same_end(whole, tmp_path):
    given = plan(tmp_path)
    path = write(given)
    code = "import sys; from rutile.train import figures; figures.svg = lambda figure: '<svg></svg>'; "
    code += "from rutile.cli.main import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "learn", str(path)]
    for moment in ("round-00/model/member-1/checkpoint.safetensors", "round-01/explored/0001-cu-md.json"):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = tmp_path / "learn" / moment
        while process.poll() is None and not until.exists():
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    learned(given)
    assert table(given) == table(whole[0])


@pytest.mark.slow
def test_a_finished_loop_says_so_and_goes_on_when_more_is_asked(whole, tmp_path):
    given, result = whole
    again = learned(given)
    assert (again.ended, again.rounds, again.labels) == (result.ended, 1, result.labels)
    more = given | {"stop": {"rounds": 2, "candidates": 0.0, "labels": result.labels + 1}}
    files = given["systems"][0]["files"]
    explorers = [{"name": "random", "count": 2, "atoms": [2, 4]}, {"name": "files", "files": files}]
    more["systems"] = [*given["systems"], {"label": "more", "files": files, "explorers": explorers}]
    shutil.copytree(given["out"], tmp_path / "learn")
    more["out"] = str(tmp_path / "learn")
    reporter = SilentReporter()
    second = learned(more, reporter)
    assert second.rounds == 2
    assert second.labels <= result.labels + 1  # the budget is not overdrawn
    assert "more-files" in second.report.read_text()


@pytest.mark.slow
def test_pausing_and_what_may_not_change(tmp_path):
    given = plan(tmp_path)
    (tmp_path / "learn").mkdir()
    (tmp_path / "learn" / "PAUSE").touch()
    assert "paused in round 0 before label" in learned(given).ended
    for change, name in (
        ({"engine": {"name": "lennard_jones"}}, "engine"),
        ({"committee": given["committee"] | {"members": 3}}, "members was 2, now 3"),
        ({"seed": 5}, "seed was 0, now 5"),
    ):
        with pytest.raises(SettingsError, match=name):
            learned(given | change)
    with alone_in(tmp_path / "learn", SilentReporter()), pytest.raises(FileError, match="at work here"):
        learned(given)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"engine": {"name": "gpaw", "python": "no/such/python"}}, MissingPackageError, "no/such/python"),
        ({"systems": [{"label": "x", "explorers": [{"name": "md"}]}]}, SettingsError, "needs structures to begin with"),
        (
            {"systems": [{"label": "x", "files": ["nothing.cif"], "explorers": [{"name": "md"}]}]},
            FileError,
            "nothing.cif",
        ),
        ({"committee": {"members": 1}}, SettingsError, "cannot disagree with itself"),
        ({"initial": {}}, SettingsError, "nothing to begin with"),
        ({"stop": {"candidates": 2}}, SettingsError, "stop.candidates"),
        ({"test": ["none.extxyz"]}, RutileError, "none.extxyz"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_at_once(change, error, words, tmp_path):
    with pytest.raises(error, match=words):
        learned(plan(tmp_path) | change)
    assert not (tmp_path / "learn").exists()


def test_normal_modes_of_crystals_and_paths_between_different_structures_are_refused(tmp_path):
    given = plan(tmp_path)
    seeds = given["systems"][0]["files"][0]
    given["systems"] = [{"label": "x", "files": [seeds], "explorers": [{"name": "normal_modes"}]}]
    with pytest.raises(SettingsError, match="for molecules"):
        learned(given)
    other = tmp_path / "other.extxyz"
    ase.io.write(other, bulk("Cu"))
    given["systems"] = [{"label": "x", "explorers": [{"name": "neb", "start": seeds, "end": str(other)}]}]
    with pytest.raises(SettingsError, match="no path joins them"):
        learned(given)


def test_labelled_files_must_say_of_which_method_they_are(data, tmp_path):
    given = plan(tmp_path, initial={"files": [str(data)]})
    with pytest.raises(ModeError, match=r"initial\.read\.modes"):
        learned(given)
    given["initial"]["read"] = {"modes": {"*": "PBE"}}
    given["out"] = str(tmp_path / "other")
    with pytest.raises(ModeError, match="are of PBE, the engine's labels are 'emt"):
        learned(given)


@pytest.mark.slow
def test_a_plan_that_could_not_go_on_is_mended_at_once(tmp_path):
    given = plan(tmp_path)
    given["committee"]["optimizer"]["learning_rate"] = 1e9
    with pytest.raises(TrainingError):
        learned(given)
    given["committee"]["optimizer"]["learning_rate"] = 0.02
    (tmp_path / "learn" / "PAUSE").touch()
    reporter = SilentReporter()
    learned(given, reporter)
    assert any("hold from this step on: round 0, train" in m for m in reporter.messages)
    given["choose"]["budget"] = 3
    reporter = SilentReporter()
    learned(given, reporter)
    assert any("hold from round 1 on" in m for m in reporter.messages)  # nothing has failed


@pytest.mark.slow
def test_an_engine_that_fails_on_some_is_counted_and_the_loop_goes_on(tmp_path):
    given = plan(tmp_path)
    given["initial"]["steps"].append(
        {"name": "bulk", "crystals": {"elements": ["Fe"], "prototypes": ["bcc"]}, "count": 2, "atoms": 2}
    )
    reporter = SilentReporter()
    result = learned(given, reporter)
    rows = table(given)
    assert (rows[0]["labelled"], rows[0]["label_failures"]) == ("8", "2")
    assert result.rounds == 1
    assert any("does not know Fe" in w for w in reporter.warnings)
    assert "unsuitable" in result.report.read_text()


def test_when_a_loop_ends():
    row = {"round": 3, "share": 0.04, "failed_share": 0.02, "labelled": 7, "label_failures": 1, "chosen": 5}
    row |= {"candidates": 4, "failed": 2, "impossible": 0, "explored": 100, "high": 1.0}
    stop = StopSettings(candidates=0.05, failed=0.1, rounds=10)
    assert knows_enough(row, stop)
    assert why_end([row], stop, 0.0, changed=False) == ""  # the members' word is not enough
    assert why_end([row], StopSettings(check=0), 0.0, changed=False).startswith("4 % candidates")
    right, wrong = row | {"checked": 10, "wrong": 1}, row | {"checked": 10, "wrong": 2}
    assert "of 10 accurate ones that were checked 1 had errors" in why_end([right], stop, 0.0, changed=False)
    assert why_end([wrong], stop, 0.0, changed=False) == ""
    assert why_end([row | {"checked": 0, "wrong": 0}], stop, 0.0, changed=False) == ""
    assert why_end([right], stop, 0.0, changed=True) == ""  # another plan was not met yet
    assert why_end([row | {"failed_share": 0.2}], stop, 0.0, changed=False) == ""
    more = row | {"share": 0.5}
    assert why_end([more], stop, 0.0, changed=False) == ""
    assert why_end([more], StopSettings(rounds=3), 0.0, changed=False) == "3 rounds"
    assert why_end([more, more], StopSettings(labels=16), 0.0, changed=False) == "16 labels"
    assert why_end([more], StopSettings(seconds=5), 6.0, changed=False) == "6 s"
    stuck = more | {"chosen": 0, "candidates": 0, "share": 0.0, "failed_share": 0.9, "failed": 90}
    stuck |= {"labelled": 0}
    assert "explore gentler" in why_end([stuck], stop, 0.0, changed=False)
    silent = stuck | {"failed_share": 0.0, "checked": 0, "wrong": 0}
    assert "none of the accurate structures could be labelled" in why_end([silent], stop, 0.0, changed=False)


@pytest.mark.slow
def test_members_that_agree_and_are_wrong_do_not_end_the_loop(tmp_path, monkeypatch):
    """What they agree about is checked by labels: where these say no, they are learned; where yes, that is the end."""
    given = plan(tmp_path, stop={"rounds": 4, "candidates": 0.05, "failed": 0.5, "check": 3})
    given["choose"] |= {"low": 4000.0, "high": 5000.0, "max_force": 1e9}
    real, seen = Steps._force_errors, []

    def errors(steps, file):
        seen.append((steps.state.round, real(steps, file)))
        return [4001.0] * len(seen[-1][1]) if steps.state.round == 1 else seen[-1][1]

    monkeypatch.setattr(Steps, "_force_errors", errors)
    result = learned(given)
    first, second = table(given)[1:]
    assert (first["checked"], first["wrong"], first["labelled"]) == ("3", "3", "3")
    assert (second["checked"], second["wrong"], second["labelled"]) == ("3", "0", "3")
    assert int(first["frames"]) > int(table(given)[0]["frames"])  # what was wrong was learned
    assert second["frames"] == ""
    assert result.ended.startswith("0 % candidates, not more than 5 %; of 3 accurate ones that were checked none had")
    assert result.labels == 8 + 3 + 3
    assert "drawn by lot and labelled" in result.report.read_text()
    checked = tmp_path / "learn" / "round-02" / "checked.extxyz"
    calculator = rutile.load(tmp_path / "learn" / "round-01" / "model").calculator()
    frames = [atoms for atoms in ase.io.read(checked, ":") if len(atoms) > 1]
    for atoms, error in zip(frames, seen[1][1], strict=True):
        atoms.calc = calculator
        wrong = atoms.get_forces() - atoms.arrays["REF_forces"]
        assert error == pytest.approx((wrong**2).sum(1).mean() ** 0.5, rel=1e-6)


def test_a_damaged_state_is_said_to_be_one(tmp_path):
    assert read_state(tmp_path) is None
    (tmp_path / "state.json").write_text('{"version": 1, "no": 2}')
    with pytest.raises(FileError, match="damaged"):
        read_state(tmp_path)
    with pytest.raises(SettingsError, match=r"a\.b was 1, now 2"):
        require_kept({"a": {"b": 1}}, {"a": {"b": 2}}, tmp_path)
    state = State({})
    state.begin({})
    assert (state.round, state.step) == (0, "label")


def test_the_help_leaves_large_groups_to_other_tasks():
    text = task_help(learn.TASK)
    assert "Their settings: rutile label --help" in text
    assert "gpaw" in text
    assert "engine.cutoff" not in text
    assert "systems.explorers.temperature" in text
    assert set(learn.TASK.elsewhere.values()) <= set(TASKS)


def test_the_command_ends_with_one_line(tmp_path, capsys):
    given = plan(tmp_path, engine={"name": "gpaw", "python": "no/such/python"})
    assert main(["learn", str(write(given))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_round_that_chooses_nothing_keeps_the_count_of_labels():
    state = State({}, rows=[{"round": 0, "labelled": 10, "label_failures": 2, "labels": 12}])
    state.begin({})
    assert state.row == {"round": 1, "labels": 12}


def test_trust_levels_that_are_not_given_never_rise(tmp_path):
    from rutile.tasks import choose

    given = plan(tmp_path)
    given["choose"] = {"budget": 4}
    settings = load(LearnSettings, [write(given)])
    (tmp_path / "learn").mkdir()
    state = State({}, round=2, rows=[{"low": None}, {"low": 0.3}, {}], plan=learn_plan.plan_of(settings))

    class Stored:
        class info:
            metrics: ClassVar = {"valid": {"force_rmse": 1.0}}

    def levels(**more):
        state.plan = learn_plan.plan_of(settings.model_copy(update={"choose": choose.ChoiceSettings(**more)}))
        found = Steps(settings, state, SilentReporter())._levels(Stored())
        return found.low, found.high

    assert levels() == pytest.approx((0.3, 3.0))
    state.rows[1]["low"] = None
    assert levels() == pytest.approx((1.0, 10.0))  # an absurd error makes no absurd level
    state.rows[1]["low"] = 0.3
    assert levels(low=0.7) == pytest.approx((0.7, 7.0))
    assert levels(high=5.0) == pytest.approx((0.3, 5.0))
    Stored.info.metrics["valid"]["force_rmse"] = 0.05
    assert levels() == pytest.approx((0.05 * 12**0.5, 0.5 * 12**0.5))


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PLANS if "# rutile learn " in p.read_text()], ids=lambda p: p.stem)
def test_plans_that_are_shipped_can_begin(path, tmp_path, monkeypatch):
    """With the starter sets that their heads name; engines outside need not be there."""
    for name in re.findall(r"^# rutile starter (\w+) out=data$", path.read_text(), re.MULTILINE):
        main(["starter", name, f"out={tmp_path / 'data'}"])
    monkeypatch.chdir(tmp_path)
    settings = load(LearnSettings, [path])
    if settings.engine.name == "gpaw":
        monkeypatch.setattr(learn_plan, "make", NoEngine)
    assert learn_plan.kept(settings)["engine"]["calc_mode"].startswith(settings.engine.calc_mode or "rigid_ion")


class NoEngine:
    """Says that it is there."""

    def __init__(self, settings):
        pass

    def probe(self, numbers):
        return "none"

    def close(self):
        pass
