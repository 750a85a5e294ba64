"""The lecture's "100 %" as tables: what the rule would have done, epoch by epoch, and what it did where it ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cnnbench import naming, units
from cnnbench.analysis import stopping_rule
from cnnbench.analysis.metrics import describe_interval
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stopping_rule import Epoch, Stop
from cnnbench.analysis.training_outcome import TEST_IMAGES
from cnnbench.report import cells, footnotes
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Note, Report, Table, Value
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure

_ALL = units.count(TEST_IMAGES)


def build(
    rows: Sequence[Row],
    processor: ProcessorCell,
    *,
    sample: int = stopping_rule.SAMPLE,
    problems: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """Build the report of these rows: a conclusion a row, the tables (none where `tables` has none), and the conditions."""
    found = stopping_rule.predict_rows(rows, sample)
    shown = [*(each.row for each in found), *(each.row for each in stopping_rule.find_stops(rows))]
    conclusions = [
        Note("summary", write_conclusion(each.epochs, sample, _place_text(each.row, processor))) for each in found
    ]
    conditions = footnotes.build_condition_notes(shown, problems, digests)
    notes = tuple(dict.fromkeys((*conclusions, *rules(sample), *conditions)))
    options = {"command": "stopping", "sample": sample, "runs": sorted(digests or {}), "problems": list(problems)}
    return Report(tuple(tables(rows, processor, sample)), notes, options=options)


def build_from_accuracy(accuracy: float, epochs: int, sample: int) -> Report:
    """Build the same at one true accuracy, without records."""
    found = stopping_rule.predict_from_accuracy(accuracy, epochs, sample)
    right = f"right on {units.count(found[0].accuracy.value * TEST_IMAGES)} of {_ALL}"
    lines = [EpochLine(None, each, sample, {}) for each in found]
    groups = [(f"a network {right}, epoch after epoch", lines)]
    table = build_table(STOPPING, groups=groups, words={"sample": units.count(sample)})
    notes = (Note("summary", write_conclusion(found, sample, f"with a network {right}")), rules(sample)[0])
    asked = {"accuracy": accuracy, "epochs": epochs, "sample": sample}
    return Report((table,), notes, options={"command": "stopping", **asked, "runs": []})


def tables(rows: Sequence[Row], processor: ProcessorCell, sample: int = stopping_rule.SAMPLE) -> list[Table]:
    """Build what the rule would have done and, beside it, what it did; none where no row looked at all images every epoch."""
    found = stopping_rule.predict_rows(rows, sample)
    if not found:
        return []
    groups = [
        (
            title(each.row, processor),
            [EpochLine(each.row, epoch, each.sample, processor(each.row).values or {}) for epoch in each.epochs],
        )
        for each in found
    ]
    stops = [StopLine(each, processor) for each in stopping_rule.find_stops(rows)]
    predicted = build_table(STOPPING, groups=groups, words={"sample": units.count(sample)})
    return [predicted, *([build_table(STOPPED, stops)] if stops else [])]


def write_conclusion(epochs: Sequence[Epoch], sample: int, where: str) -> str:
    """One sentence: by which epoch the rule has stopped with which chance, at which true accuracy."""
    clauses = [
        f"by epoch {each.number} with probability {units.chance(each.stopped)}, at a true accuracy of "
        f"{units.percent(each.accuracy.value)}"
        for each in stopping_rule.select_landmarks(epochs)
    ]
    rule = f"A training that stops when {units.count(sample)} random test images are all right has stopped"
    return f"{rule}, {where}, {'; '.join(clauses)}."


def _place_text(row: Row, processor: ProcessorCell) -> str:
    """`on AMD EPYC (cpu, 2 threads; mnist-cnn, batch 125)`."""
    cell = processor(row)
    job = f"{plain(row.job.workload)}, batch {row.job.batch_size}"
    return f"on {dataclasses.replace(cell, details=(*cell.details, job)).one_line}"


def write_lead(rows: Sequence[Row], processor: ProcessorCell) -> str:
    """Write the conclusion about the first row, for a page; nothing where there is none."""
    found = stopping_rule.predict_rows(rows)
    return write_conclusion(found[0].epochs, found[0].sample, _place_text(found[0].row, processor)) if found else ""


def rules(sample: int = stopping_rule.SAMPLE) -> tuple[Note, ...]:
    """How the figures come about."""
    drawn = units.count(sample)
    return (
        Note(
            "rule",
            f"Chance: {drawn} of the {_ALL} test images are drawn after each epoch, without replacement and independently of "
            f"the draws before; all are right with C(right, {drawn}) / C({_ALL}, {drawn}). Stopped by then: 1 - product of "
            "(1 - chance) so far.",
        ),
        Note(
            "rule",
            f"Accuracy: share of all {_ALL} test images. One process: Wilson's 95 % interval, for the choice of images; three "
            "or more: Student's t between processes. With several, each chance is the mean of theirs.",
        ),
    )


def title(row: Row, processor: ProcessorCell) -> str:
    """Name a row in words, over lines that are not rows themselves: the processor and its place, precision, work."""
    return f"{processor(row).one_line} · {row.job.precision} · {naming.work_label(row.job, row.protocol)}"


class EpochLine(NamedTuple):
    """The rule after one epoch of a row, or of no row but an assumed accuracy."""

    row: Row | None
    epoch: Epoch
    sample: int
    identity: Mapping[str, Value]
    """Raw values that say which row it is."""


class StopLine(NamedTuple):
    """What the rule did to one process."""

    stop: Stop
    processor: ProcessorCell


def _true_accuracy(each: EpochLine) -> Cell:
    """Show the share with its interval and n; of an assumed one the share alone."""
    share = each.epoch.accuracy
    if each.row is None:
        return Cell(units.percent(share.value), (), {"true_accuracy": share.value})
    details = (*describe_interval(share, units.percent), f"n={share.n}")
    return Cell(units.percent(share.value), details, cells.values("true_accuracy", share))


STOPPING = TableSpec[EpochLine](
    "stopping",
    'What "100 %" means: the chance that a sample is all right',
    (
        figure("epoch", "epoch", 1, "epoch.number", units.count, further=lambda each: each.identity),
        ColumnSpec("true_accuracy", f"accuracy on\nall {_ALL}", 1, _true_accuracy),
        figure(
            "all_right",
            "chance that {sample}\nare all right",
            1,
            "epoch.all_right",
            units.chance,
            name="chance_all_right",
            further={"sample_images": "sample"},
        ),
        figure(
            "stopped",
            "chance of having\nstopped by then",
            1,
            "epoch.stopped",
            units.chance,
            name="chance_stopped",
        ),
    ),
    rows=lambda each: () if each.row is None else (each.row,),
)
NEVER = "its last; never all right"
STOPPED = TableSpec[StopLine](
    "stopped",
    "Where the rule was followed: when it stopped, and the accuracy then",
    (
        figure(
            "process",
            "process",
            1,
            lambda each: each.stop.training_outcome.round + 1,
            units.count,
            further=lambda each: {
                "seed": each.stop.training_outcome.seed,
                **(each.processor(each.stop.row).values or {}),
            },
        ),
        figure(
            "stopped_epoch",
            "stopped after\nepoch",
            1,
            "stop.epoch",
            units.count,
            details=lambda each: () if each.stop.by_rule else (NEVER,),
            further={"stopped_by_rule": "stop.by_rule"},
        ),
        figure(
            "sample",
            "right of\nthe sample",
            1,
            lambda each: f"{units.count(each.stop.last.correct)} of {units.count(each.stop.last.images)}",
            name="",
            further={"sample_right": "stop.last.correct", "sample_images": "stop.last.images"},
        ),
        figure(
            "true_accuracy",
            f"accuracy on\nall {_ALL}",
            1,
            "stop.accuracy",
            units.percent,
            estimated=True,
            details="interval",
        ),
    ),
    group=lambda each: title(each.stop.row, each.processor),
    rows=lambda each: (each.stop.row,),
)
