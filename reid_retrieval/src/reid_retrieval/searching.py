"""A protocol applied to labels: who takes part, who is junk to whom, which galleries are drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from reid_retrieval.errors import DataError
from reid_retrieval.labels import BoolArray, Column, IntArray, Labels
from reid_retrieval.pools import Pools
from reid_retrieval.protocols import EveryGallery, Protocol, SingleShot, Subset

if TYPE_CHECKING:
    from reid_retrieval.features import FloatArray

NOBODY = np.empty(0, np.int64)


class Search:
    """Apply a protocol to the labels of a query set and of a gallery.

    Inside, images are numbered ``0 .. Q-1`` and ``0 .. G-1`` among those that take part, in their
    original order; ``query_rows`` and ``gallery_rows`` (int64) give the rows that they had. Where
    the protocol pools a side, a group is one image of it and has the labels of its first one;
    ``query_pools`` and ``gallery_pools`` are these groups, or None.

    Args:
        protocol: what to apply.
        queries, gallery: labels of all images that there are.
        draws: rows of ``gallery`` that make up each single-shot gallery, in order of preference,
            in place of the protocol's random draws.

    Raises:
        DataError: nobody takes part, labels that the protocol compares or pools by are not known,
            or a pool holds two identities, or images that the junk rule tells apart.
    """

    def __init__(
        self,
        protocol: Protocol,
        queries: Labels,
        gallery: Labels,
        draws: Sequence[ArrayLike] | None = None,
    ) -> None:
        self.protocol = protocol
        self._require_labels("query", queries, protocol.query, protocol.pool)
        self._require_labels("gallery", gallery, protocol.gallery, protocol.gallery_pool)
        self.query_rows = self._rows("query", queries, protocol.query)
        self.gallery_rows = self._rows("gallery", gallery, protocol.gallery)
        self.query_pools = self._pools("query", queries, self.query_rows, protocol.pool)
        if self.query_pools is not None:
            self.query_rows = self.query_pools.first
        self.gallery_pools = self._pools(
            "gallery", gallery, self.gallery_rows, protocol.gallery_pool
        )
        if self.gallery_pools is not None:
            self.gallery_rows = self.gallery_pools.first
        self.queries = queries.take(self.query_rows)
        self.gallery = gallery.take(self.gallery_rows)
        self.every_gallery = isinstance(protocol.single_shot, EveryGallery)
        self._rows_by_pid = _rows_by_pid(self.gallery.pids)
        if "clothes" in protocol.junk.keys:
            self._require_clothes()
        self._same = self._columns(protocol.junk.same)
        self._different = self._columns(protocol.junk.different)
        self._apart = self._columns(protocol.junk.apart)
        self._hidden: dict[tuple[object, ...], BoolArray] = {}
        self.trials = self._trials(draws)

    @cached_property
    def identities(self) -> IntArray:
        """Identities of the gallery, numbered from 0."""
        return np.unique(self.gallery.pids, return_inverse=True)[1]

    @property
    def pooled(self) -> bool:
        """Whether an image of either side stands for several, with a feature of its own."""
        return self.query_pools is not None or self.gallery_pools is not None

    def asked(self, features: FloatArray) -> FloatArray:
        """Return the features ``N D`` of all query images as those of the ``Q`` queries."""
        if self.query_pools is None:
            return features[self.query_rows]
        return self.query_pools.pooled(features, self.protocol.pooling)

    def offered(self, features: FloatArray) -> FloatArray:
        """Return the features ``N D`` of all gallery images as those of the ``G`` ranked ones."""
        if self.gallery_pools is None:
            return features[self.gallery_rows]
        return self.gallery_pools.pooled(features, self.protocol.pooling)

    def _pools(
        self, side: str, labels: Labels, rows: IntArray, keys: Sequence[str]
    ) -> Pools | None:
        if not keys:
            return None
        pools = Pools.of(labels, rows, keys)
        what = f"protocol '{self.protocol.name}': a {side} pool by {' & '.join(keys)}"
        pools.require_alike(labels, sorted(self.protocol.junk.keys), what)
        return pools

    def _require_labels(
        self, side: str, labels: Labels, subset: Subset, pool: Sequence[str] = ()
    ) -> None:
        wanted = {*self.protocol.junk.keys, *pool, *(key for key, _ in subset.conditions())}
        missing = sorted(wanted - labels.keys)
        if missing:
            raise DataError(
                f"protocol '{self.protocol.name}' needs the label '{missing[0]}' of every {side} "
                f"image, but they carry {', '.join(sorted(labels.known))}; choose a protocol that "
                "fits them"
            )

    def _rows(self, side: str, labels: Labels, subset: Subset) -> IntArray:
        keep = np.ones(len(labels), np.bool_)
        for key, values in subset.conditions():
            keep &= labels.matching(key, values)
        # A gallery image without an identity is neither right nor wrong: nobody may rank it.
        if side == "gallery":
            keep &= labels.pids != -1
        if not keep.any():
            what = "the gallery is empty" if side == "gallery" else "there is no query"
            fits = f"{len(labels)} images, none of them fits '{subset.text}'"
            without = " with an identity" if side == "gallery" else ""
            raise DataError(f"protocol '{self.protocol.name}': {what} ({fits}{without})")
        return np.flatnonzero(keep)

    def _columns(self, keys: Sequence[str]) -> list[tuple[Column, Column]]:
        """Return pairs of the queries' and the gallery's column of each label."""
        return [(self.queries.column(key), self.gallery.column(key)) for key in keys]

    def _require_clothes(self) -> None:
        """Refuse unknown outfits: all would agree with each other and silently become junk."""
        searched = np.isin(self.gallery.pids, self.queries.pids)
        for side, labels, matters in (
            ("query", self.queries, np.ones(len(self.queries), np.bool_)),
            ("gallery", self.gallery, searched),
        ):
            unknown = int(((labels.column("clothes") == -1) & matters).sum())
            if unknown:
                raise DataError(
                    f"protocol '{self.protocol.name}' compares outfits, but {unknown} of "
                    f"{int(matters.sum())} {side} images have none (clothes -1)"
                )

    def _trials(self, draws: Sequence[ArrayLike] | None) -> list[Trial]:
        shots = self.protocol.single_shot
        drawn = shots if isinstance(shots, SingleShot) else None
        if draws is not None and (drawn is None or len(draws) != drawn.trials):
            wanted = f"{drawn.trials} galleries" if drawn else shots.text if shots else "all images"
            raise DataError(
                f"protocol '{self.protocol.name}' searches in {wanted}, but {len(draws)} draws "
                "are given"
            )
        if drawn is None:
            return []
        orders = (
            random_orders(len(self.gallery_rows), drawn)
            if draws is None
            else (self._inside(np.asarray(draw, np.int64), n) for n, draw in enumerate(draws))
        )
        return [Trial(order, self.gallery.pids) for order in orders]

    def _inside(self, draw: IntArray, number: int) -> IntArray:
        """Return a draw in the numbering of the images that take part."""
        outside = draw[~np.isin(draw, self.gallery_rows)]
        if outside.size:
            raise DataError(
                f"protocol '{self.protocol.name}': draw {number} shows row {outside[0]}, which "
                "is not in the protocol's gallery"
            )
        return np.searchsorted(self.gallery_rows, draw).astype(np.int64)

    @property
    def shows_everything(self) -> bool:
        """Whether every query is shown the whole gallery but the junk among its own images."""
        return not (self.trials or self.every_gallery or self._apart)

    def own(self, query: int) -> tuple[IntArray, BoolArray]:
        """Return the gallery images of a query's identity, ascending, and which are junk to it."""
        own = self._rows_by_pid.get(int(self.queries.pids[query]), NOBODY)
        junk = np.zeros(len(own), np.bool_)
        for asked, offered in (*self._same, *self._apart):
            junk |= offered[own] == asked[query]
        for asked, offered in self._different:
            junk |= offered[own] != asked[query]
        return own, junk

    def hidden(self, query: int) -> BoolArray | None:
        """Return which gallery images a query may not see whoever they show; None: it sees all."""
        if not self._apart:
            return None
        group = tuple(asked[query] for asked, _ in self._apart)
        if group not in self._hidden:
            hidden = np.zeros(len(self.gallery), np.bool_)
            for (_, offered), value in zip(self._apart, group, strict=True):
                hidden |= offered == value
            self._hidden[group] = hidden
        return self._hidden[group]

    def shown(self, query: int) -> BoolArray:
        """Return which gallery images the ranking of a query holds: not junk, and not hidden.

        Of single-shot galleries it is the first one.
        """
        own, junk = self.own(query)
        shown = np.ones(len(self.gallery), np.bool_)
        if self.trials:
            shown[:] = False
            shown[next(self.galleries(query))] = True
        shown[own[junk]] = False
        hidden = self.hidden(query)
        if hidden is not None:
            shown &= ~hidden
        return shown

    def galleries(self, query: int) -> Iterator[IntArray]:
        """Yield, for every single-shot trial, the gallery images that a query is shown, ascending.

        Raises:
            DataError: a given draw shows no match, though the query has one.
        """
        own, junk = self.own(query)
        hidden = self.hidden(query)
        group = () if hidden is None else tuple(asked[query] for asked, _ in self._apart)
        for number, trial in enumerate(self.trials):
            shown = trial.shown(group, hidden)
            others = shown[self.gallery.pids[shown] != self.queries.pids[query]]
            match = trial.first(own[~junk])
            if match is None and not junk.all():
                raise DataError(
                    f"protocol '{self.protocol.name}': draw {number} shows no match of query row "
                    f"{self.query_rows[query]} (pid {self.queries.pids[query]})"
                )
            yield (
                others
                if match is None
                else np.insert(others, int(np.searchsorted(others, match)), match)
            )

    def no_valid_query(self, unknown: int, only_junk: int) -> DataError:
        """Return the error for a search in which no query has a match.

        Args:
            unknown: queries without any gallery image of their identity.
            only_junk: queries of whose images all are junk.
        """
        rule = self.protocol.junk
        reason = (
            f"protocol '{self.protocol.name}': no query has a match. Of {len(self.query_rows)} "
            f"queries, {unknown} have no gallery image of their identity and {only_junk} have "
            f"only junk ({rule.text})"
        )
        if only_junk and "camid" in rule.keys:
            cameras = np.union1d(self.queries.column("camid"), self.gallery.column("camid"))
        else:
            cameras = NOBODY
        if len(cameras) == 1:
            reason += (
                f"; all images are of one camera ({cameras[0]}): label the cameras, or use a "
                "protocol that ignores them, such as 'no-camera'"
            )
        elif unknown:
            reason += "; do query and gallery number their identities alike?"
        return DataError(reason)


class Trial:
    """One single-shot gallery: a preference among gallery images, the first of each identity wins.

    Args:
        order: gallery images from the most preferred on; one that is left out is never shown.
        pids: identities of the whole gallery.
    """

    def __init__(self, order: IntArray, pids: IntArray) -> None:
        self._order = order
        self._pids = pids
        self._preference = np.full(len(pids), len(pids), np.int64)
        self._preference[order] = np.arange(len(order))
        self._shown: dict[tuple[object, ...], IntArray] = {}

    def shown(self, group: tuple[object, ...], hidden: BoolArray | None) -> IntArray:
        """Return one image of every identity, ascending; ``hidden`` images are passed over.

        Args:
            group: names the queries that share ``hidden``.
            hidden: which gallery images those queries may not see.
        """
        if group not in self._shown:
            order = self._order if hidden is None else self._order[~hidden[self._order]]
            _, first = np.unique(self._pids[order], return_index=True)
            self._shown[group] = np.sort(order[first])
        return self._shown[group]

    def first(self, images: IntArray) -> int | None:
        """Return the most preferred of some gallery images; None if none of them is offered."""
        if not images.size:
            return None
        best = int(images[np.argmin(self._preference[images])])
        return best if self._preference[best] < len(self._pids) else None


def random_orders(count: int, draws: SingleShot) -> Iterator[IntArray]:
    """Yield the preference of every trial of `SingleShot`: an order of ``count`` images."""
    for trial in range(draws.trials):
        # Python guarantees this stream for a seed, NumPy does not: published numbers rest on it.
        stream = random.Random(draws.seed + trial)
        keys = np.array([stream.random() for _ in range(count)])
        yield np.argsort(keys, kind="stable")


def _rows_by_pid(pids: IntArray) -> dict[int, IntArray]:
    """Return the rows of every identity, ascending."""
    order = np.argsort(pids, kind="stable")
    found, starts = np.unique(pids[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    places = zip(found.tolist(), starts.tolist(), ends, strict=True)
    return {pid: order[start:end] for pid, start, end in places}
