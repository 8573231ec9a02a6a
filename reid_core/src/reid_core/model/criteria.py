"""Identity criteria: how the identity of an embedding is supervised."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from reid_core.config import IdentitySection
from reid_core.contract.criterion import IdentityCriterion, IdentityOutput
from reid_core.contract.model import Embedding
from reid_core.contract.vectors import Embedded
from reid_core.errors import PluginError
from reid_core.model.losses import batch_hard_triplet, identity_cross_entropy


class CrossEntropyTriplet(IdentityCriterion):
    """Cross-entropy with optional smoothing, and batch-hard triplet: the core's criterion.

    Args:
        embedding: what is supervised.
        dim: length of the classified vector.
        identities: number of training identities.
        settings: the run's ``identity`` section.
    """

    def __init__(
        self, embedding: Embedding, dim: int, identities: int, settings: IdentitySection
    ) -> None:
        super().__init__(embedding)
        wants = self.supervision
        self.settings = settings
        self.smoothing = (
            settings.label_smoothing if wants.label_smoothing is None else wants.label_smoothing
        )
        self.margin = settings.margin if wants.margin is None else wants.margin
        self.dropout = nn.Dropout(wants.dropout)
        self.classifier: nn.Linear | None = None
        if wants.cross_entropy is not None:
            self.classifier = nn.Linear(dim, identities, bias=wants.classifier_bias)
            nn.init.normal_(self.classifier.weight, std=0.001)
            if wants.classifier_bias:
                nn.init.zeros_(self.classifier.bias)

    def logits(self, embedded: Embedded) -> Tensor:
        """Return the classifier's logits ``B K``.

        Raises:
            PluginError: the embedding is not classified.
        """
        wanted = self.supervision.cross_entropy
        if self.classifier is None or wanted is None:
            raise PluginError(f"embedding '{self.embedding.name}' is not classified: no logits")
        return cast(Tensor, self.classifier(self.dropout(getattr(embedded, wanted))))

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        """Return the terms ``ce`` and ``triplet``; see `IdentityCriterion.forward`."""
        wants, terms = self.supervision, {}
        logits = None
        if wants.cross_entropy is not None:
            logits = self.logits(embedded)
            terms["ce"] = identity_cross_entropy(logits, labels, self.smoothing, soft_targets)
        if wants.triplet is not None and self.settings.triplet_weight:
            if soft_targets is not None:
                # A soft row belongs to no single identity and can be nobody's positive.
                labels = torch.where(soft_targets.sum(1) > 0, -1, labels)
            terms["triplet"] = batch_hard_triplet(
                getattr(embedded, wants.triplet), labels, self.margin, self.settings.soft_margin
            )
        weights = {"ce": self.settings.ce_weight, "triplet": self.settings.triplet_weight}
        return IdentityOutput(terms, logits, {name: weights[name] for name in terms})
