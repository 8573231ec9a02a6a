"""Evaluate a model on a data set: features once, then every protocol of the data set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.config import EngineSection, EvaluationSection
from reid_core.contract.model import SAMPLE_LABELS
from reid_core.contract.samples import DataSet, Sample
from reid_core.contract.words import unknown_name
from reid_core.errors import ConfigError, DataError, PluginError, did_you_mean, own_errors
from reid_core.evaluation.extraction import extract, extract_output
from reid_core.evaluation.frames import Frames, Side, after_pooling, of_samples, pools_frames
from reid_core.evaluation.pictures import choose_queries, ranked_list_picture
from reid_core.evaluation.statistics import images_by_camera, norms_of, of_cameras
from reid_core.machine.ranks import broadcast, gather_objects, world
from reid_core.model.embedder import Embedder, reader_of
from reid_core.model.graph import ReidModel
from reid_retrieval.features import FeatureSet
from reid_retrieval.passes import ALONE, Share
from reid_retrieval.products import chosen_library, products_by
from reid_retrieval.protocols import Protocol
from reid_retrieval.reranking import k_reciprocal
from reid_retrieval.results import Evaluation, Provenance, RetrievalResult
from reid_retrieval.retrieval import evaluate_all, ranked_rows
from reid_retrieval.searching import Search
from reid_retrieval.similarities import SimilarityMaker

Way = tuple[str, bool]
"""A split, and whether the frames of its tracklets are looked at one by one."""

Tell = Callable[[int], None] | None


@dataclass(frozen=True)
class Evaluator:
    """Evaluate embedders on one data set.

    Args:
        dataset: queries and gallery.
        protocols: what to report.
        settings: the run's ``evaluation`` section.
        device: where embedders are.
        threads: decoding threads.
        engine: precision and memory format of the run; see `extract` for None.
        size: height and width of the input, for outputs of a training model.
        unknown: what embedders are to take for unknown, though the images have it.
        label: what its results are called by, where those of several data sets stand together.
    """

    dataset: DataSet
    protocols: tuple[Protocol, ...]
    settings: EvaluationSection
    device: torch.device
    threads: int = 2
    engine: EngineSection | None = None
    size: tuple[int, int] = (256, 128)
    unknown: tuple[str, ...] = ()
    label: str = ""

    @own_errors()
    def check(self) -> None:
        """Refuse, before training, a data set on which no query can be answered.

        Raises:
            DataError: why no query of a protocol is valid, or statistics of each camera are asked
                for and there are no cameras, or one has too few images.
        """
        if self.settings.batch_norm == "camera":
            self._cameras()
        labels = {key: side.labels for key, side in self._sides().items()}
        for protocol, (asked, offered) in zip(self.protocols, self._frames(), strict=True):
            search = Search(protocol, labels["query", asked], labels["gallery", offered])
            unknown = only_junk = 0
            for row in range(len(search.query_rows)):
                own, junk = search.own(row)
                if len(own) and not junk.all():
                    break
                unknown += not len(own)
                only_junk += bool(len(own))
            else:
                raise search.no_valid_query(unknown, only_junk)

    @own_errors()
    def check_embedder(self, embedder: Embedder) -> None:
        """Refuse, before training, an embedder that cannot be evaluated here as it is asked to be.

        Raises:
            ConfigError: mirrored images of an embedding that reads fields, or statistics of each
                camera where there is no batch normalisation.
            DataError: the test images lack a field that it reads.
        """
        moved = [name for name in embedder.fields if name not in SAMPLE_LABELS]
        if self.settings.flip != "off" and moved:
            raise ConfigError(
                f"evaluation.flip is not possible with an embedding that reads "
                f"{', '.join(moved)}: mirrored images would need mirrored fields"
            )
        if self.settings.batch_norm == "camera" and not norms_of(embedder):
            raise ConfigError(
                "evaluation.batch_norm = 'camera' would change nothing: this embedder has no batch "
                "normalisation that keeps statistics; take 'running'"
            )
        for name in self.unknown:
            if name not in embedder.fields:
                raise ConfigError(
                    f"'{name}' cannot be unknown to this embedder, which does not read it"
                    f"{did_you_mean(name, embedder.fields)}"
                )
        known = {*self.dataset.query_fields, *SAMPLE_LABELS} - set(self.unknown)
        lacking = _without_default(embedder, known)
        if lacking:
            raise DataError(
                f"the embeddings read {', '.join(lacking)}, which the query and gallery images of "
                f"'{self.dataset.name}' do not carry; choose others with --embed"
            )

    def evaluate(
        self,
        embedder: Embedder,
        advance: Callable[[int], None] | None = None,
        heads: int = 0,
    ) -> Evaluation:
        """Return the scores of an embedder under every protocol.

        Ranks divide the images to extract and the queries to answer; all get the same result.
        Where a protocol pools by ``tracklet``, frames of tracklets are embedded as single images.

        Args:
            embedder: on the evaluator's device.
            advance: is told how many more images are done.
            heads: how many images of every ranking's head to keep.

        Returns:
            Its features are those that the first protocol compares, one per sample.
        """
        self.check_embedder(embedder)
        sides, tells = self._sides(), dict[Way, Tell]()
        for (name, frames), side in sides.items():
            # A side that is looked at in both ways is told of once.
            tells[name, frames] = None if frames and (name, False) in sides else side.told(advance)
        if by_camera := self.settings.batch_norm == "camera":
            rows = self._features_by_camera(embedder, sides, tells)
        else:
            rows = {w: self._features(embedder, s.samples, tells[w]) for w, s in sides.items()}
        sets = {way: FeatureSet(rows[way], side.labels) for way, side in sides.items()}
        provenance = Provenance(
            self.settings.flip,
            self.dataset.fingerprint(),
            _features_text(embedder, self.settings.vector),
            self.label,
            "camera" if by_camera else "",
        )
        results: list[RetrievalResult] = []
        ways = self._frames()
        with self._multiplying():
            for comparison in self._comparisons():
                found: dict[int, RetrievalResult] = {}
                for asked, offered in dict.fromkeys(ways):
                    places = [n for n, way in enumerate(ways) if way == (asked, offered)]
                    scored = evaluate_all(
                        sets["query", asked],
                        sets["gallery", offered],
                        [self.protocols[place] for place in places],
                        distance=comparison,
                        per_query=True,
                        heads=heads,
                        provenance=provenance,
                        share=_share(),
                    )
                    both = sides["query", asked], sides["gallery", offered]
                    found |= {n: of_samples(r, *both) for n, r in zip(places, scored, strict=True)}
                results += [found[place] for place in range(len(ways))]
        query, gallery = (
            sides[key].whole(sets[key], self.protocols[0].pooling)
            for key in zip(("query", "gallery"), ways[0], strict=True)
        )
        return Evaluation(tuple(results), query, gallery)

    def _frames(self) -> list[Frames]:
        """Return of which sides each protocol pools frames."""
        dataset = self.dataset
        return [pools_frames(one, dataset.query, dataset.gallery) for one in self.protocols]

    def _sides(self) -> dict[Way, Side]:
        """Return query and gallery in all the ways in which protocols look at them."""
        splits = (("query", self.dataset.query), ("gallery", self.dataset.gallery))
        ways = self._frames()
        return {
            (name, frames): Side.of(samples, self.dataset.query_fields, frames)
            for place, (name, samples) in enumerate(splits)
            for frames in sorted({way[place] for way in ways})
        }

    def _features(
        self, embedder: Embedder, samples: Sequence[Sample], advance: Tell
    ) -> NDArray[np.float32]:
        return extract(
            embedder,
            samples,
            self.device,
            flip=self.settings.flip,
            vector=None if self.settings.vector == "declared" else self.settings.vector,
            advance=advance,
            **self._extraction(),
        )

    def _features_by_camera(
        self, embedder: Embedder, sides: Mapping[Way, Side], tells: Mapping[Way, Tell]
    ) -> dict[Way, NDArray[np.float32]]:
        """Return features of all sides, of each camera's images with their own statistics."""
        found: dict[Way, list[NDArray[np.float32]]] = {way: [] for way in sides}
        with closing(of_cameras(embedder, self._cameras(), **self._extraction())) as cameras:
            for camera in cameras:
                for way, side in sides.items():
                    own = [sample for sample in side.samples if sample.camid == camera]
                    found[way].append(self._features(embedder, own, tells[way]))
        rows = {}
        for way, side in sides.items():
            by_camera = np.argsort([sample.camid for sample in side.samples], kind="stable")
            rows[way] = np.concatenate(found[way])[np.argsort(by_camera)]
        return rows

    def _cameras(self) -> dict[int, list[Sample]]:
        return images_by_camera((*self.dataset.query, *self.dataset.gallery), self.dataset.name)

    def _extraction(self) -> dict[str, Any]:
        """Return how features and outputs are extracted alike."""
        return {
            "specs": self.dataset.query_fields,
            "batch_size": self.settings.batch_size,
            "threads": self.threads,
            "engine": self.engine,
            "unknown": self.unknown,
        }

    def output(self, model: ReidModel, split: str, name: str) -> NDArray[np.float32]:
        """Return an output of a training model for all images of a split, in their order.

        Args:
            model: on the evaluator's device.
            split: ``query`` or ``gallery``.
            name: of an output of the encoder or of a branch.

        Raises:
            PluginError: no such output or split, or images that lack what it is made of.
        """
        splits = {"query": self.dataset.query, "gallery": self.dataset.gallery}
        if split not in splits:
            raise unknown_name(split, splits, "split")
        reader = reader_of(model, self.size, name)
        lacking = _without_default(reader, {*self.dataset.query_fields, *SAMPLE_LABELS})
        if lacking:
            raise PluginError(
                f"output '{name}' is made of {', '.join(lacking)}, which the query and gallery "
                f"images of '{self.dataset.name}' do not carry"
            )
        return extract_output(reader, name, splits[split], self.device, **self._extraction())

    @contextmanager
    def _multiplying(self) -> Iterator[None]:
        """Let retrieval multiply by the library that the settings name, or rank 0 finds fastest."""
        cuda = self.device.type == "cuda"
        with products_by(self.settings.products):
            library = broadcast(chosen_library(host=not cuda))
        with torch.cuda.device(self.device) if cuda else nullcontext(), products_by(library):
            yield

    def _comparisons(self) -> list[str | SimilarityMaker]:
        """Return how images are compared: plainly, and re-ranked where that is asked for."""
        settings = self.settings
        if settings.reranking == "none":
            return [settings.distance]
        reranked = k_reciprocal(
            k1=settings.reranking_k1,
            k2=settings.reranking_k2,
            weight=settings.reranking_lambda,
            distance=settings.distance,
        )
        return [settings.distance, reranked]

    @own_errors()
    def picture(self, evaluation: Evaluation, path: Path, title: str) -> Path | None:
        """Draw the ranked lists of some queries under the first protocol; None where it is off."""
        scores = evaluation.results[0].per_query
        if not self.settings.ranked_list or scores is None:
            return None
        rows = choose_queries(scores, self.settings.ranked_list)
        ranked = ranked_rows(
            evaluation.query,
            evaluation.gallery,
            rows,
            after_pooling(self.protocols[0], self._frames()[0]),
            distance=self.settings.distance,
        )
        query, gallery = self.dataset.query, self.dataset.gallery
        return ranked_list_picture(query, gallery, ranked, path, title=title)


def _without_default(embedder: Embedder, known: Collection[str]) -> list[str]:
    """Return what an embedder reads that is not known, and for which nothing stands."""
    inputs = embedder.inputs
    return [
        name
        for name in embedder.fields
        if name not in known and (name not in inputs or inputs[name].default is None)
    ]


def chosen_protocols(
    named: Sequence[str], dataset: DataSet, find: Callable[[str], Protocol]
) -> tuple[Protocol, ...]:
    """Return the protocols to report: those that the user names, otherwise the data set's."""
    return tuple(find(name) for name in (named or dataset.protocols))


def _share() -> Share:
    """Return which of the ranks this is."""
    rank, ranks = world()
    return ALONE if ranks == 1 else Share(rank, ranks, gather_objects)


def _features_text(embedder: Embedder, vector: str) -> str:
    """Say which vectors make up the feature: ``unit core/global``."""
    return " + ".join(
        f"{e.test_vector if vector == 'declared' else vector} {name}"
        for name, e in embedder.embeddings.items()
    )
