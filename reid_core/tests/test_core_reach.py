"""The reach of loss terms: the passes that they are computed on, and what they train."""

from __future__ import annotations

from pathlib import Path

import torch

from reid_core.loop.assembly import Assembly
from reid_core.runs.reach import Reach, follow_terms
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly


def reaches(*plugins: str, cache: Path, **settings: dict[str, object]) -> dict[str, Reach]:
    found = follow_terms(assembly(*plugins, cache=cache, **settings))
    return {f"{reach.update}:{reach.term}": reach for reach in found}


def assembly(*plugins: str, cache: Path, **settings: dict[str, object]) -> Assembly:
    return tiny_assembly(plugins, {"plugins": settings}, cache=cache, classes=PROBES)


def test_a_head_trains_itself_and_the_encoder(reid_cache: Path) -> None:
    found = reaches("head", cache=reid_cache, head={"weight": 0.25})
    parts = found["main:head/parts"]
    assert (parts.weight, parts.passes, parts.parts) == (0.25, ("main",), ("encoder", "head/head"))
    assert {"branches.head/head.1.weight", "branches.head/head.1.bias"} < parts.parameters
    triplet = found["main:core/global/triplet"]
    assert triplet.parts == ("encoder",), "distances are those before the neck"


def test_an_update_trains_what_it_steps_and_nothing_else(reid_cache: Path) -> None:
    found = reaches("adversarial", "pairs", cache=reid_cache)
    assert found["adversarial/critic:adversarial/critic"].parts == ("adversarial/discriminator",)
    # The generator's term reaches the discriminator, but main does not step that.
    assert found["main:adversarial/fool"].parts == ("adversarial/generator",)
    pairs = found["pairs/reconstruct:pairs/colours"]
    assert (pairs.passes, pairs.parts) == (("pairs/pair",), ("encoder", "pairs/decoder"))


def test_generated_images_are_passes_of_their_own(reid_cache: Path) -> None:
    settings = {"identity_weight": 0.5}
    found = reaches("adversarial", "head", cache=reid_cache, adversarial=settings)
    assert found["main:head/parts"].passes == ("adversarial/recoloured", "main")
    again = found["main:core/global/ce@adversarial/recoloured"]
    assert (again.weight, again.passes) == (0.5, ("adversarial/recoloured",))
    assert again.parts == ("core/global/identity", "core/global/neck", "encoder")


def test_following_leaves_no_trace(reid_cache: Path) -> None:
    followed, plain = (assembly("head", "clustering", cache=reid_cache) for _ in range(2))
    before = {name: value.clone() for name, value in followed.model.state_dict().items()}
    follow_terms(followed)
    for name, value in followed.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    one, two = Recorder(followed), Recorder(plain)
    one.fit()
    two.fit()
    assert one.trace == two.trace
