"""The plugin in a run: losses and their weights, gradients, updates, starts, what is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from san_runs import DECODER, HEADS, SHORT, Run, san
from torch import Tensor, nn

from reid_core import (
    ConfigError,
    ConflictError,
    DataError,
    Encoder,
    Plugin,
    Tap,
    hookimpl,
)
from reid_core.data.augmentation import normalise
from reid_core.images import read_image
from reid_core.testing.tiny import tiny_assembly
from reid_san import losses
from reid_san.pretraining import pretraining_stage, reconstructed
from reid_san.regressing import mean_field

SHARED = ("guide", "skips", "width", "gain", "centred", "colour")
"""Settings of the decoder."""

NO_IDENTITY = {"ce_weight": 0.0, "triplet_weight": 0.0}


def parts_of(names: set[str]) -> set[str]:
    """Return which parts of the model parameters belong to."""
    known = {"encoder.": "encoder", DECODER: "decoder", HEADS[0]: "neck", HEADS[1]: "criteria"}
    return {part for name in names for start, part in known.items() if name.startswith(start)}


def test_the_loss_on_people_has_four_terms_with_the_paper_s_weights(reid_cache: Path) -> None:
    identity = {"ce_weight": 0.5, "triplet_weight": 1.5}
    run = Run(san(reid_cache, {"rec": 0.25, "tr": 2.0}, identity=identity))
    loss, report = run.forward()
    plain = Run(tiny_assembly(cache=reid_cache))
    terms = {name: float(value) for name, value in report.terms.items()}
    weights = {"core/global/ce": 0.5, "core/global/triplet": 1.5, "san/rec": 0.25, "san/tr": 2.0}
    assert (set(terms), report.weights) == (set(weights), weights)
    expected = sum(weight * terms[name] for name, weight in weights.items())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    # The term itself is as it is without λ1.
    baseline = plain.forward()[1].terms["core/global/ce"]
    assert terms["core/global/ce"] == pytest.approx(float(baseline), rel=0.05)


def test_on_pairs_nothing_but_the_reconstruction_counts(reid_cache: Path) -> None:
    run = Run(san(reid_cache, {"synthetic": 0.25}))
    loss, report = run.forward("san/reconstruct")
    assert set(report.terms) == {"san/synthetic"}
    assert float(loss.detach()) == pytest.approx(0.25 * float(report.terms["san/synthetic"]))
    assert report.labels is None
    loss.backward()
    reached = {n for n, p in run.model.named_parameters() if p.grad is not None}
    assert parts_of(reached) == {"encoder", "decoder"}


@pytest.mark.parametrize("scheme", ["joint", "two_step"])
def test_what_gets_gradient_of_the_identity_losses(reid_cache: Path, scheme: str) -> None:
    settings = {"scheme": scheme, "rec": 0.0, "tr": 0.0}
    assert parts_of(Run(san(reid_cache, settings)).reached()) == {"encoder", "neck", "criteria"}


@pytest.mark.parametrize("skips", ["none", "unet"])
@pytest.mark.parametrize(("rec", "tr"), [(1.0, 0.0), (0.0, 1.0)])
def test_what_gets_gradient_of_the_decoder_s_losses(
    reid_cache: Path, rec: float, tr: float, skips: str
) -> None:
    settings = {"rec": rec, "tr": tr, "skips": skips}
    backbone = {"backbone": "resnet18"}
    assembly = san(reid_cache, settings, identity=NO_IDENTITY, model=backbone)
    assert parts_of(Run(assembly).reached()) == {"encoder", "decoder"}


def test_the_public_code_s_embedding_gets_no_gradient_of_the_decoder_s_losses(
    reid_cache: Path,
) -> None:
    run = Run(san(reid_cache, {"embed": "fc512"}))
    assert run.assembly.ctx.slots["embedding"] == "san"
    (name,) = run.model.embeddings
    assert name == "san/feature"
    _, report = run.forward()
    assert {"san/feature/ce", "san/feature/triplet"} <= set(report.terms)
    run.assembly.parts.optimisers.clear()
    pairs = run.forward("san/reconstruct")[0]
    pairs.backward()
    assert not [
        n for n, p in run.model.named_parameters() if n.startswith(HEADS) and p.grad is not None
    ]


def test_the_public_code_s_encoder_has_its_parameters(reid_cache: Path) -> None:
    assembly = san(reid_cache, {"embed": "fc512"})
    neck = assembly.model.heads["san/feature"].neck
    channels = neck[0].in_features
    count = sum(p.numel() for p in neck.parameters())
    assert count == channels * 512 + 512 + 1024
    classifier = assembly.model.criteria["san/feature"].classifier
    assert classifier.weight.numel() + classifier.bias.numel() == 512 * 8 + 8
    # At the paper's size: 2,048 channels and 767 people.
    assert 23_508_032 + (2048 * 512 + 512 + 1024) + (512 * 767 + 767) == 24_951_615


def test_a_step_alternates_people_and_pairs(reid_cache: Path) -> None:
    run = Run(san(reid_cache))
    for _ in range(2):
        assert list(run.step()) == ["main", "san/reconstruct"]
    seldom = Run(san(reid_cache, {"synthetic_every": 2}))
    assert [list(seldom.step()) for _ in range(2)] == [["main"], ["main", "san/reconstruct"]]
    never = san(reid_cache, {"synthetic_every": 0})
    assert "san/pairs" not in never.ctx.sources
    assert [u.name for u in never.parts.plan.updates] == ["main"]


def test_both_kinds_of_batch_train_encoder_and_decoder_with_common_moments(
    reid_cache: Path,
) -> None:
    run = Run(san(reid_cache))
    assert set(run.assembly.parts.optimisers.state_dict()) == set(run.assembly.parts.plan.groups)
    run.step()
    steps = run.assembly.parts.optimisers.state_dict()
    for group in ("encoder", "san/decoder"):
        assert {float(state["step"]) for state in steps[group].values()} == {2.0}
    assert {float(s["step"]) for s in steps["core/global/identity"].values()} == {1.0}


def test_pairs_move_no_running_statistics(reid_cache: Path) -> None:
    run = Run(san(reid_cache))
    before = {n: b.clone() for n, b in run.model.named_buffers()}
    run.forward("san/reconstruct")
    assert all(torch.equal(b, before[n]) for n, b in run.model.named_buffers())


def test_two_step_takes_both_gradients_before_any_step(reid_cache: Path) -> None:
    run = Run(san(reid_cache, {"scheme": "two_step", "synthetic_every": 0}))
    parts = run.assembly.parts
    name = next(n for n, p in run.model.named_parameters() if p.requires_grad)
    weight = run.model.get_parameter(name)
    begun, seen, stepped = weight.detach().clone(), [], []
    forward, step = parts.forward, parts.optimisers.step

    def looked_at(*arguments: Any) -> Any:
        seen.append(torch.equal(weight, begun))
        return forward(*arguments)

    def counted(*arguments: Any) -> None:
        stepped.append(len(seen))
        step(*arguments)

    object.__setattr__(parts, "forward", looked_at)
    parts.optimisers.step = counted  # type: ignore[method-assign]
    reports = run.step()
    assert list(reports) == ["main", "san/texture"]
    assert seen == [True, True], "every forward sees the weights with which the step began"
    assert stepped == [2, 2], "and both are done before the first step"
    assert set(reports["main"].terms) == {"core/global/ce", "core/global/triplet"}
    assert set(reports["san/texture"].terms) == {"san/rec", "san/tr"}


def test_two_step_gives_the_decoder_an_optimiser_of_its_own(reid_cache: Path) -> None:
    run = Run(san(reid_cache, {"scheme": "two_step", "synthetic_every": 0}))
    plan, optimisers = run.assembly.parts.plan, run.assembly.parts.optimisers
    (texture,) = (u for u in plan.updates if u.name == "san/texture")
    rates = {g.name: optimisers.rate(g, texture, 0.01) for g, _ in optimisers.stepped(texture, 0)}
    assert rates == {"san/decoder": 1e-5, "encoder": 1e-5}
    for _, optimiser in optimisers.stepped(texture, 0):
        options = optimiser.param_groups[0]
        assert options["betas"] == (0.5, 0.999)
        assert (options["weight_decay"], options["amsgrad"]) == (0.0, False)
    (main,) = (u for u in plan.updates if u.name == "main")
    assert "san/decoder" not in main.groups


@pytest.mark.parametrize("blocks", [(1,), (2, 3), (1, 2, 3)])
def test_blocks_are_summed(reid_cache: Path, blocks: tuple[int, ...]) -> None:
    # With the public code's gain the maps are all but equal: every block costs the margin.
    run = Run(san(reid_cache, {"blocks": blocks, "gain": 0.02, "start": "none"}))
    found = float(run.forward()[1].terms["san/tr"].detach())
    assert found == pytest.approx(0.3 * len(blocks), abs=0.02)


def test_triples_are_drawn_anew_at_every_step_and_alike_in_every_run(reid_cache: Path) -> None:
    first, second = (Run(san(reid_cache, {"synthetic_every": 0})) for _ in range(2))
    values = [
        [float(r.forward()[1].terms["san/tr"].detach()) for _ in "ab"] for r in (first, second)
    ]
    assert values[0] == values[1]
    batches = first.batches()
    (main,) = (u for u in first.assembly.parts.plan.updates if u.name == "main")
    same = []
    for iteration in (5, 5, 6):
        first.assembly.ctx.progress.iteration = iteration
        report = first.assembly.parts.forward(main, batches)[1]
        same.append(float(report.terms["san/tr"].detach()))
    assert same[0] == same[1] != same[2]


def test_fixed_triples_run_as_in_the_public_code(reid_cache: Path) -> None:
    data = {"batch_size": 16, "instances": 4, "sampler": "pk"}
    settings = {
        "gain": 0.02,
        "start": "none",
        "tr_sampling": "fixed",
        "tr_norm": "chw",
        "tr_reduce": "sum",
        "blocks": (1, 2, 3, 4),
    }
    run = Run(san(reid_cache, settings, data=data))
    pid = run.batches()["main"].pid
    assert torch.equal(pid.view(4, 4), pid.view(4, 4)[:, :1].expand(4, 4)), "four side by side"
    # Four blocks, three anchors each, and maps that are still all but equal.
    assert float(run.forward()[1].terms["san/tr"].detach()) == pytest.approx(3.6, abs=0.1)


def test_encoder_and_decoder_start_from_san_pg(reid_cache: Path) -> None:
    assembly = san(reid_cache)
    (start,) = assembly.plugins["san"].starts(assembly.config)
    stage = assembly.ctx.stage(start.stage)
    theirs, ours = stage.model.state_dict(), assembly.model.state_dict()
    shared = [n for n in ours if n.startswith(("encoder.", DECODER))]
    assert len(shared) > 40
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    without = san(reid_cache, {"start": "none"})
    assert not torch.equal(
        without.model.encoder.state_dict()["trunk.conv1.weight"]
        if "trunk.conv1.weight" in without.model.encoder.state_dict()
        else next(without.model.encoder.parameters()),
        next(assembly.model.encoder.parameters()),
    )


def test_decoders_are_centred_on_what_san_pg_learns_from(reid_cache: Path) -> None:
    assembly = san(reid_cache)
    plugin: Any = assembly.plugins["san"]
    spec = plugin.pairs.fields["texture"]
    wanted = mean_field(plugin.pairs.samples, spec, (32, 32))
    found = assembly.model.branches["san/decoder"].centre
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    "settings",
    [
        {"centred": False},
        {"colour": False},
        {"centred": False, "colour": False, "skips": "unet", "width": 24, "gain": 0.1},
    ],
)
def test_san_pg_has_every_setting_of_the_decoder(
    reid_cache: Path, settings: dict[str, Any]
) -> None:
    assembly = san(reid_cache, settings)
    (start,) = assembly.plugins["san"].starts(assembly.config)
    shared = {name: getattr(assembly.plugins["san"].settings, name) for name in SHARED}
    assert start.stage.settings["plugins"]["san"] == shared
    theirs = assembly.ctx.stage(start.stage).module("san/decoder").state_dict()
    ours = assembly.model.branches["san/decoder"].state_dict()
    assert set(theirs) == set(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert ("centre" in ours) == settings.get("centred", True)
    assert any(name.startswith("colours.") for name in ours) == settings.get("colour", True)


def test_pseudo_textures_may_be_those_of_a_larger_san_pg(reid_cache: Path) -> None:
    said: list[str] = []
    larger = {"pg_backbone": "resnet18", "pg_iterations": 1, "pg_batch": 4}
    assembly = san(reid_cache, larger, said=said)
    plugin: Any = assembly.plugins["san"]
    (start,) = plugin.starts(assembly.config)
    assert plugin.maker.settings["model"]["backbone"] == "resnet18"
    assert start.stage.settings["model"]["backbone"] == assembly.config.model.backbone
    trained = [line.partition("]")[0] for line in said if "training on" in line]
    assert trained == ["[san/pg_textures", "[san/pg"]
    made = Path(str(assembly.ctx.main.samples[0].fields["texture"]))
    plain = san(reid_cache, {"pg_iterations": 1, "pg_batch": 4})
    assert Path(str(plain.ctx.main.samples[0].fields["texture"])) != made


def test_a_run_that_cannot_train_is_refused_before_san_pg_trains(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    # Eight people of 24 images cannot fill a batch of sixteen people.
    with pytest.raises(ConfigError, match="needs 16 identities"):
        san(tmp_path, {}, said=said, data={"batch_size": 64, "instances": 4})
    with pytest.raises(DataError, match="is 32 x 32, and 256 x 256 is wanted"):
        san(tmp_path, {"texture_size": 256}, said=said, fields={"texture": textures(tmp_path)})
    with pytest.raises(ConflictError, match="both claim the slot 'embedding'"):
        san(tmp_path, {"embed": "fc512"}, "pcb", said=said)
    assert not [line for line in said if "training" in line or "makes" in line]
    assert not (tmp_path / "stages").exists()


def textures(root: Path) -> Path:
    """Write a small texture for every training image of the toy data."""
    folder = root / "own"
    folder.mkdir()
    for sample in tiny_assembly(cache=root).ctx.main.samples:
        Image.new("RGB", (32, 32), (200, 100, 0)).save(folder / f"{sample.path.stem}.png")
    (folder / "layout.txt").write_text("toy-v1")
    return folder


def test_pairs_are_seen_as_they_are(reid_cache: Path) -> None:
    """In batches of pairs and in SAN-PG's training: a mirrored image has another texture."""
    strong = {"flip": 1.0, "pad": 8, "erasing": 1.0, "brightness": 0.5}
    assembly = san(reid_cache, augment=strong)
    (start,) = assembly.plugins["san"].starts(assembly.config)
    pg = assembly.ctx.stage(start.stage).assembly
    images = [read_image(s.path) for s in assembly.ctx.sources["san/pairs"].samples]
    plain = normalise(torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images]))
    for found, batch in (
        (assembly, Run(assembly).batches()["san/pairs"]),
        (pg, Run(pg).batches()["main"]),
    ):
        assert found.config.data.size == (64, 32)
        assert batch.erased is None
        assert plain.shape[2:] == (64, 32), "the toy's pairs have the network's size"
        torch.testing.assert_close(batch.image, plain[batch.index], atol=1e-5, rtol=1e-5)
    people = Run(assembly).batches()["main"]
    assert people.erased is not None


def test_the_decoder_has_a_rate_of_its_own(reid_cache: Path) -> None:
    for settings, scale in (({}, 0.2), ({"decoder_lr_scale": 0.5}, 0.5)):
        parts = san(reid_cache, settings).parts
        for update in parts.plan.updates:
            rates = {
                group.name: parts.optimisers.rate(group, update, 1.0)
                for group, _ in parts.optimisers.stepped(update, 0)
            }
            assert rates["san/decoder"] == pytest.approx(scale * rates["encoder"])
    two = san(reid_cache, {"scheme": "two_step", "synthetic_every": 0}).parts
    assert two.plan.groups["san/decoder"].lr_scale == 1.0


def test_san_pg_does_not_depend_on_the_data_set(reid_cache: Path) -> None:
    keys = []
    for data in ({"instances": 2}, {"instances": 4, "validation": 0.3}):
        sources = {"san/pairs": "toy-pairs:tiny"}
        assembly = san(reid_cache, data=data, sources=sources)
        (start,) = assembly.plugins["san"].starts(assembly.config)
        keys.append(assembly.ctx.stage_key(start.stage))
    assert keys[0] == keys[1]


def test_features_are_the_same_with_the_decoder_and_without(
    reid_cache: Path, tmp_path: Path
) -> None:
    images = torch.rand(3, 3, 64, 32)
    with_decoder = san(reid_cache, {"start": "none"})
    plain = tiny_assembly(cache=reid_cache)
    with torch.inference_mode():
        found, expected = (a.embedder().eval()(images) for a in (with_decoder, plain))
    assert torch.equal(found, expected)
    with torch.inference_mode():
        alone = with_decoder.embedder().eval()(images[:1])
    torch.testing.assert_close(alone, found[:1], rtol=0, atol=2e-7)
    with_decoder.embedder().save(tmp_path / "embedder.safetensors")
    with safe_open(tmp_path / "embedder.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "san" in name]  # noqa: SIM118


def test_generated_images_are_supervised_by_the_texture_of_their_person(reid_cache: Path) -> None:
    joined = {"adversarial": {"route": "join"}, "san": SHORT}
    run = Run(san(reid_cache, {}, "adversarial", plugins=joined))
    batches = run.batches()
    seen: list[tuple[int, int]] = []
    plugin: Any = run.assembly.plugins["san"]
    views = plugin._views

    def keep(step: Any) -> Any:
        found = views(step)
        seen.extend((len(v.image), len(v.batch.fields["texture"])) for v in found)
        return found

    plugin._views = keep
    (main,) = (u for u in run.assembly.parts.plan.updates if u.name == "main")
    run.assembly.parts.forward(main, batches)
    assert seen[0] == (16, 16)


class OwnEncoder(Plugin):
    """Somebody who brings an encoder."""

    claims = ("backbone",)

    @hookimpl
    def reid_backbone(self, ctx: Any) -> Encoder:
        return SmallEncoder()


class SmallEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 64, 3, stride=16, padding=1)
        self.taps = (Tap("encoder/map", 64, 16),)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"encoder/map": self.layer(image)}

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": "test_san_plugin:SmallEncoder", "kwargs": {}}


def test_an_encoder_of_another_plugin_cannot_start_from_san_pg(reid_cache: Path) -> None:
    classes = {"owner": OwnEncoder}
    with pytest.raises(
        ConflictError, match=r"plugin 'san' starts the encoder.*plugin 'owner'.*-s san\.start=none"
    ):
        san(reid_cache, {}, "owner", classes=classes)
    alone = Run(san(reid_cache, {"start": "none"}, "owner", classes=classes))
    assert "san/rec" in alone.step()["main"].terms


def test_skips_need_the_encoder_s_stages(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"san\.skips = 'unet' reads .* set -s san\.skips=none"):
        san(
            reid_cache,
            {"skips": "unet", "start": "none", "guide": "input"},
            "owner",
            classes={"owner": OwnEncoder},
        )


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({}, {"sampler": "random"}, r"no second image.*data\.sampler=pk, or leave.*san\.tr=0"),
        ({}, {"batch_size": 4, "instances": 4}, r"1 people with 4 images each is too small"),
        ({}, {"instances": 1}, r"8 people with 1 images each is too small for triplets"),
        ({}, {"sampler": "pairs", "batch_size": 2}, "a batch of 2 images is too small"),
        ({"tr_sampling": "fixed"}, {}, r"counts on four images.*san\.tr_sampling=random"),
        ({"frontal_root": "x"}, {}, r"frontal_root is for the guide 'pngan'"),
        ({"guide": "pngan"}, {}, r"images that you bring: name .*san\.frontal_root=DIR"),
    ],
)
def test_batches_without_triplets_are_refused(
    reid_cache: Path, settings: dict[str, Any], data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        san(reid_cache, settings, data=data)


def test_without_the_constraints_any_batch_will_do(reid_cache: Path) -> None:
    run = Run(san(reid_cache, {"tr": 0.0}, data={"sampler": "random"}))
    assert set(run.forward()[1].terms) >= {"san/rec"}
    assert "san/tr" not in run.forward()[1].terms


def test_rows_that_another_plugin_joins_to_the_batch_have_no_texture_to_regress(
    reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[str, int, int | None]] = []
    plain = reconstructed

    def noted(guide: Any, view: Any, rows: int | None = None) -> Any:
        counted.append((view.name, len(view.batch), rows))
        value = plain(guide, view, rows)
        everything = plain(guide, view)
        assert torch.equal(value, everything) == (rows is None)
        return value

    monkeypatch.setattr("reid_san.plugin.reconstructed", noted)
    run = Run(san(reid_cache, {}, "adversarial", plugins_too={"adversarial": {"route": "join"}}))
    run.step()
    assert counted == [("main", 16, 8), ("san/pair", 4, None)]


def test_blocks_are_told_apart_with_margin_and_norm(
    reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, tuple[Any, ...]]] = []
    plain = losses.triplet_reid

    def noted(maps: Tensor, triples: Any, *settings: Any) -> Tensor:
        asked.append((maps.shape[2], settings))
        return plain(maps, triples, *settings)

    monkeypatch.setattr("reid_san.plugin.triplet_reid", noted)
    settings = {"blocks": (1, 3), "margin": 0.7, "tr_norm": "hw", "tr_reduce": "sum"}
    run = Run(san(reid_cache, {**settings, "start": "none"}))
    run.forward()
    first = run.assembly.config.data.height // 16
    assert asked == [(first * 2, (0.7, "hw", "sum")), (first * 8, (0.7, "hw", "sum"))]
    asked.clear()
    Run(san(reid_cache, {"start": "none"})).forward()
    assert [settings for _, settings in asked] == [(0.3, "chw", "mean")] * 3


def test_only_real_rows_are_compared(reid_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    plain = losses.random_triples

    def noted(labels: Tensor, generator: torch.Generator) -> Any:
        seen.append(labels)
        return plain(labels, generator)

    monkeypatch.setattr("reid_san.plugin.random_triples", noted)
    joined = {"adversarial": {"route": "join"}}
    run = Run(san(reid_cache, {"start": "none"}, "adversarial", plugins_too=joined))
    batches = run.batches()
    run.step()
    assert len(seen) == 3, "drawn anew for every block"
    labels = seen[0]
    assert len(labels) == 16
    assert (labels[:8] >= 0).all()
    assert (labels[8:] == -1).all(), "a generated row may mix identities"
    assert len(batches["main"]) == 8


def test_san_pg_trains_as_the_settings_say(reid_cache: Path) -> None:
    wanted = {"pg_epochs": 2, "pg_iterations": 3, "pg_batch": 6, "pg_lr": 0.01}
    wanted |= {"pg_decay": "constant"}
    assembly = san(reid_cache, {"start": "none", "synthetic_every": 0, "guide": "input"})
    settings = assembly.plugins["san"].settings.model_copy(update=wanted)
    stage = pretraining_stage(settings, assembly.config, "toy-pairs:tiny", 100)
    optim, schedule, data = (stage.settings[name] for name in ("optim", "schedule", "data"))
    assert (optim["name"], optim["lr"], optim["weight_decay"]) == ("adam", 0.01, 0.0)
    assert tuple(optim["betas"]) == (0.5, 0.999)
    assert (schedule["epochs"], schedule["iterations_per_epoch"]) == (2, 3)
    assert (schedule["decay"], schedule["warmup_epochs"]) == ("constant", 0)
    assert (data["batch_size"], data["sampler"], data["name"]) == (6, "random", "toy-pairs:tiny")
    assert stage.settings["augment"]["flip"] == 0
    assert not stage.identities
    whole = settings.model_copy(update={"pg_iterations": 0})
    passes = pretraining_stage(whole, assembly.config, "toy-pairs:tiny", 4)
    assert passes.settings["schedule"]["iterations_per_epoch"] is None
    assert passes.settings["data"]["batch_size"] == 4


@pytest.mark.parametrize(("width", "wanted"), [(None, 128), (40, 40)])
def test_the_decoder_has_a_quarter_of_the_encoder_s_channels(
    reid_cache: Path, width: int | None, wanted: int
) -> None:
    backbone = {"backbone": "resnet18"}
    settings = {"width": width, "start": "none", "guide": "input"}
    assembly = san(reid_cache, settings, model=backbone)
    decoder: Any = assembly.model.branches["san/decoder"]
    assert decoder.reduce[0].in_channels == 512
    assert decoder.reduce[0].out_channels == wanted
