"""The toy data: complete, exact, repeatable, and whole on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reid_core.contract.fields import COCO_JOINTS, GARMENT_CLASSES, PART_CLASSES, SHARED_FIELDS
from reid_core.contract.samples import DataRequest, DataSet
from reid_core.data.decoding import read_field, read_labels
from reid_core.errors import DataError
from reid_core.images import read_image
from reid_core.testing.toy import making as toy
from reid_core.testing.toy.cameras import ToyCamera
from reid_core.testing.toy.figures import Framing, Pose, View, draw_figure
from reid_core.testing.toy.making import (
    load_toy,
    load_toy_pairs,
    make_toy,
    make_toy_pairs,
)
from reid_core.testing.toy.people import Cell, draw_body, draw_outfit, dress, slice_of

PART = {name: number for number, name in enumerate(PART_CLASSES)}
GARMENT = {name: number for number, name in enumerate(GARMENT_CLASSES)}
FRAMING = Framing((128, 64), 5, 31.5, 115)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return make_toy(tmp_path_factory.mktemp("toy") / "tiny")


def person(seed: int):
    rng = np.random.default_rng(seed)
    body = draw_body(rng)
    return body, *dress(body, draw_outfit(rng))


def test_tiny_is_complete(tiny: DataSet) -> None:
    assert tiny.name == "toy:tiny"
    assert (len(tiny.train), len(tiny.query), len(tiny.gallery)) == (48, 16, 32)
    assert tiny.train.num_identities == 8
    assert set(tiny.train.fields) == set(SHARED_FIELDS) - {"silhouette"} == set(tiny.query_fields)
    assert tiny.train.fields["texture"].layout == "toy-v1"
    assert {s.camid for s in tiny.train.samples} == {0, 1, 2}
    for pid in range(8):
        assert len({s.clothes for s in tiny.train.samples if s.pid == pid}) == 2
    clothes = {(s.pid, s.clothes) for s in tiny.train.samples}
    assert len({c for _, c in clothes}) == len(clothes) == 16
    for sample in (*tiny.train.samples, *tiny.query, *tiny.gallery):
        assert read_image(sample.path).shape == (64, 32, 3)
        assert set(sample.fields) == set(tiny.train.fields)
        values = {n: read_field(value, SHARED_FIELDS[n]) for n, value in sample.fields.items()}
        assert values["parts"].shape == values["garments"].shape == (64, 32)
        assert values["keypoints"].shape == (17, 3)
        assert values["texture"].shape == (3, 32, 32)
        assert values["pose"] in (0, 1, 2)


def test_every_query_can_be_answered(tiny: DataSet) -> None:
    for query in tiny.query:
        others = [g for g in tiny.gallery if g.pid == query.pid and g.camid != query.camid]
        assert {g.clothes == query.clothes for g in others} == {True, False}
    assert {q.camid for q in tiny.query} == {0, 1, 2}
    assert not {s.path.name for s in tiny.query} & {s.path.name for s in tiny.gallery}
    assert min(s.pid for s in tiny.query) > 8  # other persons than in training


def test_label_maps_agree_with_the_drawing() -> None:
    for seed in range(12):
        body, atlas, garments = person(seed)
        view = View(seed % 3)
        pose = Pose(view, 0.3, 0.4, facing=1 - 2 * (seed % 2))
        figure = draw_figure(body, atlas, garments, pose, FRAMING)
        drawn = figure.parts > 0
        assert 0.1 < drawn.mean() < 0.5
        np.testing.assert_array_equal(figure.garments > 0, drawn)
        np.testing.assert_array_equal(figure.shade > 0, drawn)
        assert (figure.colours[:, ~drawn] == 0).all()
        # Colour and garment of every pixel are those of one texel of the atlas.
        texels = {(*c, g) for c, g in zip(atlas.reshape(3, -1).T.tolist(), garments.ravel())}  # noqa: B905
        texels = {(tuple(c[:3]), c[3]) for c in texels}
        pixels = zip(
            figure.colours[:, drawn].T.tolist(), figure.garments[drawn].tolist(), strict=True
        )
        assert {(tuple(c), g) for c, g in pixels} <= texels
        assert set(np.unique(figure.parts)) == set(range(8))
        allowed = {
            "head": {"hat", "hair", "skin", "face"},
            "torso": {"upper", "lower"},
            "upper arm": {"upper"},
            "lower arm": {"upper", "skin"},
            "upper leg": {"lower"},
            "lower leg": {"lower", "skin"},
            "foot": {"shoes"},
        }
        for part, names in allowed.items():
            worn = set(np.unique(figure.garments[figure.parts == PART[part]]))
            assert worn <= {GARMENT[name] for name in names}, part


def test_background_shows_where_nothing_is_drawn() -> None:
    body, atlas, garments = person(1)
    figure = draw_figure(body, atlas, garments, Pose(View.FRONT, 0.2, 0.2), FRAMING)
    camera = ToyCamera(np.random.default_rng(0), (128, 64), strength=0)
    other = draw_figure(*person(2), Pose(View.FRONT, 0.2, 0.2), FRAMING)
    camera._blurred = False
    first, second = (camera.take(f, np.random.default_rng(5)) for f in (figure, other))
    same = (first == second).all(0)
    neither = (figure.parts == 0) & (other.parts == 0)
    assert same[neither].all()
    assert not same[~neither].all()


def test_joints_lie_on_their_parts() -> None:
    wanted = {
        "nose": ("head",),
        "left eye": ("head",),
        "left shoulder": ("upper arm", "torso"),
        "left elbow": ("upper arm", "lower arm"),
        "left wrist": ("lower arm",),
        "left hip": ("upper leg", "torso"),
        "left knee": ("upper leg", "lower leg"),
        "left ankle": ("lower leg", "foot"),
    }
    seen = dict.fromkeys(wanted, 0)
    for seed in range(30):
        body, atlas, garments = person(seed)
        rng = np.random.default_rng(seed)
        pose = Pose(View(seed % 3), rng.uniform(-0.4, 0.4), rng.uniform(-0.6, 0.6))
        figure = draw_figure(body, atlas, garments, pose, FRAMING)
        for name, parts in wanted.items():
            x, y, visible = figure.keypoints[COCO_JOINTS.index(name)].tolist()
            if visible:
                seen[name] += 1
                assert PART_CLASSES[figure.parts[round(y), round(x)]] in parts, name
    assert min(seen.values()) >= 10, seen


def test_left_right_and_the_face_follow_the_view() -> None:
    def joints(view: View, facing: int = 1) -> dict[str, np.ndarray]:
        figure = draw_figure(*person(0), Pose(view, 0.2, 0.3, facing), FRAMING)
        return dict(zip(COCO_JOINTS, figure.keypoints, strict=True))

    front, back = joints(View.FRONT), joints(View.BACK)
    assert front["left shoulder"][0] > front["right shoulder"][0]
    assert back["left shoulder"][0] < back["right shoulder"][0]
    assert [front[n][2] for n in ("nose", "left eye", "right eye")] == [1, 1, 1]
    assert [back[n][2] for n in ("nose", "left eye", "right eye")] == [0, 0, 0]
    rightwards, leftwards = joints(View.SIDE, 1), joints(View.SIDE, -1)
    assert rightwards["nose"][0] > rightwards["right ear"][0]
    assert leftwards["nose"][0] < leftwards["left ear"][0]
    assert (rightwards["right eye"][2], rightwards["left eye"][2]) == (1, 0)
    assert (leftwards["right eye"][2], leftwards["left eye"][2]) == (0, 1)


def test_the_face_is_where_the_nose_is() -> None:
    for seed, facing in ((0, 1), (0, -1), (3, 1), (3, -1)):
        figure = draw_figure(*person(seed), Pose(View.SIDE, 0.2, 0.3, facing), FRAMING)
        face = np.nonzero(figure.garments == GARMENT["face"])[1].mean()
        head = np.nonzero(figure.parts == PART["head"])[1].mean()
        assert (face - head) * facing > 0.5


def test_a_mirrored_side_view_is_the_other_side_view() -> None:
    body, atlas, garments = person(4)
    framing = Framing((128, 64), 5, 31.5, 115)
    right = draw_figure(body, atlas, garments, Pose(View.SIDE, 0.0, 0.0, 1), framing)
    left = draw_figure(body, atlas, garments, Pose(View.SIDE, 0.0, 0.0, -1), framing)
    assert (right.parts[:, ::-1] != left.parts).mean() < 0.01
    assert (right.colours[:, :, ::-1] != left.colours).mean() < 0.02


def test_the_atlas_has_a_cell_for_every_piece() -> None:
    body, atlas, garments = person(0)
    assert atlas.shape == (3, 32, 32)
    assert set(np.unique(garments)) <= set(range(1, 8))
    assert (garments[slice_of(Cell.FOOT)] == GARMENT["shoes"]).all()
    assert (garments[slice_of(Cell.HAND)] == GARMENT["skin"]).all()
    rows, columns = slice_of(Cell.HAND)
    assert (atlas[:, rows, columns] == np.array(body.skin)[:, None, None]).all()


def test_the_same_seed_draws_the_same_files(tiny: DataSet, tmp_path: Path) -> None:
    again = make_toy(tmp_path / "again")
    other = make_toy(tmp_path / "other", seed=1)
    for one, two, three in zip(
        tiny.train.samples, again.train.samples, other.train.samples, strict=True
    ):
        assert one.path.read_bytes() == two.path.read_bytes() != three.path.read_bytes()
        assert one.fields["pose"] == two.fields["pose"]
    labels = [read_labels(d.train.samples[0].fields["parts"]) for d in (tiny, again)]  # type: ignore[arg-type]
    np.testing.assert_array_equal(*labels)


def test_it_is_drawn_once_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "toy"
    root.mkdir()  # an empty folder will do
    made = []
    write = toy._write
    monkeypatch.setattr(toy, "_write", lambda *a: (made.append(1), write(*a)))
    make_toy(root)
    make_toy(root)
    assert len(made) == 1
    (root / "fields" / "parts" / "train" / "0001_c1_o1_00.png").unlink()
    make_toy(root)
    assert len(made) == 2
    make_toy(root, seed=3)
    assert len(made) == 3
    assert json.loads((root / "toy.json").read_text())["seed"] == 3
    monkeypatch.setattr(toy, "_VERSION", 99)
    make_toy(root, seed=3)
    assert len(made) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(toy, "_picture", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_toy(tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []
    assert len(make_toy(tmp_path / "toy").train) == 48


def test_two_processes_may_draw_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = toy._write

    def overtaken(*arguments: object) -> None:
        monkeypatch.setattr(toy, "_write", write)
        make_toy(tmp_path / "toy")  # another process finishes first
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(toy, "_write", overtaken)
    assert len(make_toy(tmp_path / "toy").train) == 48
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_what_is_no_toy_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(DataError, match="is not empty and holds no toy data; name another folder"):
        make_toy(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "important"
    with pytest.raises(
        DataError, match=r"no size 'tini'; did you mean 'tiny'\? \(sizes: tiny, quick\)"
    ):
        make_toy(tmp_path / "x", "tini")


def test_pairs(tmp_path: Path) -> None:
    pairs = make_toy_pairs(tmp_path / "pairs")
    assert (pairs.name, len(pairs), pairs.identities, pairs.num_identities) == (
        "toy/pairs",
        24,
        False,
        0,
    )
    assert pairs.fields["texture"].layout == "toy-v1"
    textures = []
    for sample in pairs.samples:
        assert sample.pid == -1
        assert read_image(sample.path).shape == (64, 32, 3)
        textures.append(read_field(sample.fields["texture"], pairs.fields["texture"]).tobytes())
    assert len(set(textures)) == 24


def test_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_toy(DataRequest("toy", None, "tiny", None, tmp_path))
    assert data.name == "toy:tiny"
    source = load_toy_pairs(DataRequest("toy-pairs", None, "tiny", None, tmp_path))
    assert source.name == "toy-pairs"
    made = {p.name for p in tmp_path.iterdir()}
    assert made == {"toy-tiny-v1", "toy-pairs-tiny-v1"}
    # Runs of another version have folders of their own: nothing is drawn again under a reader.
    with monkeypatch.context() as patch:
        patch.setattr(toy, "_VERSION", 2)
        load_toy(DataRequest("toy", None, "tiny", None, tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == made | {"toy-tiny-v2"}
    assert all(sample.path.is_file() for sample in data.train.samples)
    monkeypatch.setitem(toy._SCALES, "quick", toy._SCALES["tiny"])
    assert load_toy(DataRequest("toy", None, None, None, tmp_path)).name == "toy"
    assert (tmp_path / "toy-quick-v1").is_dir()
