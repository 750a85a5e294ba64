"""What a `[[job]]` table of a suite may say: every key with its choices or range (`combinations`: what goes together).

The choices are read from `schema.Job`, so a suite can say what a job can be and nothing else. Values come in as TOML
gives them and leave as plain scalars, by device kind; mistakes leave as text, all of them, never as an exception.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cnnbench.devices import list_kinds
from cnnbench.errors import UsageError
from cnnbench.plain_text import format_value, suggest_choices
from cnnbench.schema import AUTO, MAX_IMAGES, SPLIT_IMAGES, DeviceKind, Job
from cnnbench.schema.axes import axes_of, list_choices
from cnnbench.workloads import Workload, recipes

Scalar = str | int | bool | float
Combination = Mapping[str, Scalar | None]
"""One combination of values: every key of a job, its default where the suite is silent."""
Choices = Mapping[str, tuple[Scalar, ...]]
"""The values of one key by device kind, `gpu` (any kind but cpu) or `any`."""

ANY, GPU = "any", "gpu"
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

    def read_text(self, text: str) -> Scalar:
        """The value that a text of the command line means; the text itself where it can be none of the key's."""
        if self.boolean:
            return {"true": True, "false": False}.get(text, text)
        # A whole number of a size that anything counts in, in ASCII digits.
        whole = self.low is not None and re.fullmatch(r"-?[0-9]{1,18}", text)
        return int(text) if whole else text


def _make_key(name: str) -> Key:
    """The key of a job's field, by the field's declaration."""
    axis, values = axes_of(Job)[name], list_choices(Job, name)
    return Key(
        words=axis.choices or tuple(each for each in values if isinstance(each, str)),
        low=axis.low,
        high=axis.high,
        boolean=Job.model_fields[name].annotation is bool,
        share=Job.model_fields[name].annotation == float | None,
        axis=axis.takes_several,
    )


_UNFOLDED_LAST = ("world", "scaling")
_FIELDS = [name for name, axis in axes_of(Job).items() if axis.scope is not None]
KEYS: Mapping[str, Key] = {
    **{name: _make_key(name) for name in sorted(_FIELDS, key=lambda name: name in _UNFOLDED_LAST)},
    "recipe": Key(tuple(recipes.RECIPES)),
}
"""In the order in which combinations are unfolded. The words of `optimizer` and `init` are the workload's."""

FROM_ELSEWHERE = {
    "device": "devices are chosen by --device; values by device kind are a table, { cpu = 1, gpu = 2 }",
    "seed": "the seed is the suite's (above the first [[job]]) or --seed",
    "round": "rounds are counted by `repeats` (above the first [[job]])",
    "repeats": "`repeats` belongs above the first [[job]] and holds for all of them",
    "workload_version": "the version is that of the workload installed",
}


def keys_for(workload: Workload) -> dict[str, Key]:
    """The keys that make sense for the workload, with its own optimizers and inits as choices.

    A product has no data, no optimiser and no epochs; random images have no order, no epochs, and nothing to be right about.
    """
    steady, on_digits = Key(("steady",), axis=False), workload.dataset == "mnist"
    if workload.kind == "gemm":
        return {name: key for name, key in {**KEYS, "clock": steady}.items() if _is_of(name, "any", "products")}
    own = {"optimizer": Key(workload.optimizers), "init": Key(workload.inits)}
    if not on_digits:
        own |= {"clock": steady, "batch_size": Key((AUTO,), 1, MAX_IMAGES)}
    if not workload.convolves:
        own["layout"] = Key(("nchw",))
    absent = {name for name in ("pool", "activation") if getattr(workload, name) is None}
    absent |= set() if recipes.list_recipes(workload.name) else {"recipe"}
    scopes = ("any", "networks", "digits") if on_digits else ("any", "networks")
    return {name: own.get(name, key) for name, key in KEYS.items() if _is_of(name, *scopes) and name not in absent}


def _is_of(name: str, *scopes: str) -> bool:
    return axes_of(Job)[name].scope in scopes


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
    choices = {}
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
    if value == []:
        return (), [f"{name} is an empty list; give at least one value, or leave the key out"]
    good: list[Scalar] = []
    problems = []
    for each in value if isinstance(value, list) else [value]:
        if (wrong := key.find_mistake(each)) is not None:
            problems.append(f"{name} {format_value(each)} {wrong}")
        elif isinstance(each, str | int | float):
            good.append(each)
    return tuple(dict.fromkeys(good)), problems


def select_choices(choices: Choices, kind: DeviceKind) -> tuple[Scalar, ...] | None:
    """The values that hold on a device kind: its own, for rocm cuda's, `gpu`'s, or the same everywhere; None if silent."""
    wider = {"cpu": (), "rocm": ("cuda", GPU)}.get(kind, (GPU,))
    return next((choices[name] for name in (kind, *wider, ANY) if name in choices), None)


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
    return own.get(name, Job.model_fields[name].default)


def full_batches(combination: Combination) -> int:
    """Full batches of one epoch: training images of the split over the batch size (55,000 / 128 -> 429)."""
    return SPLIT_IMAGES[str(combination["split"])] // int(combination["batch_size"] or 1)


def split_setting(option: str, text: str, example: str) -> tuple[str, str]:
    """The key and the value of `key=value`. Raises UsageError for a text that is not so."""
    key, _, value = text.partition("=")
    if not key or not value:
        raise UsageError(f"{option} {text!r}: write key=value, such as {example}")
    return key, value


def describe_unknown_key(word: str, known: Sequence[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> str:
    """What to say of a key that is not one: where it belongs, else the nearest one, else all there are."""
    if word in elsewhere:
        return f"unknown key {format_value(word)}; {elsewhere[word]}"
    return f"unknown key {format_value(word)}{suggest_choices(word, known)}"
