"""A small transformer whose tokens know the camera (side information embedding)."""

from reid_core import Plugin, hookimpl


class CameraVit(Plugin):
    """An encoder of tokens that reads the camera; an unknown camera has a vector of its own."""

    claims = ("backbone",)

    @hookimpl
    def reid_backbone(self, ctx):
        from somebodys.camera_network import CameraTransformer

        cameras = 1 + max(sample.camid for sample in ctx.main.samples)
        return CameraTransformer(cameras, ctx.image_size)
