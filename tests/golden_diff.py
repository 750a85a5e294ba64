"""Compare two recorded folders by value: CSV by cell, JSON by path, HTML and SVG by text and embedded data, text by line."""

from __future__ import annotations

import csv
import difflib
import html.parser
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """A value that differs: the output it is in, its place there, and the value on both sides."""

    output: str
    place: str
    old: str
    new: str

    def __str__(self) -> str:
        """Show both values, of long ones the part around the first character that differs."""
        same = next((n for n, (a, b) in enumerate(zip(self.old, self.new, strict=False)) if a != b), 0)
        one, other = (_around(text, same) for text in (self.old, self.new))
        return f"{self.output}: {self.place}: {one} -> {other}"


@dataclass(frozen=True)
class Leaf:
    """A value with the place where it is printed."""

    place: str
    text: str


def compare(old: Path, new: Path) -> list[Difference]:
    """Return all differences between two recorded folders."""
    names = sorted(
        {path.relative_to(side).as_posix() for side in (old, new) for path in side.rglob("*") if path.is_file()}
    )
    found: list[Difference] = []
    for name in names:
        first, second = old / name, new / name
        if not (first.exists() and second.exists()):
            there = [("recorded" if path.exists() else ABSENT) for path in (first, second)]
            found.append(Difference(name, "file", *there))
        else:
            found += differences(name, first.read_bytes(), second.read_bytes())
    return found


def differences(name: str, old: bytes, new: bytes) -> list[Difference]:
    """Return the differences between two versions of one output; at least one where the bytes differ."""
    if old == new:
        return []
    sides = (old.decode(errors="surrogateescape"), new.decode(errors="surrogateescape"))
    try:
        found = list(_reader(name)(*sides))
    except ValueError:  # not what its name says, such as an error message where JSON was expected
        found = list(_by_line(*sides))
    if not found:
        found = [("bytes", f"{len(old)} bytes", f"{len(new)} bytes; equal values, other drawing, order or layout")]
    return [Difference(name, *each) for each in found]


Found = Iterator[tuple[str, str, str]]


def _reader(name: str) -> Callable[[str, str], Found]:
    """Return the comparison that suits a file of this name."""
    by_suffix = {".csv": _by_cell, ".json": _by_path, ".html": _by_leaf, ".svg": _by_leaf, ".xml": _by_leaf}
    return by_suffix.get(Path(name).suffix, _by_line)


def _by_line(old: str, new: str) -> Found:
    sides = [[Leaf(f"line {n}", line) for n, line in enumerate(text.split("\n"), 1)] for text in (old, new)]
    yield from _by_sequence(*sides)


def _by_cell(old: str, new: str) -> Found:
    """Compare rows in order, aligned where one side has more of them; cells by the name of their column."""
    tables = [list(csv.reader(io.StringIO(text, newline=""))) for text in (old, new)]
    heads = [table[0] if table else [] for table in tables]
    for column in sorted(set(heads[0]) ^ set(heads[1])):
        yield f"column {column}", *(column if column in head else ABSENT for head in heads)
    common = [column for column in heads[0] if column in heads[1]]
    rows = [
        [dict(zip(head, row, strict=False)) for row in table[1:]] for head, table in zip(heads, tables, strict=True)
    ]
    keys = [[tuple(row.get(column, "") for column in common) for row in side] for side in rows]
    for first, second in _aligned(*keys):
        at = f"row {(second if first is None else first) + 2}"
        if first is None or second is None:
            one = ABSENT if first is None else _row(rows[0][first])
            yield at, one, ABSENT if second is None else _row(rows[1][second])
            continue
        for n, column in enumerate(common):
            if keys[0][first][n] != keys[1][second][n]:
                yield f"{at}, column {column}", keys[0][first][n], keys[1][second][n]


def _row(cells: dict[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in cells.items() if text)


def _by_path(old: str, new: str) -> Found:
    yield from _values("$", json.loads(old), json.loads(new))


def _values(path: str, old: Any, new: Any) -> Found:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _values(f"{path}.{key}", old.get(key, _NONE), new.get(key, _NONE))
    elif isinstance(old, list) and isinstance(new, list):
        texts = [[json.dumps(each) for each in side] for side in (old, new)]
        for first, second in _aligned(*texts):
            at = f"{path}[{second if first is None else first}]"
            sides = (_NONE if first is None else old[first], _NONE if second is None else new[second])
            yield from _values(at, *sides)
    elif type(old) is not type(new) or old != new:
        yield path, *(ABSENT if each is _NONE else json.dumps(each, ensure_ascii=False) for each in (old, new))


_NONE = object()


def _by_leaf(old: str, new: str) -> Found:
    """Compare marked-up text: JSON inside by path, all other text and attributes in their order."""
    pages = [_Markup(text) for text in (old, new)]
    yield from _by_sequence(pages[0].leaves, pages[1].leaves)
    for key in [*pages[0].data, *(key for key in pages[1].data if key not in pages[0].data)]:
        yield from _values(key, *(page.data.get(key, _NONE) for page in pages))


def _by_sequence(old: Sequence[Leaf], new: Sequence[Leaf]) -> Found:
    for first, second in _aligned([each.text for each in old], [each.text for each in new]):
        one = None if first is None else old[first]
        other = None if second is None else new[second]
        if one is None or other is None or one.text != other.text:
            at = one or other
            assert at is not None
            yield at.place, *(ABSENT if each is None else each.text for each in (one, other))


def _aligned(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[int | None, int | None]]:
    """Pair the items of two lists: one by one where there are equally many, else by what they have in common."""
    if len(old) == len(new):
        return [(n, n) for n in range(len(old))]
    pairs: list[tuple[int | None, int | None]] = []
    for _, a, b, c, d in difflib.SequenceMatcher(None, old, new).get_opcodes():
        for n in range(max(b - a, d - c)):
            pairs.append((a + n if a + n < b else None, c + n if c + n < d else None))
    return pairs


class _Markup(html.parser.HTMLParser):
    """What a page or drawing says: text with its table cell, attributes in words, and the JSON embedded in it."""

    SPOKEN = ("alt", "title", "aria-label", "href", "id", "name", "message", "data-sort", "data-value", "colspan")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.leaves: list[Leaf] = []
        self.data: dict[str, Any] = {}
        self._tables, self._row, self._cell, self._inside = 0, 0, 0, ""
        self._heard: list[str] = []
        self.feed(source)
        self.close()
        self._flush()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._flush()
        if tag == "table":
            self._tables, self._row = self._tables + 1, 0
        elif tag == "tr":
            self._row, self._cell = self._row + 1, 0
        elif tag in ("td", "th"):
            self._cell += 1
        named = dict(attrs)
        self._inside = f"{tag} {named.get('id') or ''}".strip()
        for name in self.SPOKEN:
            if named.get(name):
                self._add(f"{self._place()}, {name}", str(named[name]))

    def handle_endtag(self, tag: str) -> None:
        self._flush()
        if tag == "table":
            self._row = 0
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self._heard.append(data)

    def _flush(self) -> None:
        """Take the text since the last tag, which the parser may have handed over in pieces."""
        text = "".join(self._heard).strip()
        self._heard.clear()
        if text.startswith(("{", "[")) and self._inside.startswith(("script", "metadata")):
            try:
                self.data[f"{self._inside} {len(self.data)}"] = json.loads(text)
                return
            except ValueError:
                pass
        for line in text.split("\n"):
            if line.strip():
                self._add(self._place(), " ".join(line.split()))

    def handle_comment(self, data: str) -> None:
        self._flush()
        self._add("comment", data.strip())

    def _place(self) -> str:
        if self._row:
            return f"table {self._tables}, row {self._row}, cell {self._cell}"
        return f"{self._inside or 'text'}, line {self.getpos()[0]}"

    def _add(self, place: str, text: str) -> None:
        self.leaves.append(Leaf(place, text))


@dataclass
class Exemption:
    """A declared difference: outputs by glob, places by pattern, what the old value becomes, and why."""

    reason: str
    outputs: str = "*"
    places: str = ""
    old: str = ""
    new: str | None = None
    same_numbers: bool = False
    """Only words may differ: a difference in the numbers is not declared."""
    used: int = field(default=0, compare=False)

    def covers(self, found: Difference) -> bool:
        """Return whether this is about the difference's output, place and old value."""
        return (
            fnmatchcase(found.output, self.outputs)
            and re.search(self.places, found.place) is not None
            and re.search(self.old, found.old) is not None
        )


def load_exceptions(path: Path) -> list[Exemption]:
    """Read the declared exceptions; none where there is no such file. Raises ValueError for one without a reason."""
    if not path.exists():
        return []
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("exception", [])
    for table in tables:
        if unknown := set(table) - {"reason", "outputs", "places", "old", "new", "same_numbers"}:
            raise ValueError(f"{path}: unknown {', '.join(sorted(unknown))} in an exception")
        if not table.get("reason"):
            raise ValueError(f"{path}: an exception without a reason: {table}")
        if "new" in table and not table.get("old"):
            raise ValueError(f"{path}: an exception with `new` and without the `old` that it replaces: {table}")
    return [Exemption(**table) for table in tables]


def undeclared(found: Sequence[Difference], exceptions: Sequence[Exemption]) -> list[Difference]:
    """Return the differences that no exception explains, and count what each exception explained.

    Those with `new` rewrite the old value, all that apply one after the other; the result must be the new value.
    """
    return [each for each in found if not _declared(each, exceptions)]


def _declared(found: Difference, exceptions: Sequence[Exemption]) -> bool:
    applied, text = [], found.old
    for each in exceptions:
        if not each.covers(found):
            continue
        if each.new is None:
            if each.same_numbers and _list_numbers(found.old) != _list_numbers(found.new):
                continue
            each.used += 1
            return True
        text = re.sub(each.old, each.new, text)
        applied.append(each)
    if not applied or text != found.new:
        return False
    for each in applied:
        each.used += 1
    return True


def _list_numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:[.,:]\d+)*", text))


def _around(text: str, place: int, most: int = 160) -> str:
    if len(text) <= most:
        return repr(text)
    begin = max(0, min(place - most // 2, len(text) - most))
    cut = text[begin : begin + most]
    return repr(f"{'... ' if begin else ''}{cut}{' ...' if begin + most < len(text) else ''}")
