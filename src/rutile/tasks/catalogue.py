"""All tasks by name. Modules are imported when asked for; importing one imports no torch."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module

from rutile.core.errors import SettingsError
from rutile.tasks.task import Task

TASKS: dict[str, str] = {
    "learn": "rutile.tasks.learn:TASK",
    "train": "rutile.tasks.train:TASK",
    "compare": "rutile.tasks.compare:TASK",
    "compare-optimizers": "rutile.tasks.compare_optimizers:TASK",
    "tune": "rutile.tasks.tune:TASK",
    "retrain": "rutile.tasks.retrain:TASK",
    "evaluate": "rutile.tasks.evaluate:TASK",
    "calibrate": "rutile.tasks.calibrate:TASK",
    "predict": "rutile.tasks.predict:TASK",
    "choose": "rutile.tasks.choose:TASK",
    "compress": "rutile.tasks.compress:TASK",
    "search": "rutile.tasks.search:TASK",
    "search resume": "rutile.tasks.search_resume:TASK",
    "search export": "rutile.tasks.search_export:TASK",
    "adapt": "rutile.tasks.adapt:TASK",
    "relax": "rutile.tasks.relax:TASK",
    "barrier": "rutile.tasks.barrier:TASK",
    "hop": "rutile.tasks.hop:TASK",
    "saddles": "rutile.tasks.saddles:TASK",
    "screen": "rutile.tasks.screen:TASK",
    "analyse": "rutile.tasks.analyse:TASK",
    "infrared": "rutile.tasks.infrared:TASK",
    "md": "rutile.tasks.md:TASK",
    "eos": "rutile.tasks.eos:TASK",
    "elastic": "rutile.tasks.elastic:TASK",
    "phonons": "rutile.tasks.phonons:TASK",
    "conductivity": "rutile.tasks.conductivity:TASK",
    "expansion": "rutile.tasks.expansion:TASK",
    "surfaces": "rutile.tasks.surfaces:TASK",
    "adsorb": "rutile.tasks.adsorb:TASK",
    "binding": "rutile.tasks.binding:TASK",
    "swap": "rutile.tasks.swap:TASK",
    "defects": "rutile.tasks.defects:TASK",
    "faults": "rutile.tasks.faults:TASK",
    "boundaries": "rutile.tasks.boundaries:TASK",
    "melt": "rutile.tasks.melt:TASK",
    "hull": "rutile.tasks.hull:TASK",
    "vibrations": "rutile.tasks.vibrations:TASK",
    "smoothness": "rutile.tasks.smoothness:TASK",
    "label": "rutile.tasks.label:TASK",
    "inspect": "rutile.tasks.inspect:TASK",
    "build": "rutile.tasks.build:TASK",
    "generate": "rutile.tasks.generate:TASK",
    "convert": "rutile.tasks.convert:TASK",
    "starter": "rutile.tasks.starter:TASK",
    "notebook": "rutile.tasks.notebook:TASK",
    "demo": "rutile.tasks.demo:TASK",
    "doctor": "rutile.tasks.doctor:TASK",
}


def load_task(name: str, known: Mapping[str, str] = TASKS) -> Task:
    """The task of that name.

    Args:
        name: of the task.
        known: names and places of those that there are.

    Raises:
        SettingsError: there is none; names the nearest.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"tasks are {', '.join(known)}"
        raise SettingsError(f"unknown task {name!r}; {hint}")
    module, attribute = known[name].split(":")
    task = getattr(import_module(module), attribute)
    assert isinstance(task, Task)
    assert task.name == name
    return task


def joined(words: Sequence[str]) -> list[str]:
    """Words of a command line with the name of a task as its first: names such as "search resume" are two words."""
    two = " ".join(words[:2])
    return [two, *words[2:]] if two in TASKS else list(words)


def all_tasks() -> list[Task]:
    """Every task, in the order of the catalogue."""
    return [load_task(name) for name in TASKS]
