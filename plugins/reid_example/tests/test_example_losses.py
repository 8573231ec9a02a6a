from math import log

import pytest
import torch

from reid_example.losses import stripe_loss, stripe_of_rows


def test_rows_are_divided_evenly_over_the_stripes():
    assert stripe_of_rows(8, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert stripe_of_rows(2, 4).tolist() == [0, 2]


def test_a_head_that_knows_nothing_pays_the_logarithm_of_the_stripes():
    assert stripe_loss(torch.zeros(2, 4, 8, 3)).item() == pytest.approx(log(4))


def test_the_loss_of_one_cell_by_hand():
    # Two stripes, one column: the upper cell is right with odds 3 to 1, the lower one with 1 to 1.
    logits = torch.tensor([[[[log(3)], [0.0]], [[0.0], [0.0]]]])
    assert stripe_loss(logits).item() == pytest.approx((log(4 / 3) + log(2)) / 2)


def test_every_logit_gets_a_gradient():
    logits = torch.zeros(1, 4, 2, 1, requires_grad=True)
    stripe_loss(logits).backward()
    assert logits.grad is not None
    assert logits.grad.abs().min() > 0
