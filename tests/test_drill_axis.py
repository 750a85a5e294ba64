"""The drill of a new axis: one line in the schema, and suites, names, ladder and files have it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cnnbench

PACKAGE = Path(cnnbench.__file__).parent
NEW_AXIS = """
    sparsity: Annotated[Literal["dense", "2:4"], Axis("compute", "networks", "{0.sparsity} sparse", since=5)] = "dense"
"""
ASK = """
import json, sys
from pathlib import Path
import builders as b
from cnnbench import naming
from cnnbench.analysis import process_table, ratio, speedup
from cnnbench.errors import SuiteError
from cnnbench.plan.matrix import make_plan
from cnnbench.plan.suite import load_suite
from cnnbench.bridges import exports
from cnnbench.report.render import text

folder = Path(sys.argv[1])


def load(job):
    path = folder / "suite.toml"
    path.write_text(f"[[job]]\\n{job}\\n")
    return load_suite(path)


def refusal(job):
    try:
        load(job)
    except SuiteError as error:
        return str(error)


machine = b.machine()
suite = load('workload = "mnist-cnn"\\nsparsity = ["2:4", "dense"]\\nthreads = 1')
sparse, dense = sorted(
    make_plan([suite], machine, machine.devices[:1], data_kind="synthetic", seed=0, repeats=1),
    key=lambda job: job.sparsity,
)
records = [*b.repeats(sparse, [0.04] * 3), *b.repeats(dense, [0.08] * 3, start=3)]
processes, _ = process_table.read_processes([b.ledger(records)])
rows = speedup.compute_speedups(processes).rows
(ladder,) = ratio.find_ladders(rows)
print(json.dumps({
    "refused": [refusal('workload = "mnist-cnn"\\nsparsity = "4:8"'), refusal('workload = "gemm"\\nsize = 4\\nsparsity = "2:4"')],
    "names": {
        "label": naming.job_label(sparse), "short": naming.short_name(sparse), "title": naming.work_label(sparse),
        "whole": naming.full_label(sparse), "step": naming.step_label(sparse), "variant": naming.variant_label(sparse),
        "chart": ", ".join(naming.chart_words(sparse)), "file": naming.name_run_folder(sparse, [sparse, dense]),
        "plan": naming.name_plan([sparse, dense])(sparse),
    },
    "plain": [naming.deviations(dense), naming.job_label(dense), "sparsity" in dense.row_key],
    "filter": "sparsity=2:4" in naming.describe_job(sparse),
    "export": naming.export_name(sparse, 1),
    "shared": naming.ladder_label(sparse) == naming.ladder_label(dense),
    "ladder": [rung.job.sparsity for rung in ladder],
    "speedup": ladder[1].values["speed_over_first_rung"].value,
    "csv": exports.tidy_csv(processes).splitlines(),
}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a package with the new field says, asked in a process of its own."""
    folder = tmp_path_factory.mktemp("drill")
    shutil.copytree(PACKAGE, folder / "cnnbench", ignore=shutil.ignore_patterns("__pycache__"))
    schema = folder / "cnnbench" / "schema" / "job.py"
    before, layout, after = schema.read_text(encoding="utf-8").partition("    task: Annotated")
    schema.write_text(before + NEW_AXIS + layout + after, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(Path(__file__).parent)))}
    asked = [sys.executable, "-c", ASK, str(folder)]
    done = subprocess.run(asked, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_suite_takes_it_and_refuses_what_it_cannot_be(told: dict[str, Any]) -> None:
    unknown, misplaced = told["refused"]
    assert "sparsity '4:8' is not one of dense, 2:4" in unknown
    assert "sparsity '2:4': gemm takes no sparsity" in misplaced


def test_every_name_has_it_and_the_plain_value_goes_without_saying(told: dict[str, Any]) -> None:
    file = told["names"].pop("file")
    assert all("2:4 sparse" in name for name in told["names"].values()), told["names"]
    assert "2-4-sparse" in file
    assert told["plain"] == [[], "mnist-cnn b128 fp32 on cpu", False]


def test_filters_and_exports_have_it(told: dict[str, Any]) -> None:
    assert told["filter"]
    assert "sparsity=2:4" in told["export"]


def test_it_is_a_rung_of_the_ladder_in_the_order_of_its_values(told: dict[str, Any]) -> None:
    assert told["shared"]
    assert told["ladder"] == ["dense", "2:4"]
    assert told["speedup"] == pytest.approx(2.0)


def test_files_have_its_column(told: dict[str, Any]) -> None:
    values = sorted(line["job_sparsity"] for line in csv.DictReader(told["csv"]))
    assert values == ["2:4"] * 3 + ["dense"] * 3
