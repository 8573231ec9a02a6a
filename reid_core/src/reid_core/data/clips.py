"""Clips: which frames of a tracklet are shown, drawn in training and all of them at test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reid_core.config import RunConfig
from reid_core.contract.fields import SPATIAL, FieldSpec
from reid_core.contract.samples import Sample, Source
from reid_core.data.draws import Draw

Frames = NDArray[np.int64]


@dataclass(frozen=True)
class ClipPolicy:
    """How training draws clips.

    Args:
        frames: frames of a clip.
        rule: ``chunks`` divides a tracklet into as many parts of nearly one length and draws a
            frame of each (restricted random sampling: Li et al., CVPR 2018); ``consecutive`` draws
            where a run of frames begins. A tracklet that is too short shows frames again.
        stride: frames from one of a run to the next, for ``consecutive``.
        together: whether all frames of a clip are augmented by the same random numbers.
    """

    frames: int = 4
    rule: Literal["chunks", "consecutive"] = "chunks"
    stride: int = 1
    together: bool = True

    @property
    def numbers(self) -> int:
        """Uniform numbers per clip that `draw` uses."""
        return self.frames if self.rule == "chunks" else 1

    def draw(self, lengths: NDArray[np.int64], uniforms: NDArray[np.float64]) -> Frames:
        """Draw a clip of every tracklet.

        Args:
            lengths: int64 ``B``, frames of each; 1 of a single image.
            uniforms: ``B numbers``, in [0, 1).

        Returns:
            int64 ``B frames``.
        """
        length = lengths[:, None]
        steps = np.arange(self.frames)
        if self.rule == "chunks":
            first = steps * length // self.frames
            width = np.maximum((steps + 1) * length // self.frames - first, 1)
            return first + (uniforms * width).astype(np.int64)
        span = (self.frames - 1) * self.stride + 1
        begin = (uniforms * np.maximum(length - span + 1, 1)).astype(np.int64)
        # Beyond its end a short tracklet begins anew.
        return (begin + steps * self.stride) % length


def clips_of(config: RunConfig, source: Source) -> ClipPolicy | None:
    """Return how the frames of a source's tracklets are drawn; None where it has single images."""
    if not source.tracklets:
        return None
    data = config.data
    together = config.augment.frames == "together"
    return ClipPolicy(data.frames, data.frame_sampling, data.frame_stride, together)


def clips_in_order(
    samples: Sequence[Sample], frames: int, batch_size: int, rank: int = 0, world: int = 1
) -> Iterator[Draw]:
    """Yield every frame of every sample once, in order, for evaluation.

    Each rank owns one contiguous block of samples. A batch may end within a tracklet, so that
    memory does not grow with its length.

    Args:
        samples: tracklets and single images.
        frames: of a clip; the last clip of a tracklet is filled up from its beginning.
        batch_size: images per batch, or one clip where that has more.
        rank, world: which share of how many.
    """
    first, last = len(samples) * rank // world, len(samples) * (rank + 1) // world
    clips = (
        (row, np.arange(begin, begin + frames) % len(samples[row].images))
        for row in range(first, last)
        for begin in range(0, len(samples[row].images), frames)
    )
    while some := list(islice(clips, max(1, batch_size // frames))):
        rows = np.array([row for row, _ in some], np.int64)
        yield Draw(rows, rows, np.stack([clip for _, clip in some]))


def frame_of(sample: Sample, frame: int, specs: Mapping[str, FieldSpec]) -> Sample:
    """Return one frame of a tracklet as a sample of its own; a single image as it is.

    Args:
        sample: any sample.
        frame: which one, 0-based.
        specs: of the fields to keep.
    """
    if not sample.frames:
        return sample
    fields = {
        name: sample.fields[name][frame] if spec.kind in SPATIAL else sample.fields[name]  # type: ignore[index]
        for name, spec in specs.items()
    }
    return Sample(
        sample.frames[frame], sample.pid, sample.camid, sample.clothes, sample.split, fields
    )


def frames_of(samples: Sequence[Sample], specs: Mapping[str, FieldSpec]) -> tuple[Sample, ...]:
    """Return every frame of every tracklet as a sample of its own; single images as they are.

    Args:
        samples: tracklets and single images.
        specs: of the fields to keep.
    """
    return tuple(frame_of(one, n, specs) for one in samples for n in range(len(one.images)))


def with_field_of_frames(source: Source, name: str, label: Callable[[Source], Source]) -> Source:
    """Return a source of tracklets with a field of every frame.

    Args:
        source: tracklets.
        name: of the field.
        label: returns a source of single images with the field.
    """
    made = label(replace(source, samples=frames_of(source.samples, source.fields)))
    values = iter(sample.fields[name] for sample in made.samples)
    grouped: list[Any] = [
        tuple(next(values) for _ in sample.frames) if sample.frames else next(values)
        for sample in source.samples
    ]
    return source.with_field(made.fields[name], grouped)
