"""Settings of Sync-Person-Cloud; the defaults are the paper's where it speaks, see the README."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reid_core import Settings
from reid_core.config import Count, NonNegative as Weight, Positive, Probability as Share
from reid_unsup_cc.pise_training import PISESettings

Memories = Literal["both", "average", "hard", "instance"]
Combination = Literal["mean", "union"]
HardMetric = Literal["kl", "kl_unit", "cosine"]
Space = Literal["bn", "unit", "unit_tau"]
Background = Literal["keep", "grey", "swap"]


class ClusteringSettings(Settings):
    """Pseudo-identities at every epoch's start (equations 1 and 2)."""

    eps: Share = 0.4
    """Largest Jaccard distance of neighbours."""
    min_samples: Annotated[int, Field(ge=2)] = 4
    """Images that make a neighbourhood dense, the image itself included."""
    k1: Count = 30
    """Nearest images among which neighbours must be mutual."""
    k2: Count = 6
    """Nearest images whose encodings are averaged."""
    background: Literal["keep", "grey"] = "keep"
    """Whether features that are clustered are of images as they are, or with the background greyed
    after the garment maps. Not in the paper."""
    cameras: Literal["keep", "whiten"] = "keep"
    """Whether those features have mean 0 and variance 1 at each camera, so that a camera's look
    brings nobody together. Reads camera labels; not in the paper."""
    outliers: Literal["drop", "singletons"] = "drop"
    """What becomes of images in no cluster: left out for the epoch, or a cluster each."""
    stuck: Literal["adapt", "stop"] = "adapt"
    """Where there are too few clusters for a batch: take the nearest eps that gives enough, or stop
    with an error."""


class MemorySettings(Settings):
    """Memories and the contrast with them (equations 4 and 6 to 8)."""

    mode: Memories = "both"
    """Which memories there are: average and hardest vectors of every cluster, one of the two, or
    one vector per image (the rows 'no sampling')."""
    momentum: Share = 0.3
    """Share of the old vector that stays (m)."""
    start: Literal["random", "mean"] = "random"
    """What a cluster begins with: one member, drawn uniformly, or the mean of all."""
    renormalise: bool = True
    """Give vectors length one after every update."""
    average: Literal["batch", "sequential"] = "batch"
    """Whether the average memory moves once, towards the mean of a cluster's vectors in the batch,
    or towards one of them after the other."""
    hardest: HardMetric = "kl"
    """How the hardest vector of a cluster is found: largest divergence from its memory, between
    softmax distributions of unit vectors over τ (`kl`) or of unit vectors (`kl_unit`), or smallest
    cosine."""
    temperature: Positive = 0.05
    """τ of equation 8; 1 is the equation as printed, where τ cancels."""
    combine: Combination = "mean"
    """How two memories become one loss: the mean of theirs, or one softmax over both (`union`)."""


class SynthesisSettings(Settings):
    """The same people in other clothes (equation 3)."""

    method: Literal["recolor", "pise", "none"] = "recolor"
    """Transfer of colour and texture between regions of the garment maps, the network after PISE,
    or no other clothes at all."""
    outfits: Count = 2
    """Images in other clothes that accompany each image (S); the paper has 4."""
    online: bool = False
    """Synthesise in every step, from the augmented images, instead of once before training."""
    templates: Literal["fixed", "typical", "random"] = "fixed"
    """Whose clothes: for all images the same few templates, which are the most different ones, or
    those nearest to the centres of as many groups of like clothes; or some for each image."""
    background: Background = "keep"
    """What stands behind people in other clothes: what stood there, grey, or the template's
    background. Not in the paper."""
    template_data: str | None = None
    """Where templates are from, as after ``--data``; it must carry `garments`. None takes the
    training images themselves."""
    texture: Share = 1.0
    """`recolor`: how much of the template's pattern goes along with its colours."""
    shading: Share = 0.7
    """`recolor`: how much of the person's own light and shade replaces the template's."""


class UnsupCCSettings(Settings):
    """Settings of `UnsupCC`."""

    clustering: ClusteringSettings = ClusteringSettings()
    memory: MemorySettings = MemorySettings()
    synthesis: SynthesisSettings = SynthesisSettings()
    pise: PISESettings = PISESettings()
    constraint_weight: Weight = 0.3
    """α: weight of the self-identity constraint (equation 9)."""
    constraint_space: Space = "unit_tau"
    """Of which vectors the constraint compares softmax distributions: unit vectors over τ, unit
    vectors, or those before normalisation (behind batch norm, whose scale then fades)."""
    start: Literal["core", "outfits"] = "core"
    """How the encoder starts: as `model.start` says, or from contrastive pre-training in which an
    image's synthetic ones are its positives, too. The latter is not in the paper."""
