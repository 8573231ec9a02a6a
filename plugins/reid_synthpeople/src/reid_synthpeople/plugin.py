"""The plugin ``synthpeople``: a data set and three training sources, and their protocols.

Nothing heavy is imported at the top: the class is loaded by every command that lists data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from reid_core import DataProvider, Plugin, Protocol, hookimpl
from reid_synthpeople import provider
from reid_synthpeople.names import (
    CROPS,
    DRESSED,
    DRESSED_GARMENTS,
    GARMENTS,
    PAIRS,
    REDRESSED,
    SIZES,
    TEMPLATE,
    TEMPLATE_GARMENTS,
    VARIANTS,
)
from reid_synthpeople.protocols import OWN_PROTOCOLS
from reid_synthpeople.provider import load_dataset, load_source
from reid_synthpeople.settings import SynthpeopleSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from reid_core import DataSet, Source
    from reid_core.contract.samples import DataRequest


class Synthpeople(Plugin):
    """Procedural people with complete ground truth."""

    Settings: ClassVar[type[SynthpeopleSettings]] = SynthpeopleSettings
    settings: SynthpeopleSettings

    @hookimpl
    def reid_datasets(self) -> Sequence[DataProvider]:
        """Offer the data set in its variants, and the training sources."""
        return [
            DataProvider(
                "synthpeople",
                self._load,
                fields=("parts", "garments", "keypoints", "texture"),
                summary="synthetic people before several cameras, in changing clothes",
                variants=VARIANTS,
                sizes=SIZES,
                make=self._make(None),
            ),
            DataProvider(
                "synthpeople-pairs",
                partial(self._load_source, PAIRS),
                kind="source",
                fields=("texture",),
                summary="other synthetic people with their textures, without identities",
                sizes=SIZES,
                make=self._make(PAIRS),
            ),
            DataProvider(
                "synthpeople-crops",
                partial(self._load_source, CROPS),
                kind="source",
                fields=("parts", "garments", "keypoints"),
                summary="other synthetic people with label maps, for parsers; no identities",
                sizes=SIZES,
                make=self._make(CROPS),
            ),
            DataProvider(
                "synthpeople-redressed",
                partial(self._load_source, REDRESSED),
                kind="source",
                fields=(GARMENTS, TEMPLATE, TEMPLATE_GARMENTS, DRESSED, DRESSED_GARMENTS),
                summary="other synthetic people, and the same pictures in somebody else's outfit",
                sizes=SIZES,
                make=self._make(REDRESSED),
            ),
        ]

    @hookimpl
    def reid_evaluation_protocols(self) -> Sequence[Protocol]:
        """Offer the protocols of the variants ``prcc`` and ``vcclothes``."""
        return OWN_PROTOCOLS

    def _load(self, request: DataRequest) -> DataSet:
        return load_dataset(request, self.settings)

    def _load_source(self, variant: str, request: DataRequest) -> Source:
        return load_source(variant, request, self.settings)

    def _make(
        self, variant: str | None
    ) -> Callable[[DataRequest, Path, Callable[[int, int], None]], None]:
        def make(request: DataRequest, folder: Path, advance: Callable[[int, int], None]) -> None:
            provider.make(request, folder, advance, self.settings, variant)

        return make
