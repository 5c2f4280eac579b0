"""Workers of several kinds at once: threads, and the desk with workers that a test tells to come and go."""

import queue
import threading
import time
from itertools import count

import pytest

from rutile.core.executors import events
from rutile.core.executors.catalogue import open_stations
from rutile.core.executors.desk import LOSSES, Desk
from rutile.core.executors.events import Came, Done, Gone
from rutile.core.executors.executor import Lost
from rutile.core.executors.settings import ThreadsSettings
from rutile.core.executors.sharing import held_up
from rutile.core.executors.stations import SharedStations
from rutile.core.reporting import SilentReporter


def test_kinds_work_side_by_side_and_nobody_waits_for_another_kind():
    """A kind whose work stands still does not hold the others up."""
    gate = threading.Event()

    def slow(x):
        assert gate.wait(30)
        return -x

    kinds = {"fast": (lambda x: x * x, ThreadsSettings(), 2), "slow": (slow, ThreadsSettings(), 1)}
    found = []
    with open_stations(kinds, SilentReporter()) as stations:
        stations.give("slow", 0, 7)
        assert not stations.free("slow")
        for number in range(20):
            while not stations.free("fast"):
                found.append(stations.next())
            stations.give("fast", number, number)
        while len(found) < 20:
            found.append(stations.next())
        assert sorted(found) == [("fast", k, k * k) for k in range(20)]
        gate.set()
        assert stations.next() == ("slow", 0, -7)
        assert stations.free("slow")


def test_each_kind_has_as_many_at_work_as_it_has_workers():
    most, now, lock = {"a": 0, "b": 0}, {"a": 0, "b": 0}, threading.Lock()

    def work(kind):
        with lock:
            now[kind] += 1
            most[kind] = max(most[kind], now[kind])
        time.sleep(0.01)
        with lock:
            now[kind] -= 1

    kinds = {"a": (work, ThreadsSettings(), 1), "b": (work, ThreadsSettings(), 3)}
    with open_stations(kinds, SilentReporter()) as stations:
        given = done = 0
        while done < 60:
            for kind in kinds:
                while given < 60 and stations.free(kind):
                    stations.give(kind, given, kind)
                    given += 1
            stations.next()
            done += 1
    assert most == {"a": 1, "b": 3}


def test_what_the_work_raises_is_raised():
    def fail(x):
        raise ValueError(f"{x} is not liked")

    kinds = {"good": (str, ThreadsSettings(), 1), "bad": (fail, ThreadsSettings(), 1)}
    with open_stations(kinds, SilentReporter()) as stations:
        stations.give("bad", 3, 3)
        with pytest.raises(ValueError, match="3 is not liked"):
            stations.next()
        stations.give("good", 4, 4)
        assert stations.next() == ("good", 4, "4")


class Told:
    """Workers that come and die when the test says so, and do everything at once."""

    sure, ahead = False, 1

    def __init__(self, events, workers):
        self.events, self.workers = events, workers
        self.pool, self.reporter, self.hands, self.shifts, self.lost = self, SilentReporter(), {}, {}, 0
        self.sent, self.wanted, self.there, self.asked, self.idle = [], [], [], 0, False

    def start(self):
        self.asked += 1

    def send(self, ticket, address, work, item):
        self.sent.append((address, item))
        if not self.idle:
            self.events.put(("kind", Done(ticket, work(item), 0.0, 10.0)))
        return lambda: None

    def look(self, hands, wanted):
        self.wanted.append(wanted)
        self.there.append(len(hands))

    def takes_work(self, hand):
        return True

    def rest(self):
        pass


@pytest.fixture
def told():
    told = queue.SimpleQueue()
    carrier, clock = Told(told, 4), count()
    desks = {"kind": Desk(carrier, str.upper)}
    return carrier, SharedStations(
        desks, lambda seconds: told.get(timeout=min(seconds, 1)), lambda: None, lambda: float(next(clock))
    )


def come(carrier, *names):
    for name in names:
        carrier.events.put(("kind", Came(name, name)))


def test_nothing_is_started_for_a_kind_without_work(told):
    carrier, stations = told
    assert stations.free("kind")
    assert carrier.asked == 0
    stations.give("kind", 0, "item")
    assert carrier.asked == 1


def test_one_item_asks_for_a_worker_and_more_are_not_made_before_one_is_there(told):
    """What is made next should know of the results that come until then."""
    carrier, stations = told
    stations.give("kind", 0, "a")
    assert not stations.free("kind")
    come(carrier, "x", "y")
    assert stations.next() == ("kind", 0, "A")
    carrier.idle = True
    for number, item in enumerate("bc", 1):
        assert stations.free("kind")
        stations.give("kind", number, item)
    assert not stations.free("kind")
    assert {address for address, _ in carrier.sent[1:]} == {"x", "y"}


def test_more_workers_are_wanted_only_where_they_were_missed(told):
    carrier, stations = told
    come(carrier, "x")
    stations.give("kind", 0, "a")
    stations.next()
    assert None not in carrier.wanted
    stations.give("kind", 1, "b")
    assert not stations.free("kind")
    stations.next()
    assert carrier.wanted[-1] is None
    stations.give("kind", 2, "c")
    stations.next()
    assert carrier.wanted[-1] == 0  # that, too, was done


def test_workers_that_came_while_the_driver_was_away_are_not_missed(told):
    """Kinds are started one after another, which takes long: nobody is looked for before what is known was read."""
    carrier, stations = told
    stations.give("kind", 0, "a")
    come(carrier, "x", "y")
    stations.next()
    assert carrier.there[0] == 2


def test_lost_workers_cost_a_repetition_and_a_bad_item_is_given_up(told):
    carrier, stations = told
    carrier.idle = True
    stations.give("kind", 5, "bad")
    for k in range(LOSSES):
        come(carrier, f"w{k}")
        carrier.events.put(("kind", Gone(f"w{k}")))
    kind, number, outcome = stations.next()
    assert (kind, number) == ("kind", 5)
    assert isinstance(outcome, Lost)
    assert [item for _, item in carrier.sent] == ["bad"] * LOSSES


def test_it_is_known_whether_the_driver_holds_its_workers_up(monkeypatch):
    """Begun at 0; waits from 3 to 4 and from 8 to 10: at work for 7 of 10 seconds. What is before does not count."""
    times = iter([-100.0, 0.0, 3.0, 4.0, 8.0, 10.0])
    monkeypatch.setattr(events.time, "monotonic", lambda: next(times))
    inbox: events.Inbox[int] = events.Inbox()
    inbox.begin()
    for k in range(2):
        inbox.put(k)
        assert inbox.get(1.0) == k
    assert inbox.busy == pytest.approx(0.7)


def test_the_driver_is_told_of_when_it_cannot_keep_up():
    assert held_up(0.3) == "; this process 30%"
    assert "could not keep up" in held_up(0.95)
    assert held_up(0.0) == ""
