"""Where a classifier looks: Grad-CAM (Selvaraju et al., ICCV 2017; paper, figure 10)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from reid_core import ConfigError, did_you_mean, grad_cam, pixels_of
from reid_core.loop.assembly import Assembly
from reid_core.model.graph import ReidModel
from reid_partaware.pictures import draw_over_images
from reid_partaware.segmenting import batches_of, some_images


def explain(
    assembly: Assembly,
    count: int,
    path: Path,
    embedding: str | None = None,
    feature: str | None = None,
) -> tuple[str, str]:
    """Draw where a classifier of a restored run looks in some query images.

    Args:
        assembly: the run.
        count: how many images, evenly spread over the queries.
        path: where to write; the suffix gives the format.
        embedding: whose classifier; None takes the first one.
        feature: the map whose channels are weighed; None takes that of the embedding.

    Returns:
        The embedding and the map.

    Raises:
        ConfigError: as `class_attention`, or there is no classifier at all.
    """
    model = assembly.model
    if not model.criteria:
        raise ConfigError("this run has no classifier whose attention could be drawn")
    chosen = embedding or min(model.criteria)
    samples = some_images(assembly, count)
    images = torch.cat([batch.image for batch in batches_of(assembly, samples)])
    known = chosen in model.embeddings
    where = feature or (map_of(model, chosen) if known else "")
    maps = class_attention(model, images, chosen, where).float().cpu().numpy()
    titles = [f"person {sample.pid}, camera {sample.camid}" for sample in samples]
    draw_over_images(list(pixels_of(images).numpy()), list(maps), titles, path)
    return chosen, where


def class_attention(model: ReidModel, image: Tensor, embedding: str, feature: str) -> Tensor:
    """Weigh a map's channels by the mean gradient of the most likely identity's logit.

    The paper does not say which identity it explains; people at test are not among those of the
    classifier, so it is the one that the classifier takes them for.

    Args:
        model: in evaluation mode.
        image: normalised, ``B 3 H W``.
        embedding: the one whose classifier is explained.
        feature: a map ``B C h w`` from which the embedding is computed.

    Returns:
        ``B h w`` in 0 .. 1, the largest value of every image 1 (all 0 where nothing speaks for the
        identity).

    Raises:
        ConfigError: an embedding without classifier, or a map that it does not depend on.
    """
    if embedding not in model.criteria:
        raise ConfigError(
            f"embedding '{embedding}' has no classifier{did_you_mean(embedding, model.criteria)} "
            f"(there are: {', '.join(model.criteria)})"
        )
    with torch.enable_grad():
        outputs = model.run(image, {}, "main", ("*",))
        if feature not in outputs or outputs[feature].dim() != 4:
            maps = [name for name, value in outputs.items() if value.dim() == 4]
            raise ConfigError(
                f"there is no map '{feature}'{did_you_mean(feature, maps)} "
                f"(there are: {', '.join(maps)})"
            )
        vectors = model.embed(outputs)[embedding]
        logits = model.criteria[embedding].logits(vectors)  # type: ignore[operator]
        found = grad_cam(logits.max(dim=1).values, outputs[feature])
    if found is None:
        raise ConfigError(f"embedding '{embedding}' does not depend on the map '{feature}'")
    return found


def map_of(model: ReidModel, embedding: str) -> str:
    """Return the first input of the branch that writes what an embedding reads: its map."""
    reads = model.embeddings[embedding].reads
    for branch in model.declarations.values():
        if reads in branch.writes and branch.reads:
            return branch.reads[0]
    return reads
