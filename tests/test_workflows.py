"""The workflows and the page about the check: safe to run on anybody's pull request, and true to what they cite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WORKFLOWS = sorted([*(ROOT / ".github" / "workflows").glob("*.yml"), DOCS / "github-actions.yml"])
EXPRESSION = re.compile(r"^\s*(BASE|group|python-version): [^#]*\$\{\{ [a-z_.]+ \}\}$")
"""Where an expression of GitHub's may stand: in the environment, and where no shell reads it."""


def code(path):
    """The lines without comments."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflows:
    def test_the_token_may_only_read(self, path):
        text = "\n".join(code(path))
        assert "\npermissions:\n  contents: read\n\n" in text
        assert text.count("permissions:") == 1
        assert "pull_request_target" not in text
        assert text.count("persist-credentials: false") == text.count("actions/checkout@")

    def test_every_action_is_githubs_own_and_pinned_to_a_major_version(self, path):
        used = [line.partition("uses:")[2].strip() for line in code(path) if "uses:" in line]
        assert used
        assert [each for each in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", each)] == []

    def test_nothing_is_filled_into_a_script(self, path):
        assert [line for line in code(path) if "${{" in line and not EXPRESSION.match(line)] == []

    def test_no_job_runs_for_ever(self, path):
        text = "\n".join(code(path))
        assert text.count("timeout-minutes:") == text.count("runs-on:") > 0


def test_this_repository_runs_the_workflow_that_it_tells_others_to_copy():
    ours, theirs = (
        [line for line in code(path) if line.strip()]
        for path in (ROOT / ".github" / "workflows" / "perf.yml", DOCS / "github-actions.yml")
    )
    assert ours == theirs


def test_every_option_of_the_workflow_is_explained():
    page = (DOCS / "regression-check.md").read_text(encoding="utf-8")
    script = "\n".join(code(DOCS / "github-actions.yml")).partition("cnnbench check")[2].partition("- uses")[0]
    options = set(re.findall(r"--[a-z-]+", script))
    assert {"--base", "--junit", "--markdown", "--github"} <= options
    assert [option for option in options if f"`{option}" not in page] == []


@pytest.mark.parametrize("figure", ["21.5 %", "61.1 %", "0.043 %", "98.6 %", "31.0 %", "0 (< 0.015 %)"])
def test_figures_of_the_page_are_those_of_the_proof(figure):
    assert figure in (DOCS / "studies" / "false-alarms.md").read_text(encoding="utf-8")
    if "(" not in figure:
        assert figure in (DOCS / "regression-check.md").read_text(encoding="utf-8")


def test_links_of_the_page_lead_somewhere():
    page = (DOCS / "regression-check.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert targets
    assert [target for target in targets if not (DOCS / target).exists()] == []
