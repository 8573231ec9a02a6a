"""Files for other runtimes: they compute the same, say what they take, or are not left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from reid_core.errors import ReidError
from reid_core.model import exporting
from reid_core.model.deployed import KEY, Deployed, InputContract
from reid_core.model.embedder import Embedder
from reid_core.model.exporting import TOLERANCE, check_format, export_file
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import tiny_assembly

SIZE = (64, 32)
NORMALISED = InputContract("normalised")


@pytest.fixture(scope="module")
def embedder(reid_cache: Path) -> Embedder:
    assembly = tiny_assembly(
        ["head"], {"model": {"neck": "fc", "dim": 8}}, cache=reid_cache, classes=PROBES
    )
    return assembly.embedder().eval()


@torch.inference_mode()
def own(embedder: Embedder, images: torch.Tensor) -> torch.Tensor:
    found = embedder(images)
    assert isinstance(found, torch.Tensor)
    return found


def onnx(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["features"]
    return session


def stated_by(session: Any) -> Any:
    return json.loads(session.get_modelmeta().custom_metadata_map[KEY])


def test_onnx_computes_the_same_on_any_batch_and_says_what_it_takes(
    embedder: Embedder, tmp_path: Path
) -> None:
    path = tmp_path / "embedder.onnx"
    assert export_file(embedder, path).difference <= TOLERANCE
    assert [file.name for file in tmp_path.iterdir()] == ["embedder.onnx"]
    session = onnx(path)
    images = torch.rand(7, 3, *SIZE)
    for count in (1, 2, 7):
        (found,) = session.run(None, {"images": images[:count].numpy()})
        assert torch.allclose(torch.from_numpy(found), own(embedder, images[:count]), atol=1e-5)
    stated = stated_by(session)
    assert stated["input"]["values"] == "unit"
    assert stated["input"]["range"] == [0.0, 1.0]
    assert stated["input"]["normalisation"] == "inside"
    assert stated["input"]["shape"] == ["batch", 3, 64, 32]
    assert stated["output"] == {"name": "features", "shape": ["batch", 8], "type": "float32"}

    # A host that normalises before gets other vectors without a word: a thousand times further
    # off than rounding.
    given = Deployed(embedder, NORMALISED).given(images)
    (wrong,) = session.run(None, {"images": given.numpy()})
    right = own(embedder, images)
    apart = torch.linalg.vector_norm(torch.from_numpy(wrong) - right, dim=1)
    assert (apart > 1e-2 * torch.linalg.vector_norm(right, dim=1)).all()


def test_a_host_that_normalises_gets_the_embedder_s_vectors(
    embedder: Embedder, tmp_path: Path
) -> None:
    path = tmp_path / "embedder.onnx"
    export_file(embedder, path, NORMALISED)
    session = onnx(path)
    images = torch.rand(3, 3, *SIZE)
    given = (images - embedder.mean) / embedder.std
    (found,) = session.run(None, {"images": given.numpy()})
    assert torch.allclose(torch.from_numpy(found), own(embedder, images), atol=1e-5)
    stated = stated_by(session)["input"]
    assert (stated["values"], stated["range"], stated["normalisation"]) == (
        *("normalised", None, "before"),
    )


@pytest.mark.parametrize("values", ["unit", "normalised"])
def test_resizing_inside_comes_close_to_the_embedder_s_own(
    values: Any, embedder: Embedder, tmp_path: Path
) -> None:
    path = tmp_path / "embedder.pt2"
    contract = InputContract(values, resize=True)
    found = export_file(embedder, path, contract)
    assert found.difference <= TOLERANCE
    assert found.resizing is not None
    assert found.resizing < 2e-3
    extra = {f"{KEY}.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    stated = json.loads(extra[f"{KEY}.json"])["input"]
    assert stated["shape"] == ["batch", 3, "height", "width"]
    assert stated["resize"] == "inside: bilinear, antialiased, to 64 x 32"
    # A smooth picture, larger than the input along both axes: rounding differs in few pixels.
    rows, columns = torch.meshgrid(
        torch.linspace(0, 3, 150), torch.linspace(0, 2, 90), indexing="ij"
    )
    pixels = torch.stack([rows.sin().abs(), columns.cos().abs(), (rows * columns).sin().abs()])
    pixels = (pixels * 255).to(torch.uint8)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    ours = embedder.embed([tmp_path / "a.png"])
    theirs = program(Deployed(embedder, contract).given(pixels[None] / 255))
    assert (theirs - ours).abs().max() / ours.abs().max() < 1e-3


def test_openvino_computes_the_same_and_says_what_it_takes(
    embedder: Embedder, tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "embedder.xml"
    assert export_file(embedder, path).difference <= TOLERANCE
    assert {file.name for file in tmp_path.iterdir()} == {"embedder.xml", "embedder.bin"}
    model = openvino.Core().read_model(str(path))
    assert json.loads(model.get_rt_info([KEY]).value)["input"]["values"] == "unit"
    compute = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = torch.rand(5, 3, *SIZE)
    found = torch.from_numpy(compute({"images": images.numpy()})["features"])
    assert torch.allclose(found, own(embedder, images), atol=1e-5)


def test_a_file_that_differs_is_not_left_behind(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ReidError, match=r"differs from the original by .*nothing was written"):
        export_file(embedder, tmp_path / "embedder.pt2")
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_none_are_a_difference(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nothing(model: Any, path: Path, stated: str) -> Any:
        return lambda images: torch.full((len(images), 8), torch.nan)

    monkeypatch.setitem(exporting._WRITERS, ".pt2", write_nothing)
    with pytest.raises(ReidError, match="differs from the original by nan"):
        export_file(embedder, tmp_path / "embedder.pt2")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.onnx", "export to ONNX needs onnxruntime: pip install 'reid-core[onnx]'"),
        ("a.xml", "export to OpenVINO needs openvino: pip install 'reid-core[openvino]'"),
    ],
)
def test_what_is_missing_is_said_before_the_work(
    name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda package: None)
    with pytest.raises(ReidError) as error:
        check_format(Path(name), InputContract())
    assert str(error.value) == expected
    check_format(Path("a.pt2"), InputContract())


def test_openvino_does_not_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda package: True)
    with pytest.raises(ReidError, match=r"leave --resize out .* or export \.onnx"):
        check_format(Path("a.xml"), InputContract(resize=True))
