"""What `rutile screen` works on: structures of files, ends of paths, or what a builder makes of varied parameters."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, JsonValue, model_validator

from rutile.build.settings import AnyBuilder
from rutile.core.config import assign, build
from rutile.core.errors import DataError, FileError, SettingsError
from rutile.core.reporting import Reporter
from rutile.core.settings import Settings
from rutile.tasks.apply import GivenStructures, note_left_handed, reading_of
from rutile.tasks.build import BuildSettings
from rutile.tasks.generate import make
from rutile.tasks.screen_chain import Item

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.data.frames import Frame

OF_PAIRS = ("dissociation",)
"""Builders that make beginnings and ends of paths, in turn."""


class Range(Settings):
    """Numbers, evenly spaced."""

    start: float
    """The first."""
    stop: float
    """The last."""
    points: int = Field(ge=2)
    """How many."""

    def values(self) -> list[JsonValue]:
        """The numbers."""
        return [round(float(x), 12) for x in np.linspace(self.start, self.stop, self.points)]


class Varied(Settings):
    """A builder, and what of it is varied."""

    build: AnyBuilder | None = None
    """Make the structures by this builder (as `rutile build`) instead of reading them."""
    vary: dict[str, list[JsonValue] | Range] = {}
    """Settings of the builder that take several values, all with all: {promoter: [null, V, Cr, Mn], "miller":
    [[[1,1,1]], [[1,0,0]]], crystals.volume: {start: 11, stop: 12, points: 5}}. Each becomes a column of the table."""
    seed: int = 0
    """Of the builder."""

    @model_validator(mode="after")
    def _builder_to_vary(self) -> Self:
        if self.vary and self.build is None:
            raise ValueError("vary: there is no builder whose settings could be varied; give build=...")
        return self


def varied(given: Varied) -> list[tuple[BuildSettings, dict[str, JsonValue]]]:
    """The builder with every combination of values, and the columns that say which.

    Raises:
        SettingsError: a setting is unknown, or a value is none of it; says which.
    """
    assert given.build is not None
    values = [v.values() if isinstance(v, Range) else v for v in given.vary.values()]
    base = given.build.model_dump(exclude_unset=True) | {"name": given.build.builder}
    out = []
    for chosen in product(*values):
        tree: dict[str, Any] = {"builder": copy.deepcopy(base), "seed": given.seed}
        for key, value in zip(given.vary, chosen, strict=True):
            assign(tree, BuildSettings, f"builder.{key}", value)
        try:
            settings = build(BuildSettings, tree)
        except SettingsError as error:
            lines = ["vary." + line.replace("builder.", "") for line in str(error).splitlines()]
            raise SettingsError("\n".join(lines)) from None
        facts = {f"build.{k}": v if _flat(v) else json.dumps(v) for k, v in zip(given.vary, chosen, strict=True)}
        out.append((settings, facts))
    return out


def _flat(value: JsonValue) -> bool:
    return isinstance(value, str | int | float | None)


def built(given: Varied, folder: Path, reporter: Reporter) -> list[Item]:
    """The structures that the builder makes; files that are there already are not made again.

    Args:
        given: builder and values.
        folder: for the structures.
        reporter: told how far it is.

    Raises:
        RutileError: they cannot be made.
    """
    from rutile.build.crystals import bare
    from rutile.structures.io import read_all

    out: list[Item] = []
    for settings, facts in varied(given):
        plain = settings.builder.model_dump(mode="json")
        what = hashlib.sha256(json.dumps([plain, given.seed], sort_keys=True).encode())
        for file in files_named(settings.builder.model_dump()):
            what.update(file.read_bytes())
        path = folder / f"{settings.builder.title}-{what.hexdigest()[:10]}.extxyz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            make(settings.model_copy(update={"out": path}), [settings.builder], reporter)
        images = [bare(atoms) for atoms in read_all(path)]
        if settings.builder.builder in OF_PAIRS:
            pairs = list(zip(images[::2], images[1::2], strict=True))
            out += [Item(f"{path.name}#{2 * k}", pair, facts) for k, pair in enumerate(pairs)]
        else:
            out += [Item(f"{path.name}#{k}", (atoms,), facts) for k, atoms in enumerate(images)]
    return out


def files_named(value: object) -> Iterator[Path]:
    """The files that settings name, or that patterns in them stand for; of folders only those of paths, no words."""
    from rutile.structures.io import expand

    if isinstance(value, Path) or (isinstance(value, str) and not Path(value).is_dir()):
        with contextlib.suppress(FileError, OSError):  # most words are no names of files
            yield from (path for path in expand([value]) if path.is_file())
    elif isinstance(value, list | tuple | dict):
        for one in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from files_named(one)


def read_items(
    settings: GivenStructures, ends: Sequence[Path], reporter: Reporter
) -> tuple[list[Item], list[dict[str, Any]]]:
    """Structures of files (with the ends of paths, if there are any), and rows of those that cannot be read.

    Raises:
        SettingsError: there are more or fewer ends.
        DataError: a structure cannot be used, with on_bad=error; or none can.
        RutileError: as `readings`.
    """
    from rutile.data.reading import readings

    first = list(readings(settings.structures, reading_of(settings)))
    last = list(readings(ends, reading_of(settings))) if ends else []
    if ends and len(first) != len(last):
        raise SettingsError(f"ends: {len(last)} of them for {len(first)} structures; paths need as many ends")
    items, bad = [], []
    for each in zip(first, last, strict=True) if ends else ((one,) for one in first):
        problems = [one.problem for one in each if one.problem is not None]
        if problems and settings.on_bad == "error":
            raise problems[0]
        if problems:
            bad.append({"structure": f"{each[0].path.name}#{each[0].number}", "outcome": f"reading: {problems[0]}"})
            continue
        frames = [one.frame for one in each if one.frame is not None]
        for frame in frames:
            note_left_handed(frame, reporter)
        items.append(Item(frames[0].source, tuple(map(_plain, frames)), {}))
    if not items:
        raise DataError(bad[-1]["outcome"] if bad else "structures: no usable structure")
    return items, bad


def _plain(frame: Frame) -> Atoms:
    """A structure alone."""
    from ase import Atoms

    return Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
