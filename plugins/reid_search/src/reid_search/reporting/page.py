"""Put a page together: what is on it, section by section, and the HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from reid_core import ConfigError, DataError, DataSet, find_protocol, load_embedder
from reid_core.errors import own_errors
from reid_core.images import read_image, resize_image
from reid_core.machine.devices import choose_device
from reid_retrieval import Protocol
from reid_retrieval.features import FeatureSet
from reid_search.calibration.counting import count_pairs
from reid_search.calibration.curves import Roc, area_under
from reid_search.calibration.pairs import Pairs
from reid_search.comparing.effects import compare
from reid_search.comparing.models import Model, changes, models_of
from reid_search.comparing.pictures import check_same_data, rows_of_names
from reid_search.comparing.statistics import LEVEL, RESAMPLES, mean_with_intervals
from reid_search.comparing.stored import StoredResult, label_of
from reid_search.comparing.tables import FOUND_BY, by_camera_pair, by_identity
from reid_search.reporting import charts
from reid_search.reporting.attention import similarity_attention
from reid_search.reporting.features import laid_out, some_people
from reid_search.reporting.gathering import RunFolder
from reid_search.reporting.lists import chosen_queries
from reid_search.reporting.pictures import Album
from reid_search.sides import Sides, embedded, sides_of

if TYPE_CHECKING:
    from reid_core import Embedder

Bars = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

_NAMES = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "rank20": "rank-20"}

_SHOWN_PEOPLE = 10
"""People that stand out on a map of features."""

_MOST_DRAWN = 24
"""Pictures of plugins on the page, at most."""


@dataclass(frozen=True)
class Options:
    """What a page shows.

    Args:
        queries: ranked lists of each group (worst, random, best).
        images: test images whose features are laid out and whose pairs are counted.
        attention: pairs of images that Grad-CAM is drawn for.
        methods: of `features.METHODS`.
        limit: bytes that all images of the page may take.
        resamples: of every interval.
        device: where features are computed.
    """

    queries: int = 8
    images: int = 1500
    attention: int = 6
    methods: tuple[str, ...] = ("pca", "tsne")
    limit: int = 8_000_000
    resamples: int = RESAMPLES
    device: str = "auto"


def render(
    runs: Sequence[RunFolder],
    label: str | None,
    datasets: Mapping[Path, DataSet],
    options: Options,
    progress: Bars,
) -> str:
    """Return the page of some runs as HTML that needs nothing else.

    Args:
        runs: finished runs.
        label: protocol whose lists and tables are shown; None takes every run's first one.
        datasets: of each run, by its folder; without one no image of it is shown, and nothing that
            needs its features.
        options: what to show.
        progress: shows a bar of so many images.

    Raises:
        ReidError: a data set is not the one that a run was evaluated on, or a file cannot be read.
    """
    models = models_of([run.stored for run in runs])
    sections = []
    for number, run in enumerate(runs):
        album = Album(options.limit // len(runs))
        dataset = datasets.get(run.stored.path)
        sections.append(_run(number, run, label, dataset, options, album, progress))
    environment = Environment(
        loader=PackageLoader("reid_search.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        title=", ".join(run.name for run in runs),
        level=f"{100 * LEVEL:.0f} %",
        overview=_overview(runs, options),
        models=_models(models),
        comparisons=_comparisons(models, options),
        several=any(len(model.runs) > 1 for model in models),
        cmc=_cmc(runs, label),
        runs=sections,
        found_by=FOUND_BY,
    )


def _overview(runs: Sequence[RunFolder], options: Options) -> list[dict[str, Any]]:
    """Return a table for every protocol line: metrics of the runs under it, with intervals."""
    tables: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        untrained = {label_of(one): one["metrics"] for one in run.stored.facts["untrained"] or ()}
        for label, result in run.stored.results.items():
            before = untrained.get(label, {})
            metrics = [
                _metric(result, name, value, before.get(name), options)
                for name, value in result.content["metrics"].items()
                if not name.endswith("_std")
            ]
            # Only what stands under one line, with the same metrics, may be read side by side.
            key = (f"{label}{[one['name'] for one in metrics]}", result.content["text"])
            made = {"label": label, "text": result.content["text"], "rows": []}
            tables.setdefault(key, made)["rows"].append({"run": run.name, "metrics": metrics})
    return list(tables.values())


def _metric(
    result: StoredResult, name: str, value: float, before: float | None, options: Options
) -> dict[str, Any]:
    found = {"name": _NAMES.get(name, name.replace("_", " ")), "value": value, "before": before}
    found["interval"] = None
    if name in result.measures and result.content.get("queries"):
        people = [one["pid"] for one in result.queries]
        if len(set(people)) > 1:
            scores = result.scores(name)
            _, spans = mean_with_intervals(scores, people, resamples=options.resamples)
            found["interval"] = spans.identities
    return found


def _comparisons(models: Sequence[Model], options: Options) -> list[dict[str, Any]]:
    """Return what the models do against the first one, or why that cannot be said."""
    if len(models) < 2:
        return []
    found: list[dict[str, Any]] = []
    for label in models[0].runs[0].results:
        try:
            one = compare(models, label, resamples=options.resamples)
        except (ConfigError, DataError) as error:
            found.append({"label": label, "refused": str(error), "effects": []})
            continue
        effects = [
            {
                "model": effect.model,
                "measure": _NAMES.get(effect.measure, effect.measure),
                "found": effect.found,
            }
            for effect in one.effects
        ]
        found.append({"label": label, "refused": None, "effects": effects})
    return found


def _models(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Return which runs make which model, and what it has otherwise than the first."""
    return [
        {
            "name": model.name,
            "runs": ", ".join(run.name for run in model.runs),
            "changes": "; ".join(changes(models[0], model)),
        }
        for model in models
    ]


def _cmc(runs: Sequence[RunFolder], label: str | None) -> str:
    curves = {}
    often = Counter(run.name for run in runs)
    for run in runs:
        result = _result(run, label)
        curve = [100 * value for value in result.content["cmc"][:20]]
        name = run.name if often[run.name] == 1 else str(run.stored.path)
        curves[f"{name} ({result.label})"] = (range(1, len(curve) + 1), curve)
    title = "share of queries with a match among the first k"
    return charts.lines(curves, x="k", y="queries with a match (%)", title=title)


def _result(run: RunFolder, label: str | None) -> StoredResult:
    return run.stored.result(label or next(iter(run.stored.results)))


def _run(
    number: int,
    run: RunFolder,
    label: str | None,
    dataset: DataSet | None,
    options: Options,
    album: Album,
    progress: Bars,
) -> dict[str, Any]:
    """Return everything about one run."""
    result = _result(run, label)
    has_queries = bool(result.content.get("queries"))
    found: dict[str, Any] = {
        "id": f"run-{number}",
        "name": run.name,
        "path": str(run.stored.path),
        "label": result.label,
        "text": result.content["text"],
        "version": result.content.get("version", 1),
        "ap": result.ap_name,
        "curves": _curves(run, result),
        "identities": [],
        "cameras": [],
        "lists": [],
        "left_out": 0,
        "scores": [],
        "without_scores": "",
        "maps": [],
        "attention": [],
        "config": run.config,
        "facts": _flat(run.facts),
        "cost": run.cost,
        "efficiency": run.efficiency,
        "has_queries": has_queries,
        "has_images": dataset is not None,
    }
    if has_queries:
        (model,) = models_of([run.stored])
        found["identities"] = by_identity([model], result.label)
        found["cameras"] = by_camera_pair([model], result.label)
    if dataset is not None:
        check_same_data(dataset, result.content["fingerprint"])
        if has_queries:
            found["lists"], found["left_out"] = _lists(result, dataset, options, album)
        weights = run.stored.path / "embedder.safetensors"
        if result.content.get("batch_norm"):  # of some people a camera would have too few images
            found["of"] = "features with each camera's own statistics of batch normalisation"
            found["without_scores"] = "the embedder computes others; reid eval takes those"
        elif weights.is_file():
            found |= _of_features(run, result, dataset, options, album, progress)
    drawn = []
    # Plugins draw people, too: a page without images is to show nobody.
    there = run.drawn if dataset is not None else {}
    for name, path in list(there.items())[:_MOST_DRAWN]:
        picture = album.drawn(path)
        if picture is not None:
            drawn.append({"name": name, "src": picture})
    found["drawn"], found["not_drawn"] = drawn, len(there) - len(drawn)
    return found


def _curves(run: RunFolder, result: StoredResult) -> list[dict[str, str]]:
    found = []
    if run.losses:
        title = "losses over the steps of the training"
        chart = charts.lines(run.losses, x="step", y="loss", title=title, wide_range=True)
        found.append({"title": title, "svg": chart})
    names = {"rank-1": "rank1", result.ap_name: result.ap_name}
    points = {name: run.curve(result.label, key) for name, key in names.items()}
    if any(len(where) > 1 for where, _ in points.values()):
        title = f"evaluation during the run, {result.label}"
        shown = {name: (x, [100 * value for value in y]) for name, (x, y) in points.items()}
        chart = charts.lines(shown, x="step", y="%", title=title)
        found.append({"title": title, "svg": chart})
    return found


def _lists(
    result: StoredResult, dataset: DataSet, options: Options, album: Album
) -> tuple[list[dict[str, Any]], int]:
    """Return ranked lists, and how many the page had no room for."""
    query_rows, gallery_rows = rows_of_names(dataset)
    chosen = chosen_queries(result.queries, options.queries)
    lists: list[dict[str, Any]] = []
    for place, group in chosen:
        one = result.queries[place]
        if not album.has_room(1 + len(one["first"])):
            continue
        found = []
        for rank, name in enumerate(one["first"], 1):
            sample = dataset.gallery[gallery_rows[name]]
            same = rank in one["matches"]
            found.append(
                {
                    "rank": rank,
                    "same": same,
                    "pid": sample.pid,
                    "camid": sample.camid,
                    "clothes": sample.clothes,
                    "name": name,
                    "src": album.person(sample.path),
                }
            )
        src = album.person(dataset.query[query_rows[one["file"]]].path)
        lists.append({**one, "group": group, "src": src, "found": found})
    return lists, len(chosen) - len(lists)


def _of_features(
    run: RunFolder,
    result: StoredResult,
    dataset: DataSet,
    options: Options,
    album: Album,
    progress: Bars,
) -> dict[str, Any]:
    """Return what needs the embedder: similarities, maps of features, attention."""
    place = choose_device(options.device)
    embedder = load_embedder(run.stored.path, place)
    some = some_people(dataset, options.images)
    rules = _rules(run, result)
    sides = sides_of(some, rules)
    query, gallery = _embedded(run, embedder, some, sides, place, progress)
    scores, reason = [], "the rules that the result was scored by are found neither by their name "
    reason += "nor in a file that the run names"
    if rules is not None:
        try:
            scores, reason = _scores(query, gallery, rules), ""
        except DataError as error:  # among some of the people nobody may have two cameras
            reason = str(error)
    samples = (*some.query, *some.gallery)
    pooling = "mean" if rules is None else rules.pooling
    whole = [side.whole(one, pooling) for side, one in zip(sides, (query, gallery), strict=True)]
    features = np.concatenate([one.rows for one in whole])
    people = [sample.pid for sample in samples]
    known = sorted({pid for pid in people if pid >= 0})
    step = max(len(known) // _SHOWN_PEOPLE, 1)
    maps = []
    for method in options.methods if len(features) > 3 else ():
        points = laid_out(features, method)
        names = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
        title = f"{names[method]} of {len(features)} images; the numbers are people"
        shown = known[::step][:_SHOWN_PEOPLE]
        maps.append({"title": title, "svg": charts.scatter(points, people, shown, title=title)})
    return {
        "scores": scores,
        "without_scores": reason,
        "of": f"{len(some.query)} queries and {len(some.gallery)} gallery images",
        "maps": maps,
        "attention": _attention(result, dataset, embedder, options, album),
    }


def _rules(run: RunFolder, result: StoredResult) -> Protocol | None:
    """Return the protocol that a result was scored by; None where it is not found any more.

    Another one may be of its name: results say which rules they are of, but those of version 1.
    """
    name, rules = result.content["protocol"], result.content.get("rules")
    config = run.stored.config
    for one in (name, *(config.evaluation.protocols if config else ())):
        try:
            found = find_protocol(one)
        except (ConfigError, DataError):
            continue
        if found.text == rules or (rules is None and found.name == name):
            return found
    return None


def _embedded(
    run: RunFolder,
    embedder: Embedder,
    dataset: DataSet,
    sides: Sides,
    place: torch.device,
    progress: Bars,
) -> tuple[FeatureSet, FeatureSet]:
    """Return the features of what the sides show, as the run was evaluated."""
    settings = run.stored.config.evaluation if run.stored.config else None
    vector = None if settings is None or settings.vector == "declared" else settings.vector
    how = {"flip": settings.flip if settings else "off", "vector": vector}
    with progress(run.name, len(dataset.query) + len(dataset.gallery)) as advance:
        return embedded(embedder, sides, dataset, place, advance, **how)


@own_errors()
def _scores(query: FeatureSet, gallery: FeatureSet, rules: Protocol) -> list[dict[str, str]]:
    """Return histogram and ROC of the pairs that a protocol counts.

    Raises:
        DataError: it counts none, or lacks a label.
    """
    counts = count_pairs(Pairs(query, gallery, rules)).all
    curve = Roc.of(counts)
    area = float(area_under(curve.fpr, curve.tpr))
    thin = curve.thinned()
    title = f"ROC: the same person recognised, over different people taken for one; AUC {area:.3f}"
    lines = {f"AUC {area:.3f}": (thin.fpr, thin.tpr), "chance": ((0, 1), (0, 1))}
    return [
        {
            "title": "how similar pairs are",
            "svg": charts.histogram(counts, title="histogram of similarities"),
        },
        {"title": title, "svg": charts.lines(lines, x="FPR", y="TPR", title=title)},
    ]


def _attention(
    result: StoredResult,
    dataset: DataSet,
    embedder: Embedder,
    options: Options,
    album: Album,
) -> list[dict[str, Any]]:
    """Return pairs of a query and its closest image, each by what makes it like the other."""
    if not options.attention or not result.content.get("queries"):
        return []
    query_rows, gallery_rows = rows_of_names(dataset)
    half = (options.attention + 1) // 2
    chosen = chosen_queries(result.queries, half)
    places = [place for place, group in chosen if group != "random"][: options.attention]
    pairs = []
    for place in places:
        one = result.queries[place]
        asked = dataset.query[query_rows[one["file"]]]
        offered = dataset.gallery[gallery_rows[one["first"][0]]]
        pairs.append((one, asked.path, offered.path))

    def images(paths: Sequence[Path]) -> torch.Tensor:
        made = [torch.tensor(resize_image(read_image(p), embedder.size)) for p in paths]
        stacked = torch.stack(made).permute(0, 3, 1, 2).float() / 255
        return stacked.to(embedder.mean.device)

    left, right = images([a for _, a, _ in pairs]), images([b for _, _, b in pairs])
    heats = [
        similarity_attention(embedder, one, other).cpu().numpy()
        for one, other in ((left, right), (right, left))
    ]
    found = []
    for number, (one, query, image) in enumerate(pairs):
        if not album.has_room(4):
            break
        found.append(
            {
                "pid": one["pid"],
                "same": 1 in one["matches"],
                "query": album.person(query),
                "query_heat": album.heated(query, heats[0][number]),
                "image": album.person(image),
                "image_heat": album.heated(image, heats[1][number]),
            }
        )
    return found


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return facts as pairs of a dotted name and a text."""
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            rows.append((f"{prefix}{key}", ", ".join(map(str, value)) or "none"))
        else:
            rows.append((f"{prefix}{key}", "none" if value is None else str(value)))
    return rows
