"""The studies' changes of pictures and features: what they do, and that they end with training."""

import sys

import pytest
import torch
from house import ROOT
from torch import Tensor, nn

from reid_core.data.augmentation import normalise

sys.path.insert(0, str(ROOT / "benchmarks"))

from studies import changes, planning


def test_a_style_is_mixed_from_two_images() -> None:
    feature = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    others = torch.tensor([1, 2, 0])
    assert torch.allclose(
        changes.mixed(feature, torch.ones(3, 1, 1, 1), others), feature, atol=1e-6
    )
    # Nothing of its own: the mean and the deviation are the other's, the pattern is not.
    found = changes.mixed(feature, torch.zeros(3, 1, 1, 1), others)
    assert torch.allclose(found.mean((2, 3)), feature[others].mean((2, 3)), atol=1e-5)
    assert torch.allclose(found.std((2, 3)), feature[others].std((2, 3)), atol=1e-4)
    pattern = torch.corrcoef(torch.stack([found[0, 0].flatten(), feature[0, 0].flatten()]))
    assert pattern[0, 1] == pytest.approx(1, abs=1e-5)
    # A quarter of its own.
    share = torch.full((3, 1, 1, 1), 0.25)
    mean = 0.25 * feature.mean((2, 3)) + 0.75 * feature[others].mean((2, 3))
    assert torch.allclose(changes.mixed(feature, share, others).mean((2, 3)), mean, atol=1e-5)


def test_a_cast_moves_channels_apart_and_keeps_brightness() -> None:
    grey = torch.full((1, 3, 2, 2), 0.5)
    found = changes.cast(grey, torch.tensor([[2.0, 1.0, 1.0]]))
    assert found[0, :, 0, 0].tolist() == pytest.approx([0.75, 0.375, 0.375])
    assert found.mean().item() == pytest.approx(0.5)


class Stages(nn.Module):
    """Returns what it is given; three stages that do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential() for _ in range(3))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the image behind each stage."""
        return [stage(image) for stage in self.stages]


@pytest.mark.parametrize(
    ("settings", "behind"),
    [
        ({"operations": 2}, [True, True, True]),
        ({"casts": 0.4}, [True, True, True]),
        ({"styles": 0.1}, [True, True, False]),
        ({}, [False, False, False]),
    ],
)
def test_changes_act_in_training_alone(
    settings: dict[str, float], behind: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "styles" in settings:  # half of the batches are left alone
        monkeypatch.setattr(torch, "rand", lambda size: torch.ones(size))
    torch.manual_seed(0)
    image = normalise(torch.linspace(0, 1, 3072).view(8, 3, 16, 8))
    given = {"operations": 0, "magnitude": 9, "casts": 0.0, "styles": 0.0, **settings}
    encoder: nn.Module = Stages()
    changes.Changes(**given).watch(encoder)  # type: ignore[arg-type]
    found = encoder.train()(image)
    assert [not torch.equal(one, image) for one in found] == behind
    assert all(torch.equal(one, image) for one in encoder.eval()(image))


def test_the_plugin_is_loaded_for_who_names_it_alone() -> None:
    assert planning.classes_for({"run": {"plugins": ["changed"]}}) is changes.CLASSES
    assert planning.classes_for({"run": {"plugins": ["san"]}}) == {}
