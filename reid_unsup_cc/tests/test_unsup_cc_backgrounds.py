"""Backgrounds: greyed before clustering, grey or the template's behind people in other clothes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from unsup_cc_runs import TINY, unsup_cc

from reid_core.contract.batches import IMAGENET_MEAN
from reid_core.testing.tiny import Recorder
from reid_unsup_cc.backgrounds import Relocated, emptied, greyed
from reid_unsup_cc.recolor import Recolor

UPPER = 3


def person(colour: float) -> tuple[Tensor, Tensor]:
    """Two columns of background, one of a person, on a picture whose rows differ."""
    garments = torch.zeros(1, 3, 3, dtype=torch.int64)
    garments[:, :, 1] = UPPER
    image = torch.arange(3.0).view(1, 1, 3, 1).expand(1, 3, 3, 3) / 10 + colour
    image = torch.where(garments[:, None] > 0, torch.tensor(0.9), image)
    return image.clone(), garments


def test_greyed_images_show_people_alone() -> None:
    image, garments = torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)
    garments[0, 1:3, 1:3] = UPPER
    made = greyed(image, {"garments": garments})
    assert torch.equal(made[0, :, 1:3, 1:3], image[0, :, 1:3, 1:3])
    assert made[0].count_nonzero() == 12
    assert not made[1].any()


def test_a_picture_without_its_person() -> None:
    image, garments = person(0.2)
    image[0, :, 0, 0] = 0.6
    made = emptied(image, garments)
    assert torch.equal(made[:, :, :, [0, 2]], image[:, :, :, [0, 2]])
    rows = [(0.6 + 0.2) / 2, 0.3, 0.4]
    assert torch.allclose(made[0, 0, :, 1], torch.tensor(rows))
    garments[:, 1] = UPPER  # a row without background takes the mean of all of it
    whole = (0.6 + 0.2 + 0.4 + 0.4) / 4
    assert torch.allclose(emptied(image, garments)[0, 0, 1], torch.tensor(whole))
    garments[:] = UPPER
    assert not emptied(image, garments).any(), "black, where no background is seen at all"


@pytest.mark.parametrize("background", ["keep", "grey", "swap"])
def test_people_are_put_elsewhere(background: Any) -> None:
    image, garments = person(0.2)
    template, worn = person(0.5)
    plain = Recolor()(image, garments, template, worn)
    made = Relocated(Recolor(), background)(image, garments, template, worn)
    assert torch.equal(made[:, :, :, 1], plain[:, :, :, 1]), "who stands there is dressed as ever"
    behind = made[:, :, :, [0, 2]]
    wanted = {
        "keep": image[:, :, :, [0, 2]],
        "grey": torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand_as(behind),
        "swap": template[:, :, :, [0, 2]],
    }
    assert torch.equal(behind, wanted[background])


def test_behind_people_there_is_no_other_person() -> None:
    image, garments = person(0.2)
    template, worn = person(0.5)
    template, worn = template.roll(1, 3), worn.roll(1, 2)  # stands in another column
    made = Relocated(Recolor(), "swap")(image, garments, template, worn)
    assert torch.allclose(made[0, 0, :, 2], torch.tensor([0.5, 0.6, 0.7])), "what is beside them"
    assert torch.equal(made[:, :, :, 0], template[:, :, :, 0])


def shown(cache: Path, clustering: dict[str, Any]) -> Any:
    """Return the plugin's clusters of an epoch, and whether garments were read for its features."""
    assembly = unsup_cc(cache, settings={"clustering": {**TINY["clustering"], **clustering}})
    plugin: Any = assembly.plugins["unsup_cc"]
    seen = {}
    clustered = plugin._clustered

    def keep(labels: Any) -> Any:
        seen["features"] = clustered(labels)
        seen["plain"] = labels.features()
        return seen["features"]

    plugin._clustered = keep
    assembly.model.train()
    Recorder(assembly).begin_epoch()
    seen["cameras"] = np.array([sample.camid for sample in assembly.truth.samples])
    return seen


def test_what_is_clustered(reid_cache: Path) -> None:
    plain = shown(reid_cache, {})
    assert np.array_equal(plain["features"], plain["plain"])
    grey = shown(reid_cache, {"background": "grey"})
    assert np.array_equal(grey["plain"], plain["plain"])
    assert np.abs(grey["features"] - plain["plain"]).max() > 1e-3
    white = shown(reid_cache, {"cameras": "whiten"})
    from reid_unsup_cc.clustering import whitened

    assert np.array_equal(white["features"], whitened(plain["plain"], plain["cameras"]))


def test_cached_outfits_stand_elsewhere(reid_cache: Path) -> None:
    from reid_core.data.decoding import read_field
    from reid_unsup_cc.templates import read_picture

    assembly = unsup_cc(reid_cache, settings={"synthesis": {"background": "grey"}})
    main = assembly.ctx.main
    made = read_field(main.samples[3].fields["unsup_cc/outfits"], main.fields["unsup_cc/outfits"])
    behind = read_picture(main, main.samples[3]).garments == 0
    grey = (255 * torch.tensor(IMAGENET_MEAN)).round().to(torch.uint8).numpy()
    assert (made[:, :, behind] == grey[None, :, None]).all()
