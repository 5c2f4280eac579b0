"""Splits: a partition, whole groups, right shares, the same for the same seed."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_frames import some_frames

from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data.frames import Frame
from rutile.data.settings import SplitSettings
from rutile.data.split import connected, divide, duplicate_classes, split
from rutile.data.store import build_store

EXACT = settings(derandomize=True, database=None, deadline=None)


def frames_in_groups(sizes):
    frames = some_frames(sum(sizes), seed=1, smallest=3)
    names = [f"group {g}" for g, n in enumerate(sizes) for _ in range(n)]
    return [dataclasses.replace(f, group=name) for f, name in zip(frames, names, strict=True)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(frames_in_groups([40, 25, 20, 10, 5]), tmp_path_factory.mktemp("split") / "store")


def check_partition(parts, n):
    assert list(parts) == ["train", "valid", "test"]
    for ids in parts.values():
        assert ids.dtype == np.int64
        assert (np.diff(ids) > 0).all()
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(n))


@pytest.mark.parametrize("by", ["frames", "groups", "stratified"])
def test_partition_seed_and_shares(store, by):
    rule = SplitSettings(by=by, valid=0.2, test=0.1)
    parts = split(store, rule, seed=4)
    check_partition(parts, 100)
    again, other = split(store, rule, seed=4), split(store, rule, seed=5)
    assert all(np.array_equal(parts[k], again[k]) for k in parts)
    assert not np.array_equal(parts["train"], other["train"])
    slack = 1 if by != "groups" else 6
    assert abs(len(parts["valid"]) - 20) <= slack
    assert abs(len(parts["test"]) - 10) <= slack


def test_groups_stay_whole(store):
    parts = split(store, SplitSettings(by="groups", valid=0.2, test=0.1), seed=0)
    names = [set(store.groups[ids]) for ids in parts.values()]
    assert all(names)
    assert sum(map(len, names)) == len(set.union(*names)) == 5


def test_stratified_divides_each_group_alike(store):
    for seed in range(5):
        parts = split(store, SplitSettings(by="stratified", valid=0.2, test=0.2), seed=seed)
        for group, size in zip(sorted(set(store.groups)), [40, 25, 20, 10, 5], strict=True):
            for side, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
                assert abs((store.groups[parts[side]] == group).sum() - share * size) <= 1.5


def test_duplicates_stay_together(tmp_path):
    frames = some_frames(30, seed=2, smallest=3)
    copies = [
        dataclasses.replace(f, positions=f.positions + 1e-9, energy=-1.0, group="copy", source="") for f in frames
    ]
    store = build_store(frames + copies, tmp_path / "store")
    assert duplicate_classes(store).tolist() == [*range(30), *range(30)]
    for by in ("frames", "stratified"):
        parts = split(store, SplitSettings(by=by, valid=0.3, test=0.2), seed=1)
        check_partition(parts, 60)
        for ids in parts.values():
            assert set(ids % 30) == set(ids[ids < 30])
            assert len(ids) > 0
        assert abs(len(parts["valid"]) - 18) <= 2
    loose = split(store, SplitSettings(valid=0.3, duplicates="ignore"), seed=1)["valid"]
    assert set(loose % 30) != set(loose[loose < 30])
    with pytest.raises(SettingsError, match="no frames left for valid"):
        split(store, SplitSettings(by="groups", valid=0.3), seed=1)  # every group is tied to "copy"


def copies_of(f, rng):
    """The same structure rotated and mirrored, shifted, reordered, unwrapped, and in another cell."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(len(f.numbers))
    lattice = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]]) if f.pbc.all() else np.eye(3)
    shift = rng.integers(-2, 3, size=(len(order), 3)) * f.pbc @ f.cell
    turned = dataclasses.replace(f, positions=f.positions @ turn, cell=f.cell @ turn)
    moved = dataclasses.replace(f, positions=f.positions + rng.normal(size=3) + shift)
    return [
        turned,
        moved,
        dataclasses.replace(f, positions=-f.positions),
        dataclasses.replace(f, positions=f.positions[order], numbers=f.numbers[order]),
        dataclasses.replace(f, cell=lattice @ f.cell),
    ]


def test_copies_under_every_symmetry_operation(tmp_path):
    rng = np.random.default_rng(0)
    different = some_frames(20, seed=6, smallest=3)
    frames = different + [c for f in different for c in copies_of(f, rng)]
    n = len(different)
    want = [*range(n), *(k for k in range(n) for _ in range(5))]
    assert duplicate_classes(build_store(frames, tmp_path / "a")).tolist() == want
    without = [dataclasses.replace(f, energy=None) for f in frames]
    assert duplicate_classes(build_store(without, tmp_path / "b")).tolist() == want


def test_single_atoms(tmp_path):
    """Isolated atoms of one element are one structure; lone atoms in wide cells only if the cells are equal."""
    free = Frame(np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), -1.0)
    wide = dataclasses.replace(free, cell=np.eye(3) * 6, pbc=np.ones(3, bool))
    frames = [
        free,
        dataclasses.replace(free, positions=np.ones((1, 3))),
        dataclasses.replace(free, numbers=np.array([22])),
        wide,
        dataclasses.replace(wide, cell=np.eye(3) * 6.1),
        wide,
    ]
    assert duplicate_classes(build_store(frames, tmp_path / "store")).tolist() == [0, 0, 2, 3, 4, 3]


def test_small_changes_are_not_copies(tmp_path):
    one = dataclasses.replace(some_frames(40, seed=3, smallest=3)[13], energy=-3.0)
    assert one.pbc.all()
    nudge = np.zeros_like(one.positions)
    nudge[0, 0] = 0.01
    others = [
        dataclasses.replace(one, positions=one.positions + nudge),
        dataclasses.replace(one, numbers=30 - one.numbers),
        dataclasses.replace(one, cell=one.cell * 1.001, positions=one.positions * 1.001),
        dataclasses.replace(one, pbc=np.array([True, True, False])),
    ]
    assert duplicate_classes(build_store([one, *others], tmp_path / "store")).tolist() == [0, 1, 2, 3, 4]


def test_by_file(tmp_path):
    frames = [
        dataclasses.replace(f, source=f"{'abc'[k % 3]}.extxyz#{k}") for k, f in enumerate(some_frames(30, smallest=3))
    ]
    frames[1] = dataclasses.replace(frames[0], source="b.extxyz#1")
    store = build_store(frames, tmp_path / "store")
    reporter = SilentReporter()
    parts = split(store, SplitSettings(valid_files=("b.extxyz",), test=0.2), seed=0, reporter=reporter)
    check_partition(parts, 30)
    assert parts["valid"].tolist() == list(range(1, 30, 3))
    assert len(parts["test"]) == 4  # a fifth of the other twenty
    parts = split(
        store, SplitSettings(valid_files=("b.extxyz",), test_files=("./c.extxyz",)), seed=0, reporter=reporter
    )
    assert parts["train"].tolist() == list(range(0, 30, 3))
    assert "1 validation frames have the same geometry as training frames" in reporter.warnings[-1]
    with pytest.raises(SettingsError, match=r"valid_files: d\.extxyz has no frames"):
        split(store, SplitSettings(valid_files=("d.extxyz",)), seed=0)


@pytest.mark.parametrize(("sizes", "message"), [([3], "no frames left for valid"), ([50, 1], "too few groups")])
def test_too_few(tmp_path, sizes, message):
    store = build_store(frames_in_groups(sizes), tmp_path / "store")
    rule = SplitSettings(by="groups", valid=0.1, test=0.1) if len(sizes) > 1 else SplitSettings(valid=0.1)
    with pytest.raises(SettingsError, match=message):
        split(store, rule, seed=0)


@pytest.mark.parametrize("wrong", [{"valid": 0.6, "test": 0.4}, {"valid": -0.1}, {"valid": 1.0}, {"by": "seed"}])
def test_settings_refused(wrong):
    with pytest.raises(ValueError, match="SplitSettings"):
        SplitSettings(**wrong)


@pytest.mark.slow
@EXACT
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=60),
    st.floats(0, 0.5),
    st.floats(0, 0.4),
    st.integers(0, 3),
)
def test_divide_keeps_units_whole_and_shares_close(labels, valid, test, seed):
    units, strata = np.array(labels).T
    fractions = np.array([1 - valid - test, valid, test])
    sides = divide(units, strata, fractions, np.random.default_rng(seed))
    for u in set(units.tolist()):
        assert len(set(sides[units == u].tolist())) == 1
    largest = np.bincount(units).max()
    got = np.bincount(sides, minlength=3)
    assert (np.abs(got - fractions * len(units)) <= 2 * largest).all()
    assert (got[fractions == 0] == 0).all()


@EXACT
@given(st.integers(1, 12).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 9), min_size=n, max_size=n)] * 2)))
def test_connected_is_the_finest_common_union(pair):
    a, b = map(np.array, pair)
    got = connected([a, b])
    same = (a[:, None] == a) | (b[:, None] == b)
    reach = np.linalg.matrix_power(same.astype(float), len(a)) > 0
    assert np.array_equal(got[:, None] == got, reach)


@pytest.mark.slow
def test_same_in_another_process(store):
    code = (
        "import sys; from pathlib import Path; from rutile.data.store import Store;"
        "from rutile.data.split import split; from rutile.data.settings import SplitSettings;"
        "store = Store.open(Path(sys.argv[1]));"
        "rules = [SplitSettings(by=by, test=0.2) for by in ('groups', 'stratified')];"
        "print([{k: v.tolist() for k, v in split(store, rule, 7).items()} for rule in rules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(store.folder)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )
    rules = [SplitSettings(by=by, test=0.2) for by in ("groups", "stratified")]
    here = [{k: v.tolist() for k, v in split(store, rule, 7).items()} for rule in rules]
    assert out.stdout.strip() == str(here)
