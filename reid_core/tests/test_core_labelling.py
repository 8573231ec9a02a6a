"""Labels: made once and kept, made anew at every epoch, and the truth that they stand in for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_core.contract.criterion import IdentityCriterion
from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.labelers import LabelContext, Labeler
from reid_core.contract.plugin import Need, Plugin
from reid_core.contract.samples import DataSet
from reid_core.data.decoding import read_field
from reid_core.errors import ConflictError, DataError, PluginError
from reid_core.loop.assembly import Assembly
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.probe_modules import ClusterMemory
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags

CHOSEN = {"labels": {"parts": "maker"}}
OF_THREE = np.full((64, 32), 3, np.uint8)


class Maker(Plugin):
    """Makes ``parts``: all of one class; it counts how often and for how many images."""

    asked: tuple[list[int], ...] = ()
    key = "v1"

    @hookimpl
    def reid_pseudo_labels(self) -> list[Labeler]:
        return [Labeler(SHARED_FIELDS["parts"], self.make, key=self.key)]

    def make(self, labels: LabelContext) -> Any:
        self.asked[0].append(len(labels.samples))
        return [OF_THREE for _ in labels.rows]


def maker(**members: Any) -> tuple[type[Plugin], list[int]]:
    asked: list[int] = []
    return type("Maker", (Maker,), {"asked": (asked,), **members}), asked


def assembled(cls: type[Plugin], cache: Path, *layers: Any, also: str = "head") -> Assembly:
    return tiny_assembly(("maker", also), *layers, cache=cache, classes={**PROBES, "maker": cls})


def test_labels_are_made_once_and_read_afterwards(reid_cache: Path, tmp_path: Path) -> None:
    cls, asked = maker()
    first = assembled(cls, tmp_path, CHOSEN)
    count = len(first.ctx.main)
    assert asked == [count]
    again = assembled(cls, tmp_path, CHOSEN)
    assert asked == [count], "labels in the cache were made again"
    for assembly in (first, again):
        trainer = Recorder(assembly)
        trainer.begin_epoch()
        streams = trainer.streams(1)
        parts = trainer.batches(streams)["main"].fields["parts"]
        assert parts.unique().tolist() in ([3], [0, 3]), "padding is background, the rest is made"


def test_labels_may_be_yielded_one_after_the_other(tmp_path: Path) -> None:
    ended: list[bool] = []

    def make(self: Any, labels: LabelContext) -> Iterator[Any]:
        for _ in labels.rows:
            yield np.full((64, 32), 5, np.uint8)
        ended.append(True)

    cls, _ = maker(make=make)
    samples = assembled(cls, tmp_path, CHOSEN).ctx.main.samples
    made = {int(read_field(s.fields["parts"], SHARED_FIELDS["parts"]).max()) for s in samples}
    assert (made, ended) == ({5}, [True])


def test_another_key_is_another_label(tmp_path: Path) -> None:
    for key, expected in (("v1", 1), ("v2", 2), ("v1", 2)):
        if key == "v1" and expected == 1:
            cls, asked = maker()
        assembled(type("Maker", (cls,), {"key": key}), tmp_path, CHOSEN)
        assert len(asked) == expected


def test_nothing_is_made_that_nobody_needs_or_that_the_data_set_has(tmp_path: Path) -> None:
    cls, asked = maker()
    assembled(cls, tmp_path)
    assert asked == [], "the data set has the field"
    pose = FieldSpec("maker/depth", FieldKind.SCALAR)

    class Deep(Maker):
        @hookimpl
        def reid_pseudo_labels(self) -> list[Labeler]:
            return [Labeler(pose, self.make, key="v1")]

    assembled(type("Maker", (Deep,), {"asked": (asked,)}), tmp_path)
    assert asked == [], "nobody needs the field"


def test_a_field_that_is_missing_is_made_by_the_only_labeler(tmp_path: Path) -> None:
    depth = FieldSpec("maker/depth", FieldKind.SCALAR)

    class Deep(Plugin):
        needs = (Need("maker/depth"),)

        @hookimpl
        def reid_pseudo_labels(self) -> list[Labeler]:
            return [Labeler(depth, lambda labels: [7] * len(labels.rows), key="v1")]

    assembly = assembled(Deep, tmp_path)
    assert {sample.fields["maker/depth"] for sample in assembly.ctx.main.samples} == {7}
    assert assembly.ctx.fields["maker/depth"] == depth
    train = assembly.ctx.dataset.train
    assert "maker/depth" in train.fields, "ctx.dataset lacks the labels that were made"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"key": ""}, r"'maker': its labeler of 'parts' runs once and is cached.*needs a key"),
        ({"make": lambda self, labels: []}, r"'maker'.*'parts' returned 0 values for \d+ images"),
        (
            {"make": lambda self, labels: iter([OF_THREE])},
            r"returned 1 values for 48 images",
        ),
        (
            {"make": lambda self, labels: repeat(OF_THREE)},
            r"returned 49 or more values for 48",
        ),
        ({"make": lambda self, labels: labels.features()}, r"'maker': features of the model"),
    ],
)
def test_a_labeler_that_breaks_the_contract_is_named(
    members: dict[str, Any], message: str, tmp_path: Path
) -> None:
    cls, _ = maker(**members)
    with pytest.raises(PluginError, match=message):
        assembled(cls, tmp_path, CHOSEN)


def test_labels_may_fail_without_leaving_half_of_them(tmp_path: Path) -> None:
    def fail(self: Any, labels: LabelContext) -> Any:
        raise OSError("no more memory")

    cls, asked = maker()
    with pytest.raises(OSError, match="no more memory"):
        assembled(type("Maker", (cls,), {"make": fail}), tmp_path, CHOSEN)
    assembled(cls, tmp_path, CHOSEN)
    assert len(asked) == 1


class Epochs(Plugin):
    """Makes identities at every epoch's start by a function of the test."""

    claims = ("labels:pid", "identity")

    def make(self, labels: LabelContext) -> Any:
        return np.arange(len(labels.source)) // 4

    @hookimpl
    def reid_pseudo_labels(self) -> list[Labeler]:
        return [Labeler(FieldSpec("pid", FieldKind.SCALAR), self.make, when="epoch")]

    @hookimpl
    def reid_identity(self, embedding: Any, dims: Any) -> IdentityCriterion:
        return ClusterMemory(embedding, dims["unit"], 0.5)


def epochs(cache: Path, make: Any = Epochs.make, **members: Any) -> Recorder:
    cls = type("Maker", (Epochs,), {"make": make, **members})
    return Recorder(tiny_assembly(("maker",), cache=cache, classes={"maker": cls}))


def test_the_truth_is_hidden_from_the_run(reid_cache: Path) -> None:
    trainer = epochs(reid_cache)
    assembly = trainer.assembly
    assert assembly.ctx.num_identities == 0, "the number of true identities leaks"
    assert {s.pid for s in assembly.ctx.main.samples} == {-1}
    assert {s.pid for s in assembly.ctx.dataset.train.samples} == {-1}, "ctx.dataset has the truth"
    assert len({s.pid for s in assembly.truth.samples}) == 8
    trainer.begin_epoch()
    assert assembly.ctx.num_identities == len(assembly.ctx.main) // 4


def test_identities_are_made_at_every_epoch(reid_cache: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    def make(self: Any, labels: LabelContext) -> Any:
        seen.append((labels.epoch, *labels.features().shape))
        return np.arange(len(labels.source)) % (6 + labels.epoch)

    trainer = epochs(reid_cache, make)
    trainer.fit()
    count = len(trainer.assembly.truth)
    assert seen == [(0, count, 96), (1, count, 96)]
    assert trainer.assembly.ctx.num_identities == 7


def test_images_that_are_left_out_are_not_drawn(reid_cache: Path) -> None:
    def make(self: Any, labels: LabelContext) -> Any:
        found = np.arange(len(labels.source)) // 4
        return np.where(found < 5, found, -1)

    trainer = epochs(reid_cache, make)
    trainer.begin_epoch()
    streams = trainer.streams(4)
    for _ in range(4):
        batch = trainer.batches(streams)["main"]
        assert batch.pid.min() >= 0
        assert batch.index.max() < 20
        trainer.assembly.ctx.progress.iteration += 1


def test_features_for_labels_have_length_one_and_leave_no_trace(reid_cache: Path) -> None:
    found: list[Any] = []

    def make(self: Any, labels: LabelContext) -> Any:
        found.append(labels.features())
        return np.arange(len(labels.source)) // 4

    trainer = epochs(reid_cache, make)
    model = trainer.assembly.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.begin_epoch()
    assert np.allclose(np.linalg.norm(found[0], axis=1), 1, atol=1e-5)
    assert all(
        (value == before[name]).all()
        for name, value in model.state_dict().items()
        if name in before
    )
    assert model.training


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda n: np.full(n, -1), DataError, r"'maker' found no identity in epoch 0: all \d+"),
        (lambda n: np.arange(n) // 4 * 2, PluginError, r"'maker': identities must be 0 \.\. N-1"),
        (lambda n: np.zeros(3), PluginError, r"'maker'.*'pid' returned shape \(3,\) for \d+ im"),
    ],
    ids=["none", "gaps", "too few"],
)
def test_identities_that_cannot_be_used_are_named(
    make: Any, error: type[Exception], message: str, reid_cache: Path
) -> None:
    trainer = epochs(reid_cache, lambda self, labels: make(len(labels.source)))
    with pytest.raises(error, match=message):
        trainer.begin_epoch()


def test_a_claim_of_identities_without_a_labeler_is_refused(reid_cache: Path) -> None:
    class Silent(Epochs):
        @hookimpl
        def reid_pseudo_labels(self) -> list[Labeler]:
            return []

    with pytest.raises(PluginError, match=r"'maker'.*'labels:pid'"):
        tiny_assembly(("maker",), cache=reid_cache, classes={"maker": Silent})


def test_the_choice_that_a_conflict_proposes_works(reid_cache: Path) -> None:
    classes = {"maker": Epochs, "other": Epochs}
    own: dict[str, str] = {}
    for slot in ("identity", "labels:pid"):
        with pytest.raises(ConflictError, match=rf"'maker' and 'other'.*--own {slot}="):
            tiny_assembly(("maker", "other"), {"own": own}, cache=reid_cache, classes=classes)
        own[slot] = "other"
    assembly = tiny_assembly(("maker", "other"), {"own": own}, cache=reid_cache, classes=classes)
    assert assembly.identities is not None
    assert assembly.identities[0] == "other"


def test_a_label_that_the_user_asks_for_is_made_without_need(tmp_path: Path) -> None:
    cls, asked = maker()
    assembled(cls, tmp_path, CHOSEN, also="stream")
    assert len(asked) == 1


def test_labels_are_made_anew_where_what_they_read_has_changed(
    toy_tiny: DataSet, tmp_path: Path
) -> None:
    class Reader(Maker):
        @hookimpl
        def reid_pseudo_labels(self) -> list[Labeler]:
            return [Labeler(SHARED_FIELDS["parts"], self.make, key="v1", reads=("pose",))]

    cls, asked = maker()
    reader = type("Maker", (Reader,), {"asked": cls.asked})
    plain = resolve(tiny_flags(("maker", "head"), CHOSEN), classes={**PROBES, "maker": reader})
    first, *others = toy_tiny.train.samples
    moved = replace(first, fields={**first.fields, "pose": 77})
    for samples in ((first, *others), (first, *others), (moved, *others)):
        dataset = replace(toy_tiny, train=replace(toy_tiny.train, samples=samples))
        assemble(plain, cache=tmp_path, dataset=dataset, say=lambda line: None)
    assert asked == [len(toy_tiny.train), 1]
