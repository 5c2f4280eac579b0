"""DeePMD local frames: the contract, reference vectors, a naive loop, frames, mirrors, slots, and the jumps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rutile.core.elements import number
from rutile.core.errors import ElementError, SettingsError
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.checks import require_smooth, smoothness_note
from rutile.potentials.combine import Mean, Sum
from rutile.potentials.deepmd import TIE, SlotOverflowWarning, Slots, components, fill, local_frames, ranks
from rutile.potentials.evaluate import evaluate
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.save import load_model
from rutile.potentials.settings import BehlerSettings, DeepMDSettings, SumSettings
from rutile.structures.structures import Structures, concatenate
from rutile.testing.potential_contract import cluster, potential_contract
from rutile.testing.strategies import random_rotation, random_structure

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "spec"
NAMES = ["TiO2_trimer", "TiO2_rutile_rattled", "TiO2_small_triclinic", "CuAuOH_cluster", "CuAuOH_slab"]
SMALL = {"cutoff": 4.5, "full_cutoff": 3.0, "hidden": (8, 6)}


def graph_of(structures, cutoff):
    return build_graph(structures, find_edges(structures, cutoff))


def crystals(elements, count=8):
    return concatenate(random_structure(100 + s, [elements[k % len(elements)] for k in range(6)]) for s in range(count))


def learnt(elements=(8, 22), **settings):
    """Random networks behind slots and scaling learnt from random crystals."""
    potential = make(DeepMDSettings(**(SMALL | settings)), elements, 1)
    with torch.no_grad():
        potential.learn_statistics([graph_of(crystals(elements), potential.cutoff)])
    potential.set_energy_scale(2.0)
    potential.set_reference_energies({z: -3.0 * z for z in elements})
    return potential


def roomy():
    """Slots for every structure of the contract."""
    return make(DeepMDSettings(**SMALL, sel_full={"O": 12, "Ti": 12}, sel_radial={"O": 60, "Ti": 60}), (8, 22), 0)


TestDeepMD = potential_contract(roomy, smooth=False)


# -- reference vectors ---------------------------------------------------------------------------------------------


def vectors(name):
    data = json.loads((SPEC / "dp_vectors.json").read_text())
    return next(s for s in data["structures"] if s["name"] == name)


@pytest.mark.skipif(not SPEC.is_dir(), reason="no reference vectors beside this checkout")
@pytest.mark.parametrize("name", NAMES)
def test_components_agree_with_the_vectors(name):
    case = vectors(name)
    frame = case["loc_frame"]
    structures = Structures.from_arrays(
        np.array([number(s) for s in case["symbols"]]), case["positions"], case["cell"], case["pbc"]
    )
    graph = graph_of(structures, frame["r_c"])
    n, types = graph.n_atoms, case["types"]
    element = torch.tensor([types.index(s) for s in case["symbols"]])[graph.j]
    frames, has_frame = local_frames(graph.vectors, graph.i, n)
    expected = np.array([a["rotation_columns"] for a in frame["atoms"]])
    np.testing.assert_allclose(frames, expected, atol=1e-12)
    assert has_frame.all()
    local = torch.einsum("ea,eab->eb", graph.vectors, frames[graph.i])
    group = graph.i * len(types) + element
    r = graph.vectors.norm(dim=1)
    theirs = theirs_among_equals(group, r)
    slots = Slots(tuple(frame["sel_full"]), tuple(frame["sel_radial"]))
    d = fill(slots, graph.i, element, theirs, components(local, has_frame[graph.i]), n)
    np.testing.assert_allclose(d, [a["D"] for a in frame["atoms"]], rtol=0, atol=1e-10)
    ours = ranks(group, local, n * len(types))
    by_ours, by_theirs = (torch.empty_like(r).index_copy(0, place(group, k), r) for k in (ours, theirs))
    torch.testing.assert_close(by_ours, by_theirs, rtol=0, atol=TIE)


def theirs_among_equals(group, r):
    """Ranks by distance, ties in the order of the edges (atom, shift), as in the vectors."""
    rank = torch.empty_like(group)
    for g in group.unique():
        mine = (group == g).nonzero().squeeze(1)
        rank[mine[np.lexsort((mine, r[mine].numpy().round(12)))]] = torch.arange(len(mine))
    return rank


def place(group, rank):
    """Where a neighbour stands when all are sorted by group and rank."""
    counts = torch.bincount(group)
    return (torch.cumsum(counts, 0) - counts)[group] + rank


# -- a naive loop --------------------------------------------------------------------------------------------------


def naive(structures, potential, hand=1):
    """D of each atom by loops over one structure, scaled by nothing."""
    graph = graph_of(structures, potential.cutoff)
    rows = []
    for centre in range(graph.n_atoms):
        mine = [(int(j), v.numpy()) for i, j, v in zip(graph.i, graph.j, graph.vectors, strict=True) if i == centre]
        mine.sort(key=lambda n: np.linalg.norm(n[1]))
        a = mine[0][1] / np.linalg.norm(mine[0][1])
        b = next(v for _, v in mine if abs(v @ a) < (1 - 1e-4) * np.linalg.norm(v))
        b = b - (b @ a) * a
        b /= np.linalg.norm(b)
        c = hand * np.cross(a, b)
        full, radial = [], []
        for t, z in enumerate(potential.elements):
            near = [v for j, v in mine if int(structures.numbers[j]) == z]
            n, m = potential.slots.full[t], potential.slots.radial[t]
            blocks = [[1, v @ a / (r := np.linalg.norm(v)), v @ b / r, v @ c / r] / r for v in near[:n]]
            full += [x for block in blocks for x in block] + [0] * 4 * (n - len(blocks))
            tail = [1 / np.linalg.norm(v) for v in near[n : n + m]]
            radial += tail + [0] * (m - len(tail))
        rows.append(full + radial)
    return torch.tensor(np.array(rows))


@pytest.mark.parametrize("seed", range(3))
def test_energy_is_that_of_naive_loops(seed):
    potential = learnt((8, 14, 22), zbl=False)
    structures = random_structure(seed, [8, 14, 22, 8, 22, 8, 8], pbc=(False, False, False))
    position = torch.tensor([potential.elements.index(int(z)) for z in structures.numbers])
    energy = torch.zeros(len(position), dtype=torch.float64)
    for hand in (1, -1):
        d = naive(structures, potential, hand)
        if hand == 1:
            torch.testing.assert_close(potential.describe(graph_of(structures, potential.cutoff)), d)
        for k, p in enumerate(position.tolist()):
            net = potential.networks[p]
            bound, alone = ((x - potential.mean[p]) / potential.std[p] for x in (d[k], torch.zeros_like(d[k])))
            energy[k] += 0.5 * 2.0 * (net(bound) - net(alone)).item()
    energy += torch.tensor([-3.0 * z for z in structures.numbers.tolist()])
    torch.testing.assert_close(evaluate(potential, structures).atom_energy, energy)


def test_statistics_are_mean_and_std_of_the_training_set():
    potential = learnt()
    batch = crystals((8, 22))
    graph = graph_of(batch, potential.cutoff)
    d, rank = potential._neighbours(graph, potential.position(batch.numbers))
    element = potential.position(batch.numbers)[graph.j]
    both = torch.stack(
        [fill(potential.slots, graph.i, element, r, x, graph.n_atoms) for r, x in zip(rank, d, strict=True)]
    )
    for e, z in enumerate(potential.elements):
        mine = both[:, batch.numbers == z].flatten(0, 1)
        torch.testing.assert_close(mine.mean(0), potential.mean[e])
        torch.testing.assert_close(mine.std(0, correction=0).clamp(min=0.01), potential.std[e])
        assert (potential.std[e] > 0.01).sum() > 20


def test_slots_are_those_of_the_training_set():
    potential = learnt()
    graph = graph_of(crystals((8, 22)), potential.cutoff)
    r, z = graph.vectors.norm(dim=1), graph.numbers[graph.j]
    for t, name in enumerate(("O", "Ti")):
        mine = z == potential.elements[t]
        most = int(torch.bincount(graph.i[mine]).max())
        near = int(torch.bincount(graph.i[mine & (r < 3.0)]).max())
        assert potential.slots.full[t] == potential.settings.sel_full[name] == near > 0
        assert potential.slots.radial[t] == potential.settings.sel_radial[name] == most - near > 0
    given = learnt(sel_full={"Ti": 2, "O": 3})
    assert given.slots.full == (3, 2)
    assert [n + m for n, m in zip(given.slots.full, given.slots.radial, strict=True)] == [
        n + m for n, m in zip(potential.slots.full, potential.slots.radial, strict=True)
    ]


def test_learnt_slots_survive_saving(tmp_path):
    potential = learnt()
    Model([potential], ModelInfo(elements=potential.elements)).save(tmp_path / "model.rutile")
    back = load_model(tmp_path / "model.rutile").potential
    a = random_structure(3, [8, 22, 8])
    assert torch.equal(evaluate(back, a).energy, evaluate(potential, a).energy)
    whole = Sum(SumSettings(terms=(DeepMDSettings(**SMALL),)), (8, 22), torch.Generator().manual_seed(0))
    whole.learn_statistics([graph_of(crystals((8, 22)), whole.cutoff)])
    Model([whole], ModelInfo(elements=whole.elements)).save(tmp_path / "sum.rutile")
    assert torch.equal(evaluate(load_model(tmp_path / "sum.rutile").potential, a).energy, evaluate(whole, a).energy)
    again = learnt()
    for x, y in zip(again.parameters(), potential.parameters(), strict=True):
        assert torch.equal(x, y)


def test_overflow_drops_the_farthest_and_warns_once():
    potential = learnt((8,), sel_full={"O": 2}, sel_radial={"O": 1}, cutoff=6.0)
    points = [[0, 0, 0], [1.5, 0, 0], [0, 1.7, 0], [0, 0, 2.0], [-2.3, 0.3, 0.1]]
    with pytest.warns(SlotOverflowWarning, match=r"4 neighbours O within 6 Å, .* slots for 3") as caught:
        energy = evaluate(potential, cluster([8] * 5, points)).atom_energy
    assert len(caught) == 1
    points[4][0] -= 0.2
    moved = evaluate(potential, cluster([8] * 5, points)).atom_energy  # no second warning: warnings are errors
    assert moved[0] == energy[0]
    assert moved[4] != energy[4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sel_full": {"O": 3}}, "sel_full is for O: give it for O, Ti"),
        ({"sel_radial": {"O": 3, "Ti": 3, "H": 1}}, "sel_radial"),
        ({"sel_full": {"O": 0, "Ti": 0}, "sel_radial": {"O": 0, "Ti": 0}}, "no room"),
        ({"axes": {"O": {"first": ["H"]}}}, "axes names H"),
    ],
)
def test_wrong_slots_and_rules_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        make(DeepMDSettings.model_validate(settings), (8, 22))
    with pytest.raises(ElementError, match="Xx"):
        make(DeepMDSettings(sel_full={"Xx": 3}), (8,))


# -- frames --------------------------------------------------------------------------------------------------------


def frame_of(points, **kwargs):
    v = torch.tensor(points, dtype=torch.float64)
    frames, has = local_frames(v, torch.zeros(len(v), dtype=torch.long), 1, **kwargs)
    return frames[0], bool(has[0])


def test_first_axis_is_normalised_before_it_is_projected_out():
    """e[R_ib - (R_ia . R_ib) R_ia] with a plain R_ia of length 3 would not be orthogonal."""
    frame, _ = frame_of([[3.0, 0, 0], [1.0, 4.0, 0]])
    torch.testing.assert_close(frame, torch.eye(3).double())


def test_a_neighbour_in_line_is_passed_over():
    frame, has = frame_of([[1.0, 0, 0], [-1.5, 0, 0], [2.0, 0.01, 0], [0, 0, 2.5]])
    assert has
    torch.testing.assert_close(frame[:, 1], torch.tensor([0, 0, 1.0]).double())


@pytest.mark.parametrize("points", [[[1.0, 0, 0]], [[1.0, 0, 0], [-2.0, 0, 0]]])
def test_without_two_axes_only_distances_count(points):
    assert not frame_of(points)[1]
    potential = learnt((8,), cutoff=6.0)
    d = potential.describe(graph_of(cluster([8] * (len(points) + 1), [[0, 0, 0], *points]), 6.0))[0]
    full = d[: 4 * potential.slots.full[0]].view(-1, 4)
    assert full[: len(points), 0].tolist() == pytest.approx([1 / abs(p[0]) for p in points])
    assert not full[:, 1:].any()


def test_rules_prefer_elements_where_there_are_any():
    potential = learnt((1, 8), axes={"O": {"first": ["O"], "second": ["H"]}}, cutoff=6.0)
    numbers = [8, 1, 8, 8, 1]
    points = [[0, 0, 0], [0, 1.0, 0], [0, 0, 1.5], [1.2, 0, 0], [0, 0.2, 2.8]]
    graph = graph_of(cluster(numbers, points), 6.0)
    first, second = potential.prefers[:, 1, potential.position(graph.numbers)[graph.j]]
    frames, _ = local_frames(graph.vectors, graph.i, 5, first, second)
    torch.testing.assert_close(frames[0, :, :2], torch.tensor([[1.0, 0], [0, 1], [0, 0]]).double())
    alone = graph_of(cluster([8, 1, 1], [[0, 0, 0], [0, 0, 1.0], [1.1, 0, 0.1]]), 6.0)
    first, second = potential.prefers[:, 1, potential.position(alone.numbers)[alone.j]]
    assert local_frames(alone.vectors, alone.i, 3, first, second)[0][0, 2, 0] == 1.0  # no O: the nearest H


def test_reflection_turns_only_the_third_component():
    """Of a mirror image, e3 = e1 x e2 points the other way: D is not invariant, the mean over both hands is."""
    potential = learnt()
    a = random_structure(5, [8, 22, 8, 22, 8], pbc=(False, False, False))
    for q, sign in ((random_rotation(2), 1.0), (random_rotation(3), -1.0)):
        assert torch.linalg.det(q) == pytest.approx(sign)
        b = a.replace(positions=a.positions @ q)
        d, turned = (potential.describe(graph_of(x, potential.cutoff)) for x in (a, b))
        n = 4 * sum(potential.slots.full)
        signs = torch.ones(d.shape[1]).double()
        signs[3:n:4] = sign
        torch.testing.assert_close(turned, d * signs)
        assert d[:, 3:n:4].abs().max() > 0.05
        torch.testing.assert_close(evaluate(potential, b).energy, evaluate(potential, a).energy)


def test_perfect_crystals_have_one_energy():
    """Ties of distance are broken alike in every orientation, order of atoms and supercell."""
    potential = learnt(full_cutoff=3.5, cutoff=4.4)
    numbers = np.array([22, 22, 22, 22, 8, 8, 8, 8])
    cubic = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]) * 2.1
    energies = []
    for seed in range(6):
        q, order = random_rotation(seed).numpy(), np.random.default_rng(seed).permutation(8)
        cell = np.eye(3) * 4.2 @ q
        crystal = Structures.from_arrays(numbers[order], (cubic @ q)[order], cell, [True] * 3)
        energies.append(evaluate(potential, crystal).energy.item())
    assert np.ptp(energies) < 1e-9 * abs(energies[0])


# -- jumps ---------------------------------------------------------------------------------------------------------


def pulled(distance):
    """Atom 0 with neighbours at 1.6, 2 and `distance`, off the axes."""
    way = np.array([0.48, 0.6, 0.64])
    return cluster([22, 8, 8, 8], [[0, 0, 0], [1.6, 0, 0], [0, 0, -2.0], (distance * way).tolist()])


@pytest.mark.parametrize("border", [1.6, 2.0, 4.5])
def test_the_energy_jumps_at_swaps_and_at_the_cutoff(border):
    """First and second axis and rank at 1.6 and 2 Angstrom, the cutoff at 4.5: not hidden by any gap."""
    potential = learnt()
    for gap in (1e-2, 1e-3, 1e-4):
        e = evaluate(potential, concatenate([pulled(border - gap / 2), pulled(border + gap / 2)])).atom_energy
        assert abs(e[0] - e[4]) > 5e-3
    inside = evaluate(potential, concatenate([pulled(border - 0.1 - g) for g in (0.0, 1e-4)])).atom_energy
    assert abs(inside[0] - inside[4]) < 1e-3
    assert math.isfinite(float(inside.sum()))


def test_work_that_needs_continuous_forces_is_refused():
    rough, fine = learnt(), make(BehlerSettings(auto={"cutoff": 4.0}), (8, 22))
    assert smoothness_note(fine) == smoothness_note(Mean([fine, fine])) == ""
    require_smooth(fine, "a phonon calculation")
    for potential in (rough, Mean([rough, learnt()]), Sum.of([learnt()])):
        with pytest.raises(
            SettingsError, match=r"a phonon calculation needs .*'deepmd' is not smooth.*deeppot_se.*force"
        ):
            require_smooth(potential, "a phonon calculation")
