"""A second device for machines that have only one.

Inside `elsewhere`, tensors on `ELSEWHERE` are computed on the CPU and claim to lie on another
device. They do not mix with the CPU's, have no NumPy array, and every moment at which Python waits
for their values is noted. Different values written to one place at once are refused, for a GPU
keeps any of them. On request results are rounded otherwise than the CPU's. So tests see without a
GPU what would be on the wrong device there, what would make a training step wait, and what hangs on
the last digit. They do not see what only the device itself can show: missing kernels, memory, mixed
precision, code that asks for ``cuda`` by name.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from reid_core.machine.devices import STAND_INS
from reid_core.testing.rounding import Rounding, plain_name

ELSEWHERE = torch.device("meta")
"""What tensors claim to lie on: the one device that every build of torch knows besides the CPU."""

_CPU = torch.device("cpu")
_aten = torch.ops.aten

_WAITING = {
    _aten._local_scalar_dense.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten.equal.default,
    _aten._unique2.default,
    _aten.repeat_interleave.Tensor,
    _aten.bincount.default,
}
"""Operations whose result Python needs at once: a number, or how large it is."""

_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}
"""Operations on one tensor that take indices from the CPU, too."""


@contextmanager
def elsewhere(ulps: float = 0.0) -> Iterator[list[str]]:
    """Let there be a second device; yield the list of places that wait for it.

    A place is ``operation at module.py:line``, of the innermost line outside torch. Caches that
    outlive the context may keep tensors of the device; they remain usable.

    Args:
        ulps: how far float32 numbers lie from the CPU's at most, in units of their last place (see
            `Rounding`); 0 gives the CPU's to the bit, 2 to 4 is what libraries for GPUs promise.
    """
    devices = _Devices(Rounding(ulps))
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "Generator", _Generator))
        stack.enter_context(patch.object(torch, "autocast", _autocast))
        STAND_INS.add(ELSEWHERE.type)
        stack.callback(STAND_INS.discard, ELSEWHERE.type)
        stack.enter_context(_Literals(devices))
        stack.enter_context(devices)
        yield devices.waits


class _Far(Tensor):
    """A tensor of the CPU that claims to lie elsewhere."""

    near: Tensor
    devices: _Devices

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, near: Tensor, devices: _Devices) -> _Far:
        made: _Far = Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=ELSEWHERE,
        )
        made.near, made.devices = near, devices
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"elsewhere({self.near!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be stored as the CPU's tensor: files are read there, as those of any device."""
        return self.near.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        first = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, _Far))
        return first.devices.call(func, args, kwargs or {})


class _Devices(TorchDispatchMode):
    """Decides for every operation where its result lies."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []
        self._rounding = rounding

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, kwargs or {})

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Do an operation on the CPU."""
        if torch.is_inference_mode_enabled():
            # There operations arrive whole, and their results cannot be views of other tensors.
            with torch.inference_mode(False), torch.no_grad(), self:
                return func(*args, **kwargs)
        leaves = tree_leaves((args, kwargs))
        far = [leaf for leaf in leaves if isinstance(leaf, _Far)]
        asked = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        if func is _aten.copy_.default:
            asked = args[0].device
        lies = far[0].device if asked is None and far else asked
        if asked is None and far:
            _refuse_mixture(func, args, leaves)
        if far and (lies == _CPU or func in _WAITING or _masks(func, leaves)):
            self.waits.append(f"{func} at {_place()}")
        near_args, near_kwargs = tree_map(_nearby, (tuple(args), dict(kwargs)))
        if lies != ELSEWHERE:
            return func(*near_args, **near_kwargs)
        found = self._rounding.call(func, near_args, near_kwargs)
        _refuse_race(func, near_args, found)
        known = {id(tensor.near): tensor for tensor in far}
        return tree_map(lambda leaf: self._moved(leaf, known), found)

    def _moved(self, leaf: Any, known: Mapping[int, _Far]) -> Any:
        """Return a result as one that lies elsewhere; what was changed in place, as itself."""
        if not isinstance(leaf, Tensor):
            return leaf
        tensor = known.get(id(leaf))
        if tensor is None:
            return _Far(leaf, self)
        if tensor.shape != leaf.shape:
            raise NotImplementedError("tensors elsewhere keep their shape")
        return tensor


class _Literals(TorchFunctionMode):
    """Takes over what torch does below the reach of `_Devices`."""

    def __init__(self, devices: _Devices) -> None:
        super().__init__()
        self.devices = devices

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        _refuse_foreign_generator(args, kwargs)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(device)
        if func is Tensor.tolist and isinstance(args[0], _Far):
            self.devices.waits.append(f"tolist at {_place()}")
            return args[0].near.tolist()
        return func(*args, **kwargs)


class _Generator(torch.Generator):
    """A generator of the CPU that may claim to be elsewhere's."""

    def __new__(cls, device: str | torch.device = "cpu") -> _Generator:
        home = torch.device(device)
        return super().__new__(cls, _CPU if home == ELSEWHERE else home)  # type: ignore[call-arg]

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.home = torch.device(device)


class _autocast(torch.autocast):
    """Mixed precision, which leaves alone what lies elsewhere."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        home = "cpu" if device_type == ELSEWHERE.type else device_type
        super().__init__(home, *args, **kwargs)


def _nearby(leaf: Any) -> Any:
    if isinstance(leaf, _Far):
        return leaf.near
    return _CPU if isinstance(leaf, torch.device) else leaf


def _refuse_mixture(func: Any, args: Sequence[Any], leaves: Sequence[Any]) -> None:
    """Refuse tensors of the CPU beside others, numbers and indices excepted."""
    if func in _INDEXING and isinstance(args[0], _Far):
        leaves = [args[0], *args[2:3]]
    for leaf in leaves:
        if isinstance(leaf, Tensor) and not isinstance(leaf, _Far) and leaf.dim():
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, found {ELSEWHERE} and cpu"
            )


def _refuse_race(func: Any, args: Sequence[Any], found: Any) -> None:
    """Refuse what was written over by another value of the same operation."""
    match plain_name(func), args:
        case "index_put", [_, where, values, *rest] if not any(rest):
            kept = _aten.index(found, where)
        case "index_copy", [_, dim, where, values]:
            kept = found.index_select(dim, where)
        case "scatter", [_, dim, where, Tensor() as values]:
            kept = found.gather(dim, where)
        case _:
            return
    values = values.expand_as(kept)
    if ((kept != values) & ~(kept.isnan() & values.isnan())).any():
        raise RuntimeError(f"{func}: different values are written to one place")


def _refuse_foreign_generator(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    generator = kwargs.get("generator")
    if not isinstance(generator, torch.Generator):
        return
    device = kwargs.get("device")
    far = torch.device(device or "cpu") == ELSEWHERE or any(isinstance(a, _Far) for a in args)
    if far and getattr(generator, "home", _CPU) != ELSEWHERE:
        raise RuntimeError(f"expected a generator of {ELSEWHERE}, found one of the cpu")


def _masks(func: Any, leaves: Sequence[Any]) -> bool:
    """Return whether an operation has to count the places of a mask."""
    return func in _INDEXING and any(
        isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in leaves[1:]
    )


_TORCH = str(Path(torch.__file__).parent)


def _place() -> str:
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != __file__ and not frame.filename.startswith(_TORCH):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return "torch"
