"""HTML pages and SVG drawings read back; what is in scripts and styles is none of a page's text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from cnnbench.schema import digest
from cnnbench.verify.pages import (
    Drawing,
    DrawnText,
    PrintedChart,
    PrintedPage,
    PrintedRow,
    PrintedTable,
    find_runs,
    strip_unit,
)

Attributes = dict[str, str]
_PLACE = re.compile(r"translate\(([-\d.e]+),([-\d.e]+)\)")
_ROLE = re.compile(r"\brole-(\S+)")


def read_html(path: Path, text: str) -> PrintedPage:
    """An HTML page."""
    reader = _Reader(PrintedPage(path))
    reader.feed(text)
    reader.close()
    reader.page.notes = "\n".join(f"- {' '.join(note.split())}" for note in reader.notes)
    reader.page.runs = find_runs("\n".join(reader.notes))
    return reader.page


def read_svg(text: str) -> PrintedChart:
    """A drawing in a file of its own; `stored` is empty where it carries no data of ours."""
    reader = _Reader(PrintedPage(Path()))
    reader.chart = PrintedChart(1)
    reader.feed(text)
    reader.close()
    return reader.chart


def read_png(text: str) -> PrintedChart:
    """A picture whose bytes are given as characters: what its chunk of text named `cnnbench` says."""
    mark = "tEXtcnnbench\0"
    start = text.find(mark)
    if start < 4:
        return PrintedChart(1)
    length = int.from_bytes(text[start - 4 : start].encode("latin-1"), "big") - len("cnnbench\0")
    return PrintedChart(1, text[start + len(mark) : start + len(mark) + length])


def read_vega(key: str, text: str) -> PrintedChart:
    """A Vega-Lite specification with the data it draws; it carries no digest of them."""
    try:
        rows = json.loads(text)["datasets"]["rows"]
    except (ValueError, KeyError, TypeError):
        return PrintedChart(1)
    body = json.dumps(rows)
    return PrintedChart(1, f'{{"chart":{json.dumps(key)},"sha256":"{digest(f"{key}{chr(10)}{body}")}","rows":{body}}}')


class _Reader(HTMLParser):
    """Collects the texts of the elements that have figures; what such an element ends with is put where it belongs."""

    def __init__(self, page: PrintedPage) -> None:
        super().__init__()
        self.page = page
        self.chart: PrintedChart | None = None
        self.notes: list[str] = []
        self._open: list[tuple[str, Attributes, list[str], Callable[[int, Attributes, str], None], int]] = []
        self._claim = self._words = False
        self._row: list[tuple[str, Attributes]] | None = None
        self._row_line = 0
        self._group = ""
        self._roles: list[tuple[str, int]] = []
        self._groups = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        attributes = {name: value or "" for name, value in attrs}
        if tag == "tspan" and self._open:
            self._open[-1][2].append("\n")
        if tag == "table":
            self.page.tables.append(PrintedTable(self.getpos()[0]))
            self._group = ""
        elif tag == "tr":
            self._row, self._row_line = [], self.getpos()[0]
        elif tag == "div":
            self._claim = "claim" in attributes.get("class", "").split()
        elif tag == "figure":
            self.chart = PrintedChart(self.getpos()[0])
        elif tag == "details":
            self._words = self.chart is not None
        elif tag == "svg":
            self._roles = []
            if self.chart is not None:
                self.chart.drawings.append(Drawing())
        elif tag == "g":
            self._begin_role(attributes)
        if found := self._reader_of(tag, attributes):
            self._open.append((tag, attributes, [], found, self.getpos()[0]))

    def _begin_role(self, attributes: Attributes) -> None:
        role = _ROLE.search(attributes.get("class", ""))
        if role is None:
            self._roles.append(self._roles[-1] if self._roles else ("", 0))
        else:
            self._groups += 1
            self._roles.append((role.group(1), self._groups))

    def _reader_of(self, tag: str, attributes: Attributes) -> Callable[[int, Attributes, str], None] | None:
        """What takes the element's text; None where it has none of its own."""
        names = attributes.get("class", "").split()
        readers: dict[str, Callable[[int, Attributes, str], None] | None] = {
            "th": self._cell,
            "td": self._cell,
            "p": self._end_headline
            if self._claim
            else self._end_words
            if self._words
            else self._lead
            if "lead" in names
            else None,
            "li": self._note,
            "script": self._data if "chart-data" in names else None,
            "metadata": self._data if attributes.get("id") == "cnnbench-data" else None,
            "figcaption": self._caption,
            "text": self._end_drawn_text,
            "title": self._end_title if self.chart is not None and self.chart.drawings else None,
            "desc": self._end_description if self.chart is not None and self.chart.drawings else None,
        }
        return readers.get(tag)

    def handle_data(self, data: str) -> None:
        """Text of the innermost element that is read."""
        if self._open:
            self._open[-1][2].append(data)

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        if self._open and self._open[-1][0] == tag:
            _, attributes, texts, reader, line = self._open.pop()
            reader(line, attributes, "".join(texts))
        if tag == "tr":
            self._end_row()
        elif tag == "figure" and self.chart is not None:
            self.page.charts.append(self.chart)
            self.chart = None
        elif tag == "details":
            self._words = False
        elif tag == "div":
            self._claim = False
        elif tag == "g" and self._roles:
            self._roles.pop()

    def _cell(self, line: int, attributes: Attributes, text: str) -> None:
        if self._row is not None:
            self._row.append((" ".join(text.split()), attributes))

    def _end_row(self) -> None:
        row, self._row = self._row, None
        if not row or not self.page.tables:
            return
        table = self.page.tables[-1]
        if len(row) == 1 and "colspan" in row[0][1]:
            self._group = row[0][0]
        elif not table.headings:
            table.headings = [strip_unit(text) for text, _ in row]
        else:
            cells, keys = (tuple(text for text, _ in row), tuple(each.get("data-value") for _, each in row))
            table.rows.append(PrintedRow(self._row_line, cells, self._group, keys))

    def _end_headline(self, line: int, attributes: Attributes, text: str) -> None:
        """All sentences of a claim are one."""
        begun = self.page.headlines.pop() if self.page.headlines else (line, "")
        self.page.headlines.append((begun[0], f"{begun[1]} {' '.join(text.split())}".strip()))

    def _end_words(self, line: int, attributes: Attributes, text: str) -> None:
        if self.chart is not None:
            self.chart.words.append(" ".join(text.split()))

    def _lead(self, line: int, attributes: Attributes, text: str) -> None:
        self.page.prose += text.strip() + "\n"

    def _note(self, line: int, attributes: Attributes, text: str) -> None:
        self.notes.append(text)

    def _data(self, line: int, attributes: Attributes, text: str) -> None:
        if self.chart is not None:
            self.chart.stored = text

    def _caption(self, line: int, attributes: Attributes, text: str) -> None:
        if self.chart is not None:
            self.chart.title = " ".join(text.split())

    def _end_title(self, line: int, attributes: Attributes, text: str) -> None:
        if self.chart is not None:
            self.chart.drawings[-1].title = " ".join(text.split())

    def _end_description(self, line: int, attributes: Attributes, text: str) -> None:
        if self.chart is not None:
            self.chart.drawings[-1].description = " ".join(text.split())

    def _end_drawn_text(self, line: int, attributes: Attributes, text: str) -> None:
        if self.chart is not None and self.chart.drawings:
            role, group = self._roles[-1] if self._roles else ("", 0)
            lines = tuple(part.strip() for part in text.split("\n") if part.strip())
            place = _PLACE.search(attributes.get("transform", ""))
            x, y = (float(place.group(1)), float(place.group(2))) if place else (0.0, 0.0)
            self.chart.drawings[-1].texts.append(DrawnText(role, group, lines, (x, y)))
