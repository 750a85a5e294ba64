"""One profile from attach to result: the step built as for a measurement, timed plainly, run under the profiler,
and timed plainly again.

Times here serve to read a profile and never enter a table of speeds: there is no canary and no gate. Marks around the
parts of a step exist only while a profile is taken: the measured step has none. They are set on the objects that the
step calls, not in its code. The native kernels are called without torch, so its profiler does not see them; while a
profile is taken each call is marked by its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import profile, record_function, supported_activities

from cnnbench.devices import Attached, backend
from cnnbench.engine.build import load_workload_file, set_up
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.profile.breakdown import (
    ALL_STEPS,
    ANNOTATION,
    NATIVE,
    STEP,
    ProfiledSpan,
    break_down_device,
    break_down_host,
)
from cnnbench.engine.timing import disable_gc, time_blocks, warm_up
from cnnbench.engine.training import Inference, TimedStep, Training
from cnnbench.engine.tuned.native_training import NativeTraining
from cnnbench.errors import DataError
from cnnbench.files import staged, write_file
from cnnbench.profile_model import Breakdown, Profile, ProfileRequest, StepPhase
from cnnbench.schema import TUNED_RUNG, Outcome, WorkerInput

PLAIN_BLOCKS = 3
"""Timed blocks on accelerators, where only a block of steps can be timed without changing it."""
MICRO = 1e-6
_HOST: Any = torch.autograd.DeviceType.CPU  # type: ignore[attr-defined]


def profile_job(worker_input: WorkerInput, progress: ProgressWriter, request: ProfileRequest) -> Outcome:
    """Profile the job's step and write the result (and the trace) to the files that the request names.

    `block_steps` steps of the job are profiled after `warmup_steps`. Raises what the work raises; see engine.process.
    """
    job = worker_input.job
    load_workload_file(worker_input)
    attached, timed = set_up(job, worker_input.data_dir, progress)
    progress.phase("warm-up")
    warm_up(timed.step, attached.synchronize, job.warmup_steps)
    progress.phase("without the profiler")
    before = plain_seconds(timed, attached, job.block_steps)
    progress.phase("with the profiler")
    recorded = run_profiler(timed, attached, job.block_steps)
    # Again, so that a machine that slows down does not look like the profiler's cost.
    progress.phase("without the profiler again")
    plain = before + plain_seconds(timed, attached, job.block_steps)
    breakdown, notes = break_down(recorded, attached.kind)
    if request.trace_path is not None:
        progress.phase("trace")
        write_trace(recorded, Path(request.trace_path))
    answer = Profile(
        plain_seconds=plain,
        profiled_steps=job.block_steps,
        breakdown=breakdown,
        tuned_rung=timed.recorded_settings.get(TUNED_RUNG),
        notes=notes,
    )
    write_file(Path(request.answer_path), answer.model_dump_json(), durable=False)
    return Outcome(status="ok")


def plain_seconds(timed: TimedStep, attached: Attached, steps: int) -> tuple[float, ...]:
    """Time single steps on a CPU, half of `steps`; elsewhere the mean step of a few queued blocks of `steps`."""
    blocks, length = (-(-steps // 2), 1) if attached.kind == "cpu" else (PLAIN_BLOCKS, steps)
    with disable_gc():
        found = time_blocks(timed.step, attached.synchronize, steps=timed.steps, blocks=blocks, steps_per_block=length)
    return tuple(seconds / length for seconds in found)


def run_profiler(timed: TimedStep, attached: Attached, steps: int) -> Any:
    """Profile `steps` steps, after an uncounted one that takes the cost of a profiler's first use."""
    wanted = {"CPU", backend(attached.kind).profiler_activity}
    activities = [each for each in supported_activities() if each.name in wanted]  # type: ignore[no-untyped-call]
    with annotate_step(timed), disable_gc(), profile(activities=activities) as profiler:
        with record_function(f"{ANNOTATION}not counted"):
            timed.step()
            attached.synchronize()
        with record_function(ALL_STEPS):
            for _ in range(steps):
                with record_function(STEP):
                    timed.step()
            attached.synchronize()
    return profiler


def break_down(profiler: Any, kind: str) -> tuple[Breakdown, tuple[str, ...]]:
    """Break the profiled steps down as the device allows; return notes for the reader too."""
    spans, intervals = [], []
    for event in profiler.events():
        begin, end = event.time_range.start * MICRO, event.time_range.end * MICRO
        named = bool(event.is_user_annotation) or event.name.startswith(ANNOTATION)
        if event.device_type != _HOST:
            intervals += [] if named else [ProfiledSpan(event.name, begin, end)]
            continue
        parents, around = [], event.cpu_parent
        while around is not None:
            parents.append(around.name)
            around = around.cpu_parent
        kernels = tuple((kernel.name, kernel.duration * MICRO) for kernel in event.kernels)
        annotation, own = named and not event.name.startswith(NATIVE), event.self_cpu_time_total * MICRO
        spans.append(ProfiledSpan(event.name, begin, end, own, tuple(reversed(parents)), kernels, annotation))
    if kind == "cpu":
        return break_down_host(spans), ()
    if not intervals:
        queues = "shares are of the host's time, which queues and waits"
        return break_down_host(spans), (f"torch's profiler saw nothing on the {kind} device: {queues}",)
    return break_down_device(spans, intervals), ()


def write_trace(profiler: Any, path: Path) -> None:
    """Write the profile as a Chrome trace, whole or not at all. Raises DataError if it cannot be written."""
    try:
        with staged(path) as partial:
            profiler.export_chrome_trace(str(partial))
    except (OSError, RuntimeError) as error:  # torch complains of a full disk on standard error and leaves no file
        raise DataError(f"{path}: the trace cannot be written: {error}") from error


@contextlib.contextmanager
def annotate_step(timed: TimedStep) -> Iterator[None]:
    """Mark the step's phases and native kernels by name in a profile, and remove the marks afterwards."""
    calls = _find_calls(timed) if isinstance(timed, Training) else []
    with contextlib.ExitStack() as stack:
        for owner, attribute, name in calls:
            plain = getattr(owner, attribute)
            # Whether the method was the object's own or its class's, it is so again afterwards.
            restore = (setattr, owner, attribute, plain) if attribute in vars(owner) else (delattr, owner, attribute)
            setattr(owner, attribute, record_function(name)(plain))
            stack.callback(*restore)
        yield


def _find_calls(timed: Training) -> list[tuple[Any, str, str]]:
    """List what the step calls, by owner and attribute, with its name in a profile."""
    draw, mode, optimizer = (timed._batches, "draw", "draw"), timed.compute_mode, timed._optimizer
    kernels: list[tuple[Any, str, str]] = []
    phases: list[tuple[Any, str, StepPhase]]
    if isinstance(timed, Inference):
        phases = [(mode, "logits", "forward")]
    elif isinstance(timed, NativeTraining):
        step = timed._native
        phases = [(step, "forward", "forward"), (step, "loss", "forward"), (step, "backward", "backward")]
        phases.append((step.update, "step", "optimiser"))
        # All places of a kernel in the step: the library's object, and layers that took theirs from it.
        names = {id(each): name for name, each in vars(step._kernels).items() if callable(each)}
        for owner in (step._kernels, step, step.update, *step.convolutions, *step.dense):
            kept = vars(owner).items()
            kernels += [
                (owner, attribute, f"{NATIVE}{names[id(each)]}") for attribute, each in kept if id(each) in names
            ]
    else:
        phases = [(mode, "loss", "forward"), (mode, "logits", "forward"), (mode, "update", "backward")]
        phases += [(optimizer, "step", "optimiser"), (optimizer, "zero_grad", "optimiser")]
    return [*((owner, attribute, f"{ANNOTATION}{phase}") for owner, attribute, phase in (draw, *phases)), *kernels]
