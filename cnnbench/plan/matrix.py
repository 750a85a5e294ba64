"""Turns suites x devices into jobs, in the order in which they run. Pure: same suites, machine, options and seed, same
plan.

A plan walks rounds. Each round runs every cell (a suite's combination of values on a device) once, in a separate order
drawn from the seed, so drift of the machine affects all cells alike. All cells of a round share one seed, so what is
compared within a round starts from the same weights and sees the same batches; every round has a different one.

Each rank of a CPU job has separate cores; each rank of a GPU job has a separate GPU, and all have the same name. Such a
job is planned once, for the first of those GPUs; a job that does not fit is refused before anything runs.

The jobs of a profile are planned the same way: one network with settings, on each device and each rung. A rung is a way
to compute the step: the reference's, and each of the tuned division's.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from cnnbench import naming, workloads
from cnnbench.devices import backend
from cnnbench.errors import UsageError
from cnnbench.plain_text import suggest_choices
from cnnbench.plan.job_keys import (
    ANY,
    KEYS,
    REFERENCE_EXECUTIONS,
    Combination,
    Scalar,
    find_contradictions,
    keys_for,
    split_setting,
)
from cnnbench.plan.suite import JobSpec, Suite
from cnnbench.profile_model import ProfileJob
from cnnbench.schema import AUTO, DataKind, Device, Job, Machine
from cnnbench.schema.job import EVERY, Execution, plain_values
from cnnbench.workloads import Workload

PROJECTION_PROCESSES = 3
PROJECTION_STEPS = 100
"""A whole job may be projected from 300 steady steps in 3 or more processes of at least 40: with --project from 3 of 100."""
SEEDS = 2**31
DataSource = DataKind | Callable[[], DataKind]
"""The data of jobs that leave them open: known, or found out when the first of those jobs is planned."""


def make_plan(
    suites: Sequence[Suite],
    machine: Machine,
    devices: Sequence[Device],
    *,
    data_kind: DataSource,
    seed: int,
    repeats: int | None = None,
    threads: int | None = None,
    name_filter: str | None = None,
    project: bool = False,
    copies: str | None = None,
    nodes: int = 1,
    least: int = 1,
) -> tuple[Job, ...]:
    """Plan the jobs of all suites on the devices, round after round.

    A cell that two suites share is planned once. `repeats` replaces every suite's number of rounds; without it there
    are at `least` so many. `threads` applies to the CPU; without it a job uses what its suite gives, else all cores
    allowed. `project` turns jobs of the job clock into steady ones of the same length (not one with pre-training: its
    two phases have different steps). A cell that its device cannot do is planned too, and its worker reports why not. A
    `world` swept together with `all` ends at what there is. `copies` (a number or `all`) plans every job as so many
    copies at once, each on a separate device or separate cores, and no job of several ranks. `nodes` spreads the
    ranks of a job evenly over that many machines like this one.

    Raises UsageError for an invalid filter, a projection from too few rounds, or more processes than there is room for.
    """
    if project and repeats is not None and repeats < PROJECTION_PROCESSES:
        raise UsageError(f"--project needs at least {PROJECTION_PROCESSES} processes per job, not --repeats {repeats}")
    wanted = compile_filter(name_filter)
    rounds_of: dict[Job, int] = {}
    for suite in suites:
        for spec, device in itertools.product(suite.jobs, devices):
            whole = "job" in spec.choices.get("clock", {}).get(ANY, ())
            rounds = repeats or max(spec.repeats, least, PROJECTION_PROCESSES if project and whole else 1)
            capacity = count_capacity(device, devices, machine)
            for combination, swept in _list_combinations(spec, device, machine, capacity * nodes):
                job = _make_job(combination, device, machine, data_kind, threads, nodes)
                if copies is not None:
                    if capacity == 0 or job.world > 1:
                        continue
                    if wanted(naming.describe_job(job)):
                        job = _make_concurrent_job(job, combination, copies, capacity, machine, threads)
                if job.world > 1 and (why := find_capacity_error(job, capacity, machine)) is not None:
                    if not swept and wanted(naming.describe_job(job)):
                        raise UsageError(
                            f"{suite.name}: {why}; ask for fewer, or sweep world with {EVERY!r}, which stops at that"
                        )
                    continue
                if project and job.clock == "job" and workloads.get(job.workload).pretraining is None:
                    job = make_projection_job(job)
                if wanted(naming.describe_job(job)):
                    rounds_of[job] = max(rounds, rounds_of.get(job, 0))
    return _interleave(rounds_of, seed)


def make_projection_job(job: Job) -> Job:
    """Make the steady job that the whole job's time is projected from: same work per step, at least 100 timed steps.

    Evaluations after epochs and the early stop are left out: the projection is of all epochs, training alone.
    """
    blocks = max(job.blocks, -(-PROJECTION_STEPS // job.block_steps))
    return job.model_copy(
        update={"clock": "steady", "blocks": blocks, "epoch_eval_images": 0, "stop_when_all_right": False}
    )


def round_seeds(seed: int, rounds: int) -> tuple[int, ...]:
    """Draw one seed per round, all different, below 2^31.

    The first n do not depend on how many follow.
    """
    source = random.Random(f"cnnbench seeds {seed}")
    seeds: dict[int, None] = {}
    while len(seeds) < rounds:
        seeds[source.randrange(SEEDS)] = None
    return tuple(seeds)


def compile_filter(expression: str | None) -> Callable[[str], bool]:
    """Compile a test for `naming.describe_job`'s text: substrings joined by `and`, `or`, `not`.

    `not` binds tightest, then `and`. Raises UsageError if an operator lacks its text.
    """
    if expression is None:
        return lambda text: True
    alternatives = []
    for part in re.split(r"(?<!\S)or(?!\S)", expression.lower()):
        terms = []
        for term in re.split(r"(?<!\S)and(?!\S)", part):
            words = term.split()
            negated = words[:1] == ["not"]
            sought = words[negated:]
            if not sought or "not" in sought:
                raise UsageError(f"-k {expression!r}: write text to look for, joined by `and`, `or`, `not`")
            terms.append((" ".join(sought), negated))
        alternatives.append(terms)
    return lambda text: any(all((sought in text) != negated for sought, negated in terms) for terms in alternatives)


def _list_combinations(
    spec: JobSpec, device: Device, machine: Machine, capacity: int
) -> Iterator[tuple[Combination, bool]]:
    """List the cells of one job's table, each with whether its `world` was swept together with `all`, which becomes a number
    here.

    Such a sweep ends at what there is. Thread counts swept together with `auto` end at the cores allowed: above them
    threads only wait for each other. There are no cells of several ranks on a device whose ranks are planned for
    another device.
    """
    cells = spec.combinations(device.kind)

    def drop(cell: Combination, name: str) -> tuple[object, ...]:
        return tuple(value for key, value in cell.items() if key != name)

    with_auto = {drop(cell, "threads") for cell in cells if cell["threads"] == AUTO}
    with_every = {drop(cell, "world") for cell in cells if cell["world"] == EVERY}
    for cell in cells:
        threads = cell["threads"] if device.kind == "cpu" else AUTO
        excess = threads != AUTO and int(threads or 0) > machine.cores_allowed
        if (excess and drop(cell, "threads") in with_auto) or (capacity == 0 and cell["world"] != 1):
            continue
        yield {**cell, "world": capacity} if cell["world"] == EVERY else cell, drop(cell, "world") in with_every


def _make_concurrent_job(
    job: Job, combination: Combination, copies: str, capacity: int, machine: Machine, threads: int | None
) -> Job:
    """Make the job of several copies at once: with `all` one on each GPU of the kind, or on each group of cores of a
    CPU.

    A CPU's copy has the requested threads, else one core, or its share of the cores if the number of copies is given.
    Raises UsageError if there is no room for two, or its clock is not `steady`.
    """
    cores, each = machine.cores_allowed, job.threads
    count = capacity if copies == EVERY else int(copies)
    if job.device == "cpu":
        asked = threads if threads is not None else combination["threads"]
        each = None if asked == AUTO else int(asked or 1)
        each = each or (1 if copies == EVERY else max(1, cores // count))
        count = max(1, cores // each) if copies == EVERY else count
    found = job.model_copy(update={"copies": count, "threads": each})
    why = find_capacity_error(found, capacity, machine)
    if found.clock != "steady":
        why = f"{naming.process_label(job)} is timed by the {job.clock} clock; copies need steady steps"
    elif count < 2:
        why = f"{job.device} has room for one copy; choose other devices with --device"
    if why is not None:
        raise UsageError(f"--copies {copies}: {why}")
    return found


def _make_job(
    combination: Combination,
    device: Device,
    machine: Machine,
    data_kind: DataSource,
    threads: int | None,
    nodes: int,
) -> Job:
    world, batch = int(combination["world"] or 1), combination["batch_size"]
    nodes = nodes if world > 1 else 1
    scaling = None if world == 1 else combination["scaling"] or "strong"
    asked = combination["threads"]
    if device.kind == "cpu" and threads is not None:
        asked = threads
    elif asked == AUTO:
        asked = max(1, machine.cores_allowed * nodes // world) if device.kind == "cpu" else None
    data = combination["data"]
    if data == AUTO:
        data = data_kind() if callable(data_kind) else data_kind
    values = {
        **combination,
        "nodes": nodes,
        "scaling": scaling,
        "batch_size": int(batch or 1) * world if scaling == "weak" else batch,
        "threads": asked,
        "data": data,
        "workload_version": workloads.get(str(combination["workload"])).version,
        "device": device.id,
    }
    if batch == AUTO:
        memory = device.memory_bytes or min(machine.memory_bytes, machine.memory_limit_bytes or machine.memory_bytes)
        one = Job.model_validate(values | {"batch_size": 1})
        values["batch_size"] = workloads.batch_that_fits(one, memory, most=512)
    return Job.model_validate(values)


def _interleave(rounds_of: dict[Job, int], seed: int) -> tuple[Job, ...]:
    plan: list[Job] = []
    for number in range(max(rounds_of.values(), default=0)):
        plan += plan_round([job for job, rounds in rounds_of.items() if rounds > number], seed, number)
    return tuple(plan)


def plan_round(jobs: Sequence[Job], seed: int, number: int) -> tuple[Job, ...]:
    """Plan one round of the jobs, in the order and with the seed that the run's seed gives that round."""
    order = list(jobs)
    random.Random(f"cnnbench order {seed} {number}").shuffle(order)
    (*_, round_seed) = round_seeds(seed, number + 1)
    return tuple(job.model_copy(update={"seed": round_seed, "round": number}) for job in order)


def find_same_devices(device: Device, devices: Sequence[Device]) -> tuple[Device, ...]:
    """Find the usable devices of the same kind and name, in order; a CPU is alone."""
    return tuple(
        each
        for each in devices
        if (each.kind, each.name) == (device.kind, device.name) and (each.usable or each is device)
    )


def count_capacity(device: Device, devices: Sequence[Device], machine: Machine) -> int:
    """Count the most processes of one job on one machine; 1 if the device cannot do several.

    It is 0 for a GPU that is not the first of its kind, since jobs of several processes are planned for the first.
    """
    if backend(device.id).exchange is None:
        return 1
    if device.kind == "cpu":
        return machine.cores_allowed
    same = find_same_devices(device, devices)
    return len(same) if same[0] is device else 0


def select_devices(job: Job, devices: Sequence[Device]) -> tuple[Device, ...]:
    """Select this machine's devices for the processes of a job, the job's own first.

    Empty for a CPU job.
    """
    lead = next((device for device in devices if device.id == job.device), None)
    if lead is None or lead.kind == "cpu":
        return ()
    same = find_same_devices(lead, devices)
    return same[same.index(lead) :][: job.processes // job.nodes]


def find_capacity_error(job: Job, capacity: int, machine: Machine) -> str | None:
    """Explain why so many processes do not fit (too few devices or cores, or an uneven batch).

    None if they do.
    """
    what = "ranks" if job.world > 1 else "copies"
    here = job.processes // job.nodes
    if job.processes % job.nodes:
        return f"{job.processes} {what} cannot be split evenly over {job.nodes} nodes"
    cores = here * (job.threads or 1)
    if job.device == "cpu" and (here > capacity or cores > machine.cores_allowed):
        each = "" if not job.threads or job.threads == 1 else f" of {job.threads} threads"
        return f"{here} {what}{each} on cpu need {cores} cores, this process may use {machine.cores_allowed}"
    if here > capacity:
        there = "is" if capacity == 1 else "are"
        return f"{here} {what} on {job.device} need as many devices of one name, there {there} {capacity}"
    if job.batch_size % job.world:
        return f"batch_size {job.batch_size} cannot be split evenly over {job.world} ranks"
    if job.full_epoch == 0:
        return (
            f"batch_size {job.batch_size} of {job.world} ranks together is more than the images of split {job.split!r}"
        )
    return None


TUNED_VARIANTS: tuple[Execution, ...] = tuple(
    each for each in get_args(Execution) if each not in (*REFERENCE_EXECUTIONS, AUTO)
)
SET_BY_OPTIONS = {
    # The length of a job, and when a run ends.
    **dict.fromkeys(plain_values("clock"), "it does not change a step, and a profile is of one step"),
    "block_steps": "--steps sets how many steps are profiled",
    "warmup_steps": "--warmup sets how many steps come before",
    "workload": "the workload is the command's argument",
}
"""Keys that no setting of a profile may have, and why."""


def parse_settings(texts: Sequence[str], workload: Workload) -> dict[str, Scalar]:
    """Parse `key=value` texts with the keys of a suite's job.

    Raises UsageError with what is wrong and what is allowed.
    """
    known = {name: key for name, key in keys_for(workload).items() if name not in SET_BY_OPTIONS}
    found = {}
    for text in texts:
        name, value = split_setting("--set", text, "precision=bf16")
        if name in SET_BY_OPTIONS:
            raise UsageError(f"--set {name}: {SET_BY_OPTIONS[name]}")
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
    data_kind: DataSource,
    steps: int,
    warmup_steps: int,
    threads: int | None = None,
) -> tuple[ProfileJob, ...]:
    """Make the jobs of a profile, device by device, the plainest rung first.

    Settings that name no division and no execution ask for the reference and, of a network that trains on digits, for
    every tuned rung; `division = tuned` alone for every tuned rung. Raises UsageError for settings that contradict one
    another; if they contradict some rungs only, the workers of those report it.
    """
    length: dict[str, Scalar] = {"block_steps": steps, "warmup_steps": warmup_steps}
    if workload.learns and settings.get("division") != "open":
        length["final_evaluation"] = False
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
            suite = Suite("profile", "", Path(), "", seed=None, jobs=(spec,))
            wrong = [each for cell in suite.combinations(device.kind) for each in find_contradictions(cell)]
            impossible += ["; ".join(wrong)] if wrong else []
            planned = make_plan([suite], machine, [device], data_kind=data_kind, seed=0, threads=threads)
            found += [ProfileJob(name=naming.profile_variant(job), job=job) for job in planned]
        if len(impossible) == len(wanted):
            raise UsageError(impossible[0])
    if not found:
        raise UsageError(f"{workload.name} needs --set size=N, the side of its square operands")
    return tuple(found)


def _choose_variants(workload: Workload, settings: Mapping[str, Scalar]) -> list[dict[str, Scalar]]:
    """Choose the rungs, each as what it adds to the settings."""
    division, execution = settings.get("division"), settings.get("execution")
    if execution is not None:
        tuned = division is None and execution not in REFERENCE_EXECUTIONS
        return [{"division": "tuned"}] if tuned else [{}]
    every: list[dict[str, Scalar]] = [{"division": "tuned", "execution": rung} for rung in TUNED_VARIANTS]
    if division == "tuned":
        return every
    both = (
        division is None
        and workload.learns
        and workload.loss == "cross-entropy"
        and settings.get("task") != "inference"
    )
    return [{}, *every] if both else [{}]
