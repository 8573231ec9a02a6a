"""The plugin: a shape stream beside the appearance stream, and what they teach each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

from reid_core import (
    SHARED_FIELDS,
    Branch,
    ConfigError,
    DataError,
    Embedding,
    Event,
    Group,
    LabelContext,
    Labeler,
    LossTerm,
    Need,
    Plugin,
    RunBegan,
    RunConfig,
    RunContext,
    RunEnded,
    Schedule,
    StepView,
    Supervision,
    Tap,
    hookimpl,
)
from reid_core.contract.model import CLEAN_IMAGE
from reid_core.data.decoding import read_field
from reid_fsam.extractor import ShapeExtractor
from reid_fsam.labelling import label_poses, poses_key
from reid_fsam.masks import PICTURES, mask_channels
from reid_fsam.mutual import MutualLearning
from reid_fsam.parsing import MaskingParser
from reid_fsam.reporting import draw_masks, draw_poses
from reid_fsam.settings import BLOCKS, FsamSettings
from reid_parsing import choose_labelled, load_parser, load_schp, parser_stage, trained_parser

PAPERS = "resnet50.tv_in1k"
"""The paper's shape extractor."""

LEAST_ROWS = 17
"""Rows of a mask from which on a ResNet's last block has two when its stride is removed."""


class Fsam(Plugin):
    """Fine-grained shape-appearance mutual learning (Hong et al., CVPR 2021).

    A parsing network turns the image into a mask, a shape extractor embeds the mask; that embedding
    has an identity criterion like any other. The encoder of the run is the appearance stream and
    knows nothing of it: only the dense similarities of its blocks and its predictions are compared.
    """

    Settings = FsamSettings
    settings: FsamSettings

    _blocks: tuple[str, ...] = ()
    _labels_poses = False

    @property
    def _by_pose(self) -> bool:
        return self.settings.branches == "pose" and self.settings.stream != "image"

    @property
    def defaults(self) -> Mapping[str, str]:  # type: ignore[override]
        """A file of poses rules even where the data set has pose labels."""
        given = self.settings.poses is not None and self._by_pose
        return {"labels.pose": self.name} if given else {}

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """Identities for both streams; pose labels where the last block is chosen by them."""
        identities = Need("identities", "shape learns from identity labels alone")
        if not self._by_pose:
            return (identities,)
        remedy = (
            f"'{self.name}' makes pose labels from keypoints: give them with --field "
            f"keypoints=DIR or -s {self.name}.poses=FILE.json (AlphaPose or COCO), or do without "
            f"with -s {self.name}.branches=single"
        )
        return (identities, Need("pose", remedy))

    def check(self, config: RunConfig) -> None:
        """Refuse settings that contradict each other."""
        settings, name = self.settings, self.name
        learns = settings.mutual != "none" and settings.kl_weight > 0
        if learns and not config.identity.ce_weight:
            raise ConfigError(
                f"{name}.kl_weight compares predictions of identities, but identity.ce_weight = 0 "
                f"leaves nothing classified; set -s {name}.kl_weight=0"
            )
        if settings.parser_label_set is not None and settings.parser_weights is None:
            raise ConfigError(
                f"{name}.parser_label_set = '{settings.parser_label_set}' says what released "
                f"weights tell apart; name their file with -s {name}.parser_weights=FILE"
            )
        if settings.parser_label_set is not None and settings.parser != "schp":
            raise ConfigError(
                f"{name}.parser_label_set = '{settings.parser_label_set}' belongs to released SCHP "
                f"weights; set -s {name}.parser=schp"
            )

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> Sequence[Labeler]:
        """Offer pose labels where there are keypoints to make them from."""
        wanted = self._by_pose or ctx.config.labels.get("pose") == self.name
        if not wanted or (self.settings.poses is None and "keypoints" not in ctx.fields):
            return []
        chosen = ctx.config.labels.get("pose")
        self._labels_poses = chosen == self.name or (chosen is None and "pose" not in ctx.fields)
        key = poses_key(ctx, self.settings)
        make = partial(label_poses, plugin=self.name, settings=self.settings, key=key)
        reads = ("keypoints",) if self.settings.poses is None else ()
        return [Labeler(SHARED_FIELDS["pose"], make, key=key, reads=reads, example=_some_pose)]

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the shape stream: parser, its frozen coarse copy, and the shape extractor."""
        self._blocks = self.settings.blocks or appearance_blocks(taps)
        settings, config = self.settings, ctx.config
        image = "image" if settings.erased == "shared" else CLEAN_IMAGE
        branches, seen = [], (image,)
        if settings.stream != "image":
            branches, seen = self._parsers(ctx, image), (self.own("mask"),)
        embedding = Embedding(
            self.own("shape"),
            reads=self.own("pooled"),
            neck=config.model.neck,
            dim=config.model.dim,
            at_test=False,
            supervision=Supervision(
                cross_entropy="neck" if config.identity.ce_weight else None,
                triplet="raw" if config.identity.triplet_weight else None,
            ),
        )
        writes = tuple(self.own(f"block{number}") for number in range(1, BLOCKS + 1))
        extractor = Branch(
            self.own("extractor"),
            lambda known: self._extractor(ctx, branches),
            (*seen, "pose") if self._by_pose else seen,
            (*writes, self.own("pooled")),
            (embedding,),
            # A pose that no image of the batch shows leaves its block without gradient.
            may_be_idle=("branches.",) if self._by_pose else (),
        )
        return [*branches, extractor]

    def _parsers(self, ctx: RunContext, image: str) -> list[Branch]:
        """Return the live parser and its frozen copy, or the frozen parser alone (S*)."""
        live = self._masking(ctx)
        mask, coarse = (self.own("mask"),), (self.own("coarse_mask"),)
        if self.settings.stream == "coarse":
            return [Branch(self.own("parser"), live, (image,), mask, frozen=True)]
        copy = deepcopy(live)
        return [
            Branch(self.own("parser"), live, (image,), mask, may_be_idle=live.idle),
            Branch(self.own("coarse"), copy, (image,), coarse, frozen=True),
        ]

    def _masking(self, ctx: RunContext) -> MaskingParser:
        """Return the parser as a module that makes masks: from a file, or trained by its stage."""
        settings = self.settings
        if settings.parser_label_set is not None:
            assert settings.parser_weights is not None
            parser = load_schp(settings.parser_weights, settings.parser_label_set)
        elif settings.parser_weights is not None:
            keys = (f"{self.name}.parser", f"{self.name}.parser_label_set")
            parser = load_parser(settings.parser_weights, settings.parser, keys)
        else:
            labelled = self._labelled(ctx)
            if settings.parser == "schp":
                ctx.say(
                    f"{self.name}: no {self.name}.parser_weights are given, so 'schp' is trained "
                    f"from random weights on {labelled}; its released ones are read with "
                    f"{self.name}.parser_label_set"
                )
            stage = parser_stage(
                "parts",
                settings.parser,
                labelled,
                epochs=settings.parser_epochs,
                iterations=settings.parser_iterations,
            )
            parser = trained_parser(ctx.stage(stage))
        size = settings.mask_size or ctx.image_size
        fixed = settings.parser_bn == "eval"
        return MaskingParser.of(parser, settings.mask, size, settings.parser_size, fixed)

    def _labelled(self, ctx: RunContext) -> str:
        """Return the name of the data that the parser's stage learns from."""
        name = self.settings.parser_data
        if name is not None:
            return name
        try:
            return choose_labelled(ctx.providers, ctx.config.data.name, "parts")
        except DataError:
            raise DataError(
                f"plugin '{self.name}' has no labelled images for its parser: install "
                f"reid-synthpeople, name data that carries 'parts' with -s "
                f"{self.name}.parser_data=NAME, or give weights with -s "
                f"{self.name}.parser_weights=FILE"
            ) from None

    def _extractor(self, ctx: RunContext, parsers: Sequence[Branch]) -> ShapeExtractor:
        settings, model = self.settings, ctx.config.model
        size, channels, picture = ctx.image_size, 3, False
        if parsers:
            parser = parsers[0].module
            assert isinstance(parser, MaskingParser)
            size, picture = parser.size, settings.mask in PICTURES
            channels = 3 if picture else mask_channels(settings.mask, parser.network.classes)
        if model.last_stride != 2 and size[0] < LEAST_ROWS:
            raise ConfigError(
                f"{self.name}.mask_size: masks of {size[0]} x {size[1]} pixels leave nothing for "
                f"the last block of the shape extractor; give them at least {LEAST_ROWS} rows"
            )
        if self._by_pose:
            self._check_poses(ctx)
        of_a_plugin = ctx.providers.backbone(model.backbone) is not None
        name = settings.extractor or (PAPERS if of_a_plugin else model.backbone)
        # A file of weights is the run's encoder's and fits no other network.
        foreign = isinstance(model.pretrained, Path) and name != model.backbone
        if foreign:
            ctx.say(
                f"{self.name}: model.pretrained is a file for {model.backbone}; the shape "
                f"extractor, {name}, starts from random weights"
            )
        try:
            return ShapeExtractor(
                name,
                size,
                channels,
                model.last_stride,
                "single" if settings.stream == "image" else settings.branches,
                settings.clusters,
                picture,
                False if foreign else model.pretrained,
                ctx.gather if ctx.world_size > 1 else None,
                importer=model.importer,
            )
        except ConfigError as error:
            raise ConfigError(f"{self.name}.extractor: {error}") from None

    def _check_poses(self, ctx: RunContext) -> None:
        """Refuse pose labels for which there is no block."""
        spec = SHARED_FIELDS["pose"]
        tested = [s for s in (*ctx.dataset.query, *ctx.dataset.gallery) if "pose" in s.fields]
        labels = [int(read_field(s.fields["pose"], spec)) for s in (*ctx.main.samples, *tested)]
        if min(labels) < 0 or max(labels) >= self.settings.clusters:
            raise DataError(
                f"the field 'pose' has values from {min(labels)} to {max(labels)}, but "
                f"{self.name}.clusters = {self.settings.clusters}; set -s "
                f"{self.name}.clusters={max(labels) + 1}, or let the plugin make its own with "
                f"--label pose={self.name}"
            )

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Give the live parser a learning rate of its own where that is asked for."""
        parser, scale = self.own("parser"), self.settings.parser_lr_scale
        if scale == 1 or not params.get(parser):
            return Schedule()
        return Schedule(groups=(Group(parser, (parser,), lr_scale=scale),))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return parsing knowledge preservation, dense similarity and mutual divergence."""
        if step.update != "main":
            return []
        return MutualLearning(self.name, self.settings, self._blocks, ctx).terms(step)

    @hookimpl
    def reid_observe(self, event: Event, ctx: RunContext) -> None:
        """Draw the poses' centres and the masks into the run's folder (figures 3 and 4)."""
        if isinstance(event, RunBegan) and self._labels_poses:
            draw_poses(ctx, self.name, self.settings, event.folder)
        elif isinstance(event, RunEnded) and event.outcome == "finished":
            draw_masks(ctx, self.name, event.folder)


def appearance_blocks(taps: Mapping[str, Tap]) -> tuple[str, ...]:
    """Return the last four stages of an encoder.

    Of one that has fewer, other maps behind them fill up, the last one always among them.

    Args:
        taps: the encoder's, from shallow to deep.
    """
    maps = [name for name, tap in taps.items() if tap.stride and not name.endswith("/stem")]
    stages = [name for name in maps if name.startswith("encoder/stage")][-BLOCKS:]
    if not stages:
        return tuple(maps[-BLOCKS:])
    *others, last = [name for name in maps if name not in stages]
    missing = BLOCKS - len(stages)
    return (*stages, *others[: missing - 1], last) if missing else tuple(stages)


def _some_pose(labels: LabelContext) -> list[int]:
    """Return one pose for all images that are asked for."""
    return [0] * len(labels.rows)
