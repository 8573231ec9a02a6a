"""Every term's value and weight, and what every setting changes, by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from test_dgnet_gradients import SMALL, Terms

from reid_core.contract.step import weight_at
from reid_core.testing.tiny import tiny_assembly
from reid_dgnet.losses import discriminator_loss, generator_loss, gradient_penalty
from reid_dgnet.networks.appearance import EmbeddingLayer, appearance_code
from reid_dgnet.networks.discriminator import Discriminator
from reid_dgnet.networks.structure import to_grey
from reid_dgnet.settings import DgnetSettings
from reid_dgnet.terms import embedding_terms


@pytest.fixture(scope="module")
def step(reid_cache):
    weights = {"identity": 0.7, "identity_generated": 0.3, "image1": 3.0, "image2": 4.0}
    return Terms(reid_cache, decided, **weights)


@torch.no_grad()
def decided(assembly):
    """Enlarge the discriminator's first weights, which hardly tell one image from another."""
    for value in assembly.ctx.module("dgnet/discriminator").parameters():
        value.mul_(20)


@pytest.fixture(scope="module")
def scene(step):
    """Return images, appearance codes of them and of positives, and the composed images."""
    main = step.views["main"]
    made = main.passes["dgnet/imitated"]
    anchors, batch = made.batch.origin, main.main.batch
    assert len(anchors) == 4
    codes = appearance_code(main.passes["dgnet/clean"].output("encoder/map")).detach()
    rows = torch.arange(len(batch))
    # Two images of everybody are in the batch.
    positives = torch.stack(
        [rows[(batch.pid == batch.pid[a]) & (rows != a)].squeeze() for a in anchors]
    )
    return batch.image[anchors], codes[anchors], codes[positives], made


def modules(step):
    ctx = step.assembly.ctx
    encode, decode, mlps = (
        ctx.module(f"dgnet/{part}") for part in ("structure", "decoder", "parameters")
    )
    return (
        lambda images: encode(to_grey(images)),
        lambda structure, appearance: decode(structure, *mlps(appearance)),
        ctx.module("dgnet/discriminator"),
    )


def distance(one, two):
    """Return the sum of the mean absolute errors of both directions."""
    first, second = ((a - b).abs().mean() for a, b in zip(one.chunk(2), two.chunk(2), strict=True))
    return (first + second).item()


@torch.no_grad()
def test_generative_terms_are_those_of_the_equations(step, scene):
    images, own, positive, made = scene
    encode, compose, judge = modules(step)
    structure, swapped = encode(images), made.batch.image
    other = structure.roll(2, 0)
    assert torch.allclose(swapped, compose(other, own), atol=1e-5)
    seen = appearance_code(made.output("encoder/map"))
    found = encode(swapped)
    expected = {
        "image1": distance(compose(structure, own), images),
        "image2": distance(compose(structure, positive), images),
        "code1": distance(seen, own),
        "code2": distance(found, other),
        # What an anchor lent is in two images: its structure in its partner's, its look in its own.
        "cycle": distance(compose(found.roll(2, 0), seen), images),
        "adversarial": 2 * generator_loss(judge(swapped), "lsgan").item(),
    }
    values = {name: step.values[f"dgnet/{name}"].item() for name in expected}
    assert values == pytest.approx(expected, rel=1e-4)
    assert len({round(value, 3) for value in values.values()}) == 6


def test_real_images_are_judged_against_composed_ones(step, scene):
    images, *_, made = scene
    judge, real = modules(step)[2], images.clone().requires_grad_()
    scores = judge(real)
    judged = 2 * discriminator_loss(scores, judge(made.batch.image.detach()), "lsgan")
    assert step.values["dgnet/judge"].item() == pytest.approx(judged.item(), rel=1e-4)
    penalty = 2 * gradient_penalty(scores, real)
    assert step.values["dgnet/r1"].item() == pytest.approx(penalty.item(), rel=1e-4)
    assert penalty.item() > 0
    with torch.no_grad():
        turned = 2 * discriminator_loss(judge(made.batch.image), judge(images), "lsgan")
    assert abs(turned.item() / judged.item() - 1) > 0.01


def test_weights_and_dropout_are_the_settings(step):
    assert {name: weight_at(w, 10) for name, w in step.weights.items()} == pytest.approx(
        {
            "dgnet/image1": 3,
            "dgnet/image2": 4,
            "dgnet/code1": 1,
            "dgnet/code2": 1,
            "dgnet/cycle": 2,
            "dgnet/adversarial": 1,
            "dgnet/judge": 1,
            "dgnet/r1": 0.01,
            # Four means of real images, two of generated ones.
            "dgnet/prim/ce": 4 * 0.7,
            "dgnet/prim/ce@dgnet/imitated": 2 * 0.3,
            "dgnet/fine/ce": 0,
            "dgnet/fine/ce@dgnet/imitated": 0,
            "dgnet/fine_on_real": 0.4,
            "dgnet/fine_grained": 0.4,
            "dgnet/primary": 2,
        }
    )
    embeddings = step.assembly.model.embeddings
    dropout = {name: e.supervision.dropout for name, e in embeddings.items()}
    assert dropout == {"dgnet/prim": 0.5, "dgnet/fine": 0.75}


def assembled(cache, sections=None, **settings):
    layer = {"plugins": {"dgnet": {**SMALL, **settings}}, **(sections or {})}
    return tiny_assembly(("dgnet",), layer, cache=cache)


def test_networks_are_those_of_the_settings(reid_cache):
    chosen = {"width": 2, "blocks": 4, "code_layout": "stripe", "non_local": True}
    ctx = assembled(reid_cache, aspp=False, **chosen).ctx
    structure, decoder = ctx.module("dgnet/structure"), ctx.module("dgnet/decoder")
    assert structure.pyramid is None
    assert structure.down[0][0].out_channels == 2
    assert len(structure.blocks) == len(decoder.blocks) == 4
    assert decoder.attention is not None
    assert ctx.module("dgnet/parameters").layout == "stripe"
    large = {"data": {"height": 96, "width": 48}}
    assert assembled(reid_cache, large, aspp=True).ctx.module("dgnet/structure").pyramid


def test_one_block_s_embedding_pools_as_the_settings_say(reid_cache):
    maps = torch.randn(2, 5, 4, 3)
    for name, expected in (("max", maps.amax((2, 3))), ("avg", maps.mean((2, 3)))):
        pool = assembled(reid_cache, head_pool=name).ctx.module("dgnet/pool")
        assert torch.allclose(pool(maps), expected, atol=1e-6)


def test_optimisers_are_the_paper_s_adam_at_the_settings_rates(reid_cache):
    groups = assembled(reid_cache, generator_lr=3e-3, discriminator_lr=4e-4).parts.plan.groups
    for name, lr in (("generator", 3e-3), ("discriminator", 4e-4)):
        adam = groups[f"dgnet/{name}"].optimiser
        assert (adam.name, adam.lr, adam.weight_decay) == ("adam", lr, 5e-4)
        assert adam.betas == (0.0, 0.999)


@pytest.mark.parametrize("moves", ["batch", "update"])
def test_clean_images_move_the_statistics_where_the_settings_say(moves, reid_cache):
    erased = {"augment": {"erasing": 0.5}}
    plan = assembled(reid_cache, erased, clean_statistics=moves).parts.plan
    clean = plan.updates[1].passes[1]
    assert (clean.name, clean.bn) == ("dgnet/clean", moves)


def test_networks_start_as_the_authors(reid_cache):
    torch.manual_seed(0)
    weights = torch.cat([p.flatten() for p in Discriminator(8, 1).parameters() if p.dim() > 1])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    layer = EmbeddingLayer(512, 128).linear
    assert layer.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert layer.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        ({}, True),
        ({"labels": "hard"}, True),
        ({"labels": "uniform"}, False),
        ({"feed": False}, False),
        ({"primary": 0.0}, False),
        ({"teacher": "none"}, False),
    ],
)
def test_a_teacher_is_trained_where_somebody_asks_it(settings, asks):
    assert DgnetSettings(**settings).asks_teacher is asks


class Seen:
    """A pass of composed images: the embedding's vectors are its logits already."""

    image = torch.zeros(4, 1)

    def __init__(self, pid):
        self.batch = SimpleNamespace(pid=pid)
        self.logits = {"dgnet/fine": 3 * torch.eye(4), "dgnet/prim": 2 * torch.eye(4)}

    def embedding(self, name):
        return self.logits[name]


def learnt(settings, passes, teacher=None):
    """Return the embeddings' terms by name, of anchors of people 0 to 3, halves of which swap."""
    pid = torch.arange(4)
    scene = SimpleNamespace(pid=pid, anchors=pid, partners=pid.roll(2))
    real = {"dgnet/fine": 5 * torch.eye(4), "dgnet/prim": torch.zeros(4, 4)}
    view = SimpleNamespace(passes=passes, main=SimpleNamespace(logits=real))
    criterion = SimpleNamespace(logits=lambda vectors: vectors)
    ctx = SimpleNamespace(criterion=lambda name: criterion, module=lambda name: teacher)
    owner = SimpleNamespace(settings=DgnetSettings(**settings), own=lambda name: f"dgnet/{name}")
    return {term.name: term.value.item() for term in embedding_terms(owner, ctx, view, scene)}


def surprise(scale, right):
    """Return the cross-entropy of one logit of 4 that is not 0, where it is the label's or not."""
    return math.log(math.exp(scale) + 3) - (scale if right else 0)


def test_fine_grained_features_learn_the_structure_s_person():
    found = learnt({"labels": "uniform"}, {"dgnet/composed": Seen(torch.arange(4))})
    # Row k shows person k's appearance, and logits say so: its structure is somebody else's.
    assert found["dgnet/fine_grained"] == pytest.approx(2 * surprise(3, right=False))
    assert found["dgnet/fine_on_real"] == pytest.approx(2 * surprise(5, right=True))
    uniform = 4 * 0.25 * math.log(0.25) + surprise(2, right=False) - 0.25 * 2
    assert found["dgnet/primary"] == pytest.approx(2 * uniform)


def test_offline_they_learn_the_person_whom_a_file_is_named_after():
    settings = {"labels": "uniform", "offline": "made"}
    found = learnt(settings, {"dgnet/offline": Seen(torch.tensor([0, 1, 3, 2]))})
    halves = surprise(3, right=True) + surprise(3, right=False)
    assert found["dgnet/fine_grained"] == pytest.approx(halves)


def test_primary_features_learn_what_the_teacher_says():
    seen = {"dgnet/composed": Seen(torch.arange(4))}
    # The teacher halves its belief between a row's two donors, but for a tenth elsewhere.
    soft = torch.full((4, 4), 0.05)
    soft[torch.arange(4), torch.arange(4)] = soft[torch.arange(4), torch.arange(4).roll(2)] = 0.45

    def divergence(own, other, rest):
        entropy = sum(q * math.log(q) for q in (own, other, *rest) if q)
        return entropy + surprise(2, right=False) - 2 * own

    for style, target in (
        ("soft", (0.45, 0.45, (0.05, 0.05))),
        ("masked", (0.5, 0.5, ())),
        ("appearance", (1.0, 0.0, ())),
    ):
        found = learnt({"labels": style}, seen, lambda images: soft)
        assert found["dgnet/primary"] == pytest.approx(2 * divergence(*target), rel=1e-5)


def test_nothing_is_learnt_from_composed_images_before_there_are_any():
    assert set(learnt({"fine_on_real": True}, {})) == {"dgnet/fine_on_real"}
    assert learnt({"fine_on_real": False}, {}) == {}
    without = learnt({"teacher": "none"}, {"dgnet/composed": Seen(torch.arange(4))})
    assert set(without) == {"dgnet/fine_on_real", "dgnet/fine_grained"}
