"""The transformer."""

import torch
from torch import nn

from reid_core import Encoder, Tap


class CameraTransformer(Encoder):
    """One block of attention on patches of 8 x 8 pixels."""

    reads = ("camid",)
    defaults = {"camid": -1}  # noqa: RUF012

    def __init__(self, cameras, size, width=24, patch=8):
        super().__init__()
        self.kwargs = {"cameras": cameras, "size": list(size), "width": width, "patch": patch}
        self.cameras = cameras
        self.patches = nn.Conv2d(3, width, patch, patch)
        tokens = (size[0] // patch) * (size[1] // patch)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.known = nn.Embedding(cameras + 1, width)  # the last one: unknown
        self.before = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.after = nn.LayerNorm(width)
        self.taps = (Tap("encoder/map", width, stride=patch),)

    def forward(self, image, camid=None):
        maps = self.patches(image)
        tokens = maps.flatten(2).transpose(1, 2) + self.places
        if camid is None:
            camid = torch.full((len(image),), -1, device=image.device)
        inside = (camid >= 0) & (camid < self.cameras)
        tokens = tokens + self.known(torch.where(inside, camid, self.cameras))[:, None]
        query, key, value = self.attend(self.before(tokens)).chunk(3, -1)
        weights = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(-1)
        tokens = self.after(tokens + self.project(weights @ value))
        return {"encoder/map": tokens.transpose(1, 2).reshape(maps.shape)}

    def deploy_spec(self):
        return {"factory": "somebodys.camera_network:CameraTransformer", "kwargs": self.kwargs}
