"""Runs followed by W&B, MLflow and Trackio."""

from importlib.metadata import version

__version__ = version("reid-track")
