"""A verdict of the regression check as text for people: Markdown, GitHub's job summary, annotations of a workflow's run.

All words come from `regression.verdict_text`. A job, a branch or an error message may have any
name: here it is escaped, and cut where it is longer than `plain_text.LONGEST`.
"""

from __future__ import annotations

from cnnbench.regression.decision import Decision, Verdict
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
    missing = [f"{job} is missing, which is not passed: {reason}" for job, reason in meta.missing.items()]
    heads = list_columns(verdict, meta)
    rows = [[head.title for head in heads], *([head.text(each) for head in heads] for each in verdict.findings)]
    table = draw_grid((map(_shown, row) for row in rows), ("right" if head.number else "left" for head in heads))
    parts = [
        f"## {_shown(f'{meta.title}: {verdict.decision.value.upper()}')}",
        # What must not be overlooked is above the table.
        *(f"**{_shown(text)}**" for text in (heading, *missing)),
        *map(_shown, meta.notes),
        "\n".join(table),
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
    found = [("error", f"MISSING: {job}", f"{job}: no verdict: {why}") for job, why in meta.missing.items()]
    for each in verdict.findings:
        if each.decision in COMMANDS:
            kind = COMMANDS[each.decision] if each.series.gated else "notice"
            message = format_finding(each, verdict.plan, meta.controls.get(each.series.job))
            found.append((kind, f"{format_decision(each)}: {format_label(each)}", message))
    order = [*COMMANDS.values()]
    lines = []
    for kind, title, message in sorted(found, key=lambda each: order.index(each[0])):
        shown = escaping.command_property(escaping.plain(title))
        lines.append(f"::{kind} title={shown}::{escaping.command_data(escaping.plain(message))}")
    return tuple(lines)


def _shown(text: str) -> str:
    return escaping.markdown(escaping.plain(text))
