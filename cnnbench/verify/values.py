"""Every value of a page by its name, with how it is derived a second time from the ledgers.

A value that no function here is named after is a finding of the audit: whoever adds a figure declares it where it is
printed and derives it again here, by other code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnbench.machine import peaks
from cnnbench.schema import PublishedRow, digest
from cnnbench.verify import figures, intervals, learning
from cnnbench.verify.figures import FIGURES
from cnnbench.verify.intervals import DerivedFigure
from cnnbench.verify.raw_rows import RawRow, RawValue, may_be_called, to_page_text
from cnnbench.verify.view import PageView

JOB_FIELDS = (
    *("task", "layout", "execution", "loader", "loader_workers", "optimizer", "init", "pool", "activation"),
    *("target", "evaluate_every"),
)
"""Fields of the job that a file has beside a row where one of its rows is computed another way than the plain one."""
ENDS = ("", "_low", "_high", "_n")


@dataclass(frozen=True)
class ValueSubject:
    """What a value is of: a table's line or a chart's mark with the rows it is made of."""

    view: PageView
    place: str
    """The table's or the chart's key."""
    row: RawRow | None = None
    plain: RawRow | None = None
    """The row that the first is compared with."""
    published: PublishedRow | None = None
    printed: Mapping[str, Any] = field(default_factory=dict)
    """All values that the line or the mark has, by name: which epoch or seed it is of."""

    @property
    def own(self) -> RawRow:
        """The raw row. Raises LookupError where there is none."""
        if self.row is None:
            raise LookupError("it names no raw row")
        return self.row

    def count(self, name: str) -> int:
        """A whole number that the line has. Raises LookupError where it has none."""
        value = self.printed.get(name)
        if not isinstance(value, int | float):
            raise LookupError(f"it names no {name}")
        return int(value)

    def figure(self, name: str) -> DerivedFigure | None:
        """A figure of the row, derived once however often it is printed."""
        if self.published is not None:
            return figures.published_figures(self.view, self.published).get(name)
        if name in LINE_FIGURES:
            return LINE_FIGURES[name](self)
        known, key = self.view.figures, (id(self.own), name)
        if key not in known:
            known[key] = FIGURES[name](self.view, self.own) if self.own.trials or name.endswith("_to_target") else None
        return known[key]


Derivation = Callable[[ValueSubject], RawValue]


def _each_trial(of: Callable[[Any], int | None]) -> Derivation:
    """The largest of all processes: memory is a high-water mark, never a sum."""
    return lambda subject: max(
        (value for _, trial in subject.own.trials if (value := of(trial.memory)) is not None), default=None
    )


def _job(name: str) -> Derivation:
    return lambda subject: getattr(subject.own.job, name)


def _mfu(subject: ValueSubject) -> float | None:
    rate, peak = subject.figure("achieved_flops_per_second"), figures.theoretical_peak(subject.own)
    return None if rate is None or not peak else rate.value / peak


def _peak_origin(subject: ValueSubject) -> str | None:
    """The arithmetic and the source of a theoretical peak."""
    row = subject.own
    if row.device is None:
        return None
    peak = peaks.theoretical_peak(row.device, row.header.machine, row.job.precision)
    return "; ".join(part for part in (peak.formula, peak.source) if part) or None


def _job_kind(subject: ValueSubject) -> str | None:
    job = subject.own.job
    whole = "projected" if job.job_steps is not None else None
    return {"job": "measured", "recipe": "measured", "accuracy": "to target", "steady": whole}[job.clock]


def name_processor(row: RawRow, printed: object) -> str:
    """The printed name where the row may be called so, else its full one."""
    name = str(printed)
    return name if may_be_called(row.full_name, name) else row.full_name


def baseline(subject: ValueSubject) -> str | None:
    """The processor and the threads of the row that the speed-up is over."""
    base = subject.view.find_base(subject.own)
    if base is None:
        return None
    n = base.job.threads
    threads = "" if n is None else f", {n} thread" if n == 1 else f", {n} threads"
    return name_processor(base, str(subject.printed.get("baseline")).removesuffix(threads)) + threads


def outcomes(row: RawRow) -> list[str]:
    """How the processes ended, `ok` first and those that were not run last."""
    statuses = Counter(record.outcome.status for record in row.records)
    planned, good = statuses.total() + row.unstarted, statuses.pop("ok", 0)
    parts = [f"ok {good}/{planned}"] if good else []
    parts += [f"{name} {n} of {planned}" for name, n in sorted(statuses.items())]
    return parts + ([f"not run {row.unstarted} of {planned}"] if row.unstarted else [])


def _accuracy_steps(subject: ValueSubject) -> int | None:
    after = [trial.test.after_steps for _, trial in subject.own.trials if trial.test]
    return max(after) if after and subject.figure("test_accuracy") is not None else None


def _accuracy_data(subject: ValueSubject) -> str | None:
    found = next((trial.accuracy_data for _, trial in subject.own.trials if trial.test), None) or subject.own.job.data
    return found if _accuracy_steps(subject) is not None else None


def _floor(kind: str) -> Derivation:
    return lambda subject: figures.floors(subject.view, subject.own).get(kind)


def _allows(kind: str) -> Derivation:
    """How many times faster a floor would allow."""

    def derive(subject: ValueSubject) -> float | None:
        floor, step = figures.floors(subject.view, subject.own).get(kind), figures.step_mean(subject.own)
        return None if floor is None or step is None else step / floor

    return derive


def _is_best_product(subject: ValueSubject) -> bool:
    best = subject.view.best_product(subject.own)
    return best is not None and best.usable and best.row is subject.own


def _to_target(of: Callable[[Any], float], whole: bool) -> Derivation:
    """Over the seeds that reached the target; `whole` asks that all did."""

    def derive(subject: ValueSubject) -> float | None:
        times, every = figures.times_to_target(subject.own)
        return of(times) if times and (every or not whole) else None

    return derive


def _seed(of: Callable[[RawRow, Any], RawValue]) -> Derivation:
    """Of the one seed that the line is of."""

    def derive(subject: ValueSubject) -> RawValue:
        trial = learning.seed_trial(subject.own, subject.printed.get("seed"))
        if trial is None:
            raise LookupError(f"the row has no seed {subject.printed.get('seed')}")
        return of(subject.own, trial)

    return derive


def curves_until(subject: ValueSubject) -> tuple[learning.AccuracyCurves, int]:
    """What each process had right after each epoch, and the epoch that the line is of; without a row, the one accuracy that
    the page was asked for. Raises LookupError where the records have no such epoch.
    """
    epoch, asked = subject.count("epoch"), subject.view.options.get("accuracy")
    closed = (
        [[round(asked * learning.IMAGES)] * learning.MOST_EPOCHS] if subject.row is None and asked is not None else None
    )
    curves = closed or learning.accuracy_curves(subject.own)
    if not 1 <= epoch <= min(map(len, curves), default=0):
        raise LookupError(f"the records have no epoch {epoch}")
    return curves, epoch


def _epoch(of: Callable[[learning.AccuracyCurves, int, int], float]) -> Derivation:
    """After the one epoch that the line is of."""
    return lambda subject: of(*curves_until(subject), subject.view.options.get("sample", 200))


def _stop(of: Callable[[learning.RuleStop], RawValue]) -> Derivation:
    """Of the one process under the stopping rule that the line is of."""

    def derive(subject: ValueSubject) -> RawValue:
        found = learning.find_stops(subject.own).get(subject.count("process"))
        if found is None:
            raise LookupError(f"the records have no such process {subject.printed.get('process')}")
        return of(found)

    return derive


def _true_accuracy(subject: ValueSubject) -> DerivedFigure | None:
    if subject.place == "stopped":
        found = learning.find_stops(subject.own).get(subject.count("process"))
        return None if found is None else found.accuracy
    if subject.row is None:
        return DerivedFigure(curves_until(subject)[0][0][0] / learning.IMAGES)
    return learning.epoch_accuracy(*curves_until(subject))


def _pair(of: Callable[[PageView, RawRow, RawRow], RawValue]) -> Derivation:
    """Of a mode compared with the plain row."""

    def derive(subject: ValueSubject) -> RawValue:
        plain = learning.find_plain(subject.view, subject.own)
        if plain is None or plain is not subject.plain:
            raise LookupError("the mode is not compared with that plain row")
        return of(subject.view, subject.own, plain)

    return derive


def _difference(name: str) -> Derivation:
    """A difference of accuracies as a share."""

    def read_share(view: PageView, row: RawRow, plain: RawRow) -> float | None:
        found = learning.compare(row, plain)
        return None if found is None else float(getattr(found, name)) / learning.IMAGES

    return _pair(read_share)


LINE_FIGURES: Mapping[str, Callable[[ValueSubject], DerivedFigure | None]] = {"true_accuracy": _true_accuracy}
"""Figures that are of less than a row."""
VALUES: Mapping[str, Derivation] = {
    "processor": lambda s: s.own.full_name,
    "machine_id": lambda s: s.own.header.machine.id,
    "run_id": lambda s: s.own.header.run_id,
    "torch": lambda s: f"{s.own.header.software.torch} ({s.own.header.software.torch_build})",
    **{name: _job(name) for name in ("device", "threads", "allocator", "workload", "division", "batch_size", "clock")},
    **{name: _job(name) for name in (*JOB_FIELDS, "precision", "size", "blocks", "block_steps", "warmup_steps")},
    **{name: _job(name) for name in ("copies", "scaling", "world", "nodes")},
    "mode_precision": _job("precision"),
    "rung_precision": _job("precision"),
    "work_key_sha256": lambda s: digest(s.own.work_key),
    "protocol": lambda s: s.own.protocol,
    "year": lambda s: None,
    "source": lambda s: None,
    "printed_flops": lambda s: None,
    "printed_speedup": lambda s: None,
    "peak_flops_per_second": lambda s: figures.theoretical_peak(s.own),
    "peak_kind": lambda s: "theoretical",
    "peak_origin": _peak_origin,
    "measured_peak_run_id": lambda s: None if (found := s.view.ceiling(s.own)) is None else found.header.run_id,
    "is_ceiling": _is_best_product,
    "mfu": _mfu,
    "job_kind": _job_kind,
    "baseline": baseline,
    "host_peak_bytes": _each_trial(lambda memory: memory.host_peak_bytes),
    "device_peak_bytes": _each_trial(lambda memory: memory.device_allocated_peak_bytes),
    "device_reserved_bytes": _each_trial(lambda memory: memory.device_reserved_peak_bytes),
    "device_used_bytes": _each_trial(lambda memory: memory.device_used_bytes),
    "activation_bytes_per_image": lambda s: s.own.workload.activation_bytes_per_image if s.own.workload else None,
    "parameter_bytes": lambda s: s.own.workload.parameter_bytes if s.own.workload else None,
    "net_energy_joules_per_image": lambda s: figures.net_joules(s.own),
    "mean_power_watts": lambda s: figures.mean_watts(s.own),
    "price_per_hour": lambda s: s.view.price(s.own),
    "pretraining_flops_per_second": lambda s: figures.pretraining_rate(s.own),
    "accuracy_after_steps": _accuracy_steps,
    "accuracy_data": _accuracy_data,
    "processes": lambda s: len(s.own.records) + s.own.unstarted,
    "processes_ok": lambda s: len(s.own.trials),
    "outcome": lambda s: ", ".join(outcomes(s.own)),
    "verdict": lambda s: figures.what_binds(s.view, s.own),
    **{f"{kind}_floor_seconds": _floor(kind) for kind in ("compute", "bandwidth", "launch", "input")},
    **{f"{kind}_floor_allows": _allows(kind) for kind in ("compute", "bandwidth", "launch", "input")},
    "slowest_copy": lambda s: to_page_text(figures.slowest_copy(s.own) or "n/a"),
    "seeds": lambda s: len(s.own.records) + s.own.unstarted,
    "seeds_reached": lambda s: len(s.own.trials),
    "seeds_missed": lambda s: sum(record.outcome.status == "missed" for record in s.own.records),
    "mean_seconds_to_target": _to_target(lambda times: sum(times) / len(times), whole=True),
    "fastest_seconds_to_target": _to_target(min, whole=False),
    "slowest_seconds_to_target": _to_target(max, whole=True),
    "seed": lambda s: s.printed.get("seed"),
    "reached_target": _seed(figures.has_reached),
    "clock_seconds": _seed(lambda row, trial: trial.job_seconds),
    "seconds_to_target": _seed(lambda row, trial: trial.job_seconds if figures.has_reached(row, trial) else None),
    "steps_to_target": _seed(lambda row, trial: trial.steps),
    "evaluations": _seed(lambda row, trial: len(trial.epoch_evaluations)),
    "epochs_to_target": _seed(figures.count_epochs),
    "last_accuracy": _seed(lambda row, trial: trial.epoch_evaluations[-1].correct / trial.epoch_evaluations[-1].images),
    "last_correct": _seed(lambda row, trial: trial.epoch_evaluations[-1].correct),
    "last_images": _seed(lambda row, trial: trial.epoch_evaluations[-1].images),
    "epoch": lambda s: s.printed.get("epoch"),
    "chance_all_right": _epoch(learning.mean_chance),
    "chance_stopped": _epoch(learning.mean_chance_stopped),
    "sample_images": lambda s: s.view.options.get("sample", 200),
    "process": lambda s: s.printed.get("process"),
    "stopped.seed": _stop(lambda stop: stop.record.job.seed),
    "stopped_epoch": _stop(lambda stop: stop.epoch),
    "stopped_by_rule": _stop(lambda stop: stop.last.correct == stop.last.images),
    "sample_right": _stop(lambda stop: stop.last.correct),
    "stopped.sample_images": _stop(lambda stop: stop.last.images),
    "mode": lambda s: learning.describe_variant(s.own.job),
    "convergence.seeds": _pair(lambda view, row, plain: len(learning.right_by_seed(row))),
    "plain_seeds": _pair(lambda view, row, plain: len(learning.right_by_seed(plain))),
    "paired": _pair(lambda view, row, plain: bool((found := learning.compare(row, plain)) and found.paired)),
    "failed": _pair(lambda view, row, plain: learning.count_failed(row)),
    "plain_failed": _pair(lambda view, row, plain: learning.count_failed(plain)),
    "mode_accuracy": _pair(lambda view, row, plain: learning.mean_accuracy(row)),
    "mode_accuracy_sd": _pair(lambda view, row, plain: learning.accuracy_spread(row)),
    "plain_accuracy": _pair(lambda view, row, plain: learning.mean_accuracy(plain)),
    "plain_accuracy_sd": _pair(lambda view, row, plain: learning.accuracy_spread(plain)),
    "difference": _difference("value"),
    "difference_low": _difference("low"),
    "difference_high": _difference("high"),
    "difference_of_medians": _difference("medians"),
    "loss_allowed": _pair(lambda view, row, plain: learning.loss_allowed(view, row)),
    "convergence.verdict": _pair(learning.classify),
    "by_rule": _pair(lambda view, row, plain: learning.decided_by_rule(row, plain)),
    "seeds_to_decide": _pair(learning.seeds_needed),
}
"""Values without an interval, by name; `table.name` where a table means something else by the name."""


def published_value(row: PublishedRow, name: str) -> RawValue:
    """A published row's value by name, None where its source has none."""
    known: dict[str, RawValue] = {
        **{"processor": row.processor, "year": row.year, "source": row.source},
        "peak_flops_per_second": row.printed_flops_per_second,
        "peak_kind": None if row.printed_flops_per_second is None else "printed",
        **{"printed_flops": row.printed_flops_text, "job_kind": "published", "printed_speedup": row.printed_speedup},
    }
    return known.get(name)


def derive(name: str, subject: ValueSubject) -> RawValue:
    """Derive a value again. Raises KeyError for a name without a derivation, LookupError where the records have none such."""
    end = next((end for end in ENDS[1:] if name.removesuffix(end) in FIGURE_NAMES and name.endswith(end)), "")
    if name.removesuffix(end) in FIGURE_NAMES:
        figure = subject.figure(name.removesuffix(end))
        return None if figure is None else getattr(figure, end.removeprefix("_") or "value")
    if subject.published is not None and name in VALUES:
        return published_value(subject.published, name)
    own = f"{subject.place}.{name}"
    return VALUES[own if own in VALUES else name](subject)


FIGURE_NAMES = {*FIGURES, *LINE_FIGURES}


def is_same(printed: object, value: object) -> bool:
    """Whether a page that has this means that: numbers but for the order of a sum."""
    if isinstance(printed, bool) or isinstance(value, bool):
        return printed is value
    if isinstance(printed, int | float) and isinstance(value, int | float):
        return intervals.is_close(printed, value)
    return printed == value
