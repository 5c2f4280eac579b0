"""What the settings of all networks have in common. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from rutile.core.settings import Settings


class NetworkSettings(Settings):
    """A network, on graphs or on descriptors."""

    zbl: bool = True
    """Add the repulsion of screened nuclei (ZBL) at distances far below those of bonds, where there are no training
    data; what the labels say beyond it the network learns."""
    zbl_end: float = Field(default=0.8, gt=0, le=1)
    """Where that repulsion ends: a fraction of the sum of the covalent radii (dimensionless)."""


class DescriptorNetworkSettings(NetworkSettings):
    """A network on descriptors."""

    zbl_end: float = Field(default=0.6, gt=0, le=1)
    """Where that repulsion ends: a fraction of the sum of the covalent radii (dimensionless). Smaller than for networks
    on graphs, so that it leaves alone the squeezed bonds of training frames too."""
