import pytest
import torch
from torch import nn

from reid_core.errors import ConfigError
from reid_parsing import build_parser, resized_logits
from reid_parsing.networks.danet import DaNet, PositionAttention
from reid_parsing.networks.schp import NormLeaky, Schp


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def schp():
    torch.manual_seed(0)
    return Schp(7).eval()


@pytest.fixture(scope="module")
def danet():
    torch.manual_seed(0)
    return DaNet(8).eval()


def test_danet_has_the_author_s_parameters(danet):
    assert count(danet) == 35_638_985
    assert count(danet.trunk) == 23_508_032
    assert count(danet) - count(danet.trunk) == 12_130_953


def test_danet_s_last_stages_are_dilated(danet):
    def dilations(stage):
        return [block.conv2.dilation[0] for block in stage]

    assert dilations(danet.trunk.layer3) == [1, 2, 2, 2, 2, 2]
    assert dilations(danet.trunk.layer4) == [2, 4, 8]
    with torch.no_grad():
        assert danet(torch.zeros(1, 3, 64, 32)).shape == (1, 8, 8, 4)


def test_position_attention_starts_as_nothing_and_then_mixes_places():
    torch.manual_seed(0)
    attention = PositionAttention(16)
    feature = torch.randn(1, 16, 3, 2)
    assert torch.equal(attention(feature), feature)
    # With equal keys every place attends evenly: the mean of the values is added everywhere.
    nn.init.zeros_(attention.key.weight)
    nn.init.zeros_(attention.key.bias)
    nn.init.constant_(attention.gamma, 2.0)
    mean = attention.value(feature).mean((2, 3), keepdim=True)
    torch.testing.assert_close(attention(feature), feature + 2 * mean)


def test_a_place_attends_to_all_others_by_its_own_query():
    torch.manual_seed(0)
    attention = PositionAttention(16).double()
    nn.init.constant_(attention.gamma, 1.0)
    feature = torch.randn(1, 16, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        query, key, value = (
            layer(feature)[0].flatten(1).T
            for layer in (attention.query, attention.key, attention.value)
        )
        places = [
            feature[0].flatten(1)[:, one] + torch.softmax(key @ query[one], 0) @ value
            for one in range(6)
        ]
        found = attention(feature)[0].flatten(1).T
    torch.testing.assert_close(found, torch.stack(places))


def test_schp_has_the_released_parameters(schp):
    assert count(schp) == 66_717_246
    assert sum(b.numel() for n, b in schp.named_buffers() if "running" in n) == 114_528
    parts = {
        name: count(getattr(schp, name))
        for name in (
            *("layer1", "layer2", "layer3", "layer4"),
            *("context_encoding", "edge", "decoder", "fushion"),
        )
    }
    assert parts == {
        "layer1": 236_288,
        "layer2": 1_219_584,
        "layer3": 26_090_496,
        "layer4": 14_964_736,
        "context_encoding": 23_073_792,
        "edge": 464_912,
        "decoder": 290_151,
        "fushion": 264_455,
    }


@pytest.mark.parametrize(("classes", "parameters"), [(18, 66_722_900), (20, 66_723_928)])
def test_schp_with_other_classes(classes, parameters):
    with torch.device("meta"):
        assert count(Schp(classes)) == parameters


def test_schp_has_thirteen_leaky_norm_layers(schp):
    norms = [m for m in schp.modules() if isinstance(m, nn.BatchNorm2d)]
    leaky = [m for m in norms if isinstance(m, NormLeaky)]
    assert (len(norms) - len(leaky), len(leaky)) == (106, 13)
    norm = NormLeaky(1).eval()
    value = norm(torch.tensor([-2.0, 3.0]).view(1, 1, 1, 2)) * (1 + norm.eps) ** 0.5
    torch.testing.assert_close(value.flatten(), torch.tensor([-0.02, 3.0]))


def test_schp_s_outputs_lie_at_stride_4(schp):
    with torch.no_grad():
        found = schp.outputs(torch.zeros(1, 3, 128, 64))
    assert found.logits.shape == found.auxiliary[0].shape == (1, 7, 32, 16)
    assert found.edges.shape == (1, 2, 32, 16)


def test_schp_takes_rgb_and_sees_bgr(schp):
    seen = []
    hook = schp.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        schp(image)
    hook.remove()
    assert torch.equal(seen[0], image.flip(1))
    # ImageNet's normalisation of RGB with reversed channels is that of BGR, exactly.
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.rand(3, 4, 4)
    rgb = (pixels - mean[:, None, None]) / std[:, None, None]
    bgr = (pixels.flip(0) - mean.flip(0)[:, None, None]) / std.flip(0)[:, None, None]
    assert torch.equal(rgb.flip(0), bgr)


def test_what_the_fused_logits_leave_idle_is_declared(schp):
    schp.zero_grad()
    schp(torch.randn(1, 3, 64, 32)).square().mean().backward()
    idle = {name: p.numel() for name, p in schp.named_parameters() if p.grad is None}
    assert set(idle) == {n for n, _ in schp.named_parameters() if n.startswith(Schp.idle)}
    decoder = sum(n for name, n in idle.items() if name.startswith("decoder."))
    assert (decoder, sum(idle.values()) - decoder) == (1_799, 4_624)
    schp.zero_grad()


@pytest.mark.parametrize("size", [(128, 64), (64, 32), (50, 30)])
def test_the_light_network_takes_any_size(size):
    network = build_parser("light", 8).eval()
    assert count(network) == 975_240
    with torch.no_grad():
        logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 8, -(-size[0] // 2), -(-size[1] // 2))
    assert resized_logits(logits, size).shape == (2, 8, *size)


def test_logits_are_resized_with_aligned_corners():
    logits = torch.tensor([[[[0.0, 3.0]]]])
    assert resized_logits(logits, (1, 4)).flatten().tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_unknown_network_and_a_trunk_that_is_not_there():
    with pytest.raises(ConfigError, match="no parsing network 'dannet'; did you mean 'danet'"):
        build_parser("dannet")
    with pytest.raises(ConfigError, match="only 'danet' starts from a pretrained trunk"):
        build_parser("schp", pretrained=True)
