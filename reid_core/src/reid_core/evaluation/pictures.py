"""A picture of ranked lists: what the model takes for the same person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from reid_core.contract.samples import Sample
from reid_core.errors import DataError
from reid_core.images import read_image
from reid_core.outputs import whole_file
from reid_retrieval.results import QueryScores
from reid_retrieval.retrieval import RankedQuery

QUERY, MATCH, MISS = "#3b6fd4", "#1f9d4d", "#d0342c"
"""Frame colours of the query, of a match, and of another person."""

_FRAME = 4
_GAP = 6
_CAPTION = 14
_TITLE = 22
_BACKGROUND, _INK = "white", "black"


def choose_queries(scores: QueryScores, count: int = 6) -> list[int]:
    """Return rows of queries from the worst to the best average precision, evenly spread.

    The worst, the best and, for an odd ``count``, the median query are among them; equal scores
    are taken in the order of their rows, so that a run always shows the same queries.

    Args:
        scores: of an evaluation with ``per_query=True``.
        count: how many; fewer where there are not as many valid queries.
    """
    order = np.lexsort((scores.rows, scores.average_precision))
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return [int(row) for row in scores.rows[order[places]]]


def ranked_list_picture(
    queries: Sequence[Sample],
    gallery: Sequence[Sample],
    ranked: Sequence[RankedQuery],
    path: Path,
    *,
    title: str,
    size: tuple[int, int] = (64, 128),
) -> Path:
    """Draw one line per query: the query, then its gallery images from the closest on.

    Blue frames a query, green a match, red another person. Below each image stand its camera
    and, in the gallery, its rank.

    Args:
        queries, gallery: the samples that the rows of ``ranked`` refer to.
        ranked: of [ranked_rows][reid_retrieval.retrieval.ranked_rows]; at least one.
        path: where to write; the suffix gives the format.
        title: one line above everything.
        size: width and height of an image in pixels.

    Returns:
        ``path``.

    Raises:
        DataError: there is no query, or an image cannot be read; names the file.
    """
    if not ranked:
        raise DataError("no query was chosen for the picture of ranked lists")
    columns = 1 + max(len(line.gallery) for line in ranked)
    cell = (size[0] + 2 * _FRAME + _GAP, size[1] + 2 * _FRAME + _CAPTION + _GAP)
    font = ImageFont.load_default()
    width = max(columns * cell[0] + 2 * _GAP, int(font.getlength(_latin(title))) + 2 * _GAP)
    canvas = Image.new("RGB", (width, _TITLE + len(ranked) * cell[1] + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP), _latin(title), fill=_INK, font=font)
    for number, line in enumerate(ranked):
        top = _TITLE + number * cell[1]
        asked = queries[line.query]
        shown = [(asked, QUERY, f"query: c{asked.camid}")]
        for rank, (row, match) in enumerate(zip(line.gallery, line.matches, strict=True), 1):
            found = gallery[int(row)]
            shown.append((found, MATCH if match else MISS, f"{rank}: c{found.camid}"))
        for column, (sample, colour, caption) in enumerate(shown):
            # The query stands apart from its list by one more gap.
            left = _GAP + column * cell[0] + (_GAP if column else 0)
            image = Image.fromarray(read_image(sample.path))
            small = image.resize(size, Image.Resampling.BILINEAR)
            framed = ImageOps.expand(small, _FRAME, colour)
            canvas.paste(framed, (left, top))
            below = (left + _FRAME, top + framed.height + 1)
            draw.text(below, caption, fill=_INK, font=font)
    with whole_file(path) as part:
        canvas.save(part)
    return path


def _latin(text: str) -> str:
    """Replace what Pillow's built-in bitmap font cannot draw, where FreeType is missing."""
    return text.encode("latin-1", "replace").decode("latin-1")
