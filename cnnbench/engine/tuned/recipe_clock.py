"""A fixed recipe under its clock: the digits opened, every step at the rate that the recipe has for it, one evaluation."""

from __future__ import annotations

from cnnbench import data
from cnnbench.engine.training import Training
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads import recipes


class RecipeSteps:
    """What the clock calls for a training in the open division: `open` before the first step, then steps."""

    def __init__(self, job: Job, training: Training) -> None:
        if job.recipe is None or training.dataset is None:
            raise WorkloadError("the recipe clock needs a recipe, and digits")
        self.steps_per_launch = training.steps_per_launch
        """Steps that one launch can do."""
        self._training = training
        training.set_lr_schedule(recipes.get(job.recipe).rates)
        self._like, self._file = training.dataset, data.write_decompressed(training.dataset)

    def read_dataset(self) -> int:
        """Read the decompressed, verified digits and make them the training's; no step is one of them."""
        self._training.replace_dataset(data.read_decompressed(self._file, self._like))
        return 0

    def steps(self, count: int) -> None:
        """So many steps, each at its own rate."""
        self._training.steps(count)

    def step(self) -> None:
        """One step at its own rate."""
        self.steps(1)
