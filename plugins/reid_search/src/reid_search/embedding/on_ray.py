"""Shards embedded by a pool of actors on a Ray cluster (extra ``ray``)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_core import ConfigError
from reid_search.embedding.inputs import Item
from reid_search.embedding.worker import Embedded, Worker

if TYPE_CHECKING:
    from reid_core import Embedder

_SHARDS_AT_ONCE = 1024
"""Shards that are handed to the cluster together: a million pictures' names and boxes."""


def require_ray() -> None:
    """Refuse where Ray is missing.

    Raises:
        ConfigError: with the line that installs it.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise ConfigError("--on ray needs Ray: pip install 'reid-search[ray]'") from None


def embed_on_ray(
    shards: Iterator[list[Item]],
    embedder: Embedder,
    *,
    device: str = "auto",
    precision: str = "fp32",
    threads: int = 2,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[Embedded]:
    """Yield every shard with its vectors, in order; the actors have it done in any.

    The cluster is that of ``RAY_ADDRESS``, or one that is started on this machine. Its nodes must
    see the pictures under the same paths.

    Args:
        shards: items.
        embedder: is sent to the actors.
        device, precision, threads: of each actor, as for `Worker`.
        workers: how many actors; None takes one per GPU of the cluster, or per core.
        advance: is told how many more items are done.

    Raises:
        ConfigError: Ray is missing, or the cluster cannot be reached.
    """
    require_ray()
    import ray
    import ray.data

    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        try:
            ray.init(
                address,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"RAY_ADDRESS={address}: no cluster answers ({error})") from None
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0)) if device != "cpu" else 0
        pool = workers or gpus or int(ray.cluster_resources().get("CPU", 1))
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        # Kept by this process, so that an actor that is lost can be made again.
        sent = ray.put(embedder)
        while some := [{"items": json.dumps(shard)} for shard in islice(shards, _SHARDS_AT_ONCE)]:
            done = ray.data.from_items(some, override_num_blocks=len(some)).map_batches(
                _Actor,
                fn_constructor_args=(sent, device, precision, threads),
                batch_size=1,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=min(pool, len(some))),
                num_cpus=1,
                num_gpus=1 if gpus else 0,
            )
            for row in done.iter_rows():
                items, unread = json.loads(row["items"]), json.loads(row["unread"])
                features = np.frombuffer(row["features"], np.float32)
                yield Embedded(items, features.reshape(len(items), embedder.dim), unread)
                advance(len(items) + len(unread))
    finally:
        if started:
            ray.shutdown()


class _Actor:
    """A worker of the pool; rows of Ray Data are plain values, so arrays travel as bytes."""

    def __init__(self, sent: Any, device: str, precision: str, threads: int) -> None:
        import ray

        self._worker = Worker(ray.get(sent), device, precision, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shards = (json.loads(text) for text in batch["items"])
        done = list(self._worker.embed(shards))
        return {
            "items": [json.dumps(shard.items) for shard in done],
            "unread": [json.dumps(shard.unread) for shard in done],
            "features": [shard.features.tobytes() for shard in done],
        }
