"""Settings of the plugin. Free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reid_core import LinearRamp, Settings
from reid_core.config import Count, NonNegative, Positive, Probability

CodeLayout = Literal["channel_group", "stripe"]
Gan = Literal["lsgan", "nsgan"]
LabelStyle = Literal["soft", "hard", "appearance", "uniform", "masked"]
TeacherMode = Literal["eval_bn_batch", "eval", "official_accident"]

BY_TEACHER = ("soft", "hard", "masked")
"""Styles of labels that ask a teacher."""


class DgnetSettings(Settings):
    """Settings of DG-Net.

    Weights, structure and labels are the authors' by default; sizes, learning rate and warm-up fit
    a run of minutes, and the recipes for the public data sets have the authors'. Weights are those
    of one direction: a loss is the sum over both.
    """

    # Networks
    width: Count = 4
    """Channels of the structure encoder's first layer, from which all others follow; 16 in the
    paper."""
    blocks: Count = 4
    """Residual blocks of structure encoder, decoder and discriminators."""
    non_local: bool = False
    """Whether the decoder attends over all positions behind its blocks, as the released weights do
    and the published networks do not."""
    aspp: bool = True
    """Whether the structure encoder has an atrous spatial pyramid."""
    code_layout: CodeLayout = "channel_group"
    """What drives a block of the decoder: a group of channels of all four stripes of the appearance
    code, or one stripe."""
    head_pool: Literal["max", "avg"] = "max"
    """How the two embeddings pool the encoder's map."""
    dim: Count = 512
    """Length of each of the two embeddings."""
    beta: NonNegative = 0.5
    """Weight of the fine-grained embedding's similarity at test; 0 leaves it out."""
    anchors: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    """Rows of a batch that are composed with each other, at most, over all ranks."""

    # Teacher and its labels
    teacher: Literal["stage", "none"] | Path = "stage"
    """``stage`` trains it first, ``none`` has none; otherwise the folder ``teacher`` of an earlier
    run."""
    teacher_mode: TeacherMode = "eval_bn_batch"
    """Batch normalisation by the statistics of the generated images, without dropout; by the
    running statistics; or by those of the images and with dropout, as the authors' code does in
    effect."""
    teacher_epochs: Count = 4
    """Length of the teacher's training."""
    teacher_iterations: Count | None = None
    """Steps of an epoch of it; none takes one pass over the data."""
    teacher_lr: Positive | None = None
    """Learning rate of the teacher's encoder; none takes the run's."""
    teacher_stride: Literal[1, 2] | None = None
    """Last stride of the teacher's encoder; none takes 2, or the run's where the encoder is a
    plugin's and may have no stride to change."""
    labels: LabelStyle = "soft"
    """What the primary embedding should say about generated images: the teacher's distribution (the
    paper); its most likely identity; the identity that lent its appearance; all alike (LSRO, Zheng
    et al., 2017); or the teacher's distribution over the two donors alone."""

    # Losses
    image1: NonNegative = 5.0
    """Weight of self-reconstruction (equation 1)."""
    image2: NonNegative = 5.0
    """Weight of reconstruction from another image of the same person (equation 2)."""
    code1: NonNegative = 1.0
    """Weight of the appearance code's reconstruction (equation 4), after the warm-up."""
    code1_grad: Literal["log_only", "through_generator"] = "log_only"
    """Whether that loss trains the generator; in the authors' code it trains nothing."""
    code2: NonNegative = 1.0
    """Weight of the structure code's reconstruction (equation 5), after the warm-up."""
    cycle: NonNegative = 2.0
    """Weight of the image's reconstruction from generated images, after the warm-up; not in the
    paper."""
    again: Probability = 0.5
    """Share of steps in which codes of generated images train the structure encoder; in the others
    they train the generator, through a copy of it."""
    identity: Positive = 1.0
    """Weight of identity on real images (equation 3)."""
    identity_generated: NonNegative = 0.5
    """Weight of identity on generated images (equation 6)."""
    adversarial: NonNegative = 1.0
    """Weight of the adversarial loss (equation 7)."""
    gan: Gan = "lsgan"
    """Form of the adversarial loss: least squares (Mao et al., 2017), as in the authors' code, or
    the logarithms of equation 7 with the non-saturating generator."""
    r1: NonNegative = 0.01
    """Weight of the gradient penalty on real images, per scale."""
    primary: NonNegative = 2.0
    """Weight of primary feature learning (equation 8), after the warm-up."""
    alpha: NonNegative = 0.2
    """Weight of fine-grained feature mining (equation 9) over that of primary feature learning."""
    fine_on_real: bool = True
    """Whether the fine-grained embedding learns from real anchors, too; not in the paper."""
    appearance_grad: Literal["none", "recon", "all"] = "none"
    """Which losses of generated images reach the encoder through the appearance code: none, as in
    the authors' code; the two reconstructions of real images; or all."""
    offline: Path | None = None
    """Folder of images that ``reid dgnet generate set`` wrote: they train the encoder in place of
    images composed on the way, and nothing is composed."""
    feed: bool = True
    """Whether generated images train the encoder, after the warm-up."""
    warmup_begin: Annotated[int, Field(ge=-1)] = 40
    """Last iteration before generated images are fed and the scheduled weights rise; -1 rises from
    the first iteration on."""
    warmup_rate: Positive = 0.1
    """How much a scheduled weight rises with every iteration."""

    # Optimisers
    generator_lr: Positive = 2e-3
    """Learning rate of structure encoder, decoder and its MLPs (Adam)."""
    discriminator_lr: Positive = 1e-4
    """Learning rate of the discriminator (Adam)."""
    clean_statistics: Literal["batch", "update"] = "batch"
    """Whether clean images move the encoder's running statistics beside the erased ones."""

    # Pictures
    picture: Annotated[int, Field(ge=0, le=16)] = 6
    """Side of the grid of swapped codes that a run leaves; 0 draws none."""
    picture_every: Annotated[int, Field(ge=0)] = 0
    """Epochs between two pictures; 0 draws one after the last epoch alone."""

    @model_validator(mode="after")
    def _stripes_and_blocks_agree(self) -> DgnetSettings:
        if self.code_layout == "stripe" and self.blocks != 4:
            raise ValueError(
                f"code_layout = 'stripe' needs one block for each of 4 stripes, not {self.blocks}; "
                "set blocks to 4"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_known_offline(self) -> DgnetSettings:
        if self.offline is not None and self.labels in ("appearance", "masked"):
            raise ValueError(
                f"labels = '{self.labels}' asks whose appearance an image has, which a generated "
                "set does not say; with offline, labels is 'soft', 'hard' or 'uniform'"
            )
        return self

    @property
    def asks_teacher(self) -> bool:
        """Whether there is a teacher: somebody asks it, and the user did not leave it out."""
        asked = self.labels in BY_TEACHER and self.feed and self.primary > 0
        return asked and self.teacher != "none"

    def ramp(self, weight: float, share: float = 1.0) -> float | LinearRamp:
        """Return the schedule of a weight that rises after the warm-up.

        Args:
            weight: where it ends, times ``share``.
            share: factor that does not change how long it rises.
        """
        if not weight * share:
            return 0.0
        steps = max(1, round(weight / self.warmup_rate))
        return LinearRamp(0.0, weight * share, self.warmup_begin, self.warmup_begin + steps)
