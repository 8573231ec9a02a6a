"""The photographic side of a world: what pictures taken in a street have and plain ones lack.

Every factor of `reid_synthpeople.names.FACTORS` moves what has been drawn already (a camera, a
view, an outfit, hair) or adds effects, from a stream of its own per thing and factor: leaving one
out changes nothing of the others, so that what each is worth can be measured.

- ``viewpoint``: cameras look down from low and from high.
- ``colour``: exposure, colour casts, contrast, saturation and glare differ from camera to camera,
  and automatic exposure and white balance move them from picture to picture.
- ``light``: sun from weak to harsh, shadows of people on the ground, shade of trees and houses.
- ``lens``: blur by motion and defocus, coarse sensors, sharpening, dark corners.
- ``sensor``: noise that goes with the light, files of low quality.
- ``crops``: boxes as a detector draws them: too large, too small, beside.
- ``cloth``: loose clothes with folds, finer grain.
- ``prints``: letters, pictures, emblems, bands, sleeves and shoulders of another colour.
- ``layers``: open jackets and shirts, coats and skirts of all lengths.
- ``bags``: more of them, large and small, also in the hand.
- ``hair``: of more lengths and volumes.
- ``ground``: backdrops of ground seen from above, with what lies and stands on it.
- ``wardrobe``: look-alikes: more than half of the outfits are one of sixty (`Scenes` draws them).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from reid_synthpeople.camera import Camera, View
from reid_synthpeople.effects import CameraEffects, Prints, ViewEffects
from reid_synthpeople.garments import Cut, Outfit
from reid_synthpeople.identity import Hair, Person
from reid_synthpeople.materials import draw_colour
from reid_synthpeople.names import FACTORS
from reid_synthpeople.randomness import Stream, generator, truncated_normal

_WHITE = np.ones(3)


class Street:
    """Move drawn things as the factors of a world say.

    Args:
        seed: of the world.
        factors: names out of `FACTORS`.
    """

    def __init__(self, seed: int, factors: Collection[str]) -> None:
        self._seed = seed
        self._factors = frozenset(factors)

    def __bool__(self) -> bool:
        """Say whether there is any factor."""
        return bool(self._factors)

    def camera(self, camera: Camera, camid: int) -> Camera:
        """Return a camera as it stands in a street."""
        if "viewpoint" in self._factors:
            rng = self._rng("viewpoint", camid)
            pitch = float(np.deg2rad(rng.uniform(2, 24) + rng.choice([0.0, 20.0], p=[0.6, 0.4])))
            camera = replace(camera, pitch=pitch, distance=rng.uniform(4, 16))
        if "light" in self._factors:
            rng = self._rng("light", camid)
            camera = replace(
                camera,
                sun=rng.uniform(0.15, 0.9),
                ambient=rng.uniform(0.6, 0.95),
                sun_elevation=rng.uniform(0.35, 1.3),
            )
        glare, veil = 0.0, _WHITE
        if "colour" in self._factors:
            rng = self._rng("colour", camid)
            warmth, tint = 0.11 * truncated_normal(rng), 0.04 * truncated_normal(rng)
            exposure = 0.12 + 0.17 * truncated_normal(rng)
            camera = replace(
                camera,
                gain=np.exp(np.array([warmth, -tint, -warmth]) + exposure),
                gamma=float(np.exp(0.13 * truncated_normal(rng))),
                contrast=rng.uniform(0.75, 1.15),
                saturation=rng.uniform(0.5, 1.2),
                haze=rng.uniform(-0.02, 0.06),
            )
            glare = float(rng.random() < 0.4) * rng.uniform(0.03, 0.3)
            veil = np.array([0.72, 0.72, 0.72]) + 0.15 * rng.uniform(-1, 1, 3)
        vignette = sharpening = shot_noise = 0.0
        if "lens" in self._factors:
            rng = self._rng("lens", camid)
            camera = replace(camera, blur=rng.uniform(0.3, 1.2))
            sharpening = float(rng.random() < 0.6) * rng.uniform(0.2, 1.2)
            vignette = float(rng.random() < 0.3) * rng.uniform(0.05, 0.3)
        if "sensor" in self._factors:
            rng = self._rng("sensor", camid)
            shot_noise = rng.uniform(0.0, 0.02)
        effects = CameraEffects(
            glare=glare,
            veil=veil,
            vignette=vignette,
            sharpening=sharpening,
            shot_noise=shot_noise,
            ground="ground" in self._factors,
        )
        return replace(camera, effects=effects)

    def view(self, view: View, camera: Camera, *key: int) -> View:
        """Return how one picture is taken in a street.

        Args:
            view: as it was drawn.
            camera: of the street.
            key: of the picture: person, camera, number.
        """
        if "crops" in self._factors:
            rng = self._rng("crops", *key)
            view = replace(
                view,
                scale=view.scale * float(np.exp(0.04 + 0.09 * truncated_normal(rng))),
                centre_x=view.centre_x + 0.03 * truncated_normal(rng),
                centre_y=view.centre_y + 0.035 * truncated_normal(rng),
                aspect=view.aspect * float(np.exp(0.12 * truncated_normal(rng))),
            )
        drift = _WHITE
        if "colour" in self._factors:
            rng = self._rng("colour", *key)
            warmth, exposure = 0.03 * truncated_normal(rng), 0.11 * truncated_normal(rng)
            drift = np.exp(np.array([warmth, 0.0, -warmth]) + exposure)
        motion = direction = defocus = 0.0
        coarseness = 1.0
        if "lens" in self._factors:
            rng = self._rng("lens", *key)
            motion = float(rng.random() < 0.5) * rng.uniform(0.004, 0.025)
            direction = 0.35 * truncated_normal(rng)
            defocus = float(rng.random() < 0.4) * rng.uniform(0.3, 1.6)
            coarseness = 1 + float(rng.random() < 0.6) * rng.uniform(0.0, 1.6)
        shadow = dapple = dapple_x = dapple_y = 0.0
        if "light" in self._factors:
            rng = self._rng("light", *key)
            clear = rng.random() < 0.6
            view = replace(view, sun=view.sun if clear else view.sun * 0.2)
            shadow = float(clear) * min(0.65, 0.75 * camera.sun * view.sun)
            dapple = float(rng.random() < 0.3) * rng.uniform(0.15, 0.5)
            dapple_x, dapple_y = rng.random(), rng.random()
        quality = None
        if "sensor" in self._factors:
            quality = int(self._rng("sensor", *key).integers(25, 93))
        effects = ViewEffects(
            drift=drift,
            motion=motion,
            direction=direction,
            defocus=defocus,
            coarseness=coarseness,
            shadow=shadow,
            dapple=dapple,
            dapple_x=dapple_x,
            dapple_y=dapple_y,
            quality=quality,
        )
        return replace(view, effects=effects)

    def person(self, person: Person, pid: int) -> Person:
        """Return a person with the hair that people in a street have."""
        if "hair" not in self._factors:
            return person
        rng = self._rng("hair", pid)
        return replace(person, hair=_restyled(person.hair, rng))

    def outfit(self, outfit: Outfit, pid: int, number: int) -> Outfit:
        """Return an outfit as it is worn in a street."""
        if "layers" in self._factors:
            outfit = _layered(outfit, self._rng("layers", pid, number))
        if "cloth" in self._factors:
            outfit = _loose(outfit, self._rng("cloth", pid, number))
        if "bags" in self._factors:
            outfit = _carrying(outfit, self._rng("bags", pid, number))
        if "prints" in self._factors:
            outfit = _printed(outfit, self._rng("prints", pid, number))
        return outfit

    def _rng(self, factor: str, *key: int) -> np.random.Generator:
        # The length of the key tells a camera, an outfit and a picture apart.
        return generator(self._seed, Stream.STREET, FACTORS.index(factor), len(key), *key)


def _restyled(hair: Hair, rng: np.random.Generator) -> Hair:
    if hair.bald > 0.5:
        return hair
    longer = rng.uniform(0.85, 1.3)
    return replace(
        hair,
        front=hair.front * rng.uniform(0.75, 1.25),
        side=hair.side * longer,
        back=hair.back * longer * rng.uniform(0.9, 1.15),
        thickness=hair.thickness * float(np.exp(0.5 * truncated_normal(rng))) + 0.002,
        fringe=hair.fringe + float(rng.random() < 0.25) * rng.uniform(0.0, 0.25),
    )


def _layered(outfit: Outfit, rng: np.random.Generator) -> Outfit:
    likely = {"jacket": 0.7, "coat": 0.6, "shirt": 0.3, "hoodie": 0.35}.get(outfit.top, 0.0)
    opened, width, inner = rng.random() < likely, rng.uniform(0.03, 0.15), draw_colour(rng)
    front = outfit.front
    if opened:
        front = replace(front, opening=width, inner_colour=inner)
    cut = outfit.cut
    length = cut.skirt_length * rng.uniform(0.7, 1.35)
    flare = cut.skirt_flare * rng.uniform(0.5, 2.0)
    hem = outfit.hem
    if outfit.top in ("tee", "shirt", "hoodie", "jacket"):
        hem = float(np.clip(hem + rng.uniform(-0.03, 0.1), 0.72, 0.99))
    return replace(
        outfit, front=front, hem=hem, cut=replace(cut, skirt_length=length, skirt_flare=flare)
    )


def _loose(outfit: Outfit, rng: np.random.Generator) -> Outfit:
    cut = outfit.cut
    wide = rng.random() < 0.5
    upper = cut.top_thickness * rng.uniform(0.9, 1.7) + 0.002
    lower = cut.bottom_thickness * rng.uniform(0.9, 1.3) + (0.002 if wide else 0.0)
    flare = cut.trouser_flare + float(wide and outfit.bottom != "slim") * rng.uniform(0.0, 0.012)
    if outfit.tights or outfit.top == "dress":
        lower, flare = cut.bottom_thickness, cut.trouser_flare
    drape = rng.uniform(0.05, 0.2)
    return replace(
        outfit,
        drape=drape,
        cut=replace(cut, top_thickness=upper, bottom_thickness=lower, trouser_flare=flare),
    )


def _carrying(outfit: Outfit, rng: np.random.Generator) -> Outfit:
    kinds = ("", "backpack", "shoulder bag", "hand bag")
    bag = kinds[rng.choice(4, p=(0.5, 0.16, 0.2, 0.14))]
    bright = draw_colour(rng, "top" if rng.random() < 0.5 else "bottom")
    size = float(np.exp(0.3 * truncated_normal(rng)))
    cut: Cut = replace(
        outfit.cut,
        backpack=float(bag == "backpack"),
        shoulder_bag=float(bag == "shoulder bag"),
        hand_bag=float(bag == "hand bag"),
        bag_size=size,
    )
    return replace(outfit, bag_colour=bright, cut=cut)


def _printed(outfit: Outfit, rng: np.random.Generator) -> Outfit:
    shirt = outfit.top in ("tee", "hoodie", "tank")
    jacket = outfit.top in ("jacket", "shirt")
    prints = Prints(
        seed=int(rng.integers(1 << 31)),
        colour=draw_colour(rng),
        second=draw_colour(rng),
        chest=int(rng.choice(4, p=(0.4, 0.2, 0.2, 0.2) if shirt else (0.85, 0.0, 0.0, 0.15))),
        back=int(rng.choice(4, p=(0.7, 0.12, 0.12, 0.06))) if shirt or jacket else 0,
        sleeves=int(rng.choice(3, p=(0.8, 0.12, 0.08))),
        stripe=bool(rng.random() < 0.1),
        yoke=bool(rng.random() < 0.08),
        bands=bool(rng.random() < 0.08),
    )
    return replace(outfit, prints=prints)
