"""The machine's facts: the same in every run on it, and how two of them differ, in words."""

from __future__ import annotations

import json
import subprocess
import sys

import builders as b

from cnnbench.machine.fingerprint import collect_facts
from cnnbench.machine_facts import describe_machine, list_differences


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
