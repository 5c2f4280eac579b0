"""Tables of an adaptive search, and what is told while it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from rutile.core.executors.executor import Lost
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.search.adaptive import Adaptive
from rutile.search.adaptive_items import Answer, Asked, Item, Kind, Lesson, Outcome, Question
from rutile.search.adaptive_judge import different
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import carried
from rutile.search.names import prototype_of
from rutile.search.results import symmetry_of
from rutile.tasks.adapt import AdaptRow, VersionRow
from rutile.tasks.adapt_train import stop_file
from rutile.tasks.search_start import ADAPT_LOG

if TYPE_CHECKING:
    from rutile.tasks.adapt import AdaptSettings

ROUGH = 0.1
"""Distance (Angstrom) within which atoms are symmetric: structures are not relaxed to the last digit."""
EVERY = 30.0
"""The page is written again when so much time (s) has passed."""
Shown = Sequence[tuple[AdaptRow, Atoms]]


def rows_of(settings: AdaptSettings, adaptive: Adaptive) -> list[tuple[AdaptRow, Atoms]]:
    """The different labelled structures, lowest first, relaxed by the labeler where they were."""
    pool, newest = adaptive.search.settings.pool, adaptive.version
    energies = dict(newest.trained.energies) if newest is not None else {}
    shown: list[tuple[Asked, Answer, bool]] = []
    for a in different(adaptive.asked, adaptive.marks, pool, 2 * settings.keep):
        final = adaptive.finals.get(a.number)
        answer, relaxed = a.answer, False
        assert answer is not None
        if final is not None and final.answer is not None and final.answer.energy <= answer.energy:  # NaN: it failed
            answer, relaxed = final.answer, True
        shown.append((a, answer, relaxed))
    shown.sort(key=lambda s: s[1].energy)
    distance, out = adaptive.search.problem.distance, []
    kept: list[np.ndarray] = []
    for a, answer, relaxed in shown:
        if answer.frame is None:
            continue
        mark = fingerprint(carried(a.question.atoms, answer.frame.copy()), distance)
        if any(apart(mark, k) < pool.same for k in kept) or len(kept) >= settings.keep:
            continue  # one became another when it was relaxed
        kept.append(mark)
        candidate = adaptive.known[a.question.structure][0]
        row = AdaptRow(
            structure=a.question.structure, energy=answer.energy, above=answer.energy - shown[0][1].energy,
            potential=energies.get(a.number), relaxed=relaxed, symmetry=symmetry_of(answer.frame, ROUGH),
            name=prototype_of(answer.frame, ROUGH), atoms=len(answer.frame),
            volume=answer.frame.cell.volume / len(answer.frame) if answer.frame.pbc.all() else None,
            label=a.number, why=a.question.why, version=a.question.version, operator=candidate.operator,
            parents=" ".join(map(str, candidate.parents)),
        )  # fmt: skip
        out.append((row, answer.frame))
    return out


def frames_of(found: Shown) -> list[Atoms]:
    """Structures with labels and what the table says about them."""
    out = []
    for row, frame in found:
        atoms = frame.copy()
        atoms.info |= {k: v for k, v in row.model_dump().items() if v is not None and k not in ("atoms", "energy")}
        out.append(atoms)
    return out


def labelled(adaptive: Adaptive) -> list[Atoms]:
    """All labels but those of final structures, with their ancestry: structure, why, version that found it."""
    out = []
    for a in adaptive.asked:
        if a.answer is None or a.answer.failure or a.answer.frame is None:
            continue
        atoms, q = a.answer.frame.copy(), a.question
        atoms.info |= {"label": q.label, "structure": q.structure, "config_type": q.why}
        atoms.info |= {} if q.version is None else {"version": q.version}
        out.append(atoms)
    return out


def version_rows(adaptive: Adaptive) -> list[VersionRow]:
    """The versions, those that were kept out with them."""
    out = []
    for v in adaptive.versions:
        t = v.trained
        out.append(
            VersionRow(
                version=v.number, start=v.start, learned=len(v.new), frames=t.frames,
                old_energy_before=_known(t.old_before.energy), old_energy=_known(t.old_after.energy),
                old_force_before=_known(t.old_before.force), old_force=_known(t.old_after.force),
                new_energy_before=_known(t.new_before.energy), new_energy=_known(t.new_after.energy),
                new_force_before=_known(t.new_before.force), new_force=_known(t.new_after.force),
                correlation=_known(v.correlation), lowest=_known(v.lowest), relaxed=v.relaxed, asked=v.asked,
                rejected=v.rejected,
            )
        )  # fmt: skip
    return out


def _known(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


@dataclass
class Told:
    """Hears of each event: tells the user, and rewrites the page with each version."""

    settings: AdaptSettings
    adaptive: Adaptive
    reporter: Reporter
    known: int = 0
    """Events that are known from before."""
    lowest: float = math.inf
    _written: float = -math.inf

    def __post_init__(self) -> None:
        self.lowest = self.adaptive.lowest

    def __call__(self, kind: Kind, item: Item, outcome: Outcome | Lost) -> None:
        """An event."""
        search = self.adaptive
        if search.ended:
            self._stop_training()
        if isinstance(outcome, Lost):
            if search.ended and isinstance(item, Lesson):
                return
            self.reporter.warn(f"a worker was lost ({kind}): {outcome.reason}")
        elif isinstance(item, Lesson):
            self._version()
        elif isinstance(item, Question) and item.why != "final" and search.lowest < self.lowest - 1e-4:
            self.lowest = search.lowest
            found = prototype_of(item.atoms, ROUGH)
            group = symmetry_of(item.atoms, ROUGH)
            self.reporter.info(f"label {search.answered}: {search.lowest:.4f} eV/atom {group} {found}".rstrip())

    def _stop_training(self) -> None:
        """Nobody waits for what is trained when the search has ended."""
        for item in self.adaptive.open["train"].values():
            if isinstance(item, Lesson):
                with suppress(OSError):  # its folder is not there yet: the training goes on
                    stop_file(self.settings.out, item.version).touch()

    def _version(self) -> None:
        """A version came."""
        from rutile.tasks.adapt_page import page

        search = self.adaptive
        row = version_rows(search)[-1].model_dump()
        names = ("version", "learned", "frames", "new_energy_before", "new_energy", "old_energy", "correlation")
        self.reporter.metrics(
            {"labels": search.answered} | {n.replace("_", " "): "" if row[n] is None else row[n] for n in names}
        )
        if row["rejected"]:
            self.reporter.warn(f"version {row['version']} is kept out: {row['rejected']}")
        if time.monotonic() - self._written < EVERY:
            return
        found = rows_of(self.settings, search)
        if found:
            self._written = time.monotonic()
            text = page(self.settings, search, found, self.settings.out / ADAPT_LOG)
            write_atomically(self.settings.out / "report.html", text.encode())
