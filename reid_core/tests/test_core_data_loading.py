"""Loading: independent of threads and ranks, honest about failures, careful with its memory."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.contract.batches import Batch
from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.contract.samples import Source
from reid_core.data import loading
from reid_core.data.augmentation import DeviceAugmentation, ErasingPolicy, PhotometricPolicy
from reid_core.data.draws import Draw, in_order, row_uniforms
from reid_core.data.geometry import GeometryPolicy
from reid_core.data.loading import BatchLoader
from reid_core.data.sampling import make_sampler, shard
from reid_core.errors import DataError
from reid_core.testing.toy.making import make_toy

SIZE = (48, 24)
FIELDS = tuple(name for name in SHARED_FIELDS if name != "silhouette")  # toy data have none
POLICY = GeometryPolicy(pad=3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_toy(tmp_path_factory.mktemp("toy") / "tiny").train


@pytest.fixture
def own_source(source: Source, tmp_path: Path) -> Source:
    """Four samples whose files a test may break."""
    samples = []
    for sample in source.samples[:4]:
        shutil.copy(sample.path, tmp_path)
        samples.append(replace(sample, path=tmp_path / sample.path.name))
    return replace(source, samples=tuple(samples))


def loader(source: Source, **options: object) -> BatchLoader:
    settings = {"fields": FIELDS, "policy": POLICY, "erasing": ErasingPolicy(), **options}
    return BatchLoader(source, SIZE, **settings)  # type: ignore[arg-type]


def copied(batch: Batch) -> dict[str, torch.Tensor]:
    named = {"image": batch.image, "pid": batch.pid, "index": batch.index, **batch.fields}
    named |= {f"draw {name}": value for name, value in batch.draws.items()}
    return {name: value.clone() for name, value in named.items()}


def epoch_of(load: BatchLoader, batches: int = 3, rank: int = 0, world: int = 1) -> list[dict]:
    rows = np.random.default_rng(0).integers(0, len(load.source), (batches, 20))
    return [copied(batch) for batch in load.load(shard(rows, rank, world), epoch=2)]


def assert_equal(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name


def test_batch_has_shapes_types_and_labels(source: Source) -> None:
    load = loader(source, photometric=PhotometricPolicy(hue=0.1))
    rows = np.array([5, 0, 47])
    (batch,) = load.load([Draw(rows, np.arange(3))], 0)
    assert batch.image.shape == (3, 3, *SIZE)
    assert batch.image.dtype == torch.uint8
    assert batch.image.is_contiguous()
    shapes = {name: (value.dtype, tuple(value.shape)) for name, value in batch.fields.items()}
    assert shapes == {
        "parts": (torch.uint8, (3, *SIZE)),
        "garments": (torch.uint8, (3, *SIZE)),
        "keypoints": (torch.float32, (3, 17, 3)),
        "pose": (torch.int64, (3,)),
        "texture": (torch.uint8, (3, 3, 32, 32)),
    }
    assert batch.specs["texture"].layout == "toy-v1"
    assert batch.pid.tolist() == [source.samples[row].pid for row in rows]
    assert batch.camid.tolist() == [source.samples[row].camid for row in rows]
    assert batch.clothes.tolist() == [source.samples[row].clothes for row in rows]
    assert batch.index.tolist() == rows.tolist()
    assert batch.origin.tolist() == [0, 1, 2]
    assert (batch.source, batch.identities) == ("main", True)
    assert {name: value.shape for name, value in batch.draws.items()} == {
        "erasing": (3, 4),
        "photometric": (3, 6),
    }
    assert load.seconds_waited > 0


def test_evaluation_is_a_plain_resize_in_order(source: Source) -> None:
    load = BatchLoader(source, SIZE)
    images = torch.cat([b.image.clone() for b in load.load(in_order(len(source), 13), 0)])
    assert len(images) == len(source)
    for image, sample in zip(images, source.samples, strict=True):
        with Image.open(sample.path) as picture:
            resized = picture.resize(SIZE[::-1], Image.Resampling.BILINEAR)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - resized).max() <= 1


def test_threads_and_prefetch_change_nothing(source: Source) -> None:
    reference = epoch_of(loader(source, threads=1, prefetch=1))
    assert_equal(reference, epoch_of(loader(source, threads=5, prefetch=4)))


def test_ranks_change_nothing(source: Source) -> None:
    whole = epoch_of(loader(source))
    shards = [epoch_of(loader(source), rank=rank, world=2) for rank in range(2)]
    joined = [
        {name: torch.cat([one[name], other[name]]) for name in one}
        for one, other in zip(*shards, strict=True)
    ]
    assert_equal(whole, joined)


def test_draws_depend_on_seed_epoch_source_and_position(source: Source) -> None:
    rows = np.zeros(8, np.int64)  # one image, again and again

    def images(load: BatchLoader, epoch: int = 0, first: int = 0) -> torch.Tensor:
        (batch,) = load.load([Draw(rows, np.arange(first, first + 8))], epoch)
        return batch.image.clone()

    reference = images(loader(source))
    assert torch.equal(reference, images(loader(source)))
    assert not torch.equal(reference[0], reference[1])
    assert not torch.equal(reference, images(loader(source), epoch=1))
    assert not torch.equal(reference, images(loader(source, seed=1)))
    assert not torch.equal(reference, images(loader(replace(source, name="x/other"))))
    assert torch.equal(reference[3:], images(loader(source), first=3)[:5])


def test_one_augmentation_does_not_disturb_another(source: Source) -> None:
    plain = epoch_of(loader(source, erasing=None))
    rich = epoch_of(loader(source, photometric=PhotometricPolicy(brightness=0.3)))
    for one, other in zip(plain, rich, strict=True):
        assert torch.equal(one["image"], other["image"])
    erased = epoch_of(loader(source, policy=None))
    for one, other in zip(erased, rich, strict=True):
        assert torch.equal(one["draw erasing"], other["draw erasing"])


def test_fields_move_with_the_image(source: Source, tmp_path: Path) -> None:
    # The image as a field of itself, once and twice, and its label map painted into it.
    spec = FieldSpec("x/self", FieldKind.IMAGE)
    twice = FieldSpec("x/twice", FieldKind.IMAGE)
    doubled = source.with_field(spec, [s.path for s in source.samples]).with_field(
        twice, [(s.path, s.path) for s in source.samples]
    )
    load = BatchLoader(doubled, SIZE, ("x/self", "x/twice"), policy=POLICY)
    for batch in load.load(in_order(20, 10), 0):
        assert torch.equal(batch.fields["x/self"], batch.image)
        assert batch.fields["x/twice"].shape == (10, 2, 3, *SIZE)
        assert torch.equal(batch.fields["x/twice"][:, 1], batch.image)


def test_keypoints_stay_on_their_parts(source: Source) -> None:
    load = BatchLoader(source, (64, 32), ("parts", "keypoints"), policy=POLICY)
    head, foot_or_leg = 1, (6, 7)
    checked = 0
    for batch in load.load(in_order(len(source), 16), 0):
        for parts, points in zip(batch.fields["parts"], batch.fields["keypoints"], strict=True):
            for joint, allowed in ((0, (head,)), (15, foot_or_leg), (16, foot_or_leg)):
                x, y, seen = points[joint].tolist()
                if seen:
                    assert int(parts[round(y), round(x)]) in allowed
                    checked += 1
    assert checked > len(source)


def test_batches_of_different_length(source: Source) -> None:
    load = loader(source, prefetch=1)
    lengths = [3, 20, 1, 20, 7]
    starts = np.cumsum([0, *lengths[:-1]])
    draws = [Draw(np.arange(n), np.arange(s, s + n)) for n, s in zip(lengths, starts, strict=True)]
    assert [len(batch) for batch in load.load(draws, 0)] == lengths


def test_a_batch_is_valid_until_the_next_is_asked_for(source: Source) -> None:
    load = loader(source, prefetch=2, threads=3)
    rows = np.random.default_rng(0).integers(0, len(source), (12, 20))
    places = set()
    for batch in load.load(shard(rows, 0, 1), 0):
        before = copied(batch)
        places.add(batch.image.data_ptr())
        time.sleep(0.02)  # the threads go on with other batches meanwhile
        assert_equal([before], [copied(batch)])
    assert len(places) == 3  # prefetch + 1: the memory is used again


def test_prepared_batches_outlive_the_memory(source: Source) -> None:
    load = loader(source, prefetch=1)
    prepare = DeviceAugmentation(erasing=ErasingPolicy()).prepare
    cpu = torch.device("cpu")
    rows = np.random.default_rng(0).integers(0, len(source), (6, 20))
    kept, then = [], []
    for batch in load.load(shard(rows, 0, 1), 0):
        kept.append(prepare(batch, cpu))
        then.append(copied(kept[-1]))
    assert_equal(then, [copied(batch) for batch in kept])


def test_two_iterators_of_one_loader_do_not_share_memory(source: Source) -> None:
    load = loader(source, prefetch=1)
    rows = np.random.default_rng(0).integers(0, len(source), (4, 20))
    first, second = (load.load(shard(rows, 0, 1), epoch) for epoch in (0, 1))
    for one, other in zip(first, second, strict=True):
        assert one.image.data_ptr() != other.image.data_ptr()


def loading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("load-")]


def test_stopping_early_ends_the_threads(source: Source) -> None:
    load = loader(source)
    rows = np.random.default_rng(0).integers(0, len(source), (50, 20))
    batches = load.load(shard(rows, 0, 1), 0)
    next(batches)
    assert loading_threads()
    batches.close()
    assert not loading_threads()
    reference = epoch_of(loader(source))
    assert_equal(reference, epoch_of(load))


def test_a_corrupt_image_is_reported_with_file_and_row(own_source: Source) -> None:
    path = own_source.samples[2].path
    path.write_bytes(path.read_bytes()[:200])
    load = loader(own_source, fields=())
    batches = load.load(in_order(4, 1), 0)
    assert [next(batches).index.item() for _ in range(2)] == [0, 1]
    with pytest.raises(DataError) as caught:
        next(batches)
    assert str(path) in str(caught.value)
    assert "(row 2 of source 'main')" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not loading_threads()
    assert len(list(load.load([Draw(np.array([0, 1]), np.arange(2))], 0))) == 1


def test_the_first_failing_row_is_reported(own_source: Source) -> None:
    for row in (3, 1):
        own_source.samples[row].path.unlink()
    for _ in range(5):
        with pytest.raises(DataError, match=r"no such file \(row 1 of"):
            list(loader(own_source, fields=(), threads=4).load(in_order(4, 4), 0))


def test_a_defect_keeps_its_type_and_says_where(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> np.ndarray:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(loading, "read_image", fail)
    with pytest.raises(ZeroDivisionError) as caught:
        list(loader(source).load(in_order(4, 4), 0))
    assert "row 0 of source 'main'" in caught.value.__notes__[0]


def test_a_failing_sampler_is_passed_on(source: Source) -> None:
    def draws() -> Iterator[Draw]:
        yield Draw(np.arange(4), np.arange(4))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(loader(source).load(draws(), 0))
    assert not loading_threads()


def test_fields_that_a_source_lacks_are_refused(source: Source) -> None:
    with pytest.raises(
        DataError, match="source 'main' lacks the field 'x/none'; it carries garments, keypoints"
    ):
        loader(source, fields=("x/none",))
    broken = replace(source.samples[7], fields={})
    samples = (*source.samples[:7], broken, *source.samples[8:])
    with pytest.raises(DataError, match=r"row 7 of source 'main' lacks the field 'parts'"):
        loader(replace(source, samples=samples), fields=("parts",))
    with pytest.raises(DataError, match="source 'main' has no samples"):
        loader(replace(source, samples=()))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (FieldKind.FIXED, [np.zeros((3, 4, 4), np.uint8), np.zeros((3, 5, 4), np.uint8)], "shape"),
        (FieldKind.FIXED, [np.zeros(4, np.uint8), np.zeros(4, np.float32)], "float32 of shape"),
        (FieldKind.POINTS, [np.zeros((17, 3)), np.zeros((16, 3))], r"shape \(16, 3\), but"),
        (
            FieldKind.IMAGE,
            [np.zeros((2, 3, 4, 4), np.uint8), np.zeros((3, 3, 4, 4), np.uint8)],
            r"uint8 of shape \(3, 3, 4, 4\)",
        ),
    ],
)
def test_fields_that_disagree_are_refused(
    own_source: Source, kind: FieldKind, values: list[np.ndarray], message: str
) -> None:
    mixed = own_source.with_field(
        FieldSpec("x/f", kind), [values[0], values[0], values[1], values[0]]
    )
    with pytest.raises(DataError, match=message) as caught:
        list(loader(mixed, fields=("x/f",)).load(in_order(4, 4), 0))
    assert str(own_source.samples[2].path) in str(caught.value)
    assert str(own_source.samples[0].path) in str(caught.value)


def test_scalars_have_one_type_for_the_whole_source(own_source: Source, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.float64(0.25))
    cases = {
        "x/int": ([1, 2, 3, 4], torch.int64),
        "x/real": ([1, 2.5, 3, 4], torch.float32),
        "x/file": ([tmp_path / "s.npy"] * 4, torch.float32),
        "x/array": ([np.int32(3)] * 4, torch.int64),
    }
    labelled = own_source
    for name, (values, _) in cases.items():
        labelled = labelled.with_field(FieldSpec(name, FieldKind.SCALAR), values)  # type: ignore[arg-type]
    for batch in loader(labelled, fields=tuple(cases)).load(in_order(4, 1), 0):
        assert {n: v.dtype for n, v in batch.fields.items()} == {
            n: t for n, (_, t) in cases.items()
        }


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_memory_gives_the_same_batches(source: Source) -> None:
    device = torch.device("cuda")
    rows = np.random.default_rng(0).integers(0, len(source), (12, 20))
    policies = {"erasing": ErasingPolicy(), "photometric": PhotometricPolicy(hue=0.1, blur_p=0.5)}
    augmentation = DeviceAugmentation(policies["photometric"], policies["erasing"])
    results = []
    for pinned in (False, True):
        load = loader(source, prefetch=1, pin_memory=pinned, **policies)
        batches = []
        for batch in load.load(shard(rows, 0, 1), 0):
            torch.cuda.set_sync_debug_mode("error" if pinned else "default")
            batches.append(augmentation.prepare(batch, device))
            torch.cuda.set_sync_debug_mode("default")
        results.append([copied(batch) for batch in batches])
    assert_equal(*results)


def test_sampler_and_loader_together(source: Source) -> None:
    pids, camids = (np.array([getattr(s, n) for s in source.samples]) for n in ("pid", "camid"))
    sampler = make_sampler("pk", pids, camids, batch_size=16, instances=4)
    for batch in loader(source).load(shard(sampler.epoch(0), 1, 2), 0):
        assert len(batch) == 8
        assert batch.pid.reshape(2, 4).unique(dim=1).shape == (2, 1)


def test_uniforms_belong_to_positions() -> None:
    whole = row_uniforms(3, "geometry", "main", 1, np.arange(100), 7)
    assert whole.shape == (100, 7)
    assert len(np.unique(whole)) == 700
    scattered = np.array([40, 41, 7, 99, 98])
    np.testing.assert_array_equal(
        row_uniforms(3, "geometry", "main", 1, scattered, 7), whole[scattered]
    )
    assert row_uniforms(3, "geometry", "main", 1, scattered[:0], 7).shape == (0, 7)
    assert 0 <= whole.min() < 0.02
    assert 0.98 < whole.max() < 1
    for other in ((4, "geometry", "main", 1), (3, "erasing", "main", 1), (3, "geometry", "x", 1)):
        assert not np.isin(row_uniforms(*other, np.arange(100), 7), whole).any()


def test_in_order_gives_contiguous_blocks() -> None:
    for count, world in ((10, 1), (10, 3), (2, 4)):
        blocks = [list(in_order(count, 4, rank, world)) for rank in range(world)]
        rows = [draw.rows for block in blocks for draw in block]
        assert np.concatenate(rows).tolist() == list(range(count))
        assert max(len(part) for part in rows) <= 4
