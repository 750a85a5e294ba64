"""Faults planted in what makes a page: each takes a finished page and returns it as a faulty producer would have made it.

A fault changes a figure wherever a producer would have changed it: its raw values, the text made of them, or which row it is
beside. The page is then rendered, sealed and stored like any other, so that nothing but the figures themselves is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import builders as b
import concurrent_records
import learning_builders
import report_builders
import scaling_records
import variant_records

from cnnbench import units
from cnnbench.report.model import Cell, Chart, Line, Note, Page, RowGroup, Table
from cnnbench.store import Ledger

PRODUCER = "cnnbench.report.sections.build"
"""The function that makes a page's value of the compared rows: the one place where the faults are planted."""
Fault = Callable[[Page], Page]
Marks = list[dict[str, Any]]
FORMATS: Mapping[str, Callable[[Any], str]] = {
    "flops_per_second": units.giga,
    "bytes": units.data_size,
    "step_seconds": units.short_seconds,
    "floor_seconds": units.short_seconds,
    "cold_start_seconds": units.short_seconds,
    "pretraining_seconds": units.short_seconds,
    "job_seconds": units.duration,
    "median_seconds_to_target": units.number,
    "seconds_to_target": units.number,
    "steps_to_target": units.count,
    "speedup": units.ratio,
    "allows": units.ratio,
    "speed_over": units.ratio,
    "slowest_over_median": units.ratio,
    "images_per_second": units.rate,
    "share_of_measured_peak": lambda value: units.percent(value, 0),
    "mfu": lambda value: units.percent(value, 1),
    "scaling_efficiency": lambda value: units.percent(value, 1),
    "exchange_share": lambda value: units.percent(value, 1),
    "accuracy": units.percent,
    "joules": units.joules,
    "job_cost": lambda value: f"{value:,.4g}",
    "difference": units.points,
    "loss_allowed": lambda value: units.points(value, signed=False),
    "chance": units.chance,
}
"""How a value is printed, by a part of its name."""


def trees() -> dict[str, list[Ledger]]:
    """The ledgers that the pages are made of: every kind of row, ways to train, seeds to learn by, ranks, copies."""
    failed = b.record(b.cnn_job(batch_size=64, round=1, seed=9), index=1, status="oom")
    partly = b.ledger(
        [b.record(b.cnn_job(batch_size=64), 0.06, index=0), failed],
        run_id="20260304T120000Z-0001",
        created_at="2026-03-04T12:00:00Z",
    )
    again = b.ledger(
        [*b.repeats(b.gemm_job(2048), [0.07, 0.071, 0.072]), *b.repeats(b.cnn_job(batch_size=32), [0.02] * 3, start=3)],
        run_id="20260305T120000Z-0001",
        created_at="2026-03-05T12:00:00Z",
    )
    return {
        "rows": [*report_builders.everything(), partly, again],
        "ways": [variant_records.targets(), variant_records.ladder()],
        "learning": learning_builders.everything(),
        "ranks": [scaling_records.ledger()],
        "copies": [concurrent_records.ledger()],
    }


def format_value(name: str, value: Any) -> str:
    """The value as the page prints it."""
    text = next((text for part, text in FORMATS.items() if part in name), units.count)
    return text(value)


def restate(cell: Cell, **changed: Any) -> Cell:
    """The cell with other values under these names, in its raw values and in the text made of them."""
    values, text, details = dict(cell.values or {}), cell.text, cell.details
    for name, new in changed.items():
        old = values[name]
        values[name] = new
        shown, other = format_value(name, old), format_value(name, new)
        if name.endswith("_n"):
            shown, other = f"n={old}", f"n={new}"
        text = text.replace(shown, other)
        details = tuple(each.replace(shown, other) for each in details)
    return dataclasses.replace(cell, text=text, details=details, values=values)


def restate_interval(cell: Cell, name: str, low: float, high: float) -> Cell:
    """The cell with other ends of its interval."""
    values = dict(cell.values or {})
    text = lambda value: format_value(name, value)  # noqa: E731
    before = units.span(values[f"{name}_low"], values[f"{name}_high"], text)  # type: ignore[arg-type]
    after = units.span(low, high, text)
    details = tuple(each.replace(before, after) for each in cell.details)
    return dataclasses.replace(cell, details=details, values=values | {f"{name}_low": low, f"{name}_high": high})


def change_table(key: str, change: Callable[[Table], Table]) -> Fault:
    """Change one table, wherever the page has it."""

    def fault(page: Page) -> Page:
        sections = tuple(
            dataclasses.replace(
                section, tables=tuple(change(table) if table.key == key else table for table in section.tables)
            )
            for section in page.sections
        )
        return dataclasses.replace(page, sections=sections)

    return fault


def change_lines(key: str, change: Callable[[Table, list[Line]], Sequence[Line]]) -> Fault:
    """Change the lines of the table's longest group."""

    def change_group(table: Table) -> Table:
        longest = max(table.groups, key=lambda group: len(group.lines))
        groups = tuple(
            dataclasses.replace(group, lines=tuple(change(table, list(group.lines)))) if group is longest else group
            for group in table.groups
        )
        return dataclasses.replace(table, groups=groups)

    return change_table(key, change_group)


def place_of(table: Table, column: str) -> int:
    """Where a column is."""
    return next(n for n, each in enumerate(table.columns) if each.key == column)


def change_cells(key: str, column: str, change: Callable[[Cell], Cell]) -> Fault:
    """Change every cell of one column."""

    def change_all(table: Table) -> Table:
        n = place_of(table, column)
        groups = tuple(
            RowGroup(
                group.title,
                tuple(
                    dataclasses.replace(line, cells=(*line.cells[:n], change(line.cells[n]), *line.cells[n + 1 :]))
                    for line in group.lines
                ),
            )
            for group in table.groups
        )
        return dataclasses.replace(table, groups=groups)

    return change_table(key, change_all)


def scale(name: str, factor: float, *, ends: bool = True) -> Callable[[Cell], Cell]:
    """Multiply a figure, with its interval or without."""

    def change(cell: Cell) -> Cell:
        known = {} if cell.values is None else cell.values
        if known.get(name) is None:
            return cell
        names = [name, *(f"{name}_{end}" for end in ("low", "high") if ends and known.get(f"{name}_{end}") is not None)]
        return restate(cell, **{each: known[each] * factor for each in names})  # type: ignore[operator]

    return change


def shift(name: str, by: int) -> Callable[[Cell], Cell]:
    """Add to a count."""

    def change(cell: Cell) -> Cell:
        value = (cell.values or {}).get(name)
        return restate(cell, **{name: value + by}) if isinstance(value, int) else cell

    return change


def swap_cells(key: str, one: str, other: str) -> Fault:
    """Put the cells of one column under the heading of the other."""

    def change(table: Table) -> Table:
        a, c = place_of(table, one), place_of(table, other)
        columns = list(table.columns)
        columns[a], columns[c] = columns[c], columns[a]
        return dataclasses.replace(table, columns=tuple(columns))

    return change_table(key, change)


def move_column(key: str, column: str) -> Fault:
    """Give each line the cell of the line after it."""

    def change(table: Table, lines: list[Line]) -> list[Line]:
        n = place_of(table, column)
        found = [line.cells[n] for line in lines]
        turned = [*found[1:], found[0]]
        return [
            dataclasses.replace(line, cells=(*line.cells[:n], cell, *line.cells[n + 1 :]))
            for line, cell in zip(lines, turned, strict=True)
        ]

    return change_lines(key, change)


def change_marks(key: str, change: Callable[[Marks], Marks]) -> Fault:
    """Change the data of a chart, and of both specifications that draw it."""

    def fault(page: Page) -> Page:
        sections = tuple(
            dataclasses.replace(
                section, charts=tuple(_redraw(chart, change) if chart.key == key else chart for chart in section.charts)
            )
            for section in page.sections
        )
        return dataclasses.replace(page, sections=sections)

    return fault


def _redraw(chart: Chart, change: Callable[[Marks], Marks]) -> Chart:
    data = change([dict(mark) for mark in chart.data])
    wide, narrow = ({**spec, "datasets": {"rows": data}} for spec in (chart.wide, chart.narrow))
    return dataclasses.replace(chart, data=tuple(data), wide=wide, narrow=narrow)


def turn_marks(*fields: str) -> Callable[[Marks], Marks]:
    """Give each mark of a row these fields of the next one."""

    def change(marks: Marks) -> Marks:
        own = [mark for mark in marks if mark.get("run") is not None and all(name in mark for name in fields)]
        taken = [{name: mark[name] for name in fields} for mark in own]
        for mark, other in zip(own, [*taken[1:], taken[0]], strict=True):
            mark.update(other)
        return marks

    return change


def each_mark(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Marks], Marks]:
    """Change every mark of a row."""
    return lambda marks: [mark | change(mark) if mark.get("run") is not None else mark for mark in marks]


def change_words(change: Callable[[str], str], *, where: str) -> Fault:
    """Change the headline, the leads, the notes or what charts say in words."""

    def section_of(page: Page) -> Page:
        def note(each: Note) -> Note:
            return dataclasses.replace(each, text=change(each.text))

        def chart(each: Chart) -> Chart:
            return dataclasses.replace(each, alt=change(each.alt)) if where == "alt" else each

        sections = tuple(
            dataclasses.replace(
                each,
                lead=change(each.lead) if where == "lead" else each.lead,
                notes=tuple(map(note, each.notes)) if where == "notes" else each.notes,
                charts=tuple(map(chart, each.charts)),
            )
            for each in page.sections
        )
        return dataclasses.replace(
            page,
            headline=tuple(map(change, page.headline)) if where == "headline" else page.headline,
            sections=sections,
            notes=tuple(map(note, page.notes)) if where == "notes" else page.notes,
        )

    return section_of


def with_column(key: str, column: str, **fields: Any) -> Fault:
    """Change a column's heading or unit."""

    def change(table: Table) -> Table:
        columns = tuple(dataclasses.replace(each, **fields) if each.key == column else each for each in table.columns)
        return dataclasses.replace(table, columns=columns)

    return change_table(key, change)


def without_mark(cell: Cell) -> Cell:
    """A projected time as if it had been measured."""
    return dataclasses.replace(cell, text=cell.text.removeprefix("~"))


def as_measured(cell: Cell) -> Cell:
    """The same in words."""
    details = tuple(each.replace("projected", "measured") for each in cell.details)
    return dataclasses.replace(cell, details=details)


def swap_ends(name: str) -> Callable[[Cell], Cell]:
    """The interval with its ends swapped."""

    def change(cell: Cell) -> Cell:
        low, high = ((cell.values or {}).get(f"{name}_{end}") for end in ("low", "high"))
        return restate_interval(cell, name, high, low) if low is not None else cell  # type: ignore[arg-type]

    return change


def narrow_interval(name: str) -> Callable[[Cell], Cell]:
    """One standard error on each side instead of Student's t: half the interval of three."""

    def change(cell: Cell) -> Cell:
        known = cell.values or {}
        value, low, high = (known.get(f"{name}{end}") for end in ("", "_low", "_high"))
        if low is None:
            return cell
        return restate_interval(cell, name, value + (low - value) / 4.3, value + (high - value) / 4.3)  # type: ignore[operator]

    return change


def mislabel(old: str, new: str) -> Callable[[Cell], Cell]:
    """Another unit behind the same digits."""
    return lambda cell: dataclasses.replace(cell, text=cell.text.replace(old, new))


def call_reached(cell: Cell) -> Cell:
    """A missed seed as one that arrived."""
    return Cell("reached", {**(cell.values or {}), "reached_target": True})


def judge_well(cell: Cell) -> Cell:
    """Every mode as one that learns as well."""
    return Cell("learns as well", {"verdict": "learns as well", "by_rule": False, "seeds_to_decide": None})


def mark_wrong_size(table: Table, lines: list[Line]) -> list[Line]:
    """The mark of the best product at the row after it."""
    return move_cells(table, lines, "ceiling")


def move_cells(table: Table, lines: list[Line], column: str) -> list[Line]:
    """Each line's cell of the column to the line before."""
    n = place_of(table, column)
    found = [line.cells[n] for line in lines]
    return [
        dataclasses.replace(line, cells=(*line.cells[:n], cell, *line.cells[n + 1 :]))
        for line, cell in zip(lines, [*found[1:], found[0]], strict=True)
    ]


def merge_groups(table: Table) -> Table:
    """Rows of different work in one group."""
    first, *rest = table.groups
    lines = tuple(line for group in table.groups for line in group.lines)
    return dataclasses.replace(table, groups=(dataclasses.replace(first, lines=lines),)) if rest else table


def retitle(old: str, new: str) -> Callable[[Table], Table]:
    """Another number in the title of each group."""
    return lambda table: dataclasses.replace(
        table,
        groups=tuple(dataclasses.replace(group, title=group.title.replace(old, new)) for group in table.groups),
    )


def use_other_ceiling(cell: Cell) -> Cell:
    """The best product of another run."""
    if (cell.values or {}).get("measured_peak_run_id") is None:
        return cell
    changed = scale("measured_peak_flops_per_second", 1.29)(cell)
    return dataclasses.replace(
        changed, values={**(changed.values or {}), "measured_peak_run_id": "20260305T120000Z-0001"}
    )


def use_other_baseline(cell: Cell) -> Cell:
    """The speed-up over the row of one thread."""
    changed = scale("speedup", 6.12)(cell)
    return dataclasses.replace(changed, values={**(changed.values or {}), "baseline": "Test CPU 9000, 1 thread"})


def drop_failures(cell: Cell) -> Cell:
    """Only the processes that ended well, as if no other had been started."""
    good = (cell.values or {}).get("processes_ok")
    if not good:
        return cell
    text = f"ok {good}/{good}"
    return Cell(text, {"processes": good, "processes_ok": good, "outcome": text})


def hide(cell: Cell) -> Cell:
    """No figure where there is one."""
    return Cell("n/a", dict.fromkeys(cell.values or ()))


def _swap_one_digit(text: str) -> str:
    """The text with its last number one higher in its last digit."""
    place = next((n for n in reversed(range(len(text))) if text[n].isdigit()), None)
    return text if place is None else f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}"


def _double(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda mark: {name: mark[name] * 2} if isinstance(mark.get(name), int | float) else {}


FAULTS: Mapping[str, tuple[str, Fault]] = {
    "two columns have each other's heading": ("rows", swap_cells("training", "achieved", "images")),
    "host and device memory are swapped": ("rows", swap_cells("resources", "host_peak", "device_peak")),
    "a column's unit is a thousand times too large": ("rows", with_column("training", "achieved", unit="TFLOP/s")),
    "a column's heading is another's": ("rows", with_column("bounds", "launch", title="input\nfloor")),
    "mebibytes are called megabytes": ("rows", change_cells("resources", "host_peak", mislabel("MiB", "MB"))),
    "a rate is in other units than its heading": (
        "rows",
        change_cells("training", "images", scale("images_per_second", 1 / 128)),
    ),
    "a mean is arithmetic": ("rows", change_cells("bounds", "step", scale("step_seconds", 1.00037))),
    "a mean is of all but the slowest process": ("rows", change_cells("training", "job", scale("job_seconds", 0.985))),
    "n is off by one": ("rows", change_cells("gemm", "achieved", shift("achieved_flops_per_second_n", -1))),
    "n counts blocks, not processes": ("rows", change_cells("training", "job", shift("job_seconds_n", 42))),
    "an interval's ends are swapped": ("rows", change_cells("training", "job", swap_ends("job_seconds"))),
    "an interval is a standard error": (
        "rows",
        change_cells("gemm", "achieved", narrow_interval("achieved_flops_per_second")),
    ),
    "a row is left out": ("rows", change_lines("training", lambda table, lines: lines[1:])),
    "a row is printed twice": ("rows", change_lines("training", lambda table, lines: [lines[0], *lines])),
    "the measured peak is another run's": ("rows", change_cells("training", "ceiling", use_other_ceiling)),
    "the share of peak is over the theoretical one": (
        "ranks",
        change_cells("training", "of_ceiling", scale("share_of_measured_peak", 0.7)),
    ),
    "the speed-up is over another row": ("rows", change_cells("training", "speedup", use_other_baseline)),
    "a projected time lost its mark": ("rows", change_cells("training", "job", without_mark)),
    "a projected time is called measured": ("rows", change_cells("training", "job", as_measured)),
    "memory is a sum over processes": ("rows", change_cells("resources", "device_peak", scale("device_peak_bytes", 3))),
    "an accuracy is another row's": ("learning", move_column("training", "accuracy")),
    "processes that failed are not counted": ("rows", change_cells("training", "outcome", drop_failures)),
    "rows of different work are in one group": ("rows", change_table("training", merge_groups)),
    "a group's title says another batch": ("rows", change_table("training", retitle("batch 256", "batch 265"))),
    "a figure is n/a though its records have it": ("rows", change_cells("training", "achieved", hide)),
    "net energy is printed as gross": (
        "rows",
        change_cells("resources", "energy", scale("energy_joules_per_image", 0.8)),
    ),
    "the cost is another machine's price": ("rows", change_cells("cost", "cost", scale("job_cost", 4.938268))),
    "a floor is over half the bytes": (
        "rows",
        change_cells("bounds", "bandwidth", scale("bandwidth_floor_seconds", 0.5)),
    ),
    "the best product is marked at another size": ("rows", change_lines("gemm", mark_wrong_size)),
    "a machine has another's facts": ("rows", swap_cells("machines", "machine_0", "machine_1")),
    "a rung is over the one before, not the first": (
        "ways",
        change_cells("ladder", "over_first", scale("speed_over_first_rung", 0.8)),
    ),
    "a median is a mean": ("ways", change_cells("tta", "median", scale("median_seconds_to_target", 1.02))),
    "a seed that missed is called reached": ("ways", change_cells("seeds", "reached", call_reached)),
    "a seed has another's steps": ("ways", move_column("seeds", "steps")),
    "pre-training has the FLOP/s of the whole job": (
        "ways",
        change_cells("training", "pretraining", scale("pretraining_flops_per_second", 1.4)),
    ),
    "efficiency is the speed-up": (
        "ranks",
        change_cells("scaling", "efficiency", scale("scaling_efficiency", 2)),
    ),
    "the exchange is of a step without it": (
        "ranks",
        change_cells("scaling", "exchange", scale("exchange_share", 1.111)),
    ),
    "the slowest copy is over the fastest": (
        "copies",
        change_cells("copies", "over_median", scale("slowest_over_median", 1.002)),
    ),
    "a mode that learns worse is said to learn as well": (
        "learning",
        change_cells("convergence", "verdict", judge_well),
    ),
    "a difference has the other sign": ("learning", change_cells("convergence", "difference", scale("difference", -1))),
    "half the loss is allowed": ("learning", change_cells("convergence", "margin", scale("loss_allowed", 0.5))),
    "chances of stopping are not accumulated": (
        "learning",
        change_cells("stopping", "stopped", scale("chance_stopped", 0.9)),
    ),
    "an epoch's accuracy is of one process": ("learning", move_column("stopping", "true_accuracy")),
    "a mark has another row's value": (
        "rows",
        change_marks("speedup", turn_marks("speedup_over_reference", "text")),
    ),
    "a mark is left out": ("rows", change_marks("flops", lambda marks: marks[:-2])),
    "a mark has another row's label": ("rows", change_marks("speedup", turn_marks("label"))),
    "a chart's text is not its value": ("rows", change_marks("memory", turn_marks("text"))),
    "a roofline counts the bytes once": (
        "rows",
        change_marks("roofline", each_mark(_double("intensity_flops_per_byte"))),
    ),
    "perfect scaling is from another point": ("rows", change_marks("threads", each_mark(_double("ideal")))),
    "a spread is of another process": ("rows", change_marks("noise", turn_marks("block_p05", "block_p95"))),
    "accuracy is drawn over half the time": ("rows", change_marks("learning", each_mark(_double("minutes")))),
    "the headline has another number": ("rows", change_words(_swap_one_digit, where="headline")),
    "a lead sentence has another number": ("rows", change_words(_swap_one_digit, where="lead")),
    "a chart says another number in words": ("rows", change_words(_swap_one_digit, where="alt")),
    "a note names another digest": (
        "rows",
        change_words(lambda text: _swap_one_digit(text) if "sha256" in text else text, where="notes"),
    ),
    "a note gives another reason's number": (
        "rows",
        change_words(lambda text: _swap_one_digit(text) if "published" in text else text, where="notes"),
    ),
}
"""Each fault by what is wrong, with the ledgers whose page it is planted in."""
