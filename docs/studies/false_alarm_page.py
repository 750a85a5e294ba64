"""A `FalseAlarmStudy` as a Markdown page and as plain values for JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from false_alarm_study import EFFECTS, SUITE_JOBS, FalseAlarmStudy, PowerRates, ToolRates
from noise_models import NOISE_MODELS, START_SECONDS, STEP_SECONDS
from other_tools import OTHER_TOOLS
from pydantic import TypeAdapter, ValidationError
from simulate import STEPS_PER_PROCESS, OutcomeCounts, Proportion

from cnnbench import units
from cnnbench.errors import LedgerError

CHECK_NAME = "cnnbench"


class StudyChart(NamedTuple):
    """The figure of false alarms: its file beside the page, what it shows in words, and what to know to read it."""

    file: str
    alt: str
    caption: str


def to_json(study: FalseAlarmStudy, command: str) -> dict[str, Any]:
    """Convert all counts to nested plain values; `command` made them."""
    return {"command": command, **asdict(study)}


def from_json(text: str) -> tuple[FalseAlarmStudy, str]:
    """Read the study and its command back. Raises LedgerError for another text."""
    try:
        counts = json.loads(text)
        command = counts.pop("command")
        study = TypeAdapter(FalseAlarmStudy).validate_python(counts)
    except (ValueError, AttributeError, KeyError, TypeError, ValidationError) as error:
        raise LedgerError(f"no counts of false_alarms.py, {type(error).__name__}: {error}") from error
    return study, str(command)


def render_study(study: FalseAlarmStudy, command: str, picture: StudyChart | None = None) -> str:
    """Render the page; `command` made its counts."""
    parts = [
        "# How often the regression check errs",
        f"Made by `{command}`; do not edit. {_conditions(study)}",
        "## What it was built to reach",
        _table(
            ("target", "measured", "met"),
            [(each.wanted, each.measured, "yes" if each.met else "**no**") for each in study.targets],
            "---",
        ),
        "## How to read it",
        _reading_text(),
        "## False alarms: six jobs, nothing changed",
        "Share of checks that report a slowdown of any job. Ours: alarms, and the 95 % upper bound of their share.",
        *([] if picture is None else [f"![{picture.alt}]({picture.file})", picture.caption]),
        _suite_table(study),
        *_single_tables(study),
        "## Ours in detail",
        _detail_text(study),
        _detail_table(study),
        "## What the spread allows",
        f"One job, normal d, spread as a share of log(1 + tolerance). {_excess_text(study)}",
        _power_table(study.power),
        "## The rules",
        _tool_table(),
        "## The noise",
        _noise_text(study),
    ]
    return "\n\n".join(parts) + "\n"


def _conditions(study: FalseAlarmStudy) -> str:
    series = SUITE_JOBS + 1
    bound = units.percent(study.plan.false_alarm_bound(series), 3)
    return (
        f"{study.checks:,} simulated checks in each cell of ours, {SUITE_JOBS} times as many comparisons in each of the "
        f"others for one job; seed {study.seed}; tolerance {units.percent(study.plan.tolerance, 0)}. By the exact levels "
        f"of its tests ours alarms in at most {bound} of checks of unchanged code with {series} series (six jobs and their "
        "geometric mean), whatever the noise. Nothing here is measured on a machine but the traces, where there are any."
    )


def _suite_table(study: FalseAlarmStudy) -> str:
    alarms = [Proportion(rates.suite.regressed, rates.suite.checks) for rates in study.ours]
    cells = [f"{each.hits} (< {units.percent(each.upper, 3)})" for each in alarms]
    return _rule_table(study, [(name, [rates.suite for rates in of]) for name, of in _group_by_tool(study)], cells)


def _single_tables(study: FalseAlarmStudy) -> Iterable[str]:
    for place, effect in enumerate(EFFECTS):
        if effect > 0:
            ours = [_percent(rates.single[place].regressed / rates.single[place].checks) for rates in study.ours]
            peers = [(name, [rates.single[place] for rates in of]) for name, of in _group_by_tool(study)]
            yield f"## One job, slower by {units.percent(effect, 0)}"
            yield f"Share of checks that alarm. {_effect_text(effect, study.plan.tolerance)}"
            yield _rule_table(study, peers, ours)


def _group_by_tool(study: FalseAlarmStudy) -> list[tuple[str, list[ToolRates]]]:
    """Group each tool's rates in the order of the noises."""
    return [(peer.name, [rates for rates in study.peers if rates.peer == peer.name]) for peer in OTHER_TOOLS]


def _rule_table(study: FalseAlarmStudy, peers: Sequence[tuple[str, Sequence[Proportion]]], ours: Sequence[str]) -> str:
    rows = [(CHECK_NAME, *ours), *((name, *(_percent(each.share) for each in shares)) for name, shares in peers)]
    return _table(("rule", *(rates.noise for rates in study.ours)), rows)


def _effect_text(effect: float, tolerance: float) -> str:
    if effect < tolerance:
        return "Below the tolerance: ours is meant to be silent, a rule without one is not."
    if effect == tolerance:
        return "Exactly the tolerance: ours is meant to end inconclusive."
    return "Above the tolerance: all are meant to alarm."


def _detail_text(study: FalseAlarmStudy) -> str:
    most = study.checks * study.plan.false_alarm_bound(SUITE_JOBS + 1)
    return (
        "Blocks: median of the screening when nothing changed, each two processes. Six jobs at the tolerance: all slower "
        f"by exactly 5 %, the case hardest on the levels, which allow {most:.1f} of {study.checks:,} to be called "
        "REGRESSED on average."
    )


def _detail_table(study: FalseAlarmStudy) -> str:
    head = (
        *("noise", "spread", "blocks, 1 job", "blocks, 6 jobs", "1 job unchanged: PASS", "6 jobs unchanged: PASS"),
        *("1 job at the tolerance: PASS", "6 jobs at the tolerance: REGRESSED", "1 job at 10 %: INCONCLUSIVE"),
    )
    rows = []
    for rates in study.ours:
        unchanged, _, at_five, at_ten = rates.single
        rows.append(
            (
                rates.noise,
                f"{rates.spread / study.plan.log_tolerance:.2f}",
                f"{unchanged.median_blocks:.0f}",
                f"{rates.suite.median_blocks:.0f}",
                _percent(unchanged.passed / unchanged.checks),
                _percent(rates.suite.passed / rates.suite.checks),
                _percent(at_five.passed / at_five.checks),
                f"{rates.boundary.regressed}",
                _percent(at_ten.inconclusive / at_ten.checks),
            )
        )
    return _table(head, rows)


def _excess_text(study: FalseAlarmStudy) -> str:
    return (
        f"The minimum detectable effect printed with a PASS is the tolerance and {study.excess:.2f} spreads: found in "
        f"{units.percent(study.plan.power, 0)} of checks."
    )


def _power_table(power: Sequence[PowerRates]) -> str:
    head = (
        *("spread", "unchanged: PASS", "blocks (median)", "at the tolerance: PASS", "REGRESSED"),
        *("at twice the tolerance: REGRESSED", "PASS", "blocks (median)"),
    )
    return _table(head, [_power_row(each) for each in power])


def _power_row(each: PowerRates) -> tuple[str, ...]:
    def share(ended: OutcomeCounts, count: int) -> str:
        return _percent(count / ended.checks)

    return (
        f"{each.spread_share:.2f}",
        share(each.unchanged, each.unchanged.passed),
        f"{each.unchanged.median_blocks:.0f}",
        share(each.boundary, each.boundary.passed),
        share(each.boundary, each.boundary.regressed),
        share(each.twice, each.twice.regressed),
        share(each.twice, each.twice.passed),
        f"{each.twice.median_blocks:.0f}",
    )


def _tool_table() -> str:
    rows = [(peer.name, peer.unit, str(2 * peer.processes), peer.source) for peer in OTHER_TOOLS]
    ours = (CHECK_NAME, "6 to 16 pairs of processes, and 10 to confirm", "12 to 52", "`cnnbench/regression/design.py`")
    return _table(("rule", "its n, each arm", "processes of a comparison", "where it is defined"), [ours, *rows], "---")


def _reading_text() -> str:
    return "\n".join(
        (
            "- Spread is the standard deviation of d over log(1 + tolerance). Where it is above a half, ours says more and "
            "more often that it cannot tell (INCONCLUSIVE) and is of little use: lower the spread first.",
            "- Rules without a tolerance (pyperf, hyperfine; criterion above 1 %) are meant to alarm at 2 %; at 0 % an alarm "
            "is false for every rule. At its own threshold (5 %, asv's 10 %) another tool's rule alarms about half the time.",
            "- What a rule costs differs: a comparison takes 2 processes or 40 (last table). With 40, pyperf and a minimum "
            "speed sees more than ours where the spread is large, and alarms falsely more often there.",
            "- The others are treated kindly: base and head run one after the other on the same warm machine, not on "
            "different days, and hyperfine's start-up is left out of its times.",
        )
    )


def _noise_text(study: FalseAlarmStudy) -> str:
    steps = f"{units.percent(NOISE_MODELS[0].step_sd, 0)} with correlation {NOISE_MODELS[0].correlation:g} from one to the next"
    lines = [
        f"- Steps of {units.short_seconds(STEP_SECONDS)}, AR(1), SD {steps}. Ours takes {STEPS_PER_PROCESS} of a process.",
        "- The SD between processes is 0.5 % where nothing else is said.",
        "- In two modes each process is slow with probability 1/2; a burst slows all steps of a process.",
        f"- Drift counts {START_SECONDS:g} s from one process's end to the next one's first timed step.",
    ]
    if study.traces:
        lines.append(
            "- Traces replay recorded processes, drawn again and again, each from a random block on and round again. They "
            "were recorded one after the other, without turns."
        )
    return "\n".join([*lines, *(f"- {name}: {source}." for name, source in study.traces)])


def _percent(share: float) -> str:
    """Format a share as percent, with hundredths below one percent."""
    return units.percent(share, 2 if 0 < share < 0.01 else 1)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], rule: str = "---:") -> str:
    """Align the first column to the left, the others by `rule`."""
    lines = [head, ["---", *[rule] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
