"""ANI: atomic environment vectors against the reference vectors and a loop over triplets, networks, committees."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from rutile.core.elements import number
from rutile.core.errors import ElementError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials import ani
from rutile.potentials.ani import Ani
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate, linearise
from rutile.potentials.potential import DescriptorPotential
from rutile.potentials.save import load_model
from rutile.potentials.settings import AevSettings, AniSettings
from rutile.potentials.settings.ani import PUBLISHED
from rutile.structures.structures import Structures
from rutile.tasks.train import TrainTaskSettings, run
from rutile.testing.potential_contract import potential_contract
from rutile.testing.strategies import random_structure
from rutile.testing.toys import make_toy

SPEC = Path(__file__).parents[2].parent / "shared" / "spec"
vectors_there = pytest.mark.skipif(not SPEC.is_dir(), reason="no reference vectors beside this checkout")
OWN = AevSettings(radial_cutoff=3.6, angular_cutoff=4.1, start=0.5, radial_shifts=5, radial_eta=3.0, angular_shifts=3,
                  angular_eta=1.5, sections=2, zeta=3.5, cutoff_function="poly3")  # fmt: skip


def ready(elements, **settings):
    """Small random networks with an energy scale and references that matter."""
    potential = make(AniSettings(hidden=(8, 5), zbl_end=0.9, **settings), elements, 1)
    potential.set_energy_scale(2.0)
    potential.set_reference_energies({z: -3.0 * z for z in elements})
    return potential


# A smooth activation: at 0 the second derivative of CELU jumps, and the contract's differences are of fourth order.
TestAni1x = potential_contract(lambda: ready((8, 22), aev="ani1x", activation="silu"))
TestOwn = potential_contract(lambda: ready((1, 8), aev=OWN, activation="silu"), 5)


def graph_of(potential, structures):
    return build_graph(structures, find_edges(structures, potential.cutoff))


def methanol():
    places = [[0, 0, 0], [-0.7, 1.2, 0.1], [1.1, 0, 0], [-0.4, -0.6, 0.8], [-0.4, -0.5, -0.9], [-0.2, 2.0, 0.2]]
    return Structures.from_ase(Atoms("COH4", places))


def naive(settings, order, structures):
    """Vectors of one molecule, atom by atom and pair by pair, as the papers write them."""
    c, n = settings, len(order)
    shifts_r = [c.start + k * (c.radial_cutoff - c.start) / c.radial_shifts for k in range(c.radial_shifts)]
    shifts_a = [c.start + k * (c.angular_cutoff - c.start) / c.angular_shifts for k in range(c.angular_shifts)]
    angles = [(2 * k + 1) * math.pi / (2 * c.sections) for k in range(c.sections)]
    pairs = list(itertools.combinations_with_replacement(range(n), 2))
    x, z = structures.positions.tolist(), [order.index(k) for k in structures.numbers.tolist()]
    out = torch.zeros(len(x), n * len(shifts_r) + len(pairs) * len(shifts_a) * len(angles), dtype=torch.float64)

    def fc(r, r_c):
        return 0.5 * math.cos(math.pi * r / r_c) + 0.5 if r < r_c else 0.0

    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        for j in others:
            r = math.dist(x[i], x[j])
            for k, shift in enumerate(shifts_r):
                value = 0.25 * math.exp(-c.radial_eta * (r - shift) ** 2) * fc(r, c.radial_cutoff)
                out[i, z[j] * len(shifts_r) + k] += value
        for j, k in itertools.combinations(others, 2):
            p, q = math.dist(x[i], x[j]), math.dist(x[i], x[k])
            cos = sum((a - o) * (b - o) for a, b, o in zip(x[j], x[k], x[i], strict=True)) / (p * q)
            both = fc(p, c.angular_cutoff) * fc(q, c.angular_cutoff)
            column = n * len(shifts_r) + pairs.index(tuple(sorted((z[j], z[k])))) * len(shifts_a) * len(angles)
            for shift, angle in itertools.product(shifts_a, angles):
                turn = 2 * ((1 + math.cos(math.acos(0.95 * cos) - angle)) / 2) ** c.zeta
                out[i, column] += turn * math.exp(-c.angular_eta * ((p + q) / 2 - shift) ** 2) * both
                column += 1
    return out


@vectors_there
@pytest.mark.parametrize("case", range(4))
def test_reference_vectors(case):
    data = json.loads((SPEC / "ani_vectors.json").read_text())
    entry = data["structures"][case]
    elements = tuple(map(number, data["constants"][entry["model"]]["species"]))
    potential = make(AniSettings(aev=entry["model"]), elements)
    numbers = [number(s) for s in entry["symbols"]]
    structures = Structures.from_arrays(numbers, entry["positions"], entry["cell"], entry["pbc"])
    expected = torch.tensor(entry["aev"], dtype=torch.float64)
    assert expected.shape[1] == {"ani1x": 384, "ani2x": 1008}[entry["model"]]
    values, _ = potential.describe_with_jacobian(graph_of(potential, structures))
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-11)


@vectors_there
def test_published_constants():
    for name, c in json.loads((SPEC / "ani_vectors.json").read_text())["constants"].items():
        aev = make(AniSettings(aev=name), (1, 6, 7, 8)).aev
        s = aev.settings
        assert (s.radial_cutoff, s.angular_cutoff, s.radial_eta, s.angular_eta, s.zeta) == (
            c["RcR"], c["RcA"], c["etaR"], c["etaA"], c["zeta"]
        )  # fmt: skip
        for own, published in ((aev.radial_shifts, "ShfR"), (aev.angular_shifts, "ShfA"), (aev.angles, "ShfZ")):
            torch.testing.assert_close(own, torch.tensor(c[published], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["ani1x", "ani2x"])
def test_vectors_equal_a_loop_over_pairs_of_neighbours(name):
    order = [1, 6, 7, 8, 16, 9] if name == "ani2x" else [1, 6, 8, 22]  # sulphur before fluorine, as published
    potential = make(AniSettings(aev=name), tuple(sorted(order)))
    molecule = methanol()
    molecule.numbers[4:] = torch.tensor(order[-2:])
    expected = naive(PUBLISHED[name], order, molecule)
    assert int((expected > 1e-3).sum()) > 60
    torch.testing.assert_close(potential.describe(graph_of(potential, molecule)), expected, rtol=1e-11, atol=1e-13)


def test_straight_and_folded_angles_have_finite_second_derivatives():
    potential = make(AniSettings(hidden=(4,)), (1, 8))
    line = Structures.from_ase(Atoms("HOHH", [(0, 0, 0), (1, 0, 0), (2, 0, 0), (2.9, 0, 0)]))
    prediction = evaluate(potential, line, training=True)
    assert float(prediction.forces.detach().abs().max()) > 1e-3
    gradients = torch.autograd.grad(prediction.forces.square().sum(), list(potential.parameters()), allow_unused=True)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_the_jacobian_in_blocks_is_the_whole(monkeypatch):
    potential = make(AniSettings(), (8, 22))
    graph = graph_of(potential, random_structure(3, [8, 22, 8, 8, 22, 8]))
    values, whole = potential.describe_with_jacobian(graph)
    monkeypatch.setattr(ani, "TRIPLETS_AT_ONCE", 30)
    again, blocks = potential.describe_with_jacobian(graph)
    assert torch.equal(values, again)
    torch.testing.assert_close(blocks, whole, rtol=1e-13, atol=1e-13)
    assert float(whole.abs().max()) > 0.1


def test_widths_of_the_networks():
    potential = make(AniSettings(aev="ani1x"), (1, 6, 7, 8, 22))
    widths = [[n.layers[0].in_features, *(layer.out_features for layer in n.layers)] for n in potential.networks]
    k = potential.aev.width
    assert widths == [[k, 160, 128, 96, 1], [k, 144, 112, 96, 1], *[[k, 128, 112, 96, 1]] * 3]
    assert make(AniSettings(), (1, 6, 7, 8, 9, 16, 17)).networks[5].layers[0].in_features == 1008
    assert make(AniSettings(hidden=(7,)), (8,)).networks[0].layers[0].out_features == 7


def test_energy_by_hand():
    potential = make(AniSettings(hidden=(6, 5)), (1, 6, 8), seed=2)
    potential.set_energy_scale(0.7)
    potential.set_reference_energies({1: -1.0, 6: -2.0, 8: -3.0})
    lin = linearise(potential, methanol())

    def network(x):
        first, second, last = potential.networks[1].layers
        for layer in (first, second):
            x = layer.weight @ x + layer.bias
            x = torch.where(x > 0, x, 0.1 * (torch.exp(x / 0.1) - 1))
        return (last.weight @ x + last.bias)[0]

    expected = 0.7 * (network(lin.descriptors[0]) - network(0 * lin.descriptors[0])) - 2.0
    torch.testing.assert_close(potential(graph_of(potential, methanol()))[0], expected, rtol=1e-12, atol=1e-12)


def test_key_tells_descriptors_apart():
    keys = [make(AniSettings(aev=a), z).descriptor_key for a in ("ani1x", "ani2x", OWN) for z in ((8, 22), (1, 8))]
    assert len(set(keys)) == 6
    same = make(AniSettings(aev=AevSettings(), hidden=(3,)), (22, 8), seed=4)
    assert same.descriptor_key == make(AniSettings(aev="ani2x"), (8, 22)).descriptor_key
    assert isinstance(same, DescriptorPotential)


def test_refusals():
    with pytest.raises(ElementError, match="does not know Ti"):
        evaluate(make(AniSettings(), (1, 8)), Structures.from_ase(Atoms("TiO", [(0, 0, 0), (1.7, 0, 0)])))
    with pytest.raises(SettingsError, match="calc modes"):
        make(AniSettings(), (1, 8), modes=("a", "b"))
    with pytest.raises(ValueError, match="not inside the cutoffs"):
        AevSettings(start=4.0)


def frames(n):
    """Random structures of three atoms labelled by a toy."""
    teacher, out = make_toy(seed=3), []
    for k in range(n):
        structure = random_structure(k, [22, 8, 8])
        p = evaluate(teacher, structure)
        atoms = Atoms([22, 8, 8], structure.positions.numpy(), cell=structure.cell[0].numpy(), pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=float(p.energy[0]) - 2500.0, forces=p.forces.numpy())
        out.append(atoms)
    return out


@pytest.mark.slow
def test_a_committee_trains_and_comes_back(tmp_path):
    data = tmp_path / "frames.extxyz"
    write(data, frames(10))
    given = {
        "data": [data],
        "out": tmp_path / "run",
        "potential": {"name": "ani", "hidden": [16], "zbl": False},  # the toy knows no cores
        "members": 2,
        "epochs": 25,
        "batch_size": 2,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "split": {"valid": 0.2},
        "tensorboard": False,
        "precision": "float64",
    }
    result = run(TrainTaskSettings.model_validate(given), SilentReporter())
    model = load_model(result.model)
    assert [type(p) for p in model.potentials] == [Ani] * 2
    labels = [(a.get_potential_energy(), a.get_forces()) for a in frames(10)]
    one, other = model.evaluate_members([a for a in frames(10)])
    assert float((one.forces - other.forces).abs().max()) > 1e-3
    forces = torch.from_numpy(np.concatenate([f for _, f in labels]))
    for prediction in (one, other):
        assert float((prediction.forces - forces).square().mean().sqrt()) < 0.7 * float(forces.square().mean().sqrt())
