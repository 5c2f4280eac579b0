"""Plans: same structures whatever the number of processes, no duplicates, guards, resuming after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk as ase_bulk
from hypothesis import given
from hypothesis import strategies as st

from rutile.build.forces_settings import EmtForces
from rutile.build.guards import Known, guard, measure
from rutile.build.making import Maker
from rutile.build.plan import images, make_plan
from rutile.build.recipe import Draft, Refused
from rutile.build.settings import (
    BulkSettings,
    ClusterSettings,
    CrystalSource,
    DimerSettings,
    DisorderSettings,
    Guards,
    Melt,
    StepSettings,
)
from rutile.build.sizes import radii
from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.forces import MECHANICS

CU = CrystalSource(elements=("Cu",), prototypes=("fcc", "bcc"))
STEPS: list[StepSettings] = [
    DimerSettings(elements=("Cu", "Au"), points=5),
    BulkSettings(crystals=CU, count=45, atoms=8),
    ClusterSettings(elements=("Cu",), atoms=(4, 14), count=8),
]


def make(out: Path, steps: list[StepSettings] = STEPS, seed: int = 0, workers: int = 1):
    return make_plan(steps, seed, out, MECHANICS, SilentReporter(), workers)


def test_what_was_asked_is_made_and_told(tmp_path):
    tallies = make(tmp_path / "a.extxyz")
    assert [(t.asked, t.made, len(t.measured)) for t in tallies] == [(15, 15, 15), (45, 45, 45), (8, 8, 8)]
    found = list(images(tmp_path / "a.extxyz"))
    assert Counter(a.info["config_type"] for a in found) == {"dimer": 15, "bulk": 45, "cluster": 8}
    for atoms in found:
        assert set(atoms.info) == {"config_type", "builder", "parent", "number", "seed", "parameters"}
        assert isinstance(atoms.info["parameters"], dict)
    parents = Counter(a.info["parent"] for a in found if a.info["builder"] == "bulk")
    assert parents == {"bulk: fcc Cu": 23, "bulk: bcc Cu": 22}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.extxyz"]


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    make(tmp_path / "a.extxyz")
    make(tmp_path / "b.extxyz")
    make(tmp_path / "c.extxyz", seed=1)
    assert (tmp_path / "a.extxyz").read_bytes() == (tmp_path / "b.extxyz").read_bytes()
    assert (tmp_path / "a.extxyz").read_bytes() != (tmp_path / "c.extxyz").read_bytes()


@pytest.mark.slow
def test_several_processes_make_the_same_structures(tmp_path):
    melt = Melt(forces=EmtForces(), time=4, quench_time=4, timestep=2, snapshots=2)
    steps = [*STEPS, DisorderSettings(formulas=("Cu",), atoms=(4, 6), density=(0.7, 0.9), melt=melt, count=20)]
    tallies = make(tmp_path / "a.extxyz", steps)
    assert (tallies[-1].parents, tallies[-1].made) == (10, 20)  # two batches of melts
    make(tmp_path / "b.extxyz", steps, workers=2)
    assert (tmp_path / "a.extxyz").read_bytes() == (tmp_path / "b.extxyz").read_bytes()


def test_a_structure_does_not_depend_on_the_others():
    maker = Maker(STEPS, 0, MECHANICS)
    alone = maker.one(1, 0, 7)
    for slots in maker.slots():
        if (slots.step, slots.parent, slots.first) == (1, 0, 0):
            assert np.array_equal(maker.fill(slots)[7].atoms.positions, alone.atoms.positions)


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_plan import STEPS, MECHANICS, SilentReporter, make_plan
class Killer(SilentReporter):
    def track(self, items, label, total=None):
        for n, item in enumerate(items):
            if n == {at}:
                import os, signal
                os.kill(os.getpid(), signal.SIGKILL)
            yield item
make_plan(STEPS, 0, Path({out!r}), MECHANICS, Killer())
"""


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_file(tmp_path):
    make(tmp_path / "a.extxyz")
    out = tmp_path / "b.extxyz"
    for at in (4, 30):
        code = RUN.format(folder=str(Path(__file__).parent), out=str(out), at=at)
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        killed = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not out.exists()
    hidden = tmp_path / ".b.extxyz.unfinished"
    with (hidden / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"refused": {}, "measu')  # a line that was not finished
    reporter = SilentReporter()
    tallies = make_plan(STEPS, 0, out, MECHANICS, reporter)
    assert "going on after 34 of 68 structures" in reporter.messages
    assert out.read_bytes() == (tmp_path / "a.extxyz").read_bytes()
    assert sum(t.made for t in tallies) == 68
    assert not hidden.exists()


def test_another_plan_is_not_mixed_into_an_unfinished_one(tmp_path):
    class Stop(SilentReporter):
        def track(self, items, label, total=None):
            for n, item in enumerate(items):
                if n == 5:
                    raise KeyboardInterrupt
                yield item

    out = tmp_path / "x.extxyz"
    with pytest.raises(KeyboardInterrupt):
        make_plan(STEPS, 0, out, MECHANICS, Stop())
    with pytest.raises(SettingsError, match="another plan was begun and not finished"):
        make_plan(STEPS[:2], 0, out, MECHANICS, SilentReporter())
    make(out)
    assert len(list(images(out))) == 68


def test_nothing_is_made_twice(tmp_path):
    """A crystal without changes is the same however often it is drawn; two steps of the same are one."""
    still = {"scale": (1, 1), "strain": (0, 0), "rattle": (0, 0), "atoms": 1, "count": 6}
    steps: list[StepSettings] = [
        BulkSettings(crystals=CU, **still),
        BulkSettings(crystals=CU, label="again", **still),
    ]
    tallies = make(tmp_path / "a.extxyz", steps)
    assert [t.made for t in tallies] == [2, 0]
    assert tallies[1].refused["made before"] > 0
    with pytest.raises(SettingsError, match=r"every structure was refused: atoms too close"):
        make(tmp_path / "b.extxyz", [BulkSettings(crystals=CU, scale=(0.5, 0.5), count=1, label="x",
             guards=Guards(closest=1.0, volume=None))])  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.extxyz"]


def test_structures_that_differ_by_a_symmetry_operation_are_the_same():
    rng = np.random.default_rng(0)
    atoms = ase_bulk("Cu", cubic=True).repeat(2)
    atoms.numbers[:5] = 79
    atoms.rattle(0.1, seed=1)
    known = Known()
    assert known.add(measure(atoms), atoms.pbc)
    turned = atoms[rng.permutation(len(atoms))]
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    turned.positions += [0.3, 5.0, -2.0]
    turned.wrap()
    assert not known.add(measure(turned), atoms.pbc)
    moved = turned.copy()
    moved.positions[0] += 0.01
    assert known.add(measure(moved), atoms.pbc)


def test_fcc_and_hcp_of_one_density_are_different():
    known = Known()
    for name in ("fcc", "hcp"):
        fcc = name == "fcc"
        atoms = ase_bulk("Cu", name, a=2.55 * (2**0.5 if fcc else 1), c=None if fcc else 2.55 * (8 / 3) ** 0.5)
        atoms = atoms.repeat((2, 1, 1)) if fcc else atoms
        assert known.add(measure(atoms), atoms.pbc)


@given(
    st.lists(st.tuples(*[st.floats(0, 5)] * 3), min_size=1, max_size=6),
    st.sampled_from([True, False]),
    st.floats(0, 1),
    st.floats(0.3, 3),
)
def test_what_passes_the_guards_keeps_them(places, periodic, closest, reference):
    """Whatever is given: a kept structure has no closer atoms (images counted) and no other volume than allowed."""
    atoms = Atoms(f"Cu{len(places)}", positions=places, cell=[5, 5, 5], pbc=periodic)
    volume = reference * 125 / len(places) if periodic else None
    guards = Guards(closest=closest)
    vectors = np.array(places)[:, None] - np.array(places)[None]
    if periodic:
        vectors = (vectors + 2.5) % 5 - 2.5
    d = np.linalg.norm(vectors, axis=2) + 100 * np.eye(len(places))
    limit = closest * 2 * radii(np.array([29]))[0]
    good = d.min() >= limit and (not periodic or 0.6 <= 1 / reference <= 2.0)
    try:
        measured = guard(Draft(atoms, {}, volume), guards)
    except Refused:
        assert not good or abs(d.min() - limit) < 1e-9
    else:
        assert good or abs(d.min() - limit) < 1e-9
        assert measured.atoms == len(places)


def test_guards_refuse_with_a_reason():
    cu = ase_bulk("Cu")
    for draft, guards, reason in (
        (Draft(cu, {}, 5.0), Guards(), "volume"),
        (Draft(cu.repeat(3)), Guards(atoms=26), "too many atoms"),
        (Draft(Atoms("Cu", positions=[[np.nan, 0, 0]])), Guards(), "not finite"),
        (Draft(Atoms()), Guards(), "no atoms left"),
        (Draft(Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 1.5]])), Guards(), "atoms too close"),
        (Draft(Atoms("Cu", cell=[1.0, 1.0, 9.0], pbc=True)), Guards(volume=None), "atoms too close"),
    ):
        with pytest.raises(Refused, match=reason):
            guard(draft, guards)


def test_what_is_measured():
    measured = measure(ase_bulk("NaCl", "rocksalt", a=5.64))
    assert measured.elements == {"Na": 1, "Cl": 1}
    assert measured.density == pytest.approx(2.163, abs=0.01)
    assert measured.volume == pytest.approx(22.43, abs=0.01)
    assert measured.nearest == pytest.approx(2.82)
    assert measured.neighbours == {"Na": {"6": 1}, "Cl": {"6": 1}}
    json.dumps(measured.__dict__)
