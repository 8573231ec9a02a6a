"""The run's configuration: one frozen object of closed sections, TOML in and TOML out.

Keys are never added by a plugin to these sections: a plugin's settings are its own section,
``[plugins.<name>]``, validated by its ``Settings``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class RunSection(Section):
    """What is run."""

    plugins: tuple[str, ...] = ()
    recipe: str = "core/quick"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class DataSection(Section):
    """The data set, the network's input size, and how batches are drawn."""

    name: str = "toy:quick"
    root: Path | None = None
    height: Count = 256
    width: Count = 128
    batch_size: Count = 64
    instances: Count = 4
    sampler: Literal["pk", "pk_camera", "random", "pairs", "twice"] = "pk"
    epoch_by: Literal["images", "identities"] = "images"
    threads: Count = 2
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.height, self.width


class AugmentSection(Section):
    """Geometry (joint for image and spatial fields), erasing and photometric changes."""

    flip: Probability = 0.5
    pad: Annotated[int, Field(ge=0)] = 0
    pad_mode: Literal["zero", "edge"] = "zero"
    enlarge: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    enlarge_p: Probability = 0.5
    erasing: Probability = 0.0
    erasing_area: tuple[Fraction, Fraction] = (0.02, 0.4)
    erasing_aspect: tuple[Positive, Positive] = (0.3, 3.33)
    erasing_log_aspect: bool = False
    brightness: Probability = 0.0
    contrast: Probability = 0.0
    saturation: Probability = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    grayscale: Probability = 0.0
    blur: Probability = 0.0


class ModelSection(Section):
    """The encoder and the core's global embedding."""

    backbone: str = "resnet50"
    pretrained: bool | Path = False
    last_stride: Literal[1, 2] = 1
    pooling: Literal["avg", "max"] = "avg"
    neck: Literal["none", "bn", "fc", "fc_bn", "fc_bn_relu"] = "bn"
    dim: Count | None = None
    start: Literal["random", "contrastive"] = "random"
    start_epochs: Count = 10

    @model_validator(mode="after")
    def _dim_needs_fc(self) -> ModelSection:
        if self.dim is not None and not self.neck.startswith("fc"):
            raise ValueError(
                f"dim = {self.dim} needs a neck that changes the length: set model.neck to "
                "'fc', 'fc_bn' or 'fc_bn_relu'"
            )
        return self


class IdentitySection(Section):
    """The core's identity criterion: cross-entropy and batch-hard triplet."""

    ce_weight: NonNegative = 1.0
    triplet_weight: NonNegative = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    margin: NonNegative = 0.3
    soft_margin: bool = False


class OptimSection(Section):
    """The optimiser of every group that does not bring its own."""

    name: Literal["sgd", "adam", "adamw", "amsgrad"] = "adam"
    lr: Positive = 3.5e-4
    weight_decay: NonNegative = 5e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    new_layers_scale: Positive = 1.0
    clip_norm: Positive | None = None


class ScheduleSection(Section):
    """How long, and how the learning rate moves. Warm-up and milestones count epochs."""

    epochs: Count = 60
    iterations_per_epoch: Count | None = None
    warmup_epochs: NonNegative = 10
    warmup_start: Fraction = 0.1
    warmup_shape: Literal["linear", "exponential"] = "linear"
    decay: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[Positive, ...] = (40,)
    gamma: Fraction = 0.1
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    per_iteration: bool = False


class EngineSection(Section):
    """Where and how it runs."""

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool = False
    log_every: Count = 10
    checkpoint_every: Count = 1
    tensorboard: bool = True


class EvaluationSection(Section):
    """What is measured, and when."""

    protocols: tuple[str, ...] = ()
    every: Annotated[int, Field(ge=0)] = 0
    embed: tuple[str, ...] = ()
    select: Literal["last", "validation"] = "last"
    distance: Literal["cosine", "euclidean"] = "cosine"
    flip: bool = False
    batch_size: Count = 128
    untrained: bool = False
    ranked_list: Annotated[int, Field(ge=0)] = 8


class RunConfig(Section):
    """Everything that a run depends on, resolved from defaults, recipe, plugins and flags."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    model: ModelSection = ModelSection()
    identity: IdentitySection = IdentitySection()
    optim: OptimSection = OptimSection()
    schedule: ScheduleSection = ScheduleSection()
    engine: EngineSection = EngineSection()
    evaluation: EvaluationSection = EvaluationSection()
    loss_weights: dict[str, Finite] = Field(default_factory=dict)
    """Replaces the weight of single loss terms, by full name (``core/global/triplet``)."""
    own: dict[str, str] = Field(default_factory=dict)
    """Who fills a slot that several plugins claim: slot to plugin."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Who makes a field, even where the data set has it: field to plugin."""
    fields: dict[str, Path] = Field(default_factory=dict)
    """Folders of side-car files: field to folder."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Who provides a training source beside the main one: source to provider."""
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Each plugin's validated settings."""

    @model_validator(mode="after")
    def _selection_has_identities(self) -> RunConfig:
        if self.evaluation.select == "validation":
            if not self.data.validation:
                raise ValueError(
                    "evaluation.select = 'validation' needs identities to validate on: set "
                    "data.validation to their share, 0.1 say"
                )
            if not self.evaluation.every:
                raise ValueError(
                    "evaluation.select = 'validation' needs evaluations to select from: set "
                    "evaluation.every to a number of epochs"
                )
        return self

    @model_validator(mode="after")
    def _batches_fit(self) -> RunConfig:
        data = self.data
        if data.sampler.startswith("pk") and data.batch_size % data.instances:
            raise ValueError(
                f"data.batch_size = {data.batch_size} is not a multiple of data.instances = "
                f"{data.instances}"
            )
        if data.sampler in ("pairs", "twice") and data.batch_size % 2:
            raise ValueError(
                f"data.batch_size = {data.batch_size} is odd; data.sampler = '{data.sampler}' "
                "needs an even one"
            )
        return self

    def to_toml(self) -> str:
        """Return the configuration as TOML; what is None is left out."""
        return tomli_w.dumps(_without_none(self.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def known_keys(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """Return all dotted keys of a configuration model, for suggestions and documentation."""
    keys = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys.extend(known_keys(kind, f"{prefix}{name}."))
        else:
            keys.append(f"{prefix}{name}")
    return keys
