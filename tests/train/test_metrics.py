"""Error sums against numbers worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from rutile.core.units import GPA
from rutile.data.frames import Frame, Labelled, batch_frames
from rutile.potentials.potential import Prediction
from rutile.train.metrics import ErrorSums


def frame(numbers: list[int], **labels: object) -> Frame:
    n = len(numbers)
    positions = np.arange(3.0 * n).reshape(n, 3)
    return Frame(np.array(numbers), positions, 9 * np.eye(3), np.ones(3, dtype=bool), **labels)  # type: ignore[arg-type]


# Two atoms Ti O, error of energy 0.4 eV -> 0.2 eV/atom; one atom O, error -0.1 eV/atom.
FIRST = frame([22, 8], energy=-1.0, forces=np.zeros((2, 3)), stress=np.zeros((3, 3)), group="a")
SECOND = frame([8], energy=-3.0, forces=np.array([[0.0, 6.0, 0.0]]), stress=None, group="b")
BATCH = batch_frames([FIRST, SECOND])
FORCES = torch.tensor([[0.3, 0.0, -0.4], [0.0, 0.1, 0.0], [0.0, 6.2, 0.0]], dtype=torch.float64)
STRESS = torch.zeros(2, 3, 3, dtype=torch.float64)
STRESS[0] = torch.diag(torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64))
STRESS[0, 1, 2] = STRESS[0, 2, 1] = -0.06
PREDICTION = Prediction(torch.tensor([-0.6, -3.1], dtype=torch.float64), FORCES, STRESS, torch.zeros(3).double())


def errors(sums: ErrorSums, quantity: str, subset: str = "all", name: str = "all", unit: str | None = None) -> dict:
    found = [
        r
        for r in sums.rows()
        if (r["quantity"], r["subset"], r["name"]) == (quantity, subset, name) and unit in (None, r["unit"])
    ]
    return found[0] if found else {}


@pytest.fixture
def sums() -> ErrorSums:
    out = ErrorSums(groups=["a", "b"], force_limit=3.0)
    out.add(PREDICTION, BATCH)
    return out


@pytest.mark.parametrize(
    ("quantity", "subset", "name", "count", "mae", "rmse", "largest"),
    [
        ("energy", "all", "all", 2, 0.15, math.sqrt((0.04 + 0.01) / 2), 0.2),
        ("energy", "group", "a", 1, 0.2, 0.2, 0.2),
        ("energy", "group", "b", 1, 0.1, 0.1, 0.1),
        ("force", "all", "all", 9, 1.0 / 9, math.sqrt((0.09 + 0.16 + 0.01 + 0.04) / 9), 0.4),
        ("force", "element", "Ti", 3, 0.7 / 3, math.sqrt(0.25 / 3), 0.4),
        ("force", "element", "O", 6, 0.3 / 6, math.sqrt(0.05 / 6), 0.2),
        ("force", "limit", "max |F| < 3 eV/Å", 6, 0.8 / 6, math.sqrt(0.26 / 6), 0.4),
        ("force", "limit", "max |F| ≥ 3 eV/Å", 3, 0.2 / 3, math.sqrt(0.04 / 3), 0.2),
        ("force_vector", "all", "all", 3, (0.5 + 0.1 + 0.2) / 3, math.sqrt(0.3 / 3), 0.5),
        ("stress", "all", "all", 6, 0.12 / 6, math.sqrt((1 + 4 + 9 + 36) / 6) / 100, 0.06),
    ],
)
def test_by_hand(sums, quantity, subset, name, count, mae, rmse, largest):
    row = errors(sums, quantity, subset, name)
    assert row["count"] == count
    assert (row["mae"], row["rmse"], row["max"]) == pytest.approx((mae, rmse, largest), rel=1e-12)


def test_stress_in_gigapascal_beside(sums):
    assert errors(sums, "stress", unit="GPa")["max"] == pytest.approx(0.06 / GPA)
    assert errors(sums, "stress", unit="GPa")["mae"] == pytest.approx(0.02 * 160.2176634)


def test_parts_merge_to_the_whole(sums):
    parts = [ErrorSums(["a", "b"], 3.0) for _ in range(2)]
    parts[0].add(_first_of(PREDICTION), batch_frames([FIRST], [0]))
    second = Prediction(PREDICTION.energy[1:], FORCES[2:], STRESS[1:], PREDICTION.atom_energy[2:])
    parts[1].add(second, batch_frames([SECOND], [1]))
    total = ErrorSums(["a", "b"], 3.0)
    for part in parts:
        total.merge(part)
    assert [list(r) for r in total.rows()] == [list(r) for r in sums.rows()]
    for got, want in zip(total.rows(), sums.rows(), strict=True):
        assert got == pytest.approx(want)
    before = parts[0].rows()
    total.add(PREDICTION, BATCH)
    assert parts[0].rows() == before, "merging must not share memory"


def test_absent_labels_do_not_count():
    bare = ErrorSums()
    bare.add(PREDICTION, batch_frames([frame([22, 8], energy=0.0), frame([8], forces=np.zeros((1, 3)))]))
    assert errors(bare, "energy")["count"] == 1
    assert errors(bare, "force")["count"] == 3
    assert not errors(bare, "stress")
    nothing = ErrorSums()
    nothing.add(PREDICTION, batch_frames([frame([22, 8]), frame([8])]))
    assert nothing.rows() == []
    assert nothing.overall() == {}


def test_stress_of_a_slab_does_not_count():
    slab = dataclasses.replace(FIRST, pbc=np.array([True, True, False]))
    sums = ErrorSums()
    sums.add(_first_of(PREDICTION), batch_frames([slab]))
    assert not errors(sums, "stress")
    assert errors(sums, "force")["count"] == 6


def test_overall_is_flat_and_in_base_units(sums):
    assert sums.overall()["energy_mae"] == pytest.approx(0.15)
    assert sums.overall()["stress_mae"] == pytest.approx(0.02)
    assert set(sums.overall()) == {f"{q}_{k}" for q in ("energy", "force", "force_vector", "stress")
                                   for k in ("mae", "rmse")}  # fmt: skip


def test_nan_prediction_is_not_hidden():
    sums = ErrorSums()
    sums.add(PREDICTION, BATCH)
    broken = dataclasses.replace(PREDICTION, energy=torch.full((2,), float("nan")).double())
    sums.add(broken, BATCH)
    sums.add(PREDICTION, BATCH)
    assert math.isnan(errors(sums, "energy")["max"])
    assert math.isnan(errors(sums, "energy")["mae"])


def _first_of(p: Prediction) -> Prediction:
    return Prediction(p.energy[:1], p.forces[:2], p.stress[:1], p.atom_energy[:2])


def test_float32_and_unnamed_groups():
    batch: Labelled = batch_frames([dataclasses.replace(FIRST, group="")])
    sums = ErrorSums(groups=[""])
    sums.add(_first_of(PREDICTION), batch.to(dtype=torch.float32))
    assert errors(sums, "energy", "group", "(no group)")["mae"] == pytest.approx(0.2, rel=1e-6)
