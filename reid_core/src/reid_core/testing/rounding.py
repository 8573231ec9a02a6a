"""Results with other last digits than the CPU's, as another device's are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_SUMMING = {
    *("sum", "mean", "var", "std", "cumsum", "linalg_vector_norm", "logsumexp"),
    *("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "linalg_cross", "convolution"),
    *("avg_pool2d", "upsample_bilinear2d", "grid_sampler_2d", "index_add", "scatter_add"),
    *("native_batch_norm", "native_layer_norm", "_softmax", "_log_softmax"),
}
"""Operations that add up what they read, in whatever order."""

_APPROXIMATE = {
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "exp", "expm1", "log", "log1p", "pow"),
    *("sigmoid", "tanh", "erf", "gelu", "silu", "softplus", "rsqrt", "reciprocal", "linspace"),
    *("addcmul", "addcdiv", "lerp"),
}
"""Operations whose numbers may be a few units of the last place off.

Sums, differences, products, quotients and roots of one or two numbers are the same everywhere.
"""


class Rounding:
    """Does operations of the CPU, and moves their last digits at random.

    What a function such as the sine gives is moved itself. Of sums and inner products each term is,
    to which another order of summing amounts.

    Args:
        ulps: how far float32 numbers move at most, in units of their last place; 0 leaves them.
    """

    def __init__(self, ulps: float) -> None:
        self._most = ulps * torch.finfo(torch.float32).eps
        self._random = torch.Generator().manual_seed(0)

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Do an operation of ``torch.ops``, in place or not."""
        name = plain_name(func)
        if not self._most or name not in _SUMMING | _APPROXIMATE:
            return func(*args, **kwargs)
        written = args[0] if func._schema.is_mutable else None
        if name in _SUMMING:
            args = tree_map(lambda leaf: leaf if leaf is written else self._moved(leaf), args)
            return func(*args, **kwargs)
        found = func(*args, **kwargs)
        return self._moved(found) if written is None else written.copy_(self._moved(written))

    def _moved(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dtype != torch.float32:
            return leaf
        off = torch.rand(leaf.shape, generator=self._random, dtype=torch.float64) * 2 - 1
        return (leaf.double() * (1 + self._most * off)).float()


def plain_name(func: Any) -> str:
    """Return the name of an operation, the same whether it works in place or not."""
    return str(func.overloadpacket.__name__).rstrip("_")
