"""Frames of tracklets in a model: what is of single frames, and how it becomes a row of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from reid_core.contract.encoder import Encoder
from reid_core.contract.model import CLEAN_IMAGE, FRAME_POOLINGS, Branch
from reid_core.contract.names import check_choice
from reid_core.contract.vectors import vector_of

IMAGES = ("image", CLEAN_IMAGE)
"""Names of what an encoder or a branch sees of every frame."""


class FramePool(nn.Module):
    """Pool the vectors of a tracklet's frames ``B T D`` to one ``B D``.

    Args:
        kind: one of `FRAME_POOLINGS`: ``mean`` or ``max``.
    """

    def __init__(self, kind: str = "mean") -> None:
        super().__init__()
        # It may be of a stored embedder that a later version wrote.
        check_choice(kind, FRAME_POOLINGS, "there is no pooling of frames")
        self.kind = kind

    def forward(self, vectors: Tensor) -> Tensor:
        """Return ``B D``."""
        return vectors.amax(1) if self.kind == "max" else vectors.mean(1)

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_core.model.frames:FramePool", "kwargs": {"kind": self.kind}}


def names_of_frames(
    encoder: Encoder, branches: Iterable[Branch], fields: Iterable[str] = ()
) -> frozenset[str]:
    """Return the names of all values that have a row per frame; all others have one per sample.

    Args:
        encoder, branches: of a model, the branches in the order in which they run.
        fields: those of the data that are of frames.
    """
    found = {*IMAGES, *fields}
    if not encoder.clips:
        found |= {tap.name for tap in encoder.taps}
    for branch in branches:
        if of_frames(branch, found):
            found.update(branch.writes)
    return frozenset(found)


def of_frames(branch: Branch, names: Iterable[str]) -> bool:
    """Return whether a branch runs on frames, given the names of what is of frames."""
    return not branch.clips and not set(branch.reads).isdisjoint(names)


def reads_clips(encoder: Encoder, branches: Sequence[Branch], embedded: Iterable[str] = ()) -> bool:
    """Return whether something of a model needs several frames at once, beside the last pooling.

    That is a part that takes clips, or one that reads what is known of a whole tracklet: the vector
    of an embedding.

    Args:
        encoder, branches: of the model.
        embedded: what embeddings read.
    """
    reads = [*embedded, *(name for branch in branches for name in branch.reads)]
    clips = encoder.clips or any(branch.clips for branch in branches)
    return clips or any(vector_of(name) is not None for name in reads)


def fitted(
    values: Sequence[Tensor], reads: Sequence[str], frames: int, clips: bool, names: Iterable[str]
) -> list[Tensor]:
    """Return what a part reads in the rows that it takes.

    Args:
        values: of ``reads``: ``B*T ...`` of frames, ``B ...`` of samples.
        reads: their names.
        frames: ``T``.
        clips: whether the part takes clips: what is of frames becomes ``B T ...``. Otherwise, where
            anything is of frames, what is of samples is repeated for them.
        names: of what is of frames.
    """
    if not clips and (frames == 1 or set(reads).isdisjoint(names)):
        return list(values)
    found = []
    for name, value in zip(reads, values, strict=True):
        if clips and name in names:
            value = value.unflatten(0, (-1, frames))
        elif not clips and name not in names:
            # repeat_interleave, exported to ONNX, repeats wrongly where rows and frames are free.
            value = value[:, None].expand(-1, frames, *value.shape[1:]).flatten(0, 1)
        found.append(value)
    return found
