"""The command line: ``reid``. Nothing heavy is imported until a command needs it."""

from reid_core.cli.main import main

__all__ = ["main"]
