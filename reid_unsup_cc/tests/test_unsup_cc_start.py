"""The start that has seen other clothes: its positives, its stage, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from unsup_cc_runs import TINY, unsup_cc

from reid_core import ConfigError, DataError
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import prepare_stage, run_stage
from reid_core.testing.tiny import TINY as RUN, tiny_assembly
from reid_unsup_cc import UnsupCC

DRESSED: dict[str, Any] = {"start": "outfits"}
SHORT = {"start": "random", "start_epochs": 1}


def test_outfits_are_positives_of_their_image(reid_cache: Path) -> None:
    assembly = unsup_cc(reid_cache)
    [start] = (
        unsup_cc(reid_cache, settings=DRESSED, model=SHORT)
        .plugins["unsup_cc"]
        .starts(assembly.config)
    )
    trainer, _, _ = prepare_stage(assembly.ctx, start.stage)
    stage = trainer.assembly
    stage.model.train()
    trainer.begin_epoch()
    batch = trainer.batches(trainer.streams(1))["main"]
    update = stage.parts.plan.updates[0]
    view, terms = stage.parts.forward.terms(update, {"main": batch})  # type: ignore[operator]
    # Two views of four images, one image in other clothes beside each.
    rows = view.main.batch
    assert len(rows) == 16
    assert torch.equal(rows.index[8:], rows.index[:8])
    assert sorted(torch.unique(rows.index, return_counts=True)[1].tolist()) == [4] * 4
    assert set(terms) == {"contrastive/nt_xent"}
    outfits = torch.stack([batch.fields["unsup_cc/outfits"][:, k] for k in range(2)])
    from reid_core.data.augmentation import normalise

    shown = rows.image[8:]
    distances = (
        (normalise(outfits.flatten(0, 1)).unflatten(0, (2, 8)) - shown).abs().amax((2, 3, 4))
    )
    assert (distances.amin(0) == 0).all(), "one of the image's own two"
    assert (distances == 0).any(1).all(), "now the one, now the other"


def test_the_run_starts_from_it(reid_cache: Path) -> None:
    assembly = unsup_cc(reid_cache, settings=DRESSED, model=SHORT)
    [start] = assembly.plugins["unsup_cc"].starts(assembly.config)
    made = run_stage(assembly.ctx, start.stage).model
    ours = assembly.model.state_dict()
    names = ["encoder." + name for name in made.encoder.state_dict()]
    names += ["heads.core/global.neck.running_mean", "heads.core/global.neck.running_var"]
    assert all(torch.equal(ours[name], made.state_dict()[name]) for name in names)


def test_a_plugin_of_another_name_starts_from_its_own_images(reid_cache: Path) -> None:
    classes = {"mine": UnsupCC}

    def mine(**synthesis: Any) -> Any:
        layers = {"plugins": {"mine": {**TINY, **DRESSED, "synthesis": synthesis}}, "model": SHORT}
        return tiny_assembly(("mine",), layers, cache=reid_cache, classes=classes)

    assembly = mine()
    [start] = assembly.plugins["mine"].starts(assembly.config)
    assert start.remedy == "set -s mine.start=core"
    stage = prepare_stage(assembly.ctx, start.stage)[0].assembly
    assert "mine/outfits" in stage.ctx.main.fields
    with pytest.raises(DataError, match=r"or set fewer with -s mine\.synthesis\.outfits=N"):
        mine(outfits=60)


def test_other_images_make_another_stage(reid_cache: Path) -> None:
    keys = set()
    for synthesis in ({}, {"background": "swap"}, {"shading": 0.1}):
        settings = {"synthesis": synthesis, **DRESSED}
        flags = {**RUN, "run": {"plugins": ["unsup_cc"]}, "plugins": {"unsup_cc": settings}}
        resolved = resolve({**flags, "model": {**RUN["model"], **SHORT}})
        [start] = resolved.plugins["unsup_cc"].starts(resolved.config)
        keys.add(start.stage.settings["plugins"]["unsup_cc"]["made"])
    assert len(keys) == 3


def test_batches_are_drawn_without_cameras() -> None:
    """Camera labels would be supervision; the core's quick recipe draws by them."""
    assert resolve().config.data.sampler == "pk_camera"
    assert resolve({"run": {"plugins": ["unsup_cc"]}}).config.data.sampler == "pk"


def test_who_starts_the_encoder() -> None:
    def model_start(settings: dict[str, Any], **model: Any) -> str:
        flags = {**RUN, "run": {"plugins": ["unsup_cc"]}, "plugins": {"unsup_cc": settings}}
        return resolve({**flags, "model": {**RUN["model"], **model}}).config.model.start

    assert model_start(TINY) == "contrastive"
    assert model_start({**TINY, **DRESSED}) == "random"
    with pytest.raises(ConfigError, match=r"starts the encoder, and so does -s model\.start=contr"):
        model_start({**TINY, **DRESSED}, start="contrastive")
    for synthesis in ({"method": "none"}, {"online": True}):
        with pytest.raises(ConfigError, match="are made before the training"):
            model_start({**TINY, **DRESSED, "synthesis": synthesis})
