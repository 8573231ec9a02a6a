"""The published evaluation protocols, by name and as data.

A name is ``SET[/SETTING][/GALLERY]``: ``ltcc/cc``, ``prcc/sc/multi-shot``. ``single-shot@10`` draws
ten galleries of one image per identity, ``single-shot@all`` is the exact mean over all of them.
A protocol's version grows when its meaning changes; both are stored with every result.

Beside pid, camid and clothes, protocols read these labels, which loaders put into samples:

==================== ========================================================================
``split``            of Market-1501's query side: ``query``, or ``multi-query`` for the
                     hand-drawn boxes of ``gt_bbox``
``camera``           VC-Clothes: 1 to 4, PRCC: A, B or C, as the files say and papers quote
``cloth_changing``   LTCC, of query and gallery: 1 if the person is in
                     ``cloth-change_id_test.txt``, otherwise 0
``view``             CUHK03: 1 or 2, whichever of the five pairs of cameras
``tracklet``         DeepChange, of query and gallery: the tracklet's id
``asked``            MARS, of the gallery: 1 of tracklets that are queries, too, 0 of others
==================== ========================================================================

The partial and occluded sets, Celeb-reID and LaST have no cameras: nothing is junk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reid_retrieval.protocols import (
    JunkRule,
    Protocol,
    Subset,
    every_gallery_variant,
    single_shot_variant,
)

SAME_CAMERA = JunkRule(same=("camid",))
"""Images of the query's identity from its own camera (Zheng et al., Market-1501, ICCV 2015)."""

FEW_RANKS = (1, 5, 10)
PARTIAL_RANKS = (1, 3, 5, 10)
"""Ranks that papers on these sets print."""


def _standard(name: str) -> Protocol:
    return Protocol(name, junk=SAME_CAMERA)


def _shots(protocol: Protocol, trials: int = 10) -> tuple[Protocol, ...]:
    """Return a protocol on the whole gallery, on seeded single-shot galleries, and on all."""
    whole = replace(protocol, name=f"{protocol.name}/multi-shot")
    return whole, single_shot_variant(protocol, trials), every_gallery_variant(protocol)


def _camera(*raw: int | str) -> Subset:
    """Choose samples by the camera that stands in their files' names."""
    return Subset(extra=(("camera", raw),))


def _market1501() -> Iterator[Protocol]:
    queries = Subset(splits=("query",))
    yield Protocol("market1501", query=queries, junk=SAME_CAMERA)
    drawn = Subset(splits=("multi-query",))
    yield Protocol("market1501/multi-query", query=drawn, junk=SAME_CAMERA, pool=("pid", "camid"))


def _cuhk03_classic() -> Iterator[Protocol]:
    # Every image of one view is searched for among one image per identity of the other
    # (Li et al., DeepReID, CVPR 2014; open-reid).
    other_view = Protocol("cuhk03/classic", junk=JunkRule(apart=("view",)))
    _, drawn, every = _shots(other_view)
    yield every
    yield drawn
    yield replace(other_view, name="cuhk03/classic/multi-shot")
    # torchreid and its descendants let the drawn images of others come from the query's own view.
    pooled = Protocol("cuhk03/classic/pooled-views", junk=SAME_CAMERA)
    yield from _shots(pooled)


def _prcc() -> Iterator[Protocol]:
    # Queries and gallery are of different cameras: nothing is junk (Yang et al., TPAMI 2019).
    for setting, camera in (("cc", "C"), ("sc", "B")):
        yield from _shots(
            Protocol(
                f"prcc/{setting}",
                query=_camera(camera),
                gallery=_camera("A"),
                ranks=FEW_RANKS,
            )
        )


def _ltcc() -> Iterator[Protocol]:
    # Qian et al., Long-Term Cloth-Changing Person Re-identification, ACCV 2020.
    changed = JunkRule(same=("camid", "clothes"))
    yield _standard("ltcc/general")
    yield Protocol("ltcc/cc", junk=changed)
    yield Protocol("ltcc/sc", junk=JunkRule(same=("camid",), different=("clothes",)))
    changing = Subset(extra=(("cloth_changing", (1,)),))
    yield Protocol("ltcc/cc/identity-filter", query=changing, gallery=changing, junk=changed)


def _vcclothes() -> Iterator[Protocol]:
    # Wan et al., When Person Re-identification Meets Changing Clothes, CVPRW 2020.
    yield _standard("vcclothes/all")
    for setting, cameras in (("sc", (2, 3)), ("cc", (3, 4))):
        both = _camera(*cameras)
        yield Protocol(f"vcclothes/{setting}", query=both, gallery=both, junk=SAME_CAMERA)


def _partial(name: str) -> Iterator[Protocol]:
    yield from _shots(Protocol(name, ranks=PARTIAL_RANKS))


def _deepchange() -> Iterator[Protocol]:
    # Xu and Zhu, DeepChange, ICCV 2023: other tracklets of the query's own camera do count.
    yield Protocol("deepchange/tracklet", junk=JunkRule(same=("tracklet",)))
    yield _standard("deepchange/camera")


def _mars() -> Iterator[Protocol]:
    # Most code leaves the queries' tracklets out of the gallery, where the owners' has all.
    others = Subset(extra=(("asked", (0,)),))
    yield replace(_standard("mars"), gallery=others)
    yield _standard("mars/with-queries")
    # As the owners score features of single images (Zheng et al., ECCV 2016): the largest values
    # over a tracklet's frames. Version 1 left the queries' tracklets out.
    pools = ("tracklet",)
    yield replace(
        _standard("mars/frames"), pool=pools, gallery_pool=pools, pooling="max", version=2
    )


def _ccvid() -> Iterator[Protocol]:
    # Gu et al., Clothes-Changing Person Re-identification with RGB Modality Only, CVPR 2022.
    yield _standard("ccvid/general")
    yield Protocol("ccvid/cc", junk=JunkRule(same=("camid", "clothes")))


_OF_SETS: dict[str, tuple[Protocol, ...]] = {
    "market1501": tuple(_market1501()),
    "duke": (_standard("duke"),),
    "msmt17": (_standard("msmt17"),),
    "cuhk03/np": (_standard("cuhk03/np"),),
    "cuhk03/classic": tuple(_cuhk03_classic()),
    "prcc": tuple(_prcc()),
    "ltcc": tuple(_ltcc()),
    "vcclothes": tuple(_vcclothes()),
    "partial-reid": tuple(_partial("partial-reid")),
    # One image of each person on either side: the whole gallery is a single-shot one.
    "partial-ilids": (Protocol("partial-ilids", ranks=PARTIAL_RANKS),),
    "occluded-reid": tuple(_partial("occluded-reid")),
    "occluded-duke": (_standard("occluded-duke"),),
    "celeb-reid": (Protocol("celeb-reid"),),
    "celeb-reid-light": (Protocol("celeb-reid-light"),),
    "last": (Protocol("last"),),
    "deepchange": tuple(_deepchange()),
    "mars": tuple(_mars()),
    # One tracklet of each person on either side, before different cameras.
    "ilids-vid": (Protocol("ilids-vid", junk=SAME_CAMERA),),
    "ccvid": tuple(_ccvid()),
}

PROTOCOLS = tuple(protocol for protocols in _OF_SETS.values() for protocol in protocols)
"""All protocols of the published data sets."""

_NOT_ASKED = {
    "market1501": ("market1501/multi-query",),
    "ltcc": ("ltcc/cc/identity-filter",),
    "mars": ("mars/frames",),
}
"""Protocols that are not reported by default: they need files which not every copy has, and are
reported where a loader found them; or they are for models of single images."""

PROTOCOL_NAMES = {
    name: tuple(p.name for p in protocols if p.name not in _NOT_ASKED.get(name, ()))
    for name, protocols in _OF_SETS.items()
}
"""What a data set reports by default, by its name (of CUHK03 by name and variant); each is a value
for `DataSet.protocols`."""
