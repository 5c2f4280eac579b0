"""Model files: one safetensors file that holds the tensors and, in its header, a JSON description of everything else.

A safetensors file is 8 bytes of header length, a JSON header, and raw numbers; reading one can run no code. The
description lies in the header's metadata under the key "rutile":

    kind      "model", or another word for other files that use `write_tensors` (checkpoints)
    format    version of this layout; older versions are upgraded by the functions in UPGRADES, newer ones refused
    sha256    of names, types, shapes and bytes of all tensors
    units     of everything the model gives
    info      `ModelInfo`: elements, calc modes, hash of the training data, metrics, version of rutile
    members   of a committee (one for a single potential): name, settings, elements, modes, dtype; the tensors of
              member m are named "m.<name in its state_dict>"
    calibration  only after `rutile calibrate`: `Calibration`, with a version of its own; a rutile that does not know it
              reads the model without
    surroundings  `Surroundings` of the training structures, where they are known
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from rutile.core.errors import ModelFileError
from rutile.core.files import did_you_mean, write_atomically
from rutile.core.settings import Settings
from rutile.potentials import calibration, catalogue, settings
from rutile.potentials.calibration import Calibration
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.potentials.settings.stored import MODEL_FILE, SURROUNDINGS, each_term, equal_waves, without_core
from rutile.structures.surroundings import Surroundings

FORMAT = 6
"""Version of the layout that this rutile writes."""
UNITS = {"energy": "eV", "length": "Angstrom", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3"}
Upgrade = Callable[[dict[str, Tensor], dict[str, Any]], tuple[dict[str, Tensor], dict[str, Any]]]


def _modes(tensors: dict[str, Tensor], description: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """1 to 2: reference energies by mode and element; every member names its calc modes."""
    shaped = {k: v[None] if k.endswith(".reference.energy") else v for k, v in tensors.items()}
    names = (description.get("info", {}).get("calc_modes") or [""])[:1]
    members = [{**member, "modes": names} for member in description.get("members", [])]
    return shaped, {**description, "members": members}


def _states(tensors: dict[str, Tensor], description: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """2 to 3: Anatase normalised its states between layers, which became a setting that is off by default."""
    return tensors, _each_term(description, lambda s: {"normalised_states": True} if s.get("name") == "anatase" else {})


def _core(tensors: dict[str, Tensor], description: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """3 to 4: the core repulsion ended at the sum of the covalent radii, which became a setting."""
    return tensors, _each_term(
        description, lambda s: {"end": 1.0} if s.get("name") == "zbl" else {"zbl_end": 1.0} if "zbl" in s else {}
    )


def _descriptors(tensors: dict[str, Tensor], description: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """4 to 5: potentials with descriptors had no core repulsion, which became a setting that is on by default."""
    return tensors, _each_term(description, without_core)


def _waves(tensors: dict[str, Tensor], description: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """5 to 6: Anatase gave its radial network waves of equal weight, which became a setting."""
    return tensors, _each_term(description, equal_waves)


def _each_term(description: dict[str, Any], added: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The description with something added to the settings of every member and every term of a sum."""
    members = description.get("members", [])
    return {**description, "members": [{**m, "settings": each_term(m.get("settings"), added)} for m in members]}


UPGRADES: dict[int, Upgrade] = {1: _modes, 2: _states, 3: _core, 4: _descriptors, 5: _waves}
"""Version -> function that turns tensors and description of that version into those of the next."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def save_model(path: Path, model: Model) -> None:
    """Write a model atomically.

    Raises:
        FileError: the place cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    members = []
    for m, potential in enumerate(model.potentials):
        state = potential.state_dict()
        tensors |= {f"{m}.{name}": tensor for name, tensor in state.items()}
        members.append(
            {
                "potential": potential.name,
                "settings": cast(Settings, potential.settings).model_dump(mode="json"),
                "elements": list(cast(Potential, potential).elements),
                "modes": list(cast(TrainablePotential, potential).modes),
                "dtype": str(placement(cast(Potential, potential))[0]).removeprefix("torch."),
            }
        )
    description = {
        "kind": "model",
        "format": FORMAT,
        "units": UNITS,
        "info": model.info.model_dump(mode="json"),
        "members": members,
    }
    if model.calibration is not None:
        description["calibration"] = model.calibration.model_dump(mode="json")
    if model.surroundings is not None:
        description[SURROUNDINGS] = model.surroundings.model_dump(mode="json")
    write_tensors(path, tensors, description)


def load_model(path: Path) -> Model:
    """Read a model file, or `model.rutile` in a folder.

    Raises:
        ModelFileError: the file is missing, truncated, damaged, foreign, or made by a newer rutile.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.exists():
        raise ModelFileError(f"{path}: no such file{did_you_mean(path)}")
    tensors, description = read_tensors(path)
    if description.get("kind") != "model":
        raise ModelFileError(
            f"{path} is a {description.get('kind', 'file without kind')}, not a model: give a {MODEL_FILE}"
        )
    tensors, description = _upgrade(path, tensors, description)
    try:
        info = ModelInfo.model_validate(description["info"])
        met = TypeAdapter(Surroundings | None).validate_python(description.get(SURROUNDINGS))
        members = [dict(member) for member in description["members"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: the description is damaged ({_one_line(error)}); copy the file again") from None
    if not members:
        raise ModelFileError(f"{path}: the description is damaged (no members); copy the file again")
    owned = {name.partition(".")[0] for name in tensors}
    if extra := sorted(owned - {str(m) for m in range(len(members))}):
        raise ModelFileError(f"{path}: tensors of member {extra[0]!r}, which the description does not name")
    potentials = [_rebuild(path, m, member, tensors) for m, member in enumerate(members)]
    return Model(potentials, info, _calibration(path, description, potentials), met)


def _calibration(path: Path, description: dict[str, Any], potentials: Sequence[Any]) -> Calibration | None:
    """The calibration, if there is one."""
    found = description.get("calibration")
    if found is None:
        return None
    version = found.get("version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > calibration.VERSION:
        raise ModelFileError(
            f"{path} has a calibration of version {version}; this rutile reads up to {calibration.VERSION}: upgrade "
            "rutile, or calibrate again"
        )
    try:
        read = Calibration.model_validate(calibration.upgraded(found) if isinstance(found, dict) else found)
    except ValueError as error:
        raise ModelFileError(f"{path}: the calibration is damaged ({_one_line(error)}); copy the file again") from None
    members = sum(getattr(potential, "n_heads", 1) for potential in potentials)
    if read.members != members:
        raise ModelFileError(
            f"{path}: the calibration is of {read.members} members and the model has {members}; copy the file again"
        )
    return read


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors with a JSON description to one safetensors file, atomically.

    NaN and infinity in the description become null (JSON has neither). The same content gives the same bytes.

    Raises:
        FileError: the place cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    described = {**_finite(description), "sha256": _digest(plain)}
    text = json.dumps(described, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_atomically(path, safetensors.torch.save(plain, metadata={"rutile": text}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote: tensors on the CPU, and the description.

    Raises:
        ModelFileError: the file is missing, unreadable, truncated, damaged or of another program.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from None
    metadata = _metadata(path, data)
    try:
        description = json.loads(metadata["rutile"])
        tensors = safetensors.torch.load(data)
    except KeyError:
        raise ModelFileError(
            f"{path} is a safetensors file of another program: give a .rutile file written by rutile"
        ) from None
    except (ValueError, SafetensorError) as error:
        raise ModelFileError(f"{path} is damaged or truncated ({_one_line(error)}); copy it again") from None
    if not isinstance(description, dict) or description.pop("sha256", None) != _digest(tensors):
        raise ModelFileError(f"{path} is damaged: its numbers do not match their checksum; copy it again")
    return tensors, description


def _metadata(path: Path, data: bytes) -> dict[str, str]:
    """The metadata in the header of a safetensors file."""
    foreign = ModelFileError(f"{path} is not a rutile file (no safetensors header): give a .rutile file")
    if len(data) < 9 or data[8:9] != b"{":
        raise foreign
    end = 8 + int.from_bytes(data[:8], "little")
    if end > len(data):
        raise ModelFileError(f"{path} is truncated: the header has {end} bytes, the file {len(data)}; copy it again")
    try:
        metadata = json.loads(data[8:end]).get("__metadata__", {})
    except (ValueError, AttributeError):
        raise foreign from None
    return metadata if isinstance(metadata, dict) else {}


def _upgrade(
    path: Path, tensors: dict[str, Tensor], description: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description in the layout of this version."""
    version = description.get("format")
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{path}: the description is damaged (format {version!r}); copy the file again")
    if version > FORMAT:
        writer = description.get("info", {}).get("rutile", "a newer version")
        raise ModelFileError(
            f"{path} has format {version}, written by rutile {writer}; this one reads up to {FORMAT}: upgrade rutile"
        )
    for old in range(version, FORMAT):
        tensors, description = UPGRADES[old](tensors, description)
    return tensors, description


def _rebuild(path: Path, m: int, member: dict[str, Any], tensors: dict[str, Tensor]) -> torch.nn.Module:
    """Member m of a model from its description and tensors."""
    name = member.get("potential")
    if name not in catalogue.POTENTIALS:
        known = ", ".join(sorted(catalogue.POTENTIALS))
        raise ModelFileError(
            f"{path}: unknown potential {name!r} (known: {known}): install its plug-in or upgrade rutile"
        )
    try:
        parsed = TypeAdapter(settings.PotentialSettings).validate_python(member["settings"])
        elements = tuple(int(z) for z in member["elements"])
        modes = tuple(str(mode) for mode in member["modes"])
        dtype = DTYPES[member["dtype"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path}: the description of member {m} is damaged ({_one_line(error)}); copy the file again"
        ) from None
    potential = cast(torch.nn.Module, catalogue.make(parsed, elements, 0, modes)).to(dtype)
    state = {k.removeprefix(f"{m}."): v for k, v in tensors.items() if k.startswith(f"{m}.")}
    if problem := next(_mismatches(potential.state_dict(), state), None):
        raise ModelFileError(f"{path}: member {m} ({name}): {problem}; the file is damaged or was edited")
    potential.load_state_dict(state)
    return potential.eval()


def _mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    """What keeps a state from being loaded."""
    for name in sorted(expected.keys() - found.keys()):
        yield f"tensor {name!r} is missing"
    for name in sorted(found.keys() - expected.keys()):
        yield f"tensor {name!r} is not part of this potential"
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            yield f"tensor {name!r} has shape {list(found[name].shape)} instead of {list(tensor.shape)}"
        elif tensor.dtype != found[name].dtype:
            yield f"tensor {name!r} has type {found[name].dtype} instead of {tensor.dtype}"


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), list(tensor.shape))).encode())
        flat = tensor.contiguous().as_strided((tensor.numel(),), (1,))  # a single element may keep any stride
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _finite(value: Any) -> Any:
    """The value with every float that JSON cannot write replaced by None."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _one_line(error: Exception) -> str:
    """The gist of an error of another library."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(x) for x in first['loc'])}: {first['msg']}"
    if isinstance(error, KeyError):
        return f"no {error}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
