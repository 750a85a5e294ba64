"""The tuned division: the same mathematics as the reference, as fast as the device does it, chosen from named rungs.

A rung is one way to compute the step, named in `job.execution`: `fused` is torch's own operations in a better order,
`native` the kernels of `kernels/`, `graph` the whole step recorded on a GPU and replayed, `compiled-graph` the same
compiled first. With `auto` every rung of the device's kind is timed for some steps and the fastest is chosen; the
record names it, with the others' times or why they failed. Each rung's gradients are compared with float64's in every
process before it is timed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import cross_entropy

from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.compute_mode import PLAIN_MODE, release_memory
from cnnbench.engine.training import Training
from cnnbench.engine.tuned.fused import FusedTraining
from cnnbench.engine.tuned.graph_training import CompiledGraphTraining, GraphTraining, RecordingError
from cnnbench.engine.tuned.native_training import NativeTraining
from cnnbench.errors import UnsupportedError, is_out_of_memory, summarize_error
from cnnbench.schema import TUNED_ERROR, TUNED_RUNG, Layout
from cnnbench.workloads import tuned_tolerance


@dataclass(frozen=True)
class Variant:
    """One way to compute the tuned step: its differences from the plain one, and where `auto` tries it."""

    training: type[Training]
    kind: str | None = None
    """Kind of device by torch's name; None for every kind."""
    layout: Layout = "nhwc"
    """Layout of a network with convolutions."""

    def make(self, setup: TrainingSetup) -> Training:
        """Make the job's training in this way. Raises UnsupportedError if that is impossible here."""
        layout = self.layout if setup.workload.convolves else "nchw"
        return self.training(replace(setup, job=setup.job.model_copy(update=PLAIN_MODE | {"layout": layout})))


VARIANTS = {
    "native": Variant(NativeTraining, kind="cpu", layout="nchw"),
    "graph": Variant(GraphTraining, kind="cuda"),
    "compiled-graph": Variant(CompiledGraphTraining, kind="cuda"),
    "fused": Variant(FusedTraining),
}
"""Variants by their name in `job.execution`, the one expected to be fastest on its devices first."""
TRIED_SETTING = "tuned_tried"
"""Name in a record's settings of what autotuning saw."""
CHECKED_IMAGES, CHECKED_RANDOM = 32, 2
"""Digits, or random images (of 224 x 224 for VGG-16), on which the gradients are compared with float64's."""


def list_variants(device: torch.device) -> tuple[str, ...]:
    """List the variants that `auto` tries on the device, the one expected to be fastest first."""
    return tuple(name for name, each in VARIANTS.items() if each.kind in (None, device.type))


def make(setup: TrainingSetup) -> Training:
    """Make the rung that the job names, or the fastest. Raises UnsupportedError with every reason if none works."""
    job, auto = setup.job, setup.job.execution == "auto"

    def build(name: str) -> Training:
        error = gradient_error(setup, name)
        if auto and not error <= tuned_tolerance(job):  # false of NaN too; a rung asked for by name is the gate's
            raise UnsupportedError(f"its gradients are off by {error:.1e}, the limit is {tuned_tolerance(job):.0e}")
        training = VARIANTS[name].make(setup)
        training.prepare()
        training.recorded_settings[TUNED_ERROR] = f"{error:.2e}"
        return training

    choice = choose_variant(list_variants(setup.device) if auto else (job.execution,), build)
    release_memory()  # of rungs that lost or were only checked, so that no memory mark includes them
    training = choice.training
    training.recorded_settings[TUNED_RUNG] = choice.name
    if auto:
        tried = [f"{name} {1e3 * seconds:.3g} ms" for name, seconds in choice.seconds.items()]
        left_out = [f"{name}: {why}" for name, why in choice.reasons.items()]
        training.recorded_settings[TRIED_SETTING] = "; ".join([*tried, *left_out]) or f"{choice.name} alone"
    training.reset()
    return training


def gradient_error(setup: TrainingSetup, name: str) -> float:
    """Measure a rung's largest relative gradient error (2-norm, by parameter) against float64, dropout off.

    On the first images with the first weights, in a separate training. It includes maxima of four that rounding decides
    otherwise.
    """
    job = setup.job
    images_checked = min(job.batch_size, CHECKED_RANDOM if setup.dataset is None else CHECKED_IMAGES)
    small = job.model_copy(update={"batch_size": images_checked, "loader": "resident"})
    variant = VARIANTS[name].make(replace(setup, job=small))
    images, labels = variant.draw()
    with torch.random.fork_rng(devices=()):
        oracle = setup.workload.build(job.init, job.seed)
    oracle = oracle.to(setup.device).double().eval()
    cross_entropy(oracle(images.double()), labels).backward()  # type: ignore[no-untyped-call]
    errors = []
    for got, true in zip(variant.gradients(images, labels), oracle.parameters(), strict=True):
        assert true.grad is not None
        error, size = torch.linalg.vector_norm(got.double() - true.grad), torch.linalg.vector_norm(true.grad)
        errors.append(float(error / size) if size else float(error))
    return max(errors, key=lambda off: (math.isnan(off), off))  # NaN is the worst


ROUNDS, STEPS, WARMUP_STEPS = 5, 3, 3
OUT_OF_MEMORY = "out of memory"

Build = Callable[[str], Training]
"""Builds a rung by its name, ready to step. Raises UnsupportedError with the reason if it does not work here."""


@dataclass(frozen=True)
class Choice:
    """The fastest rung, ready to step; seconds of a step for each timed rung; the reasons of those that failed."""

    name: str
    training: Training
    seconds: Mapping[str, float]
    reasons: Mapping[str, str]


def choose_variant(names: Sequence[str], build: Build) -> Choice:
    """Choose the fastest rung. Raises UnsupportedError with every reason, or MemoryError if memory is one of them."""
    try:
        return _choose_interleaved(names, build)
    except Exception as error:
        if len(names) == 1 or not is_out_of_memory(error):
            raise
    release_memory()  # outside the handler: the error's frames, and what they held, are gone
    return _choose_one_at_a_time(names, build)


def _choose_interleaved(names: Sequence[str], build: Build) -> Choice:
    reasons = {}
    built = {}
    left = [*names]
    while left:
        name = left.pop(0)
        try:
            built[name] = build(name)
        except UnsupportedError as error:
            reasons[name] = str(error)
            if isinstance(error, RecordingError) and built:  # whose random numbers it may have taken with it
                left = [each for each in names if each not in reasons]
                built = {}
    if not built:
        raise UnsupportedError("; ".join(reasons.values()))
    seconds = _time_variants(built) if len(built) > 1 else {}
    best = min(built, key=lambda each: seconds.get(each, 0.0))
    return Choice(best, built[best], seconds, reasons)


def _choose_one_at_a_time(names: Sequence[str], build: Build) -> Choice:
    reasons = {}
    seconds = {}
    for name in names:
        try:
            seconds[name] = _time_variants({name: build(name)})[name]
        except UnsupportedError as error:
            reasons[name] = str(error)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reasons[name] = f"{OUT_OF_MEMORY}: {summarize_error(error)}"
        release_memory()
    if not seconds:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise MemoryError(why) if OUT_OF_MEMORY in why else UnsupportedError(why)
    best = min(seconds, key=seconds.__getitem__)
    return Choice(best, build(best), seconds, reasons)


def _time_variants(built: Mapping[str, Training]) -> dict[str, float]:
    """Time a step of each rung in seconds, median over alternating short turns; each turn is of whole launches."""
    counts = {name: max(STEPS, training.steps_per_launch) for name, training in built.items()}
    for name, training in built.items():
        training.steps(max(WARMUP_STEPS, counts[name] if training.steps_per_launch > 1 else 0))
    turns: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(ROUNDS):
        for name, training in built.items():
            training.step()
            training.loss()
            begin = time.perf_counter()
            training.steps(counts[name])
            training.loss()  # waits for what is queued
            turns[name].append((time.perf_counter() - begin) / counts[name])
    return {name: statistics.median(values) for name, values in turns.items()}
