"""Vectors of boxes in a frame, by the names under which trackers ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_core import DataError
from reid_core.images import crop_image
from reid_search.models import open_model

if TYPE_CHECKING:
    import torch

    from reid_core import Embedder


class Boxed(Protocol):
    """Anything with boxes, such as ``supervision.Detections``."""

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """Boxes ``N 4``: left, top, right, bottom in pixels."""

    def __len__(self) -> int:
        """Return how many."""


class FrameModel:
    """An embedder for BoxMOT (``reid_model=``), and for what calls Roboflow's ``ReIDModel``.

    Crops are resized as in training, antialiased, and normalised by the embedder itself, so there
    is no input contract to meet.

    Args:
        model: an embedder, or what commands take as MODEL: a run's folder, a ``.safetensors``, an
            address, the name of shipped weights.
        device: where it computes.

    Attributes:
        embedding_dim: length of a vector.
        input_shape: height and width to which crops are resized.
    """

    def __init__(self, model: Embedder | str | Path, device: str | torch.device = "cpu") -> None:
        opened = open_model(model, device).embedder if isinstance(model, str | Path) else model
        self._embedder = opened.to(device).eval()
        self.embedding_dim = opened.dim
        self.input_shape = opened.size

    def get_features(self, xyxys: ArrayLike, img: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the vectors of boxes in a frame, as BoxMOT asks for them.

        Args:
            xyxys: ``N 4``, ``N 6`` or ``N 8``: left, top, right, bottom in pixels, then what is not
                read. What lies outside the frame is cut off; a box without a pixel is a black
                picture.
            img: uint8 ``H W 3``, BGR.

        Returns:
            float32 ``N D``; also of no box.

        Raises:
            DataError: boxes of another shape, oriented ones among them.
        """
        boxes = np.asarray(xyxys, np.float64)
        if boxes.size == 0:
            return np.empty((0, self.embedding_dim), np.float32)
        if boxes.ndim != 2 or boxes.shape[1] not in (4, 6, 8):
            raise DataError(
                "boxes must be N x 4 (left, top, right, bottom in pixels), not "
                f"{' x '.join(map(str, boxes.shape))}; oriented boxes are not cut out"
            )
        crops = [_crop(img, box[:4], self.input_shape) for box in boxes]
        return self._embedder.embed(crops, bgr=True).numpy()

    def extract_embeddings(
        self, detections: Boxed, frame: NDArray[np.uint8], *, batch_size: int = 64
    ) -> NDArray[np.float32]:
        """Return the vectors of detections in a frame, as Roboflow's ``ReIDModel`` does.

        Args:
            detections: such as ``supervision.Detections``.
            frame: uint8 ``H W 3``, BGR.
            batch_size: crops per forward.

        Returns:
            float32 ``N D``; also of no detection.
        """
        if len(detections) == 0:
            return np.empty((0, self.embedding_dim), np.float32)
        crops = [_crop(frame, box, self.input_shape) for box in detections.xyxy]
        return self._embedder.embed(crops, bgr=True, batch_size=batch_size).numpy()


def _crop(
    frame: NDArray[np.uint8], box: NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.uint8]:
    try:
        return crop_image(frame, box)
    except DataError:  # trackers predict boxes beyond the frame, and must not end there
        return np.zeros((*size, 3), np.uint8)
