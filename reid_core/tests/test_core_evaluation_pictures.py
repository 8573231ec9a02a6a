"""Pictures of ranked lists: frames, captions, and which queries they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageFont

from reid_core.contract.samples import Sample
from reid_core.errors import DataError
from reid_core.evaluation.pictures import MATCH, MISS, QUERY, choose_queries, ranked_list_picture
from reid_retrieval.results import QueryScores
from reid_retrieval.retrieval import RankedQuery

SIZE = (20, 40)
FILLS = ["#102030", "#405060", "#708090", "#a0b0c0"]


@pytest.fixture
def people(tmp_path: Path) -> list[Sample]:
    """Four images in plain colours, each of another size."""
    samples = []
    for number, fill in enumerate(FILLS):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (30 + number, 50 + number), fill).save(path)
        samples.append(Sample(path, pid=number, camid=number))
    return samples


def line(query: int, gallery: list[int], matches: list[bool]) -> RankedQuery:
    return RankedQuery(query, np.array(gallery), np.array(matches), np.zeros(len(gallery)))


def colour(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def test_frames_and_images_stand_where_they_belong(people: list[Sample], tmp_path: Path) -> None:
    lines = [line(0, [1, 2], [True, False]), line(3, [2], [True])]
    path = tmp_path / "made" / "ranked.png"
    drawn = ranked_list_picture(people, people, lines, path, title="Ranked lists", size=SIZE)
    assert drawn == path
    with Image.open(path) as image:
        # A cell is the image, a frame of 4 around it, a caption of 14 and a gap of 6.
        wide, high = SIZE[0] + 14, SIZE[1] + 28
        assert image.size == (3 * wide + 12, 22 + 2 * high + 6)
        lefts = [6, 12 + wide, 12 + 2 * wide]
        for row, (frames, shown) in enumerate(
            (((QUERY, MATCH, MISS), (0, 1, 2)), ((QUERY, MATCH), (3, 2)))
        ):
            top = 22 + row * high
            for left, frame, number in zip(lefts, frames, shown, strict=False):
                middle = (left + 4 + SIZE[0] // 2, top + 4 + SIZE[1] // 2)
                assert colour(image, left + 1, top + 20) == ImageColor.getrgb(frame)
                assert colour(image, left + SIZE[0] + 6, top + 20) == ImageColor.getrgb(frame)
                assert colour(image, *middle) == ImageColor.getrgb(FILLS[number])
        # The second line is shorter: nothing stands in its last place.
        assert colour(image, lefts[2] + 10, 22 + high + 20) == (255, 255, 255)
        captions = np.asarray(image.convert("L"))[22 + SIZE[1] + 8 : 22 + high]
        for left in lefts:
            assert captions[:, left : left + wide - 6].min() < 128
        assert np.asarray(image.convert("L"))[:20].min() < 128


def test_a_picture_never_changes(people: list[Sample], tmp_path: Path) -> None:
    lines = [line(0, [1, 2], [True, False])]
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        ranked_list_picture(people, people, lines, path, title="Same", size=SIZE)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_picture_needs_no_font_file(
    people: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bitmap = ImageFont.load_default_imagefont()
    monkeypatch.setattr(ImageFont, "load_default", lambda: bitmap)
    path = tmp_path / "bitmap.png"
    title = "Ranglisten für 行人 – mAP 50 %, and a title much longer than the lists below"
    ranked_list_picture(people, people, [line(0, [1], [True])], path, title=title, size=SIZE)
    with Image.open(path) as image:
        assert image.width > 2 * (SIZE[0] + 14) + 12
        assert np.asarray(image.convert("L"))[:20].min() < 128


def test_broken_images_are_named(people: list[Sample], tmp_path: Path) -> None:
    people[1].path.write_bytes(b"no image")
    target = tmp_path / "x.png"
    with pytest.raises(DataError, match=r"1\.png: cannot be read as an image"):
        ranked_list_picture(people, people, [line(0, [1], [True])], target, title="x")
    people[2].path.unlink()
    with pytest.raises(DataError, match=r"2\.png: no such file"):
        ranked_list_picture(people, people, [line(0, [2], [True])], target, title="x")
    with pytest.raises(DataError, match="no query was chosen"):
        ranked_list_picture(people, people, [], target, title="x")


def scores(average: list[float]) -> QueryScores:
    values = np.array(average)
    return QueryScores(np.arange(10, 10 + len(values)), values, values, values, values)


def test_worst_median_and_best_queries_are_chosen() -> None:
    average = [0.5, 0.1, 0.9, 0.3, 0.7]
    assert choose_queries(scores(average), 3) == [11, 10, 12]
    assert choose_queries(scores(average), 2) == [11, 12]
    assert choose_queries(scores(average), 9) == [11, 13, 10, 14, 12]
    assert choose_queries(scores([0.5, 0.5, 0.5]), 2) == [10, 12]
    assert choose_queries(scores([0.5]), 3) == [10]
