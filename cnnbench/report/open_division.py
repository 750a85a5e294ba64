"""The open class: what each recipe claims, over how many seeds, and whether the claim holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnbench import units
from cnnbench.analysis.open_division import SEEDS, Claim
from cnnbench.report import cells, footnotes
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table
from cnnbench.report.stopping_rule import ProcessorCell

RULES = (
    Note(
        "rule",
        f"A claim is about the mean of at least {SEEDS} seeds, drawn after the recipe was fixed, all that were planned: one "
        "that did not end leaves the claim open. It holds where the one-sided lower 95 % bound of the mean accuracy "
        "(Student's t) is the target or more.",
    ),
    Note("rule", "Time: arithmetic mean over the seeds, with its two-sided 95 % interval (Student's t)."),
)


def build(
    found: Sequence[Claim],
    processor: ProcessorCell,
    *,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """The report of these claims: the table, the rules, and the conditions."""
    columns: list[tuple[Column, Callable[[Claim], Cell]]] = [
        (Column("recipe", "recipe", "", 1, "left"), _recipe),
        (Column("target", "target", "", 2), _target),
        (Column("seeds", "seeds", "", 1), _seeds),
        (Column("mean", "mean\naccuracy", "", 1), _mean),
        (Column("bound", "lower\n95 % bound", "", 1), _bound),
        (Column("time", "mean time", "s", 1), _time),
        (Column("epochs", "epochs", "", 2), _epochs),
        (Column("verdict", "the claim", "", 1, "left"), _verdict),
    ]
    by_place: dict[str, list[Line]] = {}
    for each in found:
        line = Line(
            tuple(cell(each) for _, cell in columns),
            footnotes.build_row_notes(each.row),
            rows=cells.name_raw_rows(each.row),
        )
        by_place.setdefault(f"{processor(each.row).one_line} \u00b7 run {plain(each.row.run_id)}", []).append(line)
    groups = tuple(RowGroup(name, tuple(lines)) for name, lines in by_place.items())
    table = Table(
        "claims",
        "The open class: fixed recipes to a target accuracy",
        footnotes.CLOCKS["recipe"],
        tuple(column for column, _ in columns),
        groups,
    )
    shown = [each.row for each in found]
    run_notes = (
        *footnotes.build_run_notes(shown),
        *footnotes.build_ledger_notes(shown, digests or {}),
        *footnotes.build_problem_notes(sorted(set(problems))),
    )
    return Report((table,), tuple(dict.fromkeys((*RULES, *run_notes))))


def _recipe(each: Claim) -> Cell:
    job = each.row.job
    details = (
        plain(job.workload),
        f"{units.count(job.job_steps)} steps of {job.batch_size}, {plain(job.optimizer or '')}",
        f"{job.precision}, {job.execution}",
    )
    values = {"recipe": job.recipe, "workload": job.workload, "precision": job.precision, "execution": job.execution}
    return Cell(plain(job.recipe or ""), details, values)


def _target(each: Claim) -> Cell:
    return Cell(units.exact_percent(each.target), (), {"target": each.target})


def _seeds(each: Claim) -> Cell:
    details = (f"{each.lost} lost",) if each.lost else ()
    return Cell(units.count(len(each.right)), details, {"seeds": len(each.right), "lost": each.lost})


def _mean(each: Claim) -> Cell:
    values = {"mean_accuracy": each.mean_accuracy, "accuracy_sd": each.deviation}
    if each.mean_accuracy is None:
        return Cell(units.NOT_AVAILABLE, (), values)
    details = () if each.deviation is None else (f"SD {units.points(each.deviation, signed=False)}",)
    return Cell(units.percent(each.mean_accuracy, 3), details, values)


def _bound(each: Claim) -> Cell:
    bound = each.lower_bound
    text = units.NOT_AVAILABLE if bound is None else units.percent(bound, 3)
    return Cell(text, (), {"accuracy_lower_bound": bound})


def _time(each: Claim) -> Cell:
    low, high = each.interval_seconds or (None, None)
    values = {"mean_seconds": each.mean_seconds, "mean_seconds_low": low, "mean_seconds_high": high}
    if each.mean_seconds is None:
        return Cell(units.NOT_AVAILABLE, (), values)
    details = () if low is None or high is None else (f"{low:.2f} to {high:.2f}",)
    return Cell(f"{each.mean_seconds:.2f}", details, values)


def _epochs(each: Claim) -> Cell:
    return Cell(f"{each.epochs:.2f}", (), {"epochs": each.epochs})


def _verdict(each: Claim) -> Cell:
    details = (f"{each.diverged} diverged",) if each.diverged else ()
    return Cell(each.outcome, details, {"verdict": each.outcome, "diverged": each.diverged})
