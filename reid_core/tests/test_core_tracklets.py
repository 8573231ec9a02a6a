"""Several images of one sample: drawn, loaded, pooled, evaluated whole, resumed, exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid_core import (
    Branch,
    ConfigError,
    ConflictError,
    DataError,
    DataRequest,
    DataSet,
    Embedding,
    Encoder,
    FieldKind,
    FieldSpec,
    LabelContext,
    Labeler,
    LossTerm,
    Need,
    Plugin,
    PluginError,
    PoolingProvider,
    Sample,
    Source,
    Tap,
    hookimpl,
    load_embedder,
)
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.data.augmentation import ErasingPolicy
from reid_core.data.clips import ClipPolicy, clips_in_order, clips_of
from reid_core.data.draws import Draw
from reid_core.data.loading import BatchLoader
from reid_core.evaluation.extraction import extract, extract_output
from reid_core.images import read_image, resize_image
from reid_core.model.embedder import Embedder, embedder_of, reader_of
from reid_core.model.exporting import export_file
from reid_core.model.frames import FramePool
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.runs.stages import Stages
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags
from reid_core.testing.toy.making import load_toy_tracklets

CLIPS = {"data": {"name": "toy/tracklets:tiny", "frames": 3}}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(reid_cache: Path) -> DataSet:
    return load_toy_tracklets(DataRequest("toy", "tracklets", "tiny", None, reid_cache))


@pytest.fixture(scope="module")
def folder(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run on tracklets, and what it said in ``said.txt``."""
    out, said = tmp_path_factory.mktemp("tracklets") / "run", list[str]()
    run(resolved=resolve(tiny_flags((), CLIPS)), out=out, cache=reid_cache, say=said.append)
    (out / "said.txt").write_text("\n".join(said), "utf-8")
    return out


def test_a_run_tells_tracklets_from_images_and_where_it_begins(
    folder: Path, dataset: DataSet
) -> None:
    said = (folder / "said.txt").read_text("utf-8")
    assert f"{len(dataset.train)} training tracklets of 8 people; plugins: " in said
    assert "test_resnet from random weights at 64 x 32" in said


# Frames ------------------------------------------------------------------------------------------


def test_chunks_show_one_frame_of_every_part() -> None:
    policy = ClipPolicy(3, "chunks")
    numbers = np.array([[0.0, 0.0, 0.0], [0.99, 0.99, 0.99], [0.5, 0.5, 0.5]])
    found = policy.draw(np.array([7, 7, 2]), numbers)
    # Parts of seven frames: 0-1, 2-3, 4-6; of two frames: 0, 0, 1.
    assert found.tolist() == [[0, 2, 4], [1, 3, 6], [0, 0, 1]]


def test_runs_of_frames_begin_anywhere_and_short_tracklets_begin_anew() -> None:
    policy = ClipPolicy(3, "consecutive", stride=2)
    found = policy.draw(np.array([7, 7, 4, 1]), np.array([[0.0], [0.99], [0.99], [0.5]]))
    assert found.tolist() == [[0, 2, 4], [2, 4, 6], [0, 2, 0], [0, 0, 0]]


def test_every_frame_is_shown_once_at_test() -> None:
    path = Path("x.png")
    samples = [Sample(path, 0, 0, frames=(path,) * n) for n in (5, 0, 2)]
    single = [(d.rows.tolist(), d.frames) for d in clips_in_order(samples, 1, 3)]
    assert [rows for rows, _ in single] == [[0, 0, 0], [0, 0, 1], [2, 2]]
    assert [f.ravel().tolist() for _, f in single if f is not None] == [
        [0, 1, 2],
        [3, 4, 0],
        [0, 1],
    ]
    clips = [(d.rows.tolist(), d.frames) for d in clips_in_order(samples, 3, 4)]
    assert [rows for rows, _ in clips] == [[0], [0], [1], [2]]
    assert [f.tolist() for _, f in clips if f is not None] == [
        [[0, 1, 2]],
        [[3, 4, 0]],
        [[0, 0, 0]],
        [[0, 1, 0]],
    ]
    shares = [d.rows.tolist() for rank in range(2) for d in clips_in_order(samples, 1, 9, rank, 2)]
    assert shares == [[0] * 5, [1, 2, 2]]


def test_a_batch_has_images_of_frames_and_labels_of_samples(dataset: DataSet) -> None:
    loader = BatchLoader(dataset.train, (64, 32), ("parts",), clips=ClipPolicy(3, "consecutive"))
    rows = np.array([4, 9])
    batch = next(loader.load([Draw(rows, rows)], 0))
    assert (len(batch), batch.frames) == (2, 3)
    assert batch.image.shape == (6, 3, 64, 32)
    assert batch.fields["parts"].shape == (6, 64, 32)
    assert batch.pid.tolist() == [dataset.train.samples[row].pid for row in rows]
    # Two frames each: the third is the first again.
    assert torch.equal(batch.image[0], batch.image[2])
    assert not torch.equal(batch.image[0], batch.image[1])
    shown = {resized(path).tobytes() for path in dataset.train.samples[4].frames}
    assert {image.numpy().tobytes() for image in batch.image[:2]} == shown


def resized(path: Path) -> Any:
    return np.ascontiguousarray(resize_image(read_image(path), (64, 32)).transpose(2, 0, 1))


@pytest.mark.parametrize("together", [True, False])
def test_frames_are_augmented_together_or_apart(dataset: DataSet, together: bool) -> None:
    erasing, clips = ErasingPolicy(p=1.0), ClipPolicy(3, together=together)
    loader = BatchLoader(dataset.train, (64, 32), erasing=erasing, clips=clips)
    rows = np.arange(2)
    draws = next(loader.load([Draw(rows, rows)], 0)).draws["erasing"].unflatten(0, (2, 3))
    assert (draws[:, 0] == draws[:, 1]).all() == together
    assert not torch.equal(draws[0], draws[1])


def test_a_field_of_frames_has_a_value_for_each(dataset: DataSet) -> None:
    first = dataset.train.samples[0]
    short = replace(first, fields={"parts": first.fields["parts"][:1]})  # type: ignore[index]
    source = Source("main", (short,), {"parts": SHARED_FIELDS["parts"]})
    with pytest.raises(DataError, match="has 2 frames and 1 of the field 'parts'"):
        BatchLoader(source, (64, 32), ("parts",))


# A run -------------------------------------------------------------------------------------------


def frames_of(sample: Sample) -> Tensor:
    return torch.stack([torch.tensor(resized(path)) for path in sample.images])


def test_whole_tracklets_are_evaluated_whatever_the_batch(folder: Path, dataset: DataSet) -> None:
    embedder = load_embedder(folder)
    longer = replace(dataset.gallery[0], frames=dataset.gallery[0].frames * 3)
    samples = (longer, *dataset.gallery[:2], replace(dataset.gallery[3], frames=()))
    with torch.inference_mode():
        expected = torch.cat([embedder(frames_of(sample)[None]) for sample in samples])
    for batch_size in (1, 4, 64):
        found = torch.from_numpy(extract(embedder, samples, CPU, batch_size=batch_size))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    flipped = torch.from_numpy(extract(embedder, samples, CPU, batch_size=4, flip="sum"))
    with torch.inference_mode():
        mirrored = torch.cat([embedder(frames_of(sample).flip(3)[None]) for sample in samples])
    torch.testing.assert_close(flipped, expected + mirrored, atol=1e-5, rtol=1e-4)


def test_what_is_computed_of_images_is_the_mean_over_a_tracklet_s_frames(
    folder: Path, dataset: DataSet
) -> None:
    embedder = load_embedder(folder)
    longer = replace(dataset.gallery[0], frames=dataset.gallery[0].frames * 3)
    samples = (longer, dataset.gallery[1], replace(dataset.gallery[3], frames=()))

    def rows_of(image: Tensor, fields: Mapping[str, Tensor]) -> Tensor:
        return image.mean(3).flatten(1)

    found = extract(embedder, samples, CPU, batch_size=4, compute=rows_of, width=3 * 64)
    for row, sample in zip(found, samples, strict=True):
        seen = (frames_of(sample) / 255 - embedder.mean) / embedder.std
        np.testing.assert_allclose(row, seen.mean((0, 3)).flatten(), atol=1e-5)


def test_the_stored_embedder_takes_images_and_clips(folder: Path) -> None:
    embedder = load_embedder(folder)
    assert embedder.clip == 3
    (stored,) = embedder.describe()["embeddings"]
    assert stored["pool"]["kwargs"] == {"kind": "mean"}
    images = torch.rand(4, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(embedder(images[:, None]), embedder(images))
        raw = embedder.values((images - embedder.mean) / embedder.std)["core/pooled"]
        one = embedder.heads["core/global"](raw.mean(0, keepdim=True)).unit
        torch.testing.assert_close(embedder(images[None]), one)


def test_an_image_says_nothing_of_frames(reid_cache: Path) -> None:
    assembly = tiny_assembly((), cache=reid_cache)
    described = assembly.embedder().describe()
    assert not {"clip", "pool"} & {*described, *described["embeddings"][0]}
    assert assembly.loaders["main"].clips is None


def test_clips_of_any_length_are_exported(folder: Path, tmp_path: Path) -> None:
    import onnxruntime

    embedder = load_embedder(folder)
    path = tmp_path / "clip.onnx"
    assert export_file(embedder, path).difference < 1e-4
    session = onnxruntime.InferenceSession(str(path))
    assert session.get_inputs()[0].shape == ["batch", "frames", 3, 64, 32]
    images = torch.rand(2, 5, 3, 64, 32)
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(found), embedder(images), atol=1e-5, rtol=1e-4)


def test_an_output_of_frames_is_their_mean(reid_cache: Path, dataset: DataSet) -> None:
    model = tiny_assembly((), CLIPS, cache=reid_cache).model
    reader = reader_of(model, (64, 32), "encoder/map")
    sample = dataset.gallery[0]
    found = extract_output(reader, "encoder/map", [sample], CPU)
    with torch.inference_mode():
        images = (frames_of(sample) / 255 - reader.mean) / reader.std
        expected = reader.eval().values(images)["encoder/map"].mean(0, keepdim=True)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-3)


# Plugins -----------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Linear(channels, 1)
        self.channels = channels

    def forward(self, vectors: Tensor) -> Tensor:
        return (vectors * self.score(vectors).softmax(1)).sum(1)

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": f"{__name__}:Attention", "kwargs": {"channels": self.channels}}


class Difference(nn.Module):
    """The first frame's vector and how far frames are from each other."""

    def forward(self, vectors: Tensor, camid: Tensor) -> Tensor:
        assert (vectors.dim(), camid.dim()) == (3, 1)
        return vectors[:, 0] + (vectors - vectors.mean(1, keepdim=True)).abs().mean(1)

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": f"{__name__}:Difference", "kwargs": {}}


class Attending(Plugin):
    @hookimpl
    def reid_poolings(self) -> list[PoolingProvider]:
        return [PoolingProvider("attending", Attention, pools="frames")]


class Moving(Plugin):
    """An embedding that looks at several frames at once, with a loss that pairs maps with parts."""

    takes_frames = True
    needs = (Need("parts"), Need("frames"))
    sums: tuple[float, ...] = ()

    @hookimpl
    def reid_auxiliary_branches(self, taps: Mapping[str, Tap]) -> list[Branch]:
        embedding = Embedding("moving/vector", reads="moving/pooled")
        reads, writes = ("core/pooled", "camid"), ("moving/pooled",)
        defaults = {"camid": -1}
        return [
            Branch(
                "moving/pool",
                Difference(),
                reads,
                writes,
                (embedding,),
                defaults=defaults,
                clips=True,
            )
        ]

    @hookimpl
    def reid_losses(self, step: Any) -> list[LossTerm]:
        terms = []
        for view in step.passes_with("encoder/map", "parts"):
            maps, parts = view.feats["encoder/map"], view.batch.fields["parts"]
            assert len(maps) == len(parts) == len(view.batch) * view.batch.frames
            vectors = view.embedding("moving/vector").raw
            assert len(vectors) == len(view.batch.pid)
            terms.append(LossTerm("moving/size", vectors.square().mean()))
        return terms


class Careless(Plugin):
    @hookimpl
    def reid_losses(self) -> list[LossTerm]:
        return []


class Inventing(Plugin):
    @hookimpl
    def reid_data_synthesis(self) -> list[Any]:
        return []


class Checking(Plugin):
    def check_data(self, ctx: Any) -> None:
        raise DataError(f"plugin '{self.name}' saw {len(ctx.main)} samples")


CLASSES: dict[str, type[Plugin]] = {
    "attending": Attending,
    "moving": Moving,
    "careless": Careless,
    "inventing": Inventing,
    "checking": Checking,
}


def assembled(cache: Path, names: tuple[str, ...], *layers: Any) -> Any:
    return tiny_assembly(names, CLIPS, *layers, cache=cache, classes=CLASSES)


def test_a_plugin_pools_frames_by_name_and_all_resume(reid_cache: Path, tmp_path: Path) -> None:
    chosen = {"model": {"frame_pooling": "attending"}}

    def made(path: Path, names: tuple[str, ...] = ("attending", "moving")) -> Recorder:
        return Recorder(assembled(reid_cache, names, chosen), path)

    whole = made(tmp_path / "whole.pt")
    before = whole.assembly.model.state_dict()["heads.core/global.pool.score.weight"].clone()
    whole.fit()
    assert {"main:moving/size", "main:moving/vector/ce"} <= set(whole.trace[0])
    after = whole.assembly.model.state_dict()["heads.core/global.pool.score.weight"]
    assert not torch.equal(before, after)
    assert whole.rows[1:] == [8] * 4, "a row of the identity criteria is a tracklet"
    half = made(tmp_path / "half.pt")
    half.train_epoch()
    half.assembly.ctx.progress.epoch, half.assembly.ctx.progress.step = 1, 0
    half.save()
    rest = made(tmp_path / "half.pt", ("moving", "attending"))
    rest.resume()
    rest.fit()
    assert rest.trace == whole.trace[2:]


def test_what_looks_at_several_frames_sees_clips_as_in_training(
    reid_cache: Path, dataset: DataSet, tmp_path: Path
) -> None:
    assembly = assembled(reid_cache, ("moving",))
    embedder = embedder_of(assembly.model, (64, 32)).eval()
    assert embedder.whole_clips
    assert embedder.clip == 3
    sample = replace(dataset.gallery[0], frames=dataset.gallery[0].frames * 2)
    images = (frames_of(sample) / 255 - embedder.mean) / embedder.std
    with torch.inference_mode():
        # Four frames: a clip of three, and one of the fourth and the first two.
        order = torch.tensor([0, 1, 2, 3, 0, 1])
        given = {"camid": torch.full((2,), sample.camid)}
        values = embedder.values(images[order], given, 3)
        clips = embedder.heads["moving/vector"](values["moving/pooled"].mean(0, keepdim=True))
        frames = values["core/pooled"][:4].mean(0, keepdim=True)
        expected = torch.cat([embedder.heads["core/global"](frames).unit, clips.unit], 1)
    (found,) = extract(embedder, [sample], CPU, batch_size=2)
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5, rtol=1e-4)
    embedder.save(tmp_path / "embedder.safetensors")
    again = load_embedder(tmp_path / "embedder.safetensors")
    clip = torch.rand(2, 3, 3, 64, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again(clip), embedder(clip), atol=1e-5, rtol=1e-4)


class Stacked(Encoder):
    """Frames and the camera through one convolution of the clip's mean."""

    taps = (Tap("encoder/map", 5, 16),)
    clips = True
    reads = ("camid",)
    defaults: ClassVar = {"camid": -1}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 5, (1, 16, 16), (1, 16, 16))

    def forward(self, image: Tensor, camid: Tensor | None = None) -> dict[str, Tensor]:
        assert image.dim() == 5
        assert camid is None or len(camid) == len(image)
        return {"encoder/map": self.conv(image.transpose(1, 2)).mean(2)}

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": f"{__name__}:Stacked", "kwargs": {}}


class Stacking(Plugin):
    claims = ("backbone",)

    @hookimpl
    def reid_backbone(self) -> Encoder:
        return Stacked()


@pytest.mark.parametrize("data", ["toy/tracklets:tiny", "toy:tiny"])
def test_an_encoder_of_clips_sees_images_as_clips_of_one(reid_cache: Path, data: str) -> None:
    layer = {"data": {"name": data, "frames": 3}}
    assembly = tiny_assembly(("stacking",), layer, cache=reid_cache, classes={"stacking": Stacking})
    trainer = Recorder(assembly)
    trainer.train_epoch()
    embedder: Embedder = assembly.embedder()
    assert embedder.clip == (3 if "tracklets" in data else None)
    evaluation = trainer.evaluate("final")
    assert evaluation is not None
    assert np.isfinite(evaluation.gallery.features).all()


# Refusals ----------------------------------------------------------------------------------------


class Parted(Plugin):
    """Compares the encoder's map with the parts of every frame."""

    takes_frames = True
    needs = (Need("parts"),)

    @hookimpl
    def reid_auxiliary_branches(self, taps: Mapping[str, Tap]) -> list[Branch]:
        head = nn.Conv2d(taps["encoder/map"].channels, 5, 1)
        return [Branch(self.own("head"), head, writes=(self.own("logits"),))]


def test_a_map_of_a_clip_fits_no_field_of_frames(reid_cache: Path) -> None:
    classes = {"stacking": Stacking, "parted": Parted}
    layer = {"data": {"name": "toy/tracklets:tiny", "frames": 2}}
    with pytest.raises(
        ConflictError,
        match=r"^plugin 'parted' needs the field 'parts' of every frame, but the encoder sees 2 "
        r"frames together .*\(--backbone\), leave the plugin out, or .*data\.frames=1\)$",
    ):
        tiny_assembly(("stacking", "parted"), layer, cache=reid_cache, classes=classes)
    tiny_assembly(("parted",), layer, cache=reid_cache, classes=classes)
    layer["data"]["frames"] = 1
    tiny_assembly(("stacking", "parted"), layer, cache=reid_cache, classes=classes)


def test_more_frames_than_there_are_is_said(reid_cache: Path) -> None:
    said: list[str] = []
    for frames in (2, 3):
        flags = tiny_flags((), {"data": {"name": "toy/tracklets:tiny", "frames": frames}})
        assemble(resolve(flags), cache=reid_cache, say=said.append, stages=Stages())
    (line,) = [one for one in said if one.startswith("data.frames")]
    assert line.startswith("data.frames = 3, and no tracklet of 'toy/tracklets:tiny' has more than")
    assert line.endswith("-s data.frames=2 shows each once")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("careless",), "plugin 'careless' does not say that its losses fit several frames"),
        (("inventing",), r"plugin 'inventing' generates single images \(data synthesis\)"),
    ],
)
def test_what_cannot_take_frames_is_refused(
    reid_cache: Path, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConflictError, match=message) as caught:
        assembled(reid_cache, names)
    assert "'main' has tracklets" in str(caught.value)
    tiny_assembly(names, cache=reid_cache, classes=CLASSES)


def test_a_plugin_looks_at_the_data_before_anything_is_built(reid_cache: Path) -> None:
    with pytest.raises(DataError, match="plugin 'checking' saw 24 samples"):
        assembled(reid_cache, ("checking",), {"model": {"backbone": "there_is_none"}})


def needing(what: str) -> type[Plugin]:
    return type("Needing", (Plugin,), {"needs": (Need(what, "do without it"),)})


def without_clothes(dataset: DataSet) -> DataSet:
    samples = tuple(replace(s, clothes=-1) for s in dataset.train.samples)
    return replace(dataset, train=replace(dataset.train, samples=samples))


def of_one_camera(dataset: DataSet) -> DataSet:
    samples = tuple(replace(s, camid=2) for s in dataset.train.samples)
    return replace(dataset, train=replace(dataset.train, samples=samples))


@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        (
            "frames",
            lambda d: d,
            "tracklets .frames., and the training samples of 'main' are single",
        ),
        (
            "clothes",
            without_clothes,
            r"the outfit of every training sample \(clothes\), which 48 of",
        ),
        ("camid", of_one_camera, r"several cameras \(camid\), and all 48 training samples"),
    ],
)
def test_needs_of_samples_are_checked(
    reid_cache: Path,
    toy_tiny: DataSet,
    what: str,
    change: Callable[[DataSet], DataSet],
    message: str,
) -> None:
    from reid_core.runs.assembly.assembling import assemble

    classes = {"needing": needing(what)}
    resolved = resolve(tiny_flags(("needing",)), classes=classes)
    with pytest.raises(DataError, match=f"plugin 'needing' needs {message}") as caught:
        assemble(resolved, cache=reid_cache, dataset=change(toy_tiny))
    assert str(caught.value).endswith("; do without it")
    if what != "frames":
        assemble(resolved, cache=reid_cache, dataset=toy_tiny, say=lambda line: None)


def test_an_unknown_pooling_of_frames_of_a_stored_embedder_is_refused() -> None:
    with pytest.raises(PluginError, match=r"no pooling of frames 'means'; did you mean 'mean'\?"):
        FramePool("means")


def test_names_of_poolings_are_of_frames_or_of_maps(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pooling 'gem' \(model.frame_pooling is one of"):
        assembled(reid_cache, (), {"model": {"frame_pooling": "gem"}})
    with pytest.raises(ConfigError, match=r"no pooling 'attending' \(model.pooling is one of"):
        assembled(reid_cache, ("attending",), {"model": {"pooling": "attending"}})
    with pytest.raises(ConfigError, match=r"set data\.frame_sampling to 'consec"):
        resolve({"data": {"frame_stride": 2}})


# Labels ------------------------------------------------------------------------------------------


class Labelled(Plugin):
    """Labels of pixels, made frame by frame, and of samples, which depend on the person, too."""

    takes_frames = True
    needs = (Need("labelled/map"), Need("labelled/number"))
    asked: ClassVar[list[tuple[str, int, int]]] = []

    @hookimpl
    def reid_pseudo_labels(self) -> list[Labeler]:
        shown = FieldSpec("labelled/map", FieldKind.LABELS)
        number = FieldSpec("labelled/number", FieldKind.SCALAR)
        return [
            Labeler(shown, self.maps, key="map 1"),
            Labeler(number, self.numbers, key="number 1", reads=("pid",)),
        ]

    def maps(self, labels: LabelContext) -> Any:
        self.asked.append(("map", len(labels.samples), max(len(s.frames) for s in labels.samples)))
        return [np.full((64, 32), s.pid, np.uint8) for s in labels.samples]

    def numbers(self, labels: LabelContext) -> Any:
        self.asked.append(("number", len(labels.samples), len(labels.samples[0].frames)))
        return [s.pid + len(s.frames) for s in labels.samples]


class Silent(Labelled):
    takes_frames = False


def test_labels_are_of_frames_or_of_samples(dataset: DataSet, tmp_path: Path) -> None:
    from reid_core.runs.assembly.assembling import assemble

    def made(data: DataSet, cls: type[Plugin] = Labelled) -> Any:
        resolved = resolve(tiny_flags(("labelled",), CLIPS), classes={"labelled": cls})
        return assemble(resolved, cache=tmp_path, dataset=data, say=lambda line: None)

    assembly = made(dataset)
    assert Labelled.asked == [("map", 48, 0), ("number", 24, 2)]
    assert assembly.ctx.main.samples[5].fields["labelled/number"] == 2 + 1
    assert len(assembly.ctx.main.samples[5].fields["labelled/map"]) == 2
    trainer = Recorder(assembly)
    streams = trainer.streams(1)
    batch = trainer.batches(streams)["main"]
    streams["main"].close()
    maps = batch.fields["labelled/map"].unflatten(0, (8, 3)).amax((1, 2, 3))
    assert torch.equal(maps.long(), batch.pid)
    assert torch.equal(batch.fields["labelled/number"], batch.pid + 2)
    # Of a renamed person the numbers are made again: the labeler says that it reads the pid.
    turned = tuple(replace(s, pid=7 - s.pid) for s in dataset.train.samples)
    Labelled.asked.clear()
    again = made(replace(dataset, train=replace(dataset.train, samples=turned)))
    assert Labelled.asked == [("number", 24, 2)]
    assert again.ctx.main.samples[5].fields["labelled/number"] == 6 + 2
    with pytest.raises(ConflictError, match="its labels 'labelled/number' fit several frames"):
        made(dataset, Silent)


def test_settings_reach_the_clips(dataset: DataSet, toy_tiny: DataSet) -> None:
    data = {"frames": 5, "frame_sampling": "consecutive", "frame_stride": 2}
    config = resolve({"data": data, "augment": {"frames": "apart"}}).config
    assert clips_of(config, dataset.train) == ClipPolicy(5, "consecutive", 2, together=False)
    assert clips_of(resolve({}).config, dataset.train) == ClipPolicy(4, "chunks", 1, together=True)
    assert clips_of(config, toy_tiny.train) is None
