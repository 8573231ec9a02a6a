"""Features of tracklets: all frames of each, in batches whose memory its length does not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from reid_core.contract.batches import Batch
from reid_core.contract.labelers import Change
from reid_core.contract.model import SAMPLE_LABELS, Vector
from reid_core.contract.samples import Sample
from reid_core.contract.vectors import Embedded
from reid_core.model.embedder import Embedder

Shown = Callable[[Tensor, Mapping[str, Tensor], int], Sequence[Tensor]]
"""Makes of images ``B*T 3 H W``, fields and ``T`` some tensors, of ``B*T`` or of ``B`` rows."""


class Gathering:
    """Gather what is computed of every frame or clip until a tracklet is whole.

    Args:
        samples: what is embedded.
        show: computes it.
        finish: makes one row ``1 D`` of a whole tracklet: it gets ``1 N ...`` of every tensor, of N
            frames or clips.
    """

    def __init__(
        self, samples: Sequence[Sample], show: Shown, finish: Callable[[Sequence[Tensor]], Tensor]
    ) -> None:
        self._samples, self._show, self._finish = samples, show, finish
        self._row: int | None = None
        self._parts: list[list[Tensor]] = []

    @classmethod
    def of(
        cls, embedder: Embedder, samples: Sequence[Sample], vector: Vector | None = None
    ) -> Gathering:
        """Gather the features of an embedder.

        Args:
            embedder: in evaluation mode.
            samples: what is embedded.
            vector: which one of every embedding; None takes the deployed ones.
        """
        return cls(
            samples,
            before_pooling(embedder),
            lambda parts: embedder.joined(pooled(embedder, parts), vector),
        )

    def add(self, batch: Batch, image: Tensor, fields: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the rows of the tracklets that a batch completes.

        Args:
            batch: prepared, of clips in the order of the samples.
            image: its images, or their mirror images.
            fields: what is known beside them.
        """
        found, clips = self._show(image, fields, batch.frames), len(batch)
        split = [one.unflatten(0, (clips, -1)) for one in found]
        done = []
        for place, row in enumerate(batch.index.tolist()):
            if row != self._row:
                done += self.rest()
                self._row, self._parts = row, [[] for _ in found]
            for parts, one in zip(self._parts, split, strict=True):
                parts.append(one[place])
        return done

    def rest(self) -> list[Tensor]:
        """Return the row of the tracklet that is not complete yet, where there is one."""
        if self._row is None:
            return []
        frames = len(self._samples[self._row].images)
        # A clip that was filled up from the tracklet's beginning has more frames than there are.
        whole = [torch.cat(parts)[None, :frames] for parts in self._parts]
        self._row = None
        return [self._finish(whole)]


def before_pooling(embedder: Embedder, change: Change | None = None) -> Shown:
    """Return what computes the inputs of an embedder's embeddings, frame by frame or clip by clip.

    Args:
        embedder: in evaluation mode.
        change: makes of images and fields what the network sees; None shows images as they are.
    """

    def show(image: Tensor, fields: Mapping[str, Tensor], frames: int) -> list[Tensor]:
        if change is not None:
            shown = {name: v for name, v in fields.items() if name not in SAMPLE_LABELS}
            image = change(image, shown)
        values = embedder.values(image, fields, frames)
        return [values[one.reads].flatten(1) for one in embedder.embeddings.values()]

    return show


def mean_of_frames(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean ``1 ...`` of one tensor ``1 N ...`` over a tracklet's frames or clips."""
    return parts[0].float().mean(1)


def pooled(embedder: Embedder, inputs: Sequence[Tensor]) -> dict[str, Embedded]:
    """Return the vectors ``1 D`` of a whole tracklet by embedding.

    What is of frames is pooled as the embedding pools it; what is of clips by its mean.

    Args:
        embedder: in evaluation mode.
        inputs: of its embeddings, ``1 N C`` of N frames or clips each.
    """
    found = {}
    for (name, one), parts in zip(embedder.embeddings.items(), inputs, strict=True):
        head = embedder.heads[name]
        if one.reads in embedder.of_frames:
            found[name] = head(parts[0], parts.shape[1])
        else:
            found[name] = head(parts.mean(1))
    return found
