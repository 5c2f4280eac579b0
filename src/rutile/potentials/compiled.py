"""Energies and their slopes as one graph of operations, which the compiler of PyTorch turns into kernels.

    (weights, vectors of the edges, who goes where) -> (energy of each atom, dE/dr_e)

Plain training differentiates twice: energies to forces, then the loss of the forces to the weights. Here the first
derivative is traced once, symbolically in the numbers of atoms, edges and places, and becomes ordinary operations
(`torch.fx.experimental.proxy_tensor.make_fx`), so that the compiler sees one function with one backward pass. The same
way is gone by NequIP (C. W. Tan et al., arXiv:2504.16068).

No operation may have a shape that depends on values: what does is counted before, in the potential's `plan`. A size of
0 or 1 would be taken for a constant; two edges far beyond the cutoff, which add nothing, keep lists of pairs longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.potentials.evaluate import slopes

PAIR_LISTS = ("own", "mutual", "shell")
"""Parts of a plan that list edges whose order does not matter, by the beginning of their names."""
BEYOND = 1.5
"""Length of the edges that add nothing, in units of the cutoff."""

MOST_OPERATIONS = 3000
"""Operations of a traced graph that is compiled, at most: schnet has 409, painn 849, anatase 1000, teanet 4994."""
CACHE = "rutile 1"
"""Name under which PyTorch keeps on disk what it compiled."""

Function = Callable[..., tuple[Tensor, Tensor]]


class CompiledSlopes:
    """The function of the module for one potential, traced and compiled for the first graph that it is given.

    Args:
        potential: a module with `plan`; its parameters may change their values afterwards, not their shapes or dtype.
        compiler: makes a function of the traced graph; default: `torch.compile`.

    Raises:
        NotImplementedError: the potential has no plan; when called first: its graph is too large to compile.
    """

    def __init__(self, potential: nn.Module, compiler: Callable[[Any], Function] | None = None) -> None:
        if not hasattr(potential, "plan"):
            raise NotImplementedError(f"{getattr(potential, 'name', type(potential).__name__)} cannot be compiled")
        self.potential: Any = potential
        self._compiler = compiler or _compile
        named = dict(potential.named_parameters()) | dict(potential.named_buffers())
        self._names, self._weights = list(named), list(named.values())
        self._keys: list[str] = []
        self._function: Function | None = None

    def __call__(self, graph: Graph) -> tuple[Tensor, Tensor] | None:
        """Energy of each atom (eV), [N], and dE/dr_e (eV/Angstrom), [E, 3], with gradients for the weights alone.

        None: the graph is too small, or is asked for something else than the first one (heads that answer or not).
        """
        plan = self._plan(graph)
        data = [*self._lengthened(graph), *plan.values()]
        if min(x.shape[0] for x in data) < 2 or (self._keys and list(plan) != self._keys):
            return None
        if self._function is None:
            self._keys = list(plan)
            self._function = self._compiler(self._trace(data))
            for x in data:
                torch._dynamo.mark_dynamic(x, 0)
            for x in self._weights:
                torch._dynamo.mark_static(x)
        energy, push = self._function(*self._weights, *data)
        return energy, push[: graph.vectors.shape[0]]

    def _plan(self, graph: Graph) -> dict[str, Tensor]:
        """The potential's plan, with the edges that add nothing in its lists of pairs."""
        e = graph.vectors.shape[0]
        extra = graph.i.new_tensor([e, e + 1])
        plan: dict[str, Tensor] = self.potential.plan(graph)
        plan = {name: torch.cat([x, extra]) if name.startswith(PAIR_LISTS) else x for name, x in plan.items()}
        if plan["kinds"].shape[0] == 1:
            plan["kinds"] = plan["kinds"].repeat(2)
        return plan

    def _lengthened(self, graph: Graph) -> tuple[Tensor, ...]:
        """Vectors, centres and neighbours with two edges more; atomic number and mode of each atom."""
        last = graph.i.new_full((2,), graph.n_atoms - 1)
        far = graph.vectors.new_tensor([[BEYOND * self.potential.cutoff, 0.0, 0.0]] * 2)
        vectors, i, j = ((graph.vectors.detach(), far), (graph.i, last), (graph.j, last))
        return torch.cat(vectors), torch.cat(i), torch.cat(j), graph.numbers, graph.mode[graph.system]

    def _energy_and_slopes(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """What is traced: weights and data in, energies and slopes out."""
        k = len(self._names)
        vectors, i, j, numbers, mode, *plan = tensors[k:]
        n = numbers.shape[0]
        graph = Graph(  # each atom is a system: modes go with atoms, and the number of systems is never 1
            numbers=numbers,
            system=torch.arange(n, device=i.device),
            n_systems=n,
            i=i,
            j=j,
            vectors=vectors.detach().requires_grad_(),
            mode=mode,
            positions=vectors.new_zeros(n, 3).requires_grad_(),
            cell=vectors.new_zeros(n, 3, 3).requires_grad_(),
            pbc=torch.zeros(n, 3, dtype=torch.bool, device=i.device),
            plan=dict(zip(self._keys, plan, strict=True)),
        )
        weights = dict(zip(self._names, tensors[:k], strict=True))
        with torch.enable_grad():
            energy = torch.func.functional_call(self.potential, weights, (graph,))
            push, *others = slopes(energy, graph, training=True)
        if push is None or any(x is not None for x in others):
            raise NotImplementedError("energies that depend on more than the neighbours cannot be compiled")
        return energy, push

    def _trace(self, data: Sequence[Tensor]) -> torch.fx.GraphModule:
        """The graph of operations for any number of rows of the data; the weights keep their shapes."""
        from torch._dispatch.python import enable_python_dispatcher
        from torch._dynamo.source import ConstantSource
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

        mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False), allow_non_fake_inputs=True)
        fake = [mode.from_tensor(x, static_shapes=True) for x in self._weights]
        for k, x in enumerate(data):
            sizes = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (x.ndim - 1)
            context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
            fake.append(mode.from_tensor(x, symbolic_context=context, source=ConstantSource(f"data_{k}")))
        with mode, enable_python_dispatcher():
            traced = make_fx(self._energy_and_slopes, _allow_non_fake_inputs=True)(*fake)
        return _differentiable(traced)


def _differentiable(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph without `detach`, which the inner backward pass leaves on what it saved and which would stop the outer.

    A `detach` that a potential means would be lost, too: the comparison with plain training shows that.
    """
    for node in list(traced.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _compile(traced: Any) -> Function:
    operations = sum(node.op == "call_function" for node in traced.graph.nodes)
    if operations > MOST_OPERATIONS:
        raise NotImplementedError(
            f"its graph of {operations} operations (limit: {MOST_OPERATIONS}) would take most of an hour to compile"
        )
    _keep_order_of_sums()
    compiled: Function = torch.compile(traced, fullgraph=True)
    return compiled


def _keep_order_of_sums() -> None:
    """Mend a fault of Inductor, up to PyTorch 2.13: a sum over indices could be read before it was made.

    When loops of different shape are fused on the CPU, what a node reads is found anew, without the new name of a
    buffer that `index_add` has changed: the order of the two is lost, and zeros are read in the place of the sum
    (github.com/pytorch/pytorch/issues/185509). The names are given again here, as the later versions do; there it
    changes nothing. Compiled graphs kept on disk from before are not used.
    """
    import torch._inductor.scheduler as scheduler

    torch.compiler.config.cache_key_tag = torch.compiler.config.cache_key_tag or CACHE
    node: Any = scheduler.SchedulerNode
    if getattr(node.recompute_size_and_body, "keeps_order", False):
        return
    recompute = node.recompute_size_and_body

    def recompute_size_and_body(self: Any, *arguments: Any, **named: Any) -> None:
        recompute(self, *arguments, **named)
        if self.mutation_renames:
            self.set_read_writes(self.read_writes.rename(self.mutation_renames))

    recompute_size_and_body.keeps_order = True  # type: ignore[attr-defined]
    node.recompute_size_and_body = recompute_size_and_body
