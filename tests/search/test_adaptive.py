"""An adaptive search keeps its rules whatever the order of events, and goes on from its log as if never stopped."""

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from rutile.core.errors import SettingsError
from rutile.core.executors.executor import Lost
from rutile.search.adaptive import Adaptive
from rutile.search.adaptive_driver import Serial, drive
from rutile.search.adaptive_items import Answer, Asked, Errors, Question, Scored, Trained, Version
from rutile.search.adaptive_judge import correlation, forgot, why_end
from rutile.search.adaptive_log import AdaptiveLog, frame_of, frame_record
from rutile.search.adaptive_settings import AdaptiveSettings, TeachSettings
from rutile.search.clusters import Clusters
from rutile.search.individual import Relaxed
from rutile.search.settings import ClusterSearch, GeneticSettings

GENETIC = GeneticSettings.model_validate({"pool": {"size": 6, "elite": 2}, "first": 6})
SETTINGS = AdaptiveSettings.model_validate(
    {
        "begin": 4, "batch": 3, "rest": 30, "final": 2,
        "ask": {"per_version": 4, "after": 6, "wait": 12, "apart": 0.01},
        "teach": {"after": 3}, "stop": {"labels": 24, "relaxations": 200, "versions": 3},
    }
)  # fmt: skip
OF_VERSION = 100.0
"""Energies of version k are those of the labeler and k times this: mixed rankings would be seen."""


def truth(atoms):
    """An energy that any structure has at once."""
    d = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
    return float((d**-2 - d**-1).sum())


class Workers:
    """Do all kinds of work at once and bring it in a random order; some are lost."""

    def __init__(self, seed, room=3, lost=0.0):
        self.rng, self.room, self.lost = np.random.default_rng(seed), room, lost
        self.given, self.done = [], Counter()

    def free(self, kind):
        return sum(k == kind for k, _, _ in self.given) < self.room

    def give(self, kind, number, item):
        self.given.append((kind, number, item))

    def next(self):
        kind, number, item = self.given.pop(self.rng.integers(len(self.given)))
        if self.rng.random() < self.lost:
            return kind, number, Lost("it went away")
        return kind, number, WORK[kind](item, self.done)


def relaxed(group, done):
    out = []
    for c in group.candidates:
        done[group.version, c.number] += 1
        energy = truth(c.atoms) + OF_VERSION * group.version
        out.append((c.number, Scored(Relaxed(c.atoms, energy, "", 1), 0.1 * (c.number % 7))))
    return out


def labelled(question, done):
    done["label", question.label, question.why] += 1
    frame = question.atoms.copy()
    frame.info["REF_energy"] = truth(frame) * len(frame)
    frame.arrays["REF_forces"] = np.zeros((len(frame), 3))
    return Answer(frame, truth(question.atoms), 0.0, "")


def trained(lesson, done):
    assert len(lesson.frames) == len(lesson.new) + len(lesson.old)
    return Trained(f"v{lesson.version}", len(lesson.frames), energies=tuple((n, -truth(a)) for n, a in lesson.all))


WORK = {"search": relaxed, "label": labelled, "train": trained}


def fresh(settings=SETTINGS, **more):
    return Adaptive(Clusters("Cu5", ClusterSearch()), settings, GENETIC, 1, **more)


def state(a):
    """All that decides about the future."""
    pools = [[(m.number, m.energy, m.parents) for m in p.members] for p in (a.search.population, a.search.before)]
    return json.dumps(
        [
            pools, a.search.made, a.search.done, a.search.success, sorted(a.search.waiting), a.relaxed, a.cost,
            a.failed,
            [c.number for c in a.waiting], sorted(a.sent.items()), a.under_way, a.fresh, a.learned,
            sorted(a.refused), a.lowest, a.ended,
            [(q.number, q.question.structure, q.question.why, q.energy) for q in a.asked], sorted(a.finals),
            [(v.number, v.start, v.new, v.rejected, v.relaxed, v.asked, v.refused, v.correlation) for v in a.versions],
            {k: sorted(v) for k, v in a.open.items()}, a.count, sorted(map(str, a.lost.items())),
            sorted((k, v) for k, (_, v, _) in a.known.items()), [m.sum() for m in a.marks],
        ]
    )  # fmt: skip


def one_version(a):
    """Every ranking is of one version."""
    for pool in (a.search.population, a.search.before):
        assert len({math.floor(m.energy / OF_VERSION + 0.5) for m in pool.members}) <= 1
    for m in a.search.population.members:
        assert a.known[m.number][1] == a.version.number
        assert math.floor(m.energy / OF_VERSION + 0.5) == a.version.number


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_no_ranking_mixes_versions_and_nothing_is_done_twice(tmp_path, seed):
    search, workers = fresh(), Workers(seed)
    drive(search, workers, AdaptiveLog(tmp_path / "log", {}), lambda *event: one_version(search))
    assert search.done
    assert len([v for v in search.versions if not v.rejected]) >= 3
    assert max(workers.done.values()) == 1  # no structure twice on one version, no label twice
    assert len(search.asked) <= SETTINGS.stop.labels
    assert set(search.fresh) | set(search.learned) == {a.number for a in search.asked if a.answer}
    for v in search.versions[1:]:
        assert v.start == v.number - 1
    for a in search.asked:  # what is labelled was relaxed on the version that it names
        if a.question.version is not None:
            assert math.floor(a.question.energy / OF_VERSION + 0.5) == a.question.version


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0.0, 0.15])
def test_killed_at_any_event_it_is_the_same_search(tmp_path, lost):
    path, search = tmp_path / "log", fresh()
    log = AdaptiveLog(path, {"seed": 1})
    states = []
    gave, came = log.gave, log.came

    def noted(event):
        def write(*words):
            states.append((log._file.size, state(search)))  # before the event is written
            event(*words)

        return write

    log.gave, log.came = lambda *w: (gave(*w), states.append((log._file.size, state(search)))), noted(came)
    drive(search, Workers(3, lost=lost), log)
    whole = path.read_bytes()
    assert len(states) > 60
    for size, expected in states[::12]:
        path.write_bytes(whole[:size] + b'{"came": {"kind": "lab')  # killed while it wrote
        again = fresh()
        AdaptiveLog(path, {"seed": 1}).replay(again)
        assert state(again) == expected
    path.write_bytes(whole)
    again = fresh()
    AdaptiveLog(path, {"seed": 1}).replay(again)
    assert state(again) == state(search)
    assert again.done


@pytest.mark.slow
def test_after_a_kill_it_comes_to_an_end(tmp_path):
    path, workers = tmp_path / "log", Workers(5)
    search = fresh()

    class KilledError(Exception):
        pass

    def killed(*event):
        if len(search.asked) > 8:
            raise KilledError

    with pytest.raises(KilledError):
        drive(search, workers, AdaptiveLog(path, {}), killed)
    given = {(k, n) for k, n, _ in workers.given}
    again = fresh()
    log = AdaptiveLog(path, {})
    log.replay(again)
    assert {(k, n) for k in again.open for n in again.open[k]} == given
    drive(again, Workers(6), log)
    assert again.done
    with pytest.raises(SettingsError, match="seed"):
        AdaptiveLog(path, {"seed": 2})


def test_settings_that_are_younger_than_a_log_may_have_their_defaults(tmp_path):
    path = tmp_path / "log"
    AdaptiveLog(path, {"seed": 1, "structure": {"name": "crystal", "units": [2]}})
    now = {"seed": 1, "structure": {"name": "crystal", "units": [2], "repeated": 0.5}, "age": 4}
    AdaptiveLog(path, now, {"seed": 1, "structure": {"units": [2]}})
    with pytest.raises(SettingsError, match="structure changed"):
        AdaptiveLog(path, now, {"seed": 1, "structure": {"units": [2], "repeated": 0.5}})
    with pytest.raises(SettingsError, match="age changed"):
        AdaptiveLog(path, now, {"age": 4})
    with pytest.raises(SettingsError, match="structure changed"):  # what was given then is the default now
        AdaptiveLog(path, now | {"structure": {"name": "crystal", "units": [4]}}, {})
    with pytest.raises(SettingsError, match="seed changed"):
        AdaptiveLog(path, {"structure": now["structure"]}, {})


@pytest.mark.slow
def test_with_a_larger_budget_it_goes_on(tmp_path):
    few = SETTINGS.model_copy(update={"stop": SETTINGS.stop.model_copy(update={"labels": 8})})
    search = fresh(few)
    drive(search, Workers(4), AdaptiveLog(tmp_path / "log", {}))
    assert search.ended == "8 labels"
    assert len(search.finals) == few.final
    more = fresh()
    log = AdaptiveLog(tmp_path / "log", {})
    log.replay(more)
    assert not more.ended
    drive(more, Workers(4), log)
    assert len(more.asked) > 8
    assert set(search.finals) <= set(more.finals)  # what was paid for stays


@pytest.mark.slow
def test_trainings_that_are_lost_again_and_again_end_it(tmp_path):
    class Dead(Workers):
        def next(self):
            kind, number, outcome = super().next()
            return kind, number, Lost("gone") if kind == "train" and number > 1 else outcome

    search = fresh()
    drive(search, Dead(0), AdaptiveLog(tmp_path / "log", {}))
    assert "two trainings" in search.ended


@pytest.mark.slow
def test_lost_workers_are_replaced_and_work_that_kills_them_is_given_up(tmp_path):
    search, workers = fresh(), Workers(2, lost=0.4)
    drive(search, workers, AdaptiveLog(tmp_path / "log", {}), lambda *event: one_version(search))
    assert search.done
    assert search.failed > 0  # groups that were lost three times
    assert max(n for key, n in workers.done.items() if key[0] != "label") == 1


@pytest.mark.slow
def test_a_version_that_forgets_is_kept_out_and_one_is_trained_anew(tmp_path):
    starts = []

    def teach(lesson):
        starts.append(lesson.start)
        bad = lesson.version == 2
        return Trained(f"v{lesson.version}", 9, Errors(0.1, 1.0), Errors(0.9 if bad else 0.1, 1.0))

    work = {"search": lambda g: relaxed(g, Counter()), "label": lambda q: labelled(q, Counter()), "train": teach}
    search = fresh()
    drive(search, Serial(work, {"label": 4}), AdaptiveLog(tmp_path / "log", {}))
    assert "0.1 → 0.9" in search.versions[2].rejected
    assert starts[:4] == [None, 0, 1, None]
    assert not search.versions[3].rejected
    assert set(search.versions[3].new) >= set(search.versions[2].new)  # it learned what the other should have
    assert all(q.question.version != 2 for q in search.asked)


@pytest.mark.slow
def test_a_training_that_fails_is_told_and_the_search_goes_on_with_the_old_version(tmp_path):
    path, starts = tmp_path / "log", []

    def teach(lesson):
        starts.append(lesson.start)
        return Trained("", 0, failure="the loss is NaN") if lesson.version == 2 else trained(lesson, None)

    work = {"search": lambda g: relaxed(g, Counter()), "label": lambda q: labelled(q, Counter()), "train": teach}
    search = fresh()
    drive(search, Serial(work, {"label": 4}), AdaptiveLog(path, {}), lambda *event: one_version(search))
    assert search.versions[2].rejected == "its training failed: the loss is NaN"
    assert starts[:4] == [None, 0, 1, None]  # anew, and the labels that it should have learned with it
    assert set(search.versions[3].new) >= set(search.versions[2].new)
    assert search.done
    again = fresh()
    AdaptiveLog(path, {}).replay(again)
    assert again.versions[2].trained.failure == "the loss is NaN"


@pytest.mark.slow
def test_labels_that_fail_or_are_absurd_are_not_learned(tmp_path):
    def ask(question):
        if question.label % 3 == 0:
            return Answer(None, math.nan, math.nan, "crashed: no")
        answer = labelled(question, Counter())
        return Answer(answer.frame, answer.energy, 1e3 if question.label % 3 == 1 else 0.0, "")

    work = {"search": lambda g: relaxed(g, Counter()), "label": ask, "train": lambda x: trained(x, None)}
    search = fresh(SETTINGS.model_copy(update={"final": 0}))
    drive(search, Serial(work), AdaptiveLog(tmp_path / "log", {}))
    assert search.learned
    assert all(n % 3 == 2 for n in search.learned)


@pytest.mark.slow
def test_a_label_that_cannot_be_learned_is_paid_for_once(tmp_path):
    def deep(group):  # every version says that all it finds is far below its label
        below = [
            (n, replace(s, relaxed=replace(s.relaxed, energy=s.relaxed.energy - 50)))
            for n, s in relaxed(group, Counter())
        ]
        return [(n, replace(s, spread=0.0)) for n, s in below]

    def ask(question):
        answer = labelled(question, Counter())
        return answer if question.why == "first" else replace(answer, force=1e3)

    search = fresh(SETTINGS.model_copy(update={"final": 0}))
    drive(
        search,
        Serial({"search": deep, "label": ask, "train": lambda x: trained(x, None)}),
        AdaptiveLog(tmp_path / "log", {}),
    )
    assert search.refused
    assert max(Counter(a.question.structure for a in search.asked if a.question.why != "first").values()) == 1
    assert all(v.refused <= SETTINGS.ask.per_version for v in search.versions)
    assert search.done


@pytest.mark.slow
def test_first_labels_that_cannot_be_learned_are_replaced(tmp_path):
    def ask(question):
        return replace(labelled(question, Counter()), force=1e3 if question.label in (0, 2) else 0.0)

    work = {"search": lambda g: relaxed(g, Counter()), "label": ask, "train": lambda x: trained(x, None)}
    search = fresh()
    drive(search, Serial(work), AdaptiveLog(tmp_path / "log", {}))
    assert search.versions[0].new == (1, 3, 4, 5)
    assert [a.number for a in search.asked if a.question.why == "first"] == list(range(6))


def test_it_says_when_no_first_label_can_be_learned(tmp_path):
    work = {"label": lambda q: Answer(None, math.nan, math.nan, "crashed: no"), "search": None, "train": None}
    search = fresh()
    drive(search, Serial(work), AdaptiveLog(tmp_path / "log", {}))
    assert "4 first labels" in search.ended
    assert "crashed: no" in search.ended


@pytest.mark.slow
def test_structures_are_looked_at_before_a_label_is_paid(tmp_path):
    search = fresh(guard=lambda atoms: "too close" if truth(atoms) < 0 else "")
    drive(search, Workers(1), AdaptiveLog(tmp_path / "log", {}))
    assert all(truth(a.question.atoms) >= 0 for a in search.asked if a.question.why != "first")


@pytest.mark.slow
def test_what_is_refused_by_the_newest_version_begins_no_final_relaxation(tmp_path):
    search = fresh(guard=lambda atoms: "collapsed" if "bad" in atoms.info else "")

    def relax(group):
        out = relaxed(group, Counter())
        for _, scored in out:
            scored.relaxed.atoms.info["bad"] = True
        return out if len(search.versions) > 1 else relaxed(group, Counter())

    def ask(question):
        assert "bad" not in question.atoms.info
        return labelled(question, Counter())

    def relax_a_copy(group):
        return relax(replace(group, candidates=tuple(replace(c, atoms=c.atoms.copy()) for c in group.candidates)))

    work = {"search": relax_a_copy, "label": ask, "train": lambda x: trained(x, None)}
    drive(search, Serial(work, {"label": 4}), AdaptiveLog(tmp_path / "log", {}))
    newest = {n for n, (_, version, _) in search.known.items() if version == search.version.number}
    assert search.finals
    assert newest & {search.asked[n].question.structure for n in search.finals}  # refused ones are among them


@pytest.mark.slow
def test_a_search_that_has_ended_stays_ended_while_final_structures_are_relaxed(tmp_path):
    settings = SETTINGS.model_copy(update={"final": 3, "ask": SETTINGS.ask.model_copy(update={"apart": 9.0})})
    search, after = fresh(settings), []

    def look(kind, item, outcome):
        if search.finals:
            after.append((search.ended, search.relaxed))

    drive(search, Workers(2), AdaptiveLog(tmp_path / "log", {}), look)
    assert "nothing new" in search.ended
    assert len(search.finals) == 3
    assert all(ended for ended, _ in after)


def asked(number, energy):
    question = Question(number, number, Atoms("Cu"), "best", 0, energy)
    return Asked(question, Answer(None, energy, 0.0, ""))


def test_rank_correlation_of_low_structures():
    labels = [asked(k, 0.01 * k) for k in range(6)] + [asked(6, 5.0)]
    same = {k: 3.0 + 0.02 * k for k in range(6)} | {6: 10.0}
    assert correlation(labels, same, 0.3) == pytest.approx(1)
    assert correlation(labels, {k: -v for k, v in same.items()}, 20) == pytest.approx(-1)
    assert correlation(labels, same | {6: 3.0}, 0.3) < 1  # low by the potential alone
    assert math.isnan(correlation(labels[:3], same, 0.3))
    assert correlation(labels[:6], dict(zip(range(6), [0, 1, 2, 3, 5, 4], strict=True)), 9) == pytest.approx(
        1 - 12 / 210
    )


def test_forgetting_is_told_beyond_the_tolerance_and_what_is_good_anyway():
    settings = TeachSettings(tolerance=0.1, good_energy=0.05, good_force=0.5)
    assert not forgot(Trained("", 0, Errors(0.2, 1), Errors(0.21, 1.05)), settings)
    assert "energy" in forgot(Trained("", 0, Errors(0.2, 1), Errors(0.23, 1)), settings)
    assert not forgot(Trained("", 0, Errors(0.001, 0.1), Errors(0.04, 0.4)), settings)
    assert "force" in forgot(Trained("", 0, Errors(0.1, 1), Errors(0.1, math.nan)), settings)


def test_when_it_ends():
    def version(k, lowest, rank):
        return Version(k, k - 1, (), Trained(f"v{k}", 1), lowest=lowest, correlation=rank)

    versions = [version(k, -1.0, 0.95) for k in range(4)]
    assert "has not changed" in why_end(9, -1.0, versions, 50, SETTINGS, idle=False)
    assert not why_end(9, -1.1, versions, 50, SETTINGS, idle=False)  # a new lowest label
    assert not why_end(9, -1.0, [*versions[:3], version(3, -1.0, 0.5)], 50, SETTINGS, idle=False)
    assert why_end(24, -1.1, versions, 50, SETTINGS, idle=False) == "24 labels"
    assert why_end(9, -1.1, versions, 200, SETTINGS, idle=False) == "200 relaxations"
    assert "nothing new" in why_end(9, -1.1, versions, 50, SETTINGS, idle=True)


def test_frames_come_back_from_the_log_to_the_last_digit():
    atoms = Atoms("TiO2", positions=np.random.default_rng(0).normal(size=(3, 3)), cell=np.eye(3) / 3, pbc=True)
    atoms.info |= {"REF_energy": -1 / 3, "REF_stress": np.full((3, 3), 0.1), "calc_mode": "m"}
    atoms.arrays["REF_forces"] = atoms.positions / 7
    back = frame_of(json.loads(json.dumps(frame_record(atoms))))
    assert (back.positions == atoms.positions).all()
    assert (back.arrays["REF_forces"] == atoms.arrays["REF_forces"]).all()
    assert (back.info["REF_stress"] == 0.1).all()
    assert back.info["REF_energy"] == -1 / 3
    assert back.pbc.all()
