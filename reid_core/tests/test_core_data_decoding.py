"""Reading files: pixels equal Pillow's, broken files are refused in one line."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from time import sleep

import numpy as np
import pytest
from PIL import Image

from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.data.decoding import read_field, read_labels
from reid_core.errors import DataError
from reid_core.images import read_image, upright_size

IMAGE = FieldSpec("x/image", FieldKind.IMAGE)


def smooth(height: int = 40, width: int = 24, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(image: Image.Image, **options: object) -> bytes:
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=90, **options)
    return memory.getvalue()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(tmp_path: Path, subsampling: int, progressive: bool) -> None:
    file = tmp_path / "a.jpg"
    picture = Image.fromarray(smooth(45, 31))
    file.write_bytes(jpeg(picture, subsampling=subsampling, progressive=progressive))
    pixels = read_image(file)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(file)))


def test_grey_and_cmyk_jpeg_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "CMYK"):
        file = tmp_path / f"{mode}.jpg"
        file.write_bytes(jpeg(Image.fromarray(smooth()).convert(mode)))
        np.testing.assert_array_equal(
            read_image(file), np.asarray(Image.open(file).convert("RGB")), mode
        )


def test_other_formats_become_rgb(tmp_path: Path) -> None:
    rgb = smooth()
    grey = rgb[:, :, 0]
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), rgb)
    alpha = np.dstack([rgb, np.full(grey.shape, 7, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgb)
    palette = Image.fromarray(grey % 3)
    palette.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "palette.png")
    colours = np.array([[1, 2, 3], [40, 50, 60], [70, 80, 90]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), colours[grey % 3])
    deep = grey.astype(np.uint16) * 256 + 255
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), np.dstack([grey] * 3))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_size_of_an_image_is_that_of_its_pixels(tmp_path: Path, suffix: str) -> None:
    file, tags = tmp_path / f"a.{suffix}", Image.Exif()
    Image.fromarray(smooth(40, 24)).save(file)
    assert upright_size(file) == read_image(file).shape[:2] == (40, 24)
    for orientation in (0, 1, 3, 5, 6, 8, 9):
        tags[0x0112] = orientation
        Image.fromarray(smooth(40, 24)).save(file, exif=tags)
        assert upright_size(file) == read_image(file).shape[:2]
    file.write_bytes(b"none")
    with pytest.raises(DataError, match=r"a\.\w+: cannot be read as an image"):
        upright_size(file)
    with pytest.raises(DataError, match="no such file"):
        upright_size(tmp_path / "gone.png")


@pytest.mark.parametrize("lost", [1, 2, 30, 0.5, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg_is_refused(tmp_path: Path, lost: float, progressive: bool) -> None:
    data = jpeg(Image.fromarray(smooth(60, 40)), progressive=progressive)
    file = tmp_path / "cut.jpg"
    file.write_bytes(data[: -int(lost if lost >= 1 else lost * len(data))])
    with pytest.raises(DataError, match=r"cut\.jpg") as caught:
        read_image(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.jpg", b"no image"), ("empty.jpg", b""), ("marker.jpg", b"\xff\xd8\xff")],
)
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert "BytesIO" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(DataError, match=r"gone\.npy: no such file"):
        read_labels(tmp_path / "gone.npy")


def test_broken_png_is_refused(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for broken in (data[:-400], data[: len(data) // 2], data[:100] + b"\0\0\0" + data[103:]):
        (tmp_path / "b.png").write_bytes(broken)
        with pytest.raises(DataError, match=r"b\.png"):
            read_image(tmp_path / "b.png")


def test_labels_are_values_and_never_colours(tmp_path: Path) -> None:
    values = np.arange(40 * 24, dtype=np.uint8).reshape(40, 24)
    palette = Image.fromarray(values)
    palette.putpalette(bytes(255 - i // 3 for i in range(768)))
    palette.save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as stored:
        assert stored.mode == "P"
    Image.fromarray(values).save(tmp_path / "l.png")
    np.save(tmp_path / "n.npy", values.astype(np.int64))
    for name in ("p.png", "l.png", "n.npy"):
        labels = read_labels(tmp_path / name)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, values)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour_type", [0, 3])
def test_labels_of_few_bits_are_not_stretched(tmp_path: Path, bits: int, colour_type: int) -> None:
    values = np.arange(8, dtype=np.uint8) % (1 << bits)
    packed = np.packbits(
        np.unpackbits(values[:, None], axis=1)[:, 8 - bits :].reshape(1, -1), axis=1
    ).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    file = tmp_path / "few.png"
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, colour_type, 0, 0, 0))
        + (chunk(b"PLTE", bytes(range(100, 100 + 3 * (1 << bits)))) if colour_type == 3 else b"")
        + chunk(b"IDAT", zlib.compress(b"\0" + packed))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(read_labels(file), values[None])


def test_labels_refuse_colours(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"rgb\.png: a label map .* mode RGB"):
        read_labels(tmp_path / "rgb.png")
    np.save(tmp_path / "big.npy", np.full((2, 2), 300))
    with pytest.raises(DataError, match=r"0\.\.255, not 300"):
        read_labels(tmp_path / "big.npy")
    np.save(tmp_path / "real.npy", np.full((2, 2), 0.5))
    with pytest.raises(DataError, match="expected integers H W, found float64"):
        read_labels(tmp_path / "real.npy")


def test_read_field_image(tmp_path: Path) -> None:
    pixels = smooth()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[::-1].copy()).save(tmp_path / "b.png")
    one = read_field(tmp_path / "a.png", IMAGE)
    np.testing.assert_array_equal(one, pixels.transpose(2, 0, 1))
    several = read_field((tmp_path / "a.png", tmp_path / "b.png"), IMAGE)
    assert several.shape == (2, 3, 40, 24)
    np.testing.assert_array_equal(several[1], one[:, ::-1])
    np.testing.assert_array_equal(read_field(several, IMAGE), several)
    Image.fromarray(pixels[:20]).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"a\.png: images of one sample differ in size"):
        read_field((tmp_path / "a.png", tmp_path / "c.png"), IMAGE)
    with pytest.raises(DataError, match=r"x/image.*expected uint8 3 H W"):
        read_field(pixels, IMAGE)


def test_read_field_labels_checks_the_classes() -> None:
    spec = SHARED_FIELDS["parts"]
    value = np.array([[0, 7]])
    np.testing.assert_array_equal(read_field(value, spec), value)
    with pytest.raises(DataError, match=r"label 8 in a field of 8 classes \(0 to 7\)"):
        read_field(value + 1, spec)


def test_read_field_points(tmp_path: Path) -> None:
    spec = SHARED_FIELDS["keypoints"]
    points = np.arange(51.0).reshape(17, 3)
    np.save(tmp_path / "k.npy", points)
    read = read_field(tmp_path / "k.npy", spec)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, points)
    with pytest.raises(DataError, match=r"numbers N 3 \(x, y, visibility\), found float64"):
        read_field(points[:, :2], spec)


def test_read_field_fixed_and_scalar(tmp_path: Path) -> None:
    pixels = smooth(8, 8)
    Image.fromarray(pixels).save(tmp_path / "t.png")
    texture = read_field(tmp_path / "t.png", SHARED_FIELDS["texture"])
    np.testing.assert_array_equal(texture, pixels.transpose(2, 0, 1))
    array = np.ones((2, 5), np.float64)
    assert read_field(array, SHARED_FIELDS["texture"]) is array
    pose = SHARED_FIELDS["pose"]
    assert read_field(3, pose).dtype == np.int64
    assert read_field(0.5, pose).dtype == np.float32
    np.save(tmp_path / "s.npy", np.int32(2))
    assert read_field(tmp_path / "s.npy", pose) == 2
    with pytest.raises(DataError, match="one number"):
        read_field(np.ones(3), pose)
    with pytest.raises(DataError, match="several files make sense for an image field only"):
        read_field((tmp_path / "s.npy",), pose)


def test_broken_npy_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.zeros((17, 3)))
    data = (tmp_path / "k.npy").read_bytes()
    for broken in (data[:-8], data[:40], b"", b"\x80\x04N.", b"x,y\n"):
        (tmp_path / "k.npy").write_bytes(broken)
        with pytest.raises(DataError, match=r"k\.npy") as caught:
            read_field(tmp_path / "k.npy", SHARED_FIELDS["keypoints"])
        assert "unsafe" not in str(caught.value), "advice to run the code of a file"


def test_threads_read_headers_of_arrays_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "k.npy", np.zeros((2, 3), np.float32))
    load, reading = np.load, Lock()

    def alone(*args: object, **options: object) -> object:
        assert reading.acquire(blocking=False), "two threads at once"
        sleep(0.001)
        reading.release()
        return load(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(np, "load", alone)
    spec = FieldSpec("x/points", FieldKind.POINTS)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: read_field(tmp_path / "k.npy", spec), range(20)))
    assert {array.shape for array in found} == {(2, 3)}
