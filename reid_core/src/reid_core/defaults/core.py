"""The core's own plugin: timm encoders, the global embedding, cross-entropy and triplet.

Its answers to slots count only when nobody claims them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from reid_core.config import RunConfig
from reid_core.contract.context import RunContext
from reid_core.contract.criterion import IdentityCriterion
from reid_core.contract.encoder import Encoder
from reid_core.contract.events import Event, RunBegan
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import ENCODER_MAP, POOLINGS, Branch, Embedding, Supervision, Tap
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import DataProvider
from reid_core.contract.stages import Start
from reid_core.data.folder import load_folder
from reid_core.defaults.contrastive import contrastive_stage
from reid_core.defaults.observers import JsonLines, TensorBoard
from reid_core.model.blocks import GlobalPool
from reid_core.model.criteria import CrossEntropyTriplet
from reid_core.model.encoder import TimmEncoder
from reid_retrieval.protocols import GENERIC_PROTOCOLS, Protocol

_NECK = "heads.core/global.neck.running_*"
"""Statistics of the neck ``bn``: that of a started encoder fits its vectors."""


class Core(Plugin):
    """What the core itself contributes to every run."""

    _observers: tuple[Callable[[Event], None], ...] = ()

    @hookimpl
    def reid_observe(self, event: Event, ctx: RunContext) -> None:
        """Write metrics as JSON lines and for TensorBoard into the run's folder."""
        if isinstance(event, RunBegan):
            self._observers = (JsonLines(event.folder),)
            if event.config.engine.tensorboard:
                self._observers += (TensorBoard(event.folder, ctx.progress.iteration),)
        for observer in self._observers:
            observer(event)

    def starts(self, config: RunConfig) -> Sequence[Start]:
        """Start the encoder from contrastive pre-training where ``model.start`` says so."""
        if config.model.start != "contrastive":
            return ()
        # All other images of a batch are negatives: small batches teach little.
        rows = config.model.start_batch_size or config.data.batch_size
        stage = contrastive_stage(config.model.start_epochs, data={"batch_size": rows})
        # With a fresh neck, features before the first step would not be standardised, and clusters
        # of them not what they will be from the first step on.
        return (Start(stage, remedy="set -s model.start=random", optional=(_NECK,)),)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Build the encoder that ``model.backbone`` names: a plugin's, otherwise timm's."""
        settings = ctx.config.model
        offered = ctx.providers.build_backbone(settings.backbone, ctx)
        if offered is not None:
            return offered
        encoder = TimmEncoder(
            settings.backbone,
            ctx.image_size,
            settings.last_stride,
            settings.pretrained,
            importer=settings.importer,
        )
        if encoder.filled is not None:
            ctx.say(str(encoder.filled))
        if encoder.renormalise.needed:
            ctx.say(f"the weights of '{settings.backbone}' {encoder.renormalise}")
        return encoder

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> Sequence[Branch]:
        """Pool the encoder's map into the embedding ``core/global``."""
        if not ctx.owns(self.name, "embedding"):
            return []
        settings, identity = ctx.config.model, ctx.config.identity
        supervision = Supervision(
            cross_entropy="neck" if identity.ce_weight else None,
            triplet="raw" if identity.triplet_weight else None,
            classifier_bias=identity.classifier_bias,
        )
        embedding = Embedding(
            "core/global",
            reads="core/pooled",
            neck=settings.neck,
            dim=settings.dim,
            supervision=supervision,
        )
        if settings.pooling in POOLINGS:
            pool: nn.Module = GlobalPool(settings.pooling)
        else:
            channels = taps[ENCODER_MAP].channels
            pool = ctx.providers.build_pooling(settings.pooling, channels)
        return [Branch("core/pool", pool, (ENCODER_MAP,), ("core/pooled",), (embedding,))]

    @hookimpl
    def reid_identity(
        self, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> IdentityCriterion:
        """Supervise an embedding by cross-entropy and batch-hard triplet."""
        wants = embedding.supervision or Supervision()
        dim = dims[wants.cross_entropy or "neck"]
        return CrossEntropyTriplet(embedding, dim, ctx.num_identities, ctx.config.identity)

    @hookimpl
    def reid_datasets(self) -> Sequence[DataProvider]:
        """Offer the user's own folder."""
        return [
            DataProvider(
                "folder",
                load_folder,
                summary="your own images: PID_cCAM[_oOUTFIT][_ANYTHING].jpg, or as the variant",
                variants=("names", "market", "msmt17", "prcc", "pid"),
                needs_root=True,
                layout="ROOT/train, ROOT/query and ROOT/gallery; fields, where there are any, as "
                "ROOT/fields/FIELD/SPLIT/NAME.png or .npy; ROOT/folder.toml may hold a pattern",
            ),
        ]

    @hookimpl
    def reid_evaluation_protocols(self) -> Sequence[Protocol]:
        """Offer the generic protocols."""
        return GENERIC_PROTOCOLS
