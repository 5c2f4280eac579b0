"""rutile: machine-learning interatomic potentials, from reference data to materials.

>>> from rutile import load                      # doctest: +SKIP
>>> atoms.calc = load("model").calculator()      # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rutile.core.client import Client
    from rutile.potentials.model import Model

__version__ = "0.1.0"
__all__ = ["Client", "__version__", "load"]


def __getattr__(name: str) -> type[Client]:
    if name != "Client":
        raise AttributeError(f"module 'rutile' has no attribute {name!r}")
    from rutile.core.client import Client

    return Client


def load(path: str | Path) -> Model:
    """Read a trained model: a `.rutile` file, or a folder of a training run with `model.rutile` inside.

    Potentials that need no training have names instead: emt, lennard_jones, rigid_ion, bond_valence.

    Raises:
        ModelFileError: the file is missing, damaged, foreign, or made by a newer rutile.
    """
    from rutile.potentials.classical import open_model

    return open_model(Path(path))
