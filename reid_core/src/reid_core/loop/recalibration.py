"""Re-estimate the statistics of batch normalisation on real images, as they are.

Running statistics are those of training's batches: augmented, and where a plugin joins generated
images to a batch, mostly of those. What is evaluated, clustered and deployed sees none of them.
"""

from __future__ import annotations

from reid_core.data.clips import clips_of
from reid_core.evaluation.statistics import estimate, norms_of
from reid_core.loop.assembly import Assembly
from reid_core.model.embedder import embedder_of


def recalibrate(assembly: Assembly) -> None:
    """Replace the statistics of batch normalisation by those of real training images.

    Concerned are encoder, branches and necks that lead to embeddings of the run; what is frozen or
    kept in evaluation mode by its owner stays. The result depends on the weights and the images
    alone, not on the statistics before.

    Args:
        assembly: the run, its model in training mode.
    """
    config, truth = assembly.config, assembly.truth
    wanted = {*assembly.model.criteria, *assembly.embedder().heads}
    embedder = embedder_of(assembly.model, config.data.size, sorted(wanted))
    estimate(
        embedder,
        [norm for norm in norms_of(embedder) if norm.training],
        truth,
        clips_of(config, truth),
        threads=config.data.threads,
        engine=config.engine,
    )
