"""The columns of a page: each has a heading, a unit, and a rule for the text of its cells from the values beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from cnnbench.verify import figures, formats, learning
from cnnbench.verify.formats import UNKNOWN, find_format, with_details
from cnnbench.verify.raw_rows import cut_text, describe_step, is_same_text, to_page_text
from cnnbench.verify.values import ValueSubject, outcomes

CellText = Callable[[ValueSubject], str]
Details = Callable[[ValueSubject], Iterable[str]]


@dataclass(frozen=True)
class ExpectedColumn:
    """A column's heading, its unit, and the rule for the text of its cells."""

    heading: str
    text: CellText
    unit: str = ""


def _interval(subject: ValueSubject, name: str) -> Iterator[str]:
    """Write the interval of a figure; a median's may have no upper end."""
    low, high = subject.printed.get(f"{name}_low"), subject.printed.get(f"{name}_high")
    write = find_format(name)
    if low is not None:
        yield f"from {write(low)} on" if high is None else formats.span(low, high, write)


def _n(subject: ValueSubject, name: str) -> str:
    return f"n={subject.printed.get(f'{name}_n')}"


def exact(name: str, details: Details = lambda subject: (), *, unknown: str = UNKNOWN) -> CellText:
    """Make the rule of a cell with one number, and further details if any."""

    def write(subject: ValueSubject) -> str:
        value = subject.printed.get(name)
        return unknown if value is None else with_details(find_format(name)(value), list(details(subject)))

    return write


def with_interval(name: str) -> CellText:
    """Make the rule of a cell with a number, its interval and n; a published row has the number alone."""
    return exact(name, lambda s: () if s.published else (*_interval(s, name), _n(s, name)))


def _marked(text: CellText) -> CellText:
    """Make the rule that puts ~ before a projected figure."""

    def write(subject: ValueSubject) -> str:
        words = text(subject)
        projected = words != UNKNOWN and subject.published is None and subject.own.job.clock == "steady"
        return f"~{words}" if projected else words

    return write


def _job_time(subject: ValueSubject) -> str:
    kind = f"{subject.printed.get('job_kind')}, {_n(subject, 'job_seconds')}"
    details = () if subject.published else (*_interval(subject, "job_seconds"), kind)
    # A source gives whole seconds, so its row prints no tenths.
    return _marked(exact("job_seconds", lambda s: details))(subject).removesuffix(".0")


def _speedup(subject: ValueSubject) -> str:
    if subject.view.find_base(subject.own) is subject.own:
        return exact("speedup", lambda s: ("baseline", _n(s, "speedup")))(subject)
    return with_interval("speedup")(subject)


def _accuracy(subject: ValueSubject) -> Iterator[str]:
    after = [test.after_steps for test, _ in subject.own.tests]
    yield from _interval(subject, "test_accuracy")
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
    text = exact(f"{kind}_floor_seconds", lambda s: (f"allows {formats.ratio(s.printed[allows])}",))
    return ExpectedColumn(f"{kind} floor", text)


def _pretraining(subject: ValueSubject) -> Iterator[str]:
    rate = subject.printed.get("pretraining_flops_per_second")
    if rate is not None:
        yield f"{formats.giga(rate)} GFLOP/s"
    yield _n(subject, "pretraining_seconds")


def _over_rung(name: str) -> CellText:
    return lambda s: with_interval(name)(s) if s.printed.get(name) else "" if s.own.costs else UNKNOWN


def _rung(subject: ValueSubject) -> str:
    return describe_step(subject.own.job, always=("precision", "layout", "execution"))


def _mode(subject: ValueSubject) -> str:
    job = subject.own.job
    training = " ".join(to_page_text(name) for name in (job.optimizer, job.init) if name) or "no optimiser"
    return ", ".join(filter(None, (_rung(subject), training, job.pool and f"{job.pool} pooling", job.activation)))


def _seeds_reached(subject: ValueSubject) -> str:
    ended = subject.own.ended
    others = [f"{n} {name}" for name, n in ended.items() if name != "ok"]
    return with_details(f"{ended['ok']} of {ended.total()}", others)


def _why_not(subject: ValueSubject) -> str:
    """Join the messages of a rung whose processes all lack a time, each message once."""
    said = (record.outcome.message for record in subject.own.records if record.outcome.status != "ok")
    return "" if subject.own.costs else "; ".join(dict.fromkeys(filter(None, said)))


def _outcome(subject: ValueSubject) -> str:
    first, *others = outcomes(subject.own)
    return with_details(first, others)


def _seeds_compared(subject: ValueSubject) -> str:
    printed = subject.printed
    details = ["the same"] * bool(printed["paired"])
    details += [f"{printed['failed']} did not"] * bool(printed["failed"])
    details += [f"{printed['plain_failed']} of the plain did not"] * bool(printed["plain_failed"])
    return with_details(f"{printed['seeds']} and {printed['plain_seeds']}", details)


def _side_accuracy(name: str) -> CellText:
    spread = f"{name}_sd"
    return exact(name, lambda s: (f"SD {formats.loss(each)}" for each in (s.printed.get(spread),) if each is not None))


def _verdict(subject: ValueSubject) -> str:
    printed, needed = subject.printed, subject.printed.get("seeds_to_decide")
    details = ["by the seeds that did not learn"] if printed["by_rule"] else []
    if not details and printed["verdict"] == "undecided":
        seeds = f"more than {learning.MOST_SEEDS:,}" if needed is None else f"about {needed:,}"
        details = [f"{seeds} seeds would tell"]
    return with_details(str(printed["verdict"]), details)


def _dated_processor(subject: ValueSubject) -> str:
    """Name the processor, a published one with its year."""
    name, found = COLUMNS["processor"].text(subject), subject.published
    return f"{name} (published {found.year})" if found else name


def _memory(subject: ValueSubject) -> str:
    """Write the host's peak, with the device's where it counts one."""
    on_device = subject.printed.get("device_peak_bytes")
    details = [] if on_device is None else [f"device {find_format('device_peak_bytes')(on_device)}"]
    return with_details(exact("host_peak_bytes")(subject), details)


def _word(name: str) -> CellText:
    return lambda subject: str(subject.printed.get(name))


def show_value(heading: str, name: str, unit: str = "") -> ExpectedColumn:
    """Declare a column of numbers without intervals."""
    return ExpectedColumn(heading, exact(name), unit)


def show_interval(heading: str, name: str, unit: str = "") -> ExpectedColumn:
    """Declare a column of numbers with their intervals and n."""
    return ExpectedColumn(heading, with_interval(name), unit)


GFLOPS = "GFLOP/s"
COLUMNS: Mapping[str, ExpectedColumn] = {
    "processor": ExpectedColumn(
        "processor", lambda s: to_page_text(s.published.processor if s.published else s.own.full_name)
    ),
    "first_screen.processor": ExpectedColumn("processor", _dated_processor),
    "precision": ExpectedColumn("precision", lambda s: s.own.job.precision),
    "peak": show_value("theoretical", "peak_flops_per_second", GFLOPS),
    "ceiling": show_value("measured peak", "measured_peak_flops_per_second", GFLOPS),
    "achieved": show_value("achieved", "achieved_flops_per_second", GFLOPS),
    "model": ExpectedColumn("model, zeros counted", exact("model_flops_per_second", unknown=""), GFLOPS),
    "mfu": show_value("MFU", "mfu", "theor."),
    "of_ceiling": show_interval("of peak", "share_of_measured_peak", "measured"),
    "job": ExpectedColumn("time of the job", _job_time, "h:mm:ss"),
    "speedup": ExpectedColumn("speed-up over {baseline}", _speedup),
    "versus": ExpectedColumn("over {year}'s {published}", _marked(with_interval("speedup_over_reference"))),
    "images": show_value("images", "images_per_second", "/s"),
    "host_peak": show_value("host peak", "host_peak_bytes"),
    "device_peak": show_value("device peak", "device_peak_bytes"),
    "memory": ExpectedColumn("memory", _memory),
    "device_reserved": show_value("device reserved", "device_reserved_bytes"),
    "device_used": show_value("device used", "device_used_bytes"),
    "activations": show_value("activations per image", "activation_bytes_per_image"),
    "parameters": show_value("parameters", "parameter_bytes"),
    "accuracy": ExpectedColumn("test accuracy", exact("test_accuracy", _accuracy)),
    "r_squared": ExpectedColumn(
        "R²", exact("r_squared", lambda s: (*_interval(s, "r_squared"), _n(s, "r_squared")), unknown="")
    ),
    "outcome": ExpectedColumn("outcome", _outcome),
    "energy": ExpectedColumn("energy /image", exact("energy_joules_per_image", _energy)),
    "cold_start": show_value("cold start", "cold_start_seconds"),
    "step": show_value("one step", "step_seconds"),
    "verdict": ExpectedColumn("limited by", _word("verdict")),
    **{kind: _floor(kind) for kind in figures.FLOORS},
    "size": show_value("size", "size"),
    "gemm.achieved": show_interval("measured", "achieved_flops_per_second", GFLOPS),
    "gemm.ceiling": ExpectedColumn("", lambda s: "ceiling" if s.printed.get("is_ceiling") else ""),
    "products": ExpectedColumn(
        "blocks x products after warm-up",
        lambda s: f"{s.own.job.blocks} x {s.own.job.block_steps} after {s.own.job.warmup_steps}",
    ),
    "job_energy": show_value("energy of the job", "job_energy_joules"),
    "price": show_value("price an hour", "price_per_hour", "{currency}"),
    "cost": ExpectedColumn("cost of the job", _marked(with_interval("job_cost")), "{currency}"),
    "pretraining": ExpectedColumn("pretraining", exact("pretraining_seconds", _pretraining, unknown="")),
    "mode": ExpectedColumn("mode", _mode),
    "target": ExpectedColumn(
        "target", lambda s: UNKNOWN if s.own.job.target is None else f"{100 * s.own.job.target:g} %"
    ),
    "seeds": ExpectedColumn("seeds that reached it", _seeds_reached),
    "median": show_interval("median time", "median_seconds_to_target", "s"),
    "mean": show_value("mean time", "mean_seconds_to_target", "s"),
    "fastest": show_value("fastest", "fastest_seconds_to_target", "s"),
    "slowest": show_value("slowest", "slowest_seconds_to_target", "s"),
    "median_steps": show_interval("median steps", "median_steps_to_target"),
    "median_epochs": show_interval("median epochs", "median_epochs_to_target"),
    "seed": ExpectedColumn("seed", _word("seed")),
    "reached": ExpectedColumn("ended", lambda s: "reached" if s.printed.get("reached_target") else "missed"),
    "seconds": show_value("time to target", "seconds_to_target", "s"),
    "steps": show_value("steps", "steps_to_target"),
    "epochs": show_value("epochs", "epochs_to_target"),
    "last": show_value("last accuracy", "last_accuracy"),
    "rung": ExpectedColumn("rung", _rung),
    "over_before": ExpectedColumn("speed over the one before", _over_rung("speed_over_rung_before")),
    "over_first": ExpectedColumn("speed over the first", _over_rung("speed_over_first_rung")),
    "why_not": ExpectedColumn("why not", _why_not),
    "scaling": ExpectedColumn("scaling", lambda s: s.own.job.scaling or "one process"),
    "scaled": show_interval("scaled", "scaling_speedup"),
    "efficiency": show_interval("efficiency", "scaling_efficiency"),
    "exchange": show_interval("exchange", "exchange_share"),
    "started": show_value("launch", "launch_seconds"),
    "copies": show_value("copies", "copies"),
    "median_copy": show_value("median copy", "median_copy_seconds"),
    "slowest_copy": ExpectedColumn("slowest copy", _word("slowest_copy")),
    "over_median": show_interval("slowest over median", "slowest_over_median"),
    "epoch": show_value("epoch", "epoch"),
    "true_accuracy": ExpectedColumn(
        "accuracy on all 10,000", lambda s: (with_interval if s.row else exact)("true_accuracy")(s)
    ),
    "all_right": show_value("chance that {sample} are all right", "chance_all_right"),
    "stopped": show_value("chance of having stopped by then", "chance_stopped"),
    "process": show_value("process", "process"),
    "stopped_epoch": ExpectedColumn(
        "stopped after epoch",
        exact("stopped_epoch", lambda s: () if s.printed.get("stopped_by_rule") else ("its last; never all right",)),
    ),
    "sample": ExpectedColumn(
        "right of the sample", lambda s: f"{s.printed['sample_right']:,} of {s.printed['sample_images']:,}"
    ),
    "stopped.true_accuracy": ExpectedColumn(
        "accuracy on all 10,000", exact("true_accuracy", lambda s: _interval(s, "true_accuracy"))
    ),
    "convergence.mode": ExpectedColumn("mode", _word("mode")),
    "learned_seeds.mode": ExpectedColumn("mode", _word("mode")),
    "of_mode": show_value("test accuracy", "seed_mode_accuracy"),
    "of_plain": show_value("of the plain mode", "seed_plain_accuracy"),
    "apart": show_value("difference", "seed_difference"),
    "convergence.seeds": ExpectedColumn("seeds that learned", _seeds_compared),
    "mode_accuracy": ExpectedColumn("test accuracy", _side_accuracy("mode_accuracy")),
    "plain_accuracy": ExpectedColumn("of the plain mode", _side_accuracy("plain_accuracy")),
    "difference": ExpectedColumn("difference of means", exact("difference", lambda s: _interval(s, "difference"))),
    "of_medians": show_value("of medians", "difference_of_medians"),
    "margin": show_value("loss allowed", "loss_allowed"),
    "convergence.verdict": ExpectedColumn("the mode", _verdict),
}
"""Every column by its key; `table.key` where the key means another column in that table."""


TIMED = (
    "achieved mfu of_ceiling job speedup versus images energy cold_start step compute bandwidth launch input pretraining "
    "median mean fastest slowest seconds over_before over_first scaled efficiency exchange started median_copy over_median "
    "job_energy cost"
)
"""The keys of the columns whose figures come from a clock or a counter, with blanks between them."""


def find_column(table: str, key: str) -> ExpectedColumn | None:
    """Find the rules of a table's column; None if it has none."""
    found = COLUMNS.get(f"{table}.{key}") or COLUMNS.get(key)
    return found if found is None or key not in TIMED.split() else replace(found, text=_flagged(found.text))


def _flagged(text: CellText) -> CellText:
    """Make the rule that puts ! before a figure that a disturbed machine gave."""

    def write(subject: ValueSubject) -> str:
        words = text(subject)
        disturbed = subject.row is not None and subject.row.disturbed and words not in ("", UNKNOWN)
        return f"!{words}" if disturbed else words

    return write


def find_text_errors(column: ExpectedColumn, subject: ValueSubject, printed: str) -> Iterator[str]:
    """Find what is wrong with a cell's text; where a source gives no figure, a published row may be empty."""
    try:
        expected = column.text(subject)
    except (LookupError, TypeError, ValueError) as error:
        expected = UNKNOWN if subject.published else f"the records lack this figure: {error}"
    fits = printed == expected or (subject.published is not None and {printed, expected} <= {"", UNKNOWN})
    if column.heading == "processor" and subject.row is not None:
        fits = subject.row.printed_as(printed) and subject.view.names_boot(subject.row, printed)
    elif column.heading == "why not":
        fits = is_same_text(printed, expected)
    if not fits:
        yield f"printed {printed!r}, from the records it is {expected!r}"
