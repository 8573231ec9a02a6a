"""Prepare what is uploaded of a run, and upload it."""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_core import CheckpointError, RunConfig, checked_folder
from reid_core.data.joining import trained_on
from reid_core.evaluation.records import results_text
from reid_core.weights import shipped_weights
from reid_search.comparing.stored import read_run
from reid_search.hub.addresses import FILES, Address, endpoint, hub_errors
from reid_search.hub.card import card_text, licence_of


def prepare(
    run: Path, folder: Path, *, name: str, licence: str, data_licence: str | None = None
) -> list[str]:
    """Write what a hub gets of a run into an empty folder.

    That is the embedder, the configuration without paths of this machine, the results without names
    of single images, and the model card.

    Args:
        run: a finished run's folder.
        folder: where to write; empty or not there yet.
        name: ``owner/name``, for the card.
        licence: of the weights, as the hub names it: ``mit``, ``cc-by-nc-4.0``, ...
        data_licence: of the data set; may be left out where it is known (`card.PROCEDURAL`).

    Returns:
        The names of the files.

    Raises:
        CheckpointError: the run has no embedder.
        ConfigError: nobody knows the data set's licence, or it is withdrawn; the folder holds
            something already.
        DataError: the run has no results.
    """
    checked_folder(folder, option="folder")
    stored = read_run(run)
    missing = [file for file in FILES if not (run / file).is_file()]
    if missing:
        raise CheckpointError(
            f"{run} holds no {missing[0]}: what is uploaded is a run whose embedder was exported"
        )
    config = stored.config
    if config is None:
        raise CheckpointError(f"{run} holds no config.toml that this version reads")
    description = json.loads((run / FILES[1]).read_text("utf-8"))
    # Also what the weights had learnt from that the run began with.
    learnt = (description.get("learnt_from") or {}).get("data", ())
    data = list(dict.fromkeys([*learnt, *trained_on(config), *_untold_start(config, learnt)]))
    terms = licence_of(data, data_licence)
    results = [
        {key: value for key, value in one.content.items() if key != "queries"}
        for one in stored.results.values()
    ]
    card = card_text(
        name=name,
        licence=licence,
        data=data,
        data_licence=terms,
        plugins=stored.plugins,
        description=description,
        results=results,
        settings={
            "backbone": config.model.backbone,
            "weights that it began with": _start(config),
            "epochs": config.schedule.epochs,
            "seed": config.run.seed,
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(run / file, folder / file)
    (folder / "README.md").write_text(card, "utf-8")
    (folder / "config.toml").write_text(_without_paths(config).to_toml(), "utf-8")
    content = {"data": config.data.name, "results": results}
    (folder / "results.json").write_text(results_text(content), "utf-8")
    return sorted(path.name for path in folder.iterdir())


def push(
    run: Path, address: Address, *, licence: str, data_licence: str | None, public: bool
) -> Address:
    """Upload a run's embedder, configuration, results and model card.

    Args:
        run, licence, data_licence: as of `prepare`.
        address: where to; a revision is a branch that is there.
        public: whether everybody sees a model that is made by this; one that is there stays as it
            is.

    Returns:
        The address with the commit that was made.

    Raises:
        ReidError: as of `prepare`, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "model"
        prepare(run, folder, name=address.name, licence=licence, data_licence=data_licence)
        api = HfApi(endpoint=endpoint())
        with hub_errors(address):
            api.create_repo(address.name, private=not public, exist_ok=True)
            commit = api.upload_folder(
                repo_id=address.name,
                folder_path=folder,
                revision=address.revision,
                commit_message="Upload an embedder with its model card",
            )
    return Address(address.name, commit.oid)


def _untold_start(config: RunConfig, learnt: Sequence[str]) -> list[str]:
    """Return what to call the weights that a run began with where nobody says whose data they saw.

    Args:
        config: of the run.
        learnt: the data that its embedder is known to have learnt from, those weights' included.
    """
    given = config.model.pretrained
    if given is False or (given is not True and given.as_posix() in shipped_weights()):
        return []
    if given is not True and not {*learnt} <= {*trained_on(config)}:
        return []
    return [f"published {config.model.backbone}" if given is True else f"weights {given.name}"]


def _start(config: RunConfig) -> str:
    """Say in words what weights the encoder began with, without paths of this machine."""
    given = config.model.pretrained
    if isinstance(given, bool):
        return "published ones of the backbone" if given else "random"
    return Path(given).name if Path(given).is_absolute() else str(given)


def _without_paths(config: RunConfig) -> RunConfig:
    """Return a configuration with names of files in place of this machine's paths."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: cleaned(one) for key, one in value.items()}
        if isinstance(value, list):
            return [cleaned(one) for one in value]
        if isinstance(value, str):
            name, equals, folder = value.rpartition("=")  # of data sets: NAME=FOLDER
            return f"{name}{equals}{Path(folder).name}" if Path(folder).is_absolute() else value
        return value

    return RunConfig.model_validate(cleaned(tomllib.loads(config.to_toml())))
