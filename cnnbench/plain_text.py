"""Names and error texts as plain text: on one line, and nothing in them steers a terminal or the eye.

A ledger may come from anywhere: a processor in it may be called ten screens of control characters. What a medium needs beside
this (Markdown, LaTeX, a spreadsheet) is `report.escaping`'s.
"""

from __future__ import annotations

import re

LONGEST = 500
"""Characters of one text that are shown: a processor's name has up to 50, an error message is one sentence or two."""
UNSHOWN = "\N{REPLACEMENT CHARACTER}"
STEERING = r"\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""DEL and C1 controls, overrides and isolates of the writing direction, halves of a character."""
_STEERS = re.compile(rf"[\x00-\x08\x0b-\x1f\u2028\u2029{STEERING}]")
_BLANK = re.compile(r"[^\S\x1c-\x1f]+")
"""Unicode's white space, but not the four separators that are control characters too."""


def printable(text: str) -> str:
    """The text with its line ends, tabs and blanks, and U+FFFD for each character that steers a terminal or the eye."""
    return _STEERS.sub(UNSHOWN, text)


def plain(text: str, longest: int | None = LONGEST) -> str:
    """The text on one line, runs of white space as one blank, `printable`, cut to `longest` characters with an ellipsis."""
    line = printable(_BLANK.sub(" ", text)).strip(" ")
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"
