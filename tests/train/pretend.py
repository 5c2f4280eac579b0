"""A device that is not the CPU, where there is no GPU: real numbers, kept on the CPU, and the manners of a GPU.

Tensors say that they are on "pretend:0". An operation on tensors here and there is refused, as on a GPU (a number
without dimensions, or an index, may come from the CPU); NumPy cannot see them. Threads do not take part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretend")
PLACE = torch.device("pretend:0")
aten = torch.ops.aten
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""May be told by a CPU what to take."""


class There(torch.Tensor):
    """A tensor that says it is on the device."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> There:
        out = torch.Tensor._make_wrapper_subclass(
            cls, real.shape, strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype, device=PLACE
        )
        out.raw = real
        return out

    def __repr__(self) -> str:
        return f"There({self.raw})"

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert pretend:0 device type tensor to numpy. Use Tensor.cpu() first")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """Makes the device known inside a `with`."""

    def __enter__(self) -> Pretend:
        torch._C._set_only_lift_cpu_tensors(True)  # numbers from a list go there as a copy that we see
        self._one_thread = torch.autograd.set_multithreading_enabled(False)  # which others know nothing of this
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._one_thread.__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _real(x: Any) -> Any:
    return tree_map(lambda t: t.raw if isinstance(t, There) else t, x)


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the real numbers; its result is where a GPU would have it."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, There)]
    if func is aten.copy_.default:
        func(*_real(args), **_real(kwargs))
        return args[0]
    here = [t for t in tensors if not isinstance(t, There) and t.ndim]
    if there and here and (func not in INDEXING or not isinstance(args[0], There)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found pretend:0 and cpu")
    device = kwargs.get("device")
    given = _real(kwargs) | ({} if device is None else {"device": torch.device("cpu")})
    out = func(*_real(args), **given)
    if not (there if device is None else torch.device(device).type == PLACE.type):
        return out
    known = {id(t.raw): t for t in there}
    return tree_map(lambda t: (known[id(t)] if id(t) in known else There(t)) if isinstance(t, torch.Tensor) else t, out)
