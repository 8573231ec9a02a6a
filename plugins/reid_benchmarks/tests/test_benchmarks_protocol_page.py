"""The page on protocols names every protocol, and no other."""

import re
from pathlib import Path

from reid_benchmarks.protocols import PROTOCOLS

PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"
TABLE = re.compile(r"^\| name \| query .*?\n\n", re.DOTALL | re.MULTILINE)
GALLERIES = ("multi-shot", "single-shot@10", "single-shot@all")


def listed() -> set[str]:
    """Return the names in the first column of the page's table, shortened ones in full."""
    table = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert table is not None
    names: set[str] = set()
    for row in table[0].strip().splitlines()[2:]:
        last = ""
        for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
            if name == "…@all":
                name = last.replace("@10", "@all")
            if name.endswith("/…"):
                names |= {name.replace("…", gallery) for gallery in GALLERIES}
            else:
                names.add(name)
            last = name
    return names


def test_the_page_lists_every_protocol() -> None:
    assert listed() == {protocol.name for protocol in PROTOCOLS}


def test_the_table_of_papers_names_protocols_that_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("| paper | set |") : text.index("What to watch")]
    known = {protocol.name for protocol in PROTOCOLS}
    used = [row.split("|")[5].strip() for row in table.strip().splitlines()[2:]]
    assert len(used) > 25
    for cell in used:
        assert cell == "undetermined" or cell.strip("`") in known, cell
