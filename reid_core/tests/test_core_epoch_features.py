"""What is clustered at an epoch's start is compared as it will be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import ENCODER_MAP, Branch, Embedding, Tap
from reid_core.contract.plugin import Plugin
from reid_core.evaluation.extraction import extract
from reid_core.loop.assembly import Assembly
from reid_core.model.blocks import GlobalPool
from reid_core.testing.tiny import tiny_assembly


class Parts(Plugin):
    """Two embeddings: one is compared by its neck and counts three times, one by its unit."""

    @hookimpl
    def reid_auxiliary_branches(self, taps: Mapping[str, Tap]) -> list[Branch]:
        def branch(name: str, **declared: Any) -> Branch:
            embedding = Embedding(f"parts/{name}", reads=f"parts/{name}-pooled", **declared)
            pooled = (f"parts/{name}-pooled",)
            return Branch(f"parts/{name}", GlobalPool("avg"), (ENCODER_MAP,), pooled, (embedding,))

        return [
            branch("upper", neck="bn", test_vector="neck", test_weight=3.0),
            branch("lower", neck="none", test_vector="unit", test_weight=0.5),
        ]


EMBED = {"evaluation": {"embed": ["parts/upper", "parts/lower"]}}


@pytest.fixture(scope="module")
def assembly(reid_cache: Path) -> Assembly:
    made = tiny_assembly(("parts",), EMBED, cache=reid_cache, classes={"parts": Parts})
    neck: Any = made.model.heads["parts/upper"].neck
    neck.running_mean.fill_(0.3)  # so that necks are no multiples of what they read
    return made


def test_clusters_compare_what_the_evaluation_compares(assembly: Assembly) -> None:
    found = assembly.features().deployed()
    evaluated = extract(assembly.embedder(), assembly.truth.samples, assembly.ctx.device)
    unit = evaluated / np.linalg.norm(evaluated, axis=1, keepdims=True)
    np.testing.assert_allclose(found, unit, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_declared_vector_and_weight_count(assembly: Assembly) -> None:
    features, embedder = assembly.features(), assembly.embedder()
    upper, lower = (
        extract(
            embedder,
            assembly.truth.samples,
            assembly.ctx.device,
            width=96,
            compute=lambda image, fields, name=name, vector=vector: getattr(
                embedder.vectors(image, fields)[f"parts/{name}"], vector
            ),
        )
        for name, vector in (("upper", "neck"), ("lower", "unit"))
    )
    joined = np.concatenate([3 * upper, 0.5 * lower], 1)
    expected = joined / np.linalg.norm(joined, axis=1, keepdims=True)
    np.testing.assert_allclose(features.deployed(), expected, atol=1e-5)
    # Criteria get unit vectors of every embedding, whatever is deployed.
    np.testing.assert_allclose(features.of("parts/lower"), lower, atol=1e-6)
    lengths = np.linalg.norm(upper, axis=1, keepdims=True)
    np.testing.assert_allclose(features.of("parts/upper"), upper / lengths, atol=1e-5)
