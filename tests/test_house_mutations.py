"""Lists of mutations say something about today's code, and the results about today's lists."""

import re
import sys

import pytest
from house import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from mutations import LISTS, SLOW, key_of, read_list, read_results

RESULTS = read_results()
AGAIN = "python -P benchmarks/mutations.py {} --missing brings the results up to date"


@pytest.mark.parametrize("name", LISTS)
def test_every_mutation_changes_one_place(name):
    mutations = read_list(LISTS[name])[1]
    assert len({key_of(mutation) for mutation in mutations}) == len(mutations), "one stands twice"
    for mutation in mutations:
        text = (ROOT / mutation["file"]).read_text("utf-8")
        assert text.count(mutation["old"]) == 1, (mutation["file"], mutation["old"])
        assert mutation["old"] != mutation["new"], mutation


@pytest.mark.parametrize("name", RESULTS)
def test_every_mutation_is_caught_by_a_test_of_its_own_or_survives_for_a_reason(name):
    mutations = {key_of(mutation): mutation for mutation in read_list(LISTS[name])[1]}
    rows = RESULTS[name]
    missing = [one["old"] for key, one in mutations.items() if key not in rows]
    stale = [row["what"] for key, row in rows.items() if key not in mutations]
    assert not missing + stale, AGAIN.format(LISTS[name].relative_to(ROOT))
    for key, row in rows.items():
        if row["outcome"] != "caught":
            assert row["outcome"] == "survives", row
            assert mutations[key].get("reason"), f"no test notices, and no reason: {row['what']}"
        elif row["by"] != SLOW:
            file, _, test = row["by"].partition("::")
            tests = mutations[key]["tests"]
            assert any(file.startswith(word.partition("::")[0]) for word in tests.split()), (
                f"{row['what']}: is caught by {row['by']}, so name that instead of {tests}"
            )
            function = re.split(r"\W", test)[0]
            # The suite's tests stand under a name: test_conforms = conformance_suite(...).
            there = rf"^(def {function}\(|{function} = )"
            assert not test or re.search(there, (ROOT / file).read_text("utf-8"), re.MULTILINE), (
                f"{row['what']}: there is no {row['by']} any more"
            )
