"""PCB and MGN as plugins, OSNet as named encoders (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-baselines")
