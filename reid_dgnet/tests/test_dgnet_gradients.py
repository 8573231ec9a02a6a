"""The contract of the gradients: which loss reaches which network, row by row."""

import pytest
import torch

from reid_core.testing.tiny import Recorder, tiny_assembly

SMALL = {
    "width": 1,
    "aspp": False,
    "blocks": 1,
    "dim": 16,
    "anchors": 4,
    "teacher": "none",
    "labels": "appearance",
    "warmup_begin": -1,
    "warmup_rate": 2.0,
    "picture": 0,
}

NETWORKS = {
    "trunk": "encoder.",
    "prim": ("heads.dgnet/prim.", "criteria.dgnet/prim."),
    "fine": ("heads.dgnet/fine.", "criteria.dgnet/fine."),
    "structure": "branches.dgnet/structure.",
    "decoder": "branches.dgnet/decoder.",
    "parameters": "branches.dgnet/parameters.",
    "discriminator": "branches.dgnet/discriminator.",
}
GENERATOR = {"structure", "decoder", "parameters"}

# Every term of the objective: the networks that it trains. In `main`, unless it says otherwise.
TABLE = {
    "dgnet/image1": GENERATOR,
    "dgnet/image2": GENERATOR,
    "dgnet/code1": set(),
    "dgnet/code2 again": {"structure"},
    "dgnet/code2 copy": GENERATOR,
    "dgnet/cycle again": GENERATOR,
    "dgnet/cycle copy": GENERATOR,
    "dgnet/prim/ce": {"trunk", "prim"},
    "dgnet/fine_on_real": {"trunk", "fine"},
    "dgnet/prim/ce@dgnet/imitated": GENERATOR,
    "dgnet/adversarial": GENERATOR,
    "dgnet/judge": {"discriminator"},
    "dgnet/r1": {"discriminator"},
    "dgnet/primary": {"trunk", "prim"},
    "dgnet/fine_grained": {"trunk", "fine"},
}
# The core reports these, too, but their weight is 0: the fine embedding's terms are the plugin's.
WITHOUT_WEIGHT = {"dgnet/fine/ce", "dgnet/fine/ce@dgnet/imitated"}


class Terms:
    """The terms of one step with their graphs, and the networks' parameters."""

    def __init__(self, cache, prepare=lambda assembly: None, **settings):
        sections = {
            "plugins": {"dgnet": {**SMALL, **settings}},
            # Erasing is on, so that codes come from a pass of clean images.
            "augment": {"erasing": 1.0},
        }
        self.assembly = tiny_assembly(("dgnet",), sections, cache=cache)
        trainer = Recorder(self.assembly)
        trainer.begin_epoch()
        streams = trainer.streams(1)
        self.batches = trainer.batches(streams)
        for stream in streams.values():
            stream.close()
        prepare(self.assembly)
        self.assembly.model.train()
        self.values, self.weights, self.views = {}, {}, {}
        forward = self.assembly.parts.forward
        losses = forward._calls.losses

        def keep(ctx, step):
            self.views[step.update] = step
            return losses(ctx, step)

        forward._calls.losses = keep
        summed = forward._summed
        forward._summed = lambda terms, first: self._keep(terms) or summed(terms, first)
        for update in self.assembly.parts.plan.updates:
            forward(update, self.batches)

    def _keep(self, terms):
        self.values |= {name: term.value for name, term in terms.items()}
        self.weights |= {name: term.weight for name, term in terms.items()}

    def reached(self, term):
        """Return the networks of which some parameter gets a gradient from a term."""
        value = self.values[term]
        if not value.requires_grad:
            return set()
        named = [(n, p) for n, p in self.assembly.model.named_parameters() if p.requires_grad]
        found = torch.autograd.grad(
            value, [p for _, p in named], allow_unused=True, retain_graph=True
        )
        with_gradient = [name for (name, _), g in zip(named, found, strict=True) if g is not None]
        return {
            network
            for network, prefix in NETWORKS.items()
            if any(name.startswith(prefix) for name in with_gradient)
        }


@pytest.fixture(scope="module")
def steps(reid_cache):
    return {
        share: Terms(reid_cache, again=value) for share, value in (("again", 1.0), ("copy", 0.0))
    }


@pytest.mark.parametrize("row", TABLE)
def test_a_term_trains_exactly_the_networks_of_its_row(row, steps):
    term, _, coin = row.partition(" ")
    for share in [coin] if coin else ["again", "copy"]:
        assert steps[share].reached(term) == TABLE[row]


def test_every_term_has_a_row(steps):
    rows = {row.partition(" ")[0] for row in TABLE}
    for step in steps.values():
        assert set(step.values) == rows | WITHOUT_WEIGHT
        for name in WITHOUT_WEIGHT:
            assert step.weights[name] == 0


def test_the_structure_encoder_learns_from_detached_images_by_re_encoding_alone(reid_cache):
    # Two coins of one step: the same value, by two ways.
    again, copy = (Terms(reid_cache, again=share).values for share in (1.0, 0.0))
    assert again["dgnet/code2"].item() == copy["dgnet/code2"].item()


def test_code1_may_train_the_generator(reid_cache):
    step = Terms(reid_cache, code1_grad="through_generator")
    assert step.reached("dgnet/code1") == GENERATOR


@pytest.mark.parametrize(
    ("option", "reached"),
    [
        ("recon", {"dgnet/image1", "dgnet/image2"}),
        (
            "all",
            {
                "dgnet/image1",
                "dgnet/image2",
                "dgnet/adversarial",
                "dgnet/prim/ce@dgnet/imitated",
                "dgnet/cycle",
                "dgnet/code2",
            },
        ),
    ],
)
def test_generative_losses_may_reach_the_appearance_encoder(option, reached, reid_cache):
    step = Terms(reid_cache, appearance_grad=option, again=0.0)
    generative = {
        "dgnet/image1",
        "dgnet/image2",
        "dgnet/code1",
        "dgnet/code2",
        "dgnet/cycle",
        "dgnet/adversarial",
        "dgnet/prim/ce@dgnet/imitated",
    }
    assert {term for term in generative if "trunk" in step.reached(term)} == reached


def test_an_update_moves_only_its_own_networks(reid_cache):
    assembly = tiny_assembly(("dgnet",), {"plugins": {"dgnet": SMALL}}, cache=reid_cache)
    trainer = Recorder(assembly)
    plan = assembly.parts.plan
    judge, main = plan.updates
    assert (judge.name, main.name) == ("dgnet/discriminator", "main")
    prefixes = {
        group: {".".join(name.split(".")[:2]) for name in plan.groups[group].parameters}
        for group in (*judge.groups, *main.groups)
    }
    assert prefixes["dgnet/discriminator"] == {"branches.dgnet/discriminator"}
    assert prefixes["dgnet/generator"] == {
        f"branches.dgnet/{part}" for part in ("structure", "decoder", "parameters")
    }
    assert judge.groups == ("dgnet/discriminator",)
    assert "dgnet/discriminator" not in main.groups
    before = {n: p.detach().clone() for n, p in assembly.model.named_parameters()}
    trainer.train_epoch()
    after = dict(assembly.model.named_parameters())
    moved = {n for n, value in before.items() if not torch.equal(value, after[n])}
    for network, prefix in NETWORKS.items():
        assert any(name.startswith(prefix) for name in moved), network
