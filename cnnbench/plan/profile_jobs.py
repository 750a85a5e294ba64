"""The jobs of a profile: one network with settings, as each rung computes its step on each device. Pure, as `plan.matrix` is.

A rung is a way to compute the step: the reference's, and every one of the tuned division's. What a device cannot do is a job
too: its worker says why not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from cnnbench import naming
from cnnbench.errors import UsageError
from cnnbench.plain_text import suggest_choices
from cnnbench.plan.job_keys import ANY, KEYS, REFERENCE_EXECUTIONS, Scalar, find_contradictions, keys_for, split_setting
from cnnbench.plan.matrix import make_plan
from cnnbench.plan.suite import JobSpec, Suite
from cnnbench.profile_model import ProfileJob
from cnnbench.schema import AUTO, DataKind, Device, Execution, Job, Machine
from cnnbench.schema.job import list_fields
from cnnbench.workloads import Workload

TUNED_VARIANTS: tuple[Execution, ...] = tuple(
    each for each in get_args(Execution) if each not in (*REFERENCE_EXECUTIONS, AUTO)
)
SET_BY_OPTIONS = {
    "block_steps": "--steps says how many steps are profiled",
    "warmup_steps": "--warmup says how many steps come before",
    "workload": "the workload is the command's argument",
}
NOT_PROFILED = list_fields(Job, "clock")
"""Keys that say what a clock times or when a run ends: nothing of one step's."""


def parse_settings(texts: Sequence[str], workload: Workload) -> dict[str, Scalar]:
    """`key=value` texts as a table; the keys are those of a suite's job. Raises UsageError with what is wrong and what may be."""
    known = {name: key for name, key in keys_for(workload).items() if name not in (*SET_BY_OPTIONS, *NOT_PROFILED)}
    found = {}
    for text in texts:
        name, value = split_setting("--set", text, "precision=bf16")
        if name in SET_BY_OPTIONS or name in NOT_PROFILED:
            raise UsageError(
                f"--set {name}: {SET_BY_OPTIONS.get(name, 'it changes no step, and a profile is of one step')}"
            )
        if name not in known:
            if name in KEYS:
                raise UsageError(f"--set {text}: {workload.name} takes no {name}")
            raise UsageError(f"--set: no key {name!r}{suggest_choices(name, known)}")
        found[name] = known[name].read_text(value)
        if (wrong := known[name].find_mistake(found[name])) is not None:
            raise UsageError(f"--set {name}: {value!r} {wrong}")
    return found


def make_profile_jobs(
    workload: Workload,
    settings: Mapping[str, Scalar],
    machine: Machine,
    devices: Sequence[Device],
    *,
    data_kind: DataKind | Callable[[], DataKind],
    steps: int,
    warmup_steps: int,
    threads: int | None = None,
) -> tuple[ProfileJob, ...]:
    """Device by device, the plainest rung first.

    Settings that name no division and no execution ask for the reference and, of a network that trains on digits, for every
    tuned rung; `division = tuned` alone for every tuned rung. Raises UsageError for settings that contradict one another; where
    they contradict some rungs only, the workers of those say so.
    """
    length: dict[str, Scalar] = {"block_steps": steps, "warmup_steps": warmup_steps, "final_evaluation": False}
    if workload.kind == "gemm" or workload.dataset == "random" or settings.get("division") == "open":
        del length["final_evaluation"]
    if workload.pretraining is not None:
        length |= {"clock": "job", "epochs": 1}
    found = []
    wanted = _choose_variants(workload, settings)
    for device in devices:
        impossible = []
        for variant in wanted:
            chosen = {**settings, **length, **variant}
            if "execution" in variant and "division" not in settings:
                chosen.pop("layout", None)  # each tuned rung has its own
            choices = {name: {ANY: (value,)} for name, value in chosen.items()}
            spec = JobSpec("--set", workload.name, choices)
            suite = Suite("profile", "", Path(), "", repeats=1, seed=None, jobs=(spec,))
            wrong = [each for cell in suite.combinations(device.kind) for each in find_contradictions(cell)]
            impossible += ["; ".join(wrong)] if wrong else []
            planned = make_plan([suite], machine, [device], data_kind=data_kind, seed=0, repeats=1, threads=threads)
            found += [ProfileJob(name=naming.profile_variant(job), job=job) for job in planned]
        if len(impossible) == len(wanted):
            raise UsageError(impossible[0])
    if not found:
        raise UsageError(f"{workload.name} needs --set size=N, the side of its square operands")
    return tuple(found)


def _choose_variants(workload: Workload, settings: Mapping[str, Scalar]) -> list[dict[str, Scalar]]:
    """What each rung adds to the settings."""
    division, execution = settings.get("division"), settings.get("execution")
    if execution is not None:
        tuned = division is None and execution not in REFERENCE_EXECUTIONS
        return [{"division": "tuned"}] if tuned else [{}]
    every: list[dict[str, Scalar]] = [{"division": "tuned", "execution": rung} for rung in TUNED_VARIANTS]
    if division == "tuned":
        return every
    trains_on_digits = workload.kind == "training" and workload.dataset == "mnist"
    both = division is None and trains_on_digits and settings.get("task") != "inference"
    return [{}, *every] if both else [{}]
