"""What a `[[job]]` table of a suite may say: every key with its choices or range, and which combinations make sense.

The choices are read from `schema.Job`, so a suite can say what a job can be and nothing else. Values come in as TOML
gives them and leave as plain scalars, by device kind; mistakes leave as text, all of them, never as an exception.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from cnnbench import workloads
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
Cell = Mapping[str, Scalar | None]
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
KINDS: tuple[DeviceKind, ...] = get_args(DeviceKind)
MOST_IMAGES = max(SPLIT_IMAGES.values())
TEST_IMAGES = 10_000
REFERENCE_EXECUTIONS = ("eager", "compiled")
RECORDED = ("graph", "compiled-graph")
"""Rungs whose step is recorded: nothing in it may come from the host."""
MOST_CELLS = 10_000
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

    def complaint(self, value: object) -> str | None:
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
    "batch_size": _number(1, MOST_IMAGES),
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
    "steps_per_epoch": _number(1, MOST_IMAGES),
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
    if not recipes.of_workload(workload.name):
        absent.add("recipe")
    if workload.dataset == "random":
        absent |= set(KEYS) - set(RANDOM_KEYS)
        own |= {"clock": steady, "batch_size": _number(1, MOST_IMAGES, AUTO)}
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
    if not value:
        return {}, [f"{name} is an empty table; give a value for {', '.join((*KINDS, GPU))}"]
    choices: dict[str, tuple[Scalar, ...]] = {}
    problems = []
    for kind, inner in value.items():
        if kind not in (*KINDS, GPU):
            known = ", ".join((*KINDS, GPU))
            problems.append(f"{name}.{shown(kind, bare=True)} is not a device kind; choose from {known}")
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
    problems = [f"{name} {shown(each)} {wrong}" for each in given if (wrong := key.complaint(each)) is not None]
    good = tuple(each for each in given if isinstance(each, (str, int, float)) and key.complaint(each) is None)
    return tuple(dict.fromkeys(good)), problems


def choices_on(choices: Choices, kind: DeviceKind) -> tuple[Scalar, ...] | None:
    """The values that hold on a device kind: its own, for rocm cuda's, `gpu`'s, or the same everywhere; None if silent."""
    wider = {"cpu": (), "rocm": ("cuda", GPU)}.get(kind, (GPU,))
    for name in (kind, *wider, ANY):
        if name in choices:
            return choices[name]
    return None


def default(name: str, workload: Workload) -> Scalar | None:
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


def full_batches(cell: Cell) -> int:
    """Full batches of one epoch: training images of the split over the batch size (55,000 / 128 -> 429)."""
    return SPLIT_IMAGES[str(cell["split"])] // int(cell["batch_size"] or 1)


def completed(cell: dict[str, Scalar | None], workload: Workload) -> dict[str, Scalar | None]:
    """The cell with what follows from the rest filled in: the steps of an epoch, and what inference has none of."""
    if cell["task"] == "inference":
        cell |= {"optimizer": None, "final_evaluation": False}
    if cell.get("division") == "open":
        _follow_recipe(cell, workload)
    digits = workload.kind == "training" and workload.dataset == "mnist"
    if digits and cell["epochs"] is not None and cell["steps_per_epoch"] is None:
        cell["steps_per_epoch"] = full_batches(cell)
    if cell.get("division") in ("tuned", "open") and cell.get("execution") == "eager":
        cell["execution"] = "auto"  # the suite is silent: the fastest rung
    if cell["world"] == 1:
        cell["scaling"] = None
    if cell["clock"] == "accuracy":
        cell["evaluate_every"] = cell["evaluate_every"] or cell["steps_per_epoch"]
        cell["final_evaluation"] = False
    return cell


def _follow_recipe(cell: dict[str, Scalar | None], workload: Workload) -> None:
    """What the recipe decides, wherever the suite is silent; a value of the suite's own is for `contradictions` to name."""
    known = recipes.of_workload(workload.name)
    if cell.get("recipe") is None and known:
        cell["recipe"] = known[0]
    if (name := cell.get("recipe")) is None or str(name) not in known:
        return
    for field, value in recipes.get(str(name)).fixed.items():
        if cell[field] == default(field, workload):
            cell[field] = value


def contradictions(cell: Cell) -> list[str]:
    """What in one combination of values cannot be, each with both values named."""
    if cell["workload"] == "gemm":
        return []
    found = _of_task(cell) + _of_clock(cell) + _of_division(cell) + _of_recipe(cell) + _of_world(cell)
    if cell["loader_workers"] and cell["loader"] != "dataloader":
        found.append(f"loader_workers {cell['loader_workers']} needs loader 'dataloader', not {cell['loader']!r}")
    if cell["split"] is None:
        return found
    batch, split, most = cell["batch_size"], cell["split"], full_batches(cell)
    steps, epochs = cell["steps_per_epoch"], cell["epochs"]
    if most == 0:
        found.append(f"batch_size {batch} is more than the images of split {split!r}")
    elif steps is not None and int(steps) > most:
        found.append(f"steps_per_epoch {steps} is more than the {most} full batches of {batch} in split {split!r}")
    if steps is not None and epochs is None:
        found.append(f"steps_per_epoch {steps} needs epochs: the job is epochs x steps_per_epoch")
    return found


def _of_task(cell: Cell) -> list[str]:
    """What inference cannot have."""
    if cell["task"] != "inference":
        return []
    found = []
    if cell["clock"] != "steady":
        found.append(f"task 'inference' needs clock 'steady', not {cell['clock']!r}: nothing is learned")
    if cell["extra_forwards"]:
        found.append(
            f"extra_forwards {cell['extra_forwards']} makes no sense with task 'inference', which is forward only"
        )
    return found


def _of_division(cell: Cell) -> list[str]:
    """Which ways of executing belong to which division."""
    division, execution = cell["division"], cell["execution"]
    if division == "reference":
        if execution in REFERENCE_EXECUTIONS:
            return []
        return [f"execution {execution!r} is a rung of division 'tuned', not of {division!r}"]
    found = []
    if execution in REFERENCE_EXECUTIONS:
        rungs = ", ".join(word for word in get_args(Execution) if word not in REFERENCE_EXECUTIONS)
        found.append(f"execution {execution!r} is the reference division's; division {division!r} has {rungs}")
    if cell["layout"] != "nchw":
        found.append(f"layout {cell['layout']!r} cannot be chosen in division {division!r}: each rung has its own")
    if cell["task"] == "inference":
        found.append(f"task 'inference' needs division 'reference': the {division} division trains")
    if execution in RECORDED and cell["loader"] == "dataloader":
        found.append(f"execution {execution!r} needs loader 'resident': batches of a loader come from the host")
    if execution in RECORDED and cell["precision"] == "fp16":
        found.append(f"execution {execution!r} cannot be fp16: its loss scale is decided on the host after each step")
    return found


def _of_recipe(cell: Cell) -> list[str]:
    """The open division follows a recipe, whole, and no other division does."""
    name, division, workload = cell.get("recipe"), cell["division"], cell["workload"]
    if division != "open":
        found = [f"recipe {name!r} needs division 'open', not {division!r}"] if name is not None else []
        return [*found, "clock 'recipe' needs division 'open'"] if cell["clock"] == "recipe" else found
    known = recipes.of_workload(str(workload))
    if not known:
        return [f"division 'open' has no recipe for {workload}"]
    if str(name) not in known:
        return [f"recipe {name!r} is not for {workload}; there is {', '.join(known)}"]
    fixed = recipes.get(str(name)).fixed
    return [
        f"{field} {shown(cell[field])} is not the recipe's: {name} has {shown(value)}; leave it out"
        for field, value in fixed.items()
        if cell[field] != value
    ]


def _of_world(cell: Cell) -> list[str]:
    """What several ranks cannot do."""
    world, scaling = cell["world"], cell["scaling"]
    if world == 1:
        return []
    several = f"world {world!r}"
    usual = {"clock": "steady", "division": "reference", "task": "training", "execution": "eager"}
    found = [
        f"{several} needs {name} {value!r}, not {cell[name]!r}" for name, value in usual.items() if cell[name] != value
    ]
    if cell["batch_size"] == AUTO:
        found.append(f"{several} needs a batch_size in numbers, to be dealt out to the ranks")
    if scaling == "weak" and cell["epochs"] is not None:
        found.append("scaling 'weak' has no whole job: with more ranks an epoch has fewer steps; leave epochs out")
    return found


def _of_clock(cell: Cell) -> list[str]:
    """What a clock needs, and what belongs to another."""
    found = []
    clock, epochs, every = cell["clock"], cell["epochs"], cell["evaluate_every"]
    if clock in ("job", "accuracy") and epochs is None:
        limit = "the length of the job" if clock == "job" else "the most it trains"
        found.append(f"clock {clock!r} needs epochs, {limit}")
    if clock == "accuracy" and cell["target"] is None:
        found.append("clock 'accuracy' needs target, the share of test images to be right, such as 0.99")
    for name in ("target", "evaluate_every"):
        if cell[name] is not None and clock != "accuracy" and not (name == "target" and cell["division"] == "open"):
            found.append(f"{name} {cell[name]} needs clock 'accuracy', not {clock!r}")
    steps = cell["steps_per_epoch"]
    if clock == "accuracy" and epochs and steps and every and int(every) > int(epochs) * int(steps):
        found.append(f"evaluate_every {every} is more than the {int(epochs) * int(steps)} steps of {epochs} epochs")
    if cell["epoch_eval_images"] and clock != "job":
        found.append(f"epoch_eval_images {cell['epoch_eval_images']} needs clock 'job': steady steps have no epochs")
    if cell["stop_when_all_right"] and not cell["epoch_eval_images"]:
        found.append("stop_when_all_right true needs epoch_eval_images, the sample that is to be all right")
    if clock == "steady" and workloads.get(str(cell["workload"])).pretraining is not None:
        found.append(
            f"clock 'steady': {cell['workload']} has two phases; use clock 'job' or 'accuracy', which time both"
        )
    return found


def shown(value: object, *, bare: bool = False) -> str:
    """A value as the suite's author wrote it, shortened where it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if bare else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def unknown(word: str, known: Sequence[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> str:
    """What to say of a key that is not one: where it belongs, else the nearest one, else all there are."""
    if word in elsewhere:
        return f"unknown key {shown(word)}; {elsewhere[word]}"
    return f"unknown key {shown(word)}{nearest(word, known) or '; choose from ' + ', '.join(known)}"


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean 'precision'?` where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
