"""From a suspicious time to the paired check that settles it: what `cnnbench baseline judge` does after its table.

The check is that of `cnnbench check SUITE --base COMMIT --head COMMIT`, of the suspicious rows alone, with base the commit
of the baseline's newest run and head the judged run's. It is made where it would measure the same again: on the run's
machine, with its Python and torch, in a repository that has both commits. Else the reason is said and nothing fails.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.cli.check import check, measure_check
from cnnbench.cli.check_outputs import validate_extensions
from cnnbench.errors import CnnbenchError, ComparisonError, ExitCode, LedgerError, UsageError
from cnnbench.naming import job_label
from cnnbench.report.escaping import printable

if TYPE_CHECKING:
    from cnnbench.cli.check_setup import CheckSetup
    from cnnbench.regression.screen import ScreeningResult
    from cnnbench.schema import Job, RunHeader, Software


@dataclass(frozen=True)
class ConfirmOptions:
    """How the check is made: where its noise profiles are, of which suite (None: the run's), what "cannot tell" ends with,
    and whether the verdict stays off standard output, where the table is for a machine to read."""

    results: Path
    suite: str | None
    inconclusive: str
    verdict_to_stderr: bool


def confirm_suspicious(
    context: click.Context, screening: ScreeningResult, header: RunHeader, confirm_options: ConfirmOptions
) -> ExitCode:
    """Check the suspicious rows, one device after the other, and return what the verdicts end with together.

    0 where no row is suspicious or no check can be made, which is said on standard error. Raises LedgerError where a
    record cannot be written.
    """
    from cnnbench.regression.screen import worst_exit_code

    if not screening.suspicious:
        return ExitCode.DONE
    if screening.obstacle is not None:
        _warn(screening.obstacle)
        return ExitCode.DONE
    return worst_exit_code(
        _check_device(context, screening, header, confirm_options, device, jobs)
        for device, jobs in _group_by_device(screening.suspicious)
    )


def _group_by_device(jobs: tuple[Job, ...]) -> Iterator[tuple[str, tuple[Job, ...]]]:
    """One check is on one device."""
    for device in dict.fromkeys(job.device for job in jobs):
        yield device, tuple(job for job in jobs if job.device == device)


def _check_device(
    context: click.Context,
    screening: ScreeningResult,
    header: RunHeader,
    confirm_options: ConfirmOptions,
    device: str,
    jobs: tuple[Job, ...],
) -> ExitCode:
    """What the check of one device's rows ends with; 0, and the reason said, where it cannot begin."""
    try:
        words = _make_arguments(screening, header, confirm_options, device)
        command = check.make_context("check", list(words), parent=context.find_root())
        validate_extensions(command.params)
        click.echo(printable(f"checking  {_format_jobs(jobs)}: {shlex.join(['cnnbench', 'check', *words])}"), err=True)
        record = measure_check(
            command, command.params, _only_suspicious(header, jobs), err=confirm_options.verdict_to_stderr
        )
    except LedgerError:
        raise
    except (CnnbenchError, click.ClickException) as error:
        _warn(error.format_message() if isinstance(error, click.ClickException) else str(error))
        return ExitCode.DONE
    return ExitCode(record.ending.exit_code)


def _make_arguments(
    screening: ScreeningResult, header: RunHeader, confirm_options: ConfirmOptions, device: str
) -> list[str]:
    """The command line of the check after its name. What a ledger says is nowhere taken for an option or a path."""
    base, head = screening.baseline.newest.clean_commit, screening.run.clean_commit
    threads = header.options.get("threads", "")
    return [
        *("--base", str(base), "--head", str(head), "--device", device, "--results", str(confirm_options.results)),
        *(("--threads", threads) if threads.isascii() and threads.isdigit() else ()),
        *(("--inconclusive", "warn") if confirm_options.inconclusive == "warn" else ()),
        *("--", confirm_options.suite or _find_suite(screening)),
    ]


def _find_suite(screening: ScreeningResult) -> str:
    """The one suite of the run, if it is shipped. Raises UsageError for several, or a file that only the run knew."""
    from cnnbench.plan.suite import suite_names
    from cnnbench.schema import current_suite_name

    suites = screening.run.suites
    if len(suites) != 1:
        raise UsageError(f"the run is of {len(suites)} suites; name the one to check with --suite")
    name = current_suite_name(suites[0])
    if name not in suite_names():
        raise UsageError(f"the run's suite {name!r} is none of those shipped; give its file with --suite")
    return name


def _only_suspicious(header: RunHeader, jobs: tuple[Job, ...]) -> Callable[[CheckSetup], CheckSetup]:
    """Leaves the suspicious rows of the suite, and refuses where measuring again would not be measuring the same."""
    wanted = {job.row_key: job for job in jobs}

    def narrow(setup: CheckSetup) -> CheckSetup:
        here = setup.inventory
        if here.machine.id != header.machine.id:
            raise ComparisonError(
                f"the run is of machine {header.machine.id}, this is {here.machine.id}: check it there"
            )
        then, now = _describe_software(header.software), _describe_software(here.software)
        if then != now:
            raise ComparisonError(f"the run had {then}, here is {now}: check it in that environment")
        found = tuple(job for job in setup.jobs if job.row_key in wanted)
        there = {job.row_key for job in found}
        absent = [job for key, job in wanted.items() if key not in there]
        if not found:
            raise UsageError(f"suite {setup.suite.name} as it is now does not plan {_format_jobs(absent)} here")
        if absent:
            _warn(f"suite {setup.suite.name} as it is now does not plan {_format_jobs(absent)} here")
        return replace(setup, jobs=found)

    return narrow


def _describe_software(software: Software) -> str:
    """As `analysis.conditions` tells environments apart: patches of Python do not change how fast a step is launched."""
    python = ".".join(software.python.split(".")[:2])
    return f"torch {software.torch} ({software.torch_build}), Python {python}"


def _format_jobs(jobs: tuple[Job, ...] | list[Job]) -> str:
    """The rows by their labels, without the round, of which they have none."""
    return "; ".join(job_label(job, threads=True) for job in jobs)


def _warn(reason: str) -> None:
    first, *_ = reason.splitlines()  # after it the tail of what a worker printed
    click.echo(printable(f"warning: not checked: {first}"), err=True)
