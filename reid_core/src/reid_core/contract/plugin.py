"""The base class of plugins, and what a plugin declares before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from reid_core.config import Section
from reid_core.contract.words import check_word

if TYPE_CHECKING:
    from torch import nn

    from reid_core.config import RunConfig
    from reid_core.contract.context import RunContext
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.samples import SourceRequest
    from reid_core.contract.stages import Start

SLOTS = {
    "backbone": "the encoder",
    "embedding": "what describes a person at test",
    "identity": "how identity is supervised",
    "labels:pid": "who a person is",
}
"""Roles that only one plugin can fill, and what they are; ``labels:<field>`` follows from the
labelers offered."""

CONDITIONS = {
    "identities": "the main source has identities",
    "fixed_identities": "the identities stay the same over all epochs",
    "clothes": "training samples say which outfit they show",
    "camid": "training samples come from several cameras",
    "frames": "training samples are tracklets",
}
"""Conditions that a plugin may need beside fields; the core knows whether they hold."""


class Settings(Section):
    """Base of a plugin's settings: the run's section ``[plugins.<name>]``, frozen and closed."""


@dataclass(frozen=True)
class Need:
    """Something a plugin cannot do without, checked at resolve.

    Args:
        what: a field (``parts``) that every training sample must carry, or a condition:
            ``identities``, ``fixed_identities``, ``clothes`` (every sample's outfit is known),
            ``camid`` (there are several cameras), ``frames`` (samples are tracklets).
        remedy: what the user can set when it does not hold, such as ``-s dgnet.teacher=none``.
    """

    what: str
    remedy: str = ""


class Plugin:
    """A set of contributions to a run; never a whole method, never the owner of the step.

    The core makes one instance per run: what belongs to a run lives on the instance and never in
    the module. ``name`` is the entry point's name and the owner of all names that it declares.
    Attributes that depend on the settings are properties.

    Attributes:
        Settings: the pydantic model of ``[plugins.<name>]``.
        claims: slots that the plugin takes.
        defaults: configuration that the method cannot work without, by dotted key
            (``model.last_stride``; ``labels.texture`` makes the plugin's own labels rule even where
            the data set has the truth). The recipe and the command line overrule it; two plugins
            that differ are a conflict.
        needs: fields and conditions that must hold.
        sources: training sources beside the main one.
        takes_frames: whether what it computes of images fits tracklets, too: images, maps and
            spatial fields then have ``batch.frames`` rows for every row of labels and vectors.
            Asked of plugins that implement `reid_losses`, or whose labels are of whole samples;
            labels of pixels are made frame by frame, and images are generated without frames.
    """

    Settings: ClassVar[type[BaseModel]] = Settings
    claims: Sequence[str] = ()
    defaults: Mapping[str, Any] = {}
    needs: Sequence[Need] = ()
    sources: Sequence[SourceRequest] = ()
    takes_frames: bool = False

    def __init__(self, name: str, settings: BaseModel | None = None) -> None:
        self.name = name
        self.settings: Any = settings if settings is not None else self.Settings()

    def check(self, config: RunConfig) -> None:
        """Refuse a configuration that cannot work, with a `ConfigError`, before anything is built.

        Args:
            config: the resolved configuration of the run.
        """

    def check_data(self, ctx: RunContext) -> None:
        """Refuse data that the method cannot work on, with a `DataError`, before anything is built.

        What a `Need` can say belongs there; this is for the rest, such as people with two outfits.

        Args:
            ctx: the run, with its data set and the main source; nothing is built or labelled yet.
        """

    def starts(self, config: RunConfig) -> Sequence[Start]:
        """Return the stages from which parameters of the run start.

        Args:
            config: the resolved configuration of the run.
        """
        return ()

    def checkpoint_state(self) -> Mapping[str, Any]:
        """Return what the plugin keeps between steps: tensors and plain values, by name.

        It is stored in every checkpoint; override it together with `load_checkpoint_state`.
        """
        return {}

    def load_checkpoint_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `checkpoint_state` returned, when a run resumes.

        Args:
            state: tensors are on the CPU.
        """

    def own(self, name: str) -> str:
        """Return ``name`` in the plugin's space: ``owner/name``."""
        return f"{self.name}/{name}"


@dataclass(frozen=True)
class EncoderProvider:
    """Offer an encoder under a name for ``--backbone``.

    Args:
        name: unique among all providers.
        build: makes the encoder; ``pretrained`` is ``False``, ``True`` or a path to weights.
        summary: one line.
    """

    name: str
    build: Callable[[RunContext], Encoder]
    summary: str = ""


@dataclass(frozen=True)
class PoolingProvider:
    """Offer a pooling under a name for ``model.pooling``, or for ``model.frame_pooling``.

    Args:
        name: unique among all providers.
        build: makes the module of the number of channels: ``B C H W`` to ``B D`` of a map,
            ``B T D`` to ``B D`` of the vectors of a tracklet's frames, however many there are. It
            is deployed, so it needs a method ``deploy_spec`` (see `Encoder.deploy_spec`).
        summary: one line.
        pools: ``map`` or ``frames``.
    """

    name: str
    build: Callable[[int], nn.Module]
    summary: str = ""
    pools: Literal["map", "frames"] = "map"

    def __post_init__(self) -> None:
        check_word(self, "pools", ("map", "frames"))


CORE = "core"
"""Name of the core's own plugin; its answer to a slot counts only when nobody claims it."""
