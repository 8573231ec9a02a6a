"""From images to label maps: mirrored logits averaged, classes looked up, sizes restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.contract.samples import Sample, Source
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.draws import in_order
from reid_core.data.geometry import Geometry, transform_labels
from reid_core.data.loading import BatchLoader
from reid_core.images import upright_size
from reid_core.model.modes import evaluating
from reid_parsing.lookup import LabelSet, look_up, lookup_table, mirrored_logits
from reid_parsing.networks.parser import Parser, resized_logits

Size = tuple[int, int]


@dataclass(frozen=True)
class BodyParser:
    """A parsing network with what its classes and its input are.

    Args:
        architecture: the network's name, for `build_parser`.
        network: the network itself; its training mode is restored after every use here.
        labels: the classes that it tells apart.
        size: height and width of its input.
    """

    architecture: str
    network: Parser
    labels: LabelSet
    size: Size


@torch.inference_mode()
def parse(parser: BodyParser, images: Tensor, mirror: bool = True) -> Tensor:
    """Return the most likely class of every pixel.

    Args:
        parser: on the images' device.
        images: ``B 3 H W``, RGB, ImageNet-normalised, of the parser's size.
        mirror: average the logits with those of the mirrored images, left and right swapped.

    Returns:
        uint8 ``B H W``, classes of the parser's label set.
    """
    with evaluating(parser.network):
        logits = resized_logits(parser.network(images).float(), parser.size)
        if mirror:
            other = resized_logits(parser.network(images.flip(3)).float(), parser.size)
            logits = (logits + mirrored_logits(other, parser.labels)) / 2
        return logits.argmax(1).byte()


class LabelMaps(Sequence[NDArray[np.uint8]]):
    """Label maps of many images, made while they are gone through, batch by batch.

    Args:
        parser: on ``device``.
        samples: the images.
        field: ``parts`` or ``garments``, which the parser's classes become.
        device: where to compute.
        mirror: see `parse`.
        batch_size: images per forward.
        threads: decoding threads.
        memory_format: of the images.
        autocast: opens mixed precision.
        size_of: height and width of a sample's label map; None takes the image's own.

    Raises:
        ConfigError: the parser's classes cannot become the field's.
    """

    def __init__(
        self,
        parser: BodyParser,
        samples: Sequence[Sample],
        field: str,
        device: torch.device,
        *,
        mirror: bool = True,
        batch_size: int = 32,
        threads: int = 2,
        memory_format: torch.memory_format = torch.contiguous_format,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
        size_of: Callable[[Sample], Size] | None = None,
    ) -> None:
        self._parser, self._samples, self._device = parser, samples, device
        self._table = lookup_table(parser.labels.name, field)
        self._mirror, self._batch_size, self._threads = mirror, batch_size, threads
        self._memory_format, self._autocast = memory_format, autocast
        self._size_of = size_of or image_size

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> NDArray[np.uint8]:  # type: ignore[override]
        """Return one label map, made anew."""
        return next(self._made(self._samples[place : place + 1 or None]))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield label maps, uint8 ``h w`` of each image's own size, in the samples' order."""
        return self._made(self._samples)

    def _made(self, samples: Sequence[Sample]) -> Iterator[NDArray[np.uint8]]:
        if not samples:
            return
        loader = BatchLoader(
            Source("images to label", tuple(samples)), self._parser.size, threads=self._threads
        )
        prepare = DeviceAugmentation(memory_format=self._memory_format).prepare
        for host in loader.load(in_order(len(samples), self._batch_size), epoch=0):
            batch = prepare(host, self._device)
            with self._autocast():
                maps = parse(self._parser, batch.image, self._mirror).cpu().numpy()
            for row, native in zip(batch.index.tolist(), maps, strict=True):
                sample = samples[row]
                found = look_up(native, self._table, sample.path)
                # Nearest-exact: no class is ever invented.
                yield transform_labels(found, Geometry.plain(self._size_of(sample)))


def image_size(sample: Sample) -> Size:
    """Return height and width of a sample's image, upright, as a rule from the file's header.

    Raises:
        DataError: the file is missing or no image.
    """
    return upright_size(sample.path)
