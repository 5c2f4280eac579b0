"""Why a job failed, and what helps: one table of rules, the first that fits is told."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rutile.core import config
from rutile.core.errors import RutileError
from rutile.jobs import folder as kept
from rutile.jobs.folder import last_lines, read_json
from rutile.jobs.references import REFERENCE
from rutile.jobs.safe_files import listing
from rutile.jobs.tables import CANCEL, Job
from rutile.server.forms import known
from rutile.server.log_levels import level_of

LINES = 40
"""The last lines of a log that are looked at."""
HOUR = 3600.0


@dataclass(frozen=True)
class Remedy:
    """One thing that can be done."""

    name: str
    """What it does: memory, time, learning_rate, go_on, again, edit."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What is different in the job that is submitted: memory, wall_time, settings."""
    shown: str = ""
    """The new value, with its unit."""
    edit: bool = False
    """Somebody has to choose: the form is opened."""


@dataclass(frozen=True)
class Failed:
    """A job that failed, as the rules see it."""

    job: Job
    folder: Path
    """Of the job."""

    def text(self) -> str:
        """The reason, and the end of the log."""
        return "\n".join([self.job.reason, *last_lines(self.folder / kept.LOG)[-LINES:]])

    def began(self) -> str:
        """The folder in which the task keeps what it goes on from, by reference; "" where there is none."""
        task = known(self.job.task)
        out = task.settings.model_fields.get("out") if task else None
        given = self.job.settings.get("out", out.default if out else None)
        if not isinstance(given, str | Path):
            return ""
        reference = REFERENCE.fullmatch(str(given))
        named = [one["name"] for one in self.job.inputs if reference and one["reference"] == given]
        place = PurePosixPath(kept.INPUTS, *named) if reference else PurePosixPath(given)
        ends = place.suffix or (reference and not named)
        return f"job:{self.job.id}/{place}" if not ends and self.has(place) else ""

    def has(self, place: PurePosixPath) -> bool:
        """Whether there is something in a folder that the job wrote."""
        return any(entry.path.startswith(f"{place}/") for entry in listing(self.folder / kept.FILES))


@dataclass(frozen=True)
class Rule:
    """What a failure looks like, what it means, and what helps."""

    name: str
    pattern: str
    """Regular expression over the reason and the end of the log."""
    cause: str
    """In one sentence."""
    remedies: Callable[[Failed], list[Remedy]]


def _edit(failed: Failed) -> list[Remedy]:
    del failed
    return [Remedy("edit", edit=True)]


def _again(failed: Failed) -> list[Remedy]:
    return [*go_on(failed), Remedy("again")]


def go_on(failed: Failed, **changes: Any) -> list[Remedy]:
    """From a copy of what the job kept, where it kept something."""
    folder = failed.began()
    settings = failed.job.settings | {"out": folder}
    return [Remedy("go_on", {"settings": settings} | changes)] if folder else []


def _more_memory(failed: Failed) -> list[Remedy]:
    memory = float(2 * max(1, round(max(failed.job.memory, failed.job.peak_memory))))
    return [Remedy("memory", {"memory": memory}, f"{memory:g} GB"), *go_on(failed, memory=memory)]


def _more_time(failed: Failed) -> list[Remedy]:
    time = 2 * (failed.job.wall_time or HOUR)
    shown = f"{time / HOUR:g} h" if time >= HOUR else f"{time:g} s"
    return [*go_on(failed, wall_time=time), Remedy("time", {"wall_time": time}, shown)]


def _slower(failed: Failed) -> list[Remedy]:
    """A third of the learning rate, wherever the task keeps its optimizer."""
    task, given = known(failed.job.task), failed.job.settings
    where = ["optimizer"] if task and "optimizer" in task.settings.model_fields else ["train", "optimizer"]
    try:
        whole: Any = config.build(task.settings, copy.deepcopy(given)) if task else None
        for name in where:
            whole = getattr(whole, name)
        rate = float(f"{whole.learning_rate / 3:.2g}")
    except (RutileError, AttributeError, TypeError):
        return _edit(failed)
    settings = copy.deepcopy(given)
    inner = settings
    for name in where:
        inner = inner.setdefault(name, {})
    inner.setdefault("name", whole.name)
    inner["learning_rate"] = rate
    return [Remedy("learning_rate", {"settings": settings}, f"{rate:g}")]


RULES = (
    Rule("memory", r"more than its [\d.]+ GB|out of memory|MemoryError|bad_alloc|[Cc]annot allocate|oom-kill",
         "It needed more memory than it had asked for.", _more_memory),
    Rule("time", r"longer than its wall time|DUE TO TIME LIMIT",
         "It needed more time than it had asked for.", _more_time),
    Rule("nan", r"(loss|gradient|weights?|energy|force)\w* (is|are) not finite",
         "The training ran away: steps were too long, or labels are wrong.", _slower),
    Rule("element", r"which the potential was not trained on|does not know the element|is tied to its elements",
         "The potential was not made for one of the elements of the structures.", _edit),
    Rule("disk", r"No space left on device|Disk quota exceeded|disk is full",
         "The disk of the server is full: remove what nobody needs, or ask the administrator.", _again),
    Rule("lost", r"^lost:|ended by SIG|ended by signal|node fail|NODE_FAIL|PREEMPT",
         "The machine or the cluster ended it, for no fault of the job.", _again),
    Rule("missing", r"no such file|does not exist|cannot be read|No such file or directory|cannot be started",
         "Something that it reads is not there.", _edit),
    Rule("format", r"cannot read|not a model file|unknown format|no structures? in",
         "A file that it reads is of another kind than it expects.", _edit),
    Rule("bug", r"Traceback \(most recent call last\)|File \".+\", line \d+",
         "A fault of rutile, not of the settings: tell the maintainers, with the log.", _again),
)  # fmt: skip
"""In the order in which they are tried."""
ELSE = Rule("input", "", "Its settings or its input do not fit: the line says what.", _edit)
"""Where no rule fits."""


def rule_of(failed: Failed) -> Rule:
    """The first rule that fits; the reason says more than the log, and is asked first."""
    for text in (failed.job.reason, failed.text()):
        for rule in RULES:
            if re.search(rule.pattern, text, re.MULTILINE):
                return rule
    return ELSE


def last_error(failed: Failed) -> str:
    """The line that says most: the last one about an error, else the reason."""
    lines = [line for line in failed.text().splitlines()[1:] if level_of(line) == "error"]
    return lines[-1][-1000:] if lines else failed.job.reason


def was_stopped(failed: Failed) -> bool:
    """Whether a job was cancelled before it was done: it can go on from what it kept.

    One that failed goes on only where its rule says so; after a mistake in its settings it would fail again.
    """
    return failed.job.state == CANCEL and read_json(failed.folder / kept.RESULT) is None
