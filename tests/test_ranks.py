"""Two gloo ranks stay equal to each other and compute what one process would."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
import torch.distributed as dist

from reid_core.contract.samples import DataSet
from reid_core.loop.state import trainable_state
from reid_core.machine.ranks import (
    gather,
    gather_array,
    rank_0_first,
    synchronise_batch_norms,
)
from reid_core.testing.fixtures import RunReid
from reid_core.testing.forking import failure_of
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import TINY, Recorder, tiny_assembly

PLUGINS = {
    "baseline": (),
    "head": ("head",),
    "stream": ("stream",),
    "adversarial": ("adversarial",),
    "clustering": ("clustering",),
    "pairs": ("pairs",),
    "staged": ("staged",),
    "most": ("adversarial", "head", "pairs", "stream"),
}

SETTINGS: dict[str, Any] = {
    "data": {"batch_size": 8},
    # Plain SGD: Adam divides by tiny moments and makes rounding visible.
    "optim": {"name": "sgd", "lr": 0.01},
    "evaluation": {"every": 1},
}


def trained(plugins: tuple[str, ...], cache: Path, checkpoint: Path) -> dict[str, Any]:
    settings = dict(SETTINGS)
    if "head" in plugins:
        # Dropout draws per rank; without it two ranks and one see the same.
        settings["plugins"] = {"head": {"dropout": 0.0}}
    trainer = Recorder(tiny_assembly(plugins, settings, cache=cache, classes=PROBES), checkpoint)
    initial = {k: v.clone() for k, v in trainable_state(trainer.assembly.model).items()}
    trainer.fit()
    evaluation = trainer.evaluate("final")
    assert evaluation is not None
    evaluator = trainer.assembly.evaluator
    own = evaluator.settings.model_copy(update={"batch_norm": "camera"})
    by_camera = replace(evaluator, settings=own).evaluate(trainer.assembly.embedder())
    return {
        "initial": initial,
        "parameters": {n for n, p in trainer.assembly.model.named_parameters() if p.requires_grad},
        "state": {k: v.clone() for k, v in trainable_state(trainer.assembly.model).items()},
        "features": torch.from_numpy(evaluation.query.features),
        "by_camera": torch.from_numpy(by_camera.query.features),
        "mean_ap": evaluation.results[0].mean_ap,
    }


def distance(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], chosen: set[str]
) -> float:
    names = sorted(chosen & set(ours) & set(theirs))
    gaps = [(ours[n] - theirs[n]).float().square().sum() for n in names]
    return float(torch.stack(gaps).sum().sqrt())


NORMS = [(mean, spread) for mean in (0.0, 3.3, 10.0, 1000.0) for spread in (1.0, 0.1, 0.0)]
"""A channel each: its mean, and how far its values spread."""


CUTS = (4, 3, 0)
"""Rows of eight that rank 0 normalises; routing by pose gives a rank any number of them."""


def normalised(rank: int, ranks: int, cut: int = 8) -> dict[str, torch.Tensor]:
    """Normalise a rank's share of a batch; return output, statistics, gradient, and a penalty's."""
    draw = torch.Generator().manual_seed(0)
    means, spreads = (torch.tensor(v).view(1, -1, 1, 1) for v in zip(*NORMS, strict=True))
    batch = torch.randn(8, len(NORMS), 5, 3, generator=draw) * spreads + means
    weight = torch.randn(8, len(NORMS), 5, 3, generator=draw)
    norm = torch.nn.BatchNorm2d(len(NORMS))
    if ranks > 1:
        synchronise_batch_norms(norm)
    own = slice(0, cut) if rank == 0 else slice(cut, 8)
    rows = batch[own].requires_grad_()
    out = norm(rows)
    (grad,) = torch.autograd.grad((out.sigmoid() * weight[own]).sum(), rows, create_graph=True)
    (penalty,) = torch.autograd.grad(grad[:, :3].square().sum(), rows)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return {
        "out": out.detach(),
        "grad": grad.detach(),
        "penalty": penalty,
        "mean": norm.running_mean,
        "variance": norm.running_var,
    }


def work(rank: int, ranks: int, cache: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["REID_CACHE"] = str(cache)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=ranks)
    try:
        found = {
            name: trained(plugins, cache, folder / f"{name}.pt")
            for name, plugins in PLUGINS.items()
        }
        rows = torch.arange(2.0)[:, None] + 10 * rank
        rows.requires_grad_(True)
        (gather(rows) * torch.arange(4.0)[:, None]).sum().backward()
        found["norms"] = {cut: normalised(rank, ranks, cut) for cut in CUTS}
        found["gather"] = {"rows": gather(rows).detach(), "grad": rows.grad}
        found["array"] = torch.from_numpy(gather_array(rows.detach().numpy()))
        with rank_0_first():
            found["first"] = (folder / "first").exists()
            (folder / "first").touch()
        torch.save(found, folder / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(
    toy_tiny: DataSet, reid_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("ranks")
    failure = failure_of(work, (2, reid_cache, folder), 2)
    assert not failure, failure
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)], folder


@pytest.mark.parametrize("name", list(PLUGINS))
def test_two_ranks_stay_equal(name: str, ranks: tuple[list[dict[str, Any]], Path]) -> None:
    first, second = (rank[name] for rank in ranks[0])
    assert first["mean_ap"] == second["mean_ap"]
    assert torch.equal(first["features"], second["features"])
    assert torch.equal(first["by_camera"], second["by_camera"])
    for entry, value in first["state"].items():
        assert torch.equal(value, second["state"][entry]), entry


@pytest.mark.parametrize("name", list(PLUGINS))
def test_two_ranks_match_one_process(
    name: str,
    ranks: tuple[list[dict[str, Any]], Path],
    reid_cache: Path,
    tmp_path: Path,
) -> None:
    whole = trained(PLUGINS[name], reid_cache, tmp_path / "whole.pt")
    shared = ranks[0][0][name]
    # Rounding grows from step to step; what counts is how it compares to what was learned. Running
    # statistics move much further than parameters and would hide them.
    for chosen in (whole["parameters"], set(whole["state"]) - whole["parameters"]):
        apart = distance(shared["state"], whole["state"], chosen)
        learned = distance(whole["state"], whole["initial"], chosen)
        assert apart < 0.06 * learned, f"{apart} apart after learning {learned}"


def test_rank_0_alone_writes_checkpoints_and_goes_first(
    ranks: tuple[list[dict[str, Any]], Path],
) -> None:
    found, folder = ranks
    assert all((folder / f"{name}.pt").is_file() for name in PLUGINS)
    assert [rank["first"] for rank in found] == [False, True]


@pytest.mark.parametrize("cut", CUTS)
def test_batch_norms_of_two_ranks_are_those_of_one_process(
    cut: int, ranks: tuple[list[dict[str, Any]], Path]
) -> None:
    whole, shares = normalised(0, 1), [rank["norms"][cut] for rank in ranks[0]]
    for name in ("out", "grad", "penalty"):
        found = torch.cat([share[name] for share in shares])
        assert found.isfinite().all(), name
        for channel, (mean, spread) in enumerate(NORMS):
            ours, theirs = found[:, channel], whole[name][:, channel]
            # What float32 keeps of a mean, divided by the spread; of no spread, by sqrt(eps).
            rounding = 2e-7 * mean / max(spread, 1e-5**0.5)
            apart = float((ours - theirs).norm() / theirs.norm().clamp(min=1))
            assert apart < 1e-5 + 10 * rounding, (name, mean, spread, apart)
    for share in shares:
        assert torch.allclose(share["mean"], whole["mean"], rtol=1e-5, atol=1e-6)
        assert torch.allclose(share["variance"], whole["variance"], rtol=1e-4, atol=1e-6)


def test_gathered_rows_carry_the_gradient_of_all_ranks(
    ranks: tuple[list[dict[str, Any]], Path],
) -> None:
    for number, rank in enumerate(ranks[0]):
        assert rank["gather"]["rows"].flatten().tolist() == [0, 1, 10, 11]
        # Two ranks have the same loss, whose gradient to row i is i; both count.
        expected = [0.0, 2.0] if number == 0 else [4.0, 6.0]
        assert rank["gather"]["grad"].flatten().tolist() == expected
        assert rank["array"].flatten().tolist() == [0, 1, 10, 11]


def test_torchrun_runs_the_command_line_and_one_process_resumes_it(
    toy_tiny: DataSet, reid_cache: Path, tmp_path: Path, run_reid: RunReid
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tomli_w.dumps(TINY), encoding="utf-8")
    out = tmp_path / "run"
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "reid_core")
    words = ("run", "--recipe", str(recipe), "--out", str(out))
    done = python("-m", *launch, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder:") == 1, "more than one rank spoke"
    assert len((out / "metrics.jsonl").read_text("utf-8").splitlines()) == 6
    assert {"checkpoint.pt", "embedder.safetensors", "results.json"} <= {
        path.name for path in out.iterdir()
    }
    code, _, said = run_reid("run", "--resume", "--out", out)
    assert code == 0, said
    assert "written by 2 rank(s), this run has 1" in said.replace("\n", " ")


def python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-P", "-W", "ignore", *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=180,
    )
