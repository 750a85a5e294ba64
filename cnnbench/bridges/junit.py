"""A verdict of the regression check as JUnit XML, the form in which CI systems read tests.

A test case is a job's metric, in a test suite of its own: the schema of Jenkins' xunit plugin (junit-10.xsd) knows
properties of suites alone. It failed exactly where the series regressed, was skipped where it is inconclusive, has an
error where its job is missing, and else passed. Figures are in the properties, ratios as head's time over base's.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from cnnbench.regression.verdict import Decision, SeriesFinding, Verdict
from cnnbench.regression.verdict_table import VerdictContext, format_decision, list_conditions, to_ratio
from cnnbench.regression.verdict_text import format_finding
from cnnbench.report import escaping

OUTCOMES = {Decision.REGRESSED: "failure", Decision.INCONCLUSIVE: "skipped"}
COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}
"""The attribute that counts each element."""


def render(verdict: Verdict, meta: VerdictContext) -> str:
    """The XML as text for a file in UTF-8, with its declaration."""
    suites = [
        *(_missing(job, reason, meta) for job, reason in meta.missing.items()),
        *(_suite(finding, verdict, meta, times) for finding, times in _time_findings(verdict, meta)),
    ]
    counts = {"tests": str(len(suites)), **{name: _count(suites, name) for name in ("failures", "errors")}}
    root = ET.Element("testsuites", {"name": _text(meta.title), "time": _seconds(60 * meta.minutes), **counts})
    root.extend(suites)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _time_findings(verdict: Verdict, meta: VerdictContext) -> list[tuple[SeriesFinding, dict[str, str]]]:
    """Each finding with its `time`: a job's seconds go to its first metric, further ones come from the same processes."""
    found: list[tuple[SeriesFinding, dict[str, str]]] = []
    seen: set[str] = set()
    for finding in verdict.findings:
        job = finding.series.job
        seconds = 0.0 if job in seen else meta.job_seconds.get(job)
        seen.add(job)
        found.append((finding, {} if seconds is None else {"time": _seconds(seconds)}))
    return found


def _suite(finding: SeriesFinding, verdict: Verdict, meta: VerdictContext, times: Mapping[str, str]) -> ET.Element:
    series = finding.series
    outcome = OUTCOMES.get(finding.decision)
    suite = _open_suite(f"{series.job}: {series.metric}", outcome, meta, times)
    _properties(suite, {**_figures(finding, verdict, meta), **_provenance(verdict, meta)})
    case = _case(suite, series.job, series.metric, meta, times)
    line = format_finding(finding, verdict.plan, meta.controls.get(series.job))
    if outcome is not None:
        marked = ET.SubElement(case, outcome, {"type": _text(format_decision(finding)), "message": _text(line)})
        marked.text = _lines(line, verdict, meta)
    else:
        ET.SubElement(case, "system-out").text = _text(line)
    return suite


def _missing(job: str, reason: str, meta: VerdictContext) -> ET.Element:
    suite = _open_suite(f"{job}: missing", "error", meta, {})
    case = _case(suite, job, "missing", meta, {})
    ET.SubElement(case, "error", {"type": "MISSING", "message": _text(reason)}).text = _text(reason)
    return suite


def _open_suite(name: str, outcome: str | None, meta: VerdictContext, times: Mapping[str, str]) -> ET.Element:
    counts = {attribute: str(int(element == outcome)) for attribute, element in COUNTS.items()}
    about = {"timestamp": _text(meta.started_at), "hostname": _text(meta.machine_id)}
    return ET.Element("testsuite", {"name": _text(name), "tests": "1", **counts, **times, **about})


def _case(suite: ET.Element, job: str, name: str, meta: VerdictContext, times: Mapping[str, str]) -> ET.Element:
    """`classname` is the suite and the job; a dot would make a package of what stands before it."""
    return ET.SubElement(suite, "testcase", {"classname": _text(f"{meta.suite}: {job}"), "name": _text(name), **times})


def _figures(finding: SeriesFinding, verdict: Verdict, meta: VerdictContext) -> dict[str, str | None]:
    """What was found, as plain numbers; None for what is unknown."""
    fresh = finding.confirmation
    return {
        "decision": finding.decision.value,
        "gated": _word(finding.series.gated),
        "suspect": _word(finding.suspect),
        "ratio": _ratio(finding.estimate),
        "ratio_low": _ratio(finding.low),
        "ratio_high": _ratio(finding.high),
        "ratio_detectable": _ratio(finding.detectable),
        "ratio_control": _ratio(meta.controls.get(finding.series.job)),
        "blocks": str(finding.blocks),
        "pairs_slower": str(finding.slower),
        "confirming_blocks": None if fresh is None else str(fresh.blocks),
        "confirming_pairs_slower": None if fresh is None else str(fresh.slower),
        "tolerance": f"{verdict.plan.tolerance:g}",
        "seed": str(meta.seed),
    }


def _provenance(verdict: Verdict, meta: VerdictContext) -> dict[str, str | None]:
    return {
        "verdict": verdict.decision.value,
        "base": meta.base,
        "head": meta.head,
        "base_software": meta.base_software,
        "head_software": meta.head_software,
    }


def _properties(suite: ET.Element, values: Mapping[str, str | None]) -> None:
    parent = ET.SubElement(suite, "properties")
    for name, value in values.items():
        if value is not None:
            ET.SubElement(parent, "property", {"name": name, "value": _text(value)})


def _lines(line: str, verdict: Verdict, meta: VerdictContext) -> str:
    return "\n".join([_text(line), *(_text(f"{name}: {text}") for name, text in list_conditions(verdict, meta))])


def _count(suites: list[ET.Element], attribute: str) -> str:
    return str(sum(int(suite.get(attribute, "0")) for suite in suites))


def _text(text: str) -> str:
    return escaping.xml(escaping.plain(text))


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _ratio(log_ratio: float | None) -> str | None:
    return None if log_ratio is None else f"{to_ratio(log_ratio):.6g}"


def _word(flag: bool) -> str:
    return "true" if flag else "false"
