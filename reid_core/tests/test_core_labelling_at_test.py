"""Fields that a labeler made for training are made for test images too, where they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.labelers import LabelContext, Labeler
from reid_core.contract.model import Branch, Embedding, Tap
from reid_core.contract.plugin import Need, Plugin
from reid_core.contract.stages import Stage
from reid_core.errors import ConfigError, DataError
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags


class Scaled(nn.Module):
    def forward(self, feature: Tensor, pose: Tensor) -> Tensor:
        return feature.mean((2, 3)) * (1 + pose[:, None])


class Posed(Plugin):
    """An embedding that reads `pose`, and a labeler of it; it notes whom it was asked about."""

    needs = (Need("pose"),)
    asked: Any = ()

    @hookimpl
    def reid_pseudo_labels(self) -> list[Labeler]:
        return [Labeler(SHARED_FIELDS["pose"], self.make, key="posed 1")]

    def make(self, labels: LabelContext) -> Any:
        self.asked.append((labels.source.name, len(labels.samples), len(labels.run.main)))
        return np.full(len(labels.rows), 7)

    @hookimpl
    def reid_auxiliary_branches(self, taps: Mapping[str, Tap]) -> list[Branch]:
        embedding = Embedding("posed/vector", reads="posed/pooled", at_test=False)
        reads, writes = ("encoder/map", "pose"), ("posed/pooled",)
        return [Branch("posed/scaled", Scaled(), reads, writes, (embedding,))]


def assembled(cache: Path, *layers: Any) -> tuple[Any, list[Any]]:
    asked: list[Any] = []
    cls = type("Posed", (Posed,), {"asked": asked})
    return tiny_assembly(("posed",), *layers, cache=cache, classes={"posed": cls}), asked


CHOSEN = {"labels": {"pose": "posed"}}
EMBED = {"evaluation": {"embed": ("posed/vector", "core/global")}}


def test_test_images_get_the_labels_that_an_evaluated_embedding_reads(own_cache: Path) -> None:
    assembly, asked = assembled(own_cache, CHOSEN, EMBED)
    main, dataset = len(assembly.ctx.main), assembly.evaluator.dataset
    query, gallery = len(dataset.query), len(dataset.gallery)
    assert asked == [("main", main, main), ("query", query, main), ("gallery", gallery, main)]
    # The toy data have a pose of their own there; the model learnt to read the labeler's.
    assert {s.fields["pose"] for s in (*dataset.query, *dataset.gallery)} == {7}
    assert dataset.query_fields["pose"] == SHARED_FIELDS["pose"]
    evaluation = Recorder(assembly).evaluate("final")
    assert evaluation is not None
    assert evaluation.query.features.shape == (query, assembly.embedder().dim)
    _, again = assembled(own_cache, CHOSEN, EMBED)
    assert again == [], "labels in the cache were made again"


class Staging(Posed):
    """The labeler asks a stage, which has to be trained before there is any label."""

    @hookimpl
    def reid_pseudo_labels(self) -> list[Labeler]:
        stage = Stage("posed/parser", {}, {"schedule": {"epochs": 1, "iterations_per_epoch": 1}})
        spec, sevens = SHARED_FIELDS["pose"], [7, 7]
        return [Labeler(spec, self.make, key="posed 1", stage=stage, example=lambda labels: sevens)]


@pytest.mark.parametrize("held_out", [{}, {"data": {"validation": 0.25}}], ids=["test", "both"])
def test_a_trial_does_not_miss_at_test_what_a_stage_is_yet_to_teach(
    held_out: Any, own_cache: Path
) -> None:
    dataset = tiny_assembly(cache=own_cache).ctx.dataset
    sides = (
        tuple(replace(sample, fields={}) for sample in side)
        for side in (dataset.query, dataset.gallery)
    )
    bare = replace(dataset, query=next(sides), gallery=next(sides), query_fields={})
    asked: list[Any] = []
    staging = type("Staging", (Staging,), {"asked": asked})
    resolved = resolve(tiny_flags(("posed",), CHOSEN, EMBED, held_out), classes={"posed": staging})
    assembly = assemble(resolved, cache=own_cache, dataset=bare, stages=Stages(), say=print)
    found = assembly.evaluators[0].dataset
    assert {sample.fields["pose"] for sample in (*found.query, *found.gallery)} == {7}
    assert [name for name, *_ in asked][:3] == ["main", "query", "gallery"]


def test_held_out_people_get_them_too(own_cache: Path) -> None:
    assembly, asked = assembled(own_cache, CHOSEN, EMBED, {"data": {"validation": 0.25}})
    held = assembly.validator.dataset
    assert {s.fields["pose"] for s in (*held.query, *held.gallery)} == {7}
    assert [name for name, *_ in asked] == ["main", "query", "gallery", "query", "gallery"]


@pytest.mark.parametrize("layers", [(CHOSEN,), (EMBED,)], ids=["not-evaluated", "not-made"])
def test_nothing_is_made_for_test_images_without_need(own_cache: Path, layers: Any) -> None:
    assembly, asked = assembled(own_cache, *layers)
    assert [name for name, *_ in asked] == (["main"] if layers == (CHOSEN,) else [])
    assert 7 not in {s.fields["pose"] for s in assembly.evaluator.dataset.query}


def test_mirrored_images_of_an_embedding_that_reads_fields_are_refused_before_training(
    own_cache: Path,
) -> None:
    flip = {"evaluation": {**EMBED["evaluation"], "flip": "sum"}}
    with pytest.raises(ConfigError, match=r"evaluation\.flip is not possible .* reads pose: "):
        assembled(own_cache, flip)


@pytest.mark.parametrize("held_out", [{}, {"data": {"validation": 0.25}}], ids=["test", "both"])
def test_fields_that_test_images_lack_are_refused_before_training(
    held_out: Any, reid_cache: Path, tmp_path: Path
) -> None:
    for sample in tiny_assembly(cache=reid_cache).ctx.main.samples:
        (tmp_path / "poses").mkdir(exist_ok=True)
        np.save(tmp_path / "poses" / f"{sample.path.stem}.npy", np.int64(3))
    files = {"fields": {"pose": str(tmp_path / "poses")}}
    with pytest.raises(DataError, match=r"read pose, which the query and gallery .* --embed"):
        assembled(tmp_path / "cache", files, EMBED, held_out)
    assembly, _ = assembled(tmp_path / "cache", files, held_out)
    assert "pose" not in assembly.evaluator.dataset.query_fields
    if held_out:
        assert "pose" in assembly.validator.dataset.query_fields, "held-out people have files"


def test_a_labeler_is_refused_images_that_lack_what_it_reads(own_cache: Path) -> None:
    class Reader(Posed):
        @hookimpl
        def reid_pseudo_labels(self) -> list[Labeler]:
            spec = SHARED_FIELDS["pose"]
            return [Labeler(spec, self.make, key="posed 1", reads=("posed/depth",))]

    cls = type("Posed", (Reader,), {"asked": []})
    with pytest.raises(DataError, match=r"'posed' makes 'pose' from posed/depth, which the images"):
        tiny_assembly(("posed",), CHOSEN, cache=own_cache, classes={"posed": cls})
