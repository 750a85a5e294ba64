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

from cnnbench.cli.check import check, measured
from cnnbench.cli.surfaces import check_endings
from cnnbench.errors import CnnbenchError, ComparisonError, ExitCode, LedgerError, UsageError
from cnnbench.report.safe import printable

if TYPE_CHECKING:
    from cnnbench.cli.pairs import Ground
    from cnnbench.gate.judge import Judgement
    from cnnbench.schema import Job, RunHeader, Software


@dataclass(frozen=True)
class Terms:
    """How the check is made: where its noise profiles are, of which suite (None: the run's), what "cannot tell" ends with,
    and whether the verdict stays off standard output, where the table is for a machine to read."""

    results: Path
    suite: str | None
    inconclusive: str
    verdict_to_stderr: bool


def settle(context: click.Context, judgement: Judgement, header: RunHeader, terms: Terms) -> ExitCode:
    """Check the suspicious rows, one device after the other, and return what the verdicts end with together.

    0 where no row is suspicious or no check can be made, which is said on standard error. Raises LedgerError where a
    record cannot be written.
    """
    from cnnbench.gate.judge import gravest

    if not judgement.suspicious:
        return ExitCode.DONE
    if judgement.obstacle is not None:
        _warn(judgement.obstacle)
        return ExitCode.DONE
    return gravest(
        _checked(context, judgement, header, terms, device, jobs) for device, jobs in _by_device(judgement.suspicious)
    )


def _by_device(jobs: tuple[Job, ...]) -> Iterator[tuple[str, tuple[Job, ...]]]:
    """One check is on one device."""
    for device in dict.fromkeys(job.device for job in jobs):
        yield device, tuple(job for job in jobs if job.device == device)


def _checked(
    context: click.Context, judgement: Judgement, header: RunHeader, terms: Terms, device: str, jobs: tuple[Job, ...]
) -> ExitCode:
    """What the check of one device's rows ends with; 0, and the reason said, where it cannot begin."""
    try:
        words = _words(judgement, header, terms, device)
        command = check.make_context("check", list(words), parent=context.find_root())
        check_endings(command.params)
        click.echo(printable(f"checking  {_said(jobs)}: {shlex.join(['cnnbench', 'check', *words])}"), err=True)
        record = measured(command, command.params, _narrowing(header, jobs), err=terms.verdict_to_stderr)
    except LedgerError:
        raise
    except (CnnbenchError, click.ClickException) as error:
        _warn(error.format_message() if isinstance(error, click.ClickException) else str(error))
        return ExitCode.DONE
    return ExitCode(record.ending.exit_code)


def _words(judgement: Judgement, header: RunHeader, terms: Terms, device: str) -> list[str]:
    """The command line of the check after its name. What a ledger says is nowhere taken for an option or a path."""
    base, head = judgement.baseline.newest.clean_commit, judgement.run.clean_commit
    threads = header.options.get("threads", "")
    return [
        *("--base", str(base), "--head", str(head), "--device", device, "--results", str(terms.results)),
        *(("--threads", threads) if threads.isascii() and threads.isdigit() else ()),
        *(("--inconclusive", "warn") if terms.inconclusive == "warn" else ()),
        *("--", terms.suite or _suite_of(judgement)),
    ]


def _suite_of(judgement: Judgement) -> str:
    """The one suite of the run, if it is shipped. Raises UsageError for several, or a file that only the run knew."""
    from cnnbench.plan.suite import suite_names

    suites = judgement.run.suites
    if len(suites) != 1:
        raise UsageError(f"the run is of {len(suites)} suites; name the one to check with --suite")
    if suites[0] not in suite_names():
        raise UsageError(f"the run's suite {suites[0]!r} is none of those shipped; give its file with --suite")
    return suites[0]


def _narrowing(header: RunHeader, jobs: tuple[Job, ...]) -> Callable[[Ground], Ground]:
    """Leaves the suspicious rows of the suite, and refuses where measuring again would not be measuring the same."""
    wanted = {job.row_key: job for job in jobs}

    def narrow(ground: Ground) -> Ground:
        here = ground.inventory
        if here.machine.id != header.machine.id:
            raise ComparisonError(
                f"the run is of machine {header.machine.id}, this is {here.machine.id}: check it there"
            )
        then, now = _stack(header.software), _stack(here.software)
        if then != now:
            raise ComparisonError(f"the run had {then}, here is {now}: check it in that environment")
        found = tuple(job for job in ground.jobs if job.row_key in wanted)
        there = {job.row_key for job in found}
        absent = [job for key, job in wanted.items() if key not in there]
        if not found:
            raise UsageError(f"suite {ground.suite.name} as it is now does not plan {_said(absent)} here")
        if absent:
            _warn(f"suite {ground.suite.name} as it is now does not plan {_said(absent)} here")
        return replace(ground, jobs=found)

    return narrow


def _stack(software: Software) -> str:
    """As `analysis.conditions` tells environments apart: patches of Python do not change how fast a step is launched."""
    python = ".".join(software.python.split(".")[:2])
    return f"torch {software.torch} ({software.torch_build}), Python {python}"


def _said(jobs: tuple[Job, ...] | list[Job]) -> str:
    """The rows by their labels, without the round, of which they have none."""
    return "; ".join(job.label_with(threads=True).rpartition(",")[0] for job in jobs)


def _warn(reason: str) -> None:
    first, *_ = reason.splitlines()  # after it the tail of what a worker printed
    click.echo(printable(f"warning: not checked: {first}"), err=True)
