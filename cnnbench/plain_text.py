"""Names and error texts as plain text: on one line, without characters that control a terminal or mislead the eye.

A ledger may come from anywhere: a processor's name in it may be ten screens of control characters. What a format
(Markdown, LaTeX, a spreadsheet) needs besides is in `report.escaping`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

LONGEST = 500
"""Longest text shown, in characters: a processor's name has up to 50, an error message is one sentence or two."""
UNSHOWN = "\N{REPLACEMENT CHARACTER}"
STEERING = r"\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""DEL and C1 controls, overrides and isolates of the writing direction, halves of a character."""
_STEERS = re.compile(rf"[\x00-\x08\x0b-\x1f\u2028\u2029{STEERING}]")
_BLANK = re.compile(r"[^\S\x1c-\x1f]+")
"""Unicode's white space, except the four separators that are control characters too."""


def printable(text: str) -> str:
    """Replace each character that controls a terminal or misleads the eye by U+FFFD.

    Line ends, tabs and blanks stay.
    """
    return _STEERS.sub(UNSHOWN, text)


@lru_cache(maxsize=4096)
def plain(text: str, longest: int | None = LONGEST) -> str:
    """Put the text on one line, printable and cut to `longest` characters with an ellipsis.

    Runs of white space become one blank.
    """
    line = printable(_BLANK.sub(" ", text)).strip(" ")
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def format_value(value: object, *, bare: bool = False) -> str:
    """Format a value as the suite's author wrote it, shortened if it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if bare else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def suggest_nearest(word: str, known: Collection[str]) -> str:
    """Suggest `; did you mean 'precision'?` if a known word is near; otherwise empty."""
    import difflib  # imported here, because most commands are spelled right

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def suggest_choices(word: str, known: Collection[str]) -> str:
    """Suggest the nearest of the known words, else list all of them."""
    every = f"choose from {', '.join(known)}" if known else "there is nothing to set"
    return suggest_nearest(word, known) or f"; {every}"
