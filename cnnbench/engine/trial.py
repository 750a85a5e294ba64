"""One trial from attach to result: the order in which a worker does things, and what stands inside which clock.

attach -> data -> build -> first step (cold start ends) -> canary and precision check -> warm-up -> reset to the start ->
marks and telemetry -> TIMED REGION -> marks and telemetry -> test accuracy -> operator count and floors -> TensorBoard.
Where several processes do a job together each goes through all of this, and `ProcessGroup` keeps them in step.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable

import torch

from cnnbench.devices import backend, telemetry
from cnnbench.engine import canary, compute_mode, lower_bounds, process, tensorboard
from cnnbench.engine.build import apply_settings, build, load_workload_file, verify_counts
from cnnbench.engine.distributed.group import SINGLE, DdpTraining, ProcessGroup, measure_allreduce
from cnnbench.engine.energy import idle_energy, steps_energy
from cnnbench.engine.outcome import classify, finite_losses
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.timed_region import record_known, time_region
from cnnbench.engine.timing import NANO, warm_up
from cnnbench.engine.training import Training, steps_per_block
from cnnbench.schema import Evaluation, Job, Outcome, Trial, WorkerInput
from cnnbench.workloads.flops import FLOAT32_BYTES


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
    join: Callable[[Job], ProcessGroup] | None = None,
) -> Outcome:
    """The whole trial; of several processes `join` joins the others. Raises UnsupportedError, DivergedError and whatever the
    work raises; see engine.process.
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
    settings = apply_settings(job, attached)
    phases.end("attach")
    timed = build(job, worker_input.data_dir, attached, group=group, progress=progress, end=phases.end)
    settings |= timed.recorded_settings
    progress.phase("first step")
    timed.step()
    synchronize()
    phases.end("first_step")
    cold_start = (phases.mark_ns - worker_input.spawn_monotonic_ns) * NANO

    # Checks of what is about to be believed: the synchronise, the number format, the counts of a workload not ours.
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

    # What the timed steps left, read before anything else is done to the network.
    images, final_loss, weights = timed.images_drawn, timed.loss(), group.weights_digest(timed)
    steps, parameters = len(timing.epoch_seconds) * steps_per_block(job), timed.parameters or None
    trained_weights = tensorboard.copy_weights(timed) if worker_input.tensorboard_dir is not None else {}

    # After it, in the same process: test accuracy, energy of further steps, the exchange of gradients.
    progress.phase("evaluation")
    test = None
    if job.clock in ("accuracy", "recipe"):  # these look at every test image themselves
        test = timing.evaluations[-1]
    elif job.final_evaluation and isinstance(timed, Training) and timed.has_test_images:
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
        accuracy_data=job.data if test is not None else None,
        parameters=parameters,
        parameter_bytes=parameters and FLOAT32_BYTES * parameters,
        operators_per_step=lower_bounds.count_operators(timed.step) if eager else None,
        minor_faults=spent.ru_minflt - usage.ru_minflt,
        cpu_seconds=spent.ru_utime + spent.ru_stime - (usage.ru_utime + usage.ru_stime),
        memory=memory,
        canary=canary_result,
        floors=lower_bounds.measure_lower_bounds(attached, draw),
        telemetry_before=before,
        telemetry_after=after,
        energy=energy,
        communication=exchange,
        settings=settings,
    )
    trial = group.with_rank_record(trial, weights)
    if worker_input.tensorboard_dir is not None:
        progress.phase("tensorboard")
        trial = tensorboard.add_tensorboard_run(worker_input, timed, trial, trained_weights)
    return classify(job, trial, first_losses, final_loss, errors)
