"""What reid-synthpeople writes in official layouts, reid-benchmarks reads as the same samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core import DataSet, Sample, open_dataset

LOADERS = {"market": "market1501", "prcc": "prcc", "ltcc": "ltcc", "vcclothes": "vcclothes"}
FREE = {"market"}
"""Variants whose official layout says nothing about outfits."""


def samples(dataset: DataSet) -> dict[str, tuple[Sample, ...]]:
    return {
        "train": dataset.train.samples,
        "query": dataset.query,
        "gallery": dataset.gallery,
    }


@pytest.mark.parametrize("variant", LOADERS)
def test_the_loader_of_the_real_set_reads_the_synthetic_one(variant: str, reid_cache: Path) -> None:
    written = open_dataset(f"synthpeople/{variant}:tiny", cache=reid_cache)
    root = reid_cache / written.query[0].path.relative_to(reid_cache).parts[0]
    read = open_dataset(LOADERS[variant], root, cache=reid_cache)
    assert read.notice is not None
    assert "not the official copy" in read.notice, "nobody may take it for the real set"
    for split, expected in samples(written).items():
        found = {sample.path: sample for sample in samples(read)[split]}
        assert set(found) == {sample.path for sample in expected}
        outfits = set()
        for sample in expected:
            other = found[sample.path]
            assert (other.pid, other.camid, other.split) == (
                sample.pid, sample.camid, sample.split
            ), sample.path  # fmt: skip
            outfits.add((sample.clothes, other.clothes))
        if variant in FREE:
            assert {number for _, number in outfits} == {-1}
        else:
            assert len(outfits) == len({a for a, _ in outfits}) == len({b for _, b in outfits})


@pytest.mark.parametrize("variant", LOADERS)
def test_its_folder_says_that_it_is_synthetic(variant: str, reid_cache: Path) -> None:
    written = open_dataset(f"synthpeople/{variant}:tiny", cache=reid_cache)
    root = reid_cache / written.query[0].path.relative_to(reid_cache).parts[0]
    assert "synthetic" in (root / "README.txt").read_text("utf-8").lower()
    assert list(root.glob("*.json")), "the card"
