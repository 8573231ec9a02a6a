"""Drawn figures with fields of every kind: the data that tests live on, and their plugin."""

from reid_core.moved import answer_former_names

answer_former_names(__name__)

TOY_FIELDS = ("parts", "garments", "keypoints", "pose", "texture")
"""What the figures carry."""
