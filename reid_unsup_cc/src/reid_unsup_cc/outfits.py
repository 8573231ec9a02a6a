"""Images of the same people in other clothes: made once and cached, or in every step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reid_core import (
    Batch,
    RunContext,
    Sample,
    Source,
    StageResult,
    Synthetic,
    evenly,
    normalise,
    unit_images,
)
from reid_core.data.label_store import content_hash
from reid_core.machine.ranks import rank_0_first
from reid_core.runs.assembly.datasets import load_source
from reid_unsup_cc.backgrounds import Relocated
from reid_unsup_cc.dressing import Dresser
from reid_unsup_cc.pise_training import trained_pise
from reid_unsup_cc.recolor import Recolor
from reid_unsup_cc.settings import SynthesisSettings, UnsupCCSettings
from reid_unsup_cc.templates import GARMENTS, Picture, TemplatePool, read_picture, stacked

_ROWS = 32
"""Images that are dressed at once."""

_ONLINE_POOL = 64
"""Templates that are kept on the device where each image gets some of its own in every step."""


@dataclass(frozen=True)
class Wardrobe:
    """A dresser with the templates that it dresses people after.

    Args:
        dresser: on ``device``, in evaluation mode where it is a network.
        pool: where templates are from.
        settings: how many, and whether all images have the same ones.
        size: height and width that the dresser works at; None takes each image's own.
        device: where to compute.
    """

    dresser: Dresser
    pool: TemplatePool
    settings: SynthesisSettings
    size: tuple[int, int] | None
    device: torch.device


def template_source(ctx: RunContext, settings: SynthesisSettings) -> Source:
    """Return where templates are from: the training images, or what the settings name."""
    if settings.template_data is None:
        return ctx.main
    with rank_0_first():
        return load_source(settings.template_data, ctx.config.data.root, ctx.cache, ctx.providers)


def wardrobe_of(
    ctx: RunContext, owner: str, settings: UnsupCCSettings, stage: StageResult | None
) -> Wardrobe:
    """Return the run's wardrobe.

    Args:
        ctx: the run.
        owner: the plugin that asks.
        settings: of the plugin.
        stage: what has trained `PISE`; None is `Recolor`.
    """
    synthesis = settings.synthesis
    dresser: Dresser
    if stage is None:
        dresser, size = Recolor(synthesis.texture, synthesis.shading), None
    else:
        dresser, size = trained_pise(stage).to(ctx.device), settings.pise.size
    pool = TemplatePool(template_source(ctx, synthesis), f"{owner}.synthesis")
    return Wardrobe(Relocated(dresser, synthesis.background), pool, synthesis, size, ctx.device)


def outfits_of(
    wardrobe: Wardrobe, source: Source, samples: Sequence[Sample]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the synthetic images of samples, uint8 ``S 3 H W`` each, in the samples' order.

    Args:
        wardrobe: who dresses them, and in what.
        source: of the samples, with garment maps.
        samples: the images to dress.
    """
    pool, count = wardrobe.pool, wardrobe.settings.outfits
    rows = pool.chosen(wardrobe.settings.templates, count)
    fixed = None if rows is None else pool.pictures(rows)
    pending = iter(samples)
    while group := list(islice(pending, max(1, _ROWS // count))):
        people = [read_picture(source, sample) for sample in group]
        templates = [
            pool.pictures(pool.drawn_for(sample, count)) if fixed is None else fixed
            for sample in group
        ]
        yield from _dressed(wardrobe, people, templates)


@torch.inference_mode()
def _dressed(
    wardrobe: Wardrobe, people: Sequence[Picture], templates: Sequence[Sequence[Picture]]
) -> list[NDArray[np.uint8]]:
    """Dress people; those of one size go together."""
    found: dict[int, NDArray[np.uint8]] = {}
    sizes = [wardrobe.size or person.size for person in people]
    for size in dict.fromkeys(sizes):
        places = [place for place, own in enumerate(sizes) if own == size]
        repeated = [people[p].resized(size) for p in places for _ in templates[p]]
        wanted = [t.resized(size) for p in places for t in templates[p]]
        arguments = (*stacked(repeated), *stacked(wanted))
        made = wardrobe.dresser(*(tensor.to(wardrobe.device) for tensor in arguments))
        pixels = (255 * made).round().clamp(0, 255).byte().cpu().numpy()
        found.update(zip(places, np.split(pixels, len(places)), strict=True))
    return [found[place] for place in range(len(people))]


class OnlineTemplates:
    """Templates at the network's input size, for synthesis in every step.

    Args:
        wardrobe: see `Wardrobe`; its device holds the templates.
        size: height and width of the network's input.
    """

    def __init__(self, wardrobe: Wardrobe, size: tuple[int, int]) -> None:
        settings, pool = wardrobe.settings, wardrobe.pool
        rows = pool.chosen(settings.templates, settings.outfits)
        if rows is None:
            rows = evenly(range(len(pool.source)), _ONLINE_POOL)
        self.wardrobe, self._size = wardrobe, wardrobe.size or size
        pictures = [
            picture.resized(self._size) for picture in pool.pictures(list(dict.fromkeys(rows)))
        ]
        images, garments = stacked(pictures)
        self._images, self._garments = images.to(wardrobe.device), garments.to(wardrobe.device)

    @torch.no_grad()
    def dress(self, images: Tensor, garments: Tensor) -> Tensor:
        """Return each person in S outfits, ``B * S 3 H W``, normalised like the images.

        Args:
            images: ``B 3 H W``, ImageNet-normalised.
            garments: uint8 ``B H W``.
        """
        settings = self.wardrobe.settings
        count, rows = settings.outfits, len(images)
        if settings.templates != "random":
            chosen = torch.arange(count, device=images.device).repeat(rows)
        else:
            chosen = torch.randint(len(self._images), (rows * count,)).to(images.device)
        people, worn = unit_images(images), garments
        if self._size != tuple(images.shape[2:]):
            people = F.interpolate(people, self._size, mode="bilinear", antialias=True)
            worn = F.interpolate(worn[:, None].float(), self._size, mode="nearest-exact")[:, 0]
        people = people.repeat_interleave(count, 0)
        worn = worn.long().repeat_interleave(count, 0)
        made = self.wardrobe.dresser(people, worn, self._images[chosen], self._garments[chosen])
        if self._size != tuple(images.shape[2:]):
            made = F.interpolate(made, images.shape[2:], mode="bilinear", antialias=True)
        return normalise(made)


def joined_outfits(name: str, images: Tensor, rows: int) -> Synthetic:
    """Return synthetic images as rows that join the batch; all labels are their source image's.

    Args:
        name: ``owner/name`` of the images.
        images: ``rows * S 3 H W``, normalised; the S of one image side by side.
        rows: rows of the batch.
    """
    source = torch.arange(rows, device=images.device).repeat_interleave(len(images) // rows)
    return Synthetic(name, images, spatial_from=source, identity_from=source, route="join")


def cached_outfits(batch: Batch, field: str) -> Tensor:
    """Return a batch's cached synthetic images, ``B * S 3 H W``, normalised."""
    return normalise(batch.fields[field].flatten(0, 1))


def outfits_key(
    ctx: RunContext, owner: str, settings: SynthesisSettings, pool: Source, version: str
) -> str:
    """Return what cached synthetic images depend on, beside the image itself.

    Garment maps that a labeler will make are known by who makes them: by the settings of the plugin
    that the user chose, otherwise of all other plugins, any of which might.

    Args:
        ctx: the run, before fields are made.
        owner: the plugin that asks.
        settings: of the synthesis.
        pool: where templates are from.
        version: of the dresser.
    """
    # Where they are from is known by its images, and when they are made is none of their matter.
    drawn = settings.model_dump(mode="json", exclude={"method", "online", "template_data"})
    images = _digest(sample.path for sample in pool.samples)
    worn = _garments_key(ctx, owner, ctx.main)
    theirs = worn if pool is ctx.main else _garments_key(ctx, owner, pool)
    return f"{version}|{drawn}|pool {images} {theirs}|garments {worn}"


def _garments_key(ctx: RunContext, owner: str, source: Source) -> str:
    config = ctx.config
    chosen = config.labels.get(GARMENTS) if source is ctx.main else None
    if GARMENTS in source.fields and chosen is None:
        return _digest(sample.fields[GARMENTS] for sample in source.samples)
    makers = {chosen} if chosen else set(config.plugins) - {owner}
    return str({name: config.plugins.get(name) for name in sorted(makers)})


def _digest(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        as_file = isinstance(value, Path)
        content = content_hash(value) if as_file else str(np.asarray(value).tolist())
        digest.update(content.encode())
    return digest.hexdigest()[:16]
