"""MEGNet: against a loop over atoms, edges and states, and the contract; its states are local."""

import math

import torch
from ase import Atoms
from graph_batch import MODE, batch, energies, ready

from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.settings import MEGNetSettings
from rutile.structures.structures import Structures
from rutile.testing.potential_contract import potential_contract

SMALL = MEGNetSettings(cutoff=4.0, channels=6, blocks=2, gaussians=9, hidden=(8, 5), readout=(7,), zbl=False)

TestMEGNet = potential_contract(lambda: make(SMALL, (8, 22), seed=0))


def ssp(x):
    return torch.log(0.5 * torch.exp(x) + 0.5)


def dense(layers, x):
    """Linear layers with the activation between them."""
    *hidden, last = layers
    for layer in hidden:
        x = ssp(layer.weight @ x + layer.bias)
    return last.weight @ x + last.bias


def naive(potential):
    """What the network says of each atom, by loops over atoms and edges."""

    def block_updates(block, first, v, e, u, neighbors):
        if not first:
            v, u = [dense(block.before_v.layers, x) for x in v], [dense(block.before_u.layers, x) for x in u]
            e = [[dense(block.before_e.layers, x) for x in mine] for mine in e]
        zero = torch.zeros(6, dtype=torch.float64)
        layers = [block.phi_e_first.linear, *block.phi_e.layers]
        new_e = [
            [dense(layers, torch.cat([v[i], u[i], v[j], e[i][k]])) for k, (j, _, _) in enumerate(mine)]
            for i, mine in enumerate(neighbors)
        ]
        sums = [
            sum((f * x for x, (_, _, f) in zip(new_e[i], mine, strict=True)), zero) for i, mine in enumerate(neighbors)
        ]
        n = float(potential.neighbors.mean)
        new_v = [dense(block.phi_v.layers, torch.cat([v[i], sums[i] / n, u[i]])) for i in range(len(v))]
        new_u = []
        for i, mine in enumerate(neighbors):
            weight = 1 + sum(f for _, _, f in mine)
            mean_v = (new_v[i] + sum((f * new_v[j] for j, _, f in mine), zero)) / weight
            new_u.append(dense(block.phi_u.layers, torch.cat([u[i], sums[i] / weight, mean_v])))
        return new_v, new_e, new_u

    def outputs(position, mode, neighbors):
        v, u = [potential.atom[p] for p in position], [potential.state[m] for m in mode]
        gaussians = [[[math.exp(-4 * (r - 0.5 * k) ** 2) for k in range(9)] for _, r, _ in mine] for mine in neighbors]
        e = [[dense(potential.edge.layers, torch.tensor(g, dtype=torch.float64)) for g in mine] for mine in gaussians]
        for b, block in enumerate(potential.blocks):
            new_v, new_e, new_u = block_updates(block, b == 0, v, e, u, neighbors)
            v, u = [x + y for x, y in zip(v, new_v, strict=True)], [x + y for x, y in zip(u, new_u, strict=True)]
            e = [[x + y for x, y in zip(p, q, strict=True)] for p, q in zip(e, new_e, strict=True)]
        out, n = [], float(potential.neighbors.mean)
        for i, mine in enumerate(neighbors):
            bonds = sum((f * x for x, (_, _, f) in zip(e[i], mine, strict=True)), torch.zeros(6).double())
            out.append(dense(potential.readout.layers, torch.cat([v[i], bonds / n, u[i]])))
        return out

    return outputs


def test_a_loop_gives_the_same_energies():
    potential = ready(SMALL)
    found = evaluate(potential, batch(), mode=MODE).atom_energy
    expected = energies(potential, batch(), naive(potential))
    assert (expected - potential.reference.energy[1, 1]).abs()[:-1].min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_fragments_far_apart_do_not_share_a_state():
    """With one state for the whole structure, as in the paper, they would."""
    potential = ready(SMALL)
    near, far = Atoms("TiO", [(0, 0, 0), (1.8, 0, 0)]), Atoms("O3", [(50, 0, 0), (51.3, 0, 0), (51.9, 1.1, 0)])
    whole = evaluate(potential, Structures.from_ase(near + far))
    parts = [evaluate(potential, Structures.from_ase(a)) for a in (near, far)]
    torch.testing.assert_close(whole.atom_energy, torch.cat([p.atom_energy for p in parts]), rtol=0, atol=1e-12)
    torch.testing.assert_close(whole.forces, torch.cat([p.forces for p in parts]), rtol=0, atol=1e-12)


def test_the_calc_mode_is_the_state():
    potential = ready(SMALL)
    potential.set_reference_energies({8: 0.0, 22: 0.0})
    forces = [evaluate(potential, batch(), mode=torch.full((3,), m)).forces for m in (0, 1)]
    assert (forces[0] - forces[1]).abs().max() > 1e-3
    with torch.no_grad():
        potential.state[1] = potential.state[0]
    forces[1] = evaluate(potential, batch(), mode=torch.ones(3, dtype=torch.long)).forces
    assert torch.equal(forces[0], forces[1])


def test_an_atom_feels_as_far_as_the_states_carry():
    """Two cutoffs in each block: the state of an atom sees the new features of its neighbours."""
    potential = make(SMALL.model_copy(update={"blocks": 1}), (8, 22), seed=1)
    ends = []
    for length in (3, 4):
        chain = Atoms("O" * length, [(2.5 * k, 0, 0) for k in range(length)])
        ends.append([evaluate(potential, Structures.from_ase(chain[:n])).atom_energy[0] for n in (length - 1, length)])
    assert abs(ends[0][0] - ends[0][1]) > 1e-7
    assert abs(ends[1][0] - ends[1][1]) < 1e-12
