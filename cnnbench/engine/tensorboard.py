"""One worker's TensorBoard run: what its trial measured, its weights before and after, its graph, its job, its machine.

All of it is written after the measurement, from the finished trial; between start and stop none of this runs. A trial
and the weights it ended with give a folder with one event file, whole or not at all. A failure here never costs the
record: it becomes a note in the trial's settings (`schema.TENSORBOARD_NOTE`), shown as a warning.

Steps are optimiser steps. The wall time of a point of the training is the time its block ended by the trial's own clock,
so that TensorBoard's relative axis shows seconds of training rather than the moment of writing.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from cnnbench import workloads
from cnnbench.engine.training import TimedStep
from cnnbench.errors import summarize_error
from cnnbench.files import staged
from cnnbench.machine_facts import Host, list_facts
from cnnbench.schema import TENSORBOARD_NOTE, Job, Trial, WorkerInput

Weights = Mapping[str, torch.Tensor]
"""Parameters by name, float32, on the CPU."""


def copy_weights(timed: TimedStep) -> Weights:
    """Copy every parameter as it is now; empty for a step without a network."""
    network = getattr(timed, "network", None)
    parameters = network.named_parameters() if isinstance(network, torch.nn.Module) else ()
    return {name: each.detach().to("cpu", torch.float32, copy=True) for name, each in parameters}


def add_tensorboard_run(worker_input: WorkerInput, timed: TimedStep, trial: Trial, end_weights: Weights) -> Trial:
    """Write the run if one was asked for; return the trial, with a note if that failed in whole or in part.

    Puts the network back to its first weights, whose histogram is written too: nothing may be measured after this.
    """
    if worker_input.tensorboard_dir is None:
        return trial
    try:
        timed.reset()
        note = write_run(Path(worker_input.tensorboard_dir), worker_input, trial, copy_weights(timed), end_weights)
    except Exception as error:  # noqa: BLE001  a disk that is full, a version that does not fit: the record matters more
        note = f"none was written: {_summarize_error(error)}"
    return trial if note is None else trial.model_copy(update={"settings": trial.settings | {TENSORBOARD_NOTE: note}})


def write_run(
    directory: Path, worker_input: WorkerInput, trial: Trial, start_weights: Weights, end_weights: Weights
) -> str | None:
    """Write the run into a new `directory` and return a note on what had to be left out, or None. Raises OSError.

    A product's run has scalars and the machine, a network's also weights, graph and hyper-parameters.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    job, unfinished = worker_input.job, f"{directory.name}.partial"
    for leftover in (directory.with_name(unfinished), directory):  # of a worker that was interrupted while it wrote
        shutil.rmtree(leftover, ignore_errors=True)
    note = None
    with staged(directory, name=unfinished) as partial:
        writer: Any = SummaryWriter(str(partial))
        try:
            _write_scalars(writer, job, trial)
            writer.add_text("machine", machine_text(worker_input), 0)
            if end_weights:
                _write_histograms(writer, start_weights, 0)
                _write_histograms(writer, end_weights, trial.steps)
                # What `SummaryWriter.add_hparams` writes, but into this run: that method would make another one beside it.
                for summary in hparams(job.model_dump(exclude_none=True), final_metrics(job, trial)):  # type: ignore[no-untyped-call]
                    writer.file_writer.add_summary(summary)
                note = _write_graph(writer, job)
        finally:
            writer.close()
    return note


def final_metrics(job: Job, trial: Trial) -> dict[str, float]:
    """Summarize the trial in a few figures by tag, in SI base units; what was not measured is left out.

    Images are those of all ranks together.
    """
    seconds, flops = sum(trial.block_seconds), workloads.flops_per_step(job)
    reached = job.target is not None and any(each.reaches(job.target) for each in trial.epoch_evaluations[-1:])
    found = {
        "final/loss": trial.final_loss,
        "final/test_accuracy": None if trial.test is None else trial.test.correct / trial.test.images,
        "final/step_seconds": seconds / trial.steps,
        "final/images_per_second": job.batch_size * trial.steps / seconds if trial.images else None,
        "final/flops_per_second": flops * trial.steps / seconds,
        "final/time_to_accuracy_seconds": trial.job_seconds if reached else None,
    }
    return {tag: value for tag, value in found.items() if value is not None}


def machine_text(worker_input: WorkerInput) -> str:
    """Describe the machine, its processor and the software in a Markdown table."""
    machine, software, job = worker_input.machine, worker_input.software, worker_input.job
    rows = [("device", job.device)]
    if machine is not None and software is not None:
        host, names = Host(machine, software), {each.id: each.name for each in machine.devices}
        rows += [("machine", machine.id), ("processor", names.get(job.device, job.device))]
        known = (fact for fact in (*list_facts("table"), *list_facts("boot")) if fact.read(host) is not None)
        rows += [(fact.heading or fact.words, fact.describe(host)) for fact in known]
    lines = ["| what | value |", "|---|---|"]
    for name, text in rows:
        cell = text.replace("|", "\\|").replace("<", "&lt;")  # text stays in its cell and is not taken for HTML
        lines.append(f"| {name} | {' '.join(cell.split())} |")
    return "\n".join(lines)


def _write_scalars(writer: Any, job: Job, trial: Trial) -> None:
    """Write each point when its step was done, as if the last had been done now: pre-training first, then block by block."""
    ends = list(accumulate(trial.block_seconds, initial=trial.pretraining_seconds or 0.0))
    began, length, flops = time.time() - ends[-1], trial.steps_per_block, workloads.flops_per_step(job)

    def add(tag: str, value: float, step: int) -> None:
        block = min(step // max(1, length), len(ends) - 1)
        writer.add_scalar(tag, value, step, walltime=began + ends[block])

    for number, loss in enumerate(trial.first_losses, start=1):
        writer.add_scalar("loss/warm-up", loss, number)
    for number, loss in enumerate(trial.losses, start=1):
        add("loss/training", loss, number * length)
    for number, seconds in enumerate(trial.block_seconds, start=1):
        add("speed/step_seconds", seconds / length, number * length)
        if trial.images:
            add("speed/images_per_second", job.batch_size * length / seconds, number * length)
        add("speed/flops_per_second", flops * length / seconds, number * length)
    whole = job.clock == "accuracy"
    for each in trial.epoch_evaluations:
        add("accuracy/test" if whole else "accuracy/sample", each.correct / each.images, each.after_steps)
    if (test := trial.test) is not None and not whole:
        add("accuracy/test", test.correct / test.images, test.after_steps)
    for tag, value in final_metrics(job, trial).items():
        add(tag, value, trial.steps)


def _write_histograms(writer: Any, weights: Weights, step: int) -> None:
    """Write a histogram per parameter; values that are not finite, as after a divergence, are left out."""
    for name, values in weights.items():
        finite = values[torch.isfinite(values)]
        if finite.numel():
            writer.add_histogram(f"weights/{name}", finite.numpy(), step)


def _write_graph(writer: Any, job: Job) -> str | None:
    """Trace a new network in evaluation mode, not the timed one; return why that failed, or None."""
    try:
        workload = workloads.get(job.workload).with_variant(job.pool, job.activation)
        copy = workload.build(job.init, job.seed).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit.trace, which TensorBoard's graph needs, is deprecated
            writer.add_graph(copy, torch.zeros(1, *workload.input_shape))
    except Exception as error:  # noqa: BLE001  a network that cannot be traced: the rest of the run is good
        return f"its graph is missing: {_summarize_error(error)}"
    return None


def _summarize_error(error: Exception) -> str:
    """Describe the error in one line without a path, since ledgers are published."""
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return summarize_error(error)
