"""`rutile generate`: structures by a plan of several builders, and a map of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from rutile.build.settings import AnyBuilder, StepSettings
from rutile.core.errors import FileError, SettingsError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import Second
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.build.plan import Tally


class MakingSettings(Settings):
    """Where structures go, and what they depend on."""

    out: Path = Path("generated.extxyz")
    """File for the structures (extended XYZ). A page about them (.html) and the result (.json) are written beside it.
    The same command goes on where it was stopped."""
    seed: int = 0
    """Same seed and settings, same structures."""
    workers: int = Field(default=1, ge=1)
    """Processes; more than one pay for molecules, melts and special quasi-random structures."""
    overwrite: bool = False
    """Replace a file that exists."""


class GenerateSettings(MakingSettings):
    """A plan: which builders make how many structures."""

    steps: list[AnyBuilder] = Field(min_length=1)
    """Builders by `name`, each with its settings; the same builder may come several times with different labels."""

    @model_validator(mode="after")
    def _different_labels(self) -> Self:
        labels = [step.label or step.name for step in self.steps]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two steps are named {label}: give them different labels")
        return self


class StepRow(Result):
    """What became of one step."""

    label: str
    """Name of the structures in the file (config_type)."""
    builder: str
    """Which builder."""
    asked: int
    """Structures that it was to make."""
    made: int
    """Structures that it made."""
    parents: int
    """Crystals, molecules, pairs, ... that the structures come from."""
    refused: str
    """Why structures were refused, and how often; each draw counts, also those that another one replaced."""


class GenerateResult(Result):
    """What was made."""

    asked: int
    """Structures that were asked for."""
    made: int
    """Structures in the file."""
    refused: dict[str, int]
    """Reason -> how often a structure was refused."""
    atoms: int
    """Atoms in all of them."""
    elements: dict[str, int]
    """Element -> structures that hold it."""
    steps: list[StepRow]
    """One row for each step."""
    seconds: Second
    """Time of this run."""
    out: Path
    """The structures."""
    report: Path
    """HTML page: the map."""


def run(settings: GenerateSettings, reporter: Reporter) -> GenerateResult:
    """Make structures by a plan of several builders, without duplicates, and draw a map of them.

    Each structure says where it comes from: config_type (the step), builder, parent, number, seed and parameters.
    `rutile train ... split.by=groups read.group_key=parent` keeps structures of one parent on one side.

    Raises:
        RutileError: a step cannot be made: a file, an element, a package.
        FileError: the file exists or cannot be written.
    """
    return make(settings, settings.steps, reporter)


def make(settings: MakingSettings, steps: list[AnyBuilder], reporter: Reporter) -> GenerateResult:
    """Structures, page and result of a plan.

    Raises:
        RutileError: a step cannot be made.
        FileError: the file exists or cannot be written.
    """
    from rutile.build.plan import make_plan
    from rutile.tasks.forces import MECHANICS
    from rutile.tasks.generated_page import page

    out = settings.out
    if out.suffix not in {".extxyz", ".xyz"}:
        raise SettingsError(f"out = {str(out)!r}: structures are written as extended XYZ; end the name with .extxyz")
    if out.exists() and not settings.overwrite:
        raise FileError(f"{out} exists: choose another out=, or say overwrite=true")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make the folder {out.parent}: {error.strerror or error}; choose another out="
        ) from None
    began = time.monotonic()
    plain: list[StepSettings] = list(steps)
    tallies = make_plan(plain, settings.seed, out, MECHANICS, reporter, settings.workers)
    result = _result(settings, tallies, time.monotonic() - began)
    given = settings.model_dump(mode="json", exclude_unset=True)
    write_atomically(result.report, page(tallies, out, given).encode())
    write_atomically(out.with_suffix(".json"), result.model_dump_json(indent=1).encode())
    for tally in tallies:
        if tally.made < tally.asked:
            reporter.warn(f"{tally.label}: {tally.made} of {tally.asked} structures; refused: {_reasons(tally)}")
    return result


def _result(settings: MakingSettings, tallies: list[Tally], seconds: float) -> GenerateResult:
    refused: dict[str, int] = {}
    elements: dict[str, int] = {}
    for tally in tallies:
        for reason, n in tally.refused.items():
            refused[reason] = refused.get(reason, 0) + n
        for measured in tally.measured:
            for name in measured.elements:
                elements[name] = elements.get(name, 0) + 1
    return GenerateResult(
        asked=sum(t.asked for t in tallies),
        made=sum(t.made for t in tallies),
        refused=refused,
        atoms=sum(m.atoms for t in tallies for m in t.measured),
        elements=dict(sorted(elements.items())),
        steps=[
            StepRow(
                label=t.label, builder=t.builder, asked=t.asked, made=t.made, parents=t.parents, refused=_reasons(t)
            )
            for t in tallies
        ],
        seconds=round(seconds, 1),
        out=settings.out,
        report=settings.out.with_suffix(".html"),
    )


def _row(t: Tally) -> StepRow:
    return StepRow(label=t.label, builder=t.builder, asked=t.asked, made=t.made, parents=t.parents, refused=_reasons(t))


def _reasons(tally: Tally) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in tally.refused.most_common())


TASK = Task(
    "generate",
    GenerateSettings,
    GenerateResult,
    run,
    examples=("rutile generate plan.yaml", "rutile generate plan.yaml out=tio2.extxyz seed=1 workers=2"),
)
