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
    """Re-derive every figure printed in the pages (Markdown, HTML) under PATHS from the ledgers under PATHS.

    Also holds each ledger against itself: digest chain, plan, seeds, identities, physics. Exit 1 if anything disagrees.
    This finds accidents and careless edits, not a forger.
    """
    from cnnbench import store
    from cnnbench.audit import audit as check
    from cnnbench.report.safe import plain

    result = check(paths, store.load_tree([store.reference_dir()]).references)
    if as_json:
        found = [{"where": each.where, "what": each.what} for each in result.disagreements]
        counts = {"ledgers": result.ledgers, "records": result.records, "cells": result.cells}
        click.echo(json.dumps({**counts, "disagreements": found}, indent=2))
    else:
        for each in result.disagreements:
            click.echo(plain(f"{each.where}: {each.what}", None))
        verdict = f"{len(result.disagreements)} disagreements" if result.disagreements else "all agree"
        click.echo(f"{result.ledgers} ledgers, {result.records} records, {result.cells} printed cells: {verdict}")
    if result.disagreements:
        context.exit(ExitCode.FINDING)
