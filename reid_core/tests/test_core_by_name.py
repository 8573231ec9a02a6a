"""Poolings, optimisers and schedules by name: the core's, torch's, timm's, a plugin's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid_core import ConfigError, GlobalPool, Optimiser, PluginError, load_embedder
from reid_core.config import OptimSection, ScheduleSection
from reid_core.loop.catalogue import check_decay, make_optimiser
from reid_core.loop.rates import DECAYS, rate_factor
from reid_core.testing.tiny import Recorder, tiny_assembly


def test_gem_is_the_generalised_mean_and_is_stored(reid_cache: Path, tmp_path: Path) -> None:
    feature = torch.rand(2, 3, 4, 5) + 0.1
    expected = feature.pow(3).mean((2, 3)).pow(1 / 3)
    torch.testing.assert_close(GlobalPool("gem")(feature), expected)
    assert GlobalPool("gem")(torch.zeros(1, 1, 2, 2)).isfinite().all()
    trainer = Recorder(tiny_assembly((), {"model": {"pooling": "gem"}}, cache=reid_cache))
    trainer.fit()
    live = trainer.assembly.embedder().eval()
    assert live.branches["core/pool"].exponent.item() != 3.0, "the exponent is learnt"
    live.save(tmp_path / "embedder.safetensors")
    images = torch.rand(2, 3, 64, 32)
    stored = load_embedder(tmp_path).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.equal(stored(images), live(images))


def test_an_unknown_pooling_names_the_nearest(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pooling 'gemm'; did you mean 'gem'\?"):
        tiny_assembly((), {"model": {"pooling": "gemm"}}, cache=reid_cache)
    with pytest.raises(PluginError, match=r"no pooling 'mox'; did you mean 'max'"):
        GlobalPool("mox")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"name": "rmsprop", "options": {"alpha": 0.8}}, "RMSprop"),
        ({"name": "nadam"}, "NAdam"),
        ({"name": "lion"}, "Lion"),
        ({"name": "lamb", "options": {"max_grad_norm": 2.0}}, "Lamb"),
        ({"name": "adafactor"}, "Adafactor"),
    ],
)
def test_optimisers_by_name_train_and_resume(
    settings: dict[str, Any], kind: str, reid_cache: Path, tmp_path: Path
) -> None:
    def made(path: Path) -> Recorder:
        return Recorder(tiny_assembly((), {"optim": settings}, cache=reid_cache), path)

    whole = made(tmp_path / "whole.pt")
    (optimiser,) = {type(o) for o in whole.assembly.parts.optimisers._optimisers.values()}
    assert optimiser.__name__ == kind
    whole.fit()
    half = made(tmp_path / "half.pt")
    half.train_epoch()
    half.assembly.ctx.progress.epoch, half.assembly.ctx.progress.step = 1, 0
    half.save()
    rest = made(tmp_path / "half.pt")
    rest.resume()
    rest.fit()
    assert rest.trace == whole.trace[2:]


@pytest.mark.parametrize(
    ("name", "key", "own"),
    [
        ("rmsprop", "momentum", 0),
        ("lion", "betas", (0.9, 0.99)),
        ("mars", "betas", (0.9, 0.99)),
        ("adopt", "betas", (0.9, 0.9999)),
        ("novograd", "betas", (0.95, 0.98)),
        ("sgd", "momentum", 0.9),
        ("adamw", "betas", (0.9, 0.999)),
    ],
)
def test_an_optimiser_has_its_own_momentum_unless_another_is_asked_for(
    name: str, key: str, own: Any
) -> None:
    def group_of(wanted: OptimSection | Optimiser) -> dict[str, Any]:
        return make_optimiser([nn.Parameter(torch.zeros(2))], wanted, "here").param_groups[0]

    assert group_of(OptimSection(name=name))[key] == own
    assert group_of(Optimiser(name, lr=1.0))[key] == own
    changed = {"momentum": 0.8, "betas": (0.5, 0.9)}
    assert group_of(OptimSection(name=name, **changed))[key] == changed[key]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (OptimSection(name="liom"), r"has an optimiser 'liom'; did you mean 'lion'"),
        (OptimSection(name="lbfgs"), r"^here: the optimiser 'lbfgs' cannot .*: it calls the loss"),
        (OptimSection(name="adahessian"), r"'adahessian' cannot .*: it needs second derivatives"),
        (
            OptimSection(name="rmsprop", options={"alfa": 1}),
            r"'alfa'; did you mean 'alpha'",
        ),
        (
            OptimSection(name="lion", options={"alfa": 1}),
            r"timm's optimiser 'lion' .*alfa",
        ),
        (OptimSection(name="sgd", options={"alfa": 1}), r"'sgd' takes no options \(alfa\)"),
        (Optimiser("liom", lr=1), r"^here: .*'lion'"),
    ],
)
def test_a_wrong_name_or_setting_is_refused(wanted: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_optimiser([nn.Parameter(torch.zeros(2))], wanted, "here")


@pytest.mark.parametrize(
    ("decay", "options", "factors"),
    [
        ("ExponentialLR", {"gamma": 0.5}, [1.0, 0.5, 0.25, 0.125]),
        ("StepLR", {"step_size": 2, "gamma": 0.1}, [1.0, 1.0, 0.1, 0.1]),
        ("poly", {"decay_rate": 1.0}, [1.0, 0.75, 0.5, 0.25]),
    ],
)
def test_schedules_by_name_are_functions_of_the_epoch(
    decay: str, options: dict[str, Any], factors: list[float]
) -> None:
    schedule = ScheduleSection(epochs=4, warmup_epochs=0, decay=decay, options=options)
    check_decay(schedule, DECAYS)
    assert [rate_factor(schedule, epoch) for epoch in range(4)] == pytest.approx(factors)
    fluent = schedule.model_copy(update={"per_iteration": True})
    middle = (factors[1] + factors[2]) / 2
    assert rate_factor(fluent, 1, 0.5) == pytest.approx(middle)
    later = schedule.model_copy(update={"warmup_epochs": 2, "epochs": 6})
    assert rate_factor(later, 3) == pytest.approx(factors[1])


@pytest.mark.parametrize(
    ("decay", "options", "last"),
    [
        ("poly", {}, 0.02),
        ("poly", {"decay_rate": 2.0}, 0.0004),
        ("poly", {"num_epochs": 100}, 0.51),
        # tanh from -7 to 3 (timm's): half of 1 - tanh(-7 * 0.02 + 3 * 0.98) = 1 - tanh(2.8)
        ("tanh", {}, 0.5 * (1 - math.tanh(2.8))),
        ("multistep", {"decay_milestones": [30]}, 0.1),
    ],
)
def test_decays_of_timm_end_with_the_run(decay: str, options: dict[str, Any], last: float) -> None:
    schedule = ScheduleSection(epochs=60, warmup_epochs=10, decay=decay, options=options)
    check_decay(schedule, DECAYS)
    assert rate_factor(schedule, 10) == pytest.approx(1.0, abs=1e-5)
    assert rate_factor(schedule, 59) == pytest.approx(last)
    # A part of an epoch is one; a run that only warms up has a curve, too.
    assert rate_factor(schedule.model_copy(update={"warmup_epochs": 9.5}), 59) > 0
    only = schedule.model_copy(update={"warmup_epochs": 60})
    check_decay(only, DECAYS)
    assert rate_factor(only, 30) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("decay", "options", "said"),
    [
        ("cosin", {}, r"no such decay; did you mean 'cosine'"),
        ("ReduceLROnPlateau", {}, r"not possible: it looks at a score .*evaluation\.select"),
        ("plateau", {}, r"'plateau' is not possible: it looks at a score after every epoch"),
        ("LambdaLR", {}, r"'LambdaLR' is not possible: it takes functions"),
        ("SequentialLR", {}, r"'SequentialLR' is not possible: it takes other schedulers"),
        ("StepLR", {"gama": 1}, r"'StepLR' has no setting 'gama'; did you mean 'gamma'"),
        ("StepLR", {}, r"schedule\.decay = 'StepLR': .*step_size"),
        ("_LRScheduler", {}, r"there is no such decay \(step, [^_]*\)$"),
        ("StepLR", {"step_size": 0}, r"schedule\.options\.step_size = 0: .*above 0"),
        ("StepLR", {"step_size": -1}, r"schedule\.options\.step_size = -1: .*above 0"),
        ("CosineAnnealingLR", {"T_max": 0}, r"options\.T_max = 0: 'CosineAnnealingLR' .*above 0"),
        ("CyclicLR", {"base_lr": 0, "max_lr": 1, "mode": "odd"}, r"decay = 'CyclicLR': .*mode"),
        ("MultiStepLR", {"milestones": 5}, r"'MultiStepLR': .*see schedule\.options"),
        ("ExponentialLR", {"gamma": -1}, r"rate of epoch 1 by -1, which must be finite and not"),
        ("ExponentialLR", {"gamma": 1e200}, r"rate of epoch 2 by inf, which must be finite"),
        ("poly", {"decay_rate": float("nan")}, r"'poly' .*by nan, which must be finite"),
        ("step", {"gamma": 1}, r"schedule\.options \(gamma\) are for a scheduler of torch"),
    ],
)
def test_a_wrong_schedule_is_refused(decay: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_decay(ScheduleSection(decay=decay, options=options), DECAYS)
