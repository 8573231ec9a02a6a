"""The numbers behind a world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator

from reid_core import Settings
from reid_core.errors import ConfigError
from reid_synthpeople.names import FACTORS

_SEEDS = 1 << 32


@dataclass(frozen=True)
class WorldSettings:
    """Say what a world is like; everything in it follows from these numbers.

    The defaults are those at which the difficulty was measured (three cameras, the first two before
    one outfit, the third before another).

    Args:
        seed: of people, outfits, cameras and pictures, below 2**32.
        cameras: how many there are.
        spread: factor on the spread of body shapes and gaits; 1 is about that of adults.
        wardrobe: probability that an outfit is one of the shared templates.
        styles: number of shared templates per sex; a person's first `styles` outfits never share
            one.
        camera_var: factor on the spread of gain, colour cast and gamma between cameras.
        yaw0: mean direction per camera in which people are seen, radians, 0 from the front; None
            draws them.
        yaw_sd: spread around it, radians; None draws one per camera.
        twoway: probability that somebody walks the other way; None draws one per camera.
        p_occlusion: probability of an occluder in a picture.
        p_truncation: probability of a badly cut picture.
        bystanders: probability of somebody else in a picture.
        factors: what photographs have, of `reid_synthpeople.names.FACTORS`.

    Raises:
        ConfigError: a number is out of range.
    """

    seed: int = 0
    cameras: int = 3
    spread: float = 1.3
    wardrobe: float = 1.0
    styles: int = 5
    camera_var: float = 0.6
    yaw0: tuple[float, ...] | None = (0.35, -0.35, 0.1)
    yaw_sd: float | None = 0.5
    twoway: float | None = 0.3
    p_occlusion: float = 0.05
    p_truncation: float = 0.05
    bystanders: float = 0.18
    factors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.seed < _SEEDS:
            raise ConfigError(f"synthpeople: seed is {self.seed}; use 0 to {_SEEDS - 1}")
        for name in ("cameras", "styles"):
            if getattr(self, name) < 1:
                raise ConfigError(f"synthpeople: {name} is {getattr(self, name)}; use at least 1")
        if self.yaw0 is not None and len(self.yaw0) != self.cameras:
            raise ConfigError(
                f"synthpeople: yaw0 has {len(self.yaw0)} directions for {self.cameras} cameras; "
                "give one per camera, or None to draw them"
            )
        unknown = [name for name in self.factors if name not in FACTORS]
        if unknown:
            raise ConfigError(
                f"synthpeople: the factor {unknown[0]!r} is unknown; there are {', '.join(FACTORS)}"
            )
        for name in ("wardrobe", "twoway", "p_occlusion", "p_truncation", "bystanders"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"synthpeople: {name} is {value}; a probability is 0 to 1")
        for name in ("spread", "camera_var", "yaw_sd"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"synthpeople: {name} is {value}; use 0 or more")


class SynthpeopleSettings(Settings):
    """The run's section ``[plugins.synthpeople]``; it acts where data are made."""

    seed: Annotated[int, Field(ge=0, lt=1 << 30)] = 0
    """Of people, outfits, cameras and pictures."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that render; 0 takes one per core. The files do not depend on it."""
    people: Literal["usual", "pretraining"] = "usual"
    """Whom training images show: with ``pretraining``, people whom no other set has."""
    mask_noise: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Noise of the label maps (shifts, erosion, swapped labels): 0 is the truth, 1 a parser's."""
    factors: list[str] | None = None
    """What photographs have, of the names in the README (`[]` for none); none is the variant's own:
    all in ``synthpeople/street``, nothing in the others."""

    @field_validator("factors")
    @classmethod
    def _known(cls, factors: list[str] | None) -> list[str] | None:
        for name in factors or ():
            if name not in FACTORS:
                raise ValueError(f"{name!r} is no factor; there are {', '.join(FACTORS)}")
        return factors

    @property
    def chosen_factors(self) -> tuple[str, ...] | None:
        """The factors in their own order, each once, or None for the variant's own."""
        chosen = self.factors
        return None if chosen is None else tuple(name for name in FACTORS if name in chosen)
