"""A verdict of the regression check as text for people: Markdown, GitHub's job summary, annotations of a workflow's run.

All words come from `regression.verdict_text`. A job, a branch or an error message may have any
name: here it is escaped, and cut where it is longer than `escaping.LONGEST`.
"""

from __future__ import annotations

from collections.abc import Iterator

from cnnbench.regression.decision import Decision, SeriesFinding, Verdict
from cnnbench.regression.verdict_text import (
    VerdictContext,
    format_decision,
    format_finding,
    format_label,
    format_verdict,
    list_columns,
    list_conditions,
)
from cnnbench.report import escaping
from cnnbench.report.render.markdown import draw_grid

COMMANDS = {Decision.REGRESSED: "error", Decision.INCONCLUSIVE: "warning", Decision.IMPROVED: "notice"}
"""A PASS needs no annotation."""


def markdown(verdict: Verdict, meta: VerdictContext) -> str:
    """The verdict, a table with a line a series, each series in a sentence, the conditions; ends in a newline."""
    heading, *sentences = format_verdict(verdict, meta.controls)
    parts = [
        f"## {_shown(f'{meta.title}: {verdict.decision.value.upper()}')}",
        f"**{_shown(heading)}**",
        *_warnings(meta),
        "\n".join(_table(verdict, meta)),
        "\n".join(f"- {_shown(sentence)}" for sentence in sentences),
        "### Conditions",
        "\n".join(f"- {_shown(name)}: {_shown(text)}" for name, text in list_conditions(verdict, meta)),
    ]
    return "\n\n".join(parts) + "\n"


def job_summary(verdict: Verdict, meta: VerdictContext) -> str:
    """What to append to the file that GITHUB_STEP_SUMMARY names: other steps' text may stand before and after it."""
    return f"\n{markdown(verdict, meta)}\n"


def workflow_commands(verdict: Verdict, meta: VerdictContext) -> tuple[str, ...]:
    """GitHub's workflow commands, one line each: an error for every series that regressed and every job missing, a warning
    for one that is inconclusive, a notice for one that improved. Advisory series are notices at most.

    GitHub shows ten of a kind a step, so errors come first. Print them each on a line of its own.
    """
    missing = [("error", f"MISSING: {job}", f"{job}: no verdict: {why}") for job, why in meta.missing.items()]
    found = [
        (
            _command(each),
            f"{format_decision(each)}: {format_label(each)}",
            format_finding(each, verdict.plan, meta.controls.get(each.series.job)),
        )
        for each in verdict.findings
        if each.decision in COMMANDS
    ]
    order = list(COMMANDS.values())
    annotations = sorted([*missing, *found], key=lambda each: order.index(each[0]))
    return tuple(_annotation(*each) for each in annotations)


def _warnings(meta: VerdictContext) -> list[str]:
    """What must not be overlooked, above the table."""
    missing = [f"{job} is missing, which is not passed: {reason}" for job, reason in meta.missing.items()]
    return [f"**{_shown(text)}**" for text in missing] + [_shown(note) for note in meta.notes]


def _table(verdict: Verdict, meta: VerdictContext) -> Iterator[str]:
    heads = list_columns(verdict, meta)
    rows = [[head.title for head in heads], *([head.text(each) for head in heads] for each in verdict.findings)]
    return draw_grid((map(_shown, row) for row in rows), ("right" if head.number else "left" for head in heads))


def _command(finding: SeriesFinding) -> str:
    return COMMANDS[finding.decision] if finding.series.gated else "notice"


def _annotation(kind: str, title: str, message: str) -> str:
    shown = escaping.command_property(escaping.plain(title))
    return f"::{kind} title={shown}::{escaping.command_data(escaping.plain(message))}"


def _shown(text: str) -> str:
    return escaping.markdown(escaping.plain(text))
