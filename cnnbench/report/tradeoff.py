"""Networks side by side: accuracy against activations, parameters and FLOPs, and what the lecture's conclusion says of two.

Contenders go in, a report and a document for JSON come out. What is unknown is `n/a`, with what to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench import units
from cnnbench.analysis.metrics import describe_interval
from cnnbench.analysis.tradeoff import QUANTITIES, BestAccuracy, Contender, printed_memory_ratio
from cnnbench.report import explain
from cnnbench.report.model import Cell, Note, Report, make_notes
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording
from cnnbench.workloads.flops import FLOAT32_BYTES
from cnnbench.workloads.lecture_slides import ACCURACIES, CONCLUSION, CONCLUSION_WORKLOADS, SLIDES


def build(contenders: Sequence[Contender], missing: Mapping[str, str], problems: Sequence[str] = ()) -> Report:
    """The table and its notes, and the same figures as one object, with ratios to the first workload.

    `missing` says of each workload without an accuracy what to run for one.
    """
    base = contenders[0].workload.name
    table = build_table(TRADEOFF, groups=[(f"of one example; below each figure its ratio to {base}'s", contenders)])
    errors = conclusion(contenders)
    wrong = {"printed": CONCLUSION, "printed_memory_ratio": printed_memory_ratio(), "why_wrong": list(errors)}
    counted = (explain.COUNTED, explain.STORED)
    document = {
        "base": base,
        "workloads": [_document(each, missing) for each in contenders],
        "conclusion": wrong if errors else None,
        "counted": list(counted),
        "problems": list(problems),
    }
    notes = (
        *make_notes("missing", (f"{name}: accuracy {units.NOT_AVAILABLE} ({why})" for name, why in missing.items())),
        *make_notes("problem", problems),
        *make_notes("warning", errors),
        *([_SLIDE] if any(each.workload.name in ACCURACIES for each in contenders) else []),
        *([_BEST] if any(each.best for each in contenders) else []),
        *make_notes("rule", counted),
    )
    return Report((table,), notes, document, explain.FORMATS)


def _count_column(name: str, title: str, unit: str, priority: int) -> ColumnSpec[Contender]:
    return figure(
        name,
        title,
        priority,
        lambda each: each.counts[name],
        units.count,
        unit=unit,
        details=lambda each: () if each.is_base else (units.ratio(each.ratios[name]),),
    )


TRADEOFF = TableSpec[Contender](
    "tradeoff",
    "Accuracy against cost",
    (
        wording("workload", "workload", 1, "workload.name"),
        ColumnSpec("accuracy", "accuracy", 1, lambda each: _accuracy(each.best), "best"),
        figure("slide_accuracy", "slide", 4, lambda each: ACCURACIES.get(each.workload.name), unit="printed"),
        _count_column("activations", "activations", "values", 1),
        _count_column("parameters", "parameters", "values", 1),
        _count_column("forward_flops", "forward", "FLOPs", 2),
        _count_column("training_flops", "training", "FLOPs", 3),
    ),
)
_SLIDE = Note(
    "reference",
    "The slide's accuracies are as printed. Its 100 % is where the published notebook stops: 200 random test images all "
    "right; that is a rule for stopping, and no accuracy on the 10,000.",
)
_BEST = Note(
    "rule",
    "Accuracy is the best recorded on all test images of MNIST, whatever the batch, optimiser and number of steps; the "
    "interval is Wilson's, of the test images' sampling alone.",
)


def _accuracy(best: BestAccuracy | None) -> Cell:
    if best is None:
        return Cell(units.NOT_AVAILABLE, ("not measured",))
    interval = describe_interval(best.share, units.percent)
    seen = (f"best of {units.count(best.processes)}", f"{units.count(best.test.after_steps)} steps")
    return Cell(units.percent(best.share.value), (*interval, *seen))


def conclusion(contenders: Sequence[Contender]) -> tuple[str, ...]:
    """What the lecture's concluding slide says of its two networks and why it is wrong; nothing unless the first is its
    MLP and its CNN is among the others.
    """
    small, large = CONCLUSION_WORKLOADS
    other = next((each for each in contenders if each.workload.name == large), None)
    memory, parameters = SLIDES[small].activation_bytes, SLIDES[large].parameters
    if contenders[0].workload.name != small or other is None or memory is None:
        return ()
    activations, trained, forward, training = (units.ratio(other.ratios[name]) for name in QUANTITIES)
    return (
        f'The concluding slide says of {large} against {small}: "{CONCLUSION}". The 5 seems to be {parameters.text} / '
        f"{memory.text} = {units.ratio(printed_memory_ratio())}: the CNN's weights in values, some of them forgotten, over "
        "the MLP's memory in bytes, most of it weights. Those are two units, and two different things.",
        f"Rightly, {large} has {activations} the activations and {trained} the parameters of {small}, and takes "
        f"{forward} the FLOPs forward and {training} training.",
    )


def _document(contender: Contender, missing: Mapping[str, str]) -> dict[str, Any]:
    best, counts, name = contender.best, contender.counts, contender.workload.name
    accuracy = best and {
        "share": best.share.value,
        "low": best.share.low,
        "high": best.share.high,
        "images": best.test.images,
        "after_steps": best.test.after_steps,
        "best_of_processes": best.processes,
        "machine": best.machine_id,
        "run": best.run_id,
    }
    return {
        "workload": name,
        "accuracy": accuracy,
        "accuracy_missing": missing.get(name),
        "slide_accuracy": ACCURACIES.get(name),
        **counts,
        "activation_bytes": FLOAT32_BYTES * counts["activations"],
        "parameter_bytes": FLOAT32_BYTES * counts["parameters"],
        "ratios": dict(contender.ratios),
    }
