"""The generated tables of documentation pages, `<!-- figures: NAME -->` to `<!-- figures end -->`, derived a second time."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from cnnbench.verify import documents, formats, intervals, learning
from cnnbench.verify.formats import fold
from cnnbench.verify.intervals import DerivedFigure
from cnnbench.verify.raw_rows import PageValues, RawRow

BLOCK = re.compile(r"(?ms)^<!-- figures: (\S+) -->$(.*?)^<!-- figures end -->$")
STORED = {"benchmarks", "seeds"}
"""Folders of a machine's results whose JSON files such blocks are made from."""
BENCHMARKS = ("tuned", "surroundings", "harness")
PAGE_TABLES = ("convergence", "ladder")
"""Blocks that have rows of a report's table."""
Stored = Mapping[Path, str]
Expected = Sequence[Sequence[str]]
"""A table's rows without headings, the first of them its title alone."""


def find_errors(
    name: str, text: str, stored: Stored, rows: Sequence[RawRow], read_page: Callable[[], PageValues]
) -> Iterator[tuple[int, str]]:
    """Find what a block has that its files do not give, each with its line in the block; `read_page` gives the report."""
    printed = _split_tables(documents.read_markdown(text))
    if name in PAGE_TABLES:
        yield from _find_foreign_rows(printed, name, read_page())
        return
    if name == "claims":
        expected = [_derive_claim(row) for row in rows if row.job.division == "open" and row.job.data == "mnist"]
        printed.sort(key=lambda table: table[0][1][0])
        expected = sorted(expected, key=lambda table: table[0][0])
    elif name in BENCHMARKS:
        files = [
            text for path, text in sorted(stored.items()) if path.parent.name == "benchmarks" and path.stem == name
        ]
        expected = [table for text in files for table in _derive_benchmark(json.loads(text))]
    elif name == "bands":
        expected = [
            _derive_bands(path, json.loads(stored[path])) for path in sorted(stored) if path.parent.name == "seeds"
        ]
    else:
        yield 0, f"there is no rule for a block of figures named {name}"
        return
    yield from _compare(printed, expected)


def _split_tables(grid: documents.Grid) -> list[documents.Grid]:
    """Split rows into tables: each begins with its title alone, then its headings."""
    tables: list[documents.Grid] = []
    for line, cells in grid:
        if len(cells) == 1:
            tables.append([(line, cells)])
        elif tables:
            tables[-1].append((line, cells))
    return tables


def _compare(printed: Sequence[documents.Grid], expected: Sequence[Expected]) -> Iterator[tuple[int, str]]:
    """Compare tables row by row, without their headings."""
    printed = [[title, *rows] for title, _, *rows in printed]
    if [len(table) for table in printed] != [len(table) for table in expected]:
        yield 0, f"it has {list(map(len, printed))} rows by table, from the files there are {list(map(len, expected))}"
        return
    for table, right in zip(printed, expected, strict=True):
        for (line, cells), derived in zip(table, right, strict=True):
            if [fold(cell) for cell in cells] != [fold(cell) for cell in derived]:
                yield line, f"printed {' | '.join(cells)!r}, from the files it is {' | '.join(derived)!r}"


def _find_foreign_rows(printed: Sequence[documents.Grid], key: str, page: PageValues) -> Iterator[tuple[int, str]]:
    """Find rows that the report's table has not: under the same title, the same cells under the same headings."""
    table = next(each for section in page["sections"] for each in section["tables"] if each["key"] == key)
    places = {fold(column["title"].replace("-\n", "")): place for place, column in enumerate(table["columns"])}
    for (line, [title]), (_, headings), *rows in printed:
        # Machines that did the same work have groups of the same title.
        lines = [each for group in table["groups"] if fold(group["title"]) == fold(title) for each in group["lines"]]
        there = [[fold(each["cells"][places[heading]]["text"]) for heading in headings] for each in lines]
        if not lines:
            yield line, f"the report has no group {title!r}"
        for place, cells in rows:
            if cells not in there:
                yield place, f"{' | '.join(cells)!r} is not a row of the report's table {key}"


def _derive_benchmark(document: Mapping[str, Any]) -> Iterator[Expected]:
    """Derive the tables of a stored benchmark."""
    facts, commit = document["machine_info"]["cnnbench"], document["commit_info"]
    for each in (one for test in document["benchmarks"] for one in test["extra_info"].get("comparisons", ())):
        n, changed = len(each["seconds"][each["baseline"]]), " with changes" * bool(commit["dirty"])
        title = (
            f"{each['title']} · {facts['machine_id']}, torch {facts['torch']} · n={n} processes · commit "
            f"{str(commit['id'])[:10]}{changed}, {document['datetime'][:10]}"
        )
        yield [[title], *_derive_steps(each)]


def _derive_steps(comparison: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Derive the lines of a comparison, the best product's last."""
    turns, flops, base = comparison["seconds"], comparison["flops"], comparison["baseline"]
    products, faster = comparison["ceiling"], comparison["shows"] == "speed-up"
    middle = {name: [statistics.median(each) for each in processes] for name, processes in turns.items()}
    best = (
        [max(flops[name] / middle[name][n] for name in products) for n in range(len(turns[base]))] if products else []
    )
    for name in (name for name in turns if name not in products):
        pairs = [list(zip(a, b, strict=True)) for a, b in zip(turns[base], turns[name], strict=True)]
        ratios = [statistics.median(a / b if faster else b / a for a, b in process) for process in pairs]
        cells = [name, _write(intervals.geometric(middle[name]), formats.seconds)]
        write_ratio = formats.ratio if faster else _thousandths
        cells.append("baseline" if name == base else _write(intervals.geometric(ratios), write_ratio))
        if products:
            rates = [flops[name] / each for each in middle[name]]
            shares = [rate / most for rate, most in zip(rates, best, strict=True)]
            cells.append(_write(intervals.geometric(rates), formats.giga))
            cells.append(_write(intervals.geometric(shares), "{:.2f}".format))
        yield cells
    if products:
        yield ["the best matrix product", "", "", _write(intervals.geometric(best), formats.giga), ""]


def _thousandths(value: float) -> str:
    return f"{value:.3f}"


def _write(found: DerivedFigure, text: formats.FormatNumber) -> str:
    """Write a figure with its interval, where it has one."""
    if found.low is None or found.high is None:
        return text(found.value)
    return f"{text(found.value)} ({formats.span(found.low, found.high, text)})"


def _derive_bands(path: Path, document: Mapping[str, Any]) -> Expected:
    """Derive mean, spread and band of each recipe from the counts of its seeds: four deviations, outwards to whole images."""
    lines = []
    for recipe in document["recipes"]:
        right, images = list(recipe["right_by_seed"].values()), recipe["images"]
        mean, spread = statistics.fmean(right), statistics.stdev(right)
        low, high = (mean - 4 * spread) // 1, -((-mean - 4 * spread) // 1)
        ends = (formats.percent(2)(min(end, images) / images) for end in (low, high))
        deviation = f"{100 * spread / images:.3f} pp"
        named = recipe["workload"], str(len(right)), formats.percent(3)(mean / images)
        lines.append([*named, deviation, " to ".join(ends)])
    return [[path.parent.parent.name], *lines]


def _derive_claim(row: RawRow) -> Expected:
    """Derive what one recipe of the open division reached in one run."""
    job, right = row.job, list(learning.right_by_seed(row).values())
    images, n = learning.IMAGES, len(right)
    mean, spread = statistics.fmean(right), statistics.stdev(right)
    bound = mean - float(stdtrit(n - 1, 0.95)) * spread / sqrt(n)
    seconds = list(row.costs.values())
    half = float(stdtrit(len(seconds) - 1, 0.975)) * statistics.stdev(seconds) / sqrt(len(seconds))
    middle = statistics.fmean(seconds)
    lost = len(row.records) + row.unstarted - n
    verdict = "holds" if not lost and n >= 30 and bound >= (job.target or 1) * images else "fails"
    return [
        [f"{row.header.machine.id} · run {row.header.run_id}"],
        [
            f"{job.recipe} ({job.workload}; {job.job_steps:,} steps of {job.batch_size}, {job.optimizer}; "
            f"{job.precision}, {job.execution})",
            str(n),
            f"{formats.percent(3)(mean / images)} (SD {formats.loss(spread / images)})",
            formats.percent(3)(bound / images),
            f"{middle:.2f} ({middle - half:.2f} to {middle + half:.2f})",
            verdict,
        ],
    ]
