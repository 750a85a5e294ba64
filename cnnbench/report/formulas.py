"""How each figure came about: the clocks, and from which raw fields every column can be derived again by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cnnbench.analysis import metrics
from cnnbench.analysis.metrics import Metric
from cnnbench.analysis.rows import Row
from cnnbench.report import footnotes
from cnnbench.report.model import Note, Table
from cnnbench.report.table_builder import TableSpec, build_table, join_title, wording

INTERVAL = Metric(
    "interval",
    formula="mean of the logs ± Student's t(n - 1) x standard deviation / sqrt(n), from n = 3",
    explained_as="interval",
)
FORMULAS = TableSpec[Metric](
    "method",
    "How to derive each figure again",
    (
        wording("figure", "figure", 1, lambda each: each.explained_as or join_title(each.heading)),
        wording("formula", "how to derive it", 1, "formula"),
        wording("fields", "from the record's fields", 1, "reads", name=""),
    ),
    group=lambda each: "Formulas",
)


def table(shown: Iterable[str] = ()) -> Table:
    """Say per column how it is derived and from which fields of a record; some only where their column is among the `shown`."""
    return build_table(FORMULAS, _list_formulas(set(shown)))


def _list_formulas(shown: set[str]) -> Iterator[Metric]:
    explained = [metric for metric in metrics.METRICS if metric.formula]
    yield from (metric for metric in explained if metric.always_explained)
    yield INTERVAL
    yield from (metric for metric in explained if not metric.always_explained and metric.column_key in shown)


def clock_notes(rows: Iterable[Row]) -> tuple[Note, ...]:
    """List the clock rules of the rows shown, and what holds for all of them."""
    clocks = sorted({row.job.clock for row in rows})
    found = [Note("clock", f"Clock: {footnotes.CLOCKS[name]}.") for name in clocks]
    return (
        *found,
        Note(
            "rule",
            "n counts fresh processes, never steps: steps inside one process are not independent. Jobs ran in shuffled, "
            "interleaved rounds with the seed in the ledger; warm-up steps are run and undone; the allocator is held, and "
            "every worker first proved that its synchronise waits.",
        ),
    )
