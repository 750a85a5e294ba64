"""Names and error texts as what they are, data: for each medium, the form in which it shows them as text.

A ledger may come from anywhere. A processor in it may be called `<script>`, `=HYPERLINK(...)` or ten screens of control
characters, and must do no more on a terminal, a page, a sheet or in a typesetter than stand there. Every function here
takes any text whatever and raises nothing; those for one medium put the text on one line and leave its length alone.
"""

from __future__ import annotations

import json
import re

from cnnbench.plain_text import STEERING, UNSHOWN
from cnnbench.plain_text import plain as plain
from cnnbench.plain_text import printable as printable

_BREAK = "<!-- -->"
"""Shows nothing. A backslash does not stop GitHub from linking what follows an @: it looks at the text after rendering."""
_MARKDOWN = (
    (re.compile(r"[\\`*_~<>|\[\]&#]|!(?=\[)"), r"\\\g<0>"),
    (re.compile(r"\$"), "<span>$</span>"),  # GitHub's manual for a dollar that is no formula's
    (re.compile(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)(?=[^\W_])"), _BREAK),
    (re.compile(r"(?<=:)(?=[0-9_+\\-]*[a-z][a-z0-9_+\\-]*:)"), _BREAK),  # :name: would become a picture
    (re.compile(r"^((?=[-+=]+(?: |$))|\d{1,9}(?=[.)](?: |$)))"), r"\1\\"),  # a list's mark, or a line under a heading
)


def markdown(text: str) -> str:
    """The text so that GitHub shows it as it is, in a paragraph, a list or a table's cell: no mark-up, link, mention or
    formula. What cannot matter is not escaped.
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
    """The text for LaTeX: what is a command, a ligature or unknown to pdflatex there, as a command that shows it.

    Other letters than ASCII's stay: pdflatex knows Latin ones; those of other scripts need lualatex or xelatex.
    """
    return _LATEX.sub(lambda found: _LATEX_COMMANDS[found.group()], plain(text, None))


_FORMULA = re.compile(r"[\s\"'\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[ \"']*[\t\r]")
"""How a cell begins that a spreadsheet calculates (OWASP, "CSV Injection"), full-width forms of = + - @ included."""


def csv(text: str) -> str:
    """The text as a cell that a spreadsheet shows: behind a ' where it would calculate it. Numbers are not for here."""
    return ("'" if _FORMULA.match(text) else "") + plain(text, None)


_NOT_XML = re.compile(r"[\ufffe\uffff]")
"""What XML 1.0 has no place for, not even escaped, and `plain` lets pass: section 2.2, Char."""


def xml(text: str) -> str:
    """The text on one line without a character that XML cannot hold; < & and quotes are for who writes the element."""
    return _NOT_XML.sub(UNSHOWN, plain(text, None))


_COMMAND_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_COMMAND_PROPERTY = _COMMAND_DATA | str.maketrans({":": "%3A", ",": "%2C"})
"""GitHub's own escapes: `escapeData` and `escapeProperty` of actions/toolkit, packages/core/src/command.ts."""


def workflow_command(kind: str, title: str, message: str) -> str:
    """A workflow command of GitHub's, `::error title=TITLE::MESSAGE`: it stays one line and one command, and the title ends
    neither its property nor their list.
    """
    shown = plain(title, None).translate(_COMMAND_PROPERTY)
    return f"::{kind} title={shown}::{plain(message, None).translate(_COMMAND_DATA)}"


_JSON_RAW = re.compile(rf"[\u2028\u2029{STEERING}]")


def as_json(value: object, indent: int | None = None) -> str:
    """JSON, readable and complete: what would steer a terminal is in it as \\uXXXX. Raises ValueError for inf and nan."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _JSON_RAW.sub(_code, text)


def json_in_html(value: object) -> str:
    """JSON for a <script> element: nothing in it ends the element or begins a comment. Raises ValueError for inf and nan."""
    return re.sub(r"[<>&]", _code, as_json(value))


def _code(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"
