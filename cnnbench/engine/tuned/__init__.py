"""The tuned division: the same mathematics as the reference, as fast as the device does it, chosen from named rungs.

A rung is one way to compute the step, named in `job.execution`: `fused` is torch's own operations in a better order,
`native` the kernels of `kernels/`. With `auto` every rung that the device can do is timed for some steps and the fastest is
taken; which it was, and what the others took or why they cannot, goes into the record. Each rung's gradients are held
against float64 in every process before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from torch.nn.functional import cross_entropy

from cnnbench.data import Dataset
from cnnbench.engine.loop import Training
from cnnbench.engine.tuned.fused import FusedTraining
from cnnbench.engine.tuned.training import NativeTraining
from cnnbench.errors import UnsupportedError
from cnnbench.schema import TUNED_ERROR, Job
from cnnbench.workloads import Workload

RUNGS: Mapping[str, type[Training]] = {"native": NativeTraining, "fused": FusedTraining}
"""By name, the one that is expected to be fastest first."""
TRIED, RUNG = "tuned_tried", "tuned_rung"
"""Names in a record's settings: what autotuning saw, and which rung ran."""
TUNE_ROUNDS, TUNE_STEPS, TUNE_WARM = 5, 3, 3
CHECKED_IMAGES = 32


def make(job: Job, workload: Workload, dataset: Dataset | None, device: torch.device) -> Training:
    """The rung that the job names, or the fastest. Raises UnsupportedError where none can be had, with every reason."""
    names = tuple(RUNGS) if job.execution == "auto" else (job.execution,)
    built: dict[str, Training] = {}
    reasons: dict[str, str] = {}
    for name in names:
        try:
            built[name] = RUNGS[name](_plain(job, name, workload), workload, dataset, device)
        except UnsupportedError as error:
            reasons[name] = str(error)
    if not built:
        raise UnsupportedError("; ".join(reasons.values()))
    seconds = _times(built) if len(built) > 1 else {}
    chosen = min(seconds, key=lambda name: seconds[name]) if seconds else next(iter(built))
    training = built[chosen]
    training.notes[RUNG] = chosen
    if job.execution == "auto":
        tried = [f"{name} {1e3 * seconds[name]:.3g} ms" for name in seconds]
        training.notes[TRIED] = (
            "; ".join([*tried, *(f"{name}: {why}" for name, why in reasons.items())]) or f"{chosen} alone"
        )
    training.notes[TUNED_ERROR] = f"{gradient_error(job, workload, dataset, device, chosen):.2e}"
    training.reset()
    return training


def gradient_error(job: Job, workload: Workload, dataset: Dataset | None, device: torch.device, name: str) -> float:
    """Largest relative error (of the 2-norm, by parameter) of a rung's gradients against float64 on the first images, dropout
    off; of fresh weights, in a training of its own. A maximum of four that rounding decides otherwise is in it.
    """
    if dataset is None:
        raise UnsupportedError(f"rung {name!r} cannot be verified without digits")
    small = job.model_copy(update={"batch_size": min(job.batch_size, CHECKED_IMAGES), "loader": "resident"})
    rung = RUNGS[name](_plain(small, name, workload), workload, dataset, device)
    images, labels = rung.draw()
    with torch.random.fork_rng(devices=()):
        oracle = workload.varied(job.pool, job.activation).build(
            job.init or "", torch.Generator().manual_seed(job.seed)
        )
    oracle = oracle.to(device).double().eval()
    cross_entropy(oracle(images.double()), labels).backward()  # type: ignore[no-untyped-call]
    worst = 0.0
    for got, true in zip(rung.gradients(images, labels), oracle.parameters(), strict=True):
        assert true.grad is not None
        error, size = torch.linalg.vector_norm(got.double() - true.grad), torch.linalg.vector_norm(true.grad)
        worst = max(worst, float(error / size) if size else float(error))
    return worst


def _plain(job: Job, name: str, workload: Workload) -> Job:
    """The job as `Training` understands it: the reference's, in the layout that the rung wants."""
    layout = "nhwc" if name == "fused" and workload.convolves else "nchw"
    return job.model_copy(update={"division": "reference", "execution": "eager", "layout": layout})


def _times(built: Mapping[str, Training]) -> dict[str, float]:
    """Seconds of a step, median over short turns that take turns, so that a slow moment falls on all."""
    for training in built.values():
        for _ in range(TUNE_WARM):
            training.step()
    turns: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(TUNE_ROUNDS):
        for name, training in built.items():
            training.step()
            begin = time.perf_counter()
            for _ in range(TUNE_STEPS):
                training.step()
            training.loss()  # waits for what is queued
            turns[name].append((time.perf_counter() - begin) / TUNE_STEPS)
    return {name: statistics.median(values) for name, values in turns.items()}
