"""`rutile inspect`: what is in files of structures, or in a model file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rutile.core.errors import DataError, SettingsError
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.data.findings import Census
from rutile.data.settings import ReadSettings
from rutile.tasks.task import Task


class InspectSettings(Settings):
    """What to look into."""

    files: list[Path] = Field(min_length=1)
    """Files, stores, folders or patterns of structures; or model files (.rutile)."""
    read: ReadSettings = ReadSettings()
    """How to read the structures."""


class InspectResult(Result):
    """What was found."""

    models: list[str] = []
    """Descriptions of the model files."""
    census: Census | None = None
    """What the files of structures hold, all together."""


def run(settings: InspectSettings, reporter: Reporter) -> InspectResult:
    """Say what is in files: frames, labels and their names, ranges, duplicates, suspicious numbers; or a model.

    Raises:
        DataError: no frame can be used.
        SettingsError: models and structures at once.
    """
    models = [p for p in settings.files if _is_model(p)]
    data = [p for p in settings.files if not _is_model(p)]
    if models and data:
        raise SettingsError("inspect either model files or structures, not both at once")
    if models:
        return InspectResult(models=[text for p in models for text in _describe(p)])
    from rutile.data.census import take_census

    census = take_census(data, settings.read, reporter)
    if census.frames == 0:
        more = f" (and {census.n_problems - 1} more)" if census.n_problems > 1 else ""
        reason = census.problems[0] + more if census.problems else f"{', '.join(map(str, data))}: empty"
        raise DataError(f"no usable frame: {reason}")
    return InspectResult(census=census)


def _is_model(path: Path) -> bool:
    return path.suffix == ".rutile" or (path.is_dir() and (path / "model.rutile").is_file())


def _describe(path: Path) -> list[str]:
    """Lines about a model file: its description without the numbers."""
    from rutile.potentials.save import read_tensors
    from rutile.potentials.settings.stored import MODEL_FILE

    path = path / MODEL_FILE if path.is_dir() else path
    tensors, description = read_tensors(path)
    size = sum(t.numel() for t in tensors.values())
    return [f"{path}: {size} numbers in {len(tensors)} tensors", *_lines(description, "  ")]


def _lines(value: object, indent: str) -> list[str]:
    """A nested description, one line for each plain value."""
    out: list[str] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in pairs:
        nested = isinstance(inside, dict) or (isinstance(inside, list) and any(isinstance(x, dict) for x in inside))
        if nested and inside:
            out += [f"{indent}{key}:", *_lines(inside, indent + "  ")]
        else:
            text = ", ".join(map(str, inside)) if isinstance(inside, list) else str(inside)
            out.append(f"{indent}{key}: {text if len(text) <= 200 else text[:197] + '...'}")
    return out


TASK = Task(
    name="inspect",
    settings=InspectSettings,
    result=InspectResult,
    run=run,
    positional="files",
    examples=(
        "rutile inspect data/*.extxyz",
        "rutile inspect input.data read.energy_unit=eV",
        "rutile inspect data.store",
        "rutile inspect model.rutile",
    ),
)
