"""The stage that trains the teacher, and how one is kept for other runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from reid_core import (
    ENCODER_MAP,
    Branch,
    CheckpointError,
    ConfigError,
    Embedder,
    Embedding,
    GlobalPool,
    Need,
    Plugin,
    RunContext,
    Sample,
    Settings,
    Stage,
    Supervision,
    Tap,
    hookimpl,
    load_embedder,
    whole_file,
)
from reid_dgnet.networks.appearance import EmbeddingLayer
from reid_dgnet.networks.teacher import DROPOUT, Teacher
from reid_dgnet.offline import label_order
from reid_dgnet.settings import DgnetSettings

PLUGIN = "dgnet"
"""Name under which the stage runs its plugin."""

TEACHER = f"{PLUGIN}/teacher"
"""Name of the stage and of its embedding."""

CLASSIFIER = "classifier.safetensors"


class TeacherTrainingSettings(Settings):
    """What the stage trains."""

    dim: int = 512


class TeacherTraining(Plugin):
    """Train the baseline by identity alone; the only plugin of its stage."""

    Settings = TeacherTrainingSettings
    claims = ("embedding",)
    needs = (Need("identities"),)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Embed the average of the encoder's map."""
        dim = self.settings.dim
        embedding = Embedding(
            TEACHER,
            reads=self.own("pooled"),
            neck=EmbeddingLayer(taps[ENCODER_MAP].channels, dim),
            dim=dim,
            supervision=Supervision(triplet=None, dropout=DROPOUT, classifier_bias=True),
        )
        writes = (self.own("pooled"),)
        return [
            Branch(self.own("pool"), GlobalPool("avg"), (ENCODER_MAP,), writes, (embedding,)),
        ]


def teacher_stage(ctx: RunContext, settings: DgnetSettings) -> Stage:
    """Return the stage that trains the teacher on the run's own identities.

    Data, augmentation, encoder and optimiser are the run's; random erasing is off, and batches are
    drawn at random, because cross-entropy needs no pairs.
    """
    model = ctx.config.model
    of_a_plugin = ctx.providers.backbone(model.backbone) is not None
    stride = settings.teacher_stride or (model.last_stride if of_a_plugin else 2)
    iterations, lr = settings.teacher_iterations, settings.teacher_lr
    epochs = settings.teacher_epochs
    own: dict[str, Mapping[str, object]] = {
        "data": {"sampler": "random"},
        "augment": {"erasing": 0.0},
        "model": {"last_stride": stride},
        "optim": {} if lr is None else {"lr": lr},
        "schedule": {
            "epochs": epochs,
            "iterations_per_epoch": iterations,
            "warmup_epochs": 0,
            "decay": "step",
            "milestones": [2 * epochs / 3],
            "per_iteration": True,
        },
        "plugins": {PLUGIN: {"dim": settings.dim}},
    }
    return Stage(TEACHER, plugins={PLUGIN: TeacherTraining}, settings=own)


def trained_teacher(ctx: RunContext, settings: DgnetSettings) -> Teacher:
    """Return the run's teacher: from its stage, and then kept in the run's folder, or a kept one.

    Raises:
        CheckpointError, ConfigError: a kept teacher cannot be read, or knows other identities.
    """
    if isinstance(settings.teacher, Path):
        return load_teacher(settings.teacher, ctx, settings)
    result = ctx.stage(teacher_stage(ctx, settings))
    embedder = cast("Embedder", result.embedder())
    criterion = result.model.criteria[TEACHER]
    classifier: nn.Linear = criterion.classifier  # type: ignore[assignment]
    if ctx.folder is not None:
        save_teacher(ctx.folder / "teacher", embedder, classifier, ctx.main.samples)
    return Teacher(embedder, classifier, settings.teacher_mode)


def save_teacher(
    folder: Path, embedder: nn.Module, classifier: nn.Linear, samples: Sequence[Sample]
) -> None:
    """Keep a teacher in a folder: its embedder, its classifier, and whom it knows."""
    embedder.save(folder / "embedder.safetensors")  # type: ignore[operator]
    known = {"identities": str(classifier.out_features), "labels": label_order(samples)}
    state = {name: value.contiguous().cpu() for name, value in classifier.state_dict().items()}
    with whole_file(folder / CLASSIFIER) as part:
        save_file(state, part, metadata=known)


def load_teacher(folder: Path, ctx: RunContext, settings: DgnetSettings) -> Teacher:
    """Read a teacher that an earlier run kept.

    Raises:
        CheckpointError: there is none.
        ConfigError: it knows other identities, or another size of images.
    """
    path = folder / CLASSIFIER
    if not path.is_file():
        raise CheckpointError(
            f"dgnet.teacher = '{folder}': there is no {path}; name the folder 'teacher' of an "
            "earlier run, or 'stage' to train one"
        )
    with safe_open(path, "pt") as file:
        known = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    identities, wanted = int(known["identities"]), ctx.num_identities
    if identities != wanted or known["labels"] != label_order(ctx.main.samples):
        counted = f"{identities}, not {wanted}" if identities != wanted else "in number or order"
        raise ConfigError(
            f"dgnet.teacher = '{folder}': it was trained on other identities ({counted}); its "
            "labels would mean other people. Train one with -s dgnet.teacher=stage"
        )
    embedder = load_embedder(folder, ctx.device)
    if embedder.size != ctx.image_size:
        theirs, ours = (f"{height} x {width}" for height, width in (embedder.size, ctx.image_size))
        raise ConfigError(
            f"dgnet.teacher = '{folder}': it looks at images of {theirs}, the run has {ours}; "
            "train one with -s dgnet.teacher=stage"
        )
    classifier = nn.Linear(state["weight"].shape[1], identities)
    classifier.load_state_dict(state)
    return Teacher(embedder, classifier, settings.teacher_mode)
