"""Generalised-mean pooling (Radenovic et al., TPAMI 2019) of embedders that were stored with it."""

from __future__ import annotations

from reid_core import GlobalPool


class GeneralisedMean(GlobalPool):
    """The core's pooling ``gem``, under the name that earlier embedders have for it."""

    def __init__(self) -> None:
        super().__init__("gem")
