"""`cnnbench check baseline`: names for recorded runs, and later runs compared with them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli import completion
from cnnbench.cli import output as out
from cnnbench.cli.check import check
from cnnbench.cli.command_group import CommandGroup
from cnnbench.cli.load_results import DEFAULT_RESULTS, Selection, load_ledgers, select_ledgers
from cnnbench.cli.options import (
    ANY_PATH,
    MACHINE,
    OUTPUT,
    OptionValues,
    combine_options,
    format_option,
    gather_values,
    make_flag,
    make_option,
    run_option,
)
from cnnbench.errors import CnnbenchError, ComparisonError, ExitCode, LedgerError, UsageError
from cnnbench.plain_text import printable

if TYPE_CHECKING:
    from cnnbench.cli.check_session import CheckSetup
    from cnnbench.regression.screen import ScreeningResult
    from cnnbench.schema import Job, RunHeader


def _find_results(named: Path | None) -> Path:
    """Find the tree of results: the one named, else the environment's, else ./results. It need not exist yet."""
    return named or Path(os.environ.get("CNNBENCH_RESULTS") or DEFAULT_RESULTS)


_name_argument = click.argument("name")
_runs_arguments = combine_options(_name_argument, click.argument("paths", nargs=-1, type=ANY_PATH))
_results_option = make_option(
    "--results",
    "The tree baselines are kept in (default: $CNNBENCH_RESULTS, else ./results).",
    ANY_PATH,
    metavar="DIR",
    check=_find_results,
)
_output_options = combine_options(format_option(), OUTPUT)


@click.group(cls=CommandGroup)
def baseline() -> None:
    """Save names for recorded runs, and judge later runs by them.

    A cheap screen before `cnnbench check`: times are compared with a prediction interval over 8 stored runs or more, counts
    and bytes must be equal. A baseline changes only by `save --replace`, never by itself.
    """


@baseline.command
@_runs_arguments
@run_option("--run run_ids", "Only this run (its id or the id's beginning); may be given several times.", multiple=True)
@MACHINE
@make_flag("--replace", "Save over a baseline of that name.")
@_results_option
def save_command(
    name: str, paths: tuple[Path, ...], run_ids: tuple[str, ...], machine_id: str | None, replace: bool, results: Path
) -> None:
    """Store the runs under PATHS (default: the results) as baseline NAME: their names and digests, no copies.

    Keeps the runs of each row that have the conditions of its newest run (machine, torch, driver, timing rule).
    """
    from cnnbench.analysis import process_table
    from cnnbench.analysis.stats import LEAST_RUNS
    from cnnbench.regression.saved_baseline import check_name, make_baseline, save_baseline

    check_name(name)
    ledgers = load_ledgers(Selection(machine_id, paths=paths or (results,))).ledgers
    if run_ids:
        chosen = [each for run_id in run_ids for each in select_ledgers(ledgers, Selection(run_id=run_id))]
        ledgers = tuple({each.header.run_id: each for each in chosen}.values())
    today, problems = process_table.read_processes(ledgers)
    processes, _ = process_table.read_processes(ledgers, as_recorded=True)
    rejected = {
        now.run_id: now.message for now, then in zip(today, processes, strict=True) if now.status != then.status
    }
    processes = tuple(process for process in processes if process.run_id not in rejected)
    made, left_out = make_baseline(name, processes, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    path = save_baseline(results, made, ledgers, replace=replace)
    for line in (*problems, *(f"run {each} was left out: {why}" for each, why in rejected.items()), *left_out):
        click.echo(out.printable(line), err=True)
    enough = sum(len(row.runs) >= LEAST_RUNS for row in made.rows)
    runs = f"{len(made.runs)} run{'' if len(made.runs) == 1 else 's'}"
    rows = f"{len(made.rows)} row{'' if len(made.rows) == 1 else 's'}"
    click.echo(out.printable(f"{path}: {runs}, {rows}; {enough} with the {LEAST_RUNS} runs that times are judged from"))


@baseline.command
@MACHINE
@_results_option
@_output_options
@gather_values
def list_command(machine_id: str | None, results: Path, destination: out.Destination) -> None:
    """List the baselines there are."""
    from cnnbench.regression.saved_baseline import list_names, load_baseline
    from cnnbench.report.history import ListedBaseline, build_list

    found = []
    for machine, name in list_names(results, machine_id or ""):
        try:
            found.append(ListedBaseline(machine, name, load_baseline(results, machine, name)[0]))
        except (LedgerError, UsageError) as error:
            found.append(ListedBaseline(machine, name, None, str(error)))
    destination.emit(build_list(found))


@baseline.command
@_name_argument
@MACHINE
@_results_option
@_output_options
@gather_values
def show_command(name: str, machine_id: str | None, results: Path, destination: out.Destination) -> None:
    """Show what baseline NAME predicts for the next run, and whether the ledgers of its runs are still there."""
    from cnnbench.regression.saved_baseline import load_baseline
    from cnnbench.report.history import build_contents

    contents = load_baseline(results, _find_machine(results, name, machine_id), name, partly=True)
    destination.emit(build_contents(*contents))


@baseline.command
@_name_argument
@MACHINE
@_results_option
def remove_command(name: str, machine_id: str | None, results: Path) -> None:
    """Remove baseline NAME; the ledgers stay."""
    from cnnbench.regression.saved_baseline import FILE_NAME, change_entries

    machine = _find_machine(results, name, machine_id)
    with change_entries(results, machine) as entries:
        entries.pop(name, None)
    click.echo(out.printable(f"removed {name} from {results / machine / FILE_NAME}"))


def _find_machine(results: Path, name: str, machine_id: str | None) -> str:
    """Find the one machine that has the baseline. Raises UsageError if none has it or several do."""
    from cnnbench.regression.saved_baseline import find_machines

    machines = find_machines(results, name, machine_id or "")
    if len(machines) > 1:
        raise UsageError(
            f"baseline {name}: {len(machines)} machines have one ({', '.join(machines)}); choose with --machine"
        )
    return machines[0]


@baseline.command
@_runs_arguments
@run_option("--run run_id", "The run to judge instead of the newest (its id or the id's beginning).")
@MACHINE
@make_option(
    "--inconclusive",
    "Exit 4 or 0 if there are too few stored runs, or a check that cannot decide.",
    click.Choice(["fail", "warn"]),
    default="fail",
)
@make_option(
    "--check/--no-check check",
    "Run the paired check on suspicious times.  [default: check]",
    default=True,
    show_default=False,
)
@make_option(
    "--suite",
    "The suite of that check.  [default: the run's]",
    metavar="SUITE",
    shell_complete=completion.complete_suites,
)
@_results_option
@_output_options
@click.pass_context
def judge_command(context: click.Context, /, name: str, paths: tuple[Path, ...], results: Path, **options: Any) -> None:
    """Compare the newest run under PATHS (default: the results) with baseline NAME of its machine.

    Exit 1 if a deterministic metric changed, 3 if the conditions differ, 5 if a record is missing, 4 if there are too few
    stored runs. A suspicious time alone fails nothing: it starts `cnnbench check` of both commits for the suspicious rows,
    whose exit code counts (1, 3, 4, 5). If that is impossible, a warning says why.
    """
    from cnnbench.analysis import process_table
    from cnnbench.regression import saved_baseline, screen
    from cnnbench.report.history import build_judgement

    saved_baseline.check_name(name)
    selection = Selection(options["machine_id"], options["run_id"], last=True, paths=paths or (results,))
    ledger = load_ledgers(selection).ledgers[0]
    machine_id, machines = ledger.header.machine.id, saved_baseline.find_machines(results, name)
    if machine_id not in machines:
        raise ComparisonError(
            f"baseline {name} is of machine {', '.join(machines)}, the run of {machine_id}: not comparable; "
            "save one of this machine's runs"
        )
    saved, _ = saved_baseline.load_baseline(results, machine_id, name)
    screening = screen.screen_run(saved, ledger.header, process_table.read_processes([ledger])[0])
    out.Destination(options["format_"], options["output"]).emit(build_judgement(screening, ledger.problems))
    own = screening.exit_code
    if own is ExitCode.INCONCLUSIVE and options["inconclusive"] == "warn":
        own = ExitCode.DONE
    if not options["check"] or not screening.suspicious:
        context.exit(own)
    codes = [own]
    if screening.obstacle is not None:
        _warn(screening.obstacle)
    else:
        devices = dict.fromkeys(job.device for job in screening.suspicious)
        codes += [_check_device(context, screening, results, options, device) for device in devices]
    context.exit(screen.worst_exit_code(codes))


def _check_device(
    context: click.Context, screening: ScreeningResult, results: Path, options: OptionValues, device: str
) -> ExitCode:
    """Check one device's suspicious rows and return the exit code; 0, with the reason printed, if it cannot begin.

    The check is that of `cnnbench check SUITE --base COMMIT --head COMMIT`, with base the commit of the baseline's
    newest run and head the judged run's. It is done only where it would measure the same again: on the run's machine,
    with its Python and torch, in a repository that has both commits. Raises LedgerError if a record cannot be written.
    """
    from cnnbench.cli.check_run import measure_check

    jobs = tuple(job for job in screening.suspicious if job.device == device)
    to_stderr = options["output"] is None and options["format_"] != "table"  # standard output is for a program to read
    (base, head), threads = screening.commits, screening.run.options.get("threads", "")
    try:
        words = [  # no text of a ledger is taken for an option or a path
            *("--base", str(base), "--head", str(head), "--device", device, "--results", str(results)),
            *(("--threads", threads) if threads.isascii() and threads.isdigit() else ()),
            *(("--inconclusive", "warn") if options["inconclusive"] == "warn" else ()),
            *("--", options["suite"] or _find_suite(screening.run)),
        ]
        command = check.make_context("check", list(words), parent=context.find_root())
        click.echo(printable(f"checking  {_format_jobs(jobs)}: {shlex.join(['cnnbench', 'check', *words])}"), err=True)
        record = measure_check(command, command.params, partial(_narrow, screening.run, jobs), err=to_stderr)
    except LedgerError:
        raise
    except (CnnbenchError, click.ClickException) as error:
        _warn(error.format_message() if isinstance(error, click.ClickException) else str(error))
        return ExitCode.DONE
    return ExitCode(record.ending.exit_code)


def _find_suite(run: RunHeader) -> str:
    """Find the one suite of the run, if it is shipped. Raises UsageError for several suites, or a suite's file."""
    from cnnbench.plan.suite import suite_names
    from cnnbench.schema import current_suite_name

    if len(run.suites) != 1:
        raise UsageError(f"the run is of {len(run.suites)} suites; name the one to check with --suite")
    name = current_suite_name(*run.suites)
    if name not in suite_names():
        raise UsageError(f"the run's suite {name!r} is none of those shipped; give its file with --suite")
    return name


def _narrow(run: RunHeader, jobs: tuple[Job, ...], setup: CheckSetup) -> CheckSetup:
    """Keep the suspicious rows of the suite, and refuse if measuring again would not measure the same."""
    here = setup.inventory
    if here.machine.id != run.machine.id:
        raise ComparisonError(f"the run is of machine {run.machine.id}, this is {here.machine.id}: check it there")
    # As `analysis.conditions` tells environments apart: patches of Python do not change how fast a step is launched.
    then, now = (
        f"torch {each.torch} ({each.torch_build}), Python {'.'.join(each.python.split('.')[:2])}"
        for each in (run.software, here.software)
    )
    if then != now:
        raise ComparisonError(f"the run had {then}, here is {now}: check it in that environment")
    planned = {job.row_key for job in setup.jobs}
    if absent := [job for job in jobs if job.row_key not in planned]:
        reason = f"suite {setup.suite.name} as it is now does not plan {_format_jobs(absent)} here"
        if len(absent) == len(jobs):
            raise UsageError(reason)
        _warn(reason)
    wanted = {job.row_key for job in jobs}
    return replace(setup, jobs=tuple(job for job in setup.jobs if job.row_key in wanted))


def _format_jobs(jobs: Iterable[Job]) -> str:
    """Format the rows by their labels, which have no round."""
    from cnnbench.naming import job_label

    return "; ".join(job_label(job, threads=True) for job in jobs)


def _warn(reason: str) -> None:
    # After the first line comes the tail of what a worker printed.
    click.echo(printable(f"warning: not checked: {reason.splitlines()[0]}"), err=True)
