"""The template of a plugin, as `reid plugins new` writes it (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-example")
