"""The lecture's "100 %" as tables: what the rule would have done, epoch by epoch, and what it did where it ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnbench import naming, units
from cnnbench.analysis import stopping_rule
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.analysis.stopping_rule import Epoch, Stop, StoppingPrediction
from cnnbench.analysis.training_outcome import TEST_IMAGES
from cnnbench.report import cells, footnotes
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table, Value

ProcessorCell = Callable[[Row], Cell]
"""How the page names a row's processor."""
_ALL = units.count(TEST_IMAGES)


def build(
    rows: Sequence[Row],
    processor: ProcessorCell,
    *,
    sample: int = stopping_rule.SAMPLE,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """The report of these rows: a conclusion a row, the tables, and the conditions. It has no table where `tables` has none."""
    found = stopping_rule.predict_rows(rows, sample)
    shown = [*(each.row for each in found), *(each.row for each in stopping_rule.find_stops(rows))]
    conclusions = [
        Note("summary", write_conclusion(each.epochs, sample, _place_text(each.row, processor))) for each in found
    ]
    run_notes = (
        *footnotes.build_run_notes(shown),
        *footnotes.build_ledger_notes(shown, digests or {}),
        *footnotes.build_problem_notes(sorted(set(problems))),
    )
    return Report(
        tuple(tables(rows, processor, sample)), tuple(dict.fromkeys((*conclusions, *rules(sample), *run_notes)))
    )


def build_from_accuracy(accuracy: float, epochs: int, sample: int) -> Report:
    """The same at one true accuracy, without records."""
    found = stopping_rule.predict_from_accuracy(accuracy, epochs, sample)
    right = f"right on {units.count(found[0].accuracy.value * TEST_IMAGES)} of {_ALL}"
    columns = _columns(sample)
    lines = [_line(each, sample, _exact(each), {}) for each in found]
    named = f"a network {right}, epoch after epoch"
    table = Table("stopping", _TITLE, "", columns, (RowGroup(named, tuple(lines)),))
    return Report(
        (table,), (Note("summary", write_conclusion(found, sample, f"with a network {right}")), rules(sample)[0])
    )


def tables(rows: Sequence[Row], processor: ProcessorCell, sample: int = stopping_rule.SAMPLE) -> list[Table]:
    """What the rule would have done and, beside it, what it did; none where no row looked at all images every epoch."""
    found = stopping_rule.predict_rows(rows, sample)
    if not found:
        return []
    predicted = Table("stopping", _TITLE, "", _columns(sample), tuple(_group(each, processor) for each in found))
    ran = stopping_rule.find_stops(rows)
    return [predicted, *([_stopped(ran, processor)] if ran else [])]


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
    """The conclusion about the first row, for a page; nothing where there is none."""
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


_TITLE = 'What "100 %" means: the chance that a sample is all right'


def _columns(sample: int) -> tuple[Column, ...]:
    return (
        Column("epoch", "epoch", "", 1),
        Column("true_accuracy", f"accuracy on\nall {_ALL}", "", 1),
        Column("all_right", f"chance that {units.count(sample)}\nare all right", "", 1),
        Column("stopped", "chance of having\nstopped by then", "", 1),
    )


def _group(found: StoppingPrediction, processor: ProcessorCell) -> RowGroup:
    def line(epoch: Epoch) -> Line:
        share = epoch.accuracy
        details = (*cells.interval(share, units.percent), f"n={share.n}")
        accuracy = Cell(units.percent(share.value), details, cells.values("true_accuracy", share))
        line = _line(epoch, found.sample, accuracy, processor(found.row).values or {})
        return dataclasses.replace(line, rows=cells.name_raw_rows(found.row))

    return RowGroup(title(found.row, processor), tuple(line(epoch) for epoch in found.epochs))


def _exact(epoch: Epoch) -> Cell:
    return Cell(units.percent(epoch.accuracy.value), (), {"true_accuracy": epoch.accuracy.value})


def _line(epoch: Epoch, sample: int, accuracy: Cell, identity: Mapping[str, Value]) -> Line:
    return Line(
        (
            Cell(units.count(epoch.number), (), {"epoch": epoch.number, **identity}),
            accuracy,
            Cell(
                units.chance(epoch.all_right),
                (),
                {"chance_all_right": epoch.all_right, "sample_images": sample},
            ),
            Cell(units.chance(epoch.stopped), (), {"chance_stopped": epoch.stopped}),
        )
    )


def title(row: Row, processor: ProcessorCell) -> str:
    """A row in words, over lines that are not rows themselves: the processor and its place, precision, work."""
    return f"{processor(row).one_line} · {row.job.precision} · {naming.work_label(row.job, row.protocol)}"


def _stopped(found: Sequence[Stop], processor: ProcessorCell) -> Table:
    columns = (
        Column("process", "process", "", 1),
        Column("stopped_epoch", "stopped after\nepoch", "", 1),
        Column("sample", "right of\nthe sample", "", 1),
        Column("true_accuracy", f"accuracy on\nall {_ALL}", "", 1),
    )
    by_title: dict[str, list[Line]] = {}
    for each in found:
        by_title.setdefault(title(each.row, processor), []).append(_stop(each, processor))
    groups = tuple(RowGroup(name, tuple(lines)) for name, lines in by_title.items())
    return Table("stopped", "Where the rule was followed: when it stopped, and the accuracy then", "", columns, groups)


def _stop(found: Stop, processor: ProcessorCell) -> Line:
    identity = processor(found.row).values or {}
    process = found.training_outcome.round + 1
    return Line(
        (
            Cell(units.count(process), (), {"process": process, "seed": found.training_outcome.seed, **identity}),
            Cell(
                units.count(found.epoch),
                () if found.by_rule else (NEVER,),
                {"stopped_epoch": found.epoch, "stopped_by_rule": found.by_rule},
            ),
            Cell(
                f"{units.count(found.last.correct)} of {units.count(found.last.images)}",
                (),
                {"sample_right": found.last.correct, "sample_images": found.last.images},
            ),
            _true_accuracy(found.accuracy),
        ),
        rows=cells.name_raw_rows(found.row),
    )


NEVER = "its last; never all right"


def _true_accuracy(share: Estimate | None) -> Cell:
    values = cells.values("true_accuracy", share)
    if share is None:
        return Cell(units.NOT_AVAILABLE, (), values)
    return Cell(units.percent(share.value), cells.interval(share, units.percent), values)
