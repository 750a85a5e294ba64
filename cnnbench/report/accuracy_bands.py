"""The accuracy that recipes end with: seeds, mean, spread, the band they make, and whether each seed is in the known one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnbench import naming, units
from cnnbench.analysis.accuracy_bands import SEEDS, WIDTH, SeedSpread
from cnnbench.analysis.training_outcome import TEST_IMAGES
from cnnbench.report import cells, footnotes
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table, Value
from cnnbench.report.stopping_rule import ProcessorCell
from cnnbench.workloads import Band

RULES = (
    Note(
        "rule",
        f"Accuracy: share of all {units.count(TEST_IMAGES)} test images that are right when training ends, one figure a seed. "
        f"Band: mean +- {WIDTH} standard deviations of a seed, outwards to whole images, of {SEEDS} seeds or more.",
    ),
    Note("rule", "Inside: every seed lies in the band that the workload has for this recipe (steps, batch, order)."),
)


def build(
    found: Sequence[SeedSpread],
    processor: ProcessorCell,
    *,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """The report of these spreads: the verdicts counted, the table, the rules, and the conditions."""
    columns: list[tuple[Column, Callable[[SeedSpread], Cell]]] = [
        (Column("recipe", "recipe", "", 1, "left"), _recipe),
        (Column("seeds", "seeds", "", 1), _seeds),
        (Column("mean", "mean\naccuracy", "", 1), _mean),
        (Column("range", "lowest to\nhighest", "", 3), _range),
        (Column("made", "band of\nthese seeds", "", 2), lambda each: _band("made", each.observed_band)),
        (Column("known", "the workload's\nband", "", 2), lambda each: _band("known", each.known_band)),
        (Column("verdict", "the seeds are", "", 1, "left"), _verdict),
    ]
    by_place: dict[str, list[Line]] = {}
    for each in found:
        line = Line(tuple(cell(each) for _, cell in columns), rows=cells.name_raw_rows(each.row))
        by_place.setdefault(f"{processor(each.row).one_line} \u00b7 run {plain(each.row.run_id)}", []).append(line)
    groups = tuple(RowGroup(name, tuple(lines)) for name, lines in by_place.items())
    table = Table("bands", "The accuracy each recipe ends with", "", tuple(column for column, _ in columns), groups)
    shown = [each.row for each in found]
    run_notes = (
        *footnotes.build_run_notes(shown),
        *footnotes.build_ledger_notes(shown, digests or {}),
        *footnotes.build_problem_notes(sorted(set(problems))),
    )
    return Report((table,), tuple(dict.fromkeys((_summary(found), *RULES, *run_notes))))


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


def _seeds(each: SeedSpread) -> Cell:
    details = (f"{each.failed} diverged",) if each.failed else ()
    return Cell(units.count(len(each.right)), details, {"seeds": len(each.right), "diverged": each.failed})


def _mean(each: SeedSpread) -> Cell:
    spread = each.deviation
    details = () if spread is None else (f"SD {units.points(spread, signed=False)}",)
    return Cell(units.percent(each.mean, 3), details, {"mean_accuracy": each.mean, "accuracy_sd": spread})


def _range(each: SeedSpread) -> Cell:
    low, high = min(each.right.values()) / TEST_IMAGES, max(each.right.values()) / TEST_IMAGES
    return Cell(f"{units.percent(low)} to {units.percent(high)}", (), {"lowest": low, "highest": high})


def _band(name: str, band: Band | None) -> Cell:
    low, high = (None, None) if band is None else (band.low, band.high)
    values: dict[str, Value] = {f"{name}_low": low, f"{name}_high": high}
    if band is None:
        return Cell(units.NOT_AVAILABLE, (), values)
    return Cell(f"{units.percent(band.low)} to {units.percent(band.high)}", (), values)


def _verdict_text(each: SeedSpread) -> str:
    if each.known_band is None:
        return "held to no band"
    return "outside" if each.outside_seeds or each.failed else "inside"


def _verdict(each: SeedSpread) -> Cell:
    outside = each.outside_seeds or ()
    details = (f"seed{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside))}",) if outside else ()
    return Cell(_verdict_text(each), details, {"verdict": _verdict_text(each), "seeds_outside": len(outside)})
