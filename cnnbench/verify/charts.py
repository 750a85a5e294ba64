"""Charts: each mark's fields derived again, every row with all its marks, and what a chart says in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cnnbench.schema import Record, Trial
from cnnbench.verify import figures, formats, intervals, values
from cnnbench.verify.intervals import DerivedFigure
from cnnbench.verify.raw_rows import RawRow, may_be_called, to_page_text
from cnnbench.verify.values import ValueSubject
from cnnbench.verify.view import PageView, count_processors

Mark = Mapping[str, Any]
Marks = Sequence[Mark]
FieldRule = Callable[[ValueSubject, Marks], Any]
MOST_MARKS = 40
"""Rows of a chart up to which all must be drawn."""
WORDS = {"label", "series", "roof", "name", "kind", "source", "where", "work", "processor", "rung"}
"""Fields that a reader sees as words: their numbers must be the row's."""
RATES: Mapping[str, str] = {
    "printed": "peak_flops_per_second",
    "theoretical peak": "peak_flops_per_second",
    "measured peak (GEMM)": "measured_peak_flops_per_second",
    "achieved in the job": "achieved_flops_per_second",
}
STATE_COPIES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""What an update rule keeps beside each weight and its gradient."""


def _rate(subject: ValueSubject, marks: Marks) -> Any:
    """The rate of that kind, as the tables have it."""
    return values.derive(RATES.get(str(subject.printed.get("kind")), ""), subject)


def _side(subject: ValueSubject, marks: Marks) -> str:
    own = subject.printed["flops_per_second"]
    beside = [each["flops_per_second"] for each in marks if each["label"] == subject.printed["label"]]
    return "most" if own >= max(beside) else "least" if own <= min(beside) else ""


def _edge(name: str) -> FieldRule:
    """How far a mark and its interval reach from one."""

    def derive(subject: ValueSubject, marks: Marks) -> float:
        known = (subject.printed.get(f"{name}{end}") for end in ("", "_low", "_high"))
        return max(1.0, *(float(each) for each in known if each is not None))

    return derive


def _intensity(subject: ValueSubject, marks: Marks) -> float:
    row = subject.own
    width = 2 if row.job.precision in ("bf16", "fp16") else 4
    moved = 3 * (row.job.size or 0) ** 2 * width if row.job.workload == "gemm" else figures.bytes_moved(row)
    return (row.flops or 0) / (moved or 1)


def _in_giga(name: str) -> FieldRule:
    return lambda subject, marks: values.derive(name, subject) / 1e9  # type: ignore[operator]


def _ideal(name: str, used: Callable[[RawRow], int | None]) -> FieldRule:
    """What the first of a series gives with as many processors."""

    def derive(subject: ValueSubject, marks: Marks) -> float:
        series = [each for each in marks if each["series"] == subject.printed["series"]]
        first = min(series, key=lambda each: each["varied"])
        return float(first[name] * (used(subject.own) or 1) / first["varied"])

    return derive


def _threads(row: RawRow) -> int | None:
    return row.job.threads


def analytic_bytes(row: RawRow) -> int | None:
    """What the layers need in training: activations of the batch of a rank, weights, gradients, the optimiser's state."""
    state = STATE_COPIES.get(row.job.optimizer or "")
    if row.workload is None or row.job.precision not in ("fp32", "tf32") or row.job.task != "training" or state is None:
        return None
    images = row.job.batch_size // row.job.world * row.workload.activation_bytes_per_image
    return images + (2 + state) * row.workload.parameter_bytes


def _memory_name(row: RawRow) -> str:
    return "host_peak_bytes" if row.on_cpu else "device_peak_bytes"


def _bytes(subject: ValueSubject, marks: Marks) -> Any:
    if str(subject.printed["kind"]).startswith("analytic"):
        return analytic_bytes(subject.own)
    return values.derive(_memory_name(subject.own), subject)


def _process(subject: ValueSubject) -> tuple[Record, Trial]:
    """The row's process at the mark's place in the plan. Raises LookupError where there is none."""
    found = next((pair for pair in subject.own.attempts if pair[0].index == subject.printed.get("index")), None)
    if found is None:
        raise LookupError("the row has no such process")
    return found


def _evaluation(subject: ValueSubject) -> tuple[DerivedFigure, int, float]:
    """The accuracy after the mark's steps with its interval, its images, and the minutes until then."""
    _, trial = _process(subject)
    epochs = list(zip(trial.block_seconds, trial.epoch_evaluations, strict=False))
    final = "accuracy_low" in subject.printed
    known = [(trial.test, len(epochs))] if final else [(each, n + 1) for n, (_, each) in enumerate(epochs)]
    after = subject.printed["after_steps"]
    test, until = next(((each, n) for each, n in known if each and each.after_steps == after), (None, 0))
    if test is None:
        raise LookupError(f"the process was not evaluated after {after} steps")
    clock = (trial.pretraining_seconds or 0.0) + sum(block + each.seconds for block, each in epochs[:until])
    return intervals.wilson(test.correct, test.images), test.images, clock / 60


def blocks_over_mean(row: RawRow, trial: Trial) -> list[float]:
    """A process's blocks over the mean step of its row."""
    return [seconds / trial.steps_per_block / (figures.step_mean(row) or 1) for seconds in trial.block_seconds]


def _percentile(share: float) -> FieldRule:
    return lambda subject, marks: intervals.percentile(blocks_over_mean(subject.own, _process(subject)[1]), share)


FIELDS: Mapping[str, FieldRule] = {
    "speedup.edge": _edge("speedup_over_reference"),
    "speedup.text": lambda s, marks: values_text(s, "speedup_over_reference", formats.ratio, marked=True),
    "speedup-cpu.edge": _edge("speedup"),
    "speedup-cpu.text": lambda s, marks: values_text(s, "speedup", formats.ratio),
    "flops_per_second": _rate,
    "flops.gflops_per_second": lambda s, marks: s.printed["flops_per_second"] / 1e9,
    "flops.text": lambda s, marks: values_text(s, "flops_per_second", formats.giga),
    "side": _side,
    "intensity_flops_per_byte": _intensity,
    "roofline.gflops_per_second": _in_giga("achieved_flops_per_second"),
    "threads.varied": lambda s, marks: s.own.job.threads,
    "threads.ideal": _ideal("images_per_second", _threads),
    "batches.varied": lambda s, marks: s.own.job.batch_size,
    "scaling.varied": lambda s, marks: count_processors(s.own),
    "scaling.ideal": _ideal("scaling_speedup", count_processors),
    "milliseconds": lambda s, marks: s.printed["step_seconds"] * 1e3,
    "ladder.text": lambda s, marks: values_text(s, "step_seconds", formats.seconds),
    "rung": lambda s, marks: ", ".join(
        str(getattr(s.own.job, name)) for name in ("division", "precision", "layout", "execution", "loader")
    ),
    "bytes": _bytes,
    "mib": lambda s, marks: s.printed["bytes"] / 2**20,
    "memory.text": lambda s, marks: values_text(s, "bytes", formats.size),
    "watts": lambda s, marks: figures.mean_watts(s.own),
    "energy.text": lambda s, marks: values_text(s, "energy_joules_per_image", formats.joules),
    "index": lambda s, marks: _process(s)[0].index,
    "after_steps": lambda s, marks: s.printed["after_steps"],
    "images": lambda s, marks: _evaluation(s)[1],
    "minutes": lambda s, marks: _evaluation(s)[2],
    "accuracy": lambda s, marks: _evaluation(s)[0].value,
    "accuracy_low": lambda s, marks: _evaluation(s)[0].low,
    "accuracy_high": lambda s, marks: _evaluation(s)[0].high,
    "round": lambda s, marks: _process(s)[0].job.round + 1,
    "blocks": lambda s, marks: len(_process(s)[1].block_seconds),
    **{f"block_p{share:02}": _percentile(share / 100) for share in (5, 50, 95)},
    "run": lambda s, marks: s.own.mark[0] if s.row else None,
    "row": lambda s, marks: s.own.mark[1] if s.row else None,
    "machine": lambda s, marks: s.own.header.machine.id if s.row else None,
    "precision": lambda s, marks: s.own.job.precision if s.row else None,
    "place": lambda s, marks: s.own.place if s.row else str(s.published.year) if s.published else None,
}
"""Fields of marks that are no value of a row by that name; `chart.field` where a chart means something else by it."""


def values_text(subject: ValueSubject, name: str, text: formats.FormatNumber, *, marked: bool = False) -> str:
    """A mark's value as printed, with the mark of a projection where it is one."""
    projected = marked and subject.row is not None and subject.own.job.clock == "steady"
    return ("~" if projected else "") + text(subject.printed[name])


def find_errors(
    view: PageView, key: str, marks: Marks, find: Callable[[str, Mark], ValueSubject | None]
) -> Iterator[str]:
    """What the marks of a chart say that the records do not."""
    for number, mark in enumerate(marks, 1):
        if mark.get("kind") == "roof":
            yield from (f"mark {number}: {each}" for each in _find_roof_errors(mark, marks, find))
            continue
        subject = find(key, mark)
        if subject is None:
            yield f"mark {number}: no raw record is row {mark.get('row')} of run {mark.get('run')}"
            continue
        for message in _find_mark_errors(key, subject, marks):
            yield f"mark {number}, {mark.get('processor')} ({mark.get('place')}): {message}"
    yield from _find_missing(view, key, marks)


def _find_mark_errors(key: str, subject: ValueSubject, marks: Marks) -> Iterator[str]:
    for name, printed in subject.printed.items():
        rule = FIELDS.get(f"{key}.{name}") or FIELDS.get(name)
        try:
            if name in WORDS and name not in FIELDS:
                yield from _find_word_errors(name, str(printed), subject)
            elif not values.is_same(
                printed, expected := rule(subject, marks) if rule else values.derive(name, subject)
            ):
                yield f"{name} is {printed!r}, from the records it is {expected!r}"
        except KeyError:
            yield f"no second derivation of {name}"
        except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
            yield f"{name} is {printed!r}, the records have no such figure: {error}"


def _find_word_errors(name: str, printed: str, subject: ValueSubject) -> Iterator[str]:
    """Words about another row: of another processor or place, or with a number that is not the row's."""
    row, published = subject.row, subject.published
    lines = printed.split("\n")
    if row is None:
        known = set(formats.find_numbers(f"{published.processor} {published.year}" if published else ""))
        wrong = name == "processor" and published is not None and printed != published.processor
    else:
        place, processor = row.place.removeprefix("cpu, "), str(subject.printed.get("processor"))
        known = set(row.numbers) | set(
            formats.find_numbers(f"{processor} {row.place} {row.header.machine.id} {row.header.run_id}")
        )
        known |= {str(record.job.round + 1) for record in row.records}
        wrong = name == "processor" and not may_be_called(row.full_name, printed)
        wrong |= name == "label" and (lines[0] != " ".join(processor.split()) or place not in printed)
        wrong |= (
            name == "kind" and ("projected" in printed) != (row.job.clock == "steady") and subject.place == "speedup"
        )
    unknown = set(formats.find_numbers(" ".join(lines[:-1] or lines))) - known
    if wrong or (unknown and name != "processor"):
        yield f"{name} is {printed!r}, which is not about that row"


def _find_roof_errors(mark: Mark, marks: Marks, find: Callable[[str, Mark], ValueSubject | None]) -> Iterator[str]:
    """A corner of the roof over its steps: up the fastest copy to the best product, then level."""
    steps = [each for each in marks if str(each["kind"]).endswith(" step") and each["roof"] == mark["roof"]]
    subjects = [subject for each in steps if (subject := find("roofline", each)) is not None]
    ceilings = [found.value for each in subjects if (found := each.figure("measured_peak_flops_per_second"))]
    slopes = [copy for each in subjects if (copy := figures.median_floors(each.own).get("copy_bytes_per_second"))]
    products = {product.header.run_id for each in subjects if (product := each.view.ceiling(each.own))}
    if len(products) != 1 or not slopes or mark.get("order") not in (0, 1, 2):
        yield f"the steps under {mark['roof']!r} have no roof in common"
        return
    ceiling, ridge = max(ceilings), max(ceilings) / max(slopes)
    intensity, rate = ((ridge / 16, ceiling / 16), (ridge, ceiling), (max(1000.0, 4 * ridge), ceiling))[mark["order"]]
    header = subjects[0].own.header
    expected = {"intensity_flops_per_byte": intensity, "gflops_per_second": rate / 1e9}
    for name, value in {**expected, "machine": header.machine.id, "run": header.run_id}.items():
        if not values.is_same(mark.get(name), value):
            yield f"{name} is {mark.get(name)!r}, from the records it is {value!r}"
    if unknown := mark.keys() - {*expected, "machine", "run", "kind", "roof", "order"}:
        yield f"no second derivation of {', '.join(sorted(unknown))}"


def _count_kinds(view: PageView, row: RawRow) -> int:
    subject = ValueSubject(view, "flops", row)
    return sum(values.derive(name, subject) is not None for name in list(RATES.values())[1:])


def _count_processes(view: PageView, row: RawRow) -> int:
    return sum(len(trial.block_seconds) > 1 and min(trial.block_seconds) > 0 for _, trial in row.trials)


def _has(name: str) -> Callable[[PageView, RawRow], int]:
    return lambda view, row: int(values.derive(name, ValueSubject(view, "", row)) is not None)


def _count_memory(view: PageView, row: RawRow) -> int:
    return _has(_memory_name(row))(view, row) * (1 + (analytic_bytes(row) is not None))


COUNTS: Mapping[str, Callable[[PageView, RawRow], int]] = {
    "speedup": _has("speedup_over_reference"),
    "speedup-cpu": _has("speedup"),
    "flops": _count_kinds,
    "ladder": lambda view, row: 1,
    "memory": _count_memory,
    "energy": _has("energy_joules_per_image"),
    "noise": _count_processes,
}
"""How many marks each row has that a chart shows."""
COMPLETE = {"speedup", "memory", "energy"}
"""Charts of every row that has the figure."""


def _find_missing(view: PageView, key: str, marks: Marks) -> Iterator[str]:
    """Rows of which a mark is missing or there twice."""
    if key not in COUNTS:
        return
    printed = Counter((mark["run"], mark["row"]) for mark in marks if mark["run"] is not None)
    counts = {row: n for row in view.shown if (n := COUNTS[key](view, row)) or row.mark in printed}
    every = key in COMPLETE and sum(row.job.workload != "gemm" for row in counts) <= MOST_MARKS
    for row, n in counts.items():
        if printed[row.mark] != n and (row.mark in printed or (every and row.job.workload != "gemm")):
            yield f"{printed[row.mark]} marks are of {row.place} of run {row.header.run_id}, there should be {n}"


def _label(mark: Mark) -> str:
    return ", ".join(line for line in str(mark["label"]).split("\n")[:-1] if line)


def _by_label(marks: Marks) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for mark in marks:
        found.setdefault(_label(mark) + str(mark["label"]).rpartition("\n")[2], []).append(mark)
    return found


def _text_words(marks: Marks) -> Iterator[str]:
    for mark in marks:
        yield from (_label(mark), str(mark["text"]))


def _flops_words(marks: Marks) -> Iterator[str]:
    for own in _by_label(marks).values():
        yield _label(own[0])
        for mark in own:
            yield from (str(mark["kind"]), str(mark["text"]))


def _step_words(marks: Marks) -> Iterator[str]:
    for mark in [mark for mark in marks if str(mark["kind"]).endswith(" step")][:12]:
        yield from (str(mark["name"]), str(mark["roof"]))
        yield from (f"{mark['gflops_per_second']:.4g}", f"{mark['intensity_flops_per_byte']:.3g}")


def _sweep_words(name: str, text: formats.FormatNumber) -> Callable[[Marks], Iterator[str]]:
    def list_words(marks: Marks) -> Iterator[str]:
        for mark in marks[:20]:
            yield from (str(mark["series"]), str(mark["varied"]), text(mark[name]))

    return list_words


def _final_words(marks: Marks) -> Iterator[str]:
    for mark in marks:
        if "accuracy_low" in mark:
            yield from (str(mark["series"]), formats.percent(2)(mark["accuracy"]))


def _spread_words(marks: Marks) -> Iterator[str]:
    for own in _by_label(marks).values():
        yield _label(own[0])
        yield f"{min(mark['block_p05'] for mark in own) - 1:+.0%}"
        yield from (f"{max(mark['block_p95'] for mark in own) - 1:+.0%}", str(len(own)))


IN_WORDS: Mapping[str, Callable[[Marks], Iterator[str]]] = {
    **dict.fromkeys(("speedup", "speedup-cpu", "ladder", "memory", "energy"), _text_words),
    "flops": _flops_words,
    "roofline": _step_words,
    **dict.fromkeys(("threads", "batches"), _sweep_words("images_per_second", formats.rate)),
    "scaling": _sweep_words("scaling_speedup", formats.ratio),
    "learning": _final_words,
    "noise": _spread_words,
}
"""What a chart's description says of its marks, in this order; between them it has no number."""


def find_description_errors(key: str, title: str, text: str, marks: Marks) -> Iterator[str]:
    """What a chart says in words that its marks do not."""
    rest = to_page_text(text).removeprefix(title)
    for token in map(to_page_text, IN_WORDS[key](marks)):
        before, found, rest = rest.partition(token)
        if not found:
            yield f"in words it does not say {token!r} where it should"
            return
        if formats.find_numbers(before):
            yield f"in words it has a number in {before!r}"
    if formats.find_numbers(rest):
        yield f"in words it ends in a number in {rest!r}"
