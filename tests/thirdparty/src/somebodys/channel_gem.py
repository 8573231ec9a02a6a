"""A pooling under a name: the generalised mean with an exponent per channel."""

from reid_core import Plugin, PoolingProvider, hookimpl


class ChannelGem(Plugin):
    """Generalised mean with one exponent per channel: ``-s model.pooling=channel_gem``."""

    defaults = {"model.pooling": "channel_gem"}  # noqa: RUF012

    @hookimpl
    def reid_poolings(self):
        return [PoolingProvider("channel_gem", build)]


def build(channels):
    from somebodys.channel_pool import ChannelPool

    return ChannelPool(channels)
