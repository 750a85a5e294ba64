"""Simulated step times: what machines do to a benchmark, in models plain enough to argue about, and recorded traces.

Enters a noise model and when each process starts; leave log step times relative to a quiet machine. The models are of
whole processes, since that is where benchmarks go wrong: steps are AR(1), and on top of them each process has an effect
of its own, may fall into a slow mode, may meet a burst, and drifts with the clock. Nothing here knows which arm it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from cnnbench.regression.signed_rank import Float64Array

STEP_SECONDS = 0.05
START_SECONDS = 10.0
"""From one process's last step to the next one's first timed step: start, import, warm-up and evaluation. Round figures:
mnist-cnn at batch 128 on a 2-core virtual machine took 0.08 s a step and 7 to 9 s besides. They matter for drift alone,
and for how many steps the other tools take in their second or tenth of a second."""
LogTimes = NDArray[np.float32]


@dataclass(frozen=True)
class NoiseModel:
    """A machine. Standard deviations and `mode_gap` are of log time, so 0.03 is 3 %."""

    name: str
    process_sd: float
    step_sd: float = 0.03
    correlation: float = 0.6
    """Correlation of a step with the next: AR(1)."""
    mode_gap: float = 0.0
    """A process runs in the slow one of two modes with probability 1/2, this much slower."""
    burst_share: float = 0.0
    burst_factor: float = 1.3
    """A share of processes meets a burst that slows all its steps by this factor."""
    drift_per_hour: float = 0.0
    """Growth of the step time over an hour of wall time, as a fraction."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Recorded log step times of processes that did the same work, shape (processes, steps)."""

    name: str
    log_steps: Float64Array
    source: str = ""
    """The recording's source, in words."""


QUIET = NoiseModel("process SD 0.5 %", process_sd=0.005)
NOISE_MODELS = (
    QUIET,
    NoiseModel("process SD 1.5 %", process_sd=0.015),
    NoiseModel("process SD 3 %", process_sd=0.03),
    NoiseModel("two modes 12 % apart", process_sd=0.005, mode_gap=math.log(1.12)),
    NoiseModel("bursts x1.3 on 5 %", process_sd=0.005, burst_share=0.05),
    NoiseModel("drift 5 % an hour", process_sd=0.005, drift_per_hour=0.05),
)


def simulate_log_steps(
    noise: NoiseModel | Trace, rng: np.random.Generator, start_seconds: Float64Array, steps: int
) -> LogTimes:
    """Log times of `steps` steps of each process, shape start_seconds.shape + (steps,); 0 is the quiet machine's step."""
    if isinstance(noise, Trace):
        return _replay_trace(noise, rng, start_seconds.shape, steps)
    logs = _autoregressive(noise, rng, (*start_seconds.shape, steps))
    return np.asarray(logs + _process_effects(noise, rng, start_seconds)[..., np.newaxis].astype(np.float32))


def make_trace(name: str, processes: list[list[float]], source: str = "") -> Trace:
    """Make a trace from step times in seconds, as long as the shortest process. Raises ValueError below two of either."""
    steps = min((len(process) for process in processes), default=0)
    if len(processes) < 2 or steps < 2:
        raise ValueError(f"trace {name}: {len(processes)} processes of {steps} steps, at least two of two are needed")
    times = np.array([process[:steps] for process in processes], dtype=np.float64)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise ValueError(f"trace {name}: step times must be positive and finite")
    logs = np.log(times)
    return Trace(name, logs - np.median(logs), source)


def _autoregressive(noise: NoiseModel, rng: np.random.Generator, shape: tuple[int, ...]) -> LogTimes:
    """Stationary from the first step on, since warm-up is over: the first shock carries the whole variance."""
    shocks = rng.standard_normal(shape, dtype=np.float32)
    fresh = np.float32(math.sqrt(1 - noise.correlation**2))
    shocks[..., 0] /= fresh
    numerator = np.array([noise.step_sd * fresh], dtype=np.float32)
    denominator = np.array([1.0, -noise.correlation], dtype=np.float32)
    return np.asarray(lfilter(numerator, denominator, shocks, axis=-1), dtype=np.float32)


def _process_effects(noise: NoiseModel, rng: np.random.Generator, start_seconds: Float64Array) -> Float64Array:
    shape = start_seconds.shape
    effects = rng.normal(0.0, noise.process_sd, shape)
    if noise.mode_gap:
        effects += noise.mode_gap * (rng.random(shape) < 0.5)
    if noise.burst_share:
        effects += math.log(noise.burst_factor) * (rng.random(shape) < noise.burst_share)
    return np.asarray(effects + math.log1p(noise.drift_per_hour) * start_seconds / 3600)


def _replay_trace(trace: Trace, rng: np.random.Generator, shape: tuple[int, ...], steps: int) -> LogTimes:
    """Each process is one of the recorded, from a random step on and round again: its own order and level are kept."""
    processes, length = trace.log_steps.shape
    which = rng.integers(processes, size=shape)
    places = (rng.integers(length, size=shape)[..., np.newaxis] + np.arange(steps)) % length
    return np.asarray(trace.log_steps[which[..., np.newaxis], places], dtype=np.float32)
