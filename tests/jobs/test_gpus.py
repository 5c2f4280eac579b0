"""GPUs are sampled through a library of the shape of NVIDIA's; without one there is nothing."""

import pytest

from rutile.jobs.gpus import KEPT, Sample, Watch, count, samples
from rutile.testing.fake_nvml import Nvml


def test_every_gpu_says_what_it_can():
    nvml = Nvml([73, None, 5], broken=[2])
    assert samples(nvml) == [
        Sample("NVIDIA H100", 73.0, 20.0, 80.0),
        Sample("NVIDIA A100", None, 20.0, 80.0),
        Sample("", None, None, None),
    ]


def test_without_a_library_there_is_no_gpu_and_nothing_begins():
    watch = Watch(None)
    watch.start()
    assert (count(None), watch.look(), watch._thread) == (0, [], None)
    watch.stop()


def test_an_hour_is_remembered_in_parts():
    now = [0.0]
    nvml = Nvml([0, 50])
    watch = Watch(nvml, lambda: now[0])
    for minute in range(90):
        now[0] = 60.0 * minute
        nvml.loads[0] = minute
        watch.look()
        nvml.loads[0] = minute + 2
        watch.look()
    parts = watch.loads(0, 6)
    assert parts[-1] == pytest.approx(sum(range(80, 90)) / 10 + 1)
    assert parts == sorted(parts)
    assert watch.loads(1, 3) == [50, 50, 50]
    assert watch.loads(7, 3) == [None, None, None]
    now[0] += KEPT / 2
    assert watch.loads(1, 2) == [50, None]
    now[0] += 2 * KEPT
    watch.look()
    assert len(watch._kept) == 1


def test_it_looks_by_itself_until_it_is_stopped():
    watch = Watch(Nvml([1]))
    watch.start()
    watch.stop()
    assert watch.loads(0, 1) == [1]
