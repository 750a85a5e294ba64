"""The tests' own net: what a run leaves out, and a test that leaves a process behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import left_out
import pytest

TESTS = Path(__file__).parent
SUITE = """
import subprocess, sys, time
import pytest

NAP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_quick(): pass


@pytest.mark.slow("trainings")
def test_long(): pass


@pytest.mark.slow("Slurm")
@pytest.mark.parametrize("n", [1, 2])
def test_longer(n): pass
"""
LEAVING = """
import os, subprocess, sys
import pytest


@pytest.fixture(scope="module")
def kept():
    process = subprocess.Popen(["sleep", "60"])
    yield
    process.kill()
    process.wait()


def test_keeps_one_of_a_wider_scope(kept): pass


def test_waits():
    subprocess.run(["true"], check=True)


def test_leaves_one_that_lives():
    test_leaves_one_that_lives.process = subprocess.Popen(["sleep", "60"])


def test_is_not_blamed_for_it():
    test_leaves_one_that_lives.process.kill()
    test_leaves_one_that_lives.process.wait()


def test_leaves_a_zombie():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
"""


INTERRUPTED = """
import os, signal, subprocess, sys, time
import pytest


def test_this_process_hears_it():
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_what_it_starts_hears_it():
    code = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGINT
"""


def run(folder: Path, text: str, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a file of tests, in a tree that has this one's hooks."""
    (folder / "tests").mkdir(exist_ok=True)
    for name in ("conftest.py", "left_out.py", "processes.py"):
        shutil.copy(TESTS / name, folder / "tests")
    (folder / "tests" / "test_it.py").write_text(text)
    markers = "markers =\n  slow(kind): why\n  gpu: why\n"
    (folder / "pytest.ini").write_text(f"[pytest]\ntestpaths = tests\naddopts = --strict-markers\n{markers}")
    command = [*before, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", *words]
    found = {**os.environ, "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=found, timeout=300, check=False)


@pytest.mark.parametrize("spread", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_slow_tests_are_left_out_and_said_to_be_with_the_word_that_runs_them(
    tmp_path: Path, spread: tuple[str, ...]
) -> None:
    done = run(tmp_path, SUITE, *spread)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "left out: 3 slow tests of 4 (75.0%: 2 Slurm, 1 trainings); --all runs them too" in done.stdout


@pytest.mark.parametrize(
    ("words", "passed"),
    [(("--all",), 4), (("-m", "slow"), 3), (("-m", "not gpu"), 4), (("tests/test_it.py",), 4), (("-k", "long"), 0)],
)
def test_they_run_with_all_with_a_mark_and_where_a_file_is_named(
    tmp_path: Path, words: tuple[str, ...], passed: int
) -> None:
    done = run(tmp_path, SUITE, *words)
    assert done.stdout.count(" PASSED") == passed
    assert ("left out" in done.stdout) == (words[0] == "-k")


def test_a_slow_test_says_what_makes_it_slow(tmp_path: Path) -> None:
    done = run(tmp_path, SUITE.replace('slow("Slurm")', "slow"))
    assert done.returncode == 4
    assert "say what makes it slow" in done.stderr


def test_a_test_that_leaves_a_process_fails_and_no_other(tmp_path: Path) -> None:
    """Living or ended and not waited for; one that a fixture of the module keeps is the fixture's."""
    done = run(tmp_path, LEAVING)
    errors = {line.split("::")[1].split()[0] for line in done.stdout.splitlines() if " ERROR" in line and "::" in line}
    assert errors == {"test_leaves_one_that_lives", "test_leaves_a_zombie"}, done.stdout
    assert re.search(r"\((?!zombie)\w[\w-]*\) sleep 60", done.stdout)  # just started, it may be running still
    assert "(zombie)" in done.stdout


@pytest.mark.parametrize("spread", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_a_run_in_the_background_of_a_script_hears_ctrl_c(tmp_path: Path, spread: tuple[str, ...]) -> None:
    """A shell without job control starts such a process with the signal ignored."""
    done = run(tmp_path, INTERRUPTED, *spread, before=("bash", "-c", "trap '' INT; exec \"$@\"", "bash"))
    assert "2 passed" in done.stdout, done.stdout


def test_a_run_of_the_whole_tree_leaves_out_at_most_one_test_in_twenty(request: pytest.FixtureRequest) -> None:
    config = request.config
    if config.option.keyword or config.option.markexpr or [Path(word).name for word in config.args] != ["tests"]:
        pytest.skip("only part of the tests was collected")
    counted = config.stash[left_out.COUNTED]
    assert sum(counted.slow.values()) <= counted.found / 20
