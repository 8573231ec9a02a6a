import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from reid_core import open_dataset
from reid_core.data.encoding import label_colours
from reid_core.data.sidecars import with_field_folders
from reid_core.errors import ConfigError, DataError
from reid_core.testing.tiny import tiny_assembly
from reid_parsing import LABEL_SETS, BodyParser, build_parser, load_parser, overlay, save_parser
from reid_parsing.commands import open_context, parsing
from reid_parsing.exporting import export_labels
from reid_parsing.pictures import overlay_sheet

SHORT = [
    *("-s", "parsing.epochs=1", "-s", "parsing.iterations=2"),
    *("-s", "parsing.batch_size=8", "-s", "parsing.size=[64,32]", "--device", "cpu"),
]


def invoke(*arguments):
    result = CliRunner().invoke(parsing, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "parser.safetensors"
    parser = BodyParser("light", build_parser("light", 8), LABEL_SETS["parts"], (64, 32))
    save_parser(parser, path)
    return path


def test_a_trained_parser_is_kept_in_a_file(reid_cache, tmp_path):
    path = tmp_path / "garments.safetensors"
    said = invoke("train", "--data", "toy:tiny", "-f", "garments", "-o", path, *SHORT)
    assert "[parsing/garments] training on 48 images" in said
    assert "held-out images of toy:tiny" in said
    assert said.endswith(f"garments by 'light': {path}\n")
    assert load_parser(path).labels.name == "garments"


def test_labels_are_written_and_come_back(reid_cache, toy_tiny, tmp_path, weights):
    out = tmp_path / "parts"
    said = invoke("label", "--data", "toy:tiny", "--out", out, "-s", f'parsing.weights="{weights}"')
    assert f"48 label maps: {out}; bring them into a run with --field parts={out}" in said
    assert re.search(r"truth that the data set carries: pixel accuracy \d+\.\d %, mIoU \d", said)
    assert len(list((out / "train").iterdir())) == 48
    with Image.open(out / "train" / f"{toy_tiny.train.samples[0].path.stem}.png") as made:
        assert made.mode == "P"
        palette = np.array(made.getpalette()[:24]).reshape(8, 3)
    assert (palette == label_colours()[:8]).all()
    assert (tmp_path / "parts.png").is_file()
    assembly = tiny_assembly((), {"fields": {"parts": str(out)}}, cache=reid_cache)
    assert assembly.ctx.main.samples[0].fields["parts"].parent == out / "train"
    with pytest.raises(ConfigError, match="holds something already; name another folder"):
        invoke("label", "--data", "toy:tiny", "--out", out)


def test_test_images_are_labelled_on_request(reid_cache, toy_tiny, tmp_path, weights):
    out = tmp_path / "query"
    chosen = ("-s", f'parsing.weights="{weights}"')
    said = invoke("label", "--data", "toy:tiny", "--split", "query", "--out", out, *chosen)
    assert "a run needs those of its training images, too: --split all writes all" in said
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.png")} == {
        f"query/{sample.path.stem}.png" for sample in toy_tiny.query
    }
    with pytest.raises(ConfigError, match="this parser makes parts, not 'garments'"):
        invoke("label", "-d", "toy:tiny", "-o", tmp_path / "no", "-f", "garments", *chosen)


def test_the_advised_line_works_after_all_splits(reid_cache, toy_tiny, tmp_path, weights):
    out = tmp_path / "parts"
    chosen = ("--split", "all", "-s", f'parsing.weights="{weights}"')
    said = invoke("label", "--data", "toy:tiny", "--out", out, *chosen)
    advised = re.search(r"with --field (\w+)=(.*)", said)
    fields = {advised[1]: advised[2]}
    assembly = tiny_assembly((), {"fields": fields}, cache=reid_cache)
    dataset = assembly.evaluator.dataset
    assert dataset.query[0].fields["parts"].parent == out / "query"
    assert assembly.ctx.main.samples[0].fields["parts"].parent == out / "train"
    assert len(list(out.rglob("*.png"))) == sum(
        len(split) for split in (toy_tiny.train, toy_tiny.query, toy_tiny.gallery)
    )


def test_frames_of_tracklets_are_labelled_one_by_one_and_come_back(reid_cache, tmp_path, weights):
    out, data = tmp_path / "parts", "toy/tracklets:tiny"
    chosen = ("-s", f'parsing.weights="{weights}"', "--device", "cpu")
    said = invoke("label", "--data", data, "--split", "all", "--out", out, *chosen)
    assert "truth that the data set carries: pixel accuracy" in said
    layer = {"data": {"name": data, "frames": 2}, "fields": {"parts": str(out)}}
    dataset = tiny_assembly((), layer, cache=reid_cache).evaluator.dataset
    tracklets = (*dataset.train.samples, *dataset.query, *dataset.gallery)
    assert max(len(one.frames) for one in tracklets) > 1
    for one in tracklets:
        assert [path.stem for path in one.fields["parts"]] == [path.stem for path in one.frames]
        assert all(path.is_relative_to(out) for path in one.fields["parts"])
    frames = sum(len(one.frames) for one in tracklets)
    assert said.startswith(f"parsing makes 'parts' for {frames} of {frames} images")
    tested = frames - sum(len(one.frames) for one in dataset.train.samples)
    said = invoke("evaluate", "--data", data, *chosen)
    assert said.startswith(f"parts on {tested} images of {data}: pixel accuracy ")


def test_a_parser_learns_from_the_frames_of_tracklets(reid_cache, tmp_path):
    path = tmp_path / "parts.safetensors"
    said = invoke("train", "--data", "toy/tracklets:tiny", "-o", path, *SHORT)
    source = open_dataset("toy/tracklets:tiny", cache=reid_cache).train
    frames = sum(len(one.frames) for one in source.samples)
    assert f"[parsing/parts] training on {frames} images" in said


def test_names_may_repeat_from_folder_to_folder(reid_cache, toy_tiny, tmp_path, weights):
    """As PRCC's do: every person's folder has images of the same names."""
    ctx, plugin = open_context(
        "toy:tiny", None, {"settings": [f'parsing.weights="{weights}"'], "device": "cpu"}
    )
    samples = []
    for person, sample in enumerate(toy_tiny.train.samples[:3]):
        path = tmp_path / "rgb" / f"{person:03d}" / "cropped_rgb001.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(sample.path.read_bytes())
        samples.append(replace(sample, path=path))
    train = replace(toy_tiny.train, samples=tuple(samples))
    ctx.dataset = replace(toy_tiny, train=train, query=(), gallery=())
    out = tmp_path / "parts"
    lines = list(export_labels(ctx, plugin, "parts", train.samples, train.fields, out))
    assert lines[0].startswith("3 label maps: ")
    read, _ = with_field_folders(ctx.dataset, {"parts": out})
    for person, sample in enumerate(read.train.samples):
        assert sample.fields["parts"] == out / f"{person:03d}" / "cropped_rgb001.png"
    contents = {sample.fields["parts"].read_bytes() for sample in read.train.samples}
    assert len(contents) == 3, "every image has a map of its own"
    twin = replace(samples[0], path=samples[0].path.with_suffix(".png"))
    train = replace(train, samples=(*samples, twin))
    ctx.dataset = replace(ctx.dataset, train=train)
    with pytest.raises(DataError, match=r"1 names .* suffix alone, .* first 000/cropped_rgb001"):
        list(export_labels(ctx, plugin, "parts", train.samples, train.fields, tmp_path / "no"))


def test_a_parser_is_measured(reid_cache, weights):
    chosen = ("-s", f'parsing.weights="{weights}"')
    said = invoke("evaluate", "--data", "toy:tiny", *chosen)
    assert re.match(r"parts on 48 images of toy:tiny: pixel accuracy \d+\.\d %, mIoU \d", said)
    assert [line.split("  ")[1] for line in said.splitlines()[1:]][:2] == ["background", "head"]


def test_data_without_truth_and_files_of_another_kind(reid_cache, toy_tiny, tmp_path, weights):
    root = tmp_path / "photos"
    for split in ("train", "query", "gallery"):
        (root / split).mkdir(parents=True)
    for sample in toy_tiny.train.samples:
        (root / "train" / sample.path.name).write_bytes(sample.path.read_bytes())
    chosen = ("-s", f'parsing.weights="{weights}"')
    data = ("--data", "folder", "--data-root", root)
    with pytest.raises(DataError, match="'folder' carries no 'parts' to measure with"):
        invoke("evaluate", *data, *chosen)
    with pytest.raises(DataError, match="'folder' has no such images to label"):
        invoke("label", *data, "--split", "gallery", "-o", tmp_path / "no", *chosen)
    with pytest.raises(ConfigError, match=r"parser\.pth: .* must end in \.safetensors"):
        invoke("train", "--data", "toy:tiny", "-o", tmp_path / "parser.pth")
    with pytest.raises(ConfigError, match="there is nothing to train"):
        invoke("train", "--data", "toy:tiny", "-o", tmp_path / "p.safetensors", *chosen)


def test_labels_lie_over_the_image_in_their_colours():
    image = np.full((2, 2, 3), 100, np.uint8)
    labels = np.array([[0, 1], [2, 0]], np.uint8)
    found = overlay(image, labels, strength=0.5)
    assert found[0, 0].tolist() == [100, 100, 100]
    assert found[0, 1].tolist() == [114, 50, 50]
    assert found[1, 0].tolist() == [50, 114, 50]


def test_a_sheet_has_a_legend_and_wraps_it(tmp_path):
    image, labels = np.zeros((8, 4, 3), np.uint8), np.ones((8, 4), np.uint8)
    names = LABEL_SETS["lip"].classes
    path = overlay_sheet([image] * 2, [labels] * 2, names, tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        wide = sheet.size
    with Image.open(overlay_sheet([image] * 7, [labels] * 7, names, path)) as sheet:
        assert sheet.width == 3 * (wide[0] - 6) + 6
        assert sheet.height < wide[1] + 198


def test_importing_the_command_stays_light():
    code = "import sys, reid_parsing.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
