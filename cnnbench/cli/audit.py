"""`cnnbench audit`: every printed figure derived again, every page rendered again, every ledger checked against itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import click

from cnnbench.cli import options
from cnnbench.errors import ExitCode

if TYPE_CHECKING:
    from cnnbench.cli.load_results import LoadedResults
    from cnnbench.report.model import Page, Report
    from cnnbench.schema import PublishedRow
    from cnnbench.store import Ledger


@click.command()
@click.argument("paths", nargs=-1, required=True, type=options.ANY_PATH)
@options.json_option()
@click.pass_context
def audit(context: click.Context, /, paths: tuple[Path, ...], as_json: bool) -> None:
    """Re-derive every figure in the pages (Markdown, HTML), charts (SVG, PNG) and tables (CSV, JSON) under PATHS from the
    ledgers under PATHS.

    Also holds each ledger against itself: digest chain, plan, seeds, identities, physics. Exit 1 if anything disagrees.
    This finds accidents and careless edits, not a forger.
    """
    from cnnbench import store
    from cnnbench.report.escaping import plain
    from cnnbench.verify import audit as check

    result = check(paths, store.load_tree([store.find_published_dir()]).published_rows, Rendered)
    if as_json:
        found = [{"where": each.where, "what": each.what} for each in result.disagreements]
        counts = {
            "ledgers": result.ledgers,
            "records": result.records,
            "cells": result.cells,
            "marks": result.marks,
            "tables_passed_over": result.skipped,
        }
        click.echo(json.dumps({**counts, "disagreements": found}, indent=2))
    else:
        for each in result.disagreements:
            click.echo(plain(f"{each.where}: {each.what}", None))
        verdict = f"{len(result.disagreements)} disagreements" if result.disagreements else "all agree"
        looked_at = (
            f"{result.ledgers} ledgers, {result.records} records, {result.cells} cells, {result.marks} marks of charts"
        )
        click.echo(f"{looked_at}: {verdict}")
        if result.skipped:
            click.echo(f"tables of other kinds, which there are no rules for, passed over: {result.skipped}")
    if result.disagreements:
        context.exit(ExitCode.FINDING)


class _Known(TypedDict):
    """What every report has beside its rows."""

    problems: tuple[str, ...]
    digests: dict[str, str]


class Rendered:
    """What a command makes of ledgers, made again: its values, and each of its files by name. Drawings carry their data and
    are not drawn.
    """

    _loaded: ClassVar[dict[tuple[object, ...], LoadedResults]] = {}
    """The rows of the last ledgers that were compared: pages of one audit share them."""

    def __init__(
        self, ledgers: Sequence[Ledger], published_rows: Sequence[PublishedRow], options: Mapping[str, Any]
    ) -> None:
        self._ledgers, self._published_rows, self._options = tuple(ledgers), tuple(published_rows), options

    def _compare(self) -> LoadedResults:
        from cnnbench.analysis import process_table, speedup
        from cnnbench.cli.load_results import LoadedResults

        selected = {name: self._options[name] for name in ("all_runs", "baseline")}
        problems = tuple(self._options.get("known_problems", ()))
        key = (tuple(map(id, self._ledgers)), self._published_rows, *selected.values(), problems)
        if key not in self._loaded:
            self._loaded.clear()
            processes, doubles = process_table.read_processes(self._ledgers)
            comparison = speedup.compute_speedups(processes, self._published_rows, **selected)
            self._loaded[key] = LoadedResults(self._ledgers, comparison, (*problems, *doubles))
        return self._loaded[key]

    @cached_property
    def _page(self) -> Page | None:
        """The page of `report`; None for a command that prints tables and notes alone."""
        from cnnbench.report import cost, sections
        from cnnbench.report.charts import chart_data

        given = self._options
        if "command" in given:
            return None
        loaded = self._compare()
        request = sections.PageRequest(
            template=given["template"],
            title=given["title"],
            all_runs=given["all_runs"],
            prices=tuple(cost.Price(key, price) for key, price in given["prices"]),
            currency=given["currency"],
            problems=loaded.problems if given["problems"] is None else tuple(given["problems"]),
            digests=loaded.digests,
        )
        return sections.build(chart_data.collect_chart_data(loaded.comparison, loaded.ledgers), request)

    @cached_property
    def _report(self) -> Report:
        from cnnbench.report import learning, tables

        given = self._options
        if self._page is not None:
            return self._page.report
        if given.get("accuracy") is not None:
            return learning.build_stopping_from_accuracy(given["accuracy"], given["epochs"], given["sample"])
        loaded = self._compare()
        rows, known = loaded.comparison.rows, _Known(problems=loaded.problems, digests=loaded.digests)
        if given["command"] == "stopping":
            return learning.build_stopping(rows, loaded.processor_cell, sample=given["sample"], **known)
        if given["command"] == "convergence":
            return learning.build_convergence(rows, loaded.processor_cell, margin=given["margin"], **known)
        return tables.build(
            loaded.comparison,
            with_published=given["published"],
            all_runs=given["all_runs"],
            only=given["only"],
            **known,
        )

    @cached_property
    def values(self) -> dict[str, Any]:
        """All that the page says, as data."""
        from cnnbench.report import page_values

        if self._page is not None:
            return page_values.page_values(self._page)
        return page_values.report_values(self._report, self._options)

    @cached_property
    def shown(self) -> dict[str, Any]:
        """What of it is shown in a page."""
        from cnnbench.report import page_values, sections
        from cnnbench.report.render import html

        if self._page is None:
            return self.values
        return page_values.page_values(sections.abridge(self._page, html.MOST_LINES))

    @cache  # noqa: B019
    def file(self, name: str, *, static: bool) -> str | None:
        """A file of a folder by its name there, or by its ending alone a file by itself; None where there is none such."""
        from cnnbench.report import report_files
        from cnnbench.report.render import text

        if self._page is not None:
            return report_files.render_undrawn(self._page, name, static=static)
        formats: dict[str, text.Format] = {".md": "markdown", ".csv": "csv", ".json": "json", ".tex": "latex"}
        return text.render(self._report, formats[name]) if name in formats else None

    def first_screen(self, charts_at: str, rest_at: str) -> str:
        """What `report --into` puts into another page."""
        from cnnbench.report.render import markdown

        assert self._page is not None
        return markdown.render_first_screen(self._page, charts_at=charts_at, rest_at=rest_at)
