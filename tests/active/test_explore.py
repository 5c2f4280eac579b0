"""The exploration of a round: pieces are kept as they are done, and joined in order."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from rutile.active.explore import Exploration, random_steps
from rutile.active.explorers import SOUND, Found
from rutile.active.plan import RandomExplorer, SystemSettings
from rutile.core.errors import DataError, ElementError
from rutile.core.executors.executor import Lost
from rutile.core.executors.threads import Threads
from rutile.core.reporting import SilentReporter


class Work:
    """Explores nothing: gives back the structures to begin with, and remembers what it was asked."""

    def __init__(self, fails_at=None):
        self.asked = []
        self.fails_at = fails_at

    def __call__(self, run):
        if len(self.asked) == self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(run.seed)
        frames = [a.copy() for a in run.seeds]
        for atoms in frames:
            atoms.info["seed"] = run.seed
        return Found(frames, SOUND)


def systems(folder):
    seeds = folder / "seeds.extxyz"
    ase.io.write(seeds, [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7)])
    cu = {"elements": ["Cu"], "prototypes": ["fcc"]}
    explorers = [
        {"name": "md", "runs": 4},
        {"name": "md", "label": "hot", "runs": 2},
        {"name": "files", "files": [str(seeds)], "count": 2},
        {"name": "generate", "steps": [{"name": "bulk", "crystals": cu, "count": 2, "atoms": 1}]},
        {"name": "relax", "runs": 2},
    ]
    return [SystemSettings(label="cu", files=[seeds], explorers=explorers)]


def explore(folder, work, given, seed=3, executor=None):
    folder.mkdir(exist_ok=True)
    return Exploration(folder, seed, executor or Threads(1), lambda forces: None, 1, SilentReporter()).run(given, work)


def test_what_is_done_is_not_done_again_and_the_end_is_the_same(tmp_path):
    given = systems(tmp_path)
    whole, first, second, idle = Work(), Work(fails_at=3), Work(), Work()
    notes = explore(tmp_path / "whole", whole, given)
    assert len(whole.asked) == 7
    with pytest.raises(KeyboardInterrupt):
        explore(tmp_path / "parts", first, given)
    assert explore(tmp_path / "parts", second, given) == notes
    assert sorted(first.asked + second.asked) == sorted(whole.asked)
    assert (tmp_path / "parts/explored.extxyz").read_text() == (tmp_path / "whole/explored.extxyz").read_text()
    assert explore(tmp_path / "whole", idle, given) == notes
    assert idle.asked == []
    frames = ase.io.read(tmp_path / "whole" / "explored.extxyz", ":")
    kinds = [a.info["config_type"] for a in frames]
    assert kinds == ["cu-md"] * 4 + ["cu-hot"] * 2 + ["cu-files"] * 2 + ["cu-generate"] * 2 + ["cu-relax"] * 2
    assert sum(n.frames for n in notes) == len(frames)


def test_runs_and_rounds_differ(tmp_path):
    given, one, two = systems(tmp_path), Work(), Work()
    explore(tmp_path / "one", one, given, seed=3)
    explore(tmp_path / "two", two, given, seed=4)
    assert len({*one.asked, *two.asked}) == 14
    begun = [
        ase.io.read(tmp_path / name / "explored" / "0000-cu-md.extxyz").cell.volume for name in ("one", "two")
    ]  # the structures take turns
    assert begun[0] != pytest.approx(begun[1])


def test_a_run_whose_workers_are_lost_again_and_again_is_one_that_met_nothing(tmp_path):
    class Losing:
        def each(self, work, items):
            for k, item in enumerate(items):
                yield k, Lost("its workers were killed 3 times") if k == 0 else work(item)

    notes = explore(tmp_path / "lost", Work(), systems(tmp_path), executor=Losing())
    assert (notes[0].frames, notes[0].ended) == (0, "its workers were killed 3 times")
    assert all(n.ended == SOUND for n in notes[1:])


def test_elements_that_the_committee_does_not_know_are_named(tmp_path):
    (tmp_path / "new").mkdir()
    known = frozenset({8, 22})
    exploration = Exploration(tmp_path / "new", 1, Threads(1), lambda forces: None, 1, SilentReporter(), known)
    with pytest.raises(ElementError, match="cu: md begins with Cu, which the committee was not trained on"):
        exploration.run(systems(tmp_path), Work())


def test_nothing_at_all_is_said_to_be_nothing(tmp_path):
    given = [SystemSettings(label="x", files=systems(tmp_path)[0].files, explorers=[{"name": "md"}])]
    with pytest.raises(DataError, match="no structure was met"):
        explore(tmp_path / "none", lambda run: Found([], "it burst"), given)


def test_random_structures_have_the_compositions_of_the_system():
    steps = random_steps(RandomExplorer(count=10, crystals=0.3), [molecule("H2O"), bulk("Cu"), bulk("Cu").repeat(2)])
    assert [(s.name, s.count) for s in steps] == [("random_crystal", 3), ("disorder", 7)]
    assert all(sorted(s.formulas) == ["Cu", "H2O"] for s in steps)
    assert np.all([s.atoms == (4, 24) for s in steps])
