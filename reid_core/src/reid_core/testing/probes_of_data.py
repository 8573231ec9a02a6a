"""Probe plugins that bring data of their own: clustered identities, a second source, stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.labelers import LabelContext, Labeler
from reid_core.contract.model import ENCODER_MAP, Branch, Embedding, Tap
from reid_core.contract.plugin import Need, Plugin, Settings
from reid_core.contract.samples import SourceRequest
from reid_core.contract.stages import Stage
from reid_core.contract.step import LossTerm, Pass, Schedule, Update
from reid_core.testing.probes import Head

if TYPE_CHECKING:
    from reid_core.contract.context import RunContext
    from reid_core.contract.criterion import IdentityCriterion
    from reid_core.contract.views import StepView


class ClusteringSettings(Settings):
    """Settings of `Clustering`."""

    clusters: int = 6
    momentum: float = 0.3


class Clustering(Plugin):
    """Identities from k-means at every epoch's start, and a memory in place of a classifier."""

    Settings = ClusteringSettings
    takes_frames = True
    claims = ("labels:pid", "identity")

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> list[Labeler]:
        """Offer identities."""
        return [Labeler(FieldSpec("pid", FieldKind.SCALAR), self._cluster, when="epoch")]

    def _cluster(self, labels: LabelContext) -> Any:
        import numpy as np
        from scipy.cluster.vq import kmeans2

        _, found = kmeans2(labels.features(), self.settings.clusters, minit="++", seed=0)
        return np.unique(found, return_inverse=True)[1]

    @hookimpl
    def reid_identity(
        self, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> IdentityCriterion:
        """Give every embedding a memory of its own."""
        from reid_core.testing.probe_modules import ClusterMemory

        return ClusterMemory(embedding, dims["unit"], self.settings.momentum)


class Pairs(Plugin):
    """A second source without identities, in an update of its own that shares the encoder."""

    sources = (SourceRequest("pairs/textures", fields=("texture",), batch_size=4),)
    takes_frames = True

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Regress the mean colour of a texture from the encoder's map."""
        from reid_core.testing.probe_modules import PartHead

        return [
            Branch(
                self.own("decoder"),
                PartHead(taps[ENCODER_MAP].channels, 3, dropout=0.0),
                writes=(self.own("colours"),),
            )
        ]

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Alternate with main: one update on pairs after each main update."""
        return Schedule(
            updates=(
                Update(
                    self.own("reconstruct"),
                    groups=(self.own("decoder"),),
                    shares=("encoder",),
                    passes=(Pass(self.own("pair"), source="pairs/textures"),),
                ),
            )
        )

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Compare the regressed colours with the textures' means."""
        if step.update != self.own("reconstruct"):
            return []
        view = step.passes[self.own("pair")]
        wanted = view.batch.fields["texture"].float().mean((2, 3)) / 255
        found = view.output(self.own("colours")).float().mean((2, 3))
        return [LossTerm(self.own("colours"), (found - wanted).abs().mean())]


class StagedSettings(Settings):
    """Settings of `Staged`."""

    teacher: bool = True
    epochs: int = 1


class Staged(Plugin):
    """Two stages: a parser that makes the field ``parts``, and a teacher as a frozen branch."""

    Settings = StagedSettings
    takes_frames = True

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """A teacher has the identities that it was trained on."""
        remedy = "set -s staged.teacher=false"
        return (Need("fixed_identities", remedy),) if self.settings.teacher else ()

    def _stage(self, name: str, identities: bool) -> Stage:
        plugins = {} if identities else {"head": Head}
        length = {"epochs": self.settings.epochs, "iterations_per_epoch": 2}
        settings = {"schedule": length, "augment": {"erasing": 0.0}}
        return Stage(self.own(name), plugins, settings, identities=identities)

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> list[Labeler]:
        """Offer ``parts``, by a parser that a stage trains."""
        parser = self._stage("parser", identities=False)
        return [
            Labeler(
                SHARED_FIELDS["parts"],
                self._parse,
                key="probe-1",
                stage=parser,
                example=self._blank,
            )
        ]

    def _blank(self, labels: LabelContext) -> list[Any]:
        import numpy as np

        return [np.zeros(labels.run.image_size, np.uint8) for _ in labels.rows]

    def _parse(self, labels: LabelContext) -> list[Any]:
        import torch
        import torch.nn.functional as F

        from reid_core.data.augmentation import normalise
        from reid_core.images import read_image, resize_image

        stage, run = labels.stage, labels.run
        assert stage is not None
        found = []
        for sample in labels.samples:
            pixels = read_image(sample.path)
            small = torch.from_numpy(resize_image(pixels, run.image_size)).permute(2, 0, 1)
            with torch.inference_mode():
                maps = stage.model.encoder(normalise(small[None]).to(run.device))
                logits = stage.module("head/head")(maps[ENCODER_MAP])
                whole = F.interpolate(logits, pixels.shape[:2], mode="bilinear")
            found.append(whole.argmax(1)[0].byte().cpu().numpy())
        return found

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the teacher that a stage trains."""
        from reid_core.testing.probe_modules import Teacher

        if not self.settings.teacher:
            return []
        encoder = ctx.stage(self._stage("teacher", identities=True)).model.encoder
        writes = (self.own("taught"),)
        return [Branch(self.own("teacher"), Teacher(encoder), ("image",), writes, frozen=True)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Pull the encoder's map towards the teacher's."""
        if step.update != "main" or not self.settings.teacher:
            return []
        taught = step.main.output(self.own("taught"))
        ours = step.main.output(ENCODER_MAP).mean((2, 3))
        if ours.shape != taught.shape:  # the run has another plugin's encoder, the stage its own
            taught, ours = taught.mean(1), ours.mean(1)
        return [LossTerm(self.own("follow"), (ours - taught).square().mean().float())]
