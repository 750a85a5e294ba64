"""What is said around a run: before it the conditions, after it the table, what is saved where, and what to do next.

The table goes to standard output, the rest to standard error. What a run left behind is read from its ledger, so the last
word is what is on disk, after Ctrl-C too.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console
from rich.text import Text

from cnnbench import store
from cnnbench.cli.load_results import Selection
from cnnbench.cli.options import EXPORTS, OptionValues
from cnnbench.cli.output import emit_report
from cnnbench.cli.progress import describe_failure, format_clock, wrap_indented
from cnnbench.cli.read import make_report
from cnnbench.errors import FileError
from cnnbench.files import explain_refusal, write_file
from cnnbench.machine_facts import announce_machine, announce_software
from cnnbench.naming import name_plan
from cnnbench.report.render import text
from cnnbench.runner.run import PendingJob, list_pending_jobs
from cnnbench.schema import RunHeader
from cnnbench.store import Ledger

OPTIONS_NOT_IN_LEDGER = ("data_dir", "timeout", "energy", "no_progress", "tensorboard")
"""Options that hold for the processes and not for the plan: the command that goes on must give them again."""
MAX_LISTED_FAILURES = 8
INDENT = 10


def announce_run(console: Console, header: RunHeader, todo: Sequence[PendingJob], path: Path) -> None:
    """The machine, the software, the plan and the ledger."""

    machine, software = header.machine, header.software
    names = ", ".join(sorted({f"{device.id} ({device.name})" for device in machine.devices}))
    lines = (
        ("machine", f"{announce_machine(machine)}; {names}"),
        ("software", announce_software(software)),
        ("plan", f"{len(todo)} of {len(header.plan)} jobs, seed {header.seed}, one process each"),
        ("ledger", str(path)),
    )
    for what, line in lines:
        _print_line(console, what, line)


def report_run(path: Path, options: OptionValues, verbosity: int) -> tuple[str, ...]:
    """Print this run's table and write the exports asked for; returns the files written."""

    found = make_report(Selection(paths=(path,)))
    targets = {name: target for name in EXPORTS if (target := options[f"export_{name}"]) is not None}
    for name, target in targets.items():
        rendered = text.render(found, name)
        if target == "-":
            click.echo(rendered, nl=False)
            continue
        with explain_refusal(FileError, f"--export-{name} {target}", f"the results are in {path}"):
            write_file(Path(target), rendered)
    if "-" not in targets.values() and (options["as_json"] or verbosity >= 0):
        emit_report(found, "json" if options["as_json"] else "table", None)
    return tuple(str(target) for target in targets.values() if target != "-")


class RunSummary:
    """The last word of a run, from its ledger; it knows when the run began and the command that goes on."""

    def __init__(self, console: Console, context: click.Context, path: Path, verbosity: int) -> None:
        self._console, self._context, self._path, self._verbosity = console, context, path, verbosity
        self._began, self._spent = time.monotonic(), 0.0

    def stop_clock(self) -> None:
        """The last process has ended: what follows is not the run's time."""
        self._spent = self._spent or time.monotonic() - self._began

    def print_summary(self, exported: Sequence[str] = (), *, interrupted: bool = False) -> None:
        """How many jobs went how, what is saved and where, how to go on; quiet says only how to, where jobs are left."""

        self.stop_clock()
        ledger = store.load(self._path)
        missing = len(list_pending_jobs(ledger.header, ledger.records))
        resume = [_make_resume_command(self._context)] if missing else []
        if self._verbosity < 0:
            for command in resume:
                _print_command(self._console, f"{missing} of the plan's jobs are left; go on with ", command)
            return
        if not interrupted:
            self._console.print()  # between the table and this
        failed = _list_failures(ledger)
        missed = sum(record.outcome.status == "missed" for record in ledger.records)
        counts = self._format_counts(len(ledger.header.plan), len(failed) - missed, missed, missing)
        records = f"{len(ledger.records)} record{'' if len(ledger.records) == 1 else 's'}"
        _print_line(self._console, "stopped" if interrupted else "done", counts)
        self._print_failures(failed, "missed" if missed == len(failed) else "failed")
        _print_line(self._console, "ledger", f"{records} in {self._path}")
        if exported:
            _print_line(self._console, "exported", ", ".join(exported))
        for number, command in enumerate([*resume, *self._list_next_commands()]):
            _print_command(self._console, "" if number else "next", command)

    def _print_failures(self, failed: Sequence[str], heading: str) -> None:
        for number, line in enumerate(failed[:MAX_LISTED_FAILURES]):
            _print_line(self._console, "" if number else heading, line, style="bold red")
        if failed:
            more = f"{len(failed) - MAX_LISTED_FAILURES} more; " if len(failed) > MAX_LISTED_FAILURES else ""
            hint = "--resume does not repeat them; a new run with -v shows the end of their output"
            _print_line(self._console, "", more + hint)

    def _format_counts(self, planned: int, failed: int, missed: int, missing: int) -> str:
        """`6 of 9 jobs ok, 1 failed, 1 missed the target, 1 missing, in 2:41`; of a run gone on with, the time since then."""

        ok = f"{planned - failed - missed - missing} of {planned} job{'' if planned == 1 else 's'} ok"
        others = ((failed, "failed"), (missed, "missed the target"), (missing, "missing"))
        spent = format_clock(self._spent)
        when = f"{spent} this time" if self._context.params["resume"] else f"in {spent}"
        return ", ".join((ok, *(f"{count} {what}" for count, what in others if count), when))

    def _list_next_commands(self) -> list[str]:
        path, boards = str(self._path), self._context.params["tensorboard"]
        show, report = ["cnnbench", "show", path], ["cnnbench", "report", path, "-o", "report.html"]
        commands = [show, report, *([["tensorboard", "--logdir", str(boards)]] if boards is not None else [])]
        return list(map(shlex.join, commands))


def _list_failures(ledger: Ledger) -> list[str]:
    """`name: CRASHED: message` of each job that did not end well, in the order they ran; an interrupted one is missing."""

    name = name_plan(ledger.header.plan)
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

    wrapped = wrap_indented(console, Text(text, style=style), INDENT, before=INDENT)
    console.print(Text(f"{what:<{INDENT}}").append_text(wrapped))


def _print_command(console: Console, what: str, command: str) -> None:
    """A command as it can be copied: wrapped by the terminal alone."""
    console.print(f"{what:<{INDENT}}{command}")
