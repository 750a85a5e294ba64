"""The keys of a suite's `[[job]]` table: each with its choices or range, its default, and what cannot be combined.

The choices are read from `schema.Job`, so a suite can express exactly what a job can be. Values come in as TOML gives
them and leave as plain scalars, by device kind; mistakes leave as text, all of them, never as an exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, get_args

from cnnbench import workloads
from cnnbench.devices import list_kinds
from cnnbench.errors import UsageError
from cnnbench.plain_text import format_value, suggest_choices
from cnnbench.schema import AUTO, SPLIT_IMAGES, Job
from cnnbench.schema.job import AXES, MAX_IMAGES, Execution, list_choices
from cnnbench.workloads import Workload, recipes
from cnnbench.workloads.base import POINT_SETS

Scalar = str | int | bool | float
Combination = Mapping[str, Scalar | None]
"""One combination of values: every key of a job, with its default where the suite is silent."""
Choices = Mapping[str, tuple[Scalar, ...]]
"""The values of one key by device kind, `gpu` (any kind but cpu) or `any`."""

ANY, GPU = "any", "gpu"
MAX_COMBINATIONS = 10_000
"""More combinations than this in one job are taken for a mistake: at 4 s per process they would take half a day."""


@dataclass(frozen=True)
class Key:
    """One key: a choice of words, a number in a range (whole, or a `share` between 0 and 1), or true/false.

    `axis` allows several values.
    """

    words: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    boolean: bool = False
    share: bool = False
    axis: bool = True

    def find_mistake(self, value: object) -> str | None:
        """Describe what is wrong with the value, to be read after `key value`; None if nothing is."""
        if self.boolean:
            return None if isinstance(value, bool) else "must be true or false"
        if self.share:
            number = type(value) in (int, float)  # excludes bool, which isinstance takes for an int
            return None if number and 0 < value <= 1 else "must be a number above 0 and up to 1, such as 0.99"  # type: ignore[operator]
        if isinstance(value, str) and value in self.words:
            return None
        if self.low is None or self.high is None:
            return f"is not one of {', '.join(self.words)}"
        if type(value) is int and self.low <= value <= self.high:
            return None
        other = "".join(f" or {word!r}" for word in self.words)
        return f"must be a whole number from {self.low} to {self.high}{other}"

    def read_text(self, text: str) -> Scalar:
        """Convert a text of the command line to a value.

        The text itself is returned if it cannot be one of the key's values.
        """
        if self.boolean:
            return {"true": True, "false": False}.get(text, text)
        if self.share and re.fullmatch(r"[0-9]*\.?[0-9]+", text):
            return float(text)
        # A whole number in ASCII digits, of a size that something could count.
        whole = self.low is not None and re.fullmatch(r"-?[0-9]{1,18}", text)
        return int(text) if whole else text


def _make_key(name: str) -> Key:
    """Make the key of a job's field from the field's declaration."""
    axis, values = AXES[name], list_choices(name)
    return Key(
        words=axis.choices or tuple(each for each in values if isinstance(each, str)),
        low=axis.low,
        high=axis.high,
        boolean=Job.model_fields[name].annotation is bool,
        share=Job.model_fields[name].annotation == float | None,
        axis=axis.takes_several,
    )


_FIELDS = [name for name, axis in AXES.items() if axis.scope is not None]
KEYS: Mapping[str, Key] = {
    **{name: _make_key(name) for name in sorted(_FIELDS, key=("world", "scaling").__contains__)},
    "recipe": Key(tuple(recipes.RECIPES)),
}
"""The keys in the order in which combinations are unfolded. The words of `optimizer` and `init` are the workload's."""

TOP_KEYS: Mapping[str, Key] = {"repeats": Key(low=1, high=1000), "seed": Key(low=0, high=2**31 - 1)}
"""Keys above the first [[job]]."""
FROM_ELSEWHERE = {
    "device": "devices are chosen by --device; values by device kind are a table, { cpu = 1, gpu = 2 }",
    "seed": "the seed is the suite's (above the first [[job]]) or --seed",
    "round": "rounds are counted by `repeats` (above the first [[job]])",
    "workload_version": "the version is that of the workload installed",
}


def keys_for(workload: Workload) -> dict[str, Key]:
    """Select the keys that make sense for the workload, with its own optimizers and inits as choices.

    A product has no data, no optimiser and no epochs; random images have no order, no epochs and no accuracy.
    """
    own = {"optimizer": Key(workload.optimizers), "init": Key(workload.inits)}
    scopes = {"any", "networks", "digits"}
    if workload.dataset in POINT_SETS:
        own |= {"data": Key(("points",))}
    if not workload.learns:
        own |= {"clock": Key(("steady",), axis=False), "batch_size": Key((AUTO,), 1, MAX_IMAGES)}
        scopes = {"any", "products" if workload.kind == "gemm" else "networks"}
    if not workload.convolves:
        own["layout"] = Key(("nchw",))
    absent = {name for name in ("pool", "activation") if getattr(workload, name) is None}
    absent |= set() if recipes.list_recipes(workload.name) else {"recipe"}
    return {name: own.get(name, key) for name, key in KEYS.items() if AXES[name].scope in scopes and name not in absent}


def read_choices(name: str, key: Key, value: object) -> tuple[Choices, list[str]]:
    """Read a value, a list of values, or a table of either by device kind.

    Also list what is wrong with it.
    """
    if not isinstance(value, dict):
        values, problems = _read_values(name, key, value)
        return {ANY: values}, problems
    if not key.axis:
        return {}, [f"{name} takes one value, the same on every device"]
    where = (*list_kinds(), GPU)
    known = ", ".join(where)
    if not value:
        return {}, [f"{name} is an empty table; give a value for {known}"]
    choices = {}
    problems = []
    for kind, inner in value.items():
        if kind not in where:
            problems.append(f"{name}.{format_value(kind, bare=True)} is not a device kind; choose from {known}")
            continue
        choices[kind], more = _read_values(f"{name}.{kind}", key, inner)
        problems += more
    return choices, problems


def _read_values(name: str, key: Key, value: object) -> tuple[tuple[Scalar, ...], list[str]]:
    if isinstance(value, list) and not key.axis:
        return (), [f"{name} takes one value, not a list"]
    if value == []:
        return (), [f"{name} is an empty list; give at least one value, or leave the key out"]
    good = []
    problems = []
    for each in value if isinstance(value, list) else [value]:
        if (wrong := key.find_mistake(each)) is not None:
            problems.append(f"{name} {format_value(each)} {wrong}")
        elif isinstance(each, str | int | float):
            good.append(each)
    return tuple(dict.fromkeys(good)), problems


def default_value(name: str, workload: Workload) -> Scalar | None:
    """Return the value of a key that the suite leaves out."""
    drawn = workload.dataset in POINT_SETS
    own: dict[str, Scalar | None] = {
        "threads": AUTO,
        "optimizer": workload.default_optimizer,
        "init": workload.default_init,
        "data": "points" if drawn else AUTO if workload.learns else "random",
        "split": "train-55000" if workload.learns else None,
        "final_evaluation": workload.learns,
    }
    return own.get(name, Job.model_fields[name].default)


def full_batches(combination: Combination) -> int:
    """Count the full batches of one epoch.

    They are the training images of the split over the batch size (55,000 / 128 -> 429).
    """
    return SPLIT_IMAGES[str(combination["split"])] // int(combination["batch_size"] or 1)


def split_setting(option: str, text: str, example: str) -> tuple[str, str]:
    """Split `key=value` into its key and value. Raises UsageError for a malformed text."""
    key, _, value = text.partition("=")
    if not key or not value:
        raise UsageError(f"{option} {text!r}: write key=value, such as {example}")
    return key, value


def describe_unknown_key(word: str, known: Collection[str], elsewhere: Mapping[str, str]) -> str:
    """Describe an unknown key: where it belongs, else the nearest known one, else all there are."""
    where = f"; {elsewhere[word]}" if word in elsewhere else suggest_choices(word, known)
    return f"unknown key {format_value(word)}{where}"


REFERENCE_EXECUTIONS = ("eager", "compiled")
GRAPH_EXECUTIONS = ("graph", "compiled-graph")
"""Rungs whose step is recorded, so that nothing in it may come from the host."""


def complete_combination(combination: dict[str, Scalar | None], workload: Workload) -> Combination:
    """Fill in the values that follow from the rest.

    These are the steps of an epoch, and None for what inference does not have.
    """
    if combination["task"] == "inference":
        combination |= {"optimizer": None, "final_evaluation": False}
    if combination["division"] == "open":
        # What the recipe decides, if the suite is silent; `find_contradictions` reports other values of the suite.
        known = recipes.list_recipes(workload.name)
        name = combination["recipe"] = combination["recipe"] or next(iter(known), None)
        for field, value in recipes.get(str(name)).fixed_fields.items() if name in known else ():
            if combination[field] == default_value(field, workload):
                combination[field] = value
    if workload.learns and combination["epochs"] is not None and combination["steps_per_epoch"] is None:
        combination["steps_per_epoch"] = full_batches(combination)
    if combination["division"] != "reference" and combination["execution"] == "eager":
        combination["execution"] = "auto"  # the suite is silent: the fastest rung
    if combination["world"] == 1:
        combination["scaling"] = None
    if combination["clock"] == "accuracy":
        combination["evaluate_every"] = combination["evaluate_every"] or combination["steps_per_epoch"]
        combination["final_evaluation"] = False
    return combination


def find_contradictions(combination: Combination) -> list[str]:
    """Find the values of one combination that contradict each other; each text names both."""
    if combination["workload"] == "gemm":
        return []
    epochs, steps = combination["epochs"], combination["steps_per_epoch"]
    full_epoch = None if combination["split"] is None else full_batches(combination)
    job_steps = int(epochs) * int(steps) if epochs and steps else None
    job = SimpleNamespace(**combination, full_epoch=full_epoch, job_steps=job_steps)
    found = [text.format(job) for cannot_be, text in RULES if cannot_be(job)]
    if job.division != "open":
        return found
    # The open division follows a whole recipe.
    known = recipes.list_recipes(job.workload)
    if not known:
        return [*found, f"division 'open' has no recipe for {job.workload}"]
    if job.recipe not in known:
        return [*found, f"recipe {job.recipe!r} is not for {job.workload}; choose from {', '.join(known)}"]
    return found + [
        f"{field} {format_value(combination[field])} is not the recipe's: {job.recipe} has {format_value(value)}; leave it out"
        for field, value in recipes.get(job.recipe).fixed_fields.items()
        if combination[field] != value
    ]


Rule = tuple[Callable[[Any], object], str]
"""When values cannot be combined, and the message: a format of the job, its `full_epoch` and its `job_steps`."""


def _make_rank_rule(name: str, value: str) -> Rule:
    """Make the rule that several ranks need this value."""
    text = f"world {{0.world!r}} needs {name} {value!r}, not {{0.{name}!r}}"
    return lambda job: job.world != 1 and getattr(job, name) != value, text


_TUNED_EXECUTIONS = ", ".join(word for word in get_args(Execution) if word not in REFERENCE_EXECUTIONS)
RULES: tuple[Rule, ...] = (
    (
        lambda job: job.task == "inference" and job.clock != "steady",
        "task 'inference' needs clock 'steady', not {0.clock!r}: nothing is learned",
    ),
    (
        lambda job: job.task == "inference" and job.extra_forwards,
        "extra_forwards {0.extra_forwards} makes no sense with task 'inference', which is forward only",
    ),
    (lambda job: job.clock == "job" and job.epochs is None, "clock 'job' needs epochs, the length of the job"),
    (
        lambda job: job.clock == "accuracy" and job.epochs is None,
        "clock 'accuracy' needs epochs, the limit of its training",
    ),
    (
        lambda job: job.clock == "accuracy" and job.target is None,
        "clock 'accuracy' needs target, the share of test images to be right, such as 0.99",
    ),
    (
        lambda job: job.target is not None and job.clock != "accuracy" and job.division != "open",
        "target {0.target} needs clock 'accuracy', not {0.clock!r}",
    ),
    (
        lambda job: job.evaluate_every is not None and job.clock != "accuracy",
        "evaluate_every {0.evaluate_every} needs clock 'accuracy', not {0.clock!r}",
    ),
    (
        lambda job: job.clock == "accuracy" and job.job_steps and (job.evaluate_every or 0) > job.job_steps,
        "evaluate_every {0.evaluate_every} is more than the {0.job_steps} steps of {0.epochs} epochs",
    ),
    (
        lambda job: job.epoch_eval_images and job.clock != "job",
        "epoch_eval_images {0.epoch_eval_images} needs clock 'job': steady steps have no epochs",
    ),
    (
        lambda job: job.stop_when_all_right and not job.epoch_eval_images,
        "stop_when_all_right true needs epoch_eval_images, the sample that is to be all right",
    ),
    (
        lambda job: job.clock == "steady" and workloads.get(job.workload).pretraining is not None,
        "clock 'steady': {0.workload} has two phases; use clock 'job' or 'accuracy', which time both",
    ),
    (
        lambda job: job.division == "reference" and job.execution not in REFERENCE_EXECUTIONS,
        "execution {0.execution!r} is a rung of division 'tuned', not of {0.division!r}",
    ),
    (
        lambda job: job.division != "reference" and job.execution in REFERENCE_EXECUTIONS,
        "execution {0.execution!r} is the reference division's; division {0.division!r} has " + _TUNED_EXECUTIONS,
    ),
    (
        lambda job: job.division != "reference" and job.layout != "nchw",
        "layout {0.layout!r} cannot be chosen in division {0.division!r}: each rung has its own",
    ),
    (
        lambda job: job.division != "reference" and job.task == "inference",
        "task 'inference' needs division 'reference': the {0.division} division trains",
    ),
    (
        lambda job: job.division != "reference" and job.execution in GRAPH_EXECUTIONS and job.loader == "dataloader",
        "execution {0.execution!r} needs loader 'resident': batches of a loader come from the host",
    ),
    (
        lambda job: job.division != "reference" and job.execution in GRAPH_EXECUTIONS and job.precision == "fp16",
        "execution {0.execution!r} cannot be fp16: its loss scale is decided on the host after each step",
    ),
    (
        lambda job: job.division != "open" and job.recipe is not None,
        "recipe {0.recipe!r} needs division 'open', not {0.division!r}",
    ),
    (lambda job: job.division != "open" and job.clock == "recipe", "clock 'recipe' needs division 'open'"),
    (
        lambda job: job.division != "reference" and workloads.get(job.workload).loss != "cross-entropy",
        "division {0.division!r} is for softmax over classes, which {0.workload} does not have",
    ),
    (
        lambda job: (
            workloads.get(job.workload).loss == "squared-error" and (job.clock == "accuracy" or job.epoch_eval_images)
        ),
        "{0.workload} has no accuracy: leave out epoch_eval_images and use clock 'steady' or 'job', not {0.clock!r}",
    ),
    _make_rank_rule("clock", "steady"),
    _make_rank_rule("division", "reference"),
    _make_rank_rule("task", "training"),
    _make_rank_rule("execution", "eager"),
    (
        lambda job: job.world != 1 and job.batch_size == AUTO,
        "world {0.world!r} needs a batch_size in numbers, which the ranks share",
    ),
    (
        lambda job: job.world != 1 and job.scaling == "weak" and job.epochs is not None,
        "scaling 'weak' has no whole job: with more ranks an epoch has fewer steps; leave epochs out",
    ),
    (
        lambda job: job.loader_workers and job.loader != "dataloader",
        "loader_workers {0.loader_workers} needs loader 'dataloader', not {0.loader!r}",
    ),
    (lambda job: job.full_epoch == 0, "batch_size {0.batch_size} is more than the images of split {0.split!r}"),
    (
        lambda job: job.full_epoch and (job.steps_per_epoch or 0) > job.full_epoch,
        "steps_per_epoch {0.steps_per_epoch} is more than the {0.full_epoch} full batches of {0.batch_size} in split {0.split!r}",
    ),
    (
        lambda job: job.full_epoch is not None and job.steps_per_epoch is not None and job.epochs is None,
        "steps_per_epoch {0.steps_per_epoch} needs epochs: the job is epochs x steps_per_epoch",
    ),
)
