"""What can be said about a job before it is submitted: problems, warnings, and how to do the same elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from rutile.core import config
from rutile.core.describe import yaml_text
from rutile.core.errors import SettingsError
from rutile.core.settings import Settings
from rutile.jobs.references import Input, names_for, references_in, refuse_places, replaced
from rutile.tasks.task import Task

LINE = re.compile(r"([A-Za-z_][\w.]*)(?: = |: )")


@dataclass(frozen=True)
class Problem:
    """Something that must be changed."""

    key: str
    """Dotted key of the setting, or "" for the whole."""
    message: str
    missing: bool = False
    """Whether it was not given, and has no default."""


def problems_of(error: SettingsError) -> list[Problem]:
    """The lines of an error, each with the setting that it is about."""
    found = [(LINE.match(line), line) for line in str(error).splitlines()]
    keys = [(match[1] if match else "", line) for match, line in found]
    return [Problem(key, line, line.startswith(f"{key}{config.MISSING}")) for key, line in keys]


def validated(task: Task, given: dict[str, Any], inputs: list[Input], commands: bool) -> Settings:
    """The settings of a task from a form.

    Args:
        task: which.
        given: its settings as JSON, with references.
        inputs: what the references mean.
        commands: whether programs may be named.

    Raises:
        SettingsError: one line for each problem.
    """
    refuse_places(given, commands)
    names = names_for(inputs)
    tree = replaced(given, lambda text: names.get(text, text))
    try:
        return config.build(task.settings, tree)
    except SettingsError as error:
        back = {name: reference for reference, name in names.items()}
        text = str(error)
        for name, reference in back.items():
            text = text.replace(name, reference)
        raise SettingsError(text) from None


def job_key(task: Task, given: dict[str, Any], inputs: list[Input]) -> str:
    """Same task, same settings, same content of its inputs: same key."""
    contents = {one.reference: one.sha256 or one.reference for one in inputs}
    tree = replaced(given, lambda text: contents.get(text, text))
    return hashlib.sha256(json.dumps([task.name, tree], sort_keys=True).encode()).hexdigest()[:16]


def local_names(given: dict[str, Any], inputs: list[Input]) -> dict[str, Any]:
    """The settings with the names that files have after a download."""
    names = {one.reference: one.name for one in inputs}
    changed = replaced(given, lambda text: names.get(text, text))
    assert isinstance(changed, dict)
    return changed


def as_command(task: Task, given: dict[str, Any]) -> str:
    """The same as a command line."""
    words = ["rutile", *task.name.split()]
    for key, value in _pairs(given):
        words.append(shlex.quote(f"{key}={yaml_text(value)}"))
    return " ".join(words)


def _pairs(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values; groups are opened."""
    out: list[tuple[str, Any]] = []
    for name, value in tree.items():
        key = f"{prefix}{name}"
        out += _pairs(value, f"{key}.") if isinstance(value, dict) and value else [(key, value)]
    return out


def as_yaml(given: dict[str, Any]) -> str:
    """The same as a job file."""
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True) if given else ""


def as_python(task: Task, given: dict[str, Any]) -> str:
    """The same in Python."""
    return "\n".join(
        [
            "from rutile.core.config import build",
            "from rutile.core.reporting import SilentReporter",
            "from rutile.tasks.catalogue import load_task",
            "",
            f"task = load_task({task.name!r})",
            f"settings = build(task.settings, {given!r})",
            "result = task.run(settings, SilentReporter())",
        ]
    )


def as_client(task: Task, given: dict[str, Any], address: str) -> str:
    """The same through this server."""
    return "\n".join(
        [
            "import rutile",
            "",
            f'client = rutile.Client("{address}", token="rtl_...")',
            f"job = client.submit({task.name!r}, {given!r})",
            "print(client.wait(job))",
        ]
    )


def unknown_references(given: dict[str, Any], inputs: list[Input]) -> list[str]:
    """References that nothing was found for."""
    known = {one.reference for one in inputs}
    return [reference for _, reference in references_in(given) if reference not in known]
