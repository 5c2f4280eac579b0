"""How a potential sees structures: their features, and what forbids to ask a reference code about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor

from rutile.core.elements import symbol
from rutile.graph.graph import Graph


def structure_features(potential: Any, graph: Graph) -> np.ndarray:
    """Mean and standard deviation over the atoms of each structure of the potential's features, [S, 2 F].

    Raises:
        ValueError: the potential has none.
    """
    features: Tensor = potential.features(graph).double()
    if not features.shape[1]:
        raise ValueError(f"the potential {getattr(potential, 'name', type(potential).__name__)} has no features")
    zeros = features.new_zeros(graph.n_systems, features.shape[1])
    n = torch.bincount(graph.system, minlength=graph.n_systems).to(features.dtype).unsqueeze(1)
    mean = zeros.index_add(0, graph.system, features) / n
    apart = features - mean[graph.system]
    std = (zeros.index_add(0, graph.system, apart.square()) / n).sqrt()
    return torch.cat([mean, std], 1).cpu().numpy()


def too_close(graph: Graph, closest: float) -> list[str]:
    """For each structure the pair that is nearest in sums of covalent radii, if nearer than `closest`; else empty."""
    out = [""] * graph.n_systems
    radius = torch.tensor(covalent_radii, dtype=graph.vectors.dtype, device=graph.vectors.device)
    z_i, z_j = graph.numbers[graph.i], graph.numbers[graph.j]
    r = graph.vectors.detach().norm(dim=1)
    part = r / (radius[z_i] + radius[z_j])
    bad = (part < closest).nonzero().squeeze(1)
    for e in bad[part[bad].argsort()].tolist():
        s = int(graph.system[graph.i[e]])
        out[s] = out[s] or f"{symbol(int(z_i[e]))} and {symbol(int(z_j[e]))} are {float(r[e]):.2f} Å apart"
    return out
