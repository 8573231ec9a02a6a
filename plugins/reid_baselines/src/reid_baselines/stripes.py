"""Stripe pooling: a map cut into horizontal stripes of equal height, each pooled to a vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from reid_core import ConfigError, Tap

Pooling = Literal["max", "avg"]


class StripePool(nn.Module):
    """Pool a map ``B C H W`` into one vector ``B C`` per stripe.

    Args:
        kind: ``max`` or ``avg``.
        cuts: into how many stripes the map is cut, each time anew; 1 is the whole map. ``(1, 3)``
            gives four vectors: the whole map's, then the three stripes' from the top down.
    """

    def __init__(self, kind: Pooling, cuts: Sequence[int]) -> None:
        super().__init__()
        self.kind = kind
        self.cuts = tuple(cuts)

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Return ``sum(cuts)`` vectors ``B C``; ``H`` must be a multiple of every cut."""
        vectors: list[Tensor] = []
        for stripes in self.cuts:
            cut = feature.unflatten(2, (stripes, -1))  # B C stripes rows W
            pooled = cut.amax((3, 4)) if self.kind == "max" else cut.mean((3, 4))
            vectors.extend(pooled.unbind(2))
        return vectors

    def deploy_spec(self) -> dict[str, Any]:
        """Return how the exported embedder rebuilds it."""
        kwargs = {"kind": self.kind, "cuts": list(self.cuts)}
        return {"factory": "reid_baselines.stripes:StripePool", "kwargs": kwargs}


def check_stripes(
    plugin: str, tap: Tap, height: int, cuts: Sequence[int], beside: Sequence[int] = ()
) -> None:
    """Refuse a map that cannot be cut into stripes of equal height.

    Args:
        plugin: who cuts, for the message.
        tap: the map.
        height: of the network's input, in pixels.
        cuts: into how many stripes.
        beside: into how many the plugin cuts its other maps of that stride, for the advice.

    Raises:
        ConfigError: the tap is a vector, or its height is no multiple of a cut, or not surely, as
            the input's is no multiple of the stride; with the nearest larger input height that
            fits.
    """
    if not tap.stride:
        raise ConfigError(
            f"plugin '{plugin}' cuts a map into stripes, but '{tap.name}' is a vector; name a map "
            "of the encoder or of another plugin"
        )
    rows = height / tap.stride  # encoders round it up or down
    for stripes in (cut for cut in cuts if cut > 1):  # the whole map has any number of rows
        if rows % stripes:
            unit = math.lcm(*cuts, *beside)
            fitting = math.ceil(rows / unit) * unit * tap.stride
            raise ConfigError(
                f"plugin '{plugin}' cuts '{tap.name}' into {stripes} stripes of equal height, "
                f"which its {rows:.4g} rows ({height} pixels at stride {tap.stride}) do not allow: "
                f"set -s data.height={fitting}"
            )
