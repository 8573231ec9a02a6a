"""A world of procedural people: identities, outfits and cameras, and pictures with ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_synthpeople.atlas import LAYOUT
from reid_synthpeople.backdrop import paint_backdrop
from reid_synthpeople.camera import Camera
from reid_synthpeople.garments import Outfit
from reid_synthpeople.identity import Person
from reid_synthpeople.painter import Painter
from reid_synthpeople.painting import paint_surface
from reid_synthpeople.people import Range
from reid_synthpeople.photograph import Photographer
from reid_synthpeople.pictures import Picture
from reid_synthpeople.scenery import (
    Sprite,
    add_bystander,
    add_occluder,
    cut_backdrops,
    occluded_area,
)
from reid_synthpeople.scenes import Scene, Scenes, Shot
from reid_synthpeople.settings import WorldSettings
from reid_synthpeople.truth import Truth

__all__ = ["LAYOUT", "Picture", "Shot", "World", "WorldSettings"]

_ATLASES = 256
"""Atlases that are kept (64 MiB with their labels)."""

_BACKDROPS = 32
"""Backdrops that are kept (32 MiB at 128 x 64 with 2 x 2 samples)."""

_TOGETHER = 16
"""Pictures rendered in one go; more are no faster, and take more memory."""

_BLOCK = 31 << 20
"""Bytes; glibc no longer adapts to blocks of 32 MiB."""

_STRANGERS = 48
"""Different people who stand by."""

_STRANGERS_SEED, _STRANGERS_CAMERAS = 7919, 8
"""The world that they come from."""


class World:
    """People, outfits and cameras of one `WorldSettings`, and pictures of them.

    Memory is bounded: atlases, backdrops and people are kept up to a fixed number and made again
    when they are needed again.

    Args:
        settings: what the world is like.
        size: height and width of the pictures.
        supersampling: samples per pixel in each direction; None takes 2 up to 128 rows, otherwise
            1, with interpolation between texels.
        device: where pictures are computed.
    """

    def __init__(
        self,
        settings: WorldSettings,
        size: tuple[int, int] = (128, 64),
        supersampling: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = settings
        self.size = size
        self.supersampling = supersampling or (2 if size[0] <= 128 else 1)
        self.device = torch.device(device)
        self._samples = size[0] * self.supersampling, size[1] * self.supersampling
        self._scenes = Scenes(settings)
        self._painter = Painter(self._samples, self.device, smooth=self.supersampling == 1)
        self._photographer = Photographer(size, self.supersampling, self.device)
        self._surface = lru_cache(_ATLASES)(self._paint)
        self._backdrop = lru_cache(_BACKDROPS)(self._paint_backdrop)
        self._stranger = lru_cache(_STRANGERS)(self._take_stranger)
        self._strangers: World | None = None
        if self.device.type == "cpu":
            _let_freed_memory_stay()

    def person(self, pid: int) -> Person:
        """Return the parameters of an identity."""
        return self._scenes.person(pid)

    def outfit(self, pid: int, number: int) -> Outfit:
        """Return the parameters of a person's outfit."""
        return self._scenes.outfit(pid, number)

    def camera(self, camid: int) -> Camera:
        """Return the parameters of a camera.

        Raises:
            DataError: the world has fewer cameras.
        """
        return self._scenes.camera(camid)

    def scene(self, shot: Shot, frontal: bool = False) -> Scene:
        """Return all parameters of a picture."""
        return self._scenes.scene(shot, frontal)

    def quality(self, shot: Shot) -> int:
        """Return the quality of a picture's JPEG file, 1 to 95."""
        effects = self.scene(shot).view.effects
        own = None if effects is None else effects.quality
        return self.camera(shot.camid).jpeg_quality if own is None else own

    def atlas(self, pid: int, outfit: int) -> NDArray[np.uint8]:
        """Return the texture of a person in an outfit, uint8 ``256 256 3``, layout `LAYOUT`."""
        return self._surface(pid, outfit)[..., :3].copy()

    def parameters_hash(self, shots: Sequence[Shot]) -> str:
        """Return a hash of all scene parameters of some shots, the same on every machine."""
        return self._scenes.parameters_hash(shots)

    def render(
        self,
        shots: Sequence[Shot],
        *,
        people: bool = True,
        frontal: bool = False,
        outfits: Sequence[Outfit] | None = None,
    ) -> list[Picture]:
        """Take pictures.

        A picture does not depend on what is rendered with it: on one machine the same shot gives
        the same bytes in any list. On another kind of processor images may differ by one grey
        level.

        Args:
            shots: what to take.
            people: False leaves the people out of the same scenes, with shadow and labels: a
                control for leaks through everything else.
            frontal: shows everybody in one pose from the front, whole and alone, in the camera's
                light and before the same part of its backdrop.
            outfits: what everybody wears in place of the shots' outfits, such as somebody else's.

        Raises:
            DataError: a shot's camera does not exist.
        """
        pictures: list[Picture] = []
        for start in range(0, len(shots), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            worn = None if outfits is None else outfits[some]
            pictures += self._render(shots[some], people, frontal, worn)
        return pictures

    @torch.inference_mode()
    def _render(
        self,
        shots: Sequence[Shot],
        people: bool,
        frontal: bool,
        outfits: Sequence[Outfit] | None,
    ) -> list[Picture]:
        scenes = [self._scenes.scene(shot, frontal) for shot in shots]
        if outfits is not None:
            scenes = [replace(s, outfit=o) for s, o in zip(scenes, outfits, strict=True)]
        canvas = self._surroundings(shots, scenes)
        if people:
            surfaces = (
                [self._surface(shot.pid, shot.outfit) for shot in shots]
                if outfits is None
                else [paint_surface(scene.person, scene.outfit) for scene in scenes]
            )
            truth = self._painter.draw_people(canvas, scenes, surfaces)
        else:
            truth = Truth.of_nobody(len(shots), self._samples, self.device)
        for row, (shot, scene) in enumerate(zip(shots, scenes, strict=True)):
            occluder = scene.view.occluder
            if occluder is not None:
                area = occluded_area(occluder, self._samples)
                add_occluder(canvas[row], occluder, area, self._backdrop(shot.camid))
                truth.cover(row, area)
        cameras, views = [scene.camera for scene in scenes], [scene.view for scene in scenes]
        images = self._photographer.take(canvas, cameras, views).cpu().numpy()
        return truth.pictures(images, self.supersampling)

    def _surroundings(self, shots: Sequence[Shot], scenes: Sequence[Scene]) -> Tensor:
        """Return backdrops with bystanders, float32 ``B sH sW 3``."""
        backdrops = [self._backdrop(shot.camid) for shot in shots]
        canvas = cut_backdrops(backdrops, [scene.view for scene in scenes], self._samples)
        for row, scene in enumerate(scenes):
            bystander = scene.view.bystander
            if bystander is not None:
                sprite = self._stranger(bystander.number % _STRANGERS)
                add_bystander(canvas[row], sprite, bystander.x, bystander.y)
        return canvas

    def _paint(self, pid: int, outfit: int) -> NDArray[np.uint8]:
        return paint_surface(self.person(pid), self.outfit(pid, outfit))

    def _paint_backdrop(self, camid: int) -> Tensor:
        return torch.from_numpy(paint_backdrop(self.camera(camid), *self._samples)).to(self.device)

    def _take_stranger(self, number: int) -> Sprite:
        """Take somebody from another world, who then stands by in any picture of this one."""
        if self._strangers is None:
            self._strangers = World(
                WorldSettings(
                    seed=(self.settings.seed + _STRANGERS_SEED) % 2**32,
                    cameras=_STRANGERS_CAMERAS,
                    spread=1.0,
                    wardrobe=0.5,
                    styles=12,
                    camera_var=1.0,
                    yaw0=None,
                    yaw_sd=None,
                    twoway=None,
                    p_occlusion=0.0,
                    p_truncation=0.0,
                    bystanders=0.0,
                ),
                self._samples,
                supersampling=1,
                device=self.device,
            )
        shot = Shot(Range.BYSTANDERS.number(number), 0, number % _STRANGERS_CAMERAS, 0)
        (picture,) = self._strangers.render([shot])
        colour = torch.from_numpy(picture.image).to(self.device).float() / 255
        return Sprite(colour, torch.from_numpy(picture.silhouette).to(self.device))


def _let_freed_memory_stay() -> None:
    """Let glibc keep what a batch frees for the next one, which saves a sixth of the time.

    It gives memory back beyond twice the largest block that was ever freed, so one block is freed,
    untouched. Other allocators have rules of their own, and lose nothing.
    """
    torch.empty(_BLOCK, dtype=torch.uint8)
