"""What draws with matplotlib, an extra, asks for it here."""

from __future__ import annotations

from reid_core import ConfigError


def require_matplotlib(what: str, install: str) -> None:
    """Refuse, before the work, to draw without matplotlib.

    Args:
        what: needs it.
        install: the distribution and its extra that bring it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ConfigError(f"{what} needs matplotlib: pip install '{install}'") from None
