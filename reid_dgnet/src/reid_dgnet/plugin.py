"""The plugin: branches, updates, generated images and the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reid_core import (
    ENCODER_MAP,
    Batch,
    Branch,
    ConfigError,
    DataProvider,
    Embedding,
    EpochEnded,
    Event,
    GlobalPool,
    Group,
    LossTerm,
    Need,
    Optimiser,
    Pass,
    PassView,
    Plugin,
    RunConfig,
    RunContext,
    Schedule,
    SourceRequest,
    StepView,
    Supervision,
    Synthetic,
    Tap,
    Update,
    hookimpl,
)
from reid_dgnet.composing import Generator
from reid_dgnet.generating import Composer
from reid_dgnet.networks.appearance import EmbeddingLayer
from reid_dgnet.networks.decoder import STRIPES, Decoder, ParameterMlps
from reid_dgnet.networks.discriminator import Discriminator
from reid_dgnet.networks.structure import StructureEncoder
from reid_dgnet.offline import PROVIDER, check_generated, load_generated
from reid_dgnet.pictures import draw_swaps
from reid_dgnet.settings import DgnetSettings
from reid_dgnet.teacher import trained_teacher
from reid_dgnet.terms import Scene, discriminator_terms, embedding_terms, generator_terms

SMALLEST = 40
"""Shorter side of the smallest image, in pixels: the pyramid's dilation of 9 is padded by
reflection, for which the map of a quarter of the image's size needs 10."""

SMALLEST_WITHOUT_PYRAMID = 20
"""The same where only the discriminator's coarsest map limits it."""


class Dgnet(Plugin):
    """DG-Net (Zheng et al., CVPR 2019): generate people by swapping codes, and learn from them.

    The run's encoder is the appearance encoder. Everything else is for training alone, but for the
    layers of the two embeddings.
    """

    Settings = DgnetSettings
    settings: DgnetSettings
    claims = ("embedding",)

    @property
    def sources(self) -> Sequence[SourceRequest]:  # type: ignore[override]
        """Images that were generated before, where the encoder learns from such."""
        if self.settings.offline is None:
            return ()
        name, size = self.own("offline"), self.settings.anchors
        return (SourceRequest(name, provider=PROVIDER, batch_size=size),)

    @hookimpl
    def reid_datasets(self) -> list[DataProvider]:
        """Offer the generated set that the settings name."""
        folder = self.settings.offline
        if folder is None:
            return []
        summary = "generated images of dgnet.offline"
        return [DataProvider(PROVIDER, lambda _: load_generated(folder), "source", (), summary)]

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """Identities; and the same ones all the time where a teacher knows them."""
        fixed = Need("fixed_identities", "-s dgnet.teacher=none trains without a teacher")
        return (Need("identities"), *([fixed] if self.settings.asks_teacher else []))

    def check(self, config: RunConfig) -> None:
        """Refuse images that the networks cannot work on."""
        height, width = config.data.size
        smallest = SMALLEST if self.settings.aspp else SMALLEST_WITHOUT_PYRAMID
        if min(height, width) < smallest:
            remedy = " or set -s dgnet.aspp=false" if self.settings.aspp else ""
            raise ConfigError(
                f"plugin '{self.name}': images of {height} x {width} are too small for its "
                f"padding by reflection, which needs {smallest} pixels on the shorter side; set "
                f"data.height and data.width{remedy}"
            )
        if height % 4 or width % 4:
            raise ConfigError(
                f"plugin '{self.name}': it halves images twice and doubles them again, so "
                f"data.height = {height} and data.width = {width} must be multiples of 4"
            )
        self._refuse_lonely_batches(config, 1)

    def _refuse_lonely_batches(self, config: RunConfig, ranks: int) -> None:
        """Refuse batches of a single person, who has no partner of another identity."""
        data = config.data
        of_each = {"pk": data.instances, "pk_camera": data.instances, "random": 1}
        if data.batch_size // ranks < 2 * of_each.get(data.sampler, 2):
            shared = f" over {ranks} processes" if ranks > 1 else ""
            raise ConfigError(
                f"plugin '{self.name}': data.batch_size = {data.batch_size}{shared} with the "
                f"sampler '{data.sampler}' leaves nobody to swap codes with: a batch must hold two "
                "people or more"
            )

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the two embeddings, the generator's networks, the discriminator and the teacher."""
        self._refuse_lonely_batches(ctx.config, ctx.world_size)
        settings, channels = self.settings, taps[ENCODER_MAP].channels
        width, blocks = settings.width, settings.blocks
        if STRIPES * channels % blocks:
            raise ConfigError(
                f"dgnet.blocks = {blocks}: the appearance code, {STRIPES} x {channels}, cannot be "
                "cut into as many parts; set it to a divisor, such as 4"
            )
        if settings.offline is not None:
            check_generated(settings.offline, ctx.main.samples)
            branches = []
        else:
            mlps = ParameterMlps(channels, width, blocks, settings.code_layout)
            decoder = Decoder(width, blocks, settings.non_local)
            branches = [
                Branch(self.own("structure"), StructureEncoder(width, blocks, settings.aspp), ()),
                Branch(self.own("decoder"), decoder, ()),
                Branch(self.own("parameters"), mlps, ()),
                Branch(self.own("discriminator"), Discriminator(width, blocks), ()),
            ]
        if ctx.owns(self.name, "embedding"):
            pool, pooled = GlobalPool(settings.head_pool), (self.own("pooled"),)
            both = self._embeddings(channels)
            branches.append(Branch(self.own("pool"), pool, (ENCODER_MAP,), pooled, both))
            if settings.asks_teacher:
                teacher = trained_teacher(ctx, settings)
                branches.append(Branch(self.own("teacher"), teacher, (), frozen=True))
        return branches

    def _embeddings(self, channels: int) -> tuple[Embedding, Embedding]:
        """Return f_prim and f_fine; similarities are compared as prim + beta fine."""
        settings = self.settings

        def declare(name: str, dropout: float, weight: float, at_test: float) -> Embedding:
            return Embedding(
                self.own(name),
                reads=self.own("pooled"),
                neck=EmbeddingLayer(channels, settings.dim),
                dim=settings.dim,
                at_test=at_test > 0,
                test_weight=at_test or 1.0,
                weight=weight,
                supervision=Supervision(triplet=None, dropout=dropout, classifier_bias=True),
            )

        # Anchors and positives of both directions: four batches, of which this is the mean.
        primary = declare("prim", 0.5, 4 * settings.identity, 1.0)
        # Both sides of a product get the root of beta. Its terms are this plugin's own.
        return primary, declare("fine", 0.75, 0.0, settings.beta**0.5)

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Step the discriminator before ``main``; give both sides Adam, and codes clean images."""
        settings, name = self.settings, self.own
        if settings.offline is not None:
            seen = Pass(name("offline"), name("offline"), "clean", branches=(name("pool"),))
            return Schedule((), (), (seen,) if ctx.owns(self.name, "embedding") else ())

        def adam(lr: float) -> Optimiser:
            return Optimiser("adam", lr, weight_decay=5e-4, betas=(0.0, 0.999))

        networks = (name("structure"), name("decoder"), name("parameters"))
        generator = Group(name("generator"), networks, adam(settings.generator_lr))
        discriminator = Group(
            name("discriminator"), (name("discriminator"),), adam(settings.discriminator_lr)
        )
        judge = Update(
            name("discriminator"),
            groups=(discriminator.name,),
            passes=(Pass(name("seen"), image="clean", branches=()),),
            after=(),
            before=("main",),
        )
        clean = Pass(name("clean"), image="clean", bn=settings.clean_statistics, branches=())
        passes = (clean,) if ctx.config.augment.erasing else ()
        return Schedule((generator, discriminator), (judge,), passes)

    @hookimpl
    def reid_data_synthesis(
        self, ctx: RunContext, batch: Batch, feats: Mapping[str, PassView] | None, update: str
    ) -> list[Synthetic]:
        """Compose every anchor's appearance with its partner's structure.

        The images go twice through the encoder: as they are through a frozen copy of it, which
        trains the generator, and detached through the encoder itself, which trains that.
        """
        if update != "main" or feats is None or self.settings.offline is not None:
            return []
        scene = self._scene(ctx, batch, feats)
        images = scene.composed(Generator.of(ctx), self.settings.appearance_grad == "all")
        donors = scene.anchors[scene.partners], scene.anchors
        # The embedding's weight stands for four means, equation 6 for two.
        weight = self.settings.identity_generated / (2 * self.settings.identity)
        imitated = Synthetic(
            self.own("imitated"),
            images,
            *donors,
            "frozen_copy",
            identity_weight=weight,
            # Another stream may tell people by their shape, which here is somebody else's.
            identity_of=(f"{ctx.slots['embedding']}/*",),
        )
        made = [imitated]
        if self.settings.feed and ctx.progress.iteration > self.settings.warmup_begin:
            made.append(Synthetic(self.own("composed"), images, *donors, "detached"))
        return made

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the discriminator's terms in its update, all others in ``main``."""
        if step.update not in ("main", self.own("discriminator")):
            return []
        first = next(iter(step.passes.values()))
        scene = self._scene(ctx, first.batch, step.passes)
        if self.settings.offline is not None:
            owns = ctx.owns(self.name, "embedding")
            return embedding_terms(self, ctx, step, scene) if owns else []
        generator = Generator.of(ctx)
        discriminator = ctx.module(self.own("discriminator"))
        if step.update != "main":
            return discriminator_terms(self, scene, generator, discriminator)
        terms = generator_terms(self, ctx, step, scene, generator, discriminator)
        if ctx.owns(self.name, "embedding"):
            terms += embedding_terms(self, ctx, step, scene)
        return terms

    @hookimpl
    def reid_observe(self, event: Event, ctx: RunContext) -> None:
        """Leave a picture of swapped codes in the run's folder."""
        settings = self.settings
        if not isinstance(event, EpochEnded) or ctx.folder is None:
            return
        last = event.epoch + 1 == ctx.config.schedule.epochs
        due = settings.picture_every and (event.epoch + 1) % settings.picture_every == 0
        if settings.picture and settings.offline is None and (last or due):
            path = ctx.folder / "dgnet" / f"swaps_{event.epoch + 1}.png"
            draw_swaps(Composer.of(ctx), settings.picture, path)
            ctx.say(f"swapped codes: {path}")

    def _scene(self, ctx: RunContext, batch: Batch, views: Mapping[str, PassView]) -> Scene:
        """Return who is composed with whom, with the appearance codes of their clean images."""
        clean = next(
            views[name] for name in (self.own("clean"), self.own("seen"), "main") if name in views
        )
        # Generated rows that another plugin appended to the batch take no part.
        real = min(len(batch), ctx.config.data.batch_size // ctx.world_size)
        count = max(2, self.settings.anchors // ctx.world_size)
        return Scene.of(batch, real, count, clean.output(ENCODER_MAP))
