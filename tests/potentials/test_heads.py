"""Shallow ensembles: heads on one trunk, their spread, and training that lets each of them fit the labels."""

import numpy as np
import pytest
import torch

from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data.frames import Frame
from rutile.data.store import build_store
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.combine import Mean, Sum, mean, spread
from rutile.potentials.evaluate import evaluate, evaluate_members
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.parts.heads import heads_of, one_head_each
from rutile.potentials.save import load_model
from rutile.potentials.settings import AnataseSettings, ZBLSettings
from rutile.structures.structures import concatenate
from rutile.testing.potential_contract import STENCIL, STEP, cluster, potential_contract, slope
from rutile.testing.strategies import random_structure
from rutile.train.examples import GraphExamples
from rutile.train.fit import fit
from rutile.train.settings import Adam, Cosine, TrainSettings

TINY = {
    "channels": 4, "radial": 4, "sources": 2, "hidden": 8, "embedding": 3, "waves": 4, "radial_hidden": 8,
    "readout": 4, "cutoffs": (4.0,),
}  # fmt: skip
TestHeads = potential_contract(lambda: make(AnataseSettings(**TINY, heads=3), (8, 22), seed=0), n_atoms=4)


def ensemble(heads=3, **more):
    return make(AnataseSettings(**TINY, heads=heads), (8, 22), seed=1, **more)


def structures():
    return concatenate([random_structure(k, [8, 22, 8, 8][: 4 - k], pbc=(k == 0,) * 3) for k in range(3)])


def test_the_energy_is_the_mean_of_the_heads():
    whole, batch = ensemble(), structures()
    members = evaluate_members(heads_of(whole), batch)
    assert len(members) == 3
    together = evaluate(whole, batch)
    for name in ("energy", "forces", "stress", "atom_energy"):
        torch.testing.assert_close(getattr(mean(members), name), getattr(together, name))
    said = spread(members)
    assert said.energy.min() > 1e-3
    assert said.forces.norm(dim=1).max() > 1e-3


def test_a_head_is_what_a_potential_with_its_weights_alone_says():
    whole, batch = ensemble(), structures()
    state = whole.state_dict()
    for k, one in enumerate(evaluate_members(heads_of(whole), batch)):
        alone = make(AnataseSettings(**TINY), (8, 22), seed=5)
        rows = {"hidden.weight": slice(4 * k, 4 * k + 4), "hidden.bias": slice(4 * k, 4 * k + 4)}
        rows |= {"out.weight": slice(k, k + 1), "out.bias": slice(k, k + 1)}
        alone.load_state_dict({n: v[..., rows[n]] if n in rows else v for n, v in state.items()})
        expected = evaluate(alone, batch)
        torch.testing.assert_close(one.energy, expected.energy)
        torch.testing.assert_close(one.forces, expected.forces)
        torch.testing.assert_close(one.stress, expected.stress)


def test_the_std_of_the_forces_by_differences():
    members, a = heads_of(ensemble()), random_structure(4, [8, 22, 8])
    moved = []
    for s in STENCIL:
        x = a.positions.clone()
        x[1, 2] += s * STEP
        moved.append(a.replace(positions=x))
    batch = concatenate(moved)
    forces = torch.stack([-slope(p.energy.unbind()) for p in evaluate_members(members, batch)])
    found = spread(evaluate_members(members, a)).forces[1, 2]
    torch.testing.assert_close(found, forces.std(correction=0), rtol=1e-6, atol=1e-9)
    assert found > 1e-3


def test_one_head_is_as_without():
    """Names, shapes and values of the weights are those of models made before there were heads."""
    one, state = ensemble(1), ensemble(1).state_dict()
    assert state["hidden.weight"].shape == (7, 4)
    assert state["out.weight"].shape == (4, 1)
    assert state["out.bias"].shape == (1,)
    assert heads_of(one) == [one]


def test_the_trunk_is_computed_once():
    whole, batch, calls = ensemble(), structures(), []
    whole.layers[0].register_forward_hook(lambda *_: calls.append(1))
    evaluate_members(heads_of(whole), batch)
    assert len(calls) == 1
    expected = evaluate(whole, batch)
    calls.clear()
    torch.testing.assert_close(evaluate(Mean(heads_of(whole)), batch).forces, expected.forces)
    assert len(calls) == 1


@pytest.mark.parametrize("modes", [("",), ("PBE", "SCAN")])
def test_models_say_the_spread(tmp_path, modes):
    whole, batch = ensemble(modes=modes), structures()
    Model([whole], ModelInfo(elements=(8, 22))).save(tmp_path / "model.rutile")
    model, mode = load_model(tmp_path / "model.rutile"), modes[-1]
    number = torch.full((3,), len(modes) - 1)
    expected = evaluate_members(heads_of(whole), batch, mode=number)
    members = model.evaluate_members(batch, mode=mode)
    torch.testing.assert_close(torch.stack([p.energy for p in members]), torch.stack([p.energy for p in expected]))
    torch.testing.assert_close(model.evaluate(batch, mode=mode).forces, mean(expected).forces)
    atoms = batch.to_ase()[0]
    atoms.calc = model.calculator(mode=mode)
    assert float(atoms.get_potential_energy()) == pytest.approx(float(mean(expected).energy[0]))
    assert atoms.calc.results["energy_std"] == pytest.approx(float(spread(expected).energy[0]))
    found = torch.from_numpy(atoms.calc.results["forces_std"])
    torch.testing.assert_close(found, spread(expected).forces[: len(atoms)])
    alone = model.calculator(mode=mode, head_spread=False)
    assert alone.get_potential_energy(atoms) == pytest.approx(float(mean(expected).energy[0]))
    assert "forces_std" not in alone.implemented_properties


def test_in_a_sum():
    network, batch = ensemble(), structures()
    before = evaluate_members(heads_of(network), batch)
    repulsion = make(ZBLSettings(), (8, 22))
    core = evaluate(repulsion, batch)
    after = evaluate_members(heads_of(Sum.of([network, repulsion])), batch)
    assert len(after) == 3
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a.energy, b.energy + core.energy)
    with pytest.raises(SettingsError, match="heads"):
        Sum.of([ensemble(2), ensemble(3)])


def test_a_lesson_is_answered_by_one_head_for_each_structure():
    whole = ensemble()
    batch = concatenate([random_structure(3, [8, 22])] * 40)
    graph = build_graph(batch, find_edges(batch, whole.cutoff))
    heads, usual = whole.head_energies(graph), whole(graph)
    answers = {}
    for seed in (0, 0, 1):
        with one_head_each(whole, seed):
            said = whole(graph)
        which = (said.view(40, 2) - heads.view(3, 40, 2)).abs().sum(2).argmin(0)
        torch.testing.assert_close(said.view(40, 2), heads.view(3, 40, 2)[which, torch.arange(40)])
        assert which.bincount(minlength=3).min() > 4
        assert torch.equal(answers.setdefault(seed, which), which)
    assert not torch.equal(answers[0], answers[1])
    assert torch.equal(whole(graph), usual)


def morse(r):
    """Energy and its slope."""
    e = np.exp(-1.6 * (r - 1.8))
    return 3.0 * (e * e - 2 * e), 6.0 * 1.6 * (e - e * e)


def pairs(folder, distances):
    """A store of O-Ti pairs with labels of a Morse curve."""
    frames = []
    for r in distances:
        energy, push = morse(r)
        forces = np.array([[0, 0, push], [0, 0, -push]])
        positions = np.array([[0, 0, 0], [0, 0, r]])
        frames.append(Frame(np.array([8, 22]), positions, np.zeros((3, 3)), np.zeros(3, bool), energy, forces))
    return build_store(frames, folder / "store", SilentReporter())


def train(store, folder, *, epochs, **more):
    folder.mkdir(exist_ok=True)
    potential = ensemble(4)
    potential.set_energy_scale(1.0)
    examples = GraphExamples(store, np.arange(len(store)), potential)
    settings = TrainSettings(
        epochs=epochs, batch_size=6, optimizer=Adam(learning_rate=0.02), schedule=Cosine(stop=0.01), ema=None,
        precision="float64", tensorboard=False, checkpoint_seconds=1e6, clip_norm=10.0,
    )  # fmt: skip
    result = fit(potential, examples, examples, settings, folder, SilentReporter(), **more)
    return potential, result


@pytest.mark.slow
def test_each_head_fits_and_they_disagree_where_they_are_wrong(tmp_path):
    """Trained from 1.6 to 2.3 Angstrom: the heads know what they do not know."""
    whole, _ = train(pairs(tmp_path, np.linspace(1.6, 2.3, 12)), tmp_path / "run", epochs=100)
    inside, outside = np.array([1.63, 1.75, 1.95, 2.2]), np.array([1.1, 1.2, 1.35])
    error, said = {}, {}
    for name, distances in (("inside", inside), ("outside", outside)):
        batch = concatenate(cluster([8, 22], [[0, 0, 0], [0, 0, float(r)]]) for r in distances)
        members = evaluate_members(heads_of(whole), batch)
        energies = torch.stack([p.energy for p in members]).numpy()
        error[name] = np.abs(energies - morse(distances)[0])
        said[name] = energies.std(0)
    assert error["inside"].max() < 0.1
    assert error["inside"].mean() < 0.05
    assert error["outside"].mean() > 10 * error["inside"].mean()
    assert said["outside"].min() > 2 * said["inside"].max() > 0


@pytest.mark.slow
def test_training_goes_on_bit_for_bit(tmp_path):
    store, steps = pairs(tmp_path, np.linspace(1.6, 2.3, 12)), []
    whole, _ = train(store, tmp_path / "whole", epochs=3)
    _, broken = train(
        store, tmp_path / "parts", epochs=3, stop=lambda: steps.append(1) or ("x" if len(steps) == 3 else None)
    )
    assert broken.steps == 3
    again, _ = train(store, tmp_path / "parts", epochs=3, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
