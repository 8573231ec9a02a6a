"""What is made of a tracklet's frames."""

from torch import nn


class FrameAttention(nn.Module):
    """Weigh the vectors of frames ``B T D`` by a learnt score, to ``B D``."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.score = nn.Linear(channels, 1)

    def forward(self, vectors):
        return (self.score(vectors).softmax(1) * vectors).sum(1)

    def deploy_spec(self):
        kwargs = {"channels": self.channels}
        return {"factory": "somebodys.walk_pools:FrameAttention", "kwargs": kwargs}


class Motion(nn.Module):
    """How far pooled maps ``B T C H W`` are from their mean: ``B C``, and as one number ``B 1``."""

    def forward(self, maps):
        pooled = maps.mean((3, 4))
        moved = (pooled - pooled.mean(1, keepdim=True)).abs().mean(1)
        return pooled.mean(1) + moved, moved.mean(1, keepdim=True)

    def deploy_spec(self):
        return {"factory": "somebodys.walk_pools:Motion", "kwargs": {}}
