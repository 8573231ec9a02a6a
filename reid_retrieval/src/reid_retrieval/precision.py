"""Whether similarities are first computed in bfloat16: where the processor makes that pay."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args

import numpy as np

from reid_retrieval.errors import ConfigError, did_you_mean
from reid_retrieval.products import chosen_library, thread_seconds, trials

Precision = Literal["auto", "fp32", "bf16"]
"""What similarities are computed in; results are float32's in any case.

``bf16`` screens in bfloat16 with a bound of its error, and compares in float32 whatever the bound
leaves in doubt. ``auto`` screens on the host where the processor multiplies bfloat16 and, tried
once per process, does it clearly faster than float32; a gallery that is prepared for one search or
evaluation, only for 512 queries or more, and evaluation only where these are ranked in whole
galleries: not in single-shot ones, and not under a rule of `JunkRule.apart`.
"""

_CLEARLY_FASTER = 1.5
"""How much faster products must be: what the bound leaves in doubt has to be paid for."""

_LEAST_QUERIES = 512
"""How many queries pay for rounding a gallery: 250 to 400 did with products twice as fast."""


def screens(precision: Precision, host: bool = True, queries: int | None = None) -> bool:
    """Return whether to screen in bfloat16.

    Args:
        precision: what was asked for.
        host: whether the features are on the host.
        queries: how many there are, where the gallery is prepared for them alone.

    Raises:
        ConfigError: there is no such precision.
    """
    if precision not in get_args(Precision):
        hint = did_you_mean(precision, get_args(Precision))
        raise ConfigError(f"unknown precision '{precision}'{hint}; known: auto, fp32, bf16")
    if precision == "auto" and queries is not None and queries < _LEAST_QUERIES:
        return False
    if precision == "auto":
        return host and multiplies_bfloat16() and chosen_library(host) != "cuda" and _pays()
    return precision == "bf16"


def multiplies_bfloat16() -> bool:
    """Return whether this processor has instructions for products in bfloat16, and torch is there.

    Elsewhere bfloat16 is emulated, many times slower than float32. torch is not imported for it.
    """
    if "torch" not in sys.modules:
        return False
    import torch

    # Older releases of torch do not tell.
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


@cache
def _pays() -> bool:
    """Return whether products in bfloat16 are clearly faster than the fastest in float32."""
    fastest = min(trial.seconds for trial in trials().values() if not trial.problem)
    return bfloat16_seconds() * _CLEARLY_FASTER < fastest


def bfloat16_seconds(rounds: int = 5) -> float:
    """Return the shortest time of the products by which libraries are tried, in bfloat16."""
    import torch

    rng = np.random.default_rng(0)
    queries = torch.from_numpy(rng.standard_normal((256, 512), np.float32)).bfloat16()
    gallery = torch.from_numpy(rng.standard_normal((2048, 512), np.float32)).bfloat16()
    out = torch.empty(256, 2048, dtype=torch.bfloat16, device="cpu")
    found = []
    for _ in range(rounds):
        began = thread_seconds()
        torch.mm(queries, gallery.t(), out=out)
        found.append(thread_seconds() - began)
    return min(found)
