"""Synthetic images: which templates, cached under which key, made once or in every step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from unsup_cc_runs import TINY, unsup_cc

from reid_core import ConfigError, DataError, FieldKind, RunContext
from reid_core.contract.samples import DataSet, Source
from reid_core.data.decoding import read_field
from reid_core.testing.tiny import Recorder
from reid_unsup_cc.outfits import OnlineTemplates, Wardrobe, outfits_key, outfits_of
from reid_unsup_cc.recolor import Recolor
from reid_unsup_cc.settings import SynthesisSettings
from reid_unsup_cc.templates import Picture, TemplatePool, clothing_colours, read_picture, stacked

CPU = torch.device("cpu")


def wardrobe(source: Source, size: tuple[int, int] | None = None, **settings: Any) -> Wardrobe:
    return Wardrobe(Recolor(), TemplatePool(source), SynthesisSettings(**settings), size, CPU)


def test_fixed_templates_are_distinct_and_always_the_same(toy_tiny: DataSet) -> None:
    pool = TemplatePool(toy_tiny.train)
    rows = pool.distinct(4)
    assert rows == TemplatePool(toy_tiny.train).distinct(4)
    colours = [clothing_colours(picture) for picture in pool.pictures(rows)]
    found = np.stack([c for c in colours if c is not None])
    assert len(found) == 4
    gaps = np.linalg.norm(found[:, None] - found[None], axis=2)[~np.eye(4, dtype=bool)]
    assert gaps.min() > 30, "clearly different, in Lab"
    assert pool.distinct(2) == rows[:2]


def test_templates_by_their_place_among_all(toy_tiny: DataSet) -> None:
    """Distinct ones are far from the rest, typical ones near the middle of many."""
    pool = TemplatePool(toy_tiny.train)
    found = [clothing_colours(picture) for picture in pool.pictures(range(len(toy_tiny.train)))]
    points = np.stack([c for c in found if c is not None])

    def reach(rows: list[int]) -> tuple[float, float]:
        """How far all images are from the nearest template, and templates from their nearest."""
        own = np.stack([c for row in rows if (c := found[row]) is not None])
        distances = np.linalg.norm(points[:, None] - own[None], axis=2)
        return float(distances.min(1).mean()), float(
            np.linalg.norm(own - points.mean(0), axis=1).mean()
        )

    distinct, typical = pool.distinct(3), pool.typical(3)
    assert typical == pool.typical(3)
    assert len(set(typical)) == 3
    assert reach(typical)[0] < reach(distinct)[0]
    assert reach(typical)[1] < reach(distinct)[1]
    # The first distinct one is the furthest of all from the mean.
    furthest = np.linalg.norm(points - points.mean(0), axis=1).max()
    first = found[distinct[0]]
    assert first is not None
    assert np.linalg.norm(first - points.mean(0)) == pytest.approx(furthest)
    assert [pool.chosen(kind, 3) for kind in ("fixed", "typical", "random")] == [
        distinct,
        typical,
        None,
    ]


def test_templates_need_clothing(toy_tiny: DataSet) -> None:
    few = replace(toy_tiny.train, samples=toy_tiny.train.samples[:3])
    with pytest.raises(DataError, match=r"5 templates are wanted and 3 of 3 images.*outfits=N"):
        TemplatePool(few).distinct(5)
    picture = read_picture(few, few.samples[0])
    assert clothing_colours(Picture(picture.image, np.zeros_like(picture.garments))) is None
    bare = replace(few, fields={})
    with pytest.raises(DataError, match=r"need the field 'garments', and it carries no field"):
        TemplatePool(bare)


def test_garment_maps_are_brought_to_the_image_s_size(toy_tiny: DataSet) -> None:
    source = toy_tiny.train
    picture = read_picture(source, source.samples[0])
    half = picture.garments[::2, ::2].copy()
    smaller = source.with_field(source.fields["garments"], [half] * len(source))
    found = read_picture(smaller, smaller.samples[0])
    assert np.array_equal(found.garments, half.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(found.image, picture.image)


def test_drawn_templates_belong_to_the_image(toy_tiny: DataSet) -> None:
    source = toy_tiny.train
    pool = TemplatePool(source)
    drawn = [pool.drawn_for(sample, 3) for sample in source.samples]
    assert drawn == [pool.drawn_for(sample, 3) for sample in source.samples]
    for row, rows in enumerate(drawn):
        assert row not in rows
        assert len(set(rows)) == 3
    assert len({tuple(rows) for rows in drawn}) > len(drawn) / 2
    few = TemplatePool(replace(source, samples=source.samples[:2]))
    with pytest.raises(ConfigError, match=r"2 templates for each image cannot be drawn from 2"):
        few.drawn_for(source.samples[0], 2)


@pytest.mark.parametrize("templates", ["fixed", "typical", "random"])
@pytest.mark.parametrize("size", [None, (32, 16)])
def test_outfits_of_samples(
    toy_tiny: DataSet, templates: str, size: tuple[int, int] | None
) -> None:
    source = toy_tiny.train
    dressed = wardrobe(source, size, outfits=3, templates=templates)
    everything = list(outfits_of(dressed, source, source.samples))
    assert len(everything) == len(source)
    height, width = size or read_picture(source, source.samples[0]).size
    assert {(i.shape, i.dtype.name) for i in everything} == {((3, 3, height, width), "uint8")}
    (alone,) = outfits_of(dressed, source, source.samples[17:18])
    assert np.array_equal(alone, everything[17])


def test_only_clothing_changes(toy_tiny: DataSet) -> None:
    from reid_unsup_cc.dressing import CLOTHING

    source = toy_tiny.train
    made = outfits_of(wardrobe(source), source, source.samples[:6])
    changed = 0
    for sample, images in zip(source.samples, made, strict=False):
        person = read_picture(source, sample)
        other = ~np.isin(person.garments, CLOTHING)
        assert (images[:, :, other] == person.image[None, :, other]).all()
        changed += int((images != person.image).any())
    assert changed >= 5


def test_they_are_made_once_and_cached(reid_cache: Path) -> None:
    first = unsup_cc(reid_cache)
    field = first.ctx.main.fields["unsup_cc/outfits"]
    assert field.kind is FieldKind.IMAGE
    paths = [sample.fields["unsup_cc/outfits"] for sample in first.ctx.main.samples]
    times = [path.stat().st_mtime_ns for pair in paths for path in pair]  # type: ignore[union-attr]
    again = [s.fields["unsup_cc/outfits"] for s in unsup_cc(reid_cache).ctx.main.samples]
    assert again == paths
    assert times == [path.stat().st_mtime_ns for pair in again for path in pair]  # type: ignore[union-attr]
    stored = read_field(paths[5], field)
    source = first.truth
    (fresh,) = outfits_of(wardrobe(source), source, source.samples[5:6])
    assert np.array_equal(stored, fresh)


def test_the_key_is_all_that_they_depend_on(reid_cache: Path, toy_tiny: DataSet) -> None:
    ctx = unsup_cc(reid_cache).ctx
    plain = SynthesisSettings()

    def key(
        run: RunContext = ctx,
        settings: SynthesisSettings = plain,
        pool: Source = ctx.main,
        version: str = "recolor 1",
    ) -> str:
        return outfits_key(run, "unsup_cc", settings, pool, version)

    assert key() == key()
    fewer = replace(toy_tiny.train, samples=toy_tiny.train.samples[:20])
    changes: tuple[dict[str, Any], ...] = (
        {"outfits": 3},
        {"templates": "random"},
        {"shading": 0.1},
        {"texture": 0.1},
        {"background": "swap"},
    )
    others = [key(version="recolor 2"), key(pool=fewer)]
    others += [key(settings=plain.model_copy(update=change)) for change in changes]
    assert len({key(), *others}) == 8
    # Templates of the same images with other garment maps are other clothes.
    maps = [np.zeros_like(read_picture(ctx.main, one).garments) for one in ctx.main.samples]
    assert key(pool=ctx.main.with_field(ctx.main.fields["garments"], maps)) != key()
    # Where they are made has no part in it.
    assert key(settings=plain.model_copy(update={"online": True})) == key()


def test_garment_maps_of_a_labeler_are_known_by_its_settings(reid_cache: Path) -> None:
    ctx = unsup_cc(reid_cache).ctx
    bare = replace(ctx.main, fields={})

    def key(mirror: bool, eps: float, chosen: bool) -> str:
        update: dict[str, Any] = {
            "plugins": {"parsing": {"mirror": mirror}, "unsup_cc": {"clustering": {"eps": eps}}},
            "labels": {"garments": "parsing"} if chosen else {},
        }
        config = ctx.config.model_copy(update=update)
        run = replace(ctx, config=config, sources={"main": bare})
        return outfits_key(run, "unsup_cc", SynthesisSettings(), run.main, "recolor 1")

    for chosen in (True, False):
        assert key(True, 0.4, chosen) == key(True, 0.5, chosen), "the asker's own do not matter"
        assert key(True, 0.4, chosen) != key(False, 0.4, chosen)


@pytest.mark.parametrize("templates", ["fixed", "random"])
@pytest.mark.parametrize("size", [None, (32, 16)])
def test_synthesis_in_every_step(
    toy_tiny: DataSet, templates: str, size: tuple[int, int] | None
) -> None:
    source = toy_tiny.train
    people = [read_picture(source, sample).resized((64, 32)) for sample in source.samples[:4]]
    images = torch.from_numpy(np.stack([p.image for p in people])).float() / 255
    garments = torch.from_numpy(np.stack([p.garments for p in people]))
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    online = OnlineTemplates(wardrobe(source, size, templates=templates), (64, 32))
    made = online.dress((images - mean) / std, garments)
    assert made.shape == (8, 3, 64, 32)
    if size is None:
        pixels = made * std + mean
        other = (garments == 0)[:, None].repeat_interleave(2, 0).expand_as(pixels)
        assert torch.allclose(pixels[other], images.repeat_interleave(2, 0)[other], atol=1e-5)
        assert not torch.allclose(pixels[0], pixels[1], atol=0.05)
        if templates == "fixed":
            pool = TemplatePool(source)
            worn = stacked([p.resized((64, 32)) for p in pool.pictures(pool.distinct(2))])
            dressed = [Recolor()(images[[k, k]], garments[[k, k]].long(), *worn) for k in range(4)]
            assert torch.allclose(pixels, torch.cat(dressed), atol=1e-4), "a person's own, abreast"


def test_online_images_see_the_step_s_geometry(reid_cache: Path) -> None:
    settings = {**TINY, "synthesis": {"online": True}}
    assembly = unsup_cc(reid_cache, settings=settings, augment={"pad": 4, "erasing": 0.0})
    assert "unsup_cc/outfits" not in assembly.ctx.main.fields
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    batch = trainer.batches(trainer.streams(1))["main"]
    [made] = assembly.plugins["unsup_cc"].reid_data_synthesis(assembly.ctx, batch, None, "main")
    background = (batch.fields["garments"] == 0)[:, None].repeat_interleave(2, 0)
    mask = background.expand_as(made.images)
    assert torch.allclose(made.images[mask], batch.image.repeat_interleave(2, 0)[mask], atol=1e-5)
