"""Drawn figures with fields of every kind: the data that tests live on, and their plugin."""

from typing import TYPE_CHECKING

from reid_core.moved import former_names

if not TYPE_CHECKING:
    __getattr__ = former_names(__name__)

TOY_FIELDS = ("parts", "garments", "keypoints", "pose", "texture")
"""What the figures carry."""
