"""What a run says and leaves beside its losses: supervision, clusters, people in other clothes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_core import RunConfig, Sample, Source, evenly, image_sheet
from reid_core.data.decoding import read_field
from reid_unsup_cc.memory import ClusterMemory
from reid_unsup_cc.outfits import Wardrobe, outfits_of
from reid_unsup_cc.settings import UnsupCCSettings
from reid_unsup_cc.templates import read_picture

Pixels = NDArray[np.uint8]

_CELL = (128, 64)
_GAP = 2
_ABREAST = 4

_SHOWN = 12
"""People in the picture of synthetic images."""


def supervision(plugin: str, settings: UnsupCCSettings, config: RunConfig) -> str:
    """Return what a run is supervised by, though not by identities."""
    helped, synthesis, clustering = [], settings.synthesis, settings.clustering
    if synthesis.method != "none" or clustering.background == "grey":
        helped.append("garment maps")
    if clustering.cameras == "whiten" or config.data.sampler == "pk_camera":
        helped.append("camera labels")
    if synthesis.method == "pise":
        helped.append(f"people in two outfits ('{settings.pise.data}')")
    if config.model.pretrained:
        helped.append("the labels behind the encoder's pretrained weights")
    others = ", ".join(sorted(name for name in config.run.plugins if name != plugin))
    if others:
        helped.append(f"what other plugins learn from ({others})")
    listed = "; supervision of other kinds: " + ", ".join(helped) if helped else ""
    chosen = config.evaluation.select == "validation"
    held = "; identities of held-out people choose the epoch" if chosen else ""
    return f"{plugin}: no identity label is read in training{held}{listed}"


def agreements(criteria: Mapping[str, ClusterMemory]) -> dict[str, float]:
    """Return, by embedding, how often the hardest vector is also that of smallest cosine."""
    shares = {}
    for name, criterion in criteria.items():
        same, updated = criterion.agreement.tolist()
        if updated:
            shares[name] = same / updated
    return shares


def draw_dressed(source: Source, wardrobe: Wardrobe, path: Path) -> Path:
    """Draw some of a source's people, dressed now, in what a wardrobe has for them."""
    samples = evenly(source.samples, _SHOWN)
    return draw_outfits(_images(source, samples), outfits_of(wardrobe, source, samples), path)


def draw_stored(source: Source, field: str, path: Path) -> Path:
    """Draw some of a source's people in the other clothes that they carry as a field."""
    samples, spec = evenly(source.samples, _SHOWN), source.fields[field]
    made = [read_field(sample.fields[field], spec) for sample in samples]
    return draw_outfits(_images(source, samples), made, path)


def _images(source: Source, samples: Sequence[Sample]) -> list[Pixels]:
    return [read_picture(source, sample).image for sample in samples]


def draw_outfits(people: Sequence[Pixels], outfits: Iterable[Pixels], path: Path) -> Path:
    """Draw people, each with its synthetic images to the right.

    Args:
        people: uint8 ``3 H W`` each.
        outfits: the synthetic images of each, uint8 ``S 3 H W``.
        path: where to write.
    """
    strips = [
        [_cell(one) for one in (own, *made)] for own, made in zip(people, outfits, strict=True)
    ]
    starts = range(0, len(strips), _ABREAST)
    rows = [[cell for strip in strips[s : s + _ABREAST] for cell in strip] for s in starts]
    return image_sheet(rows, path, _GAP)


def _cell(image: Pixels) -> Pixels:
    height, width = _CELL
    return np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((width, height)))
