"""The network of parts, garments and joints: its losses, its file, its labelers, its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from reid_core.contract.samples import Sample
from reid_core.errors import CheckpointError, ConfigError
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly
from reid_parsing.augmentation import Placing
from reid_parsing.body import BODY_CHANNELS, FORMAT, load_body
from reid_parsing.commands import parsing
from reid_parsing.joints import correct_joints, found_joints, joint_cross_entropy, mirrored_joints
from reid_parsing.labelling import joints_told, measure_joints
from reid_parsing.networks.light import LightParser
from reid_parsing.plugin import Parsing, ParsingSettings

test_body_conforms = conformance_suite("body")
test_joints_conforms = conformance_suite("joints")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a body network as it is shipped, and ship it."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path / "shipped" / "body.safetensors"
    path.parent.mkdir()
    state = LightParser(33).state_dict()
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    path.with_suffix(".json").write_text(json.dumps({"format": FORMAT, "size": [64, 32]}))
    monkeypatch.setattr("reid_parsing.plugin.shipped_weights", lambda: {"people/body": path})
    return path


def test_joints_are_found_where_they_were_put() -> None:
    truth = torch.tensor([[[3.0, 9.0, 1.0], [20.0, 50.0, 0.5], [0.0, 0.0, 0.0]]])
    logits = torch.full((1, 3, 32, 16), -20.0)
    logits[0, 0, 4, 1] = logits[0, 1, 25, 10] = 20
    assert joint_cross_entropy(logits, truth, (64, 32)) < 1e-3
    assert joint_cross_entropy(logits.flip(3), truth, (64, 32)) > 20
    found = found_joints(logits, (64, 32))
    assert found[0, :2, :2].tolist() == [[2.5, 8.5], [20.5, 50.5]]
    assert found[0, 0, 2] == pytest.approx(1, abs=1e-4)
    # An image where no joint has a place teaches nothing, and divides by nothing.
    assert joint_cross_entropy(logits, truth * 0, (64, 32)) == 0


def test_a_joint_lies_in_the_place_that_holds_its_pixel_s_middle() -> None:
    logits = torch.zeros(1, 1, 1, 2)
    logits[..., 1] = 5.0
    # 1.5 is the border of four pixels' middle: the right half of two places begins there.
    right = joint_cross_entropy(logits, torch.tensor([[[1.5, 0.0, 1.0]]]), (2, 4))
    left = joint_cross_entropy(logits, torch.tensor([[[1.4, 0.0, 1.0]]]), (2, 4))
    assert float(right) < 0.01 < 5.0 < float(left)


def test_a_hidden_joint_counts_half() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 1, 0, 0] = 5
    seen = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    hidden = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]]])
    first, second = (joint_cross_entropy(logits[:, i : i + 1], seen[:, :1], (4, 4)) for i in (0, 1))
    assert joint_cross_entropy(logits, seen, (4, 4)) == pytest.approx(float(first + second) / 2)
    wanted = float(first + second / 2) / 1.5
    assert joint_cross_entropy(logits, hidden, (4, 4)) == pytest.approx(wanted)


def test_the_mirror_image_s_joints_trade_sides() -> None:
    logits = torch.zeros(1, 17, 2, 4)
    logits[0, 5, 0, 3] = logits[0, 0, 1, 0] = 1
    found = mirrored_joints(logits)
    assert found[0, 6, 0, 0] == 1
    assert found[0, 0, 1, 3] == 1
    assert found.sum() == 2


def test_points_move_with_the_image() -> None:
    torch.manual_seed(3)
    images = torch.zeros(6, 3, 64, 32)
    points = torch.tensor([[[20.0, 30.0, 1.0], [8.0, 44.0, 0.5]]]).repeat(6, 1, 1)
    images[:, 0, 29:32, 19:22], images[:, 1, 43:46, 7:10] = 9, 9
    placing = Placing.drawn(images, (64, 32), (0.8, 1.2), 20.0)
    moved, found = placing.images(images), placing.points(points)
    assert not torch.equal(found, points)
    checked = 0
    for row in range(6):
        for channel in range(2):
            x, y, seen = found[row, channel].tolist()
            if seen and 2 < x < 29 and 2 < y < 61:
                assert moved[row, channel, round(y), round(x)] > 5
                assert seen == points[row, channel, 2]
                checked += 1
    assert checked > 6
    away = Placing((64, 32), (64, 32), *(torch.tensor([v]) for v in (1.0, 0.0, 60.0, 0.0)))
    assert away.points(points[:1])[0, :, 2].tolist() == [0, 0]


def test_correct_joints_are_near_for_the_figure() -> None:
    truth = np.array([[0, 0, 1], [0, 100, 1], [50, 50, 0]], np.float32)
    found = np.array([[9, 0, 1], [0, 111, 1], [50, 50, 1]], np.float32)
    assert correct_joints(found, truth).tolist() == [True, False]
    assert correct_joints(found, truth * 0).size == 0


def test_correct_joints_are_near_for_the_torso() -> None:
    truth = np.zeros((17, 3), np.float32)
    truth[:, 2] = 1
    # From (10, 10), the shoulders' middle, to (10, 110), that of the hips: 100 pixels.
    truth[5, :2], truth[6, :2] = (30, 5), (-10, 15)
    truth[11, :2], truth[12, :2] = (20, 110), (0, 110)
    truth[9, :2], truth[10, :2] = (50, 60), (-30, 60)
    found = truth.copy()
    found[9, 0] += 19
    found[10, 1] += 21
    near = correct_joints(found, truth, 0.2, "torso")
    assert near.sum() == 16
    assert not near[10]
    truth[12, 2] = 0
    assert correct_joints(found, truth, 0.2, "torso").size == 0


def test_what_no_picture_can_be_measured_by_is_left_out(tmp_path: Path) -> None:
    truth = np.zeros((17, 3), np.float32)
    truth[:2] = [[5, 5, 1], [25, 5, 1]]
    np.save(tmp_path / "a.npy", truth)
    sample = Sample(tmp_path / "a.png", 0, 0, "query", fields={"keypoints": tmp_path / "a.npy"})
    near = measure_joints([truth], [sample])
    assert near == {"PCK@0.1": 1.0}
    told = (
        "PCK@0.1 100.0, no PCK@0.2 torso (no picture has a place for both shoulders and both hips)"
    )
    assert joints_told(near) == told
    np.save(tmp_path / "a.npy", 0 * truth)
    assert joints_told(measure_joints([truth], [sample])).startswith("no PCK@0.1 (no joint has a")


def test_it_trains_on_all_three_fields(reid_cache: Path) -> None:
    assembly = tiny_assembly(("body",), {"model": {"neck": "none"}}, cache=reid_cache)
    from reid_core.loop.trainer import Trainer

    trainer = Trainer(assembly, None)
    before = {k: v.clone() for k, v in assembly.model.branches["body/network"].state_dict().items()}
    trainer.train_epoch()
    after = assembly.model.branches["body/network"].state_dict()
    assert not torch.equal(before["network.classifier.weight"], after["network.classifier.weight"])


def test_shipped_weights_are_the_default_and_make_three_fields(shipped: Path) -> None:
    plugin = Parsing("parsing", ParsingSettings())
    assert plugin.weights == shipped
    fields = [labeler.spec.name for labeler in plugin.reid_pseudo_labels(None)]  # type: ignore[arg-type]
    assert fields == ["parts", "garments", "keypoints"]
    body, whole = plugin.body(), load_body(shipped).network
    image = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        logits = whole(image)
        for field, (first, last) in BODY_CHANNELS.items():
            assert torch.equal(body.alone(field)(image), logits[:, first:last])
    plugin.takes_shipped = False
    assert plugin.weights is None, "`reid parsing train` trains"
    # Whoever says how to train a parser gets one that is trained.
    assert Parsing("parsing", ParsingSettings(epochs=3)).weights is None
    named = Parsing("parsing", ParsingSettings(weights=Path("people/body"), epochs=3))
    assert named.weights == shipped


def test_without_shipped_weights_no_joints_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_parsing.plugin.shipped_weights", dict)
    plugin = Parsing("parsing", ParsingSettings())
    assert plugin.weights is None
    with pytest.raises(ConfigError, match=r"install reid-weights and set -s parsing\.weights"):
        plugin.body()


def test_other_files_are_no_body_network(tmp_path: Path, shipped: Path) -> None:
    from safetensors.torch import save_file

    save_file({"classifier.weight": torch.ones(2)}, shipped)
    with pytest.raises(CheckpointError, match="do not fit a body network"):
        load_body(shipped)
    with pytest.raises(CheckpointError, match="holds no body network"):
        load_body(tmp_path / "nowhere.safetensors")


def test_a_folder_of_pictures_gets_maps_and_joints(tmp_path: Path, shipped: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    folder.mkdir()
    (folder / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a.jpg": (100, 40), "b/c.png": (64, 32)}.items():
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(folder / name)
    done = CliRunner().invoke(parsing, ["pictures", str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "keypoints of 2 pictures" in done.output
    for file, size in (("parts/a.png", (40, 100)), ("garments/b/c.png", (32, 64))):
        with Image.open(out / file) as labels:
            assert labels.size == size
    joints = np.load(out / "keypoints" / "a.npy")
    assert joints.shape == (17, 3)
    assert joints.dtype == np.float32
    assert (joints[:, 0] < 40).all()
    assert joints[:, 1].max() > 32, "joints are in pixels of the picture"
    empty = tmp_path / "empty"
    empty.mkdir()
    done = CliRunner().invoke(parsing, ["pictures", str(empty), "--out", str(tmp_path / "o")])
    assert "holds no pictures" in str(done.exception)
