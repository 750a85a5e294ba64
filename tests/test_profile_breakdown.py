"""A step taken apart: parts that add up, groups by name, phases by marks that are gone afterwards, devices by their own time."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import builders as b
import profile_builders as p
import pytest
import torch
from test_tuned import available, digits, job, needs_native

from cnnbench import workloads
from cnnbench.devices import backend
from cnnbench.engine import tuned
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.profile import profiler
from cnnbench.engine.profile.breakdown import (
    ProfiledSpan,
    break_down_device,
    break_down_host,
    find_group,
    measure_coverage,
)
from cnnbench.engine.profile.profiler import annotate_step
from cnnbench.engine.training import Inference, TimedStep, Training
from cnnbench.engine.tuned import native
from cnnbench.errors import DataError, UsageError, WorkloadError
from cnnbench.plan.matrix import TUNED_VARIANTS, make_profile_jobs, parse_settings
from cnnbench.profile_model import Breakdown, Part
from cnnbench.report import profile as words
from cnnbench.report.render import text
from cnnbench.runner.launch import HELD_ALLOCATOR, LaunchOptions, run_profile

CPU = torch.device("cpu")
FAKE = Path(__file__).with_name("fake_worker.py")


def shares(parts: tuple[Part, ...]) -> dict[str, float]:
    return {part.name: part.share for part in parts}


class TestBreakdown:
    def test_of_the_host_is_each_operators_self_time_and_the_rest_is_nobodys(self) -> None:
        found = break_down_host([*p.step_spans(), *p.step_spans(20.0)])
        assert found.step_seconds == 10
        assert shares(found.groups) == pytest.approx(
            {"convolution": 0.45, "optimiser": 0.15, "data and copies": 0.05, "python and gaps": 0.35}
        )
        assert shares(found.phases) == pytest.approx(
            {"draw": 0.1, "forward": 0.4, "backward": 0.2, "optimiser": 0.2, "between": 0.1}
        )
        first = found.operators[0]
        assert (first.name, first.phase, first.seconds, first.calls) == ("aten::mkldnn_convolution", "forward", 2.5, 1)

    def test_what_is_outside_the_steps_does_not_count(self) -> None:
        stray = replace(p.step_spans()[5], parents=("cnnbench::not counted",))
        assert break_down_host([*p.step_spans(), stray]) == break_down_host(p.step_spans())

    def test_without_a_step_there_is_nothing_to_take_apart(self) -> None:
        with pytest.raises(WorkloadError, match="no step"):
            break_down_host([])
        with pytest.raises(WorkloadError, match="no step"):
            break_down_device([], [])

    def test_time_covered_counts_overlapping_kernels_once(self) -> None:
        times = {"a": (5, 9), "b": (0, 2), "c": (1, 3), "d": (6, 7)}
        assert measure_coverage([ProfiledSpan(name, *ends) for name, ends in times.items()]) == 7

    def test_of_a_gpu_is_its_kernels_time_by_operator_and_the_rest_is_idle(self) -> None:
        """On events as torch gives them; no GPU has seen this."""
        found, notes = profiler.break_down(SimpleNamespace(events=p.gpu_events), "cuda")
        assert notes == ()
        assert (found.view, found.step_seconds) == ("device", pytest.approx(100e-6))
        assert shares(found.groups) == pytest.approx({"convolution": 0.5, "data and copies": 0.1, "device idle": 0.4})
        assert shares(found.phases) == pytest.approx({"forward": 0.4, "backward": 0.2, "device idle": 0.4})
        assert found.device_idle_share == pytest.approx(0.4)
        names = {each.name: (each.group, each.calls) for each in found.kernels}
        assert names["sm90_conv_kernel"] == ("convolution", 1.0)
        assert set(names) == {"wgrad_kernel", "sm90_conv_kernel", "Memcpy DtoD"}

    def test_kernels_that_no_operator_queued_stand_for_themselves(self) -> None:
        events = p.gpu_events(recorded=True)
        found, _ = profiler.break_down(SimpleNamespace(events=lambda: events), "cuda")
        assert shares(found.groups) == pytest.approx({"convolution": 0.5, "data and copies": 0.1, "device idle": 0.4})
        assert {each.name for each in found.operators} == {"wgrad_kernel", "sm90_conv_kernel", "Memcpy DtoD"}

    def test_of_a_device_that_the_profiler_does_not_see_is_the_hosts_time_and_says_so(self) -> None:
        hosts = [each for each in p.gpu_events() if each.device_type == profiler._HOST]
        found, notes = profiler.break_down(SimpleNamespace(events=lambda: hosts), "mps")
        assert found.view == "host"
        assert "saw nothing on the mps device" in notes[0]


class TestGroups:
    @pytest.mark.parametrize(
        ("name", "group"),
        [
            ("aten::convolution_backward", "convolution"),
            ("aten::cudnn_convolution", "convolution"),
            ("ConvolutionBackward0", "bookkeeping"),
            ("aten::resolve_conj", "bookkeeping"),
            ("aten::max_pool2d_with_indices", "pooling"),
            ("aten::bernoulli_", "random numbers"),
            ("aten::addmm", "matrix product"),
            ("aten::addcdiv_", "elementwise"),
            ("aten::index", "data and copies"),
            ("aten::zero_", "allocation"),
            ("native::first_forward", "convolution"),
            ("native::sparse_backward", "matrix product"),
            ("native::rmsprop", "optimiser"),
            ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16>", "matrix product"),
            ("myown::operator", "other"),
        ],
    )
    def test_are_told_by_name(self, name: str, group: str) -> None:
        assert find_group(name, "forward") == group

    def test_what_stands_in_a_phase_or_within_dropout_is_theirs(self) -> None:
        assert find_group("aten::sqrt", "optimiser") == "optimiser"
        assert find_group("aten::index", "draw") == "data and copies"
        assert find_group("aten::mul", "forward", ("aten::dropout",)) == "random numbers"

    @needs_native
    def test_every_native_kernel_has_one(self) -> None:
        functions = [name for name, each in vars(native.load()).items() if callable(each)]
        kernels = [name for name in functions if name != "vector_lanes" and not name.startswith("knows_")]
        assert "stage_forward" in kernels
        assert [name for name in kernels if find_group(f"native::{name}", "forward") == "other"] == []


def timed(name: str, rung: str) -> TimedStep:
    if rung in tuned.VARIANTS:
        return tuned.make(TrainingSetup(job(name, rung), workloads.get(name), digits(), CPU))
    task = "inference" if rung == "inference" else "training"
    plain = job(name, "eager", division="reference", task=task)
    return (Inference if task == "inference" else Training)(TrainingSetup(plain, workloads.get(name), digits(), CPU))


def recorded(step: TimedStep) -> Breakdown:
    step.step()
    return profiler.break_down(profiler.run_profiler(step, backend("cpu").attach(threads=None), 2), "cpu")[0]


@pytest.mark.parametrize("name", ["mnist-cnn", "mlp-1"])
@pytest.mark.parametrize("rung", ["reference", "fused", "native", "inference"])
class TestRealStep:
    def test_parts_add_up_and_every_operator_is_known(self, name: str, rung: str) -> None:
        if rung == "native" and not available():
            pytest.skip("no native kernels here")
        found = recorded(timed(name, rung))
        assert sum(part.share for part in found.groups) == pytest.approx(1.0)
        assert sum(part.share for part in found.phases) == pytest.approx(1.0)
        assert [each.name for each in found.operators if each.group == "other"] == []
        phases = {"draw", "forward"} if rung == "inference" else {"draw", "forward", "backward", "optimiser"}
        assert phases <= set(shares(found.phases))
        kernels = {each.name for each in found.operators if each.name.startswith("native::")}
        assert bool(kernels) == (rung == "native")
        if rung == "native":
            stages = ("first_forward", "first_backward", "stage_forward", "stage_backward", "rmsprop")
            layers = stages if name == "mnist-cnn" else ("dense_finish", "adam")
            assert {f"native::{each}" for each in (*layers, "cross_entropy")} <= kernels
            assert not any(each.name.startswith("autograd") for each in found.operators)


@needs_native
def test_a_kernel_that_a_layer_took_for_itself_is_seen_too() -> None:
    step = timed("mlp-1", "native")
    layer, kernels = step._native.dense[0], step._native._kernels  # type: ignore[attr-defined]
    layer.own = kernels.dense_finish
    with annotate_step(step):
        assert layer.own.__wrapped__ is kernels.dense_finish.__wrapped__
    assert layer.own is kernels.dense_finish


@pytest.mark.parametrize("rung", ["reference", "native"])
def test_marks_are_gone_when_the_profile_is_taken(rung: str) -> None:
    if rung == "native" and not available():
        pytest.skip("no native kernels here")
    step = timed("mlp-1", rung)
    owners = [step, step._batches, step.compute_mode, step._optimizer]  # type: ignore[attr-defined]
    owners += [native.load(), step._native] if rung == "native" else []  # type: ignore[attr-defined]
    before = [dict(vars(owner)) for owner in owners]
    with annotate_step(step):
        assert [dict(vars(owner)) for owner in owners] != before
    assert [dict(vars(owner)) for owner in owners] == before


def test_a_trace_is_a_chrome_trace_and_one_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    step = timed("mlp-1", "reference")
    recorded = profiler.run_profiler(step, backend("cpu").attach(threads=None), 1)
    profiler.write_trace(recorded, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {"cnnbench::step", "aten::mm"} <= {each.get("name") for each in events}
    assert [each.name for each in tmp_path.iterdir()] == ["trace.json"]
    with pytest.raises(DataError, match=r"gone/trace\.json: the trace cannot be written"):
        profiler.write_trace(recorded, tmp_path / "gone" / "trace.json")


def planned(name: str, *texts: str, devices: tuple = (b.CPU,)) -> list[tuple[str, str]]:
    own = workloads.get(name)
    found = make_profile_jobs(
        own, parse_settings(texts, own), b.machine(), devices, data_kind="synthetic", steps=3, warmup_steps=1
    )
    assert all((each.job.block_steps, each.job.warmup_steps) == (3, 1) for each in found)
    return [(each.name, each.job.device) for each in found]


class TestRungs:
    def test_are_those_of_the_tuned_division(self) -> None:
        assert set(TUNED_VARIANTS) == set(tuned.VARIANTS)

    @pytest.mark.parametrize(
        ("name", "texts", "expected"),
        [
            ("mnist-cnn", (), ["reference", *TUNED_VARIANTS]),
            ("mlp-5-pretrained", (), ["reference", *TUNED_VARIANTS]),
            ("mnist-cnn", ("layout=nhwc",), ["reference nhwc", *TUNED_VARIANTS]),
            ("mnist-cnn", ("division=reference",), ["reference"]),
            ("mnist-cnn", ("division=tuned",), [*TUNED_VARIANTS]),
            ("mnist-cnn", ("execution=native",), ["native"]),
            ("mnist-cnn", ("division=open",), ["auto"]),
            ("mnist-cnn", ("execution=compiled",), ["reference compiled"]),
            ("mnist-cnn", ("task=inference",), ["reference"]),
            ("vgg16", ("batch_size=2",), ["reference"]),
            ("gemm", ("size=64",), ["reference"]),
        ],
    )
    def test_follow_from_the_settings(self, name: str, texts: tuple[str, ...], expected: list[str]) -> None:
        assert planned(name, *texts) == [(rung, "cpu") for rung in expected]

    def test_come_device_by_device(self) -> None:
        found = planned("mlp-1", devices=(b.CPU, b.GPU))
        assert found == [(rung, device) for device in ("cpu", "cuda:0") for rung in ("reference", *TUNED_VARIANTS)]

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("mnist-cnn", "precision", "write key=value"),
            ("mnist-cnn", "precision=fp23", "'fp23' is not one of fp32"),
            ("mnist-cnn", "presicion=fp32", "did you mean 'precision'"),
            ("mnist-cnn", "batch_size=0", "must be a whole number from 1"),
            ("mnist-cnn", "batch_size=--5", "must be a whole number from 1"),
            ("mnist-cnn", "batch_size=\u00b2", "must be a whole number from 1"),
            ("mnist-cnn", "batch_size=60000", "more than the images of split"),
            ("mnist-cnn", "block_steps=3", "--steps sets"),
            ("mnist-cnn", "clock=job", "does not change a step"),
            ("mnist-cnn", "size=3", "takes no size"),
            ("gemm", "precision=fp32", "needs --set size=N"),
        ],
    )
    def test_of_settings_that_make_no_sense_are_refused(self, name: str, text: str, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            planned(name, text)

    def test_contradictions_name_both_values(self) -> None:
        with pytest.raises(
            UsageError, match=r"execution 'eager' is the reference division's|layout 'nhwc' cannot be chosen"
        ):
            planned("mnist-cnn", "division=tuned", "layout=nhwc")


class TestReport:
    def test_says_last_that_it_is_no_measurement_and_names_what_could_not_be_had(self) -> None:
        shown = [p.profiled(), p.failed("native")]
        formats: tuple[text.Format, ...] = ("table", "markdown")
        for format_ in formats:
            rendered = text.render(words.report(shown, 3), format_, width=300)
            assert rendered.splitlines()[-1] == f"- {words.NO_MEASUREMENT}"
            assert "native on cpu: unsupported: no compiler" in rendered
            assert "the 3 longest; 2 more take" in rendered

    def test_says_what_the_profiler_cost_where_it_can_be_told(self) -> None:
        assert "+25 %" in text.render(words.report([p.profiled()], 3), "table", width=120)
        slow = p.profiled()
        assert slow.profile is not None
        noisy = slow.model_copy(update={"profile": slow.profile.model_copy(update={"plain_seconds": (7.0, 8.0, 11.0)})})
        rendered = text.render(words.report([noisy], 3), "table", width=120)
        assert "unseen" in rendered
        assert "+25 %" not in rendered

    def test_warns_of_a_busy_machine(self) -> None:
        slow = p.profiled()
        assert slow.profile is not None
        busy = slow.model_copy(update={"profile": slow.profile.model_copy(update={"plain_seconds": (4.0, 8.0, 9.0)})})
        texts = [
            [note.text for note in words.report([each], 3).notes if note.kind == "warning"] for each in (slow, busy)
        ]
        assert texts[0] == []
        assert "plain steps took 4,000.0 to 9,000.0 ms: the machine is busy" in texts[1][0]

    def test_is_as_wide_as_a_terminal_with_every_rung_beside_the_others(self) -> None:
        shown = [p.profiled(name) for name in ("reference", "fused", "native")]
        rendered = text.render(words.report(shown, 5), "table", width=80)
        assert max(map(len, rendered.splitlines())) <= 80
        assert rendered.count("10,000.0 100.0 %") == 3

    def test_as_json_has_every_operator_and_the_raw_times(self) -> None:
        found = json.loads(text.render(words.report([p.profiled(), p.failed("fused")], 1), "json"))
        first, second = found["rungs"]
        assert (first["plain_step_seconds"], first["profiled_step_seconds"]) == (8.0, 10.0)
        assert len(first["breakdown"]["operators"]) == 5
        assert (second["status"], second["message"]) == ("unsupported", "no compiler")
        assert found["note"] == words.NO_MEASUREMENT


class TestWorker:
    @pytest.mark.parametrize(
        ("mode", "status", "said"),
        [
            ("crash", "crashed", "exited with 1"),
            ("segfault", "crashed", "SIGSEGV"),
            ("ok", "crashed", "cannot be read"),
        ],
    )
    def test_that_fails_is_typed(self, mode: str, status: str, said: str) -> None:
        found = run_profile(p.rung(), LaunchOptions(), Path("trace.json"), command=(sys.executable, str(FAKE), mode))
        assert (found.outcome.status, found.profile, found.trace) == (status, None, None)
        assert said in (found.outcome.message or "")

    def test_has_the_allocator_held_as_in_measurements(self) -> None:
        found = run_profile(p.rung(), LaunchOptions(), None, command=(sys.executable, str(FAKE), "crash"))
        assert found.environment.items() >= HELD_ALLOCATOR.items()
