"""What the settings of all networks on graphs have in common. Imports no torch."""

from __future__ import annotations

from rutile.core.settings import Settings


class NetworkSettings(Settings):
    """A network on a graph."""

    zbl: bool = True
    """Add the repulsion of screened nuclei (ZBL) at distances below the sum of the covalent radii, where there are no
    training data; what the labels say beyond it the network learns."""
