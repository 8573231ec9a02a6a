"""The core's own behaviour, as a plugin like any other: `Core`."""

from reid_core.defaults.core import Core

__all__ = ["Core"]
