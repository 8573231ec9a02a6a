"""The adapter to pytorch-metric-learning: its classes by name, checked, as a criterion."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from torch import Tensor, nn

from reid_core import (
    ConfigError,
    CrossEntropyTriplet,
    Embedded,
    Embedding,
    IdentityCriterion,
    IdentityOutput,
    PluginError,
    did_you_mean,
    full_precision,
)

if TYPE_CHECKING:
    from reid_baselines.metric_settings import MetricSettings

_ELSEWHERE = {"GenericPairLoss", "ManifoldLoss", "VICRegLoss"}
"""A base, and what takes no identities."""

_FILLED = {"num_classes", "embedding_size", "descriptors_dim"}
"""Arguments that the run knows."""

_PARTS: Mapping[str, tuple[Any, str]] = {
    "distance": (distances, "BaseDistance"),
    "reducer": (reducers, "BaseReducer"),
    "embedding_regularizer": (regularizers, "BaseRegularizer"),
    "weight_regularizer": (regularizers, "BaseRegularizer"),
}
"""Arguments that are objects: where their classes are, and whose kind they are."""

_WORDS: Mapping[str, tuple[str, ...]] = {
    "type_of_triplets": ("all", "easy", "semihard", "hard"),
    "triplets_per_anchor": ("all",),
}
"""Arguments whose words the library does not check itself, and the words."""

_COUNTS = ("triplets_per_anchor",)
"""Those that may be a whole number above 0, too."""


def known_losses() -> dict[str, type]:
    """Return the losses over embeddings and labels by name."""
    return _classes(losses, "BaseMetricLossFunction")


def known_miners() -> dict[str, type]:
    """Return the miners by name."""
    return _classes(miners, "BaseMiner")


def per_identity(loss: str) -> bool:
    """Return whether a loss has parameters for every identity."""
    found = known_losses().get(loss)
    return found is not None and "num_classes" in _required(found)


def classifies(loss: str) -> bool:
    """Return whether a loss compares with every identity, so that it has logits."""
    return hasattr(known_losses().get(loss), "get_logits")


def check_settings(plugin: str, settings: MetricSettings) -> None:
    """Refuse classes, arguments and values that the library does not have.

    Raises:
        ConfigError: naming the setting, with the nearest right word.
    """
    for kind, name, kwargs, known in (
        ("loss", settings.loss, settings.loss_kwargs, known_losses()),
        ("miner", settings.miner, settings.miner_kwargs, known_miners()),
    ):
        if name is None:
            if kwargs:
                raise ConfigError(f"{plugin}.{kind}_kwargs is given, and {plugin}.{kind} is not")
            continue
        if name not in known:
            raise ConfigError(
                f"{plugin}.{kind} = '{name}': pytorch-metric-learning has no such {kind}"
                f"{did_you_mean(name, known)} (there are: {', '.join(known)})"
            )
        _check_kwargs(f"{plugin}.{kind}_kwargs", name, known[name], kwargs)


class MetricCriterion(IdentityCriterion):
    """A loss of the library, on the pairs or triplets that a miner chooses.

    Args:
        embedding: what is supervised.
        dim: length of the vector that is compared.
        identities: number of training identities.
        settings: classes and arguments, checked.
        beside: cross-entropy that is added, or None.
    """

    def __init__(
        self,
        embedding: Embedding,
        dim: int,
        identities: int,
        settings: MetricSettings,
        beside: CrossEntropyTriplet | None = None,
    ) -> None:
        super().__init__(embedding)
        filled = {"num_classes": identities, "embedding_size": dim, "descriptors_dim": dim}
        self.vector, self.weight = settings.vector, settings.weight
        loss, miner = known_losses()[settings.loss], settings.miner
        self.loss = _made(loss, settings.loss_kwargs, filled)
        self.miner = None if miner is None else _made(known_miners()[miner], settings.miner_kwargs)
        self.beside = beside

    def logits(self, embedded: Embedded) -> Tensor:
        """Return the logits ``B K`` of cross-entropy, or the loss's own where it classifies.

        Raises:
            PluginError: nothing is classified.
        """
        if self.beside is not None:
            return self.beside.logits(embedded)
        if not hasattr(self.loss, "get_logits"):
            asks = self.supervision.cross_entropy is not None
            pairs = f"{type(self.loss).__name__} compares pairs; set -s metric.cross_entropy=true"
            raise PluginError(
                f"embedding '{self.embedding.name}' is not classified: "
                f"{pairs if asks else 'it declares no cross-entropy'}"
            )
        found: Tensor = self.loss.get_logits(getattr(embedded, self.vector).float())
        return found

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        """Return the term ``metric``, and ``ce`` where that is asked for."""
        terms: dict[str, Tensor] = {}
        weights, logits = {"metric": self.weight}, None
        if self.beside is not None:
            found = self.beside(embedded, labels, soft_targets)
            terms |= found.terms
            weights |= found.weights
            logits = found.logits
        elif hasattr(self.loss, "get_logits"):
            logits = self.logits(embedded)
        if soft_targets is not None:
            # A soft row belongs to no single identity and can be nobody's positive.
            labels = torch.where(soft_targets.sum(1) > 0, -1, labels)
        rows = (labels >= 0).nonzero().flatten()
        vectors = getattr(embedded, self.vector).float()[rows]
        with full_precision(vectors):
            chosen = None if self.miner is None else self.miner(vectors, labels[rows])
            terms["metric"] = self.loss(vectors, labels[rows], chosen)
        return IdentityOutput(terms, logits, weights)


def _classes(module: Any, base: str) -> dict[str, type]:
    found = {}
    for name, value in sorted(vars(module).items()):
        kind = inspect.isclass(value) and issubclass(value, getattr(module, base))
        if kind and name not in _ELSEWHERE and name != base:
            found[name] = value
    return found


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class by name, those that it hands on to its bases included.

    What a base cannot do without is an argument only where the class hands on all positions;
    otherwise the class gives it itself.
    """
    found: dict[str, inspect.Parameter] = {}
    hands_on = True
    for one in cls.__mro__:
        if "__init__" not in vars(one) or one is nn.Module or one is object:
            continue
        parameters = list(inspect.signature(one.__init__).parameters.values())[1:]  # type: ignore[misc]
        for each in parameters:
            named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
            if named and (hands_on or each.default is not each.empty):
                found.setdefault(each.name, each)
        hands_on = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    return found


def _required(cls: type) -> list[str]:
    return [n for n, one in _parameters(cls).items() if one.default is inspect.Parameter.empty]


def _check_kwargs(where: str, name: str, cls: type, kwargs: Mapping[str, Any]) -> None:
    known = _parameters(cls)
    offered = [one for one in known if one not in _FILLED]
    for key, value in kwargs.items():
        if key in _FILLED:
            raise ConfigError(f"{where}.{key}: the run fills it in; leave it out")
        if key not in known:
            raise ConfigError(
                f"{where}.{key}: {name} has no such argument{did_you_mean(key, offered)} "
                f"(it has: {', '.join(offered) or 'none'})"
            )
        if key in _PARTS:
            parts = _classes(*_PARTS[key])
            if value not in parts:
                raise ConfigError(
                    f"{where}.{key} = '{value}': there is no such class"
                    f"{did_you_mean(str(value), parts)} (there are: {', '.join(parts)})"
                )
            continue
        if key in _WORDS:
            count = key in _COUNTS and type(value) is int and value > 0
            if value not in _WORDS[key] and not count:
                words = ", ".join(_WORDS[key])
                raise ConfigError(
                    f"{where}.{key} = {value!r}: {name} takes one of: {words}"
                    f"{', or a whole number above 0' if key in _COUNTS else ''}"
                )
            continue
        usual = known[key].default
        number = isinstance(usual, int | float) and not isinstance(usual, bool)
        if number and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{where}.{key} = {value!r}: {name} takes a number ({usual})")
        if isinstance(usual, bool | str) and type(value) is not type(usual):
            kind = "true or false" if isinstance(usual, bool) else "a word"
            raise ConfigError(f"{where}.{key} = {value!r}: {name} takes {kind} ({usual})")
    lacking = [one for one in _required(cls) if one not in kwargs and one not in _FILLED]
    if lacking:
        raise ConfigError(f"{where}: {name} cannot do without {', '.join(lacking)}")


def _made(cls: type, kwargs: Mapping[str, Any], filled: Mapping[str, int] | None = None) -> Any:
    known = _parameters(cls)
    given = {name: value for name, value in (filled or {}).items() if name in known}
    for key, value in kwargs.items():
        given[key] = getattr(_PARTS[key][0], value)() if key in _PARTS else value
    try:
        return cls(**given)
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ConfigError(f"{cls.__name__} of pytorch-metric-learning refuses: {reason}") from None
