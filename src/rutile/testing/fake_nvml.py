"""GPUs for tests: a library of the shape of nvidia-ml-py, with GPUs that do as they are told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


class NVMLError(Exception):
    """What the library raises."""


@dataclass(frozen=True)
class Utilization:
    """Percent of the time at work."""

    gpu: int
    memory: int = 3


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    total: int = 80_000_000_000
    free: int = 60_000_000_000
    used: int = 20_000_000_000


class Nvml:
    """The library.

    Args:
        loads: of each GPU (percent); None: it does not say, as one in parts.
        broken: GPUs that do not answer at all.
    """

    NVMLError = NVMLError

    def __init__(self, loads: list[int | None], broken: Collection[int] = ()) -> None:
        self.loads, self.broken = loads, broken

    def nvmlDeviceGetCount(self) -> int:
        """GPUs that there are."""
        return len(self.loads)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """What the other functions take."""
        if index in self.broken:
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        """Of the model: bytes, as old releases said it, of every second one."""
        return b"NVIDIA A100" if handle % 2 else "NVIDIA H100"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Utilization:
        """How busy it is."""
        load = self.loads[handle]
        if load is None:
            raise NVMLError("Not Supported")
        return Utilization(load)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Memory:
        """Its memory."""
        del handle
        return Memory()
