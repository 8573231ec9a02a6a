"""Data sets and sources as the framework sees them."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from few_people import few_people

from reid_core import SHARED_FIELDS, DataError, DataSet, FieldKind, Sample
from reid_core.contract.samples import DataRequest
from reid_core.data.decoding import read_field
from reid_core.images import read_image
from reid_core.runs.assembly.needs import choose_source_provider
from reid_core.runs.finding import find_protocol, open_dataset, open_source
from reid_core.testing.fixtures import RunReid
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly
from reid_retrieval.labels import Labels
from reid_retrieval.searching import Search
from reid_synthpeople import Synthpeople, SynthpeopleSettings
from reid_synthpeople.atlas import LAYOUT
from reid_synthpeople.cards import Order
from reid_synthpeople.names import (
    DRESSED,
    DRESSED_GARMENTS,
    GARMENTS,
    TEMPLATE,
    TEMPLATE_GARMENTS,
    VARIANTS,
)
from reid_synthpeople.painting import LOWER, SHOES, UPPER
from reid_synthpeople.provider import load_dataset, load_source, make
from reid_synthpeople.redress import redressed, render_dressed, shot_of, world_behind

Tiny = Callable[[str], DataSet]
TRUTH = SynthpeopleSettings()
CLOTHES = (UPPER, LOWER, SHOES)


def request(name: str, root: Path | None, cache: Path) -> DataRequest:
    variant = name.partition("/")[2] or None
    return DataRequest("synthpeople", variant, "tiny", root, cache)


def test_it_is_found_by_name_and_complete(reid_cache: Path, tiny: Tiny) -> None:
    dataset = open_dataset("synthpeople:tiny", cache=reid_cache)
    assert dataset == tiny("mixed")
    assert dataset.name == "synthpeople:tiny"
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (64, 32, 32)
    assert dataset.notice == "synthetic people: figures on them say nothing about real ones"
    assert sorted({sample.pid for sample in dataset.train.samples}) == list(range(8))
    assert {sample.pid for sample in dataset.query} == set(range(9, 17))
    shared = {name: SHARED_FIELDS[name] for name in ("parts", "garments", "keypoints")}
    shared["texture"] = replace(SHARED_FIELDS["texture"], layout=LAYOUT)
    assert dataset.train.fields == dataset.query_fields == shared


def test_the_files_hold_what_the_fields_promise(tiny: Tiny) -> None:
    dataset = tiny("mixed")
    seen: set[int] = set()
    for sample in dataset.train.samples[::8]:
        values = {n: read_field(sample.fields[n], s) for n, s in dataset.train.fields.items()}
        assert values["parts"].shape == values["garments"].shape == (64, 32)
        assert ((values["parts"] > 0) == (values["garments"] > 0)).all()
        assert values["texture"].shape == (3, 256, 256)
        x, y, visibility = values["keypoints"].T
        assert set(np.unique(visibility)) <= {0, 0.5, 1}
        inside = visibility > 0
        assert ((x >= 0) & (x < 32) & (y >= 0) & (y < 64))[inside].all()
        seen |= set(np.unique(values["parts"]).tolist())
    assert seen == set(range(8))


def test_one_texture_per_person_and_outfit(tiny: Tiny) -> None:
    textures = {(s.clothes, s.fields["texture"]) for s in tiny("mixed").train.samples}
    assert len(textures) == 16
    assert len({path for _, path in textures}) == 16


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_protocol_of_a_variant_is_there_and_answerable(variant: str, tiny: Tiny) -> None:
    dataset = tiny(variant)
    queries, gallery = Labels.of_samples(dataset.query), Labels.of_samples(dataset.gallery)
    for name in dataset.protocols:
        search = Search(find_protocol(name), queries, gallery)
        answered = [not search.own(row)[1].all() for row in range(len(search.queries))]
        assert answered, name
        if variant in ("ltcc", "street") and name == "cross-clothes":
            assert 0 < sum(answered) < len(answered)  # some never change
        else:
            assert all(answered), name


def test_prcc_asks_with_c_across_and_with_b_within_clothes(tiny: Tiny) -> None:
    dataset = tiny("prcc")
    queries, gallery = Labels.of_samples(dataset.query), Labels.of_samples(dataset.gallery)
    for setting, camera, same in (("cc", 2, False), ("sc", 1, True)):
        for shots in ("multi-shot", "single-shot@10"):
            name = f"synthpeople/prcc/{setting}/{shots}"
            assert name in dataset.protocols
            search = Search(find_protocol(name), queries, gallery)
            assert set(search.queries.column("camid")) == {camera}
            assert set(search.gallery.column("camid")) == {0}
            shared = set(search.queries.column("clothes")) & set(search.gallery.column("clothes"))
            assert bool(shared) == same


def test_vcclothes_subsets_decide_about_clothes(tiny: Tiny) -> None:
    dataset = tiny("vcclothes")
    queries, gallery = Labels.of_samples(dataset.query), Labels.of_samples(dataset.gallery)
    for setting, cameras, same in (("sc", {1, 2}, True), ("cc", {2, 3}, False)):
        search = Search(find_protocol(f"synthpeople/vcclothes/{setting}"), queries, gallery)
        assert set(search.queries.column("camid")) == cameras
        assert set(search.gallery.column("camid")) == cameras
        for row in range(len(search.queries)):
            own, junk = search.own(row)
            assert not junk.all()
            worn = search.gallery.column("clothes")[own[~junk]]
            assert ((worn == search.queries.column("clothes")[row]) == same).all()


def test_market_keeps_distractors_and_drops_junk(tiny: Tiny) -> None:
    dataset = tiny("market")
    people = sorted({sample.pid for sample in dataset.gallery})
    assert people == [-2, *range(9, 17)]
    strangers = [sample for sample in dataset.gallery if sample.pid == -2]
    assert [sample.path.name[:4] for sample in strangers] == ["0000"] * 6
    assert {sample.clothes for sample in strangers} == {-1}
    assert sum(sample.clothes == -1 for sample in dataset.gallery) == 6


def test_tracklets_have_true_frames_with_fields_of_each(tiny: Tiny) -> None:
    dataset = tiny("tracklets")
    samples = (*dataset.train.samples, *dataset.query, *dataset.gallery)
    assert len(dataset.train) == 24
    assert {len(sample.frames) for sample in samples} == {3, 4, 5}
    assert all(sample.path == sample.frames[0] for sample in samples)
    assert set(dataset.train.fields) == {"parts", "garments", "keypoints", "texture"}
    sample = dataset.train.samples[0]
    assert [len(sample.fields[name]) for name in ("parts", "garments", "keypoints")] == [
        len(sample.frames)
    ] * 3
    specs = dataset.train.fields
    joints = [read_field(value, specs["keypoints"]) for value in sample.fields["keypoints"]]
    moved = [np.abs(a[:, :2] - b[:, :2]).max() for a, b in pairwise(joints)]
    assert min(moved) > 0.5, "a leg moves by half a pixel at least"
    maps = [read_field(value, specs["parts"]) for value in sample.fields["parts"]]
    shares = [(a == b).mean() for a, b in pairwise(maps)]
    assert min(shares) > 0.6, "the person stays where they are"
    assert max(shares) < 1
    assert read_field(sample.fields["texture"], specs["texture"]).shape == (3, 256, 256)


def test_frames_are_evaluated_singly_and_pooled_by_a_protocol(
    tiny: Tiny, reid_cache: Path, tmp_path: Path, run_reid: RunReid
) -> None:
    """By ``reid eval``, with an embedder that has seen single images alone."""
    dataset = tiny("tracklets")
    model, out = tmp_path / "embedder.safetensors", tmp_path / "results.json"
    tiny_assembly((), cache=reid_cache).embedder().save(model)
    rules = tmp_path / "largest.toml"
    rules.write_text(
        'pool = ["tracklet"]\ngallery_pool = ["tracklet"]\npooling = "max"\njunk.same = ["camid"]\n'
    )
    code, said, errors = run_reid(
        "eval", model, "--data", "synthpeople/tracklets:tiny", "--device", "cpu", "--json", out,
        "--protocol", rules, "--protocol", "standard/tracklet-pools", "--protocol", "standard",
    )  # fmt: skip
    assert code == 0, errors
    assert "standard/tracklet-pools" in said
    largest, pooled, whole = json.loads(out.read_text("utf-8"))
    assert "gallery all, largest values per tracklet" in largest["text"]
    assert "query all, mean unit feature per tracklet" in pooled["text"]
    for found in (largest, pooled, whole):
        assert found["total_queries"] == len(dataset.query)
        assert found["gallery_images"] == len(dataset.gallery)
    assert [one["file"] for one in pooled["queries"]] == [one["file"] for one in whole["queries"]]
    assert largest["metrics"] != whole["metrics"]


def test_val_images_are_set_aside(tiny: Tiny) -> None:
    dataset = tiny("prcc")
    everything = (*dataset.train.samples, *dataset.query, *dataset.gallery)
    assert len(everything) == 96
    assert not any("/val/" in str(sample.path) for sample in everything)


def test_sources_are_siblings_that_a_field_chooses() -> None:
    offers = [("synthpeople", offer) for offer in Synthpeople("synthpeople").reid_datasets()]
    for fields, name in (
        (("texture",), "synthpeople-pairs"),
        (("parts",), "synthpeople-crops"),
        (("garments",), "synthpeople-crops"),
        (("parts", "keypoints"), "synthpeople-crops"),
        (("synthpeople/redressed",), "synthpeople-redressed"),
    ):
        chosen = choose_source_provider("x", "x/y", fields, None, offers, "synthpeople")
        assert chosen == name


@pytest.mark.parametrize(
    ("name", "fields", "images"),
    [
        ("synthpeople-pairs", {"texture"}, 24),
        ("synthpeople-crops", {"parts", "garments", "keypoints"}, 48),
        (
            "synthpeople-redressed",
            {GARMENTS, TEMPLATE, TEMPLATE_GARMENTS, DRESSED, DRESSED_GARMENTS},
            24,
        ),
    ],
)
def test_sources_have_their_fields_and_no_identities(
    name: str, fields: set[str], images: int, reid_cache: Path
) -> None:
    source = open_source(f"{name}:tiny", cache=reid_cache)
    assert (source.name, len(source), source.identities) == (name, images, False)
    assert set(source.fields) == fields
    assert {sample.pid for sample in source.samples} == {-1}
    sample = source.samples[0]
    assert read_image(sample.path).shape == (64, 32, 3)
    for field, spec in source.fields.items():
        read_field(sample.fields[field], spec)
        assert (spec.layout == LAYOUT) == (spec.kind is FieldKind.FIXED)


def test_sources_show_nobody_of_the_data_set(reid_cache: Path, tiny: Tiny) -> None:
    pairs = open_source("synthpeople-pairs:tiny", cache=reid_cache)
    ours, theirs = (
        {Path(s.fields["texture"]).read_bytes() for s in samples}
        for samples in (tiny("mixed").train.samples, pairs.samples)
    )
    assert not ours & theirs


def test_the_seed_makes_other_people_of_the_same_names(tmp_path: Path, tiny: Tiny) -> None:
    with few_people():
        other = load_dataset(request("synthpeople", None, tmp_path), SynthpeopleSettings(seed=1))
    first, second = tiny("mixed").train.samples[0], other.train.samples[0]
    assert first.fields["texture"].name == second.fields["texture"].name
    assert first.fields["texture"].read_bytes() != second.fields["texture"].read_bytes()


def test_mask_noise_keeps_one_silhouette(tmp_path: Path) -> None:
    asked = DataRequest("synthpeople-crops", None, "tiny", None, tmp_path)
    source = load_source("crops", asked, SynthpeopleSettings(mask_noise=3))
    for sample in source.samples:
        parts, garments = (
            read_field(sample.fields[name], source.fields[name]) for name in ("parts", "garments")
        )
        assert ((parts > 0) == (garments > 0)).all()


def test_mask_noise_spoils_the_masks_alone(tmp_path: Path) -> None:
    spoiled, asked = SynthpeopleSettings(mask_noise=1), request("synthpeople", None, tmp_path)
    with few_people():
        usual, noisy, again = (load_dataset(asked, own) for own in (TRUTH, spoiled, spoiled))
    changed = 0
    for truth, sample in zip(usual.train.samples, noisy.train.samples, strict=True):
        assert truth.path.read_bytes() == sample.path.read_bytes()
        for field, differs in (("keypoints", False), ("texture", False), ("parts", True)):
            same = truth.fields[field].read_bytes() == sample.fields[field].read_bytes()
            assert same or differs
            changed += not same
    assert changed > 15
    assert again == noisy


def test_a_kept_folder_is_read_as_it_is(tmp_path: Path, tiny: Tiny) -> None:
    root = tmp_path / "kept"
    make(request("synthpeople/prcc", None, tmp_path), root, lambda *_: None, TRUTH)
    asked = request("synthpeople/prcc", root, tmp_path / "unused")
    found = load_dataset(asked, SynthpeopleSettings(seed=9))
    assert found.fingerprint() == tiny("prcc").fingerprint()
    assert not (tmp_path / "unused").exists()
    with pytest.raises(DataError, match="holds synthpeople/prcc:tiny, and synthpeople/ltcc:tiny"):
        load_dataset(request("synthpeople/ltcc", root, tmp_path), TRUTH)
    found.train.samples[3].fields["parts"].unlink()
    with pytest.raises(DataError, match=r"1 files are missing, first fields/parts/prcc.*data make"):
        load_dataset(asked, TRUTH)
    (root / "index.csv").write_text("file,split\n")
    with pytest.raises(DataError, match=r"index\.csv: cannot be read as an index"):
        load_dataset(asked, TRUTH)
    shutil.rmtree(root)
    with pytest.raises(DataError, match="holds no finished synthetic people; make it with 'reid d"):
        load_dataset(asked, TRUTH)


def test_a_kept_folder_says_what_was_asked_for_in_vain(tmp_path: Path) -> None:
    root = tmp_path / "kept"
    made_with = SynthpeopleSettings(seed=3, mask_noise=0.5)
    with few_people():
        make(request("synthpeople", None, tmp_path), root, lambda *_: None, made_with)
    asked = request("synthpeople", root, tmp_path)
    assert load_dataset(asked, made_with).notice == load_dataset(asked, TRUTH).notice
    found = load_dataset(asked, SynthpeopleSettings(mask_noise=0, people="pretraining"))
    assert found.name == "synthpeople:tiny, seed 3, mask noise 0.5"
    assert found.notice.endswith(
        "; the folder rules, which was made with mask_noise 0.5 and not 0.0, "
        "people usual and not pretraining"
    )


def test_people_are_named_the_same_in_all_sets(tiny: Tiny) -> None:
    names: dict[str, set[str]] = {"train": set(), "test": set()}
    for variant in VARIANTS:
        dataset = tiny(variant)
        names["train"] |= {sample.extra["who"] for sample in dataset.train.samples}
        names["test"] |= {s.extra["who"] for s in (*dataset.query, *dataset.gallery)}
        own = {sample.extra["who"]: sample.pid for sample in dataset.train.samples}
        assert len(own) == len(set(own.values()))
    assert "synthpeople/0/0" in names["train"]
    assert not names["train"] & names["test"]


def test_a_training_image_among_the_test_images_is_noticed(tiny: Tiny) -> None:
    pytest.importorskip("reid_benchmarks")
    from reid_benchmarks.doctor.labels import check_people

    dataset = tiny("mixed")
    moved = [replace(s, pid=s.extra["person"], split="gallery") for s in dataset.train.samples[:2]]
    assert "nobody is" in next(check_people(dataset)).text
    wrong = replace(dataset, gallery=(*dataset.gallery, *moved))
    assert next(check_people(wrong)).text.startswith("1 person is in training and in test: 1;")


def test_pretraining_shows_people_whom_no_other_set_has(tmp_path: Path) -> None:
    apart, asked = SynthpeopleSettings(people="pretraining"), request("synthpeople", None, tmp_path)
    with few_people():
        dataset, usual = (load_dataset(asked, own) for own in (apart, TRUTH))
    assert dataset.name == "synthpeople:tiny, people for pre-training"
    trained = {sample.extra["who"] for sample in dataset.train.samples}
    assert not trained & {sample.extra["who"] for sample in usual.train.samples}
    assert [s.extra["who"] for s in dataset.query] == [s.extra["who"] for s in usual.query]


def test_a_set_of_other_code_is_made_beside_the_one_that_a_run_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order = Order("pairs", "tiny")
    before = order.stamp()
    asked = DataRequest("synthpeople-pairs", None, "tiny", None, tmp_path)
    read = load_source("pairs", asked, TRUTH)
    (folder,) = tmp_path.iterdir()
    capsys.readouterr()
    monkeypatch.setattr("reid_synthpeople.cards._code", lambda: "another state")
    assert order.stamp() != before
    assert set(before) >= {"variant", "size", "seed", "mask_noise", "pretraining", "version"}
    (tmp_path / "synthpeople-pairs-tiny-seed0").mkdir()  # as versions up to 0.1 named it
    (tmp_path / "synthpeople-pairs-tiny-seed0-noise1").mkdir()
    other = load_source("pairs", asked, TRUTH)
    assert all(sample.path.is_file() for sample in (*read.samples, *other.samples))
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(
        "synthpeople-pairs:tiny made by other code is kept for runs that read it "
        rf"\(\d+ MB\); when none does: rm -r {tmp_path}/synthpeople-pairs-tiny-seed0 {folder}$",
        said,
    )


def test_making_is_announced_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = DataRequest("synthpeople-pairs", None, "tiny", None, tmp_path)
    load_source("pairs", asked, TRUTH)
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("making synthpeople-pairs:tiny once: 24 images of synthetic people in ")
    load_source("pairs", asked, TRUTH)
    assert capsys.readouterr().err == ""


def test_the_core_s_folder_reads_the_mixed_set(tiny: Tiny) -> None:
    dataset = tiny("mixed")
    root = dataset.train.samples[0].path.parents[1]
    found = open_dataset("folder", root)
    assert set(found.train.fields) == {"parts", "garments", "keypoints"}
    labels = [
        [(s.path, s.pid, s.camid, s.clothes) for s in (*d.train.samples, *d.query, *d.gallery)]
        for d in (found, dataset)
    ]
    assert labels[0] == labels[1]


def test_a_run_trains_and_evaluates_on_it(reid_cache: Path, tiny: Tiny) -> None:
    tiny("mixed")
    trainer = Recorder(
        tiny_assembly(
            ("head", "synthpeople"),
            {"data": {"name": "synthpeople:tiny"}},
            cache=reid_cache,
            classes=PROBES,
        )
    )
    trainer.fit()
    assert len(trainer.trace) == 4
    assert all(np.isfinite(list(step.values())).all() for step in trainer.trace)


def test_the_scene_of_a_sample_can_be_taken_again_in_other_clothes(tiny: Tiny) -> None:
    dataset = tiny("mixed")
    samples = dataset.train.samples[:3]
    world = world_behind(samples[0].path)
    shots = [shot_of(sample) for sample in samples]
    for sample, picture in zip(samples, world.render(shots), strict=True):
        assert (picture.parts == read_field(sample.fields["parts"], SHARED_FIELDS["parts"])).all()
        stored = read_image(sample.path).astype(int)
        assert np.abs(picture.image.astype(int) - stored).mean() < 8  # JPEG
        atlas = world.atlas(sample.extra["figure"], sample.extra["outfit"])
        assert (
            atlas.transpose(2, 0, 1)
            == read_field(sample.fields["texture"], dataset.train.fields["texture"])
        ).all()
    other = redressed(shots, outfit=3)
    assert [(s.pid, s.camid, s.number) for s in other] == [
        (s.pid, s.camid, s.number) for s in shots
    ]
    assert {s.outfit for s in other} == {3}


def test_scenes_of_strange_files_are_refused(tmp_path: Path, toy_tiny: DataSet) -> None:
    sample = toy_tiny.train.samples[0]
    with pytest.raises(DataError, match="is no image of synthetic people"):
        shot_of(sample)
    with pytest.raises(DataError, match=r"no folder above it holds finished synthetic people"):
        world_behind(tmp_path)


def test_everybody_is_shown_in_the_outfit_of_their_template(reid_cache: Path) -> None:
    source = open_source("synthpeople-redressed:tiny", cache=reid_cache)
    by_path = {sample.path: sample for sample in source.samples}
    assert len({s.extra["person"] for s in by_path.values()}) > 1
    assert not source.people, "it has no identities"
    world = world_behind(source.samples[0].path)

    def read(sample: Sample, name: str) -> np.ndarray:
        return read_field(sample.fields[name], source.fields[name])

    changed = []
    for sample in source.samples[:6]:
        template = by_path[sample.fields[TEMPLATE]]
        assert template.extra["figure"] != sample.extra["person"]
        assert (read(sample, TEMPLATE_GARMENTS) == read(template, GARMENTS)).all()
        (dressed,) = render_dressed(world, [shot_of(sample)], [shot_of(template)])
        assert (dressed.image.transpose(2, 0, 1) == read(sample, DRESSED)).all()
        assert (dressed.garments == read(sample, DRESSED_GARMENTS)).all()
        # Who stands where, and before what, is as it was.
        own, worn = read(sample, GARMENTS), dressed.garments
        off = np.abs(read_image(sample.path).astype(int) - dressed.image).mean(2)
        nobody = (own == 0) & (worn == 0)
        clothes = np.isin(own, CLOTHES) & np.isin(worn, CLOTHES)
        assert off[nobody].mean() < 10  # JPEG, and another shadow
        changed.append(off[clothes].mean() / off[nobody].mean())
    assert np.median(changed) > 3


def test_the_own_outfit_put_on_again_changes_nothing(reid_cache: Path) -> None:
    source = open_source("synthpeople-redressed:tiny", cache=reid_cache)
    world = world_behind(source.samples[0].path)
    shots = [shot_of(sample) for sample in source.samples[:4]]
    pairs = zip(world.render(shots), render_dressed(world, shots, shots), strict=True)
    for usual, again in pairs:
        assert (usual.image == again.image).all()
        assert (usual.garments == again.garments).all()


def test_lost_templates_are_told(reid_cache: Path, tmp_path: Path) -> None:
    asked = DataRequest("synthpeople-redressed", None, "tiny", None, tmp_path)
    source = load_source("redressed", asked, SynthpeopleSettings())
    (source.samples[0].path.parent.parent / "templates.csv").unlink()
    with pytest.raises(DataError, match=r"templates.csv: cannot be read .* make the set again"):
        load_source("redressed", asked, SynthpeopleSettings())
