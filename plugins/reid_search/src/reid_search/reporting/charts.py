"""Charts as SVG that stands within a page: lines differ in dash and marker, not in colour alone."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reid_search.calibration.counting import ScoreCounts

Line = tuple[Any, Any]
"""Values of both axes, as matplotlib takes them."""

_COLOURS = ("#1b4f9c", "#b3401a", "#2a7a4b", "#7a3b8f", "#8a6d00", "#444444")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_MARKERS = "osD^vPX*<>hp"
_SIZE = (5.0, 3.3)
_DECADES = 100
"""From which ratio on an axis of losses is logarithmic."""


def lines(
    curves: Mapping[str, Line], *, x: str, y: str, title: str, wide_range: bool = False
) -> str:
    """Draw curves by name.

    Args:
        curves: values of both axes; a curve without a point is left out.
        x, y: labels of the axes.
        title: what the chart is of, for those who cannot see it.
        wide_range: draw values that are positive and far apart on a logarithmic axis.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure()
    for number, (name, (places, values)) in enumerate(curves.items()):
        if len(places):
            axes.plot(places, values, label=name, **_style(number, len(places)))
    axes.set(xlabel=x, ylabel=y)
    found = np.concatenate([np.asarray(values, np.float64) for _, values in curves.values()])
    found = found[np.isfinite(found)]
    if wide_range and len(found) and found.min() > 0 and found.max() > _DECADES * found.min():
        axes.set_yscale("log")
    elif wide_range:
        axes.set_ylim(bottom=min(0.0, float(found.min(initial=0))))
    if all(isinstance(place, int) for places, _ in curves.values() for place in places):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes, len(curves))
    return svg(figure, title)


def histogram(counts: ScoreCounts, *, title: str) -> str:
    """Draw how similar pairs of one person and of different people are, each with area 1."""
    figure, axes = _figure()
    # As a rule of thumb: few pairs, few bins.
    edges, *kinds = counts.histogram(int(np.clip(2 * np.sqrt(min(counts.pairs)), 10, 60)))
    styles: tuple[dict[str, Any], ...] = (
        {"color": _COLOURS[0], "fill": True, "alpha": 0.35},
        {"color": _COLOURS[1], "hatch": "//", "fill": False},
    )
    for values, name, style in zip(kinds, ("same person", "different people"), styles, strict=True):
        density = values / max(values.sum(), 1) / np.diff(edges)
        axes.stairs(density, edges, label=f"{name} ({int(values.sum()):,} pairs)", **style)
    axes.set(xlabel="cosine similarity", ylabel="density")
    _legend(axes, 2)
    return svg(figure, title)


def scatter(
    points: NDArray[np.floating[Any]], people: Sequence[int], shown: Sequence[int], *, title: str
) -> str:
    """Draw a map of features; some people stand out by marker, colour and number.

    Args:
        points: ``N 2``.
        people: ``N``.
        shown: whom to show apart.
        title: what the map is of.
    """
    figure, axes = _figure((5.0, 4.6))
    labels = np.asarray(people)
    rest = ~np.isin(labels, shown)
    axes.scatter(points[rest, 0], points[rest, 1], s=7, color="0.8", linewidths=0, label="others")
    for number, pid in enumerate(shown):
        own = points[labels == pid]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=22,
            marker=_MARKERS[number % len(_MARKERS)],
            color=_COLOURS[number % len(_COLOURS)],
            edgecolors="white",
            linewidths=0.4,
        )
        x, y = np.median(own, axis=0)
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "0.6", "lw": 0.5, "alpha": 0.85}
        axes.annotate(
            str(pid), (x, y), fontsize=9, weight="bold", ha="center", va="center", bbox=box
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    return svg(figure, title)


def svg(figure: Figure, title: str) -> str:
    """Return a figure as an ``svg`` element that fits the width it is given.

    Args:
        figure: of matplotlib.
        title: read to those who cannot see it.
    """
    import matplotlib

    buffer = io.StringIO()
    # Text stays text, and the same figure always gives the same ids.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "reid", "font.size": 10}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    # Of several charts on a page each has ids of its own.
    mark = hashlib.sha256(f"{title}{text}".encode()).hexdigest()[:8]
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>c{mark}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)


def _figure(size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(number: int, points: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "marker": _MARKERS[number % len(_MARKERS)] if 2 < points <= 25 else None,
        "markersize": 4,
        "linewidth": 1.6,
    }


def _legend(axes: Axes, curves: int) -> None:
    if curves > 4:
        handles = axes.get_legend_handles_labels()
        axes.figure.legend(*handles, loc="outside lower center", ncols=2, fontsize=8)
    elif curves:
        axes.legend(fontsize=8)
