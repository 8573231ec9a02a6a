"""Results as runs and ``reid eval --json`` leave them, read and looked at before they are used."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from reid_core import ConfigError, DataError, RunConfig
from reid_core.data.joining import set_names
from reid_core.errors import did_you_mean

_NEWEST = 2
"""Version of stored results that is known here."""


def label_of(result: Mapping[str, Any]) -> str:
    """Return what a stored result is called.

    That is its protocol's name, with ``+rerank`` where the ranking was changed, and with ``DATA/``
    in front where results of several data sets stand side by side.
    """
    data = f"{result['data']}/" if "data" in result else ""
    return f"{data}{result['protocol']}{'' if result['reranking'] == 'none' else '+rerank'}"


@dataclass(frozen=True)
class StoredResult:
    """What one model reached under one protocol.

    Args:
        content: the object as it is stored, see ``docs/evaluation.md``.
        where: the file that it is from, for messages.
    """

    content: Mapping[str, Any]
    where: Path

    @property
    def label(self) -> str:
        """See `label_of`."""
        return label_of(self.content)

    @property
    def ap_name(self) -> str:
        """What its average precision is called: ``mAP``, or ``MRR`` of single-shot galleries."""
        return "MRR" if "MRR" in self.content["metrics"] else "mAP"

    @property
    def queries(self) -> Sequence[Mapping[str, Any]]:
        """The records of the valid queries.

        Raises:
            DataError: there are none.
        """
        found: Sequence[Mapping[str, Any]] = self.content.get("queries", ())
        if not found:
            raise DataError(
                f"{self.where} keeps no single queries of '{self.label}' (an earlier version wrote "
                "it): add --data NAME to evaluate the model anew, or name the file of "
                "reid eval MODEL --data NAME --json FILE"
            )
        return found

    @property
    def measures(self) -> tuple[str, ...]:
        """What single queries are scored by: ``rank1`` and its `ap_name`."""
        # Over several galleries, the mean rank does not say how often a query comes first.
        return (self.ap_name,) if self.content["drawn"] else ("rank1", self.ap_name)

    def scores(self, measure: str) -> NDArray[np.float64]:
        """Return the score of every valid query, ``Q``, so that its mean is the metric."""
        if measure == "rank1":
            values = np.array([float(one["rank"] == 1) for one in self.queries])
        else:
            values = np.array([float(one["AP"]) for one in self.queries])
        if self.content["denominator"] == "all":  # invalid queries score 0
            values *= self.content["valid_queries"] / self.content["total_queries"]
        return values


@dataclass(frozen=True)
class StoredRun:
    """A run, or a file of results of one model.

    Args:
        path: the folder or file.
        results: by label.
        config: of the run; None where a file alone is known.
        plugins: versions of what the run was made with, by plugin.
        facts: what else the run's ``results.json`` says.
    """

    path: Path
    results: Mapping[str, StoredResult]
    config: RunConfig | None = None
    plugins: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How it is called in tables."""
        return self.path.stem if self.path.suffix == ".json" else self.path.absolute().name

    def result(self, label: str) -> StoredResult:
        """Return the result under a protocol.

        Raises:
            DataError: it was not evaluated under it.
        """
        if label not in self.results:
            raise DataError(
                f"{self.path} has no results of protocol '{label}'"
                f"{did_you_mean(label, self.results)} (it has: {', '.join(self.results)})"
            )
        return self.results[label]


def images_of(run: StoredRun, label: str | None = None) -> tuple[str, Path | None] | None:
    """Return name and folder of the data set that a result is of; None where the run is silent.

    Args:
        run: with its results.
        label: of the result; None takes the first.
    """
    if run.config is None:
        return None
    result = next(iter(run.results.values())) if label is None else run.result(label)
    return place_of(run.config, result.content.get("data", ""))


def place_of(config: RunConfig, name: str = "") -> tuple[str, Path | None]:
    """Return name and folder of a data set that a run is evaluated on, as for `open_dataset`.

    Args:
        config: the run's.
        name: what its results call it; empty where it is the only one.
    """
    data, texts = config.data, config.evaluation.data or (config.data.name,)
    names = set_names(texts)
    text = texts[names.index(name) if name in names else 0]
    trained = dict(zip(set_names((data.name, *data.also)), (data.name, *data.also), strict=True))
    title, equals, folder = trained.get(text, text).partition("=")
    return (title, Path(folder)) if equals else (title, data.root if title == data.name else None)


def read_run(path: Path) -> StoredRun:
    """Read the results of a run's folder, or of a file that ``reid eval --json`` wrote.

    Raises:
        DataError: there are none, they are damaged, or of a later version.
    """
    if not path.exists():
        raise DataError(f"there is no run {path}: name a run's folder, or a file of results")
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        if not (path / "config.toml").is_file():
            raise DataError(
                f"{path} is no run's folder: it holds neither config.toml nor results.json"
            )
        raise DataError(
            f"{path} holds no results.json: the run has not finished; go on with "
            f"reid run --resume --out {path}"
        )
    content = _json(file)
    listed = content.get("results") if isinstance(content, dict) else content
    if not isinstance(listed, list) or not all(_is_result(one) for one in listed):
        raise DataError(f"{file} holds no results of reid run or reid eval")
    newer = [one["version"] for one in listed if one.get("version", 1) > _NEWEST]
    if newer:
        raise DataError(
            f"{file} is of version {newer[0]}, and versions up to {_NEWEST} are known here: "
            "pip install --upgrade reid-search"
        )
    if not listed:
        raise DataError(f"{file} holds no results: the run's data set has no queries")
    results = {one.label: one for one in (StoredResult(found, file) for found in listed)}
    if not path.is_dir():
        return StoredRun(path, results)
    facts = {key: content.get(key) for key in ("data", "epochs", "selected", "untrained")}
    return StoredRun(path, results, read_config(path), read_plugins(path), facts)


def read_config(folder: Path) -> RunConfig | None:
    """Return a run's configuration; None where it has none, or one of another version's keys."""
    file = folder / "config.toml"
    if not file.is_file():
        return None
    try:
        return RunConfig.model_validate(tomllib.loads(file.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError, UnicodeDecodeError):
        return None


def read_plugins(folder: Path) -> dict[str, str]:
    """Return the versions of the plugins that a run was made with; none where it does not say."""
    file = folder / "run.json"
    return dict(_json(file).get("plugins", {})) if file.is_file() else {}


def same_rules(runs: Sequence[StoredRun], label: str) -> None:
    """Refuse results that must not stand side by side.

    Which vectors of a model are compared may differ: that is the model's own affair.

    Raises:
        ConfigError: which of the runs differ in what.
    """
    first = runs[0].result(label)
    for other in runs[1:]:
        found = other.result(label)
        for key, what in _RULES.items():
            plain = "the model's own" if key == "batch_norm" else None  # not said
            ours, theirs = first.content.get(key, plain), found.content.get(key, plain)
            if key == "rules" and None in (ours, theirs):
                continue  # of version 1, where the name stands for them
            if ours != theirs:
                raise ConfigError(
                    f"{runs[0].path} and {other.path} cannot be compared under '{label}': {what} "
                    f"is {ours!r} in the first and {theirs!r} in the second; evaluate both alike, "
                    "with reid eval, or with --data"
                )
        if [one["file"] for one in first.queries] != [one["file"] for one in found.queries]:
            raise ConfigError(
                f"{runs[0].path} and {other.path} answer other queries under '{label}'; evaluate "
                "both on the same images"
            )


_RULES = {
    "fingerprint": "the data's fingerprint",
    "rules": "the protocol",
    "distance": "the distance",
    "reranking": "the re-ranking",
    "flip": "what becomes of mirrored images",
    "batch_norm": "whose statistics batch normalisation takes",
    "denominator": "what means are taken over",
    "drawn": "the origin of the galleries",
    "trials": "the number of galleries",
}


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{file} is no file of results: name one of reid eval --json") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file} is damaged: {error}") from None


def _is_result(one: Any) -> bool:
    keys = {"protocol", "metrics", "cmc", "reranking", "fingerprint", "denominator", "drawn"}
    return isinstance(one, dict) and keys <= set(one)
