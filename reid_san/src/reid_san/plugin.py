"""The plugin: the decoder, its losses, the source of pairs, and the pseudo textures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core import (
    ENCODER_MAP,
    Branch,
    ConfigError,
    ConflictError,
    DataProvider,
    DataRequest,
    Embedding,
    Evaluated,
    Event,
    GlobalPool,
    Group,
    LabelContext,
    Labeler,
    LossTerm,
    Need,
    Optimiser,
    Pass,
    PassView,
    Plugin,
    RunConfig,
    RunContext,
    Schedule,
    Source,
    SourceRequest,
    Stage,
    Start,
    StepView,
    Supervision,
    Tap,
    Update,
    hookimpl,
)
from reid_core.machine.randomness import scope_seed
from reid_core.runs.assembly.sources import load_requested, source_name
from reid_san.guides import FRONTAL, GUIDES, Guide, check_size
from reid_san.labelling import given_fields, given_key, pseudo_fields
from reid_san.losses import fixed_triples, random_triples, triplet_reid
from reid_san.names import DECODER, MAPS, PLUGIN, REGRESSED
from reid_san.pairs import LAYOUT, load_pairs
from reid_san.pretraining import decoder_branch, pretraining_stage, reconstructed, size_of
from reid_san.reporting import report
from reid_san.settings import SanSettings

PAIRS = f"{PLUGIN}/pairs"
"""Name of the source of pairs."""

OWN_PAIRS = "san-pairs"
"""Who offers a user's own."""

GROUPS = ("encoder", DECODER)
"""What the decoder's losses train."""


class San(Plugin):
    """Regress the texture of a person's whole surface from the encoder's last map.

    A decoder that only training knows learns from pairs of images and textures, and from pseudo
    textures of people, which the same network made before (SAN-PG).
    """

    Settings = SanSettings
    settings: SanSettings

    pairs: Source | None = None
    """What SAN-PG learns from; None where it makes nothing."""
    maker: Stage | None = None
    """The SAN-PG that makes what people's images are regressed to; None where that is brought."""
    _start: Stage | None = None

    @property
    def guide(self) -> Guide:
        """What is regressed."""
        return GUIDES[self.settings.guide]

    @property
    def claims(self) -> Sequence[str]:  # type: ignore[override]
        """The embedding, where it is that of the public code."""
        return ("embedding",) if self.settings.embed == "fc512" else ()

    @property
    def defaults(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Pseudo textures rule even where the truth exists; the truth then measures them."""
        return {f"labels.{self.guide.field}": self.name} if self.guide.spec else {}

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """What is regressed, and identities for the Triplet ReID constraints."""
        needs = []
        if self.guide.spec:
            needs.append(Need(self.guide.field))
        if self.settings.tr:
            needs.append(Need("identities", "set -s san.tr=0"))
        return needs

    @property
    def sources(self) -> Sequence[SourceRequest]:  # type: ignore[override]
        """The pairs, where batches of them alternate with those of people."""
        return (self._request,) if self._alternates else ()

    @property
    def _request(self) -> SourceRequest:
        fields = (self.guide.field,)
        batch = self.settings.pairs_batch
        return SourceRequest(PAIRS, fields=fields, batch_size=batch, augment=False)

    @property
    def _alternates(self) -> bool:
        return bool(self.guide.spec and self.settings.synthetic_every)

    def check(self, config: RunConfig) -> None:
        """Refuse batches in which no triplet can be found, and settings without effect."""
        settings, data = self.settings, config.data
        if self.name != PLUGIN:
            raise ConfigError(f"SAN's plugin must be called '{PLUGIN}', not '{self.name}'")
        if settings.frontal_root is not None and not self.guide.brought:
            raise ConfigError(
                f"san.frontal_root is for the guide 'pngan', and san.guide = '{settings.guide}'"
            )
        if settings.frontal_root is None and self.guide.brought:
            raise ConfigError(
                f"san.guide = '{settings.guide}' regresses frontal images that you bring: name "
                "their folder with -s san.frontal_root=DIR, or let SAN-PG make them with -s "
                "san.guide=pose"
            )
        brought = config.sources.get(PAIRS, OWN_PAIRS) == OWN_PAIRS
        if self.guide == GUIDES["pose"] and brought and settings.pairs_root is None:
            raise ConfigError(
                "san.guide = 'pose' learns from pairs with the person in one pose from the front, "
                "which rendered and toy pairs do not have: name their folder with -s "
                "san.pairs_root=DIR (images, textures and frontal in it), or another source with "
                f"--source {PAIRS}=NAME"
            )
        if not settings.tr:
            return
        leave = "or leave the Triplet ReID constraints out with -s san.tr=0"
        if data.sampler == "random":
            raise ConfigError(
                "data.sampler = 'random' gives batches in which a person may have no second image "
                f"to compare with: set -s data.sampler=pk, {leave}"
            )
        people = data.batch_size // data.instances
        if data.sampler.startswith("pk") and (data.instances < 2 or people < 2):
            raise ConfigError(
                f"a batch of {people} people with {data.instances} images each is too small for "
                "triplets, which need two of both: set data.batch_size and data.instances, "
                f"{leave}"
            )
        if data.batch_size < 4:
            raise ConfigError(
                f"a batch of {data.batch_size} images is too small for triplets: set "
                f"data.batch_size to 4 or more, {leave}"
            )
        if settings.tr_sampling == "fixed" and (data.sampler, data.instances) != ("pk", 4):
            raise ConfigError(
                "san.tr_sampling = 'fixed' counts on four images of each person side by side: set "
                "-s data.sampler=pk -s data.instances=4, or -s san.tr_sampling=random"
            )

    # Data ----------------------------------------------------------------------------------------

    @hookimpl
    def reid_datasets(self) -> Sequence[DataProvider]:
        """Offer a user's own pairs of images and textures."""
        return [
            DataProvider(
                OWN_PAIRS,
                self._load_pairs,
                kind="source",
                fields=("texture", FRONTAL.name),
                summary="your own images of people with their textures, without identities",
                layout=LAYOUT,
            )
        ]

    def _load_pairs(self, request: DataRequest) -> Source:
        root = self.settings.pairs_root or request.root
        return load_pairs(request, root, self.settings.texture_size)

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> Sequence[Labeler]:
        """Offer what SAN-PG regresses, or the user's own frontal images."""
        settings, guide = self.settings, self.guide
        # Recipes and users may name the pairs whether or not this guide makes use of them.
        ctx.requested.add(PAIRS)
        if guide.spec is None:
            if settings.start == "pg":
                ctx.say(
                    f"{self.name}: SAN-PG regresses textures, and san.guide = '{settings.guide}' "
                    "has none: the encoder starts as model.pretrained says"
                )
            return []
        made = not guide.brought and guide.field not in ctx.config.fields
        if made or settings.start == "pg":
            self._prepare_stage(ctx)
        if guide.brought:
            assert settings.frontal_root is not None
            read = partial(given_fields, root=settings.frontal_root, spec=guide.spec)
            key = f"given|{given_key(settings.frontal_root)}"
            return [Labeler(guide.spec, read, key=key, example=read)]
        if not made:
            return []
        assert self.pairs is not None
        spec, (height, width) = self.pairs.fields[guide.field], ctx.image_size
        key, make = f"san 1|{settings.guide}|{height}x{width}", partial(pseudo_fields, spec=spec)
        return [Labeler(spec, make, key=key, stage=self.maker, example=_blank)]

    def _prepare_stage(self, ctx: RunContext) -> None:
        """Find the pairs, and declare the stages that train SAN-PG on them."""
        owner = ctx.slots["backbone"]
        if self.settings.start == "pg" and owner != "core":
            raise ConflictError(
                f"plugin '{self.name}' starts the encoder from SAN-PG's, but plugin '{owner}' "
                "brings an encoder of its own (slot 'backbone'); set -s san.start=none"
            )
        name, settings = source_name(ctx, self.name, self._request), self.settings
        self.pairs = load_requested(ctx, self.name, self._request)
        stage = partial(pretraining_stage, settings, ctx.config, name, len(self.pairs))
        self._start, self.maker = stage(), stage(settings.pg_backbone)

    def starts(self, config: RunConfig) -> Sequence[Start]:
        """Start encoder and decoder from SAN-PG (section 3.2, step 2)."""
        if self.settings.start == "none" or self._start is None:
            return ()
        entries = ("encoder.*", f"branches.{DECODER}.*")
        return (Start(self._start, entries, remedy="set -s san.start=none"),)

    # Model ---------------------------------------------------------------------------------------

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the decoder and, where it is wanted, the public code's embedding."""
        self._check_sizes(ctx, taps)
        branches = [decoder_branch(self.settings, ctx, taps, self.pairs or ctx.main)]
        if ctx.owns(self.name, "embedding"):
            branches.append(self._embedding(ctx))
        return branches

    def _check_sizes(self, ctx: RunContext, taps: Mapping[str, Tap]) -> None:
        guide = self.guide
        if guide.spec is None:
            return
        exact = self.settings.texture_size if guide.stretched else None
        regressed = size_of(guide, ctx, taps[ENCODER_MAP], self.pairs or ctx.main)
        pairs = ctx.sources.get(PAIRS, self.pairs)
        if pairs is not None:
            check_size(pairs, guide.field, regressed, exact)
        brought = guide.field in ctx.config.fields
        check_size(ctx.main, guide.field, regressed, exact if brought else None)

    def _embedding(self, ctx: RunContext) -> Branch:
        """Return the public code's embedding: FC, BN and ReLU before all identity losses."""
        feature = Embedding(
            self.own("feature"),
            reads=self.own("pooled"),
            neck="fc_bn_relu",
            dim=512,
            test_vector="neck",
            supervision=Supervision(cross_entropy="neck", triplet="neck", classifier_bias=True),
        )
        pool = GlobalPool(ctx.config.model.pooling)
        return Branch(self.own("pool"), pool, (ENCODER_MAP,), (self.own("pooled"),), (feature,))

    # Step ----------------------------------------------------------------------------------------

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Alternate with batches of pairs; with ``two_step`` give the decoder its own update."""
        settings, updates = self.settings, []
        slower = Group(DECODER, (DECODER,), lr_scale=settings.decoder_lr_scale)
        own: Optimiser | None = None
        groups: tuple[str, ...] = ()
        if settings.scheme == "two_step":
            own = Optimiser("adam", settings.texture_lr, betas=(0.5, 0.999), follows_schedule=False)
            groups = (DECODER,)
            updates.append(
                Update(
                    self.own("texture"),
                    groups=groups,
                    shares=("encoder",),
                    passes=(Pass(self.own("again"), branches=(DECODER,)),),
                    optimiser=own,
                    at_start=True,
                )
            )
        if self._alternates:
            every = settings.synthetic_every
            updates.append(
                Update(
                    self.own("reconstruct"),
                    shares=GROUPS,
                    passes=(Pass(self.own("pair"), source=PAIRS, branches=(DECODER,)),),
                    every=(every, every - 1),
                    optimiser=own,
                )
            )
        if settings.scheme == "two_step":
            return Schedule(updates=tuple(updates), main_without=(self.own("*"),))
        return Schedule(groups=(slower,), updates=tuple(updates))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return L_Rec and L_TR on people, and L_Rec alone on pairs."""
        if step.update == self.own("reconstruct"):
            value = reconstructed(self.guide, step.passes[self.own("pair")])
            return [LossTerm(self.own("synthetic"), value, self.settings.synthetic)]
        views = self._views(step)
        if not views:
            return []

        terms = []
        if step.wants(self.own("rec")):
            # Rows that another plugin joins to the batch may wear other clothes than the texture of
            # the image that they were made of; a pass of their own has the texture that it shows.
            real = ctx.config.data.batch_size // ctx.world_size if self.guide.spec else None
            rows = [real, *(None for _ in views[1:])]
            values = [reconstructed(self.guide, v, n) for v, n in zip(views, rows, strict=True)]
            terms.append(LossTerm(self.own("rec"), torch.stack(values).mean(), self.settings.rec))
        if self.settings.tr and step.wants(self.own("tr")):
            value = self._triplet_reid(ctx, step, views[0])
            terms.append(LossTerm(self.own("tr"), value, self.settings.tr))
        return terms

    def _views(self, step: StepView) -> list[PassView]:
        """Return the passes of people whose images are regressed, the batch's own one first."""
        if self.settings.scheme == "two_step":
            again = self.own("again")
            return [step.passes[again]] if again in step.passes else []
        if step.update != "main":
            return []
        carried = (REGRESSED, self.guide.field) if self.guide.spec else (REGRESSED,)
        return list(step.passes_with(*carried))

    def _triplet_reid(self, ctx: RunContext, step: StepView, view: PassView) -> Tensor:
        """Return L_TR (equation 1), summed over the blocks."""
        settings, batch = self.settings, view.batch
        # A generated row may carry a mixture of identities: only real rows are compared.
        rows = torch.arange(len(batch), device=batch.pid.device)
        labels = ctx.gather(torch.where(batch.origin == rows, batch.pid, -1))
        # The draws are the same on all ranks, each of which computes the loss of the whole batch.
        generator = torch.Generator(labels.device)
        generator.manual_seed(scope_seed(ctx.config.run.seed, self.name, step.iteration))
        values = []
        for block in settings.blocks:
            maps = ctx.gather(view.output(MAPS[block - 1]))
            if settings.tr_sampling == "fixed":
                count = ctx.config.data.batch_size
                triples = fixed_triples(count, ctx.config.data.instances, block, labels.device)
            else:
                triples = random_triples(labels, generator)
            values.append(
                triplet_reid(maps, triples, settings.margin, settings.tr_norm, settings.tr_reduce)
            )
        return torch.stack(values).sum()

    @hookimpl
    def reid_observe(self, event: Event, ctx: RunContext) -> None:
        """Draw and measure regressed images at every evaluation (figure 6)."""
        if isinstance(event, Evaluated):
            report(ctx, event, self.guide, self.pairs)


def _blank(labels: LabelContext) -> Any:
    """Return images of nothing, as large as those that SAN-PG will regress."""
    assert labels.stage is not None
    decoder: Any = labels.stage.module(DECODER)
    return [np.zeros((3, *decoder.size), np.uint8) for _ in labels.rows]
