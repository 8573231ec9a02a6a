"""What of a picture a network sees: a rectangle, perhaps turned, at the size of its input."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """A rectangle of a picture and the size at which a network sees it.

    Lengths and places are in pixels of the picture, whose upper left corner is (0, 0): the middle
    of the first pixel is (0.5, 0.5).

    Args:
        centre: x and y of the rectangle's middle.
        extent: its width and height.
        size: height and width of the input.
        angle: by which the rectangle is turned, in radians, from x towards y.
    """

    centre: tuple[float, float]
    extent: tuple[float, float]
    size: tuple[int, int]
    angle: float = 0.0

    def cut(
        self,
        image: NDArray[np.uint8] | NDArray[np.float32],
        outside: Literal["zeros", "border"] = "zeros",
    ) -> NDArray[np.float32]:
        """Return what the network sees, bilinear.

        Args:
            image: ``h w C``, of any real numbers.
            outside: what lies beyond the picture: black, or its edge's pixels repeated.

        Returns:
            float32 ``H W C``.
        """
        height, width = image.shape[:2]
        # affine_grid's coordinates run from -1 to 1 from corner to corner, of input and picture.
        half = np.array([width / 2, height / 2])
        theta = np.column_stack(
            [self._axes() / 2 / half[:, None], (np.array(self.centre) - half) / half]
        )
        grid = F.affine_grid(
            torch.from_numpy(theta.astype(np.float32))[None], [1, 1, *self.size], False
        )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        seen = F.grid_sample(pixels, grid, "bilinear", outside, False)
        return seen[0].permute(1, 2, 0).contiguous().numpy()

    def back(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return where points of the input lie in the picture.

        Args:
            points: ``N 2``: x and y in pixels of the input, whose upper left corner is (0, 0).
        """
        share = points / np.array([self.size[1], self.size[0]]) - 0.5
        places: NDArray[np.float32] = np.asarray(share @ self._axes().T + self.centre, np.float32)
        return places

    def _axes(self) -> NDArray[np.float64]:
        """Return width and height of the rectangle as vectors of the picture, in columns."""
        turn = np.array([[cos(self.angle), -sin(self.angle)], [sin(self.angle), cos(self.angle)]])
        axes: NDArray[np.float64] = turn * np.array(self.extent)
        return axes


def around(image: NDArray[np.uint8], size: tuple[int, int], padding: float = 1.0) -> Frame:
    """Return the frame of an input's shape that holds the whole picture, as wide as it must be.

    Args:
        image: ``h w 3``.
        size: height and width of the input.
        padding: the picture's sides are multiplied by it first.
    """
    height, width = image.shape[:2]
    unit = max(height / size[0], width / size[1]) * padding
    return Frame((width / 2, height / 2), (unit * size[1], unit * size[0]), size)
