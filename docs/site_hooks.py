"""What mkdocs is told of these pages, which are written to be read in the repository, too.

Links that leave this folder become the place's name: the site holds the documentation alone. What
stands behind the language of a block (``file=part.py``), by which tests extract its code, becomes
the block's title.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?!\w+:)[^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^```(\w+) (file|output)=(\S+)$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return a page as the site shows it."""
    return site_text(markdown, page.file.src_uri)


def site_text(markdown: str, path: str) -> str:
    """Return a page's text with links that stay within the site.

    Args:
        markdown: as it stands in the repository.
        path: of the page below this folder.
    """
    folder = posixpath.dirname(path)

    def within(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        place = posixpath.normpath(posixpath.join("docs", folder, target))
        if place == "docs" or not place.startswith("docs/") or place.endswith((".py", ".txt")):
            return text if place in text else f"{text} (`{place}`)"
        if target.endswith("/"):
            front = (DOCS.parent / place / "README.md").is_file()
            return f"[{text}]({target}README.md{link[3] or ''})" if front else f"`{text}`"
        return link[0]

    def titled(fence: re.Match[str]) -> str:
        return f'```{fence[1]} title="{fence[3]}"' if fence[2] == "file" else f"```{fence[1]}"

    return _FENCE.sub(titled, _LINK.sub(within, markdown))
