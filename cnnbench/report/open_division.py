"""The open class: what each recipe claims, over how many seeds, and whether the claim holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from cnnbench import units
from cnnbench.analysis.seed_accuracy import CLAIM_SEEDS, Claim, SeedSpread
from cnnbench.report import cells, footnotes
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.escaping import plain
from cnnbench.report.model import Note, Report
from cnnbench.report.table_builder import TableSpec, build_table, figure

RULES = (
    Note(
        "rule",
        f"A claim is about the mean of at least {CLAIM_SEEDS} seeds, drawn after the recipe was fixed, all that were planned: "
        "one that did not end leaves the claim open. It holds where the one-sided lower 95 % bound of the mean accuracy "
        "(Student's t) is the target or more.",
    ),
    Note("rule", "Time: arithmetic mean over the seeds, with its two-sided 95 % interval (Student's t)."),
)


def _describe_recipe(each: Claim) -> tuple[str, ...]:
    job = each.row.job
    steps = f"{units.count(job.job_steps)} steps of {job.batch_size}, {plain(job.optimizer or '')}"
    return plain(job.workload), steps, f"{job.precision}, {job.execution}"


def describe_deviation(each: Claim | SeedSpread) -> tuple[str, ...]:
    """Print the standard deviation of one seed's accuracy, where it is known."""
    return () if each.deviation is None else (f"SD {units.points(each.deviation, signed=False)}",)


def _describe_interval(each: Claim) -> tuple[str, ...]:
    return () if each.interval_seconds is None else ("{:.2f} to {:.2f}".format(*each.interval_seconds),)


percent_of_images, _hundredths = partial(units.percent, digits=3), "{:.2f}".format
CLAIMS = TableSpec[Claim](
    "claims",
    "The open class: fixed recipes to a target accuracy",
    (
        figure(
            "recipe",
            "recipe",
            1,
            "row.job.recipe",
            plain,
            align="left",
            details=_describe_recipe,
            further={name: f"row.job.{name}" for name in ("workload", "precision", "execution")},
        ),
        figure("target", "target", 2, "target", units.exact_percent),
        figure(
            "seeds",
            "seeds",
            1,
            lambda each: len(each.right),
            units.count,
            details=lambda each: (f"{each.lost} lost",) if each.lost else (),
            further={"lost": "lost"},
        ),
        figure(
            "mean",
            "mean\naccuracy",
            1,
            "accuracy",
            percent_of_images,
            name="mean_accuracy",
            details=describe_deviation,
            further={"accuracy_sd": "deviation"},
        ),
        figure("bound", "lower\n95 % bound", 1, "lower_bound", percent_of_images, name="accuracy_lower_bound"),
        figure(
            "time",
            "mean time",
            1,
            "mean_seconds",
            _hundredths,
            name="mean_seconds",
            unit="s",
            details=_describe_interval,
            further=lambda each: dict(
                zip(("mean_seconds_low", "mean_seconds_high"), each.interval_seconds or (None, None), strict=True)
            ),
        ),
        figure("epochs", "epochs", 2, "epochs", _hundredths),
        figure(
            "verdict",
            "the claim",
            1,
            "outcome",
            align="left",
            details=lambda each: (f"{each.failed} diverged",) if each.failed else (),
            further={"diverged": "failed"},
        ),
    ),
    footnotes.CLOCKS["recipe"],
    notes=lambda each: footnotes.build_row_notes(each.row),
    rows=lambda each: (each.row,),
)


def build(
    found: Sequence[Claim],
    processor: ProcessorCell,
    *,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """Build the report of these claims: the table, the rules, and the conditions."""
    spec = replace(CLAIMS, group=lambda each: cells.title_run(each.row, processor))
    conditions = footnotes.build_condition_notes([each.row for each in found], problems, digests)
    return Report((build_table(spec, found),), tuple(dict.fromkeys((*RULES, *conditions))))
