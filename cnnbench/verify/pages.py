"""A page's values: tables, charts and words, each figure derived again from the ledgers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cnnbench.verify import charts, formats, machines, prose, tables
from cnnbench.verify.raw_rows import to_page_text
from cnnbench.verify.values import ValueSubject
from cnnbench.verify.view import PageView

PageValues = Mapping[str, Any]
UNRULED = {"method"}
"""Tables without figures."""
RULED = frozenset({*tables.TABLES, "machines", *UNRULED})
"""Tables of which a page or a file is recognised as one that can be made again."""
FIRST_HEADINGS = frozenset({"processor", "mode", "epoch", "process"})
"""The same by the heading of their first column."""
DIGESTED = re.compile(r"sha256:[0-9a-f]+")
"""A ledger's digest, which is compared by itself."""
QUOTED = {"problem", "reference", "warning"}
"""Kinds of notes in the words of a file, a source or a process."""
IN_RESOURCES = {"host_peak", "device_peak"}
"""Columns that a page's table of resources has too."""


def find_errors(view: PageView, page: PageValues) -> Iterator[str]:
    """All that a page says and the ledgers do not."""
    for table in each_table(page):
        name = f"table {table['key']}"
        if table["key"] in tables.TABLES:
            yield from (f"{name}: {each}" for each in tables.find_errors(view, table))
        elif table["key"] == "machines":
            yield from (f"{name}: {each}" for each in machines.find_errors(table, view))
    yield from _find_missing_tables(view, page)
    for chart in each_chart(page):
        yield from (f"chart {chart['key']}: {each}" for each in find_chart_errors(view, chart))
    yield from _find_word_errors(view, page)


def each_table(page: PageValues) -> Iterator[Mapping[str, Any]]:
    """Every table of the page."""
    return (table for section in page["sections"] for table in section["tables"])


def each_chart(page: PageValues) -> Iterator[Mapping[str, Any]]:
    """Every chart of the page."""
    return (chart for section in page["sections"] for chart in section["charts"])


def count_skipped(page: PageValues) -> int:
    """Tables of kinds that there are no rules for."""
    return sum(table["key"] not in RULED for table in each_table(page))


def _find_missing_tables(view: PageView, page: PageValues) -> Iterator[str]:
    """Tables that a whole report must have, for there are rows of theirs."""
    if view.options.get("template") == "full":
        there = {table["key"] for table in each_table(page)}
        for key, expected in tables.TABLES.items():
            if key not in there and expected.lines(view):
                yield f"it lacks the table {key}"


def find_chart_errors(view: PageView, chart: Mapping[str, Any]) -> Iterator[str]:
    """What a chart has that the records do not, in its marks and in words."""
    key, marks = chart["key"], chart["data"]
    if key not in charts.IN_WORDS:
        yield "no second derivation of its marks"
        return

    def find(place: str, mark: Mapping[str, Any]) -> ValueSubject | None:
        rows = [(str(mark["run"]), str(mark["row"]))] if mark.get("run") is not None else []
        return tables.find_subject(view, place, mark, rows)

    yield from charts.find_errors(view, key, marks, find)
    yield from charts.find_description_errors(key, to_page_text(chart["title"]), chart["alt"], marks)


def _find_word_errors(view: PageView, page: PageValues) -> Iterator[str]:
    """Numbers in words that are of nothing the page is about."""
    known = prose.known_numbers(view, page)
    row = next((view.by_mark.get((run, key)) for run, key in page["headline"]["rows"]), None)
    claim = known if row is None else prose.claim_numbers(view, row)
    texts = [("the claim", sentence, claim) for sentence in page["headline"]["sentences"]]
    for section in page["sections"]:
        texts += [(f"section {section['key']}", section["lead"], known | prose.lead_numbers(view))]
        texts += [
            (f"the note {each['text'][:40]!r}", each["text"], known)
            for each in section["notes"]
            if each["kind"] not in QUOTED
        ]
        texts += [(f"chart {each['key']}", f"{each['title']} {each['caption']}", known) for each in section["charts"]]
        texts += [(f"table {each['key']}", f"{each['title']} {each['clock']}", known) for each in section["tables"]]
    texts += [
        (f"the note {each['text'][:40]!r}", each["text"], known) for each in page["notes"] if each["kind"] not in QUOTED
    ]
    for where, text, numbers in dict.fromkeys((where, text, frozenset(numbers)) for where, text, numbers in texts):
        if unknown := [each for each in formats.find_numbers(DIGESTED.sub("", text)) if each not in numbers]:
            yield f"{where}: {', '.join(unknown)} in {text[:120]!r} is no number of the records"


def find_shown_errors(full: PageValues, shown: PageValues) -> Iterator[str]:
    """What a page shows of its tables that they do not have: only whole lines and silent columns may be left out."""
    whole = {table["key"]: table for table in each_table(full)}
    has_resources = "resources" in whole
    for table in each_table(shown):
        full_table = whole[table["key"]]
        keys, all_keys = ([column["key"] for column in each["columns"]] for each in (table, full_table))
        kept = [all_keys.index(key) for key in keys]
        gone = [n for n, key in enumerate(all_keys) if n not in kept and not (has_resources and key in IN_RESOURCES)]
        lines = [line for group in full_table["groups"] for line in group["lines"]]
        if any(line["cells"][n]["text"] not in ("", formats.UNKNOWN) for line in lines for n in gone):
            yield f"table {table['key']}: it leaves out {', '.join(all_keys[n] for n in gone)}, which has figures"
        rest = iter([[line["cells"][n]["text"] for n in kept] for line in lines])
        for line in (line for group in table["groups"] for line in group["lines"]):
            texts = [cell["text"] for cell in line["cells"]]
            if not any(texts == each for each in rest):
                yield f"table {table['key']}: the line {texts[0]!r} is not one of its lines"
                break
