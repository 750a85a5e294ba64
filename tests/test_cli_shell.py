"""The command line around its commands: help without imports, one message an error, the exit codes of the one table."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cnnbench import __version__, workloads
from cnnbench.cli import main as shell
from cnnbench.cli.main import COMMANDS, run_cli
from cnnbench.cli.verbosity import verbosity
from cnnbench.errors import DeviceError, ExitCode, LedgerError, SuiteError
from cnnbench.plan.suite import suite_names

FAILURES: dict[str, BaseException] = {
    "suite": SuiteError("x.toml: wrong"),
    "device": DeviceError("no GPU"),
    "ledger": LedgerError("torn"),
    "read-only": OSError(errno.EROFS, "Read-only file system", "results/x"),
    "full": OSError(errno.ENOSPC, "No space left on device", "results/x"),
    "click": click.ClickException("bad"),
    "interrupt": KeyboardInterrupt(),
    "bug": ZeroDivisionError("division by zero"),
}


@click.command()
@click.argument("what")
def fail(what: str) -> None:
    """Raise one of FAILURES."""
    raise FAILURES[what]


@click.command("exit")
@click.argument("code", type=int)
@click.option("--number", type=int, default=1)
@click.pass_context
def leave(context: click.Context, code: int, number: int) -> None:
    """Print what was understood and exit with a code."""
    click.echo(json.dumps([number, verbosity(context)]))
    context.exit(code)


@pytest.fixture(autouse=True)
def _more_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "fail", (f"{__name__}:fail", "Raise."))
    monkeypatch.setitem(COMMANDS, "exit", (f"{__name__}:leave", "Exit."))


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("suite", ExitCode.USAGE, "error: x.toml: wrong"),
        ("device", ExitCode.UNFIT, "error: no GPU"),
        ("ledger", ExitCode.USAGE, "error: torn"),
        ("read-only", ExitCode.USAGE, "error: results/x: Read-only file system; check that"),
        ("full", ExitCode.USAGE, "error: results/x: No space left on device; check that"),
        ("click", ExitCode.USAGE, "error: bad"),
        ("interrupt", ExitCode.INTERRUPTED, "interrupted"),
        (
            "bug",
            ExitCode.INTERNAL_ERROR,
            "error: internal error, ZeroDivisionError: division by zero; run again with -v",
        ),
    ],
)
def test_an_error_is_one_message_on_standard_error_and_its_exit_code(
    what: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["fail", what]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["-v", "fail", "bug"], ["fail", "bug", "-v"], ["fail", "--verbose", "bug"]])
def test_a_bug_shows_its_traceback_with_v_before_or_after_the_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(arguments) == ExitCode.INTERNAL_ERROR
    assert "Traceback" in capsys.readouterr().err


def test_a_second_interrupt_while_the_first_is_answered_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shell.click, "echo", impatient)
    assert run_cli(["fail", "interrupt"]) == ExitCode.INTERRUPTED


def test_an_error_raised_on_purpose_shows_its_traceback_only_with_vv(capsys: pytest.CaptureFixture[str]) -> None:
    run_cli(["-v", "fail", "suite"])
    assert "Traceback" not in capsys.readouterr().err
    run_cli(["-vv", "fail", "suite"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1, 3, 4, 5, 130])
def test_a_commands_own_exit_code_is_passed_on(code: int) -> None:
    assert run_cli(["exit", str(code)]) == code


def test_v_and_q_add_up_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, level in (
        (["exit", "0"], 0),
        (["-v", "exit", "0"], 1),
        (["-v", "exit", "0", "-v"], 2),
        (["-q", "exit", "-q", "0"], -2),
        (["-vv", "exit", "-q", "0"], 1),
    ):
        run_cli(arguments)
        assert json.loads(capsys.readouterr().out) == [1, level]


def test_a_command_is_left_as_its_module_has_it() -> None:
    """-v and -q are added to a copy: the command on its own, as other tests call it, has no root to hold them."""
    before = list(leave.params)
    assert run_cli(["exit", "0", "-v"]) == 0
    assert leave.params == before


def test_a_flag_beats_its_variable_which_beats_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def number(*flags: str) -> int:
        assert run_cli(["exit", "0", *flags]) == 0
        return int(json.loads(capsys.readouterr().out)[0])

    assert number() == 1
    monkeypatch.setenv("CNNBENCH_EXIT_NUMBER", "2")
    assert number() == 2
    assert number("--number", "3") == 3
    monkeypatch.setenv("CNNBENCH_EXIT_NUMBER", "x")
    assert run_cli(["exit", "0"]) == ExitCode.USAGE
    assert capsys.readouterr().err.count("\n") == 2


def test_a_command_nobody_knows_is_answered_with_the_nearest_or_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["valdate"]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("error: no command 'valdate'; did you mean 'validate'?\n")
    assert run_cli(["zzz"]) == ExitCode.USAGE
    assert f"choose from {', '.join(name for name in COMMANDS if ' ' not in name)}\n" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--nosuch"], ["list", "--nosuch"], ["list", "nosuch"], ["validate"], ["merge"]])
def test_wrong_usage_is_an_error_with_the_help_to_read(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("try `cnnbench")


def test_help_and_version_are_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["-h"]) == ExitCode.DONE
    listing = capsys.readouterr().out
    words = " ".join(listing.split())
    assert all(f"{name} {line}" in words for name, (_, line) in COMMANDS.items())
    headings = [line for line in listing.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options:", "Measure:", "Read:", "Regression:", "Learn:", "Many machines:", "Support:"]
    assert run_cli(["--version"]) == ExitCode.DONE
    assert capsys.readouterr().out == f"cnnbench {__version__}\n"
    assert run_cli([]) == ExitCode.USAGE


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_of_the_table_is_there_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([*name.split(), "--help"]) == ExitCode.DONE
    assert f"Usage: cnnbench {name}" in capsys.readouterr().out


def test_the_name_of_a_command_below_wins_over_an_argument_of_the_same_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check replay` is the command, with a suite's file of that name in the folder too; `-v` and `-q` may come before it."""
    monkeypatch.chdir(tmp_path)
    Path("replay").write_text("")
    for before in ([], ["-v"], ["-q", "-vv"]):
        assert run_cli(["check", *before, "replay", "nosuch.json"]) == ExitCode.USAGE
        assert "nosuch.json: cannot be read" in capsys.readouterr().err
    assert run_cli(["check", "run", "run", "--base-set", "threads=1"]) == ExitCode.USAGE
    assert "no suite 'run'" in capsys.readouterr().err


def test_check_run_is_check(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["check", "quick", "--base-set", "x"], ["check", "run", "quick", "--base-set", "x"]):
        assert run_cli(arguments) == ExitCode.USAGE
        assert "--base-set 'x': write key=value" in capsys.readouterr().err


def test_list_names_every_suite_and_workload_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["list"]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert all(name in text for name in (*suite_names(), *workloads.names()))
    assert "1,378,698 parameters, 51,972,732 FLOPs" in text
    assert run_cli(["list", "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in found["suites"]] == list(suite_names())
    assert [entry["name"] for entry in found["workloads"]] == list(workloads.names())
    assert run_cli(["list", "workloads", "--json"]) == ExitCode.DONE
    assert list(json.loads(capsys.readouterr().out)) == ["workloads"]


def test_validate_says_ok_with_the_number_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["validate", *suite_names()]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert "quick: OK, 3 jobs on the CPU, 3 on each GPU, each 3 to 8 times" in lines
    assert len(lines) == len(suite_names())


def test_validate_names_the_mistakes_of_all_suites_and_still_the_good_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('[[job]]\nworkload = "gemm"\nprecision = "fp23"\n')
    assert run_cli(["validate", str(bad), "quick", "nosuch"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out.startswith("quick: OK")
    assert "precision 'fp23' is not one of" in err
    assert "needs size" in err
    assert "no suite 'nosuch'" in err
    assert run_cli(["validate", "--json", str(bad), "quick"]) == ExitCode.USAGE
    first, second = json.loads(capsys.readouterr().out)
    assert (first["ok"], len(first["errors"]), second["ok"], second["cells"]["cpu"]) == (False, 2, True, 3)


def start(*arguments: str, stdout: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cnnbench", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def test_a_reader_that_leaves_is_no_traceback() -> None:
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        assert reader.stdin is not None
        done = start("list", stdout=reader.stdin.fileno())
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_one_error() -> None:
    with open("/dev/full", "w") as full:
        done = start("list", stdout=full.fileno())
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_whose_message_nobody_reads_is_a_broken_pipe_and_no_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 141, as for any output that nobody reads; 1 would say that there is a finding."""

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "results/x")

    def print_to_nobody(*arguments: object, **options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(shell.cli, "invoke", fail)
    monkeypatch.setattr(shell.click, "echo", print_to_nobody)
    monkeypatch.setattr(shell.os, "dup2", lambda *descriptors: None)
    assert run_cli(["schema"]) == ExitCode.BROKEN_PIPE


@pytest.mark.parametrize("group", ["learning", "data", "cluster", "check baseline"])
def test_a_group_without_a_command_prints_its_help_with_verbosity_too(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(group.split()) == ExitCode.USAGE
    said = capsys.readouterr()
    assert f"Usage: cnnbench {group}" in said.err
    for flags in (["-v"], ["-qq"], ["--verbose", "-q"]):
        assert run_cli([*group.split(), *flags]) == ExitCode.USAGE
        assert capsys.readouterr() == said


def test_every_command_takes_verbosity_after_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of groups too: `data fetch -v`, `check baseline list -q`, `cluster status -v`."""

    def check(command: click.Command, context: click.Context) -> int:
        names = [each.name for each in command.params]
        assert names.count("verbose") == names.count("quiet") == 1, context.command_path
        below = command.list_commands(context) if isinstance(command, click.Group) else []
        found = [(name, command.get_command(context, name)) for name in below]  # type: ignore[attr-defined]
        return 1 + sum(check(inner, click.Context(inner, parent=context, info_name=name)) for name, inner in found)

    for name in ("fail", "exit"):
        monkeypatch.delitem(COMMANDS, name)
    assert check(shell.cli, click.Context(shell.cli, info_name="cnnbench")) > len(COMMANDS)


def test_verbosity_of_a_command_in_a_group_adds_to_that_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnbench.cli import support

    seen: list[int] = []
    monkeypatch.setattr(
        support.data.commands["where"], "callback", lambda **given: seen.append(verbosity(click.get_current_context()))
    )
    for words in (["data", "where", "-v"], ["-v", "data", "-v", "where", "-vq"], ["data", "where", "--quiet"]):
        assert run_cli(words) == 0
    assert seen == [1, 2, -1]
