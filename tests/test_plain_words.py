"""Docstrings, comments, messages, help and pages use plain words: each phrase here has a better one, which is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import cnnbench
from cnnbench.cli.main import cli

ROOT = Path(__file__).parents[1]
PACKAGE = Path(cnnbench.__file__).parent
PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")

PER = (
    "arm|batch|block|class|clock|core|day|device|epoch|hour|image|job|kind|launch|layer|line|machine|minute|node|pair|process"
    "|rank|round|row|run|second|seed|step|suite|thread|value|worker"
)
"""What is counted per: `a row a job` is one row per job."""
COUNTED = (
    "FLOPs|FLOP|GFLOP|bytes|seconds|ms|s|images|joules|steps|processes|jobs|threads|cores|bits|launches|messages|minutes|rows"
    "|rounds"
)
NOT_COUNTED = (
    "after|and|are|as|at|be|before|by|for|from|had|has|have|if|in|into|is|it|like|not|of|on|or|per|such|than|that|to|until|was"
    "|when|where|which|while|with|without"
)
"""Between two articles, no thing that is counted: `a number of a process`."""
NOUN = rf"(?!(?:{NOT_COUNTED})\b)[\w-]+"
MANY = r"\d[\d.,]*|two|three|four|five|six|ten|few|several|many"
SINGULAR = rf"{NOUN}(?<![a-rt-z]s)(?<!ed)"
"""`a line a job`, but neither `a worker starts a process` nor `a file named a row`."""

RULES = tuple(
    (re.compile(pattern), better)
    for pattern, better in (
        (r"(?:^|(?<=[.!?:;] )|(?<=\| )|(?<=[-*] ))Of (?!course\b)", "a sentence with a subject and a verb"),
        (r"\banew\b", "again"),
        (r"\b(?:held|holds?|holding) (?:[\w-]+ ){0,5}against\b", "compared with"),
        (r"\b(?:deal|deals|dealt) out\b", "sharded, split or distributed"),
        (r"\b(?:taken|takes?|taking) apart\b", "broken down"),
        (r"\bgo(?:ne|es|ing)? on with\b", "resumed or continued"),
        (r"\bworked out\b", "computed"),
        (r"\bnone such\b|\bwhere it is none\b", "what is missing"),
        (r"\bbe had\b", "is (not) available"),
        (r"\bcomes to\b", "amounts to, reaches"),
        (r"\b(?:is|are|was|were|be|been|not) (?:said|told)\b", "printed, reported, recorded, distinguished"),
        (r"\bstands?\b(?!-| (?:alone|by|for|in for|out|side by side|still)\b)", "is, is printed, is stored"),
        (r"\blies\b(?! (?:above|below|between|in \[|inside|outside|wholly|within)\b)", "is, is stored"),
        (r"\b(?:the|a|each|every|no|whose|this|\w+'s) meetings?\b", "rendezvous"),
        (r"(?<!there )(?<!There )\b(?:is|are|was|were) no (?!longer\b|more\b|\w+er\b)[a-z]", "is not a ..."),
        (
            rf"(?:\b(?:a|an|one|no|each) (?:{NOUN} )?{SINGULAR}|\b(?:{MANY}) (?:{NOUN} )?{NOUN}(?<=s)|\b(?:{COUNTED}|one)|\}})"
            rf" an? (?:{PER})\b(?! \w+s\b)",
            "... per ...",
        ),
    )
)
"""Each phrase that is not written, and what is."""

ALLOWED: dict[str, str] = {}
"""A phrase that is right where it is, by the text around it, with the reason."""


class Sentence(NamedTuple):
    """A text for a person, and where it is."""

    place: str
    line: int
    text: str


def find_phrases(sentence: Sentence) -> Iterator[str]:
    """The phrases of a text that have a better word, each with its place."""
    words = [*re.finditer(r"\S+", sentence.text)]
    joined = " ".join(word[0] for word in words)
    for rule, better in RULES:
        for match in rule.finditer(joined):
            around = joined[max(0, match.start() - 40) : match.end() + 40]
            if not any(allowed in around for allowed in ALLOWED):
                begin = words[joined.count(" ", 0, match.start())].start()
                line = sentence.line + sentence.text.count("\n", 0, begin)
                yield f"{sentence.place}:{line}: {match[0]!r} in {around!r}; better: {better}"


def read_module(path: Path) -> Iterator[Sentence]:
    """A module's docstrings, messages (a value in one is `{}`) and comments."""
    source, place = path.read_text(encoding="utf-8"), "/".join(path.parts[-2:])
    inside: set[int] = set()
    parts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts.update(map(id, node.values))
            text = "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        else:
            continue
        inside.update(range(node.lineno, (node.end_lineno or node.lineno) + 1) if "\n" in text else ())
        if " " in text:
            yield Sentence(place, node.lineno, text)
    block: list[str] = []
    for number, line in enumerate((*source.splitlines(), ""), 1):
        comment = re.match(r"\s*# (.*)", line) if number not in inside else None
        if comment is not None:
            block.append(comment[1])
            continue
        if block:
            yield Sentence(place, number - len(block), "\n".join(block))
            block = []
        if number not in inside and "  # " in line:
            yield Sentence(place, number, line.rpartition("  # ")[2])


def read_page(path: Path) -> Iterator[Sentence]:
    """The paragraphs of a page, its code and quoted output left out: those come from elsewhere."""
    place, fenced, block = path.relative_to(ROOT).as_posix(), False, list[str]()
    for number, line in enumerate((*path.read_text(encoding="utf-8").splitlines(), ""), 1):
        begins = line.lstrip().startswith("```")
        if begins or fenced or not line.strip() or line.startswith(("    ", "|", "- ", "#")):
            if block:
                yield Sentence(place, number - len(block), "\n".join(block))
            block = [] if begins or fenced or line.startswith(("    ", "#")) or not line.strip() else [line]
            fenced ^= begins
        else:
            block.append(line)


def read_help(command: click.Command, path: str = "cnnbench") -> Iterator[Sentence]:
    """What `--help` prints of a command, of its options and of the commands below it."""
    texts = (
        command.help,
        command.short_help,
        command.epilog,
        *(getattr(each, "help", None) for each in command.params),
    )
    yield from (Sentence(f"{path} --help", 1, text) for text in texts if text)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from read_help(below, f"{path} {name}")


@pytest.mark.parametrize("room", sorted(each.name for each in PACKAGE.iterdir() if each.suffix in ("", ".py")))
def test_a_room_is_written_in_plain_words(room: str) -> None:
    path = PACKAGE / room
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert [found for each in modules for text in read_module(each) for found in find_phrases(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_is_written_in_plain_words(page: Path) -> None:
    assert [found for text in read_page(page) for found in find_phrases(text)] == []


def test_the_help_of_every_command_is_written_in_plain_words() -> None:
    assert [found for text in read_help(cli) for found in find_phrases(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Of every coin.",
        "Seconds. Of a rank the launcher's.",
        "made anew",
        "held against float64",
        "hold the new rows\nagainst the old ones",
        "A batch is dealt out to ranks.",
        "a step taken apart",
        "a check that is gone on with",
        "a line a job",
        "logits, one row an image",
        "two system calls a rank",
        "81 FLOPs an image",
        "{} ms a step",
        "{} minutes: {} s a block",
        "{} rounds a block bring it to {}",
        "an index is no count",
        "the recipe cannot be had",
        "what a job comes to",
        "the reason is told",
        "a figure stands beside it",
        "a file lies there",
        "each job's meeting",
    ],
)
def test_a_planted_phrase_is_found(text: str) -> None:
    assert len([*find_phrases(Sentence("here", 1, text))]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "One line per job. The rest of it. Often.",
        "Of course.",
        "a worker starts a process, and a test times a step",
        "a part of a block, as a rank of a job",
        "There is no such file; there are no results, and it is no longer there.",
        "Its value is no larger.",
        "The digests hold; compare them with others.",
        "A page that names a row.",
        "One curve stands out, and the interval lies above 1: these letters stand for units.",
        "how many steps a seed needs; several processes do a job, and two files never share a row",
        "the fixture, or its stand-in",
        "each process is a job",
        "within one second a step ends",
    ],
)
def test_a_plain_sentence_is_left_alone(text: str) -> None:
    assert [*find_phrases(Sentence("here", 1, text))] == []


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ('def f():\n    """One two."""', ["One two."]),
        ('f"a {b} c"', ["a {} c"]),
        ('x = ("a "\n     "b")  # c', ["a b", "c"]),
        ("# one\n# two\nx = 1", ["one\ntwo"]),
        ('x = """a\n# b\n"""', ["a\n# b\n"]),
    ],
)
def test_docstrings_messages_and_comments_are_read(tmp_path: Path, code: str, texts: list[str]) -> None:
    module = tmp_path / "module.py"
    module.write_text(code)
    assert [each.text for each in read_module(module)] == texts
