"""What `rutile adapt` looks at before anything is labelled: whether the engine takes such structures; its forces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rutile.core.errors import LabelError

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.core.reporting import Reporter
    from rutile.search.adaptive import Adaptive
    from rutile.tasks.adapt import AdaptSettings

TRIED = 3
"""Structures on which the self-check is tried: random ones may be too wild for an engine."""


def check_engine(settings: AdaptSettings, adaptive: Adaptive, version: str, reporter: Reporter) -> None:
    """See that the engine labels the first structures of a search, and that its forces are derivatives of its energy.

    Nothing is done where there are labels already, or `self_check` is off but for what can be seen at once.

    Raises:
        LabelError: it does not.
    """
    from rutile.core.executors.catalogue import open_executor
    from rutile.label.cache import LabelCache
    from rutile.label.campaign import Campaign
    from rutile.label.catalogue import make
    from rutile.label.labeler import Failure
    from rutile.label.work import close_all
    from rutile.tasks.adapt import labels_in

    if adaptive.asked:
        return
    labeler, how = make(settings.engine), settings.label
    try:
        first = _first(adaptive)
        refused = [f for f in map(labeler.refuse, first) if f is not None]
        if len(refused) == len(first):
            raise LabelError(f"engine={settings.engine.name}: {refused[0].kind}: {refused[0].reason}")
        if not settings.self_check:
            return
        with open_executor(how.executor, how.workers, reporter) as executor:
            campaign = Campaign(settings.engine, LabelCache(labels_in(settings)), executor, reporter)
            for atoms in first:
                verdict, _ = campaign.check([atoms], labeler, version)
                if verdict.failure is None:
                    return
                if verdict.force_error == verdict.force_error:  # it was computed, and is wrong
                    break
        assert isinstance(verdict.failure, Failure)
        raise LabelError(f"{verdict.failure.reason} (self_check=false leaves this out)")
    finally:
        labeler.close()
        close_all()


def _first(adaptive: Adaptive) -> list[Atoms]:
    """The random structures that are labelled first."""
    from rutile.search.breeding import NEW
    from rutile.search.individual import Order, Way

    return [adaptive.search.breeder(Order(number, (Way(NEW),))).atoms for number in range(TRIED)]
