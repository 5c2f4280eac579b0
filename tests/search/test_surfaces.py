"""Searches on slabs: fixed atoms stay to the last bit, compositions stay, symmetry is the slab's."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc100, fcc111
from ase.constraints import FixAtoms, FixedLine
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.build.packing import push_apart
from rutile.build.recipe import Refused
from rutile.build.sizes import radii
from rutile.core.errors import DataError, RutileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import ABOVE, BELOW, FIXED, PART, PLACED, Candidate, from_json, to_json
from rutile.search.operators.shift import lowered
from rutile.search.operators.slab_heredity import moved
from rutile.search.relaxing import Relaxer
from rutile.search.settings import InterfaceSearch, SurfaceSearch
from rutile.search.slabs import fall, plane_group, read_slab, some_of
from rutile.search.surfaces import Surfaces
from rutile.simulate.settings import RelaxSettings
from rutile.structures.fingerprint import pairs_within
from rutile.tasks import search, search_resume
from rutile.tasks.search import SearchSettings
from rutile.tasks.search_resume import ResumeSettings
from rutile.testing.searching import new_structure


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slabs")
    lower = fcc111("Cu", (3, 3, 3), a=3.61, vacuum=6.0)
    lower.set_constraint(FixAtoms(indices=[a.index for a in lower if a.tag > 1]))
    lower.pbc = True
    upper = fcc111("Ag", (3, 3, 2), a=3.7, vacuum=6.0, periodic=True)
    wide = fcc111("Pt", (3, 3, 2), a=4.1, vacuum=6.0, periodic=True)
    for name, slab in (("lower", lower), ("upper", upper), ("wide", wide)):
        slab.info.clear()
        write(folder / f"{name}.extxyz", slab)
    return folder


def problems(files):
    lower = files / "lower.extxyz"
    yield Surfaces("Cu3Au2", SurfaceSearch(slab=lower))
    yield Surfaces("Cu2Au", InterfaceSearch(slab=lower, upper=files / "upper.extxyz"))


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_what_is_fixed_stays_and_composition_too(files, seed):
    for problem in problems(files):
        parents = [new_structure(problem, seed), new_structure(problem, seed + 1)]
        held = problem.slab.arrays[FIXED]
        for operator in problem.operators:
            before = [p.copy() for p in parents]
            try:
                child = problem.tidied(operator.make(parents[: operator.parents], problem.breed, stream(seed, 7)))
            except Refused:
                continue
            assert all(a == b for a, b in zip(parents, before, strict=True))
            fixed = child.arrays[FIXED]
            assert fixed.sum() == held.sum() == 18
            assert child.positions[fixed].tobytes() == problem.slab.positions[held].tobytes()
            placed = child.arrays[PART] == PLACED
            assert sorted(child.numbers[placed]) == sorted(problem.numbers)
            np.testing.assert_array_equal(child.numbers[~placed], parents[0].numbers[~placed])
            np.testing.assert_array_equal(child.cell, problem.slab.cell)
            i, j, d = pairs_within(child.positions, child.cell.array, child.pbc, 2.0)
            near = d / (radii(child.numbers)[i] + radii(child.numbers)[j])
            assert (near[placed[i] | placed[j]] >= 0.6).all()


@pytest.mark.slow
def test_relaxation_holds_what_is_fixed_and_counts_what_is_placed(files):
    problem = Surfaces("Cu3", SurfaceSearch(slab=files / "lower.extxyz"))
    children = [Candidate(k, new_structure(problem, k), "new", ()) for k in range(3)]
    how = RelaxSettings(fmax=0.05, max_steps=60, max_move=0.4)
    bare = Relaxer(Path("emt"), "float64", "cpu", None, how)
    ((_, slab),) = bare([Candidate(0, problem.slab, "", ())])
    work = Relaxer(Path("emt"), "float64", "cpu", None, how, reference=slab.energy, atom_energies=True)
    for (_, relaxed), child in zip(work(children), children, strict=True):
        fixed = child.atoms.arrays[FIXED]
        assert relaxed.atoms.positions[fixed].tobytes() == child.atoms.positions[fixed].tobytes()
        assert np.abs(relaxed.atoms.positions[~fixed] - child.atoms.positions[~fixed]).max() > 1e-3
        whole = relaxed.atoms.arrays["atom_energy"].sum()
        assert relaxed.energy == pytest.approx((whole - slab.energy) / 3, abs=1e-9)
        assert 0 < relaxed.energy < 3  # an adatom of EMT costs less than an atom alone
        again = from_json(to_json(relaxed.atoms))
        assert again == relaxed.atoms
        assert (again.arrays[PART] == child.atoms.arrays[PART]).all()


def test_fingerprint_sees_what_is_placed(files):
    """The same island on equal places has the same fingerprint, however large the slab; slabs alone do not count."""
    problem = Surfaces("Cu2", SurfaceSearch(slab=files / "lower.extxyz"))
    one = new_structure(problem, 3)
    part = one.arrays[PART]
    group = problem.group
    assert len(group.rotations) == 9 * 6  # p3m1 and the translations of a (3 x 3) cell
    other = one.copy()
    placed = Atoms(one.numbers[part == PLACED], positions=one.positions[part == PLACED], cell=one.cell)
    other.positions[part == PLACED] = moved(placed, problem.breed, np.random.default_rng(5)).positions
    marks = [fingerprint(a, problem.distance) for a in (one, other)]
    assert np.abs(other.positions - one.positions).max() > 0.5
    assert apart(*marks) < 1e-6
    shaken = one.copy()
    shaken.positions[part == PLACED] += [[0.3, 0, 0], [0, 0.3, 0]]
    assert apart(marks[0], fingerprint(shaken, problem.distance)) > 0.05


def test_parts_of_a_group_are_groups(files):
    group = plane_group(read_slab(files / "lower.extxyz", None))
    assert (group.rotations[:, 2, 2] == 1).all()
    sizes = set()
    for seed in range(12):
        some = some_of(group, np.random.default_rng(seed))
        sizes.add(len(some.rotations))
        assert len(group.rotations) % len(some.rotations) == 0  # Lagrange
    assert len(sizes) > 3


def test_an_atom_falls_into_the_hollow():
    slab = fcc100("Cu", (2, 2, 1), a=3.61, vacuum=5.0)
    top = slab.positions[0]
    r = radii(np.array([29]))[0]
    on_top = Atoms("Cu", positions=top[None] + np.array([0, 0, 6.0]))
    assert fall(on_top, slab) == pytest.approx(6.0 - 0.95 * 2 * r)
    hollow = slab.positions[:, :2].mean(0)
    above = Atoms("Cu", positions=[[*hollow, top[2] + 6.0]])
    assert fall(above, slab) > fall(on_top, slab)
    assert fall(Atoms("Cu", positions=top[None] - np.array([0, 0, 5.0])), slab) == np.inf


def test_pushing_leaves_held_atoms():
    atoms = Atoms("Cu3", positions=[[0, 0, 0], [1.0, 0, 0], [0.3, 0.9, 0]])
    out = push_apart(atoms, 0.9, held=np.array([True, False, False]))
    assert out.positions[0].tobytes() == atoms.positions[0].tobytes()
    assert out.get_all_distances()[np.triu_indices(3, 1)].min() > 0.8 * 0.9 * 2.64


def test_upper_slabs_fit_and_touch(files):
    problem = Surfaces("Cu2Au", InterfaceSearch(slab=files / "lower.extxyz", upper=files / "upper.extxyz"))
    made = new_structure(problem, 0)
    part = made.arrays[PART]
    assert [int((part == k).sum()) for k in (BELOW, PLACED, ABOVE)] == [27, 3, 18]
    assert made.positions[part == ABOVE, 2].min() > made.positions[part == BELOW, 2].max()
    far = made.copy()
    far.positions[part == ABOVE, 2] += 5.0
    low = lowered(far)
    i, j, d = pairs_within(low.positions, low.cell.array, low.pbc, 4.0)
    between = (part[i] == ABOVE) != (part[j] == ABOVE)
    near = (d / (radii(low.numbers)[i] + radii(low.numbers)[j]))[between]
    assert near.min() == pytest.approx(0.95, abs=1e-6)
    with pytest.raises(DataError, match=r"wide.*strained by.*mismatch=0.05"):
        Surfaces("Cu2", InterfaceSearch(slab=files / "lower.extxyz", upper=files / "wide.extxyz"))


def test_slabs_that_are_none(tmp_path, monkeypatch):
    write(tmp_path / "molecule.xyz", Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]]))
    with pytest.raises(DataError, match="periodic along its first two"):
        read_slab(tmp_path / "molecule.xyz", None)
    turned = fcc111("Cu", (2, 2, 2), vacuum=5.0)
    turned.rotate(30, "x", rotate_cell=True)
    turned.info.clear()
    write(tmp_path / "turned.extxyz", turned)
    with pytest.raises(DataError, match="xy plane"):
        read_slab(tmp_path / "turned.extxyz", None)
    line = fcc111("Cu", (2, 2, 2), vacuum=5.0)
    line.set_constraint(FixedLine([0], [0, 0, 1]))
    with pytest.raises(RutileError, match=r"none\.cif"):
        Surfaces("Cu", SurfaceSearch(slab=tmp_path / "none.cif"))
    monkeypatch.setattr("rutile.search.slabs.read_all", lambda path: [line])
    with pytest.raises(SettingsError, match="FixedLine"):
        read_slab(tmp_path / "line.traj", None)


def test_without_constraints_the_lower_half_is_fixed_and_cut_slabs_are_joined(tmp_path):
    slab = fcc111("Cu", (2, 2, 4), a=3.61, vacuum=6.0, periodic=True)
    slab.info.clear()
    whole = slab.copy()
    slab.positions[:, 2] -= slab.positions[:, 2].min() + 3.0
    slab.wrap()
    write(tmp_path / "cut.extxyz", slab)
    read = read_slab(tmp_path / "cut.extxyz", None)
    assert np.ptp(read.positions[:, 2]) == pytest.approx(np.ptp(whole.positions[:, 2]), abs=1e-6)
    assert int(read.arrays[FIXED].sum()) == 8
    assert read.positions[read.arrays[FIXED], 2].max() < read.positions[~read.arrays[FIXED], 2].min()
    assert int(read_slab(tmp_path / "cut.extxyz", 1e3).arrays[FIXED].sum()) == 16


@pytest.mark.slow
def test_three_atoms_form_a_triangle_and_the_search_goes_on(files, tmp_path):
    """Of three atoms on Cu(111) the compact triangles are lowest, on both kinds of hollows and with both centres."""
    out = tmp_path / "out"
    told = SearchSettings(
        formula="Cu3",
        model="emt",
        structure=SurfaceSearch(slab=files / "lower.extxyz"),
        relaxations=32,
        first=12,
        out=out,
    )
    result = search.run(told, SilentReporter())
    best = search_resume_best(out)
    placed = best.positions[27:]
    sides = [np.linalg.norm(best.get_distance(a, b, mic=True)) for a, b in ((27, 28), (28, 29), (27, 29))]
    assert max(sides) < 2.8
    assert np.ptp(placed[:, 2]) < 0.05
    assert result.structures[0].symmetry.endswith("m1")
    assert result.structures[0].volume is None
    slab = read_slab(files / "lower.extxyz", None)
    np.testing.assert_allclose(best.positions[:27][slab.arrays[FIXED]], slab.positions[slab.arrays[FIXED]], atol=1e-7)
    assert best.constraints
    more = search_resume.run(ResumeSettings(folder=out, relaxations=48), SilentReporter())
    assert more.relaxed == 48
    seeded = search.run(
        SearchSettings(
            formula="Cu3", model="emt", structure=SurfaceSearch(slab=files / "lower.extxyz"), relaxations=8, first=2,
            seeds=[out / "best.extxyz"], keep=3, out=tmp_path / "seeded", batch=8,
        ),
        SilentReporter(),
    )  # fmt: skip
    assert seeded.structures[0].energy == pytest.approx(more.structures[0].energy, abs=1e-3)
    other = read_slab(files / "lower.extxyz", None)
    other.positions[:, 0] += 0.1
    write(tmp_path / "other.extxyz", other)
    changed = told.model_copy(update={"structure": SurfaceSearch(slab=tmp_path / "other.extxyz")})
    with pytest.raises(RutileError, match="slabs"):
        search.run(changed, SilentReporter())


def search_resume_best(out):
    from rutile.structures.io import read_all

    return read_all(out / "best.extxyz")[0]
