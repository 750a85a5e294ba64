"""`cnnbench audit`: every printed figure re-derived, every ledger held against itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cnnbench.errors import ExitCode


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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

    result = check(paths, store.load_tree([store.find_published_dir()]).published_rows)
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
