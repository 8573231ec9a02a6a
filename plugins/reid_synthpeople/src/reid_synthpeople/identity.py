"""Who somebody is: body shape, hair, skin and face, habits of walking and posture.

About 45 numbers a person. Relative standard deviations are those of adults, roughly, times the
world's `spread`; deviates are cut at 2.2, so that nobody becomes a monster. Nothing here depends on
clothes, and an outfit changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_synthpeople.randomness import Colour, truncated_normal

_LIMIT = 2.2
"""Standard deviations at which deviates are cut."""


@dataclass(frozen=True)
class Build:
    """A body's measures: the height in metres, all else in shares of it unless said otherwise.

    Args:
        height: standing, in metres.
        leg: hip joint to ankle; `thigh_share` is the upper leg's share of it.
        torso: hip joint to shoulder line.
        neck, head: lengths.
        arm: shoulder to wrist; `upper_arm_share` is the upper arm's share of it.
        shoulder, hip_joint: half the distance between the joints.
        shoulder_slope: how far the shoulders hang below the shoulder line.
        chest_width, waist_width, hip_width: half widths of the trunk.
        chest_depth, waist_depth: half depths; `belly` and `bust` add to the front, `glute` behind.
        thigh_radius, knee_radius, calf_radius, ankle_radius: of the legs.
        deltoid_radius, upper_arm_radius, elbow_radius, lower_arm_radius, wrist_radius: of the arms.
        neck_radius, head_width, head_depth: radius and half axes.
        jaw: width of the chin relative to the head.
        foot_length: heel to toe.
    """

    height: float
    leg: float
    thigh_share: float
    torso: float
    neck: float
    head: float
    arm: float
    upper_arm_share: float
    shoulder: float
    hip_joint: float
    shoulder_slope: float
    chest_width: float
    waist_width: float
    hip_width: float
    chest_depth: float
    waist_depth: float
    belly: float
    bust: float
    glute: float
    thigh_radius: float
    knee_radius: float
    calf_radius: float
    ankle_radius: float
    deltoid_radius: float
    upper_arm_radius: float
    elbow_radius: float
    lower_arm_radius: float
    wrist_radius: float
    neck_radius: float
    head_width: float
    head_depth: float
    jaw: float
    foot_length: float


@dataclass(frozen=True)
class Gait:
    """How somebody moves and stands, in radians.

    Args:
        stride: amplitude of the hips.
        arm_swing: amplitude of the shoulders.
        elbow_bend, knee_flexion: least bend.
        lean, hunch: of the trunk forwards, and of the upper back beyond it.
        leg_spread, arm_spread: sideways.
        toe_out: of the feet.
        head_pitch: of the head forwards.
    """

    stride: float
    arm_swing: float
    elbow_bend: float
    lean: float
    hunch: float
    leg_spread: float
    arm_spread: float
    toe_out: float
    head_pitch: float
    knee_flexion: float


@dataclass(frozen=True)
class Hair:
    """The shape of the hair, lengths in head heights from the crown down.

    Args:
        front, side, back: where the hair ends.
        thickness: in shares of the body's height.
        bald: 1 for no hair.
        bun, ponytail: 1 where there is one.
        fringe: further length in front.
    """

    front: float
    side: float
    back: float
    thickness: float
    bald: float
    bun: float
    ponytail: float
    fringe: float


@dataclass(frozen=True, eq=False)
class Looks:
    """Colours and the face.

    Args:
        skin, hair: colours.
        beard: its opacity, 0 for none.
        glasses: whether there are any.
        face: four numbers in ``0 .. 1``: height of the eyes, their distance, brows, mouth.
    """

    skin: Colour
    hair: Colour
    beard: float
    glasses: bool
    face: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Person:
    """An identity: everything that outlasts a change of clothes and of camera."""

    female: bool
    build: Build
    gait: Gait
    hair: Hair
    looks: Looks


def draw_person(rng: np.random.Generator, spread: float = 1.0) -> Person:
    """Draw an identity.

    Args:
        rng: the identity's stream.
        spread: factor on the spread of shapes and gaits; 1 is about that of adults.
    """
    female = bool(rng.random() < 0.5)
    deviates = _Deviates(rng, spread)
    corpulence = deviates.offset(1.0)
    build = _draw_build(deviates, float(female), corpulence)
    gait = _draw_gait(deviates, corpulence)
    skin = _draw_skin(rng)
    hair_colour = _draw_hair_colour(rng)
    hair = _draw_hair(rng, female)
    bearded = rng.random() < 0.3 and not female
    looks = Looks(
        skin=skin,
        hair=hair_colour,
        beard=bearded * rng.uniform(0.4, 0.95),
        glasses=bool(rng.random() < 0.22),
        face=rng.random(4),
    )
    return Person(female, build, gait, hair, looks)


class _Deviates:
    """Draw measures around their means."""

    def __init__(self, rng: np.random.Generator, spread: float) -> None:
        self._rng = rng
        self._spread = spread

    def offset(self, sd: float) -> float:
        """Draw a deviation."""
        return sd * self._spread * truncated_normal(self._rng, _LIMIT)

    def around(self, mean: float, relative_sd: float) -> float:
        """Draw a measure."""
        return mean * (1 + self.offset(relative_sd))


def _draw_build(deviates: _Deviates, female: float, corpulence: float) -> Build:
    """Draw a body; `female` (0 or 1) moves the means, corpulence all girths together."""
    around, offset = deviates.around, deviates.offset
    # Arguments are evaluated in order: the stream's order is the order of the fields.
    height = around(1.75 - 0.12 * female, 0.04)
    lengths = {
        "leg": around(0.485, 0.045),
        "thigh_share": around(0.50, 0.03),
        "torso": around(0.285, 0.045),
        "neck": around(0.060, 0.20),
        "head": around(0.132, 0.07),
        "arm": around(0.332, 0.055),
        "upper_arm_share": around(0.56, 0.03),
        "shoulder": around(0.112 - 0.011 * female, 0.085) * (1 + 0.03 * corpulence),
        "hip_joint": around(0.050 + 0.003 * female, 0.08),
        "shoulder_slope": around(0.018, 0.5),
    }
    trunk = {
        "chest_width": around(0.090 - 0.006 * female, 0.07) * (1 + 0.09 * corpulence),
        "waist_width": around(0.078 - 0.008 * female, 0.08) * (1 + 0.16 * corpulence),
        "hip_width": around(0.092 + 0.006 * female, 0.07) * (1 + 0.10 * corpulence),
        "chest_depth": around(0.060, 0.08) * (1 + 0.10 * corpulence),
        "waist_depth": around(0.052, 0.08) * (1 + 0.17 * corpulence),
        "belly": max(0.0, 0.006 + 0.016 * corpulence + offset(0.012)),
        "bust": female * abs(around(0.016, 0.5)),
        "glute": around(0.014 + 0.006 * female, 0.5),
    }
    # Arms and legs have a fatness of their own beside the body's.
    legs = corpulence + offset(0.6)
    arms = corpulence + offset(0.6)
    limbs = {
        "thigh_radius": around(0.050 + 0.002 * female, 0.07) * (1 + 0.11 * legs),
        "knee_radius": around(0.032, 0.06) * (1 + 0.06 * legs),
        "calf_radius": around(0.033, 0.08) * (1 + 0.08 * legs),
        "ankle_radius": around(0.020, 0.06) * (1 + 0.05 * legs),
        "deltoid_radius": around(0.032 - 0.004 * female, 0.09) * (1 + 0.08 * arms),
        "upper_arm_radius": around(0.027 - 0.003 * female, 0.09) * (1 + 0.12 * arms),
        "elbow_radius": around(0.021 - 0.002 * female, 0.07) * (1 + 0.06 * arms),
        "lower_arm_radius": around(0.023 - 0.002 * female, 0.08) * (1 + 0.08 * arms),
        "wrist_radius": around(0.0155 - 0.002 * female, 0.07),
    }
    head = {
        "neck_radius": around(0.034 - 0.005 * female, 0.09) * (1 + 0.06 * corpulence),
        "head_width": around(0.047, 0.07) * (1 + 0.03 * corpulence),
        "head_depth": around(0.058, 0.05),
        "jaw": around(0.80 - 0.06 * female, 0.10) + 0.04 * corpulence,
        "foot_length": around(0.150, 0.06),
    }
    return Build(height, **lengths, **trunk, **limbs, **head)


def _draw_gait(deviates: _Deviates, corpulence: float) -> Gait:
    around, offset = deviates.around, deviates.offset
    return Gait(
        stride=around(0.42, 0.22),
        arm_swing=around(0.42, 0.35),
        elbow_bend=max(0.05, around(0.38, 0.5)),
        lean=0.03 + offset(0.045),
        hunch=0.10 + offset(0.10),
        leg_spread=0.02 + offset(0.03),
        arm_spread=0.12 + 0.04 * corpulence + offset(0.05),
        toe_out=0.15 + offset(0.13),
        head_pitch=0.05 + offset(0.10),
        knee_flexion=max(0.02, around(0.12, 0.5)),
    )


_SKINS = np.array(
    [
        [0.96, 0.82, 0.72],
        [0.90, 0.72, 0.58],
        [0.82, 0.62, 0.46],
        [0.66, 0.46, 0.32],
        [0.48, 0.32, 0.22],
        [0.33, 0.22, 0.16],
    ]
)
"""A ramp of tones; skin lies anywhere on it."""

_HAIRS = np.array(
    [
        [0.05, 0.045, 0.045],
        [0.12, 0.08, 0.06],
        [0.25, 0.15, 0.09],
        [0.45, 0.29, 0.15],
        [0.70, 0.54, 0.30],
        [0.55, 0.53, 0.52],
        [0.40, 0.15, 0.07],
    ]
)
_HAIR_SHARES = (0.34, 0.26, 0.16, 0.08, 0.06, 0.06, 0.04)

_HAIRCUTS = {
    "bald": (0.0, 0.0, 0.0, 0.0),
    "buzz": (0.30, 0.50, 0.66, 0.002),
    "short": (0.30, 0.52, 0.76, 0.010),
    "fluffy": (0.34, 0.60, 0.80, 0.020),
    "bob": (0.28, 1.02, 1.10, 0.014),
    "long": (0.26, 1.45, 1.65, 0.013),
    "very long": (0.26, 2.0, 2.4, 0.013),
    "bun": (0.24, 0.50, 0.74, 0.005),
    "ponytail": (0.24, 0.50, 0.74, 0.005),
}
"""Front, side, back and thickness."""

_HAIRCUT_SHARES = {
    True: {
        "short": 0.10,
        "bob": 0.22,
        "long": 0.24,
        "very long": 0.12,
        "bun": 0.14,
        "ponytail": 0.18,
    },
    False: {"bald": 0.10, "buzz": 0.22, "short": 0.40, "fluffy": 0.20, "bob": 0.08},
}
"""How common haircuts are among women (True) and men."""


def _draw_skin(rng: np.random.Generator) -> Colour:
    tone = float(np.clip(rng.beta(1.3, 1.8) * 5, 0, 4.999))
    below = int(tone)
    share = tone - below
    skin: Colour = _SKINS[below] * (1 - share) + _SKINS[below + 1] * share
    return skin


def _draw_hair_colour(rng: np.random.Generator) -> Colour:
    colour = _HAIRS[rng.choice(len(_HAIRS), p=_HAIR_SHARES)]
    shade: Colour = np.clip(colour * (1 + 0.15 * rng.normal()), 0.02, 1)
    return shade


def _draw_hair(rng: np.random.Generator, female: bool) -> Hair:
    shares = _HAIRCUT_SHARES[female]
    cut = list(shares)[rng.choice(len(shares), p=list(shares.values()))]
    *lengths, thickness = _HAIRCUTS[cut]
    front, side, back = (length * (1 + 0.08 * rng.normal()) for length in lengths)
    return Hair(
        front=front,
        side=side,
        back=back,
        thickness=thickness * (1 + 0.2 * abs(rng.normal())),
        bald=float(cut == "bald"),
        bun=float(cut == "bun"),
        ponytail=float(cut == "ponytail"),
        fringe=0.20 * rng.random() * female,
    )
