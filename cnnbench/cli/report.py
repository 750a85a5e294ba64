"""`cnnbench report`: the ledgers as a page, a document, tables for other programs, or a folder of all of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli import completion
from cnnbench.cli.compare import parse_tolerance
from cnnbench.cli.load_results import Selection, load_results
from cnnbench.cli.output import save_file
from cnnbench.cli.sides import default_results
from cnnbench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cnnbench.report.cost import Price
    from cnnbench.report.model import Page
    from cnnbench.report.report_files import StaleFile

TABLE_BEGIN, TABLE_END = "<!-- table: ", "<!-- table end -->"


@click.command()
@click.argument("paths", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE|DIR",
    help="FILE.html, .md, .tex, .csv or .json; or a folder, which gets all of them and the charts.",
)
@click.option(
    "--template",
    type=click.Choice(["full", "lecture", "compare"]),
    default="full",
    show_default=True,
    help="All there is; the lecture's table alone; or two sides (give BASE NEW instead of PATHS, as for compare).",
)
@click.option("--title", help="The page's title.")
@click.option(
    "--baseline",
    metavar="KEY",
    help="Speed-ups over the rows of MACHINE[/DEVICE[/THREADS]] instead of over each machine's own CPU.",
)
@click.option("--static", is_flag=True, help="Charts as SVG alone: no script draws them, nothing bundled.")
@click.option(
    "--price-per-hour",
    "prices",
    multiple=True,
    metavar="[KEY=]PRICE",
    help="Cost of the job at that price an hour; KEY is MACHINE[/DEVICE], without it the price holds for all.",
)
@click.option("--currency", default="", help="What the prices are in, such as USD.")
@click.option(
    "--tolerance",
    callback=parse_tolerance,
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="With --template compare: what counts as the same.",
)
@click.option(
    "--machine",
    "machine_id",
    metavar="ID",
    shell_complete=completion.complete_machines,
    help="Only this machine (its id or the id's beginning).",
)
@click.option(
    "--run",
    "run_id",
    metavar="ID",
    shell_complete=completion.complete_runs,
    help="Only this run (its id or the id's beginning).",
)
@click.option("--last", is_flag=True, help="Only the newest run.")
@click.option("--all-runs", is_flag=True, help="Every run of a row, not just the newest.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="With a folder: also put claim, table and picture between the lines <!-- table: ... --> and <!-- table end --> "
    "of this Markdown page.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where what is there is not what these ledgers give.")
@click.pass_context
def report(context: click.Context, /, paths: tuple[str, ...], **options: Any) -> None:
    """Make a report of the results under PATHS (ledgers or folders of them; default: $CNNBENCH_RESULTS, else the settings',
    else ./results).

    One HTML file holds everything it needs and asks nothing of a network. Of several runs of one row the newest is shown.
    """
    ending = _file_kind(options["output"])
    if options["into"] is not None and ending is not None:
        raise UsageError(
            f"--into {options['into']} links to the charts of a folder; give -o DIR, not {options['output']}"
        )
    around = None if options["into"] is None else _around_marks(options["into"])  # refused before anything is drawn
    page = _make_page(paths, options["template"], options)
    wanted = _render_files(page, ending, options)
    if around is not None:
        first = page if options["template"] == "lecture" else _make_page(paths, "lecture", options)
        wanted[options["into"]] = _fill_page(around, options["into"], first, options["output"])
    root = options["output"] if ending is None else None
    if options["check"]:
        _print_stale(context, _find_stale(root, wanted))
        return
    _write(root, wanted)


def _file_kind(output: Path) -> str | None:
    """The kind of file, None for a folder. Raises UsageError for a kind there is none of."""
    from cnnbench.report.report_files import EXTENSIONS

    suffix = output.suffix.removeprefix(".").lower()
    if output.is_dir() or not suffix:
        return None
    if suffix not in EXTENSIONS:
        raise UsageError(f"-o {output}: no such format; choose FILE.{', FILE.'.join(EXTENSIONS)}, or a folder")
    return suffix


def _make_page(paths: Sequence[str], template: str, options: Mapping[str, Any]) -> Page:
    """Make the page of these results. Raises UsageError, LedgerError, and ComparisonError as `compute_speedups` does."""
    from cnnbench.report import sections
    from cnnbench.report.charts import chart_data

    if template == "compare":
        return _make_comparison_page(paths, options)
    selection = Selection(
        options["machine_id"], options["run_id"], options["last"], options["all_runs"], options["baseline"]
    )
    roots = [Path(path) for path in paths] or [default_results()]
    loaded = load_results(roots, selection, published_suffice=True)
    request = sections.PageRequest(
        template=template,  # type: ignore[arg-type]
        title=options["title"],
        all_runs=options["all_runs"],
        prices=_parse_prices(options["prices"]),
        currency=options["currency"],
        problems=loaded.problems,
        digests=loaded.digests,
    )
    found = loaded.comparison
    return sections.build(chart_data.collect_chart_data(found, loaded.ledgers, found.published_rows), request)


def _make_comparison_page(names: Sequence[str], options: Mapping[str, Any]) -> Page:
    """The page of two sides. Raises UsageError and ComparisonError as `cnnbench compare` does."""
    from cnnbench.cli.compare import compare_sides
    from cnnbench.cli.sides import load_sides
    from cnnbench.report import sections

    if len(names) != 2:
        raise UsageError(f"--template compare takes two sides, BASE and NEW; {len(names)} given")
    if options["into"] is not None:
        raise UsageError("--into takes the lecture's table, which --template compare does not have")
    base, new = load_sides(names)
    compared = compare_sides(base, new, options["tolerance"])
    return sections.build_comparison_page(
        compared, (*base.side.rows, *new.side.rows), options["title"] or f"{names[1]} against {names[0]}"
    )


def _parse_prices(given: Sequence[str]) -> tuple[Price, ...]:
    """`2.5` or `box/cuda:0=2.5`. Raises UsageError for anything else."""
    from cnnbench.report.cost import Price

    found = []
    for text in given:
        key, _, number = text.rpartition("=")
        try:
            price = float(number)
        except ValueError:
            price = -1.0
        if not 0 <= price < float("inf"):
            raise UsageError(f"--price-per-hour {text}: {number!r} is no price; give PRICE or MACHINE[/DEVICE]=PRICE")
        found.append(Price(key, price))
    return tuple(found)


def _render_files(page: Page, ending: str | None, options: Mapping[str, Any]) -> dict[Path, str | bytes]:
    from cnnbench.report import report_files

    if ending is not None:
        return {options["output"]: report_files.render_file(page, ending, static=options["static"])}  # type: ignore[arg-type]
    made = report_files.render_folder(page, static=options["static"])
    return {options["output"] / name: content for name, content in made.items()}


def _around_marks(target: Path) -> tuple[str, str]:
    """Split the Markdown page at its two marks, which stay. Raises UsageError where they are not there exactly once."""
    parts = re.split(
        rf"(?m)^({re.escape(TABLE_BEGIN)}.*-->\n|{re.escape(TABLE_END)}$)", target.read_text(encoding="utf-8")
    )
    if len(parts) != 5 or not parts[1].startswith(TABLE_BEGIN) or parts[3] != TABLE_END:
        raise UsageError(f"{target}: needs one line `{TABLE_BEGIN}... -->` and below it one `{TABLE_END}`")
    return parts[0] + parts[1], parts[3] + parts[4]


def _fill_page(around: tuple[str, str], target: Path, page: Page, folder: Path) -> str:
    """Put the first screen between the marks of the Markdown page `target`."""
    from cnnbench.report import report_files
    from cnnbench.report.render import markdown

    def link(path: Path) -> str:
        return Path(os.path.relpath(path, target.parent)).as_posix()

    made = markdown.render_first_screen(
        page, charts_at=link(folder / report_files.CHARTS), rest_at=link(folder / report_files.DOCUMENT)
    )
    return made.join(around)


def _find_stale(root: Path | None, wanted: Mapping[Path, str | bytes]) -> list[StaleFile]:
    from cnnbench.report import report_files

    inside = {} if root is None else {str(p.relative_to(root)): c for p, c in wanted.items() if p.is_relative_to(root)}
    single = {path: content for path, content in wanted.items() if root is None or not path.is_relative_to(root)}
    found = [] if root is None else report_files.find_stale(root, inside)
    return [
        *found,
        *(
            report_files.StaleFile(path, why)
            for path, text in single.items()
            if (why := report_files.explain_difference(path, text))
        ),
    ]


def _print_stale(context: click.Context, found: Sequence[StaleFile]) -> None:
    for each in found:
        click.echo(f"{each.path}: {each.reason}")
    if found:
        click.echo(f"{len(found)} not current: run the same command without --check", err=True)
        context.exit(ExitCode.FINDING)
    click.echo("all current", err=True)


def _write(root: Path | None, wanted: Mapping[Path, str | bytes]) -> None:
    for path, content in wanted.items():
        save_file(path, content, make_folder=root is not None)
        click.echo(f"wrote {path}", err=True)
    for path in _find_removed_charts(root, wanted):
        path.unlink()
        click.echo(f"removed {path}: no chart of this report any more", err=True)


def _find_removed_charts(root: Path | None, wanted: Mapping[Path, str | bytes]) -> list[Path]:
    """Charts of ours (they carry their data) that this report no longer has."""
    from cnnbench.report import chart_images, report_files

    if root is None:
        return []
    found = sorted(path for path in (root / report_files.CHARTS).glob("*.svg") if path not in wanted)
    return [path for path in found if chart_images.stored_digest(path.read_text(encoding="utf-8", errors="replace"))]
