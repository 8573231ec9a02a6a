"""Tracklets: attention over frames, an embedding of what moves, and frames that agree."""

from typing import ClassVar

from reid_core import Branch, Embedding, LossTerm, Need, Plugin, PoolingProvider, Settings, hookimpl


class SteadyWalkSettings(Settings):
    weight: float = 0.1


class SteadyWalk(Plugin):
    """Pool frames by attention, embed how they differ, and keep their vectors together."""

    Settings = SteadyWalkSettings
    needs = (Need("frames", "choose toy/tracklets, say"),)
    takes_frames = True
    defaults: ClassVar = {"model.frame_pooling": "steady_walk"}

    @hookimpl
    def reid_poolings(self):
        return [PoolingProvider("steady_walk", attention, "attention over frames", pools="frames")]

    @hookimpl
    def reid_auxiliary_branches(self, ctx, taps):
        from somebodys.walk_pools import Motion

        embedding = Embedding(self.own("motion"), reads=self.own("moved"), at_test=False)
        reads, moved = ("encoder/map",), (self.own("moved"), self.own("spread"))
        return [Branch(self.own("move"), Motion(), reads, moved, (embedding,), clips=True)]

    @hookimpl
    def reid_losses(self, ctx, step):
        views = list(step.passes_with(self.own("spread")))
        if not views:
            return []
        spread = sum(view.output(self.own("spread")).float().mean() for view in views)
        return [LossTerm(self.own("agree"), spread / len(views), self.settings.weight)]


def attention(channels):
    from somebodys.walk_pools import FrameAttention

    return FrameAttention(channels)
