"""Settings of FSAM; the defaults are the paper's, and its open points are named in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from reid_core import Settings
from reid_core.config import Count, NonNegative as Weight, Positive

MaskKind = Literal["prob", "parts", "foreground", "palette", "logits"]
Norm = Literal["fro", "sq", "mean"]
Routing = Literal["pose", "sum", "single"]
Size = tuple[Count, Count]

BLOCKS = 4
"""Convolution blocks of a stream, all of which are compared (equation 9)."""


class FsamSettings(Settings):
    """Settings of `Fsam`."""

    stream: Literal["fine", "coarse", "image"] = "fine"
    """What the second stream sees: the mask that identities refine (S), the frozen parser's mask
    (S*), or the image itself (A<->A)."""
    branches: Routing = "pose"
    """Last block: one copy per pose cluster (POSE), the sum of as many copies (3B), or one."""
    clusters: Annotated[int, Field(ge=2)] = 3
    """Pose clusters, and copies of the last block."""
    mutual: Literal["both", "to_appearance", "none"] = "both"
    """Who learns from whom: A<->S, A<-S, or nobody."""
    kl_weight: Weight = 1.0
    """λ_KL of equation 12."""
    kl_detach: bool = False
    """Each divergence trains only its second distribution's stream, as in deep mutual learning."""
    si_weight: Weight = 0.5
    """λ_SI of equation 12."""
    si_norm: Norm = "mean"
    """Norm of equation 9: Frobenius as printed, squared, or squared over the number of pairs."""
    keep_weight: Weight = 10.0
    """λ_R of equation 5."""
    appearance: str | None = None
    """Embedding of the appearance stream that L_KL compares; none takes `core/global`, or all that
    other plugins classify."""
    blocks: tuple[str, ...] = ()
    """Maps of the appearance stream that L_SI compares; empty takes the encoder's last four
    stages."""
    mask: MaskKind = "prob"
    """Representation of a mask: class probabilities, those without background, their sum, a
    picture in fixed colours, or raw logits."""
    mask_size: Size | None = None
    """Height and width of masks; none takes the image's."""
    erased: Literal["shared", "appearance"] = "shared"
    """Which streams see random erasing."""
    parser: Literal["light", "danet", "schp"] = "light"
    """Parsing network."""
    parser_weights: Path | None = None
    """Trained weights; none trains the parser in a stage."""
    parser_label_set: Literal["pascal", "lip", "atr"] | None = None
    """Classes of released SCHP weights; none for weights that `reid parsing train` saved."""
    parser_data: str | None = None
    """Labelled data of the stage, as after ``--data``; none takes the main set's sibling
    ``...-crops``, else ``synthpeople-crops``."""
    parser_epochs: Count = 5
    """Length of the stage."""
    parser_iterations: Count | None = None
    """Steps of one of its epochs; none goes through the images once."""
    parser_size: Size | None = None
    """Height and width of the parser's input; none takes the image's."""
    parser_lr_scale: Positive = 1.0
    """Factor on the live parser's learning rate."""
    parser_bn: Literal["train", "eval"] = "train"
    """Whether the live parser normalises by the batch or by its running statistics."""
    extractor: str | None = None
    """Shape extractor: any ResNet of timm; none takes ``model.backbone``, or the paper's
    ``resnet50.tv_in1k`` where that is an encoder of another plugin."""
    poses: Path | None = None
    """Keypoints of AlphaPose or in COCO's format (JSON), in place of the field ``keypoints``."""
    pose_threshold: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Visibility above which a joint counts as seen; none takes 0.4, as AlphaPose does, for a
    detector's scores and the field ``keypoints``, and 0 for COCO's annotations."""
    pose_scale: Literal["image", "box"] = "image"
    """Joints are relative to the image, or to the box around them."""
