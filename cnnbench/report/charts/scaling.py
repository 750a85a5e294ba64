"""One job on more and more processors: images a second of all, beside what it would be if each further one gave as much."""

from __future__ import annotations

from collections.abc import Iterator

from cnnbench.analysis.compare import Row
from cnnbench.analysis.scaling import Scaled, processors, scaled
from cnnbench.report import cells, labels
from cnnbench.report.charts.material import Material, identity, left_out, series_names, spread, tell_apart
from cnnbench.report.charts.sweeps import MOST_SERIES, Datum, lines
from cnnbench.report.model import Chart

TITLE = "Scaling over processors"
CAPTION = (
    "Ranks of one job, on GPUs or on cores of their own, and threads of one process. Dashed: the first point's rate times the "
    "processors. Strong: the batch is dealt out; weak: it is on each rank."
)


def scaling(material: Material) -> Chart | None:
    """A line a set of ranks, and one of the threads of one process; None where no job had several ranks."""
    every = [line for found in scaled(material.comparison.rows) for line in _lines_of(found)]
    kept = [line for line in every if len({processors(row.job) for row in line[1]}) > 1]
    shown = spread(kept, lambda line: (line[1][0].device.name, line[0][1]))[:MOST_SERIES]
    if not shown:
        return None
    apart = tell_apart([words for words, _ in shown], [rows[0] for _, rows in shown])
    names = series_names([(*words, more) for (words, _), more in zip(shown, apart, strict=True)])
    data: list[Datum] = []
    for series, (_, rows) in zip(names, shown, strict=True):
        first = rows[0].images_per_second
        for row in rows:
            found: Datum = {**identity(row), "series": series, "varied": processors(row.job)}
            found |= cells.values("images_per_second", row.images_per_second)
            if first is not None:
                found["ideal"] = first.value * processors(row.job) / processors(rows[0].job)
            data.append(found)
    more = left_out(len(shown), len(kept), "series", "The most different")
    return lines("scaling", TITLE, "processors", CAPTION + more, data, ideal=True)


def _lines_of(found: Scaled) -> Iterator[tuple[tuple[str, str, str], list[Row]]]:
    """The ranks of a set from one process on, and once, where the batch is one process's, the thread counts of one."""
    rows = [step.row for step in found.steps if step.row.images_per_second is not None]
    alone = [row for row in rows if row.job.world == 1]
    ranks = [row for row in rows if row.job.world > 1]
    if not rows or not ranks:
        return
    name = (labels.processor(rows[0].device), rows[0].job.workload)
    batch = f"{found.base_batch} a rank" if found.scaling == "weak" else f"batch {found.base_batch}"
    each = {row.job.threads for row in ranks}
    for threads in sorted(each, key=lambda value: value or 0):
        same = [row for row in alone if row.job.threads == threads][:1]
        line = same + [row for row in ranks if row.job.threads == threads]
        yield (*name, f"{found.scaling}, {batch}"), sorted(line, key=lambda row: processors(row.job))
    if found.scaling == "strong" and len({row.job.threads for row in alone}) > 1:
        yield (*name, f"one process, {batch}"), alone
