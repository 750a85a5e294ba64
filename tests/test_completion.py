"""What the shell offers at the cursor: the real bash, and what zsh's and fish's scripts ask and read."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import builders as b
import pytest

import cnnbench
from cnnbench.cli.completion import COMPLETE_VARIABLE
from cnnbench.cli.main import COMMANDS, run_cli
from cnnbench.errors import ExitCode
from cnnbench.plan.suite import suite_names

HEAVY = {"torch", "pandas", "numpy", "scipy", "rich", "psutil"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with results of two machines, published rows, a suite, a folder of suites and a folder without."""
    monkeypatch.chdir(tmp_path)
    for run_id, machine_id in (("20260101-r1", "box-1"), ("20260202-r2", "box-1"), ("20260303-r3", "other")):
        b.write(tmp_path / "results", b.ledger([], run_id=run_id, machine=b.machine(machine_id)))
    (tmp_path / "results" / "reference").mkdir()
    (tmp_path / "results" / "reference" / "lecture.jsonl").write_text("")
    (tmp_path / "results" / "box-1" / "broken.jsonl").write_text("no ledger: only the name counts")
    (tmp_path / "mine").mkdir()
    for name in ("my.toml", ".hidden.toml", "mine/a.toml", "mine/b.toml", "mine/notes.txt"):
        Path(name).write_text("")
    (tmp_path / "zoo").mkdir()


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """One where `cnnbench` is the code under test."""
    script = tmp_path / "bin" / "cnnbench"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cnnbench "$@"\n')
    script.chmod(0o755)
    root = str(Path(cnnbench.__file__).parents[1])
    return {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}", "PYTHONPATH": root, **more}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["cnnbench", "val"], ["validate"]),
        (["cnnbench", "run", ""], [*suite_names(), "my.toml"]),
        (["cnnbench", "run", "quick", "mine/"], ["mine/a.toml", "mine/b.toml"]),
        (["cnnbench", "validate", "lec"], ["lecture", "lecture-notebook", "lecture-stopping", "lecture-tuned"]),
        (["cnnbench", "run", "--dry"], ["--dry-run"]),
        (["cnnbench", "show", "--format", ""], ["table", "markdown", "latex", "csv", "json"]),
        (["cnnbench", "show", "--machine", ""], ["box-1", "other"]),
        (["cnnbench", "show", "--machine", "other", "--run", ""], ["20260303-r3"]),
        (["cnnbench", "completion", ""], ["bash", "zsh", "fish"]),
        (["cnnbench", "explain", "mnist"], ["mnist-cnn", "mnist-cnn-2048"]),
        (["cnnbench", "explain", "--compare", "mlp-1", "vg"], ["vgg16"]),
        (["cnnbench", "nosuch", "x"], []),
        (["cnnbench", "check", ""], ["calibrate", "replay", "baseline", *suite_names(), "my.toml"]),
        (["cnnbench", "check", "re"], ["replay", "regression"]),
        (["cnnbench", "check", "--base", "main", "re"], ["regression"]),
        (["cnnbench", "check", "calibrate", "re"], ["regression"]),
        (["cnnbench", "check", "replay", "--git"], ["--github"]),
        (["cnnbench", "check", "baseline", ""], ["judge", "list", "remove", "save", "show"]),
        (["cnnbench", "learning", "c"], ["convergence"]),
        (["cnnbench", "explain", "output-size", "--sa"], ["--same"]),
        (["cnnbench", "explain", "o"], ["output-size"]),
        (["cnnbench", "show", "--results", "results", "--machine", ""], ["box-1", "other"]),
    ],
    ids=" ".join,
)
def test_in_the_real_bash(tmp_path: Path, words: list[str], offered: list[str]) -> None:
    """Its script is read, its function called as bash calls it, and the words taken from where bash takes them."""
    script = (
        'source <(cnnbench completion bash) && complete -p cnnbench && COMP_WORDS=("$@") && COMP_CWORD=$(($# - 1)) &&'
        '_cnnbench_completion cnnbench && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "-c", script, "bash", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), check=False)
    assert (done.returncode, done.stderr) == (0, "")
    registered, *found = done.stdout.splitlines()
    assert registered == "complete -o nosort -F _cnnbench_completion cnnbench"
    assert [each for each in found if each] == offered


def ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shell: str, line: str, current: str
) -> list[str]:
    """The lines of the answer; zsh gives the number of the word at the cursor, fish the word itself."""
    monkeypatch.setenv(COMPLETE_VARIABLE, f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", current)
    assert run_cli([]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert err == ""
    return [each for each in out.splitlines() if each]  # a line feed alone where there is nothing to offer


def test_as_zsh_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines a word: how it is completed, the word, and its description or `_`."""
    found = ask(capsys, monkeypatch, "zsh", "cnnbench sho", "1")
    assert found == ["plain", "show", COMMANDS["show"][1]]
    found = ask(capsys, monkeypatch, "zsh", "cnnbench run quick mine/", "3")
    assert found == ["plain", "mine/a.toml", "_", "plain", "mine/b.toml", "_"]
    found = ask(capsys, monkeypatch, "zsh", "cnnbench show --ru", "2")
    assert found == ["plain", "--run", "Only this run (its id or the id's beginning)."]
    found = ask(capsys, monkeypatch, "zsh", "cnnbench show --run=202602", "2")
    assert found == ["plain", "20260202-r2", "_"]


def test_as_fish_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a word: how it is completed, a comma, the word, and a tab before its description."""
    found = ask(capsys, monkeypatch, "fish", "cnnbench sho", "sho")
    assert found == [f"plain,show\t{COMMANDS['show'][1]}"]
    assert ask(capsys, monkeypatch, "fish", "cnnbench run q", "q") == ["plain,quick"]
    assert ask(capsys, monkeypatch, "fish", "cnnbench show --machine ", "") == ["plain,box-1", "plain,other"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_for_what_the_command_answers(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["completion", shell]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert f"{COMPLETE_VARIABLE}={shell}_complete" in out
    assert err == ""


def test_every_command_is_offered(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(capsys, monkeypatch, "bash", "cnnbench ", "1") == [
        f"plain,{name}" for name in COMMANDS if " " not in name
    ]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("qu", ["plain,quick"]),
        ("./m", ["plain,./my.toml"]),
        (".h", ["plain,.hidden.toml"]),
        ("mine/b", ["plain,mine/b.toml"]),
        ("~/qu", ["plain,~/quiet.toml"]),
        ("zo", ["dir,zo"]),
        ("nosuch/", ["dir,nosuch/"]),
        ("~nobody-at-all/", ["dir,~nobody-at-all/"]),
    ],
)
def test_suites_are_names_and_toml_files_and_else_the_way_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str, offered: list[str]
) -> None:
    (tmp_path / "zoo" / "quiet.toml").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "zoo"))
    assert ask(capsys, monkeypatch, "bash", f"cnnbench run {typed}", "2") == offered


def test_machines_and_runs_are_those_of_the_paths_named_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else of CNNBENCH_RESULTS, else of ./results; by names alone, for one of them is no ledger."""

    def runs(before: str) -> list[str]:
        line = f"cnnbench show {before} --run "
        return ask(capsys, monkeypatch, "bash", line, str(len(line.split())))

    assert runs("") == ["plain,20260101-r1", "plain,20260202-r2", "plain,20260303-r3", "plain,broken"]
    assert runs("results/other") == ["plain,20260303-r3"]
    assert ask(capsys, monkeypatch, "zsh", "cnnbench show results/other --run=", "3") == ["plain", "20260303-r3", "_"]
    assert runs("results/box-1/20260202-r2.jsonl results/other") == ["plain,20260202-r2", "plain,20260303-r3"]
    assert runs("nosuch") == []
    monkeypatch.chdir(tmp_path / "results" / "other")
    assert runs(".") == ["plain,20260303-r3"]
    assert runs("") == []
    monkeypatch.setenv("CNNBENCH_RESULTS", str(tmp_path / "results" / "box-1"))
    assert runs("--machine box") == ["plain,20260101-r1", "plain,20260202-r2", "plain,broken"]


@pytest.mark.parametrize("shell", ["powershell", "csh", ""])
def test_a_shell_nobody_knows_is_wrong_usage(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["completion", shell]) == ExitCode.USAGE
    assert "is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "request_", ["1", "bash", "bash_nosuch", "csh_complete", "powershell_complete", "zsh_complete"]
)
def test_a_request_no_script_makes_is_one_error(
    request_: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(COMPLETE_VARIABLE, request_)
    assert run_cli(["list"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {COMPLETE_VARIABLE}={request_}")


@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ("cnnbench ", HEAVY | {"pydantic"}),
        ("cnnbench run --", HEAVY | {"pydantic"}),
        ("cnnbench run ", HEAVY),
        ("cnnbench validate ", HEAVY),
        ("cnnbench show --machine ", HEAVY | {"pydantic"}),
        ("cnnbench show --run ", HEAVY | {"pydantic"}),
        ("cnnbench explain ", HEAVY),
    ],
)
def test_completing_loads_nothing_heavy(tmp_path: Path, line: str, absent: set[str]) -> None:
    code = (
        "import json, sys; from cnnbench.cli.main import run_cli; assert run_cli([]) == 0;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    place = str(len(line.split()) - (not line.endswith(" ")))
    asked = environment(tmp_path, **{COMPLETE_VARIABLE: "bash_complete", "COMP_WORDS": line, "COMP_CWORD": place})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=asked, check=True)
    assert done.stdout.strip()
    assert set(json.loads(done.stderr.splitlines()[-1])) & absent == set()
