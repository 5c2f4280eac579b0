"""Help texts, generated from the settings models."""

import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import replace

import rutile
from rutile.cli.commands import all_commands
from rutile.core.describe import Entry, entries
from rutile.tasks.task import Task


def overview() -> str:
    """What `rutile` alone prints: every task with one line."""
    tasks = all_commands()
    wide = max(len(t.name) for t in tasks)
    lines = [f"  {t.name:{wide}}  {t.summary}" for t in tasks]
    return "\n".join(
        [
            f"rutile {rutile.__version__}: machine-learning interatomic potentials, from reference data to materials",
            "",
            "usage: rutile TASK [job.yaml] [key=value ...]",
            "       rutile TASK --help     every setting with its unit, default and meaning",
            "       rutile schema TASK     the same as JSON schema",
            "",
            "tasks:",
            *lines,
        ]
    )


def task_help(task: Task, chosen: str = "") -> str:
    """What `rutile TASK --help` prints.

    Args:
        task: the task.
        chosen: a variant of the setting that a bare word fills; the other variants are left out.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns, 110)
    word = f" [{task.positional.upper()}]" if task.positional else ""
    doc = textwrap.dedent("    " + (task.run.__doc__ or "").strip()).strip()
    lines = [f"rutile {task.name}: {doc.splitlines()[0]}"]
    lines += ["", f"usage: rutile {task.name}{word} [job.yaml] [key=value ...] [--json]"]
    if task.positional:
        lines += [f"       a bare word is the setting `{task.positional}`"]
    lines += ["", "settings:"]
    fields = [
        replace(e, groups={chosen: e.groups[chosen]}) if e.key == task.positional and chosen in e.groups else e
        for e in entries(task.settings)
    ]
    lines += settings_lines(required_first(fields), 1, width, task.elsewhere)
    lines += [f"\n{word} is short for {key}" for word, key in task.settings.ALIASES.items()]
    lines += ["", "result (the columns of tables are the fields of their rows):"]
    lines += result_lines(entries(task.result), 1, width)
    lines += ["", "a list may be written a,b or [a, b]; null means: not set; a group in a .yaml file is indented"]
    if task.examples:
        lines += ["", "examples:", *(f"  {e}" for e in task.examples)]
    return "\n".join(lines)


def required_first(fields: list[Entry]) -> list[Entry]:
    """What must be given comes first, groups last."""
    return sorted(fields, key=lambda e: (e.default is not None, bool(e.groups)))


def settings_lines(fields: list[Entry], depth: int, width: int, elsewhere: Mapping[str, str]) -> list[str]:
    """Two or more lines for each setting: key, type, unit and default, then its meaning.

    Args:
        fields: the settings.
        depth: of indentation.
        width: of the lines.
        elsewhere: groups that are described by another task, as of `Task`.
    """
    pad = "  " * depth
    lines: list[str] = []
    for entry in fields:
        lines += textwrap.wrap(
            headline(entry), width, initial_indent=pad, subsequent_indent=pad + "    ", break_on_hyphens=False
        )
        lines += textwrap.wrap(
            " ".join(entry.meaning.split()), width, initial_indent=pad + "    ", subsequent_indent=pad + "    "
        )
        other = elsewhere.get(entry.key.rsplit(".", 1)[-1], "") if entry.groups else ""
        if other:
            lines.append(f"{pad}    Their settings: rutile {other} --help")
            continue
        for tag, nested in entry.groups.items():
            if tag:
                summary = (nested.__doc__ or "").strip().split("\n")[0]
                lines += textwrap.wrap(
                    f"{entry.key}={tag}: {summary}", width, initial_indent=pad + "  ", subsequent_indent=pad + "      "
                )
            inner = [e for e in entry.inside(nested) if not tag or e.default != tag]
            lines += settings_lines(inner, depth + (2 if tag else 1), width, elsewhere)
    return lines


def result_lines(fields: list[Entry], depth: int, width: int) -> list[str]:
    """A line or more for each field of a result: name, unit and meaning; fields of rows below their list.

    Args:
        fields: of the result, or of its rows.
        depth: of indentation.
        width: of the lines.
    """
    pad = "  " * depth
    lines: list[str] = []
    for entry in sorted(fields, key=lambda e: not e.groups):
        name = entry.key.rsplit(".", 1)[-1]
        text = f"{name} ({entry.unit}): {entry.meaning}" if entry.unit else f"{name}: {entry.meaning}"
        lines += textwrap.wrap(
            " ".join(text.split()), width, initial_indent=pad, subsequent_indent=pad + "    ", break_on_hyphens=False
        )
        for nested in entry.groups.values():
            lines += result_lines(entry.inside(nested), depth + 1, width)
    return lines


def headline(entry: Entry) -> str:
    """`key   type (unit)   [default]`."""
    if entry.groups and "" not in entry.groups:
        what = f"{entry.kind}: one of {', '.join(entry.groups)}"
    else:
        what = f"{entry.kind} ({entry.unit})" if entry.unit else entry.kind
    if entry.default is None:
        return f"{entry.key}   {what}   (required)"
    return f"{entry.key}   {what}" + (f"   [{entry.default}]" if entry.default else "")
