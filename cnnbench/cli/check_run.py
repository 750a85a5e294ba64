"""What `cnnbench check` does: measure two arms to a verdict, or decide a record again, and write all outputs."""

from __future__ import annotations

import os
import shlex
import statistics
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click

from cnnbench.bridges import verdicts
from cnnbench.cli.check_session import (
    CheckSetup,
    OpenedRecording,
    cache_folder,
    choose_plan,
    make_header,
    measure_recording,
    prepare_check,
    read_recorded_arms,
    read_requested_arms,
    reopen_recording,
    require_same_conditions,
)
from cnnbench.cli.options import OptionValues
from cnnbench.cli.output import draw_chart, printable
from cnnbench.errors import FileError, LedgerError
from cnnbench.files import append_text, explain_refusal, save_file
from cnnbench.paired_protocol import Arm
from cnnbench.regression import arms, blocks, check_record, noise_profile, sequential, verdict_text
from cnnbench.regression.check_record import ArmRecord, CheckRecord
from cnnbench.regression.decision import Decision, Verdict
from cnnbench.report.charts.check import draw_forest


def measure_check(
    context: click.Context,
    options: OptionValues,
    narrow: Callable[[CheckSetup], CheckSetup] = lambda setup: setup,
    *,
    err: bool = False,
) -> CheckRecord:
    """Measure to the end and write the result everywhere it is asked for: the record, the words, each format.

    `narrow` may drop jobs of the set-up, or refuse it by an error. With `err` the words go to standard error. Raises
    what prevents a check from beginning; one that has begun ends with a record, or with KeyboardInterrupt.
    """
    with reopen_recording(_find_unfinished(options)) if options["resume"] else nullcontext() as old:
        if old is None:
            specs = read_requested_arms(options)
            setup = narrow(prepare_check(context, options))
            settings = specs["base"].settings, specs["head"].settings
            pair = arms.pair_jobs(setup.jobs, *settings, setup.inventory.machine.cores_allowed)
        else:
            header = old.header
            specs = read_recorded_arms(header)
            options = {**options, "device": header.jobs[min(header.jobs)].device}
            setup = narrow(prepare_check(context, options, header))
            require_same_conditions(header, setup)
            pair = arms.PairedJobs(header.jobs, header.head_jobs, header.declared)
        go_on = f"cnnbench check {shlex.quote(str(options['suite']))} --resume -o"
        recording = measure_recording(
            setup,
            specs,
            pair,
            old or partial(_begin_check, setup, pair),
            lambda path: f"`{go_on} {shlex.quote(str(path))}`",
        )
    record = sequential.conclude(recording.header, recording.blocks)
    check_record.save_record(recording.path, record)
    _print_record(record, err=err or options["github"])
    setup.display.print(f"record    {recording.path}")
    _write_outputs(record, recording.path, options)
    return record


def _find_unfinished(options: OptionValues) -> Path:
    """Find the record to resume: the one named, else the suite's newest unfinished check. Raises LedgerError."""
    if options["output"] is not None:
        return Path(options["output"])
    stem, folder = Path(options["suite"]).stem, cache_folder() / "checks"
    parts = sorted(folder.glob(f"{stem}-*.json.part"), key=os.path.getmtime)
    if not parts:
        raise LedgerError(f"no unfinished check of {stem} in {folder}; start it without --resume")
    return parts[-1].with_suffix("")


def _begin_check(setup: CheckSetup, pair: arms.PairedJobs, sides: Mapping[Arm, ArmRecord]) -> OpenedRecording:
    options, (plan, profile, note) = setup.options, choose_plan(setup)
    advisory = noise_profile.explain_insensitivity(profile, plan) if profile else None
    header = make_header(
        setup,
        pair,
        sides,
        plan,
        profile,
        metric=options["metric"],
        max_minutes=options["max_minutes"],
        advisory=advisory,
        on_inconclusive=options["inconclusive"] or ("fail" if advisory is None else "warn"),
    )
    path = options["output"] or cache_folder() / "checks" / f"{header.suite}-{header.check_id}.json"
    return path, header, (note,) if advisory is None else (note, f"ADVISORY  {advisory}")


def replay_record(path: Path, options: OptionValues) -> int:
    """Decide a record again and write it where asked for. Raises LedgerError if the verdict is not the stored one."""
    output = options["output"]
    old = check_record.load_record(path)
    record = sequential.conclude(old.header, old.blocks) if old.header.purpose != "calibrate" else old
    if record.ending != old.ending:
        raise LedgerError(
            f"{path}: its blocks lead to another ending than it holds; it was edited, or made by another cnnbench"
        )
    if output is not None:
        save_file(output, check_record.replace_ending(path.read_bytes(), record), make_folder=True)
    _print_record(record, err=options["github"])
    _write_outputs(record, path, options)
    return record.ending.exit_code


def _print_record(record: CheckRecord, *, err: bool) -> None:
    """Print how a check ended, or why it has no verdict, on standard output; with `err` on standard error, since GitHub
    obeys commands on the other.
    """
    ending = record.ending
    for line in ending.lines if ending.problem is None else (f"{ending.outcome.upper()}: {ending.problem}",):
        click.echo(printable(line), err=err)


def _write_outputs(record: CheckRecord, path: Path, options: OptionValues) -> None:
    """Write the outputs asked for. Without a verdict the reason is written as missing jobs."""
    markdown, test_cases, plot = (options[name] for name in ("markdown", "junit", "plot"))
    if not (options["github"] or markdown or test_cases or plot):
        return
    verdict = sequential.find_answer(record.header, record.blocks)
    if not isinstance(verdict, Verdict):
        verdict = Verdict(Decision.INCONCLUSIVE, (), len(record.blocks), record.header.plan)
    meta = _make_context(record, verdict, tuple(map(str, filter(None, (path, markdown, test_cases, plot)))))
    if markdown is not None:
        save_file(markdown, verdicts.markdown(verdict, meta))
    if test_cases is not None:
        save_file(test_cases, verdicts.render_junit(verdict, meta))
    if plot is not None:
        save_file(plot, draw_chart(draw_forest(verdict, meta), plot.suffix))
    if options["github"]:
        for line in verdicts.workflow_commands(verdict, meta):
            click.echo(line)
        if named := os.environ.get("GITHUB_STEP_SUMMARY"):  # the file of the job's summary, set by GitHub alone
            with explain_refusal(FileError, f"GITHUB_STEP_SUMMARY {named}: cannot write"):
                append_text(Path(named), verdicts.job_summary(verdict, meta))


def _make_context(record: CheckRecord, verdict: Verdict, files: tuple[str, ...]) -> verdict_text.VerdictContext:
    header, ending = record.header, record.ending
    seen = {finding.series.job for finding in verdict.findings}
    base, head = (f"torch {side.software.torch}, Python {side.software.python}" for side in (header.base, header.head))
    return verdict_text.VerdictContext(
        title=f"cnnbench check {header.suite}",
        suite=header.suite,
        base=header.base.label,
        head=header.head.label,
        machine_id=header.machine.id,
        base_software=base,
        head_software=head,
        seed=header.seed,
        started_at=header.created_at,
        minutes=sum(block.wall_seconds for block in record.blocks) / 60,
        controls={
            job: statistics.median(ratios)
            for job, ratios in blocks.control_ratios_by_job(header, record.blocks).items()
        },
        blocks_measured=len(record.blocks),
        dropped=dict(sorted(ending.dropped.items())),
        missing={name: ending.problem or "no observation" for name in header.names.values() if name not in seen},
        files=files,
        notes=tuple(dict.fromkeys((*ending.notes, *filter(None, [header.advisory])))),
    )
