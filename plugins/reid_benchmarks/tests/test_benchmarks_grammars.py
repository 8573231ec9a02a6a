"""Names of files: whole base names, two-digit numbers, and nothing that merely looks alike."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from reid_benchmarks.datasets import (
    celeb,
    cuhk03,
    deepchange,
    duke,
    last,
    ltcc,
    market,
    msmt17,
    partial,
    prcc,
    vcclothes,
)
from reid_benchmarks.datasets.files import Grammar

EXAMPLES = {
    "1501_c6s6_001051_00.JPG": market.PERSON,
    "0001_c1s1_001051_00.jpg": market.PERSON,
    "-1_c6s6_001051_03.jpg": market.ANY_BOX,
    "0000_c6s4_000000_00.jpg": market.DISTRACTOR_BOX,
    "0001_c8_f0046182.jpg": duke.NAME,
    "1_843_2_10.png": cuhk03.NAME,
    "0001_c2_10.png": cuhk03.NEW_NAME,
    "0000/0000_000_15_0303morning_0015_0_ex.jpg 0": msmt17.LINE,
    "0000_c15_0015.jpg": msmt17.REARRANGED,
    "C_cropped_rgb001.jpg": prcc.TRAIN,
    "cropped_rgb001.jpg": prcc.TEST,
    "144_1_c11_011239.png": ltcc.NAME,
    "0001-01-01-01.jpg": vcclothes.NAME,
    "001_001.jpg": partial.PARTIAL_REID,
    "200_05.tif": partial.OCCLUDED_REID,
    "119.jpg": partial.ILIDS,
    "119_1.jpg": partial.ILIDS_COPY,
    "632_19_0.jpg": celeb.NAME,
    "000002_film_0001_02.jpg": last.TRAIN,
    "000002_film.jpg": last.TEST,
    "P1_C17_0305_07_a_1.jpg": deepchange.NAME,
    "P1_C17_0305_07_a_1.jpg,11": deepchange.LINE,
}


@pytest.mark.parametrize(("name", "grammar"), EXAMPLES.items())
def test_the_whole_name_must_fit(name: str, grammar: Grammar) -> None:
    assert grammar.match(name)
    for other in (f"x{name}", f"{name}.part", f"a/{name}", f"{name}\n", "", name.replace(".", "")):
        assert grammar.match(other) is None


@pytest.mark.parametrize(
    "name",
    [
        "0001_c7s1_001051_00.jpg",
        "0001_c1s7_001051_00.jpg",
        "1_c1s1_001051_00.jpg",
        "0000_c1s1_001051_00.jpg",
        "-1_c1s1_001051_00.jpg",
        "\u0660\u0660\u0660\u0661_c1s1_001051_00.jpg",
        "0001_c1s1_001051_00.jpg.jpg",
    ],
)
def test_no_person_of_market1501(name: str) -> None:
    assert market.PERSON.match(name) is None


@pytest.mark.parametrize(
    "name", ["1_001_1_06.png", "1_001_2_05.png", "1_001_1_00.png", "6_001_1_01.png"]
)
def test_a_column_of_cuhk03_belongs_to_one_view(name: str) -> None:
    assert cuhk03.NAME.match(name) is None


@given(
    pid=st.integers(1, 1501),
    camera=st.integers(1, 6),
    sequence=st.integers(1, 6),
    frame=st.integers(0, 999_999),
    box=st.integers(0, 99),
)
def test_names_of_market1501(pid: int, camera: int, sequence: int, frame: int, box: int) -> None:
    for grammar in (market.PERSON, market.ANY_BOX):
        match = grammar.match(f"{pid:04}_c{camera}s{sequence}_{frame:06}_{box:02}.jpg")
        assert match
        found = tuple(int(match[key]) for key in ("pid", "camera", "sequence", "frame", "box"))
        assert found == (pid, camera, sequence, frame, box)


@given(
    pid=st.integers(0, 151),
    outfit=st.integers(1, 14),
    camera=st.integers(1, 12),
    frame=st.integers(0, 999_999),
)
def test_names_of_ltcc(pid: int, outfit: int, camera: int, frame: int) -> None:
    match = ltcc.NAME.match(f"{pid:03}_{outfit}_c{camera}_{frame:06}.png")
    assert match
    assert [int(match[key]) for key in ("pid", "outfit", "camera")] == [pid, outfit, camera]
    assert ltcc.NAME.match(f"{pid:03}_{outfit}_c{camera + 12}_{frame:06}.png") is None


@given(
    pid=st.integers(0, 9999),
    number=st.integers(0, 999),
    camera=st.integers(1, 15),
    day=st.integers(0, 9999),
    daytime=st.sampled_from(("morning", "noon", "afternoon")),
    extra=st.sampled_from(("", "_ex")),
)
def test_lines_of_msmt17(
    pid: int, number: int, camera: int, day: int, daytime: str, extra: str
) -> None:
    name = f"{pid:04}/{pid:04}_{number:03}_{camera:02}_{day:04}{daytime}_0015_{number}{extra}.jpg"
    match = msmt17.LINE.match(f"{name} {pid}")
    assert match
    assert [int(match[key]) for key in ("pid", "camera", "label")] == [pid, camera, pid]
    assert (match["file"], match["daytime"]) == (name, daytime)
    assert (
        msmt17.LINE.match(f"{name.replace(f'_{camera:02}_', f'_{camera + 15:02}_', 1)} {pid}")
        is None
    )


@given(
    pid=st.integers(0, 999_999),
    camera=st.integers(1, 17),
    width=st.integers(1, 2),
    tracklet=st.integers(0, 10**6),
)
def test_lines_of_deepchange(pid: int, camera: int, width: int, tracklet: int) -> None:
    name = f"P{pid}_C{camera:0{width}}_0305_07_a_1.jpg"
    match = deepchange.LINE.match(f"{name},{tracklet}")
    assert match
    assert [int(match[key]) for key in ("pid", "camera", "tracklet")] == [pid, camera, tracklet]
    assert match["file"] == name


@given(pid=st.integers(1, 10_000), number=st.integers(0, 500), last_token=st.integers(0, 9))
def test_the_second_token_of_celeb_reid_is_read_whole(
    pid: int, number: int, last_token: int
) -> None:
    match = celeb.NAME.match(f"{pid}_{number}_{last_token}.jpg")
    assert match
    assert (int(match["pid"]), int(match["number"])) == (pid, number)


@given(outfit=st.text("abcdefgh0123456789", min_size=1), middle=st.text("ab_01", max_size=8))
def test_the_last_token_of_last_is_the_outfit(outfit: str, middle: str) -> None:
    between = f"{middle}_" if middle else ""
    match = last.TRAIN.match(f"000002_{between}{outfit}.jpg")
    assert match
    assert match["outfit"] == outfit
