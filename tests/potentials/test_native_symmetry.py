"""The compiled symmetry functions against the eager ones, for random tables and structures."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.core import native
from rutile.graph.graph import Edges, Graph, build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.parts import symmetry_eager, symmetry_native
from rutile.potentials.parts.cutoff import CUTOFFS
from rutile.potentials.parts.symmetry import SymmetryFunction, SymmetryTable
from rutile.structures.structures import Structures, concatenate
from rutile.testing.potential_contract import cluster

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no kernels: {native.kernels().reason}")

ELEMENTS = (1, 8, 22)
PAIRS = tuple((a, b) for a in ELEMENTS for b in ELEMENTS if a <= b)


def radial(neighbor: int, eta: float, shift: float, cutoff: float) -> SymmetryFunction:
    return SymmetryFunction("G2", (neighbor,), eta, shift, cutoff)


RADIAL = st.builds(
    radial,
    st.sampled_from(ELEMENTS),
    st.floats(0, 3),
    st.sampled_from([0.0, 0.9, 2.0]),
    st.sampled_from([3.0, 4.0, 4.5]),
)
ANGULAR = st.builds(
    SymmetryFunction,
    kind=st.sampled_from(["G4", "G5"]),
    neighbors=st.sampled_from(PAIRS),
    eta=st.sampled_from([0.0, 0.01, 0.08, 0.5]),
    r_s=st.sampled_from([0.0, 0.0, 1.1]),
    r_c=st.sampled_from([3.0, 4.0, 4.5]),
    lambda_=st.sampled_from([-1.0, 1.0]),
    zeta=st.sampled_from([1.0, 2.0, 3.0, 4.0, 16.0, 1.5, 5.25]),
)
FUNCTIONS = st.lists(st.one_of(RADIAL, ANGULAR, ANGULAR), min_size=1, max_size=12).map(tuple)
TABLES = st.builds(
    SymmetryTable,
    name=st.just("random"),
    functions=st.dictionaries(st.sampled_from(ELEMENTS), FUNCTIONS, min_size=1),
    cutoff_function=st.sampled_from(sorted(CUTOFFS)),
)


def random_graph(seed: int, n_atoms: int, dtype: torch.dtype = torch.float64, periodic: bool = True) -> Graph:
    """A random structure with atoms at least 0.7 Angstrom apart, images included."""
    generator = torch.Generator().manual_seed(seed)
    cell = torch.diag(torch.tensor([3.4, 3.9, 4.3])) + 0.5 * torch.rand(3, 3, generator=generator)
    grid = torch.cartesian_prod(*[torch.arange(3)] * 3)[torch.randperm(27, generator=generator)[:n_atoms]]
    fractional = (grid + 0.4 * torch.rand(n_atoms, 3, generator=generator)) / 3.0
    numbers = torch.tensor(ELEMENTS)[torch.randint(3, (n_atoms,), generator=generator)]
    structure = Structures.from_arrays(
        numbers.numpy(), (fractional @ cell).numpy(), cell.numpy(), torch.full((3,), periodic).numpy(), torch.float64
    )
    return build_graph(structure.to(dtype=dtype), find_edges(structure, 4.5))


def with_vectors(graph: Graph, vectors: torch.Tensor) -> Graph:
    return replace(graph, vectors=vectors)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> bool:
    scale = max(1e-3, float(b.abs().max())) if b.numel() else 1.0
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * scale).all())


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(table=TABLES, seed=st.integers(0, 1000), n_atoms=st.integers(1, 9), periodic=st.booleans())
def test_values_gradients_and_jacobian_equal_the_eager_ones(
    table: SymmetryTable, seed: int, n_atoms: int, periodic: bool
) -> None:
    graph = random_graph(seed, n_atoms, periodic=periodic)
    generator = torch.Generator().manual_seed(seed)
    results = []
    for module in (symmetry_native, symmetry_eager):
        vectors = graph.vectors.clone().requires_grad_()
        values = module.symmetry_functions(table, with_vectors(graph, vectors))
        cotangent = torch.randn(values.shape, generator=generator.manual_seed(1), dtype=values.dtype)
        gradient = torch.zeros_like(vectors)
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values, vectors, cotangent)
        results.append((values.detach(), gradient, *module.symmetry_jacobian(table, graph)))
    for native_one, eager_one in zip(*results, strict=True):
        assert close(native_one, eager_one)


@pytest.mark.parametrize("cutoff_function", sorted(CUTOFFS))
def test_every_cutoff_function_has_a_code(cutoff_function: str) -> None:
    rows = (radial(8, 0.3, 0.0, 4.0), SymmetryFunction("G4", (1, 8), 0.1, 0.0, 4.5, 1.0, 2.0))
    table = SymmetryTable("one", {8: rows, 1: rows, 22: rows}, cutoff_function)
    graph = random_graph(3, 8)
    value = symmetry_native.symmetry_functions(table, graph)
    assert float(value.abs().max()) > 1e-3
    assert close(value, symmetry_eager.symmetry_functions(table, graph))
    single = symmetry_native.symmetry_jacobian(table, random_graph(3, 8, torch.float32))
    for a, b in zip(single, symmetry_eager.symmetry_jacobian(table, graph), strict=True):
        assert close(a.double(), b, 1e-5)


def small_case() -> tuple[SymmetryTable, Graph, torch.Tensor]:
    rows = (
        radial(8, 0.3, 0.7, 4.0),
        SymmetryFunction("G4", (8, 8), 0.1, 0.0, 4.5, 1.0, 2.0),
        SymmetryFunction("G4", (8, 22), 0.02, 0.5, 4.5, -1.0, 4.0),
        SymmetryFunction("G5", (8, 22), 0.1, 0.0, 4.0, 1.0, 1.0),
        SymmetryFunction("G5", (22, 22), 0.1, 0.0, 4.0, -1.0, 2.5),
    )
    table = SymmetryTable("small", {8: rows, 22: rows[:3]})
    numbers = torch.tensor([8, 22, 8, 22])
    positions = torch.tensor([[0.0, 0, 0], [1.8, 0.1, 0], [0.2, 1.9, 0.3], [1.5, 1.7, 1.1]], dtype=torch.float64)
    structure = Structures.from_arrays(
        numbers.numpy(), positions.numpy(), torch.zeros(3, 3).numpy(), torch.zeros(3, dtype=torch.bool).numpy()
    )
    graph = build_graph(structure, find_edges(structure, 4.5))
    return table, graph, graph.vectors.clone().requires_grad_()


@pytest.mark.slow
def test_first_and_second_derivatives_by_finite_differences() -> None:
    table, graph, vectors = small_case()

    def values(v: torch.Tensor) -> torch.Tensor:
        return symmetry_native.symmetry_functions(table, with_vectors(graph, v))

    assert torch.autograd.gradcheck(values, (vectors,))
    assert torch.autograd.gradgradcheck(values, (vectors,), atol=1e-6)


def test_derivative_of_forces_with_respect_to_the_cotangent_is_compiled_and_right() -> None:
    table, graph, vectors = small_case()
    weights = torch.linspace(-1, 1, 5, dtype=torch.float64).requires_grad_()

    def force_loss(module: object) -> torch.Tensor:
        values = module.symmetry_functions(table, with_vectors(graph, vectors))  # type: ignore[attr-defined]
        (force,) = torch.autograd.grad(torch.tanh(values @ weights).sum(), vectors, create_graph=True)
        (slope,) = torch.autograd.grad((force**2).sum(), weights)
        return slope

    assert close(force_loss(symmetry_native), force_loss(symmetry_eager), 1e-11)


def test_single_precision_is_as_good_as_single_precision() -> None:
    rows = tuple(
        SymmetryFunction("G4", pair, eta, 0.0, 4.5, sign, zeta)
        for pair in PAIRS
        for eta in (0.001, 0.1)
        for sign in (-1.0, 1.0)
        for zeta in (1.0, 4.0)
    ) + tuple(radial(z, eta, 0.0, 4.5) for z in ELEMENTS for eta in (0.01, 2.0))
    table = SymmetryTable("float", dict.fromkeys(ELEMENTS, rows))
    exact = symmetry_native.symmetry_jacobian(table, random_graph(5, 9))
    rough = symmetry_native.symmetry_jacobian(table, random_graph(5, 9, torch.float32))
    for a, b in zip(rough, exact, strict=True):
        assert a.dtype == torch.float32
        assert close(a.double(), b, 3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3"])
def test_older_cpus_get_the_same_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpu: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("flags of x86")
    compiler = native.find_compiler()
    assert compiler is not None
    flags = tuple({"-march=native": f"-march={cpu}", "-O3": "-O1"}.get(f, f) for f in native.FLAGS)
    table, graph, _ = small_case()
    rows = tuple(
        SymmetryFunction("G4", pair, 0.05, 0.0, 4.5, s, z) for pair in PAIRS for s in (-1, 1) for z in (1, 2.5)
    )
    cases = [(table, graph), (SymmetryTable("all", dict.fromkeys(ELEMENTS, rows), "tanh3"), random_graph(1, 9))]

    def results(dtype: torch.dtype) -> list[torch.Tensor]:
        found = []
        for table, graph in cases:
            vectors = graph.vectors.to(dtype).requires_grad_()
            values = symmetry_native.symmetry_functions(table, with_vectors(graph, vectors))
            found += [values, *torch.autograd.grad((values**2).sum(), vectors, create_graph=True)]
            found += torch.autograd.grad((found[-1] ** 2).sum(), values)
            found += symmetry_native.symmetry_jacobian(table, with_vectors(graph, vectors))
        return [f.detach() for f in found]

    expected = [results(dtype) for dtype in (torch.float64, torch.float32)]
    old = native.build(compiler, tmp_path, flags).library
    assert old is not None
    monkeypatch.setattr(native, "library", lambda: old)
    native.function.cache_clear()
    try:
        for dtype, values, tolerance in zip((torch.float64, torch.float32), expected, (1e-12, 1e-5), strict=True):
            for a, b in zip(results(dtype), values, strict=True):
                assert close(a, b, tolerance)
    finally:
        native.function.cache_clear()


def test_threads_change_nothing() -> None:
    rows = tuple(SymmetryFunction("G4", pair, 0.05, 0.0, 4.5, 1.0, 2.0) for pair in PAIRS)
    table = SymmetryTable("threads", dict.fromkeys(ELEMENTS, rows))
    graph = random_graph(11, 20)
    assert len(graph.i) > symmetry_native.FEW_EDGES
    before = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(symmetry_native.symmetry_jacobian(table, graph))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_nan_is_never_lost() -> None:
    rows = (SymmetryFunction("G4", (8, 8), 0.1, 0.0, 4.5, 1.0, 2.0), radial(8, 0.3, 0.0, 4.5))
    table = SymmetryTable("nan", dict.fromkeys(ELEMENTS, rows))
    graph = random_graph(2, 9)
    edge = int((graph.numbers[graph.j] == 8).nonzero()[0])
    vectors = graph.vectors.clone()
    vectors[edge, 1] = float("nan")
    values = symmetry_native.symmetry_functions(table, with_vectors(graph, vectors))
    assert bool(values[graph.i[edge]].isnan().all())
    others = torch.arange(graph.n_atoms) != graph.i[edge]
    assert bool(values[others].isfinite().all())


def test_no_edges_no_atoms_and_elements_without_a_table() -> None:
    table = SymmetryTable("one", {8: (radial(8, 0.1, 0.0, 3.0),)})
    empty = torch.zeros(0, dtype=torch.long)
    apart = cluster([8, 22], [[0, 0, 0], [20, 0, 0]])
    lone = build_graph(apart, find_edges(apart, 4.0))
    assert torch.equal(symmetry_native.symmetry_functions(table, lone), torch.zeros(2, 1).double())
    nobody = build_graph(concatenate([]), Edges(empty, empty, torch.zeros(0, 3).long(), 4.0))
    assert symmetry_native.symmetry_functions(table, nobody).shape == (0, 1)
    graph = random_graph(4, 8)
    values = symmetry_native.symmetry_functions(table, graph)
    assert bool((values[graph.numbers != 8] == 0).all())
    assert close(values, symmetry_eager.symmetry_functions(table, graph))
