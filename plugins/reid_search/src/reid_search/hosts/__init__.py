"""Embedders as other programs call them; nothing of those programs is imported."""

from reid_search.hosts.frames import FrameModel

__all__ = ["FrameModel"]
