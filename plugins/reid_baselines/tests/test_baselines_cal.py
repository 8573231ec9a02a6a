"""CAL: its losses against loops, who trains what and from when, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whole_models import Run, whole

from reid_baselines.cal_modules import MaxAvgPool, OutfitClassifier, outfit_loss
from reid_core import DataError
from reid_core.runs.resolve import resolve
from reid_core.testing import conformance_suite

AT_ONCE: dict[str, Any] = {"plugins": {"cal": {"begin": 0}}}

test_conforms = conformance_suite("cal", AT_ONCE)


def loops(logits: Tensor, clothes: list[int], wearer: list[int], epsilon: float) -> float:
    """Return the adversarial loss, row by row and outfit by outfit."""
    values = []
    for row, own in enumerate(clothes):
        if own < 0:
            continue
        positive = [c for c, who in enumerate(wearer) if who == wearer[own]]
        others = sum(
            math.exp(logits[row, c]) for c, who in enumerate(wearer) if who not in (wearer[own], -1)
        )
        total = 0.0
        for c in positive:
            up = math.exp(logits[row, c])
            share = epsilon / len(positive) + (1 - epsilon if c == own else 0)
            total -= share * math.log(up / (up + others))
        values.append(total)
    return sum(values) / len(values)


@pytest.mark.parametrize("epsilon", [0.1, 0.0, 1.0])
def test_the_adversarial_loss_is_the_paper_s(epsilon: float) -> None:
    logits = 4 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    clothes, wearer = [0, 4, 1, -1, 5], [0, 0, 0, -1, 1, 2, 2]
    found = outfit_loss(logits, torch.tensor(clothes), torch.tensor(wearer), epsilon)
    assert found.item() == pytest.approx(loops(logits, clothes, wearer, epsilon), rel=1e-5)


def test_one_person_alone_has_nothing_to_hide() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    value = outfit_loss(logits, torch.tensor([0, 2]), torch.tensor([0, 0, 0]), 0.1)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_classifier_compares_directions() -> None:
    classifier = OutfitClassifier(3, [0, 0, 1])
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 3, 4]]))
    found = classifier(torch.tensor([[0.0, 5.0, 0.0]]))
    assert torch.allclose(found, torch.tensor([[0.0, 1.0, 0.6]]))
    assert found.requires_grad
    assert not classifier(torch.ones(1, 3), fixed=True).requires_grad


def test_the_features_hide_and_the_classifier_seeks(reid_cache: Path) -> None:
    run = Run(reid_cache, ("cal",), AT_ONCE)
    main, learn = run.assembly.parts.plan.updates
    assert [one.name for one in (main, learn)] == ["main", "cal/learn"]
    assert learn.passes[0].of == "main", "it costs no forward"
    weight = run.model.branches["cal/outfits"].weight
    step, terms = run.assembly.parts.forward.terms(main, run.trainer.batches(run.streams))
    hide = terms["cal/hide"]
    neck, batch = step.main.output("deployed:neck").detach(), step.main.batch
    cosines = torch.nn.functional.cosine_similarity(neck[:, None], weight.detach()[None], dim=2)
    wearer = run.model.branches["cal/outfits"].wearer.tolist()
    samples = run.assembly.ctx.main.samples
    assert all(wearer[sample.clothes] == sample.pid for sample in samples)
    expected = loops(16 * cosines, batch.clothes.tolist(), wearer, 0.1)
    assert hide.value.item() == pytest.approx(expected, rel=1e-4)
    grads = torch.autograd.grad(hide.value, [weight, next(run.model.encoder.parameters())],
                                allow_unused=True)  # fmt: skip
    assert grads[0] is None
    assert grads[1] is not None
    again = run.assembly.parts.forward.terms(learn, {})[1]["cal/learn"].value
    by_hand = torch.nn.functional.cross_entropy(16 * cosines, batch.clothes)
    assert again.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_it_begins_at_its_epoch(reid_cache: Path) -> None:
    run = Run(reid_cache, ("cal",), {"plugins": {"cal": {"begin": 1}}})
    first = run.step()
    assert set(first) == {"main"}
    assert "cal/hide" not in first["main"].terms
    run.assembly.ctx.progress.epoch = 1
    second = run.step()
    assert set(second) == {"main", "cal/learn"}
    assert "cal/hide" in second["main"].terms


def test_the_classifier_learns_at_a_rate_that_does_not_fall(reid_cache: Path) -> None:
    optim = {"name": "sgd", "lr": 0.5, "momentum": 0.3, "nesterov": True, "weight_decay": 0.1}
    settings = {"optim": {**optim, "new_layers_scale": 2.0}}
    run = Run(reid_cache, ("cal",), AT_ONCE, settings)
    optimisers = run.assembly.parts.optimisers
    main, learn = run.assembly.parts.plan.updates
    rates = [
        {
            group.name: optimisers.rate(group, update, 0.1)
            for group, _ in optimisers.stepped(update, 0)
        }
        for update in (main, learn)
    ]
    assert rates[0]["encoder"] == pytest.approx(0.05)
    assert rates[1] == {"cal/outfits": pytest.approx(1.0)}
    ((_, made),) = optimisers.stepped(learn, 0)
    found = made.param_groups[0]
    assert (found["momentum"], found["nesterov"], found["weight_decay"]) == (0.3, True, 0.1)


def test_a_data_set_without_outfits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'cal' needs outfits, and 'grey' labels none: take"):
        whole(tmp_path, ("cal",), 8, (96, 32), model={"backbone": "test_resnet"})


def test_the_paper_s_pooling_joins_maximum_and_mean(reid_cache: Path) -> None:
    feature = torch.tensor([[[[1.0, 3.0]], [[0.0, -4.0]]]])
    assert MaxAvgPool()(feature).tolist() == [[3.0, 0.0, 2.0, -2.0]]
    run = Run(reid_cache, ("cal",), {"model": {"pooling": "maxavg"}})
    width = run.model.encoder.taps[-1].channels
    assert run.assembly.embedder().dim == 2 * width


@pytest.mark.parametrize("name", ["ltcc", "prcc"])
def test_the_recipe_has_the_paper_s_settings(name: str) -> None:
    config = resolve({}, recipe=f"cal/{name}").config
    assert (config.data.name, config.data.size) == (name, (384, 192))
    assert (config.data.batch_size, config.data.instances) == (64, 8)
    assert (config.model.pooling, config.identity.triplet_weight) == ("maxavg", 0)
    assert (config.schedule.epochs, config.schedule.milestones) == (60, (20, 40))
    cal = {"weight": 1.0, "begin": 25, "scale": 16.0, "epsilon": 0.1}
    assert config.plugins["cal"] == cal
