"""What an identity criterion is. Needs torch at import, for authors subclass it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from reid_core.contract.model import Embedding, Supervision
from reid_core.contract.vectors import Embedded
from reid_core.contract.words import unknown_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class IdentityOutput:
    """What a criterion computes.

    Args:
        terms: scalar loss terms by short name (``ce``), before the embedding's weight.
        logits: ``B K`` similarities to identities or clusters; None where nothing is classified.
        weights: factors of terms by short name, 1 where none is given; ``loss_weights`` of the run
            takes their place, and logs show a term before its weight.
    """

    terms: Mapping[str, Tensor]
    logits: Tensor | None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.weights:
            if name not in self.terms:
                raise unknown_name(name, self.terms, "loss term", "the criterion")


class IdentityCriterion(nn.Module):
    """Base of identity criteria; one is made per supervised embedding.

    Args:
        embedding: what is supervised.
    """

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    @property
    def supervision(self) -> Supervision:
        """What supervision the embedding wants."""
        return self.embedding.supervision or Supervision()

    def logits(self, embedded: Embedded) -> Tensor:
        """Return identity logits ``B K``."""
        raise TypeError(f"{type(self).__name__} must define logits")

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        """Return loss terms and logits.

        Args:
            embedded: the embedding's vectors.
            labels: int64 ``B``; ``-1`` marks rows without identity.
            soft_targets: float ``B K`` or None; see `identity_cross_entropy`.
        """
        raise TypeError(f"{type(self).__name__} must define forward")

    def begin(self, labels: NDArray[np.int64], features: Callable[[], NDArray[np.float32]]) -> None:
        """Prepare for an epoch.

        Args:
            labels: this epoch's identity of every row of the main source; ``-1`` is left out.
            features: computes the embedding's unit vectors of all rows, ``N D``, when called.
        """

    def update(self, embedded: Embedded, labels: Tensor) -> None:
        """Act after the optimisers' step (memories); the vectors are detached.

        Args:
            embedded: the vectors of the step's main pass.
            labels: their identities.
        """
