"""Matrix products with rounded factors: what they give, where they hold, and that forces stay derivatives."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from rutile import starter
from rutile.core.errors import SettingsError
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts.dense import Dense, require_products
from rutile.potentials.parts.products import Linear, multiply, products
from rutile.potentials.settings import PotentialSettings
from rutile.structures.structures import Structures
from rutile.train.settings import TrainSettings

WIDE = {
    "behler": {"auto": {"cutoff": 4.0}, "hidden": [16, 16]},
    "painn": {"cutoff": 3.5, "features": 16, "interactions": 2, "zbl": False},
    "schnet": {"cutoff": 3.5, "features": 16, "interactions": 2, "zbl": False},
}
"""Some architectures with layers wide enough to be rounded."""
CPU = torch.device("cpu")


def wide(name):
    settings = TypeAdapter(PotentialSettings).validate_python({"name": name, **WIDE[name]})
    potential = make(settings, (8, 22), 0, ("",)).float()
    if name != "behler":
        frames = Structures.from_ase(starter.frames()[:2]).to(dtype=torch.float32)
        from rutile.graph.graph import build_graph

        potential.learn_statistics([build_graph(frames, find_edges(frames, potential.cutoff))])
    return potential


def structures():
    return Structures.from_ase(sorted(starter.frames(), key=len)[:3]).to(dtype=torch.float32)


def rms(x):
    return float(x.detach().square().mean().sqrt())


def test_factors_are_rounded_and_sums_are_not():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator).requires_grad_() for shape in ((7, 400), (400, 33)))
    with products("bf16"):
        y = multiply(a, b)
    exact = a.bfloat16().double() @ b.bfloat16().double()
    assert rms(y - exact) < 1e-5 * rms(exact)
    assert 1e-3 < rms(y - a @ b) / rms(exact) < 1e-2
    g = torch.randn(7, 33, generator=generator).requires_grad_()
    d_a, d_b = torch.autograd.grad(y, (a, b), g, create_graph=True)  # outside of the `with`
    torch.testing.assert_close(d_a, g.bfloat16().float() @ b.bfloat16().float().mT)
    torch.testing.assert_close(d_b, a.bfloat16().float().mT @ g.bfloat16().float())
    (dd_b,) = torch.autograd.grad(d_a.sum(), b)
    torch.testing.assert_close(dd_b, torch.ones(7, 400).mT @ g.bfloat16().float())


def test_narrow_layers_and_what_is_outside_keep_every_bit():
    generator, x = torch.Generator().manual_seed(0), torch.randn(5, 40)
    for layer in (Dense(40, 15, generator).float(), Linear(40, 15), Dense(40, 64, generator).float(), Linear(40, 64)):
        before = layer(x)
        with products("bf16"):
            inside = layer(x)
        assert torch.equal(layer(x), before)
        assert torch.equal(inside, before) == (layer.weight.numel() == 600)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WIDE))
def test_rounding_moves_energies_and_forces_little(name):
    potential, batch = wide(name), structures()
    exact = evaluate(potential, batch, training=True)
    with products("bf16"):
        rounded = evaluate(potential, batch, training=True)
    size = rms(exact.atom_energy)
    assert 0 < rms(rounded.atom_energy - exact.atom_energy) < 0.02 * size
    assert 0 < rms(rounded.forces - exact.forces) < 0.02 * rms(exact.forces)
    assert rounded.energy.dtype == exact.energy.dtype
    assert rounded.forces.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WIDE))
def test_forces_with_rounding_are_the_slope_of_the_energy(name):
    """Energy differences are the work of the forces along a path; single steps drown in the rounding."""
    potential, start = wide(name), structures()
    way = torch.randn(start.positions.shape, generator=torch.Generator().manual_seed(1))
    x, w = np.polynomial.legendre.leggauss(12)
    ends, work, size = [], 0.0, 0.0
    with products("bf16"):
        for t in (-1.0, 1.0, *x.tolist()):
            p = evaluate(potential, start.replace(positions=start.positions + 0.3 * t * way), training=True)
            ends.append(p.energy.detach().double())
            along = torch.zeros(start.n_systems).double()
            along.index_add_(0, start.system, (p.forces.detach() * way).sum(1).double())
            if len(ends) > 2:
                weight = 0.3 * float(w[len(ends) - 3])
                work, size = work + weight * along, size + weight * along.abs()
    assert float((ends[1] - ends[0] + work).abs().max()) < 0.05 * float(size.max())


@pytest.mark.slow
def test_rounding_is_refused_where_it_does_not_apply():
    with pytest.raises(ValueError, match="matmul=bf16 is for float32"):
        TrainSettings(matmul="bf16", precision="float64")
    with pytest.raises(ValueError, match="matmul=tf32 cannot be compiled"):
        TrainSettings(matmul="tf32", compile=True)
    with pytest.raises(SettingsError, match="matmul=tf32 is for GPUs"):
        require_products(wide("painn"), "tf32", CPU)
    narrow = TypeAdapter(PotentialSettings).validate_python({"name": "behler", "hidden": [8]})
    with pytest.raises(SettingsError, match="'behler' has no dense layer of 16 inputs and outputs"):
        require_products(make(narrow, (8, 22), 0, ("",)), "bf16", CPU)
    require_products(wide("painn"), "bf16", CPU)
