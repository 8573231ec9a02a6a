"""Labelers: makers of a field or of identities. Free of torch at import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from reid_core.contract.words import check_names, check_word, words_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from reid_core.contract.context import RunContext
    from reid_core.contract.fields import FieldSpec
    from reid_core.contract.samples import Sample, Source
    from reid_core.contract.stages import Stage, StageResult

    LabelMaker = Callable[["LabelContext"], Iterable[Any]]

Change: TypeAlias = "Callable[[Tensor, Mapping[str, Tensor]], Tensor]"

OF_SAMPLE = ("pid", "camid", "clothes", "path")
"""What a label may depend on beside the image and fields; ``path`` gives every file its own."""

Moment = Literal["once", "epoch"]
"""When labels are made: before training, or at each epoch's start."""


class FeatureMaker(Protocol):
    """Compute features of all images of a source at an epoch's start."""

    def __call__(
        self, change: Change | None = None, fields: Sequence[str] = ()
    ) -> NDArray[np.float32]:
        """Return ``N D`` unit features.

        Args:
            change: makes of normalised images ``B 3 H W`` and their fields what the network sees
                (a background taken away, say); None shows images as they are.
            fields: names of the fields that it reads.
        """


@dataclass(frozen=True)
class LabelContext:
    """What a labeler's ``make`` gets.

    Args:
        run: the run, with the device and the settings.
        source: the source to label.
        rows: rows of ``source`` that need a label (those that the cache lacks).
        features: computes ``N D`` float32 unit features of all of ``source`` with the current
            model in evaluation mode and the test transform; only at an epoch's start. It can be
            told to change the images first.
        epoch: 0-based; -1 before training.
        stage: the result of the labeler's stage, where it names one.
    """

    run: RunContext
    source: Source
    rows: NDArray[np.int64]
    features: FeatureMaker
    epoch: int = -1
    stage: StageResult | None = None

    @property
    def samples(self) -> list[Sample]:
        """The samples that need a label, in the order of ``rows``."""
        return [self.source.samples[row] for row in self.rows]


@dataclass(frozen=True)
class Labeler:
    """Make one field of the main source, or its identities.

    A field made once is made for query and gallery images too, where an embedding that is evaluated
    reads it; the context's ``source`` then is that of the test images, ``run.main`` still the main.

    Args:
        spec: the field; for identities ``FieldSpec("pid", FieldKind.SCALAR)``.
        make: gets a `LabelContext`, returns or yields one value per row asked for: an array; or for
            ``pid`` returns one int64 array over all rows, in which ``-1`` drops an image for the
            epoch.
        when: ``once`` before training, cached; or at each ``epoch``'s start, not cached.
        key: identifies model and settings in the cache; with ``once`` it must change whenever the
            labels would. The plugin's version, the precision, the field and the stage's key are
            added to it.
        stage: the stage that trains the labeler's network.
        reads: fields of a sample that its label depends on beside the image, or what the sample
            itself says: ``pid``, ``camid``, ``clothes``, ``path``. A cached label belongs to their
            content too, and those that labelers make are made before. Without it, two samples of
            one image, and an image whose person was renamed, have one label.
        example: like ``make``, with values of any content, so that everything behind the stage can
            be tried out before it is trained; it gets the stage with untrained weights. Without
            one, what is built behind the labels is tried only when they are made.
    """

    spec: FieldSpec
    make: LabelMaker
    when: Moment = "once"
    key: str = ""
    stage: Stage | None = None
    reads: tuple[str, ...] = ()
    example: LabelMaker | None = None

    def __post_init__(self) -> None:
        check_word(self, "when", words_of(Moment))
        check_names(self, "reads")
