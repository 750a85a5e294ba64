"""What a network costs against what it reaches: counts from its layers, accuracy from records, each over the first one's.

Workloads and processes go in, one `Contender` a workload comes out. Accuracy is only ever what a record says of the real
MNIST; where there is none, it is None.
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
"""What is divided, of one example: values, values, FLOPs, FLOPs."""


@dataclass(frozen=True)
class BestAccuracy:
    """The best test accuracy among the processes recorded of a workload."""

    share: Estimate
    """With Wilson's interval: of the test images' sampling alone, not of having chosen the best."""
    test: Evaluation
    processes: int
    """How many it is the best of."""
    machine_id: str
    run_id: str


@dataclass(frozen=True)
class Contender:
    """One workload: its accuracy where one is recorded, its counts, and their ratios to the first workload's."""

    workload: Workload
    best: BestAccuracy | None
    counts: Mapping[str, int]
    """By the names in QUANTITIES."""
    ratios: Mapping[str, float | None]
    """Its counts over the first one's; None where that is 0."""
    is_base: bool
    """Whether it is the first one."""


def compare_workloads(workloads: Iterable[Workload], processes: Sequence[Process]) -> tuple[Contender, ...]:
    """One a workload, in their order. Raises WorkloadError for a GEMM, which has no layers."""
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
    """The best accuracy on the real MNIST's test images; of this version of the workload, trained, with its own pooling
    and activation. None where no process that ended well has one.
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
    """What the concluding slide's `memory x5` seems to be: 4,216,800 values over 805,992 bytes."""
    small, large = (lecture_slides.SLIDES[name] for name in lecture_slides.CONCLUSION_WORKLOADS)
    assert small.activation_bytes is not None
    return large.parameters.value / small.activation_bytes.value
