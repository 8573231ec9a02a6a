"""Terms of an identity criterion have weights of their own; people keep the data set's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from reid_core import (
    DataSet,
    Embedded,
    IdentityCriterion,
    IdentityOutput,
    Plugin,
    UnknownNameError,
    hookimpl,
)
from reid_core.testing.tiny import first_forward, tiny_assembly


class Halves(IdentityCriterion):
    names = ("long", "short")

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        size = embedded.raw.square().mean()
        return IdentityOutput({"long": size, "short": size}, None, {self.names[0]: 0.25})


class Wrong(Halves):
    names = ("lang",)


class Weighing(Plugin):
    claims = ("identity",)
    made: type[IdentityCriterion] = Halves

    @hookimpl
    def reid_identity(self, embedding: object) -> IdentityCriterion:
        return self.made(embedding)  # type: ignore[arg-type]


def test_a_criterion_weighs_its_terms(reid_cache: Path) -> None:
    classes = {"weighing": Weighing}
    loss, report = first_forward(tiny_assembly(("weighing",), cache=reid_cache, classes=classes))
    assert report.weights == {"core/global/long": 0.25, "core/global/short": 1.0}
    value = report.terms["core/global/long"]
    assert loss.item() == pytest.approx(1.25 * value.item())
    ruled = {"loss_weights": {"core/global/long": 3.0}}
    _, report = first_forward(
        tiny_assembly(("weighing",), ruled, cache=reid_cache, classes=classes)
    )
    assert report.weights["core/global/long"] == 3.0


def test_a_weight_of_no_term_is_named(reid_cache: Path) -> None:
    cls = type("Weighing", (Weighing,), {"made": Wrong})
    assembly = tiny_assembly(("weighing",), cache=reid_cache, classes={"weighing": cls})
    with pytest.raises(UnknownNameError, match=r"no loss term 'lang'.*did you mean 'long'"):
        first_forward(assembly)


def test_training_identities_have_the_numbers_of_the_data_set(toy_tiny: DataSet) -> None:
    people = toy_tiny.train.people
    assert set(people) == set(range(toy_tiny.train.num_identities))
    for sample in toy_tiny.train.samples:
        assert sample.path.name.startswith(f"{people[sample.pid]:04d}_")
