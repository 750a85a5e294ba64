"""Modes held against the plain row of the same job, over seeds: whether each learns as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from cnnbench import naming, units
from cnnbench.analysis import convergence
from cnnbench.analysis.convergence import ConvergenceResult, Untested
from cnnbench.analysis.noninferiority import MOST_SEEDS
from cnnbench.analysis.rows import Row
from cnnbench.report import footnotes
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.model import Cell, Note, Report, Table, Value
from cnnbench.report.stopping_rule import title
from cnnbench.report.table_builder import PROCESSOR, ColumnSpec, TableSpec, build_table, figure

RULES = (
    Note(
        "rule",
        "Difference: mean test accuracy of the mode less that of the plain mode (fp32, nchw, eager, resident, reference "
        "division) of the same job in the same place, in percentage points (pp), with both one-sided 95 % bounds: Student's t "
        "on the differences where both have the same seeds, else Welch's. One image of the 10,000 is 0.010 pp.",
    ),
    Note(
        "rule",
        "Learns as well: the lower bound is above minus the margin. Learns worse: the upper bound is below it, or a seed of "
        "the mode diverged and none of the plain mode's did. Undecided: neither; the seeds said are a side's, for a decision "
        "with a chance of 80 %, were difference and spread as they seem.",
    ),
)


def build(
    rows: Sequence[Row],
    processor: ProcessorCell,
    *,
    margin: float | None = None,
    problems: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """Build the report of these rows: the verdicts counted, the table, the rules, what could not be tested, and the conditions.

    `margin` is a share; None is each workload's own. There is no table where nothing could be tested.
    """
    tested, untested = convergence.compare_with_plain(rows, margin)
    table = _table(tested, processor, margin)
    shown = [row for each in tested for row in (each.variant.row, each.plain.row)]
    conditions = footnotes.build_condition_notes(shown, problems, digests)
    all_notes = (*_summary(tested), *RULES, *list_untested(untested, processor), *conditions)
    options = {"command": "converge", "margin": margin, "runs": sorted(digests or {}), "problems": list(problems)}
    return Report(() if table is None else (table,), tuple(dict.fromkeys(all_notes)), options=options)


def table(rows: Sequence[Row], processor: ProcessorCell) -> Table | None:
    """Build the table of what could be tested; None where nothing could."""
    return _table(convergence.compare_with_plain(rows)[0], processor, None)


def list_untested(untested: Sequence[Untested], processor: ProcessorCell) -> list[Note]:
    """Each mode that could not be tested, and why."""
    return [
        Note(
            "missing",
            f"Not tested, {naming.step_label(each.row.job, ())} of {title(each.row, processor)}: {each.reason}.",
        )
        for each in untested
    ]


def _summary(tested: Sequence[ConvergenceResult]) -> list[Note]:
    verdicts = [each.verdict for each in tested]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
    modes = "1 mode" if len(tested) == 1 else f"{len(tested)} modes"
    return [Note("summary", f"Of {modes}: {', '.join(counts)}.")] if tested else []


def _seeds(each: ConvergenceResult) -> Cell:
    variant, plain = each.variant, each.plain
    paired = each.difference is not None and each.difference.paired
    failed = (f"{variant.failed} did not",) if variant.failed else ()
    theirs = (f"{plain.failed} of the plain did not",) if plain.failed else ()
    values: dict[str, Value] = {
        "seeds": len(variant.right),
        "plain_seeds": len(plain.right),
        "paired": paired,
        "failed": variant.failed,
        "plain_failed": plain.failed,
    }
    text = f"{len(variant.right)} and {len(plain.right)}"
    return Cell(text, (*(("the same",) if paired else ()), *failed, *theirs), values)


def _verdict(each: ConvergenceResult) -> Cell:
    values: dict[str, Value] = {
        "verdict": each.verdict,
        "by_rule": each.decided_by_failures,
        "seeds_to_decide": each.seeds_needed,
    }
    details: tuple[str, ...] = ()
    if each.decided_by_failures:
        details = ("by the seeds that did not learn",)
    elif each.verdict == "undecided":
        needed = (
            f"more than {units.count(MOST_SEEDS)}"
            if each.seeds_needed is None
            else f"about {units.count(each.seeds_needed)}"
        )
        details = (f"{needed} seeds would tell",)
    return Cell(each.verdict, details, values)


def _accuracy_column(side: str, title: str, priority: int) -> ColumnSpec[ConvergenceResult]:
    """Declare the test accuracy of one side: `variant` or `plain`."""
    name = "mode" if side == "variant" else "plain"

    def details(each: ConvergenceResult) -> list[str]:
        spread = getattr(each, side).spread
        return [] if spread is None else [f"SD {units.points(spread, signed=False)}"]

    return figure(
        f"{name}_accuracy",
        title,
        priority,
        f"{side}.accuracy",
        partial(units.percent, digits=3),
        details=details,
        further={f"{name}_accuracy_sd": f"{side}.spread"},
    )


def _describe_bounds(each: ConvergenceResult) -> tuple[str, ...]:
    found = each.difference
    return () if found is None else (units.points_span(found.low, found.high),)


_unsigned = partial(units.points, signed=False)
CONVERGENCE = TableSpec[ConvergenceResult](
    "convergence",
    "Whether each mode learns as well as the plain one",
    (
        replace(PROCESSOR, key="mode", title="mode"),
        ColumnSpec("seeds", "seeds that\nlearned", 2, _seeds),
        _accuracy_column("variant", "test\naccuracy", 3),
        _accuracy_column("plain", "of the\nplain mode", 4),
        figure(
            "difference",
            "difference\nof means",
            1,
            "difference.value",
            units.points,
            details=_describe_bounds,
            further={"difference_low": "difference.low", "difference_high": "difference.high"},
        ),
        figure(
            "of_medians",
            "of medians",
            5,
            "median_difference",
            units.points,
            name="difference_of_medians",
        ),
        figure("margin", "loss\nallowed", 4, "margin", _unsigned, name="loss_allowed"),
        ColumnSpec("verdict", "the mode", 1, _verdict, align="left"),
    ),
    rows=lambda each: (each.variant.row, each.plain.row),
)


def _table(tested: Sequence[ConvergenceResult], processor: ProcessorCell, margin: float | None) -> Table | None:
    if not tested:
        return None
    asked = "" if margin is None else f" · a loss of {units.points(margin, signed=False)} allowed"

    def mode(each: ConvergenceResult) -> Cell:
        words = naming.step_label(each.variant.row.job, ())
        return Cell(words, (), {"mode": words, **(processor(each.variant.row).values or {})})

    spec = replace(CONVERGENCE, group=lambda each: title(each.plain.row, processor) + asked)
    return build_table(spec, tested, named=mode)
