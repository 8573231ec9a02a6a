"""Every list of mutations still says something about today's code."""

import tomllib

import pytest
from house import ROOT

LISTS = sorted(ROOT.glob("*/tests/mutations.toml")) + sorted(
    ROOT.glob("plugins/*/tests/mutations.toml")
)


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.parent.parent.name)
def test_every_mutation_changes_one_place(path):
    for mutation in tomllib.loads(path.read_text("utf-8"))["mutation"]:
        text = (ROOT / mutation["file"]).read_text("utf-8")
        assert text.count(mutation["old"]) == 1, (mutation["file"], mutation["old"])
        assert mutation["old"] != mutation["new"], mutation
