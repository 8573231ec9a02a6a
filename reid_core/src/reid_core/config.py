"""The run's configuration: one frozen object of closed sections, TOML in and TOML out.

Keys are never added by a plugin to these sections: a plugin's settings are its own section,
``[plugins.<name>]``, validated by its ``Settings``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import platformdirs
import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

_Model = TypeVar("_Model", bound=BaseModel)

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _flip_word(value: object) -> object:
    return ("sum" if value else "off") if isinstance(value, bool) else value


Flip = Annotated[Literal["off", "sum", "unit-sum"], BeforeValidator(_flip_word)]
"""Whether and how features of mirrored images are added."""


class Section(BaseModel):
    """Base of all sections, a plugin's included: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """Read ``none`` where a value may be missing: over a recipe's, TOML cannot say so."""
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        optional = {key for key in fields if type(None) in get_args(fields[key].annotation)}
        return {
            key: None if value == "none" and key in optional else value
            for key, value in values.items()
        }


class RunSection(Section):
    """What is run."""

    plugins: tuple[str, ...] = ()
    """Names of the plugins, in any order."""
    recipe: str = "core/quick"
    """Where the run's settings come from: ``plugin/name`` or a file."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random."""


class DataSection(Section):
    """The data set, the network's input size, and how batches are drawn."""

    name: str = "synthpeople:quick"
    """``NAME[/VARIANT][:SIZE]``; see `reid data list`."""
    root: Path | None = None
    """Folder of a data set whose files are the user's."""
    pattern: str | None = None
    """Regular expression of names for the data set ``folder``, with a group ``pid`` and perhaps
    ``camera`` and ``outfit``; ``-s folder.pattern=`` is the same. None takes that of the folder's
    ``folder.toml``, or of the variant."""
    also: tuple[str, ...] = ()
    """Further data sets to train on, ``NAME`` or ``NAME=FOLDER``; their tests are left out."""
    mixture: Literal["natural", "balanced"] | tuple[Positive, ...] = "natural"
    """What each of several training sets gives to a batch, in identities (rows, where the sampler
    takes rows): ``natural`` as large as they are, ``balanced`` the same from each, or a weight for
    each, the main one first, then those of ``also``. An epoch has as many batches in any case."""
    height: Count = 256
    """Height of the network's input, in pixels."""
    width: Count = 128
    """Width of the network's input, in pixels."""
    batch_size: Count = 64
    """Rows of a batch, over all ranks."""
    instances: Count = 4
    """Images per identity in a batch, for ``pk`` and ``pk_camera``."""
    sampler: Literal["pk", "pk_camera", "random", "pairs", "twice"] = "pk"
    """How the rows of a batch are chosen."""
    epoch_by: Literal["images", "identities"] = "images"
    """What an epoch goes through once."""
    frames: Count = 4
    """Frames that training draws of a tracklet; at test it is all of them."""
    frame_sampling: Literal["chunks", "consecutive"] = "chunks"
    """How they are drawn: one of each of as many parts of the tracklet, or a run of them."""
    frame_stride: Count = 1
    """Frames from one of a run to the next, for ``consecutive``."""
    threads: Count = 2
    """Threads that decode images, per source."""
    damaged: Literal["refuse", "skip"] = "refuse"
    """What is done with damaged files: end the run at the first one, or read every file before
    training, leave those samples out, and list them in ``damaged.txt``."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training identities that is held out for validation."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.height, self.width

    @model_validator(mode="after")
    def _stride_needs_a_run(self) -> DataSection:
        if self.frame_stride > 1 and self.frame_sampling != "consecutive":
            raise ValueError(
                f"frame_stride = {self.frame_stride} is for runs of frames: set "
                "data.frame_sampling to 'consecutive'"
            )
        return self


class AugmentSection(Section):
    """Geometry (joint for image and spatial fields), erasing and photometric changes."""

    frames: Literal["together", "apart"] = "together"
    """Whether all frames of a tracklet are changed alike, or each by draws of its own."""
    flip: Probability = 0.5
    """Probability of mirroring."""
    pad: Annotated[int, Field(ge=0)] = 0
    """Pixels of padding on every side before a random crop of the input size."""
    pad_mode: Literal["zero", "edge"] = "zero"
    """Padding with black and label 0, or with the outermost pixels and labels."""
    enlarge: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    """Multiple of the input size from which a random window is cut; excludes ``pad``."""
    enlarge_p: Probability = 0.5
    """Probability of ``enlarge``."""
    partial: Probability = 0.0
    """Probability of keeping only a part of the person, resized to the input."""
    partial_height: tuple[Fraction, Fraction] = (0.5, 1.0)
    """Smallest and largest share of the height that is kept: the upper end, the lower or any."""
    partial_width: tuple[Fraction, Fraction] = (0.75, 1.0)
    """Smallest and largest share of the width that is kept."""
    partial_from: Annotated[int, Field(ge=0)] = 0
    """Epoch before which images stay whole."""
    erasing: Probability = 0.0
    """Probability of random erasing."""
    erasing_area: tuple[Fraction, Fraction] = (0.02, 0.4)
    """Smallest and largest share of the image that is erased."""
    erasing_aspect: tuple[Positive, Positive] = (0.3, 3.33)
    """Smallest and largest height over width of what is erased."""
    erasing_log_aspect: bool = False
    """Draw the logarithm of the aspect uniformly instead of the aspect."""
    brightness: Probability = 0.0
    """Largest relative change of brightness."""
    contrast: Probability = 0.0
    """Largest relative change of contrast."""
    saturation: Probability = 0.0
    """Largest relative change of saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift of the hue, as a share of a full turn."""
    grayscale: Probability = 0.0
    """Probability of losing all colour."""
    blur: Probability = 0.0
    """Probability of a Gaussian blur."""

    @field_validator("partial_height", "partial_width", "erasing_area", "erasing_aspect")
    @classmethod
    def _low_comes_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"must be (low, high), not {value}")
        return value

    @model_validator(mode="after")
    def _one_crop(self) -> AugmentSection:
        if self.pad and self.enlarge > 1:
            raise ValueError(
                f"pad = {self.pad} and enlarge = {self.enlarge} both ask for a random crop; set "
                "augment.pad to 0 or augment.enlarge to 1"
            )
        return self


class ModelSection(Section):
    """The encoder and the core's global embedding."""

    backbone: str = "resnet50"
    """Encoder: a plugin's name for one, or any timm model with feature maps; ``shipped`` takes that
    of the first embedder that an installed distribution ships, ``resnet18`` where there is none."""
    pretrained: bool | Path = False
    """Whether the encoder starts from timm's weights; or a file of weights, a run's folder, or the
    name of shipped ones (``people/osnet_x0_25``). ``shipped`` takes those of the encoder's name,
    or none where there are none."""
    importer: str = "auto"
    """Project whose layout a file of ``pretrained`` has (``plain``, or one that an installed
    distribution knows); ``auto`` recognises it."""
    last_stride: Literal[1, 2, "auto"] = "auto"
    """1 removes the encoder's last reduction of the stride, 2 leaves it; ``auto`` removes it where
    that is possible."""
    pooling: str = "avg"
    """How the core's global embedding pools the encoder's map: ``avg``, ``max``, ``gem``
    (generalised mean), or a plugin's name for one."""
    frame_pooling: str = "mean"
    """How what embeddings read of a tracklet's frames becomes one vector: ``mean``, ``max``, or a
    plugin's name for one."""
    neck: Literal["none", "bn", "fc", "fc_bn", "fc_bn_relu"] = "bn"
    """Neck of the core's global embedding."""
    dim: Count | None = None
    """Length after an ``fc`` neck; none keeps that of the map."""
    start: Literal["random", "contrastive"] = "random"
    """``contrastive`` pre-trains the encoder without labels, in a stage of its own."""
    start_epochs: Count = 10
    """Length of that stage."""
    start_batch_size: Count | None = None
    """Rows of its batches, two views of each image; none takes ``data.batch_size``."""

    @field_validator("pretrained", mode="before")
    @classmethod
    def _pretrained_is_said(cls, value: object) -> object:
        if value == "":  # as a path it would be the current folder
            raise ValueError("is empty: name a file, a run's folder or shipped weights, or false")
        return value

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
    """Factor on cross-entropy; 0 leaves the core's embedding without it."""
    triplet_weight: NonNegative = 1.0
    """Factor on the triplet loss; 0 leaves it out."""
    classifier_bias: bool = False
    """Whether the classifier of the core's embedding has a bias."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all identities."""
    margin: NonNegative = 0.3
    """Margin of the triplet loss."""
    soft_margin: bool = False
    """``softplus`` in place of the hinge; the margin then plays no part."""


class OptimSection(Section):
    """The optimiser of every group that does not bring its own."""

    name: str = "adam"
    """Optimiser: ``sgd``, ``adam``, ``adamw``, ``amsgrad``, or any of torch.optim or timm by its
    name in lower case (``rmsprop``, ``lion``)."""
    lr: Positive = 3.5e-4
    """Learning rate, before warm-up and decay."""
    weight_decay: NonNegative = 5e-4
    """Weight decay."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of ``sgd``; other optimisers have their own unless this is changed."""
    nesterov: bool = False
    """Nesterov's momentum, for ``sgd``."""
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    """Averaging factors of ``adam``, ``adamw`` and ``amsgrad``; for others as ``momentum``."""
    options: dict[str, int | float | bool | str | tuple[float, ...]] = Field(default_factory=dict)
    """Further settings of an optimiser of torch.optim or timm, by their names there."""
    new_layers_scale: Positive = 1.0
    """Factor on the learning rate of everything but the encoder."""
    clip_norm: Positive | None = None
    """Largest norm of an update's gradient; none does not clip."""


class ScheduleSection(Section):
    """How long, and how the learning rate moves. Warm-up and milestones count epochs."""

    epochs: Count = 60
    """Number of epochs."""
    iterations_per_epoch: Count | None = None
    """Steps of an epoch; none takes one pass over the data."""
    warmup_epochs: NonNegative = 10
    """Length of the warm-up."""
    warmup_start: Fraction = 0.1
    """Factor on the learning rate at the start of the warm-up."""
    warmup_shape: Literal["linear", "exponential"] = "linear"
    """How the factor rises to 1."""
    decay: str = "step"
    """How the learning rate falls after the warm-up: ``step``, ``cosine``, ``constant``, or a
    scheduler of torch.optim by its class (``PolynomialLR``) or of timm (``tanh``, ``poly``,
    ``multistep``), which count epochs after it; ``tanh`` and ``poly``, which is linear unless
    ``decay_rate`` says otherwise, end with the run."""
    options: dict[str, int | float | bool | str | tuple[float, ...]] = Field(default_factory=dict)
    """Settings of a scheduler of torch.optim or timm, by their names there."""
    milestones: tuple[Positive, ...] = (40,)
    """Epochs at which ``step`` multiplies by ``gamma``."""
    gamma: Fraction = 0.1
    """Factor at a milestone."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Factor at which ``cosine`` ends."""
    per_iteration: bool = False
    """Move the learning rate with every step instead of every epoch."""


class EngineSection(Section):
    """Where and how it runs."""

    device: str = "auto"
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:N``, ``mps`` (Apple) or ``xpu``
    (Intel)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Mixed precision; ``auto`` is bf16 on CUDA and on CPUs that multiply it (AVX512_BF16, AMX),
    fp32 elsewhere."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory format of images and convolutions; ``auto`` is channels last."""
    compile: bool = False
    """Compile the encoder with torch.compile."""
    log_every: Count = 10
    """Steps between two entries of the log."""
    checkpoint_every: Count = 1
    """Epochs between two checkpoints."""
    tensorboard: bool = True
    """Whether to write for TensorBoard."""


class EvaluationSection(Section):
    """What is measured, and when."""

    data: tuple[str, ...] = ()
    """Data sets to evaluate on, ``NAME`` or ``NAME=FOLDER``; empty takes the main one. Those that
    the run trains on need no folder here."""
    protocols: tuple[str, ...] = ()
    """Protocols to report; empty takes those of the data set."""
    every: Annotated[int, Field(ge=0)] = 0
    """Epochs between two evaluations; 0 evaluates at the end alone."""
    embed: tuple[str, ...] = ()
    """Embeddings to evaluate and export; empty takes those declared ``at_test``."""
    weights: str | None = None
    """Weights to evaluate and export, by the name under which a plugin offers them
    (``averaged/weights``); none takes the trained ones."""
    select: Literal["last", "validation"] | Annotated[str, Field(pattern="^validation:.")] = "last"
    """Which epoch is reported: the last, or the best on held-out identities; of several training
    sets on those of one alone with ``validation:NAME``."""
    select_by: str = "mAP"
    """What the best epoch is the best by: a number of the first protocol (``mAP``, ``rank1``), or
    one that a plugin measures, by its name."""
    distance: Literal["cosine", "euclidean"] = "cosine"
    """How features are compared."""
    products: Literal["auto", "numpy", "torch", "onednn", "cuda"] = "auto"
    """Library that multiplies features; ``auto`` takes the fastest that is exact in float32."""
    vector: Literal["declared", "raw", "neck", "unit"] = "declared"
    """Which vector of every embedding is compared: the one it deploys, or its input, its neck's
    output, or that with length one."""
    flip: Flip = "off"
    """Add the features of mirrored images: ``sum`` as they are, ``unit-sum`` with length one;
    ``true`` is ``sum``."""
    reranking: Literal["none", "k_reciprocal"] = "none"
    """Report every protocol a second time after this re-ranking, marked as such."""
    reranking_k1: Count = 20
    """Neighbours that must be mutual."""
    reranking_k2: Count = 6
    """Nearest images whose encodings are averaged."""
    reranking_lambda: Probability = 0.3
    """Weight of the distance before re-ranking."""
    batch_size: Count = 128
    """Images per forward."""
    batch_norm: Literal["running", "real", "camera"] = "running"
    """Statistics of batch normalisation where features are taken, at evaluation and for labels at
    an epoch's start: those of training's batches, generated rows included, or ``real``,
    re-estimated on real training images as they are; ``camera`` is ``running`` but at evaluation,
    where each camera's images have the statistics of all test images of that camera."""
    untrained: bool = False
    """Evaluate before the first step, too."""
    ranked_list: Annotated[int, Field(ge=0)] = 8
    """Queries in the picture of ranked lists; 0 draws none."""

    @property
    def validates_on(self) -> str | None:
        """The training set whose held-out people choose the epoch: ``""`` is all, None nobody."""
        return None if self.select == "last" else self.select.partition(":")[2]


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
    def _sections_fit(self) -> RunConfig:
        data, chosen = self.data, self.evaluation.select
        if chosen != "last":
            if not data.validation:
                raise ValueError(
                    f"evaluation.select = '{chosen}' needs identities to validate on: set "
                    "data.validation to their share, 0.1 say"
                )
            if not self.evaluation.every:
                raise ValueError(
                    f"evaluation.select = '{chosen}' needs evaluations to select from: set "
                    "evaluation.every to a number of epochs"
                )
        if self.augment.pad >= min(data.size):
            raise ValueError(
                f"augment.pad = {self.augment.pad} would show windows without any image: it must "
                f"be less than data.height and data.width ({data.height} x {data.width})"
            )
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
        """Return the configuration as TOML.

        What is None is ``none``, for plugins' defaults to leave it alone; in ``data``, whose keys
        they do not rule, it is left out.
        """
        found = self.model_dump(mode="json")
        found["data"] = {key: value for key, value in found["data"].items() if value is not None}
        return tomli_w.dumps(_with_none(found))


def located(section: _Model) -> _Model:
    """Return settings whose files and folders are the same from every working directory.

    Paths become absolute where there is such a file or folder: others may be names, of shipped
    weights for instance. Folders of data and of fields always do.
    """
    found: _Model = _located(section)
    if not isinstance(found, RunConfig):
        return found
    data, tests = found.data, found.evaluation
    root = data.root and data.root.absolute()
    changes = {
        "data": data.model_copy(update={"root": root, "also": _located_sets(data.also)}),
        "evaluation": tests.model_copy(update={"data": _located_sets(tests.data)}),
        "fields": {name: folder.absolute() for name, folder in found.fields.items()},
    }
    return found.model_copy(update=changes)


def _located(value: Any) -> Any:
    if isinstance(value, BaseModel):
        kept = {name: getattr(value, name) for name in type(value).model_fields}
        found = {name: _located(one) for name, one in kept.items()}
        changes = {name: one for name, one in found.items() if one is not kept[name]}
        return value.model_copy(update=changes) if changes else value
    if isinstance(value, Path):
        return value.absolute() if os.path.exists(value) and not value.is_absolute() else value
    if isinstance(value, tuple) and any(isinstance(one, Path) for one in value):
        return tuple(map(_located, value))
    return value


def _located_sets(texts: tuple[str, ...]) -> tuple[str, ...]:
    pairs = (text.partition("=") for text in texts)
    return tuple(f"{n}={Path(folder).absolute()}" if equals else n for n, equals, folder in pairs)


def _with_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_none(item) for key, item in value.items()}
    return "none" if value is None else value


IDLE_IN_TABLES = frozenset(
    {
        *("run.recipe", "data.threads"),
        *(f"engine.{key}" for key in EngineSection.model_fields if key != "precision"),
        *(f"evaluation.{key}" for key in ("products", "batch_size", "untrained", "ranked_list")),
    }
)
"""Settings on which the scores of a run do not depend, but for the last digits."""

IDLE = IDLE_IN_TABLES | {
    "engine.precision",
    *(f"evaluation.{key}" for key in ("data", "protocols", "every", "select", "select_by")),
    *(f"evaluation.{key}" for key in ("distance", "vector", "flip")),
    *(f"evaluation.{key}" for key in EvaluationSection.model_fields if "reranking" in key),
}
"""Settings that a trained model does not depend on, but for the last digits; of ``engine`` only
what the precision comes to on the device counts."""


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    free: Collection[str] = (),
    prefix: str = "",
) -> list[str]:
    """Return in words which settings differ between two configurations as plain data.

    Args:
        before, now: `RunConfig.model_dump` with ``mode="json"``.
        free: dotted keys, or whole sections, that may differ.
        prefix: of the keys, where these are sections of configurations.
    """
    found = []
    for key in sorted({*before, *now}):
        name, pair = f"{prefix}{key}", (before.get(key), now.get(key))
        if pair[0] == pair[1] or name in free:
            continue
        if pair in ((None, "none"), ("none", None)):
            continue  # the second is how a file of TOML says it
        if all(isinstance(value, Mapping | None) for value in pair):
            found += differences(pair[0] or {}, pair[1] or {}, free, f"{name}.")
        else:
            found.append(f"{name} was {pair[0]!r}, is {pair[1]!r}")
    return found


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


def cache_folder() -> Path:
    """Return the user's cache folder: ``$REID_CACHE``, otherwise the platform's for reid-core.

    What earlier versions left in ``~/.cache/reid``, which another package uses, too, is moved.
    """
    chosen = os.environ.get("REID_CACHE")
    if chosen:
        return Path(chosen)
    folder = platformdirs.user_cache_path("reid-core", appauthor=False)
    if not folder.exists():
        before = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reid"
        _move_cache(before, folder)
    return folder


_FORMER_CACHE = ("stages", "labels", "toy-*", "synthpeople*", "benchmarks", "fsam", "parsing-*")
"""What earlier versions made in their cache folder."""


def _move_cache(before: Path, folder: Path) -> None:
    ours = [entry for pattern in _FORMER_CACHE for entry in before.glob(pattern)]
    if not ours:
        return
    folder.mkdir(parents=True)
    for entry in ours:
        entry.rename(folder / entry.name)
    warnings.warn(f"the cache has moved from {before} to {folder}", stacklevel=3)
