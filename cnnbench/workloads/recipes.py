"""Fixed recipes of the open class: how to train one network to a target accuracy in as little time as possible.

Free to choose are optimiser, schedule, batch, initialisation and dropout; the network is the workload's. A recipe is fixed before
the seeds are drawn, so its claim is about the mean of many seeds and never about the best. Change nothing in a recipe that was
measured: give the changed one a new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cnnbench.errors import WorkloadError
from cnnbench.schema import Split
from cnnbench.workloads.base import Workload
from cnnbench.workloads.flops import Dropout


@dataclass(frozen=True)
class Recipe:
    """One training, complete but for the precision and the device."""

    name: str
    workload: str
    target: float
    """Share of all test images that the mean over seeds is claimed to reach."""
    steps: int
    """Optimiser steps, at most one pass over shuffled images."""
    batch_size: int
    split: Split
    optimizer: str
    init: str
    peak_rate: float
    warmup_share: float
    """Share of the steps in which the rate rises in a straight line to its peak; then it falls to `end_share` of it."""
    end_share: float
    chosen_on: Literal["test images", "held-out training images"]
    """The images by whose accuracy the recipe was chosen; a claim about the test images is optimistic if it was those."""
    keep: float
    """Probability that dropout keeps a value, in every place where the network drops some."""

    def rate(self, step: int) -> float:
        """Compute the learning rate of a step, counted from 0."""
        done = (step + 1) / self.steps
        if done < self.warmup_share:
            return self.peak_rate * done / self.warmup_share
        fallen = (done - self.warmup_share) / (1.0 - self.warmup_share)
        return self.peak_rate * (1.0 - (1.0 - self.end_share) * fallen)

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates of all steps."""
        return tuple(self.rate(step) for step in range(self.steps))

    def apply_dropout(self, workload: Workload) -> Workload:
        """Give the workload's network this recipe's dropout. Raises WorkloadError for another workload."""
        if workload.name != self.workload:
            raise WorkloadError(f"recipe {self.name!r} is for {self.workload}, not for {workload.name}")
        layers = tuple(Dropout(self.keep) if isinstance(each, Dropout) else each for each in workload.layers)
        return replace(workload, layers=layers)

    @property
    def fixed_fields(self) -> Mapping[str, str | int | float]:
        """The fields of a job that the recipe decides."""
        return {
            "clock": "recipe",
            "target": self.target,
            "epochs": 1,
            "steps_per_epoch": self.steps,
            "batch_size": self.batch_size,
            "split": self.split,
            "order": "shuffled",
            "optimizer": self.optimizer,
            "init": self.init,
            "final_evaluation": True,
        }


RECIPES = {
    each.name: each
    for each in (
        Recipe(
            name="cnn-99-adam",
            workload="mnist-cnn",
            target=0.99,
            steps=690,
            batch_size=64,
            split="train-60000",
            optimizer="adam",
            init="xavier",
            peak_rate=4e-3,
            warmup_share=0.2,
            end_share=0.02,
            chosen_on="test images",
            keep=1.0,
        ),
    )
}


def list_recipes(name: str) -> tuple[str, ...]:
    """List the names of the recipes for a workload; the first is a suite's default."""
    return tuple(each.name for each in RECIPES.values() if each.workload == name)


def get(name: str) -> Recipe:
    """Look up a recipe by name. Raises WorkloadError naming all."""
    try:
        return RECIPES[name]
    except KeyError:
        raise WorkloadError(f"no recipe {name!r}; there are {', '.join(RECIPES)}") from None
