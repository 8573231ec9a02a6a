"""Two gloo ranks: they must end equal, and embed a batch as one process does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing import set_forkserver_preload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException, start_processes

from reid_core.loop.forward import UpdateReport
from reid_core.loop.state import trainable_state
from reid_core.testing.subject import Subject
from reid_core.testing.tiny import Recorder

RANKS = 2

_PATIENCE = timedelta(seconds=60)
"""How long a rank waits for the other: those that wait for different things wait for ever."""

_CLOSE = 1e-2
"""How far vectors may be from those of one process, relatively: statistics over ranks are summed in
another order."""


def check_ranks(subject: Subject) -> None:
    """Two gloo ranks end with equal weights, and embed a batch as one process does."""
    alone = _trained(subject)
    # Importing takes longer than training: a server does it once for all checks of a test run.
    set_forkserver_preload(["reid_core.testing.warm"])
    try:
        start_processes(_work, (subject,), nprocs=RANKS, start_method="forkserver")
    except ProcessException as error:
        raise AssertionError(f"with {RANKS} ranks: {str(error).strip().splitlines()[-1]}") from None
    first, second = (torch.load(_file(subject, rank)) for rank in range(RANKS))
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), (
            f"after training '{name}' differs between ranks: it has moved by what one rank alone "
            "has seen (gather rows with ctx.gather)"
        )
    for name, vectors in alone["vectors"].items():
        apart = (first["vectors"][name] - vectors).norm() / vectors.norm().clamp(min=1e-6)
        assert apart < _CLOSE, (
            f"on {RANKS} ranks vectors of '{name}' differ from those of one process, by "
            f"{apart:.2g} of their length: a row's vector must not depend on which rows share its "
            "rank"
        )


def _trained(subject: Subject) -> dict[str, dict[str, Tensor]]:
    """Return the state after a tiny run, and the vectors of its first batch by embedding."""
    assembly = subject.assemble()
    for module in assembly.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0  # it draws per rank
    trainer = Recorder(assembly)
    main: list[UpdateReport] = []
    add = trainer.metrics.add

    def keep(reports: Mapping[str, UpdateReport]) -> None:
        if "main" in reports:
            main.append(reports["main"])
        add(reports)

    trainer.metrics.add = keep  # type: ignore[method-assign]
    trainer.fit()
    state = {name: value.clone() for name, value in trainable_state(assembly.model).items()}
    if assembly.identities is not None:
        return {"state": state, "vectors": {}}  # which rows come depends on clusters, to a rounding
    ranks = assembly.ctx.world_size
    share = assembly.config.data.batch_size // ranks
    # Generated rows that joined a rank's batch stand behind its real ones.
    vectors = {
        name: torch.cat([part[:share] for part in embedded.neck.float().chunk(ranks)])
        for name, embedded in main[0].embedded.items()
    }
    return {"state": state, "vectors": vectors}


def _file(subject: Subject, rank: int) -> str:
    return str(subject.folder / f"rank{rank}.pt")


def _work(rank: int, subject: Subject) -> None:
    torch.set_num_threads(1)
    os.environ["REID_CACHE"] = str(subject.cache)
    meeting = f"file://{subject.folder}/meeting"
    dist.init_process_group("gloo", meeting, rank=rank, world_size=RANKS, timeout=_PATIENCE)
    try:
        torch.save(_trained(subject), _file(subject, rank))
    finally:
        dist.destroy_process_group()
