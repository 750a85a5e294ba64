"""Profiles for tests: spans of a step with closed-form times, events as torch's profiler gives them, and a worker's answer."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from torch.autograd import DeviceType  # type: ignore[attr-defined]

from cnnbench.engine.profile.breakdown import ALL_STEPS, STEP, ProfiledSpan, break_down_host
from cnnbench.profile_model import Profile, ProfileJob, ProfileResult
from cnnbench.schema import Outcome


def step_spans(begin: float = 0.0) -> list[ProfiledSpan]:
    """A step of 10 s: 1 draw (0.5 in an operator), 4 forward (3 in a convolution), 4 backward of which 2 in an optimiser."""
    forward, update = "cnnbench::forward", "cnnbench::backward"
    optimiser = "cnnbench::optimiser"

    def span(name: str, start: float, seconds: float, own: float, *parents: str) -> ProfiledSpan:
        return ProfiledSpan(name, begin + start, begin + start + seconds, own, (ALL_STEPS, STEP, *parents))

    return [
        ProfiledSpan(STEP, begin, begin + 10, 1.0, (ALL_STEPS,)),
        span("cnnbench::draw", 0, 1, 0.5),
        span("aten::slice", 0, 0.5, 0.5, "cnnbench::draw"),
        span(forward, 1, 4, 1.0),
        span("aten::conv2d", 1, 3, 0.5, forward),
        span("aten::mkldnn_convolution", 1, 2.5, 2.5, forward, "aten::conv2d"),
        span(update, 5, 4, 0.5),
        span("aten::convolution_backward", 5, 1.5, 1.5, update, "ConvolutionBackward0"),
        span(optimiser, 7, 2, 0.5, update),
        span("aten::mul_", 7, 1.5, 1.5, update, optimiser),
    ]


def event(
    name: str, begin: float, end: float, *, parent: Any = None, own: float = 0.0,
    kernels: Sequence[tuple[str, float]] = (), on_device: bool = False, annotation: bool = False,
) -> Any:  # fmt: skip
    """What of torch's FunctionEvent is read; microseconds."""
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=begin, end=end),
        cpu_parent=parent,
        self_cpu_time_total=own,
        kernels=[SimpleNamespace(name=kernel, duration=duration) for kernel, duration in kernels],
        device_type=DeviceType.CUDA if on_device else DeviceType.CPU,
        is_user_annotation=annotation,
    )


def gpu_events(*, recorded: bool = False) -> list[Any]:
    """Two steps of 100 us each on a GPU: convolutions 60, copies 20, backward in autograd's own thread 40, so 80 us idle.

    `recorded`: the same kernels replayed, queued by no operator.
    """
    steps = event(ALL_STEPS, 0, 200, annotation=True)
    first = event("cnnbench::not counted", -500, -1, annotation=True)
    found = [first, event("warm", -400, -300, on_device=True), steps]

    def operator(name: str, begin: float, parent: Any, kernel: str, seconds: float) -> Any:
        return event(name, begin, begin + 1, parent=parent, kernels=() if recorded else [(kernel, seconds)])

    for begin in (0.0, 10.0):
        step = event(STEP, begin, begin + 10, parent=steps, annotation=True)
        forward = event("cnnbench::forward", begin, begin + 5, parent=step, annotation=True)
        found += [step, forward, operator("aten::cudnn_convolution", begin, forward, "sm90_conv_kernel", 30)]
        found.append(operator("aten::copy_", begin + 3, forward, "Memcpy DtoD", 10))
    around = event("autograd::engine::evaluate_function: ConvolutionBackward0", 20, 30)
    found.append(operator("aten::convolution_backward", 20, around, "wgrad_kernel", 40))
    ran = [("wgrad_kernel", 120, 160), ("sm90_conv_kernel", 0, 30), ("sm90_conv_kernel", 30, 60)]
    ran += [("Memcpy DtoD", 60, 70), ("Memcpy DtoD", 70, 80)]
    found += [event(name, begin, end, on_device=True) for name, begin, end in ran]
    return [*found, event(STEP, 0, 200, on_device=True, annotation=True)]


def rung(name: str = "reference", **fields: object) -> ProfileJob:
    import builders as b

    return ProfileJob(name=name, job=b.cnn_job(threads=2, batch_size=16, **fields))


def profiled(name: str = "reference", **fields: object) -> ProfileResult:
    """A rung whose plain step takes 8 s, under the profiler 10."""
    found = Profile(plain_seconds=(7.0, 8.0, 9.0), profiled_steps=1, breakdown=break_down_host(step_spans()))
    return ProfileResult(
        rung=rung(name, **fields), outcome=Outcome(status="ok"), profile=found, trace=None, environment={}
    )


def failed(name: str, status: str = "unsupported", message: str = "no compiler") -> ProfileResult:
    outcome = Outcome.model_validate({"status": status, "message": message})
    return ProfileResult(rung=rung(name), outcome=outcome, profile=None, trace=None, environment={})
