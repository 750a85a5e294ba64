"""The rows of a page: which are shown, and which other row a figure of each is divided by."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from operator import attrgetter, itemgetter

from cnnbench.schema import Job, PublishedRow
from cnnbench.verify.raw_rows import PageValues, RawRow, group_rows, select_newest

MOST_APART = 1.5
LADDER: Mapping[str, Sequence[str]] = {
    "division": ("reference", "tuned", "open"),
    "precision": ("fp32", "tf32", "bf16", "fp16"),
    "layout": ("nchw", "nhwc"),
    "execution": ("eager", "compiled", "auto", "fused", "native", "graph", "compiled-graph"),
    "loader": ("resident", "dataloader"),
}
"""The rungs' fields, each with its values from the plain one on."""
PLAIN: Mapping[str, object] = {**{name: values[0] for name, values in LADDER.items()}, "loader_workers": 0}
"""How a step is computed where nothing was changed."""


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
        """Rows by how lines and marks name them."""
        return {row.mark: row for row in self.rows}

    @cached_property
    def training(self) -> list[RawRow]:
        """Shown rows that are no matrix products."""
        return [row for row in self.shown if row.job.workload != "gemm"]

    @cached_property
    def _bases(self) -> dict[object, list[RawRow]]:
        """Whom rows are divided by, fastest first."""
        asked = self.options.get("baseline")
        fits = [row for row in self.shown if (row.on_cpu if asked is None else row.is_of(asked))]
        timed = [row for row in fits if row.costs and row.alone]
        timed.sort(key=lambda row: (statistics.geometric_mean(row.costs.values()), row.row_key, row.header.run_id))
        return group_rows(timed, self._work)

    def _work(self, row: RawRow) -> object:
        machine = row.header.machine.id if self.options.get("baseline") is None else None
        return machine, row.job.work_key, row.protocol

    def find_base(self, row: RawRow) -> RawRow | None:
        """The row that its speed-up is over; where every run is listed, of its own run if there is one."""
        if not row.costs or not row.alone:
            return None
        bases = self._bases.get(self._work(row), [])
        own = [base for base in bases if self.options.get("all_runs") and base.header.run_id == row.header.run_id]
        return next(iter(own or bases), None)

    @cached_property
    def _products(self) -> dict[object, list[RawRow]]:
        """The matrix products of all runs by place, also of those that a newer run hides."""
        products = (row for row in self.rows if row.job.workload == "gemm" and row.trials and row.flops)
        return group_rows((row for row in products if row.job.copies == 1), _product_place)

    def best_product(self, row: RawRow) -> RawRow | None:
        """Find the product that the row's rate is a share of; None if neither its run nor its boot has one."""
        here, own = self._products.get(_product_place(row), []), row.header
        same = [each for each in here if (each.header.run_id, each.header.machine.id) == (own.run_id, own.machine.id)]
        if not same and own.boot_id is not None and row.job.workload != "gemm":
            same = [each for each in here if (each.header.boot_id, each.header.machine) == (own.boot_id, own.machine)]
        rates = {each: (each.flops or 0) / statistics.geometric_mean(each.steps) for each in same}
        return max(rates, key=lambda each: (rates[each], each.row_key, each.header.run_id), default=None)

    def ceiling(self, row: RawRow) -> RawRow | None:
        """The product that is the row's measured peak."""
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
                found |= {row: (before, timed[0]) for before, row in pairwise(timed)}
        return found

    @cached_property
    def scaling_bases(self) -> dict[RawRow, RawRow]:
        """Each row of one job on one process or on ranks, with the row of one process that it is divided by."""
        kept = [row for row in self.training if row.job.copies == 1 and row.costs]
        ordered = sorted(kept, key=lambda each: (count_processors(each), each.row_key))
        # The first of those that share their work is kept.
        bases = {self.scaling_work(row, None): row for row in reversed(ordered) if row.job.world == 1}
        return {row: base for row in kept if (base := bases.get(self.scaling_work(row, row.job.scaling))) is not None}

    def scaling_work(self, row: RawRow, scaling: str | None) -> object:
        """What rows that are divided by one of one process share, if that has the batch of a rank (`weak`) or of all."""
        batch = row.job.batch_size // row.job.world if scaling == "weak" else row.job.batch_size
        return self._same_run(row, world=1, scaling=None, nodes=1, threads=None, batch_size=batch)

    def _same_run(self, row: RawRow, **same: object) -> object:
        """What rows of one run share, the fields of their jobs that may differ set to these."""
        work = row.job.model_copy(update={**same, "seed": 0, "round": 0}).model_dump_json()
        return row.header.run_id, row.header.machine.id, row.protocol, work

    def price(self, row: RawRow) -> float | None:
        """The price an hour of the longest key that fits the row's machine and device."""
        place = f"{row.header.machine.id}/{row.job.device}"
        fitting = [(len(key), price) for key, price in self.options.get("prices", ()) if place.startswith(key)]
        return max(fitting, key=itemgetter(0))[1] if fitting else None


def describe_step(job: Job, always: tuple[str, ...] = ()) -> str:
    """How a step is computed in words, where that is not the plain way, and what is said always."""
    words = {name: str(getattr(job, name)) for name in ("precision", "layout", "execution")}
    words |= {"loader": f"{job.loader}, {job.loader_workers} workers", "division": f"{job.division} division"}
    differs = {name.removesuffix("_workers") for name, plain in PLAIN.items() if getattr(job, name) != plain}
    return ", ".join(text for name, text in words.items() if name in differs or name in always)


def count_processors(row: RawRow) -> int:
    """What its efficiency is over."""
    return row.job.world * (row.job.threads or 1) if row.job.device == "cpu" else row.job.world


def _product_place(row: RawRow) -> object:
    """What a product and a row share where the one is the other's ceiling."""
    job = row.job
    threads = job.threads and job.threads * job.world // job.nodes
    software = row.header.software.torch
    return (row.header.machine.id, software, row.protocol, job.device, job.precision, threads, job.allocator)


def _rung(row: RawRow) -> tuple[int, ...]:
    return (*(each.index(getattr(row.job, name)) for name, each in LADDER.items()), row.job.loader_workers)
