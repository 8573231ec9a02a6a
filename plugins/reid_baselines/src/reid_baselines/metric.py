"""Losses and miners of pytorch-metric-learning as identity criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from reid_baselines.metric_settings import MetricSettings
from reid_core import ConfigError, Need, Plugin, hookimpl

if TYPE_CHECKING:
    from reid_core import Embedding, IdentityCriterion, RunConfig, RunContext

LIBRARY = "pytorch_metric_learning"


class Metric(Plugin):
    """Supervise identity by any loss of the library, on pairs or triplets of any of its miners."""

    Settings = MetricSettings
    claims = ("identity",)

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """Identities; the same ones always, where each has parameters of its own."""
        found = [Need("identities")]
        if self._per_identity():
            remedy = f"a loss over pairs with -s {self.name}.cross_entropy=false needs none"
            found.append(Need("fixed_identities", remedy))
        return found

    def check(self, config: RunConfig) -> None:
        """Refuse what the library does not have.

        Raises:
            ConfigError: it is not installed, or has no such class or argument.
        """
        if find_spec(LIBRARY) is None:
            raise ConfigError(
                f"plugin '{self.name}' needs pytorch-metric-learning: "
                "pip install 'reid-baselines[metric]'"
            )
        from reid_baselines.metric_criterion import check_settings

        check_settings(self.name, self.settings)

    @hookimpl
    def reid_identity(
        self, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> IdentityCriterion:
        """Make the loss of one embedding."""
        from reid_baselines.metric_criterion import MetricCriterion
        from reid_core import CrossEntropyTriplet

        beside, wants = None, embedding.supervision
        if self._classified() and wants is not None and wants.cross_entropy is not None:
            alone = replace(embedding, supervision=replace(wants, triplet=None))
            beside = CrossEntropyTriplet(
                alone, dims[wants.cross_entropy], ctx.num_identities, ctx.config.identity
            )
        dim = dims[self.settings.vector]
        return MetricCriterion(embedding, dim, ctx.num_identities, self.settings, beside)

    def _classified(self) -> bool:
        """Return whether cross-entropy stands beside the loss, where an embedding asks for it."""
        from reid_baselines.metric_criterion import classifies

        asked = self.settings.cross_entropy
        return not classifies(self.settings.loss) if asked is None else bool(asked)

    def _per_identity(self) -> bool:
        if find_spec(LIBRARY) is None:
            return False
        from reid_baselines.metric_criterion import per_identity

        return self._classified() or per_identity(self.settings.loss)
