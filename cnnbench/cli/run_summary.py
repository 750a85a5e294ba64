"""What is said around a run: before it the conditions, after it the table, what is saved where, and what to do next.

The table goes to standard output, the rest to standard error. What a run left behind is read from its ledger, so the last
word is what is on disk, after Ctrl-C too.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cnnbench.errors import LedgerError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.runner.run import PendingJob
    from cnnbench.schema import RunHeader
    from cnnbench.store import Ledger

EXPORTS = {"json": "json", "csv": "csv", "markdown": "markdown", "latex": "latex"}
OPTIONS_NOT_IN_LEDGER = ("data_dir", "timeout", "energy", "no_progress", "tensorboard")
"""Options that hold for the processes and not for the plan: the command that goes on must give them again."""
MAX_LISTED_FAILURES = 8
INDENT = 10


def announce_run(console: Console, header: RunHeader, todo: Sequence[PendingJob], path: Path) -> None:
    """The machine, the software, the plan and the ledger."""
    machine, software = header.machine, header.software
    names = ", ".join(sorted({f"{device.id} ({device.name})" for device in machine.devices}))
    lines = (
        ("machine", f"{machine.id}: {machine.cpu_name}, {machine.cores_allowed} cores allowed; {names}"),
        ("software", f"torch {software.torch} ({software.torch_build}), Python {software.python}"),
        ("plan", f"{len(todo)} of {len(header.plan)} jobs, seed {header.seed}, one process each"),
        ("ledger", str(path)),
    )
    for what, text in lines:
        _print_line(console, what, text)


def report_run(path: Path, options: dict[str, Any], verbosity: int) -> tuple[str, ...]:
    """Print this run's table and write the exports asked for; returns the files written."""
    from cnnbench.cli.output import terminal_width
    from cnnbench.cli.show import report_paths
    from cnnbench.report.render import text

    found = report_paths([path])
    written: list[str] = []
    for name, format_ in EXPORTS.items():
        target = options[f"export_{name}"]
        if target is None:
            continue
        rendered = text.render(found, format_)  # type: ignore[arg-type]
        if target == "-":
            click.echo(rendered, nl=False)
            continue
        try:
            Path(target).write_text(rendered, encoding="utf-8")
        except OSError as error:
            raise LedgerError(f"--export-{name} {target}: {error.strerror}; the results are in {path}") from error
        written.append(str(target))
    to_stdout = any(options[f"export_{name}"] == "-" for name in EXPORTS)
    if options["as_json"] and not to_stdout:
        click.echo(text.render(found, "json"), nl=False)
    elif verbosity >= 0 and not to_stdout:
        click.echo(text.render(found, "table", width=terminal_width(), color=sys.stdout.isatty()), nl=False)
    return tuple(written)


class RunSummary:
    """The last word of a run, from its ledger; it knows when the run began and the command that goes on."""

    def __init__(self, console: Console, context: click.Context, path: Path, verbosity: int) -> None:
        self._console, self._path, self._verbosity = console, path, verbosity
        self._resume_command, self._resumed = _make_resume_command(context), bool(context.params["resume"])
        self._tensorboard_folder: Path | None = context.params["tensorboard"]
        self._began = time.monotonic()
        self._spent: float | None = None

    def stop_clock(self) -> None:
        """The last process has ended: what follows is not the run's time."""
        self._spent = time.monotonic() - self._began

    def print_summary(self, exported: Sequence[str] = (), *, interrupted: bool = False) -> None:
        """How many jobs went how, what is saved and where, how to go on; quiet says only how to, where jobs are left."""
        from cnnbench import store
        from cnnbench.runner.run import list_pending_jobs

        ledger = store.load(self._path)
        missing = len(list_pending_jobs(ledger.header, ledger.records))
        failed = _list_failures(ledger)
        if self._verbosity < 0:
            if missing:
                _print_command(
                    self._console, f"{missing} of the plan's jobs are left; go on with ", self._resume_command
                )
            return
        if not interrupted:
            self._console.print()  # between the table and this
        missed = sum(record.outcome.status == "missed" for record in ledger.records)
        counts = self._format_counts(ledger, len(failed) - missed, missed, missing)
        _print_line(self._console, "stopped" if interrupted else "done", counts)
        self._print_failures(failed, "missed" if missed == len(failed) else "failed")
        records = f"{len(ledger.records)} record{'' if len(ledger.records) == 1 else 's'}"
        _print_line(self._console, "ledger", f"{records} in {self._path}")
        if exported:
            _print_line(self._console, "exported", ", ".join(exported))
        for number, command in enumerate(self._next_commands(going_on=missing > 0)):
            _print_command(self._console, "" if number else "next", command)

    def _print_failures(self, failed: Sequence[str], heading: str) -> None:
        for number, text in enumerate(failed[:MAX_LISTED_FAILURES]):
            _print_line(self._console, "" if number else heading, text, style="bold red")
        if failed:
            more = f"{len(failed) - MAX_LISTED_FAILURES} more; " if len(failed) > MAX_LISTED_FAILURES else ""
            hint = "--resume does not repeat them; a new run with -v shows the end of their output"
            _print_line(self._console, "", more + hint)

    def _format_counts(self, ledger: Ledger, failed: int, missed: int, missing: int) -> str:
        """`6 of 9 jobs ok, 1 failed, 1 missed the target, 1 missing, in 2:41`; of a run gone on with, the time since then."""
        from cnnbench.cli.progress import format_clock

        planned = len(ledger.header.plan)
        parts = [f"{planned - failed - missed - missing} of {planned} job{'' if planned == 1 else 's'} ok"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{missed} missed the target"] if missed else []
        parts += [f"{missing} missing"] if missing else []
        spent = format_clock(time.monotonic() - self._began if self._spent is None else self._spent)
        return f"{', '.join(parts)}, {f'{spent} this time' if self._resumed else f'in {spent}'}"

    def _next_commands(self, *, going_on: bool) -> list[str]:
        show = shlex.join(["cnnbench", "show", str(self._path)])
        report = shlex.join(["cnnbench", "report", str(self._path), "-o", "report.html"])
        boards = (
            []
            if self._tensorboard_folder is None
            else [shlex.join(["tensorboard", "--logdir", str(self._tensorboard_folder)])]
        )
        return [*([self._resume_command] if going_on else []), show, report, *boards]


def _list_failures(ledger: Ledger) -> list[str]:
    """`name: CRASHED: message` of each job that did not end well, in the order they ran; an interrupted one is missing."""
    from cnnbench.cli.progress import describe_failure, make_job_namer

    name = make_job_namer(ledger.header.plan)
    return [
        f"{name(record.job)}: {describe_failure(record)}"
        for record in ledger.records
        if record.outcome.status not in ("ok", "interrupted")
    ]


def _make_resume_command(context: click.Context) -> str:
    """The command that goes on with this run."""
    root = context.find_root()
    aside = ["--no-settings"] if root.get_parameter_source("no_settings") is ParameterSource.COMMANDLINE else []
    words = ["cnnbench", *aside, "run", *context.params["suites"], "-o", str(context.params["output"])]
    for option in context.command.params:
        name = str(option.name)
        if name in OPTIONS_NOT_IN_LEDGER and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words += [option.opts[0]] if context.params[name] is True else [option.opts[0], str(context.params[name])]
    return shlex.join([*words, "--resume"])


def _print_line(console: Console, what: str, text: str, style: str = "") -> None:
    """`what      text`, wrapped below itself where the terminal is narrow."""
    from rich.text import Text

    from cnnbench.cli.progress import wrap_indented

    wrapped = wrap_indented(console, Text(text, style=style), INDENT, before=INDENT)
    console.print(Text(f"{what:<{INDENT}}").append_text(wrapped), highlight=False)


def _print_command(console: Console, what: str, command: str) -> None:
    """A command as it can be copied: wrapped by the terminal alone."""
    console.print(f"{what:<{INDENT}}{command}", highlight=False, markup=False)
