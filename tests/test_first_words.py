"""What users of other tools type first, and what stood here before: it works, or the answer names what to type."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from cnnbench.cli.foreign_words import ANSWERS
from cnnbench.cli.main import COMMANDS, cli, run_cli
from cnnbench.errors import ExitCode, SuiteError, WorkloadError
from cnnbench.plan.suite import load_suite
from cnnbench.schema import NAMES_BELOW_COMMANDS
from cnnbench.workloads import find

FIRST_LINES = {
    # hyperfine
    "--runs 10 'python train.py'": "`--repeats N` of `cnnbench run`",
    "run --warmup 3 -L batch_size 32,64 --export-markdown t.md --dry-run -d cpu": None,
    "run --parameter-list batch_size 32,64": "`-L KEY V1,V2`",
    # pyperf
    "compare_to a.json b.json --table": "`cnnbench compare BASE NEW`",
    "run --rigorous -o bench.json": "`cnnbench run standard`",
    "run -o bench.json": "--export-json bench.json writes the table",
    # pytest-benchmark
    "compare a.json b.json": "`cnnbench show a.json b.json` prints",
    "show a.json": None,
    "run --benchmark-compare-fail=mean:5%": "`cnnbench check --base REF --tolerance 5%`",
    # asv
    "continuous main HEAD": "`cnnbench check --base REF --head REF`",
    "publish": "`cnnbench report -o DIR`",
    # milabench
    "install --config mine.yaml": "`cnnbench data fetch`",
    "run --select mnist": "`-k FILTER`",
    # Phoronix Test Suite
    "benchmark mnist-cnn": "`cnnbench run SUITE`",
    "list-available-suites": "`cnnbench list suites`",
    "run mnist-cnn": "these suites have: batch, ",
    # names of ours where a command is expected
    "quick": "`cnnbench run quick`",
    "mnist-cnn": "`cnnbench explain mnist-cnn`",
}
"""What is typed after `cnnbench`, and the part of the answer that says what to type; None where it works as it is."""
THEIRS = {
    "version": "5.3",
    "datetime": "2026-01-01",
    "machine_info": {},
    "benchmarks": [
        {
            "name": "test_x",
            "fullname": "x.py::test_x",
            "stats": {
                **dict.fromkeys(("min", "max", "mean", "median", "q1", "q3"), 0.5),
                **{"stddev": 0.0, "iqr": 0.0, "rounds": 3, "iterations": 1},
            },
        }
    ],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json"):
        Path(name).write_text(json.dumps(THEIRS | {"datetime": name}))


@pytest.mark.parametrize("line", FIRST_LINES)
def test_a_first_line_of_another_tool_works_or_is_answered_with_the_right_one(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = run_cli(shlex.split(line)), FIRST_LINES[line]
    out, err = capsys.readouterr()
    if answer is None:
        assert (code, bool(out)) == (ExitCode.DONE, True)
    else:
        assert (code, out) == (ExitCode.USAGE, "")
        assert answer in err
        assert len(err.splitlines()) <= 2


def test_of_five_other_tools_and_pytest_s_plugin_there_are_words() -> None:
    tools = {each.tool for each in ANSWERS.values()}
    assert len(ANSWERS) >= 30
    assert all(
        any(name in tool for tool in tools)
        for name in ("hyperfine", "pyperf", "pytest-benchmark", "asv", "milabench", "Phoronix")
    )


@pytest.mark.parametrize("word", ANSWERS)
def test_each_word_is_an_error_that_says_what_to_type(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option is tried with `run`, or with the command that the table names."""
    *command, last = word.split()
    option = last.startswith("-")
    assert run_cli([*(command or ["run"] * option), last]) == ExitCode.USAGE
    assert f"here it is {ANSWERS[word].meant}" in capsys.readouterr().err


def commands_in(text: str) -> list[list[str]]:
    return [shlex.split(each) for each in re.findall(r"`cnnbench ([^`]+)`", text)]


@pytest.mark.parametrize("word", ANSWERS)
def test_each_answer_names_commands_and_options_there_are(word: str) -> None:
    meant = ANSWERS[word].meant
    named = commands_in(meant)
    options = re.findall(r"`(-[^` ]+)", meant)
    for words in named:
        command = find_command(words)
        own = {flag for each in command.params for flag in each.opts}
        unknown = [each for each in words if each.startswith("-") and each not in own]
        assert unknown == [], words
    everywhere = {flag for name in COMMANDS for each in find_command(name.split()).params for flag in each.opts}
    everywhere |= {flag for each in find_command(["cluster", "status"]).params for flag in each.opts}
    assert set(options) <= everywhere


def find_command(words: list[str]) -> click.Command:
    """The command that the words begin with."""
    found: click.Command = cli
    for word in words:
        inner = found.get_command(click.Context(found), word) if isinstance(found, click.Group) else None
        if inner is None:
            break
        found = inner
    assert found is not cli, words
    return found


def test_no_word_of_the_table_is_a_command_or_an_option_there_is() -> None:
    for word in ANSWERS:
        *command, last = word.split()
        if last.startswith("-"):
            places = [command] if command else [["run"]]
            assert all(last not in each.opts for place in places for each in find_command(place).params), word
        else:
            assert word not in COMMANDS


def test_an_option_of_run_before_the_command_is_sent_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["--warmup", "3", "quick"]) == ExitCode.USAGE
    assert "write it after one: `cnnbench run --warmup ...`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("x.json", "--export-json x.json"),
        ("x.csv", "--export-csv x.csv"),
        ("x.md", "--export-markdown x.md"),
        ("x.tex", "--export-latex x.tex"),
        ("x.html", "`cnnbench report -o x.html`"),
        ("results2", "--results results2"),
        (".json", "--results .json"),
    ],
)
def test_run_has_no_output_and_names_the_option_that_was_meant(
    value: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["run", "-o", value]) == ExitCode.USAGE
    assert meant in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["a.json", "b.json"]


def test_run_without_a_suite_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for suites in ([], ["quick"]):
        assert run_cli(["run", *suites, "--dry-run", "--seed", "1", "--device", "cpu", "--json"]) == 0
        plans.append(capsys.readouterr().out)
    assert plans[0] == plans[1]


def test_check_without_a_suite_is_the_regression_suite(capsys: pytest.CaptureFixture[str]) -> None:
    """The suite's name is in the message of a filter that matches none of its jobs."""
    said = []
    for suite in ([], ["regression"]):
        assert run_cli(["check", *suite, "--base-set", "threads=1", "-k", "nothing-like-it"]) == ExitCode.USAGE
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert "-k matches none" in said[0]


def test_the_names_that_no_suite_and_no_workload_may_have_are_those_of_commands_below_others(tmp_path: Path) -> None:
    """`find` is kept for a command to come, `run` is `check` itself."""
    mine = (Path(__file__).parents[1] / "examples" / "own_workload" / "my_net.py").read_text(encoding="utf-8")
    below = {name.split()[1] for name in COMMANDS if name.split()[0] in ("check", "explain") and " " in name}
    assert below | {"run", "find"} == set(NAMES_BELOW_COMMANDS)
    for name in NAMES_BELOW_COMMANDS:
        path = tmp_path / f"{name}.toml"
        path.write_text('[[job]]\nworkload = "mnist-cnn"\n')
        with pytest.raises(SuiteError) as refused:
            load_suite(path)
        assert str(refused.value) == f"{path}: name {name!r} is kept for a command; choose another with `name = ...`"
        path.write_text('repeats = 0\n[[job]]\nworkload = "mnist-cnn"\nbatch_size = 0\n')
        with pytest.raises(SuiteError) as refused:
            load_suite(path)
        begins = ("repeats 0 ", f"name {name!r} is kept for a command; ", "[[job]] 1: batch_size 0 ")
        lines = str(refused.value).splitlines()
        assert len(lines) == len(begins)
        assert all(line.startswith(f"{path}: {begin}") for line, begin in zip(lines, begins, strict=True))
        path.write_text('name = "mine"\n[[job]]\nworkload = "mnist-cnn"\n')
        assert load_suite(path).name == "mine"
        net = tmp_path / "net.py"
        net.write_text(mine.replace('"my-net"', f'"{name}"'))
        with pytest.raises(WorkloadError) as unfit:
            find(str(net))
        assert str(unfit.value) == f"{net}: WORKLOAD: name {name!r} is kept for a command; choose another"


def test_show_takes_its_tree_by_the_option_that_run_stores_it_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["show", "--results", "nosuch"]) == ExitCode.USAGE
    assert "nosuch" in capsys.readouterr().err
    assert run_cli(["show", "here", "--results", "there"]) == ExitCode.USAGE
    assert "--results there and PATHS say the same" in capsys.readouterr().err
