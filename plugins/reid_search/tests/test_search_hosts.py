"""Other programs get the embedder's own vectors; each is called for real where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reid_core import DataError, Embedder
from reid_core.model.deployed import InputContract
from reid_core.model.exporting import export_file
from reid_core.testing.tiny import tiny_assembly
from reid_search.hosts import FrameModel

SIZE = (64, 32)
BOXES = np.array([[3, 5, 35, 69], [40, 10, 72, 74], [60.6, 2.2, 99.5, 120.1]], np.float32)
"""The first two have the size of the embedder's input, so that no host resizes them."""

pytestmark = pytest.mark.filterwarnings("ignore")  # what hosts say of their own dependencies


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip where a host is not installed, before anything is exported for it."""
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@dataclass
class Detections:
    xyxy: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.xyxy)


@pytest.fixture(scope="module")
def embedder(reid_cache: Path) -> Embedder:
    return tiny_assembly(cache=reid_cache).embedder().eval()


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (128, 112, 3), np.uint8)


@pytest.fixture(scope="module")
def files(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the embedder as ONNX, by what the file is given."""
    found = {}
    for values in ("unit", "normalised"):
        found[values] = tmp_path_factory.mktemp(values) / "embedder.onnx"
        export_file(embedder, found[values], InputContract(values))  # type: ignore[arg-type]
    return found


def own(embedder: Embedder, frame: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Any:
    return embedder.embed(frame, boxes, bgr=True).numpy()


def test_both_calls_give_the_embedder_s_vectors(
    embedder: Embedder, frame: NDArray[np.uint8], tmp_path: Path
) -> None:
    embedder.save(tmp_path / "embedder.safetensors")
    right = own(embedder, frame, BOXES)
    for model in (FrameModel(embedder), FrameModel(tmp_path)):
        assert (model.embedding_dim, model.input_shape) == (embedder.dim, SIZE)
        rows = np.concatenate([BOXES, np.ones((3, 2), np.float32)], 1)  # score and class
        np.testing.assert_allclose(model.get_features(rows, frame), right, atol=1e-6)
        found = model.extract_embeddings(Detections(BOXES), frame, batch_size=2)
        np.testing.assert_allclose(found, right, atol=1e-6)
        assert found.dtype == np.float32


def test_no_box_and_boxes_beyond_the_frame_end_nothing(
    embedder: Embedder, frame: NDArray[np.uint8]
) -> None:
    model = FrameModel(embedder)
    for nothing in (np.empty((0, 4)), np.array([])):
        assert model.get_features(nothing, frame).shape == (0, embedder.dim)
    assert model.extract_embeddings(Detections(BOXES[:0]), frame).shape == (0, embedder.dim)
    beyond = model.get_features([[500, 500, 520, 540]], frame)
    black = embedder.embed(np.zeros((*SIZE, 3), np.uint8)).numpy()
    np.testing.assert_allclose(beyond, black, atol=1e-6)
    with pytest.raises(DataError, match="oriented boxes are not cut out"):
        model.get_features([[1, 2, 3, 4, 0.5]], frame)


@needs("boxmot")
def test_boxmot_calls_the_model(embedder: Embedder, frame: NDArray[np.uint8]) -> None:
    from boxmot.reid.core import runtime

    host = runtime.ReID.from_backend(FrameModel(embedder))
    np.testing.assert_allclose(host(frame, boxes=BOXES), own(embedder, frame, BOXES), atol=1e-5)


@needs("boxmot")
def test_boxmot_normalises_before_the_file(
    embedder: Embedder, frame: NDArray[np.uint8], files: dict[str, Path]
) -> None:
    from boxmot.reid.core import runtime

    boxes = BOXES[:2]
    right = own(embedder, frame, boxes)
    found = runtime.ReID(files["normalised"], device="cpu")(frame, boxes=boxes)
    np.testing.assert_allclose(found, right, atol=1e-5)
    wrong = runtime.ReID(files["unit"], device="cpu")(frame, boxes=boxes)
    assert (np.linalg.norm(wrong - right, axis=1) > 1e-2).all()


@needs("ultralytics", "lap")  # it would install the second by itself
def test_ultralytics_takes_the_file(
    embedder: Embedder, frame: NDArray[np.uint8], files: dict[str, Path]
) -> None:
    from ultralytics.trackers.utils.reid import build_encoder

    encoder = build_encoder(True, str(files["unit"]), torch.device("cpu"))
    height, width = SIZE
    crop = np.ascontiguousarray(frame[:height, :width])
    # It widens boxes by 2 % and 10 pixels; one of the whole frame stays as it is.
    (found,) = encoder(crop, np.array([[width / 2, height / 2, width, height]], np.float32))
    np.testing.assert_allclose(found, embedder.embed(crop, bgr=True).numpy()[0], atol=1e-5)


@needs("supervision")
def test_supervision_s_detections_are_taken(embedder: Embedder, frame: NDArray[np.uint8]) -> None:
    import supervision

    found = FrameModel(embedder).extract_embeddings(supervision.Detections(xyxy=BOXES), frame)
    np.testing.assert_allclose(found, own(embedder, frame, BOXES), atol=1e-6)
