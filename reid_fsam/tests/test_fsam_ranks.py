"""Two gloo ranks with poses that one of them does not see: nothing hangs, nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from fsam_runs import fsam

from reid_core.contract.samples import DataSet
from reid_core.loop.state import trainable_state
from reid_core.testing.forking import failure_of
from reid_core.testing.tiny import Recorder

POSES = torch.tensor([0, 0, 2, 2, 0, 2, 0, 0])
"""Of a batch of eight: no row has pose 1, both ranks have rows of the others."""

LATER = torch.tensor([0, 0, 0, 0, 2, 2, 2, 1])
"""Here each pose has rows on one rank alone."""


def trained(cache: Path, checkpoint: Path) -> dict[str, Any]:
    assembly = fsam(
        cache,
        optim={"name": "sgd", "lr": 0.01},
        schedule={"epochs": 1},
        augment={"erasing": 0.0},
    )
    trainer = Recorder(assembly, checkpoint)
    extractor: Any = assembly.model.branches["fsam/extractor"]
    plain, steps = extractor.forward, iter((POSES, LATER))
    share = len(POSES) // assembly.ctx.world_size

    def routed(mask: torch.Tensor, pose: torch.Tensor) -> Any:
        start = assembly.ctx.rank * share
        return plain(mask, next(steps)[start : start + share])

    extractor.forward = routed
    initial = {k: v.clone() for k, v in trainable_state(assembly.model).items()}
    trainer.fit()
    return {
        "initial": initial,
        "state": {k: v.clone() for k, v in trainable_state(assembly.model).items()},
        "trace": trainer.trace,
    }


def work(rank: int, cache: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["REID_CACHE"] = str(cache)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        torch.save(trained(cache, folder / "run.pt"), folder / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(
    toy_tiny: DataSet, reid_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    whole = trained(reid_cache, folder / "whole.pt")  # and the parser, for both ranks
    failure = failure_of(work, (reid_cache, folder), 2)
    assert not failure, failure
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)], whole


Runs = tuple[list[dict[str, Any]], dict[str, Any]]


def test_both_ranks_end_equal(ranks: Runs) -> None:
    first, second = ranks[0]
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name


def test_two_ranks_compute_what_one_process_does(ranks: Runs) -> None:
    (first, _), whole = ranks
    for ours, theirs in zip(first["trace"], whole["trace"], strict=True):
        for name in theirs:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-2, abs=2e-3), name


def test_no_gradient_of_a_block_is_lost(ranks: Runs) -> None:
    (first, _), whole = ranks
    for number in range(3):
        prefix = f"branches.fsam/extractor.branches.{number}."
        names = [n for n in whole["state"] if n.startswith(prefix) and n.endswith("weight")]
        gaps, steps = 0.0, 0.0
        for name in names:
            before, after = whole["initial"][name], whole["state"][name]
            steps += float((after - before).square().sum())
            gaps += float((after - first["state"][name]).square().sum())
        assert steps > 0, "the block has learned, though one rank never had a row for it"
        assert gaps < 0.01 * steps
