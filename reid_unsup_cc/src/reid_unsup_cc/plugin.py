"""The plugin: clusters as identities, memories in place of classifiers, people in other clothes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core import (
    Batch,
    Branch,
    ConfigError,
    Embedding,
    EpochEnded,
    Event,
    FieldKind,
    FieldSpec,
    IdentityCriterion,
    LabelContext,
    Labeler,
    LossTerm,
    Need,
    PassView,
    Plugin,
    RunBegan,
    RunConfig,
    RunContext,
    Stage,
    Start,
    StepView,
    Synthetic,
    Tap,
    append_json,
    hookimpl,
)
from reid_core.contract.step import weight_at
from reid_unsup_cc import reporting
from reid_unsup_cc.backgrounds import greyed
from reid_unsup_cc.clustering import find_clusters, whitened
from reid_unsup_cc.divergence import log_distributions, self_identity
from reid_unsup_cc.memory import ClusterMemory
from reid_unsup_cc.outfits import (
    OnlineTemplates,
    cached_outfits,
    joined_outfits,
    outfits_key,
    outfits_of,
    template_source,
    wardrobe_of,
)
from reid_unsup_cc.pise_training import pise_stage
from reid_unsup_cc.quality import ClusterReport, describe, truth_of
from reid_unsup_cc.settings import UnsupCCSettings
from reid_unsup_cc.start import dressed_start
from reid_unsup_cc.templates import GARMENTS


class UnsupCC(Plugin):
    """Sync-Person-Cloud: unsupervised cloth-changing re-identification (Zhang et al., 2022).

    At every epoch's start clusters of the current features become the identities. Every embedding
    of the run, whoever declares it, contrasts its vectors with memories of the clusters. Every
    image is accompanied by images of the same person in other clothes, whose features are pulled
    together.
    """

    Settings = UnsupCCSettings
    settings: UnsupCCSettings
    claims = ("labels:pid", "identity")

    report: ClusterReport | None = None
    """The clusters of the last epoch that has begun, in numbers."""
    _online: OnlineTemplates | None = None

    @property
    def defaults(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Camera labels would be supervision; and clusters of random features have no meaning."""
        start = "contrastive" if self.settings.start == "core" else "random"
        return {"data.sampler": "pk", "model.start": start}

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """Garment maps, and the images made from them, where there is synthesis."""
        synthesis, grey = self.settings.synthesis, self.settings.clustering.background == "grey"
        dressed = synthesis.method != "none"
        without = [f"-s {self.name}.synthesis.method=none"] if dressed else []
        without += [f"-s {self.name}.clustering.background=keep"] if grey else []
        if not without:
            return ()
        remedy = (
            "reid-parsing labels any data set: --plugins parsing,... --label garments=parsing; or "
            f"do without them with {' '.join(without)}"
        )
        made = (Need(self.own("outfits")),) if dressed and not synthesis.online else ()
        return (Need("garments", remedy), *made)

    def check(self, config: RunConfig) -> None:
        """Refuse batches in which there is nothing to contrast."""
        people = config.data.batch_size // config.data.instances
        if config.data.sampler.startswith("pk") and people < 2:
            raise ConfigError(
                f"a batch of {people} pseudo-identity has nothing to be contrasted with: set "
                "data.batch_size to at least twice data.instances"
            )
        if config.data.sampler == "twice":
            raise ConfigError(
                f"data.sampler = 'twice' draws images without regard to clusters, which "
                f"'{self.name}' learns from: set -s data.sampler=pk"
            )
        if self.settings.start == "outfits":
            self._check_start(config)

    def _check_start(self, config: RunConfig) -> None:
        where = f"-s {self.name}.start=outfits"
        if config.model.start != "random":
            raise ConfigError(
                f"{where} starts the encoder, and so does -s model.start={config.model.start}: "
                "leave one of them out"
            )
        synthesis = self.settings.synthesis
        if synthesis.method == "none" or synthesis.online:
            raise ConfigError(
                f"{where} learns from images in other clothes that are made before the training: "
                f"set -s {self.name}.synthesis.online=false and a "
                f"{self.name}.synthesis.method, or -s {self.name}.start=core"
            )

    def starts(self, config: RunConfig) -> Sequence[Start]:
        """Start from pre-training that has seen other clothes, where `start` says so."""
        if self.settings.start != "outfits":
            return ()

        # Garment maps may be another plugin's, so its settings decide on the images as well.
        others = {name: found for name, found in config.plugins.items() if name != self.name}
        made = {
            "synthesis": self.settings.synthesis.model_dump(mode="json"),
            "pise": self.settings.pise.model_dump(mode="json"),
            "others": others,
        }
        return (dressed_start(config, self.name, made),)

    # Identities ----------------------------------------------------------------------------------

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> Sequence[Labeler]:
        """Offer identities at every epoch's start, and once the images in other clothes."""
        identities = Labeler(FieldSpec("pid", FieldKind.SCALAR), self._cluster, when="epoch")
        synthesis = self.settings.synthesis
        if synthesis.method == "none" or synthesis.online:
            return [identities]

        pool = template_source(ctx, synthesis)
        key = outfits_key(ctx, self.name, synthesis, pool, f"{synthesis.method} 2")
        # Several images that share the sample's geometry.
        spec = FieldSpec(self.own("outfits"), FieldKind.IMAGE)
        stage, reads, blank = self._stage(ctx), (GARMENTS,), self._blank
        dressed = Labeler(spec, self._dress, key=key, stage=stage, reads=reads, example=blank)
        return [identities, dressed]

    def _cluster(self, labels: LabelContext) -> NDArray[np.int64]:
        data = labels.run.config.data
        least = data.batch_size // data.instances if data.sampler.startswith("pk") else 2
        section = f"{self.name}.clustering"
        identities, clusters = find_clusters(
            self._clustered(labels), self.settings.clustering, least, labels.run.say, section
        )
        self.report = describe(clusters, labels.epoch, truth_of(labels.source))
        labels.run.say(self.report.line())
        return identities

    def _clustered(self, labels: LabelContext) -> NDArray[np.float32]:
        """Return the features that are clustered."""
        settings = self.settings.clustering
        grey = settings.background == "grey"
        features = labels.features(greyed, ("garments",)) if grey else labels.features()
        if settings.cameras == "keep":
            return features
        cameras = np.array([sample.camid for sample in labels.source.samples], np.int64)
        return whitened(features, cameras)

    @hookimpl
    def reid_identity(
        self, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> IdentityCriterion:
        """Give every embedding memories of its own."""

        def draw() -> np.random.Generator:
            seed, letters = ctx.config.run.seed, list(embedding.name.encode())
            return np.random.default_rng([seed, ctx.progress.epoch, *letters])

        return ClusterMemory(embedding, dims["unit"], self.settings.memory, draw)

    # Model ---------------------------------------------------------------------------------------

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add none; prepare synthesis in every step."""
        synthesis = self.settings.synthesis
        if synthesis.online and synthesis.method != "none":
            # All that every step needs, the dresser's training included.
            stage = self._stage(ctx)
            made = None if stage is None else ctx.stage(stage)
            wardrobe = wardrobe_of(ctx, self.name, self.settings, made)
            self._online = OnlineTemplates(wardrobe, ctx.image_size)
        return []

    # Other clothes -------------------------------------------------------------------------------

    def _stage(self, ctx: RunContext) -> Stage | None:
        """Return the stage that trains the dresser, where it is a network."""
        return pise_stage(self.settings.pise) if self.settings.synthesis.method == "pise" else None

    def _dress(self, labels: LabelContext) -> Iterator[NDArray[np.uint8]]:
        wardrobe = wardrobe_of(labels.run, self.name, self.settings, labels.stage)
        return outfits_of(wardrobe, labels.source, labels.samples)

    def _blank(self, labels: LabelContext) -> list[NDArray[np.uint8]]:
        """Return as many images of nothing as there will be outfits, for every image asked for."""
        shape = (self.settings.synthesis.outfits, 3, *labels.run.image_size)
        return [np.zeros(shape, np.uint8) for _ in labels.rows]

    @hookimpl
    def reid_data_synthesis(
        self,
        ctx: RunContext,
        batch: Batch,
        feats: Mapping[str, PassView] | None,
        update: str,
    ) -> list[Synthetic]:
        """Let the images in other clothes join the batch (equation 5)."""
        synthesis = self.settings.synthesis
        if update != "main" or feats is not None or synthesis.method == "none":
            return []

        name = self.own("outfits")
        if self._online is None:
            images = cached_outfits(batch, name)
        else:
            images = self._online.dress(batch.image, batch.fields["garments"])
        return [joined_outfits(name, images, len(batch))]

    # Losses --------------------------------------------------------------------------------------

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the self-identity constraint, where the step has images in other clothes."""
        if step.update != "main":
            return []
        if self.settings.memory.mode == "instance":
            rows = ctx.gather(step.main.batch.index)
            for criterion in self._criteria(ctx).values():
                criterion.note_rows(rows)
        # A pass of generated images is called like them; so is the main one, whose they may join.
        views = [v for v in step.passes.values() if v.shared and v.name == v.batch.source]
        real = ctx.config.data.batch_size // ctx.world_size
        if sum(len(view.batch) for view in views) == real:
            return []
        term = self.own("self_identity")
        return [LossTerm(term, self._constraint(ctx, step, views), self.settings.constraint_weight)]

    def _constraint(self, ctx: RunContext, step: StepView, views: Sequence[PassView]) -> Tensor:
        """Return L_s (equation 9), summed over supervised embeddings by their weights."""
        assert ctx.model is not None
        settings, values = self.settings, []
        for name in sorted(ctx.model.criteria):
            seen = [view for view in views if name in view.embedded]
            tau, space = settings.memory.temperature, settings.constraint_space
            found = [log_distributions(view.embedded[name], space, tau) for view in seen]
            groups = torch.cat([view.batch.origin for view in seen])
            everybody = ctx.gather(groups + ctx.rank * len(groups))
            value = self_identity(ctx.gather(torch.cat(found)), everybody)
            weight = ctx.model.embeddings[name].weight
            values.append(weight_at(weight, step.iteration) * value)
        return torch.stack(values).sum()

    def _criteria(self, ctx: RunContext) -> dict[str, ClusterMemory]:
        assert ctx.model is not None
        found: dict[str, Any] = dict(sorted(ctx.model.criteria.items()))
        return {name: c for name, c in found.items() if isinstance(c, ClusterMemory)}

    # Reports -------------------------------------------------------------------------------------

    @hookimpl
    def reid_observe(self, event: Event, ctx: RunContext) -> None:
        """Leave ``<plugin>/outfits.png`` and, for every epoch, a line in ``clusters.jsonl``."""
        if ctx.folder is None:
            return

        folder = ctx.folder / self.name
        if isinstance(event, RunBegan):
            ctx.say(reporting.supervision(self.name, self.settings, ctx.config))
            if self._online is not None:
                wardrobe = self._online.wardrobe
                reporting.draw_dressed(ctx.main, wardrobe, folder / "outfits.png")
            elif self.settings.synthesis.method != "none":
                reporting.draw_stored(ctx.main, self.own("outfits"), folder / "outfits.png")
        elif isinstance(event, EpochEnded) and self.report is not None:
            agreed = reporting.agreements(self._criteria(ctx))
            where = {"epoch": event.epoch, "iteration": event.iteration}
            line = {**where, **asdict(self.report), "hardest_by_cosine": agreed}
            append_json(folder / "clusters.jsonl", line)
