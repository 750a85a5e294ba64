"""The machine's facts: the same in every run on it, and how two of them differ, in words."""

from __future__ import annotations

import json
import subprocess
import sys

import builders as b

from cnnbench import machine_facts
from cnnbench.analysis.process_table import read_processes
from cnnbench.analysis.ratio import FieldDifference, find_differences
from cnnbench.analysis.speedup import compute_speedups
from cnnbench.machine.fingerprint import collect_facts
from cnnbench.machine_facts import Fact, Host, describe_machine, list_differences
from cnnbench.report import sections


def facts(machine=None, *, python="3.11.9", torch="2.13.0+cpu", environment=None):
    return describe_machine(machine or b.machine(), python=python, torch=torch, environment=environment or {})


def test_two_looks_at_a_machine_are_equal_and_plain_json():
    first = collect_facts({"OMP_NUM_THREADS": "2"})
    assert first == collect_facts({"OMP_NUM_THREADS": "2"}) == json.loads(json.dumps(first))
    assert first["devices"][0]["id"] == "cpu"
    assert first["environment"] == {"OMP_NUM_THREADS": "2"}


def test_looking_does_not_load_torch():
    code = (
        "import sys; from cnnbench.machine import fingerprint as m; m.collect_facts({}); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_nothing_that_changes_from_run_to_run_is_in_them():
    """A little less memory after an update, another clock: the same machine."""
    before = b.machine(memory_bytes=32 * 2**30 - 5_000_000, cpu_max_clock_hertz=3e9)
    after = b.machine(memory_bytes=32 * 2**30 - 9_000_000, cpu_max_clock_hertz=4e9)
    assert facts(before) == facts(after)


def test_a_machine_does_not_differ_from_itself():
    assert list_differences(facts(), json.loads(json.dumps(facts()))) == ()


def test_each_difference_is_a_line_of_words():
    gpu = b.GPU.model_copy(update={"driver": "580.65", "power_limit_watts": 350.0})
    there = facts(b.machine("b", cores_allowed=64, gpus=[gpu]), torch="2.9.0", environment={"OMP_NUM_THREADS": "1"})
    assert list_differences(facts(), there) == (
        "cores allowed: 8 here, 64 there",
        "accelerators: cpu here, cpu; cuda:0 NVIDIA Testla T1, driver 580.65, 350 W there",
        "torch: 2.13.0+cpu here, 2.9.0 there",
        "environment: none set here, OMP_NUM_THREADS=1 there",
    )


def test_what_one_side_does_not_know_is_no_difference_and_another_id_alone_is_one():
    assert list_differences(facts(), {"machine_id": b.MACHINE_ID, "python": "3.11.9"}) == ()
    assert list_differences(facts(), facts() | {"machine_id": "other-1"}) == (
        "machine: testbox-0a1b here, other-1 there",
    )


def test_a_fact_that_is_declared_is_in_every_place_that_it_names(monkeypatch):
    """The drill of a new fact: the table of machines, what makes two runs comparable, and pytest-benchmark's machine_info."""
    swap = Fact("swap_bytes", "swap", "machine.swap_bytes", ("table", "condition", "info"))
    monkeypatch.setattr(machine_facts, "FACTS", (*machine_facts.FACTS, swap))
    few, many = (b.machine(swap_bytes=size) for size in (5, 6))
    assert list_differences(facts(few), facts(many)) == ("swap: 5 here, 6 there",)
    ledgers = [b.ledger([b.record(b.cnn_job())], machine=each, run_id=name) for each, name in ((few, "1"), (many, "2"))]
    processes, _ = read_processes(ledgers)
    assert find_differences(*(process.conditions for process in processes)) == (FieldDifference("swap_bytes", 5, 6),)
    table = sections.build_machine_table(compute_speedups(processes[:1]).rows)
    assert table is not None
    assert [[cell.text for cell in line.cells] for line in table.groups[0].lines][-1] == ["swap", "5"]


def test_every_fact_can_be_read_and_said_of_a_machine_of_which_little_is_known():
    """A path that leads nowhere would show only where its fact is needed."""
    header = b.ledger([b.record(b.cnn_job())]).header
    host = Host(header.machine, header.software, header.machine.devices[0])
    assert all(isinstance(fact.describe(host), str) for fact in machine_facts.FACTS)
    assert len({fact.name for fact in machine_facts.FACTS}) == len(machine_facts.FACTS)
