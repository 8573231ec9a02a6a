"""Evaluation protocols as data: who is searched for, in what, and which images do not count.

Nothing here computes anything, and nothing heavy is imported: plugins declare their protocols in
these terms while they are discovered. [Search][reid_retrieval.searching.Search] applies one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from reid_retrieval.errors import ConfigError

DENOMINATORS = ("valid", "all")
"""What a mean is taken over: the valid queries, or all of them, an invalid one scoring 0."""

POOLED = {"mean": "mean feature", "unit-mean": "mean unit feature", "max": "largest values"}
"""What a pool's feature is, by the name of its pooling."""


@dataclass(frozen=True, slots=True)
class Subset:
    """Choose samples of one side; every condition that is given must hold.

    Args:
        cameras: camera ids, 0-based.
        pids: identities.
        splits: values of ``Sample.split``.
        extra: pairs of a key of ``Sample.extra`` and the values to keep, compared as text.
    """

    cameras: tuple[int, ...] | None = None
    pids: tuple[int, ...] | None = None
    splits: tuple[str, ...] | None = None
    extra: tuple[tuple[str, tuple[str | int, ...]], ...] = ()

    def conditions(self) -> list[tuple[str, tuple[str | int, ...]]]:
        """Return pairs of a label's name and the values to keep."""
        named = (("camid", self.cameras), ("pid", self.pids), ("split", self.splits))
        return [*((key, keep) for key, keep in named if keep is not None), *self.extra]

    @property
    def text(self) -> str:
        """The conditions in one line; ``all`` where there are none."""
        parts = [f"{key}={_listing(values)}" for key, values in self.conditions()]
        return " & ".join(parts) or "all"


@dataclass(frozen=True, slots=True)
class JunkRule:
    """Say which gallery images are junk to a query: they leave its ranking altogether.

    A label is named ``camid``, ``clothes``, ``split`` or by a key of ``Sample.extra``. Gallery
    images with pid ``-1`` are junk to every query under every rule.

    Args:
        same: an image of the query's identity is junk if it agrees with the query in *any* of
            these labels.
        different: an image of the query's identity is junk if it differs from the query in any.
        apart: an image of *any* identity is junk if it agrees with the query in any of these
            (CUHK03's classic protocol searches in the other view only).
    """

    same: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Names of all labels that the rule compares."""
        return frozenset((*self.same, *self.different, *self.apart))

    @property
    def text(self) -> str:
        """The rule in one line."""
        own = [f"same {key}" for key in self.same] + [f"other {key}" for key in self.different]
        parts = [f"same {key} of any pid" for key in self.apart]
        if own:
            parts.append(f"same pid & {own[0] if len(own) == 1 else '(' + ' or '.join(own) + ')'}")
        return " or ".join(parts) or "none"


@dataclass(frozen=True, slots=True)
class SingleShot:
    """Search in galleries of one random image per identity, and average over several of them.

    In trial ``t`` every gallery image, in gallery order, gets a random key of
    ``random.Random(seed + t).random()``, whose stream Python guarantees. A query is shown, of
    every identity, the image of the lowest key among those that are not junk to it. Without junk
    that is one uniform draw per identity, shared by all queries; with junk a query keeps its
    match wherever it has one, so that the valid queries are the same in all trials.

    Args:
        trials: number of galleries.
        seed: seed of the first trial.
    """

    trials: int = 10
    seed: int = 0

    @property
    def text(self) -> str:
        """The galleries in a few words."""
        return f"single-shot x{self.trials} seed {self.seed}"


@dataclass(frozen=True, slots=True)
class EveryGallery:
    """Average over all galleries of one image per identity, exactly: there is nothing to draw.

    A query is shown, of every identity, one of the images that are not junk to it, each with the
    same chance and independently of the others. This is what `SingleShot` comes to with more and
    more trials.
    """

    @property
    def text(self) -> str:
        """The galleries in a few words."""
        return "single-shot, mean over all galleries"


@dataclass(frozen=True, slots=True)
class Protocol:
    """Describe an evaluation protocol.

    Args:
        name: unique, lower case, settings behind slashes: ``prcc/cc/single-shot@10``.
        query, gallery: which of a data set's query and gallery samples take part.
        junk: which pairs do not count.
        pool: labels by which query images are grouped: a group is one query, in the place of its
            first image, by a feature made of all of theirs (multi-query; video, by the label
            ``tracklet``). Its images must agree in identity and in whatever the junk rule compares.
            Empty searches for every image.
        gallery_pool: the same of gallery images, once those without an identity are dropped: a
            group is ranked and counted as one image.
        pooling: what the feature of a group is: ``mean`` of its images' as they are, ``unit-mean``
            of those that were given length one before, or ``max``, the largest value of each
            dimension.
        single_shot: search in galleries of one image per identity, drawn at random or all that
            there are; None searches in all images.
        ranks: ranks at which the CMC is reported, ascending.
        max_rank: length of the stored CMC; beyond a shorter ranking it keeps its last value.
        denominator: ``valid`` takes means over the queries that have a match; ``all`` counts
            the others as 0, as some published tables do.
        version: grows when the meaning of the name changes; stored with results.

    Raises:
        ConfigError: a value is out of range.
    """

    name: str
    query: Subset = field(default_factory=Subset)
    gallery: Subset = field(default_factory=Subset)
    junk: JunkRule = field(default_factory=JunkRule)
    pool: tuple[str, ...] = ()
    gallery_pool: tuple[str, ...] = ()
    pooling: str = "mean"
    single_shot: SingleShot | EveryGallery | None = None
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    max_rank: int = 50
    denominator: str = "valid"
    version: int = 1

    def __post_init__(self) -> None:
        ascending = tuple(sorted(set(self.ranks)))
        if self.ranks != ascending or not ascending or ascending[0] < 1:
            raise self._wrong(f"ranks must be ascending and positive, not {self.ranks}")
        if self.max_rank < ascending[-1]:
            raise self._wrong(f"max_rank {self.max_rank} is below the last rank {ascending[-1]}")
        if self.denominator not in DENOMINATORS:
            raise self._wrong(f"denominator must be one of {DENOMINATORS}, not {self.denominator}")
        if isinstance(self.single_shot, SingleShot) and self.single_shot.trials < 1:
            raise self._wrong(f"trials must be 1 or more, not {self.single_shot.trials}")
        for name, keys in (("pool", self.pool), ("gallery_pool", self.gallery_pool)):
            if len(set(keys)) < len(keys):
                raise self._wrong(f"{name} names a label twice: {', '.join(keys)}")
        if self.pooling not in POOLED:
            raise self._wrong(f"pooling must be one of {tuple(POOLED)}, not {self.pooling}")
        if self.pooling != "mean" and not (self.pool or self.gallery_pool):
            raise self._wrong(
                f"pooling '{self.pooling}' needs labels to pool by: pool, gallery_pool"
            )

    def _wrong(self, problem: str) -> ConfigError:
        return ConfigError(f"protocol '{self.name}': {problem}")

    @property
    def text(self) -> str:
        """The whole protocol in one line, as stored with results; equal protocols, equal lines."""
        shots = self.single_shot.text if self.single_shot else "multi-shot"
        query, gallery = (
            f", {POOLED[self.pooling]} per {' & '.join(keys)}" if keys else ""
            for keys in (self.pool, self.gallery_pool)
        )
        return (
            f"{self.name} v{self.version}: query {self.query.text}{query}; "
            f"gallery {self.gallery.text}{gallery}; {shots}; "
            f"junk {self.junk.text}; pid -1 dropped; means over {self.denominator} queries"
        )


STANDARD = Protocol("standard", junk=JunkRule(same=("camid",)))
"""Images of the query's identity from its own camera are junk (Market-1501 and most others)."""

CROSS_CLOTHES = Protocol("cross-clothes", junk=JunkRule(same=("camid", "clothes")))
"""A match must come from another camera *and* wear other clothes (LTCC, cloth-changing)."""

SAME_CLOTHES = Protocol("same-clothes", junk=JunkRule(same=("camid",), different=("clothes",)))
"""A match must come from another camera and wear the same clothes."""

NO_CAMERA = Protocol("no-camera")
"""Nothing is junk: data without cameras, or with one."""

TRACKLET_POOLS = replace(
    STANDARD,
    name="standard/tracklet-pools",
    pool=("tracklet",),
    gallery_pool=("tracklet",),
    pooling="unit-mean",
)
"""Video by features of single images: those of a tracklet become one, on both sides."""

CAMERA_POOLS = replace(
    STANDARD,
    name="standard/camera-pools",
    gallery_pool=("pid", "camid"),
    pooling="unit-mean",
)
"""A multi-shot gallery: what a camera has seen of a person is one entry."""

GENERIC_PROTOCOLS = (
    STANDARD,
    CROSS_CLOTHES,
    SAME_CLOTHES,
    NO_CAMERA,
    TRACKLET_POOLS,
    CAMERA_POOLS,
)
"""The protocols that the core offers for any data set."""


def single_shot_variant(protocol: Protocol, trials: int = 10, seed: int = 0) -> Protocol:
    """Return ``protocol`` with random single-shot galleries, named ``.../single-shot@trials``."""
    name = f"{protocol.name}/single-shot@{trials}"
    return replace(protocol, name=name, single_shot=SingleShot(trials, seed))


def every_gallery_variant(protocol: Protocol) -> Protocol:
    """Return ``protocol`` averaged over all single-shot galleries: ``.../single-shot@all``."""
    return replace(protocol, name=f"{protocol.name}/single-shot@all", single_shot=EveryGallery())


def _listing(values: Iterable[str | int]) -> str:
    """Write values for a line of text; many of them as their number and a hash."""
    written = [str(value) for value in values]
    if len(written) <= 8:
        return ",".join(written)
    digest = hashlib.sha256("\n".join(written).encode()).hexdigest()[:8]
    return f"[{len(written)} values #{digest}]"
