"""The shape extractor: parameters, routing by pose, and what stays idle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_core import ConfigError, CrossEntropyTriplet, Embedding
from reid_core.config import IdentitySection
from reid_core.model.encoder import TimmEncoder
from reid_fsam.extractor import ShapeExtractor
from reid_fsam.masks import as_picture
from reid_fsam.settings import Routing

SIZE = (64, 32)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def resnet50() -> ShapeExtractor:
    return ShapeExtractor("resnet50", SIZE, 7)


def test_a_resnet50_has_the_paper_s_blocks(resnet50: ShapeExtractor) -> None:
    counts = [parameters(block) for block in (*resnet50.shared, *resnet50.branches)]
    assert counts == [215_808, 1_219_584, 7_098_368, *[14_964_736] * 3]
    assert parameters(resnet50) == 53_450_048


@pytest.mark.parametrize(
    ("channels", "three", "one"),
    [
        (1, 53_431_232, 23_501_760),
        (3, 53_437_504, 23_508_032),
        (6, 53_446_912, 23_517_440),
        (7, 53_450_048, 23_520_576),
    ],
)
def test_channels_change_the_first_layer_alone(
    resnet50: ShapeExtractor, channels: int, three: int, one: int
) -> None:
    from reid_fsam.extractor import _replace_first

    _replace_first(resnet50.stem, channels)
    try:
        assert parameters(resnet50) == three
        assert three - 2 * parameters(resnet50.branches[0]) == one
    finally:
        _replace_first(resnet50.stem, 7)


def test_blocks_have_the_paper_s_shapes(resnet50: ShapeExtractor) -> None:
    with torch.inference_mode():
        *maps, pooled = resnet50.eval()(torch.rand(1, 7, 256, 128), torch.tensor([1]))
    shapes = [tuple(m.shape[1:]) for m in maps]
    assert shapes == [(256, 64, 32), (512, 32, 16), (1024, 16, 8), (2048, 16, 8)]
    assert torch.equal(pooled, maps[-1].mean((2, 3)))


@pytest.mark.parametrize(
    ("people", "expected"), [(150, 307_200), (77, 157_696), (256, 524_288), (751, 1_538_048)]
)
def test_the_core_s_classifier_has_no_bias(people: int, expected: int) -> None:
    shape = Embedding("fsam/shape", reads="fsam/pooled")
    assert parameters(CrossEntropyTriplet(shape, 2048, people, IdentitySection())) == expected


def extractor(routing: Routing = "pose", **options: Any) -> ShapeExtractor:
    torch.manual_seed(0)
    return ShapeExtractor("test_resnet", SIZE, 5, routing=routing, **options)


def masks(count: int) -> Tensor:
    return torch.rand(count, 5, *SIZE, generator=torch.Generator().manual_seed(2))


def test_every_row_goes_through_the_block_of_its_pose() -> None:
    module = extractor().eval()
    for number, branch in enumerate(module.branches):
        for parameter in branch.parameters():
            parameter.data.mul_(1 + 0.1 * number)
    poses = torch.tensor([2, 0, 1, 0, 2])
    rows = masks(5)
    with torch.inference_mode():
        together = module(rows, poses)[-1]
        single = [module(rows[i : i + 1], poses[i : i + 1])[-1] for i in range(5)]
        moved = module(rows, (poses + 1) % 3)[-1]
    assert torch.allclose(together, torch.cat(single), atol=1e-5)
    assert not torch.allclose(together, moved, atol=1e-3)


def test_a_block_without_rows_is_skipped() -> None:
    module = extractor().train()
    module(masks(6), torch.tensor([0, 0, 2, 2, 2, 0]))[-1].sum().backward()
    reached = [all(p.grad is not None for p in b.parameters()) for b in module.branches]
    assert reached == [True, False, True]
    assert all(p.grad is None for p in module.branches[1].parameters())
    counted = [
        int(m.num_batches_tracked)
        for b in module.branches
        for m in list(b.modules())
        if isinstance(m, nn.BatchNorm2d)
    ]
    assert set(counted) == {0, 1}, "batch statistics of a block are those of its own rows"


def test_where_another_rank_has_rows_a_block_runs_on_none() -> None:
    module = extractor(gather=lambda counts: torch.cat([counts, torch.tensor([[0, 4, 0]])]))
    module.train()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()  # across ranks it divides by the rows of all
    out = module(masks(3), torch.tensor([0, 0, 2]))[-1]
    assert out.shape[0] == 3
    out.sum().backward()
    idle = [p.grad for p in module.branches[1].parameters()]
    assert all(g is not None and not g.abs().sum() for g in idle), "takes part, adds nothing"


def test_a_mask_for_a_picture_is_normalised_like_one() -> None:
    found = []
    for picture in (False, True):
        torch.manual_seed(0)
        made = ShapeExtractor("test_resnet", SIZE, 3, routing="single", picture=picture)
        found.append(made.eval())
    plain, picture_of = found
    mask = masks(2)[:, :1]
    with torch.inference_mode():
        assert torch.equal(picture_of(mask)[-1], plain(as_picture(mask))[-1])


def test_the_sum_of_three_blocks_needs_no_pose() -> None:
    module, one = extractor("sum").eval(), extractor("single").eval()
    with torch.inference_mode():
        summed, single = module(masks(2)), one(masks(2))
    assert len(module.branches) == 3
    assert len(one.branches) == 1
    assert torch.allclose(summed[-1], 3 * single[-1], rtol=1e-4), "they begin as copies"


def test_what_is_no_resnet_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'test_efficientnet' has no four blocks.*resnet50"):
        ShapeExtractor("test_efficientnet", SIZE, 3)
    # Its last map has no stride to remove; that is not what is wrong with it here.
    with pytest.raises(ConfigError, match=r"'test_vit' has no four blocks.*choose resnet50"):
        ShapeExtractor("test_vit", (64, 32), 3)


@pytest.mark.parametrize("channels", [3, 5])
def test_weights_of_a_file_are_in_all_blocks(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "weights.pth"
    given = TimmEncoder("test_resnet", SIZE).trunk.state_dict()
    torch.save(given, path)
    module = ShapeExtractor("test_resnet", SIZE, channels, pretrained=path)
    blocks = [*module.shared, module.branches[0]]
    for number, block in enumerate(blocks, start=1):
        for name, value in block.state_dict().items():
            assert torch.equal(value, given[f"layer{number}.{name}"]), name
    for copy in module.branches[1:]:
        assert all(
            torch.equal(value, blocks[-1].state_dict()[name])
            for name, value in copy.state_dict().items()
        )
    first = next(m for m in module.stem.modules() if isinstance(m, nn.Conv2d)).weight
    assert torch.equal(first, given["conv1.0.weight"]) == (channels == 3)


@pytest.mark.parametrize(("last_stride", "rows"), [(1, 4), (2, 2)])
def test_the_last_stride_is_the_run_s(last_stride: int, rows: int) -> None:
    module = extractor("single", last_stride=last_stride).eval()
    with torch.inference_mode():
        assert module(masks(1))[3].shape[2] == rows


def test_a_map_is_pooled_by_its_mean() -> None:
    module = extractor("single").eval()
    with torch.inference_mode():
        *_, last, pooled = module(masks(2))
    assert torch.allclose(pooled, last.flatten(2).mean(2))
    assert not torch.allclose(pooled, last.amax((2, 3)))


def test_there_are_as_many_blocks_as_poses() -> None:
    assert len(extractor(copies=4).branches) == 4
