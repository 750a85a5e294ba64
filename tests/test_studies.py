"""The studies' scripts as they are run: against the installed package, an error as one line with its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cnnbench

STUDIES = Path(__file__).parents[1] / "docs" / "studies"
PAGES = {
    "changed_code.py": "changed-code.md",
    "compare_verdicts.py": "compare-verdicts.md",
    "false_alarms.py": "false-alarms.md",
    "loss_curves.py": "loss-curves.md",
    "noninferiority.py": "noninferiority.md",
    "until.py": "until.md",
}


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cnnbench.__file__).parents[1])}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("false_alarms.py", "--from", "x.json"), "x.json: no counts of false_alarms.py"),
        (("false_alarms.py", "--checks", "1"), "--checks"),
        (("changed_code.py", "--from", "x.json"), "give a .json that `changed_code.py -o` wrote"),
        (("until.py", "--runs", "1"), "--runs"),
        (("loss_curves.py", "."), "no mode beside its plain row in ."),
        (("loss_curves.py", "nosuch"), "'nosuch' does not exist"),
        (("noninferiority.py", "--from", "x.json"), "x.json: no counts of noninferiority.py"),
        (("noninferiority.py", "--tests", "1"), "--tests"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_a_mistake_is_one_clear_error_with_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "x.json").write_text("{}")
    script, *rest = arguments
    done = run(tmp_path, STUDIES / script, *rest)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_every_script_has_its_page_which_names_the_command_that_made_it() -> None:
    for script, page in PAGES.items():
        assert f"Made by `python docs/studies/{script} " in (STUDIES / page).read_text(encoding="utf-8")
    runnable = {
        path.name for path in STUDIES.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    assert runnable == set(PAGES)
