"""What the benchmarks of whole steps share: fresh processes, each with all of a comparison's steps in turns, as stored in the
`extra_info` of pytest-benchmark's files.

The process is the replicate. Where a process puts its buffers makes all of its steps faster or slower, so an interval over
the turns of one process says how well *that process* is known, and the next one is outside it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cnnbench.analysis.stats import Estimate, geometric

KEY = "comparisons"
"""The name in `extra_info`: a list of comparisons, each as its fields."""


@dataclass(frozen=True)
class Comparison:
    """Seconds of a step by name, process and turn; a step's turns are beside the baseline's turns of the same process."""

    title: str
    baseline: str
    shows: Literal["speed-up", "time"]
    """Whether the baseline's time is divided by a step's, or a step's by the baseline's."""
    seconds: Mapping[str, Sequence[Sequence[float]]]
    flops: Mapping[str, int] = field(default_factory=dict)
    """Model FLOPs of one step, where they are known."""
    ceiling: Sequence[str] = ()
    """The names of the matrix products; the best of each process is its ceiling."""

    @property
    def processes(self) -> int:
        """How many processes each step has."""
        return len(self.seconds[self.baseline])

    def step_seconds(self, name: str) -> Estimate:
        """Estimate the seconds of a step: the median of each process's turns, the geometric mean over processes."""
        return geometric(self._medians(name))

    def ratio(self, name: str) -> Estimate:
        """Estimate the ratio to the baseline: the median over turns in each process, the geometric mean over processes."""
        above, below = (self.baseline, name) if self.shows == "speed-up" else (name, self.baseline)
        both = zip(self.seconds[above], self.seconds[below], strict=True)
        return geometric([statistics.median(a / b for a, b in zip(*turns, strict=True)) for turns in both])

    def flops_per_second(self, name: str) -> Estimate:
        """Estimate the model FLOP/s of a step."""
        return self.step_seconds(name).inverse_of(self.flops[name])

    def best_product(self) -> Estimate:
        """Estimate the FLOP/s of the best matrix product of a process."""
        return geometric(self._best_rates())

    def share_of_best_product(self, name: str) -> Estimate:
        """Estimate a step's model FLOP/s over those of the best product of the same process."""
        rates = (self.flops[name] / seconds for seconds in self._medians(name))
        return geometric([rate / best for rate, best in zip(rates, self._best_rates(), strict=True)])

    def _best_rates(self) -> list[float]:
        rates = ([self.flops[name] / seconds for seconds in self._medians(name)] for name in self.ceiling)
        return [max(process) for process in zip(*rates, strict=True)]

    def _medians(self, name: str) -> list[float]:
        return [statistics.median(turns) for turns in self.seconds[name]]

    def store(self, benchmark: Any) -> None:
        """Add this comparison to what pytest-benchmark saves of the test."""
        benchmark.extra_info.setdefault(KEY, []).append(asdict(self))


def run_fresh_process(script: str, *words: str, environment: Mapping[str, str]) -> Any:
    """Run a benchmark file as a program of its own and return the JSON it prints. Fails with what it wrote if it fails."""
    done = subprocess.run(
        [sys.executable, script, *words], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def collect_turns(processes: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[Sequence[float]]]:
    """Collect the turns of each step over the processes."""
    return {name: [process[name] for process in processes] for name in processes[0]}
