"""Counts of a data set beside the official ones, whoever asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_distributions import FakeSite, fake_site

from reid_core.contract.samples import Counts, DataProvider, DataRequest, DataSet, Sample, Source
from reid_core.data.counts import differences, load_counted, splits_of
from reid_core.data.encoding import image_bytes
from reid_core.testing.fixtures import RunReid

FILES = {
    "train": "1_c1 1_c2 2_c1 2_c2",
    "query": "5_c1 6_c2",
    "gallery": "5_c1 5_c2 6_c1 6_c2",
}


def sample(pid: int, camid: int, split: str = "query") -> Sample:
    return Sample(Path(f"{split}-{pid}-{camid}.png"), pid, camid, split=split)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        yield made


def test_counts_of_a_provider_are_compared(
    run_reid: RunReid, site: FakeSite, tmp_path: Path
) -> None:
    pytest.importorskip("reid_benchmarks")  # reid data check
    source = """
    from reid_core import Counts, DataProvider, Plugin, hookimpl
    from reid_core.data.folder import load_folder

    def official(request):
        images = {"full": 2, "half": 1}[request.variant or "full"]
        return {"query": Counts(images=images, people=2), "gallery": Counts(cameras=2)}

    class Zoo(Plugin):
        @hookimpl
        def reid_datasets(self):
            return [DataProvider("zoo", load_folder, variants=("full", "half"), expected=official)]
    """
    site.add("reid-zoo", {"zoo": "zoo_module:Zoo"}, modules={"zoo_module": source})
    for split, names in FILES.items():
        (tmp_path / "photos" / split).mkdir(parents=True)
        for name in names.split():
            path = tmp_path / "photos" / split / f"{name}.png"
            path.write_bytes(image_bytes(np.zeros((3, 16, 8), np.uint8)))

    def checked(name: str) -> tuple[int, list[str]]:
        words = ("data", "check", name, "--data-root", tmp_path / "photos", "--no-files")
        code, out, err = run_reid(*words)
        return code, [" ".join(line.split()) for line in (out + err).splitlines()]

    code, lines = checked("zoo")
    assert code == 0
    assert "ok counts query: 2 images, 2 people, 2 cameras, as officially" in lines
    assert "ok counts train: 4 images, 2 people, 2 cameras" in lines
    code, lines = checked("zoo/half")
    assert code == 1
    assert (
        "problem counts query: 2 images (official: 1), 2 people, 2 cameras; get the whole copy "
        "again, or compare results with nobody's"
    ) in lines


def test_further_query_images_stand_for_themselves() -> None:
    query = (sample(1, 0), sample(1, 0, "multi-query"), sample(1, 1, "multi-query"))
    splits = splits_of(DataSet("x", Source("main", ()), query))
    assert {name: len(samples) for name, samples in splits.items()} == {
        "train": 0,
        "query": 1,
        "multi-query": 2,
        "gallery": 0,
    }
    other = replace(query[0], split="test")
    assert set(splits_of(DataSet("x", Source("main", ()), (other,)))) == {
        "train",
        "query",
        "gallery",
    }


def test_differences_are_told_split_by_split() -> None:
    wanted = {"query": Counts(10, 5, 2), "gallery": Counts(None, 5, None)}
    found = {"query": Counts(1_000, 5, 1), "gallery": Counts(3, 5, 9)}
    assert differences(wanted, found) == [
        "query 1,000 images (official 10), 1 cameras (official 2)"
    ]
    assert differences(wanted, {**found, "query": Counts(10, 5, 2)}) == []


@pytest.mark.parametrize(
    ("own", "notice"),
    [
        (None, "x: not the official copy: train 0 images (official 3)"),
        ("x: drawn", "x: drawn; not the official copy: train 0 images (official 3)"),
    ],
)
def test_a_part_of_a_set_says_so_on_every_run(own: str | None, notice: str) -> None:
    dataset = DataSet("x", Source("main", ()), notice=own)
    request = DataRequest("x", None, None, None, Path())
    for images, found in ((3, notice), (0, own)):
        official = {"train": Counts(images=images)}
        provider = DataProvider("x", lambda _: dataset, expected=lambda _, o=official: o)
        loaded = load_counted(provider, request)
        assert isinstance(loaded, DataSet)
        assert loaded.notice == found
