"""What a run consists of, and what it has cost: plain data and lines for the user."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from reid_core.config import RunConfig
from reid_core.contract.plugin import CORE
from reid_core.loop.assembly import Assembly


def describe(assembly: Assembly) -> dict[str, Any]:
    """Return what a run consists of: versions, claims, order, counts; plain data."""
    ctx, model = assembly.ctx, assembly.model
    return {
        "plugins": assembly.versions(),
        "slots": dict(ctx.slots),
        "starts": [name for name, one in assembly.plugins.items() if one.starts(ctx.config)],
        "sources": {
            name: {"images": len(s), "tracklets": s.tracklets, "identities": s.num_identities}
            for name, s in ctx.sources.items()
        },
        "branches": list(model.declarations),
        "embeddings": {name: e.at_test for name, e in model.embeddings.items()},
        "groups": {
            name: sum(model.get_parameter(p).numel() for p in group.parameters)
            for name, group in assembly.parts.plan.groups.items()
        },
        "updates": [update.name for update in assembly.parts.plan.updates],
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_deployed": sum(p.numel() for p in assembly.embedder().parameters()),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": str(ctx.device),
            "machine": platform.machine(),
        },
    }


def opening_line(facts: Mapping[str, Any], config: RunConfig, device: Any) -> str:
    """Return the line that says what is about to be run."""
    main = facts["sources"]["main"]
    what = "tracklets" if main["tracklets"] else "images"
    plugins = ", ".join(config.run.plugins) or "none (baseline)"
    # What is read from a file says so itself, and a stage that it starts from has been told of.
    trained = config.model.pretrained or facts["starts"] or facts["slots"]["backbone"] != CORE
    start = "" if trained else " from random weights"
    return (
        f"{config.data.name}: {main['images']} training {what} of {main['identities']} people; "
        f"plugins: {plugins}; {config.model.backbone}{start} at "
        f"{config.data.height} x {config.data.width}, {facts['parameters'] / 1e6:.1f} M "
        f"parameters, {facts['parameters_deployed'] / 1e6:.1f} M deployed; {device}"
    )


def cost(trainer: Any, seconds: float) -> dict[str, float]:
    """Return what a run has cost: time, throughput, waiting for data, memory.

    Args:
        trainer: of the run.
        seconds: wall time of the whole run, evaluation included.
    """
    spent = {
        "seconds": round(seconds, 1),
        "training_seconds": round(trainer.seconds, 1),
        "images": trainer.images,
        "images_per_second": round(trainer.images / max(trainer.seconds, 1e-9), 1),
        "share_of_waiting_for_data": round(trainer.waited / max(trainer.seconds, 1e-9), 3),
    }
    memory = _peak_memory()
    if memory is not None:
        spent["peak_memory_mib"] = round(memory / 2**20)
    device = trainer.assembly.ctx.device
    if device.type == "cuda":
        spent["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return spent


def _peak_memory() -> int | None:
    """Return the most bytes that this process has had; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def closing_line(spent: Mapping[str, float]) -> str:
    """Return the line that says what a run has cost."""
    places = (("peak_memory_mib", "MiB"), ("peak_gpu_memory_mib", "MiB on the GPU"))
    memory = [f"{spent[name]} {unit}" for name, unit in places if name in spent]
    speed = (
        f"{spent['images_per_second']:.0f} images/s, "
        f"{100 * spent['share_of_waiting_for_data']:.0f} % of the time waiting for data"
    )
    return (
        f"{spent['seconds']:.0f} s; training: {speed if spent['images'] else 'no step was left'}; "
        f"memory: {', '.join(memory) or 'not told'}"
    )
