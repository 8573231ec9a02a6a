"""The library finds the published protocols here, and its rules for them are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reid_benchmarks.protocols import PROTOCOLS
from reid_retrieval import find_protocol
from reid_retrieval.finding import PUBLISHED
from reid_retrieval.protocols import GENERIC_PROTOCOLS, Protocol, Subset

GENERIC = {protocol.name: protocol for protocol in GENERIC_PROTOCOLS}


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_the_library_finds_a_protocol_by_its_name(protocol: Protocol) -> None:
    assert find_protocol(protocol.name) == protocol


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_rule_for_plain_features_is_the_protocol(name: str) -> None:
    published, rule = find_protocol(name), GENERIC[PUBLISHED[name]]
    # A file's queries are the set's queries: nothing is left to choose.
    assert published.query in (Subset(), Subset(splits=("query",)))
    same = {key: getattr(rule, key) for key in ("name", "query", "ranks")}
    assert replace(published, **same) == rule
