"""Old paths of modules: what stood there is still found there, with a warning.

Nothing of this is imported by the core itself. An old path is a module without content that looks
up whatever is asked of it where it stands now.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_SWEEPING = (
    "reid_core.runs.continuing",
    "reid_search.sweeping.runs",
    "reid_search.sweeping.points",
)

MODULES: Mapping[str, tuple[str, ...]] = {
    "reid_core.cli.data_check": ("reid_benchmarks.doctor.commands",),
    "reid_core.cli.sweep": ("reid_search.commands.sweep",),
    "reid_core.data.batches": ("reid_core.contract.batches",),
    "reid_core.data.contact_sheet": ("reid_benchmarks.doctor.sheet",),
    "reid_core.data.doctor": ("reid_benchmarks.doctor.labels",),
    "reid_core.data.fields": ("reid_core.contract.fields",),
    "reid_core.data.file_check": ("reid_core.data.damage", "reid_benchmarks.doctor.files"),
    "reid_core.data.labelers": ("reid_core.contract.labelers",),
    "reid_core.data.labelling": (
        "reid_core.runs.assembly.labelling",
        "reid_core.loop.identities",
        "reid_core.config",
    ),
    "reid_core.data.samples": ("reid_core.contract.samples",),
    "reid_core.engine": (),
    "reid_core.engine.assembly": (
        "reid_core.loop.assembly",
        "reid_core.runs.assembly.assembling",
    ),
    "reid_core.engine.batchnorm": ("reid_core.loop.batchnorm",),
    "reid_core.engine.context": ("reid_core.contract.context",),
    "reid_core.engine.declarations": (
        "reid_core.contract.step",
        "reid_core.contract.stages",
        "reid_core.contract.samples",
    ),
    "reid_core.engine.device": ("reid_core.machine.devices",),
    "reid_core.engine.distributed": ("reid_core.machine.ranks",),
    "reid_core.engine.evaluating": ("reid_core.evaluation.evaluating",),
    "reid_core.engine.events": ("reid_core.contract.events",),
    "reid_core.engine.extraction": ("reid_core.evaluation.extraction",),
    "reid_core.engine.forward": ("reid_core.loop.forward",),
    "reid_core.engine.metrics": ("reid_core.loop.metrics",),
    "reid_core.engine.needs": ("reid_core.runs.assembly.needs",),
    "reid_core.engine.observers": ("reid_core.defaults.observers",),
    "reid_core.engine.optimisers": ("reid_core.loop.optimisers",),
    "reid_core.engine.plan": (
        "reid_core.runs.assembly.schedules",
        "reid_core.loop.plan",
    ),
    "reid_core.engine.randomness": ("reid_core.machine.randomness",),
    "reid_core.engine.rates": ("reid_core.loop.rates",),
    "reid_core.engine.reach": ("reid_core.runs.reach",),
    "reid_core.engine.recalibration": ("reid_core.loop.recalibration",),
    "reid_core.engine.reporting": ("reid_core.runs.reporting",),
    "reid_core.engine.selection": ("reid_core.loop.selection",),
    "reid_core.engine.sources": (
        "reid_core.runs.assembly.sources",
        "reid_core.runs.assembly.datasets",
        "reid_core.contract.samples",
    ),
    "reid_core.engine.stages": ("reid_core.runs.stages",),
    "reid_core.engine.starts": ("reid_core.runs.assembly.starts",),
    "reid_core.engine.state": ("reid_core.loop.state",),
    "reid_core.engine.step": ("reid_core.loop.step",),
    "reid_core.engine.synthesis": ("reid_core.loop.synthesis",),
    "reid_core.engine.trainer": ("reid_core.loop.trainer",),
    "reid_core.engine.views": ("reid_core.contract.views",),
    "reid_core.evaluation.blocks": ("reid_retrieval.blocks",),
    "reid_core.evaluation.clustering": ("reid_retrieval.clustering",),
    "reid_core.evaluation.encodings": ("reid_retrieval.encodings",),
    "reid_core.evaluation.expectation": ("reid_retrieval.expectation",),
    "reid_core.evaluation.features": ("reid_retrieval.features",),
    "reid_core.evaluation.jaccard": ("reid_retrieval.distances",),
    "reid_core.evaluation.labels": ("reid_retrieval.labels",),
    "reid_core.evaluation.neighbours": ("reid_retrieval.neighbours",),
    "reid_core.evaluation.passes": ("reid_retrieval.passes",),
    "reid_core.evaluation.pools": ("reid_retrieval.pools",),
    "reid_core.evaluation.products": ("reid_retrieval.products",),
    "reid_core.evaluation.protocols": ("reid_retrieval.protocols",),
    "reid_core.evaluation.ranks": ("reid_retrieval.ranks",),
    "reid_core.evaluation.reciprocal": ("reid_retrieval.reciprocal",),
    "reid_core.evaluation.reranking": ("reid_retrieval.reranking",),
    "reid_core.evaluation.results": ("reid_retrieval.results", "reid_core.evaluation.tables"),
    "reid_core.evaluation.retrieval": ("reid_retrieval.retrieval",),
    "reid_core.evaluation.scoring": ("reid_retrieval.scoring",),
    "reid_core.evaluation.search": ("reid_retrieval.searching",),
    "reid_core.evaluation.similarities": ("reid_retrieval.similarities",),
    "reid_core.finding": ("reid_core.runs.finding",),
    "reid_core.hookspecs": ("reid_core.contract.hookspecs",),
    "reid_core.model.build": ("reid_core.runs.assembly.building",),
    "reid_core.model.declarations": (
        "reid_core.contract.model",
        "reid_core.contract.plugin",
    ),
    "reid_core.model.torchvision_guard": ("reid_core.torchvision_guard",),
    "reid_core.plugins.names": ("reid_core.contract.names",),
    "reid_core.plugins.plugin": ("reid_core.contract.plugin",),
    "reid_core.plugins.scaffold": ("reid_core.cli.scaffold",),
    "reid_core.resolve": (
        "reid_core.runs.resolve",
        "reid_core.runs.recipes",
    ),
    "reid_core.running": (
        "reid_core.runs.running",
        "reid_core.runs.describing",
    ),
    "reid_core.runs.sweeping": _SWEEPING,
    "reid_core.sweeping": _SWEEPING,
    "reid_core.testing.toy_cameras": ("reid_core.testing.toy.cameras",),
    "reid_core.testing.toy_figures": ("reid_core.testing.toy.figures",),
    "reid_core.testing.toy_people": ("reid_core.testing.toy.people",),
}
"""Old path to the modules that have its content now; a folder of old modules has none.

Modules of the core stand first: what they have is there without any other distribution.
"""

NAMES: Mapping[str, Mapping[str, str]] = {
    "reid_core.cli.data": {
        "show": "reid_benchmarks.doctor.commands",
    },
    "reid_core.data.sampling": {
        "make_mixed_sampler": "reid_core.data.mixing",
    },
    "reid_core.model.layouts": {
        "LAYOUTS": "reid_weights.layouts",
    },
    "reid_core.model.onnx": {
        "TOLERANCE": "reid_core.model.exporting",
        "export_onnx": "reid_core.model.exporting",
    },
    "reid_core.model.embedder": {
        "load_embedder": "reid_core.model.stored",
    },
    "reid_core.model.pretrained": {
        "Weights": "reid_core.model.pretrained:WeightsFile",
        "fill": "reid_core.model.pretrained:fill_weights",
    },
    "reid_core.plugins.calls": {
        "CORE": "reid_core.contract.plugin",
    },
    "reid_core.runs.assembly.sources": {
        "load_dataset": "reid_core.runs.assembly.datasets",
        "load_others": "reid_core.runs.assembly.datasets",
        "load_tested": "reid_core.runs.assembly.datasets",
    },
    "reid_core.testing.toy": {
        "load_toy": "reid_core.testing.toy.making",
        "load_toy_pairs": "reid_core.testing.toy.making",
        "make_toy": "reid_core.testing.toy.making",
        "make_toy_pairs": "reid_core.testing.toy.making",
    },
}
"""Module that is still there to the names that left it, and the module where each is now, with
``:NAME`` where it is called otherwise."""


class OldModule(ModuleType):
    """A module that has moved: its names are looked up in its new places."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for place in MODULES[self.__name__]:
                found = _imported(self.__name__, place)
                if hasattr(found, name):
                    _warn(self.__name__, name, place)
                    return getattr(found, name)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


class _Finder(MetaPathFinder, Loader):
    """Find old paths; asked last, after everything that is really there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        folder = any(old.startswith(f"{fullname}.") for old in MODULES)
        return ModuleSpec(fullname, self, is_package=folder)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty."""


def former_names(module: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module that some names have left.

    Args:
        module: its path, a key of `NAMES`.
    """

    def look_up(name: str) -> Any:
        place = NAMES[module].get(name)
        if place is None:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        place, _, renamed = place.partition(":")
        found = getattr(_imported(module, place), renamed or name)
        _warn(module, name, place, renamed)
        return found

    return look_up


def install() -> None:
    """Let old paths be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def _imported(old: str, place: str) -> ModuleType:
    """Import a new place; it may have left for a distribution that is not installed."""
    try:
        return import_module(place)
    except ModuleNotFoundError as error:
        package = place.partition(".")[0]
        if error.name != package:
            raise
        distribution = package.replace("_", "-")
        raise ImportError(
            f"{old} is part of {distribution} now, which is not installed: "
            f"pip install {distribution}"
        ) from None


def _warn(old: str, name: str, place: str, renamed: str = "") -> None:
    public = (renamed or name) in import_module("reid_core").__all__
    called = f"{renamed} " if renamed else ""
    advice = (
        f"from reid_core import {renamed or name}" if public else f"it is {called}in {place} now"
    )
    warnings.warn(f"{old}.{name} is deprecated: {advice}", DeprecationWarning, stacklevel=3)
