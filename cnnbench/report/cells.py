"""A row's identity and outcome as cells: text for readers, raw SI values with the unit in their name for programs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from cnnbench import naming, units
from cnnbench.analysis.process_table import NOT_RUN
from cnnbench.analysis.ratio import PublishedResult
from cnnbench.analysis.rows import Row
from cnnbench.analysis.same_host import find_mixed_models, identify_boot
from cnnbench.analysis.stats import Estimate, MedianEstimate
from cnnbench.plain_text import plain
from cnnbench.report.model import Cell, RawRows, RawValues
from cnnbench.schema import digest
from cnnbench.schema.job import plain_values

EMPTY = Cell("")
ProcessorCell = Callable[[Row], Cell]
"""The function with which a page names a row's processor."""


def values(key: str, estimate: Estimate | MedianEstimate | None) -> RawValues:
    """Name the estimate's raw values: `key`, `key_low`, `key_high`, `key_n`; all None without an estimate."""
    named = {key: "value", f"{key}_low": "low", f"{key}_high": "high", f"{key}_n": "n"}
    return {name: getattr(estimate, part, None) for name, part in named.items()}


KEY_CHARACTERS = 12
"""Characters of a row key's SHA-256 that are printed: enough to tell the rows of one run apart."""


def name_raw_rows(*rows: Row) -> RawRows:
    """Name the raw rows behind a line, so that the audit can derive it again."""
    return tuple((row.run_id, digest(row.row_key)[:KEY_CHARACTERS]) for row in rows)


_IN_COLUMNS = ("division", "precision")
_FIELDS = dict.fromkeys(("task", *plain_values("compute"), *plain_values("network"), "target", "evaluate_every"))
JOB_FIELDS = tuple(name for name in _FIELDS if name not in _IN_COLUMNS)
"""The job's fields for the way a step is computed, its network and its end, as raw values beside a row.

A report whose rows are all computed the plain way (training, eager, NCHW, resident) omits them: the work's key covers
them, and such reports were published before there was any other way. As soon as one row differs, all rows list them.
"""


def job_values(row: Row) -> RawValues:
    """List the job's fields by name."""
    return {name: getattr(row.job, name) for name in JOB_FIELDS}


def work_values(row: Row) -> RawValues:
    """List the fields that identify the row's work, with the digest of its key and the protocol."""
    return {
        **{name: getattr(row.job, name) for name in ("workload", "division", "batch_size", "clock")},
        "work_key_sha256": digest(row.work_key),
        "protocol": row.protocol,
    }


def name_processors(rows: Sequence[Row], *, all_runs: bool) -> ProcessorCell:
    """Choose how a page of these rows names their processors.

    The machine is added if there are several, the boot and host on a machine id under which there are several. As soon as one
    row is not computed the plain way, every row lists all job fields.
    """
    several = len({row.machine.id for row in rows}) > 1
    variants = any(naming.deviations(row.job, "optimizer", *_IN_COLUMNS) for row in rows)
    mixed = find_mixed_models(rows)
    return partial(processor, several_machines=several, all_runs=all_runs, with_job_fields=variants, mixed_models=mixed)


def processor(
    row: Row,
    *,
    several_machines: bool,
    all_runs: bool = False,
    with_job_fields: bool = False,
    mixed_models: Collection[str] = (),
) -> Cell:
    """Show the processor with its place on the machine, and with machine and run if several are shown.

    `with_job_fields` adds the job's fields as raw values. `mixed_models` are the machine ids under which several boots or hosts
    are shown, so that each row names its own.
    """
    machine = plain(row.machine.id) if several_machines else ""
    boot = plain(identify_boot(row).label) if row.machine.id in mixed_models else ""
    run = f"run {plain(row.run_id)}" if all_runs else ""
    identity = {
        "processor": row.device.name,
        **{name: getattr(row.job, name) for name in ("device", "threads", "allocator")},
        "machine_id": row.machine.id,
        "boot_id": row.boot_id,
        "host_id": row.host_id,
        "kernel": row.machine.kernel,
        "run_id": row.run_id,
        "unfit": row.unfit,
        "torch": f"{row.software.torch} ({row.software.torch_build})",
        **work_values(row),
        "year": None,
        "source": None,
        **(job_values(row) if with_job_fields else {}),
    }
    return Cell(naming.processor_name(row.device), identity, (naming.place_label(row.job),)).add_details(
        machine, boot, run
    )


def step_text(seconds: float | None) -> str:
    """Format a step with its unit to four figures (`71.55 ms`), so that steps a few percent apart look different."""
    if seconds is None:
        return units.NOT_AVAILABLE
    scale, unit = next((each for each in STEP_UNITS if seconds >= each[0]), STEP_UNITS[-1])
    value = seconds / scale
    return f"{value:,.0f} {unit}" if value >= 999.95 else f"{value:#.4g} {unit}"


def step_span(low: float, high: float) -> str:
    """Format both ends of a range of steps, printing a shared unit once: `71.55–75.86 ms`."""
    lower, upper = step_text(low), step_text(high)
    unit = upper[upper.rindex(" ") :]
    return f"{lower.removesuffix(unit)}–{upper}"


STEP_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def list_bad_endings(row: Row) -> list[tuple[str, int]]:
    """List how processes that are not `ok` ended, with their number; `not run` comes last."""
    endings = (each for each in row.outcomes.items() if each[0] != "ok")
    return sorted(endings, key=lambda each: (each[0] == NOT_RUN, each))


def outcome(row: Row) -> Cell:
    """Show how the processes ended: `ok 3/3`, `oom 1 of 3`."""
    total = sum(row.outcomes.values())
    parts = [f"ok {row.ok}/{total}"] if row.ok else []
    parts += [f"{status} {n} of {total}" for status, n in list_bad_endings(row)]
    return Cell(parts[0], {"processes": total, "processes_ok": row.ok, "outcome": ", ".join(parts)}, tuple(parts[1:]))


def name_place(row: Row) -> str:
    """Name the processor and its place in a sentence: `AMD EPYC (cpu, 2 threads)`."""
    return f"{naming.processor_name(row.device)} ({naming.place_label(row.job)})"


def title_run(row: Row, processor: ProcessorCell) -> str:
    """Name the processor and the run, for rows that all come from that run."""
    return f"{processor(row).one_line} · run {plain(row.run_id)}"


def explain_software(year: int | str) -> str:
    """Explain, for a sentence's end, that a ratio to a published time is not of the hardware alone."""
    return f"software differs too: TensorFlow 1 of {year} there, today's torch here"


def build_published_cells(found: PublishedResult) -> dict[str, Cell]:
    """Build a published row's cells by column; the caller fills the columns it has no figure for."""
    row, peak = found.published, found.published.printed_flops_per_second
    # Both are quotients of published figures, which are taken as exact.
    achieved, speedup = (
        None if value is None else Estimate(value, None, None, 1) for value in (found.flops_per_second, found.speedup)
    )
    printed = {
        "peak_flops_per_second": peak,
        "peak_kind": None if peak is None else "printed",
        "printed_flops": row.printed_flops_text,
    }
    job = values("job_seconds", found.job_seconds) | {"job_kind": "published"}
    versus = values("speedup_over_reference", speedup) | {"printed_speedup": row.printed_speedup}
    return {
        "processor": Cell(plain(row.processor), {"processor": row.processor, "year": row.year, "source": row.source}),
        "peak": Cell(units.giga(peak), printed),
        "achieved": Cell(units.giga(found.flops_per_second), values("achieved_flops_per_second", achieved)),
        "job": Cell(units.duration(row.job_seconds).removesuffix(".0"), job),
        "versus": Cell(units.ratio(found.speedup), versus),
    }
