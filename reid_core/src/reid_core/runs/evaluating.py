"""Evaluate models outside any run: on a data set by name, as commands do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from reid_core.config import EngineSection, EvaluationSection
from reid_core.errors import DataError
from reid_core.evaluation.evaluating import Evaluator, chosen_protocols
from reid_core.machine.devices import choose_device
from reid_core.runs.finding import find_protocol, open_dataset


def open_evaluator(
    data: str,
    root: Path | None = None,
    protocols: Sequence[str] = (),
    *,
    settings: EvaluationSection | None = None,
    engine: EngineSection | None = None,
    cache: Path | None = None,
    unknown: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Evaluator:
    """Return what evaluates embedders on a data set, which is loaded (and made, if need be).

    Args:
        data: ``NAME[/VARIANT][:SIZE]``.
        root: folder of a data set whose files are the user's.
        protocols: names; none takes those of the data set.
        settings: how images are compared; None takes the defaults.
        engine: device and precision; None takes the defaults.
        cache: the user's cache folder; None takes the platform's.
        unknown: what embedders are to take for unknown, though the images have it.
        say: prints one line for the user: what the data set has to say.

    Raises:
        DataError: there is no such data set or protocol, or no query that could be answered.
        DeviceError: there is no such device.
    """
    engine = engine or EngineSection()
    device = choose_device(engine.device)
    dataset = open_dataset(data, root, cache)
    if not dataset.query:
        raise DataError(f"data set '{data}' has no query images to evaluate on")
    if dataset.notice:
        say(dataset.notice)
    evaluator = Evaluator(
        dataset,
        chosen_protocols(protocols, dataset, find_protocol),
        settings or EvaluationSection(),
        device,
        engine=engine,
        unknown=tuple(unknown),
    )
    evaluator.check()
    return evaluator
