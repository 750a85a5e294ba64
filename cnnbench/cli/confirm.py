"""From a suspicious time to the paired check that settles it: what `cnnbench baseline judge` does after its table.

The check is that of `cnnbench check SUITE --base COMMIT --head COMMIT`, of the suspicious rows alone, with base the commit
of the baseline's newest run and head the judged run's. It is made where it would measure the same again: on the run's
machine, with its Python and torch, in a repository that has both commits. Else the reason is said and nothing fails.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from cnnbench.cli.check import check
from cnnbench.cli.check_run import measure_check
from cnnbench.cli.check_session import CheckSetup
from cnnbench.cli.options import OptionValues
from cnnbench.errors import CnnbenchError, ComparisonError, ExitCode, LedgerError, UsageError
from cnnbench.naming import job_label
from cnnbench.plan.suite import suite_names
from cnnbench.regression.screen import ScreeningResult, worst_exit_code
from cnnbench.report.escaping import printable
from cnnbench.schema import Job, RunHeader, current_suite_name


def confirm_suspicious(
    context: click.Context, screening: ScreeningResult, results: Path, options: OptionValues
) -> ExitCode:
    """Check the suspicious rows, one device after the other, and return what the verdicts end with together.

    `options` are those of `judge`. 0 where no check can be made, which is said on standard error. Raises LedgerError where a
    record cannot be written.
    """
    if screening.obstacle is not None:
        _warn(screening.obstacle)
        return ExitCode.DONE
    devices = dict.fromkeys(job.device for job in screening.suspicious)
    return worst_exit_code(_check_device(context, screening, results, options, device) for device in devices)


def _check_device(
    context: click.Context, screening: ScreeningResult, results: Path, options: OptionValues, device: str
) -> ExitCode:
    """What the check of one device's rows ends with; 0, and the reason said, where it cannot begin."""
    jobs = tuple(job for job in screening.suspicious if job.device == device)
    to_stderr = options["output"] is None and options["format_"] != "table"  # the table is for a machine to read
    (base, head), threads = screening.commits, screening.run.options.get("threads", "")
    try:
        words = [  # what a ledger says is nowhere taken for an option or a path
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
    """The one suite of the run, if it is shipped. Raises UsageError for several, or a file that only the run knew."""
    if len(run.suites) != 1:
        raise UsageError(f"the run is of {len(run.suites)} suites; name the one to check with --suite")
    name = current_suite_name(*run.suites)
    if name not in suite_names():
        raise UsageError(f"the run's suite {name!r} is none of those shipped; give its file with --suite")
    return name


def _narrow(run: RunHeader, jobs: tuple[Job, ...], setup: CheckSetup) -> CheckSetup:
    """Leave the suspicious rows of the suite, and refuse where measuring again would not be measuring the same."""
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
    planned = {job.row_key: job for job in setup.jobs}
    if absent := [job for job in jobs if job.row_key not in planned]:
        reason = f"suite {setup.suite.name} as it is now does not plan {_format_jobs(absent)} here"
        if len(absent) == len(jobs):
            raise UsageError(reason)
        _warn(reason)
    wanted = {job.row_key for job in jobs}
    return replace(setup, jobs=tuple(job for job in setup.jobs if job.row_key in wanted))


def _format_jobs(jobs: Iterable[Job]) -> str:
    """The rows by their labels, without the round, of which they have none."""
    return "; ".join(job_label(job, threads=True) for job in jobs)


def _warn(reason: str) -> None:
    first, *_ = reason.splitlines()  # after it the tail of what a worker printed
    click.echo(printable(f"warning: not checked: {first}"), err=True)
