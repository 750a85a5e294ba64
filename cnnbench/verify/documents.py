"""Read pages and files back by the marks in them: ledgers and options, tables cell by cell, the values stored in them."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from cnnbench.verify.formats import fold

Options = Mapping[str, Any]
"""How a document was made: its command, the runs of its ledgers, and the options given."""
PAGE = "<!-- cnnbench page"
_LINE_COMMENT = r"<(?<![^\n]<)!-- "
"""The beginning of a comment that begins a line. A search for a letter is ten times as fast as one for a line's beginning."""
_SEAL = rf"{_LINE_COMMENT}cnnbench page sha256:([0-9a-f]{{64}}) -->$"
SEAL = re.compile(_SEAL, re.MULTILINE)
MARK = re.compile(rf"{_LINE_COMMENT}cnnbench page.*$", re.MULTILINE)
"""A line that can only be a digest, whole or broken."""
OPEN = re.compile(rf"{_LINE_COMMENT}table: .*$", re.MULTILINE)
"""The mark that a generated part of a page begins with."""
DRAWING = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
APART = re.compile(rf"<(?:svg\b.*?</svg>|{_SEAL.removeprefix('<')})", re.DOTALL | re.MULTILINE)
"""The parts of a page that are compared separately: its drawings, and its digest, which covers them."""
VALUES = "cnnbench_page"
"""The first key of a page's values, in `page.json` and inside the HTML."""
_MADE_OF = re.compile(rf"{_LINE_COMMENT}cnnbench made of ")
_MADE_OF_JSON = re.compile(rf'\{{\s*"(?:cnnbench|{VALUES})":\s*"[^"]*",\s*"options":\s*')
"""The text before a document's options: in a Markdown page, and in JSON, which HTML has inside."""
Grid = list[tuple[int, list[str]]]
"""The rows of tables, headings and group titles too, each with its line in the file."""


def read_options(text: str) -> Options | None:
    """Read the options that a text was made with; None if it names none. Raises ValueError if they are broken."""
    found = _MADE_OF.search(text) or _MADE_OF_JSON.search(text)
    options, _ = json.JSONDecoder().raw_decode(text, found.end()) if found else (None, 0)
    return options if isinstance(options, dict) and "runs" in options else None


def find_runs(text: str) -> list[tuple[str, str]]:
    """List the runs whose ledgers a text names, each with the digest it names."""
    named = unescape("\n".join(re.findall(r"Ledger [^\n]{,3000}?sha256:[0-9a-f]*", text)))
    return list(dict.fromkeys(re.findall(r"Ledger [^\n/]*/([^\s/]+) sha256:([0-9a-f]*)", named)))


def find_parts(text: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Find where each generated part begins, and the digest of the part at its end."""
    position = 0
    for seal in SEAL.finditer(text):
        opened = list(OPEN.finditer(text, position, seal.start()))
        yield (opened[-1].end() + 1 if opened else position), seal
        position = seal.end() + 1


def read_html(text: str) -> Grid:
    """Read the rows of all tables of an HTML page in order."""
    # Line ends of a script remain, so that the line numbers of later rows are right.
    bare = re.sub(r"(?s)<script\b.*?</script>", lambda script: "\n" * script.group().count("\n"), text)
    bare = DRAWING.sub("", bare)
    found = []
    line, position = 1, 0
    for row in re.finditer(r"<tr\b.*?</tr>", bare, re.DOTALL):
        line, position = line + bare.count("\n", position, row.start()), row.start()
        cells = re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", row.group(), re.DOTALL)
        found.append((line, [fold(html.unescape(re.sub(r"<[^>]*>", "", cell))) for cell in cells]))
    return found


def unescape(text: str) -> str:
    """Convert Markdown to the text GitHub shows: without comments, tags around $ and backslashes before punctuation."""
    return re.sub(r"\\([!-/:-@\[-`{-~])|<!-- -->|</?span>", r"\1", text)


def read_markdown(text: str) -> Grid:
    """Read the rows of all tables of a Markdown page in order, the bold line before a table too."""
    found: Grid = []
    title = None
    for number, line in enumerate(text.splitlines(), start=1):
        if bold := re.fullmatch(r"\*\*(.+)\*\*", line):
            title = number, [fold(unescape(bold.group(1)))]
        elif line.startswith("|") and not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+\s*", line):
            found += [title] if title else []
            title = None
            found.append((number, [unescape(cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]))
        elif line.strip() and not line.startswith("|"):
            title = None
    return found


def shown_grid(table: Mapping[str, Any], *, html: bool) -> Iterator[list[str]]:
    """List a table's rows as a page should show them: headings once in HTML, under each group's title in Markdown."""
    headings = [
        fold(f"{each['title']} [{each['unit']}]".removesuffix(" []").replace("-\n", "")) for each in table["columns"]
    ]
    if html:
        yield [heading or "mark" for heading in headings]
    for group in table["groups"]:
        yield [fold(group["title"])]
        if not html:
            yield headings
        for line in group["lines"]:
            yield [fold(cell["text"]) for cell in line["cells"]]


def read_json(text: str) -> Any:
    """Parse JSON. Raises ValueError if it is malformed or an object has a name twice."""

    def reject_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"a name is repeated among {', '.join(name for name, _ in pairs[:4])}, ...")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=reject_repeated)


@lru_cache(maxsize=1)
def read_csv(text: str) -> list[dict[str, str]]:
    """Read the lines of a CSV file of tables; empty if cnnbench did not write it."""
    csv.field_size_limit(max(131_072, len(text)))  # the cell of options may be longer than the default
    head, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    if not {"table", "group", "clock_rule"} <= set(head):
        return []
    return [dict(zip(head, [cell.lstrip("'") for cell in row], strict=False)) for row in rows]


def read_stored(text: str) -> str:
    """Read the data stored in a picture, a PNG given as one character per byte; empty if it stores none."""
    if drawn := re.search(r'<metadata id="cnnbench-data">(.*?)</metadata>', text, re.DOTALL):
        return drawn.group(1)
    mark = re.search(r"(.{4})tEXt(?=(cnnbench\0))", text, re.DOTALL)
    length = int.from_bytes(mark.group(1).encode("latin-1"), "big") if mark else 0
    return text[mark.end(2) : mark.end() + length] if mark else ""
