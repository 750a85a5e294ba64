"""What a network costs compared with what it reaches: counts from its layers and accuracy from records, each divided by
the first network's.

Workloads and processes go in; one `Contender` per workload comes out. Accuracy comes only from records on the real
MNIST; without a record it is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnbench.analysis.process_table import Process
from cnnbench.analysis.rows import follow
from cnnbench.analysis.stats import Estimate, wilson
from cnnbench.schema import Evaluation
from cnnbench.workloads import Workload, lecture_slides
from cnnbench.workloads import explanation as layers

QUANTITIES = ("activations", "parameters", "forward_flops", "training_flops")
"""The quantities that are divided, per example: values, values, FLOPs, FLOPs."""


@dataclass(frozen=True)
class BestAccuracy:
    """The best test accuracy among the recorded processes of a workload."""

    share: Estimate
    """With Wilson's interval, which covers the sampling of the test images but not the choice of the best."""
    test: Evaluation
    processes: int
    """The number of processes it is the best of."""
    machine_id: str
    run_id: str


@dataclass(frozen=True)
class Contender:
    """One workload: its accuracy where one is recorded, its counts, and their ratios to the first workload's."""

    workload: Workload
    best: BestAccuracy | None
    counts: Mapping[str, int]
    """Counts by the names in QUANTITIES."""
    ratios: Mapping[str, float | None]
    """The counts divided by the first workload's; None where that is 0."""
    is_base: bool
    """Whether this is the first workload."""


def compare_workloads(workloads: Iterable[Workload], processes: Sequence[Process]) -> tuple[Contender, ...]:
    """Compare the workloads with the first of them, in their order.

    Raises WorkloadError for a GEMM, which has no layers.
    """
    found: list[Contender] = []
    for workload in workloads:
        total = layers.explain(workload).total
        counts = {name: int(getattr(total, name)) for name in QUANTITIES}
        base = found[0].counts if found else counts
        is_base = not found or workload.name == found[0].workload.name
        ratios = {name: counts[name] / base[name] if base[name] else None for name in QUANTITIES}
        found.append(Contender(workload, find_best_accuracy(workload, processes), counts, ratios, is_base))
    return tuple(found)


def find_best_accuracy(workload: Workload, processes: Iterable[Process]) -> BestAccuracy | None:
    """Find the best accuracy on the real MNIST's test images.

    None where no process that ended well has one. Only trainings of this version of the workload count, with its own
    pooling and activation.
    """
    wanted = (workload.name, workload.version, "training", None, None)
    found = []
    for process in processes:
        job, trial = process.job, follow(process, "metrics.trial")
        own = (job.workload, job.workload_version, job.task, job.pool, job.activation)
        if own == wanted and trial is not None and trial.accuracy_data == "mnist" and trial.test is not None:
            found.append((process, trial.test))
    if not found:
        return None
    process, test = max(found, key=lambda each: (each[1].correct / each[1].images, each[0].run_id, -each[0].index))
    return BestAccuracy(wilson(test.correct, test.images), test, len(found), process.machine_id, process.run_id)


def printed_memory_ratio() -> float:
    """Derive the concluding slide's `memory x5` from what it seems to be: 4,216,800 values over 805,992 bytes."""
    small, large = (lecture_slides.SLIDES[name] for name in lecture_slides.CONCLUSION_WORKLOADS)
    assert small.activation_bytes is not None
    return large.parameters.value / small.activation_bytes.value
