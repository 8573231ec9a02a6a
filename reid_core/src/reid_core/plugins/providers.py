"""Look up what plugins offer by name: data sets, encoders, protocols.

Searched are the requested plugins, then the core, then everything installed; of the installed ones
only what offers the name is imported, as their manifests say. One that cannot be imported is
reported only when the name stays unfound: a broken stranger must not stop a run that does not need
it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from reid_core.contract.context import Named
from reid_core.contract.model import FRAME_POOLINGS, POOLINGS
from reid_core.contract.plugin import CORE
from reid_core.errors import (
    ConfigError,
    ConflictError,
    DataError,
    ReidError,
    did_you_mean,
    own_errors,
    with_choices,
)
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import catalogue, installed, known_offer
from reid_core.plugins.offers import InstalledOffers
from reid_retrieval.finding import read_protocol

if TYPE_CHECKING:
    from torch import nn

    from reid_core.contract.context import RunContext
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.plugin import EncoderProvider, PoolingProvider
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
        self._others = InstalledOffers(without=calls.plugins)

    def dataset(self, name: str) -> DataProvider:
        """Return the provider of a data set or source.

        Raises:
            DataError: nobody offers it; with the nearest name and the line that installs it.
        """
        found: DataProvider | None = self._find("datasets", name)
        if found is None:
            raise self._unfound(
                "data set", "datasets", name, ", or choose another one with --data NAME"
            )
        return found

    def datasets(self) -> list[tuple[str, DataProvider]]:
        """Return all providers of data sets and sources with their plugins, by name.

        Installed plugins that offer some are imported.
        """
        return sorted(self._of_all("datasets"), key=lambda pair: pair[1].name)

    def backbone(self, name: str) -> EncoderProvider | None:
        """Return the provider of an encoder, or None where no plugin offers the name."""
        found: EncoderProvider | None = self._find("backbones", name)
        return found

    def build_backbone(self, name: str, ctx: RunContext) -> Encoder | None:
        """Return the encoder that a plugin offers under a name, or None where none does.

        Raises:
            ConfigError: a distribution that is not installed offers it, or timm does not have it
                either.
        """
        provider = self.backbone(name)
        if provider is not None:
            return provider.build(ctx)
        known = known_offer("backbones", name)
        if known is not None and known.name not in installed():
            raise ConfigError(f"encoder '{name}' is not installed: {known.install}")
        import timm

        if not timm.is_model(name.partition(".")[0]):
            offered = (one.offers.get("backbones", ()) for one in catalogue().values())
            names = {*self._names("backbones")}.union(*offered)
            raise ConfigError(
                f"there is no encoder '{name}' among plugins or timm's models"
                f"{did_you_mean(name, [*names, *timm.list_models()])}"
            )
        return None

    def build_encoder(self, ctx: RunContext) -> Encoder:
        """Return the encoder that the run's ``model`` section describes, a plugin's or timm's."""
        return self._calls.backbone(CORE, ctx)

    def build_pooling(
        self, name: str, channels: int, pools: Literal["map", "frames"] = "map"
    ) -> nn.Module:
        """Return the pooling that a plugin offers under a name.

        Args:
            name: as in the configuration.
            channels: of what is pooled.
            pools: what is pooled, see `PoolingProvider`.

        Raises:
            ConfigError: nobody offers it.
        """
        found: PoolingProvider | None = self._find("poolings", name)
        if found is None or found.pools != pools:
            own = POOLINGS if pools == "map" else FRAME_POOLINGS
            key = "pooling" if pools == "map" else "frame_pooling"
            offers: list[tuple[str, PoolingProvider]] = self._of_all("poolings")
            listed = [*own, *sorted({one.name for _, one in offers if one.pools == pools})]
            raise ConfigError(
                f"there is no pooling '{name}'{did_you_mean(name, listed)} (model.{key} is one "
                f"of: {', '.join(listed)})"
            )
        return found.build(channels)

    def protocol(self, name: str) -> protocols.Protocol:
        """Return a protocol by name, or the one that a file of rules (.toml) describes.

        Raises:
            DataError: nobody offers it.
            ConfigError: the file cannot be read, or does not describe one.
        """
        if name.endswith(".toml"):
            with own_errors():
                return read_protocol(Path(name))
        found: protocols.Protocol | None = self._find("protocols", name)
        if found is None:
            raise self._unfound("evaluation protocol", "protocols", name)
        return found

    def _find(self, kind: str, name: str) -> Any:
        """Return the offer of a name, or None; only the plugin that offers it is imported."""
        offers = self._calls.offered(kind)
        for owners in (
            [pair for pair in offers if pair[0] != CORE],
            [pair for pair in offers if pair[0] == CORE],
            self._of_others(kind, {name}),
        ):
            found = _named(name, owners)
            if found is not None:
                return found
        return None

    def _of_others(self, kind: str, names: Collection[str]) -> list[tuple[str, Any]]:
        """Return what installed plugins offer under some names; broken ones are noted."""
        found: list[tuple[str, Any]] = []
        for plugin, offers in self._others.by_plugin().items():
            calls = self._others.calls(plugin) if {*names} & {*offers.names(kind)} else None
            if calls is not None:
                with self._others.noted(plugin):
                    found += [pair for pair in calls.offered(kind) if pair[1].name in names]
        return found

    def _of_all(self, kind: str) -> list[tuple[str, Any]]:
        return [*self._calls.offered(kind), *self._of_others(kind, self._names(kind))]

    def _names(self, kind: str) -> list[str]:
        requested = (offer.name for _, offer in self._calls.offered(kind))
        others = (name for o in self._others.by_plugin().values() for name in o.names(kind))
        return sorted({*requested, *others})

    def _unfound(self, title: str, kind: str, name: str, choice: str = "") -> ReidError:
        names = self._names(kind)
        listed = f"(there are: {', '.join(names) or 'none'})"
        known = known_offer(kind, name) or (catalogue().get(name) if kind == "datasets" else None)
        if known is not None and known.name not in installed():
            return DataError(f"{title} '{name}' is not installed: {known.install}{choice} {listed}")
        for plugin, offers in self._others.beyond_manifests().items():
            if name in offers.names(kind):
                distribution = installed()[plugin].distribution
                return DataError(
                    f"plugin '{plugin}' offers the {title} '{name}', which its manifest does not "
                    f"say: write it anew with `reid plugins manifest {distribution}`"
                )
        broken = "".join(
            f"; installed plugin '{plugin}' could not be searched: {reason}"
            for plugin, reason in self._others.broken.items()
        )
        return DataError(with_choices(f"there is no {title} '{name}'", name, names) + broken)


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
        raise DataError(f"'{text}' is no name of a data set: expected NAME[/VARIANT][:SIZE]")
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
