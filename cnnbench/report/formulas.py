"""How each figure came about: the clocks, and from which raw fields every column can be derived again by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnnbench.analysis.speedup import Row
from cnnbench.report import footnotes
from cnnbench.report.model import Cell, Column, Line, Note, RowGroup, Table

FORMULAS: dict[str, tuple[str, str]] = {
    "theoretical": (
        "machine/peaks: cores or SMs x FLOP a clock x rated clock, dense, for the row's precision",
        "header.machine.devices",
    ),
    "measured peak": (
        "geometric mean over processes of the gemm size with the largest, of the same run (else of the same boot_id and "
        "machine), device, precision, threads and allocator; none if its processes differ by more than 1.5x",
        "gemm records, header.boot_id",
    ),
    "achieved": (
        "model FLOPs of a step / mean seconds of a step; geometric mean over processes",
        "block_seconds, steps",
    ),
    "MFU": ("achieved / theoretical", ""),
    "of peak": ("achieved / measured peak, by round where both ran in it (else Welch on the logs)", "as for both"),
    "time of the job": (
        "job clock: job_seconds; projected: sum(block_seconds) / steps x epochs x steps_per_epoch; geometric mean",
        "job_seconds or block_seconds, steps, epochs, steps_per_epoch",
    ),
    "speed-up over CPU": (
        "baseline's seconds / row's seconds, by round where both ran in it (else Welch on the logs)",
        "as for the time",
    ),
    "over": ("published seconds / time of the job", "results/reference: job_seconds"),
    "images": ("images / sum(block_seconds)", "images, block_seconds"),
    "host peak": ("largest over processes", "memory.host_peak_bytes"),
    "device peak": ("largest over processes", "memory.device_allocated_peak_bytes"),
    "test accuracy": ("test.correct / test.images; mean over processes", "test"),
    "energy an image": (
        "window_joules / (window_steps x batch_size); net takes off idle_joules / idle_seconds x window_seconds",
        "energy",
    ),
    "cold start": ("geometric mean over processes", "cold_start_seconds"),
    "one step": ("sum(block_seconds) / steps; geometric mean over processes", "block_seconds, steps"),
    "floors": (
        "compute: FLOPs / measured peak, without which nothing is said to bind; bandwidth: (5 x activations x batch + 8 x "
        "parameters) bytes / copy speed; launch: operators x smallest operator; input: drawing one batch",
        "floors, operators_per_step",
    ),
    "interval": ("mean of the logs ± Student's t(n - 1) x standard deviation / sqrt(n), from n = 3", ""),
}
"""By column heading: formula in words, and the fields of `Trial` (see `cnnbench schema`) it is made of."""


FORMULAS_BY_TABLE: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "pretraining": {
        "pretraining": (
            "seconds before the first step, geometric mean over processes; FLOP/s: its model FLOPs over them",
            "pretraining_seconds",
        ),
    },
    "median": {
        "time to target": (
            "job_seconds of a process whose last evaluation has correct >= target x images; median over seeds, a missed one as "
            "infinite; interval: r-th smallest to r-th largest, the largest r with 2 x P(Binomial(n, 1/2) < r) <= 5 %",
            "job_seconds, epoch_evaluations, target",
        ),
        "median steps, epochs": ("steps, and steps / steps_per_epoch, likewise", "steps, steps_per_epoch"),
    },
    "over_first": {
        "speed over a rung": (
            "that rung's seconds of a step (of the job under the job clock) / the row's, by round where both ran in it (else "
            "Welch on the logs)",
            "block_seconds, steps or job_seconds",
        ),
    },
    "over_median": {
        "slowest over median": (
            "of the copies' mean steps (sum(block_seconds) / steps) the slowest copy's over the median in each launch; geometric "
            "mean over launches; the slowest is the copy with the largest geometric mean",
            "ranks",
        ),
    },
    "efficiency": {
        "scaled, efficiency": (
            "seconds of a step of one process with the fewest threads / the row's, times the row's batch_size over that one's, "
            "by round where both ran in it (else Welch on the logs); efficiency: times the base's processors over the row's "
            "(on a CPU world x threads, else world)",
            "block_seconds, steps, batch_size, world, threads",
        ),
        "exchange": (
            "1 - sum(without_seconds) / sum(with_seconds), from the geometric mean of the quotients over processes; none below 0",
            "communication",
        ),
        "launch": ("launch + join, geometric mean over processes", "phases"),
    },
}
"""The same for columns that not every report has, by the column's key."""


def table(shown: Iterable[str] = ()) -> Table:
    """Say per column how it is derived and from which fields of a record; of `FORMULAS_BY_TABLE` only the columns `shown`."""
    formulas, known = dict(FORMULAS), set(shown)
    for key, found in FORMULAS_BY_TABLE.items():
        formulas |= found if key in known else {}
    columns = (
        Column("figure", "figure", "", 1, "left"),
        Column("formula", "how to derive it", "", 1, "left"),
        Column("fields", "from the record's fields", "", 1, "left"),
    )
    lines = tuple(
        Line((Cell(name, (), {"figure": name}), Cell(formula, (), {"formula": formula}), Cell(fields)))
        for name, (formula, fields) in formulas.items()
    )
    return Table("method", "How to derive each figure again", "", columns, (RowGroup("Formulas", lines),))


def clock_notes(rows: Iterable[Row]) -> tuple[Note, ...]:
    """The clock rules of the rows shown, and what holds for all of them."""
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
