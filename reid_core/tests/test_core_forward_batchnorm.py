"""What batch normalisation and dropout do in a pass, and that nothing of it stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.plugin import Plugin
from reid_core.contract.step import Pass, Schedule
from reid_core.loop.batchnorm import pass_mode
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly

ROWS = torch.tensor([[1.0, -2.0], [3.0, 4.0], [5.0, 1.0]])


def network() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("bn", ["update", "batch", "running"])
def test_modes_and_flags_are_restored_even_after_an_error(bn: str) -> None:
    model = network()
    with pytest.raises(ZeroDivisionError), pass_mode(model, bn, dropout=False):  # type: ignore[arg-type]
        raise ZeroDivisionError
    assert all(module.training for module in model.modules())
    assert model[0].track_running_stats


def test_update_moves_the_buffers() -> None:
    model = network()
    before = state(model)
    with pass_mode(model, "update"):
        model(ROWS)
    after = state(model)
    assert after["0.num_batches_tracked"] == before["0.num_batches_tracked"] + 1
    assert torch.allclose(after["0.running_mean"], 0.1 * ROWS.mean(0))


def test_batch_normalises_by_the_batch_and_leaves_the_buffers() -> None:
    model = network()
    before = state(model)
    with pass_mode(model, "batch", dropout=False):
        found = model(ROWS)
    expected = (ROWS - ROWS.mean(0)) / (ROWS.var(0, unbiased=False) + model[0].eps).sqrt()
    assert torch.allclose(found, expected, atol=1e-6)
    assert same(state(model), before)


def test_running_normalises_by_the_buffers_and_leaves_them() -> None:
    model = network()
    model[0].running_mean.copy_(torch.tensor([1.0, 2.0]))
    before = state(model)
    with pass_mode(model, "running", dropout=False):
        found = model(ROWS)
    expected = (ROWS - torch.tensor([1.0, 2.0])) / (1 + model[0].eps) ** 0.5
    assert torch.allclose(found, expected, atol=1e-6)
    assert same(state(model), before)


def test_dropout_is_on_unless_it_is_turned_off() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5))
    ones = torch.ones(4, 64, 2, 2)
    with pass_mode(model, "batch"):
        assert not torch.equal(model(ones), ones)
    with pass_mode(model, "batch", dropout=False):
        assert torch.equal(model(ones), ones)


@pytest.mark.parametrize("bn", ["update", "batch", "running"])
def test_a_module_in_evaluation_mode_stays_as_it_is(bn: str) -> None:
    model = nn.Sequential(network().eval(), network())
    before = state(model[0])
    model.training = True
    with pass_mode(model, bn, dropout=False):  # type: ignore[arg-type]
        assert not model[0][0].training
        assert model[0][0].track_running_stats
        found = model[0](ROWS)
    assert torch.allclose(found, ROWS / (1 + 1e-5) ** 0.5)
    assert same(state(model[0]), before)
    assert not model[0][0].training


def test_an_extra_pass_leaves_no_trace_in_the_statistics(reid_cache: Path) -> None:
    class Ant(Plugin):
        @hookimpl
        def reid_schedule(self) -> Schedule:
            return Schedule(passes=(Pass("ant/again", image="clean"),))

    def buffers(*plugins: str) -> dict[str, torch.Tensor]:
        classes = {**PROBES, "ant": Ant}
        assembly = tiny_assembly(plugins, cache=reid_cache, classes=classes)
        Recorder(assembly).train_epoch()
        return {name: value.clone() for name, value in assembly.model.named_buffers()}

    plain, twice = buffers("stream"), buffers("stream", "ant")
    assert same(plain, twice)
    counts = {n: v.item() for n, v in plain.items() if n.endswith("num_batches_tracked")}
    frozen = {n for n in counts if "stream/frozen" in n}
    assert frozen
    assert {counts[n] for n in frozen} == {0}
    assert {counts[n] for n in counts if n not in frozen} == {2}


def test_a_norm_whose_parameters_all_wait_keeps_its_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.BatchNorm1d(2, affine=False))
    before = state(model)
    with pass_mode(model, "update", still={"0.weight", "0.bias", "1.weight"}):
        model(ROWS)
    counts = [int(norm.num_batches_tracked) for norm in model]
    assert counts == [0, 1, 1]
    assert torch.equal(model[0].running_mean, before["0.running_mean"])
    assert all(module.training for module in model.modules())
