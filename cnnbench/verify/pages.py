"""A page's values: tables, charts and words, each figure derived again from the ledgers.

Nothing here reads a sentence: a number in words is known where it is a figure of the page's tables, a field of the records
and their machines, or a number of the method itself.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter

from cnnbench import workloads
from cnnbench.verify import charts, columns, figures, formats, learning, tables
from cnnbench.verify.formats import find_numbers
from cnnbench.verify.raw_rows import PageValues, RawRow
from cnnbench.verify.values import ENDS, ValueSubject, derive
from cnnbench.verify.view import MOST_APART, PageView

UNRULED = {"method"}
"""Tables without figures."""
QUOTED = {"problem", "reference", "warning", "doubt"}
"""Kinds of notes in the words of a file, a source or a process."""
IN_RESOURCES = {"host_peak", "device_peak"}
"""Columns that a page's table of resources has too."""
METHOD = frozenset(find_numbers("0 1 2 3 4 5 6 8 10 80 90 95 100 256 3600 10000 0.010 0.95 0.98 1.5 10.0"))
"""Numbers of how things are measured and computed, which are in rules and reasons whatever the records are."""
CLAIMED = ("job", "versus", "speedup", "of_ceiling", "gemm.achieved", "step", "verdict")
"""The columns whose cells a claim is made of."""


def each_table(page: PageValues) -> Iterator[PageValues]:
    """Every table of the page."""
    return (table for section in page["sections"] for table in section["tables"])


def each_line(table: PageValues) -> Iterator[PageValues]:
    """Every line of a table."""
    return (line for group in table["groups"] for line in group["lines"])


def each_chart(page: PageValues) -> Iterator[PageValues]:
    """Every chart of the page."""
    return (chart for section in page["sections"] for chart in section["charts"])


def find_errors(view: PageView, page: PageValues) -> Iterator[str]:
    """All that a page says and the ledgers do not."""
    there = {table["key"]: table for table in each_table(page)}
    for key, table in there.items():
        if key in tables.TABLES:
            yield from (f"table {key}: {each}" for each in tables.find_errors(view, table))
        elif key == "machines":
            yield from (f"table {key}: {each}" for each in tables.find_machine_errors(view, table))
        elif key not in UNRULED:
            yield f"table {key}: no second derivation of it"
    for key, expected in tables.TABLES.items():
        belongs = page["options"].get("template") == ("first screen" if key == "first_screen" else "full")
        if belongs and key not in there and expected.lines(view):
            yield f"it lacks the table {key}"
    for chart in each_chart(page):
        yield from (f"chart {chart['key']}: {each}" for each in charts.find_errors(view, chart))
    for where, text, numbers in _list_texts(view, page):
        bare = re.sub(r"sha256:[0-9a-f]+", "", text)  # a ledger's digest is compared by itself
        if unknown := [each for each in find_numbers(bare) if each not in numbers]:
            yield f"{where}: {', '.join(unknown)} in {text[:120]!r} is no number of the records"


def _list_texts(view: PageView, page: PageValues) -> Iterator[tuple[str, str, frozenset[str]]]:
    """What a page says in words, each with where it says so and the numbers that it may have there."""
    known, sections = _view_numbers(view) | _page_numbers(view, page), page["sections"]
    row = next((view.by_mark.get((run, key)) for run, key in page["headline"]["rows"]), None)
    claim = known if row is None else _claim_numbers(view, row)
    yield from (("the claim", sentence, claim) for sentence in page["headline"]["sentences"])
    yield from ((f"section {each['key']}", each["lead"], known | _lead_numbers(view)) for each in sections)
    notes = (note for each in (*sections, page) for note in each["notes"])
    yield from (("a note", note["text"], known) for note in notes if note["kind"] not in QUOTED)
    yield from ((f"chart {each['key']}", f"{each['title']} {each['caption']}", known) for each in each_chart(page))
    yield from ((f"table {each['key']}", f"{each['title']} {each['clock']}", known) for each in each_table(page))


def _page_numbers(view: PageView, page: PageValues) -> frozenset[str]:
    """The numbers of the page's tables, and how many marks of its charts there are."""
    asked = view.options.get("sample", 200), round(learning.IMAGES * (view.options.get("accuracy") or 0))
    lines = (line["cells"] for table in each_table(page) for line in each_line(table))
    cells = (f"{cell['text']} {cell['values'].get('peak_origin')}" for line in lines for cell in line)
    most = max((len(chart["data"]) for chart in each_chart(page)), default=0)
    return frozenset(find_numbers(*asked, *range(most + 1), *cells))


@lru_cache(maxsize=64)
def _view_numbers(view: PageView) -> frozenset[str]:
    """Every number of the records, their machines and the published rows that a sentence may give."""
    runs = Counter((row.row_key, row.header.machine.id) for row in view.rows)
    hidden = [n for row in view.shown if (n := runs[row.row_key, row.header.machine.id] - 1)]
    ended = sum((row.ended for row in view.shown), Counter[str]())
    texts = list(map(str, (len(hidden), sum(hidden), *ended.values(), *range(len(view.shown) + 1))))
    for header in {row.header.run_id: row.header for row in view.rows}.values():
        software = f"{header.software.model_dump_json()} {str(header.software.git_commit)[:10]}"
        texts.append(f"{header.machine.model_dump_json()} {software} {header.run_id}")
    for published in view.published_rows:
        printed = f"{(published.printed_flops_per_second or 0) / 1e9:g} {published.job_seconds or 0:.0f}"
        texts.append(f"{published.model_dump_json()} {printed}")
    texts += (text for row in view.shown for text in _list_row_texts(view, row))
    return METHOD.union(find_numbers(*texts), *(row.all_numbers for row in view.shown))


def _list_row_texts(view: PageView, row: RawRow) -> Iterator[str]:
    """What is said of a row's processes, of its measured peak or why there is none, and of its FLOPs."""
    yield " ".join(map(str, range(len(row.records) + row.unstarted + 1)))
    yield from (f"{record.outcome.message} {record.job.seed}" for record in row.records)
    tests = [trial.test for _, trial in row.attempts if trial.test and trial.test.images]
    yield from (f"{formats.percent(2)(test.correct / test.images)} {test.after_steps} {test.images}" for test in tests)
    samples = {each.images for _, trial in row.attempts for each in trial.epoch_evaluations if each.images}
    yield from (formats.percent(1)(1.96 * (0.99 * 0.01 / images) ** 0.5) for images in samples)
    best = view.best_product(row)
    if best is not None:
        yield f"{formats.ratio(best.apart)} {best.apart:.2f} {best.job.size} {MOST_APART}"
    before, step = workloads.pretraining_flops(row.job) if row.workload else 0, row.flops or 0
    yield " ".join(map(formats.giga, (step, before, before + (row.job.job_steps or 0) * step)))


def _claim_numbers(view: PageView, row: RawRow) -> frozenset[str]:
    """Every number that a claim about one row may print: its own cells and fields, and who it is compared with."""
    bare = ValueSubject(view, "", row)
    names = [f"{name}{end}" for name in figures.FIGURES for end in ENDS]
    printed = {name: derive(name, bare) for name in (*names, "verdict", "job_kind")}
    subject, published = dataclasses.replace(bare, printed=printed), view.published_cpu
    texts = [f"{view.options.get('baseline')}", *(columns.COLUMNS[key].text(subject) for key in CLAIMED)]
    texts += [f"{each.full_name} {each.place}" for each in (row, view.find_base(row), view.ceiling(row)) if each]
    texts += [f"{published.processor} {published.year}"] if published else []
    return row.numbers.union(find_numbers(*texts))


def _lead_numbers(view: PageView) -> frozenset[str]:
    """What sections begin with: how many times the published CPU's FLOPS and speed the fastest published row is."""
    base = view.published_cpu
    printed = {
        row: (row.job_seconds, row.printed_flops_per_second)
        for row in view.published_rows
        if row.job_seconds and row.printed_flops_per_second
    }
    if base is None or base not in printed:
        return frozenset()
    (seconds, flops), (fewest, most) = printed[base], min(printed.values(), key=itemgetter(0))
    return frozenset((f"{most / flops:.0f}", f"{seconds / fewest:.0f}"))


def find_shown_errors(full: PageValues, shown: PageValues) -> Iterator[str]:
    """What a page shows of its tables that they do not have: only whole lines and silent columns may be left out."""
    whole = {table["key"]: table for table in each_table(full)}
    for table in each_table(shown):
        kept = {column["key"] for column in table["columns"]} | (IN_RESOURCES if "resources" in whole else set())
        lines = list(_list_cells(whole[table["key"]]))
        if gone := {key for line in lines for key, text in line.items() if text not in ("", formats.UNKNOWN)} - kept:
            yield f"table {table['key']}: it leaves out {', '.join(sorted(gone))}, with figures"
        rest = iter(lines)
        for line in _list_cells(table):
            if not any(line.items() <= each.items() for each in rest):
                yield f"table {table['key']}: {' | '.join(line.values())!r} is not one of its lines"
                break


def _list_cells(table: PageValues) -> Iterator[dict[str, str]]:
    """Each line's texts by the column's key."""
    keys = [column["key"] for column in table["columns"]]
    for line in each_line(table):
        yield dict(zip(keys, (cell["text"] for cell in line["cells"]), strict=True))
