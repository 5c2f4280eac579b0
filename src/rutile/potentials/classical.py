"""Potentials that need no training, by name: `model=emt` wherever a model file is asked for."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from rutile.core.errors import ModelFileError
from rutile.core.files import did_you_mean
from rutile.potentials.bond_valence import BondValence
from rutile.potentials.emt import Emt
from rutile.potentials.lennard_jones import LennardJones
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.named import ELEMENTS, NOTES
from rutile.potentials.rigid_ion import RigidIon
from rutile.potentials.save import load_model

CLASSICAL: dict[str, type[nn.Module]] = {
    "emt": Emt,
    "lennard_jones": LennardJones,
    "rigid_ion": RigidIon,
    "bond_valence": BondValence,
}


def open_model(path: Path) -> Model:
    """A stored model, or one of `CLASSICAL` if that is its name and no file is called so.

    Raises:
        ModelFileError: as `load_model`.
    """
    name = str(path)
    if name not in CLASSICAL or path.exists():
        if not path.exists():
            raise ModelFileError(f"model={path}: no such file or run{did_you_mean(path, CLASSICAL)}")
        return load_model(path)
    return Model([CLASSICAL[name]()], ModelInfo(elements=ELEMENTS[name], notes=(NOTES[name],)))
