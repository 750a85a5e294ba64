"""One combination of a job's values: what follows from them where the suite is silent, and what of them cannot be together."""

from __future__ import annotations

from typing import get_args

from cnnbench import workloads
from cnnbench.plan.keys import AUTO, Cell, Scalar, default, full_batches, shown
from cnnbench.schema import Execution
from cnnbench.workloads import Workload, recipes

REFERENCE_EXECUTIONS = ("eager", "compiled")
RECORDED = ("graph", "compiled-graph")
"""Rungs whose step is recorded: nothing in it may come from the host."""


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
