"""Stripes: what is pooled where, and which heights can be cut."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st

from reid_baselines.stripes import StripePool, check_stripes
from reid_core import ConfigError, Tap

MAP = Tap("encoder/map", 2048, 16)


def test_a_stripe_is_pooled_from_its_own_rows() -> None:
    # Two channels; rows 0 to 3 hold their number (and its negative), twice.
    rows = torch.arange(4.0).repeat_interleave(2).view(1, 1, 4, 2)
    feature = torch.cat([rows, -rows], 1)
    top, bottom = StripePool("max", (2,))(feature)
    assert (top.tolist(), bottom.tolist()) == ([[1.0, 0.0]], [[3.0, -2.0]])
    top, bottom = StripePool("avg", (2,))(feature)
    assert (top.tolist(), bottom.tolist()) == ([[0.5, -0.5]], [[2.5, -2.5]])


def test_several_cuts_come_one_after_the_other() -> None:
    feature = torch.randn(2, 5, 24, 8)
    vectors = StripePool("max", (1, 3))(feature)
    assert [tuple(v.shape) for v in vectors] == [(2, 5)] * 4
    assert torch.equal(vectors[0], feature.amax((2, 3)))
    for stripe in range(3):
        part = feature[:, :, 8 * stripe : 8 * stripe + 8]
        assert torch.equal(vectors[1 + stripe], part.amax((2, 3)))


def test_a_pool_is_rebuilt_from_its_specification() -> None:
    spec = StripePool("avg", (1, 2)).deploy_spec()
    assert spec["factory"] == "reid_baselines.stripes:StripePool"
    again = StripePool(**spec["kwargs"])
    assert (again.kind, again.cuts) == ("avg", (1, 2))


def test_the_papers_height_is_divided_by_all_stripes() -> None:
    for cuts in ((6,), (1, 2), (1, 3)):
        check_stripes("pcb", MAP, 384, cuts)  # 24 rows


@given(st.integers(1, 64), st.integers(1, 12))
def test_exactly_the_heights_that_do_not_divide_are_refused(rows: int, stripes: int) -> None:
    if rows % stripes == 0:
        check_stripes("pcb", MAP, 16 * rows, (stripes,))
        assert len(StripePool("max", (stripes,))(torch.zeros(1, 1, rows, 1))) == stripes
    else:
        with pytest.raises(ConfigError, match=f"into {stripes} stripes") as caught:
            check_stripes("pcb", MAP, 16 * rows, (stripes,))
        height = int(str(caught.value).rpartition("=")[2])
        check_stripes("pcb", MAP, height, (stripes,))
        assert 16 * rows < height < 16 * (rows + stripes)


@pytest.mark.parametrize("cuts", [(6,), (7,), (1, 3)])
def test_a_height_that_the_stride_does_not_divide_is_refused(cuts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"its 6\.25 rows \(100 pixels at stride 16\)") as caught:
        check_stripes("pcb", MAP, 100, cuts)
    check_stripes("pcb", MAP, int(str(caught.value).rpartition("=")[2]), cuts)
    check_stripes("pcb", MAP, 100, (1,))


def test_a_refusal_says_what_to_set() -> None:
    with pytest.raises(ConfigError) as caught:
        check_stripes("pcb", MAP, 256, (6,))
    assert str(caught.value) == (
        "plugin 'pcb' cuts 'encoder/map' into 6 stripes of equal height, which its 16 rows (256 "
        "pixels at stride 16) do not allow: set -s data.height=288"
    )
    with pytest.raises(ConfigError, match=r"'mgn' .*'dgnet/vector' is a vector"):
        check_stripes("mgn", Tap("dgnet/vector", 128, 0), 256, (2,))


def test_the_height_that_is_advised_suits_what_else_is_cut() -> None:
    with pytest.raises(ConfigError, match=r"into 2 stripes .*height=192$"):
        check_stripes("mgn", MAP, 136, (1, 2), (1, 2, 3))
    check_stripes("mgn", MAP, 128, (1, 2), (1, 2, 3))  # another map's stripes are not this one's


def test_the_cosine_of_joined_unit_parts_is_the_mean_of_their_cosines() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 6, 256, dtype=torch.float64, generator=generator)
    joined = F.cosine_similarity(
        F.normalize(ours, dim=1).flatten(), F.normalize(theirs, dim=1).flatten(), dim=0
    )
    assert abs(joined - F.cosine_similarity(ours, theirs, dim=1).mean()) < 1e-8
