"""Escape names and error texts, so that each medium shows them as text.

A ledger may come from anywhere. A processor in it may be called `<script>`, `=HYPERLINK(...)` or ten screens of control
characters, and a terminal, a page, a spreadsheet or a typesetter must only show them. Every function here accepts any
text and raises nothing; those for one medium put the text on one line and keep its length.
"""

from __future__ import annotations

import json
import re

from cnnbench.plain_text import STEERING, UNSHOWN
from cnnbench.plain_text import plain as plain
from cnnbench.plain_text import printable as printable

_BREAK = "<!-- -->"
"""An invisible break. A backslash would not stop GitHub from linking what follows an @: it checks the rendered text."""
_MARKDOWN = (
    (re.compile(r"[\\`*_~<>|\[\]&#]|!(?=\[)"), r"\\\g<0>"),
    (re.compile(r"\$"), "<span>$</span>"),  # as GitHub's manual writes a dollar outside formulas
    (re.compile(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)(?=[^\W_])"), _BREAK),
    (re.compile(r"(?<=:)(?=[0-9_+\\-]*[a-z][a-z0-9_+\\-]*:)"), _BREAK),  # :name: would become a picture
    (re.compile(r"^((?=[-+=]+(?: |$))|\d{1,9}(?=[.)](?: |$)))"), r"\1\\"),  # a list's mark, or a heading's underline
)


def markdown(text: str) -> str:
    """Escape a text so that GitHub shows it unchanged in a paragraph, a list or a cell.

    Nothing in it becomes mark-up, a link, a mention or a formula. Harmless characters are not escaped.
    """
    line = plain(text, None)
    for pattern, replacement in _MARKDOWN:
        line = pattern.sub(replacement, line)
    return line


_LATEX_ALWAYS = {
    **{character: f"\\{character}" for character in "{}$&%#_"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\ensuremath{\sim}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "`": r"\textasciigrave{}",
    '"': r"\texttt{\char34}",  # \textquotedbl stops pdflatex in its default font encoding
    "[": "{[}",
    "]": "{]}",  # after \\ and \item a bracket opens an option
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "\u2011": r"\mbox{-}",
    "…": r"\ldots{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "×": r"\ensuremath{\times}",
    "±": r"\ensuremath{\pm}",
    "µ": r"\ensuremath{\mu}",
    "μ": r"\ensuremath{\mu}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "≈": r"\ensuremath{\approx}",
    "→": r"\ensuremath{\to}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "°": r"\textdegree{}",
    "√": r"\ensuremath{\surd}",
    "·": r"\ensuremath{\cdot}",
    "−": r"\ensuremath{-}",
    "®": r"\textregistered{}",
    "™": r"\texttrademark{}",
    "©": r"\textcopyright{}",
    UNSHOWN: "?",
}
_LATEX_COMMANDS = _LATEX_ALWAYS | {"*": "{*}", "-": "-{}", ",": ",{}", "'": r"\textquotesingle{}"}
_LATEX = re.compile(
    r"^\*|-(?=-)|,(?=,)"  # \\* is a command too; -- and ,, are ligatures
    r"|(?<![^\W_])'|'(?![^\W_])"  # an apostrophe stays
    rf"|[{re.escape(''.join(_LATEX_ALWAYS))}]"
)


def latex(text: str) -> str:
    """Escape a text for LaTeX: commands, ligatures and characters unknown to pdflatex become commands that show them.

    Letters outside ASCII stay: pdflatex knows Latin ones; other scripts need lualatex or xelatex.
    """
    return _LATEX.sub(lambda found: _LATEX_COMMANDS[found.group()], plain(text, None))


_FORMULA = re.compile(r"[\s\"'\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[ \"']*[\t\r]")
"""The beginning of a cell that a spreadsheet would calculate (OWASP, "CSV Injection"), full-width = + - @ included."""


def csv(text: str) -> str:
    """Put a ' before a text that a spreadsheet would calculate, so that the cell shows it; not for numbers."""
    return ("'" if _FORMULA.match(text) else "") + plain(text, None)


_NOT_XML = re.compile(r"[\ufffe\uffff]")
"""Characters that XML 1.0 forbids even when escaped, and `plain` keeps: section 2.2, Char."""


def xml(text: str) -> str:
    """Put a text on one line without characters that XML forbids; the writer of the element escapes < & and quotes."""
    return _NOT_XML.sub(UNSHOWN, plain(text, None))


_COMMAND_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_COMMAND_PROPERTY = _COMMAND_DATA | str.maketrans({":": "%3A", ",": "%2C"})
"""GitHub's own escapes: `escapeData` and `escapeProperty` of actions/toolkit, packages/core/src/command.ts."""


def workflow_command(kind: str, title: str, message: str) -> str:
    """Write GitHub's workflow command `::error title=TITLE::MESSAGE`, escaped so that it stays one line and one command."""
    shown = plain(title, None).translate(_COMMAND_PROPERTY)
    return f"::{kind} title={shown}::{plain(message, None).translate(_COMMAND_DATA)}"


_JSON_RAW = re.compile(rf"[\u2028\u2029{STEERING}]")


def as_json(value: object, indent: int | None = None) -> str:
    """Write readable JSON with control characters for terminals as \\uXXXX. Raises ValueError for inf and nan."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _JSON_RAW.sub(_code, text)


def json_in_html(value: object) -> str:
    """Write JSON for a <script> element that it can neither end nor comment out. Raises ValueError for inf and nan."""
    return re.sub(r"[<>&]", _code, as_json(value))


def _code(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"
