"""`cnnbench audit`: every printed figure derived again, every page rendered again, every ledger checked against itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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

    Also checks each ledger by itself: digest chain, plan, seeds, identities, physics. Exit 1 if anything disagrees.
    This finds accidents and careless edits, not a forger.
    """
    from cnnbench import store
    from cnnbench.report.escaping import plain
    from cnnbench.verify import audit as check

    result = check(paths, store.load_tree([store.find_published_dir()]).published_rows, Rendered)
    counts = {name: getattr(result, name) for name in ("ledgers", "records", "cells", "marks")}
    if as_json:
        found = {"tables_passed_over": result.skipped, "disagreements": list(map(vars, result.disagreements))}
        click.echo(json.dumps({**counts, **found}, indent=2))
    else:
        for each in result.disagreements:
            click.echo(plain(f"{each.where}: {each.what}", None))
        verdict = f"{len(result.disagreements)} disagreements" if result.disagreements else "all agree"
        click.echo(f"{', '.join(f'{n} {name}' for name, n in counts.items())} of charts: {verdict}")
        if result.skipped:
            click.echo(f"tables of other kinds, which there are no rules for, passed over: {result.skipped}")
    if result.disagreements:
        context.exit(ExitCode.FINDING)


class Rendered:
    """A command's output, made from ledgers again: its values, and each of its files by name. Drawings carry their data
    and are not drawn.
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

        all_runs, baseline = self._options.get("all_runs", False), self._options.get("baseline")
        key = (tuple(map(id, self._ledgers)), self._published_rows, all_runs, baseline)
        if key not in self._loaded:
            self._loaded.clear()
            processes, _ = process_table.read_processes(self._ledgers)
            comparison = speedup.compute_speedups(processes, self._published_rows, all_runs=all_runs, baseline=baseline)
            self._loaded[key] = LoadedResults(self._ledgers, comparison, ())
        return self._loaded[key]

    @cached_property
    def _made(self) -> Page | Report:
        """The page of `report`, or the tables and notes of another command."""
        from cnnbench.report import learning, sections, tables
        from cnnbench.report.charts import chart_data

        given = self._options
        if given.get("accuracy") is not None:
            return learning.build_stopping_from_accuracy(given["accuracy"], given["epochs"], given["sample"])
        loaded, problems = self._compare(), tuple(given["problems"])
        compared, rows, digests = loaded.comparison, loaded.comparison.rows, loaded.digests
        match given.get("command"):
            case "stopping":
                return learning.build_stopping(
                    rows, loaded.processor_cell, sample=given["sample"], problems=problems, digests=digests
                )
            case "converge":
                return learning.build_convergence(
                    rows, loaded.processor_cell, margin=given["margin"], problems=problems, digests=digests
                )
            case "show":
                selected = {name: given[name] for name in ("all_runs", "only", "columns", "sort") if name in given}
                return tables.build(
                    compared, with_published=given["published"], problems=problems, digests=digests, **selected
                )
        asked = {name: given[name] for name in ("template", "title", "all_runs", "currency") if name in given}
        prices = tuple(sections.Price(*price) for price in given.get("prices", ()))
        request = sections.PageRequest(**asked, prices=prices, problems=problems, digests=digests)
        return sections.build(chart_data.collect_chart_data(compared, loaded.ledgers), request)

    @cached_property
    def values(self) -> dict[str, Any]:
        """All its values, as data."""
        from cnnbench.report.model import page_values

        return page_values(self._made)

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The part that a page shows."""
        from cnnbench.report import sections
        from cnnbench.report.model import Report, page_values

        if isinstance(self._made, Report):
            return self.values
        return page_values(sections.abridge(self._made))

    def file(self, name: str, *, static: bool, links: Mapping[str, str | None]) -> str | None:
        """Render a file by its ending, or a folder's values and charts by their names; drawings are left empty."""
        from cnnbench.report import report_files
        from cnnbench.report.model import Report
        from cnnbench.report.render import markdown, text

        charts_at, rest_at = links["charts_at"], links["rest_at"]
        if isinstance(self._made, Report):
            formats: dict[str, text.Format] = {".md": "markdown", ".csv": "csv", ".json": "json"}
            return text.render(self._made, formats[name]) if name in formats else None
        if name == ".md" and rest_at is not None:
            return markdown.render_first_screen(self._made, rest_at=rest_at)
        if name == ".md":
            return markdown.render_page(self._made, charts_at=charts_at)
        return report_files.render_undrawn(self._made, name, static=static)
