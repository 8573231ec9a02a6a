"""Fields: what a sample carries beside its image and its identity, and how geometry acts on it.

Names of outputs, losses and parameters are owned (``owner/name``); data fields alone share one
vocabulary, so that a label made by one plugin serves another. A field outside the vocabulary is
owned like everything else and is named ``owner/name``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reid_core.contract.words import check_names, check_word


class FieldKind(StrEnum):
    """How flips, crops and resizes act on a field."""

    IMAGE = "image"
    """RGB image, uint8, ``3 H W`` (or ``S 3 H W``): moves like the image, bilinear."""
    LABELS = "labels"
    """Label map, uint8, ``H W``: moves like the image, nearest-exact, padded with class 0."""
    POINTS = "points"
    """Points, float32, ``N 3`` (x, y in pixels of the network input, visibility 0 to 1)."""
    FIXED = "fixed"
    """An array that geometry leaves alone, such as a texture atlas; uint8 images are ``3 H W``."""
    SCALAR = "scalar"
    """One integer or real number of the sample."""


SPATIAL = (FieldKind.IMAGE, FieldKind.LABELS, FieldKind.POINTS)
"""Kinds that belong to an image's pixels: a tracklet has one value for every frame."""


@dataclass(frozen=True)
class FieldSpec:
    """Describe one field of a source.

    Args:
        name: a name of the shared vocabulary, or ``owner/name``.
        kind: how geometry acts on it.
        classes: class names of a label map, in the order of their values.
        flip_pairs: pairs of points that trade places when the image is mirrored (left and right).
        layout: identifies the meaning of a fixed array, such as a texture's atlas; sources whose
            layouts differ must not be mixed.
    """

    name: str
    kind: FieldKind
    classes: tuple[str, ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    layout: str | None = None

    def __post_init__(self) -> None:
        check_names(self, "classes")
        check_word(self, "kind", [kind.value for kind in FieldKind])
        object.__setattr__(self, "kind", FieldKind(self.kind))


PART_CLASSES = (
    "background",
    "head",
    "torso",
    "upper arm",
    "lower arm",
    "upper leg",
    "lower leg",
    "foot",
)
"""Classes of the field ``parts``; left and right are not told apart."""

GARMENT_CLASSES = ("background", "hat", "hair", "upper", "lower", "skin", "face", "shoes")
"""Classes of the field ``garments``."""

SILHOUETTE_CLASSES = ("background", "person")
"""Classes of the field ``silhouette``."""

_IN_PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCO_JOINTS = ("nose", *(f"{side} {of}" for of in _IN_PAIRS for side in ("left", "right")))
"""Order of the 17 points of the field ``keypoints``."""

SHARED_FIELDS: dict[str, FieldSpec] = {
    "parts": FieldSpec("parts", FieldKind.LABELS, classes=PART_CLASSES),
    "garments": FieldSpec("garments", FieldKind.LABELS, classes=GARMENT_CLASSES),
    "silhouette": FieldSpec("silhouette", FieldKind.LABELS, classes=SILHOUETTE_CLASSES),
    "keypoints": FieldSpec(
        "keypoints",
        FieldKind.POINTS,
        flip_pairs=tuple((i, i + 1) for i in range(1, len(COCO_JOINTS), 2)),
    ),
    "pose": FieldSpec("pose", FieldKind.SCALAR),
    "texture": FieldSpec("texture", FieldKind.FIXED),
}
"""The shared vocabulary. ``pid``, ``camid`` and ``clothes`` belong to every sample itself."""
