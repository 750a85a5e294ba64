"""The CUDA recorder with torch's calls faked: on which stream, in what order, and what is left after a recording fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from cnnbench.engine.tuned import graph_training

CUDA = torch.device("cuda", 0)


class FakeCuda:
    """Notes what is asked for; `current` is the stream that work would go to."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.current = self.default = self.stream_named("default")
        self.end_fails = False

    def stream_named(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.said.append(f"{name} waits for {other.name}"))

    @contextmanager
    def stream(self, stream: SimpleNamespace) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: object, pool: object, stream: SimpleNamespace, capture_error_mode: str) -> Iterator[None]:
        """As torch's: where the end fails, the side stream stays current and the error of the end hides the first."""
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        self.current = stream
        self.said.append(f"record on {stream.name}")
        try:
            yield
        finally:
            if self.end_fails:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
            self.said.append("recorded")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    generator = SimpleNamespace(
        clone_state=lambda: "a new state", graphsafe_set_state=lambda state: fake.said.append(f"generator has {state}")
    )
    names = {
        "Stream": lambda device: fake.stream_named("side"),
        "graph_pool_handle": lambda: "pool",
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: fake.said.append("replay")),
        "current_stream": lambda device: fake.current,
        "stream": fake.stream,
        "graph": fake.graph,
        "synchronize": lambda device: fake.said.append("synchronise"),
        "default_generators": [generator],
    }
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value, raising=False)
    return fake


def test_warm_up_and_recording_are_on_one_side_stream_ordered_with_the_others(cuda: FakeCuda) -> None:
    """And cuDNN searches in both, as it did not before nor does after."""
    found: list[tuple[str, bool]] = []

    def work() -> None:
        found.append((cuda.current.name, torch.backends.cudnn.benchmark))

    before = torch.backends.cudnn.benchmark
    recorder = graph_training.CudaRecorder(CUDA)
    recorder.warm_up(work, 3)
    assert cuda.said == ["side waits for default", "default waits for side"]
    replay = recorder.record(work)
    assert cuda.said[2:] == ["side waits for default", "record on side", "recorded", "default waits for side"]
    assert found == [("side", True)] * 4
    replay()
    assert cuda.said[-1] == "replay"
    assert torch.backends.cudnn.benchmark is before
    assert cuda.current is cuda.default


def test_a_recording_that_fails_says_what_failed_first_and_leaves_stream_and_generator_whole(cuda: FakeCuda) -> None:
    cuda.end_fails = True

    def work() -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with TORCH_USE_CUDA_DSA")

    recorder = graph_training.CudaRecorder(CUDA)
    with pytest.raises(
        graph_training.RecordingError,
        match=r"^the step could not be recorded: RuntimeError: operation not permitted when stream is capturing$",
    ):
        recorder.record(work)
    assert cuda.said[-2:] == ["synchronise", "generator has a new state"]
    assert cuda.current is cuda.default
    assert not torch.backends.cudnn.benchmark


def test_running_out_of_memory_is_not_a_failed_recording(cuda: FakeCuda) -> None:
    """It hides behind the error of the end, and must be seen: the job is then `oom`, or the rungs are tried one by one."""
    cuda.end_fails = True

    def work() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"Tried to allocate"):
        graph_training.CudaRecorder(CUDA).record(work)
    assert "generator has a new state" in cuda.said
