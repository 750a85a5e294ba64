"""A recorder of graphs on the CPU, strict where a GPU is: it keeps operators, not functions, and refuses what waits.

Recording runs the work once to see its operators, then puts every value back as it was and spoils what the work made: on a
GPU recorded work has not been done either. A replay does the operators again on the same tensors, so what Python did
around them (a count, a choice) happened once and never again, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique_dim", "_unique2")
"""Operators whose result the host needs before it goes on: a GPU cannot do them while it records."""
FROM_HOST = ("randperm", "lift_fresh", "_pin_memory")
"""Operators of values that come from the host, or from a generator of its own."""
ON_HOST = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "pin_memory")
"""Methods by which a tensor's value would reach the host; the CPU's own tensors do some of them without an operator."""


class NotPermittedError(RuntimeError):
    """As CUDA says it: operation not permitted when stream is capturing."""


class Quiet(TorchDispatchMode):
    """Refuses what makes the host wait."""

    def __init__(self, names: tuple[str, ...] = WAITING) -> None:
        super().__init__()
        self._names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self._names:
            raise NotPermittedError(f"operation not permitted when stream is capturing: {func}")
        return func(*args, **(kwargs or {}))


@contextmanager
def nothing_waits(names: tuple[str, ...] = WAITING) -> Iterator[None]:
    """Inside, whatever would bring a value to the host raises NotPermittedError."""
    kept = {name: getattr(torch.Tensor, name) for name in ON_HOST}

    def refused(name: str) -> Callable[..., Any]:
        def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            raise NotPermittedError(f"operation not permitted when stream is capturing: Tensor.{name}")

        return call

    for name in ON_HOST:
        setattr(torch.Tensor, name, refused(name))
    try:
        with Quiet(names):
            yield
    finally:
        for name, method in kept.items():
            setattr(torch.Tensor, name, method)


class _Tape(TorchDispatchMode):
    """Notes every operator with its tensors, and what each tensor that it writes held before."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.made: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        places = {_place(each) for each in _tensors((args, kwargs))}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for each in _tensors(value):
                    self._remember(each)
        out = func(*args, **kwargs)
        for each in _tensors(out):
            if _place(each) not in places:
                self.made[id(each)] = each
        self.calls.append((func, args, kwargs, out))
        return out

    def _remember(self, each: torch.Tensor) -> None:
        place = _place(each)
        if place not in self.before:
            whole = torch.empty(0, dtype=each.dtype).set_(each.untyped_storage())
            self.before[place] = (whole, whole.clone())


class FakeRecorder:
    """A `graph_training.CudaRecorder`. `warmed` counts warm-ups since the last recording, `replays` launches by graph."""

    def __init__(self) -> None:
        self.warmed = 0
        self.recorded: list[int] = []
        """Warm-ups before each recording."""
        self.replays: list[int] = []

    def warm_up(self, work: Callable[[], None], times: int) -> None:
        for _ in range(times):
            work()
        self.warmed += times

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        tape, random = _Tape(), torch.get_rng_state()
        with nothing_waits((*WAITING, *FROM_HOST)), tape:
            work()
        torch.set_rng_state(random)
        with torch.no_grad():
            for made in tape.made.values():
                made.detach().fill_(float("nan") if made.is_floating_point() else 1)
            for whole, before in tape.before.values():
                whole.copy_(before)
        self.recorded.append(self.warmed)
        self.warmed = 0
        number = len(self.replays)
        self.replays.append(0)

        def replay() -> None:
            self.replays[number] += 1
            with torch.no_grad():
                for func, args, kwargs, out in tape.calls:
                    again = func(*args, **kwargs)
                    for kept, new in zip(_tensors(out), _tensors(again), strict=True):
                        if kept.numel() and kept.data_ptr() != new.data_ptr():
                            kept.detach().copy_(new)

        return replay


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(values: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]
