"""What only a real GPU can show. Skipped where torch has none."""

from __future__ import annotations

import pytest

from cnnbench.machine.inventory import take_inventory
from cnnbench.profile_model import ProfileJob
from cnnbench.runner.launch import LaunchOptions, launch, run_profile
from cnnbench.schema import Device, Job, Outcome

pytestmark = [pytest.mark.gpu, pytest.mark.slow("GPU")]


@pytest.fixture(scope="module")
def gpu() -> Device:
    return next(device for device in take_inventory().devices if device.kind in ("cuda", "rocm") and device.usable)


def outcome(gpu: Device, **changes: object) -> Outcome:
    job = Job(
        workload="mnist-cnn", workload_version=1, optimizer="rmsprop", init="truncated-0.1", data="synthetic",
        split="train-60000", device=gpu.id, blocks=5, block_steps=20,
    ).model_copy(update=changes)  # fmt: skip
    return launch(job, LaunchOptions(device=gpu)).outcome


def test_training_is_measured_with_an_honest_synchronise_and_its_memory(gpu: Device) -> None:
    """The canary passes; the allocator's marks hold at least parameters, gradients and optimiser state."""
    found = outcome(gpu)
    assert found.status == "ok", found
    assert found.trial is not None
    assert found.trial.canary is not None
    assert found.trial.canary.passed
    allocated, reserved = found.trial.memory.device_allocated_peak_bytes, found.trial.memory.device_reserved_peak_bytes
    assert allocated is not None
    assert reserved is not None
    assert 3 * 5_514_792 < allocated <= reserved


def test_fp32_is_fp32_and_tf32_is_not(gpu: Device) -> None:
    """A 10-bit fraction shows in the result, whatever the label says."""
    exact = outcome(gpu, workload="gemm", size=1024, data="random", final_evaluation=False)
    assert exact.trial is not None
    assert float(exact.trial.settings["matmul_error"]) < 2e-5
    coarse = outcome(gpu, workload="gemm", size=1024, data="random", precision="tf32", final_evaluation=False)
    if coarse.status == "unsupported":
        pytest.skip(coarse.message or "no TF32 here")
    assert coarse.trial is not None
    assert float(coarse.trial.settings["matmul_error"]) > 2e-5


def test_nvmls_energy_counter_moves(gpu: Device) -> None:
    """Ten seconds of work take more than ten seconds of idling."""
    job = Job(workload="gemm", workload_version=1, size=4096, data="random", device=gpu.id, final_evaluation=False)
    found = launch(job, LaunchOptions(device=gpu, energy=True)).outcome
    assert found.trial is not None
    energy = found.trial.energy
    if energy is None:
        pytest.skip("no energy counter on this GPU")
    assert energy.window_seconds >= 10
    assert energy.window_joules / energy.window_seconds > energy.idle_joules / energy.idle_seconds


def test_a_profile_is_of_the_devices_time_and_of_its_kernels(gpu: Device) -> None:
    """Convolutions take some of it, launch gaps the rest; parts add up to the step."""
    job = Job(
        workload="mnist-cnn", workload_version=1, optimizer="rmsprop", init="truncated-0.1", data="synthetic",
        split="train-60000", device=gpu.id, warmup_steps=5, block_steps=10,
    )  # fmt: skip
    found = run_profile(ProfileJob(name="reference", job=job), LaunchOptions(device=gpu), None)
    assert found.profile is not None, found.outcome
    breakdown = found.profile.breakdown
    assert breakdown.view == "device"
    assert sum(part.share for part in breakdown.groups) == pytest.approx(1.0, abs=0.02)
    assert {"convolution", "matrix product", "optimiser", "device idle"} <= {part.name for part in breakdown.groups}
    assert {"forward", "backward", "optimiser"} <= {part.name for part in breakdown.phases}
    assert breakdown.kernels
    assert breakdown.device_idle_share is not None
    assert 0 <= breakdown.device_idle_share < 1
