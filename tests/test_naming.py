"""Names of jobs: two different jobs never have one, and a name has every axis in which its job differs from another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import naming
from cnnbench.schema import Job
from cnnbench.schema.job import AXES, list_choices, plain_values
from cnnbench.workloads.recipes import RECIPES

OTHERS: dict[str, list[Any]] = {
    "workload": ["mnist-cnn", "mlp-1", "gemm", "vgg16"],
    "workload_version": [1, 2],
    "batch_size": [64, 128],
    "optimizer": [None, "rmsprop", "adam"],
    "init": [None, "xavier", "truncated-0.1"],
    "size": [None, 512, 1024],
    "loader_workers": [0, 2],
    "warmup_steps": [20, 3],
    "block_steps": [10, 2],
    "blocks": [15, 4],
    "epochs": [None, 2, 100],
    "steps_per_epoch": [None, 429, 440],
    "extra_forwards": [0, 2],
    "epoch_eval_images": [0, 256],
    "target": [None, 0.99, 0.985],
    "evaluate_every": [None, 100],
    "recipe": [None, "cnn-99-adam", "of-another-version"],
    "world": [1, 2, 4],
    "nodes": [1, 2],
    "copies": [1, 3],
    "device": ["cpu", "cuda:0"],
    "threads": [None, 1, 2],
}
"""Of the fields that take any number or text."""
FIELDS = [name for name, axis in AXES.items() if axis.group != "draw"]


def list_values(field: str) -> list[Any]:
    """The values to try: those written above, or all that the schema allows."""
    if field in OTHERS:
        return OTHERS[field]
    choices = list(list_choices(field)) or [False, True]
    return [None, *choices] if Job.model_fields[field].default is None else choices


def as_planned(job: Job) -> Job:
    """The job with what a plan always gives it: a product has random values, a recipe has its own target."""
    decided: dict[str, object] = {"data": "random"} if job.workload == "gemm" else {}
    decided |= {"target": RECIPES[job.recipe].target} if job.recipe in RECIPES else {}
    return job.model_copy(update=decided)


jobs = st.builds(Job, **{name: st.sampled_from(list_values(name)) for name in FIELDS}).map(as_planned)
plans = st.lists(jobs, min_size=1, max_size=6, unique_by=lambda job: job.row_key)


def full_name(job: Job) -> tuple[object, ...]:
    """The whole name, with the blocks of a product, which have a column."""
    return naming.full_label(job), *((job.warmup_steps, job.block_steps, job.blocks) if job.workload == "gemm" else ())


@given(jobs, jobs)
def test_two_different_jobs_never_have_one_name(one: Job, other: Job) -> None:
    assert (full_name(one) == full_name(other)) == (one.row_key == other.row_key)


@given(jobs, jobs)
def test_a_name_has_every_axis_in_which_its_job_differs_from_another(one: Job, other: Job) -> None:
    """To take one field from the other job changes the name, whatever the rest of the job is."""
    for field in FIELDS:
        changed = as_planned(one.model_copy(update={field: getattr(other, field)}))
        assert (full_name(changed) == full_name(one)) == (getattr(changed, field) == getattr(one, field)), field


@given(plans)
def test_no_two_jobs_of_a_plan_have_one_name_folder_or_key_of_an_export(plan: list[Job]) -> None:
    name = naming.name_plan(plan)
    exported = naming.export_names({job.row_key: (job, 1) for job in plan})
    for names in (
        [name(job) for job in plan],
        naming.name_jobs(plan),
        [naming.name_run_folder(job, plan) for job in plan],
        [naming.describe_job(job) for job in plan],
        [naming.export_name(job, 1) for job in plan],
        list(exported.values()),
    ):
        assert len(set(names)) == len(plan)


@given(jobs)
def test_every_declared_word_is_in_the_short_name_unless_the_value_goes_without_saying(job: Job) -> None:
    """A recipe decides its target; an optimiser is named where it is not the workload's own."""
    usual = plain_values("work", "compute", "network", "data", "clock", "ranks")
    words = naming.deviations(job)
    for name, value in usual.items():
        word = AXES[name].word
        if word is not None and getattr(job, name) != value and name not in ("target", "optimizer"):
            assert word.format(job) in words


def test_the_plain_way_is_the_first_of_every_ladder() -> None:
    """What a rung may differ in has its plain value first, so the reference's float32 step is the first rung."""
    for name, value in plain_values("compute").items():
        assert value == (list_choices(name) or (0,))[0]


@pytest.mark.parametrize("field", [name for name in Job.model_fields if name not in ("workload", "workload_version")])
def test_a_field_of_a_later_schema_leaves_the_keys_of_older_jobs_as_they_were(field: str) -> None:
    """`since` says which schema brought a field: at its plain value it is in no key."""
    job = Job(workload="mnist-cnn", workload_version=1)
    placed = field in plain_values("place", "draw")
    assert (f'"{field}":' in job.work_key) == (AXES[field].since == 1 and not placed)
