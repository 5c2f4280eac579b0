"""Batches on their way from memory to the device that computes."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def sent(batch: T, device: torch.device) -> T:
    """A tensor, or a dataclass of tensors and others, on a device; itself if it is for the CPU.

    To a GPU the copy goes through pinned memory and is not waited for: work that is queued later comes after it.
    """
    if device.type == "cpu":
        return batch
    out: Any = batch
    if isinstance(out, Tensor):
        out = (out.pin_memory() if device.type == "cuda" else out).to(device, non_blocking=True)
    elif dataclasses.is_dataclass(out) and not isinstance(out, type):
        values = {f.name: sent(getattr(out, f.name), device) for f in dataclasses.fields(out)}
        out = dataclasses.replace(out, **values)
    return out  # type: ignore[no-any-return]
