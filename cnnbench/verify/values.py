"""Every value of a page by its name, with its second derivation from the ledgers.

A value without a derivation here is a finding of the audit: whoever adds a figure declares it where it is printed and
derives it again here, by other code.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from cnnbench.schema import Evaluation, Job, PublishedRow, Record, Trial, digest
from cnnbench.verify import figures, intervals, learning
from cnnbench.verify.intervals import DerivedFigure, NoFigure, known
from cnnbench.verify.raw_rows import (
    MOST_APART,
    PageValues,
    PageView,
    RawRow,
    RawValue,
    describe_step,
    may_be_called,
    to_page_text,
)

Marks = Sequence[PageValues]
ENDS = ("", "_low", "_high", "_n")


@dataclass(frozen=True)
class ValueSubject:
    """What a value belongs to: a table's line or a chart's mark, with its rows."""

    view: PageView
    place: str
    """The table's or the chart's key."""
    row: RawRow | None = None
    plain: RawRow | None = None
    """The row that the first is compared with."""
    published: PublishedRow | None = None
    marks: Marks = ()
    """All marks of a chart."""
    printed: PageValues = field(default_factory=dict)
    """All values of the line or the mark by name; they also name its epoch or seed."""

    @property
    def own(self) -> RawRow:
        """The raw row. Raises LookupError without one."""
        if self.row is None:
            raise LookupError("it names no raw row")
        return self.row

    def figure(self, name: str) -> DerivedFigure | None:
        """Find a figure of the row, derived once however often it is printed."""
        derive_own = ACCURACIES.get(name)
        return derive_own(self) if derive_own else figures.find_figure(self.view, self.own, name)

    @property
    def process(self) -> Record:
        """The row's process with the line's index in the plan, number or seed. Raises LookupError without one."""
        named = next((name for name in ("index", "process", "seed") if name in self.printed), "process")
        for record, _ in self.own.attempts:
            numbers = {"index": record.index, "process": record.job.round + 1, "seed": record.job.seed}
            if numbers[named] == self.printed.get(named):
                return record
        raise LookupError(f"the row has no {named} {self.printed.get(named)}")

    @property
    def trial(self) -> Trial:
        """The measurements of the process."""
        return known(self.process.outcome.trial)

    @property
    def evaluation(self) -> Evaluation:
        """The process's evaluation after the mark's steps; a mark with an interval means the final test.

        Raises LookupError if there is none.
        """
        found = [self.trial.test] if "accuracy_low" in self.printed else self.trial.epoch_evaluations
        for each in found:
            if each is not None and each.after_steps == self.printed["after_steps"]:
                return each
        raise LookupError(f"the process was not evaluated after {self.printed['after_steps']} steps")

    @property
    def last_evaluation(self) -> Evaluation:
        """The process's last evaluation, which uses a sample under the stopping rule."""
        return self.trial.epoch_evaluations[-1]

    @property
    def curves(self) -> learning.AccuracyCurves:
        """Each process's test images right after each epoch up to the line's; without a row, those of the asked accuracy.

        Raises LookupError if the records lack the epoch.
        """
        epoch, asked = self.printed.get("epoch", 0), self.view.options.get("accuracy")
        if self.row is None and asked is not None:
            curves = [[round(asked * learning.IMAGES)] * epoch]
        else:
            curves = learning.accuracy_curves(self.own)
        if not 1 <= epoch <= min(map(len, curves), default=0):
            raise LookupError(f"the records have no epoch {epoch}")
        return [curve[:epoch] for curve in curves]

    @property
    def sample(self) -> int:
        """Images that the stopping rule draws."""
        return int(self.view.options.get("sample", 200))

    @property
    def compared(self) -> tuple[RawRow, RawRow]:
        """The mode and the plain row that it is compared with. Raises LookupError if the line names another."""
        found = learning.find_plain(self.view, self.own)
        if found is None or found is not self.plain:
            raise LookupError("the mode is not compared with that plain row")
        return self.own, found


def find_subject(
    view: PageView, place: str, printed: PageValues, rows: Sequence[Sequence[str]], marks: Marks = ()
) -> ValueSubject | None:
    """Find the subject of a line or mark by the raw rows it names, else by its published processor; None if unknown."""
    found = [view.by_mark.get((run, row)) for run, row in rows]
    named = (row for row in view.published_rows if row.processor == printed.get("processor"))
    published = None if found else next(named, None)
    if None in found or not (found or published or view.options.get("accuracy") is not None):
        return None
    row, plain = (*found, None, None)[:2]
    return ValueSubject(view, place, row, plain, published, marks, printed)


Derivation = Callable[[ValueSubject], RawValue]


def _largest(name: str) -> Derivation:
    """Make the rule of the largest value over processes: memory is a high-water mark, never a sum."""

    def derive(subject: ValueSubject) -> int | None:
        known = (getattr(trial.memory, name) for trial in subject.own.good_trials)
        return max((value for value in known if value is not None), default=None)

    return derive


def _find_peak(subject: ValueSubject) -> float:
    return known(figures.find_peak(subject.own).flops_per_second) * subject.own.devices


def _job_kind(subject: ValueSubject) -> str | None:
    job = subject.own.job
    projected = "projected" if job.job_steps is not None else None
    return {"steady": projected, "accuracy": "to target"}.get(job.clock, "measured")


def _baseline(subject: ValueSubject) -> str:
    """Write processor and threads of the row that the speed-up is over; the name may be shortened."""
    base = known(subject.view.find_base(subject.own))
    n = base.job.threads
    threads = "" if n is None else f", {n} thread{'s' if n > 1 else ''}"
    printed = str(subject.printed.get("baseline")).removesuffix(threads)
    return (printed if may_be_called(base.full_name, printed) else base.full_name) + threads


def outcomes(row: RawRow) -> list[str]:
    """Write how the processes ended, `ok` first and `not run` last."""
    planned, good = row.ended.total(), row.ended["ok"]
    others = [f"{name} {n} of {planned}" for name, n in row.ended.items() if name != "ok"]
    return ([f"ok {good}/{planned}"] if good else []) + others


def _floor(kind: str) -> Callable[[ValueSubject], float | None]:
    return lambda subject: figures.floors(subject.view, subject.own).get(kind)


def _allows(kind: str) -> Derivation:
    """Make the rule that divides the step time by a floor."""
    return lambda s: known(s.figure("step_seconds")).value / known(_floor(kind)(s))


def _what_binds(subject: ValueSubject) -> str:
    """Name the largest floor, and check that it is at least half the step."""
    found, step = figures.floors(subject.view, subject.own), subject.figure("step_seconds")
    if step is None or "compute" not in found:
        return "n/a"
    kind = max(found, key=found.__getitem__)
    return f"{kind}-bound" if found[kind] >= 0.5 * step.value else f"nearest: {kind}"


def _to_target(of: Callable[[Any], float], whole: bool) -> Derivation:
    """Make a rule over the times of seeds that reached the target; with `whole` it gives None unless all did."""

    def derive(subject: ValueSubject) -> float | None:
        seeds = figures.seeds_to_target(subject.own)
        times = [trial.job_seconds or math.inf for trial, good in seeds if good]
        return of(times) if times and not (whole and len(times) < len(seeds)) else None

    return derive


def _true_accuracy(subject: ValueSubject) -> DerivedFigure:
    if subject.place == "stopped":
        test = known(subject.trial.test)
        if (test.images, test.after_steps) != (learning.IMAGES, subject.last_evaluation.after_steps):
            raise NoFigure
        return intervals.wilson(test.correct, test.images)
    last = [curve[-1] for curve in subject.curves]
    exact = DerivedFigure(last[0] / learning.IMAGES)
    return exact if subject.row is None else intervals.accuracy(last, learning.IMAGES)


ACCURACIES: Mapping[str, Callable[[ValueSubject], DerivedFigure]] = {
    "accuracy": lambda s: intervals.wilson(s.evaluation.correct, s.evaluation.images),
    "true_accuracy": _true_accuracy,
}
"""Accuracies of single processes, or of all processes that evaluated every image after each epoch."""


def _difference(name: str) -> Derivation:
    """Make the rule that reads a difference of accuracies as a share."""

    return lambda s: float(getattr(known(learning.compare(*s.compared)), name)) / learning.IMAGES


def _find_seed(subject: ValueSubject, side: int) -> float | None:
    """Find the accuracy of the line's seed on one side, as a share. Raises LookupError where neither side has the seed."""
    right = [learning.right_by_seed(row).get(subject.printed["seed"]) for row in subject.compared]
    if right == [None, None]:
        raise LookupError(f"neither row learned with seed {subject.printed['seed']}")
    own = right[side]
    return None if own is None else own / learning.IMAGES


def _part(name: str, end: str) -> Derivation:
    """Make the rule that reads a figure, an end of its interval, or its number of processes."""
    part = end.removeprefix("_") or "value"
    return lambda s: getattr(s.figure(name), part, None)


VALUES: Mapping[str, Derivation] = {
    **{name: attrgetter(f"own.job.{name}") for name in Job.model_fields},
    **{f"{name}{end}": _part(name, end) for name in (*figures.FIGURES, *ACCURACIES) for end in ENDS},
    "processor": attrgetter("own.full_name"),
    **dict.fromkeys(("machine_id", "machine"), attrgetter("own.header.machine.id")),
    **{name: attrgetter(f"own.header.{name}") for name in ("boot_id", "host_id")},
    "kernel": attrgetter("own.header.machine.kernel"),
    **dict.fromkeys(("run_id", "run"), attrgetter("own.header.run_id")),
    "row": lambda s: s.own.mark[1],
    "unfit": lambda s: len(s.own.disturbed),
    "torch": lambda s: f"{s.own.header.software.torch} ({s.own.header.software.torch_build})",
    **dict.fromkeys(("mode_precision", "rung_precision"), attrgetter("own.job.precision")),
    "work_key_sha256": lambda s: digest(s.own.job.work_key),
    "protocol": attrgetter("own.protocol"),
    **dict.fromkeys(("year", "source", "printed_flops", "printed_speedup"), lambda s: None),
    "peak_flops_per_second": _find_peak,
    "peak_kind": lambda s: "theoretical",
    "peak_origin": lambda s: "; ".join(filter(None, ((peak := figures.find_peak(s.own)).formula, peak.source))) or None,
    "measured_peak_run_id": lambda s: known(s.view.ceiling(s.own)).header.run_id,
    "is_ceiling": lambda s: s.view.best_product(s.own) is s.own and s.own.apart <= MOST_APART,
    "mfu": lambda s: known(s.figure("achieved_flops_per_second")).value / _find_peak(s),
    "job_kind": _job_kind,
    "baseline": _baseline,
    "host_peak_bytes": _largest("host_peak_bytes"),
    "device_peak_bytes": _largest("device_allocated_peak_bytes"),
    "device_reserved_bytes": _largest("device_reserved_peak_bytes"),
    "device_used_bytes": _largest("device_used_bytes"),
    "activation_bytes_per_image": lambda s: known(s.own.workload).activation_bytes_per_image,
    "parameter_bytes": lambda s: known(s.own.workload).parameter_bytes,
    "net_energy_joules_per_image": lambda s: figures.net_joules(s.own),
    **dict.fromkeys(("mean_power_watts", "watts"), lambda s: figures.mean_watts(s.own)),
    "price_per_hour": lambda s: s.view.price(s.own),
    "pretraining_flops_per_second": lambda s: figures.pretraining_rate(s.own),
    "accuracy_after_steps": lambda s: (
        max(test.after_steps for test, _ in s.own.tests) if s.figure("test_accuracy") else None
    ),
    "accuracy_data": lambda s: (s.own.tests[0][1] or s.own.job.data) if s.figure("test_accuracy") else None,
    **dict.fromkeys(("processes", "seeds"), lambda s: s.own.ended.total()),
    **dict.fromkeys(("processes_ok", "seeds_reached"), lambda s: len(s.own.trials)),
    "outcome": lambda s: ", ".join(outcomes(s.own)),
    "verdict": _what_binds,
    **{f"{kind}_floor_seconds": _floor(kind) for kind in figures.FLOORS},
    **{f"{kind}_floor_allows": _allows(kind) for kind in figures.FLOORS},
    "slowest_copy": lambda s: to_page_text(figures.slowest_copy(s.own) or "n/a"),
    "seeds_missed": lambda s: s.own.ended["missed"],
    "mean_seconds_to_target": _to_target(statistics.fmean, whole=True),
    "fastest_seconds_to_target": _to_target(min, whole=False),
    "slowest_seconds_to_target": _to_target(max, whole=True),
    "seed": lambda s: s.printed.get("seed"),
    "reached_target": lambda s: figures.has_reached(s.own, s.trial),
    "clock_seconds": attrgetter("trial.job_seconds"),
    "seconds_to_target": lambda s: s.trial.job_seconds if figures.has_reached(s.own, s.trial) else None,
    "steps_to_target": attrgetter("trial.steps"),
    "evaluations": lambda s: len(s.trial.epoch_evaluations),
    "epochs_to_target": lambda s: figures.count_epochs(s.own, s.trial),
    "last_accuracy": lambda s: s.last_evaluation.correct / s.last_evaluation.images,
    **dict.fromkeys(("last_correct", "sample_right"), attrgetter("last_evaluation.correct")),
    **dict.fromkeys(("last_images", "stopped.sample_images"), attrgetter("last_evaluation.images")),
    "epoch": lambda s: s.printed.get("epoch"),
    "chance_all_right": lambda s: statistics.fmean(learning.chance_all_right(each[-1], s.sample) for each in s.curves),
    "chance_stopped": lambda s: statistics.fmean(
        1 - math.prod(1 - learning.chance_all_right(each, s.sample) for each in curve) for curve in s.curves
    ),
    "sample_images": attrgetter("sample"),
    "process": lambda s: s.printed.get("process"),
    "stopped.seed": attrgetter("process.job.seed"),
    "stopped_epoch": lambda s: s.last_evaluation.after_steps // known(s.own.job.steps_per_epoch),
    "stopped_by_rule": lambda s: s.last_evaluation.correct == s.last_evaluation.images,
    "mode": lambda s: describe_step(s.own.job),
    "convergence.seeds": lambda s: len(learning.right_by_seed(s.compared[0])),
    "plain_seeds": lambda s: len(learning.right_by_seed(s.compared[1])),
    "paired": lambda s: bool((found := learning.compare(*s.compared)) and found.paired),
    "failed": lambda s: learning.count_failed(s.compared[0]),
    "plain_failed": lambda s: learning.count_failed(s.compared[1]),
    "mode_accuracy": lambda s: learning.mean_accuracy(s.compared[0]),
    "mode_accuracy_sd": lambda s: learning.accuracy_spread(s.compared[0]),
    "plain_accuracy": lambda s: learning.mean_accuracy(s.compared[1]),
    "plain_accuracy_sd": lambda s: learning.accuracy_spread(s.compared[1]),
    "seed_mode_accuracy": lambda s: _find_seed(s, 0),
    "seed_plain_accuracy": lambda s: _find_seed(s, 1),
    "seed_difference": lambda s: known(_find_seed(s, 0)) - known(_find_seed(s, 1)),
    "difference": _difference("value"),
    "difference_low": _difference("low"),
    "difference_high": _difference("high"),
    "difference_of_medians": _difference("medians"),
    "loss_allowed": lambda s: learning.loss_allowed(s.view, s.own),
    "convergence.verdict": lambda s: learning.classify(s.view, *s.compared),
    "by_rule": lambda s: learning.decided_by_rule(*s.compared),
    "seeds_to_decide": lambda s: learning.seeds_needed(s.view, *s.compared),
}
"""Every value by name; `table.name` where a table means something else by the name."""


def _published_value(view: PageView, row: PublishedRow, name: str) -> RawValue:
    """Find a published row's value by name, None if its source does not give it; n is always 1."""
    seconds, base, peak = row.job_seconds, view.published_cpu, row.printed_flops_per_second
    known: dict[str, RawValue] = {
        **dict(row),
        "job_kind": "published",
        "peak_flops_per_second": peak,
        "peak_kind": None if peak is None else "printed",
        "printed_flops": row.printed_flops_text,
    }
    if seconds:
        known["achieved_flops_per_second"] = row.job_flops / seconds if row.job_flops else None
        known["speedup_over_reference"] = base.job_seconds / seconds if base and base.job_seconds else None
    value = known.get(name.removesuffix("_n"))
    return 1 if name.endswith("_n") and value is not None else value


def derive(name: str, subject: ValueSubject) -> RawValue:
    """Derive a value again. Raises KeyError for a name without a derivation, LookupError if the records lack it."""
    derive_again = VALUES.get(f"{subject.place}.{name}") or VALUES[name]
    if subject.published is not None:
        return _published_value(subject.view, subject.published, name)
    try:
        return derive_again(subject)
    except NoFigure:
        return None


def is_same(printed: object, value: object) -> bool:
    """Compare a printed value with a derived one; numbers may differ by rounding, as sums in another order do."""
    if printed is value:
        return True
    if bool in (type(printed), type(value)):
        return False
    if isinstance(printed, int) and isinstance(value, int):
        return printed == value
    if isinstance(printed, int | float) and isinstance(value, int | float):
        return math.isclose(printed, value, rel_tol=1e-9)
    return printed == value


def find_value_errors(printed: PageValues, derive_again: Callable[[str], Any]) -> Iterator[str]:
    """Find the values that differ from the records, by name."""
    for name, value in printed.items():
        try:
            expected = derive_again(name)
        except KeyError:
            yield f"no second derivation of {name}"
        except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
            yield f"{name} is {value!r}, the records lack this figure: {error}"
        else:
            if not is_same(value, expected):
                yield f"{name} is {value!r}, from the records it is {expected!r}"
