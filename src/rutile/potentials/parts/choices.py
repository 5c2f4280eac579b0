"""Names that settings can choose from; the functions behind them are in `parts.mlp` and `parts.scaling`."""

from typing import Literal

ActivationName = Literal[
    "tanh",
    "sigmoid",
    "silu",
    "softplus",
    "shifted_softplus",
    "softplus_integral",
    "gelu",
    "modified_tanh",
    "twist",
    "celu",
]
ScalingMode = Literal["whitened", "standard", "minmax", "none"]
