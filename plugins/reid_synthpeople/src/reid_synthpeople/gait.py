"""Poses: one moment of somebody's gait, or the fixed frontal pose that all share.

Angles are in radians. Hips, knees, feet and arms move in antiphase; a pose depends on the person's
habits and on the picture's stream, never on clothes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_synthpeople.identity import Gait
from reid_synthpeople.randomness import truncated_normal

_MODES = {"walk": 0.72, "stand": 0.12, "phone": 0.08, "carry": 0.08}
"""What people do, and how often."""


@dataclass(frozen=True)
class Pose:
    """The angles of a body, in radians; left and right are the subject's own.

    Args:
        hip_left, hip_right: upper leg forwards.
        knee_left, knee_right: bend of the knee backwards.
        foot_left, foot_right: toes up.
        shoulder_left, shoulder_right: upper arm forwards.
        elbow_left, elbow_right: bend of the elbow forwards.
        abduction_left, abduction_right: upper arm sideways.
        inward_left, inward_right: lower arm inwards.
        leg_spread, toe_out: of both legs and feet.
        twist: of the chest against the pelvis.
        sway: of the trunk sideways, in shares of the height.
        lean, hunch: of the trunk, and of the upper back beyond it, forwards.
        head_yaw, head_pitch: of the head to the subject's left, and forwards.
    """

    hip_left: float
    hip_right: float
    knee_left: float
    knee_right: float
    foot_left: float
    foot_right: float
    shoulder_left: float
    shoulder_right: float
    elbow_left: float
    elbow_right: float
    abduction_left: float
    abduction_right: float
    inward_left: float
    inward_right: float
    leg_spread: float
    toe_out: float
    twist: float
    sway: float
    lean: float
    hunch: float
    head_yaw: float
    head_pitch: float


FRONTAL_POSE = Pose(
    hip_left=0.03,
    hip_right=0.03,
    knee_left=0.05,
    knee_right=0.05,
    foot_left=0.0,
    foot_right=0.0,
    shoulder_left=-0.05,
    shoulder_right=-0.05,
    elbow_left=0.15,
    elbow_right=0.15,
    abduction_left=0.28,
    abduction_right=0.28,
    inward_left=0.05,
    inward_right=0.05,
    leg_spread=0.06,
    toe_out=0.2,
    twist=0.0,
    sway=0.0,
    lean=0.02,
    hunch=0.08,
    head_yaw=0.0,
    head_pitch=0.05,
)
"""Standing upright with the arms a little off the body, so that all parts are seen."""


STEP = 2 * np.pi / 9
"""How far a walker's phase moves from one frame of a walk to the next: nine make two steps."""


def draw_pose(gait: Gait, rng: np.random.Generator, later: float = 0.0) -> Pose:
    """Draw a moment: mostly walking, sometimes standing, telephoning or carrying something.

    Args:
        gait: the person's habits.
        rng: the picture's stream.
        later: radians of the gait's cycle by which the moment is later than the drawn one; what is
            drawn stays as it is, so that moments of one stream are those of one walk.
    """
    mode = list(_MODES)[rng.choice(len(_MODES), p=list(_MODES.values()))]
    phase = rng.uniform(0, 2 * np.pi) + later

    def jitter(sd: float) -> float:
        return sd * truncated_normal(rng)

    standing = mode == "stand"
    stride = gait.stride * (1 + jitter(0.12)) * (0.15 if standing else 1.0)
    swing = gait.arm_swing * (1 + jitter(0.2)) * (0.2 if standing else 1.0)
    angles: dict[str, float] = {}
    for side, at in (("left", phase), ("right", phase + np.pi)):
        forwards, lifting = float(np.sin(at)), float(np.cos(at))
        ahead, behind, swinging = max(0.0, forwards), max(0.0, -forwards), max(0.0, lifting)
        angles[f"hip_{side}"] = stride * forwards + 0.04 + jitter(0.03)
        angles[f"knee_{side}"] = (
            max(0.02, gait.knee_flexion + jitter(0.03))
            + 1.25 * stride * swinging**1.5
            + 0.25 * stride * behind
        )
        angles[f"foot_{side}"] = stride * (
            0.45 * ahead - 1.1 * behind * (0.6 + 0.4 * swinging) - 0.25 * swinging
        )
        angles[f"shoulder_{side}"] = -swing * forwards - 0.05 + jitter(0.05)
        angles[f"elbow_{side}"] = max(0.05, gait.elbow_bend + jitter(0.10) + 0.35 * behind * swing)
        angles[f"abduction_{side}"] = max(0.02, gait.arm_spread + jitter(0.03))
        angles[f"inward_{side}"] = 0.05 + jitter(0.05)
    one = "left" if rng.random() < 0.5 else "right"
    if mode == "phone":
        angles[f"shoulder_{one}"] = 0.25 + jitter(0.15)
        angles[f"elbow_{one}"] = 1.9 + jitter(0.25)
        angles[f"inward_{one}"] = 0.35 + jitter(0.1)
    if mode == "carry":
        for side in ("left", "right") if rng.random() < 0.4 else (one,):
            angles[f"shoulder_{side}"] = 0.15 + jitter(0.1)
            angles[f"elbow_{side}"] = 1.45 + jitter(0.2)
            angles[f"inward_{side}"] = 0.25 + jitter(0.15)
    twist = 0.12 * stride / 0.42 * float(np.sin(phase + 0.3)) + jitter(0.03)
    return Pose(
        **angles,
        leg_spread=gait.leg_spread,
        toe_out=gait.toe_out,
        twist=twist,
        sway=0.008 * float(np.cos(phase)) + jitter(0.004),
        head_yaw=twist * -0.5 + jitter(0.25),
        lean=gait.lean + jitter(0.02),
        hunch=gait.hunch + jitter(0.02),
        head_pitch=gait.head_pitch + jitter(0.08) + (0.25 if mode == "phone" else 0.0),
    )
