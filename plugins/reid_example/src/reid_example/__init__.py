"""The template of a plugin, as `reid plugins new` writes it."""

from importlib.metadata import version

from reid_example.plugin import Example as Example

__version__ = version("reid-example")
