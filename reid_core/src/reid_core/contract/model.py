"""What plugins declare about a model: taps, branches, embeddings. Free of torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from reid_core.contract.words import check_names, check_not_bare, check_word, words_of
from reid_core.errors import DeclarationError

if TYPE_CHECKING:
    from torch import nn

    from reid_core.contract.step import WeightSchedule

Vector = Literal["raw", "neck", "unit"]
"""Which vector of an embedding: before its neck, after it, or after it with length one."""

NECKS = ("none", "bn", "fc", "fc_bn", "fc_bn_relu")
"""Necks by name."""

SAMPLE_LABELS = ("camid", "clothes")
"""What every image has beside its fields, and a model may read: int64, -1 for unknown outfits."""

POOLINGS = ("avg", "max", "gem")
"""Poolings of the core by name."""

FRAME_POOLINGS = ("mean", "max")
"""Poolings of the core over the frames of a tracklet, by name."""

ENCODER_MAP = "encoder/map"
"""Name of the encoder's last map, whoever provides the encoder."""

CLASS_TOKEN = "encoder/class"
"""Name of the vector in which a transformer sums an image up, where the encoder has one."""


CLEAN_IMAGE = "clean_image"
"""What a branch reads to get the image without random erasing; ``image`` is what a pass shows."""


@dataclass(frozen=True)
class Tap:
    """A named feature map, or a named vector.

    Args:
        name: ``encoder/...`` or ``owner/name``.
        channels: number of channels.
        stride: input pixels per map pixel, the same in both directions; 0 for vectors.
    """

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Supervision:
    """Say what identity supervision an embedding wants; how it is done is the criterion's matter.

    Args:
        cross_entropy: the vector that is classified, or None for no classification.
        triplet: the vector whose distances a triplet loss shapes, or None.
        dropout: dropout before the classifier, in ``[0, 1)``.
        classifier_bias: whether the classifier has a bias.
        label_smoothing, margin: None takes the run's ``identity`` settings.
    """

    cross_entropy: Vector | None = "neck"
    triplet: Vector | None = "raw"
    dropout: float = 0.0
    classifier_bias: bool = False
    label_smoothing: float | None = None
    margin: float | None = None

    def __post_init__(self) -> None:
        for attribute in ("cross_entropy", "triplet"):
            if getattr(self, attribute) is not None:
                check_word(self, attribute, words_of(Vector))


@dataclass(frozen=True)
class Embedding:
    """A vector that describes a person, separate from how identity is supervised.

    Args:
        name: ``owner/name``.
        reads: the output (``B D`` or ``B D 1 1``), or a vector of another embedding, that it
            embeds. Where it is of single frames, ``model.frame_pooling`` makes one row per
            tracklet of it, before the neck.
        neck: ``none``, ``bn`` (BNNeck), ``fc`` (linear), ``fc_bn`` or ``fc_bn_relu``, or a module.
            The neck belongs to the embedding and is exported with it.
        dim: length after an ``fc`` neck or a module; otherwise that of the input.
        at_test: whether it is part of the deployed feature.
        test_vector: which vector is deployed.
        test_weight: factor on the deployed vector.
        weight: factor on all its identity terms; 0 leaves them out.
        supervision: None for an embedding without identity criterion.
    """

    name: str
    reads: str
    neck: str | nn.Module = "bn"
    dim: int | None = None
    at_test: bool = True
    test_vector: Vector = "unit"
    test_weight: float = 1.0
    weight: float | WeightSchedule = 1.0
    supervision: Supervision | None = Supervision()

    def __post_init__(self) -> None:
        check_word(self, "test_vector", words_of(Vector))
        if isinstance(self.neck, str):
            check_word(self, "neck", NECKS)


@dataclass(frozen=True)
class Branch:
    """A module beside or behind the encoder, called by the core in an order that fits its reads.

    Args:
        name: ``owner/name``.
        module: the module, or a factory that gets the taps of ``reads`` and ``sizes`` by name
            (``image`` and fields are not among them; of vectors ``channels`` is the length). It is
            called with the values of ``reads`` in that order and returns one tensor per name in
            ``writes`` (a bare tensor where there is one).
        reads: names of outputs (``owner/name``), of vectors (``core/global:neck``; ``deployed``,
            ``deployed:raw`` and the like for whatever describes a person at test), ``image`` (as
            the pass shows it, erased or not), ``clean_image``, ``camid``, ``clothes``, or fields
            (``parts``). Where a batch
            that is not of the main source lacks a field, the branch does not run on it.
        writes: names of its outputs, ``owner/name``.
        embeddings: embeddings of any outputs.
        frozen: in no group, always in evaluation mode, no gradient to its parameters (gradient to
            its inputs flows).
        may_be_idle: parameter names (prefixes) that may stay without gradient, such as an unused
            classifier of a pretrained network.
        sources: sources on whose batches it runs; None for all.
        sizes: names as in ``reads`` that only the factory of the module is told of.
        defaults: by name of ``reads``, the number that stands for an unknown value beside the image
            in the deployed model; what has none must be given there.
        moving: of a frozen branch: its weights move without gradient (a mean teacher, moved in
            ``reid_after_step``), so checkpoints hold them, where others of a frozen branch are
            made again from their own source.
        clips: whether what it reads of a tracklet's frames comes together, ``B T ...`` (of single
            images ``B 1 ...``), and what it writes has one row per tracklet. Otherwise a branch
            that reads anything of frames runs on them as on images, ``B*T ...``; what it reads of
            the whole sample beside them is repeated.
    """

    name: str
    module: nn.Module | Callable[[Mapping[str, Tap]], nn.Module]
    reads: tuple[str, ...] = (ENCODER_MAP,)
    writes: tuple[str, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    frozen: bool = False
    may_be_idle: tuple[str, ...] = ()
    sources: tuple[str, ...] | None = None
    moving: bool = False
    sizes: tuple[str, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)
    clips: bool = False

    def __post_init__(self) -> None:
        check_names(self, "reads", "writes", "may_be_idle", "sources", "sizes")
        if self.moving and not self.frozen:
            raise DeclarationError(f"Branch '{self.name}': moving is for a branch that is frozen")
        check_not_bare(self, "embeddings", Embedding)
