"""Symmetry functions by the compiled kernel (`symmetry.c`); by `symmetry_eager` where there is none.

The kernel serves float32 and float64 tensors on the CPU. `symmetry_functions` is differentiable: the first derivative
(vjp) and its derivative with respect to the cotangent (jvp), which training on forces needs, are compiled; the second
derivative with respect to the vectors (Hessians) goes through `symmetry_eager`.
Letters: N atoms, E edges, K functions.
"""

from __future__ import annotations

import dataclasses
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from rutile.core.native import function, library
from rutile.graph.graph import Graph
from rutile.potentials.parts import symmetry_eager
from rutile.potentials.parts.symmetry import CutoffName, SymmetryFunction, SymmetryTable

CUTOFF_CODES: dict[CutoffName, tuple[int, float, float, float]] = {
    "cosine": (0, 0.0, 0.0, 1.0),
    "tanh3": (1, 0.0, 0.0, 1.0),
    "tanh3_unit": (1, 0.0, 0.0, float(np.tanh(1.0) ** -3)),
    "poly1": (2, 2.0, 2.0, 6.0),
    "poly2": (2, 3.0, 3.0, 30.0),
    "poly3": (2, 4.0, 4.0, 140.0),
    "poly4": (2, 5.0, 5.0, 630.0),
    "exp": (3, 0.0, 0.0, 1.0),
    "envelope5": (2, 3.0, 5.0, 105.0),
    "envelope6": (2, 3.0, 6.0, 168.0),
}
"""Name -> (kind, a, b, norm) as `cutoff` in symmetry.c reads them. Polynomials are y^a sum_{m<b} C(m+a-1, m) x^m with
y = 1 - x, whose derivative is -norm x^(b-1) y^(a-1)."""

TAME = 80.0
"""Exponents -x with x below this need no care in either precision."""

MANY = 4
"""From so many energies on a Jacobian for all is cheaper than a vjp for each."""

FEW_EDGES = 400
"""Below this the work is done before a second thread has started."""


def symmetry_functions(table: SymmetryTable, graph: Graph) -> Tensor:
    """Descriptors of every atom, [N, K]; what `symmetry_eager.symmetry_functions` gives, up to rounding."""
    if not _serves(graph):
        return symmetry_eager.symmetry_functions(table, graph)
    values: Tensor = _Values.apply(graph.vectors, _Work(table, graph))  # type: ignore[no-untyped-call]
    return values


def symmetry_jacobian(table: SymmetryTable, graph: Graph) -> tuple[Tensor, Tensor]:
    """Descriptors [N, K] and J[e] = d G(i_e) / d vectors(e), [E, K, 3] (1/Angstrom), without gradient."""
    if not _serves(graph):
        return symmetry_eager.symmetry_jacobian(table, graph)
    vectors = graph.vectors.detach()
    values = vectors.new_zeros(graph.n_atoms, table.width)
    jacobian = vectors.new_zeros(len(vectors), table.width, 3)
    _Work(table, graph).run("jacobian", vectors, values, jacobian)
    return values, jacobian


def symmetry_vjps(table: SymmetryTable, graph: Graph, cotangents: Tensor) -> Tensor:
    """p[m, e] = sum_k c[m, i_e, k] dG(i_e)_k / d vectors(e) of several energies at once, without gradient.

    The kernel makes the Jacobian of one centre at a time and multiplies it with all cotangents while it is in the
    cache; of few energies each has its own pass.

    Args:
        table: the functions.
        graph: a batch.
        cotangents: dE_m/dG of the first n atoms, beyond which there are no edges, [M, n, K].

    Returns:
        dE_m/dvectors, [M, E, 3] (eV/Angstrom).
    """
    vectors, (m, n, k) = graph.vectors.detach(), cotangents.shape
    if not _serves(graph) or m < MANY:
        with torch.enable_grad():
            leaf = vectors.requires_grad_()
            values = symmetry_functions(table, dataclasses.replace(graph, vectors=leaf))[:n]
            if not values.requires_grad:
                return vectors.new_zeros(m, len(vectors), 3)
            pushes = [torch.autograd.grad(values, leaf, c, retain_graph=True)[0] for c in cotangents]
        return torch.stack(pushes)
    whole = 64 // vectors.element_size()  # members in a row of the kernel: whole vectors of the processor
    padded = vectors.new_zeros(graph.n_atoms, k, (m + whole - 1) // whole * whole)
    padded[:n, :, :m] = cotangents.permute(1, 2, 0)
    out = vectors.new_zeros(len(vectors), 3, padded.shape[2])
    _Work(table, graph).run("vjps", vectors, padded, out, members=padded.shape[2])
    return out[:, :, :m].permute(2, 0, 1).contiguous()


def _serves(graph: Graph) -> bool:
    vectors = graph.vectors
    right = vectors.device.type == "cpu" and vectors.dtype in (torch.float64, torch.float32)
    return right and library() is not None


@dataclass(frozen=True)
class _Plan:
    """A table as `read_plan` in symmetry.c reads it."""

    ints: np.ndarray
    reals: np.ndarray


class _Work:
    """One graph and one table: all that the kernel needs besides vectors."""

    def __init__(self, table: SymmetryTable, graph: Graph) -> None:
        self.table, self.graph = table, graph
        self.plan = _plan_of(table)

    def run(self, what: str, vectors: Tensor, *arrays: Tensor, members: int | None = None) -> None:
        """Call symmetry_`what`; arrays are inputs and zeroed outputs, all contiguous and of the vectors' dtype.

        Args:
            what: name of the entry point.
            vectors: r_ij, [E, 3].
            arrays: its other arrays.
            members: its last argument, where it has one.

        Raises:
            MemoryError: the kernel got no memory for its work space.
        """
        graph, plan = self.graph, self.plan
        last = () if members is None else (members,)
        name = f"symmetry_{what}_{'f64' if vectors.dtype == torch.float64 else 'f32'}"
        kernel = function(name, "pnpnnpppni" + "p" * (1 + len(arrays)) + "n" * len(last))
        i, j, numbers = graph.i.contiguous(), graph.j.contiguous(), graph.numbers.contiguous()
        vectors = vectors.contiguous()
        threads = torch.get_num_threads() if len(i) > FEW_EDGES else 1
        failed = kernel(
            plan.ints.ctypes.data,
            len(plan.ints),
            plan.reals.ctypes.data,
            len(numbers),
            len(i),
            i.data_ptr(),
            j.data_ptr(),
            numbers.data_ptr(),
            self.table.width,
            threads,
            vectors.data_ptr(),
            *(a.data_ptr() for a in arrays),
            *last,
        )
        if failed:
            raise MemoryError("symmetry functions: no memory for the work space of the neighbours")


class _Values(Function):
    """G(vectors), [N, K]."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, work: _Work) -> Tensor:
        ctx.save_for_backward(vectors)
        ctx.work = work
        out = vectors.new_zeros(work.graph.n_atoms, work.table.width)
        work.run("values", vectors, out)
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (vectors,) = ctx.saved_tensors
        gradient: Tensor = _Gradient.apply(cotangents[0], vectors, ctx.work)  # type: ignore[no-untyped-call]
        return gradient, None


class _Gradient(Function):
    """sum_ik c_ik dG_ik/dvectors, [E, 3], of cotangents c [N, K]: linear in c."""

    @staticmethod
    def forward(ctx: Any, cotangent: Tensor, vectors: Tensor, work: _Work) -> Tensor:
        ctx.save_for_backward(cotangent, vectors)
        ctx.work = work
        out = torch.zeros_like(vectors, memory_format=torch.contiguous_format)
        work.run("vjp", vectors, cotangent.contiguous(), out)
        return out

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        cotangent, vectors = ctx.saved_tensors
        to_cotangent = to_vectors = None
        if ctx.needs_input_grad[0]:
            to_cotangent = _Change.apply(tangents[0], vectors, ctx.work)  # type: ignore[no-untyped-call]
        if _wanted(ctx, 1):
            to_vectors = _curvature(ctx.work, cotangent, vectors, tangents[0])
        return to_cotangent, to_vectors, None


class _Change(Function):
    """sum_e u_e . dG_ik/dvectors(e), [N, K], of tangents u [E, 3]: linear in u."""

    @staticmethod
    def forward(ctx: Any, tangent: Tensor, vectors: Tensor, work: _Work) -> Tensor:
        ctx.save_for_backward(tangent, vectors)
        ctx.work = work
        out = vectors.new_zeros(work.graph.n_atoms, work.table.width)
        work.run("jvp", vectors, tangent.contiguous(), out)
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        tangent, vectors = ctx.saved_tensors
        to_tangent = to_vectors = None
        if ctx.needs_input_grad[0]:
            to_tangent = _Gradient.apply(cotangents[0], vectors, ctx.work)  # type: ignore[no-untyped-call]
        if _wanted(ctx, 1):
            to_vectors = _curvature(ctx.work, cotangents[0], vectors, tangent)
        return to_tangent, to_vectors, None


def _wanted(ctx: Any, n: int) -> bool:
    """Whether the running backward pass will use the gradient of input n; not so if `inputs=` asks for others only."""
    if not ctx.needs_input_grad[n]:
        return False
    node = ctx.next_functions[n][0]
    try:
        return node is not None and bool(torch._C._will_engine_execute_node(node))
    except (AttributeError, RuntimeError):  # a leaf in autograd.grad, or another version of PyTorch: be safe
        return True


def _curvature(work: _Work, cotangent: Tensor, vectors: Tensor, tangent: Tensor) -> Tensor:
    """d/dvectors of sum c_ik u_e . dG_ik/dvectors(e), [E, 3], in plain PyTorch."""
    graph = work.graph
    with torch.enable_grad():
        leaf = vectors if vectors.requires_grad else vectors.detach().requires_grad_()
        again = dataclasses.replace(graph, vectors=leaf)
        values = symmetry_eager.symmetry_functions(work.table, again)
        (gradient,) = torch.autograd.grad(values, leaf, cotangent, create_graph=True)
        if not gradient.requires_grad:
            return torch.zeros_like(vectors)
        (curvature,) = torch.autograd.grad(gradient, leaf, tangent, create_graph=torch.is_grad_enabled())
    return curvature


_PLANS: dict[int, _Plan] = {}


def _plan_of(table: SymmetryTable) -> _Plan:
    """The plan of a table, made once for each table object."""
    key = id(table)
    if key not in _PLANS:
        _PLANS[key] = make_plan(table)
        weakref.finalize(table, _PLANS.pop, key, None)
    return _PLANS[key]


def make_plan(table: SymmetryTable) -> _Plan:
    """The functions of every centre, grouped so that what they share is computed once; see `Plan` in symmetry.c."""
    kind, a, b, norm = CUTOFF_CODES[table.cutoff_function]
    species = sorted({z for group in table.functions.values() for f in group for z in f.neighbors})
    ints: list[int] = [kind, len(species), *_positions(table.elements), *_positions(species), len(table.elements)]
    reals: list[float] = [a, b, norm]
    for z in table.elements:
        columns = list(enumerate(table.functions[z]))
        cutoffs = sorted({f.r_c for _, f in columns})
        ints.append(len(cutoffs))
        for r_c in cutoffs:
            _add_shell(ints, reals, [(k, f) for k, f in columns if f.r_c == r_c], species)
    return _Plan(np.array(ints, dtype=np.int64), np.array(reals, dtype=np.float64))


def _positions(elements: tuple[int, ...] | list[int]) -> list[int]:
    """[119]: place of each atomic number among `elements`, -1 where it is not."""
    place = {z: p for p, z in enumerate(elements)}
    return [place.get(z, -1) for z in range(119)]


Column = tuple[int, SymmetryFunction]


def _add_shell(ints: list[int], reals: list[float], columns: list[Column], species: list[int]) -> None:
    """The functions of one centre element with one cutoff."""
    radial = _grouped(columns, lambda f: (f.neighbors,), angular=False)
    angular = _grouped(columns, lambda f: (f.kind, f.neighbors, f.r_s), angular=True)
    factors = sorted({(f.eta, f.r_s) for group in angular for _, f in group})
    reals.append(columns[0][1].r_c)
    ints += [len(radial), len(factors), len(angular)]
    for group in radial:
        ints += [species.index(group[0][1].neighbors[0]), len(group), *(k for k, _ in group)]
        reals += [f.eta for _, f in group] + [f.r_s for _, f in group]
    reals += [eta for eta, _ in factors] + [shift for _, shift in factors]
    for group in angular:
        _add_angular(ints, reals, group, species, factors)


def _add_angular(
    ints: list[int],
    reals: list[float],
    group: list[Column],
    species: list[int],
    factors: list[tuple[float, float]],
) -> None:
    """Angular functions of one kind, pair of neighbours, cutoff and shift, sorted by eta."""
    first = group[0][1]
    etas = sorted({f.eta for _, f in group})
    powers = sorted({(f.lambda_, f.zeta) for _, f in group})
    powers += powers[: len(powers) % 2]  # an even number
    column = {(f.eta, f.lambda_, f.zeta): k for k, f in group}
    low, high = (species.index(z) for z in first.neighbors)
    tame = first.r_s == 0.0 and etas[0] >= 0.0 and etas[-1] * first.r_c**2 < TAME
    ints += [low, high, int(first.kind == "G4"), len(etas), len(powers), int(tame)]
    reals.append(first.r_s)
    ints += [factors.index((eta, first.r_s)) for eta in etas]
    reals += etas
    ints += [_place(powers[:p], (lambda_, zeta / 2.0)) for p, (lambda_, zeta) in enumerate(powers)]
    ints += [int(zeta) if zeta == int(zeta) else 0 for _, zeta in powers]
    reals += [lambda_ for lambda_, _ in powers] + [zeta for _, zeta in powers]
    ints += [column.pop((eta, *power), -1) for eta in etas for power in powers]


def _place(powers: list[tuple[float, float]], power: tuple[float, float]) -> int:
    return powers.index(power) if power in powers else -1


def _grouped(columns: list[Column], key: Any, *, angular: bool) -> list[list[Column]]:
    """Different functions with the same key, in order of first appearance."""
    groups: dict[Any, list[Column]] = {}
    for k, f in columns:
        if (f.kind != "G2") == angular:
            again = sum(f == other for _, other in columns[: columns.index((k, f))])  # the same function once more
            groups.setdefault((key(f), again), []).append((k, f))
    return list(groups.values())
