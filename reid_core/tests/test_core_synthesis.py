"""Generated images: labels from their donors, and where each route sends its gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.contract.batches import Batch
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.plugin import Plugin
from reid_core.contract.step import LossTerm, Synthetic
from reid_core.contract.views import PassView, StepView
from reid_core.errors import PluginError
from reid_core.loop.assembly import Assembly
from reid_core.loop.synthesis import check_synthetic, joined, labelled
from reid_core.model.graph import ReidModel
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, first_forward, tiny_assembly

SPATIAL = torch.tensor([2, 0])
IDENTITY = torch.tensor([1, 1])


def batch() -> Batch:
    rows = torch.arange(3)
    fields = {
        "parts": rows[:, None, None].expand(3, 4, 2).to(torch.uint8),
        "keypoints": rows[:, None, None].expand(3, 17, 3).float(),
        "pose": rows * 10,
        "texture": rows[:, None, None, None].expand(3, 3, 2, 2).to(torch.uint8),
    }
    return Batch(
        image=rows[:, None, None, None].expand(3, 3, 4, 2).float(),
        pid=rows + 100,
        camid=rows + 200,
        clothes=rows + 300,
        index=rows + 400,
        origin=rows,
        fields=fields,
        specs={name: SHARED_FIELDS[name] for name in fields},
        erased=torch.full((3, 3, 4, 2), -1.0),
    )


def synthetic(**options: Any) -> Synthetic:
    values: dict[str, Any] = {
        "images": torch.full((2, 3, 4, 2), 9.0),
        "spatial_from": SPATIAL,
        "identity_from": IDENTITY,
        **options,
    }
    return Synthetic(values.pop("name", "ant/made"), **values)


def test_labels_follow_their_donors() -> None:
    made = labelled(synthetic(), batch())
    assert made.pid.tolist() == [101, 101]
    assert made.clothes.tolist() == [301, 301]
    assert made.camid.tolist() == [202, 200]
    assert made.origin.tolist() == IDENTITY.tolist()
    for name in ("parts", "keypoints"):
        assert made.fields[name].flatten(1)[:, 0].tolist() == [2, 0], f"{name} has another donor"
    assert made.fields["pose"].tolist() == [20, 0], "the pose is that of the spatial donor"
    assert made.fields["texture"][:, 0, 0, 0].tolist() == [1, 1]
    assert (made.source, made.erased, len(made)) == ("ant/made", None, 2)


def test_joined_rows_stand_behind_the_batch() -> None:
    longer, soft = joined(batch(), [synthetic()])
    assert len(longer) == 5
    assert soft is None
    assert longer.pid.tolist() == [100, 101, 102, 101, 101]
    assert longer.fields["parts"][:, 0, 0].tolist() == [0, 1, 2, 2, 0]
    assert longer.image[:, 0, 0, 0].tolist() == [0, 1, 2, 9, 9]
    assert longer.erased is not None
    assert longer.erased[:, 0, 0, 0].tolist() == [-1, -1, -1, 9, 9]
    assert longer.source == "main"
    same, none = joined(batch(), [])
    assert (len(same), none) == (3, None)


def test_soft_targets_stand_in_the_rows_of_their_images() -> None:
    targets = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    pair = [synthetic(name="ant/a", soft_targets=targets), synthetic(name="ant/b")]
    _, soft = joined(batch(), pair)
    assert soft is not None
    assert soft.tolist() == [[0, 0]] * 3 + targets.tolist() + [[0, 0]] * 2


@pytest.mark.parametrize(
    ("options", "before", "message"),
    [
        ({"name": "gnu/made"}, True, r"name must start with 'ant/'"),
        ({"route": "detached"}, True, r"route 'detached' is not possible before the forward"),
        ({"route": "frozen_copy"}, True, r"route 'frozen_copy' is not possible before"),
        ({"route": "join"}, False, r"route 'join' is not possible after the forward"),
        ({"images": torch.zeros(2, 3, 8, 2)}, True, r"shape \(2, 3, 8, 2\).*\(3, 4, 2\)"),
        ({"images": torch.zeros(2, 1, 4, 2)}, True, r"shape \(2, 1, 4, 2\)"),
        ({"spatial_from": torch.tensor([0])}, True, r"spatial_from has shape \(1,\), not \(2,\)"),
        ({"identity_from": torch.zeros(2, 1)}, True, r"identity_from has shape \(2, 1\)"),
    ],
)
def test_images_that_do_not_fit_are_named(
    options: dict[str, Any], before: bool, message: str
) -> None:
    with pytest.raises(PluginError, match=rf"'ant', generated images '(ant|gnu)/made'.*{message}"):
        check_synthetic("ant", synthetic(**options), batch(), before)


CE = "core/global/ce"


class Spy(Plugin):
    """Keeps the step that it saw."""

    seen: StepView

    @hookimpl
    def reid_losses(self, step: StepView) -> list[LossTerm]:
        if step.update == "main":
            self.seen = step
        return []


class Run:
    """One forward of the adversarial probe's main update, only some terms with a weight."""

    def __init__(self, cache: Path, route: str, weighed: tuple[str, ...], *more: str) -> None:
        silent = (CE, "core/global/triplet", "adversarial/fool", "adversarial/keep", "head/parts")
        weights = {name: 0.0 for name in silent if name not in weighed}
        settings = {"adversarial": {"route": route, "identity_weight": 1.0}}
        self.assembly: Assembly = tiny_assembly(
            ("adversarial", "spy", *more),
            {"plugins": settings, "loss_weights": weights},
            cache=cache,
            classes={**PROBES, "spy": Spy},
        )
        trainer = Recorder(self.assembly)
        self.assembly.model.train()
        trainer.begin_epoch()
        self.streams = trainer.streams(1)
        batches = trainer.batches(self.streams)
        self.buffers = {n: b.clone() for n, b in self.model.named_buffers()}
        (main,) = (u for u in self.assembly.parts.plan.updates if u.name == "main")
        self.loss, self.report = self.assembly.parts.forward(main, batches)

    @property
    def model(self) -> ReidModel:
        return self.assembly.model

    @property
    def step(self) -> StepView:
        found: StepView = self.assembly.plugins["spy"].seen  # type: ignore[attr-defined]
        return found

    def gradients(self) -> set[str]:
        """Return the parts of the model that got a gradient which is not zero."""
        self.loss.backward()
        reached = {
            n for n, p in self.model.named_parameters() if p.grad is not None and p.grad.any()
        }
        return {
            part for part, names in self.model.parts().items() if any(n in reached for n in names)
        }


MADE = "adversarial/recoloured"
MODEL = {"encoder", "core/global/identity", "core/global/neck"}


def test_detached_images_train_the_model_and_not_the_generator(reid_cache: Path) -> None:
    run = Run(reid_cache, "detached", (f"{CE}@{MADE}",))
    assert run.gradients() == MODEL


def test_a_frozen_copy_trains_the_generator_and_not_the_model(reid_cache: Path) -> None:
    run = Run(reid_cache, "frozen_copy", (f"{CE}@{MADE}",))
    assert run.gradients() == {"adversarial/generator"}
    untouched = [p for n, p in run.model.named_parameters() if "generator" not in n]
    assert all(p.grad is None for p in untouched), "a gradient of zeros would still be stepped"


def test_joined_images_train_both(reid_cache: Path) -> None:
    assert Run(reid_cache, "join", (CE,)).gradients() == {*MODEL, "adversarial/generator"}


@pytest.mark.parametrize("route", ["detached", "frozen_copy"])
def test_a_pass_of_its_own_leaves_the_buffers_to_the_main_pass(
    route: str, reid_cache: Path
) -> None:
    run = Run(reid_cache, route, (CE,))
    moved = {n: b for n, b in run.model.named_buffers() if n.endswith("num_batches_tracked")}
    assert moved
    for name, count in moved.items():
        assert count - run.buffers[name] == 1, name


def test_a_pass_of_its_own_carries_its_donors_labels(reid_cache: Path) -> None:
    run = Run(reid_cache, "detached", (CE,), "head")
    main, made = run.step.main.batch, run.step.passes[MADE].batch
    assert torch.equal(made.pid, main.pid.roll(1))
    assert torch.equal(made.fields["parts"], main.fields["parts"])
    assert torch.equal(made.camid, main.camid)
    terms = {"core/global/ce", "core/global/triplet"}
    assert terms | {f"{t}@{MADE}" for t in terms} <= set(run.report.terms)


def test_a_head_supervises_generated_images_without_knowing_who_made_them(
    reid_cache: Path,
) -> None:
    run = Run(reid_cache, "detached", (CE,), "head")
    assert [v.name for v in run.step.passes_with("head/logits", "parts")] == ["main", MADE]
    joint = Run(reid_cache, "join", (CE,), "head")
    (view,) = joint.step.passes_with("head/logits", "parts")
    assert len(view.batch) == 16
    assert torch.equal(view.batch.fields["parts"][:8], view.batch.fields["parts"][8:])
    assert torch.equal(view.batch.pid[8:], view.batch.pid[:8].roll(1))
    hidden = Run(reid_cache, "frozen_copy", (CE,), "head")
    assert [v.name for v in hidden.step.passes_with("head/logits", "parts")] == ["main"]


def test_without_an_identity_weight_generated_images_have_no_identity_terms(
    reid_cache: Path,
) -> None:
    assembly = tiny_assembly(("adversarial",), cache=reid_cache, classes=PROBES)
    trainer = Recorder(assembly)
    trainer.train_epoch()
    assert not any("@" in name for name in trainer.metrics.seen)


def test_an_identity_weight_scales_the_terms_of_generated_images(reid_cache: Path) -> None:
    settings = {"plugins": {"adversarial": {"identity_weight": 0.25}}}
    assembly = tiny_assembly(("adversarial",), settings, cache=reid_cache, classes=PROBES)
    _, report = first_forward(assembly)
    weights = {name: report.weights[name] for name in (CE, f"{CE}@{MADE}")}
    assert weights == {CE: 1.0, f"{CE}@{MADE}": 0.25}


def generating(make: Any) -> type[Plugin]:
    class Ant(Plugin):
        @hookimpl
        def reid_data_synthesis(
            self, batch: Batch, feats: dict[str, PassView] | None
        ) -> list[Synthetic]:
            return make(batch, feats)  # type: ignore[no-any-return]

    return Ant


def test_soft_targets_of_joined_rows_reach_the_cross_entropy(reid_cache: Path) -> None:
    targets = torch.zeros(2, 8)
    targets[:, 0], targets[:, 3] = 0.25, 0.75

    def make(rows: Batch, feats: Any) -> list[Synthetic]:
        if feats is not None:
            return []
        donors = torch.arange(2)
        return [Synthetic("ant/made", rows.image[:2], donors, donors, soft_targets=targets)]

    assembly = tiny_assembly(
        ("ant", "spy"), cache=reid_cache, classes={"ant": generating(make), "spy": Spy}
    )
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    streams = trainer.streams(1)
    _, report = assembly.parts.forward(assembly.parts.plan.updates[0], trainer.batches(streams))
    view = assembly.plugins["spy"].seen.main  # type: ignore[attr-defined]
    logits: Tensor = view.logits["core/global"]
    smooth = assembly.config.identity.label_smoothing
    assert assembly.ctx.num_identities == 8
    hard = F.cross_entropy(logits[:8], view.batch.pid[:8], reduction="none", label_smoothing=smooth)
    soft = -(targets * logits[8:].log_softmax(1)).sum(1)
    expected = torch.cat([hard, soft]).mean().item()
    assert report.terms[CE].item() == pytest.approx(expected, abs=1e-5)


def test_generation_is_asked_before_and_after_the_passes(reid_cache: Path) -> None:
    asked: list[tuple[int, list[str] | None]] = []

    def make(rows: Batch, feats: dict[str, PassView] | None) -> list[Synthetic]:
        asked.append((len(rows), None if feats is None else sorted(feats)))
        return []

    assembly = tiny_assembly(("ant",), cache=reid_cache, classes={"ant": generating(make)})
    Recorder(assembly).train_epoch()
    assert asked == [(8, None), (8, ["main"])] * 2


def test_two_sets_of_images_of_one_name_are_refused(reid_cache: Path) -> None:
    def make(rows: Batch, feats: Any) -> list[Synthetic]:
        if feats is None:
            return []
        donors = torch.arange(2)
        one = Synthetic("ant/made", rows.image[:2], donors, donors, route="detached")
        return [one, one]

    assembly = tiny_assembly(("ant",), cache=reid_cache, classes={"ant": generating(make)})
    with pytest.raises(PluginError, match=r"'ant/made'.*twice"):
        Recorder(assembly).train_epoch()


class OfTheCore(PROBES["adversarial"]):  # type: ignore[misc]
    """Identity of its images is asked of the core's embedding alone."""

    @hookimpl
    def reid_data_synthesis(self, ctx: Any, batch: Batch, feats: Any, update: str) -> list[Any]:
        made = super().reid_data_synthesis(ctx, batch, feats, update)
        return [replace(one, identity_of=("core/*",)) for one in made]


@pytest.mark.parametrize(
    ("cls", "judging"),
    [(PROBES["adversarial"], ["core/global", "stream/shape"]), (OfTheCore, ["core/global"])],
)
def test_identity_of_generated_images_is_asked_of_the_embeddings_named(
    cls: type[Plugin], judging: list[str], reid_cache: Path
) -> None:
    classes = {**PROBES, "adversarial": cls}
    settings = {"plugins": {"adversarial": {"identity_weight": 1.0}}}
    names = ("adversarial", "stream")
    trainer = Recorder(tiny_assembly(names, settings, cache=reid_cache, classes=classes))
    trainer.fit()
    seen = {name.split("@")[0] for name in trainer.trace[0] if "@" in name}
    assert sorted({name[5:].rpartition("/")[0] for name in seen}) == judging
