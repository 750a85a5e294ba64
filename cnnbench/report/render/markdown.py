"""Render Markdown for GitHub: a report's tables, a whole page as a document, and the first screen of a README.

What comes from ledgers ends in the digest of all text above it, for the audit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cnnbench.report import escaping
from cnnbench.report.model import Chart, Note, Page, Report, Table
from cnnbench.schema import digest

MADE_OF, PAGE_DIGEST = "<!-- cnnbench made of ", "<!-- cnnbench page sha256:"


def render(report: Report) -> str:
    """Render the tables under their titles, then the notes.

    A report with its own JSON document gets no digest, because the audit has no ledger to derive it from.
    """
    parts = [line for table in report.tables for line in _table(table, "##")]
    parts += _list_notes(report.notes)
    text = "\n".join(parts)
    return seal(text, report.options) if report.document is None and parts else f"{text}\n"


def render_page(page: Page, *, charts_at: str | None) -> str:
    """Render a page as a document.

    `charts_at` is the link to the folder of the charts' SVG files; without one, each chart is described in words.
    """
    page = _abridge(page)
    parts = [f"# {escaping.markdown(page.title)}", "", *_headline(page)]
    for section in page.sections:
        parts += [f"## {escaping.markdown(section.title)}", "", *_paragraph(section.lead)]
        parts += [line for table in section.tables for line in _table(table, "###")]
        parts += [line for chart in section.charts for line in _chart(chart, charts_at)]
        parts += (*_list_notes(section.notes), "") if section.notes else ()
    return seal("\n".join(parts), {**page.options, "charts_at": charts_at})


def render_first_screen(page: Page, *, rest_at: str) -> str:
    """Render the short table, its conditions in one line and the number of doubts, for the top of a longer page.

    `rest_at` is the link to the whole report.
    """
    page = _abridge(page)
    parts = [*_warnings(page), *(line for table in page.tables for line in _grids(table))]
    conditions = "".join(f"{escaping.markdown(table.clock)}. " for table in page.tables)
    doubts = sum(note.kind == "doubt" for note in page.notes)
    parts.append(f"{conditions}[The whole report]({rest_at}) has {doubts} doubts, every other table and every formula.")
    # No costs here.
    options = {name: value for name, value in page.options.items() if name not in ("prices", "currency")}
    return seal("\n".join(parts), {**options, "rest_at": rest_at})


def seal(text: str, options: Mapping[str, object] | None = None) -> str:
    """Append the options that make the text again, if known, and a line with the digest of all above it."""
    known = options is not None and "runs" in options
    made_of = f"\n{MADE_OF}{escaping.json_in_html(options)} -->\n" if known else ""
    page = f"{text.rstrip(chr(10))}\n{made_of}"
    return f"{page}\n{PAGE_DIGEST}{digest(page)} -->\n"


def draw_grid(rows: Iterable[Iterable[str]], aligns: Iterable[str]) -> Iterator[str]:
    """Draw a table of escaped texts; the first row is the heading, `left` or `right` aligns a column."""
    heading, *body = rows
    rules = ("---" if align == "left" else "---:" for align in aligns)
    return (f"| {' | '.join(cells)} |" for cells in (heading, rules, *body))


def _abridge(page: Page) -> Page:
    from cnnbench.report import sections  # imported here because it declares every table and loads what computes them

    return sections.abridge(page)


def _headline(page: Page) -> Iterator[str]:
    """Render the claim, then what could mislead."""
    first, *rest = page.headline
    yield from (f"**{escaping.markdown(first)}** {escaping.markdown(' '.join(rest))}".rstrip(), "")
    yield from _warnings(page)


def _warnings(page: Page) -> Iterator[str]:
    for note in page.warnings:
        yield from (f"> **Warning:** {escaping.markdown(note.text)}", "")


def _table(table: Table, level: str) -> Iterator[str]:
    """Render a grid for each group under its title, then the clock rule."""
    yield from (f"{level} {escaping.markdown(table.title)}", "", *_grids(table))
    if table.clock:
        yield from (f"Clock: {escaping.markdown(table.clock)}.", "")


def _grids(table: Table) -> Iterator[str]:
    heads = [
        escaping.markdown(column.one_line) + (f" [{column.unit}]" if column.unit else "") for column in table.columns
    ]
    for group in table.groups:
        body = ((escaping.markdown(cell.one_line) for cell in line.cells) for line in group.lines)
        grid = draw_grid((heads, *body), (column.align for column in table.columns))
        yield from (f"**{escaping.markdown(group.title)}**", "", *grid, "")


def _chart(chart: Chart, charts_at: str | None) -> Iterator[str]:
    title, alt = escaping.markdown(chart.title), escaping.markdown(chart.alt)
    if charts_at is None:
        return iter((f"*{title}.* {alt}", ""))
    image = f"![{alt}]({charts_at}/{chart.key}.svg)"
    return iter((f"**{title}**", "", image, "", escaping.markdown(chart.caption), ""))


def _paragraph(text: str) -> tuple[str, ...]:
    return (escaping.markdown(text), "") if text else ()


def _list_notes(notes: Iterable[Note]) -> list[str]:
    return [f"- {escaping.markdown(note.text)}" for note in notes]
