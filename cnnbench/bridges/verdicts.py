"""A verdict of the regression check in the formats of other tools: Markdown, GitHub's job summary and annotations, JUnit's XML.

All words come from `regression.verdict_text`. A job, a branch or an error message may contain any text: here it is escaped,
and cut if it is longer than `plain_text.LONGEST`.

CI systems read tests as JUnit's XML. A test case is a job's metric, alone in a test suite: the schema of Jenkins' xunit plugin
(junit-10.xsd) allows properties on suites only. A case failed if its series regressed, was skipped if it is inconclusive, has
an error if its job is missing, and passed otherwise. Figures are in the properties, ratios as head's time over base's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from xml.etree import ElementTree as ET

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
"""GitHub's annotation for each decision; a PASS needs none."""


def markdown(verdict: Verdict, meta: VerdictContext) -> str:
    """Write the verdict, a table with a line per series, a sentence per series, and the conditions, ending in a newline."""
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
    """Write what to append to the file in GITHUB_STEP_SUMMARY: blank lines part it from the text of other steps."""
    return f"\n{markdown(verdict, meta)}\n"


def workflow_commands(verdict: Verdict, meta: VerdictContext) -> tuple[str, ...]:
    """Write GitHub's workflow commands, to be printed one per line.

    A series that regressed and a missing job are errors, an inconclusive series is a warning, an improved one a notice.
    Advisory series are notices at most. Errors come first, because GitHub shows ten of a kind per step.
    """
    found = [("error", f"MISSING: {job}", f"{job}: no verdict: {why}") for job, why in meta.missing.items()]
    for each in verdict.findings:
        if each.decision in COMMANDS:
            kind = COMMANDS[each.decision] if each.series.gated else "notice"
            message = format_finding(each, verdict.plan, meta.controls.get(each.series.job))
            found.append((kind, f"{format_decision(each)}: {format_label(each)}", message))
    order = [*COMMANDS.values()]
    found.sort(key=lambda each: order.index(each[0]))
    return tuple(escaping.workflow_command(kind, *map(escaping.plain, texts)) for kind, *texts in found)


def _shown(text: str) -> str:
    return escaping.markdown(escaping.plain(text))


OUTCOMES = {Decision.REGRESSED: "failure", Decision.INCONCLUSIVE: "skipped"}
COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}
"""Each counting attribute of a suite, with the element that it counts."""
_seconds = "{:.3f}".format


def render_junit(verdict: Verdict, meta: VerdictContext) -> str:
    """Write the JUnit XML as text for a file in UTF-8, with its declaration."""
    suites = list(_suites(verdict, meta))
    counts = {name: str(sum(int(suite.get(name, "0")) for suite in suites)) for name in ("failures", "errors")}
    about = {"name": meta.title, "time": _seconds(60 * meta.minutes), "tests": str(len(suites))}
    root = _element("testsuites", {**about, **counts}, suites)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suites(verdict: Verdict, meta: VerdictContext) -> Iterator[ET.Element]:
    """Make a suite for each missing job and for each finding.

    A job's seconds go to its first metric: further ones come from the same processes.
    """
    for job, reason in meta.missing.items():
        yield _suite(job, "missing", _element("error", {"type": "MISSING", "message": reason}, text=[reason]), meta)
    seconds = {job: _seconds(spent) for job, spent in meta.job_seconds.items()}
    for finding in verdict.findings:
        series, outcome = finding.series, OUTCOMES.get(finding.decision)
        line = format_finding(finding, verdict.plan, meta.controls.get(series.job))
        if outcome is None:
            result = _element("system-out", {}, text=[line])
        else:
            conditions = (f"{name}: {text}" for name, text in list_conditions(verdict, meta))
            marks = {"type": format_decision(finding), "message": line}
            result = _element(outcome, marks, text=[line, *conditions])
        properties = (
            _element("property", {"name": key, "value": text})
            for key, text in _list_properties(finding, verdict, meta).items()
            if text is not None
        )
        before = [_element("properties", {}, properties)]
        yield _suite(series.job, series.metric, result, meta, before, seconds.get(series.job))
        seconds[series.job] = _seconds(0)


def _suite(
    job: str,
    metric: str,
    result: ET.Element,
    meta: VerdictContext,
    properties: Iterable[ET.Element] = (),
    time: str | None = None,
) -> ET.Element:
    """Make a suite of one test case, whose `classname` is suite and job; a dot in it would split off a package."""
    counts = {attribute: str(int(element == result.tag)) for attribute, element in COUNTS.items()}
    about = {"timestamp": meta.started_at, "hostname": meta.machine_id}
    case = _element("testcase", {"classname": f"{meta.suite}: {job}", "name": metric, "time": time}, [result])
    attributes = {"name": f"{job}: {metric}", "tests": "1", **counts, "time": time, **about}
    return _element("testsuite", attributes, [*properties, case])


def _element(
    tag: str, attributes: Mapping[str, str | None], children: Iterable[ET.Element] = (), text: Iterable[str] = ()
) -> ET.Element:
    """Make an element with these lines of text; unknown attributes are left out."""
    found = ET.Element(tag, {name: _text(value) for name, value in attributes.items() if value is not None})
    found.text = "\n".join(map(_text, text)) or None
    found.extend(children)
    return found


def _list_properties(finding: SeriesFinding, verdict: Verdict, meta: VerdictContext) -> dict[str, str | None]:
    """List the finding as plain numbers, and the two sides it compares; unknown is None."""
    fresh = finding.confirmation
    logs = {
        "ratio": finding.estimate,
        "ratio_low": finding.low,
        "ratio_high": finding.high,
        "ratio_mean": None if finding.mean is None else finding.mean.estimate,
        "ratio_mean_high": None if finding.mean is None else finding.mean.high,
        "ratio_detectable": finding.detectable,
        "ratio_control": meta.controls.get(finding.series.job),
    }
    return {
        "decision": finding.decision.value,
        "gated": str(finding.series.gated).lower(),
        "suspect": str(finding.suspect).lower(),
        **{name: None if log is None else f"{math.exp(log):.6g}" for name, log in logs.items()},
        "blocks": str(finding.blocks),
        "pairs_slower": str(finding.slower),
        "confirming_blocks": fresh and str(fresh.blocks),
        "confirming_pairs_slower": fresh and str(fresh.slower),
        "tolerance": f"{verdict.plan.tolerance:g}",
        "seed": str(meta.seed),
        "verdict": verdict.decision.value,
        **{name: getattr(meta, name) for name in ("base", "head", "base_software", "head_software")},
    }


def _text(text: str) -> str:
    return escaping.xml(escaping.plain(text))
