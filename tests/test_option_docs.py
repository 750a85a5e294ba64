"""Options in the pages and in the workflows: each is one of its command's, and all of `check` are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from cnnbench.cli.check import check
from cnnbench.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "regression-check.md"
WORKFLOWS = (ROOT / "docs" / "github-actions.yml", ROOT / ".github" / "workflows" / "perf.yml")
SOURCES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WORKFLOWS)
WITHOUT_OPTIONS = ("commands", "glossary", "install", "own-workload", "stability", "timing", "tuned-cuda")
"""Pages whose command lines have no options."""
INVOCATION = re.compile(r"\bcnnbench ([a-z]+)((?:(?! &&| \||; )[^`#\n])*)")
FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


class Invocation(NamedTuple):
    """A command line of cnnbench found in a text: the names of its commands, and its options."""

    path: tuple[str, ...]
    flags: tuple[str, ...]


def invocations(path: Path) -> Iterator[Invocation]:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, rest in INVOCATION.findall(text):
        if name in COMMANDS:
            names = [name]
            for word in rest.split():
                group = command_of(tuple(names))
                if not isinstance(group, click.Group) or word not in group.list_commands(click.Context(group)):
                    break
                names.append(word)
            yield Invocation(tuple(names), tuple(FLAG.findall(rest)))


def command_of(path: tuple[str, ...]) -> click.Command:
    """The real command, as the program finds it."""
    found: click.Command = cli
    for name in path:
        assert isinstance(found, click.Group)
        found = command_of_group(found, name)
    return found


def flags_of(command: click.Command) -> set[str]:
    """Every spelling of every option of the command itself."""
    return {
        flag for each in command.params if isinstance(each, click.Option) for flag in (*each.opts, *each.secondary_opts)
    }


def flags_of_all(command: click.Command) -> set[str]:
    """The options of the command and of those below it, for prose that does not say whose an option is."""
    inner = () if not isinstance(command, click.Group) else command.list_commands(click.Context(command))
    return flags_of(command).union(*(flags_of_all(command_of_group(command, name)) for name in inner))


def wrong_options(path: Path) -> list[tuple[tuple[str, ...], str]]:
    """The options in a text's command lines that their commands do not take."""
    found = invocations(path)
    return [(each.path, flag) for each in found for flag in each.flags if flag not in flags_of(command_of(each.path))]


def command_of_group(group: click.Group, name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None, f"no command {name}"
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_command_line_has_options_that_its_command_takes(path: Path) -> None:
    assert path.stem in WITHOUT_OPTIONS or any(each.flags for each in invocations(path))
    assert wrong_options(path) == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("cnnbench check regression --blocks 40 --inject 5", [(("check",), "--blocks"), (("check",), "--inject")]),
        ("`cnnbench explain vgg16 --stride 2`", [(("explain",), "--stride")]),
        ("cnnbench check baseline --replace", [(("check", "baseline"), "--replace")]),
        ("cnnbench check calibrate regression --blocks 40; cnnbench show --all && cnnbench run quick | tee -a x", []),
    ],
)
def test_an_option_of_a_command_below_or_beside_is_not_the_commands_own(
    tmp_path: Path, line: str, wrong: list[tuple[tuple[str, ...], str]]
) -> None:
    path = tmp_path / "x.md"
    path.write_text(f"{line}\n")
    assert wrong_options(path) == wrong


def test_the_commands_of_baselines_in_the_pages_are_those_there_are() -> None:
    """A page names them after `check baseline`; the section about baselines names each."""
    group = command_of(("check", "baseline"))
    assert isinstance(group, click.Group)
    commands = set(group.list_commands(click.Context(group)))
    assert commands == {"save", "list", "show", "remove", "judge"}
    for path in SOURCES:
        named = re.findall(r"check baseline ([a-z]+)", path.read_text(encoding="utf-8"))
        assert set(named) <= commands, path.name
    section = next(
        part for part in PAGE.read_text(encoding="utf-8").split("\n## ") if "check baseline save main" in part
    )
    spans = [*re.findall(r"`([a-z]+)[^`\n]*`", section), *re.findall(r"check baseline ([a-z]+)", section)]
    assert commands <= set(spans)
    assert not {"rm", "delete", "ls"} & set(spans)


def test_a_wrong_option_would_be_found(tmp_path: Path) -> None:
    """Continued lines, options of a group's command and short ones are seen; code of other programs is not."""
    path = tmp_path / "x.md"
    path.write_text(
        "`cnnbench check regression --basis x \\\n  -o y` pip --no\n\n    cnnbench check baseline judge main --no-chekc # --x\n"
    )
    assert list(invocations(path)) == [
        Invocation(("check",), ("--basis", "-o")),
        Invocation(("check", "baseline", "judge"), ("--no-chekc",)),
    ]
    assert "--basis" not in flags_of(command_of(("check",)))
    assert "--no-chekc" not in flags_of(command_of(("check", "baseline", "judge")))


def test_every_option_that_the_page_names_is_one_of_the_commands_it_is_about() -> None:
    about = ("check", "history")
    known = set().union(*(flags_of_all(command_of((name,))) for name in about))
    spans = re.findall(r"`([^`\n]+)`", PAGE.read_text(encoding="utf-8"))
    named = {flag for span in spans for flag in FLAG.findall(span)}
    assert {"--resume", "--tolerance", "--plot", "--no-check", "-k"} <= named
    assert sorted(named - known) == []


def test_the_table_has_every_option_of_check_and_no_other() -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition("\n## Options\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {flag for row in rows for flag in FLAG.findall(row)}
    assert named == flags_of_all(check)


def test_the_page_about_profiles_has_every_option_that_shapes_one_and_none_that_is_not_there() -> None:
    page = (ROOT / "docs" / "profile.md").read_text(encoding="utf-8")
    named = {flag for span in re.findall(r"`([^`\n]+)`", page) for flag in FLAG.findall(span)}
    assert {"--set", "--steps", "--warmup", "--top", "--trace", "--device"} <= named
    assert sorted(named - flags_of(command_of(("profile",))) - {"--base-set"}) == []
