"""The plugin: labelers of what a body consists of, and labelled data that users bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.labelers import LabelContext, Labeler
from reid_core.contract.plugin import Plugin, Settings
from reid_core.contract.samples import DataProvider, DataSet
from reid_core.errors import ConfigError, DataError
from reid_core.weights import shipped_weights
from reid_parsing.body import is_body, load_body
from reid_parsing.detectors import mediapipe
from reid_parsing.detectors.opening import (
    EachPicture,
    key_of,
    open_joints,
    open_silhouettes,
)
from reid_parsing.fields import FIELDS, JOINTS, SILHOUETTE
from reid_parsing.labelling import draw_sheet, label_maps, report_training
from reid_parsing.lookup import LABEL_SETS, fields_of
from reid_parsing.providers import layouts
from reid_parsing.providers.densepose import load_densepose
from reid_parsing.providers.folder import load_labelled_folder
from reid_parsing.recipes import RECIPES
from reid_parsing.sources import choose_labelled, load_labelled
from reid_parsing.training import parser_stage, trained_parser
from reid_parsing.weights import load_parser, load_schp, saved_parser_facts, weights_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reid_core import Stage, StageResult
    from reid_core.config import RunConfig
    from reid_core.contract.context import RunContext
    from reid_core.contract.samples import DataRequest, Sample
    from reid_parsing.body import BodyNetwork
    from reid_parsing.inference import BodyParser
    from reid_parsing.recipes import TrainingRecipe
    from reid_parsing.sources import Labelled

SHIPPED = "people/body"
"""Weights that find parts, garments and joints, where they are installed."""

TRAINING = "parsing-labelled"
"""Name under which a run's stage finds its training images."""

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ParsingSettings(Settings):
    """Settings of `Parsing`."""

    network: Literal["light", "danet", "schp"] = "light"
    """Parsing network: ``light`` for CPUs, ``danet``, ``schp``."""
    weights: Path | None = None
    """Trained weights: a file, or the name of shipped ones. Where nothing is said about a training
    either, the shipped ``people/body`` if it is installed; otherwise the network is trained."""
    label_set: Literal["pascal", "lip", "atr"] | None = None
    """Classes of released SCHP weights; none for weights that `reid parsing train` saved."""
    labelled: str | None = None
    """Labelled data to learn from, as after ``--data``; none takes the main data set's sibling."""
    labelled_root: Path | None = None
    """Folder of the labelled data."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the labelled data to measure on, where it has no test images."""
    pretrained: bool | Path = False
    """ImageNet weights of DANet's trunk."""
    size: tuple[Count, Count] | None = None
    """Height and width of the network's input; none takes the network's own."""
    epochs: Count | None = None
    """Length of the training; none takes the network's own."""
    iterations: Count | None = None
    """Steps of an epoch; none goes through the images once."""
    batch_size: Count | None = None
    """Images of a batch; none takes the network's own."""
    lr: Rate | None = None
    """Learning rate; none takes the network's own."""
    mirror: bool = True
    """Average what is found with that of the mirrored image."""
    joints: Path | None = None
    """What finds ``keypoints`` in the parser's place: an ONNX file of RTMPose or ViTPose, or
    MediaPipe's wheel (or its folder; ``mediapipe`` where it is installed)."""
    silhouettes: Path | None = None
    """What finds ``silhouette``: MediaPipe's wheel, as for ``joints``."""


class Parsing(Plugin):
    """Make ``parts``, ``garments``, ``keypoints`` and ``silhouette`` with networks of the body.

    Attributes:
        takes_shipped: whether shipped weights are taken where the settings say nothing.
    """

    Settings = ParsingSettings
    settings: ParsingSettings

    def __init__(self, name: str, settings: ParsingSettings | None = None) -> None:
        super().__init__(name, settings)
        self.takes_shipped = True
        self._run: RunContext | None = None
        self._shipped: BodyNetwork | None = None
        self._divided: dict[str, Labelled] = {}

    def check(self, config: RunConfig) -> None:
        """Refuse settings that contradict each other."""
        settings = self.settings
        if settings.label_set is not None and settings.weights is None:
            raise ConfigError(
                f"parsing.label_set = '{settings.label_set}' says what released weights tell "
                "apart; name their file with -s parsing.weights=FILE"
            )
        if settings.label_set is not None and settings.network != "schp":
            raise ConfigError(
                f"parsing.label_set = '{settings.label_set}' belongs to released SCHP weights; set "
                "-s parsing.network=schp"
            )
        if settings.pretrained and settings.network != "danet":
            raise ConfigError(
                f"parsing.pretrained: only 'danet' starts from a pretrained trunk, not "
                f"'{settings.network}'"
            )

    @hookimpl
    def reid_datasets(self) -> Sequence[DataProvider]:
        """Offer labelled folders and COCO-DensePose, and to a run's stage what it learns from."""
        return [
            DataProvider(
                "parsing-folder",
                _load_folder,
                fields=FIELDS,
                summary="your own images and label PNGs, for parsers; no identities",
                variants=tuple(LABEL_SETS),
                needs_root=True,
                layout=layouts.FOLDER,
            ),
            DataProvider(
                "parsing-densepose",
                _load_densepose,
                fields=("parts",),
                summary="people of COCO-DensePose, for parsers; no identities",
                needs_root=True,
                layout=layouts.DENSEPOSE,
            ),
            DataProvider(
                TRAINING,
                self._load_training,
                summary="what a run's parser learns from: parsing.labelled without the held-out",
                variants=FIELDS,
            ),
        ]

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> Sequence[Labeler]:
        """Offer the fields that the parser can make."""
        self._run = ctx
        found = {labeler.spec.name: labeler for labeler in self._of_parser()}
        return list({**found, **{one.spec.name: one for one in self._of_detectors()}}.values())

    def _of_detectors(self) -> Iterator[Labeler]:
        settings = self.settings
        of_joints, of_silhouettes = (mediapipe.PERSON, mediapipe.LANDMARKS), (mediapipe.SILHOUETTE,)
        for field, given, networks, make, example in (
            (JOINTS, settings.joints, of_joints, self.find_joints, no_joints),
            (SILHOUETTE, settings.silhouettes, of_silhouettes, self.find_silhouettes, blank_maps),
        ):
            if given is not None:
                key = f"detectors 1|mirror {settings.mirror}|{key_of(given, networks)}"
                yield Labeler(SHARED_FIELDS[field], make, key=key, example=example)

    def _of_parser(self) -> Sequence[Labeler]:
        settings, weights = self.settings, self.weights
        if weights is None:
            key = f"parsing 1|mirror {settings.mirror}"
            return [
                Labeler(
                    SHARED_FIELDS[name],
                    partial(self.make, name),
                    key=key,
                    stage=stage,
                    example=blank_maps,
                )
                for name, stage in ((name, self.stage(name)) for name in FIELDS)
            ]

        if self._is_body():
            key = f"parsing 1|mirror {settings.mirror}|{weights_key(weights)}|{settings.size}"
            return [
                *(
                    Labeler(SHARED_FIELDS[n], partial(self.make, n), key=key, example=blank_maps)
                    for n in FIELDS
                ),
                Labeler(SHARED_FIELDS[JOINTS], self.find_joints, key=key, example=no_joints),
            ]
        labels = settings.label_set or saved_parser_facts(weights)["labels"]
        key = (
            f"parsing 1|mirror {settings.mirror}|{weights_key(weights)}|"
            f"{settings.network} {labels} {settings.size}"
        )
        return [
            Labeler(SHARED_FIELDS[name], partial(self.make, name), key=key, example=blank_maps)
            for name in fields_of(labels)
        ]

    def make(self, field: str, labels: LabelContext) -> Sequence[NDArray[np.uint8]]:
        """Return the label maps that a labeler is asked for, made while they are gone through."""
        run, mirror = labels.run, self.settings.mirror
        parser = self.parser(run, field, labels.stage)
        draw_sheet(run, parser, labels.samples, SHARED_FIELDS[field], mirror)
        return label_maps(run, parser, labels.samples, field, mirror)

    def find_joints(self, labels: LabelContext) -> Sequence[NDArray[np.float32]]:
        """Return the joints that a labeler is asked for, found while they are gone through."""
        return self.joints_in(labels.run, labels.samples)

    def joints_in(
        self, run: RunContext, samples: Sequence[Sample]
    ) -> Sequence[NDArray[np.float32]]:
        """Return the joints of samples, by the detector that is set or the body network.

        Raises:
            ConfigError: neither is there.
            CheckpointError: the detector is none.
        """
        mirror, given = self.settings.mirror, self.settings.joints
        if given is None:
            return self.body().joints_in(run, samples, mirror)
        detector = open_joints(given, run.config.data.threads, run.say)
        return EachPicture(samples, lambda image: detector.joints(image, mirror))

    def find_silhouettes(self, labels: LabelContext) -> Sequence[NDArray[np.uint8]]:
        """Return the silhouettes that a labeler is asked for, found while they are gone through."""
        return self.silhouettes_in(labels.run, labels.samples)

    def silhouettes_in(
        self, run: RunContext, samples: Sequence[Sample]
    ) -> Sequence[NDArray[np.uint8]]:
        """Return the silhouettes of samples, uint8 ``h w``.

        Raises:
            ConfigError: nothing is set that finds them.
            CheckpointError: what is set is no detector.
        """
        mirror, given = self.settings.mirror, self.settings.silhouettes
        if given is None:
            raise ConfigError(
                "silhouettes need a detector: set -s parsing.silhouettes=FILE to MediaPipe's wheel"
            )
        detector = open_silhouettes(given, run.config.data.threads)
        return EachPicture(samples, lambda image: detector.silhouette(image, mirror))

    @property
    def weights(self) -> Path | None:
        """The file of weights: what is set, or what is shipped; None trains a network."""
        settings = self.settings
        shipped = (
            shipped_weights() if settings.weights is None or not settings.weights.exists() else {}
        )
        if settings.weights is not None:
            return shipped.get(settings.weights.as_posix(), settings.weights)
        beside = {"mirror": True, "joints": None, "silhouettes": None}
        untold = self.takes_shipped and settings.model_copy(update=beside) == ParsingSettings()
        return shipped.get(SHIPPED) if untold else None

    def body(self) -> BodyNetwork:
        """Return the network that finds parts, garments and joints.

        Raises:
            ConfigError: the weights are none that do.
        """
        if self.weights is None or not self._is_body():
            raise ConfigError(
                "this parser finds no joints: install reid-weights and set "
                f"-s parsing.weights={SHIPPED}, or give a detector with -s parsing.joints=FILE"
            )
        if self._shipped is None:
            found = load_body(self.weights)
            size = self.settings.size
            self._shipped = found if size is None else replace(found, size=size)
        return self._shipped

    def _is_body(self) -> bool:
        return (
            self.settings.label_set is None and self.weights is not None and is_body(self.weights)
        )

    def parser(self, ctx: RunContext, field: str, stage: StageResult | None = None) -> BodyParser:
        """Return the parser of a field: from the weights' file, or trained by its stage.

        Args:
            ctx: the run.
            field: ``parts`` or ``garments``.
            stage: the stage's result, where it is there already.
        """
        if self.weights is not None:
            return self.body().parser(field) if self._is_body() else self.given_parser()
        stage = stage or ctx.stage(self.stage_in(ctx, field))
        parser = trained_parser(stage)
        report_training(ctx, stage, parser, self.labelled(ctx, field), self.settings.mirror)
        return parser

    def given_parser(self) -> BodyParser:
        """Return the parser of the weights' file.

        Raises:
            CheckpointError: the file does not hold it.
        """
        settings, weights = self.settings, self.weights
        assert weights is not None
        if settings.label_set is not None:
            return load_schp(weights, settings.label_set, settings.size)
        parser = load_parser(weights, settings.network)
        return parser if settings.size is None else replace(parser, size=settings.size)

    def stage_in(self, ctx: RunContext, field: str) -> Stage:
        """Return the stage that trains the parser of a field in the surroundings of a run."""
        self._run = ctx
        return self.stage(field)

    def stage(self, field: str) -> Stage:
        """Return the stage that trains the parser of a field.

        It finds its images through this plugin, so it works in the run that the plugin is part of.
        """
        settings = self.settings
        return parser_stage(
            field,
            settings.network,
            f"{TRAINING}/{field}",
            pretrained=settings.pretrained,
            recipe=self._recipe(),
            epochs=settings.epochs,
            iterations=settings.iterations,
        )

    def labelled(self, ctx: RunContext, field: str) -> Labelled:
        """Return the labelled data of a field, divided.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        if field in self._divided:
            return self._divided[field]
        settings = self.settings
        name = settings.labelled or choose_labelled(ctx.providers, ctx.config.data.name, field)
        root, seed = settings.labelled_root, ctx.config.run.seed
        found = load_labelled(ctx.providers, name, field, root, ctx.cache, settings.held_out, seed)
        self._divided[field] = found
        return found

    def _recipe(self) -> TrainingRecipe:
        settings, recipe = self.settings, RECIPES[self.settings.network]
        if settings.size is not None:
            # Crops keep their share of the image.
            canvas = tuple(
                round(length * wanted / usual)
                for length, wanted, usual in zip(
                    recipe.canvas, settings.size, recipe.size, strict=True
                )
            )
            recipe = replace(recipe, size=settings.size, canvas=(canvas[0], canvas[1]))
        if settings.lr is not None:
            recipe = replace(recipe, optim={**recipe.optim, "lr": settings.lr})
        return replace(recipe, batch_size=settings.batch_size or recipe.batch_size)

    def _load_training(self, request: DataRequest) -> DataSet:
        if self._run is None:
            raise DataError(
                f"'{request.text}' exists only within a run of the plugin 'parsing'; name the "
                "labelled data itself"
            )
        found = self.labelled(self._run, request.variant or FIELDS[0])
        if self.settings.network == "schp":
            self._run.say(
                "parsing: no parsing.weights are given, so 'schp' is trained from random weights "
                f"on {found.name}; its released ones are read with parsing.label_set"
            )
        return DataSet(request.text, found.train)


def _load_folder(request: DataRequest) -> DataSet:
    return load_labelled_folder(request)


def _load_densepose(request: DataRequest) -> DataSet:
    return load_densepose(request)


def blank_maps(labels: LabelContext) -> list[NDArray[np.uint8]]:
    """Return label maps of nothing but background, one for each image that is asked for."""
    return [np.zeros(labels.run.image_size, np.uint8) for _ in labels.rows]


def no_joints(labels: LabelContext) -> list[NDArray[np.float32]]:
    """Return joints that are nowhere, one array for each image that is asked for."""
    return [np.zeros((17, 3), np.float32) for _ in labels.rows]
