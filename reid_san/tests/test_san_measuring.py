"""Errors, colour and dead channels, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reid_core import FieldKind, FieldSpec, Sample
from reid_core.testing.tiny import tiny_assembly
from reid_san.decoder import Colours, Decoder
from reid_san.measuring import Agreement, Distances, watched
from reid_san.regressing import truth
from reid_san.reporting import Measurement

SPEC = FieldSpec("texture", FieldKind.FIXED)


def texture(seed: int) -> Tensor:
    """Return a true texture as pixels, uint8 ``3 8 8``, and a sample of it."""
    return torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(seed)).byte()


def sample(pixels: Tensor) -> Sample:
    return Sample(Path("nowhere.png"), 0, 0, fields={"texture": pixels.numpy()})


def unit(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def measured(change: str) -> dict[str, float]:
    """Measure what is found of three textures, whose guess is grey."""
    distances = Distances(SPEC, torch.zeros(3, 8, 8))
    for seed in range(3):
        true = unit(texture(seed))
        red, green, blue = true
        found = {
            "right": true,
            "half": 0.5 * true,
            "grey": true.mean(0, keepdim=True).expand(3, 8, 8),
            "guess": torch.zeros(3, 8, 8),
            "swapped": torch.stack([2 * green - red, green, blue]),
        }[change]
        distances.add(sample(texture(seed)), found)
    return dict(distances.to_json())


def test_what_is_right_agrees_in_all() -> None:
    found = measured("right")
    assert found["l1"] == 0
    assert (found["images"], found["red_green"], found["blue_green"]) == (3, 1.0, 1.0)
    assert found["spread"] == 1.0


def test_half_of_the_deviations_has_the_right_hue_and_half_the_spread() -> None:
    found = measured("half")
    assert (found["red_green"], found["blue_green"], found["spread"]) == (1.0, 1.0, 0.5)
    assert found["l1"] == pytest.approx(found["l1_of_mean"] / 2, abs=1e-5)


def test_deviations_are_from_the_guess_and_not_from_grey() -> None:
    guess = unit(texture(9))
    distances = Distances(SPEC, guess)
    for seed in range(3):
        distances.add(sample(texture(seed)), guess + 0.5 * (unit(texture(seed)) - guess))
    found = distances.to_json()
    assert (found["red_green"], found["blue_green"], found["spread"]) == (1.0, 1.0, 0.5)


def test_grey_textures_and_the_mean_itself_have_no_colour() -> None:
    grey, guess = measured("grey"), measured("guess")
    assert (grey["red_green"], grey["blue_green"]) == (0.0, 0.0)
    assert 0.3 < grey["spread"] < 0.8
    assert (guess["red_green"], guess["blue_green"], guess["spread"]) == (0.0, 0.0, 0.0)
    assert guess["l1"] == guess["l1_of_mean"]


def test_red_minus_green_is_told_from_blue_minus_green() -> None:
    found = measured("swapped")
    assert found["red_green"] == -1.0, "red and green were exchanged around green"
    assert found["blue_green"] == 1.0


def test_errors_are_means_over_images(reid_cache: Path) -> None:
    assembly = tiny_assembly(cache=reid_cache)
    spec, one = assembly.ctx.fields["texture"], assembly.ctx.main.samples[0]
    true = truth(one, spec, (32, 32))
    distances = Distances(spec, true + 0.5)
    for offset in (0.1, 0.3):
        distances.add(one, true + offset)
    found = distances.to_json()
    assert (found["images"], found["l1"], found["l1_of_mean"]) == (2, 0.2, 0.5)


def test_agreement_comes_in_pieces() -> None:
    x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    y = torch.tensor([1.0, 3.0, 2.0, 6.0])
    whole, pieces = Agreement(), Agreement()
    whole.add(x, y)
    pieces.add(x[:1], y[:1])
    pieces.add(x[1:], y[1:])
    # Covariance 1.75, variances 1.25 and 3.5.
    for found in (whole, pieces):
        assert found.correlation == pytest.approx(1.75 / (1.25 * 3.5) ** 0.5)
        assert found.spread == pytest.approx((1.25 / 3.5) ** 0.5)
    assert (Agreement().correlation, Agreement().spread) == (0.0, 0.0)


def test_channels_that_are_always_zero_are_dead() -> None:
    torch.manual_seed(0)
    decoder = Decoder((8,), 16, (32, 32)).eval()
    total = 16 + 4 * (16 + 16)
    with watched(decoder) as channels, torch.inference_mode():
        decoder(torch.randn(4, 8, 2, 1))
    assert channels.total == total
    before = channels.dead
    with torch.no_grad():
        decoder.reduce[1].weight[:3] = 0
        decoder.reduce[1].bias[:3] = -1
        decoder.blocks[1].unit[1].weight[:5] = 0
        decoder.blocks[1].unit[1].bias[:5] = -1
    with watched(decoder) as channels, torch.inference_mode():
        for _ in range(2):
            decoder(torch.randn(4, 8, 2, 1))
    dead = {name: int((~seen).sum()) for name, seen in channels.alive.items()}
    assert (dead["reduce.2"], dead["blocks.1.unit.2"]) == (3, 5)
    assert channels.dead == sum(dead.values()) > before
    found = Measurement(channels, None)
    assert found.to_json() == {"dead": channels.dead, "channels": total}
    assert not decoder._forward_hooks
    assert not decoder.reduce._forward_hooks, "nothing is watched any longer"


# Colours ----------------------------------------------------------------------------------------


def test_colours_begin_with_nothing_and_fill_the_image() -> None:
    colours = Colours(6, (2, 1))
    feature = torch.randn(3, 6, 4, 2)
    assert torch.equal(colours(feature, (40, 24)), torch.zeros(3, 3, 40, 24))
    assert sum(p.numel() for p in colours.linear.parameters()) == (6 * 2 + 1) * 3 * 16 * 16
    with torch.no_grad():
        colours.linear.bias[:256] = 0.5
    found = colours(feature, (40, 24))
    torch.testing.assert_close(found[:, 0], torch.full((3, 40, 24), 0.5))
    assert torch.equal(found[:, 1:], torch.zeros(3, 2, 40, 24))


def test_colours_read_the_standardised_map_at_a_fixed_pace() -> None:
    colours = Colours(6, (2, 1)).train()
    with torch.no_grad():
        colours.linear.weight[0, 0] = 1.0
    feature = 5 + 3 * torch.randn(8, 6, 2, 1)
    found = colours(feature, (16, 16))[:, 0, 0, 0]
    first = feature[:, 0, 0, 0]
    values = feature[:, 0]
    wanted = (first - values.mean()) / values.std(correction=0) * 10 / 12**0.5
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_a_decoder_adds_its_colours() -> None:
    torch.manual_seed(0)
    with_colours = Decoder((8,), 16, (32, 32), colours=(2, 1)).eval()
    plain = Decoder((8,), 16, (32, 32)).eval()
    plain.load_state_dict(
        {k: v for k, v in with_colours.state_dict().items() if not k.startswith("colours.")}
    )
    feature = torch.randn(2, 8, 2, 1)
    with torch.inference_mode():
        assert torch.equal(with_colours(feature)[0], plain(feature)[0])
        with_colours.colours.linear.bias.fill_(0.25)  # type: ignore[union-attr]
        torch.testing.assert_close(with_colours(feature)[0], plain(feature)[0] + 0.25)
    assert plain.colours is None


def test_colours_are_learnt_within_few_steps() -> None:
    torch.manual_seed(0)
    feature = torch.randn(64, 16, 4, 2)
    tint = torch.sign(feature[:, 0, 0, 0])[:, None, None, None]
    wanted = torch.cat([tint, -tint, tint], dim=1).expand(64, 3, 32, 32)
    colours = Colours(16, (4, 2))
    optimiser = torch.optim.Adam(colours.parameters(), 1e-3, betas=(0.5, 0.999))
    for _ in range(30):
        found = colours(feature, (32, 32))
        optimiser.zero_grad()
        loss = (found - wanted).abs().mean()
        loss.backward()
        optimiser.step()
    agreement, found = Agreement(), found.detach()
    agreement.add(found[:, 0] - found[:, 1], wanted[:, 0] - wanted[:, 1])
    assert agreement.correlation > 0.75
    assert float(loss.detach()) < 0.7
