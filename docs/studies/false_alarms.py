"""How often the regression check errs, and what it sees, beside the rules of other tools, by simulation.

    python docs/studies/false_alarms.py --seed 1 --checks 20000 --traces results -o docs/studies/false-alarms.md

writes the page, and beside it the counts as .json and the figure as .svg. `--from FILE.json` makes page and figure of counts
that are there, without simulating. 20,000 checks take minutes on one core. The figure needs Altair (the extra `test`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import false_alarm_chart
from click.core import ParameterSource
from false_alarm_page import StudyChart, from_json, render_study, to_json
from false_alarm_study import FalseAlarmStudy, run_study
from noise_models import Trace, make_trace
from study_script import run_script

from cnnbench import store
from cnnbench.errors import ExitCode, LedgerError, UsageError
from cnnbench.files import save_file
from cnnbench.report import chart_images
from cnnbench.schema import Record

MIN_PROCESSES = 3
MIN_BLOCKS = 10
"""Fewest processes, and blocks of each, of a row of the ledgers that is replayed as a trace."""


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed for all simulated noise.")
@click.option(
    "--checks", type=click.IntRange(min=100), default=20_000, show_default=True, help="Simulated checks of each case."
)
@click.option(
    "--traces",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Replay the training rows of these ledgers too, each with 3 processes or more.",
)
@click.option(
    "--from",
    "counts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Simulate nothing: make the page of counts written before.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page there, and beside it the counts as .json and the figure as .svg.",
)  # fmt: skip
@click.pass_context
def false_alarms(
    context: click.Context,
    /,
    seed: int,
    checks: int,
    traces: tuple[Path, ...],
    counts: Path | None,
    output: Path | None,
) -> None:
    """Simulate the regression check and other tools' rules on noisy machines; print false-alarm rates and power.

    Exit 1 if a target is missed.
    """
    if output is not None and output.suffix in (".json", ".svg"):
        raise UsageError(f"{output}: counts and figure go beside the page; name the page, such as false-alarms.md")
    if counts is not None:
        _refuse_simulation(context)
        result, command = _read_counts(counts)
    else:
        command = _make_command(seed, checks, traces, output)
        result = run_study(seed, checks, _load_traces(traces), lambda name: click.echo(f"simulating: {name}", err=True))
    if output is None:
        click.echo(render_study(result, command), nl=False)
    else:
        for path, content in _render_files(result, command, output).items():
            save_file(path, content)
    if not all(target.met for target in result.targets):
        context.exit(ExitCode.FINDING)


def _refuse_simulation(context: click.Context) -> None:
    """Raise UsageError where --from comes with what only a simulation takes."""
    for name in ("seed", "checks", "traces"):
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise UsageError(f"--from reads counts and simulates nothing: leave out --{name}")


def _read_counts(path: Path) -> tuple[FalseAlarmStudy, str]:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (LedgerError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}: {error}; give a .json that `false_alarms.py -o` wrote") from error


def _render_files(result: FalseAlarmStudy, command: str, page: Path) -> Mapping[Path, str]:
    """Render the page and the files beside it, by path."""
    chart, figure = false_alarm_chart.draw_false_alarms(result), page.with_suffix(".svg")
    return {
        page: render_study(result, command, StudyChart(figure.name, chart.alt, chart.caption)),
        page.with_suffix(".json"): json.dumps(to_json(result, command), indent=1) + "\n",
        figure: chart_images.svg(chart),
    }


def _make_command(seed: int, checks: int, traces: tuple[Path, ...], output: Path | None) -> str:
    words = [
        "python docs/studies/false_alarms.py",
        f"--seed {seed}",
        f"--checks {checks}",
        *(f"--traces {path}" for path in traces),
    ]
    return " ".join([*words, *([f"-o {output}"] if output is not None else [])])


def _load_traces(paths: tuple[Path, ...]) -> tuple[Trace, ...]:
    found: list[Trace] = []
    for ledger in store.load_tree(paths).ledgers if paths else ():
        rows: dict[str, list[Record]] = {}
        for record in ledger.records:
            if record.outcome.status == "ok" and record.outcome.trial is not None and record.job.optimizer is not None:
                rows.setdefault(record.job.row_key, []).append(record)
        for records in rows.values():
            blocks = [list(each.outcome.trial.block_seconds) for each in records if each.outcome.trial is not None]
            if len(blocks) >= MIN_PROCESSES and min(map(len, blocks)) >= MIN_BLOCKS:
                job = records[0].job
                what = f"{job.workload} b{job.batch_size} on {job.device}, threads {job.threads or 'as default'}"
                size = f"{len(blocks)} processes of {min(map(len, blocks))} blocks of {job.block_steps} steps"
                name = f"trace {len(found) + 1}"
                found.append(make_trace(name, blocks, f"{what}, {size}, run {ledger.header.run_id}"))
    return tuple(found)


if __name__ == "__main__":
    sys.exit(run_script(false_alarms))
