"""What is wrong with a workload that came from outside, before anything is planned with it: every mistake, as text.

Types inside cnnbench are trusted; a value out of a user's file or another package is not, since dataclasses check nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from cnnbench.errors import WorkloadError
from cnnbench.workloads import flops
from cnnbench.workloads.base import DEFAULT_INIT, INITS, OPTIMIZERS, Counts, Workload

DIGITS_SHAPE, DIGITS_CLASSES = (1, 28, 28), 10
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""As in a row's label, a folder's name and a filter's text."""
_PLACES = ("parameters", "forward", "training", "activations")


def find_problems(workload: Workload) -> list[str]:
    """All mistakes, each naming the field and what it may be; none for a workload that can be planned and built."""
    return [*_check_texts(workload), *_check_choices(workload), *_check_shape(workload), *_check_network(workload)]


def _check_texts(workload: Workload) -> Iterator[str]:
    if not isinstance(workload.name, str) or not NAME.fullmatch(workload.name):
        yield f"name {workload.name!r} must be up to 64 letters, digits, dots, hyphens and underscores"
    if not _is_whole(workload.version) or workload.version < 1:
        yield f"version {workload.version!r} must be a whole number from 1 on"
    title = workload.title
    if not isinstance(title, str) or not title.strip() or not title.isprintable():
        yield f"title {title!r} must be a line of text"
    if workload.kind != "training":
        yield f"kind {workload.kind!r} must be 'training'"


def _check_choices(workload: Workload) -> Iterator[str]:
    inits = (*INITS, DEFAULT_INIT) if workload.network is not None else INITS
    for field, known in (("optimizers", OPTIMIZERS), ("inits", inits)):
        given = getattr(workload, field)
        if not isinstance(given, tuple) or not given:
            yield f"{field} {given!r} must be a tuple of one or more of {', '.join(known)}"
        elif strange := [each for each in given if each not in known]:
            yield f"{field} {strange[0]!r} is not one of {', '.join(known)}"
    for name, rate in dict(workload.learning_rates).items():
        if name not in OPTIMIZERS:
            yield f"learning_rates {name!r} is not one of {', '.join(OPTIMIZERS)}"
        elif not isinstance(rate, int | float) or not 0 < rate < 1e6:
            yield f"learning_rates {name!r}: {rate!r} must be a number above 0"


def _check_shape(workload: Workload) -> Iterator[str]:
    shape, classes = workload.input_shape, workload.classes
    if not isinstance(shape, tuple) or not shape or not all(_is_whole(side) and side > 0 for side in shape):
        yield f"input_shape {shape!r} must be a tuple of whole numbers, such as {DIGITS_SHAPE}"
    if not _is_whole(classes) or classes < 2:
        yield f"classes {classes!r} must be a whole number from 2 on"
    if workload.dataset not in ("mnist", "random"):
        yield f"dataset {workload.dataset!r} must be 'mnist' or 'random'"
    if workload.dataset == "mnist" and (shape, classes) != (DIGITS_SHAPE, DIGITS_CLASSES):
        yield f"dataset 'mnist' has input_shape {DIGITS_SHAPE} and {DIGITS_CLASSES} classes, not {shape!r} and {classes!r}"


def _check_network(workload: Workload) -> Iterator[str]:
    if (workload.network is None) == (not workload.layers):
        yield "give either layers or network, one of the two"
    elif workload.network is None:
        if workload.declared is not None:
            yield "declared goes with network; layers count themselves"
        else:
            yield from _check_layers(workload)
    else:
        if not callable(workload.network):
            yield f"network {workload.network!r} must be a function that makes a torch module"
        if workload.pretraining is not None:
            yield "pretraining needs layers: it trains the dense ones one by one"
        yield from _check_counts(workload.declared)


def _check_layers(workload: Workload) -> Iterator[str]:
    strange = [each for each in workload.layers if not isinstance(each, get_args(flops.Layer))]
    if strange:
        yield f"layers: {strange[0]!r} is none of cnnbench.workloads.flops"
        return
    try:
        counts = flops.count_layers(workload.layers, workload.input_shape)
    except (IndexError, TypeError, ZeroDivisionError, WorkloadError) as error:
        yield f"layers do not fit input_shape {workload.input_shape!r}: {error}"
        return
    if counts[-1].output != (workload.classes,):
        yield f"layers give {counts[-1].output}, classes {workload.classes!r} needs ({workload.classes!r},)"
    if workload.pretraining is not None and not workload.hidden:
        yield "pretraining needs a hidden dense layer"


def _check_counts(declared: object) -> Iterator[str]:
    if not isinstance(declared, Counts):
        yield f"network needs declared = Counts({', '.join(f'{place}=...' for place in _PLACES)})"
        return
    for place in _PLACES:
        count = getattr(declared, place)
        if not _is_whole(count) or count < 1:
            yield f"declared.{place} {count!r} must be a whole number from 1 on"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
