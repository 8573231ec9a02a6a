"""How much the fine-grained feature counts at test, on a trained run (figure 8, right)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from reid_core import ConfigError
from reid_core.loop.assembly import Assembly
from reid_core.model.blocks import EmbeddingHead

FINE = "dgnet/fine"


def evaluate_betas(assembly: Assembly, betas: Sequence[float]) -> list[dict[str, Any]]:
    """Return the scores of a trained run for other values of beta, the first protocol's.

    Args:
        assembly: a restored run; where it held training identities out, it is evaluated on them, as
            in the paper.
        betas: weights of the similarity of the fine-grained feature, 0 or more.

    Raises:
        ConfigError: the run deploys no fine-grained feature, or there is nothing to evaluate it on.
    """
    evaluator = assembly.validator or assembly.evaluator
    embedder = assembly.embedder().eval()
    if FINE not in embedder.embeddings:
        raise ConfigError(
            f"this run does not deploy '{FINE}'; train with --plugins dgnet and a beta above 0"
        )
    if evaluator is None:
        raise ConfigError("the run's data set has no query images to evaluate on")
    rows, head = [], cast(EmbeddingHead, embedder.heads[FINE])
    own = head.declaration
    try:
        for beta in betas:
            # Both sides of a product get the root, as in training's declaration.
            head.declaration = replace(own, test_weight=beta**0.5)
            result = evaluator.evaluate(embedder).results[0]
            scores = {"rank1": float(result.cmc[0]), "map": float(result.mean_ap)}
            rows.append({"beta": beta, **scores, "protocol": result.protocol})
    finally:
        head.declaration = own
    return [{**row, "data": evaluator.dataset.name} for row in rows]
