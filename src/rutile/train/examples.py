"""Training structures as the loop sees them: batches of labels, each with a function that predicts them.

What does not change while training is computed once: neighbour lists for any potential, descriptors with their
derivatives for a `DescriptorPotential`. Reference energies of isolated atoms are taken off the labels in float64, so
that training in float32 loses nothing; the potential is trained with references of 0.

Letters of shapes: n structures of the examples, N atoms, P pairs, K descriptor functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from rutile.core.errors import SettingsError
from rutile.core.reporting import Reporter
from rutile.data.arrays import gather
from rutile.data.frames import Labelled
from rutile.data.kept import LARGE
from rutile.data.statistics import References, reference_sums
from rutile.data.store import Store
from rutile.graph.graph import Edges, Graph, build_graph
from rutile.potentials.evaluate import evaluate, evaluate_linearised, periodic_volume, sum_by_system
from rutile.potentials.modes import listed
from rutile.potentials.placement import placement
from rutile.potentials.potential import DescriptorPotential, Linearised, Potential, Prediction
from rutile.structures.structures import Structures
from rutile.train.caches import Ragged, Room, cache_descriptors, cache_edges, fits
from rutile.train.ondemand import EdgesOnDemand, portions, sample
from rutile.train.sending import sent

Predict = Callable[[bool], Prediction]
"""(training) -> prediction of one batch."""
Compiled = Callable[[Graph], tuple[Tensor, Tensor] | None]
"""Energies and slopes as one graph; see `potentials.compiled`."""
BYTES_PER_ATOM, TABLE_BYTES = 64, 64e6
"""Labels that need less than this are kept in memory, ready to be put together; others are read when needed."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Examples(Protocol):
    """Structures to learn from, counted 0..n-1."""

    weights: Tensor
    """Weight of each structure in the loss, [n] float64."""
    sizes: np.ndarray
    """Atoms of each structure, [n] int64."""
    modes: np.ndarray
    """Name of the calc mode of each structure, [n] str."""

    def __len__(self) -> int:
        """Number of structures n."""
        ...

    @property
    def costs(self) -> np.ndarray:
        """Neighbour pairs of each structure, [n] int64: what a batch by edges counts."""
        ...

    def batch(self, ids: np.ndarray) -> tuple[Labelled, Predict]:
        """Labels of some structures, and the function that predicts them with the potential as it is then.

        Both are on the device of the potential.
        """
        ...

    def source(self, i: int) -> str:
        """Where structure i came from: "file.extxyz#12"."""
        ...

    def keep(self) -> None:
        """Make what was computed on the way, and is read the next time, safe on the disk."""
        ...


class _Labels:
    """What both kinds of examples know: which frames of the store, and their labels."""

    def __init__(self, store: Store, ids: np.ndarray, dtype: torch.dtype, references: References) -> None:
        self.store, self.ids, self.dtype = store, np.asarray(ids, dtype=np.int64), dtype
        self.weights = torch.from_numpy(np.asarray(store.array("weight"))[self.ids].astype(np.float64))
        self.sizes = store.sizes[self.ids]
        self.modes = np.array(store.calc_modes, dtype=np.str_)[store.array("mode")[self.ids]]
        self._references = references
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)])
        small = BYTES_PER_ATOM * self._starts[-1] < TABLE_BYTES
        self._table = self._read(np.arange(len(self.ids))) if small else None

    def __len__(self) -> int:
        return len(self.ids)

    def source(self, i: int) -> str:
        """Where structure i came from."""
        return self.store.source(int(self.ids[i])) or f"frame {int(self.ids[i])}"

    def keep(self) -> None:
        """Nothing was computed on the way."""

    def part(self, places: np.ndarray) -> Self:
        """Some of these structures, a place given twice counted twice, with the same caches and weights."""
        out = copy(self)
        _Labels.__init__(out, self.store, self.ids[places], self.dtype, self._references)
        out.weights = self.weights[torch.from_numpy(places)]
        out.__dict__.pop("costs", None)
        return out

    def _read(self, ids: np.ndarray) -> Labelled:
        """Labels of some structures from the store; energies without the references of their atoms."""
        batch = self.store.batch(self.ids[ids])
        batch.energy.sub_(torch.from_numpy(reference_sums(self.store, self._references, self.ids[ids])))
        return batch.to(dtype=self.dtype)

    def _labelled(self, ids: np.ndarray) -> Labelled:
        """Labels of some structures, from memory if they are there."""
        if self._table is None:
            return self._read(ids)
        t, sizes = self._table, self.sizes[ids]
        ends = np.cumsum(sizes)
        atoms = torch.from_numpy(np.repeat(self._starts[ids] - ends + sizes, sizes) + np.arange(sizes.sum()))
        i = torch.from_numpy(ids)
        structures = Structures(
            numbers=t.structures.numbers[atoms],
            positions=t.structures.positions[atoms],
            cell=t.structures.cell[i],
            pbc=t.structures.pbc[i],
            system=torch.from_numpy(np.repeat(np.arange(len(ids)), sizes)),
        )
        return Labelled(
            structures,
            energy=t.energy[i],
            forces=t.forces[atoms],
            stress=t.stress[i],
            has_energy=t.has_energy[i],
            has_forces=t.has_forces[i],
            has_stress=t.has_stress[i],
            weight=t.weight[i],
            index=t.index[i],
        )


class GraphExamples(_Labels):
    """Examples for any potential: neighbour lists are cached, the potential sees the graph.

    Args:
        store: labelled frames.
        ids: frames to use, in the order in which the loop counts them.
        potential: what predicts.
        references: energies of isolated atoms (eV), taken off the labels.
        dtype: precision of labels and geometry.
        edges: the cached neighbour lists of the whole store (`cache_edges`), shared between training and validation.
    """

    def __init__(
        self,
        store: Store,
        ids: np.ndarray,
        potential: Potential,
        *,
        references: References | None = None,
        dtype: torch.dtype = torch.float64,
        edges: Ragged | None = None,
    ) -> None:
        super().__init__(store, ids, dtype, references or {})
        self.potential = potential
        self.compiled: Compiled | None = None
        """Of the potential, for training; None: operation by operation."""
        self.edges = cache_edges(store, potential.cutoff) if edges is None else edges
        self._mode = torch.from_numpy(modes_of(store, potential)[self.ids])

    def keep(self) -> None:
        """Neighbour lists that were made in passing."""
        if isinstance(self.edges, EdgesOnDemand):
            self.edges.save()

    def part(self, places: np.ndarray) -> Self:
        """Some of these structures."""
        out = super().part(places)
        out._mode = self._mode[torch.from_numpy(places)]
        return out

    @cached_property
    def costs(self) -> np.ndarray:
        """Neighbour pairs of each structure."""
        return self.edges.sizes("ij")[self.ids]

    def graphs(self, per_batch: int = 32) -> Iterator[Graph]:
        """The graphs of all examples in order, in batches, for statistics; of a large store those of a sample."""
        for ids in portions(sample(self.store, self.ids), per_batch):
            yield build_graph(self._labelled(ids).structures, self._edges(ids), self._mode[torch.from_numpy(ids)])

    def batch(self, ids: np.ndarray) -> tuple[Labelled, Predict]:
        """Labels, and a prediction through the graph, where the potential is now."""
        device = placement(self.potential)[1]
        labelled = sent(self._labelled(ids), device)
        edges = sent(self._edges(ids), device)
        mode = sent(self._mode[torch.from_numpy(ids)], device)

        def predict(training: bool) -> Prediction:
            return evaluate(
                self.potential, labelled.structures, edges=edges, mode=mode, training=training, compiled=self.compiled
            )

        return labelled, predict

    def _edges(self, ids: np.ndarray) -> Edges:
        """Neighbours in some structures."""
        frames = self.ids[ids]
        rows, sizes = self.edges.get("ij", frames)
        shift, _ = self.edges.get("shift", frames)
        starts = np.concatenate([[0], np.cumsum(self.store.sizes[frames])[:-1]])
        ij = rows.astype(np.int64) + np.repeat(starts, sizes)[:, None]
        return Edges(
            torch.from_numpy(np.ascontiguousarray(ij[:, 0])),
            torch.from_numpy(np.ascontiguousarray(ij[:, 1])),
            torch.from_numpy(shift.astype(np.int64)),
            self.potential.cutoff,
        )


class LinearisedExamples(_Labels):
    """Examples for a potential with fixed descriptors: they and their derivatives are never computed again.

    Nor is the core repulsion, which is added to what the networks say: errors are those of the whole potential.

    Args:
        store: labelled frames.
        ids: frames to use, in the order in which the loop counts them.
        potential: what predicts; its descriptors must be those of the cache.
        references: energies of isolated atoms (eV), taken off the labels.
        dtype: precision of labels and arithmetic.
        cache: descriptors of the whole store (`cache_descriptors`), shared between training and validation.
    """

    def __init__(
        self,
        store: Store,
        ids: np.ndarray,
        potential: DescriptorPotential,
        *,
        references: References | None = None,
        dtype: torch.dtype = torch.float64,
        cache: Ragged | None = None,
    ) -> None:
        super().__init__(store, ids, dtype, references or {})
        self.potential = potential
        self.cache = cache_descriptors(store, potential, dtype) if cache is None else cache

    @cached_property
    def costs(self) -> np.ndarray:
        """Pairs of each structure."""
        return self.cache.sizes("pairs")[self.ids]

    def batch(self, ids: np.ndarray) -> tuple[Labelled, Predict]:
        """Labels, and a prediction from the cached descriptors, where the potential is now."""
        device = placement(self.potential)[1]
        on_host = self._labelled(ids)
        linearised = sent(self._linearised(self.ids[ids], on_host), device)
        labelled = sent(on_host, device)

        def predict(training: bool) -> Prediction:
            return evaluate_linearised(self.potential, linearised, training=training)

        return labelled, predict

    def descriptors(self, per_batch: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """Descriptors [N, K] and atomic numbers [N] of all structures, or a sample, in batches: for feature scaling."""
        offsets, numbers = self.store.array("offsets"), self.store.array("numbers")
        for ids in portions(sample(self.store, self.ids), per_batch):
            frames = self.ids[ids]
            rows, _ = self.cache.get("descriptors", frames)
            z = gather(numbers, offsets, frames)
            yield torch.from_numpy(rows), torch.from_numpy(z.astype(np.int64))

    def _linearised(self, frames: np.ndarray, labelled: Labelled) -> Linearised:
        structures = labelled.structures
        pairs, sizes = self.cache.get("pairs", frames)
        starts = np.concatenate([[0], np.cumsum(self.store.sizes[frames])[:-1]])
        pairs = pairs.astype(np.int64) + np.repeat(starts, sizes)[:, None]
        get = {
            name: torch.from_numpy(self.cache.get(name, frames)[0]) for name in ("descriptors", "d_pair", "d_strain")
        }
        return Linearised(
            numbers=structures.numbers,
            system=structures.system,
            volume=periodic_volume(structures),
            descriptors=get["descriptors"],
            pair_i=torch.from_numpy(np.ascontiguousarray(pairs[:, 0])),
            pair_j=torch.from_numpy(np.ascontiguousarray(pairs[:, 1])),
            d_pair=get["d_pair"],
            d_strain=get["d_strain"],
            core=self._core(frames, structures) if self.potential.core_reach else None,
        )

    def _core(self, frames: np.ndarray, structures: Structures) -> Prediction:
        """The cached core repulsion of some frames."""
        of_atoms = torch.from_numpy(self.cache.get("core", frames)[0])
        energy = sum_by_system(of_atoms[:, 0], structures.system, structures.n_systems)
        stress = torch.from_numpy(self.cache.get("core_stress", frames)[0])
        return Prediction(energy, of_atoms[:, 1:], stress, of_atoms[:, 0])


def modes_of(store: Store, potential: Potential) -> np.ndarray:
    """Number of each frame's calc mode among those of the potential, [F] int64; 0 where the potential has only one.

    Raises:
        SettingsError: the potential has several modes, and not one of the data's.
    """
    known: tuple[str, ...] = getattr(potential, "modes", ("",))
    number = np.array([known.index(mode_name(known, mode)) for mode in store.calc_modes], dtype=np.int64)
    return np.asarray(number[store.array("mode")])


def mode_name(known: Sequence[str], mode: str) -> str:
    """The mode of a potential that stands for a mode of the data: that of the same name, or its only one.

    Raises:
        SettingsError: the potential has several modes, and not that one.
    """
    if len(known) == 1:
        return known[0]
    if mode in known:
        return mode
    what = f"the calc mode {mode!r}" if mode else "frames that name no calc mode (read.modes={FILE: NAME} names it)"
    raise SettingsError(f"the potential does not know {what}; it knows {listed(known)}")


def make_examples(
    store: Store,
    sides: Mapping[str, np.ndarray],
    potential: Potential,
    *,
    references: References,
    dtype: torch.dtype,
    room: Room,
    reporter: Reporter,
) -> dict[str, GraphExamples] | dict[str, LinearisedExamples]:
    """Examples of each side of a split, of the cheaper kind, with one cache for all.

    Descriptors are kept where there is room for them; else, and always for a large store, they are computed in every
    step, which needs none of their derivatives one by one. Neighbour lists of a large store are kept as they are made.

    Args:
        store: labelled frames.
        sides: name of each side ("train", "valid", ...) -> its frames.
        potential: what predicts.
        references: energies of isolated atoms (eV), taken off the labels.
        dtype: precision while training.
        room: for what is computed once.
        reporter: shows progress.
    """
    large = len(store) >= LARGE
    if isinstance(potential, DescriptorPotential) and not large and fits(store, potential, dtype, room, reporter):
        cache = cache_descriptors(store, potential, dtype, folder=room.folder, memory=room.memory, reporter=reporter)
        return {
            side: LinearisedExamples(store, ids, potential, references=references, dtype=dtype, cache=cache)
            for side, ids in sides.items()
        }
    edges: Ragged = (
        EdgesOnDemand(store, potential.cutoff, reporter, room.folder, 1e9 * room.disk)
        if large
        else cache_edges(store, potential.cutoff, folder=room.folder, memory=room.memory, reporter=reporter)
    )
    return {
        side: GraphExamples(store, ids, potential, references=references, dtype=dtype, edges=edges)
        for side, ids in sides.items()
    }
