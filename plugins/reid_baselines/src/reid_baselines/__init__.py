"""The field's common baselines: GlobalPool, PCB and MGN as plugins, OSNet as named encoders."""

from importlib.metadata import version

__version__ = version("reid-baselines")
