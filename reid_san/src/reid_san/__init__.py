"""SAN (Jin et al., AAAI 2020): semantics-aligned representation by texture regression."""

from importlib.metadata import version

from reid_san.plugin import San as San

__version__ = version("reid-san")
