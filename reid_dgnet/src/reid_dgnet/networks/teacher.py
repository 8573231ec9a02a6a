"""The teacher: a trained baseline that labels generated images, and never learns from them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reid_core import Embedder
from reid_dgnet.labels import flip_ensemble
from reid_dgnet.settings import TeacherMode

DROPOUT = 0.5
"""Dropout before the teacher's classifier, in its training and in `official_accident`."""


class Teacher(nn.Module):
    """Give every image a distribution over the training identities.

    It is always in evaluation mode. Where images shall be normalised by their own batch, the
    running statistics are taken away instead, which leaves nothing to be moved or restored.

    Args:
        embedder: the deployed part of the baseline, of one embedding.
        classifier: of the embedding, over the training identities.
        mode: see `DgnetSettings.teacher_mode`.
    """

    def __init__(self, embedder: Embedder, classifier: nn.Linear, mode: TeacherMode) -> None:
        super().__init__()
        self.embedder, self.classifier, self.mode = embedder, classifier, mode
        if mode != "eval":
            for norm in self.modules():
                if isinstance(norm, _BatchNorm):
                    norm.track_running_stats = False
                    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        self.requires_grad_(False).eval()

    def logits(self, images: Tensor) -> Tensor:
        """Return ``B K`` of normalised images ``B 3 H W``."""
        (embedded,) = self.embedder.vectors(images).values()
        vector = F.dropout(embedded.neck, DROPOUT, training=self.mode == "official_accident")
        found: Tensor = self.classifier(vector)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the distributions ``B K`` of images, each with its mirror image."""
        return flip_ensemble(self.logits(images), self.logits(images.flip(3)))
