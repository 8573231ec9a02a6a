"""Protocols of the variants that the generic ones do not cover, under names of their own.

The rules are those of the published protocols of the sets whose layout the variants have; the names
say that the people are synthetic.
"""

from __future__ import annotations

from reid_core import Protocol
from reid_retrieval.protocols import JunkRule, Subset, single_shot_variant

_A, _B, _C = 0, 1, 2
"""PRCC's cameras: A and B see one outfit, C another one."""


def _prcc(setting: str, asking: int) -> tuple[Protocol, Protocol]:
    """Cameras differ between query and gallery anyway, so nothing is junk."""
    name = f"synthpeople/prcc/{setting}"
    rules = Protocol(name, query=Subset(cameras=(asking,)), gallery=Subset(cameras=(_A,)))
    multi = Protocol(f"{name}/multi-shot", query=rules.query, gallery=rules.gallery)
    return multi, single_shot_variant(rules, trials=10)


def _vcclothes(setting: str, cameras: tuple[int, int]) -> Protocol:
    """Only two of the four cameras ask and are searched; which clothes people wear follows."""
    subset = Subset(cameras=cameras)
    return Protocol(
        f"synthpeople/vcclothes/{setting}",
        query=subset,
        gallery=subset,
        junk=JunkRule(same=("camid",)),
    )


OWN_PROTOCOLS = (
    *_prcc("cc", asking=_C),
    *_prcc("sc", asking=_B),
    _vcclothes("sc", (1, 2)),
    _vcclothes("cc", (2, 3)),
)
"""All that the plugin offers."""

_CHANGING = ("standard", "cross-clothes", "same-clothes")

_PRCC = tuple(p.name for p in OWN_PROTOCOLS if p.name.startswith("synthpeople/prcc/"))

PROTOCOLS = {
    "mixed": _CHANGING,
    "market": ("standard",),
    "prcc": _PRCC,
    "ltcc": _CHANGING,
    "vcclothes": ("standard", "synthpeople/vcclothes/sc", "synthpeople/vcclothes/cc"),
    "tracks": _PRCC,
    "street": _CHANGING,
    "tracklets": _CHANGING,
}
"""What each variant reports, the first one first."""
