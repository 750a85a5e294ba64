"""`cnnbench show`: the table of what was measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.cli import output as out
from cnnbench.cli.sources import default_results
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnbench.report.model import Report
    from cnnbench.report.text import Format
    from cnnbench.store import Ledger


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "csv", "json"]), default="table")
@click.option("--with-lecture", is_flag=True, help="Show the lecture's rows of 2017 above the measured ones.")
@click.option("--machine", "machine_id", metavar="ID", help="Only this machine (its id or the id's beginning).")
@click.option("--run", "run_id", metavar="ID", help="Only this run (its id or the id's beginning).")
@click.option("--last", is_flag=True, help="Only the newest run.")
@click.option("--all-runs", is_flag=True, help="Every run of a row, not just the newest.")
@click.option(
    "--only", type=click.Choice(["training", "resources", "bounds", "gemm"]), help="One table instead of all."
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Put the Markdown between the lines <!-- table: ... --> and <!-- table end --> of this page.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
def show(
    paths: tuple[Path, ...],
    format_: Format,
    with_lecture: bool,
    machine_id: str | None,
    run_id: str | None,
    last: bool,
    all_runs: bool,
    only: str | None,
    into: Path | None,
    output: Path | None,
) -> None:
    """Print the table of the results under PATHS (ledgers or folders of them; default: $CNNBENCH_RESULTS, else ./results).

    Of several runs of the same job on the same processor the newest is shown.
    """
    from cnnbench.report import text

    report = report_paths(
        paths,
        with_lecture=with_lecture,
        machine_id=machine_id,
        run_id=run_id,
        last=last,
        all_runs=all_runs,
        only=only,
    )
    if into is not None:
        _put_into(into, text.render(report, "markdown"))
        return
    out.emit(report, format_, output)


def report_paths(
    paths: Sequence[Path],
    *,
    with_lecture: bool = False,
    machine_id: str | None = None,
    run_id: str | None = None,
    last: bool = False,
    all_runs: bool = False,
    only: str | None = None,
) -> Report:
    """The report of the ledgers under the paths, or of the default results where there are none.

    Raises UsageError where there is nothing to show, LedgerError where a path does not exist.
    """
    from cnnbench import store
    from cnnbench.analysis import compare, frame
    from cnnbench.report import tables

    roots = list(paths) or [default_results()]
    loaded = store.load_tree(roots)
    shipped = store.load_tree([store.reference_dir()])
    references = tuple(dict.fromkeys((*shipped.references, *loaded.references)))
    if not loaded.ledgers and not (with_lecture and references):
        reasons = "".join(f"\n  {problem}" for problem in loaded.problems)
        where = ", ".join(map(str, roots))
        raise UsageError(f"no results in {where}; measure first with `cnnbench run quick`{reasons}")
    ledgers = _select(loaded.ledgers, machine_id, run_id, last)
    processes, doubles = frame.processes(ledgers)
    comparison = compare.compare(processes, references, all_runs=all_runs)
    problems = (*loaded.problems, *shipped.problems, *doubles)
    return tables.build(
        comparison,
        with_references=with_lecture,
        all_runs=all_runs,
        problems=problems,
        digests={ledger.header.run_id: ledger.final_digest for ledger in ledgers},
        only=only,
    )


def _select(ledgers: Sequence[Ledger], machine_id: str | None, run_id: str | None, last: bool) -> list[Ledger]:
    """The ledgers asked for. Raises UsageError, with those there are, where a name fits none."""
    chosen = list(ledgers)
    if machine_id is not None:
        chosen = [each for each in chosen if each.header.machine.id.startswith(machine_id)]
        if not chosen:
            known = sorted({each.header.machine.id for each in ledgers})
            raise UsageError(f"--machine {machine_id}: no such machine; there are: {', '.join(known)}")
    if run_id is not None:
        among = chosen
        chosen = [each for each in among if each.header.run_id.startswith(run_id)]
        if not chosen:
            known = sorted({each.header.run_id for each in among})
            raise UsageError(f"--run {run_id}: no such run; there are: {', '.join(known)}")
    if last and chosen:
        newest = max((each.header.created_at, each.header.run_id) for each in chosen)
        chosen = [each for each in chosen if (each.header.created_at, each.header.run_id) == newest]
    return chosen


def _put_into(page: Path, table: str) -> None:
    """Replace what stands between the page's two marks. Raises UsageError where they are not there exactly once."""
    text = page.read_text(encoding="utf-8")
    parts = re.split(r"(?m)^(<!-- table: .* -->\n|<!-- table end -->$)", text)
    if len(parts) != 5 or not parts[1].startswith("<!-- table: ") or parts[3] != "<!-- table end -->":
        raise UsageError(f"{page}: needs one line `<!-- table: ... -->` and below it one `<!-- table end -->`")
    out.save(page, "".join((parts[0], parts[1], table, parts[3], parts[4])))
    click.echo(f"wrote the table into {page}", err=True)
