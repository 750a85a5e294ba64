"""docs/pytest-benchmark.md: its examples run as they stand, and what it says of pytest-benchmark is so."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import builders as b
import pandas as pd
import pytest
from pytest_benchmark.utils import parse_compare_fail

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "pytest-benchmark.md").read_text(encoding="utf-8")
PLUGINS = ["-p", "pytest_benchmark.plugin", "-p", "cnnbench.bridges.pytest_plugin"]
COMMANDS = {
    "pytest": ["-m", "pytest", "-p", "no:cacheprovider", *PLUGINS],
    "cnnbench": ["-m", "cnnbench"],
    "pytest-benchmark": ["-m", "pytest_benchmark"],
}
"""The commands of the page, by modules: whether scripts and entry points are installed is another matter."""


def execute(folder: Path, line: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    name, *arguments = shlex.split(line)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    for outer in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):  # a pytest of its own, whoever runs this one
        environment.pop(outer, None)
    command = [sys.executable, *COMMANDS[name], *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{line}\n{done.stdout}{done.stderr}"
    return done


def test_the_examples_run_and_give_what_they_say(tmp_path):
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    b.write(tmp_path / "results", b.ledger(b.repeats(b.cnn_job(), [0.01, 0.011, 0.012])))
    lines = [line for text in re.findall(r"<!-- run -->\n```\n(.*?)```", PAGE, re.DOTALL) for line in text.splitlines()]
    said = {line: execute(tmp_path, line) for line in lines}
    assert len(lines) == 7
    assert "test_product" in said["cnnbench show product.json"].stdout
    assert "mnist-cnn-v1[" in said["pytest-benchmark compare run.json"].stdout
    product = pd.read_csv(tmp_path / "product.csv")
    assert product.loc[0, "flops_per_second"] == pytest.approx(10 * 2 * 256**3 / product.loc[0, "median_seconds"])
    assert json.loads((tmp_path / "entries.json").read_text())[0]["value"] == pytest.approx(0.011)
    assert len(pd.read_csv(tmp_path / "processes.csv")) == 3


def test_thresholds_are_whole_percents():
    assert parse_compare_fail("median:5%").threshold == 5
    with pytest.raises(Exception, match="Could not parse"):
        parse_compare_fail("median:2.5%")


def test_its_check_passes_over_what_is_faster_or_missing_and_leaves_junit_green(tmp_path):
    """Saved: one benchmark that took 1 s and one that is gone. Now: the first 1000 times slower or faster."""
    (tmp_path / "test_it.py").write_text(
        "import time\ndef test_it(benchmark):\n    benchmark.pedantic(lambda: time.sleep(0.001), rounds=3)\n"
    )
    command = "pytest test_it.py --benchmark-json {} --junitxml junit.xml"
    execute(tmp_path, command.format("now.json"))
    document = json.loads((tmp_path / "now.json").read_text())
    gone = {**document["benchmarks"][0], "fullname": "test_it.py::test_gone", "name": "test_gone"}
    codes = {}
    for name, factor in (("slower", 1e-3), ("faster", 1e3)):
        stats = {key: value for key, value in document["benchmarks"][0]["stats"].items() if key != "data"}
        stats |= {key: stats[key] * factor for key in ("min", "max", "mean", "median")}
        saved = {**document, "benchmarks": [{**document["benchmarks"][0], "stats": stats}, gone]}
        (tmp_path / f"{name}.json").write_text(json.dumps(saved))
        line = (
            f"{command.format('x.json')} --benchmark-compare={tmp_path}/{name}.json --benchmark-compare-fail=median:5%"
        )
        codes[name] = execute(tmp_path, line, check=False).returncode
        junit = (tmp_path / "junit.xml").read_text()
        assert 'failures="0"' in junit
        assert 'errors="0"' in junit
    assert codes["slower"] != 0
    assert codes["faster"] == 0
