"""The host's high-water mark follows the batch as the layers say it must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnbench import workloads
from cnnbench.engine import process
from cnnbench.runner.launch import LaunchOptions, launch
from cnnbench.schema import Job

BATCHES = (128, 512, 1024, 2048)


@pytest.mark.slow("real workers")
def test_the_peak_rises_with_the_batch_by_one_to_four_times_the_activations() -> None:
    """Linear in the batch (R^2 > 0.95). Above 1: activations are kept for the backward pass. Below 4: gradients, ReLU
    masks, dropout masks and oneDNN's reordered copies are the rest; parameters and the data set are in the intercept.
    """
    peaks = []
    for batch in BATCHES:
        job = Job(
            workload="mnist-cnn", workload_version=1, optimizer="rmsprop", init="truncated-0.1", data="synthetic",
            split="train-60000", batch_size=batch, threads=2, warmup_steps=1, blocks=2, block_steps=1,
            final_evaluation=False,
        )  # fmt: skip
        outcome = launch(job, LaunchOptions()).outcome
        assert outcome.trial is not None, outcome
        peaks.append(outcome.trial.memory.host_peak_bytes)
    slope, intercept = np.polyfit(BATCHES, peaks, 1)
    fitted = slope * np.array(BATCHES) + intercept
    unexplained = ((np.array(peaks) - fitted) ** 2).sum() / ((np.array(peaks) - np.mean(peaks)) ** 2).sum()
    assert 1 - unexplained > 0.95, peaks
    assert 1 <= slope / workloads.get("mnist-cnn").activation_bytes_per_image <= 4, (slope, peaks)


def test_the_mark_is_reset_and_read_from_the_status_file(tmp_path: Path) -> None:
    """VmHWM in KiB; the reset is a 5 written to clear_refs; a kernel that refuses is said in the method."""
    status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n"
    (tmp_path / "status").write_text(status)
    (tmp_path / "clear_refs").write_text("")
    mark = process.reset_host_peak(tmp_path)
    assert (tmp_path / "clear_refs").read_text() == "5"
    assert (mark.host_before_bytes, mark.host_method) == (2**20, "VmHWM, reset before the timed part")
    assert process.host_peak_bytes(tmp_path) == 2 * 2**20
    (tmp_path / "clear_refs").unlink()
    (tmp_path / "clear_refs").mkdir()
    assert "reset refused" in (process.reset_host_peak(tmp_path).host_method or "")


def test_without_proc_the_peak_is_unknown_and_says_why(tmp_path: Path) -> None:
    mark = process.reset_host_peak(tmp_path / "nothing")
    assert mark.host_before_bytes is None
    assert (mark.host_method or "").startswith("n/a")
    assert process.host_peak_bytes(tmp_path / "nothing") is None
