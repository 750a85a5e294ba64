"""What a reader of each medium gets to see, found out without the code that wrote it: by GitHub's own parser, and by a
reader of LaTeX that knows the manual's commands and nothing else.
"""

from __future__ import annotations

import html
import re

import cmarkgfm
from cmarkgfm.cmark import Options

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What must reach no terminal, page or sheet raw: controls but line ends and tabs, direction overrides, half characters."""
COMMANDS = {
    **{"textbackslash": "\\", "textasciicircum": "^", "textbar": "|", "textless": "<"},
    **{"textgreater": ">", "textasciigrave": "`", "textquotesingle": "'", "textendash": "–", "textemdash": "—"},
    **{"textquoteleft": "‘", "textquoteright": "’", "textquotedblleft": "“", "textquotedblright": "”"},
    **{"ldots": "…", "textdegree": "°", "textregistered": "®", "texttrademark": "™"},
    **{"textcopyright": "©", "allowbreak": ""},
}
_MATHS = {
    **{r"\times": "×", r"\pm": "±", r"\mu": "µ", r"\geq": "≥", r"\leq": "≤", r"\approx": "≈", r"\to": "→"},
    **{r"\surd": "√", r"\cdot": "·", r"\sim": "~", "-": "−"},
}
_TOKEN = re.compile(
    r"\\texttt\{\\char(?P<code>\d+)\}|\\ensuremath\{(?P<maths>[^{}]+)\}|\\textsuperscript\{(?P<power>[23])\}"
    r"|\\mbox\{(?P<box>-)\}|\\(?P<command>[A-Za-z]+)\{\}|\\(?P<special>[{}$&%#_])|\{(?P<group>[\[\]*])\}"
    r"|(?P<broken>[-,])\{\}|(?P<bad>--|,,|''|``|[\\{}$&%#_^~\"<>|])|(?P<other>.)",
    re.DOTALL,
)


def github(source: str) -> str:
    """The page as HTML, with the raw HTML in it: every tag is then the page's doing."""
    return cmarkgfm.github_flavored_markdown_to_html(source, options=Options.CMARK_OPT_UNSAFE)


def seen(page: str) -> str:
    """The text of HTML, as a browser shows it: comments and tags gone, blanks folded."""
    bare = re.sub(r"<!--.*?-->|<[^>]*>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(bare).split())


def read_latex(source: str, *, strict: bool = True) -> str:
    """The text LaTeX would set. With `strict` nothing may stand there that is a command, a ligature or a special
    character that is not escaped; without, such are kept as they are.
    """
    parts = []
    for found in _TOKEN.finditer(source):
        kind, text = str(found.lastgroup), found.group(str(found.lastgroup))
        assert kind != "bad" or not strict, f"{text!r} in {source!r}"
        known = {"code": lambda digits: chr(int(digits)), "maths": _MATHS.get, "power": {"2": "²", "3": "³"}.get}
        if kind == "command" and text not in COMMANDS:
            assert not strict, f"unknown command {text!r}"
            continue
        known["command"] = COMMANDS.get
        parts.append(known[kind](text) if kind in known else text)
    return "".join(map(str, parts))
