"""From a finished run to what is shipped: half precision, a card, a hash."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core import ConfigError, load_embedder, write_json
from reid_core.config import RunConfig
from reid_core.errors import did_you_mean
from reid_core.model.tensors import write_tensors
from reid_core.weights import sha256_of
from reid_parsing.body import body_of
from reid_weights import OWNER, RECIPES, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

BODY = "body"
"""The recipe that trains no embedder, but what finds parts, garments and joints."""


_COMPUTED = (
    *("synthpeople", "synthpeople-crops", "synthpeople-pairs", "synthpeople-redressed"),
    "toy",
)
"""Data sets that show nobody, in every variant and size."""

_ELSEWHERE = ("engine.", "data.root", "data.threads", "run.recipe")
"""Keys that say where and how fast a run computes, not what it learns."""


def recipe_of(name: str) -> Path:
    """Return the recipe of ``people/NAME``.

    Raises:
        ConfigError: there is none.
    """
    known = {f"{OWNER}/{path.stem}": path for path in sorted(RECIPES.glob("*.toml"))}
    if name not in known:
        raise ConfigError(
            f"there is no recipe of weights '{name}'{did_you_mean(name, known)} (there are: "
            f"{', '.join(known)})"
        )
    return known[name]


def pack(name: str, run: Path, out: Path, scores: Mapping[str, Any] | None = None) -> Path:
    """Write the weights of a finished run as they are shipped, and their card.

    Args:
        name: ``people/NAME``, which a recipe here makes.
        run: folder of the run.
        out: folder of ``NAME.safetensors`` and ``NAME.json``.
        scores: what was measured, for the card.

    Returns:
        The file of weights.

    Raises:
        CheckpointError: the run is not finished.
    """
    recipe = recipe_of(name)
    path = out / f"{name.partition('/')[2]}.safetensors"
    state, description = _body(run) if recipe.stem == BODY else _embedder(run)
    _write(path, state, description)
    facts = json.loads((run / "run.json").read_text("utf-8"))
    config = tomllib.loads((run / "config.toml").read_text("utf-8"))
    card = {
        "name": name,
        **_terms(description.get("learnt_from", {}).get("data", ()), config, recipe),
        "recipe": recipe.name,
        "changed": changed(recipe, config),
        "seed": config["run"]["seed"],
        "made_with": {
            **{f"reid-{d}": version(f"reid-{d}") for d in ("core", "synthpeople", "weights")},
            "torch": facts["environment"]["torch"],
            "machine": facts["environment"]["machine"],
        },
        "images": facts["sources"]["main"]["images"],
        "steps": config["schedule"]["epochs"] * int(config["schedule"]["iterations_per_epoch"]),
        "rows": config["data"]["batch_size"],
        "parameters": sum(v.numel() for v in state.values() if v.is_floating_point()),
        "scores": dict(scores or {}),
    }
    whole = {**description, "sha256": sha256_of(path), "card": card}
    write_json(path.with_suffix(".json"), whole)
    return path


def _terms(learnt: Sequence[str], config: Mapping[str, Any], recipe: Path) -> dict[str, str]:
    """Return whose terms weights are under.

    Args:
        learnt: data that they are known to have learnt from.
        config: of the run. What published weights and files began with nobody knows here, whatever
            stands beside them; shipped ones with computed people. Plugins beside the recipe's, and
            labels that somebody made, may bring in what other networks have learnt.
        recipe: the file.
    """
    foreign = [name for name in learnt if _family(name) not in _COMPUTED]
    start = config["model"].get("pretrained", False)
    known = start is False or (isinstance(start, str) and start in WEIGHTS)
    own = tomllib.loads(recipe.read_text("utf-8"))["run"]["plugins"]
    brought = {*config["run"].get("plugins", ())} - {*own} or any(
        config.get(key) for key in ("fields", "labels")
    )
    if not learnt or not known or brought:
        foreign.append("what is not known")
    if foreign:
        return {"license": "that of the data", "people": f"learnt from {' and '.join(foreign)}"}
    return {
        "license": "MIT",
        "people": "computed; no photograph of anybody, and nothing learnt from one",
    }


def _family(data: str) -> str:
    return data.partition("/")[0].partition(":")[0]


def changed(recipe: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run was told beside its recipe, by dotted key: its weights are others.

    Settings of plugins count where the recipe names them.

    Args:
        recipe: the file.
        config: of the run, as in its ``config.toml``.
    """
    told = tomllib.loads(recipe.read_text("utf-8"))
    asked = _flat(tomllib.loads(RunConfig.model_validate(told).to_toml()))
    found = _flat(config)
    keys = {k for k in found if not k.startswith("plugins.")} | asked.keys()
    return {
        key: found.get(key)
        for key in sorted(keys)
        if asked.get(key) != found.get(key) and not key.startswith(_ELSEWHERE)
    }


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{before}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _write(path: Path, state: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    half = {n: value.half() if value.is_floating_point() else value for n, value in state.items()}
    metadata = {str(k): str(v) for k, v in description.get("metadata", {}).items()}
    write_tensors(path, half, metadata or {"format": "pt"})


def _embedder(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    embedder = load_embedder(run)
    return dict(embedder.state_dict()), embedder.describe()


def _body(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return body_of(run)
