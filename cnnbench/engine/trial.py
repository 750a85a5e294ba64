"""One trial from attach to result: the order in which a worker does things, and what is inside which clock.

attach -> data -> build -> first step (cold start ends) -> canary and precision check -> warm-up -> reset to the start
-> marks and telemetry -> TIMED REGION -> marks and telemetry -> test accuracy -> operator count and floors ->
TensorBoard. If several processes do a job together, each does all of this, and `ProcessGroup` keeps them in step.
`time_region` decides what is timed and in which pieces, by the clock that the job names.
"""

from __future__ import annotations

import math
import operator
import resource
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench import data
from cnnbench.devices import Attached, backend, telemetry
from cnnbench.engine import canary, compute_mode, process
from cnnbench.engine.build import apply_settings, build, load_workload_file, verify_counts
from cnnbench.engine.distributed.group import SINGLE, DdpTraining, ProcessGroup, measure_allreduce
from cnnbench.engine.energy import idle_energy, steps_energy
from cnnbench.engine.outcome import classify, finite_losses
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.timing import NANO, JobTiming, disable_gc, time_blocks, time_job, warm_up
from cnnbench.engine.training import TimedStep, Training, steps_per_block
from cnnbench.errors import WorkloadError
from cnnbench.schema import Evaluation, Fit, Job, Outcome, Trial, WorkerInput
from cnnbench.workloads import recipes
from cnnbench.workloads.flops import FLOAT32_BYTES

T = TypeVar("T")
ALL_IMAGES = 10_000
COPY_BYTES = 64 * 2**20
"""Bytes copied to measure the device's bandwidth."""


class _Phases:
    """Seconds of each part before the timed region, by one monotonic clock shared with the parent."""

    def __init__(self, spawned_ns: int, started_ns: int, launcher_ns: int | None) -> None:
        self.seconds = {"interpreter": ((launcher_ns or started_ns) - spawned_ns) * NANO}
        if launcher_ns is not None:  # between them: torch's launcher imported, the launchers met, the ranks started
            self.seconds["launch"] = (started_ns - launcher_ns) * NANO
        self.mark_ns = started_ns

    def end(self, name: str) -> None:
        begun_ns, self.mark_ns = self.mark_ns, time.monotonic_ns()
        self.seconds[name] = (self.mark_ns - begun_ns) * NANO


def measure_trial(
    worker_input: WorkerInput,
    progress: ProgressWriter,
    started_ns: int,
    join: Callable[[Job], ProcessGroup] | None,
) -> Outcome:
    """Measure the whole trial; of several processes each joins the others by `join`.

    Raises UnsupportedError, DivergedError and whatever the work raises; see engine.process.
    """
    job, group = worker_input.job, SINGLE

    # Cold start: from the parent's spawn to the first synchronised step, each part ended by one clock.
    phases = _Phases(worker_input.spawn_monotonic_ns, started_ns, worker_input.launcher_ns)
    load_workload_file(worker_input)
    phases.end("import")
    if join is not None:
        progress.phase("join")
        group = join(job)
        phases.end("join")
    progress.phase("attach")
    attached = backend(job.device).attach(threads=job.threads, index=group.local)
    synchronize = group.synchronizer(attached)
    progress.sizes["device_bytes"] = attached.allocated_bytes
    settings = apply_settings(job)
    phases.end("attach")
    timed = build(job, worker_input.data_dir, attached, group=group, progress=progress, end=phases.end)
    settings |= timed.recorded_settings
    progress.phase("first step")
    timed.step()
    synchronize()
    phases.end("first_step")
    cold_start = (phases.mark_ns - worker_input.spawn_monotonic_ns) * NANO

    # Checks before the timing: the synchronise, the number format, the counts of a workload that is not ours.
    progress.phase("canary")
    canary_result = canary.run(canary.TorchProbe(attached.device, attached.synchronize))
    errors = compute_mode.measure_rounding(attached.device, job.precision)
    settings |= {name: f"{value:.2e}" for name, value in errors.items()}
    settings |= verify_counts(job, timed)
    phases.end("canary")

    # Warm-up, then back to the first weights and the first batch.
    progress.phase("warm-up")
    first_losses: list[float] = []
    timed.reset()
    warm = warm_up(timed.step, synchronize, job.warmup_steps, after_step=record_known(timed.loss, first_losses))
    timed.reset()
    synchronize()

    # The timed region. Marks and sensors are read just outside it, and all processes pass both its ends together.
    idle = idle_energy(worker_input, progress)
    attached.reset_peaks()
    mark = process.reset_host_peak()
    before, usage = telemetry.sample(worker_input.device_uuid), resource.getrusage(resource.RUSAGE_SELF)
    losses: list[torch.Tensor] = []
    group.barrier()
    timing = time_region(job, timed, attached, progress, losses, group)
    group.barrier()
    spent, after = resource.getrusage(resource.RUSAGE_SELF), telemetry.sample(worker_input.device_uuid)
    allocated, reserved = attached.peaks()
    memory = mark.model_copy(
        update={
            "host_peak_bytes": process.host_peak_bytes(),
            "device_allocated_peak_bytes": allocated,
            "device_reserved_peak_bytes": reserved,
            "device_used_bytes": after.device_used_bytes,
        }
    )

    # The result of the timed steps, read before anything else is done to the network.
    images, final_loss, weights = timed.images_drawn, timed.loss(), group.weights_digest(timed)
    steps, parameters = len(timing.epoch_seconds) * steps_per_block(job), timed.parameters or None
    if worker_input.tensorboard_dir is not None:
        # Imported for such a job alone: what describes a machine in words is needed by nothing else here.
        from cnnbench.engine.tensorboard import add_tensorboard_run, copy_weights

        trained_weights = copy_weights(timed)

    # After it, in the same process: test accuracy, energy of further steps, the exchange of gradients.
    progress.phase("evaluation")
    test, fit = None, None
    if job.clock in ("accuracy", "recipe"):  # these look at every test image themselves
        test = timing.evaluations[-1]
    elif job.final_evaluation and isinstance(timed, Training) and timed.has_test_images:
        if timed.setup.workload.loss == "squared-error":
            fit = measure_fit(timed, steps)
        else:
            start = time.perf_counter_ns()
            correct, tested = timed.count_correct()
            seconds = (time.perf_counter_ns() - start) * NANO
            test = Evaluation(after_steps=steps, images=tested, correct=correct, seconds=seconds)
    energy = steps_energy(idle, job, timed, attached, worker_input.device_uuid, group)
    exchange = None
    if isinstance(timed, DdpTraining):
        progress.phase("communication")
        exchange = measure_allreduce(timed, synchronize, job.block_steps)

    # Last the operators of a step and the floors under it, where a step dispatches its operators one by one: a batch that is
    # recorded with the step is not drawn alone.
    draw = timed.draw if isinstance(timed, Training) and timed.runs_eagerly else None
    eager = timed.runs_eagerly and job.execution != "compiled"
    whole_job = job.clock != "steady"
    trial = Trial(
        block_seconds=timing.epoch_seconds,
        steps_per_block=steps_per_block(job),
        steps=steps,
        images=images,
        warmup_seconds=warm,
        job_seconds=timing.job_seconds if whole_job else None,
        job_evaluation_seconds=timing.evaluation_seconds if whole_job else None,
        pretraining_seconds=timing.before_seconds if timing.before_steps else None,
        pretraining_steps=timing.before_steps or None,
        losses=finite_losses([float(loss) for loss in losses]),
        progress_written=progress.wanted,
        cold_start_seconds=cold_start,
        phases=phases.seconds,
        first_losses=finite_losses(first_losses[:5]),
        final_loss=final_loss if final_loss is not None and math.isfinite(final_loss) else None,
        epoch_evaluations=timing.evaluations,
        stopped_early=timing.stopped_early,
        test=test,
        fit=fit,
        accuracy_data=job.data if test is not None else None,
        parameters=parameters,
        parameter_bytes=parameters and FLOAT32_BYTES * parameters,
        operators_per_step=count_operators(timed.step) if eager else None,
        minor_faults=spent.ru_minflt - usage.ru_minflt,
        cpu_seconds=spent.ru_utime + spent.ru_stime - (usage.ru_utime + usage.ru_stime),
        memory=memory,
        canary=canary_result,
        floors=measure_lower_bounds(attached, draw),
        telemetry_before=before,
        telemetry_after=after,
        energy=energy,
        communication=exchange,
        settings=settings,
    )
    trial = group.with_rank_record(trial, weights)
    if worker_input.tensorboard_dir is not None:
        progress.phase("tensorboard")
        trial = add_tensorboard_run(worker_input, timed, trial, trained_weights)
    return classify(job, trial, first_losses, final_loss, errors)


def measure_fit(training: Training, steps: int) -> Fit | None:
    """Measure how well a regression fits; None where its predictions are not finite, as after it diverged."""
    error, variance = training.measure_fit()
    if not math.isfinite(error):
        return None
    return Fit(after_steps=steps, examples=ALL_IMAGES, mean_squared_error=error, target_variance=variance)


def time_region(
    job: Job,
    timed: TimedStep,
    attached: Attached,
    progress: ProgressWriter,
    losses: list[torch.Tensor],
    group: ProcessGroup = SINGLE,
) -> JobTiming:
    """Time the job by the clock it names; a steady job's blocks are returned as `epoch_seconds`."""
    report = progress.count if progress.wanted else None
    # A block's last loss is noted as a tensor on the device, and read after the clock has stopped.
    note, synchronize = record_known(timed.last_loss, losses), group.synchronizer(attached)
    if job.clock == "steady":
        progress.phase("timed", job.blocks * job.block_steps)
        with disable_gc():
            blocks = time_blocks(
                timed.step,
                synchronize,
                steps=timed.steps,
                blocks=job.blocks,
                steps_per_block=job.block_steps,
                after_block=note,
                on_steps=report,
            )
        return JobTiming(sum(blocks), 0.0, blocks, (), False)
    if job.epochs is None or job.steps_per_epoch is None or not isinstance(timed, Training) or not timed.trains:
        raise WorkloadError(f"clock {job.clock!r} needs a training workload, epochs and steps_per_epoch")
    length, images = job.epochs, job.epoch_eval_images
    before: Callable[[], int] | None = timed.pretrain
    stop: Callable[[int, int], bool] | None = operator.eq if job.stop_when_all_right else None
    if job.clock == "accuracy":
        if job.target is None or not job.evaluate_every:
            raise WorkloadError("clock 'accuracy' needs target and evaluate_every")
        length, images = job.epochs * job.steps_per_epoch // job.evaluate_every, ALL_IMAGES
        stop = make_target_test(job.target)
    elif job.clock == "recipe":
        before, images = follow_recipe(job, timed), ALL_IMAGES
    steps = steps_per_block(job)
    progress.phase("timed", length * steps)
    with disable_gc():
        return time_job(
            timed.step,
            synchronize,
            epochs=length,
            steps_per_epoch=steps,
            steps=timed.steps,
            steps_per_launch=timed.steps_per_launch,
            evaluate=(lambda: timed.count_correct(images)) if images else None,
            stop=stop,
            pretrain=before,
            after_epoch=note,
            report=report,
        )


def follow_recipe(job: Job, training: Training) -> Callable[[], int]:
    """Set the recipe's rates, and return the function that the clock calls first, which reads the digits."""
    dataset = training.setup.dataset
    if job.recipe is None or dataset is None:
        raise WorkloadError("the recipe clock needs a recipe, and digits")
    training.set_lr_schedule(recipes.get(job.recipe).rates)
    file = data.write_decompressed(dataset)

    def read_dataset() -> int:
        """Give the training the decompressed, verified digits; return 0, the number of steps done."""
        training.replace_dataset(data.read_decompressed(file, dataset))
        return 0

    return read_dataset


def make_target_test(target: float) -> Callable[[int, int], bool]:
    """Make the test that the gates judge the record by, so that both round alike."""
    return lambda correct, images: Evaluation(after_steps=0, images=images, correct=correct, seconds=0.0).reaches(
        target
    )


def record_known(read: Callable[[], T | None], known: list[T]) -> Callable[[], None]:
    """Return a function that reads a value and appends it to `known` unless it is None."""

    def record() -> None:
        if (value := read()) is not None:
            known.append(value)

    return record


def measure_lower_bounds(attached: Attached, draw: Callable[[], object] | None) -> dict[str, float]:
    """Measure lower bounds of a step's time, each the best of 5.

    `launch_seconds` (one element-wise operator on one value, amortised over a queue of 200), `sync_seconds` (an idle
    synchronise), `copy_bytes_per_second` (read plus written, 64 MiB device to device) and, if there are batches to
    draw, `draw_seconds` (one batch, nothing done with it).

    They answer "why not N times faster": a step of k operators cannot be faster than k launches, nor its bytes faster
    than the copy bandwidth. Measured after the timed region, in the same process, with the same threads.
    """
    device = attached.device
    one = torch.zeros(1, device=device)
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)

    def best(work: Callable[[], object], repeats: int) -> float:
        return min(time_blocks(work, attached.synchronize, blocks=5, steps_per_block=repeats)) / repeats

    target.copy_(source)
    floors = {
        "launch_seconds": best(lambda: one.add_(1.0), 200),
        "sync_seconds": best(lambda: None, 1),
        "copy_bytes_per_second": 2 * COPY_BYTES / best(lambda: target.copy_(source), 3),
    }
    if draw is not None:
        floors["draw_seconds"] = best(draw, 10)
    return floors


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A counter of the operators dispatched inside it, without views."""

    operators = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if not func.is_view:
            self.operators += 1
        return func(*args, **(kwargs or {}))


def count_operators(step: Callable[[], None]) -> int:
    """Count the operators (without views) that one step dispatches; the step is really run."""
    counter = _Counter()  # type: ignore[no-untyped-call]
    with counter:
        step()
    return counter.operators
