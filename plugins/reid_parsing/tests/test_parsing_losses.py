import math

import pytest
import torch

from reid_parsing.losses import edge_cross_entropy, label_edges, pixel_cross_entropy


@pytest.mark.parametrize("classes", [2, 3, 5, 8])
def test_knowing_nothing_costs_the_logarithm_of_the_classes(classes):
    labels = torch.randint(0, classes, (2, 6, 4))
    loss = pixel_cross_entropy(torch.zeros(2, classes, 3, 2), labels)
    assert loss.item() == pytest.approx(math.log(classes), abs=1e-6)


def test_edges_lie_on_both_sides_of_a_border():
    labels = torch.zeros(1, 5, 8, dtype=torch.int64)
    labels[:, :, 4:] = 3
    assert label_edges(labels)[0, 2].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert label_edges(torch.ones(1, 4, 4, dtype=torch.int64)).sum() == 0


def test_both_kinds_of_pixels_weigh_the_same():
    labels = torch.zeros(1, 4, 8, dtype=torch.int64)
    labels[:, :, 7:] = 1  # edges are the columns 5, 6 and 7: 12 of 32 pixels
    edges = label_edges(labels)
    assert edges.sum() == 12
    logits = torch.zeros(1, 2, 4, 8)
    logits[:, 1] = edges.float() * math.log(3)  # right with 3/4 on edges, 1/2 elsewhere
    expected = 0.5 * math.log(4 / 3) + 0.5 * math.log(2)
    assert edge_cross_entropy(logits, labels).item() == pytest.approx(expected, abs=1e-6)


def test_without_edges_the_loss_is_zero():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert edge_cross_entropy(torch.randn(1, 2, 2, 2), labels).item() == 0.0
