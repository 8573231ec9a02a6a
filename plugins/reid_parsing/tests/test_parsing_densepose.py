import json

import numpy as np
import pytest
from PIL import Image

from reid_core.contract.samples import DataRequest
from reid_core.data.decoding import read_labels
from reid_core.errors import DataError
from reid_core.images import read_image
from reid_parsing.providers import densepose
from reid_parsing.providers.coco_masks import decode_mask, part_map, run_lengths
from reid_parsing.providers.densepose import load_densepose


def encode(mask):
    """Return COCO's compressed runs of a mask, written from the format's description."""
    flat = mask.T.ravel().astype(int)
    lengths, value, run = [], 0, 0
    for pixel in flat:
        if pixel != value:
            lengths.append(run)
            value, run = pixel, 0
        run += 1
    lengths.append(run)
    text = ""
    for place, length in enumerate(lengths):
        number = length - (lengths[place - 2] if place > 2 else 0)
        while True:
            bits = number & 31
            number >>= 5
            done = number == (-1 if bits & 16 else 0)
            text += chr(48 + (bits if done else bits | 32))
            if done:
                break
    return {"size": list(mask.shape), "counts": text}


def test_run_lengths_by_hand():
    # 5 -> "5"; 40 = 8 + 32 * 1 -> "X" (48 + 8 + 32), "1"; 3 -> "3".
    assert run_lengths("5X13") == [5, 40, 3]
    # The fourth run is written as its difference to the second one: 38 - 40 = -2 -> 30 -> "N".
    assert run_lengths(b"5X13N") == [5, 40, 3, 38]
    assert run_lengths([1, 2, 3]) == [1, 2, 3]
    with pytest.raises(ValueError, match="ends in the middle"):
        run_lengths("X")


def test_masks_go_column_by_column():
    found = decode_mask({"size": [2, 3], "counts": [1, 2, 3]})
    assert found.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_masks_survive_the_encoding():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = rng.random((256, 256)) < share
        assert (decode_mask(encode(mask)) == mask).all()


def test_later_parts_lie_over_earlier_ones():
    first, second = np.zeros((2, 256, 256), bool)
    first[:128] = True
    second[64:192] = True
    masks = [[] for _ in range(14)]
    masks[0], masks[13] = encode(first), encode(second)
    assert part_map(masks, (8, 2), "x")[:, 0].tolist() == [1, 1, 14, 14, 14, 14, 0, 0]


def test_broken_masks_are_named():
    masks = [[] for _ in range(14)]
    with pytest.raises(DataError, match="annotation 3: 13 part masks, not 14"):
        part_map(masks[:13], (4, 4), "annotation 3")
    masks[4] = {"size": [256, 256], "counts": [5]}
    with pytest.raises(DataError, match=r"annotation 3: part mask 5 .*runs of 5 pixels in a mask"):
        part_map(masks, (4, 4), "annotation 3")


@pytest.fixture
def coco(tmp_path):
    """Write two images with three people, one of them without masks."""
    root = tmp_path / "coco"
    for name in ("annotations", "train2014", "val2014"):
        (root / name).mkdir(parents=True)
    pixels = np.zeros((40, 30, 3), np.uint8)
    pixels[10:30, 5:15] = 200
    Image.fromarray(pixels).save(root / "train2014" / "a.jpg", quality=95)
    Image.fromarray(pixels).save(root / "val2014" / "b.jpg", quality=95)
    torso = np.zeros((256, 256), bool)
    torso[:128] = True
    feet = np.zeros((256, 256), bool)
    feet[230:] = True
    masks = [encode(torso), *([] for _ in range(3)), encode(feet), *([] for _ in range(9))]

    def write(name, image, boxes):
        annotations = [
            {"id": number, "image_id": 7, "bbox": box, "dp_masks": masks}
            for number, box in enumerate(boxes)
        ]
        annotations.append({"id": 99, "image_id": 7, "bbox": [0, 0, 9, 9]})
        content = {"images": [{"id": 7, "file_name": image}], "annotations": annotations}
        path = root / "annotations" / f"densepose_coco_2014_{name}.json"
        path.write_text(json.dumps(content))

    write("train", "a.jpg", [[5, 10, 10, 20], [-5, 20, 20, 40]])
    write("minival", "b.jpg", [[5, 10, 10, 20]])
    return DataRequest("parsing-densepose", None, None, root, tmp_path / "cache")


def test_people_are_cut_out_with_their_parts(coco):
    dataset = load_densepose(coco)
    assert len(dataset.train) == 2
    assert len(dataset.gallery) == 1
    assert not dataset.train.identities
    assert set(dataset.query_fields) == {"parts"}
    whole, cut = dataset.train.samples
    assert read_image(whole.path).shape == (20, 10, 3)
    assert read_image(whole.path).mean() > 190
    labels = read_labels(whole.fields["parts"])
    # Torso in the upper half, the right foot in the lowest tenth.
    assert labels[:, 0].tolist() == [2] * 10 + [0] * 8 + [7] * 2
    # Of the box that reaches beyond the image only what the image shows is left.
    assert read_image(cut.path).shape == (20, 15, 3)
    assert read_labels(cut.fields["parts"])[:, 0].tolist() == [2] * 20


def test_crops_are_cut_once(coco):
    first = load_densepose(coco)
    before = first.train.samples[0].path.stat().st_mtime_ns
    again = load_densepose(coco)
    assert again.train.samples == first.train.samples
    assert again.train.samples[0].path.stat().st_mtime_ns == before


def test_who_is_second_leaves_the_crops_that_another_process_reads(coco, monkeypatch):
    people, first = densepose._people, []

    def overtaken(*arguments):
        monkeypatch.setattr(densepose, "_people", people)
        first.append(load_densepose(coco).train.samples[0].path)
        first.append(first[0].stat().st_mtime_ns)
        return people(*arguments)

    monkeypatch.setattr(densepose, "_people", overtaken)
    path = load_densepose(coco).train.samples[0].path
    assert [path, path.stat().st_mtime_ns] == first
    assert [one.stat().st_mode & 0o777 for one in path.parents[2].parent.iterdir()] == [0o755]


def test_missing_and_broken_annotations_are_named(coco):
    (coco.root / "train2014" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"train\.json, annotation 0: its image a\.jpg is in nei"):
        load_densepose(coco)
    path = coco.root / "annotations" / "densepose_coco_2014_train.json"
    path.write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match=r"train\.json: no annotation has part masks"):
        load_densepose(coco)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"train\.json: no DensePose annotations \(TypeError"):
        load_densepose(coco)
    path.unlink()
    with pytest.raises(DataError, match=r"train\.json: no such file; expected ROOT/annotations"):
        load_densepose(coco)
