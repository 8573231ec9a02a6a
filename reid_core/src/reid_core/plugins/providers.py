"""Look up what plugins offer by name: data sets, encoders, protocols.

Searched are the requested plugins, then the core, then everything installed. An installed plugin
that cannot be imported is reported only when the name stays unfound: a broken stranger must not
stop a run that does not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from reid_core.contract.context import Named
from reid_core.contract.model import POOLINGS
from reid_core.contract.plugin import CORE
from reid_core.errors import ConfigError, ConflictError, DataError, ReidError, did_you_mean
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import catalogue, installed, load_recorded

if TYPE_CHECKING:
    from torch import nn

    from reid_core.contract.context import RunContext
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.plugin import EncoderProvider
    from reid_core.contract.samples import DataProvider, DataRequest
    from reid_retrieval import protocols


N = TypeVar("N", bound=Named)


class Providers:
    """Find named things among plugins.

    Args:
        calls: the run's hooks; all of its plugins count as requested.
    """

    def __init__(self, calls: HookCalls) -> None:
        self._calls = calls
        self._broken: dict[str, str] = {}
        self._others: dict[str, HookCalls] | None = None

    @property
    def broken(self) -> dict[str, str]:
        """Installed plugins that could not be imported, with the reason."""
        return dict(self._broken)

    def dataset(self, name: str) -> DataProvider:
        """Return the provider of a data set or source.

        Raises:
            DataError: nobody offers it; with the nearest name and the line that installs it.
        """
        found = self._find(name, HookCalls.datasets)
        if found is not None:
            return found
        known = catalogue().get(name)
        if known is not None and name not in installed():
            raise DataError(
                f"data set '{name}' is not installed: {known.install}, or choose another one "
                f"with --data NAME (there are: {self._listed(HookCalls.datasets)})"
            )
        raise self._unfound("data set", name, HookCalls.datasets)

    def datasets(self) -> list[tuple[str, DataProvider]]:
        """Return all providers of data sets and sources with their plugins, by name."""
        return self._all(HookCalls.datasets)

    def backbone(self, name: str) -> EncoderProvider | None:
        """Return the provider of an encoder, or None where no plugin offers the name."""
        return self._find(name, HookCalls.backbones)

    def build_backbone(self, name: str, ctx: RunContext) -> Encoder | None:
        """Return the encoder that a plugin offers under a name, or None where none does."""
        provider = self.backbone(name)
        return None if provider is None else provider.build(ctx)

    def build_encoder(self, ctx: RunContext) -> Encoder:
        """Return the encoder that the run's ``model`` section describes, a plugin's or timm's."""
        return self._calls.backbone(CORE, ctx)

    def build_pooling(self, name: str, channels: int) -> nn.Module:
        """Return the pooling that a plugin offers under a name.

        Raises:
            ConfigError: nobody offers it.
        """
        found = self._find(name, HookCalls.poolings)
        if found is None:
            listed = [*POOLINGS, *(offer.name for _, offer in self._all(HookCalls.poolings))]
            raise ConfigError(
                f"there is no pooling '{name}'{did_you_mean(name, listed)} (model.pooling is one "
                f"of: {', '.join(listed)})"
            )
        return found.build(channels)

    def protocol(self, name: str) -> protocols.Protocol:
        """Return a protocol by name.

        Raises:
            DataError: nobody offers it.
        """
        found = self._find(name, HookCalls.evaluation_protocols)
        if found is None:
            raise self._unfound("evaluation protocol", name, HookCalls.evaluation_protocols)
        return found

    def _find(self, name: str, hook: Callable[[HookCalls], list[tuple[str, N]]]) -> N | None:
        requested = [pair for pair in hook(self._calls) if pair[0] != CORE]
        own = [pair for pair in hook(self._calls) if pair[0] == CORE]
        for offers in (requested, own):
            found = _named(name, offers)
            if found is not None:
                return found
        return _named(name, self._of_installed(hook))

    def _all(self, hook: Callable[[HookCalls], list[tuple[str, N]]]) -> list[tuple[str, N]]:
        offers = [*hook(self._calls), *self._of_installed(hook)]
        return sorted(offers, key=lambda pair: pair[1].name)

    def _listed(self, hook: Callable[[HookCalls], list[tuple[str, N]]]) -> str:
        return ", ".join(dict.fromkeys(offer.name for _, offer in self._all(hook))) or "none"

    def _unfound(
        self, kind: str, name: str, hook: Callable[[HookCalls], list[tuple[str, N]]]
    ) -> ReidError:
        names = [offer.name for _, offer in self._all(hook)]
        broken = "".join(
            f"; installed plugin '{plugin}' could not be searched: {reason}"
            for plugin, reason in self._broken.items()
        )
        return DataError(
            f"there is no {kind} '{name}'{did_you_mean(name, names)} "
            f"(there are: {self._listed(hook)}){broken}"
        )

    def _of_installed(
        self, hook: Callable[[HookCalls], list[tuple[str, N]]]
    ) -> list[tuple[str, N]]:
        """Return what installed plugins offer that nobody requested; broken ones are noted."""
        if self._others is None:
            self._others = {}
            for name, record in installed().items():
                if name not in self._calls.plugins:
                    with self._noted(name):
                        self._others[name] = HookCalls({name: load_recorded(record)(name)})
        offers: list[tuple[str, N]] = []
        for name, calls in self._others.items():
            with self._noted(name):
                offers += hook(calls)
        return offers

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """Note whatever a stranger raises in place of raising it."""
        try:
            yield
        except Exception as error:
            self._broken[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"


def _named(name: str, offers: Sequence[tuple[str, N]]) -> N | None:
    found = [(owner, offer) for owner, offer in offers if offer.name == name]
    if len(found) > 1:
        raise ConflictError(
            f"'{name}' is offered by two plugins, '{found[0][0]}' and '{found[1][0]}'"
        )
    return found[0][1] if found else None


def parse_data_name(text: str) -> tuple[str, str | None, str | None]:
    """Split ``NAME[/VARIANT][:SIZE]``.

    Raises:
        DataError: an empty part.
    """
    head, colon, size = text.partition(":")
    name, slash, variant = head.partition("/")
    if not name or (colon and not size) or (slash and not variant):
        raise DataError(f"--data {text}: expected NAME[/VARIANT][:SIZE]")
    return name, variant or None, size or None


def check_request(provider: DataProvider, request: DataRequest) -> None:
    """Refuse a variant, size or missing root that a provider does not know.

    Raises:
        DataError: naming what it offers.
    """
    for kind, given, known in (
        ("variant", request.variant, provider.variants),
        ("size", request.size, provider.sizes),
    ):
        if given is not None and given not in known:
            listed = ", ".join(known) or "it has none"
            raise DataError(
                f"data set '{provider.name}' has no {kind} '{given}'{did_you_mean(given, known)} "
                f"({listed})"
            )
    if provider.needs_root and request.root is None:
        raise DataError(
            f"data set '{provider.name}' reads files that you have: give their folder with "
            f"--data-root DIR ({provider.layout})"
        )
