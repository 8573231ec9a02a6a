"""Generalised-mean pooling (Radenovic et al., TPAMI 2019), which cluster contrast prefers."""

from __future__ import annotations

from typing import Any

from reid_core import GlobalPool


class GeneralisedMean(GlobalPool):
    """The core's pooling ``gem``, under the name that stored embedders have for it."""

    def __init__(self) -> None:
        super().__init__("gem")

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_unsup_cc.pooling:GeneralisedMean", "kwargs": {}}
