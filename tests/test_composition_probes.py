"""Probe plugins of every shape together: what fits trains at once, what does not says so."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_core.errors import ConflictError
from reid_core.loop.state import trainable_state
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly

NAMES = sorted(PROBES)
TOGETHER = [name for name in NAMES if name != "clustering"]
"""All that go together as they are."""

ON_STREAM = {"head": {"stream": "stream/map"}}
TERMS = {
    "adversarial": {"adversarial/critic:adversarial/critic", "main:adversarial/keep"},
    "clustering": {"main:core/global/contrast", "main:stream/shape/contrast"},
    "head": {"main:head/parts"},
    "pairs": {"pairs/reconstruct:pairs/colours"},
    "staged": {"main:staged/follow"},
    "stream": {"main:stream/keep", "main:stream/similar"},
}


def trained(names: list[str], cache: Path, plugins: dict[str, Any] | None = None) -> Recorder:
    one_epoch = {"schedule": {"epochs": 1}, "plugins": plugins or {}}
    trainer = Recorder(tiny_assembly(names, one_epoch, cache=cache, classes=PROBES))
    trainer.fit()
    return trainer


def test_all_that_fit_train_at_once_in_any_order(reid_cache: Path) -> None:
    one = trained(TOGETHER, reid_cache, ON_STREAM)
    two = trained(TOGETHER[::-1], reid_cache, ON_STREAM)
    assert len(one.trace) == 2
    assert one.trace == two.trace
    expected = set().union(*(TERMS[name] for name in TOGETHER))
    assert expected <= set(one.trace[0])
    assert all(torch.tensor(list(step.values())).isfinite().all() for step in one.trace)
    after = trainable_state(two.assembly.model)
    for name, value in trainable_state(one.assembly.model).items():
        assert torch.equal(value, after[name]), f"'{name}' depends on the order of plugins"


def test_clusters_take_the_place_of_identities_under_all_the_others(reid_cache: Path) -> None:
    trainer = trained(NAMES, reid_cache, {**ON_STREAM, "staged": {"teacher": False}})
    seen = set(trainer.trace[0])
    wanted = set().union(*(TERMS[name] for name in NAMES if name != "staged"))
    assert wanted <= seen
    assert not any(name.endswith(("/ce", "/triplet")) for name in seen)
    assert trainer.assembly.ctx.num_identities == 6
    dims = {name: c.memory.shape for name, c in trainer.assembly.model.criteria.items()}
    assert dims == {"core/global": (6, 96), "stream/shape": (6, 16)}


@pytest.mark.parametrize(("one", "two"), list(combinations(NAMES, 2)))
def test_every_pair_trains_or_names_both(one: str, two: str, reid_cache: Path) -> None:
    conflict = {one, two} == {"clustering", "staged"}
    if conflict:
        with pytest.raises(ConflictError) as caught:
            trained([one, two], reid_cache)
        for word in (f"'{one}'", f"'{two}'", "-s staged.teacher=false"):
            assert word in str(caught.value)
        return
    trainer = trained([one, two], reid_cache)
    assert len(trainer.trace) == 2
    alone = {"main:stream/shape/contrast", "main:stream/similar"}
    wanted = (TERMS[one] | TERMS[two]) - (alone if "stream" not in (one, two) else set())
    assert wanted <= set(trainer.trace[0])


def test_what_is_deployed_does_not_grow_with_the_plugins(reid_cache: Path) -> None:
    plain = tiny_assembly((), cache=reid_cache).embedder()
    full = tiny_assembly(TOGETHER, cache=reid_cache, classes=PROBES).embedder()
    assert set(full.state_dict()) == set(plain.state_dict())
    images = torch.rand(2, 3, *plain.size)
    with torch.inference_mode():
        assert torch.equal(full.eval()(images), plain.eval()(images)), "other initial weights"
