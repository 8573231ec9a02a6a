"""Augmentation of pixels on the device: photometric changes, normalisation, random erasing.

The random numbers of a row are drawn on the host beside its geometry (`ErasingPolicy.draw`,
`PhotometricPolicy.draw`) and travel in ``Batch.draws``; `DeviceAugmentation` applies them to whole
batches without a loop over rows and without a device synchronisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD, Batch

ERASING = "erasing"
"""Name in ``Batch.draws``: int64 ``B 4``: top, left, height, width of the erased rectangle."""

PHOTOMETRIC = "photometric"
"""Name in ``Batch.draws``: float32 ``B 6``: factors of brightness, contrast and saturation, hue
shift in turns, 1 for greyscale, sigma of the blur in pixels (0 for none)."""

_TRIES = 32
"""Rectangles tried per row. Three in ten do not fit a tall image: all fail once in 1e17 rows."""


@dataclass(frozen=True)
class ErasingPolicy:
    """Random erasing (Zhong et al., arXiv:1708.04896, algorithm 1).

    A rectangle of ``area`` times the image's and of ``aspect`` (height over width) is tried until
    it fits inside the image; it is placed uniformly and filled in the normalised image.

    Args:
        p: probability of erasing.
        area: smallest and largest share of the image's area.
        aspect: smallest and largest height over width.
        log_aspect: draw the logarithm of the aspect uniformly, as timm and torchvision do, instead
            of the aspect itself, as the paper's and most re-identification code does.
        fill: values written into the normalised image; 0 is ImageNet's mean colour.
    """

    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 3.33)
    log_aspect: bool = False
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)

    NUMBERS = 3 + 2 * _TRIES
    """Uniform numbers per row that `draw` uses."""

    def draw(self, size: tuple[int, int], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Draw one rectangle per row.

        Args:
            size: height and width of the network's input.
            uniforms: ``B NUMBERS``, in [0, 1).

        Returns:
            int64 ``B 4``: top, left, height, width; a row of zeros erases nothing.
        """
        height, width = size
        happens, down, right = uniforms[:, 0] < self.p, uniforms[:, 1], uniforms[:, 2]
        areas = _between(self.area, uniforms[:, 3 : 3 + _TRIES]) * (height * width)
        if self.log_aspect:
            logs = (math.log(self.aspect[0]), math.log(self.aspect[1]))
            aspects = np.exp(_between(logs, uniforms[:, 3 + _TRIES :]))
        else:
            aspects = _between(self.aspect, uniforms[:, 3 + _TRIES :])
        heights = np.rint(np.sqrt(areas * aspects)).astype(np.int64)
        widths = np.rint(np.sqrt(areas / aspects)).astype(np.int64)
        fits = (heights < height) & (widths < width)
        chosen = np.arange(len(uniforms)), fits.argmax(axis=1)
        high, wide = heights[chosen], widths[chosen]
        top = (down * (height - high + 1)).astype(np.int64)
        left = (right * (width - wide + 1)).astype(np.int64)
        rectangles = np.stack([top, left, high, wide], axis=1)
        rectangles[~(happens & fits[chosen])] = 0
        return rectangles


@dataclass(frozen=True)
class PhotometricPolicy:
    """Random changes of colour and sharpness, each drawn per row, applied in this order.

    Args:
        brightness, contrast, saturation: the factor is uniform in ``max(0, 1 - x) .. 1 + x``; the
            operations are those of Pillow's ``ImageEnhance`` (and torchvision's ``ColorJitter``).
        hue: the hue is shifted by up to this share of a full turn, at most 0.5.
        jitter_p: probability that the four above happen to a row.
        grayscale_p: probability of losing all colour.
        blur_p: probability of a Gaussian blur.
        blur_sigma: smallest and largest sigma of the blur, in pixels of the network's input.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter_p: float = 1.0
    grayscale_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    NUMBERS = 8
    """Uniform numbers per row that `draw` uses."""

    def draw(self, uniforms: NDArray[np.float64]) -> NDArray[np.float32]:
        """Draw the changes of every row.

        Args:
            uniforms: ``B NUMBERS``, in [0, 1).

        Returns:
            float32 ``B 6``, see `PHOTOMETRIC`.
        """
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [
            _between((max(0.0, 1 - strength), 1 + strength), uniforms[:, column])
            for column, strength in enumerate(strengths)
        ]
        hue = _between((-self.hue, self.hue), uniforms[:, 3])
        calm = uniforms[:, 4] >= self.jitter_p
        for factor in factors:
            factor[calm] = 1
        hue[calm] = 0
        grey = uniforms[:, 5] < self.grayscale_p
        sigma = _between(self.blur_sigma, uniforms[:, 6]) * (uniforms[:, 7] < self.blur_p)
        return np.stack([*factors, hue, grey, sigma], axis=1).astype(np.float32)


@dataclass(frozen=True)
class DeviceAugmentation:
    """Make device batches of the loader's host batches.

    Args:
        photometric: the policy that the loader draws with, or None.
        erasing: likewise.
        memory_format: memory format of the images.
    """

    photometric: PhotometricPolicy | None = None
    erasing: ErasingPolicy | None = None
    memory_format: torch.memory_format = torch.contiguous_format

    def prepare(self, host_batch: Batch, device: torch.device) -> Batch:
        """Move a batch to the device, change its colours, normalise it and make ``erased``.

        Nothing in the result shares memory with the host batch, so the loader may reuse its
        buffers. Image fields stay uint8 and untouched (`normalise` makes floats of them): colours
        are changed in the image alone.

        Args:
            host_batch: from the loader, with the policies' draws; a batch without a policy's draws
                (of a source that is not augmented) is left as it is by that policy.
            device: where to.

        Returns:
            The batch with ``image`` as normalised float32, and ``erased`` with its erased copy
            where erasing is on; ``draws`` is empty.
        """
        batch = _copy(host_batch, device)
        image = _to_unit(batch.image)
        if self.photometric is not None and PHOTOMETRIC in batch.draws:
            image = change_colours(image, batch.draws[PHOTOMETRIC], self.photometric)
        image = _standardise(image).contiguous(memory_format=self.memory_format)
        erased = None
        if self.erasing is not None and ERASING in batch.draws:
            erased = erase(image, batch.draws[ERASING], self.erasing.fill)
        return replace(batch, image=image, erased=erased, draws={})


def normalise(images: Tensor) -> Tensor:
    """Turn images into ImageNet-normalised float32.

    Args:
        images: ``... 3 H W``, uint8 or floating in 0 .. 1.
    """
    unit = images.to(torch.float32, copy=True) if images.is_floating_point() else _to_unit(images)
    return _standardise(unit)


def unit_images(images: Tensor) -> Tensor:
    """Turn ImageNet-normalised images back into float32 in 0 .. 1; what lies outside is clipped.

    Args:
        images: ``... 3 H W``.
    """
    images = images.float()
    mean, std = _channels(IMAGENET_MEAN, images), _channels(IMAGENET_STD, images)
    return (images * std + mean).clamp(0, 1)


def pixels_of(images: Tensor) -> Tensor:
    """Turn ImageNet-normalised images ``B 3 H W`` into pictures, uint8 ``B H W 3`` on the host."""
    return (255 * unit_images(images)).round().byte().permute(0, 2, 3, 1).cpu()


def erase(images: Tensor, rectangles: Tensor, fill: tuple[float, float, float]) -> Tensor:
    """Return a copy of normalised images in which one rectangle each is filled.

    Args:
        images: float ``B 3 H W``.
        rectangles: int64 ``B 4``: top, left, height, width; all zeros erases nothing.
        fill: the value of each channel.
    """
    height, width = images.shape[-2:]
    top, left, high, wide = rectangles[:, :, None].unbind(1)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    in_rows = (rows >= top) & (rows < top + high)
    in_columns = (columns >= left) & (columns < left + wide)
    mask = in_rows[:, :, None] & in_columns[:, None, :]
    erased = images.clone()
    for channel, value in enumerate(fill):
        erased[:, channel].masked_fill_(mask, value)
    return erased


def change_colours(images: Tensor, draws: Tensor, policy: PhotometricPolicy) -> Tensor:
    """Apply photometric changes row by row; rows do not see each other.

    Args:
        images: float32 ``B 3 H W`` in 0..1.
        draws: float32 ``B 6``, see `PHOTOMETRIC`.
        policy: what the draws were made with; operations that it never uses are skipped.
    """
    # Importing kornia takes a third of a second, which most runs need not spend.
    from kornia.color import rgb_to_grayscale
    from kornia.enhance import (
        adjust_brightness_accumulative,
        adjust_contrast_with_mean_subtraction,
        adjust_hue,
        adjust_saturation_with_gray_subtraction,
    )
    from kornia.filters import gaussian_blur2d

    brightness, contrast, saturation, hue, grey, sigma = draws.unbind(1)
    if policy.brightness:
        images = adjust_brightness_accumulative(images, brightness)
    if policy.contrast:
        images = adjust_contrast_with_mean_subtraction(images, contrast)
    if policy.saturation:
        images = adjust_saturation_with_gray_subtraction(images, saturation)
    if policy.hue:
        shifted = adjust_hue(images, hue * (2 * math.pi))
        images = torch.where(_rows(hue != 0), shifted, images)
    if policy.grayscale_p:
        images = torch.where(_rows(grey > 0), rgb_to_grayscale(images), images)
    if policy.blur_p:
        # Rows without blur need a positive sigma all the same; their result is not used.
        sigmas = sigma.clamp(min=policy.blur_sigma[0])[:, None].expand(-1, 2)
        radius = max(1, math.ceil(3 * policy.blur_sigma[1]))
        radius = min(radius, (min(images.shape[-2:]) - 1) // 2)
        side = 2 * radius + 1
        images = torch.where(
            _rows(sigma > 0), gaussian_blur2d(images, (side, side), sigmas), images
        )
    return images


def _copy(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device, fields in memory of their own: the host's will be reused.

    The image's copy is its conversion to float, and the loader never reuses labels or draws.
    """
    fields = {
        name: value.to(device, non_blocking=True, copy=True) for name, value in batch.fields.items()
    }
    return replace(replace(batch, fields={}).to(device), fields=fields)


def _to_unit(images: Tensor) -> Tensor:
    return images.to(torch.float32, copy=True).div_(255)


def _standardise(unit_images: Tensor) -> Tensor:
    """Normalise in place, with the arithmetic of torchvision's ``Normalize``, bit for bit."""
    mean, std = _channels(IMAGENET_MEAN, unit_images), _channels(IMAGENET_STD, unit_images)
    return unit_images.sub_(mean).div_(std)


def _channels(values: tuple[float, float, float], like: Tensor) -> Tensor:
    """Return one value per channel, ``3 1 1``, made on the device without a copy from the host."""
    return torch.stack([like.new_full((1, 1), value) for value in values])


def _rows(flags: Tensor) -> Tensor:
    return flags[:, None, None, None]


def _between(bounds: tuple[float, float], uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = bounds
    return low + (high - low) * uniforms
