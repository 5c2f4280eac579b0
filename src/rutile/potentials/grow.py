"""Growing a trained potential by elements and calc modes, so that what it said before stays to the last digit.

A tensor that has one row for each element (or mode) along some axis gets new rows; all other tensors are copied. Which
axes those are is seen from the shapes of the same potential made with more elements and with more modes. New elements
start with the random rows of a fresh potential; a new mode starts as a copy of the first one, so that fine-tuning to
another reference method begins with what the potential knows. Whether the old predictions have really stayed is tried.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from rutile.core.elements import symbol
from rutile.core.errors import ElementError, ModeError
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.parts.reference import one_mode
from rutile.potentials.potential import DescriptorPotential
from rutile.structures.structures import Structures

P = TypeVar("P", bound=TrainablePotential)
Shapes = dict[str, tuple[int, ...]]
TOLERANCE = 1e-9
"""Largest change of the energy of an atom, in energy scales (float64; 1e-4 in float32)."""


def grown(
    potential: P, elements: Sequence[int] = (), modes: Sequence[str] = (), generator: torch.Generator | None = None
) -> P:
    """A copy of the potential that also knows these elements and modes; the old predictions stay.

    Reference energies of new elements are 0, those of new modes are copied from the first one, until set.

    Args:
        potential: any; not changed.
        elements: atomic numbers that it shall know besides its own.
        modes: names of calc modes that it shall know besides its own; they come behind the old ones.
        generator: of the rows of new elements.

    Raises:
        ElementError: its parameters are tied to the elements it was made for.
        SettingsError: new modes, and it cannot tell modes apart.
        ModeError: its parameters are tied to the modes it was made for.
    """
    all_elements = tuple(sorted({*potential.elements, *elements}))
    all_modes = potential.modes + tuple(mode for mode in dict.fromkeys(modes) if mode not in potential.modes)
    if not potential.knows_modes and len(all_modes) > len(potential.modes):
        one_mode(potential.name, all_modes)
    if all_elements != potential.elements:
        if isinstance(potential, DescriptorPotential):
            raise _tied(potential, all_elements)
        potential = _grown(potential, all_elements, potential.modes, generator, _tied(potential, all_elements))
    if all_modes != potential.modes:
        refusal = ModeError(f"the potential {potential.name!r} cannot take new calc modes: train a new one on all data")
        potential = _grown(potential, potential.elements, all_modes, generator, refusal)
    return copy.deepcopy(potential)


def _tied(potential: TrainablePotential, elements: Sequence[int]) -> ElementError:
    new = ", ".join(symbol(z) for z in elements if z not in potential.elements)
    return ElementError(f"the potential {potential.name!r} is tied to its elements and does not know {new}")


def _grown(
    old: P, elements: tuple[int, ...], modes: tuple[str, ...], generator: torch.Generator | None, refusal: Exception
) -> P:
    """As `grown`, with more elements or with more modes; raises `refusal` if the old predictions do not stay."""
    maker: Any = type(old)
    new: P = maker(old.settings, elements, generator, modes)
    place = torch.tensor([elements.index(z) for z in old.elements])
    more_modes = len(modes) > len(old.modes)
    before = len(old.modes) if more_modes else len(old.elements)
    after = len(modes) if more_modes else len(elements)
    kept = old.state_dict()
    state = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    if kept.keys() - state.keys() or (not more_modes and state.keys() - kept.keys()):
        raise refusal
    for name, tensor in state.items():
        if name not in kept:
            tensor.zero_()  # what tells modes apart, where a single mode needs nothing
            continue
        axes = [d for d, (a, b) in enumerate(zip(kept[name].shape, tensor.shape, strict=False)) if a != b]
        sizes = {(kept[name].shape[d], tensor.shape[d]) for d in axes}
        if kept[name].ndim != tensor.ndim or not sizes <= {(before, after)}:
            raise refusal
        if tensor.is_floating_point():
            _copy_rows(kept[name], tensor, axes, None if more_modes else place)
    new.to(old.energy_scale.dtype)
    new.load_state_dict(state)
    new.train(old.training)
    if not _same(old, new):
        raise refusal
    return new


def _copy_rows(old: Tensor, new: Tensor, axes: Sequence[int], place: Tensor | None) -> None:
    """Put the old rows along the axes at their places; None: first, and the first of them into all rows behind."""
    index = [torch.arange(size) for size in old.shape]
    if place is not None:
        for d in axes:
            index[d] = place
    new[torch.meshgrid(index, indexing="ij") if index else ...] = old.to(new.dtype)
    for d in axes if place is None else []:
        behind = torch.arange(old.shape[d], new.shape[d])
        new.index_copy_(d, behind, new.index_select(d, torch.zeros_like(behind)))


def _same(old: TrainablePotential, new: TrainablePotential) -> bool:
    """Whether both say the same about a structure of all old elements, in all old modes."""
    scale, structures = old.energy_scale, _probe(old.elements)
    edges = find_edges(structures, old.cutoff).to(scale.device)
    placed = structures.to(dtype=scale.dtype, device=scale.device)
    tolerance = TOLERANCE if scale.dtype == torch.float64 else 1e-4
    for mode in range(len(old.modes)):
        graph = build_graph(placed, edges, torch.tensor([mode], device=scale.device))
        with torch.no_grad():
            if not bool(((old(graph) - new(graph)).abs() <= tolerance * scale).all()):
                return False
    return True


def _probe(elements: tuple[int, ...]) -> Structures:
    """Three atoms of each element on a disordered lattice, without period."""
    numbers = torch.tensor(elements * 3)
    side = round(len(numbers) ** (1 / 3) + 0.5)
    lattice = torch.cartesian_prod(*[torch.arange(float(side + 1), dtype=torch.float64)] * 3)[: len(numbers)]
    shake = torch.rand(lattice.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Structures(
        numbers,
        2.2 * lattice + 0.6 * shake,
        torch.zeros(1, 3, 3, dtype=torch.float64),
        torch.zeros(1, 3, dtype=torch.bool),
        torch.zeros_like(numbers),
    )
