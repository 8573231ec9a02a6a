"""Evaluate several models anew on one data set, so that they can be compared on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from reid_core import load_embedder
from reid_core.config import EngineSection
from reid_core.evaluation.records import HEAD, stored_results
from reid_core.machine.devices import choose_device
from reid_core.runs.evaluating import open_evaluator
from reid_search.comparing.stored import StoredResult, StoredRun, read_config, read_plugins
from reid_search.models import resolve_model


def evaluate_models(
    models: Sequence[str],
    data: str,
    root: Path | None = None,
    protocols: Sequence[str] = (),
    *,
    device: str = "auto",
    say: Callable[[str], None] = print,
    progress: Callable[[str, int], AbstractContextManager[Callable[[int], None]]],
) -> list[StoredRun]:
    """Return what every model reaches on a data set, as if it had been stored.

    Args:
        models: run folders, embedders, addresses, names of shipped weights.
        data: ``NAME[/VARIANT][:SIZE]``.
        root: folder of a data set whose files are the user's.
        protocols: names; none takes those of the data set.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        say: prints one line for the user.
        progress: shows a bar of so many images.

    Raises:
        ReidError: a model cannot be loaded, or the data set not be evaluated on.
    """
    weights = [resolve_model(model) for model in models]
    place = choose_device(device)
    evaluator = open_evaluator(data, root, protocols, engine=EngineSection(device=device), say=say)
    dataset, found = evaluator.dataset, []
    for model, file in zip(models, weights, strict=True):
        with progress(model, len(dataset.query) + len(dataset.gallery)) as advance:
            evaluation = evaluator.evaluate(load_embedder(file, place), advance, HEAD)
        results = [StoredResult(one, Path(model)) for one in stored_results(evaluation, dataset)]
        by_label = {one.label: one for one in results}
        folder = Path(model)
        config = read_config(folder) if folder.is_dir() else None
        found.append(StoredRun(folder, by_label, config, read_plugins(folder)))
    return found
