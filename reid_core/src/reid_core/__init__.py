"""reid-core: person re-identification whose papers are plugins that compose.

Everything public is here; modules are imported on first use, so that ``import reid_core`` stays
light enough for discovery.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "reid_core.config": ("RunConfig",),
    "reid_core.data.batches": ("Batch",),
    "reid_core.data.fields": ("SHARED_FIELDS", "FieldKind", "FieldSpec"),
    "reid_core.data.labelers": ("LabelContext", "Labeler"),
    "reid_core.data.samples": ("DataProvider", "DataRequest", "DataSet", "Sample", "Source"),
    "reid_core.engine.context": ("RunContext",),
    "reid_core.engine.declarations": (
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
    "reid_core.engine.events": (
        "EpochEnded",
        "Evaluated",
        "Event",
        "RunBegan",
        "RunEnded",
        "StepEnded",
    ),
    "reid_core.engine.views": ("Embedded", "PassView", "StepView"),
    "reid_core.errors": (
        "CheckpointError",
        "ConfigError",
        "ConflictError",
        "DataError",
        "DeviceError",
        "PluginError",
        "ReidError",
    ),
    "reid_core.evaluation.protocols": ("Protocol",),
    "reid_core.hookspecs": ("hookimpl",),
    "reid_core.model.blocks": ("GlobalPool",),
    "reid_core.model.criteria": ("CrossEntropyTriplet", "IdentityCriterion", "IdentityOutput"),
    "reid_core.model.declarations": (
        "Branch",
        "Embedding",
        "EncoderProvider",
        "Supervision",
        "Tap",
    ),
    "reid_core.model.embedder": ("Embedder", "load_embedder"),
    "reid_core.model.encoder": ("Encoder", "TimmEncoder"),
    "reid_core.model.losses": ("batch_hard_triplet", "identity_cross_entropy"),
    "reid_core.plugins.plugin": ("Need", "Plugin", "Settings"),
    "reid_core.running": ("run",),
}

_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOME)
__version__ = metadata.version("reid-core")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reid_core' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from reid_core.config import RunConfig as RunConfig
    from reid_core.data.batches import Batch as Batch
    from reid_core.data.fields import (
        SHARED_FIELDS as SHARED_FIELDS,
        FieldKind as FieldKind,
        FieldSpec as FieldSpec,
    )
    from reid_core.data.labelers import (
        LabelContext as LabelContext,
        Labeler as Labeler,
    )
    from reid_core.data.samples import (
        DataProvider as DataProvider,
        DataRequest as DataRequest,
        DataSet as DataSet,
        Sample as Sample,
        Source as Source,
    )
    from reid_core.engine.context import RunContext as RunContext
    from reid_core.engine.declarations import (
        Group as Group,
        LinearRamp as LinearRamp,
        LossTerm as LossTerm,
        Optimiser as Optimiser,
        Pass as Pass,
        Schedule as Schedule,
        SourceRequest as SourceRequest,
        Stage as Stage,
        Start as Start,
        Synthetic as Synthetic,
        Update as Update,
    )
    from reid_core.engine.events import (
        EpochEnded as EpochEnded,
        Evaluated as Evaluated,
        Event as Event,
        RunBegan as RunBegan,
        RunEnded as RunEnded,
        StepEnded as StepEnded,
    )
    from reid_core.engine.views import (
        Embedded as Embedded,
        PassView as PassView,
        StepView as StepView,
    )
    from reid_core.errors import (
        CheckpointError as CheckpointError,
        ConfigError as ConfigError,
        ConflictError as ConflictError,
        DataError as DataError,
        DeviceError as DeviceError,
        PluginError as PluginError,
        ReidError as ReidError,
    )
    from reid_core.evaluation.protocols import Protocol as Protocol
    from reid_core.hookspecs import hookimpl as hookimpl
    from reid_core.model.blocks import GlobalPool as GlobalPool
    from reid_core.model.criteria import (
        CrossEntropyTriplet as CrossEntropyTriplet,
        IdentityCriterion as IdentityCriterion,
        IdentityOutput as IdentityOutput,
    )
    from reid_core.model.declarations import (
        Branch as Branch,
        Embedding as Embedding,
        EncoderProvider as EncoderProvider,
        Supervision as Supervision,
        Tap as Tap,
    )
    from reid_core.model.embedder import (
        Embedder as Embedder,
        load_embedder as load_embedder,
    )
    from reid_core.model.encoder import (
        Encoder as Encoder,
        TimmEncoder as TimmEncoder,
    )
    from reid_core.model.losses import (
        batch_hard_triplet as batch_hard_triplet,
        identity_cross_entropy as identity_cross_entropy,
    )
    from reid_core.plugins.plugin import (
        Need as Need,
        Plugin as Plugin,
        Settings as Settings,
    )
    from reid_core.running import run as run
