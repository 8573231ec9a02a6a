"""The second device of the tests: nothing mixes with it, and waiting for it is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reid_core.testing.elsewhere import ELSEWHERE, elsewhere
from reid_core.testing.tiny import Recorder, tiny_assembly


def test_results_elsewhere_are_those_of_the_cpu() -> None:
    def train(device: torch.device) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        net = net.to(device)
        optimiser = torch.optim.Adam(net.parameters(), 0.1)
        images = torch.arange(24.0).view(6, 4).to(device) / 24
        labels = torch.tensor([0, 1, 0, 1, 1, 0], device=device)
        for _ in range(3):
            with torch.autocast(device.type, enabled=False):
                loss = nn.functional.cross_entropy(net(images).float(), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert {p.device for p in net.parameters()} == {device}
        return loss.detach().cpu()

    with elsewhere() as waits:
        found = train(ELSEWHERE)
    assert found.device.type == "cpu"
    assert torch.equal(found, train(torch.device("cpu")))
    assert len(waits) == 1  # the loss, at the end
    assert "test_core_elsewhere.py" in waits[0]


def test_two_devices_do_not_mix() -> None:
    with elsewhere():
        there = torch.ones(3, device=ELSEWHERE)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            torch.ones(3)[torch.tensor([0], device=ELSEWHERE)]
        assert torch.equal((there + torch.tensor(1.0)).cpu(), torch.full((3,), 2.0))
        assert torch.equal(there[torch.tensor([0, 2])].cpu(), torch.ones(2))


def test_there_is_no_array_of_a_tensor_elsewhere() -> None:
    with elsewhere():
        there = torch.ones(3, device=ELSEWHERE)
        with pytest.raises((TypeError, RuntimeError)):
            there.numpy()
        with pytest.raises((TypeError, RuntimeError)):
            np.asarray(there)


@pytest.mark.parametrize(
    ("wait", "operation"),
    [
        (lambda t: t.sum().item(), "_local_scalar_dense"),
        (lambda t: bool((t > 0).any()), "_local_scalar_dense"),
        (lambda t: t.tolist(), "tolist"),
        (lambda t: t.nonzero(), "nonzero"),
        (lambda t: t[t > 0], "index"),
        (lambda t: t.cpu(), "_to_copy"),
        (lambda t: torch.zeros(3).copy_(t), "copy_"),
    ],
    ids=["item", "bool", "tolist", "nonzero", "mask", "cpu", "copy"],
)
def test_waiting_is_noted(wait: object, operation: str) -> None:
    with elsewhere() as waits:
        there = torch.arange(3.0).to(ELSEWHERE)
        assert waits == []
        wait(there)  # type: ignore[operator]
        assert len(waits) == 1
        assert operation in waits[0]


def test_random_numbers_elsewhere_need_a_generator_of_there() -> None:
    with elsewhere():
        here, there = torch.Generator().manual_seed(5), torch.Generator(ELSEWHERE).manual_seed(5)
        drawn = torch.rand(4, generator=there, device=ELSEWHERE)
        assert torch.equal(drawn.cpu(), torch.rand(4, generator=here))
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(4, generator=here, device=ELSEWHERE)


def test_views_and_changes_in_place_reach_the_same_tensor_in_inference_too() -> None:
    with elsewhere(), torch.inference_mode():
        there = torch.zeros(2, 3, device=ELSEWHERE)
        there[0].add_(torch.ones(3).to(there))
        there[1].copy_(torch.full((3,), 2.0))
        assert torch.equal(there.cpu(), torch.tensor([[1.0, 1, 1], [2, 2, 2]]))


def test_what_is_stored_elsewhere_is_read_on_the_cpu(tmp_path: Path) -> None:
    kept = torch.arange(6.0).reshape(2, 3)
    with elsewhere():
        torch.save({"weight": kept.to(ELSEWHERE), "steps": 3}, tmp_path / "checkpoint.pt")
    found = torch.load(tmp_path / "checkpoint.pt", map_location="cpu", weights_only=True)
    assert found["steps"] == 3
    assert found["weight"].device.type == "cpu"
    assert torch.equal(found["weight"], kept)


@pytest.mark.parametrize(
    "write",
    [
        lambda t, i, v: t.__setitem__(i, v),
        lambda t, i, v: t.index_copy_(0, i, v),
        lambda t, i, v: t.scatter(0, i, v),
    ],
    ids=["index_put", "index_copy", "scatter"],
)
def test_different_values_do_not_go_to_one_place(write: object) -> None:
    with elsewhere():
        twice = torch.tensor([1, 2, 1]).to(ELSEWHERE)
        for values in ([1.0, 2, 1], [1.0, 2, 3], [float("nan"), 2, float("nan")]):
            there = torch.zeros(4, device=ELSEWHERE), twice, torch.tensor(values).to(ELSEWHERE)
            if values[2] == 3:
                with pytest.raises(RuntimeError, match="one place"):
                    write(*there)  # type: ignore[operator]
            else:
                write(*there)  # type: ignore[operator]
        # A sum takes all of them.
        torch.zeros(4).to(ELSEWHERE).index_put_((twice,), torch.rand(3).to(ELSEWHERE), True)


def test_last_digits_may_differ() -> None:
    numbers = torch.rand(1000) * 6 - 3
    with elsewhere(ulps=4):
        there = numbers.to(ELSEWHERE)
        assert torch.equal((there * 3 + 1).cpu(), numbers * 3 + 1)
        assert torch.equal(there[:5].cpu(), numbers[:5])
        sines, total = there.sin().cpu(), there.sum().cpu()
        in_place = there.clone().exp_().cpu()
    for found, exact in ((sines, numbers.sin()), (in_place, numbers.exp())):
        off = (found / exact - 1).abs().max() / torch.finfo(torch.float32).eps
        assert 2 < off < 6
    # What cancels out leaves the rounding of the terms behind.
    assert 0 < abs(float(total - numbers.sum())) < 1e-3


def test_a_run_elsewhere_trains_and_evaluates_as_on_the_cpu(reid_cache: Path) -> None:
    def run(device: torch.device) -> tuple[list[dict[str, float]], list[dict[str, object]]]:
        trainer = Recorder(tiny_assembly((), {"engine": {"device": device.type}}, cache=reid_cache))
        trainer.fit()
        results = trainer.evaluate("end")
        assert results is not None
        return trainer.trace, [result.to_json() for result in results.results]

    with elsewhere():
        there = run(ELSEWHERE)
    assert there == run(torch.device("cpu"))
