"""The body parser and its labelers for parts and garments (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-parsing")
