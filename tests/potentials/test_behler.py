"""The Behler-Parrinello potential: networks, scaling, references, and that cached descriptors change nothing."""

from itertools import pairwise

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rutile.core.errors import ElementError, SettingsError
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.behler import Behler
from rutile.potentials.catalogue import POTENTIALS, make
from rutile.potentials.evaluate import evaluate, evaluate_linearised, linearise
from rutile.potentials.parts import contract
from rutile.potentials.parts.mlp import ACTIVATIONS
from rutile.potentials.potential import DescriptorPotential
from rutile.potentials.settings import BehlerSettings
from rutile.structures.structures import Structures

TABLE = "tio2_artrith_urban_2016"


def titania(seed=0):
    atoms = Atoms("Ti2O4", cell=[4.594, 4.594, 2.959], pbc=True,
                  scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.305, 0.305, 0), (-0.305, -0.305, 0),
                                    (0.805, 0.195, 0.5), (0.195, 0.805, 0.5)])  # fmt: skip
    atoms.rattle(0.1, seed=seed)
    return atoms


def batch():
    return Structures.from_ase([titania(0), titania(1), Atoms("TiO2", [(0, 0, 0), (1.6, 0.3, 0), (-1.4, 0.9, 0.2)])])


def ready(**settings):
    """A potential with scaling from the batch and references that matter."""
    potential = make(BehlerSettings(table=TABLE, **settings), (22, 8), seed=3)
    lin = linearise(potential, batch())
    potential.fit_scaling([(lin.descriptors, lin.numbers)])
    potential.set_reference_energies({8: -4.0, 22: -7.5, 29: 0.0})
    potential.set_energy_scale(0.6)
    return potential


def test_is_a_descriptor_potential():
    potential = ready()
    assert isinstance(potential, DescriptorPotential)
    assert potential.elements == (8, 22)
    assert potential.cutoff == 6.5
    assert potential.name in POTENTIALS


def test_same_seed_same_weights():
    settings = BehlerSettings(table=TABLE)
    one, same, other = (make(settings, (8, 22), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_cached_descriptors_give_the_same_prediction(activation):
    potential = ready(activation=activation, hidden=(7, 5, 4))
    direct = evaluate(potential, batch())
    cached = evaluate_linearised(potential, linearise(potential, batch()))
    assert direct.forces.abs().max() > 1e-3
    for name in ("energy", "forces", "stress", "atom_energy"):
        torch.testing.assert_close(getattr(cached, name), getattr(direct, name), rtol=1e-10, atol=1e-12)


def test_training_on_cached_forces_differentiates_the_weights():
    potential = ready(hidden=(4,))
    lin, weights = linearise(potential, batch()), dict(potential.named_parameters())

    def loss(out):
        return out.energy.sum() + out.forces.square().sum() + out.stress.square().sum()

    cached = torch.autograd.grad(loss(evaluate_linearised(potential, lin, training=True)), list(weights.values()))
    direct = torch.autograd.grad(loss(evaluate(potential, batch(), training=True)), list(weights.values()))
    for a, b in zip(cached, direct, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scaling", ["whitened", "standard", "minmax", "none"])
def test_isolated_atom_is_exactly_its_reference(scaling):
    potential = ready(scaling=scaling)
    for symbol, energy in (("O", -4.0), ("Ti", -7.5)):
        out = evaluate(potential, Structures.from_ase(Atoms(symbol, [(0.3, 0.2, 0.1)])))
        assert float(out.energy[0]) == energy
        assert (out.forces == 0).all()


def test_energy_of_an_atom_by_hand():
    potential = ready(hidden=(3,), activation="tanh", scaling="standard")
    lin = linearise(potential, batch())
    k = 1  # an oxygen or titanium atom: its own network must be used
    z = int(lin.numbers[k])
    network = potential.networks[potential.elements.index(z)]
    mine = lin.descriptors[lin.numbers == z]
    std = mine.std(0, correction=0)
    on = std > 1e-10

    def net(g):
        x = torch.where(on, (g - mine.mean(0)) / std.clamp_min(1e-10), 0.0)
        a, b = network.layers
        return b.weight @ torch.tanh(a.weight @ x + a.bias) + b.bias

    expected = 0.6 * (net(lin.descriptors[k]) - net(0 * lin.descriptors[k])) + {8: -4.0, 22: -7.5}[z]
    torch.testing.assert_close(potential.energies(lin.descriptors, lin.numbers)[k], expected[0], rtol=1e-12, atol=1e-12)


def test_scaling_in_one_pass_equals_scaling_at_once():
    lin = linearise(ready(), batch())
    whole, parts = (make(BehlerSettings(table=TABLE), (8, 22)) for _ in range(2))
    whole.fit_scaling([(lin.descriptors, lin.numbers)])
    parts.fit_scaling((lin.descriptors[k : k + 2], lin.numbers[k : k + 2]) for k in range(0, len(lin.numbers), 2))
    for name in ("shift", "factor", "minimum", "maximum", "whitening"):
        torch.testing.assert_close(getattr(parts.scaling, name), getattr(whole.scaling, name), rtol=1e-8, atol=1e-10)


def test_whitened_functions_are_uncorrelated():
    """Of few atoms only some combinations vary: those have variance 1, the others next to none."""
    potential = ready(scaling="whitened")
    lin = linearise(potential, batch())
    scaled = potential.scaling(0, lin.descriptors[lin.numbers == 8])
    variances = torch.linalg.eigvalsh(torch.cov(scaled.T, correction=0))
    torch.testing.assert_close(scaled.mean(0), torch.zeros_like(scaled[0]), rtol=0, atol=1e-6)
    assert 0.9 < variances[-4] <= variances[-1] < 1.0
    assert variances[0] < 1e-6


@pytest.mark.parametrize("scaling", ["whitened", "standard", "minmax"])
def test_constant_functions_are_switched_off(scaling):
    """A single dimer: every function is constant over its atoms, or absent (no O-O pair)."""
    potential = make(BehlerSettings(table=TABLE, scaling=scaling, zbl=False), (8, 22))
    dimer = Structures.from_ase(Atoms("TiO", [(0, 0, 0), (0, 0, 1.6)]))
    lin = linearise(potential, dimer)
    potential.fit_scaling([(lin.descriptors, lin.numbers)])
    assert (potential.scaling.factor == 0).all()
    out = evaluate(potential, Structures.from_ase(titania()))
    assert torch.isfinite(out.energy).all()
    assert (out.forces == 0).all()


def test_an_element_absent_from_training_keeps_its_scaling():
    potential = make(BehlerSettings(table=TABLE), (8, 22))
    lin = linearise(potential, Structures.from_ase(Atoms("O2", [(0, 0, 0), (0, 0, 1.2)])))
    potential.fit_scaling([(lin.descriptors, lin.numbers)])
    row = potential.elements.index(22)
    assert (potential.scaling.factor[row] == 1).all()
    assert (potential.scaling.shift[row] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extrapolation_counts_functions_outside_the_training_range(dtype):
    potential = ready().to(dtype)
    lin = linearise(potential, batch().to(dtype=dtype))
    assert (potential.extrapolation(lin.descriptors, lin.numbers) == 0).all()
    probe = lin.descriptors.clone()
    row = potential.elements.index(int(lin.numbers[2]))
    probe[2, 4] = potential.scaling.maximum[row, 4] * 1.01 + 0.1
    probe[2, 9] = potential.scaling.minimum[row, 9] - 0.1
    assert potential.extrapolation(probe, lin.numbers).tolist() == [0, 0, 2] + [0] * (len(lin.numbers) - 3)


def test_single_precision():
    potential = ready()
    exact = evaluate(potential, batch())
    single = evaluate(potential.float(), batch().to(dtype=torch.float32))
    assert single.forces.dtype == torch.float32
    torch.testing.assert_close(single.energy.double(), exact.energy, rtol=0, atol=1e-4)
    torch.testing.assert_close(single.forces.double(), exact.forces, rtol=1e-3, atol=1e-4)


def test_references_stay_exact_in_single_precision():
    potential = ready()
    potential.set_reference_energies({8: -432.123456789, 22: -1600.987654321})
    out = evaluate(potential.float(), Structures.from_ase(Atoms("Ti")).to(dtype=torch.float32))
    assert float(out.energy[0]) == -1600.987654321


def test_unknown_elements_and_missing_references_are_named():
    potential = ready()
    with pytest.raises(ElementError, match="does not know Cu; it was made for O, Ti"):
        evaluate(potential, Structures.from_ase(bulk("Cu")))
    with pytest.raises(ElementError, match="no reference energy for Ti"):
        potential.set_reference_energies({8: 1.0})
    with pytest.raises(SettingsError, match=r"no functions for Cu \(has: O, Ti\)"):
        Behler(BehlerSettings(table=TABLE), (8, 29))


def test_saved_settings_rebuild_the_potential_without_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name="m"\ncenters=["O","Ti"]\n[[blocks]]\nkind="G2"\ncutoff=4.0\netas=[0.1]\nneighbors=[["O"]]\n')
    potential = Behler(BehlerSettings(table=str(path)), (8, 22))
    path.unlink()
    text = potential.settings.model_dump_json()
    again = Behler(BehlerSettings.model_validate_json(text), (8, 22))
    assert again.table == potential.table
    assert again.descriptor_key == potential.descriptor_key


def test_descriptor_key_names_the_descriptors():
    key = Behler(BehlerSettings(table=TABLE, hidden=(3,)), (8, 22)).descriptor_key
    assert key == Behler(BehlerSettings(table=TABLE, hidden=(9,), scaling="none"), (22, 8)).descriptor_key
    keys = {key} | {Behler(BehlerSettings(auto={"cutoff": r, "cutoff_function": f}), (8, 22)).descriptor_key
                    for r in (4.0, 5.0) for f in ("cosine", "poly2")}  # fmt: skip
    assert len(keys) == 5


def test_forces_are_smooth_where_a_neighbour_enters():
    potential = ready()
    forces = []
    for step in (-2e-4, -1e-4, 1e-4, 2e-4):
        pair = Structures.from_ase(Atoms("TiO2", [(0, 0, 0), (0, 0, 1.7), (0, 0, -(6.5 + step))]))
        forces.append(evaluate(potential, pair).forces)
    jumps = [(b - a).abs().max() for a, b in pairwise(forces)]
    assert max(jumps) < 1e-3


def test_edges_of_a_batch_do_not_leak():
    potential, one = ready(), batch()
    alone = torch.cat([evaluate(potential, s).energy for s in one.split()])
    torch.testing.assert_close(evaluate(potential, one).energy, alone, rtol=1e-12, atol=1e-12)
    graph = build_graph(one, find_edges(one, potential.cutoff))
    assert (graph.system[graph.i] == graph.system[graph.j]).all()


def test_without_kernels_the_same_numbers_and_no_graph(monkeypatch):
    potential = ready()
    compiled = evaluate(potential, batch())
    monkeypatch.setattr(contract, "library", lambda: None)
    plain = evaluate(potential, batch())
    for name in ("energy", "forces", "stress", "atom_energy"):
        assert not getattr(plain, name).requires_grad
        torch.testing.assert_close(getattr(plain, name), getattr(compiled, name), rtol=1e-10, atol=1e-12)
