"""Cameras, and how each picture is taken: direction, framing, light, accidents.

A camera has a place, a light and a response of its own, which all its pictures share; a view adds
what differs from picture to picture. Angles are in radians; a yaw of 0 sees people from the front.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from reid_synthpeople.effects import CameraEffects, ViewEffects
from reid_synthpeople.fingerprint import LATER
from reid_synthpeople.materials import draw_colour
from reid_synthpeople.randomness import Colour, truncated_normal


@dataclass(frozen=True, eq=False)
class Camera:
    """What all pictures of a camera share.

    Args:
        yaw, yaw_sd: mean and spread of the direction in which people are seen.
        twoway: probability that somebody walks the other way.
        pitch: how far it looks down; `distance` to people in metres.
        sun_azimuth, sun_elevation, sun, ambient: direction and strength of the light.
        gain: factors on red, green and blue.
        gamma, contrast, saturation, haze: response.
        blur: radius in pixels of a picture 256 pixels high.
        noise: standard deviation, white is 1.
        jpeg_quality: of its files.
        seed: of its backdrop.
        effects: what photographs add, or None.
    """

    yaw: float
    yaw_sd: float
    twoway: float
    pitch: float
    distance: float
    sun_azimuth: float
    sun_elevation: float
    sun: float
    ambient: float
    gain: Colour
    gamma: float
    contrast: float
    saturation: float
    haze: float
    blur: float
    noise: float
    jpeg_quality: int
    seed: int
    effects: CameraEffects | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, eq=False)
class Occluder:
    """A pole or a box before the person; lengths in shares of the picture.

    Args:
        left, top, right, bottom: its rectangle.
        colour: mixed with a patch of the backdrop at `patch_x`, `patch_y` (0 to 1).
    """

    left: float
    top: float
    right: float
    bottom: float
    colour: Colour
    patch_x: float
    patch_y: float


@dataclass(frozen=True)
class Bystander:
    """Somebody else in the picture: who, and the offset in shares of the picture."""

    number: int
    x: float
    y: float


@dataclass(frozen=True, eq=False)
class View:
    """What belongs to one picture.

    Args:
        yaw, pitch, distance, roll: of the camera against the person.
        scale: height of the frame in heights of the person.
        centre_x, centre_y: of the frame against the person, in heights of the person.
        aspect: how much wider everything is.
        brightness: factor on the camera's gain; `sun` on its sunlight.
        backdrop_x, backdrop_y: part of the backdrop, 0 to 1.
        noise: part of the noise, 0 to 1.
        folds_x, folds_y: part of the cloth's folds, 0 to 1.
        occluder, bystander: accidents, or None.
        effects: what photographs add, or None.
    """

    yaw: float
    pitch: float
    distance: float
    roll: float
    scale: float
    centre_x: float
    centre_y: float
    aspect: float
    brightness: float
    backdrop_x: float
    backdrop_y: float
    noise: float
    folds_x: float
    folds_y: float
    sun: float
    occluder: Occluder | None
    bystander: Bystander | None
    effects: ViewEffects | None = field(default=None, metadata=LATER)


def draw_camera(
    rng: np.random.Generator,
    variation: float = 1.0,
    yaw: float | None = None,
    yaw_sd: float | None = None,
    twoway: float | None = None,
) -> Camera:
    """Draw a camera.

    Args:
        rng: the camera's stream.
        variation: factor on the spread of gain, colour cast and gamma.
        yaw, yaw_sd, twoway: as in `Camera`, instead of drawn values.
    """
    drawn_yaw = rng.uniform(-np.pi, np.pi) if yaw is None else yaw
    drawn_sd = rng.uniform(0.2, 0.6)
    drawn_twoway = float(rng.choice([0.0, 0.35, 0.5]))
    pitch, distance = float(np.deg2rad(rng.uniform(3, 26))), rng.uniform(5, 13)
    sun_azimuth, sun_elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.4, 1.2)
    sun, ambient = rng.uniform(0.15, 0.65), rng.uniform(0.78, 1.02)
    warmth, tint = 0.07 * variation * rng.normal(), 0.05 * variation * rng.normal()
    cast = np.array([1 + warmth, 1 - 0.3 * tint, 1 - warmth + tint])
    return Camera(
        yaw=drawn_yaw,
        yaw_sd=drawn_sd if yaw_sd is None else yaw_sd,
        twoway=drawn_twoway if twoway is None else twoway,
        pitch=pitch,
        distance=distance,
        sun_azimuth=sun_azimuth,
        sun_elevation=sun_elevation,
        sun=sun,
        ambient=ambient,
        gain=cast * np.exp(0.18 * variation * truncated_normal(rng, 1.6)),
        gamma=float(np.exp(0.16 * variation * rng.normal())),
        contrast=rng.uniform(0.78, 1.1),
        saturation=rng.uniform(0.65, 1.1),
        haze=rng.uniform(0, 0.06),
        blur=rng.uniform(0.35, 1.0),
        noise=rng.uniform(0.004, 0.016),
        jpeg_quality=int(rng.integers(60, 92)),
        seed=int(rng.integers(1 << 31)),
    )


def draw_view(
    camera: Camera,
    rng: np.random.Generator,
    p_occlusion: float,
    p_truncation: float,
    p_bystander: float,
) -> View:
    """Draw how one picture is taken.

    Args:
        camera: its camera.
        rng: the picture's stream.
        p_occlusion, p_truncation, p_bystander: probabilities of an occluder, of a bad cut and of
            somebody else in the picture.
    """

    def jitter(sd: float) -> float:
        return sd * truncated_normal(rng)

    yaw = camera.yaw + jitter(camera.yaw_sd) + (np.pi if rng.random() < camera.twoway else 0.0)
    pitch = camera.pitch + jitter(0.05)
    distance = camera.distance * float(np.exp(jitter(0.15)))
    roll = jitter(0.02)
    scale, centre_x, centre_y = 1.06 + jitter(0.035), jitter(0.03), jitter(0.018)
    aspect = float(np.exp(jitter(0.05)))
    if rng.random() < p_truncation:
        scale, centre_x, centre_y = _truncate(rng, scale, centre_x, centre_y)
    brightness = float(np.exp(jitter(0.10)))
    backdrop_x, backdrop_y, noise, folds_x, folds_y = (rng.random() for _ in range(5))
    sun = rng.uniform(0.5, 1.2)
    occluder = _draw_occluder(rng) if rng.random() < p_occlusion else None
    bystander = _draw_bystander(rng) if rng.random() < p_bystander else None
    return View(
        yaw=yaw,
        pitch=pitch,
        distance=distance,
        roll=roll,
        scale=scale,
        centre_x=centre_x,
        centre_y=centre_y,
        aspect=aspect,
        brightness=brightness,
        backdrop_x=backdrop_x,
        backdrop_y=backdrop_y,
        noise=noise,
        folds_x=folds_x,
        folds_y=folds_y,
        sun=sun,
        occluder=occluder,
        bystander=bystander,
    )


def face_front(view: View) -> View:
    """Return a view of the whole person from the front, with the same light, scene and noise."""
    return replace(
        view,
        yaw=0.0,
        pitch=0.12,
        distance=8.0,
        roll=0.0,
        scale=1.06,
        centre_x=0.0,
        centre_y=0.0,
        aspect=1.0,
        occluder=None,
        bystander=None,
        effects=view.effects
        and replace(view.effects, motion=0.0, defocus=0.0, coarseness=1.0, shadow=0.0),
    )


_GOLDEN = 0.6180339887498949
"""Shares that follow one another by it never come close to each other again."""


def view_later(view: View, frame: int) -> View:
    """Return the view of a later frame: the walker comes on, and so does the frame around them.

    A detector's frame trembles, the noise is another one, what stands about stays.

    Args:
        view: of frame 0.
        frame: how many frames later.
    """
    tremble = math.sin(2.4 * frame)
    return replace(
        view,
        distance=view.distance * 0.985**frame,
        scale=view.scale * (1 + 0.012 * tremble),
        centre_x=view.centre_x + 0.012 * math.sin(1.7 * frame),
        centre_y=view.centre_y + 0.006 * tremble,
        backdrop_x=_within(view.backdrop_x + 0.015 * frame),
        noise=(view.noise + _GOLDEN * frame) % 1,
    )


def _within(share: float) -> float:
    """Return a share between 0 and 1 that turns back at the ends."""
    share %= 2
    return 2 - share if share > 1 else share


def _truncate(
    rng: np.random.Generator, scale: float, centre_x: float, centre_y: float
) -> tuple[float, float, float]:
    """Return a frame that cuts off the feet, a little of the head, or one side."""
    kind, share = rng.integers(3), rng.uniform(0.12, 0.35)
    if kind == 0:
        return scale * (1 - share), centre_x, centre_y - share / 2 / (1 - share)
    if kind == 1:
        return scale * (1 - share / 2), centre_x, centre_y + share / 4
    return scale, centre_x + float(rng.choice([-1, 1])) * share * 0.8, centre_y


def _draw_occluder(rng: np.random.Generator) -> Occluder:
    kind, share = rng.integers(3), rng.uniform(0.12, 0.35)
    pole = rng.uniform(0.1, 0.7)
    low = rng.uniform(-0.1, 0.3), rng.uniform(0.6, 1.1)
    on_left, top = rng.random() < 0.5, rng.uniform(0, 0.5)
    box = (
        (pole, 0.0, pole + share * 0.5, 1.0),
        (low[0], 1 - share, low[1], 1.0),
        (0.0, top, share, 1.0) if on_left else (1 - share, top, 1.0, 1.0),
    )[kind]
    colour = draw_colour(rng, "bottom") * 0.9
    return Occluder(*box, colour=colour, patch_y=rng.random(), patch_x=rng.random())


def _draw_bystander(rng: np.random.Generator) -> Bystander:
    return Bystander(
        number=int(rng.integers(1 << 20)),
        x=float(rng.choice([-1, 1])) * rng.uniform(0.42, 0.85),
        y=rng.uniform(-0.12, 0.04),
    )
