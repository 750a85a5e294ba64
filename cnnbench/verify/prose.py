"""Numbers in words: each number of a claim, a lead, a title or a note must be one that is known, and of what it is about.

Nothing here reads a sentence: a number is known where it is a figure of the page's tables, a field of the records and their
machines, or a number of the method itself.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from cnnbench import validity, workloads
from cnnbench.schema import RunHeader, Telemetry, Trial
from cnnbench.verify import formats, learning
from cnnbench.verify.columns import COLUMNS
from cnnbench.verify.figures import FIGURES
from cnnbench.verify.formats import find_numbers
from cnnbench.verify.raw_rows import RawRow
from cnnbench.verify.values import ENDS, ValueSubject, derive
from cnnbench.verify.view import MOST_APART, PageView

METHOD = {
    *("0", "1", "2", "3", "4", "5", "6", "8", "10", "80", "90", "95", "100", "256", "3600", "10000"),
    *("0.010", "0.95", "0.98", "1.5", "10.0"),
}
"""Numbers of how things are measured and computed, which stand in rules and reasons whatever the records are."""


def record_numbers(row: RawRow) -> Iterator[str]:
    """Every number of a row's machine, run and processes that a sentence may give as it is."""
    header, job = row.header, row.job
    yield from row.numbers
    yield from find_numbers(f"{header.run_id} {row.place} {row.full_name} {job.workload} {job.recipe}")
    yield from (str(n) for n in range(len(row.records) + row.unstarted + 1))
    for record in row.records:
        yield from find_numbers(f"{record.outcome.message} {record.job.seed}")
    for _, trial in row.attempts:
        yield from _trial_numbers(row, trial)


def header_numbers(header: RunHeader) -> list[str]:
    """Every number of a machine and its software."""
    commit = str(header.software.git_commit)[:10]
    return find_numbers(
        f"{header.machine.model_dump_json()} {header.software.model_dump_json()} {commit} {header.run_id}"
    )


def _trial_numbers(row: RawRow, trial: Trial) -> Iterator[str]:
    """What doubts say of one process: its accuracy, its band, its halves, faults a step, and time that others took."""
    job, seconds = row.job, sum(trial.block_seconds)
    tests = [trial.test] if trial.test and trial.test.images else []
    for test in tests:
        yield from find_numbers(f"{formats.percent(2)(test.correct / test.images)} {test.after_steps} {test.images}")
    for images in {each.images for each in trial.epoch_evaluations if each.images}:
        yield from find_numbers(formats.percent(1)(1.96 * (0.99 * 0.01 / images) ** 0.5))
    for band in row.workload.bands if row.workload else ():
        yield from find_numbers(f"{formats.percent(2)(band.low)} {formats.percent(2)(band.high)}")
    half = len(trial.block_seconds) // 2
    if half:
        first, second = sorted(trial.block_seconds[:half]), sorted(trial.block_seconds[-half:])
        middles = [(each[(half - 1) // 2] + each[half // 2]) / 2 for each in (first, second)]
        yield f"{abs(middles[1] / middles[0] - 1):.0%}".removesuffix("%")
    yield f"{(trial.minor_faults or 0) / trial.steps:.0f}" if trial.steps else "0"
    yield str(trial.settings.get("matmul_error"))
    grown = [_growth(trial, name) for name in ("cgroup_throttled_seconds", "cpu_pressure_seconds", "steal_seconds")]
    shares = [each / seconds for each in grown if seconds > 0]
    yield from (f"{share:.0%}".removesuffix("%") for share in shares)
    yield from (f"{share / max(1, row.header.machine.cores_allowed):.1%}".removesuffix("%") for share in shares)
    yield str(trial.telemetry_after.device_other_processes) if trial.telemetry_after else "0"
    found = validity.find_violations(job, trial, 0.0, row.device, row.header.machine)
    yield from find_numbers(" ".join(each.message for each in found))


def _growth(trial: Trial, name: str) -> float:
    def read(reading: Telemetry | None) -> float:
        return (getattr(reading, name) if reading else None) or 0.0

    return read(trial.telemetry_after) - read(trial.telemetry_before)


def _ceiling_numbers(view: PageView, row: RawRow) -> Iterator[str]:
    """What is said of a measured peak, or of why there is none."""
    best = view.best_product(row)
    if best is not None:
        yield from find_numbers(f"{formats.ratio(best.apart)} {best.apart:.2f} {best.row.job.size} {MOST_APART}")
    share = ValueSubject(view, "", row).figure("share_of_measured_peak")
    yield "" if share is None else f"{100 * share.value:.0f}"
    before, steps = workloads.pretraining_flops(row.job) if row.workload else 0, row.job.job_steps or 0
    yield from (
        n
        for flops in (row.flops or 0, before, before + steps * (row.flops or 0))
        for n in find_numbers(formats.giga(flops))
    )


def known_numbers(view: PageView, page: Mapping[str, Any]) -> frozenset[str]:
    """Every number that a page may print in words."""
    if view.numbers is None:
        view.numbers = frozenset(_view_numbers(view))
    found = {str(view.options.get("sample", 200)), f"{learning.IMAGES * (view.options.get('accuracy') or 0):.0f}"}
    for section in page["sections"]:
        lines = (line for table in section["tables"] for group in table["groups"] for line in group["lines"])
        for cell in (cell for line in lines for cell in line["cells"]):
            found.update(find_numbers(f"{cell['text']} {cell.get('values', {}).get('peak_origin')}"))
        found.update(str(n) for chart in section["charts"] for n in range(len(chart["data"]) + 1))
    return view.numbers | found


def _view_numbers(view: PageView) -> Iterator[str]:
    yield from METHOD
    for header in {row.header.run_id: row.header for row in view.rows}.values():
        yield from header_numbers(header)
    for row in view.shown:
        yield from record_numbers(row)
        yield from _ceiling_numbers(view, row)
    for published in view.published_rows:
        yield from find_numbers(published.model_dump_json())
        yield from find_numbers(f"{(published.printed_flops_per_second or 0) / 1e9:g} {published.job_seconds or 0:.0f}")
    runs = Counter((row.row_key, row.header.machine.id) for row in view.rows)
    hidden = [n for row in view.shown if (n := runs[row.row_key, row.header.machine.id] - 1)]
    yield from (str(len(hidden)), str(sum(hidden)), *_counted(view), *_difference_numbers(view))


def _difference_numbers(view: PageView) -> Iterator[str]:
    """What is said of a mode that is compared with the plain one."""
    for row in view.training:
        plain = learning.find_plain(view, row)
        found = None if plain is None else learning.compare(row, plain)
        if found is not None:
            ends = (
                found.value,
                found.low,
                found.high,
                found.medians,
                learning.loss_allowed(view, row) * learning.IMAGES,
            )
            yield from find_numbers(" ".join(formats.points(each / learning.IMAGES) for each in ends))


def _counted(view: PageView) -> Iterator[str]:
    """How many rows there are, and how their processes ended."""
    ended = Counter(record.outcome.status for row in view.shown for record in row.records)
    yield from map(str, ended.values())
    yield str(sum(row.unstarted for row in view.shown))
    yield from (str(n) for n in range(len(view.shown) + 1))


CLAIMED = ("job", "versus", "speedup", "of_ceiling", "gemm.achieved", "step", "verdict")
"""The columns whose cells a claim is made of."""


def claim_numbers(view: PageView, row: RawRow) -> frozenset[str]:
    """Every number that a claim about one row may print: its own cells and fields, and who it is compared with."""
    bare = ValueSubject(view, "", row)
    names = [f"{name}{end}" for name in FIGURES for end in ENDS]
    printed = {name: derive(name, bare) for name in (*names, "verdict", "job_kind")}
    subject = dataclasses.replace(bare, printed=printed)
    cells = " ".join(COLUMNS[key].text(subject) for key in CLAIMED)
    found = {*row.numbers, *find_numbers(f"{cells} {row.full_name} {row.place} {view.options.get('baseline')}")}
    for other in filter(None, (view.find_base(row), view.ceiling(row))):
        found.update(find_numbers(f"{other.full_name} {other.place}"))
    if view.published_cpu is not None:
        found.update(find_numbers(f"{view.published_cpu.processor} {view.published_cpu.year}"))
    return frozenset(found)


def lead_numbers(view: PageView) -> set[str]:
    """What sections begin with: how many times the published CPU's FLOPS and speed the fastest published row is."""
    base = view.published_cpu
    rows = [row for row in view.published_rows if row.job_seconds and row.printed_flops_per_second]
    if base is None or not rows or not base.job_seconds or not base.printed_flops_per_second:
        return set()
    best = min(rows, key=lambda row: row.job_seconds or 0.0)
    flops, speed = (
        (best.printed_flops_per_second or 0.0) / base.printed_flops_per_second,
        base.job_seconds / (best.job_seconds or 1),
    )
    return {f"{flops:.0f}", f"{speed:.0f}"}
