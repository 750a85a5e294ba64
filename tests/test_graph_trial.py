"""A whole trial of a recorded rung, from build to record, with the fake recorder: what is counted, timed, and said of it."""

from __future__ import annotations

import os
import time

import builders as b
import pytest
import torch
from fake_graph_recorder import FakeRecorder
from test_tuned import digits, job

from cnnbench import data, validity
from cnnbench.engine import canary, worker
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.tuned import graph_training
from cnnbench.schema import TUNED_ERROR, TUNED_RUNG, Canary, Outcome, WorkerInput

SANG = Canary(
    passed=True, side=256, launches=4, small_seconds=1.0, large_seconds=8.0, growth=8.0, sync_seconds=8.0,
    readback_seconds=8.0, copy_seconds=0.1, rounds=5,
)  # fmt: skip


def outcome(monkeypatch: pytest.MonkeyPatch, **fields: object) -> tuple[Outcome, WorkerInput]:
    monkeypatch.setattr(data, "load", lambda *_: digits())
    monkeypatch.setattr(
        canary, "run", lambda probe: SANG
    )  # on a busy machine it takes its time, and is not what is tested
    asked = job("mlp-1", "graph", warmup_steps=2, **fields)
    envelope = WorkerInput(
        job=asked, outcome_path="x", parent_pid=os.getpid(), spawn_monotonic_ns=time.monotonic_ns()
    )  # fmt: skip
    return worker.run(envelope, ProgressWriter(None)), envelope


@pytest.mark.parametrize(
    ("clock", "blocks", "evaluations"),
    [
        ({"clock": "steady", "blocks": 3, "block_steps": 4}, [4, 4, 4], 0),
        ({"clock": "job", "epochs": 2, "steps_per_epoch": 10, "epoch_eval_images": 64}, [10, 10], 2),
    ],
)
def test_every_clock_runs_it_and_no_gate_closes(
    monkeypatch: pytest.MonkeyPatch, clock: dict[str, object], blocks: list[int], evaluations: int
) -> None:
    monkeypatch.setattr(graph_training, "CudaRecorder", lambda device: FakeRecorder())
    found, envelope = outcome(monkeypatch, order="shuffled", **clock)
    assert found.status == "ok", found.message
    trial = found.trial
    assert trial is not None
    assert trial.steps == sum(blocks)
    assert len(trial.block_seconds) == len(set(trial.losses)) == len(blocks)
    assert len(trial.epoch_evaluations) == evaluations
    assert trial.images == trial.steps * 32
    assert trial.test is not None
    assert trial.test.images == 200
    assert trial.settings[TUNED_RUNG] == "graph"
    assert float(trial.settings[TUNED_ERROR]) < 2e-5
    assert int(trial.settings["steps_per_launch"]) > 1
    assert trial.operators_per_step is None
    assert "draw_seconds" not in trial.floors
    assert validity.find_violations(envelope.job, trial, 1e6, None, b.machine(), found.status) == ()


def test_on_a_cpu_it_is_unsupported_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = outcome(monkeypatch)
    assert found.status == "unsupported"
    assert found.message == "recorded steps need CUDA's (or ROCm's) graphs; cpu has none"
    assert torch.backends.cudnn.benchmark is False
