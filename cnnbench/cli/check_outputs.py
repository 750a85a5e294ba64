"""A check's record on every surface asked for: Markdown, JUnit, GitHub's summary and annotations, a forest plot."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import click

from cnnbench.bridges import junit
from cnnbench.cli.check_options import OUTPUT_FILES
from cnnbench.cli.options import OptionValues
from cnnbench.cli.output import draw_chart
from cnnbench.errors import FileError
from cnnbench.files import append_text, explain_refusal, save_file
from cnnbench.regression.blocks import control_ratios_by_job
from cnnbench.regression.check_record import ArmRecord, CheckRecord
from cnnbench.regression.decision import Decision, Verdict
from cnnbench.regression.sequential import derive_verdict
from cnnbench.regression.verdict_text import VerdictContext
from cnnbench.report import check_markdown
from cnnbench.report.charts.check import draw_forest


def write_outputs(record: CheckRecord, path: Path | None, options: OptionValues) -> None:
    """Write what was asked for. Where there is no verdict, the reason stands as missing jobs."""
    if not (options["github"] or any(options[name] is not None for name in OUTPUT_FILES)):
        return

    verdict = derive_verdict(record) or Verdict(Decision.INCONCLUSIVE, (), len(record.blocks), record.header.plan)
    meta = _make_context(record, verdict, path, options)
    if options["markdown"] is not None:
        save_file(options["markdown"], check_markdown.markdown(verdict, meta))
    if options["junit"] is not None:
        save_file(options["junit"], junit.render(verdict, meta))
    if options["plot"] is not None:
        save_file(options["plot"], draw_chart(draw_forest(verdict, meta), options["plot"].suffix))
    if options["github"]:
        for line in check_markdown.workflow_commands(verdict, meta):
            click.echo(line)
        _append_summary(check_markdown.job_summary(verdict, meta))


def _append_summary(text: str) -> None:
    """Into the file that GitHub names; nothing where it names none (a run elsewhere)."""
    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if not named:
        return
    with explain_refusal(FileError, f"GITHUB_STEP_SUMMARY {named}: cannot write"):
        append_text(Path(named), text)


def _make_context(record: CheckRecord, verdict: Verdict, path: Path | None, options: OptionValues) -> VerdictContext:

    header, ending = record.header, record.ending
    seen = {finding.series.job for finding in verdict.findings}
    why = ending.problem or "no observation"
    notes = [*ending.notes, *([header.advisory] if header.advisory else [])]
    return VerdictContext(
        title=f"cnnbench check {header.suite}",
        suite=header.suite,
        base=header.base.label,
        head=header.head.label,
        machine_id=header.machine.id,
        base_software=_describe_software(header.base),
        head_software=_describe_software(header.head),
        seed=header.seed,
        started_at=header.created_at,
        minutes=sum(block.wall_seconds for block in record.blocks) / 60,
        controls={
            job: statistics.median(ratios) for job, ratios in control_ratios_by_job(header, record.blocks).items()
        },
        blocks_measured=len(record.blocks),
        dropped=dict(sorted(ending.dropped.items())),
        missing={name: why for name in header.names.values() if name not in seen},
        files=tuple(str(each) for each in (path, *(options[name] for name in OUTPUT_FILES)) if each is not None),
        notes=tuple(dict.fromkeys(notes)),
    )


def _describe_software(side: ArmRecord) -> str:
    return f"torch {side.software.torch}, Python {side.software.python}"
