"""Pictures of a run: masks, coarse and fine (figure 3), and the poses' centres (figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from reid_core import (
    SHARED_FIELDS,
    RunContext,
    Sample,
    clean_batches,
    evenly,
    whole_file,
    write_json,
)
from reid_core.data.decoding import read_field
from reid_core.data.encoding import label_colours
from reid_core.images import read_image
from reid_core.model.modes import evaluating
from reid_fsam.labelling import clusters_file, poses_key
from reid_fsam.masks import body_masks
from reid_fsam.parsing import MaskingParser
from reid_fsam.poses import PoseClusters
from reid_fsam.settings import FsamSettings

SHOWN = 12
"""People in the picture of masks."""

_GAP, _MARGIN = 4, 70
_CELL = (192, 96)
_BONES = (
    *((5, 6), (5, 11), (6, 12), (11, 12)),
    *((5, 7), (7, 9), (11, 13), (13, 15)),
    *((6, 8), (8, 10), (12, 14), (14, 16)),
    *((0, 1), (0, 2), (1, 3), (2, 4)),
)
_LEFT, _RIGHT, _MIDDLE = (200, 60, 40), (40, 90, 200), (60, 60, 60)


@torch.inference_mode()
def soft_masks(
    parser: MaskingParser, samples: Sequence[Sample], size: tuple[int, int], device: torch.device
) -> NDArray[np.uint8]:
    """Return soft masks as pictures ``N H W 3`` in the colours of label maps.

    Args:
        parser: on the device; its training mode is restored.
        samples: the images.
        size: height and width of the network's input.
        device: where to compute.
    """
    pictures = []
    with evaluating(parser):
        for batch in clean_batches(samples, size, device, batch_size=16):
            mixed = body_masks(parser.logits(batch.image), "palette", size)
            pictures.append((255 * mixed).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(pictures)


def draw_masks(ctx: RunContext, plugin: str, folder: Path) -> Path | None:
    """Draw some training images with their coarse and fine masks; None without a parser.

    Args:
        ctx: the run.
        plugin: name of the plugin.
        folder: of the run; the picture is ``<plugin>/masks.png``.
    """
    assert ctx.model is not None
    branches = dict(ctx.model.branches)
    rows: dict[str, NDArray[np.uint8]] = {}
    samples = evenly(ctx.main.samples, SHOWN)
    for name, label in (("coarse", "coarse"), ("parser", "fine")):
        module = branches.get(f"{plugin}/{name}")
        if isinstance(module, MaskingParser):
            rows[label] = soft_masks(module, samples, ctx.image_size, ctx.device)
    if not rows:
        return None
    return mask_sheet(samples, rows, folder / plugin / "masks.png")


def mask_sheet(
    samples: Sequence[Sample], rows: Mapping[str, NDArray[np.uint8]], path: Path
) -> Path:
    """Draw images, and below them rows of masks with their names (figure 3).

    Args:
        samples: the images, from left to right.
        rows: pictures ``N h w 3`` by what they are, with the coarse mask in colours of its classes.
        path: where to write.
    """
    height, width = _CELL
    sheet = Image.new(
        "RGB",
        (_MARGIN + len(samples) * (width + _GAP), (1 + len(rows)) * (height + _GAP) + 20),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        small = Image.fromarray(read_image(sample.path)).resize((width, height))
        sheet.paste(small, (_MARGIN + number * (width + _GAP), 0))
    draw.text((4, height // 2), "image", fill="black")
    for line, (name, pictures) in enumerate(rows.items(), start=1):
        top = line * (height + _GAP)
        draw.text((4, top + height // 2), name, fill="black")
        for number, picture in enumerate(pictures):
            cell = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(cell, (_MARGIN + number * (width + _GAP), top))
    _legend(draw, (1 + len(rows)) * (height + _GAP))
    with whole_file(path) as part:
        sheet.save(part)
    return path


def _legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    colours, left = label_colours(), _MARGIN
    for number, name in enumerate(SHARED_FIELDS["parts"].classes):
        colour = tuple(int(value) for value in colours[number])
        draw.rectangle((left, top + 4, left + 10, top + 14), fill=colour, outline="black")
        draw.text((left + 14, top + 3), name, fill="black")
        left += 26 + 7 * len(name)


def draw_poses(ctx: RunContext, plugin: str, settings: FsamSettings, folder: Path) -> Path | None:
    """Draw the centres of the pose clusters, and list every image's label beside it.

    Args:
        ctx: the run, its labels made.
        plugin: name of the plugin.
        settings: its settings.
        folder: of the run; the picture is ``<plugin>/poses.png``.

    Returns:
        The picture; None where the cache has lost the centres.
    """
    path = clusters_file(ctx, poses_key(ctx, settings))
    if not path.is_file():
        return None
    clusters = PoseClusters.load(path)
    home = folder / plugin
    spec = SHARED_FIELDS["pose"]
    labels = {
        sample.path.as_posix(): int(read_field(sample.fields["pose"], spec))
        for sample in ctx.main.samples
    }
    content = {
        "centres": clusters.centres.tolist(),
        "counts": list(clusters.counts),
        "labels": labels,
    }
    write_json(home / "poses.json", content, 1)
    return pose_sheet(clusters, home / "poses.png")


def pose_sheet(clusters: PoseClusters, path: Path) -> Path:
    """Draw the centres of pose clusters as stick figures, left in red and right in blue (figure 4).

    Args:
        clusters: what to draw.
        path: where to write.
    """
    height, width = 2 * _CELL[0], 2 * _CELL[1]
    sheet = Image.new("RGB", (len(clusters.centres) * (width + _GAP), height + 24), "white")
    draw = ImageDraw.Draw(sheet)
    for number, centre in enumerate(clusters.centres):
        left = number * (width + _GAP)
        draw.rectangle((left, 0, left + width, height), outline="lightgray")
        places = [(left + x * width, y * height) for x, y in centre]
        for first, second in _BONES:
            draw.line((*places[first], *places[second]), fill=_colour(first, second), width=3)
        for x, y in places:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill="black")
        draw.text((left + 4, height + 6), f"{number}: {clusters.counts[number]} images", "black")
    with whole_file(path) as part:
        sheet.save(part)
    return path


def _colour(first: int, second: int) -> tuple[int, int, int]:
    """Return the colour of a bone: COCO's odd joints are left ones, the even right, 0 the nose."""
    sides = {joint % 2 for joint in (first, second) if joint}
    if len(sides) > 1:
        return _MIDDLE
    return _LEFT if sides == {1} else _RIGHT
