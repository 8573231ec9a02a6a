"""Drawing figures of the toy data: a dressed body in a pose, with its exact ground truth.

A figure is a stack of tapered strokes. Every pixel of a stroke looks its colour and its garment up
in the same texel of the atlas, and takes its part from the stroke, so image and label maps cannot
disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import COCO_JOINTS, PART_CLASSES
from reid_core.testing.toy.people import CELL, Body, Cell, slice_of

HEAD, TORSO, UPPER_ARM, LOWER_ARM, UPPER_LEG, LOWER_LEG, FOOT = range(1, len(PART_CLASSES))

Point = tuple[float, float]


class View(IntEnum):
    """Values of the field ``pose``."""

    FRONT = 0
    SIDE = 1
    BACK = 2


@dataclass(frozen=True)
class Pose:
    """How a figure stands.

    Args:
        view: from where it is seen.
        stride: angle of the legs to the vertical, in radians.
        swing: angle of the arms.
        facing: seen from the side, 1 to look to the right and -1 to the left.
    """

    view: View
    stride: float
    swing: float
    facing: int = 1


@dataclass(frozen=True)
class Framing:
    """Where in the image a figure stands, in pixels.

    Args:
        size: height and width of the image.
        top: of the head.
        centre: of the body.
        scale: height of a body of height 1.
    """

    size: tuple[int, int]
    top: float
    centre: float
    scale: float


@dataclass(frozen=True, eq=False)
class Figure:
    """A drawn figure on no background.

    Args:
        colours: uint8 ``3 H W``, 0 off the figure.
        shade: float32 ``H W``, how light falls on it.
        parts, garments: uint8 ``H W``.
        keypoints: float32 ``17 3``; visibility is 1 where the joint's own stroke shows, else 0.
    """

    colours: NDArray[np.uint8]
    shade: NDArray[np.float32]
    parts: NDArray[np.uint8]
    garments: NDArray[np.uint8]
    keypoints: NDArray[np.float32]


@dataclass(frozen=True)
class _Stroke:
    """A part of the body between two points, ``start`` to ``end``, with its radii there."""

    name: str
    part: int
    cell: Cell
    start: Point
    end: Point
    radii: tuple[float, float]
    mirrored: bool = False
    round_ends: bool = True


def draw_figure(
    body: Body,
    atlas: NDArray[np.uint8],
    garments: NDArray[np.uint8],
    pose: Pose,
    framing: Framing,
) -> Figure:
    """Draw a dressed body.

    Args:
        body: its build.
        atlas, garments: its surface, as `dress` returns it.
        pose: how it stands.
        framing: where it stands.
    """
    height, width = framing.size
    joints = _skeleton(body, pose)
    strokes = _strokes(body, pose, joints)
    colours = np.zeros((3, height, width), np.uint8)
    shade = np.zeros((height, width), np.float32)
    parts = np.zeros((height, width), np.uint8)
    worn = np.zeros((height, width), np.uint8)
    owner = np.full((height, width), -1)
    scale = framing.scale * body.height

    def place(point: Point) -> Point:
        return framing.centre + point[0] * scale, framing.top + point[1] * scale

    for number, stroke in enumerate(strokes):
        (x0, y0), (x1, y1) = place(stroke.start), place(stroke.end)
        wide = max(stroke.radii) * scale + 1
        rows = _span(y0, y1, wide, height)
        cols = _span(x0, x1, wide, width)
        inside, across, along = _inside(stroke, (x0, y0), (x1, y1), scale, rows, cols)
        if stroke.mirrored:
            across = -across
        area = slice_of(stroke.cell)
        texel_row = area[0].start + np.minimum(along * CELL, CELL - 1).astype(np.intp)
        texel_col = area[1].start + np.minimum((across + 1) * (CELL / 2), CELL - 1).astype(np.intp)
        colours[:, rows, cols][:, inside] = atlas[:, texel_row, texel_col]
        worn[rows, cols][inside] = garments[texel_row, texel_col]
        shade[rows, cols][inside] = 0.62 + 0.38 * np.sqrt(1 - across**2)
        parts[rows, cols][inside] = stroke.part
        owner[rows, cols][inside] = number
    names = np.array([stroke.name for stroke in strokes] + [""])
    keypoints = np.zeros((len(COCO_JOINTS), 3), np.float32)
    for number, name in enumerate(COCO_JOINTS):
        point, own = joints[name]
        x, y = place(point)
        column, row = round(x), round(y)
        seen = 0 <= row < height and 0 <= column < width and names[owner[row, column]] in own
        keypoints[number] = (x, y, seen)
    return Figure(colours, shade, parts, worn, keypoints)


def _span(first: float, second: float, wide: float, length: int) -> slice:
    """Return the pixels of an axis that a stroke can reach."""
    low, high = int(min(first, second) - wide), int(max(first, second) + wide) + 2
    return slice(min(max(0, low), length), min(max(0, high), length))


def _inside(
    stroke: _Stroke, start: Point, end: Point, scale: float, rows: slice, cols: slice
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return which pixels a stroke covers, and their places across it (-1..1) and along it (0..1).

    The places are those of the covered pixels only.
    """
    y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(cols.start, cols.stop)[None, :]
    ax, ay = end[0] - start[0], end[1] - start[1]
    length = math.hypot(ax, ay)
    ax, ay = ax / length, ay / length
    dx, dy = x - start[0], y - start[1]
    along = dx * (ax / length) + dy * (ay / length)
    offset = dx * ay - dy * ax
    nearest = np.minimum(np.maximum(along, 0), 1)
    radius = scale * (stroke.radii[0] + (stroke.radii[1] - stroke.radii[0]) * nearest)
    if stroke.round_ends:
        beyond = (along - nearest) * length
        inside = offset * offset + beyond * beyond <= radius * radius
        along = (along[inside] * length + radius[inside]) / (length + 2 * radius[inside])
    else:
        inside = (np.abs(offset) <= radius) & (along == nearest)
        along = along[inside]
    across = offset[inside] / radius[inside]
    return inside, np.clip(across, -1, 1), np.clip(along, 0, 1)


def _skeleton(body: Body, pose: Pose) -> dict[str, tuple[Point, tuple[str, ...]]]:
    """Return every joint with the strokes on which it shows, and a few points of the head.

    Coordinates are shares of the body's height: x to the image's right from the middle, y down
    from the crown.
    """
    neck = 2 * body.head + 0.02
    shoulder_y, hip_y = neck + 0.035, body.legs
    knee, ankle = (0.955 - hip_y) * 0.5, (0.955 - hip_y) * 0.5
    arm = (hip_y - shoulder_y) * 0.54
    side = pose.view is View.SIDE
    joints: dict[str, tuple[Point, tuple[str, ...]]] = {}
    for name in ("left", "right"):
        # The person's left is on the image's right from the front, on its left from the back.
        outward = (1 if name == "left" else -1) * (-1 if pose.view is View.BACK else 1)
        phase = 1 if name == "left" else -1
        shoulder_x = 0.0 if side else outward * body.shoulders
        hip_x = 0.0 if side else outward * body.hips
        if side:
            upper, lower = phase * pose.swing, phase * pose.swing + pose.facing * 0.25
            thigh = -phase * pose.stride
            shin = thigh - pose.facing * abs(pose.stride) * (0.7 if phase > 0 else 0.25)
        else:
            upper, lower = outward * (0.14 + 0.25 * abs(pose.swing)), outward * 0.06
            thigh, shin = outward * 0.25 * abs(pose.stride), outward * 0.1 * abs(pose.stride)
        shoulder = (shoulder_x, shoulder_y)
        elbow = _step(shoulder, upper, arm)
        wrist = _step(elbow, lower, arm * 0.92)
        hip = (hip_x, hip_y)
        knee_point = _step(hip, thigh, knee)
        ankle_point = _step(knee_point, shin, ankle)
        joints[f"{name} shoulder"] = (shoulder, (f"{name} upper arm", "torso"))
        joints[f"{name} elbow"] = (elbow, (f"{name} upper arm", f"{name} lower arm"))
        joints[f"{name} wrist"] = (wrist, (f"{name} lower arm", f"{name} hand"))
        joints[f"{name} hip"] = (hip, (f"{name} upper leg", "pelvis", "torso"))
        joints[f"{name} knee"] = (knee_point, (f"{name} upper leg", f"{name} lower leg"))
        joints[f"{name} ankle"] = (ankle_point, (f"{name} lower leg", f"{name} foot"))
        near = not side or (name == "right") == (pose.facing > 0)
        face = ("head",) if pose.view is not View.BACK and near else ()
        if side:
            eye, ear = pose.facing * body.head * 0.5, 0.0
        else:
            eye, ear = outward * body.head * 0.3, outward * body.head * 0.66
        joints[f"{name} eye"] = ((eye, body.head * 0.85), face)
        joints[f"{name} ear"] = ((ear, body.head), ("head",) if near else ())
    nose = pose.facing * body.head * 0.66 if side else 0.0
    joints["nose"] = ((nose, body.head * 1.1), () if pose.view is View.BACK else ("head",))
    return joints


def _strokes(
    body: Body, pose: Pose, joints: dict[str, tuple[Point, tuple[str, ...]]]
) -> list[_Stroke]:
    """Return the strokes of a figure, farthest first."""
    side, back = pose.view is View.SIDE, pose.view is View.BACK
    # Seen from the side, columns of a cell run from the back to the front of the body.
    mirrored = side and pose.facing < 0

    def at(name: str) -> Point:
        return joints[name][0]

    trunk = _trunk(body, pose, at("left shoulder")[1] - body.arm, mirrored)
    far, near = ("left", "right") if pose.facing > 0 else ("right", "left")
    arms = {name: _arm(name, body, at, mirrored) for name in (far, near)}
    legs = [*_leg(far, body, pose, at, mirrored), *_leg(near, body, pose, at, mirrored)]
    if side:
        return [*arms[far], *legs, *trunk, *arms[near]]
    if back:
        return [*arms[far], *arms[near], *legs, *trunk]
    return [*legs, *trunk[:-2], *arms[far], *arms[near], *trunk[-2:]]


def _arm(name: str, body: Body, at: Callable[[str], Point], mirrored: bool) -> list[_Stroke]:
    """Return hand, lower and upper arm."""
    elbow, wrist = at(f"{name} elbow"), at(f"{name} wrist")
    hand = (wrist[0] + (wrist[0] - elbow[0]) * 0.14, wrist[1] + (wrist[1] - elbow[1]) * 0.14)
    thin = body.arm * 0.8
    return [
        _Stroke(f"{name} hand", LOWER_ARM, Cell.HAND, wrist, hand, (thin, thin), mirrored),
        _Stroke(
            f"{name} lower arm",
            LOWER_ARM,
            Cell.LOWER_ARM,
            elbow,
            wrist,
            (body.arm * 0.9, thin),
            mirrored,
        ),
        _Stroke(
            f"{name} upper arm",
            UPPER_ARM,
            Cell.UPPER_ARM,
            at(f"{name} shoulder"),
            elbow,
            (body.arm * 1.15, body.arm * 0.9),
            mirrored,
        ),
    ]


def _leg(
    name: str, body: Body, pose: Pose, at: Callable[[str], Point], mirrored: bool
) -> list[_Stroke]:
    """Return foot, lower and upper leg."""
    side = pose.view is View.SIDE
    ankle = at(f"{name} ankle")
    outward = pose.facing * 0.07 if side else (0.012 if ankle[0] > 0 else -0.012)
    toe = (ankle[0] + outward, 0.975 if not side else ankle[1] + 0.02)
    thin = body.leg * 0.62
    return [
        _Stroke(f"{name} foot", FOOT, Cell.FOOT, ankle, toe, (thin, thin * 0.9), mirrored),
        _Stroke(
            f"{name} lower leg",
            LOWER_LEG,
            Cell.LOWER_LEG,
            at(f"{name} knee"),
            ankle,
            (body.leg * 0.82, thin),
            mirrored,
        ),
        _Stroke(
            f"{name} upper leg",
            UPPER_LEG,
            Cell.UPPER_LEG,
            at(f"{name} hip"),
            at(f"{name} knee"),
            (body.leg * 1.2, body.leg * 0.82),
            mirrored,
        ),
    ]


def _trunk(body: Body, pose: Pose, top: float, mirrored: bool) -> list[_Stroke]:
    """Return pelvis, torso, neck and head; ``top`` is the upper end of the torso."""
    side, back = pose.view is View.SIDE, pose.view is View.BACK
    front_cells = (Cell.TORSO_FRONT, Cell.HEAD_FRONT)
    torso_cell, head_cell = (
        (Cell.TORSO_SIDE, Cell.HEAD_SIDE)
        if side
        else ((Cell.TORSO_BACK, Cell.HEAD_BACK) if back else front_cells)
    )
    depth = 0.62 if side else 1.0
    chest, waist = (body.shoulders + body.arm * 0.5) * depth, (body.hips + body.leg * 0.9) * depth
    return [
        _Stroke(
            "pelvis",
            TORSO,
            Cell.PELVIS,
            (0.0, body.legs - 0.03),
            (0.0, body.legs + 0.035),
            (waist, waist),
            mirrored,
            round_ends=False,
        ),
        _Stroke(
            "torso",
            TORSO,
            torso_cell,
            (0.0, top),
            (0.0, body.legs - 0.02),
            (chest, waist),
            mirrored,
            round_ends=False,
        ),
        _Stroke("neck", HEAD, Cell.NECK, (0.0, body.head), (0.0, top), (0.026, 0.026)),
        _Stroke(
            "head",
            HEAD,
            head_cell,
            (0.0, body.head * 0.8),
            (0.0, body.head * 1.25),
            (body.head * 0.8, body.head * 0.72),
            mirrored,
        ),
    ]


def _step(start: Point, angle: float, length: float) -> Point:
    """Walk down from a point, ``angle`` radians to the image's right."""
    return start[0] + math.sin(angle) * length, start[1] + math.cos(angle) * length
