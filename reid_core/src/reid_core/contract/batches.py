"""A batch: rows of one source, on the host as uint8, on the device as normalised floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reid_core.contract.words import ByName

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from reid_core.contract.fields import FieldSpec


@dataclass(frozen=True)
class Batch:
    """Rows of one source.

    A row is a sample. Of tracklets it has ``frames`` images, one behind the other: what belongs to
    pixels (``image``, ``erased``, spatial fields) then is ``B*frames ...``, everything else ``B``.

    Args:
        image: ``B 3 H W``; uint8 on the host, ImageNet-normalised float32 on the device.
        pid, camid, clothes: int64 ``B``; pid ``-1`` marks a row without identity.
        index: int64 ``B``, the row of the source's sample list.
        origin: int64 ``B``, the row of this batch that an image was made from (itself for real
            images, a donor for generated ones).
        source: name of the source, or of what generated the rows.
        identities: whether pid means anything here.
        fields: tensors by field name, ``B`` first: images and label maps as uint8 at image size
            (images ``B 3 H W`` or ``B S 3 H W``, label maps ``B H W``), points float32 ``B N 3``,
            fixed arrays as they are, scalars ``B``.
        specs: the specifications of ``fields``.
        draws: random draws of each row that the device still has to act on (``B ...`` each), made
            with the row so that they depend neither on threads nor on ranks.
        erased: ``image`` after random erasing, where that is on; otherwise None.
        frames: images of a row.
    """

    image: Tensor
    pid: Tensor
    camid: Tensor
    clothes: Tensor
    index: Tensor
    origin: Tensor
    source: str = "main"
    identities: bool = True
    fields: Mapping[str, Tensor] = field(default_factory=dict)
    specs: Mapping[str, FieldSpec] = field(default_factory=dict)
    draws: Mapping[str, Tensor] = field(default_factory=dict)
    erased: Tensor | None = None
    frames: int = 1

    def __post_init__(self) -> None:
        where = f"a batch of the source '{self.source}'"
        remedy = "declare Need(...), or ask step.passes_with(...)"
        object.__setattr__(self, "fields", ByName(self.fields, "field", where, remedy))

    @property
    def readable(self) -> Mapping[str, Tensor]:
        """What a model may read beside the image: fields, ``camid`` and ``clothes``."""
        return {**self.fields, "camid": self.camid, "clothes": self.clothes}

    def __len__(self) -> int:
        return int(self.pid.shape[0])

    def to(self, device: torch.device, non_blocking: bool = True) -> Batch:
        """Return the batch on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        rows: dict[str, Any] = {name: move(getattr(self, name)) for name in OF_ROWS}
        return replace(
            self,
            **rows,
            fields={name: move(value) for name, value in self.fields.items()},
            draws={name: move(value) for name, value in self.draws.items()},
            erased=None if self.erased is None else move(self.erased),
        )


OF_ROWS = ("image", "pid", "camid", "clothes", "index", "origin")
"""The tensors that every batch has, by attribute."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's RGB channels, of pixels in 0..1."""


IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's RGB channels, of pixels in 0..1."""
