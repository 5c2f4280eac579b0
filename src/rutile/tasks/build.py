"""`rutile build`: structures by one builder."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rutile.build.settings import AnyBuilder
from rutile.core.reporting import Reporter
from rutile.tasks.generate import GenerateResult, MakingSettings, make
from rutile.tasks.task import Task


class BuildSettings(MakingSettings):
    """Which builder makes how many structures."""

    REST: ClassVar[str] = "builder"

    builder: AnyBuilder
    """The builder and its settings. On the command line `builder.` may be left out: `rutile build dimer elements=H,O`
    is `rutile build builder=dimer builder.elements=H,O`."""
    out: Path = Path("built.extxyz")
    """File for the structures (extended XYZ). A page about them (.html) and the result (.json) are written beside it.
    The same command goes on where it was stopped."""


def run(settings: BuildSettings, reporter: Reporter) -> GenerateResult:
    """Make structures by one builder, such as crystals, surfaces, molecules or alloys, and draw a map of them.

    Raises:
        RutileError: they cannot be made: a file, an element, a package.
        FileError: the file exists or cannot be written.
    """
    return make(settings, [settings.builder], reporter)


TASK = Task(
    "build",
    BuildSettings,
    GenerateResult,
    run,
    positional="builder",
    examples=(
        "rutile build dimer elements=Ti,O",
        "rutile build bulk crystals.elements=Ti,O crystals.prototypes=rutile,anatase vacancies=0.1 count=200",
        "rutile build slab crystals.files=tio2.cif miller=[[1,1,0],[1,0,0]] out=slabs.extxyz",
        "rutile build liquid 'smiles={CCO: 1, O: 3}' molecules=[32,32] density=[0.9,0.9] count=4",
        "rutile build molecule molecules.smiles=CCO,c1ccccc1 molecules.conformers=3",
    ),
)
