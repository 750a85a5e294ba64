"""The rows of a page's runs and what the page should print for each.

There is one `Expectations` per page: a figure can depend on which runs the page is made of, on whether it lists every run,
and on the row that its speed-ups divide by.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cnnbench.schema import PublishedRow, RunHeader
from cnnbench.verify import ablation, concurrent, intervals, metrics, numbers_in_text, scaling, time_to_accuracy
from cnnbench.verify.ceilings import Products
from cnnbench.verify.intervals import ExpectedFigure, without_interval
from cnnbench.verify.raw_rows import RawRow, find_numbers, select_newest, to_page_text


@dataclass(frozen=True)
class Scope:
    """What a page says it is made of: these runs (None: it does not say), all of them or the newest, over which baseline."""

    runs: frozenset[str] | None = None
    all_runs: bool = False
    baseline: str | None = None


@dataclass(frozen=True)
class ExpectedRow:
    """A row as it should be printed: figures by heading, words by heading."""

    row: RawRow | PublishedRow
    metrics: dict[str, ExpectedFigure | None]
    words: dict[str, str] = field(default_factory=dict)
    base: RawRow | None = None
    """What its speed-up is over."""
    product: RawRow | None = None
    """The row of its measured peak."""
    raw_values: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """Raw values of files that are none of a row but of one of its seeds."""


class Expectations:
    """The rows of a page's runs, and what each should say, worked out once."""

    def __init__(self, every: Sequence[RawRow], published_rows: Sequence[PublishedRow], scope: Scope) -> None:
        self.scope, self.references = scope, tuple(dict.fromkeys(published_rows))
        self.rows = [row for row in every if scope.runs is None or row.header.run_id in scope.runs]
        self.shown = self.rows if scope.all_runs else select_newest(self.rows)
        cpus = [row for row in published_rows if row.device_kind == "cpu" and row.job_seconds]
        self.published = max(cpus, key=lambda row: (row.job_seconds or 0.0, row.processor), default=None)
        self._wanted: dict[int, ExpectedRow] = {}
        self._printed_as: dict[str, list[ExpectedRow]] = {}
        self._words: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self._fitting: dict[str, frozenset[int]] = {}

    def expect_row(self, row: RawRow) -> ExpectedRow:
        """What should be said of a raw row."""
        if id(row) not in self._wanted:
            base, best = self.find_base(row), self.products.best(row)
            compared = best is not None and best.usable and row.trials and row.job.workload != "gemm"
            product = best.row if best is not None and compared else None
            found = (
                metrics.expect_metrics(row, base, product, self.published)
                | time_to_accuracy.expect_metrics(row)
                | self._variants.get(id(row), {})
            )
            found |= self._scaled.get(id(row), {}) | concurrent.expect_metrics(row)
            words = (
                metrics.expect_words(row, found, best)
                | time_to_accuracy.expect_words(row)
                | scaling.expect_words(row)
                | concurrent.expect_words(row)
            )
            self._wanted[id(row)] = ExpectedRow(row, found, words, base, product)
        return self._wanted[id(row)]

    def printed_as(self, cell: str) -> list[ExpectedRow]:
        """What a row that begins with this cell should say: as a published row, or as any raw row it can be."""
        if named := [row for row in self.references if to_page_text(row.processor) == cell]:
            return [self.expect_published(row) for row in named]
        if cell not in self._printed_as:
            candidates = self.rows if self.scope.runs is None else self.shown
            self._printed_as[cell] = [self.expect_row(row) for row in candidates if row.printed_as(cell)]
        return self._printed_as[cell]

    def find_word_errors(self, text: str, row: RawRow) -> tuple[str, ...]:
        """What a text about the row's work says that is not so."""
        key = (text, *row.mark)
        if key not in self._words:
            self._words[key] = tuple(numbers_in_text.find_phrase_errors(text, row))
        return self._words[key]

    def find_fitting(self, title: str) -> frozenset[int]:
        """The rows, by `id`, whose work a title can be of."""
        if title not in self._fitting:
            numbers = find_numbers(title)
            near = (each for each in self.rows if numbers <= each.numbers)
            self._fitting[title] = frozenset(id(each) for each in near if not self.find_word_errors(title, each))
        return self._fitting[title]

    @cached_property
    def rows_by_mark(self) -> dict[tuple[str, str], list[RawRow]]:
        """Rows by how charts name them."""
        found: dict[tuple[str, str], list[RawRow]] = {}
        for row in self.rows:
            found.setdefault(row.mark, []).append(row)
        return found

    @cached_property
    def rows_by_identity(self) -> dict[tuple[str, ...], RawRow]:
        """Rows by how table files name them."""
        return {row.identity: row for row in self.rows}

    @cached_property
    def machines(self) -> dict[str, RunHeader]:
        """The newest shown run of each machine."""
        ordered = sorted((row.header for row in self.shown), key=lambda each: (each.created_at, each.run_id))
        return {header.machine.id: header for header in ordered}

    def expect_published(self, row: PublishedRow) -> ExpectedRow:
        """A published row's figures."""
        seconds, base = row.job_seconds, self.published.job_seconds if self.published else None
        found = {
            "theoretical": without_interval(row.printed_flops_per_second),
            "achieved": None if not seconds or row.job_flops is None else ExpectedFigure(row.job_flops / seconds, n=1),
            "time of the job": None if seconds is None else ExpectedFigure(seconds, n=1),
            "over": None if not seconds or not base else ExpectedFigure(base / seconds, n=1),
        }
        return ExpectedRow(row, found)

    @cached_property
    def _bases(self) -> dict[tuple[object, ...], list[RawRow]]:
        """Whom rows are divided by, fastest first."""
        key, found = self.scope.baseline, dict[tuple[object, ...], list[RawRow]]()
        for row in self.shown:
            fits = row.on_cpu if key is None else f"{row.key}/".startswith(f"{key.rstrip('/')}/")
            if fits and row.costs and row.job.world * row.job.copies == 1:
                found.setdefault(self._work(row), []).append(row)
        for same in found.values():
            same.sort(
                key=lambda row: (statistics.fmean(map(math.log, row.costs.values())), row.row_key, row.header.run_id)
            )
        return found

    def _work(self, row: RawRow) -> tuple[object, ...]:
        machine = row.header.machine.id if self.scope.baseline is None else None
        return machine, row.work_key, row.protocol

    def find_base(self, row: RawRow) -> RawRow | None:
        """The row that its speed-up is over; where every run is listed, of its own run if there is one."""
        if not row.costs or row.job.world * row.job.copies > 1:
            return None
        bases = self._bases.get(self._work(row), [])
        own = [base for base in bases if self.scope.all_runs and base.header.run_id == row.header.run_id]
        return next(iter(own or bases), None)

    @cached_property
    def products(self) -> Products:
        """The matrix products of all runs of the page, also of those that a newer run hides."""
        return Products(self.rows)

    @cached_property
    def _variants(self) -> dict[int, dict[str, ExpectedFigure | None]]:
        """Each rung of a ladder against the one before and the first, by the `id` of its row."""
        return ablation.expect_metrics(self.shown)

    @cached_property
    def _scaled(self) -> dict[int, dict[str, ExpectedFigure | None]]:
        """Each row of one job on several ranks against one process, by the `id` of the row."""
        return scaling.expect_metrics(self.shown)

    @cached_property
    def places(self) -> frozenset[str]:
        """Every key that a baseline can be asked for by: a machine, a device of it, a thread count there."""
        return frozenset("/".join(row.key.split("/")[:parts]) for row in self.shown for parts in (1, 2, 3))

    def divides(self, row: RawRow, value: float) -> bool:
        """Whether this is the row's speed-up here."""
        base = self.find_base(row)
        return base is not None and abs(intervals.ratio(base.costs, row.costs).value - value) <= 1e-9 * abs(value)
