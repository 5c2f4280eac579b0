"""The adaptive genetic algorithm: a search on a potential that is taught, while it searches, what the search finds.

    adaptive = Adaptive(problem, settings, genetic, seed)
    ...
        if (work := adaptive.wanted("label")) is not None:      # a worker is free
            number, item = work
    ...
        adaptive.receive("label", number, outcome)              # it is done

Three kinds of work go on at the same time. Groups of structures are relaxed on the newest version of the potential;
the lowest of its pool and those about which the committee disagrees are labelled, as the version relaxed them; labels
are learned by the next version, as soon as there are enough. S. Q. Wu et al., J. Phys.: Condens. Matter 26, 035402
(2014), doi:10.1088/0953-8984/26/3/035402, without its cycles: nothing waits for the end of anything else.

Energies of two versions are never in one ranking. A new version begins an empty pool; what the old one held, and the
lowest labelled structures, are relaxed again and enter by what the new one says. What workers bring that was relaxed
on an old version is relaxed again, if it would have entered the old pool.

Here is no clock, no thread and no file: who does the work, and how long it takes, is not known. What is wanted follows
from the order of events alone, so that the search goes on from a log of them (`adaptive_log`).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import cast

import numpy as np
from ase import Atoms

from rutile.core.executors.executor import Lost
from rutile.search.adaptive_items import (
    KINDS,
    Answer,
    Asked,
    Group,
    Item,
    Kind,
    Lesson,
    Outcome,
    Question,
    Scored,
    Trained,
    Version,
    Why,
    without,
)  # fmt: skip
from rutile.search.adaptive_judge import correlation, different, forgot, good, why_end
from rutile.search.adaptive_settings import AdaptiveSettings
from rutile.search.breeding import NEW, Problem
from rutile.search.fingerprint import Marks, apart, apart_from, fingerprint
from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate, Found, Relaxed
from rutile.search.past import Past
from rutile.search.settings import GeneticSettings

LOWEST = 3
"""A new version relaxes as many of the lowest labelled structures again as this part of the pool."""
REPLACED = 3
"""First labels at most, as a multiple of `begin`: those that cannot be learned are replaced by others."""
ROOMIEST = 6
"""Random structures of which one is labelled first: that whose nearest atoms are farthest apart has small forces."""
SPARE = 500
"""Structures that are kept beside those that may be wanted again, at least."""
Guard = Callable[[Atoms], str]
"""Why a relaxed structure cannot be used, or ""."""


class Adaptive:
    """An adaptive search.

    Args:
        problem: what is searched for.
        settings: how search, labels and training go together.
        genetic: how structures are bred.
        seed: of all random numbers.
        given: whether there are labelled structures to begin with, which all trainings know.
        guard: looks at relaxed structures: those that it refuses have failed, and no label is paid for them.
    """

    ended: str
    """Why the search is over, or ""; final structures are still relaxed then."""

    def __init__(
        self,
        problem: Problem,
        settings: AdaptiveSettings,
        genetic: GeneticSettings,
        seed: int,
        *,
        given: bool = False,
        guard: Guard = lambda atoms: "",
    ) -> None:
        self.settings, self.given, self.guard, self.ended = settings, given, guard, ""
        self.search = Genetic(problem, genetic, seed)
        self.known: dict[int, tuple[Candidate, int | None, Scored | None]] = {}
        """Structures that may be wanted again: how each was made, the newest version that relaxed it, its result."""
        self.past = Past()
        """All that were relaxed, without their atoms, as the newest version did it, whose number is their place."""
        self._most_known = SPARE
        self.waiting: deque[Candidate] = deque()
        """To be relaxed before new ones are made: those of older versions, and those that were labelled first."""
        self.sent: dict[int, int] = {}
        """Structures that wait for a version or are at work on it, and its number."""
        self.asked: list[Asked] = []
        self.finals: dict[int, Asked] = {}
        """Structures that are relaxed with the labeler at the end, by number of the label."""
        self.marks = Marks()
        """Fingerprints of labelled structures, by number of the label."""
        self.fresh: list[int] = []
        """Labels that no version has learned."""
        self.learned: list[int] = []
        """Labels that were learned."""
        self.refused: set[int] = set()
        """Labels that cannot be learned: they failed, or their forces are too large."""
        self.lowest = math.inf
        """Label (eV/atom)."""
        self.versions: list[Version] = []
        self.version: Version | None = None
        """The newest one that is not kept out."""
        self.open: dict[Kind, dict[int, Item]] = {kind: {} for kind in KINDS}
        """Given to workers, by number."""
        self.again: dict[Kind, deque[int]] = {kind: deque() for kind in KINDS}
        """Of those, that must be given once more: their workers were lost, or the search was stopped."""
        self.count = dict.fromkeys(KINDS, 0)
        self.lost: Counter[tuple[Kind, int]] = Counter()
        self.relaxed, self.under_way, self.failed, self.answered, self.cost = 0, 0, 0, 0, 0
        self._near: dict[int, tuple[tuple[int, ...], int]] = {}
        """Of members of the pool: labels of structures like them, and how many labels were looked at."""
        self._wanted: Question | None = None
        """What `wants` found, until something happens."""
        self._anew = False
        self._ranked_by: int | None = None
        """Version of the pool before this one."""

    # --- what is wanted -------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, final structures with it."""
        return bool(self.ended) and not self.open["label"] and self._next_final() is None

    def wanted(self, kind: Kind) -> tuple[int, Item] | None:
        """Work for a free worker: its number, and what it is; None: there is none now."""
        if self.again[kind] and (not self.ended or kind == "label"):
            number = self.again[kind].popleft()
            return number, self.open[kind][number]
        choose: Mapping[Kind, Callable[[], Item | None]] = {
            "label": lambda: self._wanted or self._question(), "train": self._lesson, "search": self._group,
        }  # fmt: skip
        item = choose[kind]()
        if item is None:
            return None
        number = self.count[kind]
        self.begin(kind, number, item)
        return number, item

    def wants(self, kind: Kind) -> bool:
        """Whether `wanted` would give something."""
        if self.again[kind] and (not self.ended or kind == "label"):
            return True
        if kind == "search":
            return self._room() > 0
        if kind == "train":
            return self._lesson() is not None
        if self.version is None and not self.ended:
            return not self.versions and len(self.asked) < self._first_labels
        self._wanted = self._question()
        return self._wanted is not None

    @property
    def _first_labels(self) -> int:
        """Labels before the first version: so many that can be learned, if they come among three times as many."""
        s = self.settings
        return min(s.begin + len(self.refused), REPLACED * s.begin, s.stop.labels)

    def _question(self) -> Question | None:
        """The next structure to be labelled."""
        if self.ended:
            return self._next_final()
        version, ask, label = self.version, self.settings.ask, len(self.asked)
        if label >= self.settings.stop.labels:
            return None
        if version is None:
            if self.versions or label >= self._first_labels:
                return None
            child = self.search.child(ROOMIEST)
            return Question(label, child.number, child.atoms, "first", None, math.nan)
        if version.relaxed < ask.after or version.asked_enough(ask.per_version):
            return None
        disputed = math.floor((version.asked + 1) * ask.disputed) > math.floor(version.asked * ask.disputed)
        found = self._worth(disputed=disputed) or self._worth(disputed=False)
        if found is None:
            return None
        why: Why = "disputed" if disputed else "best"
        spread = self._spread(found.number)
        return Question(label, found.number, found.atoms, why, version.number, found.energy, spread)

    def _worth(self, *, disputed: bool) -> Found | None:
        """The member of the pool that is labelled next: the lowest, or of the low ones the most disputed."""
        self._compare()
        members = self.search.population.members
        if disputed:
            low = members[: math.ceil(self.settings.ask.low * len(members))]
            return max(filter(self._new, low), key=lambda m: (self._spread(m.number), -m.number), default=None)
        return next(filter(self._new, members), None)

    def _new(self, found: Found) -> bool:
        """Whether one is worth a label: like none that has one, or lower, and like none that cannot be learned."""
        ask, (near, _) = self.settings.ask, self._near[found.number]
        lower = all(found.energy < self.asked[k].energy - ask.gain for k in near)  # NaN: not done, or failed
        return lower and self.refused.isdisjoint(near) and self._spread(found.number) <= ask.max_spread

    def _compare(self) -> None:
        """Members of the pool with the labels that they were not compared with."""
        pool, many, within = self.search.population, len(self.marks), self.settings.ask.apart
        stale: dict[int, list[int]] = {}
        for k, m in enumerate(pool.members):
            if (seen := self._near.get(m.number, ((), 0))[1]) < many:
                stale.setdefault(seen, []).append(k)
        for seen, members in stale.items():
            found = {k: self._near.get(pool.members[k].number, ((), 0))[0] for k in members}
            if many - seen <= len(members):
                rows = pool.marks[members]
                for label in range(seen, many):
                    for j in np.flatnonzero(apart_from(rows, self.marks[label]) < within):
                        found[members[j]] += (label,)
            else:
                for k in members:
                    away = apart_from(self.marks[seen:], pool.marks[k])
                    found[k] += tuple(seen + int(j) for j in np.flatnonzero(away < within))
            self._near |= {pool.members[k].number: (near, many) for k, near in found.items()}

    def _spread(self, structure: int) -> float:
        scored = self.known[structure][2]
        return scored.spread if scored is not None else 0.0

    def _lesson(self) -> Lesson | None:
        """The next version, if it is time."""
        if self.ended or self.open["train"]:
            return None
        waits = self.answered < len(self.asked)
        if self.version is None:
            ready = not self.versions and not waits and len(self.asked) >= self._first_labels
            return self._of(None) if ready and (self.fresh or self.given) else None
        enough = len(self.fresh) >= self.settings.teach.after or self._anew
        if enough or (self.fresh and not waits and self._exhausted()):
            return self._of(None if self._anew else self.version.number)
        return None

    def _of(self, start: int | None) -> Lesson:
        model = "" if self.version is None else self.version.trained.model
        return self.equipped(Lesson(len(self.versions), start, model, tuple(self.fresh), tuple(self.learned)))

    def equipped(self, lesson: Lesson) -> Lesson:
        """A lesson with the structures that its numbers stand for."""
        frames = {a.number: a.answer.frame for a in self.asked if a.answer is not None and a.answer.frame is not None}
        return replace(
            lesson,
            frames=tuple(frames[n] for n in (*lesson.new, *lesson.old) if n in frames),
            all=tuple(frames.items()),
        )

    def _exhausted(self) -> bool:
        """Whether the newest version brings nothing more to label, for now."""
        v, s = self.version, self.settings
        if v is None or v.relaxed < s.ask.after:
            return False
        if v.asked_enough(s.ask.per_version):
            return True
        resting = v.relaxed >= s.rest or self.relaxed >= s.stop.relaxations
        waited = v.relaxed - v.last_asked >= s.ask.wait
        return (resting or waited) and self._worth(disputed=False) is None

    def _group(self) -> Group | None:
        """Structures to be relaxed: waiting ones first, then new ones."""
        version, room = self.version, self._room()
        if version is None or room <= 0:
            return None
        chosen = list(islice(self.waiting, room))
        chosen += [self.search.child() for _ in range(room - len(chosen))]
        return Group(version.number, version.trained.model, tuple(chosen))

    def _room(self) -> int:
        """Structures that may be relaxed together now."""
        s = self.settings
        if self.ended or self.version is None:
            return 0
        left = min(s.stop.relaxations - self.relaxed, s.rest - self.version.relaxed) - self.under_way
        return min(left, s.batch)

    def _next_final(self) -> Question | None:
        """The next low structure for the labeler to relax, from its minimum by the newest version if that is alike."""
        pool, distance = self.search.settings.pool, self.search.problem.distance
        for a in different(self.asked, self.marks, pool, self.settings.final):
            if a.number not in self.finals:
                _, version, scored = self.known[a.question.structure]
                atoms = a.question.atoms
                newest = self.version is not None and version == self.version.number
                if newest and scored is not None and not scored.relaxed.failure:
                    moved = scored.relaxed.atoms
                    if apart(fingerprint(moved, distance), fingerprint(atoms, distance)) < pool.same:
                        atoms = moved
                return replace(a.question, atoms=atoms, why="final")
        return None

    # --- what happened --------------------------------------------------------------------------------------------

    def begin(self, kind: Kind, number: int, item: Item) -> None:
        """Take down that work was given away; also for what a log says."""
        self._wanted = None
        if number in self.open[kind]:
            return  # given once more
        self.count[kind] = number + 1
        self.open[kind][number] = item
        if isinstance(item, Group):
            self.under_way += len(item.candidates)
            for c in item.candidates:
                if self.waiting and self.waiting[0].number == c.number:
                    self.waiting.popleft()
                self.sent[c.number] = item.version
                self._made(c)
        elif isinstance(item, Question):
            self._ask(item)

    def _made(self, candidate: Candidate) -> None:
        """A structure that was not known becomes known."""
        if candidate.number not in self.known:
            if candidate.number not in self.search.waiting:
                self.search.begin(candidate)
            self.known[candidate.number] = candidate, None, None

    def _ask(self, q: Question) -> None:
        if q.why == "final":
            self.finals[q.label] = Asked(q)
            return
        if q.why == "first":
            child = Candidate(q.structure, q.atoms, NEW, ())
            self._made(child)
            self.waiting.append(child)
        self.asked.append(Asked(q))
        self.marks.append(fingerprint(q.atoms, self.search.problem.distance))
        if q.version is not None:
            version = self.versions[q.version]
            version.asked += 1
            version.last_asked = version.relaxed

    def receive(self, kind: Kind, number: int, outcome: Outcome | Lost) -> None:
        """Take what a worker brought; in any order."""
        self._wanted = None
        item = self.open[kind][number]
        if isinstance(outcome, Lost):
            self.lost[kind, number] += 1
            if self.lost[kind, number] < self.settings.tries:
                self.again[kind].append(number)
                return
            outcome = without(item, outcome.reason)
        del self.open[kind][number]
        if isinstance(item, Group):
            self._take_group(item, cast("Sequence[tuple[int, Scored]]", outcome))
        elif isinstance(item, Question):
            self._take_answer(item, cast(Answer, outcome))
        else:
            self._take_version(item, cast(Trained, outcome))
        self.end()

    def end(self) -> None:
        """See whether the search is over."""
        if self.version is None:
            self.ended = self._hopeless()
            return
        kept = [v for v in self.versions[-9 - self.settings.stop.versions :] if not v.rejected]
        self.ended = ""
        if len(self.versions) > 1 and not any(v.trained.model for v in self.versions[-2:]):
            self.ended = f"two trainings in a row failed; the last: {self.versions[-1].rejected}"
            return
        asks = any(isinstance(q, Question) and q.why != "final" for q in self.open["label"].values())
        idle = not asks and not self.open["train"] and self._exhausted() and self._lesson() is None
        self.ended = why_end(self.answered, self.lowest, kept, self.relaxed, self.settings, idle=idle)

    def _hopeless(self) -> str:
        """Why there will be no first version, or ""."""
        if self.versions:
            return self.versions[-1].rejected
        if self.answered and self.answered >= self.settings.begin and not self.fresh and not self.given:
            bad = [a.answer.failure or "forces beyond ask.max_force" for a in self.asked if a.answer is not None]
            return f"none of the {len(bad)} first labels can be learned; the last: {bad[-1]}"
        return ""

    def _take_group(self, group: Group, outcome: Sequence[tuple[int, Scored]]) -> None:
        by_number = {c.number: c for c in group.candidates}
        self.versions[group.version].relaxed += len(by_number)
        self.relaxed += len(by_number)
        self.under_way -= len(by_number)
        for number, scored in outcome:
            self._take_relaxed(by_number[number], scored, group.version)
        if len(self.known) > self._most_known:
            self._forget()

    def _forget(self) -> None:
        """Keep the structures that may be wanted again; the log has all."""
        pools = self.search.population, self.search.before
        wanted = {m.number for pool in pools for m in pool.members} | {a.question.structure for a in self.asked}
        wanted |= {c.number for c in self.waiting} | self.search.waiting.keys()
        groups = [group for group in self.open["search"].values() if isinstance(group, Group)]
        wanted |= {c.number for group in groups for c in group.candidates}
        self.known = {number: one for number, one in self.known.items() if number in wanted}
        self.sent = {number: version for number, version in self.sent.items() if number in wanted}
        self._near = {number: labels for number, labels in self._near.items() if number in wanted}
        self._most_known = SPARE + 2 * len(self.known)

    def _take_relaxed(self, given: Candidate, scored: Scored, version: int) -> None:
        """One structure: into the pool of its version, or to be relaxed again on the newest one."""
        number, relaxed = given.number, scored.relaxed
        if not relaxed.failure and (refused := self.guard(relaxed.atoms)):
            relaxed = replace(relaxed, failure=refused)
        self.failed += bool(relaxed.failure)
        candidate = self.known[number][0]
        assert self.version is not None
        if self.sent[number] != version:
            return  # waits for the newest version already
        if version != self.version.number:
            if self._would_have_entered(relaxed, version):
                self.sent[number] = self.version.number
                self.waiting.append(replace(candidate, atoms=relaxed.atoms))
            elif number in self.search.waiting:
                self.search.drop(number)
            return
        self.known[number] = replace(candidate, atoms=relaxed.atoms), version, replace(scored, relaxed=relaxed)
        made, numbers = (candidate.operator, candidate.parents), relaxed.atoms.numbers
        self.past.add(number, *made, relaxed.energy, relaxed.failure, numbers, version)
        self._near.pop(number, None)
        if number in self.search.waiting:
            self.search.receive([(number, relaxed)])
        else:
            self.search.again(candidate, relaxed)

    def _would_have_entered(self, relaxed: Relaxed, version: int) -> bool:
        """Whether a structure that comes late was good by the version that relaxed it."""
        members = self.search.before.members
        if relaxed.failure or not members:
            return not relaxed.failure
        return version != self._ranked_by or relaxed.energy < members[-1].energy

    def _take_answer(self, q: Question, answer: Answer) -> None:
        self.cost += answer.cost
        if q.why == "final":
            self.finals[q.label].answer = answer
            return
        self.asked[q.label].answer = answer
        self.answered += 1
        if answer.failure or answer.force > self.settings.ask.max_force:
            self.refused.add(q.label)
            if q.version is not None:
                self.versions[q.version].asked -= 1
                self.versions[q.version].refused += 1
        else:
            self.fresh.append(q.label)
        if not answer.failure:
            self.lowest = min(self.lowest, answer.energy)

    def _take_version(self, lesson: Lesson, trained: Trained) -> None:
        why = "" if trained.model else f"its training failed{': ' * bool(trained.failure)}{trained.failure}"
        if trained.model and lesson.start is not None:
            why = forgot(trained, self.settings.teach)
        rank = correlation(self.asked, dict(trained.energies), self.settings.stop.window)
        new = Version(lesson.version, lesson.start, lesson.new, trained, why, lowest=self.lowest, correlation=rank)
        self.versions.append(new)
        self._anew = bool(why) and lesson.start is not None
        if not why:
            learned = set(lesson.new)
            self.fresh = [n for n in self.fresh if n not in learned]
            self.learned += lesson.new
            self._ranked_by = None if self.version is None else self.version.number
            self.version = new
            self._renew(new.number)

    def _renew(self, version: int) -> None:
        """A new ranking: what was good by the old one, or by its label, is relaxed again."""
        members = self.search.renew()
        self._near.clear()
        chosen = {m.number: replace(self.known[m.number][0], atoms=m.atoms) for m in members}
        for a in good(self.asked)[: max(1, self.search.settings.pool.size // LOWEST)]:
            candidate = self.known[a.question.structure][0]
            if candidate.number not in self.search.waiting:
                chosen.setdefault(candidate.number, replace(candidate, atoms=a.question.atoms))
        already = {c.number for c in self.waiting}
        more = [c for n, c in chosen.items() if n not in already]
        self.sent |= {c.number: version for c in more}
        self.waiting.extendleft(reversed(more))

    def resume(self) -> None:
        """After a log was replayed: what workers had been given is given again."""
        for kind in KINDS:
            self.again[kind] = deque(sorted(self.open[kind]))
        self.end()
