"""What a form for a task needs: the JSON schema of its settings, with what matters first, and what paths stand for."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Sequence
from typing import Any

from rutile.core.describe import every_entry
from rutile.core.suited import suited_defaults
from rutile.jobs.references import Input, replaced
from rutile.tasks.catalogue import TASKS, load_task
from rutile.tasks.task import Task

GROUPS: dict[str, tuple[str, ...]] = {
    "Train": ("learn", "train", "retrain", "compare", "compare-optimizers", "tune", "compress"),
    "Check": ("evaluate", "calibrate", "predict", "smoothness", "choose"),
    "Search": ("search", "search resume", "search export", "adapt"),
    "Relax and react": ("relax", "barrier", "hop", "saddles", "screen"),
    "Molecular dynamics": ("md", "analyse", "infrared", "melt"),
    "Properties": (
        "eos", "elastic", "phonons", "conductivity", "expansion", "vibrations", "hull", "defects", "faults",
        "boundaries",
    ),
    "Surfaces and pores": ("surfaces", "adsorb", "binding", "swap"),
    "Data": ("label", "inspect", "build", "generate", "convert", "starter"),
    "This machine": ("notebook", "demo", "doctor"),
}  # fmt: skip
"""Tasks as they stand together on a page; one that stands nowhere is shown under "More"."""
OTHER = "More"
OUTPUT, MODEL, FOLDER, STRUCTURES = "output", "model", "folder", "structures"
ROLES = {
    OUTPUT: ("out", "save", "decisions", "report", "cache", "logs"),
    MODEL: ("model", "start_from"),
    FOLDER: ("folder", "runs", "pseudo_dir", "species_dir"),
}
"""What a path stands for, by the name of the setting; every other one is a file of structures."""


def group_of(name: str) -> str:
    """The group of a task."""
    return next((group for group, names in GROUPS.items() if name in names), OTHER)


def role_of(key: str) -> str:
    """What a path setting stands for."""
    return next((role for role, names in ROLES.items() if key in names), STRUCTURES)


@functools.cache
def form_schema(name: str) -> dict[str, Any]:
    """JSON schema of a task's settings; `unit`, bounds and meaning stand in it already.

    Added: `x-essential` (what most users set; the rest may be folded) and `x-order` on the settings of the first
    level, `x-role` (output, model, folder, structures) on every path.
    """
    task = load_task(name)
    schema = task.settings.model_json_schema()
    essential = essentials(task)
    for place, (key, field) in enumerate(schema.get("properties", {}).items()):
        field["x-essential"] = key in essential
        field["x-order"] = place
    for part in (schema, *schema.get("$defs", {}).values()):
        for key, field in part.get("properties", {}).items():
            if _is_path(field):
                field["x-role"] = role_of(key)
    return schema


def essentials(task: Task) -> set[str]:
    """Settings that must be given, that a bare word fills, or that the examples set."""
    needed = {name for name, field in task.settings.model_fields.items() if field.is_required()}
    needed |= {task.positional} if task.positional else set()
    words = [word for line in task.examples for word in shlex.split(line)]
    keys = [re.match(r"([\w-]+)[\w.-]*=", word) for word in words]
    given = {k[1].replace("-", "_") for k in keys if k}
    given |= {full.split(".")[0] for short, full in task.settings.ALIASES.items() if short in given}
    return (needed | given) & set(task.settings.model_fields)


def suited(task: Task, given: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
    """Defaults that follow from what is given, such as those that suit a potential.

    Args:
        task: which.
        given: its settings, with references.
        inputs: what the references mean.
    """
    places = {one.reference: one.source for one in inputs}
    return suited_defaults(task.settings, replaced(given, lambda text: places.get(text, text)))


@functools.cache
def result_units(name: str) -> dict[str, str]:
    """Units of what a task finds: dotted name -> symbol."""
    return {entry.key: entry.unit for entry in every_entry(load_task(name).result) if entry.unit}


def _is_path(field: dict[str, Any]) -> bool:
    """Whether a property is a path, a list of paths, or either or nothing."""
    if field.get("format") == "path":
        return True
    inner = [*field.get("anyOf", []), *field.get("oneOf", [])]
    inner += [field["items"]] if isinstance(field.get("items"), dict) else []
    return any(_is_path(one) for one in inner)


def known(name: str) -> Task | None:
    """A task by its name; None where there is none."""
    return load_task(name) if name in TASKS else None
