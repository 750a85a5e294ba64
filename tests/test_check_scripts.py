"""The two scripts that check everything: they say what they do, and start nothing for a word they do not know."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = pytest.mark.parametrize("script", [".ci/run", "tools/check"])


def run(script: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script that finds no other program than the shell and `cat`, so that nothing could be started."""
    for name in ("bash", "cat"):
        (folder / name).symlink_to(str(shutil.which(name)))
    copy = folder / "clone" / script
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / script, copy)
    found = {"PATH": str(folder)}
    return subprocess.run(
        [folder / "bash", copy, *words], capture_output=True, text=True, env=found, timeout=60, check=False
    )


@SCRIPTS
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_says_what_is_checked(script: str, word: str, tmp_path: Path) -> None:
    done = run(script, tmp_path, word)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {script} [--help]\n")
    for each in ("lint", "types", "README's", "slow tests", "published pages"):
        assert each in done.stdout


@SCRIPTS
@pytest.mark.parametrize("words", [["--fast"], ["test"], ["--all", "-x"], [""]])
def test_an_unknown_word_is_refused_in_one_line(script: str, words: list[str], tmp_path: Path) -> None:
    done = run(script, tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {script} takes no words but --help, not: {' '.join(words)}\n"


@SCRIPTS
def test_it_can_be_started_and_is_a_program_that_bash_can_read(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", ROOT / script], check=False).returncode == 0
