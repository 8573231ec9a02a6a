"""reid-core: person re-identification whose papers are plugins that compose.

Everything public is here; modules are imported on first use, so that ``import reid_core`` stays
light enough for discovery.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from reid_core import moved

_PUBLIC = {
    "reid_core.config": ("RunConfig",),
    "reid_core.contract.batches": ("Batch",),
    "reid_core.contract.fields": ("SHARED_FIELDS", "FieldKind", "FieldSpec"),
    "reid_core.contract.labelers": ("LabelContext", "Labeler"),
    "reid_core.contract.samples": (
        "Counts",
        "DataProvider",
        "DataRequest",
        "DataSet",
        "Sample",
        "Source",
    ),
    "reid_core.contract.context": ("RunContext",),
    "reid_core.contract.step": (
        "Group",
        "LinearRamp",
        "LossTerm",
        "Optimiser",
        "Pass",
        "Schedule",
        "SourceRequest",
        "Stage",
        "Start",
        "Synthetic",
        "Update",
    ),
    "reid_core.contract.events": (
        "EpochEnded",
        "Evaluated",
        "Event",
        "RunBegan",
        "RunEnded",
        "StepEnded",
    ),
    "reid_core.contract.views": ("Embedded", "PassView", "StepView"),
    "reid_core.errors": (
        "CheckpointError",
        "ConfigError",
        "ConflictError",
        "DataError",
        "DeviceError",
        "PluginError",
        "ReidError",
    ),
    "reid_retrieval.protocols": (
        "EveryGallery",
        "JunkRule",
        "Protocol",
        "SingleShot",
        "Subset",
    ),
    "reid_core.runs.finding": ("find_protocol", "open_context", "open_dataset", "open_source"),
    "reid_core.contract.hookspecs": ("hookimpl",),
    "reid_core.model.blocks": ("GlobalPool",),
    "reid_core.model.criteria": ("CrossEntropyTriplet", "IdentityCriterion", "IdentityOutput"),
    "reid_core.contract.model": (
        "ENCODER_MAP",
        "Branch",
        "Embedding",
        "EncoderProvider",
        "Supervision",
        "Tap",
    ),
    "reid_core.model.embedder": ("Embedder", "load_embedder"),
    "reid_core.model.encoder": ("Encoder", "NoEncoder", "TimmEncoder"),
    "reid_core.model.losses": ("batch_hard_triplet", "identity_cross_entropy"),
    "reid_core.model.precision": ("full_precision", "inner_products"),
    "reid_core.outputs": (
        "FIGURE_SUFFIXES",
        "PICTURE_SUFFIXES",
        "checked_folder",
        "checked_output",
    ),
    "reid_core.contract.plugin": ("Need", "Plugin", "Settings"),
    "reid_core.runs.running": ("build_run", "restore", "run"),
}

_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOME)
__version__ = metadata.version("reid-core")

moved.install()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reid_core' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from reid_core.config import RunConfig as RunConfig
    from reid_core.contract.batches import Batch as Batch
    from reid_core.contract.context import RunContext as RunContext
    from reid_core.contract.events import (
        EpochEnded as EpochEnded,
    )
    from reid_core.contract.events import (
        Evaluated as Evaluated,
    )
    from reid_core.contract.events import (
        Event as Event,
    )
    from reid_core.contract.events import (
        RunBegan as RunBegan,
    )
    from reid_core.contract.events import (
        RunEnded as RunEnded,
    )
    from reid_core.contract.events import (
        StepEnded as StepEnded,
    )
    from reid_core.contract.fields import (
        SHARED_FIELDS as SHARED_FIELDS,
    )
    from reid_core.contract.fields import (
        FieldKind as FieldKind,
    )
    from reid_core.contract.fields import (
        FieldSpec as FieldSpec,
    )
    from reid_core.contract.hookspecs import hookimpl as hookimpl
    from reid_core.contract.labelers import (
        LabelContext as LabelContext,
    )
    from reid_core.contract.labelers import (
        Labeler as Labeler,
    )
    from reid_core.contract.model import (
        ENCODER_MAP as ENCODER_MAP,
    )
    from reid_core.contract.model import (
        Branch as Branch,
    )
    from reid_core.contract.model import (
        Embedding as Embedding,
    )
    from reid_core.contract.model import (
        EncoderProvider as EncoderProvider,
    )
    from reid_core.contract.model import (
        Supervision as Supervision,
    )
    from reid_core.contract.model import (
        Tap as Tap,
    )
    from reid_core.contract.plugin import (
        Need as Need,
    )
    from reid_core.contract.plugin import (
        Plugin as Plugin,
    )
    from reid_core.contract.plugin import (
        Settings as Settings,
    )
    from reid_core.contract.samples import (
        Counts as Counts,
    )
    from reid_core.contract.samples import (
        DataProvider as DataProvider,
    )
    from reid_core.contract.samples import (
        DataRequest as DataRequest,
    )
    from reid_core.contract.samples import (
        DataSet as DataSet,
    )
    from reid_core.contract.samples import (
        Sample as Sample,
    )
    from reid_core.contract.samples import (
        Source as Source,
    )
    from reid_core.contract.step import (
        Group as Group,
    )
    from reid_core.contract.step import (
        LinearRamp as LinearRamp,
    )
    from reid_core.contract.step import (
        LossTerm as LossTerm,
    )
    from reid_core.contract.step import (
        Optimiser as Optimiser,
    )
    from reid_core.contract.step import (
        Pass as Pass,
    )
    from reid_core.contract.step import (
        Schedule as Schedule,
    )
    from reid_core.contract.step import (
        SourceRequest as SourceRequest,
    )
    from reid_core.contract.step import (
        Stage as Stage,
    )
    from reid_core.contract.step import (
        Start as Start,
    )
    from reid_core.contract.step import (
        Synthetic as Synthetic,
    )
    from reid_core.contract.step import (
        Update as Update,
    )
    from reid_core.contract.views import (
        Embedded as Embedded,
    )
    from reid_core.contract.views import (
        PassView as PassView,
    )
    from reid_core.contract.views import (
        StepView as StepView,
    )
    from reid_core.errors import (
        CheckpointError as CheckpointError,
    )
    from reid_core.errors import (
        ConfigError as ConfigError,
    )
    from reid_core.errors import (
        ConflictError as ConflictError,
    )
    from reid_core.errors import (
        DataError as DataError,
    )
    from reid_core.errors import (
        DeviceError as DeviceError,
    )
    from reid_core.errors import (
        PluginError as PluginError,
    )
    from reid_core.errors import (
        ReidError as ReidError,
    )
    from reid_core.model.blocks import GlobalPool as GlobalPool
    from reid_core.model.criteria import (
        CrossEntropyTriplet as CrossEntropyTriplet,
    )
    from reid_core.model.criteria import (
        IdentityCriterion as IdentityCriterion,
    )
    from reid_core.model.criteria import (
        IdentityOutput as IdentityOutput,
    )
    from reid_core.model.embedder import (
        Embedder as Embedder,
    )
    from reid_core.model.embedder import (
        load_embedder as load_embedder,
    )
    from reid_core.model.encoder import (
        Encoder as Encoder,
    )
    from reid_core.model.encoder import (
        NoEncoder as NoEncoder,
    )
    from reid_core.model.encoder import (
        TimmEncoder as TimmEncoder,
    )
    from reid_core.model.losses import (
        batch_hard_triplet as batch_hard_triplet,
    )
    from reid_core.model.losses import (
        identity_cross_entropy as identity_cross_entropy,
    )
    from reid_core.model.precision import (
        full_precision as full_precision,
    )
    from reid_core.model.precision import (
        inner_products as inner_products,
    )
    from reid_core.outputs import FIGURE_SUFFIXES as FIGURE_SUFFIXES
    from reid_core.outputs import PICTURE_SUFFIXES as PICTURE_SUFFIXES
    from reid_core.outputs import checked_folder as checked_folder
    from reid_core.outputs import checked_output as checked_output
    from reid_core.runs.finding import (
        find_protocol as find_protocol,
    )
    from reid_core.runs.finding import (
        open_context as open_context,
    )
    from reid_core.runs.finding import (
        open_dataset as open_dataset,
    )
    from reid_core.runs.finding import (
        open_source as open_source,
    )
    from reid_core.runs.running import build_run as build_run
    from reid_core.runs.running import restore as restore
    from reid_core.runs.running import run as run
    from reid_retrieval.protocols import EveryGallery as EveryGallery
    from reid_retrieval.protocols import JunkRule as JunkRule
    from reid_retrieval.protocols import Protocol as Protocol
    from reid_retrieval.protocols import SingleShot as SingleShot
    from reid_retrieval.protocols import Subset as Subset
