"""Executors without processes: threads, settings, and how jobs of Slurm are replaced (with a queue that is told)."""

import threading

import pytest

from rutile.core.config import load
from rutile.core.errors import ExecutorError, SettingsError
from rutile.core.executors.catalogue import open_executor
from rutile.core.executors.queue import Entry, seconds_left
from rutile.core.executors.scaler import AWAY, FAILURES, HOPELESS, NEW, POLL, Scaler
from rutile.core.executors.settings import ExecutorSettings, SlurmSettings, ThreadsSettings
from rutile.core.reporting import SilentReporter
from rutile.core.settings import Settings


class Job(Settings):
    executor: ExecutorSettings = ThreadsSettings()


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_do_each_item_once(workers):
    with open_executor(ThreadsSettings(), workers, SilentReporter()) as executor:
        assert sorted(executor.each(lambda x: x * x, range(20))) == [(k, k * k) for k in range(20)]
        assert list(executor.each(lambda x: x, [])) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_pass_errors_on_and_leave_the_rest(workers):
    gate, begun = threading.Event(), []

    def work(x):
        begun.append(x)
        if x == 2:
            raise ValueError("two")
        if x > 2:
            gate.wait(30)
        return x

    with open_executor(ThreadsSettings(), workers, SilentReporter()) as executor:
        with pytest.raises(ValueError, match="two"):
            list(executor.each(work, range(1000)))
        gate.set()
    assert len(begun) < 10


@pytest.mark.parametrize("workers", [1, 3])
def test_items_are_made_when_a_thread_is_free(workers):
    """So that what is made next can follow from the results so far."""
    results: list[int] = []

    def items():
        for k in range(12):
            assert len(results) >= k - workers, "made ahead of the results"
            yield k

    with open_executor(ThreadsSettings(), workers, SilentReporter()) as executor:
        for _, value in executor.each(lambda k: k * k, items()):
            results.append(value)
    assert sorted(results) == [k * k for k in range(12)]


def test_threads_are_left_early():
    gate, begun = threading.Event(), []

    def work(x):
        begun.append(x)
        if x:
            gate.wait(30)
        return x

    with open_executor(ThreadsSettings(), 2, SilentReporter()) as executor:
        results = executor.each(work, range(100))
        assert next(results) == (0, 0)
        results.close()
        gate.set()
    assert len(begun) <= 4


def test_settings_are_chosen_by_name():
    chosen = load(Job, pairs=["executor=slurm", "executor.wall_time=1-12:30:00", "executor.reserve=600"]).executor
    assert isinstance(chosen, SlurmSettings)
    assert chosen.seconds == 131400.0
    assert isinstance(load(Job).executor, ThreadsSettings)
    for wrong, said in (
        (["executor=slurm", "executor.wall_time=30"], "text"),
        (["executor=slurm", "executor.wall_time=00:00:30"], "at least a minute"),
        (["executor=slurm", "executor.wall_time=00:10:00", "executor.reserve=600"], "not less than wall_time"),
        (["executor=slurm", "executor.cores=0"], ">= 1"),
        (["executor=pbs"], "threads, local, slurm"),
    ):
        with pytest.raises(SettingsError, match=said):
            load(Job, pairs=wrong)


def test_times_of_squeue():
    assert [seconds_left(t) for t in ("59", "1:01", "1:00:00", "2-00:00:01", "INVALID", "UNLIMITED")] == [
        None, 61.0, 3600.0, 172801.0, None, None,
    ]  # fmt: skip


class FakeQueue:
    """A queue whose jobs are what the test says."""

    def __init__(self):
        self.count, self.entries, self.cancelled = 0, {}, []

    def submit(self, script):
        self.count += 1
        self.entries[str(self.count)] = Entry("PENDING", "Priority", None)
        return str(self.count)

    def listing(self):
        return self.entries

    def cancel(self, jobs):
        self.cancelled += jobs


class Site:
    """A scaler, its queue and its clock."""

    def __init__(self, logs="{job}.err", patience=None):
        self.queue, self.time, self.reporter = FakeQueue(), 0.0, SilentReporter()
        self.scaler = Scaler(self.queue, "script", logs, patience, self.reporter, lambda: self.time)

    def look(self, wanted, *there, after=POLL):
        self.time += after
        self.scaler.look(wanted, set(there))
        return set(self.scaler.jobs)


def test_jobs_that_end_are_replaced_and_no_more():
    site = Site()
    assert site.look(2) == {"1", "2"}
    site.queue.entries = {j: Entry("RUNNING", "None", 60.0) for j in "12"}
    for _ in range(10):
        assert site.look(2, "1", "2") == {"1", "2"}
    assert site.scaler.left("1") == 60.0
    del site.queue.entries["1"]
    assert site.look(2, "1", "2") == {"1", "2"}  # its worker says that it is there: Slurm is not asked again
    assert site.look(2, "2") == {"2", "3"}
    assert site.look(2, "2", "3") == {"2", "3"}
    assert site.scaler.replaced == 1
    site.scaler.give_back()
    assert set(site.queue.cancelled) == {"2", "3"}


def test_a_job_whose_worker_stays_away_is_ended():
    site = Site()
    site.look(1)
    site.queue.entries["1"] = Entry("RUNNING", "None", 3600.0)
    site.look(1, "1")
    site.look(1, after=AWAY - 1)
    assert site.queue.cancelled == []
    site.look(1, after=POLL)
    assert site.queue.cancelled == ["1"]


def test_a_job_that_is_not_listed_yet_is_not_replaced():
    site = Site()
    site.look(1)
    site.queue.entries = {}
    assert site.look(1, after=POLL) == {"1"}
    assert site.look(1, after=NEW) == {"2"}


def test_jobs_that_nobody_needs_are_ended_after_a_while_and_asked_for_again():
    site = Site()
    site.look(3, after=0.0)
    site.queue.entries["1"] = Entry("RUNNING", "None", 3600.0)
    site.scaler.spare(3, {"1"}, 10.0)
    site.time = 8.0
    site.scaler.spare(1, {"1"}, 10.0)
    assert site.queue.cancelled == []
    site.time = 11.0
    site.scaler.spare(1, {"1"}, 10.0)
    assert site.queue.cancelled == ["2", "3"]
    assert site.scaler.left("2") == 0.0
    assert site.look(2, "1") == {"1", "4"}
    site.scaler.spare(0, {"1"}, 10.0)
    site.time += 20.0
    site.scaler.spare(0, {"1"}, 10.0)
    assert site.queue.cancelled == ["2", "3", "4"]  # the one at work stays


def test_patience_does_not_count_while_nothing_is_wanted():
    site = Site(patience=60.0)
    site.look(0, after=100.0)
    site.look(1, after=50.0)
    with pytest.raises(ExecutorError, match="patience"):
        site.look(1, after=20.0)


def test_slurm_that_does_not_answer_changes_nothing():
    site = Site()
    site.look(2)
    site.queue.listing = lambda: None
    assert site.look(2, after=1000.0) == {"1", "2"}


def test_jobs_that_end_before_their_worker_is_there_end_the_run_with_their_last_words(tmp_path):
    site = Site(logs=str(tmp_path / "{job}.err"))
    (tmp_path / f"{FAILURES}.err").write_text("Traceback\nNo module named rutile\n")
    site.look(1)
    for _ in range(FAILURES - 1):
        site.queue.entries = {}
        site.look(1, after=NEW + 1)
    site.queue.entries = {}
    with pytest.raises(ExecutorError, match=f"{FAILURES} jobs ended before.*No module named rutile"):
        site.look(1, after=NEW + 1)
    assert site.queue.count == FAILURES


def test_one_worker_that_comes_ends_the_count_of_failures():
    site = Site()
    for _ in range(4 * FAILURES):
        site.look(2, after=NEW + 1)
        first, second = sorted(site.scaler.jobs, key=int)
        site.look(2, second)
        del site.queue.entries[first]
    assert site.scaler.failures < FAILURES


def test_waiting_is_told_once_and_ends_where_it_is_hopeless():
    site = Site()
    for _ in range(5):
        site.look(2)
    assert site.reporter.messages == ["2 jobs of Slurm wait (Priority)"]
    site.queue.entries["1"] = Entry("PENDING", HOPELESS[0], None)
    site.look(2)
    site.queue.entries["2"] = Entry("PENDING", HOPELESS[0], None)
    with pytest.raises(ExecutorError, match=HOPELESS[0]):
        site.look(2)


def test_patience_ends():
    site = Site(patience=60.0)
    site.look(1)
    site.look(1, after=50.0)
    with pytest.raises(ExecutorError, match=r"patience = 60 s: they wait \(Priority\)"):
        site.look(1, after=20.0)
