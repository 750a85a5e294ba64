"""What a page says, whatever its format: its tables, claim, charts and pictures, each with the line it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SEAL = re.compile(r"(?m)^<!-- cnnbench page sha256:([0-9a-f]{64}) -->$")
MARK = re.compile(r"(?m)^<!-- cnnbench page.*$")
"""What can only be a digest, whole or broken."""
OPEN = re.compile(r"(?m)^<!-- table: .*$")
"""The mark that a generated part of a page begins with."""
_RUN = re.compile(r"Ledger [^\n/]*/([^\s/]+) sha256:([0-9a-f]*)")


@dataclass(frozen=True)
class PrintedRow:
    """A row's cells as text, the title of its group, and what its cells sort by (None where the page does not sort)."""

    line: int
    cells: tuple[str, ...]
    group: str = ""
    keys: tuple[str | None, ...] = ()


@dataclass
class PrintedTable:
    """A table of a page: where it begins, its headings without units, its rows."""

    line: int
    headings: list[str] = field(default_factory=list)
    rows: list[PrintedRow] = field(default_factory=list)


@dataclass(frozen=True)
class DrawnText:
    """A text of a drawing: its role there, which axis or legend it belongs to, its lines, where it stands."""

    role: str
    group: int
    lines: tuple[str, ...]
    place: tuple[float, float]


@dataclass
class Drawing:
    """A picture's texts, its title and its description in words."""

    texts: list[DrawnText] = field(default_factory=list)
    title: str = ""
    description: str = ""


@dataclass
class PrintedChart:
    """A chart of a page or in a file of its own: its data as stored, its drawings, what is said of it in words."""

    line: int
    stored: str = ""
    title: str = ""
    drawings: list[Drawing] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LinkedChart:
    """A picture that a Markdown page links to, with the bold title above it and its description."""

    line: int
    title: str
    words: str
    target: str


@dataclass
class PrintedPage:
    """All of a page that has figures."""

    path: Path
    tables: list[PrintedTable] = field(default_factory=list)
    headlines: list[tuple[int, str]] = field(default_factory=list)
    charts: list[PrintedChart] = field(default_factory=list)
    linked_charts: list[LinkedChart] = field(default_factory=list)
    runs: list[tuple[str, str]] = field(default_factory=list)
    """Runs that the page says it is made of, with the beginning of each ledger's final digest."""
    prose: str = ""
    """The text of a Markdown page as its reader sees it; of an HTML page its lead sentences."""
    notes: str = ""
    """The notes under its tables, one a line."""


def strip_unit(text: str) -> str:
    """A column's heading without its unit."""
    return text.partition(" [")[0].strip()


def unescape(text: str) -> str:
    """What GitHub shows of the text: a backslash before punctuation, comments and the tags around a dollar go."""
    return re.sub(r"\\([!-/:-@\[-`{-~])|<!-- -->|</?span>", r"\1", text)


def find_runs(text: str) -> list[tuple[str, str]]:
    """The runs whose ledgers a text names, with the digests it names."""
    return list(dict.fromkeys(_RUN.findall(text)))


def read_markdown(path: Path, text: str) -> PrintedPage:
    """A Markdown page."""
    prose = unescape(text)
    page = PrintedPage(path, list(read_tables(text)), list(_find_headlines(text)), runs=find_runs(prose), prose=prose)
    page.notes = "\n".join(line for line in prose.splitlines() if line.startswith("- "))
    for found in re.finditer(r"(?m)(?:^\*\*(.+)\*\*\n\n)?^!\[(.*)\]\(([^()]+)\)$", text):
        title, words, target = (unescape(part or "") for part in found.groups())
        page.linked_charts.append(LinkedChart(text.count("\n", 0, found.end()) + 1, title, words, target))
    return page


def read_tables(text: str) -> Iterator[PrintedTable]:
    """Every table of a Markdown text; the bold line before a table is the title of its group."""
    current: PrintedTable | None = None
    title = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|"):
            if current is not None and current.rows:
                yield current
                title = ""
            current = None
            if bold := re.fullmatch(r"\*\*(.+)\*\*", line):
                title = unescape(bold.group(1))
            elif line.strip():
                title = ""
            continue
        cells = [unescape(cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if current is None:
            current = PrintedTable(number, [strip_unit(cell) for cell in cells])
        elif not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+\s*", line):
            current.rows.append(PrintedRow(number, tuple(cells), title))
    if current is not None and current.rows:
        yield current


def _find_headlines(text: str) -> Iterator[tuple[int, str]]:
    """The bold paragraph that a generated part of a page begins with, after its title."""
    for begin, seal in find_parts(text):
        for found in re.finditer(r"(?m)^(?!# ).*\S.*$", text[begin : seal.start()]):
            if found.group().startswith("**"):
                bold = re.sub(r"(?<!\\)\*\*", "", found.group())
                yield text.count("\n", 0, begin + found.start()) + 1, unescape(bold)
            break


def find_parts(text: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Where each generated part begins, and the digest of itself that it ends in."""
    position = 0
    for seal in SEAL.finditer(text):
        opened = list(OPEN.finditer(text, position, seal.start()))
        yield (opened[-1].end() + 1 if opened else position), seal
        position = seal.end() + 1
