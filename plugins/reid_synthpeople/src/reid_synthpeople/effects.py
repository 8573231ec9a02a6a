"""What photographs add to a plain picture, one group of numbers per camera and one per picture.

They stand apart from `Camera` and `View`, which every world draws: only worlds with factors
(`reid_synthpeople.names.FACTORS`) draw these, from streams of their own, so that the pictures of
all other worlds stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from reid_synthpeople.randomness import Colour


@dataclass(frozen=True, eq=False)
class CameraEffects:
    """What all pictures of a camera share.

    Args:
        glare: share of veiling light that lens and air lay over everything; `veil` is its colour.
        vignette: how much darker the corners are.
        sharpening: share of the difference to a blurred picture that the camera adds.
        shot_noise: standard deviation of the noise of white; it goes with the root of the light.
        ground: whether the backdrop is a street seen from above.
    """

    glare: float
    veil: Colour
    vignette: float
    sharpening: float
    shot_noise: float
    ground: bool


@dataclass(frozen=True, eq=False)
class ViewEffects:
    """What belongs to one picture.

    Args:
        drift: factors on red, green and blue: what automatic exposure and white balance do.
        motion: length of the blur by motion in shares of the picture's height, `direction` its
            angle in radians, 0 for sideways.
        defocus: radius of the blur in pixels of a picture 256 pixels high.
        coarseness: by how much fewer pixels the sensor had than the picture has.
        shadow: darkness of the person's shadow on the ground.
        dapple: darkness of the shade of trees and houses; `dapple_x`, `dapple_y` (0 to 1) say
            where.
        quality: of the JPEG file, 1 to 95; None is the camera's.
    """

    drift: Colour
    motion: float
    direction: float
    defocus: float
    coarseness: float
    shadow: float
    dapple: float
    dapple_x: float
    dapple_y: float
    quality: int | None


@dataclass(frozen=True, eq=False)
class Prints:
    """What is printed on, or sewn to, the garments.

    Args:
        seed: of shapes and places.
        colour, second: of everything.
        chest, back: kind of print: 0 none, 1 lines of letters, 2 a picture, 3 a small emblem.
        sleeves: 0 as the rest, 1 of the first colour, 2 striped lengthways.
        stripe: whether the trousers have a stripe at the side.
        yoke: whether the shoulders have the first colour.
        bands: whether there are bands around the chest.
    """

    seed: int
    colour: Colour
    second: Colour
    chest: int
    back: int
    sleeves: int
    stripe: bool
    yoke: bool
    bands: bool
