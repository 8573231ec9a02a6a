"""Weights from anybody's file: reading it, finding its layout, and filling a network with it.

Nothing is random in silence: what a file lacks, has too much of, or has in another shape is an
error that names it, but for what is known to be left aside (classifiers, heads, momentum copies).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reid_core.errors import CheckpointError, ConfigError, some, typed_reason, with_choices
from reid_core.model.layouts import PLAIN, Layout, layout_of, layouts
from reid_core.moved import answer_former_names
from reid_core.weights import description_of, weights_file

_COUNTER = "num_batches_tracked"

_FOLDERS = ("state_dict", "model", "model_state_dict", "net", "network")
"""Entries under which training programs keep a network's state."""

ENCODER = "encoder."
"""What the names of an encoder's entries begin with in embedders and checkpoints of this core."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights.

    Args:
        origin: what the user called it, for messages.
        state: tensors by name, without the wrappers of training programs.
        layout: in which it was published.
        own: whether it is an embedder or a checkpoint of this core, whose encoder's entries these
            are.
        aside: entries of the file that belong to no encoder.
        conventions: what goes with the weights, see `Encoder.conventions`; None where the file says
            nothing.
        learnt_from: whom they have learnt from, where the file says so; see `Embedder.learnt_from`.
    """

    origin: str
    state: Mapping[str, Tensor]
    layout: Layout
    own: bool = False
    aside: tuple[str, ...] = ()
    conventions: Mapping[str, Any] | None = None
    learnt_from: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Filled:
    """What became of a file: how many entries were taken, and which were left or resampled.

    Args:
        weights: the file.
        taken: number of entries that the network has now.
        left: entries of the file that it has no place for.
        resampled: entries whose grid was brought to the input's size.
    """

    weights: WeightsFile
    taken: int
    left: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [f"{self.taken} entries taken, none left random"]
        if self.resampled:
            told.append(f"{len(self.resampled)} resampled ({some(self.resampled)})")
        if self.left:
            told.append(f"{len(self.left)} left aside ({some(self.left)})")
        named = f" ({self.weights.layout.name})" if self.weights.layout != PLAIN else ""
        return f"weights {self.weights.origin}{named}: {'; '.join(told)}"


def check_importer(importer: str, pretrained: bool | Path) -> None:
    """Refuse an importer that nothing would read a file by.

    Args:
        importer, pretrained: of the section ``model``.

    Raises:
        ConfigError: nobody knows it, or there is no file.
    """
    if importer == "auto":
        return
    _known(importer)
    if not isinstance(pretrained, Path):
        raise ConfigError(
            f"model.importer = '{importer}' needs a file to import: give one with "
            "-s model.pretrained=FILE, or set model.importer to 'auto'"
        )


def _known(importer: str) -> dict[str, Layout]:
    """Return the layouts by name, among them the importer's."""
    known = layouts()
    if importer not in known:
        wrong = with_choices(f"there is no importer '{importer}'", importer, ["auto", *known])
        raise ConfigError(f"{wrong}{_more(known)}")
    return known


def read_weights(given: Path, encoder: str, importer: str = "auto") -> WeightsFile:
    """Read the encoder's weights from a file, without running code of it.

    Args:
        given: a file, a run's folder, or the name of shipped weights.
        encoder: the encoder's name, for messages.
        importer: layout in which the file was published; ``auto`` recognises it.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is of another layout.
    """
    path = weights_file(given)
    known = {} if importer == "auto" else _known(importer)
    try:
        description = description_of(path)
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    content = _content(path, encoder)
    ours = path.suffix == ".safetensors" and "encoder" in description
    checkpoint = isinstance(content.get("config"), dict) and "conventions" in content
    if (ours or checkpoint) and importer == "auto":
        state = _tensors(content if ours else content["model"])
        own = {n.removeprefix(ENCODER): v for n, v in state.items() if n.startswith(ENCODER)}
        if not own:
            raise misfit(encoder, given, "it holds no encoder")
        conventions = _conventions(description["encoder"]) if ours else dict(content["conventions"])
        return WeightsFile(
            str(given),
            own,
            PLAIN,
            own=True,
            aside=tuple(name for name in state if not name.startswith(ENCODER)),
            conventions=conventions,
            learnt_from=description.get("learnt_from") or content.get("learnt_from") or {},
        )
    layout = layout_of(content) if importer == "auto" else known[importer]
    state = _tensors(layout.unpacked(content, _FOLDERS))
    if not state:
        reason = f"no tensors where files of the layout '{layout.name}' have them"
        if importer == "auto" and layout == PLAIN:
            reason = "it holds no tensors by name, as a network's state dict does"
        raise misfit(encoder, given, reason)
    if layout.required and not any(layout.required in name for name in state):
        reason = f"names in files of the layout '{layout.name}' hold '{layout.required}'"
        raise misfit(encoder, given, f"{reason}, this one has {some(state)}")
    return WeightsFile(str(given), state, layout, learnt_from=description.get("learnt_from") or {})


def fill_weights(
    module: nn.Module,
    weights: WeightsFile,
    encoder: str,
    *,
    rename: Callable[[str], str] | None = None,
    heads: Collection[str] = (),
    adapt: Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], tuple[str, ...]]] | None = None,
) -> Filled:
    """Fill a network with weights.

    Args:
        module: the network, without classifier.
        weights: from `read_weights`.
        encoder: its name, for messages.
        rename: name of an entry of the network in published files; None takes its own.
        heads: prefixes of what the network's published files have beside it.
        adapt: brings entries to the network's sizes, and says which.

    Raises:
        ConfigError: an entry that the network needs is missing, has another shape, or is not of
            finite floating numbers; or the file has entries that nobody knows.
    """
    refused = partial(misfit, encoder, weights.origin)
    wanted = module.state_dict()
    rename = None if weights.own else rename
    names = {own: rename(own) if rename else own for own in wanted}
    state, left = (
        (dict(weights.state), []) if weights.own else weights.layout.stripped(weights.state, names)
    )
    for own, name in names.items():
        if name in state and (fault := _fault(state[name], wanted[own])):
            raise refused(f"{name} {fault}")
    found, resampled = adapt(state) if adapt else (state, ())
    # Files from before PyTorch 0.4.1 lack batch norm's counters, which nothing here reads.
    missing = [n for o, n in names.items() if n not in found and not o.endswith(_COUNTER)]
    if missing:
        raise refused(
            f"{missing[0]} is missing ({len(missing)} of {len(names)}; the file has "
            f"{some(list(state) or list(weights.state))}){_more(layouts())}"
        )
    known = set(names.values())
    beside = (*heads, *weights.layout.heads)
    foreign = sorted(k for k in set(found) - known if not k.startswith(beside))
    if foreign:
        raise refused(f"{foreign[0]} is unknown to it")
    for own, name in names.items():
        if name in found and found[name].shape != wanted[own].shape:
            raise refused(f"{name} is {_shape(found[name])}, not {_shape(wanted[own])}")
    # Half precision on disk becomes what the network computes in.
    module.load_state_dict(
        {
            own: found[n].to(wanted[own].dtype) if n in found else wanted[own]
            for own, n in names.items()
        }
    )
    left = [*left, *(k for k in found if k not in known), *weights.aside]
    taken = sum(name in found for name in names.values())
    return Filled(weights, taken, tuple(left), tuple(resampled))


def _fault(value: Tensor, wanted: Tensor) -> str:
    if not wanted.is_floating_point():
        return ""
    if not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        return f"is of {kind}, not of floating numbers: give the weights before quantisation"
    return "" if value.to(wanted.dtype).isfinite().all() else "is not finite (NaN or infinite)"


def misfit(encoder: str, origin: str | Path, reason: str) -> ConfigError:
    """Return the error that weights are of another network, in one line."""
    short = " ".join(reason.split())[:240]
    return ConfigError(f"the weights in {origin} do not fit '{encoder}': {short}")


def _more(known: Mapping[str, Layout]) -> str:
    """Return what brings the layouts of other projects, where none are known."""
    return "; pip install reid-weights brings layouts of other projects" if len(known) == 1 else ""


def _content(path: Path, encoder: str) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_plain_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, LookupError, EOFError):
        # What torch says here advises to run the file's code.
        reason = "it is no file of torch.save, or holds more than tensors, and no code of it is run"
        raise misfit(encoder, path, reason) from None
    except Exception as error:
        raise misfit(encoder, path, typed_reason(error)) from None
    return content if isinstance(content, dict) else {}


def _plain_numbers() -> list[Any]:
    """Return what NumPy's scalars are stored as: checkpoints keep their scores as such."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8")]
    # The function has moved within NumPy; files name it by the place that it had.
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _tensors(state: Any) -> dict[str, Tensor]:
    if not isinstance(state, Mapping):
        return {}
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def _conventions(spec: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("final_norm", "mean", "std")
    return {key: value for key, value in spec.get("kwargs", {}).items() if key in kept}


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "a number"


answer_former_names(__name__)
