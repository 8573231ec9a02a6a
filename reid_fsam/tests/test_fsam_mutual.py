"""What the streams learn beside identity, of drawn-up passes: every setting has its value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from reid_core import ConfigError, LossTerm, PassView, StepView, Update
from reid_fsam.losses import similarity_matrix
from reid_fsam.mutual import MutualLearning
from reid_fsam.settings import FsamSettings

P_A, P_S = (0.7, 0.2, 0.1), (0.2, 0.3, 0.5)
A_OF_S, S_OF_A = 0.6348973, 0.6758059
"""KL(p_a || p_s) and KL(p_s || p_a)."""

BLOCKS = tuple(f"encoder/stage{number}" for number in range(1, 5))
ROWS = 3


def logits(probabilities: tuple[float, ...]) -> Tensor:
    return torch.tensor([probabilities] * ROWS).log().requires_grad_(True)


def shown(seed: int = 0, name: str = "main", **feats: Tensor) -> PassView:
    """Return a pass on which all ran: random maps, the predictions P_A and P_S, drifted masks."""
    random = torch.Generator().manual_seed(seed)
    outputs = {"fsam/pooled": torch.zeros(ROWS, 2)}
    for stream in (BLOCKS, [f"fsam/block{number}" for number in range(1, 5)]):
        for depth, block in enumerate(stream):
            values = torch.randn(ROWS, 3 + depth, 4, 2, generator=random)
            outputs[block] = values.requires_grad_(True)
    outputs["fsam/mask"] = torch.full((ROWS, 7, 4, 2), 1 / 7).requires_grad_(True)
    outputs["fsam/coarse_mask"] = torch.eye(7)[0].view(1, 7, 1, 1).expand(ROWS, 7, 4, 2)
    predictions = {"core/global": logits(P_A), "fsam/shape": logits(P_S)}
    batch: Any = SimpleNamespace(fields={}, pid=torch.tensor([0, 1, 2]))
    return PassView(name, batch, torch.zeros(ROWS, 3, 8, 4), {**outputs, **feats}, {}, predictions)


def terms(*views: PassView, iteration: int = 1, **settings: Any) -> dict[str, LossTerm]:
    ctx: Any = SimpleNamespace(gather=lambda values: values)
    step = StepView(Update("main", ()), 0, iteration, {view.name: view for view in views})
    learning = MutualLearning("fsam", FsamSettings(**settings), BLOCKS, ctx)
    return {term.name: term for term in learning.terms(step)}


def distances(view: PassView) -> Tensor:
    """Return the squared distances of all sixteen pairs of blocks, by the equation's words."""
    sides = []
    for stream in (BLOCKS, [f"fsam/block{number}" for number in range(1, 5)]):
        sides.append([similarity_matrix(view.feats[name].detach().mean((2, 3))) for name in stream])
    return torch.tensor(
        [[(ours - other).square().sum() for other in sides[1]] for ours in sides[0]]
    )


@pytest.mark.parametrize("norm", ["fro", "sq", "mean"])
def test_all_blocks_of_both_streams_are_compared_by_their_means(norm: str) -> None:
    view = shown()
    squares = distances(view)
    assert squares.shape == (4, 4)
    expected = {"fro": squares.sqrt(), "sq": squares, "mean": squares / ROWS**2}[norm].sum()
    found = terms(view, si_norm=norm, si_weight=3.0)["fsam/similarity"]
    assert found.value.item() == pytest.approx(float(expected), rel=1e-5)
    assert found.weight == 3.0


def test_the_mean_over_pairs_is_the_default() -> None:
    found = terms(shown())["fsam/similarity"]
    assert found.value.item() == pytest.approx(float(distances(shown()).sum()) / ROWS**2, rel=1e-5)


def test_masks_drift_from_the_coarse_ones() -> None:
    found = terms(shown(), keep_weight=2.5)["fsam/keep"]
    assert found.value.item() == pytest.approx(6 / 7, rel=1e-6)
    assert found.weight == 2.5


def test_both_directions_of_the_divergence_count() -> None:
    found = terms(shown(), kl_weight=5.0)["fsam/divergence"]
    assert found.value.item() == pytest.approx(A_OF_S + S_OF_A, abs=1e-6)
    assert found.weight == 5.0


def test_one_way_the_appearance_learns_what_shape_predicts() -> None:
    view = shown()
    found = terms(view, mutual="to_appearance")
    assert found["fsam/divergence"].value.item() == pytest.approx(S_OF_A, abs=1e-6)
    (found["fsam/divergence"].value + found["fsam/similarity"].value).backward()
    ours, theirs = view.logits["core/global"].grad, view.logits["fsam/shape"].grad
    # d KL(p_s || p_a) / d z_a = p_a - p_s, and a mean over rows.
    assert ours is not None
    assert ours[0].tolist() == pytest.approx([0.5 / ROWS, -0.1 / ROWS, -0.4 / ROWS], abs=1e-6)
    assert theirs is None
    assert all(view.feats[f"fsam/block{number}"].grad is None for number in range(1, 5))
    assert all(view.feats[name].grad is not None for name in BLOCKS)


@pytest.mark.parametrize(
    ("detach", "expected"), [(False, (0.9325, -0.3081, -0.6244)), (True, (0.5, -0.1, -0.4))]
)
def test_kl_detach_leaves_each_divergence_one_stream(
    detach: bool, expected: tuple[float, ...]
) -> None:
    view = shown()
    terms(view, kl_detach=detach)["fsam/divergence"].value.backward()
    grad = view.logits["core/global"].grad
    assert grad is not None
    assert (ROWS * grad[0]).tolist() == pytest.approx(expected, abs=5e-5)


def test_terms_are_means_over_all_passes() -> None:
    first, second = shown(), shown(1, "generated")
    found = terms(first, second)["fsam/similarity"].value.item()
    single = [terms(view)["fsam/similarity"].value.item() for view in (first, second)]
    assert single[0] != pytest.approx(single[1], rel=1e-2)
    assert found == pytest.approx(sum(single) / 2, rel=1e-5)


def test_without_mutual_learning_masks_alone_are_kept() -> None:
    assert set(terms(shown(), iteration=0, mutual="none")) == {"fsam/keep"}


def test_what_has_weight_0_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*values: Any) -> Tensor:
        raise AssertionError("computed though its weight is 0")

    monkeypatch.setattr("reid_fsam.mutual.dense_similarity", refused)
    kept = terms(shown(), iteration=0, si_weight=0.0)
    assert set(kept) == {"fsam/keep", "fsam/divergence"}
    monkeypatch.setattr("reid_fsam.mutual.mutual_divergence", refused)
    assert set(terms(shown(), si_weight=0.0, kl_weight=0.0)) == {"fsam/keep"}


def test_the_drift_of_masks_is_logged_also_at_weight_0() -> None:
    found = terms(shown(), keep_weight=0.0)["fsam/keep"]
    assert found.value.item() == pytest.approx(6 / 7, rel=1e-6)
    assert not found.value.requires_grad, "for the log, without a graph"
    assert terms(shown())["fsam/keep"].value.requires_grad


def test_gradients_are_compared_at_the_first_step_on_the_last_block() -> None:
    view = shown()
    # Predictions that come from the last block alone: the gradient of cross-entropy has a meaning.
    last = view.feats[BLOCKS[-1]]
    view.logits["core/global"] = 2 * last.mean((2, 3))  # type: ignore[index]
    found = terms(view, iteration=0, si_weight=0.25, kl_weight=0.0)
    similar, classified = (
        torch.autograd.grad(value, last, retain_graph=True)[0].flatten()
        for value in (
            found["fsam/similarity"].value,
            torch.nn.functional.cross_entropy(view.logits["core/global"], view.batch.pid),
        )
    )
    ratio = 0.25 * similar.norm() / classified.norm()
    cosine = torch.cosine_similarity(similar, classified, 0)
    for name, expected in (("ratio", ratio), ("cosine", cosine)):
        term = found[f"fsam/similarity_gradient_{name}"]
        assert term.value.item() == pytest.approx(expected.item(), rel=1e-4)
        assert term.weight == 0
    assert not [name for name in terms(view, kl_weight=0.0) if "gradient" in name]


def test_gradients_that_are_not_there_are_not_compared() -> None:
    still = {BLOCKS[-1]: torch.randn(ROWS, 6, 4, 2)}
    assert set(terms(shown(**still), iteration=0, kl_weight=0.0)) == {
        "fsam/keep",
        "fsam/similarity",
    }
    nobody = shown()
    del nobody.logits["core/global"]  # type: ignore[attr-defined]
    assert len(terms(nobody, iteration=0, kl_weight=0.0)) == 2


def test_a_chosen_embedding_is_compared_and_a_missing_one_refused() -> None:
    view = shown()
    view.logits["pcb/stripe1"] = logits(P_S)  # type: ignore[index]
    assert terms(view)["fsam/divergence"].value.item() > 1, "core/global, where it is"
    found = terms(view, appearance="pcb/stripe1")["fsam/divergence"]
    assert found.value.item() == pytest.approx(0, abs=1e-6)
    del view.logits["core/global"]  # type: ignore[attr-defined]
    view.logits["mgn/b1g"] = logits(P_A)  # type: ignore[index]
    every = terms(view)["fsam/divergence"].value.item()
    assert every == pytest.approx((A_OF_S + S_OF_A) / 2, abs=1e-6), "a mean over the others"
    with pytest.raises(ConfigError, match=r"the appearance stream has none here; set -s fsam.kl_w"):
        terms(view, appearance="core/globl")
