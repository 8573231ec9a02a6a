import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core import DataRequest
from reid_core.data.decoding import read_field
from reid_core.errors import CheckpointError, ConfigError, DataError
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly
from reid_parsing import LABEL_SETS, BodyParser, Parsing, ParsingSettings, build_parser, save_parser

test_conforms = conformance_suite("parsing")

SHORT = {"labelled": "toy:tiny", "epochs": 1, "iterations": 2, "batch_size": 8, "size": [64, 32]}


def assemble(cache, settings, said=None, folder=None, **sections):
    from reid_core.runs.assembly.assembling import assemble as assemble_run
    from reid_core.runs.resolve import resolve
    from reid_core.runs.stages import Stages
    from reid_core.testing.tiny import tiny_flags

    layers = {"plugins": {"parsing": settings}, **sections}
    resolved = resolve(tiny_flags(("parsing",), layers))
    say = (lambda line: None) if said is None else said.append
    return assemble_run(resolved, cache=cache, folder=folder, say=say, stages=Stages())


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(11)  # nobody else's: the cache knows weights by their content
    parser = BodyParser("light", build_parser("light", 8), LABEL_SETS["parts"], (64, 32))
    path = tmp_path / "parser.safetensors"
    save_parser(parser, path)
    return path


def test_a_parser_is_trained_and_labels_the_run_s_images(reid_cache, tmp_path):
    said, folder = [], tmp_path / "run"
    assembly = assemble(reid_cache, SHORT, said, folder, labels={"parts": "parsing"})
    source = assembly.ctx.main
    for sample in source.samples[:4]:
        path = sample.fields["parts"]
        assert "labels/parsing/parts" in path.as_posix()
        with Image.open(path) as made, Image.open(sample.path) as image:
            assert made.mode == "P"
            assert made.size == image.size
        assert read_field(path, source.fields["parts"]).max() < 8
    text = "\n".join(said)
    assert "[parsing/parts] training on 48 images" in text
    assert "[parsing/parts] on 48 held-out images of toy:tiny: pixel accuracy" in text
    assert "parsing makes 'parts' for 48 of 48 images" in text
    with Image.open(folder / "parsing" / "parts.png") as sheet:
        assert sheet.width > 1000
    note = json.loads((folder / "stages" / "parsing-parts.json").read_text())
    scores = json.loads((type(folder)(note["folder"]) / "held_out.json").read_text())
    assert 0 < scores["mean_iou"] < scores["pixel_accuracy"] < 1
    assert scores["frequency_guess"]["mean_iou"] > 0.2
    # The data set's own garments stay: nobody asked for others.
    assert "labels/parsing" not in source.samples[0].fields["garments"].as_posix()


def test_labels_are_made_once(reid_cache, tmp_path):
    settings = {**SHORT, "lr": 1e-3}
    first = assemble(reid_cache, settings, labels={"parts": "parsing"})
    said = []
    again = assemble(reid_cache, settings, said, labels={"parts": "parsing"})
    assert again.ctx.main.samples == first.ctx.main.samples
    assert not any("training on" in line or "makes 'parts'" in line for line in said)
    without = {**settings, "mirror": False}
    other = assemble(reid_cache, without, said, labels={"parts": "parsing"})
    assert any("[parsing/parts] reused" in line for line in said)
    paths = [a.ctx.main.samples[0].fields["parts"] for a in (first, other)]
    assert paths[0] != paths[1]


def test_given_weights_need_no_training(reid_cache, weights):
    said = []
    settings = {"weights": str(weights)}
    assembly = assemble(reid_cache, settings, said, labels={"parts": "parsing"})
    assert any("makes 'parts' for 48 of 48" in line for line in said)
    assert not any("training" in line for line in said)
    before = assembly.ctx.main.samples[0].fields["parts"]
    # Other weights are other labels.
    torch.manual_seed(12)
    other = BodyParser("light", build_parser("light", 8), LABEL_SETS["parts"], (64, 32))
    save_parser(other, weights)
    assembly = assemble(reid_cache, settings, labels={"parts": "parsing"})
    assert assembly.ctx.main.samples[0].fields["parts"] != before


def test_a_parser_offers_only_what_its_classes_can_become(reid_cache, weights):
    with pytest.raises(ConfigError, match="'parsing' does not make 'garments'"):
        assemble(reid_cache, {"weights": str(weights)}, labels={"garments": "parsing"})


def test_labels_are_better_than_nothing_after_some_steps(reid_cache):
    """Enough training to tell people from the background, in seconds."""
    settings = {**SHORT, "iterations": 40, "lr": 4e-3}
    assembly = assemble(reid_cache, settings, labels={"parts": "parsing"})
    truth = tiny_assembly(cache=reid_cache).ctx.main
    hits = total = both = either = 0
    for made, true in zip(assembly.ctx.main.samples, truth.samples, strict=True):
        found, real = (read_field(s.fields["parts"], truth.fields["parts"]) for s in (made, true))
        hits, total = hits + np.sum(found == real), total + real.size
        both += np.sum((found > 0) & (real > 0))
        either += np.sum((found > 0) | (real > 0))
    assert both / either > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_set": "lip"}, r"parsing\.label_set = 'lip' says .* -s parsing\.weights=FILE"),
        (
            {"label_set": "lip", "weights": "x.pth"},
            r"belongs to released SCHP weights; set -s parsing\.network=schp",
        ),
        ({"pretrained": True}, "only 'danet' starts from a pretrained trunk, not 'light'"),
        ({"netwrok": "light"}, r"unknown key 'plugins\.parsing\.netwrok'; did you mean"),
    ],
)
def test_settings_that_contradict_each_other(reid_cache, settings, message):
    with pytest.raises(ConfigError, match=message):
        assemble(reid_cache, settings)


def test_weights_that_are_not_there(reid_cache, tmp_path):
    missing = tmp_path / "none.safetensors"
    with pytest.raises(CheckpointError, match=r"no parser weights at .*none\.safetensors"):
        assemble(reid_cache, {"weights": str(missing)})


def test_labelled_data_without_the_field(reid_cache):
    settings = {**SHORT, "labelled": "toy-pairs:tiny"}
    with pytest.raises(DataError, match="'toy-pairs:tiny' carries texture, not 'parts'"):
        assemble(reid_cache, settings, labels={"parts": "parsing"})


def test_the_training_images_belong_to_a_run(reid_cache):
    with pytest.raises(DataError, match="exists only within a run of the plugin 'parsing'"):
        assemble(reid_cache, {}, data={"name": "parsing-labelled/parts"})


@pytest.mark.parametrize("network", ["schp", "light"])
def test_schp_does_not_train_from_random_weights_in_silence(reid_cache, network):
    said = []
    main = tiny_assembly(cache=reid_cache).ctx.main
    plugin = Parsing("parsing", ParsingSettings(network=network))
    plugin._run = SimpleNamespace(say=said.append)
    plugin.labelled = lambda run, field: SimpleNamespace(name="toy:tiny", train=main)
    request = DataRequest("parsing-labelled", "parts", None, None, reid_cache)
    assert plugin._load_training(request).train is main
    expected = (
        r"no parsing\.weights .* 'schp' is trained from random weights on toy:tiny; .*label_set"
    )
    assert [bool(re.search(expected, line)) for line in said] == [True] * (network == "schp")


def test_crops_keep_their_share_of_another_input_size():
    plugin = Parsing("parsing", ParsingSettings(network="danet", size=(192, 96), lr=0.1))
    stage = plugin.stage("parts")
    assert stage.settings["plugins"]["parsing"]["canvas"] == [128, 128]
    assert (stage.settings["data"]["height"], stage.settings["data"]["width"]) == (192, 96)
    assert stage.settings["optim"]["lr"] == 0.1
    assert stage.settings["data"]["batch_size"] == 16
