"""reid-retrieval: exact retrieval for re-identification, from features and labels alone."""

from __future__ import annotations

from importlib import metadata

__version__ = metadata.version("reid-retrieval")
