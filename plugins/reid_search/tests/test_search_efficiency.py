"""What a deployed embedder costs: counted by hand, measured, printed, kept with its run."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from reid_core import Embedder, TimmEncoder
from reid_core.cli.main import cli
from reid_search import efficiency
from reid_search.comparing.stored import read_run
from reid_search.efficiency import Efficiency, Speed, measure_efficiency, multiply_adds


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder.from_encoder(TimmEncoder("test_resnet", (64, 32)), (64, 32))


def by_hand(embedder: Embedder) -> int:
    """Count the products of every convolution from the sizes of what it reads and writes."""
    counts = []

    def note(layer: nn.Conv2d, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
        rows, columns = layer.kernel_size
        counts.append(made[0].numel() * rows * columns * layer.in_channels // layer.groups)

    layers = [module for module in embedder.modules() if isinstance(module, nn.Conv2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        embedder(torch.rand(1, 3, *embedder.size))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def test_multiply_adds_are_those_counted_by_hand(embedder: Embedder) -> None:
    found = multiply_adds(embedder)
    assert found == by_hand(embedder)
    small = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 1, groups=2))
    # 32 x 16 places: 4 channels of 27 products each, then 6 of 2 each.
    with torch.no_grad(), efficiency.FlopCounterMode(display=False) as counted:
        small(torch.rand(1, 3, 64, 32))
    assert counted.get_total_flops() // 2 == 32 * 16 * (4 * 27 + 6 * 2)


def test_both_runtimes_are_measured_at_both_batches(embedder: Embedder) -> None:
    found = measure_efficiency(embedder, (1, 3), seconds=0.01)
    assert found.parameters == sum(p.numel() for p in embedder.parameters())
    assert (found.dim, found.size, found.left_out) == (embedder.dim, (64, 32), "")
    kinds = [("torch", 1), ("torch", 3), ("onnx", 1), ("onnx", 3)]
    assert [(one.runtime, one.batch) for one in found.speeds] == kinds
    assert all(one.images_per_second > 0 for one in found.speeds)
    if Path("/proc/self/clear_refs").exists():
        assert all(one.peak_mib is None or 0 < one.peak_mib < 500 for one in found.speeds)
    assert json.loads(json.dumps(found.to_json()))["speeds"][0]["batch"] == 1


def test_a_peak_below_what_was_there_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"VmRSS": 2**30, "VmHWM": 2**30 - 4096}
    monkeypatch.setattr("reid_search.efficiency._resident", counted.__getitem__)
    assert efficiency._peak(lambda: None, torch.device("cpu")) is None


def test_the_peak_is_what_the_work_took() -> None:
    found = efficiency._peak(lambda: torch.ones(2**24).sum(), torch.device("cpu"))
    if found is None:
        pytest.skip("the system does not tell")
    assert 60 * 2**20 < found < 100 * 2**20


FOUND = Efficiency(
    1234567,
    89_000_000,
    512,
    (256, 128),
    "CPU",
    2,
    (Speed("torch", 1, 12.34, None),),
    "no ONNX here",
)


def test_the_command_prints_it_and_keeps_it_with_a_run(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficiency, "measure_efficiency", lambda embedder: FOUND)
    embedder.save(tmp_path / "embedder.safetensors")
    call = ["eval", str(tmp_path), "--cost"]
    alone = CliRunner().invoke(cli, call, env={"COLUMNS": "120"})
    assert alone.exit_code == 0, alone.output
    assert "1,234,567 parameters, 89.0 M multiply-adds" in alone.output
    assert "12.3" in alone.output
    assert "no ONNX here" in " ".join(alone.output.split())
    assert not (tmp_path / efficiency.FILE).exists(), "a folder of weights is no run"
    (tmp_path / "run.json").write_text("{}", "utf-8")
    assert CliRunner().invoke(cli, call).exit_code == 0
    kept = json.loads((tmp_path / efficiency.FILE).read_text("utf-8"))
    assert kept == json.loads(json.dumps(FOUND.to_json()))
    file = tmp_path / "cost.json"
    told = CliRunner().invoke(cli, [*call, "--json", str(file)])
    assert told.exit_code == 0, told.output
    assert json.loads(file.read_text("utf-8")) == {"efficiency": kept, "results": []}


def test_the_file_of_results_on_data_holds_it_too_and_is_still_compared(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, reid_cache: Path
) -> None:
    monkeypatch.setenv("REID_CACHE", str(reid_cache))
    monkeypatch.setattr(efficiency, "measure_efficiency", lambda embedder: FOUND)
    model, file = tmp_path / "embedder.safetensors", tmp_path / "results.json"
    embedder.save(model)
    call = ["eval", str(model), "-d", "toy:tiny", "--device", "cpu", "--json", str(file), "--cost"]
    done = CliRunner().invoke(cli, call)
    assert done.exit_code == 0, done.output
    found = json.loads(file.read_text("utf-8"))
    assert found["efficiency"]["parameters"] == FOUND.parameters
    assert read_run(file).results["standard"].content == found["results"][0]


def test_the_table_names_what_is_left_out() -> None:
    assert "no ONNX here" in str(efficiency.efficiency_table(FOUND, "cost").caption)
    table = efficiency.efficiency_table(replace(FOUND, left_out=""), "cost")
    assert table.row_count == 1
    assert "no ONNX" not in str(table.caption)


def test_the_products_of_attention_are_counted() -> None:
    found = Embedder.from_encoder(TimmEncoder("test_vit", (64, 32)), (64, 32))
    blocks = found.encoder.trunk.blocks
    width, hidden = 64, blocks[0].mlp.fc1.out_features
    patches = 4 * 2
    tokens = patches + 1
    linear = tokens * (3 * width * width + width * width + 2 * width * hidden)
    attention = 2 * tokens * tokens * width  # queries by keys, and their shares by values
    stem = patches * width * 3 * 16 * 16
    assert multiply_adds(found) == stem + len(blocks) * (linear + attention)


def test_the_fast_path_of_torch_s_attention_hides_nothing() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    given = torch.rand(1, 5, 8)
    with (
        torch.no_grad(),
        efficiency._plain_attention(),
        efficiency.FlopCounterMode(display=False) as counted,
    ):
        layer(given, given, given, need_weights=False)
    assert counted.get_total_flops() // 2 == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_of_clips_every_frame_is_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Embedder.from_encoder(TimmEncoder("test_resnet", (64, 32)), (64, 32))
    ticks = count()
    monkeypatch.setattr(efficiency, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(efficiency, "find_spec", lambda package: None)

    def measured(clip: int | None) -> Efficiency:
        made.clip = clip
        return measure_efficiency(made, (2,))

    images, clips = measured(None), measured(4)
    # A batch takes two ticks of the clock.
    assert [one.images_per_second for one in images.speeds] == [2 / 2]
    assert [one.images_per_second for one in clips.speeds] == [2 * 4 / 2]
    assert clips.multiply_adds == images.multiply_adds == by_hand(made)
    assert (images.frames, clips.frames) == (None, 4)
    table = efficiency.efficiency_table(clips, "cost")
    assert table.columns[1].header == "batch, clips"
    assert "numbers per clip of 4 images" in str(table.caption)
