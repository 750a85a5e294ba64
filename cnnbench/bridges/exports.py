"""Ledgers in the formats of other tools: pytest-benchmark's JSON, github-action-benchmark's, and a tidy CSV.

The input is one run (for CSV any number); the output is values or text. What those tools call a round is a process here, the
unit of replication, so that their spreads are spreads between processes: a process contributes its median step time. Only
`ok` processes have one; `list_left_out` names the jobs of which a file holds nothing, or less than was planned, because
readers of the file cannot see it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from cnnbench import __version__, machine_facts, naming
from cnnbench.analysis.metrics import ProcessMetrics, step_flops
from cnnbench.analysis.process_table import Process, flatten_processes, list_columns
from cnnbench.analysis.ratio import group_by
from cnnbench.plain_text import plain
from cnnbench.report.model import Document
from cnnbench.report.render import text
from cnnbench.schema import RunHeader

RATES = ("flops_per_second", "model_flops_per_second")
"""Names of the model's FLOP/s: as the device computed them, and where kernels leave out products with zeros."""


@dataclass(frozen=True)
class ExportedJob:
    """One job's `ok` processes, under a name that is unique in its run and the same in every run of that job."""

    name: str
    processes: tuple[Process, ...]

    @property
    def metrics(self) -> list[ProcessMetrics]:
        """What each process measured."""
        return [each.metrics for each in self.processes if each.metrics is not None]

    @property
    def seconds(self) -> list[float]:
        """Median step time of each process."""
        return [each.median_step_seconds for each in self.metrics]


def summarise(seconds: Sequence[float]) -> dict[str, float | int | str]:
    """Compute pytest-benchmark's statistics of these rounds, in its order, without `data` and `iterations`.

    They are computed as version 5.3 does, because its readers expect that; cnnbench draws its conclusions from other figures.
    Whiskers and outliers are Tukey's (J. W. Tukey, Exploratory Data Analysis, 1977), quartiles the means of methods 2 and 3 of
    Wikipedia's "Quartile". Raises ValueError if there are no rounds.
    """
    data = sorted(seconds)
    mean, spread = statistics.mean(seconds), statistics.stdev(seconds) if len(seconds) > 1 else 0
    first, third = _quantile(data, 0.25), _quantile(data, 0.75)
    whisker = 1.5 * (third - first)
    low, high = first - whisker, third + whisker
    beyond_spread = sum(each < mean - spread or each > mean + spread for each in data)
    beyond_whiskers = sum(each < low or each > high for each in data)
    total = sum(seconds)
    return {
        "min": data[0],
        "max": data[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": beyond_whiskers,
        "stddev_outliers": beyond_spread,
        "outliers": f"{beyond_spread};{beyond_whiskers}",
        "ld15iqr": next((each for each in data if each >= low), data[0]),
        "hd15iqr": next((each for each in reversed(data) if each <= high), data[-1]),
        "ops": len(data) / total if total else 0,
        "total": total,
    }


def _quantile(data: Sequence[float], share: float) -> float:
    """Interpolate the quantile of sorted data between its two neighbours, by the rule of J. Hazen (1914)."""
    place = min(max(share * len(data) - 0.5, 0), len(data) - 1)
    below = int(place)
    above = min(below + 1, len(data) - 1)
    return (below + 1 - place) * data[below] + (place - below) * data[above]


def group_jobs(found: Iterable[Process]) -> tuple[ExportedJob, ...]:
    """Collect the jobs that have an `ok` process, by name. Give the processes of one run: two runs share names."""
    by_row = group_by((process for process in found if process.metrics is not None), attrgetter("row_key"))
    named = naming.export_names({key: (rows[0].job, rows[0].protocol) for key, rows in by_row.items()})
    return tuple(
        ExportedJob(named[key], tuple(sorted(by_row[key], key=attrgetter("job.round", "index"))))
        for key in sorted(by_row, key=lambda key: (named[key], key))
    )


def list_left_out(found: Sequence[Process]) -> tuple[str, ...]:
    """Write a line for each job with processes that are not `ok`: how many of how many, and how they ended."""
    lines = []
    for rows in group_by(found, attrgetter("row_key")).values():
        if ended := Counter(each.status for each in rows if each.metrics is None):
            how = ", ".join(f"{status} {n}" for status, n in sorted(ended.items()))
            name = naming.export_name(rows[0].job, rows[0].protocol)
            whole = "nothing of it is there" if ended.total() == len(rows) else "the rest is there"
            lines.append(f"{name}: {ended.total()} of {len(rows)} processes left out ({how}); {whole}")
    return tuple(sorted(lines))


def pytest_benchmark(run: RunHeader, found: Sequence[Process], final_digest: str = "") -> Document:
    """Write one run as pytest-benchmark's JSON: a benchmark per job, a round per process, timed steps as iterations."""
    software = run.software
    return {
        "machine_info": machine_info(run),
        "commit_info": {
            "id": software.git_commit or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": bool(software.git_dirty),
            "project": "cnnbench",
            "branch": "(unknown)",
        },
        "benchmarks": list(map(_describe_benchmark, group_jobs(found))),
        "datetime": run.created_at,
        "version": "5.3.1",  # of pytest-benchmark, whose files these are like
        "cnnbench": {"version": __version__, "run_id": run.run_id, "ledger_sha256": final_digest or None},
    }


def _describe_benchmark(each: ExportedJob) -> Document:
    first = each.processes[0]
    return {
        "group": plain(first.job.workload),
        "name": each.name,
        "fullname": f"cnnbench::{each.name}",
        "params": naming.export_params(first.job, first.protocol),
        "param": each.name.partition("[")[2].rpartition("]")[0],
        "extra_info": extra_info(each),
        "options": {},
        "stats": {
            **summarise(each.seconds),
            "data": each.seconds,
            "iterations": min(figures.steps for figures in each.metrics),
        },
    }


def extra_info(each: ExportedJob) -> Document:
    """List what a reader needs beside times: processes, FLOP/s and images/s at their median, peak memory, doubts."""
    first, figures = each.processes[0], each.metrics
    seconds = statistics.median(each.seconds)
    flops, trains = step_flops(first.job), any(figure.images_per_second for figure in figures)
    rate = RATES[any(figure.leaves_out_zeros for figure in figures)]
    peaks = {
        name: max((value for figure in figures if (value := getattr(figure, name)) is not None), default=None)
        for name in ("host_peak_bytes", "device_peak_bytes")
    }
    return {
        "processes": len(figures),
        "run_id": first.run_id,
        "boot_id": first.run.boot_id,
        "host_id": first.run.host_id,
        "device": first.job.device,
        "device_name": first.device.name,
        "threads": first.job.threads,
        "torch": first.software.torch,
        "flops": flops,
        **{name: flops and flops / seconds if name == rate else None for name in RATES},
        "images_per_second": first.job.batch_size / seconds if trains else None,
        **peaks,
        "doubts": sorted({doubt.message for process in each.processes for doubt in process.doubts}),
    }


def machine_info(run: RunHeader) -> Document:
    """Fill pytest-benchmark's keys as far as a ledger can (it stores no host name), and add the facts of the plugin."""
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


def github_action(found: Sequence[Process]) -> list[Document]:
    """Write github-action-benchmark's `customSmallerIsBetter`: seconds per step, the median of the processes' medians.

    `range` is the standard deviation between processes, as that tool has it from others; a single process has no range.
    """
    entries = []
    for each in group_jobs(found):
        info, seconds = extra_info(each), each.seconds
        lines = [
            f"processes: {info['processes']}",
            f"device: {plain(str(info['device_name']))}",
            f"torch: {plain(str(info['torch']))}",
            *([] if info["flops_per_second"] is None else [f"FLOP/s: {info['flops_per_second']:.6g}"]),
            *(f"doubt: {plain(doubt)}" for doubt in info["doubts"]),
        ]
        entry = {"name": each.name, "unit": "s", "value": statistics.median(seconds), "extra": "\n".join(lines)}
        if len(seconds) > 1:
            entry["range"] = f"± {statistics.stdev(seconds)!r}"
        entries.append(entry)
    return entries


def tidy_csv(found: Sequence[Process]) -> str:
    """Write one line per process, failed ones too, under the names of the process table; unknown is empty."""
    return text.write_csv(flatten_processes(found), list(list_columns()))
