"""GlobalPool (Huang et al. 2020, figure 4): the core's embedding with other settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reid_core import ConflictError, Plugin, hookimpl

if TYPE_CHECKING:
    from reid_core import Branch, RunContext, Tap


class Globalpool(Plugin):
    """Max-pool the encoder's map, embed it by FC, BN and ReLU, and classify; no triplet loss.

    Nothing is built here: the core's own embedding ``core/global`` does all of it, so whatever
    stacks onto the core's baseline stacks onto this one.
    """

    defaults: Mapping[str, Any] = {
        "model.pooling": "max",
        "model.neck": "fc_bn_relu",
        "model.dim": 512,
        "identity.classifier_bias": True,
        "identity.triplet_weight": 0.0,
    }

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Refuse to be without effect where another plugin replaces the core's embedding."""
        owner = ctx.slots["embedding"]
        if owner != "core":
            raise ConflictError(
                f"plugin '{self.name}' sets up the core's global embedding, which plugin '{owner}' "
                "replaces (slot 'embedding'); leave one of them out"
            )
        return []
