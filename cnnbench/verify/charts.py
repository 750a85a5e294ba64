"""Charts: each mark's fields are derived again, every row must have all its marks, the words of a chart are checked, and so
are the texts of a drawing: labels of values and rows, numbers of an axis on a line, title and description.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cnnbench.verify import figures, formats, intervals, values
from cnnbench.verify.raw_rows import (
    LADDER,
    SHOWN,
    PageValues,
    PageView,
    RawRow,
    count_processors,
    cut_text,
    may_be_called,
    to_page_text,
)
from cnnbench.verify.values import Derivation, Marks, ValueSubject

MOST_MARKS = 40
"""A chart of at most so many rows must draw all of them."""
WORDS = {"label", "series", "roof", "name", "kind", "source", "where", "work", "processor"}
"""Fields printed as words: each number in them must belong to the row."""
RATES: Mapping[str, str] = {
    "printed": "peak_flops_per_second",
    "theoretical peak": "peak_flops_per_second",
    "measured peak (GEMM)": "measured_peak_flops_per_second",
    "achieved in the job": "achieved_flops_per_second",
}
STATE_COPIES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""Values that an update rule stores per weight, beside the weight and its gradient."""
TEXTS: Mapping[str, str] = {
    "speedup": "speedup_over_reference",
    "speedup-cpu": "speedup",
    "flops": "flops_per_second",
    "ladder": "step_seconds",
    "memory": "bytes",
    "energy": "energy_joules_per_image",
}
"""The field of a mark that a chart prints beside it."""


MARKED = {"speedup", "speedup_over_reference"}
"""The figures that a mark prints as its table does, with ! where the machine was disturbed."""


def _text(subject: ValueSubject) -> str:
    """Write a mark's value as printed, with ~ where a speed-up over the published CPU is projected."""
    name = TEXTS[subject.place]
    projected = subject.place == "speedup" and subject.row is not None and subject.own.job.clock == "steady"
    disturbed = name in MARKED and subject.row is not None and bool(subject.own.disturbed)
    return "!" * disturbed + ("~" if projected else "") + formats.find_format(name)(subject.printed[name])


def _side(subject: ValueSubject) -> str:
    own = subject.printed["flops_per_second"]
    beside = [each["flops_per_second"] for each in subject.marks if each["label"] == subject.printed["label"]]
    return "most" if own >= max(beside) else "least" if own <= min(beside) else ""


def _edge(subject: ValueSubject) -> float:
    """Find how far from one a mark and its interval reach."""
    known = (subject.printed.get(f"{TEXTS[subject.place]}{end}") for end in ("", "_low", "_high"))
    return max(1.0, *(float(each) for each in known if each is not None))


def _intensity(subject: ValueSubject) -> float:
    row = subject.own
    width = 2 if row.job.precision in ("bf16", "fp16") else 4
    moved = 3 * (row.job.size or 0) ** 2 * width if row.job.workload == "gemm" else figures.bytes_moved(row)
    return (row.flops or 0) / (moved or 1)


def _ideal(name: str) -> Derivation:
    """Make the rule of an ideal line: the first mark of the series times the mark's processors over the first's."""

    def derive(subject: ValueSubject) -> float:
        series = [each for each in subject.marks if each["series"] == subject.printed["series"]]
        first = min(series, key=itemgetter("varied"))
        return float(first[name] * subject.printed["varied"] / first["varied"])

    return derive


def analytic_bytes(row: RawRow) -> int | None:
    """Count the bytes layers need in training: activations of a rank's batch, weights, gradients, optimiser state."""
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


def _minutes(subject: ValueSubject) -> float:
    """Add up the minutes of pre-training, of the epochs until the mark's evaluation, and of their evaluations."""
    trial, steps = subject.trial, subject.evaluation.after_steps
    epochs = zip(trial.block_seconds, trial.epoch_evaluations, strict=False)
    clock = sum(block + each.seconds for block, each in epochs if each.after_steps <= steps)
    return ((trial.pretraining_seconds or 0.0) + clock) / 60


def _percentile(share: int) -> Derivation:
    """Make the rule of a percentile of a process's blocks, as a ratio to the mean step of its row."""

    def derive(subject: ValueSubject) -> float:
        trial, mean = subject.trial, intervals.known(subject.figure("step_seconds")).value
        return float(np.percentile(trial.block_seconds, share)) / trial.steps_per_block / mean

    return derive


FIELDS: Mapping[str, Derivation] = {
    "edge": _edge,
    "text": _text,
    "flops_per_second": lambda s: values.derive(RATES[s.printed["kind"]], s),
    "flops.gflops_per_second": lambda s: s.printed["flops_per_second"] / 1e9,
    "side": _side,
    "intensity_flops_per_byte": _intensity,
    "roofline.gflops_per_second": lambda s: values.derive("achieved_flops_per_second", s) / 1e9,  # type: ignore[operator]
    "threads.varied": attrgetter("own.job.threads"),
    "threads.ideal": _ideal("images_per_second"),
    "batches.varied": attrgetter("own.job.batch_size"),
    "scaling.varied": lambda s: count_processors(s.own),
    "scaling.ideal": _ideal("scaling_speedup"),
    "milliseconds": lambda s: s.printed["step_seconds"] * 1e3,
    "rung": lambda s: ", ".join(str(getattr(s.own.job, name)) for name in LADDER),
    "bytes": _bytes,
    "mib": lambda s: s.printed["bytes"] / 2**20,
    "index": attrgetter("process.index"),
    "after_steps": attrgetter("evaluation.after_steps"),
    "images": attrgetter("evaluation.images"),
    "minutes": _minutes,
    "round": lambda s: s.process.job.round + 1,
    "blocks": lambda s: len(s.trial.block_seconds),
    **{f"block_p{share:02}": _percentile(share) for share in (5, 50, 95)},
    "place": lambda s: str(s.published.year) if s.published else cut_text(s.own.place),
}
"""Fields of marks that no value of a row has the name of; `chart.field` where a name means something else in that chart."""


def _derive(name: str, subject: ValueSubject) -> Any:
    rule = FIELDS.get(f"{subject.place}.{name}") or FIELDS.get(name)
    return rule(subject) if rule else values.derive(name, subject)


def find_errors(view: PageView, chart: PageValues) -> Iterator[str]:
    """Find where a chart differs from the records, in its marks and in its words."""
    key, marks = chart["key"], chart["data"]
    roofs = defaultdict(list)
    for number, mark in enumerate(marks, 1):
        if mark.get("kind") == "roof":
            continue
        rows = [(mark["run"], mark["row"])] if mark.get("run") is not None else []
        subject = values.find_subject(view, key, mark, rows, marks)
        if subject is None:
            yield f"mark {number}: no raw record is row {mark.get('row')} of run {mark.get('run')}"
            continue
        if str(mark.get("kind")).endswith(" step"):
            roofs[mark["roof"]].append(subject)
        of_others = (
            f"{name} is {str(value)!r}, of another row"
            for name, value in mark.items()
            if name in WORDS and not _is_of(subject, name, str(value))
        )
        others = {name: value for name, value in mark.items() if name not in WORDS}
        for message in (*of_others, *values.find_value_errors(others, partial(_derive, subject=subject))):
            yield f"mark {number}, {mark.get('processor')} ({mark.get('place')}): {message}"
    for mark in marks:
        if mark.get("kind") == "roof":
            wrong = _find_roof_errors(mark, roofs[mark["roof"]])
            yield from (f"the roof {mark['roof']}: {each}" for each in wrong)
    yield from _find_missing(view, key, marks)
    yield from _find_description_errors(chart)


def _is_of(subject: ValueSubject, name: str, printed: str) -> bool:
    """Check that words fit the mark's row: they name its processor and place, and every number in them is the row's."""
    published, processor = subject.published, str(subject.printed.get("processor"))
    lines = printed.split("\n")
    if published is not None:
        known = frozenset(formats.find_numbers(processor, published.year))
        fits = name != "processor" or printed == published.processor
    else:
        row = subject.own
        known = row.all_numbers.union(formats.find_numbers(processor))
        fits = {
            "processor": may_be_called(row.full_name, printed),
            "label": lines[0] == formats.fold(processor) and row.place.removeprefix("cpu, ")[:SHOWN] in printed,
            "kind": ("projected" in printed) == (row.job.clock == "steady") or subject.place != "speedup",
        }.get(name, True)
    return fits and known.issuperset(formats.find_numbers(*(lines[:-1] or lines)))


def _find_roof_errors(mark: PageValues, steps: list[ValueSubject]) -> Iterator[str]:
    """Check a corner of the roof over its steps: it rises with the fastest copy to the best product, then is level."""
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
        **{name: mark[name] for name in ("kind", "roof", "order")},
        "intensity_flops_per_byte": intensity,
        "gflops_per_second": rate / 1e9,
        "machine": header.machine.id,
        "run": header.run_id,
    }
    yield from values.find_value_errors(mark, expected.__getitem__)


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
        len(each.block_seconds) > 1 and min(each.block_seconds) > 0 for each in row.good_trials
    ),
}
"""How many marks a chart has per row."""
COMPLETE = {"speedup", "memory", "energy"}
"""Charts that show every row with the figure."""


def _find_missing(view: PageView, key: str, marks: Marks) -> Iterator[str]:
    """Find rows with a missing or a repeated mark."""
    if key not in COUNTS:
        return
    printed = Counter((mark["run"], mark["row"]) for mark in marks if mark["run"] is not None)
    counts = {row: n for row in view.shown if (n := COUNTS[key](view, row)) or row.mark in printed}
    trained = counts.keys() & set(view.training)
    needed = trained if key in COMPLETE and len(trained) <= MOST_MARKS else ()
    for row, n in counts.items():
        if printed[row.mark] != n and (row.mark in printed or row in needed):
            yield f"{printed[row.mark]} marks are of {row.place} of run {row.header.run_id}, there should be {n}"


WRITTEN: Mapping[str, formats.FormatNumber] = {
    "gflops_per_second": lambda value: f"{value:.4g}",
    "intensity_flops_per_byte": lambda value: f"{value:.3g}",
    **{name: formats.find_format(name) for name in ("varied", "images_per_second", "scaling_speedup", "accuracy")},
    **dict.fromkeys(("block_p05", "block_p95"), lambda value: f"{value - 1:+.0%}"),
}
"""How a chart's description writes the numeric fields of its marks."""


def _find_description_errors(chart: PageValues) -> Iterator[str]:
    """Find numbers in a chart's description that neither come from words or figures of its marks nor count them."""
    known = {str(n) for n in range(len(chart["data"]) + 1)}
    for mark in chart["data"]:
        texts = [each for each in mark.values() if isinstance(each, str)]
        texts += [write(mark[name]) for name, write in WRITTEN.items() if mark.get(name) is not None]
        known.update(formats.find_numbers(to_page_text(" ".join(texts))))
    rest = to_page_text(chart["alt"]).removeprefix(to_page_text(chart["title"]))
    if unknown := [each for each in formats.find_numbers(rest) if each not in known]:
        yield f"its words have {', '.join(unknown)}, which no mark has"


_TICK = re.compile(r"([+-]?[\d.]+(?:e[+-]?\d+)?) ?%?")
_FARTHEST = 0.05
"""Pixels that a number on an axis may be off the line through the others: places are rounded to a thousandth."""
LEGENDS = ("kind", "source", "series", "roof")
"""Fields of marks that a legend has entries for."""


@dataclass(frozen=True)
class DrawnText:
    """A text in a drawing: its role, the axis or legend it belongs to, its lines and its place."""

    role: str
    group: int
    lines: tuple[str, ...]
    place: tuple[float, float]


def _read_texts(element: ElementTree.Element, role: str = "", group: int = 0) -> Iterator[DrawnText]:
    for child in element:
        tag = child.tag.rpartition("}")[2]
        if tag == "g":
            named = re.search(r"\brole-(\S+)", child.get("class", ""))
            yield from _read_texts(child, *((named.group(1), id(child)) if named else (role, group)))
        elif tag in ("text", "title", "desc"):
            lines = (formats.fold("".join(part.itertext())) for part in (list(child) or [child]))
            found = re.search(r"translate\(([-\d.e]+),([-\d.e]+)\)", child.get("transform", ""))
            x, y = found.groups() if found else (0, 0)
            yield DrawnText(role if tag == "text" else tag, group, tuple(filter(None, lines)), (float(x), float(y)))


def find_drawing_errors(chart: PageValues, drawing: str) -> Iterator[str]:
    """Find where the texts of a drawing differ from the marks."""
    try:
        texts = list(_read_texts(ElementTree.fromstring(drawing)))
    except (ElementTree.ParseError, RecursionError) as error:
        yield f"its drawing cannot be read: {error}"
        return
    # Each value has as many labels as marks (for promised and achieved FLOP/s only the outer marks are labelled).
    written = Counter(str(mark["text"]) for mark in chart["data"] if "text" in mark and mark.get("side") != "")
    drawn = Counter(" ".join(text.lines) for text in texts if text.role == "mark")
    if drawn != written:
        wrong = ", ".join((drawn - written) | (written - drawn))
        yield f"its drawing shows the values {wrong} more or less often than its marks"
    known = _list_drawn_words(chart["data"])
    for (role, _), found in groupby(texts, attrgetter("role", "group")):
        together = list(found)
        words = [" ".join(text.lines) for text in together]
        read = (_TICK.fullmatch(each.replace("−", "-").replace(",", "")) for each in words)
        ticks = [float(tick.group(1)) for tick in read if tick]
        if role in ("title", "desc"):
            right = to_page_text(chart["title" if role == "title" else "alt"])
            yield from (f"its drawing's {role} is {each[:80]!r}" for each in words if to_page_text(each) != right)
        elif role == "axis-label" and len(ticks) == len(words):
            if not _are_on_a_line(ticks, together):
                yield f"the numbers of its drawing's axis, {', '.join(words)}, do not fit their places"
        elif role == "axis-label":
            labels = list(dict.fromkeys(str(mark.get("label")) for mark in chart["data"]))
            if len(together) != len(labels) or not all(
                _is_known(line, _list_drawn_words([{"label": label}]))
                for text, label in zip(together, labels, strict=True)
                for line in text.lines
            ):
                yield f"its drawing labels the rows {' / '.join(words)}, its marks have others or another order"
        elif role == "legend-label":
            lines = [line for text in together for line in text.lines]
            yield from (
                f"its drawing has the text {line!r}, which no mark has" for line in lines if not _is_known(line, known)
            )
            yield from (f"its legend has {each!r} {n} times" for each, n in Counter(words).items() if n > 1)
        elif role != "mark":
            yield from (f"no rule to check {each!r} in the drawing" for each in words if formats.find_numbers(each))


def _list_drawn_words(marks: Marks) -> set[str]:
    """List each line that a row label or a legend may have: words of a mark, places, and what was timed."""
    known = {str(mark[name]) for mark in marks for name in LEGENDS if name in mark}
    for label in {str(mark.get("label")) for mark in marks}:
        lines = [formats.fold(line) for line in label.split("\n")[:-1] if line.strip()]
        known.update((*lines, ", ".join(lines[1:]), ", ".join(lines[1:3])))
    return known


def _is_known(line: str, known: set[str]) -> bool:
    cut = line.removesuffix("…").rstrip()
    return line in known or (cut != line and any(each.startswith(cut) for each in known))


def _are_on_a_line(values: Sequence[float], texts: Sequence[DrawnText]) -> bool:
    """Check that three or more numbers of an axis are on a straight line, as they are or as logarithms."""
    numbers, sides = np.array(values), np.transpose([text.place for text in texts])
    places = max(sides, key=lambda side: len(set(side)))
    ends = [numbers.argmin(), numbers.argmax()]
    scales = [numbers, np.log(numbers)] if min(numbers) > 0 else [numbers]
    # A place beyond every number fits nowhere.
    return len(values) < 3 or (
        np.isfinite(places).all()
        and any(
            scale[ends[0]] < scale[ends[1]]
            and np.abs(np.interp(scale, scale[ends], places[ends]) - places).max() <= _FARTHEST
            for scale in scales
        )
    )
