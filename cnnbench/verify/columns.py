"""The columns of a page: each with its heading, its unit, and its cells' text from the values beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnbench.schema import Job
from cnnbench.verify import figures, formats, learning
from cnnbench.verify.formats import UNKNOWN, FormatNumber, with_details
from cnnbench.verify.raw_rows import RawRow, cut_text, is_same_text, to_page_text
from cnnbench.verify.values import ValueSubject, outcomes

CellText = Callable[[ValueSubject], str]
Details = Callable[[ValueSubject], Iterator[str]]


@dataclass(frozen=True)
class ExpectedColumn:
    """What a column is headed, in which unit, and what its cells say."""

    heading: str
    text: CellText
    unit: str = ""


def _interval(subject: ValueSubject, name: str, text: FormatNumber) -> list[str]:
    low, high = subject.printed.get(f"{name}_low"), subject.printed.get(f"{name}_high")
    return [] if low is None or high is None else [formats.span(low, high, text)]


def _n(subject: ValueSubject, name: str) -> str:
    return f"n={subject.printed.get(f'{name}_n')}"


def exact(name: str, text: FormatNumber, details: Details | None = None, *, unknown: str = UNKNOWN) -> CellText:
    """A number by itself, or with further details."""

    def write(subject: ValueSubject) -> str:
        value = subject.printed.get(name)
        if value is None:
            return unknown
        return with_details(text(value), list(details(subject)) if details else ())

    return write


def with_interval(name: str, text: FormatNumber) -> CellText:
    """A number with its interval and n; of a published row alone."""
    return exact(name, text, lambda s: iter(() if s.published else (*_interval(s, name, text), _n(s, name))))


def _projected(subject: ValueSubject) -> str:
    return "~" if subject.published is None and subject.own.job.clock == "steady" else ""


def _marked(text: CellText) -> CellText:
    """The mark of a projection before a figure."""
    return lambda subject: words if (words := text(subject)) == UNKNOWN else _projected(subject) + words


def _job_time(subject: ValueSubject) -> str:
    name, text = "job_seconds", formats.duration
    if subject.published is not None:
        return exact(name, text)(subject).removesuffix(".0")

    def details(subject: ValueSubject) -> Iterator[str]:
        yield from _interval(subject, name, text)
        yield f"{subject.printed.get('job_kind')}, {_n(subject, name)}"

    return _marked(exact(name, text, details))(subject)


def _speedup(subject: ValueSubject) -> str:
    if subject.view.find_base(subject.own) is subject.own:
        return exact("speedup", formats.ratio, lambda s: iter(("baseline", _n(s, "speedup"))))(subject)
    return with_interval("speedup", formats.ratio)(subject)


def _accuracy(subject: ValueSubject) -> Iterator[str]:
    after = [trial.test.after_steps for _, trial in subject.own.trials if trial.test]
    yield from _interval(subject, "test_accuracy", formats.percent(2))
    yield f"after {' to '.join(formats.count(each) for each in dict.fromkeys((min(after), max(after))))} steps"
    if subject.printed.get("accuracy_data") == "synthetic":
        yield "SYNTHETIC digits"


def _energy(subject: ValueSubject) -> Iterator[str]:
    windows, net = figures.energy_windows(subject.own), subject.printed.get("net_energy_joules_per_image")
    uncertain = max(each.tick_seconds / each.window_seconds for each in windows)
    yield f"net {UNKNOWN if net is None else formats.joules(net)}"
    yield f"{subject.printed.get('mean_power_watts'):.0f} W"
    yield f"±{formats.percent(1)(uncertain)} by {cut_text(windows[0].source)}"


def _floor(kind: str) -> ExpectedColumn:
    allows = f"{kind}_floor_allows"
    details: Details = lambda s: iter((f"allows {formats.ratio(s.printed[allows])}",))  # noqa: E731
    return ExpectedColumn(f"{kind} floor", exact(f"{kind}_floor_seconds", formats.seconds, details))


def _pretraining(subject: ValueSubject) -> Iterator[str]:
    rate = subject.printed.get("pretraining_flops_per_second")
    if rate is not None:
        yield f"{formats.giga(rate)} GFLOP/s"
    yield _n(subject, "pretraining_seconds")


def _median(name: str, text: FormatNumber) -> CellText:
    """A median whose upper end may lie beyond the epoch limit."""

    def details(subject: ValueSubject) -> Iterator[str]:
        low, high = subject.printed.get(f"{name}_low"), subject.printed.get(f"{name}_high")
        yield from _interval(subject, name, text)
        if low is not None and high is None:
            yield f"from {text(low)} on"
        yield _n(subject, name)

    return exact(name, text, details)


def _over_rung(name: str) -> CellText:
    return lambda s: with_interval(name, formats.ratio)(s) if s.printed.get(name) else "" if s.own.costs else UNKNOWN


def _step_words(job: Job) -> list[str]:
    usual = (job.loader, job.loader_workers) == ("resident", 0)
    words: list[str] = [job.precision, job.layout, job.execution]
    words += [] if usual else [f"{job.loader}, {job.loader_workers} workers"]
    return words + ([] if job.division == "reference" else [f"{job.division} division"])


def _mode(subject: ValueSubject) -> str:
    job = subject.own.job
    training = " ".join(to_page_text(name) for name in (job.optimizer, job.init) if name) or "no optimiser"
    network = [*([f"{job.pool} pooling"] if job.pool else []), *([job.activation] if job.activation else [])]
    return ", ".join([*_step_words(job), training, *network])


def _seeds_reached(subject: ValueSubject) -> str:
    row = subject.own
    ended = Counter(record.outcome.status for record in row.records)
    good, planned = ended.pop("ok", 0), len(row.records) + row.unstarted
    others = [f"{n} {name}" for name, n in sorted(ended.items())]
    return with_details(f"{good} of {planned}", others + ([f"{row.unstarted} not run"] if row.unstarted else []))


def why_not(row: RawRow) -> str:
    """What the processes of a rung without a time said, each once."""
    ordered = sorted(row.records, key=lambda record: (record.job.round, record.index))
    said = [each.outcome.message for each in ordered if each.outcome.status != "ok" and each.outcome.message]
    return "" if row.costs else "; ".join(dict.fromkeys(said))


def _outcome(subject: ValueSubject) -> str:
    first, *others = outcomes(subject.own)
    return with_details(first, others)


def _stop_epoch(subject: ValueSubject) -> Iterator[str]:
    if not subject.printed.get("stopped_by_rule"):
        yield "its last; never all right"


def _seeds_compared(subject: ValueSubject) -> str:
    printed = subject.printed
    details = ["the same"] * bool(printed["paired"])
    details += [f"{printed['failed']} did not"] * bool(printed["failed"])
    details += [f"{printed['plain_failed']} of the plain did not"] * bool(printed["plain_failed"])
    return with_details(f"{printed['seeds']} and {printed['plain_seeds']}", details)


def _side_accuracy(name: str) -> CellText:
    def details(subject: ValueSubject) -> Iterator[str]:
        spread = subject.printed.get(f"{name}_sd")
        if spread is not None:
            yield f"SD {formats.loss(spread)}"

    return exact(name, formats.percent(3), details)


def _verdict(subject: ValueSubject) -> str:
    printed, needed = subject.printed, subject.printed.get("seeds_to_decide")
    details = ["by the seeds that did not learn"] if printed["by_rule"] else []
    if not details and printed["verdict"] == "undecided":
        seeds = f"more than {learning.MOST_SEEDS:,}" if needed is None else f"about {needed:,}"
        details = [f"{seeds} seeds would tell"]
    return with_details(str(printed["verdict"]), details)


def _word(name: str) -> CellText:
    return lambda subject: str(subject.printed.get(name))


def _size(name: str) -> CellText:
    return exact(name, formats.size)


_PERCENT = formats.percent(2)
COLUMNS: Mapping[str, ExpectedColumn] = {
    "precision": ExpectedColumn("precision", lambda s: s.own.job.precision),
    "peak": ExpectedColumn("theoretical", exact("peak_flops_per_second", formats.giga), "GFLOP/s"),
    "ceiling": ExpectedColumn("measured peak", exact("measured_peak_flops_per_second", formats.giga), "GFLOP/s"),
    "achieved": ExpectedColumn("achieved", exact("achieved_flops_per_second", formats.giga), "GFLOP/s"),
    "mfu": ExpectedColumn("MFU", exact("mfu", formats.percent(1)), "theor."),
    "of_ceiling": ExpectedColumn("of peak", with_interval("share_of_measured_peak", formats.percent(0)), "measured"),
    "job": ExpectedColumn("time of the job", _job_time, "h:mm:ss"),
    "speedup": ExpectedColumn("speed-up over {baseline}", _speedup),
    "versus": ExpectedColumn(
        "over {year}'s {published}", _marked(with_interval("speedup_over_reference", formats.ratio))
    ),
    "images": ExpectedColumn("images", exact("images_per_second", formats.rate), "/s"),
    "host_peak": ExpectedColumn("host peak", _size("host_peak_bytes")),
    "device_peak": ExpectedColumn("device peak", _size("device_peak_bytes")),
    "device_reserved": ExpectedColumn("device reserved", _size("device_reserved_bytes")),
    "device_used": ExpectedColumn("device used", _size("device_used_bytes")),
    "activations": ExpectedColumn("activations an image", _size("activation_bytes_per_image")),
    "parameters": ExpectedColumn("parameters", _size("parameter_bytes")),
    "accuracy": ExpectedColumn("test accuracy", exact("test_accuracy", _PERCENT, _accuracy)),
    "outcome": ExpectedColumn("outcome", _outcome),
    "energy": ExpectedColumn("energy an image", exact("energy_joules_per_image", formats.joules, _energy)),
    "cold_start": ExpectedColumn("cold start", exact("cold_start_seconds", formats.seconds)),
    "step": ExpectedColumn("one step", exact("step_seconds", formats.seconds)),
    "verdict": ExpectedColumn("what binds", _word("verdict")),
    **{kind: _floor(kind) for kind in ("compute", "bandwidth", "launch", "input")},
    "size": ExpectedColumn("size", exact("size", formats.count)),
    "gemm.achieved": ExpectedColumn("measured", with_interval("achieved_flops_per_second", formats.giga), "GFLOP/s"),
    "gemm.ceiling": ExpectedColumn("", lambda s: "ceiling" if s.printed.get("is_ceiling") else ""),
    "products": ExpectedColumn(
        "blocks x products after warm-up",
        lambda s: f"{s.own.job.blocks} x {s.own.job.block_steps} after {s.own.job.warmup_steps}",
    ),
    "job_energy": ExpectedColumn("energy of the job", exact("job_energy_joules", formats.joules)),
    "price": ExpectedColumn("price an hour", exact("price_per_hour", lambda value: f"{value:,.12g}"), "{currency}"),
    "cost": ExpectedColumn("cost of the job", _marked(with_interval("job_cost", formats.money)), "{currency}"),
    "pretraining": ExpectedColumn(
        "pretraining", exact("pretraining_seconds", formats.seconds, _pretraining, unknown="")
    ),
    "mode": ExpectedColumn("mode", _mode),
    "target": ExpectedColumn(
        "target", lambda s: UNKNOWN if s.own.job.target is None else f"{100 * s.own.job.target:g} %"
    ),
    "seeds": ExpectedColumn("seeds that reached it", _seeds_reached),
    "median": ExpectedColumn("median time", _median("median_seconds_to_target", formats.number), "s"),
    "mean": ExpectedColumn("mean time", exact("mean_seconds_to_target", formats.number), "s"),
    "fastest": ExpectedColumn("fastest", exact("fastest_seconds_to_target", formats.number), "s"),
    "slowest": ExpectedColumn("slowest", exact("slowest_seconds_to_target", formats.number), "s"),
    "median_steps": ExpectedColumn("median steps", _median("median_steps_to_target", formats.count)),
    "median_epochs": ExpectedColumn("median epochs", _median("median_epochs_to_target", formats.number)),
    "seed": ExpectedColumn("seed", _word("seed")),
    "reached": ExpectedColumn("ended", lambda s: "reached" if s.printed.get("reached_target") else "missed"),
    "seconds": ExpectedColumn("time to target", exact("seconds_to_target", formats.number), "s"),
    "steps": ExpectedColumn("steps", exact("steps_to_target", formats.count)),
    "epochs": ExpectedColumn("epochs", exact("epochs_to_target", formats.number)),
    "last": ExpectedColumn("last accuracy", exact("last_accuracy", _PERCENT)),
    "rung": ExpectedColumn("rung", lambda s: ", ".join(_step_words(s.own.job))),
    "over_before": ExpectedColumn("speed over the one before", _over_rung("speed_over_rung_before")),
    "over_first": ExpectedColumn("speed over the first", _over_rung("speed_over_first_rung")),
    "why_not": ExpectedColumn("why not", lambda s: why_not(s.own)),
    "scaling": ExpectedColumn("scaling", lambda s: s.own.job.scaling or "one process"),
    "scaled": ExpectedColumn("scaled", with_interval("scaling_speedup", formats.ratio)),
    "efficiency": ExpectedColumn("efficiency", with_interval("scaling_efficiency", formats.percent(1))),
    "exchange": ExpectedColumn("exchange", with_interval("exchange_share", formats.percent(1))),
    "started": ExpectedColumn("launch", exact("launch_seconds", formats.seconds)),
    "copies": ExpectedColumn("copies", exact("copies", formats.count)),
    "median_copy": ExpectedColumn("median copy", exact("median_copy_seconds", formats.seconds)),
    "slowest_copy": ExpectedColumn("slowest copy", _word("slowest_copy")),
    "over_median": ExpectedColumn("slowest over median", with_interval("slowest_over_median", formats.ratio)),
    "epoch": ExpectedColumn("epoch", exact("epoch", formats.count)),
    "true_accuracy": ExpectedColumn(
        "accuracy on all 10,000",
        lambda s: (exact if s.row is None else with_interval)("true_accuracy", _PERCENT)(s),
    ),
    "all_right": ExpectedColumn("chance that {sample} are all right", exact("chance_all_right", formats.chance)),
    "stopped": ExpectedColumn("chance of having stopped by then", exact("chance_stopped", formats.chance)),
    "process": ExpectedColumn("process", exact("process", formats.count)),
    "stopped_epoch": ExpectedColumn("stopped after epoch", exact("stopped_epoch", formats.count, _stop_epoch)),
    "sample": ExpectedColumn(
        "right of the sample", lambda s: f"{s.printed['sample_right']:,} of {s.printed['sample_images']:,}"
    ),
    "stopped.true_accuracy": ExpectedColumn(
        "accuracy on all 10,000",
        exact("true_accuracy", _PERCENT, lambda s: iter(_interval(s, "true_accuracy", _PERCENT))),
    ),
    "convergence.mode": ExpectedColumn("mode", _word("mode")),
    "convergence.seeds": ExpectedColumn("seeds that learned", _seeds_compared),
    "mode_accuracy": ExpectedColumn("test accuracy", _side_accuracy("mode_accuracy")),
    "plain_accuracy": ExpectedColumn("of the plain mode", _side_accuracy("plain_accuracy")),
    "difference": ExpectedColumn(
        "difference of means",
        exact("difference", formats.points, lambda s: iter(_interval(s, "difference", formats.points))),
    ),
    "of_medians": ExpectedColumn("of medians", exact("difference_of_medians", formats.points)),
    "margin": ExpectedColumn("loss allowed", exact("loss_allowed", formats.loss)),
    "convergence.verdict": ExpectedColumn("the mode", _verdict),
}
"""Every column by its key; `table.key` where a table has another of that key."""


PUBLISHED: Mapping[str, Sequence[str]] = {
    "peak": ("peak_flops_per_second",),
    "achieved": ("achieved_flops_per_second",),
    "job": ("job_seconds",),
    "versus": ("speedup_over_reference",),
}
"""What a published row has figures for, by column."""


def find_column(table: str, key: str) -> ExpectedColumn | None:
    """The column of that table; None where there are no rules for it."""
    return COLUMNS.get(f"{table}.{key}") or COLUMNS.get(key)


def is_cell_text(table: str, key: str, subject: ValueSubject, printed: str) -> tuple[bool, str]:
    """Whether a cell says what it should, and what that is."""
    if key == "processor":
        row, published = subject.row, subject.published
        name = to_page_text(published.processor) if published else row.full_name if row else ""
        return (row.printed_as(printed) if row else printed == name), name
    column = find_column(table, key)
    if subject.published and not any(name in subject.printed for name in PUBLISHED.get(key, ())):
        return printed in ("", UNKNOWN), UNKNOWN
    expected = column.text(subject) if column is not None else printed
    return printed == expected or (key == "why_not" and is_same_text(printed, expected)), expected
