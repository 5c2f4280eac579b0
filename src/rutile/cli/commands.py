"""All commands by name: the tasks, and what stands above them."""

from __future__ import annotations

from rutile.tasks import catalogue
from rutile.tasks.task import Task

ABOVE: dict[str, str] = {"serve": "rutile.server.serve:TASK"}
"""Commands that are no tasks: no job can be one of them."""


def load_command(name: str) -> Task:
    """The command of that name.

    Raises:
        SettingsError: there is none; names the nearest.
    """
    return catalogue.load_task(name, catalogue.TASKS | ABOVE)


def all_commands() -> list[Task]:
    """Every command, in the order of the catalogue."""
    return [load_command(name) for name in (*catalogue.TASKS, *ABOVE)]
