"""Pages and files read back by their own marks: tables cell by cell, the values stored in them, drawings' texts."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from html.parser import HTMLParser
from typing import Any

SEAL = re.compile(r"(?m)^<!-- cnnbench page sha256:([0-9a-f]{64}) -->$")
MARK = re.compile(r"(?m)^<!-- cnnbench page.*$")
"""What can only be a digest, whole or broken."""
OPEN = re.compile(r"(?m)^<!-- table: .*$")
"""The mark that a generated part of a page begins with."""
PLACE = re.compile(r"translate\(([-\d.e]+),([-\d.e]+)\)")
DRAWING = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
Grid = list[tuple[int, list[str]]]
"""The rows of a table, headings and titles of groups too, each with the line of the file it is on."""


@dataclass(frozen=True)
class DrawnText:
    """A text of a drawing: its role there, which axis or legend it belongs to, its lines, where it stands."""

    role: str
    group: int
    lines: tuple[str, ...]
    place: tuple[float, float]


@dataclass
class ReadPage:
    """What an HTML page or a drawing says."""

    tables: dict[str, Grid] = field(default_factory=dict)
    drawings: dict[str, list[list[DrawnText]]] = field(default_factory=dict)
    """The texts of each drawing by the key of its chart."""
    stored: dict[str, str] = field(default_factory=dict)
    """Data inside it, by the id of its element."""


class _Reader(HTMLParser):
    """Collects the texts of cells, of drawings, and of elements that hold data."""

    def __init__(self) -> None:
        super().__init__()
        self.page = ReadPage()
        self._table = self._chart = self._id = ""
        self._text: list[str] | None = None
        self._place = (0.0, 0.0)
        self._roles: list[tuple[str, int]] = []
        self._row: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        named = {name: value or "" for name, value in attrs}
        if tag == "table":
            self._table = named.get("id", "").removeprefix("rows-")
        elif tag == "figure":
            self._chart = named.get("id", "").removeprefix("chart-")
        elif tag == "svg":
            self.page.drawings.setdefault(self._chart, []).append([])
            self._roles = []
        elif tag == "g":
            role = re.search(r"\brole-(\S+)", named.get("class", ""))
            self._roles.append((role.group(1), self.getpos()[1]) if role else (self._roles or [("", 0)])[-1])
        elif tag == "tr":
            self._row = []
        elif tag == "tspan" and self._text is not None:
            self._text.append("\n")
        drawn = tag in ("title", "desc") and bool(self.page.drawings)
        if drawn or tag in ("td", "th", "text", "metadata") or (tag == "script" and "json" in named.get("type", "")):
            self._text, self._id = [], named.get("id", "")
            place = PLACE.search(named.get("transform", ""))
            self._place = (float(place.group(1)), float(place.group(2))) if place else (0.0, 0.0)

    def handle_data(self, data: str) -> None:
        """Text of the innermost element that is read."""
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        text = "".join(self._text or ())
        if tag in ("td", "th"):
            self._row.append(" ".join(text.split()))
        elif tag == "tr":
            self.page.tables.setdefault(self._table, []).append((self.getpos()[0], self._row))
        elif tag in ("text", "title", "desc") and self.page.drawings.get(self._chart):
            lines = tuple(part.strip() for part in text.split("\n") if part.strip())
            role, group = (self._roles or [("", 0)])[-1] if tag == "text" else (tag, 0)
            self.page.drawings[self._chart][-1].append(DrawnText(role, group, lines, self._place))
        elif tag in ("script", "metadata") and self._id:
            self.page.stored[self._id] = text
        elif tag == "g" and self._roles:
            self._roles.pop()
        if tag in ("td", "th", "text", "title", "desc", "script", "metadata"):
            self._text, self._id = None, ""


@lru_cache(maxsize=8)
def read_html(text: str) -> ReadPage:
    """An HTML page, or a drawing in a file of its own."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.page


def read_stored(name: str, text: str) -> str:
    """The data that a picture carries; a PNG's bytes are given as characters. Nothing where it carries none."""
    if name.endswith(".svg"):
        found = re.search(r'<metadata id="cnnbench-data">(.*?)</metadata>', text, re.DOTALL)
        return found.group(1) if found else ""
    mark = "tEXtcnnbench\0"
    start = text.find(mark)
    length = int.from_bytes(text[start - 4 : start].encode("latin-1"), "big") - len("cnnbench\0") if start >= 4 else 0
    return text[start + len(mark) : start + len(mark) + length] if length > 0 else ""


def unescape(text: str) -> str:
    """What GitHub shows of the text: a backslash before punctuation, comments and the tags around a dollar go."""
    return re.sub(r"\\([!-/:-@\[-`{-~])|<!-- -->|</?span>", r"\1", text)


def read_markdown(text: str) -> Grid:
    """The rows of all tables of a Markdown page in order, the bold line before a table too."""
    found: Grid = []
    title: tuple[int, list[str]] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if bold := re.fullmatch(r"\*\*(.+)\*\*", line):
            title = number, [" ".join(unescape(bold.group(1)).split())]
        elif line.startswith("|") and not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+\s*", line):
            found += [title] if title else []
            title = None
            found.append((number, [unescape(cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]))
        elif line.strip() and not line.startswith("|"):
            title = None
    return found


def shown_grid(table: Mapping[str, Any], *, html: bool) -> Iterator[list[str]]:
    """The rows that a page should show of a table: in HTML the headings once, in Markdown under each group's title."""
    heads = [" ".join(each["title"].replace("-\n", "").split()) for each in table["columns"]]
    units = [each["unit"] for each in table["columns"]]
    headings = [f"{head} [{unit}]" if unit else head for head, unit in zip(heads, units, strict=True)]
    if html:
        yield [heading or "mark" for heading in headings]
    for group in table["groups"]:
        yield [" ".join(group["title"].split())]
        if not html:
            yield headings
        for line in group["lines"]:
            yield [" ".join(cell["text"].split()) for cell in line["cells"]]


def read_json(text: str) -> Any:
    """A document in which no name is in an object twice. Raises ValueError where one is, or where it is no JSON."""

    def reject_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"a name stands twice among {', '.join(name for name, _ in pairs[:4])}, ...")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=reject_repeated)


def read_csv(text: str) -> list[dict[str, str]] | None:
    """The lines of a CSV file of tables; None where it is none of ours."""
    reader = csv.DictReader(io.StringIO(text))
    return list(reader) if {"table", "group", "clock_rule"} <= set(reader.fieldnames or ()) else None


def find_parts(text: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Where each generated part begins, and the digest of itself that it ends in."""
    position = 0
    for seal in SEAL.finditer(text):
        opened = list(OPEN.finditer(text, position, seal.start()))
        yield (opened[-1].end() + 1 if opened else position), seal
        position = seal.end() + 1
