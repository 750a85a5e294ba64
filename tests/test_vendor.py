"""A new vendor is one file: declared here, it is found, listed by `devices`, planned for, and refused with its own reason."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cnnbench import devices
from cnnbench.cli.measure import devices as devices_command
from cnnbench.devices import backend, list_backends, list_kinds
from cnnbench.engine.torch_info import collect_torch_info
from cnnbench.errors import DeviceError
from cnnbench.machine import inventory
from cnnbench.plan.matrix import count_capacity, make_plan
from cnnbench.plan.suite import load_suite

VENDOR = """
from cnnbench.devices.base import Backend
from cnnbench.schema import Device

class ToyBackend(Backend):
    kind, word, exchange = "toy", "a toy", "gloo"

    def find(self):
        return tuple(Device(id=f"toy:{index}", kind="toy", name="Toy 9000", memory_bytes=2**30) for index in range(2))

    def environment(self, device):
        return {"TOY_VISIBLE": device.id.partition(":")[2]}

    def find_obstacle(self):
        return "toys compute nothing"

BACKEND = ToyBackend()
"""
SUITE = """
description = "a product of another size on toys"

[[job]]
workload = "gemm"
size = { toy = [8, 16], cpu = 32 }
"""


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The vendor's file is among the others, and torch is asked in this process, which knows of it."""
    (tmp_path / "toy.py").write_text(VENDOR)
    monkeypatch.setattr(devices.vendors, "__path__", [*devices.vendors.__path__, str(tmp_path)])
    monkeypatch.setattr(inventory, "probe_torch", collect_torch_info)
    list_backends.cache_clear()
    yield
    list_backends.cache_clear()
    sys.modules.pop("cnnbench.devices.vendors.toy", None)


def test_it_is_found_and_named_in_lists() -> None:
    here = inventory.take_inventory()
    assert list_kinds()[-1] == "toy"
    assert [device.id for device in inventory.select(here.devices, "toy")] == ["toy:0", "toy:1"]
    assert [device.id for device in inventory.select(here.devices, "toy:1,cpu")] == ["toy:1", "cpu"]


def test_the_devices_command_lists_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(devices_command, ["--json"], env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    listed = [each["device"] for each in json.loads(done.stdout)["devices"]]
    assert [(each["id"], each["name"]) for each in listed if each["kind"] == "toy"] == [
        ("toy:0", "Toy 9000"),
        ("toy:1", "Toy 9000"),
    ]


def test_a_suite_plans_for_it_with_values_of_its_own(tmp_path: Path) -> None:
    here = inventory.take_inventory()
    (tmp_path / "toys.toml").write_text(SUITE)
    suite = load_suite(tmp_path / "toys.toml")
    plan = make_plan([suite], here.machine, inventory.select(here.devices, "toy:0,cpu"), seed=1, data_kind="synthetic")
    assert {(job.device, job.size) for job in plan} == {("toy:0", 8), ("toy:0", 16), ("cpu", 32)}


def test_several_work_together_where_it_says_what_exchanges_their_gradients() -> None:
    here = inventory.take_inventory()
    first, second = inventory.select(here.devices, "toy")
    assert count_capacity(first, here.devices, here.machine) == 2
    assert count_capacity(second, here.devices, here.machine) == 0


def test_a_worker_is_told_which_is_its_own_and_why_torch_cannot_use_it() -> None:
    second = inventory.select(inventory.take_inventory().devices, "toy:1")[0]
    assert backend(second.id).environment(second) == {"TOY_VISIBLE": "1"}
    assert "tf32" in (backend(second.id).unsupported("tf32") or "")
    with pytest.raises(DeviceError, match="cannot use a toy: toys compute nothing"):
        backend(second.id).attach(threads=None)
