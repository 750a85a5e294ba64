"""Work recorded once and replayed by one launch: CUDA graphs, and HIP graphs on ROCm by the same torch calls.

Here stands all that is peculiar to recording: the side stream, the memory pool, what a failed recording leaves behind. A
rung is given a `GraphRecorder` and knows nothing else of it, so a test gives one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from cnnbench.errors import UnsupportedError, is_out_of_memory, summarize_error

if TYPE_CHECKING:
    import torch

Work = Callable[[], None]
"""Launches operators and nothing else: no reading of results, no copy from the host, no choice that depends on values."""


class RecordingError(UnsupportedError):
    """A recording failed. What was recorded before it draws its random numbers from a generator that was replaced."""


class GraphRecorder(Protocol):
    """Records work on one device."""

    def warm_up(self, work: Work, times: int) -> None:
        """Do the work, so that libraries choose their algorithms and whatever is made at first use is made."""
        ...

    def record(self, work: Work) -> Work:
        """The work as one launch, queued like any other when called. The work itself is not done now.

        Its tensors keep their places in memory: what it reads must be written in place, what it wrote is overwritten by
        the next replay. Random numbers are new in each replay. Raises RecordingError with the reason; running out of
        memory is raised as it is.
        """
        ...


def make_recorder(device: torch.device) -> GraphRecorder:
    """The device's own. Raises UnsupportedError where it has none."""
    if device.type != "cuda":
        raise UnsupportedError(f"graphs of recorded work are CUDA's (and ROCm's); {device.type} has none")
    return CudaRecorder(device)


class CudaRecorder:
    """`torch.cuda.graph` on one side stream and one memory pool for all of a training's graphs.

    They share the pool because they never run at the same time and carry values to each other only in tensors made outside.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work, times: int) -> None:
        """On the side stream: autograd remembers the stream on which a weight was first used, and recording is done there."""
        import torch

        with self._use_side_stream(), _search_algorithms():
            for _ in range(times):
                work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """Another thread of this process may go on calling CUDA (`thread_local`), as in torch's own compiler."""
        import torch

        graph, failures = torch.cuda.CUDAGraph(), list[Exception]()

        def noted() -> None:
            try:
                work()
            except Exception as error:
                failures.append(error)  # ending the recording will fail too, and hide it
                raise

        try:
            # The outer stream context is ours: torch's own leaves the side stream current where the recording cannot be ended.
            with (
                self._use_side_stream(),
                _search_algorithms(),
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                noted()
        except Exception as error:
            self._replace_generator_state()
            cause = failures[0] if failures else error
            if is_out_of_memory(cause):
                raise cause from None
            raise RecordingError(f"the step could not be recorded: {summarize_error(cause)}") from error
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        replay: Work = graph.replay
        return replay

    @contextmanager
    def _use_side_stream(self) -> Iterator[None]:
        import torch

        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def _replace_generator_state(self) -> None:
        """Older torch leaves the generator believing that it is still being recorded: it gets a state like its own but new."""
        import torch

        torch.cuda.synchronize(self._device)
        generator: Any = torch.cuda.default_generators[self._device.index or 0]
        generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _search_algorithms() -> Iterator[None]:
    """cuDNN tries its algorithms, in the warm-up, and takes what it found, in the recording."""
    import torch

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
