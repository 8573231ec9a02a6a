"""A picture of answers: every query with what was found for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reid_core import DataError, whole_file
from reid_core.images import crop_image, read_image
from reid_search.embedding.inputs import Item
from reid_search.embedding.videos import VideoReader, is_video
from reid_search.gallery.gallery import Found

_SIZE = (64, 128)
_GAP, _CAPTION = 6, 14
_QUERIES = 50
"""Lines of a picture at most: more would be larger than viewers open."""


def draw_answers(queries: Sequence[Item], answers: Sequence[Sequence[Found]], path: Path) -> Path:
    """Draw one line per query: the query in a frame, then what was found, the most similar first.

    Below each answer stands its similarity. Of more than 50 queries the first 50 are drawn; what
    cannot be read any more is left grey.

    Args:
        queries: what was asked for.
        answers: of `Gallery.nearest`.
        path: where to write; the suffix gives the format.

    Raises:
        DataError: there is no query.
    """
    if not queries:
        raise DataError("there is no query to draw")
    lines = list(zip(queries, answers, strict=True))[:_QUERIES]
    cell = (_SIZE[0] + _GAP, _SIZE[1] + _CAPTION + _GAP)
    columns = 1 + max(len(found) for _, found in lines)
    canvas = Image.new("RGB", (columns * cell[0] + 3 * _GAP, len(lines) * cell[1] + _GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for number, (query, found) in enumerate(lines):
        top = _GAP + number * cell[1]
        shown = [(query, "query"), *((f.item, f"{f.similarity:.2f}") for f in found)]
        for column, (item, caption) in enumerate(shown):
            left = _GAP + column * cell[0] + (2 * _GAP if column else 0)
            canvas.paste(_picture(item), (left, top))
            if not column:
                box = (left - 2, top - 2, left + _SIZE[0] + 1, top + _SIZE[1] + 1)
                draw.rectangle(box, outline="black", width=2)
            draw.text((left, top + _SIZE[1] + 2), caption, fill="black", font=font)
    with whole_file(path) as part:
        canvas.save(part)
    return path


def _picture(item: Item) -> Image.Image:
    try:
        path = Path(str(item["path"]))
        pixels = VideoReader(path).read(item["frame"]) if is_video(path) else read_image(path)
        if "box" in item:
            pixels = crop_image(pixels, item["box"])
    except (DataError, KeyError):
        return Image.new("RGB", _SIZE, "grey")
    return Image.fromarray(pixels).resize(_SIZE, Image.Resampling.BILINEAR)
