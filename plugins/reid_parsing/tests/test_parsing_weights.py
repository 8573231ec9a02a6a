import pytest
import torch
from torch import nn

from reid_core.errors import CheckpointError, ConfigError
from reid_parsing import LABEL_SETS, BodyParser, build_parser, load_parser, load_schp, save_parser
from reid_parsing.networks.schp import NormLeaky
from reid_parsing.weights import folded_norms


def published_shapes(classes):
    """Return names and shapes of SCHP's released entries, from the published layout."""
    shapes = {}

    def norm(name, channels):
        for entry in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{entry}"] = (channels,)

    def conv(name, inputs, outputs, kernel, bias=False):
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    for number, (inputs, outputs) in enumerate(((3, 64), (64, 64), (64, 128)), start=1):
        conv(f"conv{number}", inputs, outputs, 3)
        norm(f"bn{number}", outputs)
    inputs = 128
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 23), (512, 3)), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for number, (of, to, kernel) in enumerate(
                ((inputs, width, 1), (width, width, 3), (width, 4 * width, 1)), start=1
            ):
                conv(f"{name}.conv{number}", of, to, kernel)
                norm(f"{name}.bn{number}", to)
            if not block:
                conv(f"{name}.downsample.0", inputs, 4 * width, 1)
                norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    for grid in range(4):
        conv(f"context_encoding.stages.{grid}.1", 2048, 512, 1)
        norm(f"context_encoding.stages.{grid}.2", 512)
    conv("context_encoding.bottleneck.0", 4096, 512, 3)
    norm("context_encoding.bottleneck.1", 512)
    for number, of in enumerate((256, 512, 1024), start=1):
        conv(f"edge.conv{number}.0", of, 256, 1)
        norm(f"edge.conv{number}.1", 256)
    conv("edge.conv4", 256, 2, 3, bias=True)
    conv("edge.conv5", 6, 2, 1, bias=True)
    for name, of, to in (("conv1", 512, 256), ("conv2", 256, 48)):
        conv(f"decoder.{name}.0", of, to, 1)
        norm(f"decoder.{name}.1", to)
    for first, of in ((0, 304), (2, 256)):
        conv(f"decoder.conv3.{first}", of, 256, 1)
        norm(f"decoder.conv3.{first + 1}", 256)
    conv("decoder.conv4", 256, classes, 1, bias=True)
    conv("fushion.0", 1024, 256, 1)
    norm("fushion.1", 256)
    conv("fushion.3", 256, classes, 1, bias=True)
    return shapes


def write_release(path, classes, value=-0.25):
    """Write a file in the released layout that holds one number per entry."""
    state = {
        # Expanded tensors are stored as the one number that they repeat.
        f"module.{name}": torch.full((1,), value).expand(shape)
        for name, shape in published_shapes(classes).items()
    }
    torch.save({"state_dict": state, "epoch": 150}, path)
    return state


@pytest.mark.parametrize(("labels", "classes"), [("pascal", 7), ("lip", 20), ("atr", 18)])
def test_released_weights_are_read_and_their_norms_folded(tmp_path, labels, classes):
    path = tmp_path / f"{labels}.pth"
    write_release(path, classes)
    assert path.stat().st_size < 500_000
    parser = load_schp(path, labels)
    assert (parser.architecture, parser.labels.name, parser.size) == ("schp", labels, (512, 256))
    assert parser.network.classes == classes
    scales = {
        f"{name}.weight"
        for name, module in parser.network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert len(scales) == 119
    for name, value in parser.network.state_dict().items():
        expected = 0.25 + 1e-5 if name in scales else -0.25
        if not name.endswith("num_batches_tracked"):
            assert value.flatten()[0].item() == pytest.approx(expected, abs=1e-7)


def test_a_folded_norm_computes_what_the_released_one_did():
    """The scalar example with which the library's authors explain the difference."""
    norm = nn.Sequential(NormLeaky(1)).eval()
    state = {
        "0.weight": torch.tensor([-0.0059]),
        "0.bias": torch.tensor([0.1408]),
        "0.running_mean": torch.tensor([13.97]),
        "0.running_var": torch.tensor([313.7588]),
    }
    x = torch.full((1, 1, 1, 1), -9.333)
    norm.load_state_dict(state, strict=False)
    assert norm(x).item() == pytest.approx(0.148562, abs=1e-6)
    norm.load_state_dict(folded_norms(norm, state), strict=False)
    assert norm(x).item() == pytest.approx(0.133025, abs=1e-6)


def test_weights_of_other_classes_are_refused(tmp_path):
    path = tmp_path / "lip.pth"
    write_release(path, 20)
    expected = (
        r"lip\.pth do not fit SCHP with the 7 classes of 'pascal': 4 have another shape "
        r"\(decoder\.conv4\.weight is 20 x 256 x 1 x 1, not 7 x 256 x 1 x 1, decoder\.conv4\.bias"
    )
    with pytest.raises(CheckpointError, match=expected):
        load_schp(path)
    with pytest.raises(ConfigError, match="no label set 'cihp'"):
        load_schp(path, "cihp")


def test_weights_of_another_architecture_name_their_keys(tmp_path):
    path = tmp_path / "other.pth"
    state = write_release(path, 7)
    del state["module.edge.conv5.bias"]
    state["module.aspp.0.weight"] = torch.zeros(1)
    torch.save(state, path)
    expected = (
        r"1 of its keys are missing \(edge\.conv5\.bias\); 1 of its keys are foreign "
        r"\(aspp\.0\.weight\)"
    )
    with pytest.raises(CheckpointError, match=expected):
        load_schp(path)


def test_files_that_hold_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"there are no parser weights at .*none\.pth"):
        load_schp(tmp_path / "none.pth")
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    with pytest.raises(CheckpointError, match=r"text\.pth cannot be read as SCHP weights"):
        load_schp(text)
    with pytest.raises(CheckpointError, match=r"no parser saved by `reid parsing train`"):
        load_parser(text)


def light_parser(field="parts"):
    torch.manual_seed(3)
    return BodyParser("light", build_parser("light", 8).eval(), LABEL_SETS[field], (64, 32))


def test_a_saved_parser_comes_back_whole(tmp_path):
    parser, path = light_parser("garments"), tmp_path / "deep" / "parser.safetensors"
    save_parser(parser, path)
    again = load_parser(path, "light")
    assert (again.architecture, again.labels, again.size) == ("light", parser.labels, (64, 32))
    image = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(again.network.eval()(image), parser.network(image))


def test_a_saved_parser_of_another_network_is_refused(tmp_path):
    path = tmp_path / "parser.safetensors"
    save_parser(light_parser(), path)
    with pytest.raises(CheckpointError, match=r"holds the network 'light', not 'danet'; set"):
        load_parser(path, "danet")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_parser(path)
