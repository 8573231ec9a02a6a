"""Starts that cannot be are refused before any stage is made, with both names and what to set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reid_core.config import RunConfig
from reid_core.contract.encoder import Encoder
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.plugin import Plugin
from reid_core.contract.stages import Stage, Start
from reid_core.errors import ConflictError
from reid_core.model.encoder import TimmEncoder
from reid_core.testing.tiny import tiny_assembly


class Taught(Plugin):
    """Starts the encoder from a stage that cannot be made: it would be an error to try."""

    def starts(self, config: RunConfig) -> tuple[Start, ...]:
        stage = Stage("taught/first", data="nowhere")
        return (Start(stage, ("encoder.*",), remedy="set -s taught.start=none"),)


class Blind(Plugin):
    """Cannot work without pre-training."""

    defaults: Mapping[str, Any] = {"model.start": "contrastive"}


class Built(Plugin):
    """Brings an encoder of its own."""

    claims = ("backbone",)

    @hookimpl
    def reid_backbone(self, ctx: Any) -> Encoder:
        model = ctx.config.model
        return TimmEncoder(model.backbone, ctx.image_size, model.last_stride)


CLASSES: dict[str, type[Plugin]] = {"taught": Taught, "blind": Blind, "built": Built}


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        (
            ("taught", "blind"),
            "plugins 'blind' and 'taught' both start 'encoder.*' from a stage, 'core/contrastive' "
            "and 'taught/first'; set -s model.start=random or set -s taught.start=none",
        ),
        (
            ("taught", "built"),
            "plugin 'taught' starts the encoder from the stage 'taught/first', but plugin 'built' "
            "brings an encoder of its own (slot 'backbone'); set -s taught.start=none",
        ),
        (
            ("blind", "built"),
            "plugin 'blind' starts the encoder from the stage 'core/contrastive', but plugin "
            "'built' brings an encoder of its own (slot 'backbone'); set -s model.start=random",
        ),
    ],
)
def test_starts_that_cannot_be_name_both_and_what_to_set(
    plugins: tuple[str, ...], words: str, own_cache: Path
) -> None:
    with pytest.raises(ConflictError) as caught:
        tiny_assembly(plugins, cache=own_cache, classes=CLASSES)
    assert str(caught.value) == words
    assert not (own_cache / "stages").exists()


def test_a_start_of_the_user_s_own_is_the_core_s(own_cache: Path) -> None:
    chosen = {"model": {"start": "contrastive"}}
    with pytest.raises(ConflictError, match=r"plugin 'core' starts the encoder.*plugin 'built'"):
        tiny_assembly(("built",), chosen, cache=own_cache, classes=CLASSES)


def test_what_the_message_says_to_set_helps(own_cache: Path) -> None:
    chosen = {"model": {"start": "random"}}
    assembly = tiny_assembly(("blind", "built"), chosen, cache=own_cache, classes=CLASSES)
    assert assembly.ctx.slots["backbone"] == "built"
