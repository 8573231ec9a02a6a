"""Painting a person in an outfit onto the atlas, colour and garment label with the same masks.

Because every mask that lays down a colour lays down its label too, the garment of a pixel is what
is seen there, to the texel. What counts as what:

- hat: the hat with its brim; hair: hair, bun and ponytail, also below a hat;
- upper: tops, dresses and the tails of coats, what an open jacket shows, hoods, bags and straps;
- lower: trousers, shorts, skirts, tights, belts;
- shoes: shoes, boots and socks;
- face: the skin of the head with eyes, glasses and beard, as far back as the ears;
- skin: all other skin, hands included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_synthpeople.atlas import CHARTS, SIDE
from reid_synthpeople.garments import Outfit
from reid_synthpeople.identity import Hair, Looks, Person
from reid_synthpeople.materials import weave
from reid_synthpeople.prints import paint_prints
from reid_synthpeople.randomness import generator, smooth_noise
from reid_synthpeople.sheets import (
    FACE,
    HAIR,
    HAT,
    LOWER,
    SHOES,
    UPPER,
    Canvas,
    Paint,
    Sheet,
)

_CLOTH, _STRANDS = 77, 5
"""Streams under an outfit's and a face's seed."""


def paint_surface(person: Person, outfit: Outfit) -> NDArray[np.uint8]:
    """Paint the whole surface of a person in an outfit.

    Returns:
        uint8 ``256 256 4``: red, green, blue, and the class of the field ``garments`` of every
        texel, 0 outside the charts.
    """
    rng = generator(outfit.seed, _CLOTH)
    canvas = Canvas(person.looks.skin)
    top, bottom = (
        weave(cloth.pattern, cloth.colour, cloth.accent, outfit.pattern_scale, rng)
        for cloth in (outfit.upper, outfit.lower)
    )
    # The forearms of a top in two blocks have one of its colours.
    cuffs = None
    if outfit.upper.pattern == "block":
        cuffs = outfit.upper.accent if rng.random() < 0.5 else outfit.upper.colour
    _paint_torso(canvas, outfit, top, bottom, rng)
    _paint_arms(canvas, outfit, top, cuffs)
    _paint_legs(canvas, outfit, top, bottom)
    _paint_skirt(canvas, outfit, top, bottom)
    _paint_feet(canvas, outfit)
    _paint_bag(canvas, outfit)
    strands = _draw_strands(person.looks)
    _paint_head(canvas, person.looks, person.hair, strands)
    _paint_hair(canvas, outfit, strands)
    for hand in canvas.charts("hand"):
        fingers = ((hand.side * 20).astype(int) % 2 == 0) & (hand.v > 0.6)
        hand.darken(fingers, 0.9)
    paint_prints(canvas, outfit)
    _add_grain(canvas, rng, 0.4 if outfit.drape else 1.0)
    colours = (np.clip(canvas.colour, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.concatenate([colours, canvas.garment[..., None]], -1)


def _paint_torso(
    canvas: Canvas, outfit: Outfit, top: Paint, bottom: Paint, rng: np.random.Generator
) -> None:
    (torso,) = canvas.charts("torso")
    v, side, hem, colour = torso.v, torso.side, outfit.hem, outfit.upper.colour
    torso.put(v > 0.7, bottom, LOWER)
    belt = (v > hem - 0.03) & (v < hem + 0.025)
    torso.put(belt, outfit.shoes.colour * 0.6, LOWER)
    neck = 0.135 + outfit.neckline * np.clip(1 - side / 0.16, 0, 1) + 0.01 * (side > 0.3)
    torso.put((v > neck) & (v < hem), top, UPPER)
    if outfit.front.opening > 0:
        opening = (side < outfit.front.opening * (0.5 + 0.8 * v)) & (v > 0.14)
        torso.put(opening & (v < 0.82), outfit.front.inner_colour, UPPER)
        torso.put(opening & (v >= 0.82), bottom, LOWER)
    elif outfit.collar:
        placket = (side < 0.007) & (v > 0.14) & (v < hem)
        torso.put(placket, colour * 0.55 + 0.05, UPPER)
    if outfit.collar or outfit.cut.hood:
        collar = (v > 0.085) & (v < 0.15) & (side > 0.05)
        cloth = outfit.upper.accent if outfit.upper.pattern == "block" else colour
        torso.put(collar, cloth * 0.85, UPPER)
    if outfit.front.graphic:
        _paint_graphic(torso, outfit, rng)
    if outfit.cut.backpack:
        straps = (np.abs(side - 0.105) < 0.016) & (v > 0.15) & (v < 0.52)
        torso.put(straps, outfit.bag_colour * 0.8, UPPER)
    if outfit.cut.shoulder_bag:
        across = np.where(side > 0.25, 0.5 - side, side) * np.sign(torso.u)
        strap = (np.abs(across + 0.19 - (v - 0.15) * 0.52) < 0.013) & (v > 0.15) & (v < 0.85)
        torso.put(strap, outfit.bag_colour * 0.8, UPPER)


def _paint_graphic(torso: Sheet, outfit: Outfit, rng: np.random.Generator) -> None:
    """Print something on the chest or the back: a disc, a mottled square, or bars."""
    on_back = rng.random() < 0.35
    across = (0.5 - torso.side) if on_back else torso.side
    kind = rng.integers(3)
    width, height = rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.13)
    x, y = across / width, (torso.v - 0.40) / height
    disc = x**2 + y**2 < 1
    if kind == 0:
        mask = disc
    elif kind == 1:
        mask = np.maximum(x, np.abs(y)) < 0.85
    else:
        mask = disc & ((torso.v * 40).astype(int) % 2 == 0)
    torso.put(mask, outfit.front.graphic_colour, UPPER)
    if kind == 1:
        mottle = smooth_noise(rng, SIDE, 5)[: torso.v.shape[0], : torso.v.shape[1]] > 0.3
        torso.put(mask & mottle, outfit.upper.accent, UPPER)


def _paint_arms(canvas: Canvas, outfit: Outfit, top: Paint, cuffs: Paint | None) -> None:
    for arm in canvas.charts("upper arm"):
        arm.put(arm.v < outfit.cut.upper_arm, top, UPPER)
        _shade_hem(arm, outfit.cut.upper_arm)
    for arm in canvas.charts("lower arm"):
        if outfit.cut.lower_arm > 0:
            arm.put(arm.v < outfit.cut.lower_arm, top, UPPER)
        if cuffs is not None:
            arm.put(arm.v < outfit.cut.lower_arm, cuffs, UPPER)
        _shade_hem(arm, outfit.cut.lower_arm)


def _paint_legs(canvas: Canvas, outfit: Outfit, top: Paint, bottom: Paint) -> None:
    shoes, cut = outfit.shoes, outfit.cut
    cloth = outfit.lower.accent if outfit.tights else bottom
    for leg in canvas.charts("upper leg"):
        leg.put(leg.v < cut.upper_leg, cloth, LOWER)
        if outfit.tail_of_top:
            leg.put(leg.v < 0.35, top, UPPER)
        _shade_hem(leg, cut.upper_leg)
    for leg in canvas.charts("lower leg"):
        if cut.lower_leg > 0:
            leg.put(leg.v < cut.lower_leg, cloth, LOWER)
        if cut.lower_leg < 0.5:
            leg.put(leg.v > 0.96 - shoes.sock, shoes.sock_colour, SHOES)
        _shade_hem(leg, cut.lower_leg)
        leg.put(leg.v > 0.985 - shoes.boot, shoes.colour, SHOES)


def _shade_hem(limb: Sheet, end: float) -> None:
    limb.darken(np.abs(limb.v - end) < 0.018, 0.72)


def _paint_skirt(canvas: Canvas, outfit: Outfit, top: Paint, bottom: Paint) -> None:
    (skirt,) = canvas.charts("skirt")
    if outfit.tail_of_top:
        skirt.fill(top, UPPER)
        if outfit.front.opening > 0:
            skirt.put(skirt.side < outfit.front.opening, bottom, LOWER)
    else:
        skirt.fill(bottom, LOWER)


def _paint_feet(canvas: Canvas, outfit: Outfit) -> None:
    shoes = outfit.shoes
    for foot in canvas.charts("foot"):
        foot.fill(shoes.colour, SHOES)
        foot.put(foot.side > 0.36, shoes.sole_colour, SHOES)
        laces = (foot.side < 0.09) & (foot.v > 0.35) & (foot.v < 0.68)
        foot.put(laces & ((foot.v * 24).astype(int) % 2 == 0), shoes.sole_colour, SHOES)


def _paint_bag(canvas: Canvas, outfit: Outfit) -> None:
    (bag,) = canvas.charts("bag")
    colour = outfit.bag_colour
    bag.fill(colour, UPPER)
    bag.put(np.abs(bag.v - 0.55) < 0.02, colour * 0.4, UPPER)
    pocket = (bag.side < 0.16) & (bag.v > 0.6) & (bag.v < 0.9)
    bag.put(pocket, colour * 1.35 + 0.03, UPPER)


def _paint_head(canvas: Canvas, looks: Looks, hair: Hair, strands: Paint) -> None:
    (head,) = canvas.charts("head")
    v, side, face, skin = head.v, head.side, looks.face, looks.skin
    head.garment[side < 0.30] = FACE
    eye_v, eye_u = 0.53 + 0.02 * face[0], 0.055 + 0.012 * face[1]
    head.put(head.spot(eye_u, eye_v, 0.022, 0.030) < 1, np.array([0.93, 0.92, 0.9]), FACE)
    head.put(head.spot(eye_u, eye_v, 0.011, 0.026) < 1, np.array([0.10, 0.07, 0.05]), FACE)
    brows = (np.abs(side - eye_u) < 0.032) & (np.abs(v - eye_v + 0.075) < 0.014 + 0.012 * face[2])
    head.put(brows, looks.hair * 0.8, FACE)
    head.put(head.spot(0.0, 0.66, 0.020, 0.05) < 1, skin * 0.86, FACE)  # nose
    mouth = head.spot(0.0, 0.79, 0.035 + 0.015 * face[3], 0.024) < 1
    head.put(mouth, skin * np.array([0.85, 0.55, 0.55]), FACE)
    if looks.beard > 0:
        chin = (side < 0.20) & (v > 0.70 - 0.3 * np.clip(side - 0.1, 0, 1) * 2)
        beard = chin & (head.spot(0.0, 0.79, 0.045, 0.022) > 1)
        head.blend(beard, looks.hair, looks.beard)
    if looks.glasses:
        ring = head.spot(eye_u, eye_v, 0.036, 0.062)
        bridge = (np.abs(v - eye_v) < 0.012) & ((side < 0.02) | ((side > 0.09) & (side < 0.2)))
        frame = ((ring > 0.65) & (ring < 1.25)) | bridge
        head.put(frame, np.array([0.06, 0.06, 0.07]), FACE)
    if not hair.bald:
        to_side = np.clip((side - 0.10) / 0.12, 0, 1)
        to_back = np.clip((side - 0.26) / 0.14, 0, 1)
        line = hair.front + (hair.side - hair.front) * to_side + (hair.back - hair.side) * to_back
        head.put(v < line, strands, HAIR)


def _paint_hair(canvas: Canvas, outfit: Outfit, strands: Paint) -> None:
    for sheet in canvas.charts("hair") + canvas.charts("bun"):
        sheet.fill(strands, HAIR)
    if outfit.cut.hat:
        (shell,) = canvas.charts("hair")
        shell.fill(outfit.hat_colour, HAT)
        shell.put(shell.v > 0.85, outfit.hat_colour * 0.7, HAT)


def _draw_strands(looks: Looks) -> NDArray[np.float32]:
    """Return the colour of hair for the whole atlas."""
    noise = smooth_noise(generator(int(looks.face[0] * 1e6), _STRANDS), SIDE, 3)
    return looks.hair.astype(np.float32) * (1 + 0.18 * noise)[..., None]


def _add_grain(canvas: Canvas, rng: np.random.Generator, strength: float) -> None:
    """Make cloth uneven; skin is left almost alone."""
    grain = 1 + 0.05 * smooth_noise(rng, SIDE, 2) + 0.04 * smooth_noise(rng, SIDE, 12)
    for chart in CHARTS:
        share = 0.3 if chart.kind in ("head", "hand") else strength
        canvas.colour[chart.slices] *= (1 + (grain[chart.slices] - 1) * share)[..., None]
