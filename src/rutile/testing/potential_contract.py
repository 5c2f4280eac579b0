"""What every potential must satisfy.

Applying it is one line in a test module:

    TestBehler = potential_contract(lambda: make(BehlerSettings(), (8, 22), seed=0))

Each property is tried on random structures drawn by hypothesis, the same ones at every run (`strategies`). Derivatives
are compared with fourth-order central differences, relative to the summed absolute terms rather than to their
cancelling sum. Symmetry does not test chemistry: each potential needs an oracle of its own besides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import POTENTIALS
from rutile.potentials.evaluate import evaluate, evaluate_linearised, evaluate_members, linearise
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.potential import DescriptorPotential, Prediction
from rutile.potentials.save import load_model
from rutile.structures.structures import Structures, concatenate
from rutile.testing.strategies import DETERMINISTIC, PBC, random_rotation, random_structure, seeds

EYE = torch.eye(3, dtype=torch.float64)
STEP = 1e-4
"""Step of finite differences (Angstrom, strain or relative change of parameters)."""
SHORT_STEP = 1e-5
"""Step of those in positions and strain for a potential with jumps, so that a jump rarely lies between."""
NEED_CONTINUITY = (
    "test_energy_and_force_go_smoothly_to_zero_at_the_cutoff",
    "test_work_along_a_path_is_the_change_of_energy",
    "test_a_cell_smaller_than_the_cutoff_is_its_supercell",
)
"""What a potential with jumps cannot satisfy: continuity at the cutoff and along a path, and one force where neighbours
are equidistant, as all are in pairs in a cell with one atom. The others hold wherever it does not happen to jump."""


def slope(values: Sequence[Tensor], step: float = STEP) -> Tensor:
    """df/ds at 0 from f at s = -2h, -h, h, 2h (h = step), to fourth order."""
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


STENCIL = (-2.0, -1.0, 1.0, 2.0)
"""Where `slope` wants the function, in steps."""


def assert_same(a: Prediction, b: Prediction, rtol: float = 1e-9) -> None:
    """Two predictions agree relative to the largest number of each quantity."""
    for name in ("energy", "forces", "stress", "atom_energy"):
        x, y = getattr(a, name), getattr(b, name)
        scale = float(y.abs().max()) if y.numel() else 0.0
        torch.testing.assert_close(x, y, rtol=0, atol=rtol * (scale + 1e-3), msg=f"{name}: {x} instead of {y}")


def assert_slope(numeric: Tensor, terms: Tensor, rtol: float = 1e-6) -> None:
    """A numeric derivative equals the sum of the exact terms."""
    error, scale = abs(float(numeric - terms.sum())), float(terms.abs().sum())
    assert error <= rtol * (scale + 1e-3), f"numeric {float(numeric)}, exact {float(terms.sum())}, terms {scale}"


def rows(p: Prediction, systems: slice, atoms: slice) -> Prediction:
    """Part of a prediction."""
    return Prediction(p.energy[systems], p.forces[atoms], p.stress[systems], p.atom_energy[atoms])


def singles(potential: Any, parts: Sequence[Structures]) -> Prediction:
    """Predictions one by one, joined."""
    all_ = [evaluate(potential, p) for p in parts]
    return Prediction(
        *(torch.cat([getattr(p, n) for p in all_]) for n in ("energy", "forces", "stress", "atom_energy"))
    )


def repeat(a: Structures, times: tuple[int, int, int]) -> Structures:
    """A supercell; copies of the whole cell one after the other."""
    shifts = torch.cartesian_prod(*(torch.arange(float(n)).double() for n in times))
    copies = len(shifts)
    return Structures(
        a.numbers.repeat(copies),
        (a.positions[None] + (shifts @ a.cell[0])[:, None]).reshape(-1, 3),
        a.cell * torch.tensor(times).double()[None, :, None],
        a.pbc,
        a.system.repeat(copies),
    )


def cluster(numbers: Sequence[int], positions: Sequence[Sequence[float]]) -> Structures:
    """A molecule."""
    n = torch.tensor(list(numbers))
    return Structures(
        n,
        torch.tensor(positions, dtype=torch.float64).reshape(-1, 3),
        torch.zeros(1, 3, 3).double(),
        torch.zeros(1, 3, dtype=torch.bool),
        torch.zeros_like(n),
    )


class PotentialContract:
    """Properties of one potential; collected by pytest through `potential_contract`."""

    make: Callable[[], torch.nn.Module]
    n_atoms: int
    smooth: bool
    partly_periodic: bool

    @property
    def step(self) -> float:
        """Of finite differences in positions and strain."""
        return STEP if self.smooth else SHORT_STEP

    @pytest.fixture(scope="class")
    def potential(self) -> Any:
        """The potential."""
        return type(self).make().double()

    @pytest.fixture(autouse=True)
    def _continuity(self, request: pytest.FixtureRequest) -> None:
        """Skip what a potential that is not smooth cannot satisfy."""
        if not self.smooth and request.node.originalname in NEED_CONTINUITY:
            pytest.skip("the potential is stated not to be smooth")

    def test_it_says_whether_it_is_smooth(self, potential: Any) -> None:
        """The potential tells its users what its test tells the contract."""
        assert getattr(potential, "smooth", True) == self.smooth

    def draw(
        self, potential: Any, seed: int, n: int | None = None, pbc: tuple[bool, bool, bool] = PBC[0]
    ) -> Structures:
        """A random structure with all elements of the potential in turn, starting anywhere."""
        if any(pbc) and not all(pbc) and not self.partly_periodic:
            pbc = PBC[3]
        n = self.n_atoms if n is None else n
        elements = potential.elements or (8, 22)
        return random_structure(seed, [elements[(seed + k) % len(elements)] for k in range(n)], pbc=pbc)

    def test_the_structures_drawn_feel_forces(self, potential: Any) -> None:
        """All that follows would hold for a constant."""
        p = evaluate(potential, self.draw(potential, 0))
        assert p.forces.norm(dim=1).min() > 1e-4
        assert p.stress.abs().min() > 1e-7
        assert potential.cutoff > 0

    @DETERMINISTIC
    @given(seed=seeds(), pbc=st.sampled_from(PBC))
    def test_rotation_and_translation(self, potential: Any, seed: int, pbc: tuple[bool, bool, bool]) -> None:
        """Proper and improper rotations turn forces and stress, and nothing else."""
        a, q = self.draw(potential, seed, pbc=pbc), random_rotation(seed)
        b = a.replace(positions=(a.positions + 3.7) @ q, cell=a.cell @ q)
        p = evaluate(potential, a)
        turned = Prediction(p.energy, p.forces @ q, q.T @ p.stress @ q, p.atom_energy)
        assert_same(evaluate(potential, b), turned)

    @DETERMINISTIC
    @given(seed=seeds())
    def test_permutation(self, potential: Any, seed: int) -> None:
        """The order of the atoms does not matter."""
        a = self.draw(potential, seed)
        order = torch.randperm(a.n_atoms, generator=torch.Generator().manual_seed(seed))
        b = a.replace(numbers=a.numbers[order], positions=a.positions[order])
        p = evaluate(potential, a)
        permuted = Prediction(p.energy, p.forces[order], p.stress, p.atom_energy[order])
        assert_same(evaluate(potential, b), permuted)

    @DETERMINISTIC
    @given(seed=seeds(), pbc=st.sampled_from(PBC))
    def test_forces_are_minus_the_gradient(self, potential: Any, seed: int, pbc: tuple[bool, bool, bool]) -> None:
        """F = -dE/dR along a random direction."""
        a = self.draw(potential, seed, pbc=pbc)
        way = torch.randn(a.positions.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        moved = concatenate(a.replace(positions=a.positions + s * self.step * way) for s in STENCIL)
        numeric = slope(evaluate(potential, moved).energy.unbind(), self.step)
        assert_slope(numeric, -evaluate(potential, a).forces * way)

    @DETERMINISTIC
    @given(seed=seeds())
    def test_stress_is_the_strain_derivative(self, potential: Any, seed: int) -> None:
        """Stress = dE/de / V along a random symmetric strain; it is symmetric."""
        a = self.draw(potential, seed)
        e = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        e = 0.5 * (e + e.T)
        strained = concatenate(
            a.replace(positions=a.positions @ f, cell=a.cell @ f) for f in (EYE + s * self.step * e for s in STENCIL)
        )
        p = evaluate(potential, a)
        numeric = slope(evaluate(potential, strained).energy.unbind(), self.step)
        assert_slope(numeric, p.stress[0] * e * a.volume[0])
        torch.testing.assert_close(p.stress, p.stress.mT)

    def test_stress_is_zero_without_a_volume(self, potential: Any) -> None:
        """Slabs, wires and molecules have none, whatever cell vectors they carry."""
        for pbc in PBC[1:]:
            assert (evaluate(potential, self.draw(potential, 1, pbc=pbc)).stress == 0).all()

    @DETERMINISTIC
    @given(seed=seeds())
    def test_batch_equals_singles(self, potential: Any, seed: int) -> None:
        """Sizes and periodicities mixed, a lonely atom among them; nothing that is given changes."""
        parts = [
            self.draw(potential, seed + k, n, pbc) for k, (n, pbc) in enumerate(zip((6, 1, 3, 2), PBC, strict=True))
        ]
        lonely = cluster(parts[0].numbers[:1].tolist(), [[0, 0, 0]])
        parts = [parts[0], lonely, *parts[1:], lonely]
        whole = concatenate(parts)
        before = copy.deepcopy((whole, find_edges(whole, potential.cutoff)))
        edges = find_edges(whole, potential.cutoff)
        state = copy.deepcopy(potential.state_dict())
        together = evaluate(potential, whole, edges=edges)
        assert_same(together, singles(potential, parts))
        for edges_at_once in (None, 100):
            (member,) = evaluate_members([potential], whole, edges_at_once=edges_at_once)
            assert_same(member, together)
        for old, new in zip(before, (whole, edges), strict=True):
            for name, value in vars(old).items():
                now = getattr(new, name)
                assert torch.equal(now, value) if isinstance(value, Tensor) else now == value, name
                assert not (isinstance(now, Tensor) and now.requires_grad), name
        assert all(torch.equal(state[k], v) for k, v in potential.state_dict().items())
        assert all(p.grad is None for p in potential.parameters())

    @DETERMINISTIC
    @given(seed=seeds())
    def test_structures_of_a_batch_do_not_feel_each_other(self, potential: Any, seed: int) -> None:
        """Whatever the neighbour in the batch does, energy, forces and stress stay."""
        a, b, c = (self.draw(potential, seed + k, n) for k, n in enumerate((4, 3, 5)))
        alone = evaluate(potential, a)
        for other in (b, c):
            behind = rows(evaluate(potential, concatenate([other, a])), slice(1, None), slice(other.n_atoms, None))
            before = rows(evaluate(potential, concatenate([a, other])), slice(0, 1), slice(0, a.n_atoms))
            assert_same(behind, alone)
            assert_same(before, alone)

    @DETERMINISTIC
    @given(seed=seeds())
    def test_supercell_is_extensive(self, potential: Any, seed: int) -> None:
        """Twice the cell: twice the energy, the same forces and stress."""
        a, times = self.draw(potential, seed, 4), [(2, 1, 1), (1, 2, 1), (1, 1, 2)][seed % 3]
        p, q = evaluate(potential, a), evaluate(potential, repeat(a, times))
        assert_same(q, Prediction(2 * p.energy, p.forces.repeat(2, 1), p.stress, p.atom_energy.repeat(2)))

    def test_a_cell_smaller_than_the_cutoff_is_its_supercell(self, potential: Any) -> None:
        """Every image inside the cutoff counts, images of the atom itself included."""
        a = self.draw(potential, 5, 1)
        a = a.replace(cell=a.cell * (0.45 * potential.cutoff / float(a.cell.norm(dim=2).max())))
        assert float(a.cell.norm(dim=2).max()) < 0.5 * potential.cutoff
        p, q = evaluate(potential, a), evaluate(potential, repeat(a, (2, 3, 2)))
        assert_same(q, Prediction(12 * p.energy, p.forces.repeat(12, 1), p.stress, p.atom_energy.repeat(12)))

    @DETERMINISTIC
    @given(seed=seeds(), pbc=st.sampled_from(PBC))
    def test_wrapped_is_unwrapped(self, potential: Any, seed: int, pbc: tuple[bool, bool, bool]) -> None:
        """Atoms moved by lattice vectors are the same atoms."""
        a = self.draw(potential, seed, pbc=pbc)
        steps = torch.randint(-3, 4, (a.n_atoms, 3), generator=torch.Generator().manual_seed(seed)) * a.pbc
        b = a.replace(positions=a.positions + steps.double() @ a.cell[0])
        assert_same(evaluate(potential, b), evaluate(potential, a))

    @DETERMINISTIC
    @given(seed=seeds())
    def test_other_vectors_of_the_same_lattice(self, potential: Any, seed: int) -> None:
        """a, b, c and a + b, b - 2c, c span the same crystal."""
        a = self.draw(potential, seed, 3)
        other = torch.tensor([[1.0, 1, 0], [0, 1, -2], [0, 0, 1]]).double()
        assert_same(evaluate(potential, a.replace(cell=other @ a.cell)), evaluate(potential, a))

    def test_isolated_atoms_have_their_reference_energy(self, potential: Any) -> None:
        """An atom without neighbours, alone or far from others; references count once for each atom."""
        elements = potential.elements or (8, 22)
        far = potential.cutoff + 0.01
        alone = [evaluate(potential, cluster([z], [[0, 0, 0]])).energy for z in elements]
        apart = evaluate(potential, cluster(elements, [[k * far, 0, 0] for k in range(len(elements))]))
        torch.testing.assert_close(apart.atom_energy, torch.cat(alone))
        assert (apart.forces == 0).all()
        if not hasattr(potential, "set_reference_energies"):
            return
        changed = copy.deepcopy(potential)
        wanted = {z: -100.0 * k - 0.5 for k, z in enumerate(elements)}
        changed.set_reference_energies(wanted)
        for z in elements:
            assert evaluate(changed, cluster([z], [[0, 0, 0]])).energy.item() == pytest.approx(wanted[z], abs=1e-12)
        a = self.draw(potential, 2)
        p, q = evaluate(potential, a), evaluate(changed, a)
        old = {z: e.item() for z, e in zip(elements, alone, strict=True)}
        shift = sum(wanted[z] - old[z] for z in a.numbers.tolist())
        torch.testing.assert_close(q.energy, p.energy + shift, rtol=0, atol=1e-9)
        torch.testing.assert_close(q.forces, p.forces)

    def test_an_atom_sees_the_element_of_its_neighbour(self, potential: Any) -> None:
        """Another element next door: another energy of the atom, in a crystal and in a pair."""
        elements = potential.elements
        for z in elements:
            crystals = [self.draw(potential, 7, 4) for _ in elements]
            for a, x in zip(crystals, elements, strict=True):
                a.numbers[:2] = torch.tensor([z, x])
            pairs = [cluster([z, x], [[0, 0, 0], [2.2, 0, 0]]) for x in elements]
            for group, size in ((crystals, 4), (pairs, 2)):
                energies = evaluate(potential, concatenate(group)).atom_energy[::size]
                assert len(elements) < 2 or energies.sort().values.diff().min() > 1e-9, (z, energies)

    @pytest.mark.parametrize("spectator", [False, True])
    def test_energy_and_force_go_smoothly_to_zero_at_the_cutoff(self, potential: Any, spectator: bool) -> None:
        """Halving the distance to the cutoff at least nearly halves the force and the energy that is left."""
        elements, rc = potential.elements or (8, 22), potential.cutoff
        third = [[0.0, 2.0, 0.0]] if spectator else []
        for x in elements:
            numbers = [elements[0], x, *[elements[-1]] * spectator]

            def at(r: float, numbers: list[int] = numbers) -> tuple[float, float]:
                p = evaluate(potential, cluster(numbers, [[0, 0, 0], [r, 0, 0], *third]))
                return p.energy.item(), p.forces[1, 0].item()

            (e0, f0), (e1, f1), (e2, f2) = at(rc + 1e-3), at(rc - 1e-3), at(rc - 2e-3)
            scale = max(abs(at(0.7 * rc)[1]), 1e-3)
            assert abs(f1 - f0) <= 0.75 * abs(f2 - f0) + 1e-9 * scale
            assert abs(e1 - e0) <= 0.5 * abs(e2 - e0) + 1e-9 * scale
            assert abs(f1 - f0) <= 0.05 * scale

    @DETERMINISTIC
    @given(seed=seeds())
    def test_work_along_a_path_is_the_change_of_energy(self, potential: Any, seed: int) -> None:
        """An atom pulled out of a crystal through every cutoff: integral of the force = -(change of energy)."""
        a = self.draw(potential, seed, 3, PBC[3])
        out = torch.nn.functional.normalize(a.positions[2] - a.positions[:2].mean(0), dim=0)

        def pulled(s: float) -> Structures:
            return a.replace(positions=a.positions.index_add(0, torch.tensor([2]), s * out[None]))

        nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(10))
        parts, length = 25, potential.cutoff + 1.0
        places = [(k + 0.5 * (x + 1)) * length / parts for k in range(parts) for x in nodes.tolist()]
        force = evaluate(potential, concatenate(map(pulled, places))).forces[2::3] @ out
        terms = force * weights.repeat(parts) * (0.5 * length / parts)
        ends = evaluate(potential, concatenate([pulled(0.0), pulled(length)])).energy
        assert float(terms.sum()) == pytest.approx(float(ends[0] - ends[1]), abs=1e-4 * float(terms.abs().sum()))

    @DETERMINISTIC
    @given(seed=seeds())
    def test_training_gradients(self, potential: Any, seed: int) -> None:
        """Of a loss of energy, forces and stress: finite, atoms without neighbours included, and as by differences."""
        if not list(potential.parameters()):
            pytest.skip("nothing to train")
        learner: Any = copy.deepcopy(potential)
        learner.requires_grad_()
        batch = concatenate(
            [self.draw(potential, seed, 4), cluster(self.draw(potential, seed, 1).numbers.tolist(), [[0, 0, 0]])]
        )
        assert_training_gradient(learner, lambda: evaluate(learner, batch, training=True), seed)

    @DETERMINISTIC
    @given(seed=seeds())
    def test_single_precision_is_close(self, potential: Any, seed: int) -> None:
        """float32 gives the same to a few digits, in float32."""
        a = self.draw(potential, seed)
        p, q = evaluate(potential, a), evaluate(copy.deepcopy(potential).float(), a.to(dtype=torch.float32))
        assert q.forces.dtype == torch.float32
        double = Prediction(q.energy.double(), q.forces.double(), q.stress.double(), q.atom_energy.double())
        assert_same(double, p, rtol=2e-3)

    @DETERMINISTIC
    @given(seed=seeds())
    def test_linearised_is_direct(self, potential: Any, seed: int) -> None:
        """Cached descriptors and derivatives give the same prediction and the same training gradient."""
        if not isinstance(potential, DescriptorPotential):
            pytest.skip("not a DescriptorPotential")
        learner: Any = copy.deepcopy(potential)
        learner.requires_grad_()
        parts = [
            self.draw(potential, seed + k, n, pbc) for k, (n, pbc) in enumerate(zip((5, 2, 3), PBC[:3], strict=True))
        ]
        batch = concatenate([*parts, cluster(parts[0].numbers[:1].tolist(), [[0, 0, 0]])])
        cached = linearise(potential, batch)
        assert_same(evaluate_linearised(potential, cached), evaluate(potential, batch))
        gradients = []
        for prediction in (
            evaluate_linearised(learner, cached, training=True),
            evaluate(learner, batch, training=True),
        ):
            learner.zero_grad()
            weighted(prediction, seed).backward()
            gradients.append([p.grad.clone() for p in learner.parameters() if p.grad is not None])
        for x, y in zip(*gradients, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-9 * float(y.abs().max()) + 1e-12)

    def test_saved_and_loaded_is_the_same(self, potential: Any, tmp_path: Path) -> None:
        """Bit for bit, from the file alone."""
        if getattr(potential, "name", None) not in POTENTIALS:
            pytest.skip("not in the catalogue")
        Model([potential], ModelInfo(elements=potential.elements)).save(tmp_path / "model.rutile")
        back = load_model(tmp_path / "model.rutile").potential
        a = self.draw(potential, 4)
        assert torch.equal(evaluate(back, a).energy, evaluate(potential, a).energy)
        assert torch.equal(evaluate(back, a).forces, evaluate(potential, a).forces)


def potential_contract(
    make: Callable[[], torch.nn.Module], n_atoms: int = 6, smooth: bool = True, partly_periodic: bool = True
) -> type[PotentialContract]:
    """The test class of the potential that `make()` returns (random weights will do).

    Args:
        make: called once; the potential is used in float64.
        n_atoms: atoms of the random structures.
        smooth: False for a potential whose energy is known to jump: leaves out `NEED_CONTINUITY`, nothing else.
        partly_periodic: False for a potential that refuses slabs and wires: molecules take their place.
    """
    members = {"make": staticmethod(make), "n_atoms": n_atoms, "smooth": smooth, "partly_periodic": partly_periodic}
    return type("Contract", (PotentialContract,), members)


def weighted(p: Prediction, seed: int) -> Tensor:
    """A random linear loss of energy, forces and stress."""
    g = torch.Generator().manual_seed(seed)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=g, dtype=torch.float64)

    return (
        (p.energy * draw(p.energy)).sum() + (p.forces * draw(p.forces)).sum() + 50 * (p.stress * draw(p.stress)).sum()
    )


def assert_training_gradient(learner: torch.nn.Module, predict: Callable[[], Prediction], seed: int) -> None:
    """Autograd's gradient of `weighted` in the parameters is finite and has the slope of differences."""
    learner.zero_grad()
    weighted(predict(), seed).backward()
    parameters = [p for p in learner.parameters() if p.grad is not None]
    assert parameters, "no parameter has a gradient"
    g = torch.Generator().manual_seed(seed)
    ways = [torch.randn(p.shape, generator=g, dtype=p.dtype) * (p.detach().abs().mean() + 0.1) for p in parameters]
    terms = torch.cat([(p.grad * w).reshape(-1) for p, w in zip(parameters, ways, strict=True) if p.grad is not None])
    assert torch.isfinite(terms).all()
    start = [p.detach().clone() for p in parameters]
    values = []
    for s in STENCIL:
        with torch.no_grad():
            for p, x, w in zip(parameters, start, ways, strict=True):
                p.copy_(x + s * STEP * w)
        values.append(weighted(predict(), seed).detach())
    assert_slope(slope(values), terms, rtol=1e-4)
