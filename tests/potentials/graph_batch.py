"""Structures and neighbours for tests of networks on graphs against plain loops."""

import math

import torch
from ase import Atoms
from ase.build import bulk

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.structures.structures import Structures

MODE = torch.tensor([1, 0, 1])


def batch():
    """A molecule, a crystal smaller than the cutoff, so that an atom sees its own images, and a lone atom."""
    crystal = bulk("TiO", "rocksalt", a=4.2)
    crystal.rattle(0.1, seed=1)
    return Structures.from_ase([Atoms("OTiO", [(0, 0, 0), (1.7, 0.2, 0), (1.9, 1.8, 0.4)]), crystal, Atoms("Ti")])


def ready(settings):
    """A potential of two calc modes with statistics of the batch and references that matter."""
    potential = make(settings, (8, 22), seed=2, modes=("PBE", "HSE06"))
    potential.set_reference_energies({8: -4.0, 22: -7.5}, 0)
    potential.set_reference_energies({8: -5.0, 22: -9.5}, 1)
    potential.set_energy_scale(0.7)
    with torch.no_grad():
        for parameter in potential.parameters():  # biases, too, and modes far apart
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)).double()
    structures = batch()
    potential.learn_statistics([build_graph(structures, find_edges(structures, potential.cutoff))])
    return potential


def neighbors_of(structures, r_c):
    """(j, r, f_c(r)) of each neighbour of each atom, f_c = exp(1 - 1 / (1 - x^2))."""
    edges = find_edges(structures, r_c)
    out = [[] for _ in structures.numbers]
    for i, j, v in zip(edges.i.tolist(), edges.j.tolist(), build_graph(structures, edges).vectors, strict=True):
        r = float(v.norm())
        out[i].append((j, r, math.exp(1 - 1 / (1 - (r / r_c) ** 2))))
    return out


def energies(potential, structures, outputs):
    """s (N_i - N(isolated atom)) + E0 of each atom, from `outputs(elements, modes, neighbours of each atom)`."""
    position = [potential.elements.index(z) for z in structures.numbers.tolist()]
    mode = MODE[structures.system].tolist()
    with torch.no_grad():
        together = outputs(position, mode, neighbors_of(structures, potential.cutoff))
        apart = outputs(position, mode, [[] for _ in position])
    references = torch.stack([potential.reference.energy[m, p] for m, p in zip(mode, position, strict=True)])
    return float(potential.energy_scale) * (torch.cat(together) - torch.cat(apart)) + references
