"""Reconstruction guides (paper, table 2): what the decoder regresses, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from reid_core import SHARED_FIELDS, Batch, DataError, FieldKind, FieldSpec, Source, unit_images
from reid_core.data.decoding import read_field

FRONTAL = FieldSpec("san/frontal", FieldKind.FIXED)
"""Field of the same person in one pose from the front, whatever the image shows."""


@dataclass(frozen=True)
class Guide:
    """One reconstruction guide.

    Args:
        spec: the field that is regressed, which SAN-PG makes for people; None for the input itself.
        stretched: whether the regressed image has the field's shape in place of the input's.
        brought: whether the user brings the field of people, in place of SAN-PG.
    """

    spec: FieldSpec | None
    stretched: bool = False
    brought: bool = False

    @property
    def field(self) -> str:
        """Name of the field; the input itself has none."""
        return self.spec.name if self.spec else ""


GUIDES = {
    "texture": Guide(SHARED_FIELDS["texture"], stretched=True),
    "pose": Guide(FRONTAL),
    "pngan": Guide(FRONTAL, brought=True),
    "input": Guide(None),
}
"""All guides by name. None of their fields is mirrored with the image."""


def target(guide: Guide, batch: Batch, size: tuple[int, int]) -> Tensor:
    """Return what should be regressed.

    Args:
        guide: which guide.
        batch: prepared, on the device.
        size: height and width of the regressed image; larger fields are averaged down to it.

    Returns:
        float32 ``B 3 H W`` in -1 .. 1.
    """
    if guide.spec is None:
        unit = unit_images(batch.image)
    else:
        unit = batch.fields[guide.field].float() / 255
    if tuple(unit.shape[2:]) != size:
        unit = F.interpolate(unit, size, mode="area")
    return unit * 2 - 1


def field_size(source: Source, name: str) -> tuple[int, int]:
    """Return height and width of a source's field, of its first sample.

    Raises:
        DataError: it is no RGB image.
    """
    sample = source.samples[0]
    value = read_field(sample.fields[name], source.fields[name])
    if value.ndim != 3 or value.shape[0] != 3 or str(value.dtype) != "uint8":
        raise DataError(
            f"source '{source.name}': field '{name}' must be an RGB image, uint8 3 x H x W; that "
            f"of {sample.path} is {value.dtype} of shape {value.shape}"
        )
    return value.shape[1], value.shape[2]


def check_size(
    source: Source, name: str, regressed: tuple[int, int], exact: int | None = None
) -> None:
    """Refuse a source whose textures are too small, of another shape, or not of the wanted size.

    Args:
        source: with the field.
        name: the field.
        regressed: what the decoder regresses.
        exact: height and width that the user wants, or None.

    Raises:
        DataError: naming the source and both sizes.
    """
    height, width = field_size(source, name)
    wanted = (exact, exact) if exact else regressed
    fits = (height, width) == wanted if exact else height >= wanted[0] and width >= wanted[1]
    if not fits or height * wanted[1] != width * wanted[0]:
        raise DataError(
            f"source '{source.name}': '{name}' is {height} x {width}, and {wanted[0]} x "
            f"{wanted[1]} is wanted; bring all textures in one size, and say which with "
            "-s san.texture_size=N"
        )
