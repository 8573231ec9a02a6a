"""Averaged weights and the mean teacher: the averages by hand, the losses against loops."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whole_models import Run

from reid_baselines.soft_labels import soft_cross_entropy, soft_triplet
from reid_core import load_embedder
from reid_core.loop.weights import chosen_weights
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_flags

test_conforms = conformance_suite("ema")
test_the_teacher_conforms = conformance_suite("meanteacher")


def floats(model: torch.nn.Module) -> dict[str, Tensor]:
    state = model.state_dict().items()
    return {name: value.clone() for name, value in state if value.is_floating_point()}


@pytest.mark.parametrize("decay", [0.999, 0.3])
def test_the_average_is_a_plain_mean_until_its_decay_is_reached(
    reid_cache: Path, decay: float
) -> None:
    run = Run(reid_cache, ("ema",), {"plugins": {"ema": {"decay": decay}}})
    wanted: dict[str, Tensor] = {}
    for step in range(3):
        run.step()
        kept = min(1 - 1 / (step + 1), decay)
        now = floats(run.model)
        wanted = {n: kept * wanted.get(n, v) + (1 - kept) * v for n, v in now.items()}
    trained = floats(run.model)
    with chosen_weights(run.assembly):
        found = floats(run.model)
    moved = 0
    for name, value in found.items():
        assert torch.allclose(value, wanted[name], atol=1e-6), name
        moved += not torch.equal(value, trained[name])
    assert moved > 10
    assert all(torch.equal(v, trained[n]) for n, v in floats(run.model).items())


@pytest.mark.parametrize("name", ["ema", "meanteacher"])
def test_the_average_is_what_is_evaluated(name: str) -> None:
    config = resolve({"run": {"plugins": [name]}}).config
    assert config.evaluation.weights == f"{name}/weights"


@pytest.mark.parametrize("batch_norm", ["running", "real"])
def test_the_average_is_taken_from_a_checkpoint(
    batch_norm: str, reid_cache: Path, tmp_path: Path
) -> None:
    out, said = tmp_path / "run", list[str]()
    flags = tiny_flags(["ema"], {"evaluation": {"batch_norm": batch_norm}})
    run(flags, out=out, cache=reid_cache, say=lambda line: None)
    finished = load_embedder(out).state_dict()
    found = load_embedder(out, checkpoint=True, say=said.append).state_dict()
    assert said[0].endswith("weights of its checkpoint at epoch 2, ema/weights")
    for name, value in finished.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_the_teacher_sees_the_batch_with_the_average(reid_cache: Path) -> None:
    run = Run(reid_cache, ("meanteacher",))
    run.step()
    run.step()
    plugin = run.assembly.plugins["meanteacher"]
    other = copy.deepcopy(run.model)
    other.load_state_dict(plugin.checkpoint_state())
    (main,) = run.assembly.parts.plan.updates
    step, terms = run.assembly.parts.forward.terms(main, run.trainer.batches(run.streams))
    teacher, ours = step.passes["meanteacher/teacher"], step.main
    assert not teacher.embedded["core/global"].raw.requires_grad
    with torch.no_grad():
        feature = other.encoder(step.main.image)["encoder/map"].mean((2, 3))
    assert torch.allclose(teacher.output("deployed:raw"), feature, atol=1e-5)
    assert not torch.allclose(ours.output("deployed:raw"), feature, atol=1e-3)
    expected = soft_cross_entropy(ours.logits["core/global"], teacher.logits["core/global"])
    assert terms["meanteacher/ce"].value.item() == pytest.approx(expected.item())
    assert (terms["meanteacher/ce"].weight, terms["meanteacher/triplet"].weight) == (0.5, 0.8)
    assert not [name for name in terms if name.endswith("@meanteacher/teacher")]
    names = {"core/global/ce", "core/global/triplet", "meanteacher/ce", "meanteacher/triplet"}
    assert set(terms) == names


def test_criteria_of_new_identities_are_not_averaged(reid_cache: Path) -> None:
    run = Run(reid_cache, ("clustering", "meanteacher"))
    run.step()
    kept: Any = run.assembly.plugins["meanteacher"].checkpoint_state()
    everything = set(run.model.state_dict())
    assert everything - set(kept) == {n for n in everything if "criteria." in n}


def loops(ours: Tensor, theirs: Tensor, labels: list[int]) -> float:
    """Return the soft triplet loss, anchor by anchor."""
    values = []
    for anchor, label in enumerate(labels):
        near, far = [], []
        for other, theirs_label in enumerate(labels):
            if other == anchor or -1 in (label, theirs_label):
                continue
            distance = float((ours[anchor] - ours[other]).norm())
            (far if theirs_label == label else near).append((distance, other))
        if not far or not near:
            continue
        positive, negative = max(far)[1], min(near)[1]

        def ratio(rows: Tensor, p: int = positive, n: int = negative, a: int = anchor) -> float:
            up = math.exp(float((rows[a] - rows[n]).norm()))
            return up / (up + math.exp(float((rows[a] - rows[p]).norm())))

        ours_ratio, wanted = ratio(ours), ratio(theirs)
        values.append(-wanted * math.log(ours_ratio) - (1 - wanted) * math.log(1 - ours_ratio))
    return sum(values) / len(values)


def test_the_soft_triplet_is_the_cross_entropy_between_two_ratios() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(7, 4, generator=generator, requires_grad=True)
    theirs = torch.randn(7, 3, generator=generator, requires_grad=True)
    labels = [0, 0, 1, 1, 2, -1, 0]
    found = soft_triplet(ours, theirs, torch.tensor(labels))
    assert found.item() == pytest.approx(loops(ours.detach(), theirs.detach(), labels), rel=1e-5)
    found.backward()
    assert ours.grad is not None
    assert theirs.grad is None, "nothing teaches the teacher"
    alone = soft_triplet(ours, theirs, torch.arange(7))
    assert alone.item() == 0


def test_the_soft_cross_entropy_is_least_where_both_agree() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    chances = [math.exp(2), 1.0, 1.0]
    chances = [one / sum(chances) for one in chances]
    entropy = -sum(one * math.log(one) for one in chances)
    assert soft_cross_entropy(logits, logits).item() == pytest.approx(entropy, rel=1e-6)
    assert soft_cross_entropy(torch.zeros(1, 3), logits).item() == pytest.approx(math.log(3))
