"""The accuracy that recipes end with: seeds, mean, spread, the band they make, and whether each seed is in the known one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from cnnbench import naming, units
from cnnbench.analysis.process_outcomes import TEST_IMAGES
from cnnbench.analysis.seed_accuracy import BAND_SEEDS, WIDTH, SeedSpread
from cnnbench.report import cells, footnotes
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Note, Report, Value
from cnnbench.report.open_division import describe_deviation, percent_of_images
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure
from cnnbench.workloads import Band

RULES = (
    Note(
        "rule",
        f"Accuracy: share of all {units.count(TEST_IMAGES)} test images that are right when training ends, one figure a seed. "
        f"Band: mean +- {WIDTH} standard deviations of a seed, outwards to whole images, of {BAND_SEEDS} seeds or more.",
    ),
    Note("rule", "Inside: every seed lies in the band that the workload has for this recipe (steps, batch, order)."),
)


def _summary(found: Sequence[SeedSpread]) -> Note:
    held = [each for each in found if each.known_band is not None]
    inside = sum(_verdict_text(each) == "inside" for each in held)
    recipes = "1 recipe" if len(found) == 1 else f"{len(found)} recipes"
    return Note("summary", f"Of {recipes}: {len(held)} with a known band, {inside} inside it with every seed.")


def _recipe(each: SeedSpread) -> Cell:
    job = each.row.job
    variant = naming.step_label(job, ())
    details = (f"{units.count(each.steps)} steps of {job.batch_size}", *((variant,) if variant else ()))
    values: dict[str, Value] = {
        "workload": job.workload,
        "workload_version": job.workload_version,
        "steps": each.steps,
        "batch_size": job.batch_size,
        "order": job.order,
    }
    return Cell(plain(job.workload), details, values)


def _verdict_text(each: SeedSpread) -> str:
    if each.known_band is None:
        return "held to no band"
    return "outside" if each.outside_seeds or each.failed else "inside"


def _describe_outside(each: SeedSpread) -> tuple[str, ...]:
    outside = each.outside_seeds or ()
    return (f"seed{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside))}",) if outside else ()


def _range_column(
    key: str,
    title: str,
    priority: int,
    names: tuple[str, str],
    read: Callable[[SeedSpread], tuple[float, float] | None],
) -> ColumnSpec[SeedSpread]:
    """A column of two accuracies, its ends."""
    return figure(
        key,
        title,
        priority,
        read,
        lambda ends: " to ".join(map(units.percent, ends)),
        name="",
        further=lambda each: dict(zip(names, read(each) or (None, None), strict=True)),
    )


def _find_range(each: SeedSpread) -> tuple[float, float]:
    return min(each.right.values()) / TEST_IMAGES, max(each.right.values()) / TEST_IMAGES


def _ends(band: Band | None) -> tuple[float, float] | None:
    return None if band is None else (band.low, band.high)


BANDS = TableSpec[SeedSpread](
    "bands",
    "The accuracy each recipe ends with",
    (
        ColumnSpec("recipe", "recipe", 1, _recipe, align="left"),
        figure(
            "seeds",
            "seeds",
            1,
            lambda each: len(each.right),
            units.count,
            details=lambda each: (f"{each.failed} diverged",) if each.failed else (),
            further={"diverged": "failed"},
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
        _range_column("range", "lowest to\nhighest", 3, ("lowest", "highest"), _find_range),
        _range_column(
            "made", "band of\nthese seeds", 2, ("made_low", "made_high"), lambda each: _ends(each.observed_band)
        ),
        _range_column(
            "known", "the workload's\nband", 2, ("known_low", "known_high"), lambda each: _ends(each.known_band)
        ),
        figure(
            "verdict",
            "the seeds are",
            1,
            _verdict_text,
            align="left",
            details=_describe_outside,
            further=lambda each: {"seeds_outside": len(each.outside_seeds or ())},
        ),
    ),
    rows=lambda each: (each.row,),
)


def build(
    found: Sequence[SeedSpread],
    processor: ProcessorCell,
    *,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """The report of these spreads: the verdicts counted, the table, the rules, and the conditions."""
    spec = replace(BANDS, group=lambda each: cells.title_run(each.row, processor))
    conditions = footnotes.build_condition_notes([each.row for each in found], problems, digests)
    return Report((build_table(spec, found),), tuple(dict.fromkeys((_summary(found), *RULES, *conditions))))
