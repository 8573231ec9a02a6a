"""The memories: how they begin, which of them a step moves, and where to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reid_core import Embedded, Embedding
from reid_unsup_cc.memory import ClusterMemory, hardest_rows, hardness_of
from reid_unsup_cc.settings import HardMetric, MemorySettings

LABELS = np.array([0, 0, 1, -1, 1, 2, 0])


def unit(rows: Any) -> Tensor:
    return F.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=1)


def seen(rows: Tensor) -> Embedded:
    return Embedded(rows, rows, F.normalize(rows, dim=1))


def features() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(len(LABELS), 4)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def memory(draw: Callable[[], np.random.Generator] | None = None, **settings: Any) -> ClusterMemory:
    embedding = Embedding("core/global", "core/pooled")
    wanted = MemorySettings(**settings)
    return ClusterMemory(embedding, 4, wanted, draw or (lambda: np.random.default_rng(0)))


def begun(**settings: Any) -> ClusterMemory:
    made = memory(**settings)
    made.begin(LABELS, features)
    return made


def holding(vectors: Tensor, **settings: Any) -> ClusterMemory:
    """Return memories of some clusters that hold given vectors."""
    made = memory(**settings)
    made.begin(np.arange(len(vectors)), lambda: vectors.numpy())
    return made


def test_similarities_stay_in_full_precision_under_autocast() -> None:
    made = begun()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made.logits(seen(torch.rand(2, 4))).dtype == torch.float32


def test_one_draw_of_a_member_begins_both_memories() -> None:
    made = begun()
    assert torch.equal(made.average, made.hard)
    for cluster, vector in enumerate(made.average):
        members = features()[cluster == LABELS]
        assert (np.abs(members - vector.numpy()).max(1) == 0).any(), "a member, not a mean"


def test_another_epoch_draws_anew_and_the_same_one_alike() -> None:
    epoch = iter((0, 0, 1, 2, 3))
    made = memory(lambda: np.random.default_rng(next(epoch)))
    drawn = []
    for _ in range(5):
        made.begin(LABELS, features)
        drawn.append(made.average)
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(drawn[0], other) for other in drawn[2:])


def test_clusters_can_begin_with_their_mean() -> None:
    found = begun(start="mean").average
    for cluster in range(3):
        mean = features()[cluster == LABELS].mean(0)
        assert found[cluster].numpy() == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_one_averaged_step() -> None:
    start, rows = unit([[1, 0]]), unit([[0, 1], [0, 1]])
    for count in (1, 2):
        plain = holding(start, renormalise=False, mode="average")
        plain.update(seen(rows[:count]), torch.zeros(count, dtype=torch.int64))
        assert plain.average[0].tolist() == pytest.approx([0.3, 0.7])
    unit_length = holding(start, mode="average")
    unit_length.update(seen(rows), torch.tensor([0, 0]))
    assert unit_length.average[0].tolist() == pytest.approx([0.394, 0.919], abs=5e-4)


def test_sequential_steps() -> None:
    made = holding(unit([[1, 0]]), mode="average", average="sequential")
    made.update(seen(unit([[0, 1], [0, 1]])), torch.tensor([0, 0]))
    assert made.average[0].tolist() == pytest.approx([0.120, 0.993], abs=5e-4)


@pytest.mark.parametrize("mode", ["both", "average", "hard"])
@pytest.mark.parametrize("average", ["batch", "sequential"])
def test_clusters_without_rows_stay(mode: str, average: str) -> None:
    made = begun(mode=mode, average=average)
    before = [bank.clone() for bank in made.clusters()]
    made.update(seen(torch.randn(3, 4)), torch.tensor([1, 1, -1]))
    for bank, old in zip(made.clusters(), before, strict=True):
        assert torch.equal(bank[[0, 2]], old[[0, 2]])
        assert not torch.allclose(bank[1], old[1])


@pytest.mark.parametrize("hardest", ["kl", "kl_unit", "cosine"])
def test_momentum_one_changes_nothing(hardest: str) -> None:
    made = begun(momentum=1.0, hardest=hardest)
    before = made.average
    made.update(seen(torch.randn(4, 4)), torch.tensor([0, 1, 2, 0]))
    assert torch.allclose(made.average, before, atol=1e-7)
    assert torch.allclose(made.hard, before, atol=1e-7)


def test_momentum_zero_and_one_image_copy() -> None:
    made = begun(momentum=0.0)
    rows = torch.randn(2, 4)
    made.update(seen(rows), torch.tensor([2, 0]))
    for bank in made.clusters():
        assert torch.allclose(bank[[2, 0]], unit(rows), atol=1e-6)


def test_an_update_never_propagates_back() -> None:
    made = begun()
    rows = torch.randn(3, 4, requires_grad=True)
    made.update(seen(rows), torch.tensor([0, 1, 1]))
    assert not made.average.requires_grad
    assert not made.hard.requires_grad
    assert not list(made.parameters())
    assert not made.state_dict(), "rebuilt at every epoch's start, so in no checkpoint"


def rotated(cosines: list[float]) -> Tensor:
    """Return unit vectors ``B 64`` of known cosines with the first axis, else unlike each other."""
    made = torch.zeros(len(cosines), 64)
    for row, cosine in enumerate(cosines):
        made[row, 0], made[row, row + 1] = cosine, (1 - cosine**2) ** 0.5
    return made


@pytest.mark.parametrize("metric", ["cosine", "kl_unit"])
def test_the_hardest_has_the_smallest_cosine(metric: str) -> None:
    rows = rotated([0.9, 0.2, 0.6, -0.1, 0.8])
    labels = torch.tensor([0, 0, 0, 1, 1])
    towards = rotated([1.0]).expand(5, -1)
    hardness = hardness_of(rows, towards, metric, 0.05)  # type: ignore[arg-type]
    chosen, present = hardest_rows(hardness, labels, 3)
    assert chosen[:2].tolist() == [1, 3]
    assert present.tolist() == [True, True, False]


@pytest.mark.parametrize(("metric", "scale"), [("kl", 0.05), ("kl_unit", 1.0)])
def test_how_hard_rows_are(metric: str, scale: float) -> None:
    """Equation 6: KL(f, mem), the feature's distribution first, over tau or over 1."""
    rows = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0.6, 0.8]], dtype=torch.float64)
    bank = torch.tensor([[0.8, 0.6, 0]] * 3, dtype=torch.float64)
    expected, other = [], []
    for row, vector in zip(rows / scale, bank / scale, strict=True):
        p, q = row.exp() / row.exp().sum(), vector.exp() / vector.exp().sum()
        expected.append(float((p * (p / q).log()).sum()))
        other.append(float((q * (q / p).log()).sum()))
    found = hardness_of(rows, bank, metric, 0.05).tolist()  # type: ignore[arg-type]
    assert found == pytest.approx(expected, rel=1e-6)
    assert found[0] != pytest.approx(other[0], rel=1e-3)


def test_how_often_measures_agree_on_the_hardest() -> None:
    """Of 12 vectors around each of 300 centres, in 512 dimensions."""
    drawn = torch.Generator().manual_seed(0)
    centres = torch.randn(300, 512, generator=drawn)
    rows = unit(centres.repeat_interleave(12, 0) + torch.randn(3600, 512, generator=drawn))
    bank = unit(centres + torch.randn(300, 512, generator=drawn))
    labels = torch.arange(300).repeat_interleave(12)
    chosen = {
        metric: hardest_rows(hardness_of(rows, bank[labels], metric, 0.05), labels, 300)[0]
        for metric in get_args(HardMetric)
    }
    agreed = {m: (rows == chosen["cosine"]).float().mean().item() for m, rows in chosen.items()}
    assert agreed["cosine"] == 1
    assert agreed["kl_unit"] == pytest.approx(0.91, abs=0.05)
    assert agreed["kl"] == pytest.approx(0.38, abs=0.08)


def test_of_equally_hard_rows_the_first_counts_and_nobody_s_rows_do_not() -> None:
    hardness = torch.tensor([9.0, 1.0, 2.0, 2.0])
    chosen, present = hardest_rows(hardness, torch.tensor([-1, 0, 0, 0]), 2)
    assert chosen[0] == 2
    assert present.tolist() == [True, False]


def test_the_hard_memory_moves_towards_the_hardest() -> None:
    made = holding(unit([[1, 0, 0]]), mode="hard", hardest="cosine", renormalise=False)
    made.update(seen(unit([[1, 0, 0], [0, 1, 0], [1, 1, 0]])), torch.tensor([0, 0, 0]))
    assert made.hard[0].tolist() == pytest.approx([0.3, 0.7, 0.0])
    assert made.agreement.tolist() == [1, 1]


def test_a_memory_counts_how_often_its_hardest_has_the_smallest_cosine() -> None:
    drawn = torch.Generator().manual_seed(0)
    centres = unit(torch.randn(40, 512, generator=drawn))
    rows = unit(centres.repeat_interleave(12, 0) + 0.05 * torch.randn(480, 512, generator=drawn))
    labels = torch.arange(40).repeat_interleave(12)
    made = holding(centres, mode="hard", momentum=1.0)
    made.update(seen(rows), labels)
    by = [hardness_of(rows, centres[labels], m, 0.05) for m in ("kl", "cosine")]
    chosen, plain = (hardest_rows(hardness, labels, 40)[0] for hardness in by)
    same = int((chosen == plain).sum())
    assert 0 < same < 40
    assert made.agreement.tolist() == [same, 40]
    made.update(seen(rows[:24]), labels[:24])
    assert made.agreement[1] == 42, "of all updates since the epoch began"


def test_one_vector_per_image() -> None:
    made = begun(mode="instance", momentum=0.0)
    assert len(made.instances) == 6
    [clusters] = made.clusters()
    for cluster in range(3):
        mean = features()[cluster == LABELS].mean(0)
        assert clusters[cluster].numpy() == pytest.approx(mean, abs=1e-6)
    before = made.instances.clone()
    rows = torch.randn(4, 4)
    # The fourth, the fifth and the first image in a cluster, and one in none.
    made.note_rows(torch.tensor([4, 5, 0, 3]))
    made.update(seen(rows), torch.tensor([1, 2, 0, -1]))
    assert torch.equal(made.instances[[1, 2, 5]], before[[1, 2, 5]])
    assert torch.allclose(made.instances[[3, 4, 0]], unit(rows[:3]), atol=1e-6)


@pytest.mark.parametrize(("momentum", "renormalise"), [(0.0, True), (0.3, True), (0.3, False)])
def test_an_image_and_its_outfits_move_its_vector_once(momentum: float, renormalise: bool) -> None:
    made = begun(mode="instance", momentum=momentum, renormalise=renormalise)
    before = made.instances[3].clone()
    rows = torch.randn(5, 4)
    made.note_rows(torch.tensor([4, 4, 4, 4, 4]))
    made.update(seen(rows), torch.ones(5, dtype=torch.int64))
    wanted = momentum * before + (1 - momentum) * unit(rows).mean(0)
    wanted = F.normalize(wanted, dim=0) if renormalise else wanted
    assert torch.allclose(made.instances[3], wanted, atol=1e-6)
    # In whatever order they come: the image's own row weighs as much as each outfit's.
    turned = begun(mode="instance", momentum=momentum, renormalise=renormalise)
    turned.note_rows(torch.tensor([4, 4, 4, 4, 4]))
    turned.update(seen(rows.flip(0)), torch.ones(5, dtype=torch.int64))
    assert torch.allclose(turned.instances, made.instances, atol=1e-6)


def test_two_memories_can_share_a_softmax() -> None:
    rows, labels = torch.randn(3, 4), torch.tensor([0, 2, 1])
    mean, union = (
        begun(combine=combine)(seen(rows), labels).terms["contrast"].item()
        for combine in ("mean", "union")
    )
    # Both memories begin with the same vectors: every positive has a twin among the 2 N.
    assert union == pytest.approx(mean + np.log(2), rel=1e-5)


@pytest.mark.parametrize("mode", ["both", "average", "hard", "instance"])
def test_the_loss_reads_the_mode_s_memories(mode: str) -> None:
    made = begun(mode=mode, temperature=0.5)
    rows = torch.randn(3, 4, requires_grad=True)
    labels = torch.tensor([0, 2, 1])
    found = made(seen(rows), labels)
    logits = torch.stack([unit(rows.detach()) @ bank.T for bank in made.clusters()]).mean(0) / 0.5
    assert found.logits is not None
    assert torch.allclose(found.logits, logits, atol=1e-6)
    assert torch.allclose(made.logits(seen(rows)), logits, atol=1e-6)
    # At a new epoch both memories are equal, so the mean of the losses is that of the mean.
    loss = F.cross_entropy(logits, labels)
    assert found.terms["contrast"].item() == pytest.approx(loss.item(), rel=1e-5)
    found.terms["contrast"].backward()
    assert rows.grad is not None
