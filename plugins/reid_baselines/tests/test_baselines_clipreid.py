"""CLIP-ReID: conformance, both stages by independent code, text encoders, what is deployed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from reid_baselines.clipreid_prompts import supervised_contrast
from reid_baselines.clipreid_text import FrozenEncoder, build_text
from reid_core import ConfigError, TimmEncoder
from reid_core.config import OptimSection
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import Recorder, first_forward, tiny_assembly

TINY: dict[str, dict[str, Any]] = {
    "model": {"backbone": "test_vit"},
    "plugins": {"clipreid": {"prompt_epochs": 1}},
}

test_conforms = conformance_suite("clipreid", TINY)


def made(cache: Path, *layers: Any) -> Any:
    return tiny_assembly(("clipreid",), TINY, *layers, cache=cache)


def test_the_contrasts_of_the_first_stage_are_the_papers() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(5, 4), torch.tensor([0, 1, 0, 2, 1])
    texts = torch.randn(3, 4)[labels]

    def share(row: torch.Tensor, column: int) -> float:
        return math.log(math.exp(row[column]) / sum(math.exp(value) for value in row))

    i2t = -sum(share(images[i] @ texts.T, i) for i in range(5)) / 5  # image to text
    found = supervised_contrast(images @ texts.T, labels)
    assert found.item() == pytest.approx(i2t, rel=1e-5)
    t2i = 0.0
    for i in range(5):  # text to image
        positives = [p for p in range(5) if labels[p] == labels[i]]
        t2i -= sum(share(texts[i] @ images.T, p) for p in positives) / len(positives) / 5
    found = supervised_contrast(texts @ images.T, labels)
    assert found.item() == pytest.approx(t2i, rel=1e-5)


def test_the_first_stage_learns_words_alone(reid_cache: Path) -> None:
    settings = {"plugins": {"clipreid": {"prompt_epochs": 30, "prompt_lr": 0.05}}}
    assembly = made(reid_cache, settings)
    stage = assembly.ctx.stage(assembly.plugins["clipreid"].prompts())
    trained = {name for name, p in stage.model.named_parameters() if p.requires_grad}
    assert trained == {"branches.prompts/words.table"}
    encoder = stage.module("encoder")
    assert isinstance(encoder, FrozenEncoder)
    ours = assembly.model.encoder.state_dict()
    assert all(torch.equal(v, ours[name]) for name, v in encoder.inner.state_dict().items())
    config = stage.config
    assert (config.augment.flip, config.augment.erasing, config.data.sampler) == (0, 0, "random")
    lines = (stage.folder / "metrics.jsonl").read_text("utf-8").splitlines()
    losses = [line["loss/prompts/i2t"] for line in map(json.loads, lines) if line["kind"] == "step"]
    assert losses[-1] < losses[0] - 0.05


def test_the_first_stage_has_an_optimiser_of_its_own(reid_cache: Path) -> None:
    optim = {"name": "rmsprop", "options": {"alpha": 0.5}, "betas": [0.5, 0.6], "momentum": 0.3}
    assembly = made(reid_cache, {"optim": {**optim, "new_layers_scale": 3.0, "clip_norm": 1.0}})
    found = assembly.ctx.stage(assembly.plugins["clipreid"].prompts()).config.optim
    assert found == OptimSection(name="adam", lr=3.5e-4, weight_decay=1e-4)


def test_the_second_stage_compares_images_with_the_texts_of_all_people(reid_cache: Path) -> None:
    smoothing = {"identity": {"label_smoothing": 0.1, "ce_weight": 0.25}}
    assembly = made(reid_cache, smoothing)
    plugin = assembly.plugins["clipreid"]
    _, report = first_forward(assembly)
    stage = assembly.ctx.stage(plugin.prompts())
    words, tower = stage.module("prompts/words"), stage.module("prompts/text")
    with torch.no_grad():
        texts = torch.cat([tower(words(torch.tensor([k]))) for k in range(words.table.shape[0])])
    held = assembly.ctx.module("clipreid/texts").vectors
    torch.testing.assert_close(held, texts)
    terms = {f"clipreid/{name}" for name in ("image/ce", "image/triplet", "projected/ce")}
    terms |= {"clipreid/projected/triplet", "clipreid/before/triplet", "clipreid/i2t"}
    assert set(report.terms) == terms
    images = report.embedded["clipreid/projected"].raw
    wanted = F.cross_entropy(images @ texts.T, report.labels, label_smoothing=0.1)
    torch.testing.assert_close(report.terms["clipreid/i2t"], wanted.detach())


def test_what_is_deployed(reid_cache: Path) -> None:
    assembly = made(reid_cache)
    heads = assembly.embedder().heads
    assert list(heads) == ["clipreid/image", "clipreid/projected"]
    assert list(assembly.embedder().branches) == ["clipreid/projection"]
    depth = len(assembly.model.encoder.trunk.blocks)
    declared = assembly.model.embeddings
    assert declared["clipreid/image"].reads == "encoder/class"
    assert declared["clipreid/before"].reads == f"encoder/stage{depth - 1}_class"
    stage = assembly.ctx.stage(assembly.plugins["clipreid"].prompts())
    ours = assembly.ctx.module("clipreid/projection").weight
    assert torch.equal(ours, stage.module("prompts/projection").weight)
    biases = assembly.parts.plan.groups["clipreid/biases"]
    assert biases.lr_scale == 2


def test_a_network_without_class_token_is_pooled(reid_cache: Path) -> None:
    assembly = made(reid_cache, {"model": {"backbone": "test_resnet"}})
    trainer = Recorder(assembly)
    trainer.train_epoch()
    assert math.isfinite(trainer.trace[-1]["main:clipreid/i2t"])
    declared = assembly.model.embeddings
    assert declared["clipreid/image"].reads == "clipreid/pooled"
    assert declared["clipreid/before"].reads == "clipreid/pooled_before"


def test_a_frozen_encoder_stays_in_evaluation_mode() -> None:
    frozen = FrozenEncoder(TimmEncoder("test_resnet", (64, 32))).train()
    assert not frozen.inner.training
    assert not frozen(torch.randn(2, 3, 64, 32))["encoder/map"].requires_grad
    assert all("num_batches" not in k or v == 0 for k, v in frozen.state_dict().items())


# Text encoders ------------------------------------------------------------------------------------


def test_a_text_is_read_off_behind_its_words() -> None:
    torch.manual_seed(0)
    tower, visual = build_text("random", None)
    assert visual is None
    words = torch.randn(2, 3, tower.width)
    with torch.no_grad():
        both = tower(words)
        torch.testing.assert_close(tower(words[1:])[0], both[1])
        words[1, 0] = torch.randn(tower.width)
        assert not torch.allclose(tower(words)[1], both[1], atol=1e-4)


def test_texts_of_open_clip_are_those_of_its_own_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    small = open_clip.CLIP(
        embed_dim=24,
        vision_cfg={"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    ).eval()
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: small)
    tower, visual = build_text("ViT-B-16-quickgelu", None)
    assert visual is not None
    assert torch.equal(visual, small.visual.proj)
    sentence = open_clip.tokenize(["A photo of a red bag and shoes person."])
    with torch.no_grad():
        words = small.token_embedding(sentence[:, 5:9])
        torch.testing.assert_close(tower.eval()(words), small.encode_text(sentence))


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("random", "openai", ("text_pretrained", "clipreid.text=ViT-B-16-quickgelu")),
        ("ViT-Z", None, ("'ViT-Z'", "ViT-B-16-quickgelu")),
        ("ViT-B-32", "nobody", ("'nobody'", "'ViT-B-32'")),
    ],
)
def test_what_open_clip_does_not_have_is_refused(
    name: str, weights: str | None, words: tuple[str, ...]
) -> None:
    if name != "random":
        pytest.importorskip("open_clip")
    with pytest.raises(ConfigError) as caught:
        build_text(name, weights)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_without_open_clip_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ConfigError, match=r"pip install 'reid-baselines\[clip\]'"):
        build_text("ViT-B-16-quickgelu", "openai")
