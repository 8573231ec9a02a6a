"""Stages and labels are reused where everything that decides them is the same, and only there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_distributions import fake_site
from PIL import Image

from reid_core import (
    DataSet,
    Labeler,
    Plugin,
    PluginError,
    RunConfig,
    RunContext,
    Sample,
    Settings,
    Stage,
)
from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.data.fingerprints import source_fingerprint
from reid_core.data.label_store import value_hash
from reid_core.loop.assembly import Assembly
from reid_core.plugins import discovery
from reid_core.plugins.discovery import PluginRecord, load_class
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.assembly.keys import (
    key_of,
    label_contents,
    package_hash,
    stage_contents,
    text_of,
)
from reid_core.runs.assembly.needs import labels_in_order
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages, prepare_stage, run_stage
from reid_core.testing.probes import Head
from reid_core.testing.tiny import tiny_flags

LENGTH = {"schedule": {"epochs": 1, "iterations_per_epoch": 2}}
DRY = {"plugins": {"head": {"dropout": 0.0}}}


def stage(**changes: Any) -> Stage:
    settings = {**LENGTH, **DRY, **changes.pop("settings", {})}
    return Stage("probe/parser", {"head": Head}, settings, **changes)


def copied(dataset: DataSet, folder: Path) -> DataSet:
    """Return a data set whose training images and part maps are copies in a folder."""
    folder.mkdir(parents=True)

    def copy(number: int, sample: Sample) -> Sample:
        image = folder / f"{number}{sample.path.suffix}"
        parts = folder / f"{number}-parts.png"
        shutil.copyfile(sample.path, image)
        shutil.copyfile(str(sample.fields["parts"]), parts)
        return replace(sample, path=image, fields={**sample.fields, "parts": parts})

    samples = tuple(copy(number, sample) for number, sample in enumerate(dataset.train.samples))
    return replace(dataset, train=replace(dataset.train, samples=samples))


def context(cache: Path, dataset: DataSet, *layers: Any) -> RunContext:
    resolved = resolve(tiny_flags((), *layers))
    return assemble(
        resolved, cache=cache, dataset=dataset, say=lambda line: None, stages=Stages()
    ).ctx


@pytest.fixture
def data(toy_tiny: DataSet, tmp_path: Path) -> DataSet:
    """Return a data set of a few training images of two people, to be changed."""
    of_two = [sample for sample in toy_tiny.train.samples if sample.pid < 2]
    few = replace(toy_tiny.train, samples=(*of_two[:2], *of_two[-2:]))
    return copied(replace(toy_tiny, train=few), tmp_path / "data")


@pytest.fixture(scope="module")
def assembly(reid_cache: Path, toy_tiny: DataSet) -> Assembly:
    """Return an assembled stage; its parts are replaced, not changed."""
    return prepare_stage(context(reid_cache, toy_tiny), stage())[0].assembly


def with_config(assembly: Assembly, settings: Mapping[str, Mapping[str, Any]]) -> Assembly:
    flags = assembly.config.model_dump(mode="json")
    for section, values in settings.items():
        flags[section] = {**flags[section], **values}
    ctx = replace(assembly.ctx, config=RunConfig.model_validate(flags))
    return replace(assembly, ctx=ctx)


def edited_map(data: DataSet) -> DataSet:
    """Change one pixel of one part map: the file's name stays."""
    path = Path(str(data.train.samples[0].fields["parts"]))
    with Image.open(path) as image:
        pixels = np.array(image)
        palette = image.getpalette()
    pixels[0, 0] = 1 + (pixels[0, 0] % 2)
    changed = Image.fromarray(pixels, "P")
    changed.putpalette(palette or [])
    changed.save(path)
    return data


def edited_image(data: DataSet) -> DataSet:
    """Change one byte of one image: name and size stay."""
    path = data.train.samples[0].path
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    return data


def with_sample(data: DataSet, **changes: Any) -> DataSet:
    first, *others = data.train.samples
    samples = (replace(first, **changes), *others)
    return replace(data, train=replace(data.train, samples=samples))


def with_an_object(data: DataSet) -> DataSet:
    """What is no plain value cannot be told by its content."""
    return with_sample(data, extra={**data.train.samples[0].extra, "anything": object()})


def other_classes(data: DataSet) -> DataSet:
    spec = data.train.fields["parts"]
    spec = replace(spec, classes=tuple(reversed(spec.classes)))
    return replace(data, train=replace(data.train, fields={**data.train.fields, "parts": spec}))


# Data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (edited_map, {"field parts"}),
        (other_classes, {"field parts"}),
        (edited_image, {"images"}),
        (lambda data: with_sample(data, pid=5), {"labels"}),
        (lambda data: with_sample(data, camid=7), {"labels"}),
        (lambda data: with_sample(data, clothes=7), {"labels"}),
        (lambda data: with_sample(data, split="query"), {"labels"}),
        (lambda data: with_sample(data, extra={"tracklet": 3}), {"labels"}),
        (with_an_object, set()),
    ],
    ids=["field", "classes", "image", "pid", "camera", "outfit", "split", "extra", "no plain one"],
)
def test_fingerprints_tell_what_has_changed(
    change: Callable[[DataSet], DataSet], expected: set[str], data: DataSet
) -> None:
    before = source_fingerprint(data.train, ("parts", "pose"))
    assert set(before) == {"images", "labels", "field parts", "field pose"}
    now = source_fingerprint(change(data).train, ("parts", "pose"))
    assert {name for name in before if now[name] != before[name]} == expected


def test_fewer_images_or_another_order_are_other_data_and_a_copy_is_not(
    data: DataSet, tmp_path: Path
) -> None:
    before = source_fingerprint(data.train, ("parts",))
    for samples in (data.train.samples[:-1], data.train.samples[::-1]):
        now = source_fingerprint(replace(data.train, samples=samples), ("parts",))
        assert all(now[name] != before[name] for name in before)
    assert source_fingerprint(copied(data, tmp_path / "copy").train, ("parts",)) == before
    bare = source_fingerprint(edited_map(data).train)
    assert bare == {"images": before["images"], "labels": before["labels"]}, "only what is asked"


def test_values_count_by_content_type_and_shape(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("same" if name != "c" else "other")
    a, b, c = (tmp_path / name for name in "abc")
    assert value_hash(a) == value_hash(b) != value_hash(c)
    assert value_hash((a, c)) == value_hash((b, c)) != value_hash((c, a))
    hashes = [value_hash(v) for v in (1, 2, 1.0, np.zeros(4), np.zeros((2, 2)), np.zeros(4, "f4"))]
    assert len(set(hashes)) == len(hashes)


# Stages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"run": {"seed": 3}},
        {"optim": {"lr": 0.5}},
        {"data": {"batch_size": 16}},
        {"augment": {"flip": 0.25}},
        {"model": {"neck": "none"}},
        {"identity": {"margin": 0.7}},
        {"schedule": {"epochs": 2}},
        {"loss_weights": {"head/parts": 0.5}},
        {"plugins": {"head": {"dropout": 0.0, "weight": 2.0}}},
        {"own": {"identity": "head"}},
        {"engine": {"precision": "bf16"}},
        {"evaluation": {"embed": ["core/global"]}},
        {"evaluation": {"batch_norm": "real"}},
    ],
    ids=str,
)
def test_another_setting_is_another_stage(settings: dict[str, Any], assembly: Assembly) -> None:
    other = with_config(assembly, settings)
    assert key_of(stage_contents(other)) != key_of(stage_contents(assembly))


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": {"log_every": 7, "checkpoint_every": 3, "tensorboard": False}},
        {"data": {"threads": 1}},
        {"evaluation": {"flip": "sum", "batch_size": 7, "distance": "euclidean", "vector": "raw"}},
        {"evaluation": {"ranked_list": 0, "untrained": True, "reranking": "k_reciprocal"}},
    ],
    ids=str,
)
def test_what_decides_nothing_is_no_other_stage(
    settings: dict[str, Any], assembly: Assembly
) -> None:
    assert stage_contents(with_config(assembly, settings)) == stage_contents(assembly)


def test_data_of_every_source_are_part_of_a_stage(assembly: Assembly, data: DataSet) -> None:
    plain = stage_contents(assembly)
    assert plain["data"] == {"main": source_fingerprint(assembly.ctx.main, ("parts",))}
    other = replace(assembly, truth=data.train, _fingerprints=None)
    assert stage_contents(other)["data"] == {"main": source_fingerprint(data.train, ("parts",))}
    pairs = replace(data.train, name="probe/pairs")
    ctx = replace(assembly.ctx, sources={**assembly.ctx.sources, "probe/pairs": pairs})
    loaders = {**assembly.loaders, "probe/pairs": assembly.loaders["main"]}
    two = stage_contents(replace(assembly, ctx=ctx, loaders=loaders, _fingerprints=None))
    assert set(two["data"]) == {"main", "probe/pairs"}


def test_another_name_is_another_stage(toy_tiny: DataSet, tmp_path: Path) -> None:
    ctx = context(tmp_path, toy_tiny)
    first, second = (
        prepare_stage(ctx, replace(stage(), name=name)) for name in ("probe/parser", "probe/other")
    )
    assert first[1] != second[1]
    assert first[2] == key_of(stage_contents(first[0].assembly, "probe"))


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return versions that take the place of the installed ones as they are put in."""
    changed: dict[str, str] = {}
    core, records = metadata.version, discovery.installed

    def installed(group: str = discovery.PLUGIN_GROUP) -> dict[str, PluginRecord]:
        made = {n: PluginRecord(n, "", f"reid-{n}", v) for n, v in changed.items()}
        return {**records(group), **made}

    monkeypatch.setattr(discovery, "installed", installed)
    monkeypatch.setattr(metadata, "version", lambda name: changed.get(name) or core(name))
    return changed


@pytest.mark.parametrize("who", ["head", "reid-core", "timm"])
def test_another_version_is_another_stage(
    who: str, versions: dict[str, str], assembly: Assembly
) -> None:
    found = set()
    for version in ("1.0", "1.1"):
        versions[who] = version
        found.add(key_of(stage_contents(assembly)))
    assert len(found) == 2


STAGED = """
from reid_zebra.networks import WIDTH
from reid_core import Plugin

class Zebra(Plugin):
    pass
"""
NETWORKS = """
from torch import nn

WIDTH = 8

class Stripes(nn.Identity):
    pass
"""


@pytest.mark.parametrize("role", ["owner", "plugin", "base", "layer"])
def test_another_code_is_another_stage(role: str, assembly: Assembly, tmp_path: Path) -> None:
    with fake_site(tmp_path / "site") as site:
        site.add("reid-zebra", {"zebra": "reid_zebra:Zebra"})
        package = tmp_path / "site" / "reid_zebra"
        (package / "__pycache__").mkdir(parents=True)
        (package / "__init__.py").write_text(STAGED, "utf-8")
        (package / "networks.py").write_text(NETWORKS, "utf-8")
        cls = load_class("zebra")
        if role == "base":
            cls = type("Striped", (cls,), {})
        run = assembly
        if role == "layer":  # of an encoder that a plugin offers whom nobody requested
            model = deepcopy(run.model)
            model.encoder.stripes = import_module("reid_zebra.networks").Stripes()
            run = replace(run, parts=replace(run.parts, model=model))
        elif role != "owner":
            run = replace(run, plugins={**run.plugins, "zebra": cls("zebra", Settings())})
        owner = "zebra" if role == "owner" else "probe"
        first, again = (stage_contents(run, owner) for _ in range(2))
        assert first == again
        assert first["code"]["reid_zebra"]
        others = {"reid_zebra", "reid_core", "torch", "timm"}
        assert not others & set(stage_contents(assembly)["code"])
        (package / "__pycache__" / "networks.pyc").write_bytes(b"compiled")
        assert stage_contents(run, owner) == first
        (package / "networks.py").write_text(NETWORKS.replace("8", "9"), "utf-8")
        edited = stage_contents(run, owner)
        assert key_of(edited) != key_of(first)
        (package / "more.py").write_text("", "utf-8")
        assert key_of(stage_contents(run, owner)) not in (key_of(edited), key_of(first))


def test_the_code_of_a_single_module_is_its_file(tmp_path: Path) -> None:
    with fake_site(tmp_path / "site") as site:
        site.add("reid-zebra", {"zebra": "zebra_alone:Zebra"}, modules={"zebra_alone": "A = 1"})
        first = package_hash("zebra_alone")
        assert first
        (tmp_path / "site" / "beside.py").write_text("", "utf-8")
        assert package_hash("zebra_alone") == first
        (tmp_path / "site" / "zebra_alone.py").write_text("A = 2", "utf-8")
        assert package_hash("zebra_alone") not in ("", first)
        assert package_hash("zebra_nowhere") == ""


def test_an_edited_network_is_trained_anew(toy_tiny: DataSet, tmp_path: Path) -> None:
    lines: list[str] = []
    with fake_site(tmp_path / "site") as site:
        site.add("reid-zebra", {"zebra": "zebra_alone:Zebra"}, modules={"zebra_alone": "A = 1"})
        ctx = context(tmp_path / "cache", toy_tiny)
        ctx.say = lines.append
        own = Stage("zebra/net", settings={"schedule": {"epochs": 1, "iterations_per_epoch": 1}})
        for source in ("A = 1", "A = 1", "A = 22"):
            (tmp_path / "site" / "zebra_alone.py").write_text(source, "utf-8")
            run_stage(ctx, own)
    done = [word for line in lines for word in ("training on", "reused") if word in line]
    assert done == ["training on", "reused", "training on"]


def test_auto_is_the_precision_that_it_comes_to(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for multiplies in (True, False):
        monkeypatch.setattr("reid_core.machine.devices._multiplies_bf16", lambda _, m=multiplies: m)
        for precision in ("auto", "bf16", "fp32"):
            other = with_config(assembly, {"engine": {"precision": precision}})
            found[multiplies, precision] = stage_contents(other)
    assert found[True, "auto"] == found[True, "bf16"] == found[False, "bf16"]
    assert found[False, "auto"] == found[False, "fp32"] == found[True, "fp32"]
    assert found[True, "auto"]["precision"] == "bf16"
    assert found[False, "auto"]["precision"] == "fp32"


def test_ranks_count_where_modules_draw_by_rows(assembly: Assembly) -> None:
    two = replace(assembly, ctx=replace(assembly.ctx, world_size=2))
    assert stage_contents(two)["ranks"] == 1
    paths = torch.nn.Identity()
    for module in (torch.nn.Dropout(0.2), torch.nn.Dropout2d(0.2), paths):
        paths.drop_prob = 0.1  # type: ignore[assignment]
        assembly.model.branches["probe/drawing"] = module
        try:
            assert stage_contents(two)["ranks"] == 2
        finally:
            del assembly.model.branches["probe/drawing"]


def check_content_counts(assembly: Assembly, file: Path, named: set[str]) -> None:
    """Write a file twice: it is known by the settings' names, and each content is another key."""
    found = set()
    for content in ("one", "two"):
        file.write_text(content)
        contents = stage_contents(assembly)
        assert set(contents["files"]) == named
        found.add(key_of(contents))
    assert len(found) == 2


def test_files_that_settings_name_count_by_their_content(
    assembly: Assembly, tmp_path: Path
) -> None:
    path = tmp_path / "weights"

    class Reader(Settings):
        weights: Path = path
        folder: Path = tmp_path

    other = with_config(assembly, {"model": {"pretrained": str(path)}})
    other = replace(other, plugins={**assembly.plugins, "reader": Plugin("reader", Reader())})
    check_content_counts(other, path, {"model.pretrained", "plugins.reader.weights"})


@pytest.mark.parametrize("left", ["embedder.safetensors", "checkpoint.pt"])
def test_a_run_s_folder_counts_by_the_weights_in_it(
    left: str, assembly: Assembly, tmp_path: Path
) -> None:
    class Reader(Settings):
        start: Path = tmp_path

    other = with_config(assembly, {"model": {"pretrained": str(tmp_path)}})
    other = replace(other, plugins={**assembly.plugins, "reader": Plugin("reader", Reader())})
    assert stage_contents(other)["files"] == {}, "no run's folder"
    check_content_counts(other, tmp_path / left, {"model.pretrained", "plugins.reader.start"})


@pytest.mark.parametrize("named", ["", "embedder.safetensors"])
def test_the_same_weights_in_another_place_start_a_stage(
    named: str, data: DataSet, assembly: Assembly, tmp_path: Path
) -> None:
    """Its checkpoint names the place that it started from, and must not be refused for that."""
    assembly.embedder().save(tmp_path / "a" / "embedder.safetensors")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    lines: list[str] = []
    for place in ("a", "b", "a"):
        start = {"model": {"pretrained": str(tmp_path / place / named)}}
        few = {"data": {"batch_size": 4, "sampler": "random"}}
        ctx = context(tmp_path / "cache", data, few, start)
        ctx.say = lines.append
        run_stage(ctx, stage())
    done = [word for line in lines for word in ("training on", "reused") if word in line]
    assert done == ["training on", "training on", "reused"]


def test_other_parts_under_the_same_names_are_learnt_anew(data: DataSet, tmp_path: Path) -> None:
    lines: list[str] = []
    few = {"data": {"batch_size": 4, "sampler": "random"}}
    for change in (lambda data: data, lambda data: data, edited_map):
        ctx = context(tmp_path / "cache", change(data), few)
        ctx.say = lines.append
        run_stage(ctx, stage())
    done = [word for line in lines for word in ("training on", "reused") if word in line]
    assert done == ["training on", "reused", "training on"]


# Labels ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def label_run(reid_cache: Path, toy_tiny: DataSet) -> RunContext:
    return context(reid_cache, toy_tiny)


LABELER = Labeler(SHARED_FIELDS["parts"], lambda labels: [], key="v1")


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "v2"},
        {"reads": ("keypoints",)},
        {"stage": stage()},
        {"spec": replace(SHARED_FIELDS["parts"], classes=("background", "person"))},
        {"spec": FieldSpec("parts", FieldKind.FIXED, layout="atlas")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_labeler_makes_other_labels(changes: dict[str, Any], label_run: RunContext) -> None:
    ctx = label_run
    plain = text_of(label_contents(ctx, "maker", LABELER))
    assert text_of(label_contents(ctx, "maker", replace(LABELER, **changes))) != plain


def test_labels_know_stage_precision_and_versions(
    versions: dict[str, str], label_run: RunContext
) -> None:
    def text(layer: Any = None, settings: Any = None) -> str:
        config = resolve(tiny_flags((), layer or {})).config
        ctx = replace(label_run, config=config)
        staged = None if settings is None else stage(settings=settings)
        return text_of(label_contents(ctx, "maker", replace(LABELER, stage=staged)))

    # Without a stage, whose key would change with the precision, too.
    found = [text(), text({"engine": {"precision": "bf16"}})]
    found += [text(settings={}), text(settings={"optim": {"lr": 0.5}})]
    versions["maker"] = "1.0"
    found.append(text())
    versions["reid-core"] = "99"
    found.append(text())
    assert len(set(found)) == 6


def test_fields_that_labelers_read_are_made_first() -> None:
    def labeler(name: str, *reads: str, **more: Any) -> tuple[str, Labeler]:
        spec = FieldSpec(name, FieldKind.SCALAR)
        return "maker", Labeler(spec, lambda labels: [], key="v1", reads=reads, **more)

    makers = {
        name: labeler(name, *reads)
        for name, reads in {"a": ("c",), "b": ("image",), "c": ("b",), "d": ()}.items()
    }
    makers["pid"] = labeler("pid", when="epoch")
    assert labels_in_order(makers, ("a", "pid", "parts")) == ["b", "c", "a"]
    assert labels_in_order(makers, ("d",)) == ["d"]
    makers["b"] = labeler("b", "a")
    with pytest.raises(PluginError, match="labelers read each other's fields: "):
        labels_in_order(makers, ("a",))
