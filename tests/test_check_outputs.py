"""A verdict on every surface: the same decisions everywhere, and a name is never more than a name."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import junitparser
import pytest
import verdict_builders
from format_readers import STEERING, github, seen
from hypothesis import given
from hypothesis import strategies as st
from verdict_builders import replay_decision

from cnnbench.bridges import verdicts
from cnnbench.regression import verdict_text
from cnnbench.regression.decision import Decision, MetricSeries
from cnnbench.regression.design import make_check_plan
from cnnbench.regression.verdict_text import format_estimate, format_verdict
from cnnbench.report import escaping

HOSTILE = (
    "job\n::set-output name=x::y",
    "::add-mask::secret",
    "a%0A::error::b",
    "</details><script>alert(1)</script>",
    "@everyone look",
    "`rm -rf` **bold** | cell",
    "]]> <!-- & \"' \x00\x1b[2J\ufffe\ud800",
    "a:b,c=d::e",
    "##[add-mask]x",
    "x" * 5000,
)
MIXED, META = verdict_builders.mixed(), verdict_builders.meta()


def annotation(line):
    """What GitHub's runner reads in a line: command, properties, message (actions/runner, ActionCommand.cs)."""
    head, message = line.removeprefix("::").split("::", 1)
    command, _, listed = head.partition(" ")
    properties = dict(each.split("=", 1) for each in listed.split(","))
    return command, {name: unescaped(text) for name, text in properties.items()}, unescaped(message)


def unescaped(text):
    for code, mark in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, mark)
    return text


def cells(page):
    return [[seen(cell) for cell in line.split(" | ")] for line in page.splitlines() if line.startswith("| ")][2:]


def test_the_verdicts_of_these_tests_have_every_decision():
    assert {finding.decision for finding in MIXED.findings} == set(Decision)
    assert any(not finding.series.gated for finding in MIXED.findings)


class TestMarkdown:
    def test_the_table_has_a_line_a_series_with_what_was_found(self):
        rows = cells(verdicts.markdown(MIXED, META))
        assert len(rows) == len(MIXED.findings)
        slow = [cell.strip("| ") for cell in rows[0]]
        assert slow[:2] == ["slow", "REGRESSED"]
        assert slow[2] == escaping.markdown(format_estimate(MIXED.findings[0])) == r"+9.0 % \[8.6, 9.4\]"
        assert slow[3] == slow[2]  # the mean of eight differences whose deviations cancel
        assert slow[4:6] == ["8 of 8", "yes, 10 of 10"]
        assert slow[-1] == "+0.1 %"
        assert [row[0].strip("| ") for row in rows] == [
            verdict_text.format_label(finding) for finding in MIXED.findings
        ]

    def test_a_pass_says_what_would_have_been_found(self):
        verdict = verdict_builders.clean()
        for finding, row in zip(verdict.findings, cells(verdicts.markdown(verdict, META)), strict=True):
            assert finding.decision == Decision.PASS
            assert row[-2].strip() == f"+{100 * math.expm1(finding.detectable):.1f} %"

    def test_a_plan_too_short_to_suspect_says_that_it_would_find_nothing(self):
        verdict = replay_decision({MetricSeries("a"): verdict_builders.differences(1.0)}, {}, make_check_plan(0.05, 6))
        assert cells(verdicts.markdown(verdict, META))[0][-2].strip() == "nothing"

    def test_every_sentence_and_condition_is_there(self):
        shown = seen(github(verdicts.markdown(MIXED, META)))
        for line in format_verdict(MIXED, META.controls):
            assert line in shown
        for name, text in verdict_text.list_conditions(MIXED, META):
            assert f"{name}: {text}" in shown
        assert "block 3 dropped: other guests took 3.1 %" in shown
        assert "1 of 19 measured were dropped" in shown
        assert "0:03:24" in shown

    def test_a_missing_job_and_a_note_stand_above_the_table(self):
        page = verdicts.markdown(
            MIXED, verdict_builders.meta(missing={"gone": "exit 139 in head"}, notes=("advisory: 10 % cannot be seen",))
        )
        above = seen(github(page.partition("\n| ")[0]))
        assert "gone is missing, which is not passed: exit 139 in head" in above
        assert "advisory: 10 % cannot be seen" in above

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_name_is_shown_as_it_is_and_does_nothing(self, name):
        verdict = verdict_builders.mixed((name, "fast", "noisy", "same"))
        hostile = verdict_builders.meta(
            base=name, head=name, suite=name, files=(name,), notes=(name,), missing={name: name}
        )
        for page in (verdicts.markdown(verdict, hostile), verdicts.job_summary(verdict, hostile)):
            drawn = github(page)
            assert escaping.plain(name) in seen(drawn)
            tags = set(re.findall(r"<(/?[a-z0-9]+)", re.sub(r"<!--.*?-->", "", drawn)))
            expected = {"h2", "h3", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
            assert {tag.strip("/") for tag in tags} <= expected
            assert "@everyone" not in drawn
            assert not STEERING.search(page)
            assert len({line.replace("\\|", "").count("|") for line in page.splitlines() if line[:1] == "|"}) == 1

    def test_a_summary_begins_a_paragraph_of_its_own(self):
        assert verdicts.job_summary(MIXED, META) == f"\n{verdicts.markdown(MIXED, META)}\n"


class TestAnnotations:
    def test_regressed_is_an_error_inconclusive_a_warning_improved_a_notice_and_errors_come_first(self):
        kinds = {Decision.REGRESSED: "error", Decision.INCONCLUSIVE: "warning", Decision.IMPROVED: "notice"}
        read = [annotation(line) for line in verdicts.workflow_commands(MIXED, META)]
        expected = [
            (kinds[finding.decision] if finding.series.gated else "notice")
            for finding in MIXED.findings
            if finding.decision in kinds
        ]
        assert [command for command, _, _ in read] == sorted(expected, key=list(kinds.values()).index)
        command, properties, message = read[0]
        assert (command, properties) == ("error", {"title": "REGRESSED: slow"})
        assert message in format_verdict(MIXED, META.controls)

    def test_a_pass_says_nothing(self):
        assert verdicts.workflow_commands(verdict_builders.clean(), META) == ()

    def test_a_missing_job_is_an_error(self):
        (line,) = verdicts.workflow_commands(
            verdict_builders.clean(), verdict_builders.meta(missing={"gone": "exit 139"})
        )
        assert line == "::error title=MISSING%3A gone::gone: no verdict: exit 139"

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_name_neither_ends_its_line_nor_begins_a_command(self, name):
        verdict = verdict_builders.mixed((name, "fast", "noisy", "same"))
        lines = verdicts.workflow_commands(verdict, META)
        for line in lines:
            assert len(line.splitlines()) == 1
            assert not STEERING.search(line)
            command, properties, _ = annotation(line)
            assert command in ("error", "warning", "notice")
            assert set(properties) == {"title"}
        _, properties, message = annotation(lines[0])
        assert properties["title"] == escaping.plain(f"REGRESSED: {name}")
        assert message.startswith(escaping.plain(name)[:400])

    @given(st.text(max_size=60))
    def test_githubs_escapes_lose_nothing(self, text):
        line = escaping.workflow_command("error", text, text)
        shown = escaping.plain(text, None)
        assert annotation(line) == ("error", {"title": shown}, shown)
        title, message = line.removeprefix("::error title=").split("::", 1)
        assert not set(title) & set("\r\n:,")
        assert not set(message) & set("\r\n")


class TestJunit:
    @pytest.mark.parametrize("missing", [{}, {"gone": "exit 139"}], ids=["whole", "a job missing"])
    @pytest.mark.parametrize("verdict", [MIXED, verdict_builders.clean()], ids=["mixed", "clean"])
    def test_another_reader_counts_the_same(self, verdict, missing):
        """junitparser: a failure for every REGRESSED, skipped for every INCONCLUSIVE, none else."""
        read = junitparser.JUnitXml.fromstring(
            verdicts.render_junit(verdict, verdict_builders.meta(missing=missing)).encode()
        )
        cases = [case for suite in read for case in suite]
        decisions = [finding.decision for finding in verdict.findings]
        wanted = (decisions.count(Decision.REGRESSED), decisions.count(Decision.INCONCLUSIVE), len(missing))
        kinds = (junitparser.Failure, junitparser.Skipped, junitparser.Error)
        counted = tuple(sum(isinstance(each, kind) for case in cases for each in case.result) for kind in kinds)
        assert len(cases) == len(decisions) + len(missing)
        assert counted == wanted
        claimed = (read.tests, read.failures, read.errors, sum(suite.skipped for suite in read))
        assert claimed == (len(cases), wanted[0], wanted[2], wanted[1])
        read.update_statistics()
        assert (read.tests, read.failures, read.errors, read.skipped) == (len(cases), wanted[0], wanted[2], wanted[1])

    def test_the_figures_are_properties(self):
        suite = next(iter(junitparser.JUnitXml.fromstring(verdicts.render_junit(MIXED, META).encode())))
        found = {each.name: each.value for each in suite.properties()}
        assert float(found["ratio"]) == pytest.approx(math.exp(MIXED.findings[0].estimate), rel=1e-5)
        assert float(found["ratio_low"]) < float(found["ratio"]) < float(found["ratio_high"])
        assert {"blocks": "8", "tolerance": "0.05", "seed": "7", "pairs_slower": "8"}.items() <= found.items()
        assert found["confirming_pairs_slower"] == "10"

    def test_times_are_the_jobs_own_and_counted_once(self):
        read = junitparser.JUnitXml.fromstring(verdicts.render_junit(MIXED, META).encode())
        times = {suite.name: suite.time for suite in read if suite.time}
        assert times == {"slow: median step": 61.25, "fast: median step": 30.5}
        assert read.time == pytest.approx(204)

    def test_a_job_of_unknown_length_has_no_time(self):
        root = ET.fromstring(verdicts.render_junit(MIXED, verdict_builders.meta(job_seconds={})))
        assert {case.get("time") for case in root.iter("testcase") if case.get("name") == "median step"} == {None}

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_name_comes_back_as_text(self, name):
        verdict = verdict_builders.mixed((name, "fast", "noisy", "same"))
        text = verdicts.render_junit(
            verdict, verdict_builders.meta(title=name, suite=name, head=name, missing={name: name})
        )
        root = ET.fromstring(text.encode("utf-8"))
        assert "]]>" not in text
        assert root.get("name") == escaping.xml(escaping.plain(name))
        failure = next(root.iter("failure"))
        assert failure.get("message").startswith(escaping.xml(escaping.plain(name))[:400])
        known = {"testsuites", "testsuite", "properties", "property", "testcase"}
        assert {each.tag for each in root.iter()} <= known | {"failure", "error", "skipped", "system-out"}

    @given(st.text(max_size=60))
    def test_any_text_is_xml_and_comes_back(self, text):
        element = ET.Element("a", {"b": escaping.xml(text)})
        element.text = escaping.xml(text)
        back = ET.fromstring(ET.tostring(element))
        assert back.get("b") == (back.text or "") == escaping.xml(text)
