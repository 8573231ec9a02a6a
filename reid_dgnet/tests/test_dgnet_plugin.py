"""The plugin in a run: refusals, routes and labels of generated images, embeddings, composition."""

import pytest
import torch
from test_dgnet_gradients import SMALL as ALONE

from reid_core import Branch, ConfigError, ConflictError, Embedding, Plugin, hookimpl
from reid_core.runs.resolve import resolve
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly
from reid_dgnet import Dgnet
from reid_dgnet.settings import DgnetSettings


def assembled(cache, *others, data=None, sections=None, **settings):
    layer = {"plugins": {"dgnet": {**ALONE, **settings}}, **(sections or {})}
    if data:
        layer["data"] = data
    return tiny_assembly(("dgnet", *others), layer, cache=cache, classes=PROBES)


def watched(assembly):
    """Take an epoch; return the trace and the views of the last step of every update."""
    trainer, views = Recorder(assembly), {}
    calls = assembly.parts.forward._calls
    losses = calls.losses

    def keep(ctx, step):
        views[step.update] = step
        return losses(ctx, step)

    calls.losses = keep
    trainer.train_epoch()
    return trainer, views


@pytest.mark.parametrize(
    ("size", "aspp", "message"),
    [
        ((64, 32), True, "images of 64 x 32 are too small.*needs 40 pixels.*or set -s dgnet.aspp"),
        ((64, 16), False, "images of 64 x 16 are too small.*needs 20 pixels.*data.width$"),
        ((98, 48), True, "data.height = 98 and data.width = 48 must be multiples of 4"),
    ],
)
def test_images_that_cannot_be_composed_are_refused(size, aspp, message, reid_cache):
    data = {"height": size[0], "width": size[1]}
    with pytest.raises(ConfigError, match=message):
        assembled(reid_cache, data=data, aspp=aspp)


@pytest.mark.parametrize(("size", "aspp"), [((40, 40), True), ((20, 20), False)])
def test_the_smallest_images_work(size, aspp):
    from reid_dgnet.networks.discriminator import Discriminator
    from reid_dgnet.networks.structure import StructureEncoder

    image = torch.randn(1, 3, *size)
    assert StructureEncoder(1, 1, aspp)(image[:, :1]).shape[2:] == (size[0] // 4, size[1] // 4)
    assert len(Discriminator(1, 1)(image)) == 3
    smaller = image[:, :, :, :-4]
    network = StructureEncoder(1, 1) if aspp else Discriminator(1, 1)
    with pytest.raises(RuntimeError, match=r"[Pp]adding"):
        network(smaller[:, :1] if aspp else smaller)


@pytest.mark.parametrize(
    ("sampler", "batch", "instances"), [("random", 1, 1), ("pk", 4, 4), ("pairs", 2, 1)]
)
def test_a_batch_of_one_person_is_refused(sampler, batch, instances, reid_cache):
    data = {"batch_size": batch, "instances": instances, "sampler": sampler}
    lonely = rf"data.batch_size = {batch} with the sampler '{sampler}' leaves nobody to swap"
    with pytest.raises(ConfigError, match=lonely):
        assembled(reid_cache, data=data)


def test_so_is_one_of_a_person_for_each_process():
    config = resolve({"data": {"batch_size": 8, "instances": 4}}).config
    plugin = Dgnet("dgnet")
    plugin._refuse_lonely_batches(config, 1)
    with pytest.raises(ConfigError, match=r"batch_size = 8 over 2 processes with the sampler 'pk"):
        plugin._refuse_lonely_batches(config, 2)


def test_blocks_that_do_not_divide_the_code_are_refused(reid_cache):
    with pytest.raises(ConfigError, match=r"dgnet.blocks = 7.*cannot be cut into as many parts"):
        assembled(reid_cache, blocks=7)


def test_a_stripe_needs_a_block():
    with pytest.raises(ValueError, match="needs one block for each of 4 stripes, not 2"):
        DgnetSettings(code_layout="stripe", blocks=2)


def test_generated_images_go_both_ways_with_their_donors_labels(reid_cache):
    _, views = watched(assembled(reid_cache, "head"))
    step = views["main"]
    live, copy = step.passes["dgnet/composed"], step.passes["dgnet/imitated"]
    main = step.main.batch
    assert (live.shared, copy.shared) == (True, False)
    assert torch.equal(live.image, copy.image.detach())
    assert live.image.grad_fn is None
    assert copy.image.grad_fn is not None
    # The identity is the appearance's, parts and camera are the structure's.
    appearance, partner = live.batch.origin, live.batch.origin.roll(2)
    assert torch.equal(live.batch.pid, main.pid[appearance])
    assert torch.equal(live.batch.camid, main.camid[partner])
    assert torch.equal(live.batch.fields["parts"], main.fields["parts"][partner])
    assert (live.batch.pid != main.pid[partner]).all()


def test_a_part_head_is_supervised_on_generated_images(reid_cache):
    trained, views = watched(assembled(reid_cache, "head"))
    assert "head/logits" in views["main"].passes["dgnet/composed"].feats
    silent, _ = watched(assembled(reid_cache, "head", feed=False))
    assert trained.trace[0]["main:head/parts"] != silent.trace[0]["main:head/parts"]


def test_images_are_fed_only_after_the_warm_up(reid_cache):
    trainer, _ = watched(assembled(reid_cache, warmup_begin=0))
    first, second = trainer.trace[:2]
    scheduled = {f"main:dgnet/{n}" for n in ("fine_grained", "primary", "cycle", "code1", "code2")}
    assert not scheduled & set(first)
    assert scheduled <= set(second)


def test_a_user_s_weight_brings_a_term_before_the_warm_up(reid_cache):
    weights = {"loss_weights": {"dgnet/cycle": 1.0}}
    trainer, _ = watched(assembled(reid_cache, warmup_begin=100, sections=weights))
    assert "main:dgnet/cycle" in trainer.trace[0]
    assert "main:dgnet/code2" not in trainer.trace[0]


def test_similarities_are_primary_and_half_of_fine(reid_cache):
    assembly = assembled(reid_cache)
    embedder = assembly.embedder().eval()
    with torch.no_grad():
        images = torch.randn(3, 3, 64, 32)
        feature = embedder.embed_normalised(images)
        vectors = embedder.vectors(images)
    prim, fine = vectors["dgnet/prim"].unit, vectors["dgnet/fine"].unit
    assert feature.shape == (3, 32)
    assert torch.allclose(feature @ feature.T, prim @ prim.T + 0.5 * fine @ fine.T, atol=1e-5)


def test_beta_0_deploys_the_primary_embedding_alone(reid_cache):
    assert list(assembled(reid_cache, beta=0.0).embedder().embeddings) == ["dgnet/prim"]


def test_clean_images_get_a_pass_where_others_are_erased(reid_cache):
    erased, _ = watched(assembled(reid_cache, sections={"augment": {"erasing": 1.0}}))
    plan = erased.assembly.parts.plan
    assert [p.name for p in plan.updates[1].passes] == ["main", "dgnet/clean"]
    plain = assembled(reid_cache, sections={"augment": {"erasing": 0.0}}).parts.plan
    assert [p.name for p in plain.updates[1].passes] == ["main"]


def test_rows_that_others_append_take_no_part(reid_cache):
    joined = {"augment": {"erasing": 0.0}, "plugins": {"dgnet": ALONE}}
    joined["plugins"]["adversarial"] = {"route": "join"}
    assembly = tiny_assembly(("dgnet", "adversarial"), joined, cache=reid_cache, classes=PROBES)
    _, views = watched(assembly)
    assert len(views["main"].main.batch) == 16
    assert views["main"].passes["dgnet/imitated"].batch.origin.max() < 8


class Rival(Plugin):
    """Another owner of the embedding."""

    claims = ("embedding",)

    @hookimpl
    def reid_auxiliary_branches(self, ctx, taps):
        from reid_core.model.blocks import GlobalPool

        embedding = Embedding(self.own("vector"), reads=self.own("pooled"))
        pool = GlobalPool("avg")
        return [
            Branch(self.own("pool"), pool, ("encoder/map",), (self.own("pooled"),), (embedding,))
        ]


def with_rival(cache, own):
    layer = {"plugins": {"dgnet": ALONE}, "own": own}
    return tiny_assembly(("dgnet", "rival"), layer, cache=cache, classes={"rival": Rival})


def test_two_owners_of_the_embedding_are_a_conflict(reid_cache):
    with pytest.raises(ConflictError, match=r"'dgnet' and 'rival'.*--own embedding="):
        with_rival(reid_cache, {})


def test_a_loser_of_the_embedding_generates_all_the_same(reid_cache):
    trainer, _ = watched(with_rival(reid_cache, {"embedding": "rival"}))
    seen = set(trainer.metrics.seen)
    assert {"rival/vector/ce", "dgnet/image1", "rival/vector/ce@dgnet/imitated"} <= seen
    assert not {"dgnet/prim/ce", "dgnet/primary"} & seen


def test_a_teacher_and_changing_identities_exclude_each_other(reid_cache):
    settings = {**ALONE, "teacher": "stage", "labels": "soft"}
    with pytest.raises(ConflictError, match=r"'dgnet'.*'clustering'.*dgnet.teacher=none"):
        assembled(reid_cache, "clustering", **settings)


def test_without_a_teacher_identities_may_change(reid_cache):
    trainer, views = watched(assembled(reid_cache, "clustering"))
    assert "dgnet/fine_grained" in trainer.metrics.seen
    assert "dgnet/composed" in views["main"].passes
    for step in trainer.trace:
        assert all(torch.tensor(value).isfinite() for value in step.values())


def test_the_objective_may_be_logarithmic(reid_cache):
    trainer, _ = watched(assembled(reid_cache, gan="nsgan", r1=0.0))
    first = trainer.trace[0]
    assert first["dgnet/discriminator:dgnet/judge"] == pytest.approx(12 * 0.6931, abs=0.05)
    assert "dgnet/discriminator:dgnet/r1" not in first


def test_half_precision_keeps_losses_finite_and_images_whole(reid_cache):
    sections = {"engine": {"precision": "bf16"}}
    trainer, views = watched(assembled(reid_cache, sections=sections))
    assert views["main"].passes["dgnet/composed"].image.dtype == torch.float32
    for step in trainer.trace:
        assert all(torch.tensor(value).isfinite() for value in step.values())


def test_people_with_one_image_are_reconstructed_from_it(reid_cache):
    # With as many people as rows, everybody is in the batch once.
    data = {"batch_size": 4, "instances": 1}
    trainer, views = watched(assembled(reid_cache, data=data))
    assert len(set(views["main"].main.batch.pid.tolist())) == 4
    for step in trainer.trace:
        assert step["main:dgnet/image2"] == step["main:dgnet/image1"]
