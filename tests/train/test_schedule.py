import json
import math
from pathlib import Path

import pytest

from rutile.train.schedule import PlateauSchedule, make_schedule
from rutile.train.settings import Constant, Cosine, Exponential, Plateau

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "misc_vectors.json"


def test_stepped_and_smooth_decay_by_hand():
    stepped = make_schedule(Exponential(steps=5000, rate=0.95), 1_000_000)
    assert [stepped.factor(t) for t in (0, 4999)] == [1.0, 1.0]
    assert stepped.factor(5000) == pytest.approx(0.95, rel=1e-14)
    assert stepped.factor(14_999) == pytest.approx(0.95**2, rel=1e-14)
    smooth = make_schedule(Exponential(steps=5000, rate=0.95, smooth=True), 1_000_000)
    assert smooth.factor(4999) == pytest.approx(math.exp(4999 / 5000 * math.log(0.95)), rel=1e-14)


@pytest.mark.skipif(not SPEC.exists(), reason="reference vectors are not beside the checkout")
def test_reference_vectors():
    values = json.loads(SPEC.read_text())["values"]
    c = values["schedule_constants"]
    for smooth, key in ((False, "lr_step"), (True, "lr_smooth")):
        schedule = make_schedule(Exponential(steps=c["d_s"], rate=c["d_r"], smooth=smooth), 1_000_000)
        for row in values["schedule"]:
            assert c["r0"] * schedule.factor(row["step"]) == pytest.approx(row[key], rel=1e-12)


def test_rate_follows_from_the_end():
    schedule = make_schedule(Exponential(steps=10, stop=1e-3), 1000)
    assert schedule.factor(1000) == pytest.approx(1e-3, rel=1e-10)
    assert schedule.factor(500) == pytest.approx(1e-3**0.5, rel=1e-10)
    assert make_schedule(Exponential(stop=1e-2), 1000).factor(1000) == pytest.approx(1e-2, rel=1e-10)
    assert make_schedule(Exponential(), 3).factor(3) == pytest.approx(1e-2, rel=1e-10)


def test_cosine():
    schedule = make_schedule(Cosine(stop=0.1), 100)
    assert [schedule.factor(t) for t in (0, 50, 100, 200)] == pytest.approx([1, 0.55, 0.1, 0.1])


def test_warm_up_then_decay_from_its_end():
    schedule = make_schedule(Exponential(steps=10, rate=0.5), 100, warmup=4)
    assert [schedule.factor(t) for t in range(5)] == [0, 0.25, 0.5, 0.75, 1.0]
    assert schedule.factor(13) == 1.0
    assert schedule.factor(14) == 0.5
    assert make_schedule(Exponential(stop=1e-3), 104, warmup=4).factor(104) == pytest.approx(1e-3)


def test_constant():
    assert make_schedule(Constant(), 10).factor(7) == 1.0


def test_plateau_lowers_after_patience_and_not_below_stop():
    schedule = PlateauSchedule(Plateau(factor=0.1, patience=2, threshold=0.01, stop=0.05))
    seen = []
    for score in (1.0, 0.995, 0.994, 0.5, 0.6, 0.6, 0.6, 0.6):
        schedule.observe(score)
        seen.append(schedule.factor(0))
    # 0.995 and 0.994 are not 1 % better than 1.0: the second of them lowers; 0.5 is better; floor at 0.05
    assert seen == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


def test_plateau_goes_on_from_its_state():
    one, other = (PlateauSchedule(Plateau(patience=2)) for _ in range(2))
    for score in (1.0, 2.0):
        one.observe(score)
    other.restore(one.state())
    one.observe(2.0)
    other.observe(2.0)
    assert one.state() == other.state()
    assert other.factor(0) == 0.5
