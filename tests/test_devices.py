"""Every vendor by one protocol: attach, synchronise, peaks, refusals. Vendors not at hand are faked at torch's edge."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cnnbench.devices import backend, list_backends, list_kinds
from cnnbench.errors import DeviceError
from cnnbench.machine.inventory import HIDDEN, reconcile, select
from cnnbench.schema import Device, Software

KINDS = ("cpu", "cuda", "mps", "xpu")


def test_the_kinds_there_are_come_from_the_vendors_files() -> None:
    assert tuple(list_backends()) == KINDS
    assert list_kinds() == ("cpu", "cuda", "rocm", "mps", "xpu")


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "cpu"])
def test_attaching_what_is_not_there_says_why(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "xpu"):
        monkeypatch.setattr(getattr(torch, name), "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="cannot use"):
        backend(kind).attach(threads=None)


def test_an_unknown_kind_names_the_kinds_there_are() -> None:
    with pytest.raises(DeviceError, match="cpu, cuda, mps, xpu"):
        backend("tpu:0")


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_synchronise_and_peaks_are_the_vendors_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong vendor's synchronise returns at once and looks many times faster."""
    calls: list[str] = []
    fake = SimpleNamespace(
        is_available=lambda: True,
        set_device=lambda index: calls.append(f"set {index}"),
        init=lambda: None,
        synchronize=lambda: calls.append("synchronize"),
        empty_cache=lambda: calls.append("empty"),
        reset_peak_memory_stats=lambda: calls.append("reset"),
        max_memory_allocated=lambda: 10,
        memory_allocated=lambda: 7,
        max_memory_reserved=lambda: 20,
        get_device_capability=lambda: (7, 5),
    )
    monkeypatch.setattr(torch, kind, fake)
    device = backend(f"{kind}:0").attach(threads=None)
    device.reset_peaks()
    device.synchronize()
    assert calls == ["set 0", "empty", "reset", "synchronize"]
    calls.clear()
    assert device.peaks() == (10, 20)
    assert device.allocated_bytes() == 7
    assert calls == [], "memory is read without waiting for the device"
    assert device.device == torch.device(kind, 0)
    assert "tf32" in (backend(f"{kind}:0").unsupported("tf32") or "")
    assert backend(f"{kind}:0").unsupported("fp32") is None


def test_of_several_visible_gpus_each_process_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    fake = SimpleNamespace(is_available=lambda: True, set_device=taken.append, init=lambda: None)
    monkeypatch.setattr(torch, "cuda", fake)
    assert backend("cuda:0").attach(threads=None, index=3).device == torch.device("cuda", 3)
    assert taken == [3]


def test_mps_waits_by_its_own_call_and_claims_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: calls.append("synchronize"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 7)
    device = backend("mps").attach(threads=None)
    device.reset_peaks()
    device.synchronize()
    assert device.allocated_bytes() == 7
    assert calls == ["empty", "synchronize"]
    assert device.peaks() == (None, None)
    assert backend("cpu").attach(threads=None).allocated_bytes() is None


CPU = Device(id="cpu", kind="cpu", name="Box")
SOFTWARE = Software(cnnbench="0", python="3", torch="2.13.0", torch_build="cuda 13.0", numpy="2")


def gpu(index: int, **changes: object) -> Device:
    return Device(id=f"cuda:{index}", kind="cuda", name=f"GPU {index}", uuid=f"GPU-{index}", driver="550.1", **changes)


def test_a_gpu_torch_cannot_use_is_an_error_in_auto_and_kept_in_all() -> None:
    """Never a silent fall back to the CPU; the reason names the build or the driver."""
    for build, words in (("cpu", "CPU build"), ("cuda 13.0", "driver 550.1 may be too old")):
        software = SOFTWARE.model_copy(update={"torch_build": build})
        devices = (CPU, *reconcile([gpu(0), gpu(1)], [gpu(1)] if build != "cpu" else [], software))
        with pytest.raises(DeviceError, match=words) as caught:
            select(devices, "auto")
        assert caught.value.exit_code == 3
        assert [d.id for d in select(devices, "all")] == ["cpu", "cuda:0", "cuda:1"]
        assert [d.id for d in select(devices, "cpu")] == ["cpu"]


def test_gpus_are_matched_by_uuid_not_by_order() -> None:
    """torch may number them otherwise than NVML does."""
    seen = [gpu(1).model_copy(update={"id": "cuda:0", "multiprocessors": 7}), gpu(0)]
    merged = reconcile([gpu(0), gpu(1)], seen, SOFTWARE)
    assert [(d.id, d.multiprocessors) for d in merged] == [("cuda:0", None), ("cuda:1", 7)]


def test_a_gpu_the_user_hid_is_no_error() -> None:
    devices = (CPU, *reconcile([gpu(0), gpu(1)], [gpu(1)], SOFTWARE, visible_devices="1"))
    assert devices[1].unusable_reason == HIDDEN
    assert [d.id for d in select(devices, "auto")] == ["cpu", "cuda:1"]


def test_gpus_only_torch_knows_are_taken_too() -> None:
    """ROCm without NVML, or a MIG instance."""
    amd = Device(id="cuda:0", kind="rocm", name="MI", uuid="abc")
    assert reconcile([], [amd], SOFTWARE) == (amd,)
    both = reconcile([gpu(0)], [gpu(0), Device(id="cuda:0", kind="cuda", name="slice", uuid="MIG-1")], SOFTWARE)
    assert [d.id for d in both] == ["cuda:0", "cuda:1"]


def test_devices_are_named_singly_by_kind_or_in_a_list() -> None:
    devices = (CPU, gpu(0), gpu(1))
    assert [d.id for d in select(devices, "cuda")] == ["cuda:0", "cuda:1"]
    assert [d.id for d in select(devices, "cuda:1,cpu")] == ["cuda:1", "cpu"]
    assert [d.id for d in select(devices, "gpu")] == ["cuda:0", "cuda:1"]
    other = Device(id="xpu:0", kind="xpu", name="Arc")
    assert [d.id for d in select((*devices, other), "cpu,gpu")] == ["cpu", "cuda:0", "cuda:1", "xpu:0"]
    with pytest.raises(DeviceError, match=r"device 'gpu' is not here; there are: cpu \(Box\)"):
        select((CPU,), "gpu")
    with pytest.raises(DeviceError, match=r"device 'cuda:7' is not here; there are: cpu \(Box\)"):
        select(devices, "cuda:7")
