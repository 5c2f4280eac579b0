"""The contract on Behler-Parrinello potentials: both published tables and an automatic one, kernels on and off."""

import pytest
import torch

from rutile.core import native
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.parts import symmetry_native
from rutile.potentials.settings import BehlerSettings
from rutile.structures.structures import concatenate
from rutile.testing.potential_contract import potential_contract
from rutile.testing.strategies import random_structure


def trained_like(elements, **settings):
    """Random networks behind descriptors scaled on random structures, so that every function counts."""
    potential = make(BehlerSettings(hidden=(8, 5), zbl_end=1.0, **settings), elements, 1)
    batch = concatenate(
        random_structure(100 + seed, [elements[k % len(elements)] for k in range(6)]) for seed in range(8)
    )
    graph = build_graph(batch, find_edges(batch, potential.cutoff))
    with torch.no_grad():
        potential.fit_scaling([(potential.describe(graph), batch.numbers)])
        for network in potential.networks:
            network.layers[0].weight *= 0.2  # far from saturation
    potential.set_energy_scale(2.0)
    potential.set_reference_energies({z: -3.0 * z for z in elements})
    return potential


def tio2():
    return trained_like((8, 22), table="tio2_artrith_urban_2016", scaling="standard")


def cuauoh():
    return trained_like((1, 8, 29, 79), table="cuauoh_artrith", scaling="standard")


def auto():
    return trained_like((8, 22), auto={"cutoff": 5.0})


def eager(make, n_atoms=6):
    """The contract without compiled kernels."""

    class Eager(potential_contract(make, n_atoms)):
        @pytest.fixture(autouse=True, scope="class")
        def _no_kernels(self):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(symmetry_native, "library", lambda: None)
                yield

    return Eager


def compiled(make):
    """The contract with compiled kernels; skipped where there is no compiler."""
    skip = pytest.mark.skipif(native.library() is None, reason=native.reason())
    return skip(potential_contract(make))


TestTiO2Compiled, TestCuAuOHCompiled, TestAutoCompiled = (
    compiled(tio2),
    pytest.mark.slow(compiled(cuauoh)),
    compiled(auto),
)
TestTiO2Eager = pytest.mark.slow(eager(tio2))
TestCuAuOHEager = pytest.mark.slow(eager(cuauoh, 4))
TestAutoEager = pytest.mark.slow(eager(auto))
