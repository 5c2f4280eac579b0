"""What a process and its children use: processor, memory, input and output, GPUs where NVIDIA's library is there."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

from rutile.jobs import gpus


class Meter:
    """Samples a process with all that it started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began = time.monotonic()
        self._spent: dict[tuple[int, float], float] = {}
        """Processor time of every process that was seen, also of those that have ended."""
        self._moved: dict[tuple[int, float], tuple[int, int]] = {}
        self._last = (time.monotonic(), 0.0)
        self._gpu = gpus.library()

    def sample(self) -> dict[str, float]:
        """Seconds since the start, cores in use, processor seconds, memory (GB), bytes read and written, processes."""
        memory, count = 0.0, 0
        pids = set()
        for process in _tree(self.pid):
            with suppress(psutil.Error):
                who = (process.pid, process.create_time())
                times = process.cpu_times()
                self._spent[who] = times.user + times.system
                memory += process.memory_info().rss / 1e9
                count += 1
                pids.add(process.pid)
                with suppress(psutil.Error, AttributeError):  # not on macOS
                    io = process.io_counters()
                    self._moved[who] = (io.read_bytes, io.write_bytes)
        now, spent = time.monotonic(), sum(self._spent.values())
        since, before = self._last
        self._last = (now, spent)
        row = {
            "seconds": round(now - self.began, 3),
            "cores": round(max(0.0, spent - before) / max(now - since, 1e-3), 3),
            "cpu_seconds": round(spent, 3),
            "memory": round(memory, 4),
            "read": float(sum(r for r, _ in self._moved.values())),
            "written": float(sum(w for _, w in self._moved.values())),
            "processes": float(count),
        }
        return row | self._gpus(pids)

    def _gpus(self, pids: set[int]) -> dict[str, float]:
        """Memory (GB) and load (percent) of the GPUs that these processes use."""
        if self._gpu is None:
            return {}
        memory, load, count = 0.0, 0.0, 0
        nvml = self._gpu
        with suppress(nvml.NVMLError):
            for i in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(i)
                mine = [p for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid in pids]
                if mine:
                    memory += sum((p.usedGpuMemory or 0) for p in mine) / 1e9
                    load += nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                    count += 1
        return {"gpus": float(count), "gpu_memory": round(memory, 4), "gpu_load": load} if count else {}


def _tree(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []
