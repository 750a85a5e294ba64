"""How often `compare` calls unchanged runs FASTER or SLOWER, and what it finds: real pairs of runs, and simulated ones.

    python docs/studies/compare_verdicts.py results --seed 1 --comparisons 4000 -o docs/studies/compare-verdicts.md

writes the page, and beside it the values as .json. `--from FILE.json` makes the page of values that are there, without
simulating. 4,000 comparisons of each case take three minutes on one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from compare_verdict_study import (
    HISTORIES,
    PROCESSES,
    TOLERANCE,
    Components,
    RealPair,
    SimulatedVerdicts,
    VerdictStudy,
    load_rows,
    run_study,
)
from pydantic import TypeAdapter, ValidationError
from study_script import run_script

from cnnbench import units
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.run_spread import LEAST_HISTORY, PRIORS
from cnnbench.errors import ExitCode, LedgerError, UsageError
from cnnbench.files import save_file

NOISE_TEXTS = (
    "In each row of a table runs and processes spread as the components above say, by another law:",
    "- normal: both are independent and normal.",
    "- heavy tails, t3: processes follow Student's t with 3 degrees of freedom.",
    "- two modes 12 % apart: a process is in the slow one with probability 1/2.",
    "- AR(1): runs differ only because neighbouring processes are alike, as much as three of a run show it.",
    "- drift 5 % per hour: runs start at any time of the hours in which that drift adds up to the run SD.",
    "- each machine has its own run SD, drawn again for every comparison and as uncertain as its degrees of freedom say.",
    "- two hosts: each run is on one of two hosts instead of having a normal effect.",
)


def to_json(study: VerdictStudy, command: str) -> dict[str, Any]:
    """Convert all values to nested plain ones; `command` made them."""
    return {"command": command, **asdict(study)}


def from_json(text: str) -> tuple[VerdictStudy, str]:
    """Read the study and its command back. Raises LedgerError for another text."""
    try:
        values = json.loads(text)
        command = values.pop("command")
        study = TypeAdapter(VerdictStudy).validate_python(values)
    except (ValueError, AttributeError, KeyError, TypeError, ValidationError) as error:
        raise LedgerError(f"no values of compare_verdicts.py, {type(error).__name__}: {error}") from error
    return study, str(command)


def render_study(study: VerdictStudy, command: str) -> str:
    """Render the page; `command` made its values."""
    parts = [
        "# How often `compare` errs between two runs",
        f"Made by `{command}`; do not edit. Processes of one run share its minutes, and runs of two boots perhaps not even "
        "the host, so two runs differ by more than their processes say. `compare` puts the spread of runs into the interval "
        f"of their ratio: from {LEAST_HISTORY} other runs of the row on, that of these runs, otherwise a prior.",
        "## What it is to reach",
        _table(
            ("target", "measured", "met"),
            [(each.wanted, each.measured, "yes" if each.met else "**no**") for each in study.targets],
            "---",
        ),
        "## The components",
        "Standard deviations of log times, by REML with a mean and a process variance for each row. These ledgers do not "
        "record boots: runs of one kernel and memory size count as of one boot, which can only make that spread too large. "
        "For different boots only rows that runs of both kernels have are taken. Degrees of freedom: runs less groups of runs, "
        "since rows of one run share what it differs by.",
        _components_table(study.components),
        "## The real pairs",
        *_pair_parts(study.pairs),
        "## Simulated pairs",
        f"{study.comparisons:,} comparisons in each cell, seed {study.seed}, tolerance {units.percent(TOLERANCE, 0)}. A cell has "
        "the share of unchanged pairs that read FASTER or SLOWER, and after the slash the share of pairs in which a base that "
        "takes 25 % longer is found.",
        "\n".join(NOISE_TEXTS),
        *_simulated_parts(study.simulated),
        "## Machines that are worse than the ledgers'",
        "The same where runs differ more than the prior says. The prior cannot protect there; the runs' own history does.",
        *_simulated_parts(study.beyond),
        "## What an interval of one run covers",
        "Share of runs whose interval, between n processes of that run, holds the mean of all runs of a training row on "
        "different boots: exact for normal components. More processes make it narrower about that run, not about the machine.",
        _table(
            ("processes of the run", *(f"n={each.processes}" for each in study.coverage)),
            [("share that holds the mean", *(units.percent(each.share, 0) for each in study.coverage))],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _components_table(components: Sequence[Components]) -> str:
    rows = [
        (
            f"{each.kind}, {_name_boots(each.one_boot)}",
            units.percent(each.run_sd, 1),
            units.percent(each.process_sd, 1),
            str(each.rows),
            str(each.degrees),
            units.percent(PRIORS[each.kind, each.one_boot].sd, 1),
        )
        for each in components
    ]
    head = ("rows of", "between runs", "between processes (median row)", "rows", "degrees of freedom", "prior")
    return _table(head, rows)


def _pair_parts(pairs: Sequence[RealPair]) -> Iterator[str]:
    yield (
        f"All {len(pairs)} pairs of two runs of a row (equal row key, timing rule and torch) under one machine id in the "
        "ledgers, with three processes or more each. Nothing changed between them that the row's code has. No row has "
        f"{LEAST_HISTORY} other runs, so the prior is in each interval. It was estimated from the same runs; the simulation "
        "below does not depend on them."
    )
    counts = []
    for name, verdicts in (
        ("processes alone (Welch)", [each.processes_verdict for each in pairs]),
        ("processes and runs", [each.verdict for each in pairs]),
    ):
        counts.append((name, *(str(verdicts.count(each)) for each in ("FASTER", "SLOWER", "SAME", "UNCLEAR"))))
    yield _table(("interval of", "FASTER", "SLOWER", "SAME", "UNCLEAR"), counts)
    yield _table(
        ("row", "base", "new", "kernel", "ratio", "processes alone", "verdict", "processes and runs", "verdict"),
        [
            (
                each.row,
                each.base[-4:],
                each.new[-4:],
                "same" if each.one_kernel else "another",
                units.ratio(each.ratio),
                units.span(each.processes_low, each.processes_high, units.ratio),
                each.processes_verdict,
                units.span(each.low, each.high, units.ratio),
                each.verdict,
            )
            for each in pairs
        ],
    )


def _simulated_parts(cases: Sequence[SimulatedVerdicts]) -> Iterator[str]:
    for (kind, one_boot), same in group_by(cases, lambda each: (each.kind, each.one_boot)).items():
        yield f"**{'Training' if kind == 'training' else 'GEMM'}, {_name_boots(one_boot)}**"
        head = [f"n={n}, {f'{runs} other runs' if runs else 'prior'}" for n in PROCESSES for runs in HISTORIES]
        rows = [
            (noise, *(f"{_share(each.false, each)} / {_share(each.found, each, 0)}" for each in of))
            for noise, of in group_by(same, lambda each: each.noise).items()
        ]
        yield _table(("noise", *head), rows)


def _share(hits: int, case: SimulatedVerdicts, digits: int = 1) -> str:
    return units.percent(hits / case.comparisons, digits)


def _name_boots(one_boot: bool) -> str:
    return "one boot" if one_boot else "different boots"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], rule: str = "---:") -> str:
    """Align the first column to the left, the others by `rule`."""
    lines = [head, ["---", *[rule] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@click.command()
@click.argument("ledgers", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed for all simulated runs.")
@click.option(
    "--comparisons", type=click.IntRange(min=100), default=4000, show_default=True, help="Comparisons of each case."
)
@click.option(
    "--from",
    "values",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Simulate nothing: make the page of values written before.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page there, and beside it the values as .json.",
)  # fmt: skip
@click.pass_context
def compare_verdicts(
    context: click.Context,
    /,
    ledgers: tuple[Path, ...],
    seed: int,
    comparisons: int,
    values: Path | None,
    output: Path | None,
) -> None:
    """Estimate how much runs of LEDGERS differ, and simulate the verdicts of `compare` on such machines.

    Exit 1 if a target is missed.
    """
    if output is not None and output.suffix == ".json":
        raise UsageError(f"{output}: the values go beside the page; name the page, such as compare-verdicts.md")
    if (values is None) == (not ledgers):
        raise UsageError("give ledgers to simulate, or --from FILE.json without them")
    if values is not None:
        study, command = _read_values(values)
    else:
        command = _make_command(ledgers, seed, comparisons, output)
        study = run_study(
            load_rows(ledgers), seed, comparisons, lambda name: click.echo(f"simulating: {name}", err=True)
        )
    page = render_study(study, command)
    if output is None:
        click.echo(page, nl=False)
    else:
        save_file(output, page)
        save_file(output.with_suffix(".json"), json.dumps(to_json(study, command), indent=1) + "\n")
    if not all(target.met for target in study.targets):
        context.exit(ExitCode.FINDING)


def _read_values(path: Path) -> tuple[VerdictStudy, str]:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (LedgerError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}: {error}; give a .json that `compare_verdicts.py -o` wrote") from error


def _make_command(ledgers: tuple[Path, ...], seed: int, comparisons: int, output: Path | None) -> str:
    words = [
        "python docs/studies/compare_verdicts.py",
        *map(str, ledgers),
        f"--seed {seed}",
        f"--comparisons {comparisons}",
    ]
    return " ".join([*words, *([f"-o {output}"] if output is not None else [])])


if __name__ == "__main__":
    sys.exit(run_script(compare_verdicts))
