"""Where a potential's numbers live: their precision and device."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from rutile.core.errors import SettingsError
from rutile.potentials.potential import Potential


def placement(potential: Potential) -> tuple[torch.dtype, torch.device]:
    """Precision and device of a potential's tensors; float64 on the CPU for one without any."""
    if isinstance(potential, torch.nn.Module):
        for tensor in [*potential.parameters(), *potential.buffers()]:
            if tensor.is_floating_point():
                return tensor.dtype, tensor.device
    return torch.float64, torch.device("cpu")


def chosen(name: str) -> str:
    """The device that a setting means: its own name; for auto cuda if there is a GPU, else cpu."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def usable_device(name: str) -> torch.device:
    """The device that a setting means: cpu, cuda, cuda:1, or auto.

    Raises:
        SettingsError: it is not there, or cannot compute in float64, which geometry and energies need.
    """
    try:
        torch.device(chosen(name))
    except RuntimeError:
        raise SettingsError(f"device {name!r}: say cpu, cuda, cuda:1 (the second GPU) or auto") from None
    try:
        one = torch.ones(1, dtype=torch.float64, device=chosen(name))
        one.sum().item()  # not every device that has tensors computes
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise SettingsError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}; use device=cpu") from None
    return one.device


def device_name(device: torch.device) -> str:
    """What a device is called by who made it: "NVIDIA H100", "AMD EPYC"; the architecture where nothing says more."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.machine()


def short_of_memory(error: Exception) -> bool:
    """Whether an error of torch or Python says that memory was short, on whatever device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
