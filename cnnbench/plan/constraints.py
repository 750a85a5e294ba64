"""One combination of a job's values: what follows from them where the suite is silent, and what of them cannot be together."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_args

from cnnbench import workloads
from cnnbench.plain_text import format_value
from cnnbench.plan.job_keys import Combination, Scalar, default_value, full_batches
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
    name = combination["recipe"] = combination.get("recipe") or next(iter(known), None)
    for field, value in recipes.get(str(name)).fixed_fields.items() if name in known else ():
        if combination[field] == default_value(field, workload):
            combination[field] = value


def find_contradictions(combination: Combination) -> list[str]:
    """What in one combination of values cannot be, each with both values named."""
    if combination["workload"] == "gemm":
        return []
    epochs, steps = combination["epochs"], combination["steps_per_epoch"]
    full_epoch = None if combination["split"] is None else full_batches(combination)
    job_steps = int(epochs) * int(steps) if epochs and steps else None
    job = SimpleNamespace(**{"recipe": None, **combination}, full_epoch=full_epoch, job_steps=job_steps)
    found = [text.format(job) for cannot_be, text in RULES if cannot_be(job)]
    return found + (_check_recipe(combination) if job.division == "open" else [])


def _check_recipe(combination: Combination) -> list[str]:
    """The open division follows a recipe, whole."""
    name, workload = str(combination.get("recipe")), combination["workload"]
    known = recipes.list_recipes(str(workload))
    if not known:
        return [f"division 'open' has no recipe for {workload}"]
    if name not in known:
        return [f"recipe {combination.get('recipe')!r} is not for {workload}; there is {', '.join(known)}"]
    return [
        f"{field} {format_value(combination[field])} is not the recipe's: {name} has {format_value(value)}; leave it out"
        for field, value in recipes.get(name).fixed_fields.items()
        if combination[field] != value
    ]


Rule = tuple[Callable[[Any], object], str]
"""When values cannot be together, and what is said of them: a format of the job, its `full_epoch` and its `job_steps`."""


def _make_rank_rule(name: str, value: str) -> Rule:
    """Several ranks do nothing but this."""
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
    (lambda job: job.clock == "accuracy" and job.epochs is None, "clock 'accuracy' needs epochs, the most it trains"),
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
    _make_rank_rule("clock", "steady"),
    _make_rank_rule("division", "reference"),
    _make_rank_rule("task", "training"),
    _make_rank_rule("execution", "eager"),
    (
        lambda job: job.world != 1 and job.batch_size == AUTO,
        "world {0.world!r} needs a batch_size in numbers, to be dealt out to the ranks",
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
