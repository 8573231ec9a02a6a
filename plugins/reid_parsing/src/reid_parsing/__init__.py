"""The body parser and its labelers for parts, garments and joints.

Everything public is here; modules are imported on first use, so that discovery stays fast.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "reid_parsing.inference": ("BodyParser", "LabelMaps", "parse"),
    "reid_parsing.lookup": (
        "GRANULARITIES",
        "GRANULARITY_CLASSES",
        "LABEL_SETS",
        "LabelSet",
        "coarser_parts",
        "lookup_table",
        "mirrored_logits",
    ),
    "reid_parsing.metrics": ("Confusion",),
    "reid_parsing.networks.build": ("NETWORKS", "build_parser"),
    "reid_parsing.networks.parser": ("Parser", "ParserOutputs", "resized_logits"),
    "reid_parsing.pictures": ("overlay", "overlay_sheet"),
    "reid_parsing.plugin": ("Parsing", "ParsingSettings"),
    "reid_parsing.recipes": ("RECIPES", "TrainingRecipe"),
    "reid_parsing.sources": ("choose_labelled",),
    "reid_parsing.training": ("NETWORK", "parser_stage", "trained_parser"),
    "reid_parsing.weights": ("load_parser", "load_schp", "save_parser"),
}

_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOME)
__version__ = metadata.version("reid-parsing")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reid_parsing' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from reid_parsing.inference import (
        BodyParser as BodyParser,
        LabelMaps as LabelMaps,
        parse as parse,
    )
    from reid_parsing.lookup import (
        GRANULARITIES as GRANULARITIES,
        GRANULARITY_CLASSES as GRANULARITY_CLASSES,
        LABEL_SETS as LABEL_SETS,
        LabelSet as LabelSet,
        coarser_parts as coarser_parts,
        lookup_table as lookup_table,
        mirrored_logits as mirrored_logits,
    )
    from reid_parsing.metrics import Confusion as Confusion
    from reid_parsing.networks.build import NETWORKS as NETWORKS, build_parser as build_parser
    from reid_parsing.networks.parser import (
        Parser as Parser,
        ParserOutputs as ParserOutputs,
        resized_logits as resized_logits,
    )
    from reid_parsing.pictures import overlay as overlay, overlay_sheet as overlay_sheet
    from reid_parsing.plugin import Parsing as Parsing, ParsingSettings as ParsingSettings
    from reid_parsing.recipes import RECIPES as RECIPES, TrainingRecipe as TrainingRecipe
    from reid_parsing.sources import choose_labelled as choose_labelled
    from reid_parsing.training import (
        NETWORK as NETWORK,
        parser_stage as parser_stage,
        trained_parser as trained_parser,
    )
    from reid_parsing.weights import (
        load_parser as load_parser,
        load_schp as load_schp,
        save_parser as save_parser,
    )
