"""The settings of SAN and of SAN-PG; the defaults are the paper's where it says something."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from reid_core import Settings
from reid_core.config import Count, NonNegative as Weight, Positive as Rate


class DecoderSettings(Settings):
    """What the decoder is and regresses; SAN and SAN-PG share it."""

    guide: Literal["texture", "pose", "pngan", "input"] = "texture"
    """What is regressed (table 2): the texture, the person in one pose from the front by SAN-PG or,
    as PN-GAN's images, by the user, or the input."""
    skips: Literal["none", "unet"] = "none"
    """``unet`` adds three of the encoder's maps, as the public code does."""
    width: Count | None = None
    """Channels behind the decoder's first layer; none takes a quarter of the encoder's map's, 64 to
    512."""
    gain: Rate = 0.3
    """Gain of its initial weights; the public code's is 0.02."""
    centred: bool = True
    """Whether it regresses the difference from the mean of what it learns from."""
    colour: bool = True
    """Whether a linear layer on the encoder's last map paints the image's large areas, from nothing
    at the start; false in the paper's recipes."""


class SanSettings(DecoderSettings):
    """Settings of SAN."""

    rec: Weight = 1.0
    """λ3, the weight of the reconstruction on batches of people."""
    tr: Weight = 1.0
    """λ4, the weight of the Triplet ReID constraints; 0 leaves them out."""
    synthetic: Weight = 1.0
    """λ3 on batches of pairs."""
    synthetic_every: Annotated[int, Field(ge=0)] = 1
    """Steps per batch of pairs: 1 alternates batches of people and of pairs, 0 leaves pairs out."""
    pairs_batch: Count = 16
    """Pairs of a batch."""
    pairs_root: Path | None = None
    """Folder of your own pairs, for the source ``san-pairs``."""
    frontal_root: Path | None = None
    """Folder of your own frontal images, NAME.png or .jpg for every training image, for the guide
    ``pngan``."""
    texture_size: Count | None = None
    """Height and width that textures must have; none takes that of the pairs."""

    blocks: tuple[Annotated[int, Field(ge=1, le=4)], ...] = (1, 2, 3)
    """Decoder blocks whose maps are constrained."""
    margin: Weight = 0.3
    """m of equation 1."""
    tr_norm: Literal["hw", "chw"] = "chw"
    """What distances of maps are divided by: places, as in equation 1 and the paper's recipes, or
    places and channels."""
    tr_sampling: Literal["random", "fixed"] = "random"
    """``random``: one positive and one negative per anchor; ``fixed``: the public code's few."""
    tr_reduce: Literal["mean", "sum"] = "mean"
    """Over anchors; blocks are always summed."""

    start: Literal["pg", "none"] = "pg"
    """Where encoder and decoder start from: SAN-PG, or as ``model.pretrained`` says, as always with
    the guide ``input``, for which SAN-PG has learnt nothing."""
    scheme: Literal["joint", "two_step"] = "joint"
    """``joint``: one optimiser; ``two_step``: the terms of the decoder through one of their own."""
    texture_lr: Rate = 1e-5
    """Its learning rate, for ``two_step``."""
    decoder_lr_scale: Rate = 0.2
    """Factor on the learning rate of the decoder, for ``joint``; 1 in the paper's recipes."""
    embed: Literal["core", "fc512"] = "core"
    """``core``: the core's global embedding; ``fc512``: the public code's, of length 512."""

    pg_backbone: str | None = None
    """Encoder of the SAN-PG that makes the pseudo textures; none takes the run's. What the run
    starts from is SAN-PG with the run's own encoder."""
    pg_epochs: Count = 3
    """Length of SAN-PG's training."""
    pg_iterations: Annotated[int, Field(ge=0)] = 20
    """Steps of its epochs; 0 goes through the pairs once."""
    pg_batch: Count = 32
    """Its batch size, where there are so many pairs."""
    pg_lr: Rate = 1e-3
    """Its learning rate."""
    pg_decay: Literal["cosine", "constant"] = "cosine"
    """How it falls."""

    @property
    def decoder(self) -> DecoderSettings:
        """What SAN-PG has in common with SAN: all of it, whatever is added there."""
        shared = DecoderSettings.model_fields
        return DecoderSettings(**{name: getattr(self, name) for name in shared})
