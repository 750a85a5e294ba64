"""What `cnnbench run` does: suites, machine and options to a plan, its ledger, its measuring, and the messages around
it.

The table goes to standard output, the rest to standard error. A run's results are read from its ledger, so the last
lines report what is on disk, after Ctrl-C too.

On several machines the first runs the plan and writes the ledger, the others take part in its jobs of ranks. Every
machine gets the same suites, options and seed, so all make the same plan and rendezvous job by job. Machines with
different plans never meet: each job's rendezvous has its own name, and a machine that waits in vain gets a typed
timeout. After a failed rendezvous two machines may stay one job apart, so each of them starts no further job on several
machines.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import secrets
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
from click.core import ParameterSource
from rich.console import Console
from rich.text import Text

from cnnbench import store, workloads
from cnnbench.analysis.stats import MINIMUM_FOR_INTERVAL
from cnnbench.analysis.two_stage import FIRST_STAGE, WideRow, find_wide_rows
from cnnbench.cli import load_results, output, read
from cnnbench.cli.options import EXPORTS, OptionValues
from cnnbench.cli.progress import Display, describe_failure, format_clock, wrap_indented
from cnnbench.cli.this_process import MnistSource, find_inventory, interrupt_on_sigterm, make_console
from cnnbench.cli.verbosity import verbosity as verbosity_of
from cnnbench.devices.nvml import NvmlResult
from cnnbench.errors import ExitCode, FileError, LedgerError, UsageError
from cnnbench.files import explain_refusal, make_output_folder, write_file
from cnnbench.machine import doctor
from cnnbench.machine.fingerprint import boot_id
from cnnbench.machine.host_identity import host_id
from cnnbench.machine.inventory import Inventory, select
from cnnbench.machine_facts import announce_machine, announce_software
from cnnbench.naming import name_plan
from cnnbench.plan.matrix import make_plan, plan_round
from cnnbench.plan.overrides import Overrides, describe_overrides, read_overrides
from cnnbench.plan.suite import Suite, find_suite, load_suite
from cnnbench.report.escaping import plain
from cnnbench.report.render import text
from cnnbench.runner import run as runner
from cnnbench.runner.launch import LaunchOptions, launch
from cnnbench.schema import Job, Machine, Record, Rendezvous, RunHeader

PLAN_OPTIONS = ("name_filter", "repeats", "threads", "project", "copies", "nodes")
"""Options of `make_plan` by the same names."""
SHAPING_OPTIONS = ("device", *PLAN_OPTIONS, "until", "max_minutes", "energy", "timeout", "no_progress")
"""Options that shape a run, which its header keeps."""
OPTIONS_TO_REPEAT = (
    "settings",
    "sweeps",
    "warmup",
    "data_dir",
    "timeout",
    "energy",
    "no_progress",
    "tensorboard",
    "max_minutes",
)
"""Options that the command to resume must repeat: they make the suite, or apply to the processes and not to the plan."""
MAX_LISTED_FAILURES = 8
INDENT = 10


class OpenedRun(NamedTuple):
    """A run about to be measured: its open ledger; its header; the jobs to do; the options of every worker."""

    writer: store.Writer
    header: RunHeader
    todo: tuple[runner.PendingJob, ...]
    launch_options: LaunchOptions


def run_suites(context: click.Context) -> ExitCode:
    """Plan the suites' jobs, measure them and print the results; return whether every job ended well."""
    options, console = context.params, make_console()
    dry_run = options["dry_run"]
    rendezvous = _find_rendezvous(options)
    if options["run_id"] and not options["resume"]:
        raise UsageError("--run-id names a run to resume; it needs --resume")
    _check_until(options)
    overrides = _read_overrides(options)
    for name in ("threads", "repeats", "seed"):
        if name in overrides and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name} and {name} by --set or -L: both are given; leave one out")
    loaded = [load_suite(find_suite(name), overrides) for name in options["suites"]]
    if options["tensorboard"] is not None:
        found = importlib.util.find_spec("tensorboard")
        if found is None or found.origin is None:  # without origin: only a folder of that name on the path
            raise UsageError(
                "--tensorboard needs the package tensorboard, which is not installed: pip install tensorboard"
            )
        if not dry_run:
            make_output_folder("--tensorboard", options["tensorboard"])
    inventory = find_inventory()
    if (
        _report_machine(inventory, options["device"], console, verbosity_of(context))
        and options["strict"]
        and not dry_run
    ):
        console.print("nothing was measured: --strict refuses a machine that is unfit; the lines above say what to do")
        return ExitCode.UNFIT
    mnist_source = MnistSource(context, console, download=not dry_run)
    if not dry_run:
        interrupt_on_sigterm()
        if options["resume"]:
            opened = _reopen_run(loaded, inventory, options, console, mnist_source)
            return _run_and_report(context, opened, console)
    header = _make_header(loaded, inventory, options, mnist_source)
    if dry_run:
        _print_plan(header.plan, as_json=options["as_json"])
        return ExitCode.DONE
    launch_options = _make_launch_options(options, mnist_source.directory_for(header.plan), rendezvous)
    if rendezvous is not None and rendezvous.node_rank > 0:
        return _run_secondary_node(header, launch_options, rendezvous, options["nodes"], console)
    if not header.plan:
        raise UsageError(f"no job is left to run: -k {options['name_filter']!r} matches none of the plan's")
    todo = runner.list_pending_jobs(header, ())
    opened = OpenedRun(store.create(options["results"], header), header, todo, launch_options)
    return _run_and_report(context, opened, console)


def _check_until(options: OptionValues) -> None:
    """Raise UsageError for options that cannot be combined with --until, or need it."""
    until, repeats, nodes, resume = (options[name] for name in ("until", "repeats", "nodes", "resume"))
    if options["max_minutes"] is not None and until is None and not resume:
        raise UsageError("--max-minutes ends the rounds that --until adds; it needs --until, as in --until 5%")
    if until is None:
        return
    if resume:
        raise UsageError(f"--until {until}: a resumed run keeps its own width; leave --until out")
    if nodes > 1:
        raise UsageError(f"--until {until}: the other machines cannot know how many rounds follow; leave --nodes out")
    if repeats is not None and repeats < MINIMUM_FOR_INTERVAL:
        least = f"at least {MINIMUM_FOR_INTERVAL} processes decide how many follow"
        raise UsageError(f"--until {until} --repeats {repeats}: {least}")


def _report_machine(inventory: Inventory, device: str, console: Console, verbosity: int) -> bool:
    """Print what the doctor finds wrong with this machine and what to do; return whether a run would be worthless.

    GPUs, and torch's share in them, are not asked about by a run on the CPU alone.
    """
    gpus = NvmlResult() if device == "cpu" else inventory.nvml
    torch_gpus = () if device == "cpu" else inventory.torch_devices
    findings = doctor.diagnose(inventory.machine, inventory.software, gpus, torch_gpus, doctor.probe_host(gpus))
    wrong = [each for each in findings if each.severity in ("unfit", "warning")]
    for finding in wrong if verbosity >= 0 else ():
        style = "bold red" if finding.severity == "unfit" else ""
        _print_line(console, finding.severity, f"{plain(finding.message)}. {plain(finding.remedy)}", style)
    return doctor.is_unfit(findings)


def _glance(inventory_machine: Machine) -> tuple[str, ...]:
    """Look at the host just before a process starts, again if it is unfit; return what makes it unfit in the end."""
    unfit: tuple[str, ...] = ()
    for glance in range(doctor.GLANCES):
        time.sleep(doctor.GLANCE_PAUSE_SECONDS if glance else 0.0)
        state = doctor.probe_host(NvmlResult(), watch_seconds=doctor.GLANCE_SECONDS)
        unfit = doctor.list_unfit_now(inventory_machine, state)
        if not unfit:
            break
    return unfit


def _read_overrides(options: OptionValues) -> Overrides:
    return read_overrides(options["settings"], options["sweeps"], options["warmup"])


def _find_rendezvous(options: OptionValues) -> Rendezvous | None:
    """Find where the machines rendezvous; None for one machine. Raises UsageError for options that do not fit."""
    nodes, rank, endpoint = options["nodes"], options["node_rank"], options["rdzv"]
    if nodes == 1:
        if rank or endpoint:
            raise UsageError("--node-rank and --rdzv are for several machines; say how many with --nodes")
        return None
    if endpoint is None:
        raise UsageError(f"--nodes {nodes} needs --rdzv HOST:PORT, where the machines meet: a free port of machine 0")
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--rdzv {endpoint}: write HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:29400")
    if rank >= nodes:
        raise UsageError(f"--node-rank {rank}: of {nodes} machines the ranks are 0 to {nodes - 1}")
    if options["copies"]:
        raise UsageError(f"--copies {options['copies']} are one machine's; leave --nodes out")
    if options["resume"]:
        raise UsageError("--resume cannot resume a run of several machines: the others do not know what is left")
    return Rendezvous(endpoint=endpoint, node_rank=rank, seconds=options["rdzv_timeout"])


def _reopen_run(
    loaded: Sequence[Suite], inventory: Inventory, options: OptionValues, console: Console, mnist_source: MnistSource
) -> OpenedRun:
    """Reopen an old run for its remaining jobs. Raises UsageError if a workload has changed since it was planned."""
    digests = {suite.name: suite.digest for suite in loaded}
    found = runner.find_unfinished(options["results"], inventory.machine.id, digests, options["run_id"], find_wide_rows)
    writer, ledger = store.reopen(found.path)
    header = ledger.header
    for problem in ledger.problems:
        console.print(f"warning: {plain(problem)}")
    if header.boot_id not in (None, boot_id()):
        console.print(
            f"warning: run {header.run_id} began in another boot; if that was on another host, start a new one"
        )
    try:
        for job in header.plan:
            if workloads.get(job.workload).version != job.workload_version:
                raise UsageError(
                    f"{job.workload} ({workloads.source_of(job.workload)}) changed since run {header.run_id} began; "
                    "start one without --resume"
                )
        launch_options = _make_launch_options(options, mnist_source.directory_for(header.plan), None)
    except BaseException:
        writer.close()
        raise
    return OpenedRun(writer, header, runner.list_pending_jobs(header, ledger.records), launch_options)


def _make_header(
    loaded: Sequence[Suite], inventory: Inventory, options: OptionValues, mnist_source: MnistSource
) -> RunHeader:
    """Make the header: the plan and all it depends on. Raises UsageError if the seed is not clear."""
    seed, named = options["seed"], {suite.seed for suite in loaded if suite.seed is not None}
    if seed is None:
        if options["nodes"] > 1 and not named:
            raise UsageError(
                f"--nodes {options['nodes']} needs --seed, the same on every machine, so that all make the same plan"
            )
        if len(named) > 1:
            raise UsageError(
                f"the suites name different seeds ({', '.join(map(str, sorted(named)))}); "
                "choose one with --seed, or run them one by one"
            )
        seed = named.pop() if named else secrets.randbelow(2**31)
    plan = make_plan(
        loaded,
        inventory.machine,
        select(inventory.devices, options["device"]),
        data_kind=mnist_source.kind,
        seed=seed,
        **{name: options[name] for name in PLAN_OPTIONS},
        least=1 if options["until"] is None else FIRST_STAGE,
    )
    if options["until"] is not None and any(job.clock == "accuracy" for job in plan):
        raise UsageError(
            f"--until {options['until']}: a time to accuracy is a median over seeds; choose --repeats instead"
        )
    return RunHeader(
        run_id=store.new_run_id(),
        created_at=store.format_now(),
        boot_id=boot_id(),
        host_id=host_id(),
        suites={suite.name: suite.digest for suite in loaded},
        seed=seed,
        options={
            name: str(options[name])
            for name in SHAPING_OPTIONS
            if options[name] not in (None, False) and (name, options[name]) != ("nodes", 1)
        }
        | ({"set": changed} if (changed := describe_overrides(_read_overrides(options))) else {}),
        machine=inventory.machine,
        software=inventory.software,
        plan=plan,
        workloads=workloads.collect_header_facts(job.workload for job in plan),
    )


def _make_launch_options(options: OptionValues, data_dir: Path | None, rendezvous: Rendezvous | None) -> LaunchOptions:
    """Make the options of every worker of this command; the hang limit includes the time of a rendezvous."""
    return LaunchOptions(
        data_dir=data_dir,
        rendezvous=rendezvous,
        energy=options["energy"],
        timeout_seconds=options["timeout"],
        hang_seconds=LaunchOptions.hang_seconds + (rendezvous.seconds if rendezvous else 0),
        progress=not options["no_progress"],
    )


def _print_plan(plan: Sequence[Job], *, as_json: bool) -> None:
    """Print the plan on standard output, one line per job, or as JSON."""
    if as_json:
        output.print_json([job.model_dump() for job in plan])
        return
    name = name_plan(plan)
    for index, job in enumerate(plan, start=1):
        clock = f"{'at most ' if job.clock == 'accuracy' else ''}{job.epochs} x {job.steps_per_epoch} steps"
        if job.clock == "steady":
            clock = f"{job.blocks} x {job.block_steps} steps"
        click.echo(f"{index:3d}  {name(job)}: {job.clock} clock, {clock}, data {job.data}")


# ------------------------------------------------------------------------------------------------------------ the first machine


def _run_and_report(context: click.Context, opened: OpenedRun, console: Console) -> ExitCode:
    """Measure, and print the results, interrupted or not."""
    verbosity, path, began = verbosity_of(context), opened.writer.path, time.monotonic()
    try:
        with opened.writer:
            records = _measure(opened, context.params, console, verbosity)
            records += _add_rounds(opened, records, context.params, console, verbosity, began)
    except (KeyboardInterrupt, LedgerError):
        with contextlib.suppress(LedgerError):  # a ledger that cannot be read was reported already
            _print_summary(console, context, path, time.monotonic() - began, None)
        raise
    seconds = time.monotonic() - began  # the rest is not the run's time
    _print_summary(console, context, path, seconds, _report_run(path, context.params, verbosity))
    well = len(records) >= len(opened.todo) and all(record.outcome.status == "ok" for record in records)
    return ExitCode.DONE if well else ExitCode.JOB_FAILED


def _measure(opened: OpenedRun, options: OptionValues, console: Console, verbosity: int) -> tuple[Record, ...]:
    """Announce the machine, the software, the plan and the ledger, and measure the jobs to do."""
    header, todo = opened.header, opened.todo
    if verbosity >= 0:
        names = ", ".join(sorted({f"{device.id} ({device.name})" for device in header.machine.devices}))
        _print_line(console, "machine", f"{announce_machine(header.machine)}; {names}")
        _print_line(console, "software", announce_software(header.software))
        _print_line(console, "plan", f"{len(todo)} of {len(header.plan)} jobs, seed {header.seed}, one process each")
        _print_line(console, "ledger", str(opened.writer.path))
    return _measure_jobs(opened, options, console, verbosity)


def _measure_jobs(opened: OpenedRun, options: OptionValues, console: Console, verbosity: int) -> tuple[Record, ...]:
    header, todo = opened.header, opened.todo
    display = Display(console, verbosity, todo, header.plan)
    try:
        return runner.execute(
            opened.writer,
            header,
            todo,
            opened.launch_options,
            display,
            fail_fast=options["fail_fast"],
            tensorboard_root=options["tensorboard"] and options["tensorboard"].resolve(),
            look=partial(_glance, header.machine),
        )
    finally:
        display.close()


def _add_rounds(
    opened: OpenedRun,
    done: Sequence[Record],
    options: OptionValues,
    console: Console,
    verbosity: int,
    began: float,
) -> tuple[Record, ...]:
    """Measure further rounds of the rows that are not narrow enough, until none is left or the time is up."""
    header, limit, found = opened.header, options["max_minutes"], list[Record]()
    stopped = options["fail_fast"] and any(record.outcome.status != "ok" for record in done)
    while not stopped and (limit is None or time.monotonic() - began < 60 * limit):
        ledger = store.load(opened.writer.path)
        if not (wide := find_wide_rows(ledger)):
            break
        number = 1 + max(job.round for job in (*header.plan, *(record.job for record in ledger.records)))
        index = max(len(header.plan), *(record.index + 1 for record in ledger.records))
        jobs = plan_round([row.job for row in wide], header.seed, number)
        todo = tuple(runner.PendingJob(index + place, 1, job) for place, job in enumerate(jobs))
        if verbosity >= 0:
            most = max(row.more for row in wide)
            _print_line(console, "until", f"round {number + 1}: {_describe_wide(header, wide)}, {most} more rounds")
        measured = _measure_jobs(opened._replace(todo=todo), options, console, verbosity)
        found += measured
        stopped = options["fail_fast"] and any(record.outcome.status != "ok" for record in measured)
    return tuple(found)


def _describe_wide(header: RunHeader, wide: Sequence[WideRow]) -> str:
    """Describe how many rows are wider than asked for."""
    rows = len({job.row_key for job in header.plan})
    return f"{len(wide)} of {rows} rows {'is' if len(wide) == 1 else 'are'} wider than {header.options['until']}"


def _report_run(path: Path, options: OptionValues, verbosity: int) -> tuple[str, ...]:
    """Print this run on one screen and write the exports, which are complete; return the files written."""
    selection = load_results.Selection(paths=(path,))
    found = read.make_report(selection)
    targets = {name: target for name in EXPORTS if (target := options[f"export_{name}"]) is not None}
    for name, target in targets.items():
        rendered = text.render(found, name)
        if target == "-":
            click.echo(rendered, nl=False)
            continue
        with explain_refusal(FileError, f"--export-{name} {target}", f"the results are in {path}"):
            write_file(Path(target), rendered)
    if "-" not in targets.values() and (options["as_json"] or verbosity >= 0):
        if options["as_json"]:
            output.Destination("json").emit(found)
        else:
            output.Destination().emit(read.make_screen(selection))
    return tuple(str(target) for target in targets.values() if target != "-")


def _print_summary(
    console: Console, context: click.Context, path: Path, seconds: float, exported: Sequence[str] | None
) -> None:
    """Print the counts of outcomes, what is saved and where, and how to resume; with quiet only the latter, if jobs are
    left.

    `exported` are the other files written; None if the run was interrupted.
    """
    ledger = store.load(path)
    plan, records, options = ledger.header.plan, ledger.records, context.params
    planned = len({*range(len(plan)), *(record.index for record in records)})
    missing, wide = len(runner.list_pending_jobs(ledger.header, records)), find_wide_rows(ledger)
    commands = [_make_resume_command(context)] if missing or wide else []
    if verbosity_of(context) < 0:
        for command in commands:
            left = f"{missing} of the plan's jobs are left" if missing else _describe_wide(ledger.header, wide)
            console.print(f"{left}; resume with {command}")
        return
    if exported is not None:
        console.print()  # between the table and this
    name = name_plan(plan)
    # An interrupted one is missing.
    bad = [each for each in records if each.outcome.status not in ("ok", "interrupted")]
    missed = sum(record.outcome.status == "missed" for record in bad)
    others = ((len(bad) - missed, "failed"), (missed, "missed the target"), (missing, "missing"))
    ok = f"{planned - len(bad) - missing} of {planned} job{'' if planned == 1 else 's'} ok"
    when = f"{format_clock(seconds)} this time" if options["resume"] else f"in {format_clock(seconds)}"
    counts = ", ".join((ok, *(f"{count} {what}" for count, what in others if count), when))
    _print_line(console, "stopped" if exported is None else "done", counts)
    if wide:
        _print_line(console, "until", f"{_describe_wide(ledger.header, wide)}; --resume adds rounds")
    for number, record in enumerate(bad[:MAX_LISTED_FAILURES]):
        heading = "" if number else "missed" if missed == len(bad) else "failed"
        _print_line(console, heading, f"{name(record.job)}: {describe_failure(record)}", style="bold red")
    unfit = [record for record in records if record.unfit]
    if unfit:
        started = f"{len(unfit)} of {len(records)} processes started on an unfit machine"
        _print_line(console, "unfit", f"{started} ({plain('; '.join(unfit[-1].unfit or ()))}): their rows are marked !")
    if bad:
        more = f"{len(bad) - MAX_LISTED_FAILURES} more; " if len(bad) > MAX_LISTED_FAILURES else ""
        _print_line(
            console, "", f"{more}--resume does not repeat them; a new run with -v shows the end of their output"
        )
    _print_line(console, "ledger", f"{len(records)} record{'' if len(records) == 1 else 's'} in {path}")
    if exported:
        _print_line(console, "exported", ", ".join(exported))
    shown = shlex.quote(str(path))
    rest = "" if exported is None else " --all"  # its screen is above
    commands += [f"cnnbench show {shown}{rest}", f"cnnbench report {shown} -o report.html"]
    if options["tensorboard"] is not None:
        commands.append(f"tensorboard --logdir {shlex.quote(str(options['tensorboard']))}")
    for number, command in enumerate(commands):  # as it can be copied: wrapped by the terminal alone
        console.print(f"{'' if number else 'next':<{INDENT}}{command}")


def _make_resume_command(context: click.Context) -> str:
    """Make the command that resumes this run."""
    aside = context.find_root().get_parameter_source("no_settings") is ParameterSource.COMMANDLINE
    words = [
        "cnnbench",
        *(["--no-settings"] if aside else []),
        "run",
        *context.params["suites"],
        "--results",
        str(context.params["results"]),
    ]
    for option in context.command.params:
        name = str(option.name)
        if name in OPTIONS_TO_REPEAT and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = context.params[name]
            for each in value if isinstance(value, tuple) else [value]:
                values = each if isinstance(each, tuple) else () if each is True else (each,)
                words += [option.opts[-1], *map(str, values)]
    return shlex.join([*words, "--resume"])


def _print_line(console: Console, what: str, text: str, style: str = "") -> None:
    """Print `what      text`, wrapped below itself on a narrow terminal."""
    wrapped = wrap_indented(console, Text(text, style=style), INDENT, before=INDENT)
    console.print(Text(f"{what:<{INDENT}}") + wrapped)


# ----------------------------------------------------------------------------------------------------------- the other machines


def _run_secondary_node(
    header: RunHeader, launch_options: LaunchOptions, rendezvous: Rendezvous, nodes: int, console: Console
) -> ExitCode:
    """Do this machine's part of all jobs on several machines, until a rendezvous fails; machine 0 records them."""
    todo = list(jobs_after_local(runner.list_pending_jobs(header, ())))
    name, failed, timeout = name_plan(header.plan), 0, launch_options.timeout_seconds
    console.print(f"machine {rendezvous.node_rank} of {nodes}, {len(todo)} jobs; machine 0 records them")
    for number, (item, alone) in enumerate(todo, start=1):
        sitting = alone * max(rendezvous.seconds, math.ceil(timeout or 0))
        patient = replace(
            launch_options,
            rendezvous=rendezvous.model_copy(update={"seconds": rendezvous.seconds + sitting}),
            timeout_seconds=None if timeout is None else timeout + sitting,
            hang_seconds=launch_options.hang_seconds + sitting,
        )
        ended = launch(item.job, runner.complete_options(patient, item, header))
        outcome = ended.outcome
        failed += outcome.status != "ok"
        said = "took part" if outcome.status == "ok" else f"{outcome.status.upper()}: {plain(outcome.message or '')}"
        console.print(f"[{number}/{len(todo)}] {name(item.job)}: {said}")
        if not ended.met:
            left = f"; {len(todo) - number} jobs are left undone" if number < len(todo) else ""
            console.print(f"out of step with machine 0; start all again{left}")
            break
    return ExitCode.JOB_FAILED if failed else ExitCode.DONE


def jobs_after_local(plan: Iterable[runner.PendingJob]) -> Iterator[tuple[runner.PendingJob, int]]:
    """Yield the jobs on several machines, each with how many machine 0 does alone before it, while the others wait."""
    alone = 0
    for item in plan:
        if item.job.nodes == 1:
            alone += 1
            continue
        yield item, alone
        alone = 0
