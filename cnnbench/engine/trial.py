"""One trial from attach to result: the order in which a worker does things, and what stands inside which clock.

attach -> data -> build -> first step (cold start ends) -> canary and precision check -> warm-up -> reset to the start ->
marks and telemetry -> TIMED REGION -> marks and telemetry -> test accuracy -> operator count and floors -> TensorBoard.
Of several processes that do a job together each goes through all of this, and `Team` keeps them in step.
"""

from __future__ import annotations

import itertools
import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cnnbench import units, workloads
from cnnbench.devices import Attached, backend, telemetry
from cnnbench.devices.sensors import energy_between
from cnnbench.engine import board, canary, floors, memory, own, precision
from cnnbench.engine.build import apply_settings, build
from cnnbench.engine.loop import Networked, Timed, Training
from cnnbench.engine.measure import NANO, JobTiming, Report, collector_off, time_blocks, time_job, warm_up
from cnnbench.engine.progress import Progress
from cnnbench.engine.replica import Replica, communication
from cnnbench.engine.team import SOLO, Team
from cnnbench.engine.tuned.recipe import ByRecipe
from cnnbench.errors import WorkloadError
from cnnbench.schema import Energy, Envelope, Evaluation, Job, Memory, Outcome, Telemetry, Trial

ENERGY_WINDOW_SECONDS = 10.0
"""NVML's total-energy counter ticks about every 0.1 s, so half a tick at either end is 1 % of this window."""
ENERGY_IDLE_SECONDS = 5.0
RANDOM_LOSS_BAND = 0.25
"""How far from ln(classes), relatively, the first loss of a freshly drawn network may be."""
ALL_IMAGES = 10_000
LOOKING = ("accuracy", "recipe")
"""Clocks that look at every test image themselves."""
LEARNING_STEPS = 100
"""A loss is expected below its first value after this many steps; fewer prove nothing."""


class _Phases:
    """Seconds of each part before the timed region, by one monotonic clock shared with the parent."""

    def __init__(self, spawned_ns: int, started_ns: int, launcher_ns: int | None = None) -> None:
        first = started_ns if launcher_ns is None else launcher_ns
        self.seconds: dict[str, float] = {"interpreter": (first - spawned_ns) * NANO}
        if launcher_ns is not None:  # between them: torch's launcher imported, the launchers met, the ranks started
            self.seconds["launch"] = (started_ns - launcher_ns) * NANO
        self._spawned_ns, self._mark_ns = spawned_ns, started_ns

    def end(self, name: str) -> None:
        now = time.monotonic_ns()
        self.seconds[name] = (now - self._mark_ns) * NANO
        self._mark_ns = now

    def since_spawn(self) -> float:
        return (self._mark_ns - self._spawned_ns) * NANO


@dataclass(frozen=True)
class _Usage:
    minor_faults: int
    cpu_seconds: float

    @staticmethod
    def now() -> _Usage:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return _Usage(usage.ru_minflt, usage.ru_utime + usage.ru_stime)


def measure_trial(
    envelope: Envelope, progress: Progress, started_ns: int, join: Callable[[Job], Team] | None = None
) -> Outcome:
    """The whole trial; of several processes `join` meets the others. Raises UnsupportedError, DivergedError and whatever the
    work raises; see engine.worker.
    """
    job, team = envelope.job, SOLO
    phases = _Phases(envelope.spawn_monotonic_ns, started_ns, envelope.launcher_ns)
    own.admit(envelope)
    phases.end("import")
    if join is not None:
        progress.phase("join")
        team = join(job)
        phases.end("join")
    progress.phase("attach")
    attached = backend(job.device).attach(threads=job.threads, index=team.local)
    synchronize = team.synchronizer(attached)
    progress.watch(attached.allocated_bytes)
    settings = apply_settings(job, attached)
    phases.end("attach")

    directory = None if envelope.data_dir is None else Path(envelope.data_dir)
    timed = build(job, directory, attached, team=team, begin=progress.phase, end=phases.end)
    settings |= timed.notes if isinstance(timed, Training) else {}
    progress.phase("first step")
    timed.step()
    synchronize()
    phases.end("first_step")
    cold_start = phases.since_spawn()

    progress.phase("canary")
    bird = canary.sing(canary.TorchProbe(attached.device, attached.synchronize))
    errors = precision.verify(attached.device, job.precision)
    settings |= {name: f"{value:.2e}" for name, value in errors.items()}
    settings |= own.verify(job, timed)
    phases.end("canary")

    progress.phase("warm-up")
    first_losses: list[float] = []
    timed.reset()
    warm = warm_up(timed.step, synchronize, job.warmup_steps, after_step=_note_loss(timed, first_losses))
    timed.reset()
    synchronize()

    idle = _idle_energy(envelope, progress)
    attached.reset_peaks()
    mark = memory.reset_host_peak()
    before, usage = telemetry.sample(envelope.device_uuid), _Usage.now()
    losses: list[torch.Tensor] = []
    team.wait()
    timing = _time(job, timed, attached, progress, losses, team)
    team.wait()
    spent, after = _Usage.now(), telemetry.sample(envelope.device_uuid)
    allocated, reserved = attached.peaks()
    host_peak = memory.host_peak_bytes()
    images, final_loss, weights = timed.images_drawn, timed.loss(), team.digest(timed)
    steps = len(timing.epoch_seconds) * _steps_per_block(job)

    trained: board.Weights = {} if envelope.tensorboard_dir is None else board.weights_of(timed)
    progress.phase("evaluation")
    test = timing.evaluations[-1] if job.clock in LOOKING else _evaluate(job, timed, steps)
    energy = _energy(idle, job, timed, attached, envelope.device_uuid, team)
    exchange = None
    if isinstance(timed, Replica):
        progress.phase("communication")
        exchange = communication(timed, synchronize, job.block_steps)
    trial = Trial(
        block_seconds=timing.epoch_seconds,
        steps_per_block=_steps_per_block(job),
        steps=steps,
        images=images,
        warmup_seconds=warm,
        job_seconds=None if job.clock == "steady" else timing.job_seconds,
        job_evaluation_seconds=None if job.clock == "steady" else timing.evaluation_seconds,
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
        parameters=timed.parameters if isinstance(timed, Networked) else None,
        parameter_bytes=4 * timed.parameters if isinstance(timed, Networked) else None,
        operators_per_step=floors.count_operators(timed.step) if _dispatches(job, timed) else None,
        minor_faults=spent.minor_faults - usage.minor_faults,
        cpu_seconds=spent.cpu_seconds - usage.cpu_seconds,
        memory=Memory(
            host_peak_bytes=host_peak,
            host_before_bytes=mark.before_bytes,
            host_method=mark.method,
            device_allocated_peak_bytes=allocated,
            device_reserved_peak_bytes=reserved,
            device_used_bytes=after.device_used_bytes,
        ),
        canary=bird,
        floors=floors.measure_floors(attached, _drawing(timed)),
        telemetry_before=before,
        telemetry_after=after,
        energy=energy,
        communication=exchange,
        settings=settings,
    )
    trial = team.account(trial, weights)
    if envelope.tensorboard_dir is not None:
        progress.phase("tensorboard")
        trial = board.with_board(envelope, timed, trial, trained)
    return _judge(job, trial, first_losses, final_loss, errors)


def _dispatches(job: Job, timed: Timed) -> bool:
    return job.execution != "compiled" and (not isinstance(timed, Training) or timed.dispatches)


def _drawing(timed: Timed) -> Callable[[], object] | None:
    """Drawing a batch by itself; None where it is recorded with the step, which drawing it alone is no part of."""
    if isinstance(timed, Training) and not timed.dispatches:
        return None
    return timed.draw if isinstance(timed, Networked) else None


def _note_loss(timed: Timed, losses: list[float]) -> Callable[[], None]:
    def note() -> None:
        loss = timed.loss()
        if loss is not None:
            losses.append(loss)

    return note


def _steps_per_block(job: Job) -> int:
    return {"steady": job.block_steps, "accuracy": job.evaluate_every}.get(job.clock, job.steps_per_epoch) or 0


def _time(
    job: Job, timed: Timed, attached: Attached, progress: Progress, losses: list[torch.Tensor], team: Team = SOLO
) -> JobTiming:
    """The timed region, by the clock the job names; a steady job's blocks come back as `epoch_seconds`."""
    report: Report | None = progress.count if progress.wanted else None
    note, synchronize = _keep_loss(timed, losses), team.synchronizer(attached)
    if job.clock == "steady":
        progress.phase("timed", job.blocks * job.block_steps)
        with collector_off():
            blocks = time_blocks(
                timed.step,
                synchronize,
                steps=timed.steps if isinstance(timed, Training) else None,
                blocks=job.blocks,
                steps_per_block=job.block_steps,
                after_block=note,
                report=report,
            )
        return JobTiming(sum(blocks), 0.0, blocks, (), False)
    if job.epochs is None or job.steps_per_epoch is None or not isinstance(timed, Training):
        raise WorkloadError(f"clock {job.clock!r} needs a training workload, epochs and steps_per_epoch")
    length, images = job.epochs, job.epoch_eval_images
    stop: Callable[[int, int], bool] | None = _all_right if job.stop_when_all_right else None
    if job.clock == "accuracy":
        if job.target is None or not job.evaluate_every:
            raise WorkloadError("clock 'accuracy' needs target and evaluate_every")
        length, images, stop = job.epochs * job.steps_per_epoch // job.evaluate_every, ALL_IMAGES, _reached(job.target)
    training: Training | ByRecipe = timed
    before: Callable[[], int] | None = timed.pretrain
    if job.clock == "recipe":
        training = by_recipe = ByRecipe(job, timed)
        before, images = by_recipe.open, ALL_IMAGES
    steps = _steps_per_block(job)
    progress.phase("timed", length * steps)
    with collector_off():
        return time_job(
            training.step,
            synchronize,
            epochs=length,
            steps_per_epoch=steps,
            steps=training.steps,
            at_once=training.at_once,
            evaluate=(lambda: timed.count_correct(images)) if images else None,
            stop=stop,
            before=before,
            after_epoch=note,
            report=report,
        )


def _all_right(correct: int, images: int) -> bool:
    return correct == images


def _reached(target: float) -> Callable[[int, int], bool]:
    """The rule that the gates judge the record by, so that neither rounds otherwise."""
    return lambda correct, images: Evaluation(after_steps=0, images=images, correct=correct, seconds=0.0).reaches(
        target
    )


def _keep_loss(timed: Timed, losses: list[torch.Tensor]) -> Callable[[], None] | None:
    """Notes a block's last loss as it lies on the device: read when the clock has stopped."""
    if not isinstance(timed, Training):
        return None

    def keep() -> None:
        loss = timed.last_loss()
        if loss is not None:
            losses.append(loss)

    return keep


def _evaluate(job: Job, timed: Timed, steps: int) -> Evaluation | None:
    if not job.final_evaluation or not isinstance(timed, Training) or not timed.has_test_images:
        return None
    start = time.perf_counter_ns()
    correct, images = timed.count_correct()
    seconds = (time.perf_counter_ns() - start) * NANO
    return Evaluation(after_steps=steps, images=images, correct=correct, seconds=seconds)


def _counter(reading: Telemetry) -> tuple[str, float] | None:
    if reading.device_energy_joules is not None:
        return "nvml-total-energy", reading.device_energy_joules
    if reading.package_energy_joules is not None:
        return "rapl-package", reading.package_energy_joules
    return None


def _idle_energy(envelope: Envelope, progress: Progress) -> tuple[float, float] | None:
    """(joules, seconds) of an idle wait, or None where energy was not asked for or no counter is readable."""
    if not envelope.energy:
        return None
    progress.phase("idle power")
    start, first = time.monotonic_ns(), _counter(telemetry.sample(envelope.device_uuid))
    if first is None:
        return None
    time.sleep(ENERGY_IDLE_SECONDS)
    last = _counter(telemetry.sample(envelope.device_uuid))
    seconds = (time.monotonic_ns() - start) * NANO
    joules = energy_between(first[1], last[1] if last else None, seconds).value
    return None if joules is None else (joules, seconds)


def _energy(
    idle: tuple[float, float] | None,
    job: Job,
    timed: Timed,
    attached: Attached,
    uuid: str | None,
    team: Team = SOLO,
) -> Energy | None:
    """Energy of a window of further steps, at least 10 s long, after the timed region so that it disturbs nothing."""
    if idle is None:
        return None
    first = _counter(telemetry.sample(uuid))
    start, steps = time.monotonic_ns(), 0
    while team.agree((time.monotonic_ns() - start) * NANO < ENERGY_WINDOW_SECONDS):
        if isinstance(timed, Training):
            timed.steps(job.block_steps)
        else:
            for _ in range(job.block_steps):
                timed.step()
        team.synchronizer(attached)()
        steps += job.block_steps
    seconds = (time.monotonic_ns() - start) * NANO
    last = _counter(telemetry.sample(uuid))
    joules = energy_between(first[1] if first else None, last[1] if last else None, seconds).value
    if first is None or joules is None:
        return None
    return Energy(
        source=first[0],
        tick_seconds=0.1 if first[0] == "nvml-total-energy" else 0.001,
        window_seconds=seconds,
        window_steps=steps,
        window_joules=joules,
        idle_seconds=idle[1],
        idle_joules=idle[0],
    )


def finite_losses(losses: Sequence[float]) -> tuple[float, ...]:
    """The losses before the first that is no number: a record holds none, and the outcome's message says that it came."""
    return tuple(itertools.takewhile(math.isfinite, losses))


def _judge(job: Job, trial: Trial, first: list[float], final: float | None, errors: dict[str, float]) -> Outcome:
    """Typed verdict on a finished trial; its raw times are kept whatever the verdict."""
    if trial.canary is not None and not trial.canary.passed:
        return Outcome(status="invalid", message=f"sync canary: {trial.canary.reason}", trial=trial)
    if (wrong := precision.mislabelled(job.precision, errors)) is not None:
        return Outcome(status="invalid", message=wrong, trial=trial)
    if final is not None and not math.isfinite(final):
        return Outcome(status="diverged", message=f"the loss is {final} after {trial.steps} steps", trial=trial)
    if final is not None and job.task == "training" and (wrong := _unlearned(job, trial, first, final)) is not None:
        return Outcome(status="diverged", message=wrong, trial=trial)
    if (
        job.clock == "accuracy"
        and job.target is not None
        and trial.test is not None
        and trial.test.correct < job.target * trial.test.images
    ):
        return Outcome(status="missed", message=_missed(job, job.target, trial.test), trial=trial)
    return Outcome(status="ok", trial=trial)


def _unlearned(job: Job, trial: Trial, first: list[float], final: float) -> str | None:
    """What the losses say against the training: random images begin near ln(classes), digits must be learned."""
    workload = workloads.get(job.workload)
    if workload.dataset == "random":
        guess = math.log(workload.classes)
        if first and abs(first[0] - guess) > RANDOM_LOSS_BAND * guess:
            return f"the first loss is {first[0]:.3f}; guessing among {workload.classes} classes gives {guess:.3f}"
        return None
    if trial.steps >= LEARNING_STEPS and first and final >= first[0]:
        return f"the loss did not fall: {first[0]:.3f} at first, {final:.3f} after {trial.steps} steps"
    return None


def _missed(job: Job, target: float, test: Evaluation) -> str:
    share = units.percent(test.correct / test.images, 2)
    return f"{share} after {test.after_steps:,} steps ({job.epochs} epochs, the limit); the target is {units.percent(target, 2)}"
