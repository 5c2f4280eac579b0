"""Settings of anatase. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rutile.potentials.settings.network import NetworkSettings

SIZES: dict[str, dict[str, Any]] = {
    "small": {"channels": 32, "cutoffs": (5.0, 5.0), "radial": 8, "sources": 8, "couplings": "light", "hidden": 64},
    "medium": {"channels": 64, "cutoffs": (5.0, 5.0), "radial": 8, "sources": 16, "couplings": "light", "hidden": 128},
    "large": {"channels": 128, "cutoffs": (5.0, 5.0, 5.0), "radial": 10, "sources": 16, "couplings": "full",
              "hidden": 256},
}  # fmt: skip
"""What the sizes stand for."""


class AnataseSettings(NetworkSettings):
    """Anatase: message passing with scalars, vectors and rank-2 tensors; the potential to begin with."""

    TRAINING: ClassVar[dict[str, Any]] = {
        "optimizer": {
            "name": "muon",
            "learning_rate": 0.03,
            "other_learning_rate": 0.01,
            "momentum": 0.98,
            "weight_decay": 0.02,
        },
        "schedule": {"name": "cosine", "stop": 0.01},
        "keep": "last",
        "warmup": 50,
        "batch_size": 5,
        "epochs": 200,
        "clip_norm": 10.0,
        "ema": 0.99,
    }
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["anatase"] = "anatase"
    """Which potential."""
    size: Literal["small", "medium", "large"] = "small"
    """Fills in all that follows; what is given beside it wins."""
    channels: int = Field(default=32, ge=1)
    """Scalars, vectors and tensors of each atom."""
    cutoffs: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(5.0, 5.0), min_length=1)
    """Cutoff of each layer (Angstrom); atoms feel each other up to their sum."""
    radial: int = Field(default=8, ge=1)
    """Radial functions of an edge, learned by a network of waves."""
    waves: int = Field(default=8, ge=1)
    """Waves sin(n pi r / cutoff) / r that this network is given, ..."""
    wave_decay: float = Field(default=1.0, ge=0)
    """... each divided by n to this power (dimensionless): what short waves could add is hardly determined by data, and
    distances that training did not see show it. 0, as in models made before that was found: all alike."""
    radial_hidden: int = Field(default=32, ge=1)
    """Width of the two hidden layers of the network of waves."""
    sources: int = Field(default=8, ge=1)
    """Channels that an atom shows its neighbours, combinations of its own; each meets every radial function."""
    couplings: Literal["light", "full"] = "light"
    """Products of a neighbour's tensors with its direction: "light" without the three costliest (121, 220, 222)."""
    hidden: int = Field(default=64, ge=1)
    """Width of the network that updates the scalars."""
    embedding: int = Field(default=16, ge=1)
    """Length of the vectors of elements and calc modes."""
    readout: int = Field(default=32, ge=1)
    """Hidden width of the network that gives the energy."""
    heads: int = Field(default=1, ge=1)
    """Such networks, on top of one trunk: the energy is their mean, and with two or more their spread gives energy_std
    and forces_std, as that of a committee does (a shallow ensemble)."""
    normalised_states: bool = False
    """Normalise vectors and tensors also on their way to the next layer. Fits frames unlike the training set worse; for
    models made before that was found."""
    electrostatics: bool = False
    """Predict a charge for each atom and add the Coulomb energy of all, which reaches beyond the cutoffs; each system
    is neutral. For crystals (Ewald's sum) and molecules (all pairs); slabs and wires are refused."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """Add what the size stands for; an unknown size is left for the check of the field."""
        if not isinstance(data, dict):
            return data
        return SIZES.get(str(data.get("size", "small")), {}) | data
