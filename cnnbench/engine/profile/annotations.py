"""Marks around the parts of a step, there while a profile is taken and gone afterwards: the measured step has none.

They are set on the objects that the step calls, not in its code. The native kernels are called past torch, which is why
its profiler does not see them; while a profile is taken each call stands under its own name.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch.profiler import record_function

from cnnbench.engine.profile.breakdown import ANNOTATION
from cnnbench.engine.profile.operator_groups import NATIVE
from cnnbench.engine.training import Inference, TimedStep, Training
from cnnbench.engine.tuned.native_step import NativeStep
from cnnbench.engine.tuned.native_training import NativeTraining
from cnnbench.profile_model import StepPhase


@contextlib.contextmanager
def annotate_step(timed: TimedStep) -> Iterator[None]:
    """The step's phases and native kernels stand in a profile by name; all is as it was afterwards."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, phase in _find_phase_calls(timed):
            stack.enter_context(_annotate_method(owner, attribute, f"{ANNOTATION}{phase}"))
        if isinstance(timed, NativeTraining):
            assert timed._native is not None
            for owner, attribute, name in _find_kernel_calls(timed._native):
                stack.enter_context(_annotate_method(owner, attribute, f"{NATIVE}{name}"))
        yield


def _find_phase_calls(timed: TimedStep) -> list[tuple[Any, str, StepPhase]]:
    """What the step calls, and the phase that is."""
    if isinstance(timed, Inference):
        return [(timed._training._batches, "draw", "draw"), (timed.compute_mode, "logits", "forward")]
    if not isinstance(timed, Training):
        return []
    places: list[tuple[Any, str, StepPhase]] = [(timed._batches, "draw", "draw")]
    if isinstance(timed, NativeTraining):
        step = timed._native
        assert step is not None
        update: list[tuple[Any, str, StepPhase]] = [(step._update, "step", "optimiser")]
        return [
            *places,
            (step, "forward", "forward"),
            (step, "loss", "forward"),
            (step, "backward", "backward"),
            *update,
        ]
    return [
        *places,
        (timed.compute_mode, "loss", "forward"),
        (timed.compute_mode, "logits", "forward"),
        (timed.compute_mode, "update", "backward"),
        (timed._optimizer, "step", "optimiser"),
        (timed._optimizer, "zero_grad", "optimiser"),
    ]


def _find_kernel_calls(step: NativeStep) -> list[tuple[Any, str, str]]:
    """Wherever the step keeps a kernel, with its name: in the library's object, and in layers that took theirs from it."""
    names = {id(each): name for name, each in vars(step._kernels).items() if callable(each)}
    owners = (step._kernels, step, step._update, *step.convolutions, *step.dense)
    return [
        (owner, attribute, names[id(each)])
        for owner in owners
        for attribute, each in vars(owner).items()
        if id(each) in names
    ]


@contextlib.contextmanager
def _annotate_method(owner: Any, attribute: str, name: str) -> Iterator[None]:
    """The owner's method stands under this name; whether it was the object's own or its class's, it is so again."""
    own = vars(owner).get(attribute)
    setattr(owner, attribute, _annotate_call(getattr(owner, attribute), name))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, attribute)
        else:
            setattr(owner, attribute, own)


def _annotate_call(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    def recorded(*arguments: Any, **named: Any) -> Any:
        with record_function(name):
            return call(*arguments, **named)

    with contextlib.suppress(AttributeError):  # a C function has no name to take over
        functools.update_wrapper(recorded, call)
    return recorded
