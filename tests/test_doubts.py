"""Each doubt by the smallest record that deserves it, and its absence from a sound one."""

from __future__ import annotations

import pytest
from builders import GPU, cnn_job, gemm_job, header, machine, record, trial
from test_option_docs import command_of, flags_of

from cnnbench.analysis import doubts
from cnnbench.schema import Evaluation, Job, Machine, Telemetry

WHOLE = cnn_job(epochs=None, steps_per_epoch=None)


def codes(job: Job, where: Machine | None = None, **fields: object) -> set[str]:
    records = [record(job, **fields)]
    found = doubts.find_record_doubts(header(records, machine=where or machine(gpus=[GPU])), records[0])
    for doubt in found:
        assert any(character.isdigit() for character in doubt.message), doubt
        assert doubt.remedy.split()[0].istitle()
    return {doubt.code for doubt in found}


def readings(**after: object) -> dict[str, Telemetry]:
    zero = dict.fromkeys(("steal_seconds", "cpu_pressure_seconds", "cgroup_throttled_seconds"), 0.0)
    return {"telemetry_before": Telemetry(**zero), "telemetry_after": Telemetry(**(zero | after))}


def test_a_sound_record_has_no_doubt() -> None:
    assert codes(WHOLE, **readings()) == set()


def blocks(*seconds: float) -> tuple[float, ...]:
    return tuple(second + 1e-4 * (n % 3) for n, second in enumerate(seconds))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (blocks(*[1.2] * 7, *[1.0] * 8), {"warm-up"}),
        (blocks(*[1.0] * 7, *[1.2] * 8), {"drift"}),
        (blocks(*[1.0] * 15), set()),
        (blocks(*[1.03] * 7, *[1.0] * 8), set()),
        (tuple([1.0, 1.6, 0.9, 1.4] * 3 + [1.0, 1.0, 1.3]), set()),
    ],
)
def test_halves_of_the_blocks_tell_warm_up_from_drift_and_noise(seconds: tuple[float, ...], expected: set[str]) -> None:
    assert codes(WHOLE, block_seconds=seconds) == expected


def test_a_warm_up_that_was_too_short_has_the_option_that_raises_it_as_its_remedy() -> None:
    records = [record(WHOLE, block_seconds=blocks(*[1.2] * 7, *[1.0] * 8))]
    (doubt,) = doubts.find_record_doubts(header(records), records[0])
    assert doubt.remedy == "Raise the warm-up steps (--warmup N, or in the suite)."
    assert "--warmup" in flags_of(command_of(("run",)))


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ({"steal_seconds": 0.5}, "other-load"),
        ({"cpu_pressure_seconds": 0.25}, "other-load"),
        ({"device_other_processes": 2}, "other-load"),
        ({"cgroup_throttled_seconds": 0.5}, "throttled"),
        ({"device_throttle_reasons": ("software thermal",)}, "throttled"),
    ],
)
def test_telemetry_that_moved_is_doubted(after: dict[str, object], code: str) -> None:
    """1.5 s of timed steps."""
    assert codes(WHOLE, **readings(**after)) == {code}


def test_a_counter_that_was_reset_is_no_evidence() -> None:
    fields = {"telemetry_before": Telemetry(steal_seconds=9.0), "telemetry_after": Telemetry(steal_seconds=1.0)}
    assert codes(WHOLE, **fields) == set()


def test_the_machine_itself_is_doubted() -> None:
    assert codes(WHOLE, machine(hypervisor="KVM"), **readings()) == {"hypervisor"}
    assert codes(WHOLE, machine(governor="powersave")) == {"governor"}
    assert codes(WHOLE, machine(governor="performance")) == set()
    assert codes(WHOLE, machine(cores_allowed=4)) == {"cores"}


def test_what_the_figure_rests_on_is_doubted() -> None:
    assert codes(cnn_job()) == {"projected"}
    assert codes(WHOLE.model_copy(update={"data": "synthetic"})) == {"synthetic"}
    assert codes(WHOLE, minor_faults=150 * 2_000) == {"page-faults"}
    assert codes(WHOLE, minor_faults=150 * 20) == set()


@pytest.mark.parametrize(("allocator", "remedy"), [("held", "held already"), ("system", "Hold the allocator")])
def test_of_page_faults_what_is_advised_is_not_done_already(allocator: str, remedy: str) -> None:
    records = [record(WHOLE.model_copy(update={"allocator": allocator}), minor_faults=150 * 2_000)]
    (found,) = doubts.find_record_doubts(header(records, machine=machine(gpus=[GPU])), records[0])
    assert remedy in found.remedy


def test_accuracy_is_judged_only_after_enough_training() -> None:
    late = {"test": Evaluation(after_steps=42_900, images=10_000, correct=9_700, seconds=1)}
    early = {"test": Evaluation(after_steps=150, images=10_000, correct=9_000, seconds=1)}
    assert codes(WHOLE, **late) == {"low-accuracy"}
    assert codes(WHOLE, **early) == set()


def test_a_row_counts_its_processes_and_says_a_doubt_once() -> None:
    one = doubts.Doubt("drift", "1 % slower", "Look.")
    assert [d.code for d in doubts.merge_row_doubts([[], []])] == ["few-processes"]
    assert doubts.merge_row_doubts([[one], [], [one]])[0].message == "1 % slower (in 2 of 3 processes)"
    assert doubts.merge_row_doubts([[one]] * 3) == (one,)
    assert doubts.merge_row_doubts([]) == ()


def test_a_gemm_and_a_trial_without_time_do_no_harm() -> None:
    assert codes(gemm_job()) == set()
    assert doubts.find_record_doubts(header(), record(WHOLE, block_seconds=())) == ()
    assert trial(WHOLE).steps == 150


def test_tf32_that_is_as_exact_as_float32_is_doubted() -> None:
    job = WHOLE.model_copy(update={"precision": "tf32"})
    assert codes(job, settings={"matmul_error": "4.00e-07"}) == {"precision"}
    assert codes(job, settings={"matmul_error": "no number"}) == set()
    assert codes(job, settings={"matmul_error": "3.00e-04"}) == set()
    assert codes(WHOLE, settings={"matmul_error": "4.00e-07"}) == set()
