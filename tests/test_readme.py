"""README: short, its parts in their order, its output printed by a command, its commands and links there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_option_docs import invocations, wrong_options

from cnnbench.cli.main import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```|<!--.*?-->", "", TEXT, flags=re.DOTALL)
"""Without what a program prints, and without comments."""
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]


def test_it_has_at_most_150_lines() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_its_parts_are_in_the_order_in_which_a_newcomer_asks() -> None:
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == [
        "Two commands",
        "Why believe it",
        "Three uses",
        "Where it comes from",
        "Documentation",
        "How a trial is timed",
        "What is not measured",
        "The tree",
    ]


def test_the_first_sentence_says_what_it_does() -> None:
    _, first, *_ = TEXT.split("\n\n")
    assert first.startswith("cnnbench times the training of one small convolutional network")
    assert len(re.findall(r"[.!?](?:\s|$)", first)) == 1


def test_the_lecture_is_named_by_its_title_before_the_word_is_used_alone() -> None:
    first = PROSE.lower().index("lecture")
    assert PROSE[first - len("a 2017 ") :].startswith(
        "a 2017 lecture on deep learning, *Machine Learning to Deep Learning_3*"
    )


def test_the_output_shown_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight lines of it, in their order and with a doubt among them; `...` is where lines are left out."""
    (shown,) = re.findall(r"```\n\$ cnnbench (.*?)```", TEXT, re.DOTALL)
    command, *lines = shown.splitlines()
    kept = [line for line in lines if line != "..."]
    assert len(kept) == 8
    assert sum(line.startswith("- Doubt ") for line in kept) == 1
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli, shlex.split(command), catch_exceptions=False)
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    position = -1
    for before, line in zip(["...", *lines], lines, strict=False):
        if line != "...":
            found = printed.index(line, position + 1)
            assert before == "..." or found == position + 1, f"lines are left out before {line!r}"
            position = found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [each for each in targets if "://" not in each]
    assert [each for each in local if not (page.parent / each).exists()] == []


def test_every_page_of_docs_is_linked() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)", TEXT))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= linked


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "running.md", ROOT / "docs" / "install.md"])
def test_every_command_line_shown_has_options_that_its_command_takes(page: Path) -> None:
    assert len(list(invocations(page))) >= 4
    assert wrong_options(page) == []
