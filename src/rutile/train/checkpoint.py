"""Checkpoints: everything that a run needs to go on bit for bit, as tensors and JSON in one file. No pickle.

A state is a nest of dicts, lists, tuples, numbers, strings, None and tensors. Tensors go into the safetensors part
under "t0", "t1", ...; the nest goes into the description with markers in their places, infinities spelt out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from rutile.core.errors import ModelFileError
from rutile.potentials.save import read_tensors, write_tensors

KIND, VERSION = "checkpoint", 1
CHECKPOINT_FILE = "checkpoint.safetensors"
"""Name of the checkpoint inside the folder of a training run."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state atomically: at any moment the file is the old one or the new one, complete.

    Raises:
        FileError: the place cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    nest = _pack(state, tensors)
    write_tensors(path, tensors, {"kind": KIND, "version": VERSION, "state": nest})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state; tensors are equal bit for bit.

    Raises:
        ModelFileError: missing, damaged, not a checkpoint, or of another version.
    """
    try:
        tensors, description = read_tensors(path)
    except ModelFileError as error:
        raise ModelFileError(f"{error}, or remove it to train from the start") from None
    if description.get("kind") != KIND:
        raise ModelFileError(f"{path} is no training checkpoint (kind {description.get('kind')!r})")
    if description.get("version") != VERSION:
        raise ModelFileError(
            f"{path}: checkpoint of version {description.get('version')}, this rutile reads {VERSION}; "
            "train again, or go on from the model with start_from"
        )
    state = _unpack(description["state"], tensors)
    if not isinstance(state, dict):
        raise ModelFileError(f"{path}: the state is damaged")
    return state


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON values for a nest; its tensors are put into `tensors`."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_pack(v, tensors) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    assert value is None or isinstance(value, bool | int | float | str), type(value)
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The nest of `_pack`."""
    if isinstance(value, list):
        return [_unpack(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    match kind:
        case "tensor":
            return tensors[inner]
        case "dict":
            return {_unpack(k, tensors): _unpack(v, tensors) for k, v in inner}
        case "tuple":
            return tuple(_unpack(v, tensors) for v in inner)
        case _:
            return float(inner)
