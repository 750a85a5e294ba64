"""One combination of a job's values: what follows from them where the suite is silent, and what of them cannot be together."""

from __future__ import annotations

from typing import get_args

from cnnbench import workloads
from cnnbench.plan.job_keys import Combination, Scalar, default_value, format_value, full_batches
from cnnbench.schema import AUTO, Execution
from cnnbench.workloads import Workload, recipes

REFERENCE_EXECUTIONS = ("eager", "compiled")
GRAPH_EXECUTIONS = ("graph", "compiled-graph")
"""Rungs whose step is recorded: nothing in it may come from the host."""


def complete_combination(combination: dict[str, Scalar | None], workload: Workload) -> dict[str, Scalar | None]:
    """The cell with what follows from the rest filled in: the steps of an epoch, and what inference has none of."""
    if combination["task"] == "inference":
        combination |= {"optimizer": None, "final_evaluation": False}
    if combination.get("division") == "open":
        _follow_recipe(combination, workload)
    digits = workload.kind == "training" and workload.dataset == "mnist"
    if digits and combination["epochs"] is not None and combination["steps_per_epoch"] is None:
        combination["steps_per_epoch"] = full_batches(combination)
    if combination.get("division") in ("tuned", "open") and combination.get("execution") == "eager":
        combination["execution"] = "auto"  # the suite is silent: the fastest rung
    if combination["world"] == 1:
        combination["scaling"] = None
    if combination["clock"] == "accuracy":
        combination["evaluate_every"] = combination["evaluate_every"] or combination["steps_per_epoch"]
        combination["final_evaluation"] = False
    return combination


def _follow_recipe(combination: dict[str, Scalar | None], workload: Workload) -> None:
    """What the recipe decides, wherever the suite is silent; a value of the suite's own is for `find_contradictions` to name."""
    known = recipes.list_recipes(workload.name)
    if combination.get("recipe") is None and known:
        combination["recipe"] = known[0]
    if (name := combination.get("recipe")) is None or str(name) not in known:
        return
    for field, value in recipes.get(str(name)).fixed_fields.items():
        if combination[field] == default_value(field, workload):
            combination[field] = value


def find_contradictions(combination: Combination) -> list[str]:
    """What in one combination of values cannot be, each with both values named."""
    if combination["workload"] == "gemm":
        return []
    found = (
        _check_task(combination)
        + _check_clock(combination)
        + _check_division(combination)
        + _check_recipe(combination)
        + _check_world(combination)
    )
    if combination["loader_workers"] and combination["loader"] != "dataloader":
        found.append(
            f"loader_workers {combination['loader_workers']} needs loader 'dataloader', not {combination['loader']!r}"
        )
    if combination["split"] is None:
        return found
    batch, split, most = combination["batch_size"], combination["split"], full_batches(combination)
    steps, epochs = combination["steps_per_epoch"], combination["epochs"]
    if most == 0:
        found.append(f"batch_size {batch} is more than the images of split {split!r}")
    elif steps is not None and int(steps) > most:
        found.append(f"steps_per_epoch {steps} is more than the {most} full batches of {batch} in split {split!r}")
    if steps is not None and epochs is None:
        found.append(f"steps_per_epoch {steps} needs epochs: the job is epochs x steps_per_epoch")
    return found


def _check_task(combination: Combination) -> list[str]:
    """What inference cannot have."""
    if combination["task"] != "inference":
        return []
    found = []
    if combination["clock"] != "steady":
        found.append(f"task 'inference' needs clock 'steady', not {combination['clock']!r}: nothing is learned")
    if combination["extra_forwards"]:
        found.append(
            f"extra_forwards {combination['extra_forwards']} makes no sense with task 'inference', which is forward only"
        )
    return found


def _check_division(combination: Combination) -> list[str]:
    """Which ways of executing belong to which division."""
    division, execution = combination["division"], combination["execution"]
    if division == "reference":
        if execution in REFERENCE_EXECUTIONS:
            return []
        return [f"execution {execution!r} is a rung of division 'tuned', not of {division!r}"]
    found = []
    if execution in REFERENCE_EXECUTIONS:
        variants = ", ".join(word for word in get_args(Execution) if word not in REFERENCE_EXECUTIONS)
        found.append(f"execution {execution!r} is the reference division's; division {division!r} has {variants}")
    if combination["layout"] != "nchw":
        found.append(
            f"layout {combination['layout']!r} cannot be chosen in division {division!r}: each rung has its own"
        )
    if combination["task"] == "inference":
        found.append(f"task 'inference' needs division 'reference': the {division} division trains")
    if execution in GRAPH_EXECUTIONS and combination["loader"] == "dataloader":
        found.append(f"execution {execution!r} needs loader 'resident': batches of a loader come from the host")
    if execution in GRAPH_EXECUTIONS and combination["precision"] == "fp16":
        found.append(f"execution {execution!r} cannot be fp16: its loss scale is decided on the host after each step")
    return found


def _check_recipe(combination: Combination) -> list[str]:
    """The open division follows a recipe, whole, and no other division does."""
    name, division, workload = combination.get("recipe"), combination["division"], combination["workload"]
    if division != "open":
        found = [f"recipe {name!r} needs division 'open', not {division!r}"] if name is not None else []
        return [*found, "clock 'recipe' needs division 'open'"] if combination["clock"] == "recipe" else found
    known = recipes.list_recipes(str(workload))
    if not known:
        return [f"division 'open' has no recipe for {workload}"]
    if str(name) not in known:
        return [f"recipe {name!r} is not for {workload}; there is {', '.join(known)}"]
    fixed = recipes.get(str(name)).fixed_fields
    return [
        f"{field} {format_value(combination[field])} is not the recipe's: {name} has {format_value(value)}; leave it out"
        for field, value in fixed.items()
        if combination[field] != value
    ]


def _check_world(combination: Combination) -> list[str]:
    """What several ranks cannot do."""
    world, scaling = combination["world"], combination["scaling"]
    if world == 1:
        return []
    several = f"world {world!r}"
    usual = {"clock": "steady", "division": "reference", "task": "training", "execution": "eager"}
    found = [
        f"{several} needs {name} {value!r}, not {combination[name]!r}"
        for name, value in usual.items()
        if combination[name] != value
    ]
    if combination["batch_size"] == AUTO:
        found.append(f"{several} needs a batch_size in numbers, to be dealt out to the ranks")
    if scaling == "weak" and combination["epochs"] is not None:
        found.append("scaling 'weak' has no whole job: with more ranks an epoch has fewer steps; leave epochs out")
    return found


def _check_clock(combination: Combination) -> list[str]:
    """What a clock needs, and what belongs to another."""
    found = []
    clock, epochs, every = combination["clock"], combination["epochs"], combination["evaluate_every"]
    if clock in ("job", "accuracy") and epochs is None:
        limit = "the length of the job" if clock == "job" else "the most it trains"
        found.append(f"clock {clock!r} needs epochs, {limit}")
    if clock == "accuracy" and combination["target"] is None:
        found.append("clock 'accuracy' needs target, the share of test images to be right, such as 0.99")
    for name in ("target", "evaluate_every"):
        if (
            combination[name] is not None
            and clock != "accuracy"
            and not (name == "target" and combination["division"] == "open")
        ):
            found.append(f"{name} {combination[name]} needs clock 'accuracy', not {clock!r}")
    steps = combination["steps_per_epoch"]
    if clock == "accuracy" and epochs and steps and every and int(every) > int(epochs) * int(steps):
        found.append(f"evaluate_every {every} is more than the {int(epochs) * int(steps)} steps of {epochs} epochs")
    if combination["epoch_eval_images"] and clock != "job":
        found.append(
            f"epoch_eval_images {combination['epoch_eval_images']} needs clock 'job': steady steps have no epochs"
        )
    if combination["stop_when_all_right"] and not combination["epoch_eval_images"]:
        found.append("stop_when_all_right true needs epoch_eval_images, the sample that is to be all right")
    if clock == "steady" and workloads.get(str(combination["workload"])).pretraining is not None:
        found.append(
            f"clock 'steady': {combination['workload']} has two phases; use clock 'job' or 'accuracy', which time both"
        )
    return found
