"""The lecture's stopping rule derived again: from each evaluation of all test images, with log-gamma in place of a product."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from cnnbench.schema import Evaluation, Record, Trial
from cnnbench.verify import columns, expected_line, intervals
from cnnbench.verify.expectations import Expectations
from cnnbench.verify.expected_line import CheckedLines, ExpectedCell, LineRule
from cnnbench.verify.intervals import ExpectedFigure
from cnnbench.verify.pages import PrintedRow
from cnnbench.verify.raw_rows import RawRow, RawValue

IMAGES = 10_000
MOST_EPOCHS = 1000
"""That a network of one accuracy is followed for."""
TABLES = ("stopping", "stopped")
"""Their keys in table files."""
ALL_HEADING = f"accuracy on all {IMAGES:,}"
STOPPED_HEADING = "chance of having stopped by then"
PROCESS_HEADINGS = ["process", "stopped after epoch"]
_CHANCE = re.compile(r"chance that ([\d,]+) are all right")
_NETWORK = re.compile(r"a network right on ([\d,]+) of ([\d,]+)(?:, epoch after epoch)?")
_CLAUSE = r"by epoch \d+ with probability [^;]+? %, at a true accuracy of [^;]+? %"
_CONCLUSION = re.compile(
    rf"stops when ([\d,]+) random test images are all right has stopped, (?:on|with) (.+?), ({_CLAUSE}.*?)\.$"
)
"""A conclusion, at the end of a line."""


def is_stopping_table(headings: Sequence[str]) -> bool:
    """Whether a page's table with these headings is one of the rule: epoch by epoch, or process by process."""
    by_epoch = headings[:1] == ["epoch"] and headings[-1:] == [STOPPED_HEADING]
    return by_epoch or headings[:2] == PROCESS_HEADINGS


def check_table(
    headings: Sequence[str], groups: Sequence[tuple[str, Sequence[PrintedRow]]], view: Expectations
) -> CheckedLines:
    """A page's table of the rule."""
    if headings[:2] == PROCESS_HEADINGS:
        return expected_line.check_groups(
            headings, groups, lambda title: [partial(_expect_process, r, view) for r in find_titled_rows(title, view)]
        )
    sample = next((_parse_integer(found.group(1)) for each in headings if (found := _CHANCE.fullmatch(each))), 0)

    def candidates(title: str) -> list[LineRule]:
        if network := _NETWORK.fullmatch(title):
            return (
                [partial(_expect_closed_form, _parse_integer(network.group(1)), sample)]
                if _parse_integer(network.group(2)) == IMAGES
                else []
            )
        return [
            partial(_expect_epoch, row, view, sample) for row in find_titled_rows(title, view) if accuracy_curves(row)
        ]

    return expected_line.check_groups(headings, groups, candidates)


def expect_line(
    printed: Mapping[str, object], table: str, row: RawRow | None, view: Expectations
) -> Sequence[ExpectedCell] | None:
    """What a line of a table file should say; None where the records have no such line."""
    sample, epoch = _parse_count(printed.get("sample_images")), str(_parse_count(printed.get("epoch")))
    if table == "stopped":
        return None if row is None else _expect_process(row, view, str(_parse_count(printed.get("process"))))
    if row is None:
        return (
            None
            if "run_id" in printed
            else _expect_closed_form(_parse_count(printed.get("true_accuracy"), IMAGES), sample, epoch)
        )
    return _expect_epoch(row, view, sample, epoch)


def find_conclusion_errors(prose: str, view: Expectations) -> Iterator[str]:
    """What is wrong in sentences that say by which epoch the rule has stopped."""
    for line in prose.splitlines():
        if printed := _CONCLUSION.search(line):
            sample, name, clauses = _parse_integer(printed.group(1)), printed.group(2), printed.group(3)
            ways = [list(each.find_errors(clauses)) for each in _sentences(name, clauses, sample, view)]
            yield from min(ways, key=len) if ways else [f"no raw record is of {name!r}"]


def _sentences(name: str, clauses: str, sample: int, view: Expectations) -> Iterator[ExpectedCell]:
    """What may be said of the rows of that name; of a network without records, as far as it is said to go."""
    if network := _NETWORK.fullmatch(name):
        right, last = (
            _parse_integer(network.group(1)),
            max(int(each) for each in re.findall(r"by epoch (\d+)", clauses)),
        )
        if 1 <= last <= MOST_EPOCHS and _parse_integer(network.group(2)) == IMAGES:
            yield _sentence([right / IMAGES] * last, _chances_stopped([chance_all_right(right, sample)] * last))
        return
    for row in _shown(view):
        if row.printed_as(name) and (found := accuracy_curves(row)):
            length = min(map(len, found))
            shares = [_accuracy([curve[n] for curve in found]).value for n in range(length)]
            yield _sentence(shares, _mean_stopped(found, sample))


def _sentence(shares: Sequence[float], stopped: Sequence[float]) -> ExpectedCell:
    half = next((n for n, each in enumerate(stopped) if each >= 0.5), len(stopped) - 1)
    parts: list[str] = []
    numbers: list[tuple[float, int]] = []
    for n in dict.fromkeys((half, len(stopped) - 1)):
        text, figures = _chance_text(stopped[n])
        parts.append(f"by epoch {{}} with probability {text}, at a true accuracy of {{}} %")
        numbers += [(n + 1, 0), *figures, (100 * shares[n], 2)]
    return ExpectedCell("conclusion", "the conclusion", "; ".join(parts), tuple(numbers))


def find_titled_rows(title: str, view: Expectations) -> list[RawRow]:
    """The rows that a group can be of: `AMD EPYC (cpu, 2 threads) · fp32 · mnist-cnn v1 · batch 125 ...`."""
    found = []
    for row in _shown(view):
        for cut in re.finditer(rf" · {re.escape(row.job.precision)} · ", title):
            if row.printed_as(title[: cut.start()]) and not view.find_word_errors(title[cut.end() :], row):
                found.append(row)
                break
    return found


def _shown(view: Expectations) -> Sequence[RawRow]:
    return view.rows if view.scope.runs is None else view.shown


def accuracy_curves(row: RawRow) -> list[list[int]]:
    """Test images right after epochs 1, 2, 3..., a list a process that looked at all of them after each."""
    steps = row.job.steps_per_epoch
    found = []
    for _, trial in _is_training(row):
        right = {each.after_steps: each.correct for each in trial.epoch_evaluations if each.images == IMAGES}
        curve: list[int] = []
        while steps and (len(curve) + 1) * steps in right:
            curve.append(right[(len(curve) + 1) * steps])
        if curve:
            found.append(curve)
    return found


def _is_training(row: RawRow) -> Iterator[tuple[Record, Trial]]:
    for record in row.records:
        if record.outcome.status in ("ok", "missed") and record.outcome.trial is not None:
            yield record, record.outcome.trial


def chance_all_right(right: int, sample: int) -> float:
    """C(right, sample) / C(10,000, sample)."""
    if right < sample:
        return 0.0
    return math.exp(_log_choose(right, sample) - _log_choose(IMAGES, sample))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _chances_stopped(chances: Sequence[float]) -> list[float]:
    found, going_on = [], 1.0
    for each in chances:
        going_on *= 1 - each
        found.append(1 - going_on)
    return found


def _mean_stopped(found: Sequence[Sequence[int]], sample: int) -> list[float]:
    stopped = [_chances_stopped([chance_all_right(right, sample) for right in curve]) for curve in found]
    return [math.fsum(each) / len(found) for each in zip(*stopped, strict=False)]


def _accuracy(right: Sequence[int]) -> ExpectedFigure:
    if len(right) == 1:
        return intervals.wilson(right[0], IMAGES)
    return intervals.mean_share([each / IMAGES for each in right])


def _expect_epoch(row: RawRow, view: Expectations, sample: int, first: str) -> list[ExpectedCell] | None:
    """A line of what the rule would have done to that row."""
    found, n = accuracy_curves(row), _parse_count(first)
    if not found or not 1 <= n <= min(map(len, found)):
        return None
    now = [curve[n - 1] for curve in found]
    all_right = math.fsum(chance_all_right(right, sample) for right in now) / len(now)
    figure = _accuracy(now)
    return _expect_cells(
        n,
        sample,
        _share(figure, f"n={figure.n}"),
        all_right,
        _mean_stopped(found, sample)[n - 1],
        _identify_row(row, view),
    )


def _expect_closed_form(right: int, sample: int, first: str) -> list[ExpectedCell] | None:
    """A line of the rule at one true accuracy, without records."""
    n = _parse_count(first)
    if not 1 <= n <= MOST_EPOCHS or not 0 <= right <= IMAGES:
        return None
    all_right, share = chance_all_right(right, sample), right / IMAGES
    accuracy = ExpectedCell("true_accuracy", ALL_HEADING, "{} %", ((100 * share, 2),), {"true_accuracy": share})
    return _expect_cells(n, sample, accuracy, all_right, _chances_stopped([all_right] * n)[-1], {})


def _expect_cells(
    n: int, sample: int, accuracy: ExpectedCell, all_right: float, stopped: float, identity: Mapping[str, RawValue]
) -> list[ExpectedCell]:
    drawn: dict[str, RawValue] = {"chance_all_right": all_right, "sample_images": sample}
    return [
        ExpectedCell("epoch", "epoch", "{}", ((n, 0),), {"epoch": n, **identity}),
        accuracy,
        ExpectedCell("all_right", f"chance that {sample:,} are all right", *_chance_text(all_right), drawn),
        ExpectedCell("stopped", STOPPED_HEADING, *_chance_text(stopped), {"chance_stopped": stopped}),
    ]


def _expect_process(row: RawRow, view: Expectations, first: str) -> list[ExpectedCell] | None:
    """A line of what the rule did to a process."""
    for record, trial in _is_training(row):
        steps = row.job.steps_per_epoch
        if str(record.job.round + 1) == first and trial.epoch_evaluations and steps and row.job.stop_when_all_right:
            return _expect_stop(record, trial, trial.epoch_evaluations[-1], steps, _identify_row(row, view))
    return None


def _expect_stop(
    record: Record, trial: Trial, last: Evaluation, steps: int, identity: Mapping[str, RawValue]
) -> list[ExpectedCell]:
    process, epoch = record.job.round + 1, last.after_steps // steps
    by_rule, test = last.correct == last.images, trial.test
    then = test is not None and test.images == IMAGES and test.after_steps == last.after_steps
    accuracy = intervals.wilson(test.correct, test.images) if then and test is not None else None
    never = "" if by_rule else " (its last; never all right)"
    ended: dict[str, RawValue] = {"stopped_epoch": epoch, "stopped_by_rule": by_rule}
    right: dict[str, RawValue] = {"sample_right": last.correct, "sample_images": last.images}
    return [
        ExpectedCell(
            "process", "process", "{}", ((process, 0),), {"process": process, "seed": record.job.seed, **identity}
        ),
        ExpectedCell("stopped_epoch", "stopped after epoch", f"{{}}{never}", ((epoch, 0),), ended),
        ExpectedCell("sample", "right of the sample", "{} of {}", ((last.correct, 0), (last.images, 0)), right),
        _share(accuracy),
    ]


def _identify_row(row: RawRow, view: Expectations) -> Mapping[str, RawValue]:
    """Which row a line is of."""
    return columns.raw_values("processor", "", view.expect_row(row))


def _share(figure: ExpectedFigure | None, *beside: str) -> ExpectedCell:
    """An accuracy on all test images with its interval."""
    ends = (None,) * 4 if figure is None else (figure.value, figure.low, figure.high, figure.n)
    names = ("true_accuracy", "true_accuracy_low", "true_accuracy_high", "true_accuracy_n")
    values: dict[str, RawValue] = dict(zip(names, ends, strict=True))
    if figure is None:
        return ExpectedCell("true_accuracy", ALL_HEADING, "n/a", (), values)
    ends_known = figure.low is not None and figure.high is not None
    details = "; ".join((*(("{}–{} %",) if ends_known else ()), *beside))
    numbers = [(100 * each, 2) for each in (figure.value, figure.low, figure.high) if each is not None]
    return ExpectedCell(
        "true_accuracy", ALL_HEADING, f"{{}} % ({details})" if details else "{} %", tuple(numbers), values
    )


def _chance_text(value: float) -> tuple[str, tuple[tuple[float, int], ...]]:
    """A chance is printed with two decimals, never as 0 or 100 % where it is neither."""
    rounded = f"{100 * value:.2f}"
    if value > 0 and rounded == "0.00":
        return "<0.01 %", ()
    return (">99.99 %", ()) if value < 1 and rounded == "100.00" else ("{} %", ((100 * value, 2),))


def _parse_integer(digits: str) -> int:
    return int(digits.replace(",", "") or 0)


def _parse_count(printed: object, of: int = 1) -> int:
    """A whole number as a page or a file says it, or as a share of so many; 0 for anything else."""
    try:
        return round(of * float(str(printed).replace(",", "")))
    except (ValueError, OverflowError):
        return 0
