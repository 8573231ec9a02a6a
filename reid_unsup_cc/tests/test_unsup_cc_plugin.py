"""The plugin in a run: every row of the tables, other plugins' embeddings and labels, reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from unsup_cc_runs import TINY, unsup_cc

from reid_core import ConfigError, DataError, Embedded
from reid_core.contract.events import RunBegan
from reid_core.contract.samples import DataSet
from reid_core.data.decoding import read_field
from reid_core.loop.synthesis import joined
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import Recorder, first_forward, tiny_flags
from reid_unsup_cc.memory import ClusterMemory
from reid_unsup_cc.outfits import wardrobe_of
from reid_unsup_cc.quality import truth_of
from reid_unsup_cc.reporting import supervision

CONTRAST, CONSTRAINT = "core/global/contrast", "unsup_cc/self_identity"
NO_SYNTHESIS = {"synthesis": {"method": "none"}}


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, (CONTRAST, CONSTRAINT)),
        (NO_SYNTHESIS, (CONTRAST,)),
        ({"synthesis": {"online": True}}, (CONTRAST, CONSTRAINT)),
        ({"synthesis": {"online": True, "templates": "random"}}, (CONTRAST, CONSTRAINT)),
        ({"synthesis": {"templates": "random", "texture": 0.5}}, (CONTRAST, CONSTRAINT)),
        ({"synthesis": {"template_data": "toy:tiny"}}, (CONTRAST, CONSTRAINT)),
        ({"memory": {"mode": "instance"}, **NO_SYNTHESIS}, (CONTRAST,)),
        ({"memory": {"combine": "union", "hardest": "kl_unit"}}, (CONTRAST, CONSTRAINT)),
        ({"constraint_space": "unit_tau"}, (CONTRAST, CONSTRAINT)),
    ],
    ids=str,
)
def test_every_variant_trains(
    reid_cache: Path, settings: dict[str, Any], terms: tuple[str, ...]
) -> None:
    trainer = Recorder(unsup_cc(reid_cache, settings=settings))
    trainer.train_epoch()
    for step in trainer.trace:
        assert {name.partition(":")[2] for name in step} == set(terms)
        assert all(np.isfinite(list(step.values())))
    real, outfits = 8, 0 if "method" in settings.get("synthesis", {}) else 2
    assert trainer.rows[1:] == [real * (1 + outfits)] * 2


def test_batches_are_of_clusters(reid_cache: Path) -> None:
    trainer = Recorder(unsup_cc(reid_cache))
    trainer.begin_epoch()
    assembly = trainer.assembly
    labels = np.array([sample.pid for sample in assembly.ctx.main.samples])
    truth = np.array([sample.pid for sample in assembly.truth.samples])
    assert (labels != truth).any()
    for rows in assembly.samplers["main"].epoch(0, 5):
        drawn = labels[rows].reshape(4, 2)
        assert (drawn >= 0).all()
        assert (drawn[:, :1] == drawn).all(), "the images of a cluster lie side by side"
        assert len(set(drawn[:, 0].tolist())) == 4


def test_rows_in_other_clothes_follow_their_source(reid_cache: Path) -> None:
    assembly = unsup_cc(reid_cache, "head")
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    batch = trainer.batches(trainer.streams(1))["main"]
    [made] = assembly.plugins["unsup_cc"].reid_data_synthesis(assembly.ctx, batch, None, "main")
    source = torch.arange(8).repeat_interleave(2)
    assert torch.equal(made.spatial_from, source)
    assert torch.equal(made.identity_from, source)
    step, report = first_forward(assembly)
    assert report.labels is not None
    assert torch.equal(report.labels[8:], report.labels[:8].repeat_interleave(2))
    assert set(report.terms) == {CONTRAST, CONSTRAINT, "head/parts"}
    assert step.isfinite()


def test_identity_templates_change_no_pixel_and_cost_nothing(reid_cache: Path) -> None:
    """One geometry for a whole group: undressed copies are equal after flips, crops and padding."""
    assembly = unsup_cc(reid_cache, augment={"pad": 4, "flip": 0.5, "erasing": 0.0})
    main = assembly.ctx.main
    samples = main.samples
    from reid_unsup_cc.templates import read_picture

    values = [np.stack([read_picture(main, sample).image] * 4) for sample in samples]
    spec = main.fields["unsup_cc/outfits"]
    same = main.with_field(spec, values)
    assembly.truth = same
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    batch = trainer.batches(trainer.streams(1))["main"]
    [made] = assembly.plugins["unsup_cc"].reid_data_synthesis(assembly.ctx, batch, None, "main")
    assert len(made.images) == 32
    assert torch.equal(made.images, batch.image.repeat_interleave(4, 0))
    update = next(u for u in assembly.parts.plan.updates if u.name == "main")
    _, report = assembly.parts.forward(update, {"main": batch})
    assert abs(report.terms[CONSTRAINT].item()) < 1e-6


def test_the_memories_move_after_the_step_only(reid_cache: Path) -> None:
    trainer = Recorder(unsup_cc(reid_cache))
    trainer.begin_epoch()
    criterion: Any = trainer.assembly.model.criteria["core/global"]
    before = [bank.clone() for bank in criterion.clusters()]
    update = next(u for u in trainer.assembly.parts.plan.updates if u.name == "main")
    batches = trainer.batches(trainer.streams(1))
    loss, _ = trainer.assembly.parts.forward(update, batches)  # type: ignore[misc]
    loss.backward()
    assert all(torch.equal(a, b) for a, b in zip(before, criterion.clusters(), strict=True))
    trainer.train_epoch()
    assert criterion.agreement[1] > 0


@pytest.mark.parametrize(("other", "count"), [("pcb", 6), ("mgn", 8)])
def test_every_embedding_has_memories_of_its_own(reid_cache: Path, other: str, count: int) -> None:
    trainer = Recorder(unsup_cc(reid_cache, other, data={"height": 96}))
    trainer.train_epoch()
    found: dict[str, Any] = dict(trainer.assembly.model.criteria.items())
    assert len(found) == count
    assert all(isinstance(criterion, ClusterMemory) for criterion in found.values())
    banks = [criterion.average for criterion in found.values()]
    assert len({bank.data_ptr() for bank in banks}) == count
    assert {f"main:{name}/contrast" for name in found} <= {n for t in trainer.trace for n in t}


def test_partaware_supervises_people_in_other_clothes(reid_cache: Path) -> None:
    assembly = unsup_cc(reid_cache, "partaware")
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    batch = trainer.batches(trainer.streams(1))["main"]
    update = next(u for u in assembly.parts.plan.updates if u.name == "main")
    _, report = assembly.parts.forward(update, {"main": batch})
    # Labels of people in other clothes are their source's: other labels of the source count.
    other = replace(batch, fields={**batch.fields, "parts": batch.fields["parts"].flip(1)})
    _, moved = assembly.parts.forward(update, {"main": other})
    assert set(report.terms) == {CONTRAST, CONSTRAINT, "partaware/parts"}
    assert moved.terms["partaware/parts"] != report.terms["partaware/parts"]
    assert moved.terms[CONTRAST] == report.terms[CONTRAST]
    [made] = assembly.plugins["unsup_cc"].reid_data_synthesis(assembly.ctx, batch, None, "main")
    longer, _ = joined(batch, [made])
    parts = longer.fields["parts"]
    assert torch.equal(parts[8:], parts[:8].repeat_interleave(2, 0))


@pytest.mark.parametrize("online", [False, True])
def test_a_network_dresses_people(reid_cache: Path, online: bool) -> None:
    pise = {"data": "synthpeople-redressed:tiny", "width": 2, "size": (32, 16)}
    pise |= {"epochs": 1, "iterations": 2, "batch": 4}
    settings = {"synthesis": {"method": "pise", "online": online}, "pise": pise}
    trainer = Recorder(unsup_cc(reid_cache, settings=settings))
    main = trainer.assembly.ctx.main
    if not online:
        spec = main.fields["unsup_cc/outfits"]
        images = read_field(main.samples[0].fields[spec.name], spec)
        assert images.shape == (2, 3, 32, 16)
    trainer.train_epoch()
    assert trainer.rows[1:] == [24, 24]
    assert {name.partition(":")[2] for name in trainer.trace[-1]} == {CONTRAST, CONSTRAINT}


def test_every_embedding_and_epoch_draws_for_itself(reid_cache: Path) -> None:
    def drawn(seed: int, epoch: int) -> dict[str, list[int]]:
        assembly = unsup_cc(reid_cache, "pcb", data={"height": 96}, run={"seed": seed})
        assembly.ctx.progress.epoch = epoch
        found: dict[str, Any] = dict(assembly.model.criteria.items())
        return {name: c._draw().integers(0, 1000, 9).tolist() for name, c in found.items()}

    first = drawn(0, 0)
    assert first == drawn(0, 0)
    assert len({tuple(row) for row in first.values()}) == 6
    for other in (drawn(0, 1), drawn(1, 0)):
        assert all(other[name] != row for name, row in first.items())


def test_the_constraint_of_a_step_written_out(reid_cache: Path) -> None:
    """Equation 9 over an image and its two outfits, of unit vectors over tau."""
    assembly = unsup_cc(reid_cache, settings={"memory": {"temperature": 0.2}})
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    batches = trainer.batches(trainer.streams(1))
    update = next(u for u in assembly.parts.plan.updates if u.name == "main")
    step, terms = assembly.parts.forward.terms(update, batches)  # type: ignore[operator]
    unit = step.main.embedded["core/global"].unit.detach()
    rows = (unit / 0.2).log_softmax(1).reshape(3 * 8, -1)
    groups = [[k, 8 + 2 * k, 9 + 2 * k] for k in range(8)]
    pairs = [(rows[a], rows[b]) for group in groups for a in group for b in group]
    expected = sum((p.exp() * (p - q)).sum() for p, q in pairs) / 24
    assert terms[CONSTRAINT].value.item() == pytest.approx(float(expected), rel=1e-4)
    # Of an embedding that counts half, half of it.
    head: Any = assembly.model.heads["core/global"]
    head.declaration = replace(head.declaration, weight=0.5)
    _, halved = assembly.parts.forward.terms(update, batches)  # type: ignore[operator]
    assert halved[CONSTRAINT].value.item() == pytest.approx(float(expected) / 2, rel=1e-4)


def test_settings_reach_the_wardrobe(reid_cache: Path) -> None:
    synthesis = {"texture": 0.25, "shading": 0.5, "background": "swap", "outfits": 3}
    assembly = unsup_cc(reid_cache, settings={"synthesis": synthesis})
    wardrobe = wardrobe_of(assembly.ctx, "unsup_cc", assembly.plugins["unsup_cc"].settings, None)
    relocated: Any = wardrobe.dresser
    recolor = relocated.dresser
    assert (recolor.texture, recolor.shading) == (0.25, 0.5)
    assert relocated.background == "swap"
    assert wardrobe.settings.outfits == 3


def test_without_a_truth_there_is_a_report_without_it(toy_tiny: DataSet) -> None:
    train = toy_tiny.train
    known = truth_of(train)
    assert known is not None
    assert known.people.tolist() == [sample.pid for sample in train.samples]
    assert known.cameras.tolist() == [sample.camid for sample in train.samples]
    assert known.clothes.tolist() == [sample.clothes for sample in train.samples]
    assert truth_of(replace(train, identities=False)) is None
    junk = (replace(train.samples[0], pid=-1), *train.samples[1:])
    assert truth_of(replace(train, samples=junk)) is None


def test_another_plugin_s_identities_and_memories_go_with_the_constraint(reid_cache: Path) -> None:
    own = {"identity": "clustering", "labels:pid": "clustering"}
    trainer = Recorder(unsup_cc(reid_cache, "clustering", own=own))
    trainer.train_epoch()
    assert {name.partition(":")[2] for name in trainer.trace[-1]} == {CONTRAST, CONSTRAINT}
    assert trainer.assembly.plugins["unsup_cc"].report is None  # type: ignore[attr-defined]


def test_a_run_reports_clusters_and_draws_outfits(reid_cache: Path, tmp_path: Path) -> None:
    assembly = unsup_cc(reid_cache, folder=tmp_path)
    trainer = Recorder(assembly)
    trainer.emit(RunBegan(assembly.config, tmp_path, {}))
    trainer.fit()
    lines = (tmp_path / "unsup_cc" / "clusters.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line["epoch"] for line in found] == [0, 1]
    for line in found:
        assert line["images"] == 48
        assert line["clusters"] >= 4
        assert set(line["agreement"]) == {"nmi", "ari", "ari_all", "purity"}
        assert set(line["recall"]) == {"cameras", "same_clothes", "other_clothes"}
        assert 1 <= line["recall"]["cameras"] <= 4
        assert 0 <= line["recall"]["other_clothes"] <= 1
        assert 0 <= line["hardest_by_cosine"]["core/global"] <= 1
    with Image.open(tmp_path / "unsup_cc" / "outfits.png") as picture:
        assert picture.size == (4 * 3 * 66 - 2, 3 * 130 - 2)


@pytest.mark.parametrize(
    ("settings", "sections", "words"),
    [
        ({**NO_SYNTHESIS}, {}, "no identity label is read in training"),
        (
            {**NO_SYNTHESIS, "clustering": {"background": "grey", "cameras": "whiten"}},
            {},
            "in training; supervision of other kinds: garment maps, camera labels",
        ),
        ({**NO_SYNTHESIS}, {"data": {"sampler": "pk_camera"}}, "other kinds: camera labels"),
        (
            {"synthesis": {"method": "pise"}},
            {"model": {"pretrained": True}, "run": {"plugins": ["partaware", "unsup_cc"]}},
            "other kinds: garment maps, people in two outfits ('synthpeople-redressed'), the "
            "labels behind the encoder's pretrained weights, what other plugins learn from "
            "(partaware)",
        ),
        (
            {**NO_SYNTHESIS},
            {"data": {"validation": 0.25}, "evaluation": {"select": "validation", "every": 1}},
            "in training; identities of held-out people choose the epoch",
        ),
    ],
)
def test_whatever_else_is_read_is_said(
    settings: dict[str, Any], sections: dict[str, Any], words: str
) -> None:
    layers = {"plugins": {"unsup_cc": settings}, **sections}
    resolved = resolve(tiny_flags(("unsup_cc",), layers))
    found = resolved.plugins["unsup_cc"].settings
    assert supervision("unsup_cc", found, resolved.config).endswith(words)


def test_greyed_clusters_need_garment_maps() -> None:
    grey = {"clustering": {"background": "grey"}}
    found = {
        name: [(need.what, need.remedy) for need in resolved_needs(settings)]
        for name, settings in {
            "none": NO_SYNTHESIS,
            "grey": {**NO_SYNTHESIS, **grey},
            "both": grey,
            "online": {"synthesis": {"online": True}},
        }.items()
    }
    assert found["none"] == []
    assert [what for what, _ in found["grey"]] == ["garments"]
    assert found["grey"][0][1].endswith("with -s unsup_cc.clustering.background=keep")
    assert [what for what, _ in found["both"]] == ["garments", "unsup_cc/outfits"]
    assert "-s unsup_cc.synthesis.method=none -s unsup_cc.clustering" in found["both"][0][1]
    assert [what for what, _ in found["online"]] == ["garments"]


def resolved_needs(settings: dict[str, Any]) -> Any:
    flags = tiny_flags(("unsup_cc",), {"plugins": {"unsup_cc": settings}})
    return resolve(flags).plugins["unsup_cc"].needs


def test_nothing_of_the_training_is_deployed(reid_cache: Path) -> None:
    embedder = unsup_cc(reid_cache).embedder()
    assert list(embedder.heads) == ["core/global"]
    assert not [name for name in embedder.state_dict() if "average" in name or "hard" in name]


def test_without_garment_maps_the_remedy_is_named(
    reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reid_core.runs.assembly.assembling import assemble
    from reid_core.runs.finding import open_dataset

    dataset = open_dataset("toy:tiny", cache=reid_cache)
    bare = replace(dataset.train, fields={})
    flags = tiny_flags(("unsup_cc",), {"plugins": {"unsup_cc": TINY}, "model": {"start": "random"}})
    with pytest.raises(DataError, match=r"'garments'.*--plugins parsing,.*synthesis.method=none"):
        assemble(resolve(flags), cache=reid_cache, dataset=replace(dataset, train=bare))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"batch_size": 4, "instances": 4}, "a batch of 1 pseudo-identity has nothing to be"),
        ({"sampler": "twice"}, "draws images without regard to clusters"),
    ],
)
def test_batches_that_cannot_work(data: dict[str, Any], message: str) -> None:
    flags = {"run": {"plugins": ["unsup_cc"]}, "data": data}
    with pytest.raises(ConfigError, match=message):
        resolve(flags)


def test_too_few_clusters_stop_the_run_or_take_another_eps(reid_cache: Path) -> None:
    strict = {**TINY["clustering"], "min_samples": 40, "stuck": "stop"}
    assembly = unsup_cc(reid_cache, settings={"clustering": strict})
    with pytest.raises(DataError, match=r"no cluster; raise -s unsup_cc.clustering.eps"):
        Recorder(assembly).train_epoch()
    wide = {**TINY["clustering"], "eps": 1.0}
    trainer = Recorder(unsup_cc(reid_cache, settings={"clustering": wide}))
    trainer.train_epoch()
    assert trainer.assembly.ctx.num_identities >= 4
    report = trainer.assembly.plugins["unsup_cc"].report  # type: ignore[attr-defined]
    assert report.eps < 1.0


def test_the_probes_see_the_same_rows_in_whatever_order(reid_cache: Path) -> None:
    """Images that another plugin joins to the batch are supervised by the memories, too."""
    trainer = Recorder(
        unsup_cc(reid_cache, "adversarial", plugins={"adversarial": {"route": "join"}})
    )
    trainer.train_epoch()
    assert trainer.rows[-1] == 8 + 8 + 16


def test_the_constraint_has_weight_alpha(reid_cache: Path) -> None:
    _, report = first_forward(unsup_cc(reid_cache))
    assert report.weights == {CONTRAST: 1.0, CONSTRAINT: 0.3}
    expected = report.terms[CONTRAST] + 0.3 * report.terms[CONSTRAINT]
    assert report.total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_run_s_settings_reach_the_memories(reid_cache: Path) -> None:
    """Equation 8 of a run's own vectors, written out: tau and both memories."""
    memory = {"temperature": 0.5, "start": "mean"}
    assembly = unsup_cc(reid_cache, settings={"memory": memory, **NO_SYNTHESIS})
    Recorder(assembly).begin_epoch()
    criterion: Any = assembly.model.criteria["core/global"]
    vectors = torch.nn.functional.normalize(torch.randn(2, criterion.average.shape[1]), dim=1)
    embedded = Embedded(vectors, vectors, vectors)
    labels = torch.tensor([1, 0])
    shares = (vectors @ criterion.average.T / 0.5).softmax(1)[[0, 1], labels]
    found = criterion(embedded, labels).terms["contrast"]
    assert found.item() == pytest.approx(-shares.log().mean().item(), rel=1e-5)
    pids = np.array([sample.pid for sample in assembly.ctx.main.samples])
    features = assembly.features().of("core/global")
    mean = features[pids == 1].mean(0)
    assert criterion.average[1].numpy() == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
