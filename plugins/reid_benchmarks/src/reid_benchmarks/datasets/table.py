"""The public data sets as data: layout, official counts, where to request the files.

Counts are those of the official lists where such lists exist, otherwise what the owners' papers and
pages state; the README says which. None stands where nobody states a number.
"""

from __future__ import annotations

from reid_benchmarks.datasets.benchmark import Benchmark
from reid_benchmarks.datasets.ccvid import read_ccvid
from reid_benchmarks.datasets.celeb import read_celeb
from reid_benchmarks.datasets.cuhk03 import SPLITS, read_cuhk03
from reid_benchmarks.datasets.deepchange import read_deepchange
from reid_benchmarks.datasets.duke import WITHDRAWN, read_duke, read_occluded_duke
from reid_benchmarks.datasets.ilids_vid import SPLITS as ILIDS_SPLITS, read_ilids_vid
from reid_benchmarks.datasets.last import read_last
from reid_benchmarks.datasets.ltcc import read_ltcc
from reid_benchmarks.datasets.market import read_market1501
from reid_benchmarks.datasets.mars import read_mars
from reid_benchmarks.datasets.msmt17 import read_msmt17
from reid_benchmarks.datasets.partial import (
    read_occluded_reid,
    read_partial_ilids,
    read_partial_reid,
)
from reid_benchmarks.datasets.prcc import read_prcc
from reid_benchmarks.datasets.vcclothes import read_vcclothes
from reid_core.contract.samples import Counts

_MARKET_TRAIN, _MARKET_QUERY = Counts(12_936, 751, 6), Counts(3_368, 750, 6)
_MARKET = {
    "train": _MARKET_TRAIN,
    "query": _MARKET_QUERY,
    "gallery": Counts(15_913, 750, 6),  # 19,732 files less 3,819 junk boxes
}
_MSMT17_TEST = {"query": Counts(11_659, 3_060, 15), "gallery": Counts(82_161, 3_060, 15)}
_MSMT17 = {"train": Counts(30_248, 1_041, 15), **_MSMT17_TEST}
_MSMT17_WITH_VAL = {"train": Counts(32_621, 1_041, 15), **_MSMT17_TEST}
# Cameras are up to ten, or the two views, as the copy's names say.
_CUHK03_CLASSIC = {
    "train": Counts(None, 1_367, None),
    "query": Counts(None, 100),
    "gallery": Counts(None, 100),
}
_LTCC_TEST = {"query": Counts(493, 75, None), "gallery": Counts(7_050, 75, None)}
_LAST_TRAIN = Counts(71_248, 5_000)
_DEEPCHANGE_TRAIN = Counts(75_083, 450)
_THREE = "ROOT/{bounding_box_train,query,bounding_box_test}"

BENCHMARKS = (
    Benchmark(
        "ccvid",
        "CCVID: tracklets of people who change their clothes, in three sessions",
        "ROOT/{train,query,gallery}.txt, lines 'sessionS/PPP_CC PID CLOTHES', and the folders that "
        "they name",
        "its authors (Gu et al., CVPR 2022), https://github.com/guxinqian/Simple-CCReID",
        read_ccvid,
        {
            "": {
                "train": Counts(948, 75),
                "query": Counts(834, 151),
                "gallery": Counts(1_074, 151),
            }
        },
    ),
    Benchmark(
        "celeb-reid",
        "Celeb-reID: street snapshots of celebrities, no cameras, no outfit labels",
        "ROOT/{train,query,gallery}/PID_NUMBER_ANY.jpg",
        "its authors (Huang et al., IJCNN 2019), https://github.com/Huang-3/Celeb-reID",
        read_celeb,
        {
            "": {
                "train": Counts(20_208, 632),
                "query": Counts(2_972, 420),
                "gallery": Counts(11_006, 420),
            }
        },
    ),
    Benchmark(
        "celeb-reid-light",
        "Celeb-reID-light: the part of Celeb-reID in which nobody repeats an outfit",
        "ROOT/{train,query,gallery}/PID_NUMBER_ANY.jpg",
        "its authors (Huang et al., IJCNN 2019), https://github.com/Huang-3/Celeb-reID",
        read_celeb,
        {
            "": {
                "train": Counts(9_021, 490),
                "query": Counts(887, 100),
                "gallery": Counts(934, 100),
            }
        },
    ),
    Benchmark(
        "cuhk03",
        "CUHK03: new protocol (767/700 people), or :1 to :20 of the classic splits (1,367/100)",
        "ROOT/{detected,labeled}/ in the folders of Market-1501; or ROOT/images_{detected,labeled}/"
        "PAIR_PERSON_VIEW_COLUMN.png or ROOT/cuhk-03.mat, and for the new protocol "
        "ROOT/cuhk03_new_protocol_config_{detected,labeled}.mat",
        "its authors (Li et al., CVPR 2014), with their form; the configuration from Zhong et al. "
        "(CVPR 2017), https://github.com/zhunzhong07/person-re-ranking",
        read_cuhk03,
        {
            "detected": {
                "train": Counts(7_365, 767),
                "query": Counts(1_400, 700),
                "gallery": Counts(5_332, 700),
            },
            "labeled": {
                "train": Counts(7_368, 767),
                "query": Counts(1_400, 700),
                "gallery": Counts(5_328, 700),
            },
            "classic-detected": _CUHK03_CLASSIC,
            "classic-labeled": _CUHK03_CLASSIC,
        },
        protocols={
            "detected": "cuhk03/np",
            "labeled": "cuhk03/np",
            "classic-detected": "cuhk03/classic",
            "classic-labeled": "cuhk03/classic",
        },
        sizes={"classic-detected": SPLITS, "classic-labeled": SPLITS},
        people_together=True,
    ),
    Benchmark(
        "deepchange",
        "DeepChange: a year before 17 cameras; an outfit is a day",
        "ROOT/{train-set,test-set-query,test-set-gallery}/PPID_CCAM_DAY_HOUR_ANY_ANY.jpg and a "
        "list FOLDER-bbox.txt of each; /val reads val-set-*",
        "its authors (Xu and Zhu, ICCV 2023), with a signed agreement, "
        "https://github.com/PengBoXiangShang/deepchange",
        read_deepchange,
        {
            "test": {
                "train": _DEEPCHANGE_TRAIN,
                "query": Counts(17_527, 521),
                "gallery": Counts(62_956, 521),
            },
            "val": {
                "train": _DEEPCHANGE_TRAIN,
                "query": Counts(4_976, 150),
                "gallery": Counts(17_865, 150),
            },
        },
    ),
    Benchmark(
        "duke",
        "DukeMTMC-reID: withdrawn by its owners, for copies that a user still holds",
        f"{_THREE}/PPPP_cC_fFFFFFFF.jpg",
        "nowhere, it has been withdrawn",
        read_duke,
        {
            "": {
                "train": Counts(16_522, 702, 8),
                "query": Counts(2_228, 702, 8),
                "gallery": Counts(17_661, 1_110, 8),
            }
        },
        notice=WITHDRAWN,
        people_together=True,
    ),
    Benchmark(
        "ilids-vid",
        "iLIDS-VID: 300 people as tracklets before two cameras of an airport; :1 to :10 are its "
        "splits",
        "ROOT/i-LIDS-VID/sequences/{cam1,cam2}/personPPP/camC_personPPP_FFFFF.png and ROOT/"
        "train-test people splits/train_test_splits_ilidsvid.mat",
        "its authors (Wang et al., ECCV 2014); the images are of i-LIDS, and the terms of the UK "
        "Home Office hold",
        read_ilids_vid,
        {
            "": {
                "train": Counts(300, 150, 2),
                "query": Counts(150, 150, 1),
                "gallery": Counts(150, 150, 1),
            }
        },
        sizes={"": ILIDS_SPLITS},
        people_together=True,
    ),
    Benchmark(
        "last",
        "LaST: people in films, no cameras; outfits are labelled in training only",
        "ROOT/train/PID/PID_..._OUTFIT.jpg and ROOT/test/{query/,gallery/PID/}PID_....jpg; /val "
        "reads ROOT/val",
        "its authors (Shu et al., TCSVT 2021), https://github.com/shuxjweb/last",
        read_last,
        {
            "test": {
                "train": _LAST_TRAIN,
                "query": Counts(10_176, 5_805),
                "gallery": Counts(125_353, 5_806),
            },
            "val": {
                "train": _LAST_TRAIN,
                "query": Counts(100, 56),
                "gallery": Counts(21_279, 56),
            },
        },
    ),
    Benchmark(
        "ltcc",
        "LTCC: up to 14 outfits of a person before 12 cameras; /train-changing trains on the 46 "
        "people who change",
        "ROOT/{train,query,test}/PPP_O_cC_FFFFFF.png and ROOT/info/cloth-{change,unchange}_id_"
        "{train,test}.txt",
        "its authors (Qian et al., ACCV 2020), https://naiq.github.io/LTCC_Perosn_ReID.html",
        read_ltcc,
        {
            "train-all": {"train": Counts(9_576, 77, None), **_LTCC_TEST},
            "train-changing": {"train": Counts(None, 46, None), **_LTCC_TEST},
        },
        people_together=True,
    ),
    Benchmark(
        "market1501",
        "Market-1501: six cameras on a campus; /multi-query adds the hand-drawn boxes, /500k the "
        "500,000 distractors",
        f"{_THREE}/PPPP_cCsS_FFFFFF_BB.jpg, and ROOT/gt_bbox or ROOT/images where asked for",
        "its authors (Zheng et al., ICCV 2015), "
        "https://www.liangzheng.org/Project/project_reid.html",
        read_market1501,
        {
            "single-query": _MARKET,
            "multi-query": _MARKET,
            "500k": {
                "train": _MARKET_TRAIN,
                "query": _MARKET_QUERY,
                "gallery": Counts(None, 750, 6),
            },
        },
        people_together=True,
    ),
    Benchmark(
        "mars",
        "MARS: tracklets of the people of Market-1501 before six cameras",
        "ROOT/{bbox_train,bbox_test}/PPPP/PPPPCcTTTTTFFFF.jpg and ROOT/info/{train_name.txt,"
        "test_name.txt,tracks_train_info.mat,tracks_test_info.mat,query_IDX.mat}",
        "its authors (Zheng et al., ECCV 2016), "
        "https://www.liangzheng.org/Project/project_mars.html",
        read_mars,
        {
            "": {
                "train": Counts(8_298, 625, 6),
                "query": Counts(1_980, 626, 6),
                "gallery": Counts(11_310, None, 6),  # 12,180 less 870 of junk; 1,980 are queries
            }
        },
        people_together=True,
    ),
    Benchmark(
        "msmt17",
        "MSMT17: 15 cameras; V1 has faces, V2 masks them; +val trains on list_val, too",
        "ROOT/{train,test} (V1) or ROOT/{mask_train_v2,mask_test_v2} (V2) and ROOT/list_{train,val,"
        f"query,gallery}}.txt; /rearranged reads {_THREE}/PPPP_cC_anything.jpg",
        "its authors (Wei et al., CVPR 2018), with a release agreement by e-mail",
        read_msmt17,
        {
            "v1": _MSMT17,
            "v1+val": _MSMT17_WITH_VAL,
            "v2": _MSMT17,
            "v2+val": _MSMT17_WITH_VAL,
            "rearranged": {"train": Counts(None, 1_041, 15), **_MSMT17_TEST},
        },
    ),
    Benchmark(
        "occluded-duke",
        "Occluded-Duke: DukeMTMC-reID divided anew, withdrawn with it",
        f"{_THREE}/PPPP_cC_fFFFFFFF.jpg, or ROOT/{{train,query,gallery}}.list beside DukeMTMC-reID",
        "nowhere, its images have been withdrawn",
        read_occluded_duke,
        {
            "": {
                "train": Counts(15_618, 702, 8),
                "query": Counts(2_210, 519, 8),
                "gallery": Counts(17_661, 1_110, 8),
            }
        },
        notice=WITHDRAWN,
        people_together=True,
    ),
    Benchmark(
        "occluded-reid",
        "Occluded-REID: 200 people behind things, and whole; test only",
        "ROOT/{occluded_body_images,whole_body_images}/PPP/PPP_N.tif, or flat, or ROOT/{query,"
        "gallery}/PPP_N.jpg",
        "its authors (Zhuo et al., ICME 2018)",
        read_occluded_reid,
        {"": {"query": Counts(1_000, 200), "gallery": Counts(1_000, 200)}},
    ),
    Benchmark(
        "partial-ilids",
        "Partial-iLIDS: 119 people in part, and whole; test only. /238 is another release",
        "ROOT/{Probe,Gallery}/NNN.jpg, or ROOT/{query,gallery} or "
        "ROOT/{partial_body_images,whole_body_images}/PPP_N.jpg",
        "its authors; its images are of i-LIDS, and the terms of the UK Home Office hold",
        read_partial_ilids,
        {
            "119": {"query": Counts(119, 119), "gallery": Counts(119, 119)},
            "238": {"query": Counts(238), "gallery": Counts(238)},
        },
    ),
    Benchmark(
        "partial-reid",
        "Partial-REID: 60 people, cropped by hand or (/occluded) behind things; test only",
        "ROOT/{partial_body_images,occluded_body_images,whole_body_images}/PPP_N.jpg",
        "its authors (Zheng et al., ICCV 2015)",
        read_partial_reid,
        {
            variant: {"query": Counts(300, 60), "gallery": Counts(300, 60)}
            for variant in ("partial", "occluded")
        },
    ),
    Benchmark(
        "prcc",
        "PRCC: two outfits before three cameras; camera A is the gallery, B (same clothes) and C "
        "(other clothes) are queries",
        "ROOT/rgb/train/PID/{A,B,C}_cropped_rgbNNN.jpg and ROOT/rgb/test/{A,B,C}/PID/"
        "cropped_rgbNNN.jpg",
        "its authors (Yang et al., TPAMI 2019), https://www.isee-ai.cn/~yangqize/clothing.html",
        read_prcc,
        {
            "": {
                "train": Counts(17_896, 150, 3),
                "query": Counts(7_416, 71, 2),  # 3,873 of camera B, 3,543 of camera C
                "gallery": Counts(3_384, 71, 1),
            }
        },
        people_together=True,
    ),
    Benchmark(
        "vcclothes",
        "VC-Clothes: rendered people before four cameras; 2 and 3 show the same clothes, 3 and 4 "
        "others",
        "ROOT/{train,query,gallery}/PPPP-CC-OO-NN.jpg",
        "its authors (Wan et al., CVPR Workshops 2020), https://wanfb.github.io/dataset.html",
        read_vcclothes,
        {
            "": {
                "train": Counts(9_449, 256, 4),
                "query": Counts(1_020, 256, 4),
                "gallery": Counts(8_591, 256, 4),
            }
        },
        people_together=True,
    ),
)
"""All data sets, by name."""
