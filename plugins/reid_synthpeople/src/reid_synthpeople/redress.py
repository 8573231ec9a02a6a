"""Scenes of a data set taken again: in another outfit, from the front, without their people.

    dataset = load(...)                               # synthpeople, by whatever way
    world = world_behind(dataset.train.samples[0].path)
    shots = [shot_of(sample) for sample in dataset.train.samples[:32]]
    pictures = world.render(redressed(shots, outfit=7))
    guides = world.render(shots, frontal=True)
    swapped = render_dressed(world, shots, shots[::-1])  # everybody in somebody else's clothes

Person, pose, camera, light, backdrop and noise stay; only what is named changes. A scene that is
taken again as it is differs from the stored image by what JPEG does alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid_core import DataError
from reid_synthpeople.cards import read_card
from reid_synthpeople.world import Shot, World, WorldSettings

if TYPE_CHECKING:
    from reid_core import Sample
    from reid_synthpeople.pictures import Picture


def world_behind(path: Path) -> World:
    """Return the world in which a data set was taken.

    Args:
        path: its folder, or any file or folder in it.

    Raises:
        DataError: neither the path nor a folder above it holds synthetic people.
    """
    for folder in (path, *path.parents):
        card = read_card(folder)
        if card is not None and "world" in card:
            values = dict(card["world"])
            if values["yaw0"] is not None:
                values["yaw0"] = tuple(values["yaw0"])
            values["factors"] = tuple(values.get("factors", ()))
            height, width = card["image_size"]
            return World(WorldSettings(**values), (height, width))
    raise DataError(f"{path}: no folder above it holds finished synthetic people (card.json)")


def shot_of(sample: Sample) -> Shot:
    """Return the shot that a sample of a synthetic set shows.

    Raises:
        DataError: the sample is of another set.
    """
    try:
        scene = sample.extra
        return Shot(scene["figure"], scene["outfit"], sample.camid, scene["number"])
    except KeyError as error:
        raise DataError(f"{sample.path} is no image of synthetic people") from error


def redressed(shots: Iterable[Shot], outfit: int) -> list[Shot]:
    """Return the same scenes with everybody in another outfit.

    Args:
        shots: the scenes.
        outfit: number of the outfit, from 0; the first ones are those of the data set. Two numbers
            below the world's `styles` never name the same template.
    """
    return [replace(shot, outfit=outfit) for shot in shots]


def render_dressed(world: World, shots: Sequence[Shot], templates: Sequence[Shot]) -> list[Picture]:
    """Take scenes again, everybody in the outfit that somebody else wears.

    The outfit is the same to its last fold of cloth; only its measures go with the wearer's body.

    Args:
        world: of the shots.
        shots: who, in which pose, before which camera.
        templates: whose outfit, row by row.
    """
    return world.render(shots, outfits=[world.outfit(t.pid, t.outfit) for t in templates])
