import math

import pytest
import torch

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD
from reid_parsing.augmentation import Placing, sampling_grid, warped


def test_without_scale_and_rotation_nothing_moves():
    images, labels = torch.randn(2, 3, 8, 4), torch.randint(0, 8, (2, 8, 4))
    moved, found = warped(images, labels, (8, 4), (1.0, 1.0), 0.0)
    torch.testing.assert_close(moved, images)
    assert torch.equal(found, labels)


def test_image_and_labels_move_together_and_no_class_is_invented():
    torch.manual_seed(1)
    labels = torch.randint(0, 2, (16, 4, 2)).repeat_interleave(16, 1).repeat_interleave(16, 2) * 7
    images = labels[:, None].float().expand(-1, 3, -1, -1).contiguous()
    moved, found = warped(images, labels, (64, 64), (0.75, 1.25), 10.0)
    assert moved.shape == (16, 3, 64, 64)
    assert found.dtype == torch.int64
    assert set(found.unique().tolist()) == {0, 7}
    black = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    # Far from borders, where bilinear and nearest agree, the image shows the label.
    plain = ((moved[:, 0] - 0).abs() < 1e-3) | ((moved[:, 0] - 7).abs() < 1e-3)
    assert torch.equal((moved[:, 0] > 3.5)[plain], (found > 3)[plain])
    assert plain.float().mean() > 0.3
    # What is uncovered is black and background.
    outside = (moved - black[:, None, None]).abs().amax(1) < 1e-4
    assert 0.2 < outside.float().mean() < 0.7
    assert found[outside].max() == 0


def test_the_row_lies_anywhere_within_the_canvas():
    torch.manual_seed(0)
    labels = torch.ones(400, 4, 2, dtype=torch.uint8)
    _, found = warped(torch.zeros(400, 3, 4, 2), labels, (8, 8), (1.0, 1.0), 0.0)
    covered = found.float().mean((1, 2)) * 64
    assert covered.min() >= 4  # never cut, up to rounding
    rows = found.amax(2).float().argmax(1)
    assert set(rows.tolist()) == {0, 1, 2, 3, 4}


def test_a_larger_row_is_cut():
    torch.manual_seed(0)
    labels = torch.arange(16, dtype=torch.uint8)[None, :, None].expand(200, 16, 8)
    _, found = warped(torch.zeros(200, 3, 16, 8), labels, (8, 8), (1.0, 1.0), 0.0)
    starts = found[:, 0, 4]
    assert starts.min() == 0
    assert starts.max() == 8
    assert torch.equal(found[:, 7, 4] - starts, torch.full((200,), 7))


def test_factors_and_angles_are_drawn_from_their_whole_range():
    torch.manual_seed(0)
    found = Placing.drawn(torch.zeros(2000, 3, 8, 4), (8, 4), (0.75, 1.25), 10.0)
    for value, least, most in (
        (found.factor, 0.75, 1.25),
        (torch.rad2deg(found.angle), -10.0, 10.0),
    ):
        assert least <= value.min() < least + 0.01 * (most - least)
        assert most - 0.01 * (most - least) < value.max() <= most
        assert value.mean() == pytest.approx((least + most) / 2, abs=0.02 * (most - least))


def test_a_quarter_turn_brings_the_top_to_the_side():
    zero = torch.zeros(1)
    grid = sampling_grid((4, 4), (4, 4), torch.ones(1), torch.tensor([math.pi / 2]), zero, zero)
    # The canvas' upper left pixel shows what was lower left or upper right, the middle stays.
    x, y = grid[0, 0, 0].tolist()
    assert (round(x, 4), round(y, 4)) == (-0.75, 0.75)
    torch.testing.assert_close(grid.mean((1, 2)), torch.zeros(1, 2))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_scaling_is_about_the_middle(factor):
    zero = torch.zeros(1)
    grid = sampling_grid((8, 4), (8, 4), torch.tensor([factor]), zero, zero, zero)
    assert grid[0, 0, 0].tolist() == pytest.approx([-0.75 / factor, -0.875 / factor])
