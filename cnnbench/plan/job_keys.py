"""What a `[[job]]` table of a suite may say: every key with its choices or range (`combinations`: what goes together).

The choices are read from `schema.Job`, so a suite can say what a job can be and nothing else. Values come in as TOML
gives them and leave as plain scalars, by device kind; mistakes leave as text, all of them, never as an exception.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from cnnbench.devices import list_kinds
from cnnbench.schema import (
    SPLIT_IMAGES,
    Activation,
    Allocator,
    Clock,
    DeviceKind,
    Division,
    Execution,
    Job,
    Layout,
    Loader,
    Order,
    Pool,
    Precision,
    Scaling,
    Split,
    Task,
)
from cnnbench.workloads import Workload, recipes

Scalar = str | int | bool | float
Combination = Mapping[str, Scalar | None]
"""One combination of values: every key of a job, its default where the suite is silent."""
Choices = Mapping[str, tuple[Scalar, ...]]
"""The values of one key by device kind, `gpu` (any kind but cpu) or `any`."""

AUTO = "auto"
"""For `threads` all cores allowed; for `data` MNIST where it can be had, else synthetic digits; for `batch_size` of random
images what fits the device's memory."""
EVERY = "all"
"""For `world` as many ranks as there are devices of the kind, or cores."""
DataChoice = Literal["auto", "mnist", "synthetic"]
ANY, GPU = "any", "gpu"
MAX_IMAGES = max(SPLIT_IMAGES.values())
TEST_IMAGES = 10_000
MAX_COMBINATIONS = 10_000
"""More combinations than this in one job are a slip, not a plan: at 4 s a process they would take half a day."""


@dataclass(frozen=True)
class Key:
    """One key: a choice of words, a number in a range (whole, or a `share` between 0 and 1), or true/false.

    `axis` says that it may take several values.
    """

    words: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    boolean: bool = False
    share: bool = False
    axis: bool = True

    def find_mistake(self, value: object) -> str | None:
        """What is wrong with the value, to be read after `key value`, or None."""
        if self.boolean:
            return None if isinstance(value, bool) else "must be true or false"
        if self.share:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return None if number and 0 < value <= 1 else "must be a number above 0 and up to 1, such as 0.99"  # type: ignore[operator]
        if isinstance(value, str) and value in self.words:
            return None
        if self.low is None or self.high is None:
            return f"is not one of {', '.join(self.words)}"
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole and self.low <= value <= self.high:  # type: ignore[operator]
            return None
        other = "".join(f" or {word!r}" for word in self.words)
        return f"must be a whole number from {self.low} to {self.high}{other}"


def _number(low: int, high: int, *words: str) -> Key:
    return Key(words=words, low=low, high=high)


KEYS: Mapping[str, Key] = {
    "workload": Key(axis=False),
    "division": Key(get_args(Division)),
    "precision": Key(get_args(Precision)),
    "layout": Key(get_args(Layout)),
    "task": Key(get_args(Task)),
    "execution": Key(get_args(Execution)),
    "batch_size": _number(1, MAX_IMAGES),
    "optimizer": Key(),
    "init": Key(),
    "pool": Key(get_args(Pool)),
    "activation": Key(get_args(Activation)),
    "size": _number(1, 65_536),
    "data": Key(get_args(DataChoice)),
    "split": Key(get_args(Split)),
    "order": Key(get_args(Order)),
    "loader": Key(get_args(Loader)),
    "loader_workers": _number(0, 256),
    "clock": Key(get_args(Clock), axis=False),
    "warmup_steps": _number(0, 100_000),
    "block_steps": _number(1, 1_000_000),
    "blocks": _number(1, 100_000),
    "epochs": _number(1, 100_000),
    "steps_per_epoch": _number(1, MAX_IMAGES),
    "extra_forwards": _number(0, 100),
    "epoch_eval_images": _number(0, TEST_IMAGES),
    "stop_when_all_right": Key(boolean=True),
    "final_evaluation": Key(boolean=True),
    "target": Key(share=True),
    "evaluate_every": _number(1, 1_000_000),
    "recipe": Key(tuple(recipes.RECIPES)),
    "threads": _number(1, 4096, AUTO),
    "allocator": Key(get_args(Allocator)),
    "world": _number(1, 65_536, EVERY),
    "scaling": Key(get_args(Scaling)),
}
"""In the order in which combinations are unfolded. The words of `optimizer` and `init` are the workload's."""

GEMM_KEYS = (
    *("workload", "division", "precision", "size", "clock"),
    *("warmup_steps", "block_steps", "blocks", "threads", "allocator"),
)
"""A product has no data, no optimiser and no epochs."""
FROM_ELSEWHERE = {
    "device": "devices are chosen by --device; values by device kind are a table, { cpu = 1, gpu = 2 }",
    "seed": "the seed is the suite's (above the first [[job]]) or --seed",
    "round": "rounds are counted by `repeats` (above the first [[job]])",
    "repeats": "`repeats` belongs above the first [[job]] and holds for all of them",
    "workload_version": "the version is that of the workload installed",
}


RANDOM_KEYS = (
    *("workload", "division", "precision", "layout", "task", "execution", "batch_size", "optimizer", "init"),
    *("pool", "activation", "clock", "warmup_steps", "block_steps", "blocks", "extra_forwards", "threads", "allocator"),
    *("world", "scaling"),
)
"""Random images have no order, no epochs, and nothing to be right about."""


def keys_for(workload: Workload) -> dict[str, Key]:
    """The keys that make sense for the workload, with its own optimizers and inits as choices."""
    steady = Key(("steady",), axis=False)
    if workload.kind == "gemm":
        return {name: steady if name == "clock" else KEYS[name] for name in GEMM_KEYS}
    own = {"optimizer": Key(workload.optimizers), "init": Key(workload.inits)}
    absent = {"size"}
    if not recipes.list_recipes(workload.name):
        absent.add("recipe")
    if workload.dataset == "random":
        absent |= set(KEYS) - set(RANDOM_KEYS)
        own |= {"clock": steady, "batch_size": _number(1, MAX_IMAGES, AUTO)}
    if workload.pool is None:
        absent.add("pool")
    if workload.activation is None:
        absent.add("activation")
    if not workload.convolves:
        own["layout"] = Key(("nchw",))
    return {name: own.get(name, key) for name, key in KEYS.items() if name not in absent}


def read_choices(name: str, key: Key, value: object) -> tuple[Choices, list[str]]:
    """A value, a list of values, or a table of either by device kind; and what is wrong with it."""
    if not isinstance(value, dict):
        values, problems = _read_values(name, key, value)
        return {ANY: values}, problems
    if not key.axis:
        return {}, [f"{name} takes one value, the same on every device"]
    where = (*list_kinds(), GPU)
    if not value:
        return {}, [f"{name} is an empty table; give a value for {', '.join(where)}"]
    choices: dict[str, tuple[Scalar, ...]] = {}
    problems = []
    for kind, inner in value.items():
        if kind not in where:
            known = ", ".join(where)
            problems.append(f"{name}.{format_value(kind, bare=True)} is not a device kind; choose from {known}")
            continue
        choices[kind], more = _read_values(f"{name}.{kind}", key, inner)
        problems += more
    return choices, problems


def _read_values(name: str, key: Key, value: object) -> tuple[tuple[Scalar, ...], list[str]]:
    if isinstance(value, list) and not key.axis:
        return (), [f"{name} takes one value, not a list"]
    given: Sequence[object] = value if isinstance(value, list) else [value]
    if not given:
        return (), [f"{name} is an empty list; give at least one value, or leave the key out"]
    problems = [
        f"{name} {format_value(each)} {wrong}" for each in given if (wrong := key.find_mistake(each)) is not None
    ]
    good = tuple(each for each in given if isinstance(each, (str, int, float)) and key.find_mistake(each) is None)
    return tuple(dict.fromkeys(good)), problems


def select_choices(choices: Choices, kind: DeviceKind) -> tuple[Scalar, ...] | None:
    """The values that hold on a device kind: its own, for rocm cuda's, `gpu`'s, or the same everywhere; None if silent."""
    wider = {"cpu": (), "rocm": ("cuda", GPU)}.get(kind, (GPU,))
    for name in (kind, *wider, ANY):
        if name in choices:
            return choices[name]
    return None


def default_value(name: str, workload: Workload) -> Scalar | None:
    """What a key is where the suite says nothing."""
    digits = workload.kind == "training" and workload.dataset == "mnist"
    if not digits and name == "final_evaluation":
        return False
    own: dict[str, Scalar | None] = {
        "threads": AUTO,
        "optimizer": workload.default_optimizer,
        "init": workload.default_init,
        "data": AUTO if digits else "random",
        "split": "train-55000" if digits else None,
    }
    if name in own:
        return own[name]
    value: Scalar | None = Job.model_fields[name].default
    return value


def full_batches(combination: Combination) -> int:
    """Full batches of one epoch: training images of the split over the batch size (55,000 / 128 -> 429)."""
    return SPLIT_IMAGES[str(combination["split"])] // int(combination["batch_size"] or 1)


def is_whole(text: str) -> bool:
    """Whether the text is a whole number of a size that anything counts in, in ASCII digits."""
    return re.fullmatch(r"-?[0-9]{1,18}", text) is not None


def format_value(value: object, *, bare: bool = False) -> str:
    """A value as the suite's author wrote it, shortened where it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if bare else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def describe_unknown_key(word: str, known: Sequence[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> str:
    """What to say of a key that is not one: where it belongs, else the nearest one, else all there are."""
    if word in elsewhere:
        return f"unknown key {format_value(word)}; {elsewhere[word]}"
    return f"unknown key {format_value(word)}{suggest_nearest(word, known) or '; choose from ' + ', '.join(known)}"


def suggest_nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean 'precision'?` where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
