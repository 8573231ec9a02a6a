"""Which loss trains what (the argument lists of equations 2 to 12), and what stays frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fsam_runs import ALL, alone, fsam, gradients, moved

from reid_core.loop.state import trainable_state
from reid_core.testing.tiny import Recorder, first_forward

PARSER, SHAPE, APPEARANCE = "branches.fsam/parser.", "branches.fsam/extractor.", "encoder."
PARTS = (APPEARANCE, PARSER, SHAPE)


@pytest.mark.parametrize(
    ("terms", "reached"),
    [
        (("fsam/shape/ce",), (PARSER, SHAPE)),
        (("fsam/shape/triplet",), (PARSER, SHAPE)),
        (("fsam/keep",), (PARSER,)),
        (("core/global/ce", "core/global/triplet"), (APPEARANCE,)),
        (("fsam/similarity",), (APPEARANCE, PARSER, SHAPE)),
        (("fsam/divergence",), (APPEARANCE, PARSER, SHAPE)),
    ],
    ids=lambda value: "+".join(t.rpartition("/")[2] for t in value) if value else "",
)
def test_every_loss_reaches_its_networks(
    reid_cache: Path, terms: tuple[str, ...], reached: tuple[str, ...]
) -> None:
    assembly = fsam(reid_cache, loss_weights=alone(*terms))
    found = gradients(assembly, *terms)
    assert {part for part in PARTS if moved(found, part) > 0} == set(reached)
    assert not moved(found, "branches.fsam/coarse."), "the coarse copy is frozen"


def test_from_shape_to_appearance_trains_the_appearance_alone(reid_cache: Path) -> None:
    terms = ("fsam/divergence", "fsam/similarity")
    settings = {"mutual": "to_appearance"}
    found = gradients(fsam(reid_cache, settings=settings, loss_weights=alone(*terms)), *terms)
    assert moved(found, APPEARANCE) > 0
    assert not moved(found, PARSER)
    assert not moved(found, SHAPE)
    assert not moved(found, "criteria.fsam/shape")


def test_detached_divergences_reach_both_streams(reid_cache: Path) -> None:
    found = gradients(
        fsam(reid_cache, settings={"kl_detach": True}, loss_weights=alone("fsam/divergence")),
        "fsam/divergence",
    )
    assert all(moved(found, part) > 0 for part in PARTS)


def test_with_the_frozen_mask_no_parser_learns(reid_cache: Path) -> None:
    assembly = fsam(reid_cache, settings={"stream": "coarse"})
    left = tuple(name for name in ALL if name != "fsam/keep")
    found = gradients(assembly, *left)
    assert not any(name.startswith(PARSER) for name in found)
    assert moved(found, SHAPE) > 0
    assert "fsam/coarse" not in assembly.model.declarations
    assert not any(p.requires_grad for p in assembly.model.branches["fsam/parser"].parameters())


def test_without_mutual_learning_the_streams_are_strangers(reid_cache: Path) -> None:
    assembly = fsam(reid_cache, settings={"mutual": "none"})
    _, report = first_forward(assembly)
    assert set(report.terms) == set(ALL) - {"fsam/divergence", "fsam/similarity"}


def test_fine_and_coarse_masks_begin_equal_and_the_coarse_one_stays(reid_cache: Path) -> None:
    assembly = fsam(reid_cache, settings={"parser_bn": "eval"})
    coarse = assembly.model.branches["fsam/coarse"]
    before = {name: value.clone() for name, value in coarse.state_dict().items()}
    trainer = Recorder(assembly)
    trainer.fit()
    kept = [step["main:fsam/keep"] for step in trainer.trace]
    assert kept[0] == 0
    assert kept[-1] > 0
    for name, value in coarse.state_dict().items():
        assert torch.equal(value, before[name]), name
    live = assembly.model.branches["fsam/parser"].state_dict()
    assert any(not torch.equal(live[name], before[name]) for name in before)
    assert not [name for name in trainable_state(assembly.model) if "fsam/coarse" in name]


def test_the_gradients_of_similarity_and_identity_are_compared_once(reid_cache: Path) -> None:
    trainer = Recorder(fsam(reid_cache))
    trainer.fit()
    names = ("main:fsam/similarity_gradient_cosine", "main:fsam/similarity_gradient_ratio")
    assert all(name in trainer.trace[0] for name in names)
    assert not any(name in step for name in names for step in trainer.trace[1:])
    assert -1 <= trainer.trace[0][names[0]] <= 1
    double = Recorder(fsam(reid_cache, settings={"si_weight": 1.0}))
    double.train_epoch()
    ratio = double.trace[0][names[1]] / trainer.trace[0][names[1]]
    assert ratio == pytest.approx(2, rel=1e-4)


def test_norms_differ_as_they_should(reid_cache: Path) -> None:
    values: dict[str, Any] = {}
    for norm in ("fro", "sq", "mean"):
        _, report = first_forward(fsam(reid_cache, settings={"si_norm": norm}))
        values[norm] = float(report.terms["fsam/similarity"])
    batch = 8
    assert values["sq"] == pytest.approx(batch**2 * values["mean"], rel=1e-5)
    # Sixteen distances d: their sum is at least the root of the sum of squares.
    assert values["sq"] ** 0.5 <= values["fro"] <= 4 * values["sq"] ** 0.5


def test_a_single_network_weight_moves_with_its_own_rate(reid_cache: Path) -> None:
    plan = fsam(reid_cache, settings={"parser_lr_scale": 0.1}).parts.plan
    assert plan.groups["fsam/parser"].lr_scale == 0.1
    assert plan.groups["fsam/extractor"].lr_scale == 1.0
