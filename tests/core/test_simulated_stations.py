"""Simulated workers under the real desk: queues whose times can be told beforehand."""

import numpy as np
import pytest

from rutile.core.executors.executor import Lost
from rutile.testing.simulated import Simulated, simulate


def drive(simulation, kind, many):
    """Give items as workers are free; what came of them, and when each was done."""
    s, given, out = simulation.stations, 0, []
    while len(out) < many:
        while given < many and s.free(kind):
            s.give(kind, given, given)
            given += 1
        out.append((*s.next(), simulation.clock.now))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 7, 100])
def test_equal_work_without_a_driver_is_perfectly_parallel(workers):
    one = simulate({"a": Simulated(lambda x: x * x, lambda item, rng: 60.0, workers, start=0.0)}, 0, speed=0.0)
    out = drive(one, "a", 700)
    assert sorted((n, v) for _, n, v, _ in out) == [(k, k * k) for k in range(700)]
    assert one.clock.now == pytest.approx(60.0 * 700 / workers)
    assert one.carriers["a"].busy == pytest.approx(60.0 * 700)


def test_a_driver_that_is_slower_than_its_workers_bounds_the_throughput():
    """Amdahl: with a second of the driver for each item, there are no more than so many items as seconds."""
    one = simulate({"a": Simulated(abs, lambda item, rng: 10.0, 100, start=0.0, give=0.7, take=0.3)}, 0, speed=0.0)
    drive(one, "a", 500)
    assert one.clock.now == pytest.approx(500.0, rel=0.03)
    assert one.clock.driver == pytest.approx(500.0)


@pytest.mark.slow
def test_lost_workers_cost_what_they_did_and_nothing_is_missing():
    """Work is begun anew after a loss: the mean time for one piece is (exp(lt) - 1)/l at a rate of losses l."""
    rate, seconds = 1 / 3600, 600.0
    one = simulate({"a": Simulated(abs, lambda item, rng: seconds, 20, losses=1.0, start=0.0)}, 0, speed=0.0)
    out = drive(one, "a", 2000)
    assert sorted(n for _, n, _, _ in out) == list(range(2000))
    part = 1 - np.exp(-rate * seconds)
    assert one.carriers["a"].lost == pytest.approx(2000 * (part + part**2 + part**3), rel=0.1)
    assert sum(isinstance(v, Lost) for _, _, v, _ in out) == pytest.approx(2000 * part**3, abs=8)
    assert one.clock.now == pytest.approx(2000 / 20 * (np.exp(rate * seconds) - 1) / rate, rel=0.03)


def test_kinds_have_workers_of_their_own_and_the_same_seed_gives_the_same_run():
    def run():
        times = Simulated(abs, lambda item, rng: rng.exponential(5.0), 3, losses=20.0)
        one = simulate({"a": times, "b": times}, 5, speed=0.0)
        given = {"a": 0, "b": 0}
        out = []
        while len(out) < 200:
            for kind in given:
                while one.stations.free(kind):
                    one.stations.give(kind, given[kind], given[kind])
                    given[kind] += 1
            out.append((*one.stations.next(), one.clock.now))
        return out

    first = run()
    assert first == run()
    assert {kind for kind, *_ in first} == {"a", "b"}
