"""Addresses of models on the Hugging Face Hub: ``hf://owner/name@revision``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from reid_core import CheckpointError, ConfigError
from reid_core.weights import EMBEDDER

FILES = (EMBEDDER, "embedder.json")
"""What is fetched of a model: nothing that could be run."""

_HTTP = frozenset({"httpx", "httpx2", "requests"})

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ADDRESS = re.compile(rf"hf://(?P<name>{_NAME}/{_NAME})(?:@(?P<revision>[A-Za-z0-9._/-]+))?")


@dataclass(frozen=True)
class Address:
    """A model on the hub.

    Args:
        name: ``owner/name``.
        revision: a commit, tag or branch; None where none is named.
    """

    name: str
    revision: str | None

    @property
    def text(self) -> str:
        """As it is written."""
        return f"hf://{self.name}{f'@{self.revision}' if self.revision else ''}"


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        ConfigError: it is none.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text} is no address of a model: expected hf://owner/name@revision")
    return Address(match["name"], match["revision"])


def fetch(text: str) -> Path:
    """Return the embedder that an address means, from the hub's cache where it is there already.

    Args:
        text: ``hf://owner/name@revision``; the environment variable ``HF_ENDPOINT`` names another
            hub than huggingface.co.

    Returns:
        Its ``.safetensors``; the description lies beside it.

    Raises:
        ConfigError: no address, or one without a revision.
        CheckpointError: there is no such model or revision, it holds no embedder, or the hub cannot
            be reached.
    """
    address = parse(text)
    if address.revision is None:
        raise ConfigError(
            f"{text} names no revision, so that what it means could change: add @ and a commit or "
            "tag, or @main for what is there today"
        )
    from huggingface_hub import snapshot_download

    with hub_errors(address):
        folder = snapshot_download(
            address.name,
            revision=address.revision,
            allow_patterns=list(FILES),
            endpoint=endpoint(),
        )
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise CheckpointError(f"{text} holds no {' and no '.join(missing)}: it is no embedder")
    return Path(folder) / FILES[0]


def endpoint() -> str | None:
    """Return the hub that ``HF_ENDPOINT`` names now; None means the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def hub_errors(address: Address) -> Iterator[None]:
    """Turn what the hub's library raises in this block into one line."""
    # Old versions have the errors here alone, new ones do not list them for type checkers.
    errors: Any = import_module("huggingface_hub.utils")

    try:
        yield
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{address.text} is open to those only whom its owner admits: ask on its page, then "
            "log in with: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"there is no {address.text}, or you may not see or change it: log in with: hf auth "
            "login"
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(
            f"{address.text}: {address.name} has no revision '{address.revision}'"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise CheckpointError(
            f"{address.text} is not in the cache, and the hub cannot be reached: connect, or name "
            "a model on this machine"
        ) from None
    except errors.HfHubHTTPError as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{address.text}: the hub refuses ({reason})") from None
    except Exception as error:
        # The library has changed what it speaks HTTP by; each has errors of its own.
        if type(error).__module__.partition(".")[0] not in _HTTP:
            raise
        raise CheckpointError(
            f"{address.text}: the hub cannot be reached ({type(error).__name__}); connect, or name "
            "a folder or model on this machine"
        ) from None
