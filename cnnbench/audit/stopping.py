"""The lecture's stopping rule derived again: from each evaluation of all test images, with log-gamma in place of a product."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from cnnbench.audit import columns, expected, intervals
from cnnbench.audit.expected import Expected, Found, Line, Value
from cnnbench.audit.intervals import Figure
from cnnbench.audit.pages import PrintedRow
from cnnbench.audit.raw import RawRow
from cnnbench.audit.views import View
from cnnbench.schema import Evaluation, Record, Trial

IMAGES = 10_000
MOST_EPOCHS = 1000
"""That a network of one accuracy is followed for."""
TABLES = ("stopping", "stopped")
"""Their keys in table files."""
ALL = f"accuracy on all {IMAGES:,}"
STOPPED = "chance of having stopped by then"
PROCESS = ["process", "stopped after epoch"]
_CHANCE = re.compile(r"chance that ([\d,]+) are all right")
_NETWORK = re.compile(r"a network right on ([\d,]+) of ([\d,]+)(?:, epoch after epoch)?")
_CLAUSE = r"by epoch \d+ with probability [^;]+? %, at a true accuracy of [^;]+? %"
_SAID = re.compile(
    rf"stops when ([\d,]+) random test images are all right has stopped, (?:on|with) (.+?), ({_CLAUSE}.*?)\.$"
)
"""A conclusion, at the end of a line."""


def is_one(headings: Sequence[str]) -> bool:
    """Whether a page's table with these headings is one of the rule: epoch by epoch, or process by process."""
    by_epoch = headings[:1] == ["epoch"] and headings[-1:] == [STOPPED]
    return by_epoch or headings[:2] == PROCESS


def check(headings: Sequence[str], groups: Sequence[tuple[str, Sequence[PrintedRow]]], view: View) -> Found:
    """A page's table of the rule."""
    if headings[:2] == PROCESS:
        return expected.check(headings, groups, lambda title: [partial(_process, r, view) for r in titled(title, view)])
    sample = next((_whole(found.group(1)) for each in headings if (found := _CHANCE.fullmatch(each))), 0)

    def candidates(title: str) -> list[Line]:
        if network := _NETWORK.fullmatch(title):
            return [partial(_closed, _whole(network.group(1)), sample)] if _whole(network.group(2)) == IMAGES else []
        return [partial(_epoch, row, view, sample) for row in titled(title, view) if curves(row)]

    return expected.check(headings, groups, candidates)


def of_line(said: Mapping[str, object], table: str, row: RawRow | None, view: View) -> Sequence[Expected] | None:
    """What a line of a table file should say; None where the records have no such line."""
    sample, epoch = _count(said.get("sample_images")), str(_count(said.get("epoch")))
    if table == "stopped":
        return None if row is None else _process(row, view, str(_count(said.get("process"))))
    if row is None:
        return None if "run_id" in said else _closed(_count(said.get("true_accuracy"), IMAGES), sample, epoch)
    return _epoch(row, view, sample, epoch)


def wrong_conclusions(prose: str, view: View) -> Iterator[str]:
    """What is wrong in sentences that say by which epoch the rule has stopped."""
    for line in prose.splitlines():
        if said := _SAID.search(line):
            sample, name, clauses = _whole(said.group(1)), said.group(2), said.group(3)
            ways = [list(each.wrong(clauses)) for each in _sentences(name, clauses, sample, view)]
            yield from min(ways, key=len) if ways else [f"no raw record is of {name!r}"]


def _sentences(name: str, clauses: str, sample: int, view: View) -> Iterator[Expected]:
    """What may be said of the rows of that name; of a network without records, as far as it is said to go."""
    if network := _NETWORK.fullmatch(name):
        right, last = _whole(network.group(1)), max(int(each) for each in re.findall(r"by epoch (\d+)", clauses))
        if 1 <= last <= MOST_EPOCHS and _whole(network.group(2)) == IMAGES:
            yield _sentence([right / IMAGES] * last, _stopped([chance(right, sample)] * last))
        return
    for row in _shown(view):
        if row.printed_as(name) and (found := curves(row)):
            length = min(map(len, found))
            shares = [_accuracy([curve[n] for curve in found]).value for n in range(length)]
            yield _sentence(shares, _mean_stopped(found, sample))


def _sentence(shares: Sequence[float], stopped: Sequence[float]) -> Expected:
    half = next((n for n, each in enumerate(stopped) if each >= 0.5), len(stopped) - 1)
    parts: list[str] = []
    numbers: list[tuple[float, int]] = []
    for n in dict.fromkeys((half, len(stopped) - 1)):
        text, figures = _chance_text(stopped[n])
        parts.append(f"by epoch {{}} with probability {text}, at a true accuracy of {{}} %")
        numbers += [(n + 1, 0), *figures, (100 * shares[n], 2)]
    return Expected("conclusion", "the conclusion", "; ".join(parts), tuple(numbers))


def titled(title: str, view: View) -> list[RawRow]:
    """The rows that a group can be of: `AMD EPYC (cpu, 2 threads) · fp32 · mnist-cnn v1 · batch 125 ...`."""
    found = []
    for row in _shown(view):
        for cut in re.finditer(rf" · {re.escape(row.job.precision)} · ", title):
            if row.printed_as(title[: cut.start()]) and not view.wrong_words(title[cut.end() :], row):
                found.append(row)
                break
    return found


def _shown(view: View) -> Sequence[RawRow]:
    return view.rows if view.scope.runs is None else view.shown


def curves(row: RawRow) -> list[list[int]]:
    """Test images right after epochs 1, 2, 3..., a list a process that looked at all of them after each."""
    steps = row.job.steps_per_epoch
    found = []
    for _, trial in _trained(row):
        right = {each.after_steps: each.correct for each in trial.epoch_evaluations if each.images == IMAGES}
        curve: list[int] = []
        while steps and (len(curve) + 1) * steps in right:
            curve.append(right[(len(curve) + 1) * steps])
        if curve:
            found.append(curve)
    return found


def _trained(row: RawRow) -> Iterator[tuple[Record, Trial]]:
    for record in row.records:
        if record.outcome.status in ("ok", "missed") and record.outcome.trial is not None:
            yield record, record.outcome.trial


def chance(right: int, sample: int) -> float:
    """C(right, sample) / C(10,000, sample)."""
    if right < sample:
        return 0.0
    return math.exp(_log_choose(right, sample) - _log_choose(IMAGES, sample))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _stopped(chances: Sequence[float]) -> list[float]:
    found, going_on = [], 1.0
    for each in chances:
        going_on *= 1 - each
        found.append(1 - going_on)
    return found


def _mean_stopped(found: Sequence[Sequence[int]], sample: int) -> list[float]:
    stopped = [_stopped([chance(right, sample) for right in curve]) for curve in found]
    return [math.fsum(each) / len(found) for each in zip(*stopped, strict=False)]


def _accuracy(right: Sequence[int]) -> Figure:
    if len(right) == 1:
        return intervals.wilson(right[0], IMAGES)
    return intervals.mean_share([each / IMAGES for each in right])


def _epoch(row: RawRow, view: View, sample: int, first: str) -> list[Expected] | None:
    """A line of what the rule would have done to that row."""
    found, n = curves(row), _count(first)
    if not found or not 1 <= n <= min(map(len, found)):
        return None
    now = [curve[n - 1] for curve in found]
    all_right = math.fsum(chance(right, sample) for right in now) / len(now)
    figure = _accuracy(now)
    return _line(
        n, sample, _share(figure, f"n={figure.n}"), all_right, _mean_stopped(found, sample)[n - 1], _of(row, view)
    )


def _closed(right: int, sample: int, first: str) -> list[Expected] | None:
    """A line of the rule at one true accuracy, without records."""
    n = _count(first)
    if not 1 <= n <= MOST_EPOCHS or not 0 <= right <= IMAGES:
        return None
    all_right, share = chance(right, sample), right / IMAGES
    accuracy = Expected("true_accuracy", ALL, "{} %", ((100 * share, 2),), {"true_accuracy": share})
    return _line(n, sample, accuracy, all_right, _stopped([all_right] * n)[-1], {})


def _line(
    n: int, sample: int, accuracy: Expected, all_right: float, stopped: float, identity: Mapping[str, Value]
) -> list[Expected]:
    drawn: dict[str, Value] = {"chance_all_right": all_right, "sample_images": sample}
    return [
        Expected("epoch", "epoch", "{}", ((n, 0),), {"epoch": n, **identity}),
        accuracy,
        Expected("all_right", f"chance that {sample:,} are all right", *_chance_text(all_right), drawn),
        Expected("stopped", STOPPED, *_chance_text(stopped), {"chance_stopped": stopped}),
    ]


def _process(row: RawRow, view: View, first: str) -> list[Expected] | None:
    """A line of what the rule did to a process."""
    for record, trial in _trained(row):
        steps = row.job.steps_per_epoch
        if str(record.job.round + 1) == first and trial.epoch_evaluations and steps and row.job.stop_when_all_right:
            return _stop(record, trial, trial.epoch_evaluations[-1], steps, _of(row, view))
    return None


def _stop(record: Record, trial: Trial, last: Evaluation, steps: int, identity: Mapping[str, Value]) -> list[Expected]:
    process, epoch = record.job.round + 1, last.after_steps // steps
    by_rule, test = last.correct == last.images, trial.test
    then = test is not None and test.images == IMAGES and test.after_steps == last.after_steps
    accuracy = intervals.wilson(test.correct, test.images) if then and test is not None else None
    never = "" if by_rule else " (its last; never all right)"
    ended: dict[str, Value] = {"stopped_epoch": epoch, "stopped_by_rule": by_rule}
    right: dict[str, Value] = {"sample_right": last.correct, "sample_images": last.images}
    return [
        Expected(
            "process", "process", "{}", ((process, 0),), {"process": process, "seed": record.job.seed, **identity}
        ),
        Expected("stopped_epoch", "stopped after epoch", f"{{}}{never}", ((epoch, 0),), ended),
        Expected("sample", "right of the sample", "{} of {}", ((last.correct, 0), (last.images, 0)), right),
        _share(accuracy),
    ]


def _of(row: RawRow, view: View) -> Mapping[str, Value]:
    """Which row a line is of."""
    return columns.raw("processor", "", view.wanted(row))


def _share(figure: Figure | None, *beside: str) -> Expected:
    """An accuracy on all test images with its interval."""
    ends = (None,) * 4 if figure is None else (figure.value, figure.low, figure.high, figure.n)
    names = ("true_accuracy", "true_accuracy_low", "true_accuracy_high", "true_accuracy_n")
    values: dict[str, Value] = dict(zip(names, ends, strict=True))
    if figure is None:
        return Expected("true_accuracy", ALL, "n/a", (), values)
    ends_known = figure.low is not None and figure.high is not None
    details = "; ".join((*(("{}–{} %",) if ends_known else ()), *beside))
    numbers = [(100 * each, 2) for each in (figure.value, figure.low, figure.high) if each is not None]
    return Expected("true_accuracy", ALL, f"{{}} % ({details})" if details else "{} %", tuple(numbers), values)


def _chance_text(value: float) -> tuple[str, tuple[tuple[float, int], ...]]:
    """A chance is printed with two decimals, never as 0 or 100 % where it is neither."""
    rounded = f"{100 * value:.2f}"
    if value > 0 and rounded == "0.00":
        return "<0.01 %", ()
    return (">99.99 %", ()) if value < 1 and rounded == "100.00" else ("{} %", ((100 * value, 2),))


def _whole(digits: str) -> int:
    return int(digits.replace(",", "") or 0)


def _count(said: object, of: int = 1) -> int:
    """A whole number as a page or a file says it, or as a share of so many; 0 for anything else."""
    try:
        return round(of * float(str(said).replace(",", "")))
    except (ValueError, OverflowError):
        return 0
