"""What a model file says of itself, read without torch and without the tensors: for defaults and warnings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rutile.core.units import LENGTH_UNITS
from rutile.potentials.settings.around import DispersionSettings
from rutile.structures.surroundings import Surroundings

MODEL_FILE = "model.rutile"
"""Name of the model in the folder of a run."""
LONGEST = 50_000_000
"""Bytes of a header that is believed."""
CUTOFFS = ("cutoff", "cutoffs", "radial_cutoff", "angular_cutoff")
"""Settings of potentials that say how far neighbours are sought."""
TOO_FAR = 1e6
"""Å; what says so is no cutoff."""
SURROUNDINGS = "surroundings"
"""Key of the ranges of the training structures."""


def stored_members(path: Path) -> list[str]:
    """Name of the architecture of each member; empty where there is no such file or it cannot be understood.

    Whoever loads the model says what is wrong with it.

    Args:
        path: of a model file, or the folder of a run.
    """
    try:
        return [str(member["potential"]) for member in stored_description(path)["members"]]
    except (LookupError, TypeError):
        return []


def stored_surroundings(path: Path) -> Surroundings | None:
    """Surroundings that a model was trained on; None where it does not say, or cannot be understood.

    Args:
        path: of a model file, or the folder of a run.
    """
    try:
        return Surroundings.model_validate(stored_description(path)[SURROUNDINGS])
    except (LookupError, ValueError):
        return None


def stored_dispersion(path: Path) -> bool:
    """Whether D3 dispersion is a term of a model; False where there is no such file or it cannot be understood.

    Args:
        path: of a model file, or the folder of a run.
    """
    return _holds(stored_description(path).get("members"), DispersionSettings.model_fields["name"].default)


def _holds(part: Any, name: str) -> bool:
    """Whether a potential of a name is among settings, or among the terms of a sum."""
    if isinstance(part, list):
        return any(_holds(one, name) for one in part)
    if not isinstance(part, dict):
        return False
    return part.get("name") == name or any(_holds(value, name) for value in part.values())


def cutoff_of(settings: Any) -> float | None:
    """How far an atom sees its neighbours: the largest cutoff (Å) among stored settings; None where they name none.

    Args:
        settings: of a potential, of a sum, or several members with theirs, as JSON values.
    """
    return max(_cutoffs(settings, 1.0), default=None)


def core_of(settings: Any) -> float | None:
    """Where the core repulsion ends, as a fraction of the sum of the covalent radii; None where there is none.

    Args:
        settings: of a potential, or of a sum (the farthest end of its terms), as JSON values.
    """
    if not isinstance(settings, dict):
        return None
    terms = settings.get("terms")
    ends = [core_of(term) for term in terms] if isinstance(terms, list) else []
    own = settings.get("end") if settings.get("name") == "zbl" else settings.get("zbl") and settings.get("zbl_end", 1.0)
    return max((float(end) for end in [*ends, own] if isinstance(end, int | float) and end), default=None)


def each_term(settings: Any, added: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Stored settings of a potential with something added: to its own, and to those of every term of a sum.

    Args:
        settings: as JSON values; what is no mapping stays as it is.
        added: what is added to the settings of a potential or term.
    """
    if not isinstance(settings, dict):
        return settings
    terms = settings.get("terms")
    inner = {"terms": [each_term(term, added) for term in terms]} if isinstance(terms, list) else {}
    return settings | inner | added(settings)


def without_core(settings: dict[str, Any]) -> dict[str, Any]:
    """What settings lack that were stored before networks on descriptors had core repulsion: that there is none."""
    lacking = settings.get("name") in ("ani", "behler", "deepmd") and "zbl" not in settings
    end = 0.8 if settings.get("name") == "deepmd" else 0.6
    return {"zbl": False, "zbl_end": end} if lacking else {}


def equal_waves(settings: dict[str, Any]) -> dict[str, Any]:
    """What settings of Anatase lack that were stored before short waves counted less: that all count alike."""
    return {"wave_decay": 0.0} if settings.get("name") == "anatase" and "wave_decay" not in settings else {}


def _cutoffs(part: Any, unit: float) -> Iterator[float]:
    """Cutoffs (Å) of a part of settings; those by which a table was made are in the table."""
    if isinstance(part, list):
        for one in part:
            yield from _cutoffs(one, unit)
    elif isinstance(part, dict):
        unit = LENGTH_UNITS.get(str(part.get("length_unit")), unit)
        for name, value in part.items():
            if name in CUTOFFS:
                numbers = value if isinstance(value, list) else [value]
                yield from (unit * one for one in numbers if isinstance(one, int | float) and 0 < one < TOO_FAR)
            elif name != "auto" or not isinstance(part.get("table"), dict):
                yield from _cutoffs(value, unit)


def stored_description(path: Path) -> dict[str, Any]:
    """The description in the header of a model file; empty where there is none.

    Args:
        path: of a model file, or the folder of a run.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < LONGEST else {}
        found = json.loads(header["__metadata__"]["rutile"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
