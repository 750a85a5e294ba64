"""A sound record passes; each identity, broken alone, is named; nothing beats physics."""

from __future__ import annotations

import pytest

from cnnbench import validity
from cnnbench.schema import Device, Evaluation, Job, Machine, Outcome, Trial

H200 = Device(id="cuda:0", kind="cuda", name="NVIDIA H200", max_clock_hertz=1.98e9, multiprocessors=132)
MACHINE = Machine(id="m", cpu_name="Box", cores_logical=2, cores_allowed=2, memory_bytes=2**33, os="Linux", kernel="6")
JOB = Job(workload="mnist-cnn", workload_version=1, batch_size=128, blocks=4, block_steps=10)
TRIAL = Trial(
    block_seconds=(1.0, 1.0, 1.0, 1.0), steps_per_block=10, steps=40, images=5120, parameters=1_378_698,
    test=Evaluation(after_steps=40, images=10_000, correct=9_000, seconds=1.0),
)  # fmt: skip
GEMM = Job(workload="gemm", workload_version=1, size=8192, precision="bf16", blocks=1, block_steps=1)


def messages(trial: Trial, job: Job = JOB, process_seconds: float = 10.0) -> list[str]:
    return [v.message for v in validity.find_violations(job, trial, process_seconds, H200, MACHINE)]


def test_a_sound_trial_passes() -> None:
    assert messages(TRIAL) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 5119}, "handed out 5,119 images, steps x batch is 5,120"),
        ({"steps": 41}, "not the 41 steps reported"),
        ({"block_seconds": (1.0,) * 3, "steps": 30, "images": 3840}, "the job asks for 40"),
        ({"block_seconds": (1.0, 1.0, 1.0, 0.0)}, "not a positive number"),
        ({"block_seconds": (1.0, 1.0, 1.0, 1e-320)}, "not a positive number"),
        ({"cold_start_seconds": -1.0}, "over 1.000 s before the process began"),
        ({"block_seconds": (1.0, 1.0, 1.0, 8.0)}, "the whole process lived 10.000 s"),
        ({"parameters": 1}, "its layers give 1,378,698"),
        ({"test": Evaluation(after_steps=1, images=10, correct=11, seconds=1)}, "11 of 10 test images"),
        ({"test": Evaluation(after_steps=1, images=0, correct=0, seconds=1)}, "0 of 0 test images"),
    ],
)
def test_each_broken_identity_is_named(changes: dict[str, object], words: str) -> None:
    found = messages(TRIAL.model_copy(update=changes))
    assert any(words in message for message in found)


def test_the_job_clock_lies_between_its_parts_and_the_process() -> None:
    job = JOB.model_copy(update={"clock": "job", "epochs": 4, "steps_per_epoch": 10})
    trial = TRIAL.model_copy(update={"job_seconds": 5.0, "job_evaluation_seconds": 1.0})
    assert messages(trial, job) == []
    assert "add up to 5.000" in messages(trial.model_copy(update={"job_seconds": 4.9}), job)[0]
    assert "the process lived" in messages(trial.model_copy(update={"job_seconds": 10.5}), job)[0]


def test_an_early_stop_is_no_broken_identity() -> None:
    job = JOB.model_copy(update={"clock": "job", "epochs": 9, "steps_per_epoch": 10})
    trial = TRIAL.model_copy(update={"stopped_early": True, "job_seconds": 5.0})
    assert messages(trial, job) == []


def gemm(flops_per_second: float) -> Trial:
    return Trial(block_seconds=(2 * 8192**3 / flops_per_second,), steps_per_block=1, steps=1, images=0)


def test_no_gemm_beats_its_device() -> None:
    """H200 bf16: 132 x 4096 x 1.98 GHz = 1,070,531 GFLOP/s at its maximum clock."""
    assert messages(gemm(1.0705e15), GEMM) == []
    violations = validity.find_violations(GEMM, gemm(1.0707e15), 10.0, H200, MACHINE)
    assert [(v.gate, v.severity) for v in violations] == [("physics", "invalid")]
    judged = validity.reject_impossible(Outcome(status="ok", trial=gemm(1.0707e15)), violations)
    assert judged.status == "invalid"
    assert judged.trial is not None
    assert "physics gate" in (judged.message or "")


@pytest.mark.parametrize(("times", "severity"), [(0.9, None), (2.0, "doubt"), (4.5, "invalid")])
def test_a_convolution_is_doubted_above_the_bound_and_invalid_above_four_times(
    times: float, severity: str | None
) -> None:
    """float32 on an H200: 66,908 GFLOP/s."""
    job = JOB.model_copy(update={"blocks": 1})
    seconds = 10 * 128 * 51_972_732 / (times * 66.908e12)
    trial = TRIAL.model_copy(update={"block_seconds": (seconds,), "steps": 10, "images": 1280})
    found = validity.find_violations(job, trial, 10.0, H200, MACHINE)
    assert [v.severity for v in found] == ([severity] if severity else [])


def test_without_a_known_bound_there_is_no_verdict() -> None:
    unknown = H200.model_copy(update={"name": "NVIDIA H201"})
    assert validity.find_violations(GEMM, gemm(1e18), 10.0, unknown, MACHINE) == ()


def test_a_failed_outcome_stays_what_it_is() -> None:
    crashed = Outcome(status="crashed")
    assert (
        validity.reject_impossible(crashed, validity.find_violations(GEMM, gemm(1e18), 10.0, H200, MACHINE)) is crashed
    )
