"""The ways to part labels of photographs that docs/part_labels.md describes, on made files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from house import ROOT
from PIL import Image

from reid_core.testing.tiny import Recorder, tiny_assembly
from reid_core.testing.toy.making import make_toy
from reid_parsing.commands import open_context, parsing

PAGE = (ROOT / "docs" / "part_labels.md").read_text("utf-8")
SCRIPT = re.search(r"```python file=label_with_onnx.py\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images without any field."""
    folder = tmp_path / "photos"
    make_toy(folder, "tiny")
    shutil.rmtree(folder / "fields")
    return folder


def trained(photos: Path, parts: Path, cache: Path) -> Recorder:
    """Train two steps of the page's line, and return the trainer."""
    data = {"data": {"name": "folder", "root": str(photos)}, "fields": {"parts": str(parts)}}
    assembly = tiny_assembly(["partaware"], data, {"schedule": {"epochs": 1}}, cache=cache)
    trainer = Recorder(assembly)
    trainer.fit()
    return trainer


def test_labels_of_an_onnx_network(photos: Path, tmp_path: Path, reid_cache: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    kernel = np.random.default_rng(0).standard_normal((7, 3, 3, 3)).astype(np.float32)
    node = onnx.helper.make_node("Conv", ["image", "kernel"], ["logits"], pads=[1, 1, 1, 1])
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 32, 16])
        for name, channels in (("image", 3), ("logits", 7))
    )
    held = [onnx.numpy_helper.from_array(kernel, "kernel")]
    graph = onnx.helper.make_graph([node], "parser", [image], [logits], held)
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    network = tmp_path / "parser.onnx"
    onnx.save(model, network)
    assert SCRIPT is not None
    code: dict[str, Any] = {"__name__": "label_with_onnx"}
    exec(SCRIPT[1], code)
    count = code["label"](network, photos, tmp_path / "parts")
    made = sorted((tmp_path / "parts").rglob("*.png"))
    assert len(made) == count == sum(p.suffix in (".png", ".jpg") for p in photos.rglob("*"))
    with Image.open(made[0]) as image:
        found = np.unique(np.asarray(image))
    assert 1 < len(found) <= 7
    trainer = trained(photos, tmp_path / "parts", reid_cache)
    assert all(step["main:partaware/parts"] > 0 for step in trainer.trace)


def test_the_parser_to_train_is_measured_on_people_it_has_not_seen(reid_cache: Path) -> None:
    """The page's line that trains one, in the smallest size, as far as the division."""
    (data,) = re.findall(r"^reid parsing train --data (\S+):full .*$", PAGE, re.MULTILINE)
    ctx, plugin = open_context(None, None, {"settings": [f'parsing.labelled="{data}:tiny"']})
    labelled = plugin.labelled(ctx, "parts")
    kept, out = (
        {s.extra["who"] for s in some} for some in (labelled.train.samples, labelled.held_out)
    )
    assert kept
    assert out
    assert not kept & out


def test_labels_of_the_parser_that_comes_along(
    photos: Path, tmp_path: Path, reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first lines of the page, word by word."""
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^reid parsing (label .*--out parts)$", PAGE, re.MULTILINE)
    done = CliRunner().invoke(parsing, lines[0].split())
    assert done.exit_code == 0, done.output
    assert (tmp_path / "parts.png").is_file()
    advised = re.search(r"with --field parts=(\S+)", done.output)
    assert advised is not None
    trainer = trained(photos, Path(advised[1]), reid_cache)
    assert all(step["main:partaware/parts"] > 0 for step in trainer.trace)
    dataset = trainer.assembly.evaluator.dataset
    assert Path(advised[1]).absolute() / "query" == dataset.query[0].fields["parts"].parent
