"""Many made-up nodes: which are named as outliers, how often a good one is, and what the table says of each kind."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path

import builders as b
import pytest

from cnnbench.analysis import node_outliers, process_table
from cnnbench.analysis.node_outliers import EqualNodes, NodeProcessor
from cnnbench.cli.main import run_cli
from cnnbench.cluster import state
from cnnbench.cluster.node_job import RESULTS
from cnnbench.errors import ExitCode
from cnnbench.report import cluster as reporting
from cnnbench.report.render import text
from cnnbench.schema import Device, Job, Machine
from cnnbench.store import Ledger

AMD, INTEL = "AMD EPYC 7763 64-Core Processor", "Intel(R) Xeon(R) Platinum 8480+"


def gpus(many: int, name: str = "NVIDIA A100") -> list[Device]:
    return [b.GPU.model_copy(update={"id": f"cuda:{n}", "name": name, "uuid": f"GPU-{n}"}) for n in range(many)]


def node(
    number: int,
    seconds: float,
    *,
    job: Job | None = None,
    cpu: str = AMD,
    cards: int = 0,
    day: int = 1,
    torch: str = "2.13.0",
    protocol: int = 1,
) -> Ledger:
    """A node's run: three processes 1 % apart."""
    records = b.repeats(job or b.cnn_job(), [seconds * 0.99, seconds, seconds * 1.01], protocol=protocol)
    machine: Machine = b.machine(f"box-{cpu[:3].lower()}", cpu_name=cpu, gpus=gpus(cards))
    return b.ledger(
        records,
        run_id=f"202603{day:02d}T120000Z-{number:04d}",
        created_at=f"2026-03-{day:02d}T12:00:00Z",
        machine=machine,
        software=b.software(torch),
    )


def name_of(run_id: str) -> str:
    return f"n{int(run_id[-4:])}"


def alike(ledgers: list[Ledger]) -> tuple[EqualNodes, ...]:
    processes, _ = process_table.read_processes(ledgers)
    return node_outliers.group_equal_nodes(processes, lambda each: name_of(each.run_id))


def good(many: int, sd: float = 0.01, seed: int = 0) -> list[Ledger]:
    draw = random.Random(seed)
    return [node(n, 0.1 * math.exp(draw.gauss(0, sd))) for n in range(1, many + 1)]


@pytest.mark.parametrize(("seconds", "ratio"), [(0.13, 1.3), (0.08, 0.8), (0.106, 1.06)])
def test_the_one_bad_node_of_a_hundred_is_named(seconds: float, ratio: float) -> None:
    (found,) = alike([*good(99), node(100, seconds)])
    assert [each.processor.node for each in found.outliers] == ["n100"]
    assert found.outliers[0].ratio == pytest.approx(ratio, rel=0.01)
    assert found.spread == pytest.approx(0.01, rel=0.3)


def test_a_third_of_the_nodes_may_be_bad_and_is_named() -> None:
    bad = [node(100 + n, 0.2 + 0.01 * n) for n in range(10)]
    (found,) = alike([*good(20), *bad])
    assert {each.processor.node for each in found.outliers} == {f"n{100 + n}" for n in range(10)}


def test_nodes_that_are_alike_to_a_thousandth_are_not_outliers_of_two_thousandths() -> None:
    (found,) = alike([*good(20, sd=0.0001), node(100, 0.102)])
    assert found.outliers == ()


def test_where_all_others_agree_to_the_last_digit_there_is_no_number_of_sds() -> None:
    (found,) = alike([*(node(n, 0.1) for n in range(1, 10)), node(10, 0.2)])
    assert [(each.processor.node, each.robust_sds) for each in found.outliers] == [("n10", None)]


@pytest.mark.parametrize("many", range(1, node_outliers.LEAST_NODES))
def test_too_few_nodes_have_no_outlier(many: int) -> None:
    ledgers = [*good(many - 1), node(50, 0.3)]
    (found,) = alike(ledgers)
    assert found.outliers == ()
    assert any("too few to call one an outlier" in note.text for note in reporting.build([found]).notes)


FALSE_ALARMS = {(5, 0.01): 0, (5, 0.03): 459, (20, 0.03): 360, (100, 0.03): 399}
"""Nodes and their true spread: in how many of 4,000 fleets of good nodes (normal log times) a row names one."""


@pytest.mark.parametrize(("many", "sd"), FALSE_ALARMS)
def test_how_often_a_row_of_good_nodes_has_an_outlier(many: int, sd: float) -> None:
    """The draws are seeded, so the number is what it is: what docs/cluster.md says of it is held to the last fleet."""
    draw, whole = random.Random(1), alike(good(1))[0]
    alarms = 0
    for _ in range(4000):
        made = (NodeProcessor(f"n{n}", b.CPU, math.exp(draw.gauss(0, sd)), 3, "r") for n in range(many))
        units = tuple(sorted(made, key=lambda unit: unit.seconds))
        alarms += bool(dataclasses.replace(whole, processors=units).outliers)
    assert alarms == FALSE_ALARMS[many, sd]


def test_what_the_page_says_of_false_alarms_is_what_these_tests_hold() -> None:
    """One in a row, and at least one in 3 or 6 rows that do not depend on one another: 1 - (1 - p)^rows."""
    page = " ".join((Path(__file__).parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8").split())
    shares = [FALSE_ALARMS[many, 0.03] / 4000 for many in (5, 20, 100)]
    for rows in (1, 3, 6):
        a, b_, c = (f"{100 * (1 - (1 - share) ** rows):.1f}" for share in shares)
        assert f"{a}, {b_} and {c} %" in page
    assert FALSE_ALARMS[5, 0.01] == 0
    assert "none of 4,000 simulated fleets of 5" in page


def test_only_equal_nodes_are_held_against_one_another() -> None:
    """Two CPU models, a GPU or none, two builds of torch: four kinds, none with an outlier."""
    ledgers = good(6)
    ledgers += [node(10 + n, 0.05, cpu=INTEL) for n in range(6)]
    ledgers += [node(20 + n, 0.2, cards=1) for n in range(6)]
    ledgers += [node(30 + n, 0.3, torch="2.11.0") for n in range(6)]
    found = alike(ledgers)
    assert sorted(each.nodes for each in found) == [6, 6, 6, 6]
    assert [each.outliers for each in found] == [()] * 4


def test_the_bad_card_is_found_among_all_of_its_model() -> None:
    """Two nodes of four GPUs each: eight processors of one kind, the slow one by its node and its number."""
    ledgers = []
    for number in (1, 2):
        records = []
        for card in range(4):
            slow = 1.5 if (number, card) == (2, 3) else 1 + 0.001 * card
            job = b.cnn_job(device=f"cuda:{card}")
            records += b.repeats(job, [0.001 * slow] * 3, start=len(records))
        run_id = f"20260301T120000Z-{number:04d}"
        ledgers.append(b.ledger(records, run_id=run_id, machine=b.machine("box", gpus=gpus(4))))
    (found,) = alike(ledgers)
    assert (len(found.processors), found.nodes) == (8, 2)
    assert [(each.processor.node, each.processor.device.id) for each in found.outliers] == [("n2", "cuda:3")]
    rows = json.loads(text.render(reporting.build([found]), "json"))["tables"][1]["rows"]
    assert [(row["node"], row["device"], row["over_median"]) for row in rows] == [
        ("n2", "cuda:3", pytest.approx(1.5, rel=0.01))
    ]


def test_of_several_runs_on_a_node_the_newest_counts() -> None:
    (found,) = alike([*good(6), node(1, 0.2, day=2)])
    assert found.nodes == 6
    assert [each.processor.node for each in found.outliers] == ["n1"]


def test_the_order_of_the_records_says_nothing() -> None:
    ledgers = [*good(10), node(20, 0.2), *(node(30 + n, 0.05, cpu=INTEL) for n in range(5))]
    report = text.render(reporting.build(alike(ledgers)), "json")
    random.Random(0).shuffle(ledgers)
    assert text.render(reporting.build(alike(ledgers)), "json") == report


def test_kinds_stand_in_one_table_with_their_speeds() -> None:
    """0.1 s a step of 128 images is 1,280 images/s; a kind twice as fast stands first, the other at half its speed."""
    ledgers = [*(node(n, 0.1) for n in range(1, 4)), *(node(10 + n, 0.05, cpu=INTEL) for n in range(3))]
    rows = json.loads(text.render(reporting.build(alike(ledgers)), "json"))["tables"][0]["rows"]
    assert [row["processor"] for row in rows] == [INTEL, AMD]
    assert [row["speed_over_fastest_kind"] for row in rows] == [1.0, pytest.approx(0.5)]
    assert rows[1]["median_images_per_second"] == pytest.approx(1280)
    assert [row["nodes"] for row in rows] == [3, 3]


def test_kinds_are_divided_by_one_another_under_one_timing_rule_alone() -> None:
    """Half the time under another rule is no double speed; the rows stand apart, with the rule named."""
    ledgers = [*(node(n, 0.1) for n in range(1, 4)), *(node(10 + n, 0.05, cpu=INTEL, protocol=2) for n in range(3))]
    report = reporting.build(alike(ledgers))
    rows = json.loads(text.render(report, "json"))["tables"][0]["rows"]
    assert [row["speed_over_fastest_kind"] for row in rows] == [1.0, 1.0]
    assert sorted("protocol 2" in (group.title or "") for group in report.tables[0].groups) == [False, True]


def fleet_of(results: Path, ledgers: list[Ledger]) -> None:
    """The records in the results, and beside them the fleet that brought them: each run on its node."""
    folder = state.find_root(results) / "20260301T120000Z-0001"
    for ledger in ledgers:
        b.write(results, ledger)
        b.write(folder / name_of(ledger.header.run_id) / RESULTS, ledger)


def failed_cells() -> tuple[state.NodeEntry, ...]:
    """One node whose job ran into its time limit, and one that is done."""
    said = state.SlurmState(state="TIMEOUT", node="n77", reason="TimeLimit")
    attempt = state.Submission(submitted_at="2026-03-01T12:00:00+00:00", job_id="17", said=said)
    return (state.NodeEntry(node="n77", kind="64 cores", attempts=(attempt,)),)


def begin(results: Path, cells: tuple[state.NodeEntry, ...]) -> None:
    """The state of that fleet."""
    folder = state.find_root(results) / "20260301T120000Z-0001"
    request = state.SlurmRequest(partition="main", minutes=10)
    made = state.ClusterRun(
        fleet_id=folder.name, created_at="", results="", suites=("quick",), request=request, cells=cells
    )
    state.write(folder, made)


def crashed(number: int, of: int = 3) -> Ledger:
    """A node's run of which every job crashed."""
    records = b.repeats(b.cnn_job(), [0.1] * of, status="crashed")
    return b.ledger(records, run_id=f"20260301T120000Z-{number:04d}", machine=node(1, 0.1).header.machine)


def problems_of(out: str, kind: str = "problem") -> list[str]:
    return [note["text"] for note in json.loads(out)["notes"] if note["kind"] == kind]


def test_the_command_names_nodes_as_the_fleet_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    fleet_of(results, [*good(9), node(10, 0.2)])
    assert run_cli(["cluster", "report", str(results)]) == ExitCode.FINDING
    out = capsys.readouterr().out
    assert "outliers: n10." in out
    assert "n10" in out.split("Nodes far from others of their kind")[1]
    assert "no fleet" not in out


def test_a_node_that_failed_is_never_silently_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    fleet_of(results, good(5))
    begin(results, failed_cells())
    assert run_cli(["cluster", "report", str(results), "--format", "json"]) == ExitCode.JOB_FAILED
    notes = json.loads(capsys.readouterr().out)["notes"]
    problems = [note["text"] for note in notes if note["kind"] == "problem"]
    assert len(problems) == 1
    assert [word for word in ("timeout", "n77", "job 17", "TimeLimit") if word not in problems[0]] == []
    assert "1 failed" in notes[0]["text"]


@pytest.mark.parametrize("others", [5, 0])
def test_a_node_of_which_every_job_failed_is_never_silently_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: int
) -> None:
    """Its job is done, so `cluster status` exits 5 for what it measured; the report does as well, and names it."""
    results = tmp_path / "results"
    fleet_of(results, [*good(others), crashed(77)])
    said = state.SlurmState(state="COMPLETED", node="n77")
    attempt = state.Submission(submitted_at="2026-03-01T12:00:00+00:00", job_id="17", said=said)
    begin(results, (state.NodeEntry(node="n77", kind="64 cores", attempts=(attempt,)),))
    assert run_cli(["cluster", "report", str(results), "--format", "json"]) == ExitCode.JOB_FAILED
    assert problems_of(capsys.readouterr().out) == ["node n77: 3 crashed"]


def test_a_host_of_which_every_job_failed_is_never_silently_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a fleet too; a newer run of it in which nothing failed clears it."""
    for ledger in [*good(5), crashed(6)]:
        b.write(tmp_path / name_of(ledger.header.run_id), ledger)
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    assert run_cli(["cluster", "report", *paths, "--format", "json"]) == ExitCode.JOB_FAILED
    assert problems_of(capsys.readouterr().out) == ["node n6: 3 crashed"]
    b.write(tmp_path / "n6", node(6, 0.1, day=2))
    assert run_cli(["cluster", "report", *paths]) == ExitCode.DONE


def test_folders_of_hosts_are_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results fetched by ssh, a folder a host: the folders given are the nodes."""
    for ledger in [*good(5), node(6, 0.2)]:
        b.write(tmp_path / f"{name_of(ledger.header.run_id)}.cluster.org", ledger)
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    assert run_cli(["cluster", "report", *paths]) == ExitCode.FINDING
    assert "outliers: n6.cluster.org." in capsys.readouterr().out


def test_folders_of_one_name_are_nodes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`n1/results n2/results ...`: their whole paths are their names, and the bad one is found."""
    for ledger in [*good(5), node(6, 0.2)]:
        b.write(tmp_path / name_of(ledger.header.run_id) / "results", ledger)
    paths = [str(path / "results") for path in sorted(tmp_path.iterdir())]
    assert run_cli(["cluster", "report", *paths, "--format", "json"]) == ExitCode.FINDING
    kinds, outliers = json.loads(capsys.readouterr().out)["tables"]
    assert [row["nodes"] for row in kinds["rows"]] == [6]
    assert [row["node"] for row in outliers["rows"]] == [str(tmp_path / "n6" / "results")]


def test_the_folder_one_stands_in_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        b.write(tmp_path / f"n{number}", node(number, 0.1 * number))
    monkeypatch.chdir(tmp_path / "n1")
    assert run_cli(["cluster", "report", ".", "../n2", "--format", "json"]) == ExitCode.DONE
    (row,) = json.loads(capsys.readouterr().out)["tables"][0]["rows"]
    assert (row["fastest_node"], row["slowest_node"]) == ("n1", "n2")


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([node(1, 0.1), node(2, 0.1, cpu=INTEL)], "runs of 2 machines are there and count as one node"),
        ([node(1, 0.1), node(2, 0.1)], "2 complete runs of the same work are there and count as one node"),
        ([node(1, 0.1), node(2, 0.1, job=b.gemm_job())], None),
        ([node(1, 0.1)], None),
    ],
    ids=["two machines", "two equal ones", "two suites", "one run"],
)
def test_a_folder_that_may_hold_several_hosts_is_said_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: list[Ledger], words: str | None
) -> None:
    """A tree that `cnnbench merge` made of some hosts, beside the folder of another."""
    for ledger in runs:
        b.write(tmp_path / "merged", ledger)
    b.write(tmp_path / "n9", node(9, 0.1))
    assert run_cli(["cluster", "report", *map(str, sorted(tmp_path.iterdir())), "--format", "json"]) == ExitCode.DONE
    warnings = problems_of(capsys.readouterr().out, "warning")
    assert [words is not None and f"merged: {words}" in each for each in warnings] == [True] * (words is not None)


def test_runs_without_a_node_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ledger in good(5):
        b.write(tmp_path, ledger)
    assert run_cli(["cluster", "report", str(tmp_path)]) == ExitCode.DONE
    assert "5 runs belong to no fleet" in capsys.readouterr().out


def test_nothing_to_report_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["cluster", "report", str(tmp_path)]) == ExitCode.USAGE
    assert "no results of a node" in capsys.readouterr().err
