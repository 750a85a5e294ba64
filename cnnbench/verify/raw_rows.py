"""Raw records as rows: the processes of one job in one run, and the names a row may have; the rows that a page shows, and the
row that each figure is divided by.

This is written a second time on purpose and shares nothing with the code that printed the page.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from cnnbench import validity, workloads
from cnnbench.errors import WorkloadError
from cnnbench.schema import Device, Evaluation, Job, PublishedRow, Record, RunHeader, Trial, digest
from cnnbench.store import Ledger
from cnnbench.verify.formats import find_numbers
from cnnbench.verify.intervals import Cost
from cnnbench.workloads import Workload

RawValue = str | int | float | bool | None
"""A value as pages, CSV and JSON store it."""
PageValues = Mapping[str, Any]
"""A page, or a part of it, as data: a table, a chart, a line, a mark."""

LONGEST = 500
"""Most characters of one text that a page shows."""
SHOWN = 400
"""A page shows at least so many characters of a name before it cuts it."""
MOST_APART = 1.5
MOST_WAITED, MOST_STOLEN = 0.2, 0.1
"""Shares of the timed seconds in which threads waited for a core, and of the allowed cores' time that other guests took:
above either the machine was unfit."""
LADDER: Mapping[str, Sequence[str]] = {
    "division": ("reference", "tuned", "open"),
    "precision": ("fp32", "tf32", "bf16", "fp16"),
    "layout": ("nchw", "nhwc"),
    "execution": ("eager", "compiled", "auto", "fused", "native", "graph", "compiled-graph"),
    "loader": ("resident", "dataloader"),
}
"""The fields in which rungs differ, each with its values, the plain one first."""
PLAIN: Mapping[str, object] = {**{name: values[0] for name, values in LADDER.items()}, "loader_workers": 0}
"""How a plain step is computed."""


@dataclass(frozen=True, eq=False)
class RawRow:
    """The records of one job on one device in one run by round, their status after the gates, and how many never started."""

    header: RunHeader
    job: Job
    protocol: int
    records: tuple[Record, ...]
    unstarted: int = 0

    @cached_property
    def device(self) -> Device | None:
        """The device as the run's fingerprint lists it."""
        return self.header.machine.find_device(self.job.device)

    @property
    def full_name(self) -> str:
        """The processor's name as the system reports it."""
        if self.device is not None:
            return self.device.name
        return self.header.machine.cpu_name if self.on_cpu else self.job.device

    @property
    def on_cpu(self) -> bool:
        """True if the job ran on the CPU."""
        return self.job.device == "cpu" if self.device is None else self.device.kind == "cpu"

    @cached_property
    def row_key(self) -> str:
        """The key that repeats of the job share."""
        return self.job.row_key

    @cached_property
    def mark(self) -> tuple[str, str]:
        """The row's name in charts: its run, and the beginning of the row key's digest."""
        return self.header.run_id, digest(self.row_key)[:12]

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Every number of the job that words about the row may contain."""
        job = self.job
        percent = "" if job.target is None else f"{100 * job.target:g}"
        further = (job.job_steps, self.protocol, self.timed_steps, percent, job.batch_size // job.world)
        return frozenset(find_numbers(*job.model_dump().values(), *further))

    @cached_property
    def all_numbers(self) -> frozenset[str]:
        """The job's numbers, and those of the row's name, place, machine, run and rounds."""
        header, rounds = self.header, (record.job.round + 1 for record in self.records)
        places = (self.full_name, self.place, header.machine.id, mark_boot(header), header.run_id)
        return self.numbers.union(find_numbers(*places, *rounds))

    @cached_property
    def ended(self) -> Counter[str]:
        """Processes by how they ended, in alphabetical order, `not run` last."""
        statuses = sorted(record.outcome.status for record in self.records)
        return Counter((*statuses, *["not run"] * self.unstarted))

    @cached_property
    def trials(self) -> tuple[tuple[Record, Trial], ...]:
        """The processes that ended `ok`, by round."""
        return tuple(pair for pair in self.attempts if pair[0].outcome.status == "ok")

    @cached_property
    def planned_trials(self) -> int:
        """How many of the `ok` processes were planned; all, if too few to decide how many follow."""
        planned = sum(record.index < len(self.header.plan) for record, _ in self.trials)
        return planned if planned >= 3 else len(self.trials)

    @cached_property
    def good_trials(self) -> tuple[Trial, ...]:
        """The measurements of the `ok` processes."""
        return tuple(trial for _, trial in self.trials)

    @cached_property
    def skips_zeros(self) -> bool:
        """True if a process ran kernels that leave out products with zeros: a CPU's native ones, or perhaps these."""
        rungs = {trial.settings.get("tuned_rung", self.job.execution) for trial in self.good_trials}
        return self.job.device == "cpu" and not rungs.isdisjoint({"native", "auto"})

    @cached_property
    def attempts(self) -> tuple[tuple[Record, Trial], ...]:
        """The processes that ended `ok` or missed their target, by round."""
        ends = validity.CHECKED_STATUSES
        return tuple((r, r.outcome.trial) for r in self.records if r.outcome.status in ends and r.outcome.trial)

    @cached_property
    def tests(self) -> list[tuple[Evaluation, str | None]]:
        """The final tests, each with the data that the process recorded for it."""
        return [(trial.test, trial.accuracy_data) for trial in self.good_trials if trial.test]

    @cached_property
    def steps(self) -> list[float]:
        """Mean seconds per step, one value per process."""
        return [sum(trial.block_seconds) / trial.steps for trial in self.good_trials]

    @cached_property
    def costs(self) -> Cost:
        """The seconds that a speed-up divides: the job clock for a job of fixed length, else the mean step."""
        whole = self.job.clock in ("job", "recipe") and not self.job.stop_when_all_right
        return self._read_costs(lambda trial: trial.job_seconds) if whole else self.step_costs

    @cached_property
    def step_costs(self) -> Cost:
        """Mean seconds per step, by run and round."""
        return self._read_costs(lambda trial: sum(trial.block_seconds) / trial.steps)

    def _read_costs(self, read: Callable[[Trial], float | None]) -> Cost:
        costs = defaultdict(list)
        for record, trial in self.trials[: self.planned_trials]:
            if seconds := read(trial):
                costs[record.run_id, record.job.round].append(seconds)
        return {key: statistics.geometric_mean(found) for key, found in costs.items()}

    @cached_property
    def workload(self) -> Workload | None:
        """The workload, if this tree has it in the version that ran."""
        try:
            found = workloads.get(self.job.workload, self.job.workload_version)
        except WorkloadError:
            return None
        return found if found.version == self.job.workload_version else None

    @cached_property
    def flops(self) -> int | None:
        """Model FLOPs per step."""
        try:
            return None if self.workload is None else workloads.flops_per_step(self.job) or None
        except WorkloadError:
            return None

    @property
    def devices(self) -> int:
        """Processors behind its FLOP/s: all ranks on a machine share its CPU, but each rank has its own GPU."""
        return self.job.nodes if self.job.device == "cpu" else self.job.world

    @property
    def apart(self) -> float:
        """The speed of the fastest process over that of the slowest."""
        return max(self.step_costs.values()) / min(self.step_costs.values())

    @cached_property
    def disturbed(self) -> tuple[str, ...]:
        """For each process that an unfit machine measured what is known of that, with its numbers."""
        found = (_describe_disturbance(self, record, trial) for record, trial in self.trials)
        return tuple(filter(None, found))

    @property
    def alone(self) -> bool:
        """True if one process ran at a time."""
        return self.job.world * self.job.copies == 1

    @property
    def timed_steps(self) -> int:
        """The fewest steps that any of the processes timed."""
        return min((trial.steps for trial in self.good_trials), default=0)

    @cached_property
    def place(self) -> str:
        """The place on the machine in words: `cpu, 2 threads`."""
        threads = self.job.threads
        words = to_page_text(self.job.device)
        for what in ("world", "copies", "nodes"):
            count = getattr(self.job, what)
            words += f", {count} {'ranks' if what == 'world' else what}" if count > 1 else ""
        words += "" if threads is None else f", {threads} thread" + ("s" if threads != 1 else "")
        return words if self.job.allocator == "held" else f"{words}, {self.job.allocator} allocator"

    def is_of(self, baseline: str) -> bool:
        """Check that the row fits an asked baseline: its machine, device and threads, or the first ones of these."""
        threads = "" if self.job.threads is None else f"/{self.job.threads}"
        return f"{self.header.machine.id}/{self.job.device}{threads}/".startswith(f"{baseline.rstrip('/')}/")

    def printed_as(self, cell: str) -> bool:
        """Check that the first cell of a line can be this row's: its name, its place, and only numbers of the row."""
        name, place, rest = cell.partition(f" ({self.place[:SHOWN]}")
        return bool(place) and may_be_called(self.full_name, name) and self.all_numbers.issuperset(find_numbers(rest))


def _describe_disturbance(row: RawRow, record: Record, trial: Trial) -> str:
    """Describe how the machine was unfit as the process started, or others held up its timed steps; empty if neither."""
    seconds, before, after = sum(trial.block_seconds), trial.telemetry_before, trial.telemetry_after
    found = list(record.unfit or ())
    if before is not None and after is not None and seconds > 0:
        waited, stolen = (
            getattr(after, name) - getattr(before, name)
            if None not in (getattr(before, name), getattr(after, name))
            else 0.0
            for name in ("cpu_pressure_seconds", "steal_seconds")
        )
        among_itself = record.job.world * record.job.copies > 1 or record.job.loader_workers > 0
        if waited / seconds > MOST_WAITED and not among_itself:
            found.append(f"{waited / seconds:.0%}")
        if (stolen := stolen / (seconds * max(1, row.header.machine.cores_allowed))) > MOST_STOLEN:
            found.append(f"{stolen:.0%}")
    return " ".join(found)


@lru_cache(maxsize=4096)
def to_page_text(text: str) -> str:
    """Fold blanks, and replace controls, direction overrides and half characters by U+FFFD, as pages do."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")  # most texts, recognised much faster than by the patterns
    folded = re.sub(r"[^\S\x1c-\x1f]+", " ", text)
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "\ufffd", folded).strip(" ")


def cut_text(text: str) -> str:
    """Clean a text and cut it where a page cuts it."""
    line = to_page_text(text)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def may_be_called(full: str, name: str) -> bool:
    """Check a processor's short name: all its words are in the full name, in the same order; a word may be cut."""
    text, start = to_page_text(full), 0
    for word in name.split():
        bare = word.removesuffix("…")
        start = text.find(bare, start)
        if start < 0:
            return False
        start += len(bare)
    return bool(name.strip())


def is_same_text(printed: str, text: str) -> bool:
    """Compare a printed text with a record's, which the page may have cleaned or cut."""
    right = to_page_text(text)
    return printed == right or (len(right) > SHOWN and printed.endswith("…") and right.startswith(printed[:-1]))


def build_rows(ledgers: Iterable[Ledger]) -> list[RawRow]:
    """Build all rows; a run found twice counts once, an interrupted attempt only if no later attempt followed."""
    shortest_first = sorted(ledgers, key=lambda each: len(each.records))
    runs = {(ledger.header.run_id, ledger.header.machine.id): ledger for ledger in shortest_first}
    found = []
    for ledger in runs.values():
        header = ledger.header
        last: dict[int, Record] = {}
        # The first of two records of one attempt counts, which an edited ledger may have.
        for record in sorted(ledger.records, key=attrgetter("attempt"), reverse=True):
            last.setdefault(record.index, record)
        groups = defaultdict(list)
        for record in sorted(last.values(), key=attrgetter("job.round", "index")):
            # A record that today's gates find impossible does not count as `ok`.
            outcome = validity.reject_impossible(record.outcome, find_violations(header, record))
            ended = record.model_copy(update={"outcome": outcome})
            groups[record.job.row_key, record.protocol].append(ended)
        waiting = [((job.row_key, header.protocol), job) for index, job in enumerate(header.plan) if index not in last]
        planned, unstarted = dict(reversed(waiting)), Counter(key for key, _ in waiting)
        for key in dict.fromkeys((*groups, *unstarted)):
            records = tuple(groups.get(key, ()))
            job = records[0].job if records else planned[key]
            found.append(RawRow(header, job, key[1], records, unstarted[key]))
    return found


def find_violations(header: RunHeader, record: Record) -> tuple[validity.Violation, ...]:
    """Apply today's validity gates to a record that ended well."""
    job, trial, status = record.job, record.outcome.trial, record.outcome.status
    if status not in validity.CHECKED_STATUSES or trial is None:
        return ()
    device = header.machine.find_device(job.device)
    return validity.find_violations(job, trial, record.process_seconds, device, header.machine, status)


def group_rows(rows: Iterable[RawRow], find_key: Callable[[RawRow], object]) -> dict[object, list[RawRow]]:
    """Group rows by what they share, in order."""
    found = defaultdict(list)
    for row in rows:
        found[find_key(row)].append(row)
    return found


def select_newest(found: Sequence[RawRow]) -> list[RawRow]:
    """Select for each row its newest run with a finished process, which tables show."""
    newest_last = sorted(
        found,
        key=lambda row: (
            bool(row.ended.keys() - {"interrupted", "not run"}),
            row.header.created_at,
            row.header.run_id,
        ),
    )
    shared = attrgetter("header.machine.id", "row_key")
    best = {shared(row): row.header.run_id for row in newest_last}
    return [row for row in found if best[shared(row)] == row.header.run_id]


class PageView:
    """The rows of the runs that a page is made of, as its options select them."""

    def __init__(self, every: Iterable[RawRow], published_rows: Sequence[PublishedRow], options: PageValues) -> None:
        self.options, self.published_rows = options, tuple(dict.fromkeys(published_rows))
        runs = options["runs"]
        self.rows = [row for row in every if row.header.run_id in runs]
        self.shown = self.rows if options.get("all_runs") else select_newest(self.rows)
        cpus = [row for row in self.published_rows if row.device_kind == "cpu" and row.job_seconds]
        self.published_cpu = max(cpus, key=attrgetter("job_seconds", "processor"), default=None)

    @cached_property
    def by_mark(self) -> dict[tuple[str, str], RawRow]:
        """Rows by the name that lines and marks give them."""
        return {row.mark: row for row in self.rows}

    @cached_property
    def boots(self) -> Mapping[tuple[str, object], list[RunHeader]]:
        """The headers of the shown runs by machine id and boot, in the order in which the table of boots has them."""
        headers = {(row.header.machine.id, row.header.created_at, row.header.run_id): row.header for row in self.shown}
        found: dict[tuple[str, object], list[RunHeader]] = defaultdict(list)
        for _, header in sorted(headers.items()):
            found[header.machine.id, read_boot(header)].append(header)
        return found

    def names_boot(self, row: RawRow, cell: str) -> bool:
        """Check that a first cell names the row's boot exactly if several boots are shown under its machine id."""
        several = sum(machine_id == row.header.machine.id for machine_id, _ in self.boots) > 1
        return several == (to_page_text(mark_boot(row.header))[:SHOWN] in cell)

    def is_base_elsewhere(self, row: RawRow) -> bool:
        """Tell whether the row's speed-up is over a run under its machine id that may have been on another host."""
        base, own = self.find_base(row), row.header
        if base is None or base.header.machine.id != own.machine.id or base.header.run_id == own.run_id:
            return False
        return own.boot_id is None or (own.boot_id, own.machine) != (base.header.boot_id, base.header.machine)

    @cached_property
    def training(self) -> list[RawRow]:
        """Shown rows except matrix products."""
        return [row for row in self.shown if row.job.workload != "gemm"]

    @cached_property
    def _bases(self) -> dict[object, list[RawRow]]:
        """The rows that others are divided by, grouped by work, fastest first."""
        asked = self.options.get("baseline")
        fits = [row for row in self.shown if (row.on_cpu if asked is None else row.is_of(asked))]
        timed = [row for row in fits if row.costs and row.alone and not row.disturbed]
        timed.sort(key=lambda row: (statistics.geometric_mean(row.costs.values()), row.row_key, row.header.run_id))
        return group_rows(timed, self._work)

    def _work(self, row: RawRow) -> object:
        machine = row.header.machine.id if self.options.get("baseline") is None else None
        return machine, row.job.work_key, row.protocol

    def find_base(self, row: RawRow) -> RawRow | None:
        """Find the row that the speed-up is over; if every run is listed, the row's own run comes first."""
        if not row.costs or not row.alone:
            return None
        bases = self._bases.get(self._work(row), [])
        own = [base for base in bases if self.options.get("all_runs") and base.header.run_id == row.header.run_id]
        return next(iter(own or bases), None)

    @cached_property
    def _products(self) -> dict[object, list[RawRow]]:
        """The matrix products of all runs by place, including runs that a newer one hides."""
        products = (row for row in self.rows if row.job.workload == "gemm" and row.trials and row.flops)
        return group_rows((row for row in products if row.job.copies == 1), _product_place)

    def best_product(self, row: RawRow) -> RawRow | None:
        """Find the matrix product to divide the row's rate by; None if neither its run nor its boot has one."""
        here, own = self._products.get(_product_place(row), []), row.header
        here = [each for each in here if not each.disturbed]
        in_run, in_boot = attrgetter("run_id", "machine.id"), attrgetter("boot_id", "machine")
        same = [each for each in here if in_run(each.header) == in_run(own)]
        if not same and own.boot_id is not None and row.job.workload != "gemm":
            same = [each for each in here if in_boot(each.header) == in_boot(own)]
        rates = {each: (each.flops or 0) / statistics.geometric_mean(each.steps) for each in same}
        return max(rates, key=lambda each: (rates[each], each.row_key, each.header.run_id), default=None)

    def has_disturbed_product(self, row: RawRow) -> bool:
        """Tell whether the row's own run has a matrix product that an unfit machine measured."""
        here = (each for each in self._products.get(_product_place(row), []) if each.disturbed)
        return any(
            (each.header.run_id, each.header.machine.id) == (row.header.run_id, row.header.machine.id) for each in here
        )

    def ceiling(self, row: RawRow) -> RawRow | None:
        """Find the product that is the row's measured peak; None if its processes differ too much."""
        best = self.best_product(row) if row.trials and row.job.workload != "gemm" else None
        return best if best is not None and best.apart <= MOST_APART else None

    @cached_property
    def rungs(self) -> dict[RawRow, tuple[RawRow | None, RawRow | None]]:
        """Every rung with the measured one before it and the first, None for the first itself and for an unmeasured one.

        The rungs of a ladder are rows of one run that differ only in how a step is computed.
        """
        found: dict[RawRow, tuple[RawRow | None, RawRow | None]] = {}
        for ladder in group_rows(sorted(self.training, key=_rung), lambda row: self._same_run(row, **PLAIN)).values():
            timed = [row for row in ladder if row.costs]
            if len(timed) > 1:
                found |= dict.fromkeys(ladder, (None, None))
                below: list[RawRow] = []  # what the next rung may be divided by
                for row in timed:
                    found[row] = (below[-1], below[0]) if below else (None, None)
                    below += [] if row.disturbed else [row]
        return found

    @cached_property
    def scaling_bases(self) -> dict[RawRow, RawRow]:
        """The row of one process that each row is divided by, which may be of one process or of several ranks."""
        kept = [row for row in self.training if row.job.copies == 1 and row.costs]
        ordered = sorted(kept, key=lambda each: (count_processors(each), each.row_key))
        # Among rows with equal work the first in order is kept.
        alone = [row for row in reversed(ordered) if row.job.world == 1 and not row.disturbed]
        bases = {self.scaling_work(row, None): row for row in alone}
        return {row: base for row in kept if (base := bases.get(self.scaling_work(row, row.job.scaling))) is not None}

    def scaling_work(self, row: RawRow, scaling: str | None) -> object:
        """Make the key that a row shares with its base, which has the batch of one rank (`weak`) or of all ranks."""
        batch = row.job.batch_size // row.job.world if scaling == "weak" else row.job.batch_size
        return self._same_run(row, world=1, scaling=None, nodes=1, threads=None, batch_size=batch)

    def _same_run(self, row: RawRow, **same: object) -> object:
        """Make the key that rows of one run share, with the fields that may differ set to the given values."""
        work = row.job.model_copy(update={**same, "seed": 0, "round": 0}).model_dump_json()
        return row.header.run_id, row.header.machine.id, row.protocol, work

    def price(self, row: RawRow) -> float | None:
        """Find the price per hour by the longest key that fits the row's machine and device."""
        place = f"{row.header.machine.id}/{row.job.device}"
        fitting = [(len(key), price) for key, price in self.options.get("prices", ()) if place.startswith(key)]
        return max(fitting, key=itemgetter(0))[1] if fitting else None


def read_boot(header: RunHeader) -> tuple[str | None, str | None, str, int]:
    """Read what tells a run's boot from others of the same model."""
    return header.boot_id, header.host_id, header.machine.kernel, header.machine.memory_bytes


def mark_boot(header: RunHeader) -> str:
    """Write the mark by which a cell names its boot."""
    boot, host, kernel, memory = read_boot(header)
    found = f"boot {boot[:8]}" if boot is not None else "boot unknown"
    found += ", host unknown" if host is None else f", host {host[:4]}"
    return found if boot is not None else f"{found}, kernel {kernel}, {memory:,} bytes"


def describe_step(job: Job, always: tuple[str, ...] = ()) -> str:
    """Describe how a step is computed where it differs from the plain way, and in the fields that are always named."""
    words = {name: str(getattr(job, name)) for name in ("precision", "layout", "execution")}
    words |= {"loader": f"{job.loader}, {job.loader_workers} workers", "division": f"{job.division} division"}
    differs = {name.removesuffix("_workers") for name, plain in PLAIN.items() if getattr(job, name) != plain}
    return ", ".join(text for name, text in words.items() if name in differs or name in always)


def count_processors(row: RawRow) -> int:
    """Count the processors that an efficiency is divided by."""
    return row.job.world * (row.job.threads or 1) if row.job.device == "cpu" else row.job.world


def _product_place(row: RawRow) -> object:
    """Make the key that a row shares with the matrix product that is its ceiling."""
    job = row.job
    threads = job.threads and job.threads * job.world // job.nodes
    software = row.header.software.torch
    return (row.header.machine.id, software, row.protocol, job.device, job.precision, threads, job.allocator)


def _rung(row: RawRow) -> tuple[int, ...]:
    return (*(each.index(getattr(row.job, name)) for name, each in LADDER.items()), row.job.loader_workers)
