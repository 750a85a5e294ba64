"""A check's record on every surface asked for: Markdown, JUnit, GitHub's summary and annotations, a forest plot."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cnnbench.cli.output import draw_chart
from cnnbench.errors import FileError, UsageError
from cnnbench.files import append_text, explain_refusal, save_file

if TYPE_CHECKING:
    from cnnbench.regression.check_record import ArmRecord, CheckRecord
    from cnnbench.regression.verdict import Verdict
    from cnnbench.regression.verdict_table import VerdictContext

_OutputCommand = TypeVar("_OutputCommand", bound=Callable[..., Any])
OUTPUT_FILES = ("markdown", "junit", "plot")


def plot_option(shown: str) -> Callable[[_OutputCommand], _OutputCommand]:
    """`--plot`, with what the picture shows; `validate_extensions` holds it to the kinds there are."""
    file = click.Path(path_type=Path, dir_okay=False)
    return click.option("--plot", type=file, metavar="FILE.svg|png", help=shown)


def output_options(command: _OutputCommand) -> _OutputCommand:
    """`--markdown`, `--junit`, `--plot` and `--github` for a command that ends with a record."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option("--github", is_flag=True, help="Annotations on standard output, the table in the job's summary."),
        plot_option("A forest plot of the ratios."),
        click.option("--junit", type=file, metavar="FILE.xml", help="A test case a job and metric; failed: regressed."),
        click.option("--markdown", type=file, metavar="FILE.md", help="The verdict as a table with its conditions."),
    ):
        command = option(command)
    return command


def validate_extensions(options: Mapping[str, Any]) -> None:
    """Raise UsageError for a plot of a kind there is none of, before anything is measured."""
    plot = options["plot"]
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {plot}: a plot is FILE.svg or FILE.png")


def write_outputs(record: CheckRecord, path: Path | None, options: Mapping[str, Any]) -> None:
    """Write what was asked for. Where there is no verdict, the reason stands as missing jobs."""
    if not (options["github"] or any(options[name] is not None for name in OUTPUT_FILES)):
        return
    from cnnbench.regression.sequential import derive_verdict
    from cnnbench.report import check_markdown, junit

    verdict = derive_verdict(record) or _make_empty_verdict(record)
    meta = _make_context(record, verdict, path, options)
    if options["markdown"] is not None:
        save_file(options["markdown"], check_markdown.markdown(verdict, meta))
    if options["junit"] is not None:
        save_file(options["junit"], junit.render(verdict, meta))
    if options["plot"] is not None:
        from cnnbench.report.charts.check import draw_forest

        save_file(options["plot"], draw_chart(draw_forest(verdict, meta), options["plot"].suffix))
    if options["github"]:
        for line in check_markdown.workflow_commands(verdict, meta):
            click.echo(line)
        _append_summary(check_markdown.job_summary(verdict, meta))


def _make_empty_verdict(record: CheckRecord) -> Verdict:
    """An inconclusive verdict without findings: what there is to say stands in the meta's `missing`."""
    from cnnbench.regression.verdict import Decision, Verdict

    return Verdict(Decision.INCONCLUSIVE, (), len(record.blocks), record.header.plan.to_plan())


def _append_summary(text: str) -> None:
    """Into the file that GitHub names; nothing where it names none (a run elsewhere)."""
    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if not named:
        return
    with explain_refusal(FileError, f"GITHUB_STEP_SUMMARY {named}: cannot write"):
        append_text(Path(named), text)


def _make_context(
    record: CheckRecord, verdict: Verdict, path: Path | None, options: Mapping[str, Any]
) -> VerdictContext:
    from cnnbench.regression.differences import control_ratios_by_job
    from cnnbench.regression.exclusion import DroppedBlock
    from cnnbench.regression.verdict_table import VerdictContext

    header, ending = record.header, record.ending
    sound = [block for block in record.blocks if block.failure is None]
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
        controls={job: statistics.median(ratios) for job, ratios in control_ratios_by_job(header, sound).items()},
        blocks_measured=len(record.blocks),
        dropped=tuple(DroppedBlock(number, reason) for number, reason in sorted(ending.dropped.items())),
        missing={name: why for name in header.names.values() if name not in seen},
        files=tuple(str(each) for each in (path, *(options[name] for name in OUTPUT_FILES)) if each is not None),
        notes=tuple(dict.fromkeys(notes)),
    )


def _describe_software(side: ArmRecord) -> str:
    return f"torch {side.software.torch}, Python {side.software.python}"
