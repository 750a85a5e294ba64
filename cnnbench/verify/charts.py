"""Charts: each mark's fields derived again, every row with all its marks, and what a chart says in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from cnnbench.schema import Evaluation, Record, Trial
from cnnbench.verify import figures, formats, intervals, values
from cnnbench.verify.raw_rows import SHOWN, RawRow, cut_text, may_be_called, to_page_text
from cnnbench.verify.values import Marks, ValueSubject
from cnnbench.verify.view import LADDER, PageView, count_processors

FieldRule = Callable[[ValueSubject], Any]
MOST_MARKS = 40
"""Rows of a chart up to which all must be drawn."""
WORDS = {"label", "series", "roof", "name", "kind", "source", "where", "work", "processor"}
"""Fields that a reader sees as words: their numbers must be the row's."""
RATES: Mapping[str, str] = {
    "printed": "peak_flops_per_second",
    "theoretical peak": "peak_flops_per_second",
    "measured peak (GEMM)": "measured_peak_flops_per_second",
    "achieved in the job": "achieved_flops_per_second",
}
STATE_COPIES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""What an update rule keeps beside each weight and its gradient."""
TEXTS: Mapping[str, str] = {
    **{"speedup": "speedup_over_reference", "speedup-cpu": "speedup", "flops": "flops_per_second"},
    **{"ladder": "step_seconds", "memory": "bytes", "energy": "energy_joules_per_image"},
}
"""Which field of a mark a chart prints beside it."""


def _text(subject: ValueSubject) -> str:
    """A mark's value as printed, over the published CPU with the mark of a projection."""
    name = TEXTS[subject.place]
    projected = subject.place == "speedup" and subject.row is not None and subject.own.job.clock == "steady"
    return ("~" if projected else "") + formats.find_format(name)(subject.printed[name])


def _side(subject: ValueSubject) -> str:
    own = subject.printed["flops_per_second"]
    beside = [each["flops_per_second"] for each in subject.marks if each["label"] == subject.printed["label"]]
    return "most" if own >= max(beside) else "least" if own <= min(beside) else ""


def _edge(subject: ValueSubject) -> float:
    """How far a mark and its interval reach from one."""
    known = (subject.printed.get(f"{TEXTS[subject.place]}{end}") for end in ("", "_low", "_high"))
    return max(1.0, *(float(each) for each in known if each is not None))


def _intensity(subject: ValueSubject) -> float:
    row = subject.own
    width = 2 if row.job.precision in ("bf16", "fp16") else 4
    moved = 3 * (row.job.size or 0) ** 2 * width if row.job.workload == "gemm" else figures.bytes_moved(row)
    return (row.flops or 0) / (moved or 1)


def _ideal(name: str, used: Callable[[RawRow], int | None]) -> FieldRule:
    """What the first of a series gives with as many processors."""

    def derive(subject: ValueSubject) -> float:
        series = [each for each in subject.marks if each["series"] == subject.printed["series"]]
        first = min(series, key=lambda each: each["varied"])
        return float(first[name] * (used(subject.own) or 1) / first["varied"])

    return derive


def analytic_bytes(row: RawRow) -> int | None:
    """What the layers need in training: activations of the batch of a rank, weights, gradients, the optimiser's state."""
    state = STATE_COPIES.get(row.job.optimizer or "")
    if row.workload is None or row.job.precision not in ("fp32", "tf32") or row.job.task != "training" or state is None:
        return None
    images = row.job.batch_size // row.job.world * row.workload.activation_bytes_per_image
    return images + (2 + state) * row.workload.parameter_bytes


def _memory_name(row: RawRow) -> str:
    return "host_peak_bytes" if row.on_cpu else "device_peak_bytes"


def _bytes(subject: ValueSubject) -> Any:
    if str(subject.printed["kind"]).startswith("analytic"):
        return analytic_bytes(subject.own)
    return values.derive(_memory_name(subject.own), subject)


def _process(subject: ValueSubject) -> tuple[Record, Trial]:
    """The row's process at the mark's place in the plan. Raises LookupError where there is none."""
    found = next((pair for pair in subject.own.attempts if pair[0].index == subject.printed.get("index")), None)
    if found is None:
        raise LookupError("the row has no such process")
    return found


def _evaluation(subject: ValueSubject) -> tuple[Evaluation, float]:
    """The evaluation after the mark's steps, and the minutes until then. Raises LookupError where there is none."""
    _, trial = _process(subject)
    epochs = list(zip(trial.block_seconds, trial.epoch_evaluations, strict=False))
    known = [(trial.test, len(epochs))] if "accuracy_low" in subject.printed else []
    known = known or [(each, n) for n, (_, each) in enumerate(epochs, 1)]
    for test, until in known:
        if test is not None and test.after_steps == subject.printed["after_steps"]:
            clock = (trial.pretraining_seconds or 0.0) + sum(block + each.seconds for block, each in epochs[:until])
            return test, clock / 60
    raise LookupError(f"the process was not evaluated after {subject.printed['after_steps']} steps")


def _accuracy(end: str) -> FieldRule:
    def derive(subject: ValueSubject) -> Any:
        test, _ = _evaluation(subject)
        return getattr(intervals.wilson(test.correct, test.images), end)

    return derive


def _percentile(share: float) -> FieldRule:
    """Of a process's blocks over the mean step of its row."""

    def derive(subject: ValueSubject) -> float:
        trial, mean = _process(subject)[1], figures.step_mean(subject.own) or 1
        return intervals.percentile([seconds / trial.steps_per_block / mean for seconds in trial.block_seconds], share)

    return derive


FIELDS: Mapping[str, FieldRule] = {
    "edge": _edge,
    "text": _text,
    "flops_per_second": lambda s: values.derive(RATES[s.printed["kind"]], s),
    "flops.gflops_per_second": lambda s: s.printed["flops_per_second"] / 1e9,
    "side": _side,
    "intensity_flops_per_byte": _intensity,
    "roofline.gflops_per_second": lambda s: values.derive("achieved_flops_per_second", s) / 1e9,  # type: ignore[operator]
    "threads.varied": lambda s: s.own.job.threads,
    "threads.ideal": _ideal("images_per_second", lambda row: row.job.threads),
    "batches.varied": lambda s: s.own.job.batch_size,
    "scaling.varied": lambda s: count_processors(s.own),
    "scaling.ideal": _ideal("scaling_speedup", count_processors),
    "milliseconds": lambda s: s.printed["step_seconds"] * 1e3,
    "rung": lambda s: ", ".join(str(getattr(s.own.job, name)) for name in LADDER),
    "bytes": _bytes,
    "mib": lambda s: s.printed["bytes"] / 2**20,
    "watts": lambda s: figures.mean_watts(s.own),
    "index": lambda s: _process(s)[0].index,
    "after_steps": lambda s: _evaluation(s)[0].after_steps,
    "images": lambda s: _evaluation(s)[0].images,
    "minutes": lambda s: _evaluation(s)[1],
    **{f"accuracy{end}": _accuracy(end.removeprefix("_") or "value") for end in ("", "_low", "_high")},
    "round": lambda s: _process(s)[0].job.round + 1,
    "blocks": lambda s: len(_process(s)[1].block_seconds),
    **{f"block_p{share:02}": _percentile(share / 100) for share in (5, 50, 95)},
    "run": lambda s: s.own.mark[0] if s.row else None,
    "row": lambda s: s.own.mark[1] if s.row else None,
    "machine": lambda s: s.own.header.machine.id if s.row else None,
    "precision": lambda s: s.own.job.precision if s.row else None,
    "place": lambda s: cut_text(s.own.place) if s.row else str(s.published.year) if s.published else None,
}
"""Fields of marks that are no value of a row by that name; `chart.field` where a chart means something else by it."""


def _derive(name: str, subject: ValueSubject) -> Any:
    rule = FIELDS.get(f"{subject.place}.{name}") or FIELDS.get(name)
    return rule(subject) if rule else values.derive(name, subject)


def find_errors(view: PageView, chart: Mapping[str, Any]) -> Iterator[str]:
    """What a chart has that the records do not, in its marks and in words."""
    key, marks = chart["key"], chart["data"]
    roofs: dict[str, list[ValueSubject]] = {}
    for number, mark in enumerate(marks, 1):
        if mark.get("kind") == "roof":
            continue
        rows = [(str(mark["run"]), str(mark["row"]))] if mark.get("run") is not None else []
        subject = values.find_subject(view, key, mark, rows, marks)
        if subject is None:
            yield f"mark {number}: no raw record is row {mark.get('row')} of run {mark.get('run')}"
            continue
        if str(mark.get("kind")).endswith(" step"):
            roofs.setdefault(mark["roof"], []).append(subject)
        words = {name: str(value) for name, value in mark.items() if name in WORDS}
        wrong = [
            f"{name} is {text!r}, of another row" for name, text in words.items() if not _is_of(subject, name, text)
        ]
        others = {name: value for name, value in mark.items() if name not in words}
        for message in (*wrong, *values.find_value_errors(others, partial(_derive, subject=subject))):
            yield f"mark {number}, {mark.get('processor')} ({mark.get('place')}): {message}"
    for mark in (mark for mark in marks if mark.get("kind") == "roof"):
        yield from (f"the roof {mark['roof']}: {each}" for each in _find_roof_errors(mark, roofs.get(mark["roof"], [])))
    yield from _find_missing(view, key, marks)
    yield from _find_description_errors(chart["title"], chart["alt"], marks)


def _is_of(subject: ValueSubject, name: str, printed: str) -> bool:
    """Whether words are about the mark's row: of its processor and place, and without a number that is not the row's."""
    row, published, processor = subject.row, subject.published, str(subject.printed.get("processor"))
    lines = printed.split("\n")
    if row is None:
        known = frozenset(formats.find_numbers(processor, published.year if published else ""))
        fits = name != "processor" or published is None or printed == published.processor
    else:
        known = row.all_numbers.union(formats.find_numbers(processor))
        fits = {
            "processor": may_be_called(row.full_name, printed),
            "label": lines[0] == " ".join(processor.split()) and row.place.removeprefix("cpu, ")[:SHOWN] in printed,
            "kind": ("projected" in printed) == (row.job.clock == "steady") or subject.place != "speedup",
        }.get(name, True)
    return fits and known.issuperset(formats.find_numbers(*(lines[:-1] or lines)))


def _find_roof_errors(mark: Mapping[str, Any], steps: list[ValueSubject]) -> Iterator[str]:
    """A corner of the roof over its steps: up the fastest copy to the best product, then level."""
    ceilings = [found.value for each in steps if (found := each.figure("measured_peak_flops_per_second"))]
    slopes = [copy for each in steps if (copy := figures.median_floors(each.own).get("copy_bytes_per_second"))]
    products = {product.header.run_id for each in steps if (product := each.view.ceiling(each.own))}
    if len(products) != 1 or not slopes or mark.get("order") not in (0, 1, 2):
        yield "the steps under it have no roof in common"
        return
    ceiling, ridge = max(ceilings), max(ceilings) / max(slopes)
    intensity, rate = ((ridge / 16, ceiling / 16), (ridge, ceiling), (max(1000.0, 4 * ridge), ceiling))[mark["order"]]
    header = steps[0].own.header
    expected = {
        **{"intensity_flops_per_byte": intensity, "gflops_per_second": rate / 1e9},
        **{"machine": header.machine.id, "run": header.run_id},
    }
    printed = {name: value for name, value in mark.items() if name not in ("kind", "roof", "order")}
    yield from values.find_value_errors(printed, expected.__getitem__)


def _has(name: str) -> Callable[[PageView, RawRow], int]:
    return lambda view, row: int(values.derive(name, ValueSubject(view, "", row)) is not None)


COUNTS: Mapping[str, Callable[[PageView, RawRow], int]] = {
    "speedup": _has("speedup_over_reference"),
    "speedup-cpu": _has("speedup"),
    "flops": lambda view, row: sum(_has(name)(view, row) for name in list(RATES.values())[1:]),
    "ladder": lambda view, row: 1,
    "memory": lambda view, row: _has(_memory_name(row))(view, row) * (1 + (analytic_bytes(row) is not None)),
    "energy": _has("energy_joules_per_image"),
    "noise": lambda view, row: sum(
        len(each.block_seconds) > 1 and min(each.block_seconds) > 0 for _, each in row.trials
    ),
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


WRITTEN: Mapping[str, formats.FormatNumber] = {
    "gflops_per_second": lambda value: f"{value:.4g}",
    "intensity_flops_per_byte": lambda value: f"{value:.3g}",
    **{name: formats.find_format(name) for name in ("varied", "images_per_second", "scaling_speedup", "accuracy")},
    **dict.fromkeys(("block_p05", "block_p95"), lambda value: f"{value - 1:+.0%}"),
}
"""How a chart's description writes the fields of its marks that are no words."""


def _find_description_errors(title: str, text: str, marks: Marks) -> Iterator[str]:
    """Numbers in a chart's description that are neither in the words of its marks nor a figure of one, nor count marks."""
    known = {str(n) for n in range(len(marks) + 1)}
    for mark in marks:
        texts = [each for each in mark.values() if isinstance(each, str)]
        texts += [write(mark[name]) for name, write in WRITTEN.items() if mark.get(name) is not None]
        known.update(formats.find_numbers(to_page_text(" ".join(texts))))
    rest = to_page_text(text).removeprefix(to_page_text(title))
    if unknown := [each for each in formats.find_numbers(rest) if each not in known]:
        yield f"in words it has {', '.join(unknown)}, no mark does"
