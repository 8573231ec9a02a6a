"""What the variants are like: their worlds, and how much of everything each size has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from reid_synthpeople.names import CROPS, FACTORS, PAIRS, REDRESSED
from reid_synthpeople.settings import WorldSettings

_OTHERS = {PAIRS: 1 << 30, CROPS: 1 << 31, REDRESSED: 3 << 30}
"""What is added to the seed for the worlds of the sources; the user's seeds stay below."""


@dataclass(frozen=True)
class Scale:
    """How much of everything a size has.

    Args:
        image: height and width of the images.
        train, test: people to train on and to search for.
        shots, test_shots: images of a training and of a test person per outfit and camera.
        sessions: outfits per person, where the variant leaves it open.
        strangers: distractors, and as many junk images, where the variant has them.
        validation: images of a training person per camera that are set aside, likewise.
        frames: of a tracklet on average, where images are frames; shots then are tracklets.
    """

    image: tuple[int, int]
    train: int
    test: int
    shots: int
    test_shots: int
    sessions: int = 2
    strangers: int = 0
    validation: int = 0
    frames: int = 0


_TINY, _USUAL = (64, 32), (128, 64)

_SCALES = {
    "mixed": {
        "tiny": Scale(_TINY, 8, 8, 2, 2),
        "quick": Scale(_USUAL, 80, 40, 3, 3),
        "full": Scale(_USUAL, 750, 750, 3, 4, sessions=3),
    },
    "market": {
        "tiny": Scale(_TINY, 8, 8, 2, 2, strangers=6),
        "quick": Scale(_USUAL, 250, 100, 3, 3, strangers=150),
        "full": Scale(_USUAL, 751, 750, 4, 4, strangers=2800),
    },
    "prcc": {
        "tiny": Scale(_TINY, 8, 8, 2, 2, validation=1),
        "quick": Scale(_USUAL, 300, 50, 4, 4, validation=1),
        "full": Scale(_USUAL, 600, 200, 12, 12, validation=2),
    },
    "ltcc": {
        "tiny": Scale(_TINY, 9, 9, 1, 2),
        "quick": Scale(_USUAL, 200, 50, 2, 3),
        "full": Scale(_USUAL, 600, 390, 4, 4),
    },
    "vcclothes": {
        "tiny": Scale(_TINY, 8, 8, 2, 2),
        "quick": Scale(_USUAL, 300, 50, 3, 3),
        "full": Scale(_USUAL, 750, 750, 5, 6),
    },
    # Few people, each seen often before a camera, as in PRCC: what looks for groups of like images
    # without labels needs more of them than its neighbourhoods hold.
    "tracks": {
        "tiny": Scale(_TINY, 8, 8, 4, 2),
        "quick": Scale(_USUAL, 50, 50, 20, 4),
        "full": Scale(_USUAL, 150, 71, 65, 10),
    },
    # Many cameras: what carries over to a new one is what holds for all.
    "street": {
        "tiny": Scale(_TINY, 9, 8, 2, 2),
        "quick": Scale(_USUAL, 300, 60, 2, 2),
        "full": Scale(_USUAL, 1500, 500, 3, 3),
    },
    # People who walk: each shot is a tracklet of frames.
    "tracklets": {
        "tiny": Scale(_TINY, 6, 3, 1, 2, frames=4),
        "quick": Scale(_USUAL, 50, 25, 2, 2, frames=6),
        "full": Scale(_USUAL, 375, 150, 1, 2, sessions=3, frames=8),
    },
    # Of a source all people are trained on; SAN's synthetic set has 929 textures in 10 poses each.
    PAIRS: {
        "tiny": Scale(_TINY, 12, 0, 2, 0, sessions=1),
        "quick": Scale(_USUAL, 250, 0, 6, 0, sessions=1),
        "full": Scale(_USUAL, 929, 0, 10, 0, sessions=1),
    },
    CROPS: {
        "tiny": Scale(_TINY, 12, 0, 2, 0),
        "quick": Scale(_USUAL, 500, 0, 2, 0),
        "full": Scale(_USUAL, 2000, 0, 3, 0),
    },
    # Each image twice: in the person's own outfit, and in the template's.
    REDRESSED: {
        "tiny": Scale(_TINY, 12, 0, 2, 0, sessions=1),
        "quick": Scale(_USUAL, 1000, 0, 4, 0, sessions=1),
        "full": Scale(_USUAL, 4000, 0, 5, 0, sessions=1),
    },
}

# Measured: with two templates for everybody's outfits a colour model is far worse across clothes
# than within them, and from some 300 people on still well above chance.
_CHANGING = WorldSettings(spread=1.3, wardrobe=1.0, styles=5, camera_var=0.6)
_ANYWHERE = WorldSettings(
    cameras=6,
    spread=1.5,
    wardrobe=0.5,
    styles=12,
    camera_var=0.8,
    yaw0=None,
    yaw_sd=None,
    twoway=None,
    p_occlusion=0.10,
    p_truncation=0.08,
)

_LOOK_ALIKES: dict[str, Any] = {"wardrobe": 0.6, "styles": 60}
"""What the factor ``wardrobe`` means."""

_FRONTS = (0.35, -0.35, 0.1, -0.15)

# What a short run learns from: most outfits are somebody's own, so that colours tell people apart
# within minutes, and still fail across clothes.
_OWN_CLOTHES = replace(_CHANGING, wardrobe=0.3, styles=12)

_WORLDS = {
    "mixed": replace(_OWN_CLOTHES, cameras=4, yaw0=_FRONTS),
    "market": _ANYWHERE,
    "prcc": replace(_CHANGING, cameras=3, yaw0=(0.35, -0.35, 0.1)),
    "ltcc": replace(
        _CHANGING,
        cameras=12,
        styles=6,
        yaw0=None,
        yaw_sd=0.6,
        twoway=0.35,
        p_occlusion=0.06,
    ),
    "vcclothes": replace(_CHANGING, cameras=4, yaw0=_FRONTS),
    "tracks": replace(_OWN_CLOTHES, cameras=3, yaw0=(0.35, -0.35, 0.1)),
    "street": replace(_ANYWHERE, cameras=24, factors=FACTORS),
    "tracklets": replace(_OWN_CLOTHES, cameras=4, yaw0=_FRONTS),
    PAIRS: replace(_ANYWHERE, cameras=12),
    CROPS: replace(_ANYWHERE, cameras=12),
    REDRESSED: replace(_ANYWHERE, cameras=16, wardrobe=0.0),
}


def scale_of(variant: str, size: str) -> Scale:
    """Return how much of everything a variant or source has in a size."""
    return _SCALES[variant][size]


def world_of(variant: str, seed: int, factors: Collection[str] | None = None) -> WorldSettings:
    """Return the world of a variant or source under the user's seed.

    Args:
        variant: whose.
        seed: the user's.
        factors: what photographs have, of `reid_synthpeople.names.FACTORS`; None is the variant's
            own: all in ``street``, none in others.
    """
    world = replace(_WORLDS[variant], seed=seed + _OTHERS.get(variant, 0))
    if factors is not None:
        world = replace(world, factors=tuple(name for name in FACTORS if name in factors))
    if "wardrobe" in world.factors:
        world = replace(world, **_LOOK_ALIKES)
    return world
