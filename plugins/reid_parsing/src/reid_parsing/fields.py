"""Names of the fields that this distribution makes; commands import them without torch."""

FIELDS = ("parts", "garments")
"""What parsers make."""

JOINTS = "keypoints"
"""What the shipped network finds beside them, and detectors of others."""

SILHOUETTE = "silhouette"
"""What MediaPipe finds."""
