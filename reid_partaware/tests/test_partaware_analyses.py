"""The analyses of figures 9, 10 and 13, and what the head sees, on tiny runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from reid_core import (
    SHARED_FIELDS,
    Branch,
    ConfigError,
    DataSet,
    Embedding,
    Plugin,
    ReidError,
    hookimpl,
    load_embedder,
    open_dataset,
    restore,
    run,
)
from reid_core.cli.main import cli
from reid_core.data.decoding import read_field
from reid_core.data.encoding import label_bytes
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_partaware.gradcam import class_attention, map_of
from reid_partaware.plugin import Partaware, PartawareSettings
from reid_partaware.segmenting import measure, part_maps, predict
from reid_partaware.similarity import (
    compared_parts,
    mean_part_similarity,
    part_similarity,
    summary,
)
from reid_partaware.single_part import parts_of

CPU = torch.device("cpu")


class Half(nn.Module):
    """Pool the upper or the lower half of a map."""

    def __init__(self, lower: bool) -> None:
        super().__init__()
        self.lower = lower

    def forward(self, feature: Tensor) -> Tensor:
        height = feature.shape[2] // 2
        half = feature[:, :, height:] if self.lower else feature[:, :, :height]
        return half.amax((2, 3))

    def deploy_spec(self) -> dict[str, Any]:
        kwargs = {"lower": self.lower}
        return {"factory": "test_partaware_analyses:Half", "kwargs": kwargs}


class Halves(Plugin):
    """Two embeddings in place of the core's."""

    claims = ("embedding",)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any) -> list[Branch]:
        return [
            Branch(
                self.own(name),
                Half(lower),
                writes=(self.own(f"pooled_{name}"),),
                embeddings=(Embedding(self.own(name), self.own(f"pooled_{name}"), "none"),),
            )
            for name, lower in (("upper", False), ("lower", True))
        ]


def tiny_run(out: Path, cache: Path, *plugins: str, **sections: Any) -> Path:
    flags = tiny_flags(plugins, {"schedule": {"epochs": 1}}, sections)
    resolved = resolve(flags, classes={"halves": Halves})
    return run(resolved=resolved, out=out, cache=cache, say=lambda line: None).folder


@pytest.fixture(scope="module")
def halves(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("halves") / "run", reid_cache, "halves")


@pytest.fixture(scope="module")
def headed(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("headed") / "run", reid_cache, "partaware")


def reid(cache: Path, *arguments: object) -> Result:
    environment = {"REID_CACHE": str(cache), "COLUMNS": "160"}
    return CliRunner().invoke(cli, ["partaware", *map(str, arguments)], env=environment)


def test_parts_that_are_all_alike_have_similarity_one() -> None:
    parts = torch.rand(3, 1, 5).expand(3, 6, 5)
    assert torch.allclose(part_similarity(parts), torch.ones(3, 6, 6))


def test_part_similarity_is_symmetric_and_positive_where_the_parts_are() -> None:
    found = part_similarity(torch.rand(4, 6, 7))
    assert torch.allclose(found, found.transpose(1, 2))
    assert torch.allclose(torch.diagonal(found, dim1=1, dim2=2), torch.ones(4, 6))
    assert bool((found >= 0).all())
    assert bool((found <= 1 + 1e-6).all())
    by_hand = part_similarity(torch.tensor([[[1.0, 0.0], [3.0, 4.0]]]))
    assert float(by_hand[0, 0, 1]) == pytest.approx(0.6)


def test_a_summary_has_mean_neighbours_and_smallest() -> None:
    matrix = np.array([[1, 0.9, 0.3], [0.9, 1, 0.6], [0.3, 0.6, 1]])
    assert summary(matrix) == pytest.approx({"mean": 0.6, "adjacent": 0.75, "smallest": 0.3})


def test_the_mean_part_similarity_is_that_of_the_vectors_before_the_necks(
    halves: Path, toy_tiny: Any
) -> None:
    embedder = load_embedder(halves)
    names = compared_parts(embedder)
    matrix = mean_part_similarity(embedder, toy_tiny.query, CPU, names, batch_size=3)
    assert names == ("halves/lower", "halves/upper")
    with torch.inference_mode():
        from reid_core.data.augmentation import normalise
        from reid_core.images import read_image, resize_image

        images = [resize_image(read_image(s.path), embedder.size) for s in toy_tiny.query]
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        vectors = embedder.vectors(normalise(batch))
    cosines = torch.cosine_similarity(vectors[names[0]].raw, vectors[names[1]].raw)
    assert matrix[0, 1] == pytest.approx(float(cosines.mean()), abs=1e-5)
    assert matrix.diagonal() == pytest.approx(1, abs=1e-6)


def test_the_parts_of_a_tracklet_are_those_of_its_frames(halves: Path, reid_cache: Path) -> None:
    embedder = load_embedder(halves)
    tracklets = open_dataset("toy/tracklets:tiny", cache=reid_cache).gallery[:4]
    names = compared_parts(embedder)
    found = mean_part_similarity(embedder, tracklets, CPU, names)
    alone = [
        mean_part_similarity(
            embedder, [replace(one, path=path, frames=()) for path in one.images], CPU, names
        )
        for one in tracklets
    ]
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-5)


def test_a_part_similarity_needs_several_parts(halves: Path, headed: Path) -> None:
    with pytest.raises(ConfigError, match=r"two or more embeddings .*\(it has: core/global\)"):
        compared_parts(load_embedder(headed))
    with pytest.raises(ConfigError, match=r"there is no 'halves/middle'"):
        compared_parts(load_embedder(halves), ["halves/upper", " halves/middle"])


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("similarity", "needs two or more embeddings"),
        ("parts", "by 'core/global' alone: there are no"),
    ],
)
def test_a_model_without_parts_is_refused_before_its_data_is_opened(
    command: str, why: str, reid_cache: Path, headed: Path, tmp_path: Path
) -> None:
    out = ("-o", tmp_path / "x.png") if command == "similarity" else ()
    done = reid(reid_cache, command, headed, "-d", "nowhere", *out)
    assert isinstance(done.exception, ConfigError)
    assert why in str(done.exception)


def test_grad_cam_of_a_linear_classifier_on_an_average_is_its_weighted_map(
    reid_cache: Path,
) -> None:
    model = {"neck": "none", "pooling": "avg"}
    network = tiny_assembly((), {"model": model}, cache=reid_cache).model.eval()
    images = torch.randn(3, 3, 64, 32)
    assert map_of(network, "core/global") == "encoder/map"
    heat = class_attention(network, images, "core/global", "encoder/map")
    with torch.no_grad():
        feature = network.encoder(images)["encoder/map"]
        weight = network.criteria["core/global"].classifier.weight
        best = (feature.mean((2, 3)) @ weight.T).argmax(1)
        expected = (weight[best][:, :, None, None] * feature).sum(1).relu()
        expected = expected / expected.amax((1, 2), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(heat, expected, atol=1e-5, rtol=1e-4)


def test_grad_cam_refuses_what_it_cannot_explain(reid_cache: Path, headed: Path) -> None:
    network = restore(headed, cache=reid_cache, say=lambda line: None).model
    images = torch.randn(1, 3, 64, 32)
    with pytest.raises(ConfigError, match=r"'core/globe' has no classifier.*'core/global'"):
        class_attention(network, images, "core/globe", "encoder/map")
    with pytest.raises(ConfigError, match=r"no map 'encoder/mapp'.*'encoder/map'"):
        class_attention(network, images, "core/global", "encoder/mapp")
    with pytest.raises(ConfigError, match=r"does not depend on the map 'partaware/logits'"):
        class_attention(network, images, "core/global", "partaware/logits")


def test_every_part_and_all_together_are_evaluated(halves: Path, toy_tiny: Any) -> None:
    from reid_core import find_protocol
    from reid_core.config import EvaluationSection
    from reid_core.evaluation.evaluating import Evaluator

    standard, embedder = find_protocol("standard"), load_embedder(halves)
    # These change what is compared, for every part as for the whole.
    settings = EvaluationSection(flip="sum", vector="raw", distance="euclidean")
    evaluator = Evaluator(toy_tiny, (standard,), settings, CPU)
    parts = parts_of(embedder)
    assert list(parts) == ["halves/lower", "halves/upper", "all"]
    assert parts["all"].dim == embedder.dim == 2 * parts["halves/upper"].dim
    found = {n: evaluator.evaluate(part).results[0].mean_ap for n, part in parts.items()}
    assert found["all"] == evaluator.evaluate(embedder).results[0].mean_ap
    assert found["halves/upper"] != found["halves/lower"]
    plain = Evaluator(toy_tiny, (standard,), EvaluationSection(), CPU)
    for name in ("halves/lower", "halves/upper"):
        alone = embedder.only([name])
        assert found[name] == evaluator.evaluate(alone).results[0].mean_ap
        assert found[name] != plain.evaluate(parts[name]).results[0].mean_ap


def test_the_head_is_measured_beside_a_constant_guess(reid_cache: Path, headed: Path) -> None:
    assembly = restore(headed, cache=reid_cache, say=lambda line: None)
    found = measure(assembly)
    pixels = 64 * 32 * (len(assembly.ctx.dataset.query) + len(assembly.ctx.dataset.gallery))
    assert {name: int(one.counts.sum()) for name, one in found.items()} == {
        "head": pixels,
        "constant": pixels,
    }
    assert 0.3 < found["constant"].pixel_accuracy < 1
    pairs = predict(assembly, assembly.ctx.dataset.query[:2])
    assert [(i.shape, m.shape) for i, m in pairs] == [((64, 32, 3), (64, 32))] * 2


def test_predictions_on_several_maps_are_averaged() -> None:
    sure, unsure = (torch.zeros(1, 8, 2, 1) for _ in range(2))
    unsure[:, 1] = 1
    sure[:, 2] = 3
    outputs = {"partaware/logits_1": unsure, "partaware/logits_2": sure, "encoder/map": 9 * unsure}
    run: Any = SimpleNamespace(
        plugins={"partaware": Partaware("partaware", PartawareSettings())},
        model=SimpleNamespace(run=lambda *asked: outputs),
    )
    batch: Any = SimpleNamespace(image=torch.zeros(1, 3, 4, 2))
    assert part_maps(run, batch).tolist() == [[[2, 2]] * 4]


def test_the_commands_draw_and_print(
    reid_cache: Path, halves: Path, headed: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "similarity.png"
    done = reid(reid_cache, "similarity", halves, "-d", "toy:tiny", "-o", picture)
    assert done.exception is None, done.output
    stored = json.loads(picture.with_suffix(".json").read_text())
    assert stored["parts"] == ["halves/lower", "halves/upper"]
    assert f"mean {stored['mean']:.3f}" in done.output
    done = reid(
        reid_cache, "parts", halves, "-d", "toy:tiny", "--flip", "--json", tmp_path / "parts.json"
    )
    assert done.exception is None, done.output
    assert "halves/upper" in done.output
    assert [row["part"] for row in json.loads((tmp_path / "parts.json").read_text())][-1] == "all"
    done = reid(reid_cache, "gradcam", headed, "-o", tmp_path / "cam.png", "--images", 4)
    assert done.exception is None, done.output
    assert done.output.startswith("core/global on encoder/map: ")
    done = reid(reid_cache, "segment", headed, "-o", tmp_path / "parts.png", "--images", 14)
    assert done.exception is None, done.output
    assert "head: pixel accuracy" in done.output
    assert "constant: pixel accuracy" in done.output
    for name in ("similarity", "cam", "parts"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_segments_of_a_set_without_parts_at_test_are_drawn_and_not_measured(
    reid_cache: Path, tmp_path: Path, toy_tiny: DataSet
) -> None:
    labels = tmp_path / "parts"
    for split, samples in (
        ("train", toy_tiny.train.samples),
        ("query", toy_tiny.query),
        ("gallery", toy_tiny.gallery),
    ):
        (tmp_path / "people" / split).mkdir(parents=True)
        for sample in samples:
            copy = tmp_path / "people" / split / sample.path.name
            copy.write_bytes(sample.path.read_bytes())
            if split == "train":
                label = (labels / copy.name).with_suffix(".png")
                labels.mkdir(exist_ok=True)
                value = read_field(sample.fields["parts"], SHARED_FIELDS["parts"])
                label.write_bytes(label_bytes(value))
    data = {"name": "folder", "root": tmp_path / "people"}
    given = {"parts": labels}
    folder = tiny_run(tmp_path / "run", reid_cache, "partaware", data=data, fields=given)
    done = reid(reid_cache, "segment", folder, "-o", tmp_path / "parts.png")
    assert done.exception is None, done.output
    assert "not measured: the test images of 'folder' carry no parts" in done.output
    assert "pixel accuracy" not in done.output
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")


def test_segments_of_tracklets_are_those_of_their_frames(reid_cache: Path, tmp_path: Path) -> None:
    data = {"name": "toy/tracklets:tiny", "frames": 2}
    folder = tiny_run(tmp_path / "run", reid_cache, "partaware", data=data)
    done = reid(reid_cache, "segment", folder, "-o", tmp_path / "parts.png", "--images", 3)
    assert done.exception is None, done.output
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")
    assembly = restore(folder, cache=reid_cache, say=lambda line: None)
    tested = (*assembly.ctx.dataset.query, *assembly.ctx.dataset.gallery)
    frames = sum(len(one.frames) for one in tested)
    assert frames > len(tested)
    found = measure(assembly)
    assert found["head"].counts.sum() == frames * np.prod(assembly.config.data.size)
    assert f"head: pixel accuracy {100 * found['head'].pixel_accuracy:.1f} %" in done.output
    done = reid(reid_cache, "gradcam", folder, "-o", tmp_path / "looks.png", "--images", 3)
    assert done.exception is None, done.output


def test_a_run_without_a_head_is_refused_before_its_data_is_made(
    reid_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(resolve(tiny_flags()).config.to_toml())
    done = reid(reid_cache, "segment", tmp_path, "-o", tmp_path / "x.png")
    assert isinstance(done.exception, ReidError)
    assert "run was made without reid_partaware's Partaware" in str(done.exception)
