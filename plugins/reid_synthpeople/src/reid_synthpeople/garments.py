"""What somebody wears: cut, colours, cloth and accessories; free outfits and shared templates.

An outfit is drawn from a stream of its own, so that it changes nothing of the person. In a world
with a shared wardrobe most outfits are one of few templates that everybody may wear, with small
differences of colour and fit: otherwise clothes alone would tell people apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from reid_synthpeople.effects import Prints
from reid_synthpeople.fingerprint import LATER
from reid_synthpeople.materials import PATTERNS, draw_colour
from reid_synthpeople.randomness import Colour


@dataclass(frozen=True)
class Cut:
    """Those measures of an outfit that change the body's outline.

    Args:
        top_thickness, bottom_thickness: of the cloth, in shares of the height.
        trouser_flare: how much wider trousers become towards the ankle, in shares of the height.
        upper_leg, lower_leg: covered share of the leg; above 1 is all of it.
        upper_arm, lower_arm: covered share of the arm.
        hood: 1 with one.
        skirt: 1 with a skirt or the tail of a coat; `skirt_length` (below the hip) and
            `skirt_flare` are shares of the height.
        hat: 1 with one.
        backpack, shoulder_bag, hand_bag: 1 with one; `bag_size` is a factor.
    """

    top_thickness: float
    bottom_thickness: float
    trouser_flare: float
    upper_leg: float
    lower_leg: float
    upper_arm: float
    lower_arm: float
    hood: float
    skirt: float
    skirt_length: float
    skirt_flare: float
    hat: float
    backpack: float
    shoulder_bag: float
    bag_size: float
    hand_bag: float = field(default=0.0, metadata=LATER)


@dataclass(frozen=True, eq=False)
class Cloth:
    """What a garment is made of; the accent is the colour of its pattern, or of tights."""

    colour: Colour
    accent: Colour
    pattern: str


@dataclass(frozen=True, eq=False)
class Front:
    """What the upper garment's front shows.

    Args:
        opening: half width of an open jacket or coat, in turns around the body; 0 is closed.
        inner_colour: of what it shows.
        graphic: whether there is a print on the chest or the back.
        graphic_colour: of the print.
    """

    opening: float
    inner_colour: Colour
    graphic: bool
    graphic_colour: Colour


@dataclass(frozen=True, eq=False)
class Shoes:
    """Shoes, boots and socks; `boot` and `sock` are heights in shares of the lower leg."""

    colour: Colour
    sole_colour: Colour
    boot: float
    sock: float
    sock_colour: Colour


@dataclass(frozen=True, eq=False)
class Outfit:
    """Clothes of one person.

    Args:
        seed: of the cloth's patterns and grain.
        top, bottom: kinds of garment (`TOPS`, `BOTTOMS`); a dress hides the bottom.
        upper, lower: their cloth.
        pattern_scale: period of both patterns in metres.
        front: what the upper garment's front shows.
        hem, neckline: lower end and depth of the neckline, as shares of the torso's chart.
        collar, tights: whether there are any.
        shoes: what is on the feet.
        bag_colour, hat_colour: of accessories.
        cut: what changes the outline.
        drape: how much light and dark the folds make; 0 is the usual.
        prints: what is printed on it, or None.
    """

    seed: int
    top: str
    bottom: str
    upper: Cloth
    lower: Cloth
    pattern_scale: float
    front: Front
    hem: float
    neckline: float
    collar: bool
    tights: bool
    shoes: Shoes
    bag_colour: Colour
    hat_colour: Colour
    cut: Cut
    drape: float = field(default=0.0, metadata=LATER)
    prints: Prints | None = field(default=None, metadata=LATER)

    @property
    def tail_of_top(self) -> bool:
        """Whether the skirt belongs to the upper garment, as a dress's or a coat's does."""
        return self.top in ("dress", "coat")


TOPS = ("tee", "shirt", "hoodie", "jacket", "coat", "tank", "dress")
"""Kinds of upper garment."""

BOTTOMS = ("slim", "regular", "loose", "shorts", "skirt")
"""Kinds of lower garment."""

_TOP_SHARES = {
    True: (0.22, 0.20, 0.14, 0.16, 0.10, 0.06, 0.12),
    False: (0.26, 0.24, 0.18, 0.20, 0.08, 0.04, 0.0),
}
_BOTTOM_SHARES = {True: (0.40, 0.20, 0.10, 0.12, 0.18), False: (0.26, 0.36, 0.16, 0.22, 0.0)}
"""How common garments are among women (True) and men."""

_TOP_PATTERN_SHARES = (0.62, 0.11, 0.04, 0.09, 0.03, 0.08, 0.03)
_BOTTOM_PATTERN_SHARES = (0.84, 0.01, 0.03, 0.05, 0.02, 0.03, 0.02)

_TOP_THICKNESS = dict(zip(TOPS, (0.004, 0.006, 0.011, 0.014, 0.016, 0.002, 0.004), strict=True))
_BOTTOM_THICKNESS = dict(zip(BOTTOMS, (0.002, 0.006, 0.012, 0.008, 0.001), strict=True))
_FLARES = {"regular": 0.008, "loose": 0.016}
_NECKLINES = {"tee": 0.05, "tank": 0.09, "dress": 0.09, "coat": 0.0, "hoodie": 0.0}

_OWN_BAGS = ("", "", "", "", "backpack", "shoulder bag")
"""What wearers of a template carry when they choose for themselves."""

_WHOLE = 1.01
"""Share of a limb that cloth covers to its very end."""


def draw_outfit(rng: np.random.Generator, female: bool) -> Outfit:
    """Draw a free outfit."""
    # The order of the draws is part of the data: the same seed must keep giving the same clothes.
    seed = int(rng.integers(1 << 31))
    top = TOPS[rng.choice(len(TOPS), p=_TOP_SHARES[female])]
    bottom = BOTTOMS[rng.choice(len(BOTTOMS), p=_BOTTOM_SHARES[female])]
    upper, lower = _draw_cloths(rng, bottom)
    pattern_scale = rng.uniform(0.02, 0.07)
    front = _draw_front(rng, top)
    shoes = _draw_shoes(rng)
    sleeves = _draw_sleeves(rng, top)
    hem = _draw_hem(rng, top)
    legs = _draw_legs(rng, top, bottom)
    dressed = bottom == "skirt" or top == "dress"
    tights = bool(dressed and rng.random() < 0.4)
    if tights:
        legs = {"upper_leg": _WHOLE, "lower_leg": 0.95}
        lower = replace(lower, accent=np.array([0.08, 0.07, 0.08]))
    fit = _draw_fit(rng, top, bottom, tights)
    skirt = _draw_skirt(rng, top, dressed)
    neckline = _NECKLINES.get(top, 0.03) * rng.uniform(0.6, 1.5)
    hood = top == "hoodie" or (top == "coat" and rng.random() < 0.4)
    bags = _draw_bag(rng)
    bag_colour, bag_size = draw_colour(rng, "bottom"), rng.uniform(0.8, 1.2)
    hat = float(rng.random() < 0.06)
    return Outfit(
        seed=seed,
        top=top,
        bottom=bottom,
        upper=upper,
        lower=lower,
        pattern_scale=pattern_scale,
        front=front,
        hem=hem,
        neckline=neckline,
        collar=top in ("shirt", "jacket", "coat"),
        tights=tights,
        shoes=shoes,
        bag_colour=bag_colour,
        hat_colour=draw_colour(rng),
        cut=Cut(
            hood=float(hood), hat=hat, bag_size=bag_size, **bags, **sleeves, **legs, **fit, **skirt
        ),
    )


def adapt_template(template: Outfit, rng: np.random.Generator) -> Outfit:
    """Draw somebody's own version of a shared template.

    Colours move by about 8 %, thickness and flare by a quarter, the cloth has a grain and pattern
    phase of its own, and half of the wearers choose their bag themselves.
    """
    seed = int(rng.integers(1 << 31))

    def shade(colour: Colour) -> Colour:
        moved = colour * (1 + 0.08 * rng.normal()) + 0.012 * rng.normal(size=3)
        return np.clip(moved, 0.02, 0.98)

    upper = replace(
        template.upper,
        colour=shade(template.upper.colour),
        accent=shade(template.upper.accent),
    )
    lower = replace(template.lower, colour=shade(template.lower.colour))
    front = replace(template.front, inner_colour=shade(template.front.inner_colour))
    shoes = replace(template.shoes, colour=shade(template.shoes.colour))
    bag_colour = shade(template.bag_colour)
    cut = template.cut
    fit = {
        name: getattr(cut, name) * rng.uniform(0.8, 1.25)
        for name in ("top_thickness", "bottom_thickness", "trouser_flare")
    }
    bags: dict[str, float] = {}
    if rng.random() < 0.5:
        bags = _carried(_OWN_BAGS[rng.choice(len(_OWN_BAGS))])
    return replace(
        template,
        seed=seed,
        upper=upper,
        lower=lower,
        front=front,
        shoes=shoes,
        bag_colour=bag_colour,
        cut=replace(cut, **fit, **bags),
    )


def _draw_cloths(rng: np.random.Generator, bottom: str) -> tuple[Cloth, Cloth]:
    top_colour, top_accent = draw_colour(rng), draw_colour(rng)
    jeans = bool(rng.random() < 0.38) and bottom != "skirt"
    bottom_colour = draw_colour(rng, "jeans" if jeans else "bottom")
    bottom_accent = draw_colour(rng, "bottom")
    top_pattern = PATTERNS[rng.choice(len(PATTERNS), p=_TOP_PATTERN_SHARES)]
    bottom_pattern = PATTERNS[rng.choice(len(PATTERNS), p=_BOTTOM_PATTERN_SHARES)]
    return (
        Cloth(top_colour, top_accent, top_pattern),
        Cloth(bottom_colour, bottom_accent, bottom_pattern),
    )


def _draw_front(rng: np.random.Generator, top: str) -> Front:
    inner_colour = draw_colour(rng)
    opened = top in ("jacket", "coat") and bool(rng.random() < 0.6)
    return Front(
        opening=opened * rng.uniform(0.03, 0.10),
        inner_colour=inner_colour,
        graphic=bool(rng.random() < (0.45 if top in ("tee", "hoodie") else 0.06)),
        graphic_colour=draw_colour(rng),
    )


def _draw_shoes(rng: np.random.Generator) -> Shoes:
    return Shoes(
        colour=draw_colour(rng, "bottom"),
        sole_colour=np.array([0.9, 0.9, 0.88] if rng.random() < 0.5 else [0.1, 0.1, 0.1]),
        boot=float(rng.random() < 0.12) * rng.uniform(0.3, 0.6),
        sock_colour=draw_colour(rng),
        sock=float(rng.choice([0.0, 0.12, 0.3], p=[0.4, 0.4, 0.2])),
    )


def _draw_sleeves(rng: np.random.Generator, top: str) -> dict[str, float]:
    short = rng.uniform(0.55, 0.95)
    rolled = float(rng.choice([0.96, 0.5], p=[0.8, 0.2]))
    dress = float(rng.choice([0.12, 0.6, 1.0]))
    upper, lower = {
        "tee": (short, 0.0),
        "shirt": (1.0, rolled),
        "hoodie": (1.0, 0.97),
        "jacket": (1.0, 0.98),
        "coat": (1.0, 0.98),
        "tank": (0.10, 0.0),
        "dress": (dress, 0.0),
    }[top]
    return {"upper_arm": upper, "lower_arm": lower}


def _draw_hem(rng: np.random.Generator, top: str) -> float:
    tank, other = rng.uniform(0.74, 0.86), rng.uniform(0.74, 0.93)
    return {"dress": _WHOLE, "coat": _WHOLE, "tank": tank}.get(top, other)


def _draw_legs(rng: np.random.Generator, top: str, bottom: str) -> dict[str, float]:
    shorts, trousers = rng.uniform(0.55, 1.0), rng.uniform(0.80, 1.0)
    upper, lower = {"shorts": (shorts, 0.0), "skirt": (0.3, 0.0)}.get(bottom, (_WHOLE, trousers))
    if top == "dress":
        upper, lower = 0.2, 0.0
    return {"upper_leg": upper, "lower_leg": lower}


def _draw_fit(rng: np.random.Generator, top: str, bottom: str, tights: bool) -> dict[str, float]:
    top_thickness = _TOP_THICKNESS[top] * rng.uniform(0.6, 1.6)
    bottom_thickness = _BOTTOM_THICKNESS[bottom] * rng.uniform(0.6, 1.5)
    flare = _FLARES.get(bottom, 0.0) * rng.uniform(0.5, 1.4)
    return {
        "top_thickness": top_thickness,
        "bottom_thickness": 0.001 if tights or top == "dress" else bottom_thickness,
        "trouser_flare": 0.0 if tights else flare,
    }


def _draw_skirt(rng: np.random.Generator, top: str, dressed: bool) -> dict[str, float]:
    length = 0.0
    if dressed or top == "coat":
        coat, other = rng.uniform(0.12, 0.33), rng.uniform(0.16, 0.40)
        length = coat if top == "coat" else other
    flare = rng.uniform(0.004, 0.018) if top == "coat" else rng.uniform(0.002, 0.035)
    return {"skirt": float(length > 0), "skirt_length": length, "skirt_flare": flare}


def _draw_bag(rng: np.random.Generator) -> dict[str, float]:
    lot = rng.random()
    return _carried("backpack" if lot < 0.14 else "shoulder bag" if lot < 0.26 else "")


def _carried(bag: str) -> dict[str, float]:
    return {"backpack": float(bag == "backpack"), "shoulder_bag": float(bag == "shoulder bag")}
