"""Rendering and writing one chunk of a plan; what a worker process does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.data.encoding import array_bytes, image_bytes, label_bytes, write_whole
from reid_synthpeople.layouts import side_car, texture_file
from reid_synthpeople.mask_noise import MaskNoise, spoil_labels
from reid_synthpeople.names import DRESSED, DRESSED_GARMENTS, GARMENTS
from reid_synthpeople.plans import Entry, Plan
from reid_synthpeople.redress import render_dressed
from reid_synthpeople.world import Picture, World, WorldSettings


@dataclass(frozen=True)
class Chunk:
    """Some images of a plan with everything that writing them needs.

    Args:
        folder: the data set's folder.
        world: where the pictures are taken.
        image: height and width.
        entries: the images, all with or all without people.
        textures: person and outfit of the atlases to write along.
        fields: the side-cars to write.
        mask_noise: factor on the noise of the label maps, 0 for the truth.
    """

    folder: Path
    world: WorldSettings
    image: tuple[int, int]
    entries: tuple[Entry, ...]
    textures: tuple[tuple[int, int], ...]
    fields: tuple[str, ...]
    mask_noise: float = 0.0

    @property
    def files(self) -> list[str]:
        """All files that the chunk writes."""
        images = [entry.file for entry in self.entries]
        side_cars = [side_car(file, name) for file in images for name in self.fields]
        return [*images, *side_cars, *(texture_file(*worn) for worn in self.textures)]


def chunks_of(plan: Plan, folder: Path, mask_noise: float) -> list[Chunk]:
    """Divide a plan; an atlas belongs to the first chunk that shows it."""
    chunks: list[Chunk] = []
    seen: set[tuple[int, int]] = set()
    for entries in plan.chunks():
        worn: list[tuple[int, int]] = []
        if plan.textures and entries[0].person:
            worn = list(dict.fromkeys((e.shot.pid, e.shot.outfit) for e in entries))
        new = tuple(key for key in worn if key not in seen)
        seen.update(new)
        chunks.append(Chunk(folder, plan.world, plan.image, entries, new, plan.fields, mask_noise))
    return chunks


def write_chunk(chunk: Chunk) -> str:
    """Render a chunk and write its files, unless they are all there.

    Every file appears whole, and the same chunk gives the same bytes in any process.

    Returns:
        The hash of its scene parameters.

    Raises:
        OSError: a file cannot be written.
    """
    world = _world(chunk.world, chunk.image)
    shots = [entry.shot for entry in chunk.entries]
    if not all(os.path.exists(chunk.folder / file) for file in chunk.files):
        pictures = world.render(shots, people=chunk.entries[0].person)
        for entry, picture in zip(chunk.entries, pictures, strict=True):
            _write_picture(chunk, entry, picture, world.quality(entry.shot))
        worn = [entry.template.shot for entry in chunk.entries if entry.template is not None]
        if worn:
            dressed = render_dressed(world, shots, worn)
            for entry, picture in zip(chunk.entries, dressed, strict=True):
                _write_dressed(chunk, entry, picture)
        for person, outfit in chunk.textures:
            atlas = world.atlas(person, outfit).transpose(2, 0, 1)
            write_whole(chunk.folder / texture_file(person, outfit), image_bytes(atlas))
    return world.parameters_hash(shots)


def _write_picture(chunk: Chunk, entry: Entry, picture: Picture, quality: int) -> None:
    parts, garments = picture.parts, picture.garments
    if chunk.mask_noise:
        shot, noise = entry.shot, noise_of(chunk.mask_noise)
        key = (chunk.world.seed, shot.pid, shot.camid, shot.number)
        parts, garments = (spoil_labels(labels, noise, *key) for labels in (parts, garments))
    contents = {
        "parts": lambda: label_bytes(parts),
        "garments": lambda: label_bytes(garments),
        "keypoints": lambda: array_bytes(_joints(picture)),
        GARMENTS: lambda: label_bytes(garments),
    }
    for name in chunk.fields:
        if name in contents:
            write_whole(chunk.folder / side_car(entry.file, name), contents[name]())
    pixels = picture.image.transpose(2, 0, 1)
    lossy = quality if entry.file.endswith(".jpg") else None
    write_whole(chunk.folder / entry.file, image_bytes(pixels, lossy))


def _write_dressed(chunk: Chunk, entry: Entry, picture: Picture) -> None:
    """Write the truth: without JPEG's errors, and without noise of masks."""
    image = image_bytes(picture.image.transpose(2, 0, 1))
    write_whole(chunk.folder / side_car(entry.file, DRESSED), image)
    labels = label_bytes(picture.garments)
    write_whole(chunk.folder / side_car(entry.file, DRESSED_GARMENTS), labels)


def noise_of(factor: float) -> MaskNoise:
    """Return the usual noise of a parser's masks, or more or less of it."""
    usual = MaskNoise()
    return MaskNoise(usual.shift * factor, usual.erosion * factor, min(usual.swaps * factor, 1))


def _joints(picture: Picture) -> NDArray[np.float32]:
    """Return joints as the shared field has them: visibility 0 outside, 0.5 hidden, 1 visible."""
    return picture.keypoints * np.array([1, 1, 0.5], np.float32)


@lru_cache(maxsize=1)
def _world(settings: WorldSettings, image: tuple[int, int]) -> World:
    """Return the world that this process renders; backdrops and bystanders are made once."""
    return World(settings, image)


def forget_world() -> None:
    """Free what rendering has kept in memory."""
    _world.cache_clear()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread: rendering small pictures in several is slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
