"""One model on two hosts in three boots, beside an old ledger: no page, no file and no headline takes them for one machine."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import builders as b
import one_model
import pytest
from click.testing import CliRunner
from report_builders import REFERENCES
from run_builders import held, saved

from cnnbench.analysis import history, process_table
from cnnbench.analysis.same_host import Boot, find_mixed_models, relate_all, relate_hosts
from cnnbench.cli import measure
from cnnbench.cli.audit import Rendered
from cnnbench.cli.main import cli
from cnnbench.devices.nvml import NvmlResult
from cnnbench.machine.inventory import Inventory
from cnnbench.report.history import build_judgement
from cnnbench.verify.audit import audit

PERHAPS = "another boot, perhaps another host of the same model"


def call(*arguments: object) -> str:
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one-model") / "results"
    for each in one_model.ledgers():
        b.write(folder, each)
    return folder


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repeated") / "results"
    for each in one_model.repeated():
        b.write(folder, each)
    return folder


def test_the_relation_of_two_runs_is_the_farthest_that_the_ledgers_allow() -> None:
    old, first, second, other, again = (each.header for each in one_model.ledgers())
    assert relate_hosts(other, again) == "one boot"
    assert relate_hosts(first, second) == "another boot"
    assert relate_hosts(second, other) == "another host"
    assert relate_hosts(old, first) == "unknown"
    # Its kernel and memory differ, so it cannot be the same boot.
    assert relate_hosts(old, other) == "another boot"
    assert relate_all([again, second, first], other) == "another host"
    assert relate_all([], other) == "one run"


def test_one_boot_is_no_mixture_and_two_are() -> None:
    *_, other, again = (each.header for each in one_model.ledgers())
    assert find_mixed_models([other, again]) == frozenset()
    assert find_mixed_models(each.header for each in one_model.ledgers()) == {b.MACHINE_ID}
    assert Boot("m", None, None, "6.1", 1024).label == "boot unknown, host unknown, kernel 6.1, 1,024 bytes"


def test_every_row_names_its_boot_and_the_runs_their_hosts(results: Path) -> None:
    shown = flat(call("show", results, "--all", "--format", "markdown"))
    for label in one_model.LABELS:
        assert label in shown
    for boot, host in zip(one_model.BOOTS, (0, 0, 1), strict=True):
        kernel, memory = one_model.KERNELS[host], f"{one_model.MEMORY[host]:,}"
        about = f"boot {boot}, host {one_model.HOSTS[host]}, kernel {kernel}, memory {memory} bytes"
        assert about.replace("-", "") in shown.replace("\\", "").replace("-", "")


def test_rows_of_one_boot_name_none(tmp_path: Path) -> None:
    for each in one_model.ledgers()[3:]:
        b.write(tmp_path, each)
    assert not re.search(
        r"boot 3{8}, host bbbb(?! *0)", call("show", tmp_path, "--all", "--format", "csv").split("report_notes")[0]
    )
    assert "perhaps another host" not in call("show", tmp_path, "--all")


def test_a_headline_over_a_run_of_another_boot_says_so(results: Path) -> None:
    """The GPU row is divided by the CPU row of the oldest run, which ran under another kernel."""
    sentence = flat(call("show", results)).split("Run")[0]
    assert "as fast as the CPU" in sentence
    assert PERHAPS in sentence
    claim = json.loads(
        call("report", results, "-o", results.parent / "page.json") and (results.parent / "page.json").read_text()
    )
    assert PERHAPS in json.dumps(claim, ensure_ascii=False)


@pytest.mark.slow("draws the charts of a page")
def test_the_audit_agrees_with_a_page_in_html(results: Path, tmp_path: Path) -> None:
    call("report", results, "-o", tmp_path / "page.html")
    assert one_model.LABELS[3] in (tmp_path / "page.html").read_text()
    assert list(audit([results, tmp_path], REFERENCES, Rendered).disagreements) == []


def test_a_page_has_a_table_of_boots_and_the_audit_agrees(results: Path, tmp_path: Path) -> None:
    for name in ("page.md", "page.csv", "page.json"):
        call("report", results, "-o", tmp_path / name)
    text = (tmp_path / "page.md").read_text().replace("\\", "")
    for number, (boot, host, runs) in enumerate(zip(one_model.BOOTS, (0, 0, 1), (1, 1, 2), strict=True)):
        line = next(line for line in text.splitlines() if line.startswith(f"| {boot}"))
        assert (
            f"| {one_model.HOSTS[host]} | {one_model.KERNELS[host]} | {one_model.MEMORY[host]:,} bytes | {runs} ("
            in line
        ), number
    assert re.search(r"\| unknown \| unknown \| 6\.1\.0-a \| 25,276,514,304 bytes \| 1 \(20260301T120000Z-0001\)", text)
    found = audit([results, tmp_path], REFERENCES, Rendered)
    assert [f"{each.where}: {each.what}" for each in found.disagreements] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("boot 22222222, host aaaa", "boot 11111111, host aaaa"),
        ("boot 33333333, host bbbb", "boot 33333333, host aaaa"),
        ("25,276,502,016 bytes", "25,276,514,304 bytes"),
        (one_model.HOSTS[1], one_model.HOSTS[0]),
        (PERHAPS, "the same boot"),
    ],
)
def test_the_audit_finds_a_boot_that_is_another_rows(results: Path, tmp_path: Path, right: str, wrong: str) -> None:
    call("report", results, "-o", tmp_path / "page.json")
    page = tmp_path / "page.json"
    text = page.read_text()
    assert right in text
    page.write_text(text.replace(right, wrong))
    assert audit([results, page], REFERENCES, Rendered).disagreements


def test_files_have_the_ids_and_the_kernel_as_raw_values(results: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(call("show", results, "--all", "--format", "csv"))))
    found = {(row["boot_id"], row["host_id"], row["kernel"]) for row in rows if row["table"] == "training"}
    hosts = (*one_model.HOSTS[:1] * 2, one_model.HOSTS[1])
    kernels = (*one_model.KERNELS[:1] * 2, one_model.KERNELS[1])
    assert found == {("", "", "6.1.0-a"), *zip(one_model.BOOTS, hosts, kernels, strict=True)}
    processes = csv.DictReader(io.StringIO(call("export", results, "--to", "csv")))
    assert {(row["boot_id"], row["host_id"], row["kernel"]) for row in processes} == found


def test_a_history_names_each_boot_and_never_compares_without_saying_so(repeated: Path) -> None:
    """Five runs: only the last is of the same boot as the run before it."""
    table = json.loads(call("history", repeated, "--format", "json"))["tables"][0]
    lines = [line for group in table["groups"] for line in group["rows"]] if "groups" in table else table["rows"]
    assert [line["run_before_host"] for line in lines] == [None, "unknown", "another boot", "another host", "one boot"]
    text = flat(call("history", repeated, "--format", "markdown"))
    for label in one_model.LABELS:
        assert label in text
    assert text.count("perhaps another host of the same model") == 2
    assert "A machine's id names a model" in text


def test_a_prediction_from_other_boots_says_so() -> None:
    """Nine runs, each of the last boot but the first: the ninth is predicted from eight."""
    found = [one_model.run(n, 0.01 + n / 1e5, b.cnn_job(), 0 if n == 1 else 1, 0) for n in range(1, 11)]
    (series,) = history.build_history(process_table.read_processes(found)[0])
    assert [point.predicted_host for point in series.points] == ["one run"] * 8 + ["another boot"] * 2
    assert [point.change_host for point in series.points[1:]] == ["another boot"] + ["one boot"] * 8


def test_a_cluster_report_counts_the_runs_of_two_hosts_apart(repeated: Path) -> None:
    """Runs that no cluster run made are nodes of their own, whatever machine id they share."""
    found = json.loads(call("cluster", "report", repeated, "--format", "json"))
    assert "5 nodes of 1 kind" in json.dumps(found)


def test_a_comparison_is_given_the_ids_of_both_sides(repeated: Path) -> None:
    """How the two are related is `relate_hosts`; the raw values of both sides are in the file."""
    paths = [repeated / b.MACHINE_ID / f"2026030{day}T120000Z-000{day}.jsonl" for day in (3, 4)]
    text = call("compare", *paths, "--format", "json")
    (row,) = json.loads(text)["tables"][0]["rows"]
    for name, known in (("boot_id", one_model.BOOTS[1:]), ("host_id", one_model.HOSTS), ("kernel", one_model.KERNELS)):
        assert (row[f"base_{name}"], row[f"new_{name}"]) == tuple(known)


def test_a_folder_of_two_hosts_of_one_model_is_no_single_node(repeated: Path, tmp_path: Path) -> None:
    """Two paths make a node of each; the first has the runs of both hosts."""
    b.write(tmp_path / "other", one_model.run(9, 0.02, b.cnn_job(), 2, 1))
    said = flat(call("cluster", "report", repeated, tmp_path / "other"))
    assert "results: runs of 2 machines are there and count as one node" in said


def test_a_run_judged_by_a_baseline_of_other_boots_says_so() -> None:
    """The sentence is there whatever the verdict, and absent within one boot."""
    runs = [one_model.run(n, 0.01 + n / 1e5, b.cnn_job(), 0, 0) for n in range(1, 5)]
    other = one_model.run(5, 0.02, b.cnn_job(), 1, 0)
    warnings = [
        [note.text for note in build_judgement(held(saved(runs[:3]), run), ()).notes if note.kind == "warning"]
        for run in (runs[3], other)
    ]
    assert not any("the host's" in text for text in warnings[0])
    assert any(PERHAPS in text and text.endswith("A difference in time is perhaps the host's.") for text in warnings[1])


def test_doctor_and_devices_print_the_boot_and_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        ("fingerprint", "boot_id", one_model.BOOTS[0]),
        ("host_identity", "host_id", one_model.HOSTS[0]),
    ):
        monkeypatch.setattr(f"cnnbench.machine.{module}.{name}", lambda value=value: value)
    here = Inventory(b.machine(), b.software(), NvmlResult(), ())
    monkeypatch.setattr(measure, "find_inventory", lambda: here)
    for command in ("doctor", "devices"):
        assert f"boot {one_model.BOOTS[0]}, host {one_model.HOSTS[0]}, kernel " in flat(call(command)), command
    found = json.loads(call("devices", "--json"))
    assert (found["boot_id"], found["host_id"]) == (one_model.BOOTS[0], one_model.HOSTS[0])
