#!/usr/bin/env python3
"""Measure the figures of the pages in docs/ that are not of ledgers, and store them as pytest-benchmark's JSON.

    python tools/benchmarks.py                # all of them, about nine minutes on two cores that do nothing else
    python tools/benchmarks.py tuned          # or one: tuned, surroundings, harness
    python tools/write_docs.py                # then the pages

Each is stored in results/<machine>/benchmarks/<name>.json, in place of an older one, without what names the host or its user.
A bar that is missed is reported, exit 1, and the file is stored all the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cnnbench.files import save_file  # noqa: E402

BENCHMARKS = {
    "tuned": ["suites/bench_tuned.py"],
    "surroundings": ["suites/bench_surroundings.py"],
    "harness": ["suites/bench_harness.py", "-k", "worker_path"],
}
"""Words for pytest, by name."""
_OF_A_BENCHMARK = ("group", "name", "fullname", "params", "extra_info", "stats")
_MISSED_A_BAR = 1
"""pytest's exit code for tests that failed: the figures are there."""


def measure(name: str, results: Path) -> int:
    """Run one benchmark file and store what it measured. Returns pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "benchmark.json"
        options = ["--benchmark-only", "--cnnbench-facts", f"--benchmark-json={written}"]
        command = [sys.executable, "-m", "pytest", "-q", *BENCHMARKS[name], *options]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code not in (0, _MISSED_A_BAR):
            return code
        document = strip(json.loads(written.read_text(encoding="utf-8")))
    path = results / document["machine_info"]["cnnbench"]["machine_id"] / "benchmarks" / f"{name}.json"
    save_file(path, json.dumps(document, indent=1) + "\n", make_folder=True)
    print(path)
    return code


def strip(document: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what the figures need and what a ledger publishes of a machine: no host's name, project or branch."""
    machine, commit = document["machine_info"], document["commit_info"]
    return {
        "machine_info": {name: machine[name] for name in ("python_version", "cnnbench")},
        "commit_info": {name: commit.get(name) for name in ("id", "dirty")},
        "benchmarks": [{name: each[name] for name in _OF_A_BENCHMARK} for each in document["benchmarks"]],
        "datetime": document["datetime"],
        "version": document["version"],
    }


def main() -> int:
    """Measure what was asked for; return 0, or the first exit code of pytest that is another."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if not set(names) <= BENCHMARKS.keys():
        print(__doc__)
        return 0 if names == ["--help"] else 2
    codes = [measure(name, ROOT / "results") for name in names]
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
