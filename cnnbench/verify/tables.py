"""A page's tables: which there must be, which lines and columns each has, and every cell of every line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.verify import columns, figures, formats, learning, values
from cnnbench.verify.raw_rows import RawRow, RawValue
from cnnbench.verify.values import ValueSubject
from cnnbench.verify.view import PageView

TableValues = Mapping[str, Any]
Lines = Callable[[PageView], Mapping[RawRow, int]]


@dataclass(frozen=True)
class ExpectedTable:
    """Which lines a table has, by raw row how many, and its columns; those after `/` only where a row has such a figure."""

    lines: Lines
    columns: Sequence[str]
    optional: Mapping[str, str]
    """Columns that may be missing where no row has their figure, with the name of that."""
    one_work: bool = True
    """Whether the rows of a group are of equal work but for the precision."""


def _each(
    of: Callable[[PageView], list[RawRow]], chosen: Callable[[PageView, RawRow], object] = lambda view, row: True
) -> Lines:
    """One line a row that is chosen."""
    return lambda view: {row: 1 for row in of(view) if chosen(view, row)}


def _training(view: PageView) -> list[RawRow]:
    return view.training


def _over_published(view: PageView, row: RawRow) -> object:
    return ValueSubject(view, "", row).figure("speedup_over_reference")


def _lecture(view: PageView) -> dict[RawRow, int]:
    """The rows of the published job; where there is none all that ended well."""
    same = [row for row in view.training if _over_published(view, row)]
    return dict.fromkeys(same or [row for row in view.training if row.trials], 1)


def _bounds(view: PageView) -> dict[RawRow, int]:
    found = dict.fromkeys((row for row in view.training if row.alone), 1)
    return found if any(figures.floors(view, row) for row in found) else {}


def _scaling(view: PageView) -> dict[RawRow, int]:
    """Once in each set, of a batch that is shared and of one that is on each rank, that has a row of several ranks."""
    sets: dict[tuple[object, ...], list[RawRow]] = {}
    for row in view.training:
        for scaling in ("strong", "weak") if row.job.copies == 1 else ():
            if row.job.scaling in (None, scaling):
                batch = row.job.batch_size // row.job.world if scaling == "weak" else row.job.batch_size
                sets.setdefault((scaling, *view.scaling_work(row, batch)), []).append(row)
    return Counter(row for rows in sets.values() if any(each.job.world > 1 for each in rows) for row in rows)


def _seeds(view: PageView) -> dict[RawRow, int]:
    own = [row for row in view.training if row.job.clock == "accuracy" and row.job.target is not None]
    return {row: n for row in own if (n := sum(bool(trial.epoch_evaluations) for _, trial in row.attempts))}


def _epochs(view: PageView) -> dict[RawRow, int]:
    return {row: min(map(len, curves)) for row in view.training if (curves := learning.accuracy_curves(row))}


def _stops(view: PageView) -> dict[RawRow, int]:
    found = {row: len(stops) for row in view.training if (stops := learning.find_stops(row))}
    return found if _epochs(view) else {}


def _costs(view: PageView, row: RawRow) -> object:
    subject = ValueSubject(view, "cost", row)
    priced = subject.figure("energy_joules_per_image") or view.price(row) is not None
    return subject.figure("job_seconds") and priced


_VERSUS, _PRETRAINING = {"versus": "speedup_over_reference"}, {"pretraining": "pretraining_seconds"}
TABLES: Mapping[str, ExpectedTable] = {
    "lecture": ExpectedTable(
        _lecture, ("processor", "peak", "ceiling", "achieved", "job", "speedup", "versus"), _VERSUS, one_work=False
    ),
    "training": ExpectedTable(
        _each(_training),
        (
            *(
                "processor",
                "precision",
                "peak",
                "ceiling",
                "achieved",
                "mfu",
                "of_ceiling",
                "job",
                "pretraining",
                "speedup",
            ),
            *("versus", "images", "host_peak", "device_peak", "accuracy", "outcome"),
        ),
        _VERSUS | _PRETRAINING,
    ),
    "resources": ExpectedTable(
        _each(_training, lambda view, row: row.trials),
        (
            *("processor", "precision", "host_peak", "device_peak", "device_reserved", "device_used"),
            *("activations", "parameters", "energy", "cold_start"),
        ),
        {},
    ),
    "tta": ExpectedTable(
        _each(_training, lambda view, row: row.job.clock == "accuracy"),
        (
            *("processor", "mode", "target", "seeds", "median", "mean", "fastest", "slowest", "median_steps"),
            *("median_epochs", "step"),
        ),
        {},
        one_work=False,
    ),
    "seeds": ExpectedTable(
        _seeds, ("processor", "mode", "seed", "reached", "seconds", "steps", "epochs", "last"), {}, one_work=False
    ),
    "bounds": ExpectedTable(
        _bounds, ("processor", "precision", "step", "verdict", "compute", "bandwidth", "launch", "input"), {}
    ),
    "ladder": ExpectedTable(
        lambda view: dict.fromkeys(view.rungs, 1),
        ("processor", "rung", "step", "over_before", "over_first", "of_ceiling", "accuracy", "outcome", "why_not"),
        {},
        one_work=False,
    ),
    "scaling": ExpectedTable(
        _scaling,
        (
            *("processor", "scaling", "step", "images", "scaled", "efficiency", "exchange", "host_peak", "device_peak"),
            *("energy", "cold_start", "started", "outcome"),
        ),
        {},
        one_work=False,
    ),
    "copies": ExpectedTable(
        _each(lambda view: list(view.shown), lambda view, row: row.job.copies > 1),
        ("processor", "precision", "size", "copies", "median_copy", "slowest_copy", "over_median", "outcome"),
        {},
        one_work=False,
    ),
    "gemm": ExpectedTable(
        _each(lambda view: list(view.shown), lambda view, row: row.job.workload == "gemm"),
        ("processor", "precision", "size", "achieved", "ceiling", "peak", "products", "outcome"),
        {},
        one_work=False,
    ),
    "cost": ExpectedTable(
        _each(_training, _costs), ("processor", "job", "job_energy", "price", "cost"), {}, one_work=False
    ),
    "stopping": ExpectedTable(_epochs, ("epoch", "true_accuracy", "all_right", "stopped"), {}, one_work=False),
    "stopped": ExpectedTable(_stops, ("process", "stopped_epoch", "sample", "true_accuracy"), {}, one_work=False),
    "convergence": ExpectedTable(
        _each(_training, learning.find_plain),
        ("mode", "seeds", "mode_accuracy", "plain_accuracy", "difference", "of_medians", "margin", "verdict"),
        {},
        one_work=False,
    ),
}
"""Every table of figures by its key."""


def find_subject(
    view: PageView, place: str, printed: Mapping[str, Any], rows: Sequence[Sequence[str]]
) -> ValueSubject | None:
    """What a line or a mark is of, by the raw rows it names, else by the published processor; None where there is none."""
    found = [view.by_mark.get((run, row)) for run, row in rows]
    if None in found:
        return None
    if found:
        row, plain = (*found, None)[:2]
        return ValueSubject(view, place, row, plain, printed=printed)
    named = [row for row in view.published_rows if row.processor == printed.get("processor")]
    if named or view.options.get("accuracy") is None:
        return ValueSubject(view, place, published=named[0], printed=printed) if named else None
    return ValueSubject(view, place, printed=printed)


def find_errors(view: PageView, table: TableValues) -> Iterator[str]:
    """What the table says that the records do not."""
    key, expected = table["key"], TABLES[table["key"]]
    keys = [column["key"] for column in table["columns"]]
    yield from _find_column_errors(view, table, keys)
    found: Counter[RawRow] = Counter()
    for group in table["groups"]:
        subjects = []
        for line in group["lines"]:
            printed: dict[str, RawValue] = {}
            for cell in line["cells"]:
                printed |= cell.get("values") or {}
            subject = find_subject(view, key, printed, line["rows"])
            if subject is None:
                yield f"{line['cells'][0]['text']!r}: no raw record is a row {line['rows']}"
                continue
            subjects.append(subject)
            yield from _find_line_errors(subject, keys, line)
        found.update(subject.row for subject in subjects if subject.row is not None)
        yield from _find_group_errors(view, expected, group["title"], subjects)
    if view.options.get("accuracy") is None:
        yield from _find_missing(expected.lines(view), found)


def _find_column_errors(view: PageView, table: TableValues, keys: Sequence[str]) -> Iterator[str]:
    expected = TABLES[table["key"]]
    gone = {key: name for key, name in expected.optional.items() if key not in keys}
    if list(keys) != [key for key in expected.columns if key not in gone]:
        yield f"its columns are {', '.join(keys)}, they should be {', '.join(expected.columns)}"
    for key, name in gone.items():
        if any(ValueSubject(view, "", row).figure(name) is not None for row in expected.lines(view)):
            yield f"it lacks the column {key}"
    words = {
        "baseline": view.options.get("baseline") or "CPU",
        "currency": view.options.get("currency", ""),
        "sample": f"{view.options.get('sample', 200):,}",
        "year": view.published_cpu.year if view.published_cpu else "",
        "published": view.published_cpu.processor.rpartition(" ")[2] if view.published_cpu else "",
    }
    for column in table["columns"]:
        heading = " ".join(column["title"].replace("-\n", "").split())
        known = columns.find_column(table["key"], column["key"])
        wanted = ("processor", "") if known is None else (known.heading.format(**words), known.unit.format(**words))
        if known is None and column["key"] != "processor":
            yield f"no second derivation of column {column['key']}"
        elif (heading, column["unit"]) != wanted:
            yield f"column {column['key']} is headed {heading!r} [{column['unit']}], it is {wanted[0]!r} [{wanted[1]}]"


def _find_line_errors(subject: ValueSubject, keys: Sequence[str], line: TableValues) -> Iterator[str]:
    """What each cell of a line has that the records do not, in its values and in its text."""
    name = line["cells"][0]["text"]
    for key, cell in zip(keys, line["cells"], strict=True):
        wrong = list(_find_value_errors(subject, key, cell.get("values") or {}))
        if not wrong:
            try:
                fits, expected = columns.is_cell_text(subject.place, key, subject, cell["text"])
            except (LookupError, TypeError, ValueError) as error:
                fits, expected = False, f"no such figure of the records: {error}"
            if not fits:
                wrong = [f"printed {cell['text']!r}, from the records it is {expected!r}"]
        column = columns.find_column(subject.place, key)
        yield from (f"{name}: {column.heading if column else key}: {message}" for message in wrong)
    if subject.row is not None and subject.place in NOTED:
        yield from (f"{name}: {each}" for each in _find_note_errors(subject, "; ".join(line["notes"])))


NOTED = {"lecture", "training", "resources", "bounds", "gemm"}
"""Tables whose lines have all notes of their rows."""
ABSENT = (
    "no GEMM of the same device, precision, threads and allocator in this run; add a suite that has one to the command (as "
    "in cnnbench run tta quick; ladder has every precision)"
)


def _find_note_errors(subject: ValueSubject, notes: str) -> Iterator[str]:
    """Why a row that was measured has no measured peak, and the doubt about a best product whose processes differ."""
    row, best = subject.own, subject.view.best_product(subject.own)
    trains, unusable = row.job.workload != "gemm", best is not None and not best.usable
    size = f"size {best.row.job.size:,}" if best is not None else ""
    apart = f"{best.apart:.2f}x" if best is not None else ""
    reason = f"the processes of the best GEMM, {size}, differ by {apart}, more than" if unusable else ABSENT
    doubt = f"the processes of the best matrix product ({size}, {row.job.precision}) differ by"
    wanted = {
        "reason": (reason, bool(row.trials) and trains and (best is None or unusable)),
        "doubt": (doubt, bool(row.trials) and unusable and (trains or (best is not None and best.row is row))),
    }
    for what, (text, needed) in wanted.items():
        if (text in notes) != needed:
            yield f"its notes {'lack' if needed else 'have'} the {what} of its measured peak: {text!r}"


def _find_value_errors(subject: ValueSubject, key: str, printed: Mapping[str, RawValue]) -> Iterator[str]:
    for name, value in printed.items():
        try:
            expected = values.derive(name, subject)
        except KeyError:
            yield f"no second derivation of {name}"
        except LookupError as error:
            yield f"{name} is {value!r}, the records have none such: {error}"
        else:
            if not values.is_same(value, expected):
                yield f"{name} is {value!r}, from the records it is {expected!r}"


def _find_group_errors(
    view: PageView, expected: ExpectedTable, title: str, subjects: Sequence[ValueSubject]
) -> Iterator[str]:
    """A title with a number of no row under it, and rows of different work under one title."""
    rows = [subject.plain or subject.row for subject in subjects if subject.row is not None]
    margin = view.options.get("margin")
    known = set(formats.find_numbers(" ".join(f"{r.year} {r.job_images}" for r in view.published_rows)))
    known.update(formats.find_numbers("" if margin is None else formats.loss(margin)))
    for row in filter(None, rows):
        words = f"{row.full_name} {row.place} {row.header.machine.id} {row.header.run_id}"
        unknown = [
            each
            for each in formats.find_numbers(title)
            if each not in known | row.numbers | set(formats.find_numbers(words))
        ]
        if unknown:
            yield f"the title {title!r} has the numbers {', '.join(unknown)}, which are not of {row.place}"
            return
    works = {(row.job.model_copy(update={"precision": "fp32"}).work_key, row.protocol) for row in rows if row}
    if expected.one_work and len(works) > 1:
        yield f"under {title!r} are rows of different work"


def _find_missing(expected: Mapping[RawRow, int], found: Mapping[RawRow, int]) -> Iterator[str]:
    for row in {**expected, **found}:
        if expected.get(row, 0) != found.get(row, 0):
            n, right = found.get(row, 0), expected.get(row, 0)
            yield f"{n} lines are of {row.place} of run {row.header.run_id}, there should be {right}"
