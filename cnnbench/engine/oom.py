"""After a job ran out of memory: the largest batch (or matrix) that would have fitted, found by trying."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from cnnbench.devices import backend
from cnnbench.engine.build import apply_settings, build
from cnnbench.schema import Job, WorkerInput


def find_largest_fitting(worker_input: WorkerInput) -> int | None:
    """Half the batch (of a GEMM the side, of several ranks each one's share), a quarter and so on: the first that does a step;
    None if not even 1 does.

    Tried in this process, which has run out once, so what is found is not above what a fresh one could do.
    """
    job = worker_input.job
    if job.processes > 1:  # one of them, alone
        alone = {"world": 1, "scaling": None, "nodes": 1, "copies": 1, "batch_size": job.rank_batch}
        job = job.model_copy(update=alone)
    key = "batch_size" if job.size is None else "size"
    value = getattr(job, key) // 2
    plain = "eager" if job.division == "reference" else "fused"  # what is compiled or recorded holds about as much
    while value >= 1:
        if _fits(job.model_copy(update={key: value, "execution": plain}), worker_input.data_dir):
            return int(value)
        value //= 2
    return None


def _fits(job: Job, data_dir: str | None) -> bool:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        attached = backend(job.device).attach(threads=job.threads)
        apply_settings(job, attached)
        timed = build(job, None if data_dir is None else Path(data_dir), attached)
        timed.step()
        timed.step()
        attached.synchronize()
    except Exception:  # noqa: BLE001  whatever stops a step, this size is not one that fits
        return False
    return True


def make_oom_hint(worker_input: WorkerInput) -> str:
    """What to say after an out-of-memory message."""
    if worker_input.job.recipe is not None:
        return f"the batch is the recipe's ({worker_input.job.batch_size}): free memory"
    name = "batch_size" if worker_input.job.size is None else "size"
    name += " a rank" if worker_input.job.world > 1 else ""
    found = find_largest_fitting(worker_input)
    if found is None:
        return f"not even {name} 1 fits: free memory, or take a smaller network"
    return f"{name} {found} fits (tried in the same process)"
