"""A page as Markdown: the whole report as a document, and the first screen of a README."""

from __future__ import annotations

from collections.abc import Sequence

from cnnbench.report import chart_images, escaping, sections
from cnnbench.report.model import Chart, Note, Page, Section, Table
from cnnbench.report.render.text import markdown_groups, seal

MOST_LINES = 300
"""Lines of one table: GitHub cuts a page off at 512 KB."""


def markdown(page: Page, *, charts_at: str | None) -> str:
    """The document, ending in the digest of itself. `charts_at` is the folder of the charts' SVG files as a link from it;
    without one each chart stands there in words.
    """
    page = sections.abridge(page, MOST_LINES)
    parts = [f"# {escaping.markdown(page.title)}", "", *_headline(page), *_warnings(page)]
    for section in page.sections:
        parts += _section(section, charts_at)
    return seal("\n".join(parts))


def first_screen(page: Page, *, charts_at: str, rest_at: str) -> str:
    """The claim, the lecture's table, its first picture and how many doubts there are, for a page that says more below.

    `rest_at` is the link to the whole report. Ends in the digest of itself.
    """
    page = sections.abridge(page, MOST_LINES)
    section = next((each for each in page.sections if each.key == "lecture"), None)
    parts = [*_headline(page), *_warnings(page)]
    if section is not None:
        parts += [line for table in section.tables for line in _table(table)]
        parts += [line for chart in section.charts[:1] for line in _chart(chart, charts_at)]
        parts += [escaping.markdown(section.lead), ""] if section.lead else []
    doubts = sum(note.kind == "doubt" for note in page.notes)
    rule = "~ is projected from timed steps; in brackets 95 % intervals between n fresh processes."
    parts += [
        f"{escaping.markdown(rule)} {doubts} doubts about these rows, every other table, and how to derive each figure:"
    ]
    parts += [f"[the whole report]({rest_at}).", ""]
    return seal("\n".join(parts))


def _headline(page: Page) -> list[str]:
    first, *rest = page.headline
    return [f"**{escaping.markdown(first)}** {escaping.markdown(' '.join(rest))}".rstrip(), ""]


def _warnings(page: Page) -> list[str]:
    return [line for note in sections.warnings(page) for line in (f"> **Warning:** {escaping.markdown(note.text)}", "")]


def _section(section: Section, charts_at: str | None) -> list[str]:
    parts = [f"## {escaping.markdown(section.title)}", ""]
    parts += [escaping.markdown(section.lead), ""] if section.lead else []
    for table in section.tables:
        parts += _table(table)
    for chart in section.charts:
        parts += _chart(chart, charts_at)
    return [*parts, *_notes(section.notes)]


def _table(table: Table) -> list[str]:
    return [f"### {escaping.markdown(table.title)}", "", *markdown_groups(table)]


def _chart(chart: Chart, charts_at: str | None) -> list[str]:
    if charts_at is None:
        return [f"*{escaping.markdown(chart.title)}.* {escaping.markdown(chart.alt)}", ""]
    image = f"![{escaping.markdown(chart.alt)}]({charts_at}/{chart_images.file_name(chart)})"
    return [f"**{escaping.markdown(chart.title)}**", "", image, "", escaping.markdown(chart.caption), ""]


def _notes(notes: Sequence[Note]) -> list[str]:
    return [*(f"- {escaping.markdown(note.text)}" for note in notes), ""] if notes else []
