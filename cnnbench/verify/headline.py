"""What a page says first, in sentences: each number there must be one of the row that the claim is about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from cnnbench.verify import cells, numbers_in_text
from cnnbench.verify.expectations import Expectations, ExpectedRow
from cnnbench.verify.raw_rows import RawRow, may_be_called, to_page_text

_BRACKETS = r"(?: \([^()]*\))?"
_METRICS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("time of the job", re.compile(rf"\bin (~?\d+:\d\d:[\d.]+{_BRACKETS})")),
    ("over", re.compile(rf"(~?[\d.,]+x{_BRACKETS}) the speed of ")),
    ("speed-up", re.compile(rf"([\d.,]+(?:e-\d+)?x{_BRACKETS}) as fast as ")),
    ("of peak", re.compile(rf"\breaches ([\d.,]+ %{_BRACKETS}) of the best")),
    ("achieved", re.compile(rf"\breaches ([\d.,e+]+) GFLOP/s({_BRACKETS})")),
    ("one step", re.compile(r"\btakes ([\d.,]+ \w+) for an? \w+ step")),
    ("what binds", re.compile(r"What binds the step: ([^;]+);")),
)
"""Where a figure stands in a claim, by the heading it has in the tables."""
_BASE = re.compile(r" as fast as (.+?) \((.+?)(?:, (\d+) threads?)?\)\.(?= |$)")
_ORIGIN = re.compile(r" of the best matrix product on the same cores(?: in the same (\w+))?")
_SIDE = re.compile(r" of side ([\d,]+)")
_POINT = re.compile(r"(\d+) times the FLOPS, (\d+) times the speed: .* for the (.+) against its CPU")
SAME_MACHINE_CPU = "the CPU beside it"


def check_headline(text: str, view: Expectations) -> list[str]:
    """What of a claim is not so."""
    if text.startswith(("No process ended well: ", "No process reached its target: ")):
        return list(_find_outcome_errors(text, view))
    rows = [(row, name) for row in view.shown if (name := _name(text, row)) is not None]
    if rows:
        return min((list(_find_errors(text, view, view.expect_row(row), name)) for row, name in rows), key=len)
    verbs = (" trains ", " runs ", " takes ")
    nobody = ["is about no row of the records"] if any(verb in text for verb in verbs) else []
    return nobody + list(numbers_in_text.find_unknown_numbers(text))


def _name(text: str, row: RawRow) -> str | None:
    """The beginning of the text that names the row, `AMD EPYC (cpu, 2 threads)`."""
    end = text.find(f" ({row.place}) ")
    name = text[:end]
    return f"{name} ({row.place})" if end > 0 and may_be_called(row.full_name, name) else None


def _find_errors(text: str, view: Expectations, wanted: ExpectedRow, name: str) -> Iterator[str]:
    row = wanted.row
    if not isinstance(row, RawRow):
        return
    rest = text.replace(name, " ")
    yield from _find_origin_errors(rest, row, wanted.product)
    for column, pattern in _METRICS:
        found = pattern.search(rest)
        if found is None:
            continue
        try:
            yield from cells.find_cell_errors(cells.read_cell(column, "".join(found.groups())), wanted)
        except ValueError as error:
            yield f"{column}: {error}"
        rest = rest.replace(found.group(1), " ", 1)
        if found.lastindex == 2:
            rest = rest.replace(found.group(2), " ", 1)
    if base := _BASE.search(rest):
        yield from _find_baseline_errors(base, view, wanted.base)
        rest = f"{rest[: base.start()]} {rest[base.end() :]}"
    if (side := _SIDE.search(rest)) and side.group(1) == f"{row.job.size:,}":
        rest = rest.replace(side.group(), " ", 1)
    if view.published is not None:
        rest = numbers_in_text.remove_names(rest, (f"{view.published.year}'s {view.published.processor}",))
    yield from numbers_in_text.find_phrase_errors(rest, row)


def _find_origin_errors(text: str, row: RawRow, product: RawRow | None) -> Iterator[str]:
    """`of the best matrix product of the same run`: or of the same boot only."""
    said = _ORIGIN.search(text)
    if said is None:
        return
    right = "no product" if product is None else "run" if product.header.run_id == row.header.run_id else "boot"
    if said.group(1) != right:
        yield f"compares with a product of the same {said.group(1)}, from the records it is {right}"


def _find_baseline_errors(printed: re.Match[str], view: Expectations, base: RawRow | None) -> Iterator[str]:
    whom, name, threads = printed.groups()
    if whom != (view.scope.baseline or SAME_MACHINE_CPU):
        yield f"is over {whom!r}, the page's speed-ups are over {view.scope.baseline or SAME_MACHINE_CPU!r}"
    if (
        base is None
        or not may_be_called(base.full_name, name)
        or threads != (base.job.threads and str(base.job.threads))
    ):
        yield f"its baseline is not {name!r} with {threads} threads"


def _find_outcome_errors(text: str, view: Expectations) -> Iterator[str]:
    """`No process ended well: 3 oom, 1 not run.`"""
    ended = Counter(record.outcome.status for row in view.shown for record in row.records)
    right = dict(ended) | {"not run": sum(row.unstarted for row in view.shown)}
    printed = {name: int(n) for n, name in re.findall(r"(\d+) ([a-z ]+?)(?=[,.])", text)}
    if printed != {name: n for name, n in right.items() if n}:
        yield f"counts {printed}, from the records it is {right}"


def find_point_errors(prose: str, view: Expectations) -> Iterator[str]:
    """The lecture's point, `264 times the FLOPS, 19 times the speed`, against the published rows."""
    for printed in _POINT.finditer(prose):
        flops, speed, name = printed.groups()
        rows = {to_page_text(row.processor): row for row in view.references}
        row, base = rows.get(name), view.published
        if row is None or base is None or not (row.job_seconds and base.job_seconds):
            yield f"no published row is {name!r}"
        elif not row.printed_flops_per_second or not base.printed_flops_per_second:
            yield f"no FLOPS are printed for {name!r}"
        else:
            right = (row.printed_flops_per_second / base.printed_flops_per_second, base.job_seconds / row.job_seconds)
            if (flops, speed) != tuple(f"{each:.0f}" for each in right):
                yield f"{printed.group(0)[:60]!r}: from the published rows it is {right[0]:.1f} and {right[1]:.1f}"
