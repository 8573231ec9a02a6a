"""What installed plugins offer by name: from their manifests, or from those without one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from reid_core.errors import typed_reason
from reid_core.plugins.discovery import PluginRecord, core_record, installed, load_recorded
from reid_core.plugins.manifests import KINDS, OfferedData, Offers

if TYPE_CHECKING:
    from reid_core.contract.samples import DataProvider
    from reid_core.plugins.calls import HookCalls


class InstalledOffers:
    """Know what installed plugins offer, and import them only where there is no manifest.

    Args:
        without: plugins that are left out.
    """

    def __init__(self, without: Collection[str] = ()) -> None:
        records = {"core": core_record(), **installed()}
        self._records = {name: one for name, one in records.items() if name not in without}
        self._calls: dict[str, HookCalls | None] = {}
        self._known: dict[str, Offers] = {}
        self.broken: dict[str, str] = {}
        """Plugins that could not be imported or asked, with the reason."""

    def by_plugin(self) -> dict[str, Offers]:
        """Return what each plugin offers; a broken one offers nothing."""
        for name, record in self._records.items():
            if name not in self._known:
                contents = record.contents
                self._known[name] = self._asked(name) if contents is None else contents.offers
        return dict(self._known)

    def beyond_manifests(self) -> dict[str, Offers]:
        """Return what plugins offer whose source is used in place and may be newer."""
        return {name: self._asked(name) for name, one in self._records.items() if one.developed}

    def calls(self, name: str) -> HookCalls | None:
        """Return the hooks of a plugin, imported now; None where it is broken."""
        if name not in self._calls:
            self._calls[name] = None
            with self.noted(name):
                self._calls[name] = hooks_of(self._records[name])
        return self._calls[name]

    @contextmanager
    def noted(self, name: str) -> Iterator[None]:
        """Note whatever a stranger raises in place of raising it."""
        try:
            yield
        except Exception as error:
            self.broken[name] = typed_reason(error)

    def _asked(self, name: str) -> Offers:
        calls = self.calls(name)
        if calls is not None:
            with self.noted(name):
                return offers_of(calls)
        return Offers()


def hooks_of(record: PluginRecord) -> HookCalls:
    """Return the hooks of an installed plugin with its default settings.

    Raises:
        PluginError: it cannot be imported, or does not keep to the contract.
    """
    # It brings pluggy and the contract, which listing from manifests does without.
    from reid_core.plugins.calls import HookCalls

    return HookCalls({record.name: load_recorded(record)(record.name)})


def offers_of(calls: HookCalls) -> Offers:
    """Return what a plugin offers by name, from its own answers.

    Raises:
        PluginError: an answer is no list.
    """
    found = {kind: [one for _, one in calls.offered(kind)] for kind in KINDS}
    names = {kind: tuple(one.name for one in offers) for kind, offers in found.items()}
    return Offers(**{**names, "datasets": tuple(map(_described, found["datasets"]))})


def _described(provider: DataProvider) -> OfferedData:
    alike = {one.name for one in fields(OfferedData)} - {"makes"}
    known = {name: getattr(provider, name) for name in alike}
    return OfferedData(**known, makes=provider.make is not None)
