"""Looking at a plan of `rutile learn` before anything is computed, and what of it must stay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rutile.active.explore import read_structures
from rutile.active.plan import FilesExplorer, GenerateExplorer, NebExplorer, SystemSettings
from rutile.build.making import Maker
from rutile.build.recipe import Mechanics
from rutile.build.settings import StepSettings
from rutile.core.errors import RutileError, SettingsError
from rutile.data.reading import readings
from rutile.data.settings import ReadSettings
from rutile.label.campaign import mode_of
from rutile.label.catalogue import make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rutile.tasks.learn import LearnSettings

NO_MECHANICS = Mechanics(lambda forces: None, lambda melt: None)  # type: ignore[arg-type, return-value]
"""Forces of builders that are looked at only."""
RUNNING = frozenset({"device", "threads", "workers", "cache_memory", "cache_disk", "tensorboard", "wandb", "mlflow"})
"""Settings of the training that change no result: the newest hold at once."""


def kept(settings: LearnSettings) -> dict[str, Any]:
    """What of a plan must stay, once it is begun; asks the engine whether it is there, and looks at the plan.

    Raises:
        MissingPackageError: the engine is not installed.
        RutileError: a file is missing, or builders cannot do what they are told.
    """
    engine = settings.engine
    labeler = make(engine)
    try:
        version = labeler.probe(frozenset())
    finally:
        labeler.close()
    _look_at(settings)
    committee = settings.committee.model_dump(mode="json", include={"potential", "members", "diversity"})
    method = {k: v for k, v in engine.identity().items() if k != "pseudo_dir"}
    return {
        "engine": method | {"calc_mode": mode_of(engine, version)},
        "committee": committee,
        "initial": settings.initial.model_dump(mode="json"),
        "seed": settings.seed,
    }


def plan_of(settings: LearnSettings) -> dict[str, Any]:
    """What a round is begun with, and keeps to its end."""
    plan = settings.model_dump(mode="json", include={"systems", "choose", "retrain", "committee"})
    return plan | {"committee": {k: v for k, v in plan["committee"].items() if k not in RUNNING}}


def _look_at(settings: LearnSettings) -> None:
    """See that files can be read and that builders know what to do."""
    for path in settings.initial.files:
        next(readings([path], settings.initial.read))
    for path in settings.test:
        next(readings([path], ReadSettings()))
    if settings.initial.structures:
        read_structures(settings.initial.structures, "initial.structures")
    _try("initial", settings.initial.steps)
    for system in settings.systems:
        _look_at_system(system)


def _look_at_system(system: SystemSettings) -> None:
    """The same of one system."""
    seeds = read_structures(system.files, system.label) if system.files else []
    if any(a.pbc.any() for a in seeds) and any(e.name == "normal_modes" for e in system.explorers):
        raise SettingsError(f"{system.label}: normal_modes is for molecules; take md, or relax, for crystals")
    _try(system.label, system.steps)
    for explorer in system.explorers:
        what = f"{system.label}: {explorer.title}"
        if isinstance(explorer, GenerateExplorer):
            _try(what, explorer.steps)
        elif isinstance(explorer, FilesExplorer):
            read_structures(explorer.files, what)
        elif isinstance(explorer, NebExplorer):
            _ends(what, explorer.start, explorer.end)


def _try(what: str, steps: Sequence[StepSettings]) -> None:
    """See that builders can begin; forces are not asked for."""
    try:
        Maker(steps, 0, NO_MECHANICS)
    except RutileError as error:
        raise type(error)(f"{what}: {error}") from None


def _ends(what: str, start: Path, end: Path) -> None:
    """See that two structures can be the ends of a path."""
    a, b = (read_structures([path], what)[-1] for path in (start, end))
    if a.numbers.tolist() != b.numbers.tolist() or not np.allclose(a.cell.array, b.cell.array, atol=1e-6):
        raise SettingsError(f"{what}: {start} and {end} differ in atoms, their order or the cell: no path joins them")
