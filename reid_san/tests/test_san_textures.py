"""Pairs, pseudo textures and other guides: what is learned from, what is made, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from san_runs import SHORT, Run, san, write_pairs

from reid_core import (
    ConfigError,
    DataError,
    DataProvider,
    DataRequest,
    LabelContext,
    Plugin,
    Sample,
    Source,
    Tap,
    evenly,
    hookimpl,
    open_source,
)
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.data.decoding import read_field
from reid_core.testing.tiny import tiny_assembly
from reid_san.guides import GUIDES, check_size, target
from reid_san.labelling import given_fields, given_key
from reid_san.pretraining import size_of
from reid_san.regressing import regress, to_pixels

NOISE = {"sources": {"san/pairs": "san-pairs"}}


def own_textures(cache: Path, root: Path, side: int = 32, layout: str | None = "toy-v1") -> Path:
    """Write a texture for every training image of the toy data."""
    root.mkdir()
    for sample in tiny_assembly(cache=cache).ctx.main.samples:
        Image.new("RGB", (side, side), (200, 100, 0)).save(root / f"{sample.path.stem}.png")
    if layout:
        (root / "layout.txt").write_text(layout)
    return root


def test_pseudo_textures_rule_though_the_truth_exists(reid_cache: Path, tmp_path: Path) -> None:
    said: list[str] = []
    settings = {"pg_lr": 2e-3}
    assembly = san(reid_cache, settings, said=said, folder=tmp_path / "run")
    main, truth = assembly.ctx.main, tiny_assembly(cache=reid_cache).ctx.main
    for ours, theirs in zip(main.samples, truth.samples, strict=True):
        assert "labels/san/texture" in Path(str(ours.fields["texture"])).as_posix()
        assert ours.fields["texture"] != theirs.fields["texture"]
    made = read_field(main.samples[0].fields["texture"], main.fields["texture"])
    assert (made.dtype, made.shape) == (np.uint8, (3, 32, 32))
    assert main.fields["texture"].layout == truth.fields["texture"].layout
    text = "\n".join(said)
    assert "[san/pg] training on 24 images" in text
    assert "san makes 'texture' for 48 of 48 images" in text
    assert "[san/pg] texture of 48 images against the truth: L1 0." in text
    scores = json.loads((tmp_path / "run" / "san" / "pseudo.json").read_text())
    assert scores["images"] == 48
    assert 0 < scores["l1_of_mean"] < scores["l1"] < 2, "after two steps the mean is the better"
    with Image.open(tmp_path / "run" / "san" / "pseudo.png") as sheet:
        assert sheet.size[1] == 3 * 160 + 2 * 6
    # They are made once.
    again: list[str] = []
    san(reid_cache, settings, said=again)
    assert not [line for line in again if "makes" in line or "training" in line]


def test_the_textures_are_not_mirrored_with_the_image(reid_cache: Path) -> None:
    assembly = san(reid_cache, augment={"flip": 1.0})
    batch = Run(assembly).batches()["main"]
    spec = assembly.ctx.fields["texture"]
    for row, index in enumerate(batch.index.tolist()):
        stored = read_field(assembly.ctx.main.samples[index].fields["texture"], spec)
        assert np.array_equal(batch.fields["texture"][row].numpy(), stored)


def test_a_user_s_own_textures_rule_and_need_no_san_pg(reid_cache: Path, tmp_path: Path) -> None:
    said: list[str] = []
    own = own_textures(reid_cache, tmp_path / "own")
    settings = {"start": "none", "synthetic_every": 0}
    assembly = san(reid_cache, settings, said=said, fields={"texture": own})
    assert not [line for line in said if "san" in line]
    batch = Run(assembly).batches()["main"]
    assert batch.fields["texture"][0, :, 0, 0].tolist() == [200, 100, 0]
    wanted = target(GUIDES["texture"], batch, (32, 32))
    assert wanted[0, :, 5, 5].tolist() == pytest.approx([200 / 127.5 - 1, 100 / 127.5 - 1, -1])


def test_textures_of_different_layouts_are_not_mixed(reid_cache: Path, tmp_path: Path) -> None:
    own = own_textures(reid_cache, tmp_path / "own", layout="smpl")
    with pytest.raises(DataError, match=r"'texture' has the layout 'smpl' in source 'main' and"):
        san(reid_cache, fields={"texture": own})


def test_textures_of_another_size_are_refused(reid_cache: Path, tmp_path: Path) -> None:
    own = own_textures(reid_cache, tmp_path / "own", side=16)
    with pytest.raises(
        DataError, match=r"'texture' is 16 x 16, and 32 x 32 is wanted.*texture_size"
    ):
        san(reid_cache, fields={"texture": own})
    exact = {"start": "none", "synthetic_every": 0, "texture_size": 256}
    with pytest.raises(DataError, match=r"is 16 x 16, and 256 x 256 is wanted"):
        san(reid_cache, exact, fields={"texture": own})


def test_a_missing_pseudo_texture_is_named(reid_cache: Path, tmp_path: Path) -> None:
    own = own_textures(reid_cache, tmp_path / "own")
    gone = sorted(own.glob("*.png"))[3]
    gone.unlink()
    with pytest.raises(DataError, match=rf"1 of 48 images have no file .*{gone.stem}"):
        san(reid_cache, fields={"texture": own})


def test_a_texture_of_another_size_among_others_is_named(reid_cache: Path, tmp_path: Path) -> None:
    own = own_textures(reid_cache, tmp_path / "own")
    odd = sorted(own.glob("*.png"))[-1]
    Image.new("RGB", (16, 16)).save(odd)
    settings = {"start": "none", "synthetic_every": 0, "tr": 0.0}
    random = {"sampler": "random"}
    run = Run(san(reid_cache, settings, fields={"texture": own}, data=random), steps=6)
    with pytest.raises(DataError, match=rf"{odd.name}: field 'texture' has uint8 of shape"):
        list(run.streams["main"])


# Pairs ------------------------------------------------------------------------------------------


def test_a_user_s_pairs_train_san_pg(reid_cache: Path, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "pairs")
    settings = {**SHORT, "pairs_root": str(root), "texture_size": 32}
    said: list[str] = []
    assembly = san(reid_cache, settings, said=said, **NOISE)
    assert any("[san/pg] training on 4 images" in line for line in said)
    assert assembly.ctx.fields["texture"].layout == "noise"
    # The toy data's own textures have another layout: they measure nothing.
    assert not [line for line in said if "against the truth" in line]
    assert "san/synthetic" in Run(assembly).step()["san/reconstruct"].terms


def test_images_may_share_a_texture(reid_cache: Path, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "pairs")
    (root / "pairs.csv").write_text("image,texture\n" + "".join(f"{n}.png,a\n" for n in "abcd"))
    source = pairs_of(reid_cache, root)
    assert {Path(str(s.fields["texture"])).name for s in source.samples} == {"a.png"}
    (root / "pairs.csv").write_text("image,texture\na,a\n")
    with pytest.raises(DataError, match="3 of 4 images have no file there, first b, c, d"):
        pairs_of(reid_cache, root)
    (root / "pairs.csv").write_text("picture\na\n")
    with pytest.raises(DataError, match="expected the columns image,texture"):
        pairs_of(reid_cache, root)


def pairs_of(cache: Path, root: Path, side: int | None = 32) -> Any:
    from reid_san.pairs import load_pairs

    return load_pairs(DataRequest("san-pairs", None, None, None, cache), root, side)


def test_pairs_without_a_texture_a_layout_or_the_size_are_refused(
    reid_cache: Path, tmp_path: Path
) -> None:
    root = write_pairs(tmp_path / "pairs")
    with pytest.raises(DataError, match=r"a\.png: the texture is 32 x 32, and 256 x 256 is wanted"):
        pairs_of(reid_cache, root, None)
    (root / "textures" / "b.png").write_text("broken")
    with pytest.raises(DataError, match=r"b\.png: cannot be read as an image"):
        pairs_of(reid_cache, root)
    (root / "textures" / "b.png").unlink()
    with pytest.raises(DataError, match=r"textures: 1 of 4 images have no file there, first b"):
        pairs_of(reid_cache, root)
    (root / "images" / "b.png").unlink()
    (root / "textures" / "layout.txt").unlink()
    with pytest.raises(DataError, match=r"layout\.txt is missing: write the id of the textures'"):
        pairs_of(reid_cache, root)
    with pytest.raises(DataError, match="there are no images of people; expected ROOT/images"):
        pairs_of(reid_cache, tmp_path)


def test_pairs_need_a_folder(reid_cache: Path) -> None:
    with pytest.raises(DataError, match=r"give their folder with -s san\.pairs_root=DIR"):
        san(reid_cache, **NOISE)


class Bare(Plugin):
    """Somebody who offers images without textures."""

    @hookimpl
    def reid_datasets(self) -> list[DataProvider]:
        return [DataProvider("bare", self.load, kind="source")]

    def load(self, request: DataRequest) -> Source:
        images = open_source("toy-pairs:tiny", cache=request.cache)
        return replace(images, name="bare", fields={})


def test_a_source_without_textures_is_refused(reid_cache: Path) -> None:
    with pytest.raises(DataError, match=r"san/pairs=bare: .* needs texture, which it does not"):
        san(reid_cache, {}, "bare", classes={"bare": Bare}, sources={"san/pairs": "bare"})
    found = open_source("toy-pairs:tiny", cache=reid_cache)
    assert set(found.fields) == {"texture"}
    lacking = r"needs san/frontal, which it does not carry \(texture\); sources that do: san-pairs$"
    with pytest.raises(DataError, match=lacking):
        san(reid_cache, {"guide": "pose"}, sources={"san/pairs": "toy-pairs:tiny"})


@pytest.mark.parametrize("sources", [{}, NOISE["sources"]])
def test_the_pose_guide_without_frontal_images_is_refused_before_any_work(
    tmp_path: Path, sources: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"'pose' learns from .* pose from the front.*pairs_root"):
        san(tmp_path, {"guide": "pose"}, sources=sources)
    assert not list(tmp_path.iterdir()), "not even the data set is made"
    with pytest.raises(DataError, match="which it does not carry"):
        san(tmp_path, {"guide": "pose"}, sources={"san/pairs": "synthpeople-pairs:tiny"})
    assert not list(tmp_path.glob("synthpeople*")), "pairs are not made"


# Other guides -----------------------------------------------------------------------------------


def test_the_input_as_a_guide_needs_neither_pairs_nor_textures(reid_cache: Path) -> None:
    said: list[str] = []
    assembly = san(reid_cache, {"guide": "input"}, said=said)
    (line,) = [line for line in said if "san" in line]
    assert line.endswith("'input' has none: the encoder starts as model.pretrained says")
    san(reid_cache, {"guide": "input", "start": "none"}, said=said)
    assert [one for one in said if "san" in one] == [line]
    assert [u.name for u in assembly.parts.plan.updates] == ["main"]
    run = Run(assembly)
    batch = run.batches()["main"]
    wanted = target(GUIDES["input"], batch, (64, 32))
    assert -1.0 <= float(wanted.min()) < float(wanted.max()) <= 1.0 + 1e-5
    assert batch.erased is not None
    assert not torch.equal(batch.image, batch.erased)
    assert "san/rec" in run.forward()[1].terms
    assert assembly.model.branches["san/decoder"].size == (64, 32)


def test_the_pose_guide_learns_from_frontal_images_of_pairs(
    reid_cache: Path, tmp_path: Path
) -> None:
    root = write_pairs(tmp_path / "pairs", frontal=True, layout="toy-v1")
    settings = {"guide": "pose", "pairs_root": str(root), "texture_size": 32}
    # Nobody else offers frontal images, so the folder need not be named as the source.
    assembly = san(reid_cache, settings)
    made = assembly.ctx.main.samples[0].fields["san/frontal"]
    assert read_field(made, assembly.ctx.fields["san/frontal"]).shape == (3, 64, 32)
    # The toy data's textures stay what they are: nobody regresses them.
    assert "labels/san" not in str(assembly.ctx.main.samples[0].fields["texture"])
    reports = Run(assembly).step()
    assert {"san/rec", "san/tr"} <= set(reports["main"].terms)
    assert "san/synthetic" in reports["san/reconstruct"].terms


def test_frontal_images_of_another_network_are_taken(reid_cache: Path, tmp_path: Path) -> None:
    for sample in tiny_assembly(cache=reid_cache).ctx.main.samples:
        Image.new("RGB", (32, 64), (0, 255, 0)).save(tmp_path / f"{sample.path.stem}.png")
    settings = {
        "guide": "pngan",
        "start": "none",
        "synthetic_every": 0,
        "frontal_root": str(tmp_path),
    }
    run = Run(san(reid_cache, settings))
    assert target(GUIDES["pngan"], run.batches()["main"], (64, 32))[0, :, 0, 0].tolist() == [
        -1,
        1,
        -1,
    ]
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(DataError, match=r"frontal_root = .*: 1 of 48 images have no file"):
        san(reid_cache, settings)


def test_the_key_of_given_images_holds_those_in_linked_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images" / "a").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    before = given_key(tmp_path / "images")
    (tmp_path / "elsewhere" / "1.png").write_bytes(b"never opened")
    assert given_key(tmp_path / "images") != before


# Parts ------------------------------------------------------------------------------------------


def test_the_regressed_size_is_the_texture_s_and_at_most_the_decoder_s_height() -> None:
    def found(image: tuple[int, int], side: int, guide: str = "texture") -> tuple[int, int]:
        stored = {"texture": np.zeros((3, side, side), np.uint8)}
        sample = Sample(Path("a.png"), 0, 0, fields=stored)
        source = Source("pairs", (sample,), {"texture": SHARED_FIELDS["texture"]})
        run: Any = SimpleNamespace(image_size=image)
        return size_of(GUIDES[guide], run, Tap("encoder/map", 8, 16), source)

    assert found((256, 128), 256) == (256, 256)
    assert found((128, 64), 256) == (128, 128)
    assert found((256, 128), 32) == (32, 32)
    assert found((256, 128), 32, "pose") == (256, 128)


def test_larger_textures_are_averaged_down(reid_cache: Path) -> None:
    batch = Run(san(reid_cache)).batches()["main"]
    small = target(GUIDES["texture"], batch, (16, 16))
    whole = target(GUIDES["texture"], batch, (32, 32))
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(whole, 2))


def test_textures_that_are_no_images_are_refused(reid_cache: Path) -> None:
    source = tiny_assembly(cache=reid_cache).ctx.main
    grey = [np.zeros((32, 32), np.uint8)] * len(source)
    with pytest.raises(DataError, match=r"must be an RGB image, uint8 3 x H x W"):
        check_size(source.with_field(SHARED_FIELDS["texture"], grey), "texture", (32, 32))
    long = [np.zeros((3, 64, 32), np.uint8)] * len(source)
    with pytest.raises(DataError, match=r"is 64 x 32, and 32 x 32 is wanted"):
        check_size(source.with_field(SHARED_FIELDS["texture"], long), "texture", (32, 32))


def test_looking_leaves_the_model_as_it_was(reid_cache: Path) -> None:
    assembly = san(reid_cache)
    model = assembly.model.train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    samples = evenly(assembly.ctx.main.samples, 5)
    images = list(regress(assembly.ctx, model, samples, batch_size=2))
    assert [(i.shape, tuple(t.shape)) for i, t in images] == [((3, 64, 32), (3, 32, 32))] * 5
    assert model.training
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())


def test_pixels_are_clamped() -> None:
    value = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).view(1, 1, 5).expand(3, 1, 5)
    assert to_pixels(value)[0, 0].tolist() == [0, 0, 128, 255, 255]


def test_frontal_images_of_repeated_names_are_told_apart_by_folders(tmp_path: Path) -> None:
    spec = GUIDES["pngan"].spec
    assert spec is not None
    source = Source("main", tuple(Sample(tmp_path / f"train/{n}/a.jpg", 0, 0) for n in "12"))
    labels = LabelContext(None, source, np.array([1]), None)  # type: ignore[arg-type]
    for name, grey in (("1", 10), ("2", 200)):
        path = tmp_path / "given" / name / "a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (32, 64), (grey,) * 3).save(path)
    (pixels,) = given_fields(labels, tmp_path / "given", spec)
    assert pixels[0, 0, 0] == 200
    (tmp_path / "given" / "1" / "a.png").rename(tmp_path / "given" / "a.png")
    (tmp_path / "given" / "2" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png could be of 1/a and of 2/a"):
        next(given_fields(labels, tmp_path / "given", spec))
