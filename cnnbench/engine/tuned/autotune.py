"""Which rung is the fastest here: each is built and timed for some steps; what cannot be had is left out with its reason.

Where memory allows, all stand side by side and take turns, so that a slow moment falls on all. Where it does not, each is
built, timed and thrown away in its turn, so that none is left out because another held the memory.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from cnnbench.devices.cuda_graphs import RecordingError, summarize_error
from cnnbench.engine.process import status_of
from cnnbench.engine.training import Training
from cnnbench.errors import UnsupportedError

ROUNDS, STEPS, WARMUP_STEPS = 5, 3, 3
OUT_OF_MEMORY = "out of memory"

Build = Callable[[str], Training]
"""A rung by its name, ready to step. Raises UnsupportedError with the reason where it cannot be had."""


@dataclass(frozen=True)
class Choice:
    """The fastest rung, ready to step; seconds of a step by rung, of all that were timed; why the others could not be."""

    name: str
    training: Training
    seconds: Mapping[str, float]
    reasons: Mapping[str, str]


def choose_variant(names: Sequence[str], build: Build) -> Choice:
    """Raises UnsupportedError with every reason where none can be had, MemoryError where memory is one of them."""
    if len(names) > 1:
        try:
            return _choose_interleaved(names, build)
        except Exception as error:
            if status_of(error) != "oom":
                raise
        release()  # out here the error's frames, and what they held, are gone
        return _choose_one_at_a_time(names, build)
    return Choice(names[0], build(names[0]), {}, {})


def _choose_interleaved(names: Sequence[str], build: Build) -> Choice:
    reasons: dict[str, str] = {}
    built: dict[str, Training] = {}
    left = list(names)
    while left:
        name = left[0]
        try:
            built[name] = build(name)
            left.remove(name)
        except UnsupportedError as error:
            reasons[name] = str(error)
            left.remove(name)
            if isinstance(error, RecordingError) and built:  # whose random numbers it may have taken with it
                left = [each for each in names if each not in reasons]
                built = {}
    if not built:
        raise UnsupportedError("; ".join(reasons.values()))
    seconds = _time_variants(built) if len(built) > 1 else {}
    best = min(seconds, key=lambda each: seconds[each]) if seconds else next(iter(built))
    return Choice(best, built[best], seconds, reasons)


def _choose_one_at_a_time(names: Sequence[str], build: Build) -> Choice:
    reasons: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name in names:
        try:
            seconds[name] = _time_variants({name: build(name)})[name]
        except UnsupportedError as error:
            reasons[name] = str(error)
        except Exception as error:
            if status_of(error) != "oom":
                raise
            reasons[name] = f"{OUT_OF_MEMORY}: {summarize_error(error)}"
        release()
    if not seconds:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise MemoryError(why) if OUT_OF_MEMORY in why else UnsupportedError(why)
    best = min(seconds, key=lambda each: seconds[each])
    return Choice(best, build(best), seconds, reasons)


def release() -> None:
    """Give memory that nothing holds back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _time_variants(built: Mapping[str, Training]) -> dict[str, float]:
    """Seconds of a step, median over short turns that take turns; a rung with several steps a launch does whole launches."""
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
