"""The fields of a job that say how a step is computed, on which network and until when, as raw values beside its row.

A report whose rows are all computed the plain way (training, eager, NCHW, resident) does not list them: the work's key
says it all, and such reports were published before there was any other way. As soon as one row differs, all rows tell.
"""

from __future__ import annotations

from collections.abc import Iterable

from cnnbench import naming
from cnnbench.analysis.speedup import Row
from cnnbench.report.model import Value
from cnnbench.schema import Job
from cnnbench.schema.axes import list_fields

_IN_COLUMNS = ("division", "precision")
FIELDS = tuple(
    name
    for name in dict.fromkeys(
        ("task", *list_fields(Job, "compute"), *list_fields(Job, "network"), "target", "evaluate_every")
    )
    if name not in _IN_COLUMNS
)


def job_values(job: Job) -> dict[str, Value]:
    """The job's fields by name."""
    return {name: getattr(job, name) for name in FIELDS}


def any_variant(rows: Iterable[Row]) -> bool:
    """Whether a row is computed another way than the plain one, so that all rows must say which way theirs is."""
    return any(naming.deviations(row.job, "optimizer", *_IN_COLUMNS) for row in rows)
