"""TensorBoard's own reader finds in a worker's run what stands in its record, and a run that fails costs no record."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import builders as b
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from cnnbench import store, workloads
from cnnbench.cli.main import run_cli
from cnnbench.cli.progress import Display
from cnnbench.engine import tensorboard
from cnnbench.engine.tensorboard import Weights, add_tensorboard_run, copy_weights, write_run
from cnnbench.errors import ExitCode
from cnnbench.naming import name_run_folder
from cnnbench.runner.launch import LaunchOptions, OnProgress, WorkerExit
from cnnbench.runner.run import PendingJob, execute
from cnnbench.schema import TENSORBOARD_NOTE, Evaluation, Job, Outcome, Trial, WorkerInput

CNN = b.cnn_job(blocks=3, block_steps=50, batch_size=100)
MEASURED = {
    "block_seconds": (2.0, 1.0, 4.0),
    "first_losses": (2.31, 2.30),
    "losses": (0.9, 0.5, 0.25),
    "final_loss": 0.25,
    "test": Evaluation(after_steps=150, images=10_000, correct=9_700, seconds=1.0),
}


class Net:
    """A network as a clock's work holds it; a step makes every weight 1."""

    images_drawn = 0

    def __init__(self, job: Job) -> None:
        self.network = workloads.get(job.workload).build(job.init or "", 3)
        self._start = copy_weights(self)

    def step(self) -> None:
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.fill_(1.0)

    def reset(self) -> None:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(self._start[name])

    def loss(self) -> float | None:
        return None


def envelope(job: Job, folder: Path | None) -> WorkerInput:
    return WorkerInput(
        job=job,
        outcome_path="x",
        parent_pid=1,
        spawn_monotonic_ns=0,
        tensorboard_dir=None if folder is None else str(folder),
        machine=b.machine(cpu_name="Zen <9000> | Pro"),
        software=b.software(),
    )


def read(folder: Path) -> EventAccumulator:
    """Everything in a run, nothing thinned out."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    found.Reload()
    return found


def scalars(found: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(tag)]


def near(points: list[tuple[int, float]]) -> list[tuple[int, object]]:
    """TensorBoard's scalars are float32."""
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in points]


def written(folder: Path, job: Job = CNN, **fields: object) -> tuple[EventAccumulator, Trial, Weights, Weights]:
    """A run of a trained network, read back; its trial, first and last weights."""
    timed = Net(job)
    start = copy_weights(timed)
    timed.step()
    end = copy_weights(timed)
    trial = b.trial(job, **(MEASURED | fields))
    kept = add_tensorboard_run(envelope(job, folder), timed, trial, end)
    assert kept == trial
    return read(folder), trial, start, end


def test_scalars_are_the_records(tmp_path: Path) -> None:
    """Losses, accuracy and speed at their steps; images/s = batch x steps / seconds, FLOP/s = FLOPs x steps / seconds."""
    found, trial, _, _ = written(tmp_path / "run")
    flops = 51_972_732 * 100  # an image's training FLOPs (lecture.md, section 2) x the batch
    at = (50, 100, 150)
    expected = {
        "loss/warm-up": list(enumerate(trial.first_losses, start=1)),
        "loss/training": list(zip(at, trial.losses, strict=True)),
        "speed/step_seconds": [(50, 0.04), (100, 0.02), (150, 0.08)],
        "speed/images_per_second": [(50, 2_500.0), (100, 5_000.0), (150, 1_250.0)],
        "speed/flops_per_second": [(50, flops / 0.04), (100, flops / 0.02), (150, flops / 0.08)],
        "accuracy/test": [(150, 0.97)],
        "final/loss": [(150, 0.25)],
        "final/test_accuracy": [(150, 0.97)],
        "final/step_seconds": [(150, 7 / 150)],
        "final/images_per_second": [(150, 15_000 / 7)],
        "final/flops_per_second": [(150, flops * 150 / 7)],
    }
    assert set(found.Tags()["scalars"]) == set(expected)
    for tag, points in expected.items():
        assert scalars(found, tag) == near(points), tag


def test_ranks_have_the_images_of_all_of_them_in_a_second() -> None:
    """The first one writes, which drew a half of every batch."""
    job = CNN.model_copy(update={"world": 2, "scaling": "strong"})
    trial = b.trial(job, **MEASURED, images=150 * 50)
    assert tensorboard.final_metrics(job, trial)["final/images_per_second"] == pytest.approx(15_000 / 7)


def test_the_relative_axis_shows_seconds_of_training(tmp_path: Path) -> None:
    """Wall times of points lie as far apart as the blocks took, whenever they were written."""
    found, trial, _, _ = written(tmp_path / "run")
    times = [event.wall_time for event in found.Scalars("loss/training")]
    assert [after - before for before, after in pairwise(times)] == pytest.approx(trial.block_seconds[1:], abs=1e-3)


def test_time_to_accuracy_is_there_where_the_target_was_reached(tmp_path: Path) -> None:
    """A job that missed it has its evaluations, and no such time."""
    job = CNN.model_copy(update={"clock": "accuracy", "target": 0.97, "evaluate_every": 50, "final_evaluation": False})
    right = [9_000, 9_500, 9_750]
    evaluations = tuple(
        Evaluation(after_steps=50 * n, images=10_000, correct=correct, seconds=1.0)
        for n, correct in enumerate(right, 1)
    )
    fields = {"epoch_evaluations": evaluations, "test": evaluations[-1], "job_seconds": 10.0, "blocks": 3}
    found, *_ = written(tmp_path / "reached", job, **fields)
    assert scalars(found, "accuracy/test") == near([(50, 0.9), (100, 0.95), (150, 0.975)])
    assert scalars(found, "final/time_to_accuracy_seconds") == [(150, 10.0)]
    missed = job.model_copy(update={"target": 0.99})
    found, *_ = written(tmp_path / "missed", missed, **fields)
    assert "final/time_to_accuracy_seconds" not in found.Tags()["scalars"]
    assert len(scalars(found, "accuracy/test")) == 3


def test_a_sample_of_the_test_images_is_not_called_the_test(tmp_path: Path) -> None:
    """The lecture's protocol looks at 256 random images after each epoch."""
    sample = (Evaluation(after_steps=50, images=256, correct=128, seconds=0.1),)
    found, *_ = written(tmp_path / "run", epoch_evaluations=sample)
    assert scalars(found, "accuracy/sample") == [(50, 0.5)]
    assert scalars(found, "accuracy/test") == near([(150, 0.97)])


def test_every_weight_has_a_histogram_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    found, _, start, end = written(tmp_path / "run")
    assert set(found.Tags()["histograms"]) == {f"weights/{name}" for name in start}
    for name in start:
        events = found.Histograms(f"weights/{name}")
        assert [event.step for event in events] == [0, 150]
        for event, weights in zip(events, (start[name], end[name]), strict=True):
            value = event.histogram_value
            assert value.num == weights.numel()
            assert (value.min, value.max) == pytest.approx((weights.min().item(), weights.max().item()))
            assert value.sum == pytest.approx(weights.double().sum().item(), rel=1e-4, abs=1e-2)


def test_a_diverged_network_still_has_a_run(tmp_path: Path) -> None:
    """Weights that are no numbers are left out of their histograms."""
    timed = Net(CNN)
    broken = {name: torch.full_like(each, math.nan) for name, each in copy_weights(timed).items()}
    trial = b.trial(CNN, **MEASURED)
    assert write_run(tmp_path / "run", envelope(CNN, tmp_path / "run"), trial, copy_weights(timed), broken) is None
    found = read(tmp_path / "run")
    assert {event.step for tag in found.Tags()["histograms"] for event in found.Histograms(tag)} == {0}


def test_the_graph_is_the_networks(tmp_path: Path) -> None:
    """Three convolutions and two dense layers; dropout does nothing in evaluation mode."""
    found, *_ = written(tmp_path / "run")
    assert found.Tags()["graph"]
    operators = [node.op for node in found.Graph().node]
    assert operators.count("aten::_convolution") == 3
    assert operators.count("aten::linear") == 2


def test_hyperparameters_are_the_jobs_fields_and_their_metrics_are_there(tmp_path: Path) -> None:
    found, *_ = written(tmp_path / "run")
    content = found.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    values = {
        name: value.string_value if value.HasField("string_value") else value.number_value
        for name, value in start.hparams.items()
    }
    assert values == CNN.model_dump(exclude_none=True)
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    metrics = {each.name.tag for each in experiment.metric_infos}
    assert metrics == {tag for tag in found.Tags()["scalars"] if tag.startswith("final/")}
    assert "_hparams_/session_end_info" in content


def test_the_machine_is_a_table_that_no_name_breaks(tmp_path: Path) -> None:
    found, *_ = written(tmp_path / "run")
    (event,) = found.Tensors("machine/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert r"| CPU | Zen &lt;9000> \| Pro |" in lines
    assert "| cores allowed | 8 of 8 |" in lines
    assert "| torch | 2.13.0 (cpu) |" in lines
    assert "| memory | 32 GiB |" in lines
    assert all(line.replace(r"\|", "").count("|") == 3 for line in lines)


def test_a_product_has_scalars_and_the_machine_only(tmp_path: Path) -> None:
    job = b.gemm_job(1024, blocks=2, block_steps=10)

    class Product:
        images_drawn = 0

        def reset(self) -> None: ...

    trial = b.trial(job, 0.5)
    kept = add_tensorboard_run(envelope(job, tmp_path / "run"), Product(), trial, copy_weights(Product()))  # type: ignore[arg-type]
    assert kept == trial
    found = read(tmp_path / "run")
    tags = found.Tags()
    assert scalars(found, "speed/flops_per_second") == near([(10, 2 * 1024**3 / 0.5), (20, 2 * 1024**3 / 0.5)])
    assert set(tags["scalars"]) == {
        *("speed/step_seconds", "speed/flops_per_second"),
        *("final/step_seconds", "final/flops_per_second"),
    }
    assert tags["tensors"] == ["machine/text_summary"]
    assert (tags["histograms"], tags["graph"]) == ([], False)
    assert found.PluginTagToContent("text").keys() == {"machine/text_summary"}


def test_without_a_folder_nothing_is_written_and_nothing_reset(tmp_path: Path) -> None:
    timed = Net(CNN)
    timed.step()
    trial = b.trial(CNN)
    assert add_tensorboard_run(envelope(CNN, None), timed, trial, {}) is trial
    assert all((each == 1).all() for each in copy_weights(timed).values())


def test_a_run_that_cannot_be_written_costs_a_note_and_not_the_record(tmp_path: Path) -> None:
    """The folder's parent is a file. The note names no path: ledgers are published."""
    (tmp_path / "file").write_text("in the way")
    timed, trial = Net(CNN), b.trial(CNN, settings={"threads": "8"}, **MEASURED)
    kept = add_tensorboard_run(envelope(CNN, tmp_path / "file" / "run"), timed, trial, copy_weights(timed))
    note = kept.settings[TENSORBOARD_NOTE]
    assert note.startswith("none was written: ")
    assert str(tmp_path) not in note
    assert kept.model_copy(update={"settings": trial.settings}) == trial


def test_a_half_written_run_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up after the first scalar."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(tensorboard, "_write_histograms", full)
    timed, trial = Net(CNN), b.trial(CNN, **MEASURED)
    kept = add_tensorboard_run(envelope(CNN, tmp_path / "run"), timed, trial, copy_weights(timed))
    assert kept.settings[TENSORBOARD_NOTE] == "none was written: OSError: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_traced_lacks_its_graph_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed, trial = Net(CNN), b.trial(CNN, **MEASURED)

    def refuse(*_: object) -> None:
        raise RuntimeError("not traceable\nfor many reasons")

    monkeypatch.setattr(workloads.Workload, "build", refuse)
    kept = add_tensorboard_run(envelope(CNN, tmp_path / "run"), timed, trial, copy_weights(timed))
    assert kept.settings[TENSORBOARD_NOTE] == "its graph is missing: RuntimeError: not traceable"
    found = read(tmp_path / "run")
    assert not found.Tags()["graph"]
    assert found.Tags()["histograms"]


def test_what_an_interrupted_worker_left_is_not_mixed_in(tmp_path: Path) -> None:
    """A resumed job writes into the folder of its first attempt: one event file remains."""
    written(tmp_path / "run")
    (tmp_path / "run.partial").mkdir()
    found, *_ = written(tmp_path / "run")
    assert len(scalars(found, "loss/training")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_note_is_a_warning_however_quiet() -> None:
    out = io.StringIO()
    job = b.cnn_job()
    display = Display(Console(file=out, width=200, no_color=True), -1, [PendingJob(0, 1, job)], [job])
    display.on_start(PendingJob(0, 1, job), 0, 1)
    display.on_finish(b.record(job, settings={TENSORBOARD_NOTE: "none was written: OSError: disk full"}))
    assert out.getvalue().splitlines() == [
        "[1/1] mnist-cnn b128 fp32 on cpu, round 1: warning: TensorBoard run: none was written: OSError: disk full; "
        "the record is saved all the same"
    ]


def test_each_process_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Jobs alike in their label are told apart by their key."""
    twins = [b.cnn_job(), b.cnn_job(order="shuffled"), b.cnn_job(batch_size=64)]
    plan = [job.model_copy(update={"round": number}) for number in range(2) for job in twins]
    names = [name_run_folder(job, plan) for job in plan]
    assert len(set(names)) == len(plan)
    assert names[2] == "mnist-cnn-b64-fp32-on-cpu-8-threads-round-1"
    assert names[5] == "mnist-cnn-b64-fp32-on-cpu-8-threads-round-2"
    assert names[0] != names[1]
    assert names[0].startswith("mnist-cnn-b128-fp32-on-cpu-8-threads-")
    assert names[0].endswith("-round-1")
    header = b.header(unstarted=plan)
    seen = []

    def launched(job: Job, options: LaunchOptions, on_progress: OnProgress) -> WorkerExit:
        seen.append((options.tensorboard_dir, options.machine, options.software))
        return WorkerExit(Outcome(status="timeout", message="too long"), 1.0, 0.0, {})

    todo = [PendingJob(2, 1, plan[2])]
    display = Display(Console(file=io.StringIO()), -1, todo, plan)
    with store.create(tmp_path / "results", header) as writer:
        execute(writer, header, todo, LaunchOptions(), display, tensorboard_root=tmp_path, launcher=launched)
        execute(writer, header, todo, LaunchOptions(), display, launcher=launched)
    assert seen == [(tmp_path / header.run_id / names[2], header.machine, header.software), (None, None, None)]


SUITE = """
description = "a short training on procedural digits, and a product"
repeats = 1
[[job]]
workload = "mnist-cnn"
data = "synthetic"
batch_size = 32
warmup_steps = 3
blocks = 4
block_steps = 5
[[job]]
workload = "gemm"
size = 256
warmup_steps = 2
blocks = 3
block_steps = 20
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(SUITE)
    return path


def test_without_the_package_nothing_runs(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with what to type, exit 2, and neither a folder nor a ledger."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    code = run_cli(
        ["run", str(suite), "-d", "cpu", "--results", str(tmp_path / "r"), "--tensorboard", str(tmp_path / "tb")]
    )
    assert code == ExitCode.USAGE
    assert capsys.readouterr().err == (
        "error: --tensorboard needs the package tensorboard, which is not installed: pip install tensorboard\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["s.toml"]


def test_a_place_that_cannot_be_made_is_named_before_anything_runs(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_cli(
        ["run", str(suite), "-d", "cpu", "--results", str(tmp_path / "r"), "--tensorboard", str(suite / "tb")]
    )
    error = capsys.readouterr().err
    assert code == ExitCode.USAGE
    assert f"--tensorboard {suite / 'tb'}: cannot be made" in error
    assert not (tmp_path / "r").exists()


@pytest.mark.slow("real workers")
def test_real_workers_leave_a_run_each_that_equals_their_record(suite: Path, tmp_path: Path) -> None:
    """Measured by the command line; every scalar is the ledger's, and the record knows nothing of the run. A trial that a
    loaded machine makes invalid has its run too."""
    boards, results = tmp_path / "boards", tmp_path / "results"
    command = [
        sys.executable,
        "-m",
        "cnnbench",
        "run",
        suite,
        "-d",
        "cpu",
        "--results",
        results,
        "--tensorboard",
        boards,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert f"tensorboard --logdir {boards}" in done.stderr, done.stderr
    assert "warning" not in done.stderr
    (path,) = results.rglob("*.jsonl")
    ledger = store.load(path)
    assert len(ledger.records) == 2
    assert len(list((boards / ledger.header.run_id).iterdir())) == 2
    for record in ledger.records:
        trial, job = record.outcome.trial, record.job
        assert trial is not None
        assert TENSORBOARD_NOTE not in trial.settings
        found = read(boards / ledger.header.run_id / name_run_folder(job, ledger.header.plan))
        per_block = [seconds / trial.steps_per_block for seconds in trial.block_seconds]
        assert [value for _, value in scalars(found, "speed/step_seconds")] == pytest.approx(per_block, rel=1e-6)
        text = found.Tensors("machine/text_summary")[0].tensor_proto.string_val[0].decode()
        assert ledger.header.machine.id in text
        if job.workload == "gemm":
            assert found.Tags()["histograms"] == []
            continue
        assert scalars(found, "loss/warm-up") == near(list(enumerate(trial.first_losses, start=1)))
        if trial.losses:
            assert [value for _, value in scalars(found, "loss/training")] == pytest.approx(trial.losses, rel=1e-6)
        assert trial.test is not None
        assert scalars(found, "accuracy/test") == near([(20, trial.test.correct / 10_000)])
        first = workloads.get(job.workload).build(job.init or "", job.seed)
        for name, values in first.named_parameters():
            start, end = (event.histogram_value for event in found.Histograms(f"weights/{name}"))
            assert (start.min, start.max) == pytest.approx((values.min().item(), values.max().item()))
            assert (end.sum, end.sum_squares) != (start.sum, start.sum_squares)


@pytest.mark.slow("real workers")
def test_a_run_that_a_worker_cannot_write_is_a_warning_and_the_job_stays_ok(suite: Path, tmp_path: Path) -> None:
    """Its folder's name is longer than a file system takes, which only the worker finds out."""
    boards, results = tmp_path / "boards", tmp_path / "results"
    code = (
        "import sys; from pathlib import Path; from cnnbench.cli.main import run_cli\n"
        "from cnnbench.runner import run\n"
        "whole = run.name_run_folder\n"
        "run.name_run_folder = lambda job, plan: 'x' * 300 + whole(job, plan)\n"
        "sys.exit(run_cli(sys.argv[1:]))"
    )
    arguments = [
        "run",
        suite,
        "-k",
        "gemm",
        "-r",
        "1",
        "-d",
        "cpu",
        "--results",
        results,
        "--tensorboard",
        boards,
        "--json",
    ]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "warning: TensorBoard run: none was written: OSError: File name too long" in done.stderr
    json.loads(done.stdout)
    (path,) = results.rglob("*.jsonl")
    (record,) = store.load(path).records
    assert record.outcome.trial is not None
    assert len(record.outcome.trial.block_seconds) == 3
