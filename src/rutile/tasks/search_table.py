"""The table of a search, at its end and while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rutile.core.errors import DataError
from rutile.core.files import write_atomically
from rutile.search.individual import FIXED
from rutile.search.ranking import AboveHull, Ranking
from rutile.search.results import Marks, distinct, symmetry_of
from rutile.tasks.hull_figures import STABLE
from rutile.tasks.property import as_csv
from rutile.tasks.search import SearchRow, SearchTaskResult
from rutile.tasks.search_page import page

if TYPE_CHECKING:
    from rutile.search.genetic import Genetic
    from rutile.search.individual import Found
    from rutile.search.past import Done, Past
    from rutile.search.results import Distinct
    from rutile.tasks.search import SearchSettings

SHARE = 0.05
"""Part of the time that may go into tables while a search runs."""


def ranking_of(search: Genetic, done: Iterable[Done]) -> Ranking:
    """The order of some structures among themselves, whatever the search knows besides.

    Raises:
        DataError: an end member of a variable composition is not among them.
    """
    order = search.problem.ranking()
    for d in done:
        if not d.failure:
            order.take(d, d.energy)
    if isinstance(order, AboveHull) and order.missing:
        raise DataError(
            f"no crystal of {' and none of '.join(order.missing)} was found, so there is no hull: give more relaxations"
        )
    return order


def told_of(best: Found, order: Ranking) -> str:
    """What a structure that is better than all before is."""
    if isinstance(order, AboveHull):
        formation = 0.0 if order.missing else order.formation(best.atoms, best.energy)
        told = f"{formation:.5f} eV/atom from the end members, " if formation else f"{best.energy:.5f} eV/atom, "
        return f"the hull is lower at {order.name(best.atoms)} ({told}{best.operator})"
    return f"{best.energy:.5f} eV/atom ({best.operator})"


def table(
    settings: SearchSettings, search: Genetic, past: Past, final: Sequence[Distinct],
    rough: Sequence[Distinct], order: Ranking,
) -> SearchTaskResult:  # fmt: skip
    """The result with its rows.

    Args:
        settings: of the task.
        search: as it stands.
        past: all that was relaxed.
        final: different structures, lowest first.
        rough: those that they were relaxed better from; structures that became one share their hits.
        order: of the final ones.
    """
    known = {d.found.number: d for d in rough}
    lowest = order.of(final[0].found.atoms, final[0].found.energy)
    rows = []
    for d in final:
        copies = [known[k] for k in d.numbers if k in known]
        crystal = bool(d.found.atoms.pbc.all()) and FIXED not in d.found.atoms.arrays
        atoms, hull = d.found.atoms, order if isinstance(order, AboveHull) else None
        rows.append(
            SearchRow(
                number=d.found.number, energy=d.found.energy, above=order.of(atoms, d.found.energy) - lowest,
                formula=hull.name(atoms) if hull else None,
                formation=hull.formation(atoms, d.found.energy) if hull else None,
                hits=sum(c.hits for c in copies), first=min(c.first for c in copies), symmetry=symmetry_of(atoms),
                atoms=len(atoms), volume=atoms.cell.volume / len(atoms) if crystal else None,
                operator=d.found.operator, parents=" ".join(map(str, d.found.parents)),
            )
        )  # fmt: skip
    return SearchTaskResult(
        relaxed=len(past), failed=past.failed, pools=search.pools,
        reached=None if settings.target is None or search.best is None else search.best.energy <= settings.target,
        stable=sum(row.above < STABLE for row in rows) if isinstance(order, AboveHull) else None,
        structures=rows, best=settings.out / "best.extxyz",
    )  # fmt: skip


class Live:
    """Table and page of a search that runs; structures are as they were relaxed, not better.

    Args:
        settings: of the task.
        search: what runs.
    """

    def __init__(self, settings: SearchSettings, search: Genetic) -> None:
        self.settings, self.search = settings, search
        self._next = time.monotonic() + settings.every
        self._marks = Marks()

    def show(self, past: Past) -> None:
        """Write both if it is time to; not before every end member was found.

        Raises:
            FileError: they cannot be written.
        """
        now = time.monotonic()
        if now < self._next or self.search.best is None:
            return
        s, ranking = self.settings, self.search.ranking
        if isinstance(ranking, AboveHull) and ranking.missing:
            return
        at = self.search.problem.distance
        found = distinct(past, past.atoms, s.pool, at, s.window, s.keep, ranking, self._marks)
        result = table(s, self.search, past, found, found, ranking)
        write_atomically(s.out / "table.csv", as_csv(result.structures))
        write_atomically(s.out / "report.html", page(s, result, past, ranking).encode())
        took = time.monotonic() - now
        self._next = time.monotonic() + max(s.every, took / SHARE)
