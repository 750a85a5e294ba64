"""Ledgers in the formats of other tools: pytest-benchmark's JSON, github-action-benchmark's, and a tidy CSV.

Enters one run (for CSV any number); leaves values or text. What those tools call a round is here a process, the unit of
replication, so that their spreads are spreads between processes: the datum of a process is its median step time. Only
`ok` processes have one; `list_left_out` says of which jobs nothing, or less than was planned, is in a file, since their
readers cannot tell.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import __version__, machine_facts, naming
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.process_table import Process, flatten_processes, list_columns
from cnnbench.report import escaping, pytest_benchmark_stats
from cnnbench.schema import RunHeader

PYTEST_BENCHMARK_VERSION = "5.3.1"
"""The version of pytest-benchmark whose files these are like."""


@dataclass(frozen=True)
class ExportedJob:
    """One job's `ok` processes, under a name that is its own and the same in every run of that job."""

    name: str
    params: Mapping[str, str | int | float | bool]
    processes: tuple[Process, ...]

    @property
    def seconds(self) -> list[float]:
        """Median step time of each process."""
        return [each.metrics.median_step_seconds for each in self.processes if each.metrics is not None]


def group_jobs(found: Iterable[Process]) -> tuple[ExportedJob, ...]:
    """The jobs that have an `ok` process, by name. Processes of several runs would share a name: give those of one."""
    by_row: dict[str, list[Process]] = {}
    for process in found:
        if process.metrics is not None:
            by_row.setdefault(process.row_key, []).append(process)
    named = naming.export_names({key: (rows[0].job, rows[0].protocol) for key, rows in by_row.items()})
    return tuple(
        ExportedJob(
            named[key],
            naming.export_params(rows[0].job, rows[0].protocol),
            tuple(sorted(rows, key=lambda each: (each.job.round, each.index))),
        )
        for key, rows in sorted(by_row.items(), key=lambda item: (named[item[0]], item[0]))
    )


def list_left_out(found: Sequence[Process]) -> tuple[str, ...]:
    """A line for each job of which processes are not `ok`: how many of how many, and how they ended."""
    by_row: dict[str, list[Process]] = {}
    for process in found:
        by_row.setdefault(process.row_key, []).append(process)
    lines = []
    for rows in by_row.values():
        ended = Counter(each.status for each in rows if each.metrics is None)
        if ended:
            how = ", ".join(f"{status} {n}" for status, n in sorted(ended.items()))
            name = naming.export_name(rows[0].job, rows[0].protocol)
            whole = "nothing of it is there" if ended.total() == len(rows) else "the rest is there"
            lines.append(f"{name}: {ended.total()} of {len(rows)} processes left out ({how}); {whole}")
    return tuple(sorted(lines))


def pytest_benchmark(run: RunHeader, found: Sequence[Process], final_digest: str = "") -> dict[str, Any]:
    """pytest-benchmark's JSON of one run: a benchmark a job, a round a process, iterations its timed steps."""
    return {
        "machine_info": machine_info(run),
        "commit_info": {
            "id": run.software.git_commit or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": bool(run.software.git_dirty),
            "project": "cnnbench",
            "branch": "(unknown)",
        },
        "benchmarks": [_benchmark(each) for each in group_jobs(found)],
        "datetime": run.created_at,
        "version": PYTEST_BENCHMARK_VERSION,
        "cnnbench": {"version": __version__, "run_id": run.run_id, "ledger_sha256": final_digest or None},
    }


def _benchmark(each: ExportedJob) -> dict[str, Any]:
    steps = min(process.metrics.steps for process in each.processes if process.metrics is not None)
    return {
        "group": escaping.plain(each.processes[0].job.workload),
        "name": each.name,
        "fullname": f"cnnbench::{each.name}",
        "params": dict(each.params),
        "param": each.name.partition("[")[2].rpartition("]")[0],
        "extra_info": extra_info(each),
        "options": {},
        "stats": {**pytest_benchmark_stats.summarise(each.seconds), "data": each.seconds, "iterations": steps},
    }


def extra_info(each: ExportedJob) -> dict[str, Any]:
    """What the times mean: processes, FLOP/s and images/s of their median, memory high-water marks, doubts."""
    first = each.processes[0]
    seconds = float(pytest_benchmark_stats.summarise(each.seconds)["median"])
    flops = step_flops(first.job)
    figures = [process.metrics for process in each.processes if process.metrics is not None]
    return {
        "processes": len(figures),
        "run_id": first.run_id,
        "device": first.job.device,
        "device_name": first.device.name,
        "threads": first.job.threads,
        "torch": first.software.torch,
        "flops": flops,
        "flops_per_second": None if flops is None else flops / seconds,
        "images_per_second": first.job.batch_size / seconds if any(f.images_per_second for f in figures) else None,
        "host_peak_bytes": max((f.host_peak_bytes for f in figures if f.host_peak_bytes is not None), default=None),
        "device_peak_bytes": max(
            (f.device_peak_bytes for f in figures if f.device_peak_bytes is not None), default=None
        ),
        "doubts": sorted({doubt.message for process in each.processes for doubt in process.doubts}),
    }


def machine_info(run: RunHeader) -> dict[str, Any]:
    """pytest-benchmark's keys, as far as a ledger knows them (it has no host name), and the facts the plugin adds."""
    machine, software = run.machine, run.software
    system, _, rest = machine.os.partition(" ")
    return {
        "node": machine.id,
        "processor": machine.cpu_name,
        "machine": rest.partition(",")[0],
        "python_version": software.python,
        "release": machine.kernel,
        "system": system,
        "cpu": {
            "brand_raw": machine.cpu_name,
            "vendor_id_raw": machine.cpu_vendor,
            "family": machine.cpu_family,
            "model": machine.cpu_model,
            "stepping": machine.cpu_stepping,
            "count": machine.cores_logical,
            "flags": list(machine.cpu_isa),
        },
        machine_facts.KEY: machine_facts.describe_machine(
            machine, python=software.python, torch=software.torch, environment=None
        ),
    }


def github_action(found: Sequence[Process]) -> list[dict[str, Any]]:
    """github-action-benchmark's `customSmallerIsBetter`: seconds a step, the median over processes of their medians.

    `range` is the standard deviation between processes, as that tool has it of others; none where there is one process.
    """
    entries = []
    for each in group_jobs(found):
        stats, info = pytest_benchmark_stats.summarise(each.seconds), extra_info(each)
        lines = [
            f"processes: {info['processes']}",
            f"device: {escaping.plain(str(info['device_name']))}",
            f"torch: {escaping.plain(str(info['torch']))}",
            *([] if info["flops_per_second"] is None else [f"FLOP/s: {info['flops_per_second']:.6g}"]),
            *(f"doubt: {escaping.plain(doubt)}" for doubt in info["doubts"]),
        ]
        entry = {"name": each.name, "unit": "s", "value": stats["median"], "extra": "\n".join(lines)}
        if len(each.seconds) > 1:
            entry["range"] = f"± {float(stats['stddev'])!r}"
        entries.append(entry)
    return entries


def tidy_csv(found: Sequence[Process]) -> str:
    """One line a process, failed ones too, under the frame's names; unknown is empty."""
    return comma_separated(flatten_processes(found), list_columns())


def comma_separated(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Rows as CSV: numbers as they are, None empty, texts so that a spreadsheet shows them and calculates nothing."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in columns} for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    return escaping.csv(value) if isinstance(value, str) else value
