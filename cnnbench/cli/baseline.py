"""`cnnbench baseline`: figures of recorded runs stored under a name, and later runs held against them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from cnnbench.cli import baseline_store, completion
from cnnbench.cli import output as out
from cnnbench.cli.load_results import Selection, select_ledgers
from cnnbench.errors import ExitCode, UsageError
from cnnbench.report.render.text import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnbench.store import Ledger

BaselineOption = Callable[[Callable[..., None]], Callable[..., None]]


def _combine_options(*options: BaselineOption) -> BaselineOption:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_results_option: BaselineOption = click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The tree baselines are kept in (default: $CNNBENCH_RESULTS, else ./results).",
)
_machine_option: BaselineOption = click.option(
    "--machine",
    "machine_id",
    metavar="ID",
    shell_complete=completion.complete_machines,
    help="Only this machine (its id or the id's beginning).",
)
_output_options = _combine_options(
    click.option("--format", "format_", type=click.Choice(get_args(Format)), default="table"),
    click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead."),
)


@click.group("baseline")
def baseline() -> None:
    """Store figures of recorded runs under a name, and hold later runs against them.

    A cheap screen before `cnnbench check`: times are held against a prediction interval over 8 stored runs or more, counts
    and bytes exactly. A baseline changes only by `save --replace`, never by itself.
    """


@baseline.command("save")
@click.argument("name")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--run", "run_ids", metavar="ID", multiple=True, shell_complete=completion.complete_runs,
    help="Only this run (its id or the id's beginning); may be given several times.",
)  # fmt: skip
@_machine_option
@click.option("--replace", is_flag=True, help="Save over a baseline of that name.")
@_results_option
def save_command(
    name: str,
    paths: tuple[Path, ...],
    run_ids: tuple[str, ...],
    machine_id: str | None,
    replace: bool,
    results: Path | None,
) -> None:
    """Store the runs under PATHS (default: the results) as baseline NAME.

    Of each row the runs under its newest run's conditions (machine, torch, driver, timing rule) are kept.
    """
    from cnnbench.analysis import process_table
    from cnnbench.regression.saved_baseline import check_name, make_baseline

    check_name(name)
    place = baseline_store.results_folder(results)
    ledgers = _load_ledgers(paths or (place,))
    chosen = select_ledgers(ledgers, Selection(machine_id))
    if run_ids:
        found = [each for run_id in run_ids for each in select_ledgers(chosen, Selection(run_id=run_id))]
        chosen = list({each.header.run_id: each for each in found}.values())
    processes, problems = process_table.read_processes(chosen)
    digests = {each.header.run_id: each.final_digest for each in chosen}
    made, left_out = make_baseline(name, processes, digests, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    path = baseline_store.save_baseline(place, made, replace=replace)
    for line in (*problems, *left_out):
        click.echo(out.printable(line), err=True)
    click.echo(out.printable(_describe_saved(path, [len(row.runs) for row in made.rows], len(made.runs))))


def _describe_saved(path: Path, runs_of: Sequence[int], runs: int) -> str:
    from cnnbench.analysis.prediction_interval import LEAST_RUNS

    enough = sum(each >= LEAST_RUNS for each in runs_of)
    return (
        f"{path}: {runs} run{'' if runs == 1 else 's'}, {len(runs_of)} row{'' if len(runs_of) == 1 else 's'}; "
        f"{enough} with the {LEAST_RUNS} runs that times are judged from"
    )


@baseline.command("list")
@_machine_option
@_results_option
@_output_options
def list_command(machine_id: str | None, results: Path | None, format_: Format, output: Path | None) -> None:
    """List the baselines there are."""
    from cnnbench.report import saved_baselines

    files = baseline_store.find_paths(baseline_store.results_folder(results), machine_id=machine_id)
    out.emit_report(saved_baselines.build_list(baseline_store.load_all_baselines(files)), format_, output)


@baseline.command("show")
@click.argument("name")
@_machine_option
@_results_option
@_output_options
def show_command(name: str, machine_id: str | None, results: Path | None, format_: Format, output: Path | None) -> None:
    """Show what baseline NAME expects of the next run, and whether the ledgers it was made of are still there."""
    from cnnbench.report import saved_baselines

    place = baseline_store.results_folder(results)
    found = baseline_store.load_baseline(baseline_store.find_path(place, name, machine_id))
    out.emit_report(saved_baselines.build_contents(found, baseline_store.check_ledgers(place, found)), format_, output)


@baseline.command("rm")
@click.argument("name")
@_machine_option
@_results_option
def rm_command(name: str, machine_id: str | None, results: Path | None) -> None:
    """Remove baseline NAME; the ledgers stay."""
    path = baseline_store.find_path(baseline_store.results_folder(results), name, machine_id)
    baseline_store.remove_baseline(path)
    click.echo(out.printable(f"removed {path}"))


@baseline.command("judge")
@click.argument("name")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--run", "run_id", metavar="ID", shell_complete=completion.complete_runs,
    help="The run to judge instead of the newest (its id or the id's beginning).",
)  # fmt: skip
@_machine_option
@click.option(
    "--inconclusive", type=click.Choice(["fail", "warn"]), default="fail", show_default=True,
    help="Whether too few stored runs, or a check that cannot tell, end with exit 4 or with 0.",
)  # fmt: skip
@click.option(
    "--check/--no-check", "check", default=True, help="Settle suspicious times by the paired check.  [default: check]"
)
@click.option(
    "--suite",
    metavar="SUITE",
    shell_complete=completion.complete_suites,
    help="The suite of that check.  [default: the run's]",
)
@_results_option
@_output_options
@click.pass_context
def judge_command(
    context: click.Context,
    /,
    name: str,
    paths: tuple[Path, ...],
    run_id: str | None,
    machine_id: str | None,
    inconclusive: str,
    check: bool,
    suite: str | None,
    results: Path | None,
    format_: Format,
    output: Path | None,
) -> None:
    """Hold the newest run under PATHS (default: the results) against baseline NAME of its machine.

    Exit 1 if a deterministic metric changed, 3 if the conditions are others, 5 if a record is missing, 4 if there are too
    few stored runs. A suspicious time alone fails nothing: it starts `cnnbench check` of both commits for the suspicious
    rows, whose verdict counts as it does there (1, 3, 4, 5). Where that cannot be, a warning says why.
    """
    from cnnbench.analysis import process_table
    from cnnbench.regression.saved_baseline import check_name, describe_run
    from cnnbench.regression.screen import screen_run, worst_exit_code
    from cnnbench.report import saved_baselines

    check_name(name)
    place = baseline_store.results_folder(results)
    (ledger,) = select_ledgers(_load_ledgers(paths or (place,)), Selection(machine_id, run_id, last=True))[:1]
    found = baseline_store.load_baseline(baseline_store.find_path_for_machine(place, name, ledger.header.machine.id))
    processes, _ = process_table.read_processes([ledger])
    screening = screen_run(found, describe_run(ledger.header, ledger.final_digest), processes)
    out.emit_report(saved_baselines.build_judgement(screening, ledger.problems), format_, output)
    code = screening.exit_code
    own = ExitCode.DONE if code is ExitCode.INCONCLUSIVE and inconclusive == "warn" else code
    if not check or not screening.suspicious:
        context.exit(own)
    from cnnbench.cli.confirm import ConfirmOptions, confirm_suspicious

    confirm_options = ConfirmOptions(
        place, suite, inconclusive, verdict_to_stderr=output is None and format_ != "table"
    )
    context.exit(worst_exit_code((own, confirm_suspicious(context, screening, ledger.header, confirm_options))))


def _load_ledgers(paths: Sequence[Path]) -> Sequence[Ledger]:
    """Every ledger under the paths. Raises UsageError, with what could not be read, where there is none."""
    from cnnbench import store

    loaded = store.load_tree(paths)
    if not loaded.ledgers:
        reasons = "".join(f"\n  {problem}" for problem in loaded.problems)
        where = ", ".join(map(str, paths))
        raise UsageError(f"no results in {where}; measure first with `cnnbench run quick`{reasons}")
    return loaded.ledgers
