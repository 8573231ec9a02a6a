"""PCB (Sun et al. 2018; Huang et al. 2020, figure 5): a vector and a classifier per stripe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from reid_baselines.stripes import StripePool, check_stripes
from reid_core import ENCODER_MAP, Branch, Embedding, Need, Plugin, Settings, Supervision, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from reid_core import RunContext, Tap


class PcbSettings(Settings):
    """Settings of PCB; the defaults are those of Huang et al. (2020)."""

    stripes: Annotated[int, Field(ge=1)] = 6
    """Number of stripes."""
    dim: Annotated[int, Field(ge=1)] = 256
    """Length of each stripe's embedding."""
    pooling: Literal["max", "avg"] = "max"
    """How a stripe is pooled; the original PCB averages."""
    stream: str = ENCODER_MAP
    """The map that is cut, the encoder's or another plugin's."""
    unit_stripes: bool = True
    """Whether each vector is scaled to length one before they are concatenated."""


class Pcb(Plugin):
    """Cut the last map into stripes and describe a person by all of them."""

    Settings = PcbSettings
    claims = ("embedding",)
    # Six stripes do not divide the 8 rows that the quick recipe's 128 pixels leave at stride 16.
    defaults: Mapping[str, Any] = {"data.height": 192}
    needs = (Need("identities"),)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Pool every stripe, and embed each on its own."""
        if not ctx.owns(self.name, "embedding"):
            return []
        settings, stripes = self.settings, range(1, self.settings.stripes + 1)

        def build(known: Mapping[str, Tap]) -> nn.Module:
            cuts = (settings.stripes,)
            check_stripes(self.name, known[settings.stream], ctx.image_size[0], cuts)
            return StripePool(settings.pooling, cuts)

        embeddings = tuple(self._embedding(stripe) for stripe in stripes)
        writes = tuple(embedding.reads for embedding in embeddings)
        return [Branch(self.own("stripes"), build, (settings.stream,), writes, embeddings)]

    def _embedding(self, stripe: int) -> Embedding:
        # As many digits as the last one has: names are sorted, and order the feature.
        number = f"{stripe:0{len(str(self.settings.stripes))}d}"
        return Embedding(
            self.own(f"stripe{number}"),
            reads=self.own(f"pooled{number}"),
            neck="fc_bn_relu",
            dim=self.settings.dim,
            test_vector="unit" if self.settings.unit_stripes else "neck",
            weight=1.0,  # eq. 3: the sum over the stripes
            supervision=Supervision(cross_entropy="neck", triplet=None, classifier_bias=True),
        )
