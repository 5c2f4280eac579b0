"""Threads and processes of two kinds beside each other; processes are killed."""

import os
import signal
from collections import Counter
from pathlib import Path

import executor_work
import psutil
import pytest

from rutile.core.executors.catalogue import open_stations
from rutile.core.executors.desk import LOSSES
from rutile.core.executors.executor import Lost
from rutile.core.executors.settings import LocalSettings, ThreadsSettings
from rutile.core.reporting import SilentReporter

pytestmark = pytest.mark.slow


def begun(folder, number):
    path = Path(folder) / f"{number}.begun"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def test_processes_and_threads_each_item_exactly_once_while_processes_are_killed(tmp_path):
    two = (executor_work.note, LocalSettings(), 2)
    kinds = {"a": two, "b": two, "c": (str, ThreadsSettings(), 1)}
    given, found, killed = Counter(), [], 0
    with open_stations(kinds, SilentReporter()) as stations:
        while len(found) < 180:
            for place, kind in enumerate(kinds):
                while given[kind] < 60 and stations.free(kind):
                    number = 1000 * place + given[kind]
                    stations.give(kind, number, (tmp_path, number, 0.02) if kind != "c" else number)
                    given[kind] += 1
            found.append(stations.next())
            if len(found) % 45 == 0:
                mine = {p.pid for p in psutil.Process().children(recursive=True)}
                at_work = mine & {
                    pid for k in range(60) for place in (0, 1) for pid in begun(tmp_path, 1000 * place + k)
                }
                if at_work:
                    os.kill(min(at_work), signal.SIGKILL)
                    killed += 1
    assert killed
    expected = [("a", k, k) for k in range(60)] + [("b", 1000 + k, 1000 + k) for k in range(60)]
    assert sorted(found) == [*expected, *(("c", 2000 + k, str(2000 + k)) for k in range(60))]


def test_an_item_that_kills_its_workers_is_given_up_and_other_kinds_go_on(tmp_path):
    with open_stations(
        {"a": (executor_work.kill_own_process, LocalSettings(), 1), "b": (str, ThreadsSettings(), 1)}, SilentReporter()
    ) as s:
        s.give("a", 5, (tmp_path, 5, 0.0, (5,), 100))
        s.give("b", 1, 1)
        assert s.next() == ("b", 1, "1")
        kind, number, outcome = s.next()
        assert (kind, number) == ("a", 5)
        assert isinstance(outcome, Lost)
        assert len(begun(tmp_path, 5)) == LOSSES
        s.give("a", 6, (tmp_path, 6, 0.0, (), 0))
        assert s.next() == ("a", 6, 6)
