r"""A report as LaTeX for \input: a booktabs table for each group of equal work, figures right-aligned, the notes as a list.

A figure's details (interval, n, `projected`) are printed below it in smaller type, as on a terminal: on one line, fifteen
columns would be unreadable on any page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from cnnbench.report import escaping
from cnnbench.report.model import Cell, Column, Line, Report, RowGroup, Table

HEAD = r"""% Tables made by cnnbench. To put them into a document: \input this file; the preamble needs
%   \usepackage{booktabs,graphicx,pdflscape}
% and textcomp too where LaTeX is older than 2020. A table wider than the text is shrunk to fit; one that would be too
% small to read then begins a landscape page. pdflatex sets Latin letters; names in other scripts need lualatex.
\ifdefined\cnnbenchbox\else\newsavebox{\cnnbenchbox}\fi
\providecommand{\cnnbenchfit}[1]{\sbox{\cnnbenchbox}{#1}%
  \ifdim\wd\cnnbenchbox>\linewidth\resizebox{\linewidth}{!}{\usebox{\cnnbenchbox}}\else\usebox{\cnnbenchbox}\fi}
"""
WIDE = 100
"""A table with more characters gets a landscape page: on an article's line of 345 pt they would be smaller than 6 pt."""
TALLEST = 24
"""Rows after which a table continues in another: with its heading they fill the 345 pt of a landscape page's height."""
WIDEST = 28
"""Characters after which a cell's line is folded: a processor's name has up to 50, an interval with its unit 20."""
UNBROKEN = 40
"""Characters after which a word may be broken: half a line of an article's text, and more than a digest has."""


def render(report: Report) -> str:
    """Render tables and notes, ending in a newline; the same report gives the same bytes."""
    parts = [HEAD]
    for table in report.tables:
        parts += _table(table)
    if report.notes:
        parts += ["", r"\begin{itemize}\footnotesize\setlength{\itemsep}{0pt}\setlength{\parskip}{0pt}\raggedright"]
        parts += [rf"\item {_escape_words(note.text)}" for note in report.notes]
        parts.append(r"\end{itemize}")
    return "\n".join(parts) + "\n"


def _table(table: Table) -> Iterator[str]:
    widths = []
    for index, column in enumerate(table.columns):
        lines = (text for _, line in table.lines for each in line.cells[index].lines for text in _fold(each))
        widths.append(max(map(len, (*column.heading, *lines))))
    wide = sum(widths) + len(widths) - 1 > WIDE  # with one character between two columns
    yield r"\begin{landscape}" if wide else r"\bigskip"
    yield rf"{{\raggedright\noindent\large\bfseries {_escape_words(table.title)}\par}}\nobreak"
    for group in table.groups:
        for number, rows in enumerate(_parts(group)):
            more = " (continued)" if number else ""
            yield ""
            title = rf"\footnotesize\bfseries {_escape_words(group.title)}{more}"
            yield rf"\medskip{{\raggedright\noindent{title}\par}}\nobreak\smallskip"
            yield from _tabular(table.columns, rows)
    if table.clock:
        yield rf"\medskip{{\raggedright\noindent\footnotesize Clock: {_escape_words(table.clock)}.\par}}"
    if wide:
        yield r"\end{landscape}"


def _parts(group: RowGroup) -> Iterator[list[Line]]:
    """Split a group's rows into parts that each fit a page; a row is never divided."""
    part: list[Line] = []
    for line in group.lines:
        # Heights are in rows of text, each row with the space after it.
        if part and sum(max(map(len, map(_cell, each.cells))) + 0.5 for each in (*part, line)) > TALLEST:
            yield part
            part = []
        part.append(line)
    yield part


def _tabular(columns: Sequence[Column], rows: Sequence[Line]) -> Iterator[str]:
    heads = [column.heading for column in columns]
    tallest = max(map(len, heads))
    yield r"\noindent{\footnotesize\setlength{\tabcolsep}{3pt}\cnnbenchfit{%"
    yield rf"\begin{{tabular}}{{@{{}}{''.join(column.align[0] for column in columns)}@{{}}}}"
    yield r"\toprule"
    yield from _rows([[""] * (tallest - len(head)) + [escaping.latex(text) for text in head] for head in heads])
    yield r"\midrule"
    for number, line in enumerate(rows):
        if number:
            yield r"\addlinespace"
        yield from _rows([_cell(cell) for cell in line.cells])
    yield r"\bottomrule"
    yield r"\end{tabular}}\par}"


def _rows(stacks: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write cells of several lines as rows of a table, one row per line."""
    return (rf"{' & '.join(row)} \\" for row in zip_longest(*stacks, fillvalue=""))


def _cell(cell: Cell) -> list[str]:
    details = [rf"{{\scriptsize {escaping.latex(text)}}}" for detail in cell.details for text in _fold(detail)]
    return [escaping.latex(text) for text in _fold(cell.text)] + details


def _fold(text: str) -> list[str]:
    return textwrap.wrap(escaping.plain(text, None), WIDEST, break_on_hyphens=False) or [""]


def _escape_words(text: str) -> str:
    """Escape running text, and allow breaks in a very long word so that it stays on the page."""
    words = [textwrap.wrap(word, UNBROKEN, break_on_hyphens=False) for word in escaping.plain(text, None).split(" ")]
    return " ".join(r"\allowbreak{}".join(map(escaping.latex, pieces)) for pieces in words)
