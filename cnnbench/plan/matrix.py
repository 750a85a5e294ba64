"""Suites x devices to jobs, in the order in which they run. Pure: same suites, machine, options and seed, same plan.

A plan walks rounds. Each round runs every cell (a suite's combination of values on a device) once, in an order of its
own drawn from the seed, so drift of the machine falls on all cells alike. All cells of a round share one seed, so what
is compared within a round starts from the same weights and sees the same batches; every round has a different one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from cnnbench import naming, workloads
from cnnbench.errors import UsageError
from cnnbench.plan import process_counts
from cnnbench.plan.job_keys import ANY, Combination
from cnnbench.plan.suite import Suite
from cnnbench.schema import AUTO, EVERY, DataKind, Device, Job, Machine

PROJECTION_PROCESSES = 3
PROJECTION_STEPS = 100
"""A whole job may be projected from at least 3 processes of at least 100 steady steps each: a rule of protocol 1."""
SEEDS = 2**31


def make_plan(
    suites: Sequence[Suite],
    machine: Machine,
    devices: Sequence[Device],
    *,
    data_kind: DataKind | Callable[[], DataKind],
    seed: int,
    repeats: int | None = None,
    threads: int | None = None,
    name_filter: str | None = None,
    project: bool = False,
    copies: str | None = None,
    nodes: int = 1,
) -> tuple[Job, ...]:
    """The jobs of all suites on the devices, round after round; a cell that two suites share is planned once.

    `repeats` stands for every suite's own number of rounds. `threads` holds on the CPU; without it a job takes what its
    suite says, else all cores allowed. `project` turns jobs of the job clock into steady ones of the same length (not one with
    pre-training: its two phases have different steps). A cell
    its device cannot do is planned too: its worker says why not. A `world` swept together with `all` ends at what there is.
    `copies` (a number or `all`) plans every job as so many copies at once, on devices or cores of their own, and none of several
    ranks. With `nodes` a job of several ranks has as many on each of so many machines like this one.
    Raises UsageError for a filter that is not one, a projection from too few rounds, or more processes than there is room for.
    """
    if project and repeats is not None and repeats < PROJECTION_PROCESSES:
        raise UsageError(f"--project needs at least {PROJECTION_PROCESSES} processes a job, not --repeats {repeats}")
    wanted = compile_filter(name_filter)
    rounds_of: dict[Job, int] = {}
    for suite in suites:
        rounds = _rounds(suite, repeats, project)
        for device in devices:
            capacity = process_counts.count_capacity(device, devices, machine)
            for combination, swept in _resolve_worlds(
                _drop_excess_threads(suite.combinations(device.kind), device, machine), capacity * nodes
            ):
                job = _make_job(combination, device, machine, data_kind, threads, nodes)
                if copies is not None and (capacity == 0 or job.world > 1):
                    continue
                if copies is not None and wanted(naming.describe_job(job)):
                    job = _make_concurrent_job(job, combination, copies, capacity, machine, threads)
                if job.world > 1 and (why := process_counts.find_capacity_error(job, capacity, machine)) is not None:
                    if not swept and wanted(naming.describe_job(job)):
                        raise UsageError(
                            f"{suite.name}: {why}; ask for fewer, or sweep world with {EVERY!r}, which ends there"
                        )
                    continue
                if project and job.clock == "job" and workloads.get(job.workload).pretraining is None:
                    job = make_projection_job(job)
                if wanted(naming.describe_job(job)):
                    rounds_of[job] = max(rounds, rounds_of.get(job, 0))
    return _interleave(rounds_of, seed)


def make_projection_job(job: Job) -> Job:
    """The steady job that the whole job's time is projected from: same work a step, at least 100 timed steps.

    Evaluations after epochs and the early stop are left out: the projection is of all epochs, training alone.
    """
    blocks = max(job.blocks, -(-PROJECTION_STEPS // job.block_steps))
    return job.model_copy(
        update={"clock": "steady", "blocks": blocks, "epoch_eval_images": 0, "stop_when_all_right": False}
    )


def round_seeds(seed: int, rounds: int) -> tuple[int, ...]:
    """One seed a round, all different, below 2^31; the first n do not depend on how many follow."""
    source = random.Random(f"cnnbench seeds {seed}")
    seeds: dict[int, None] = {}
    while len(seeds) < rounds:
        seeds[source.randrange(SEEDS)] = None
    return tuple(seeds)


def compile_filter(expression: str | None) -> Callable[[str], bool]:
    """A test for `naming.describe_job`'s text: substrings joined by `and`, `or`, `not` (`not` binds tightest, then `and`).

    Raises UsageError where an operator lacks its text.
    """
    if expression is None:
        return lambda text: True
    alternatives = [
        [_parse_term(words, expression) for words in _split_words(part, "and")]
        for part in _split_words(expression.lower().split(), "or")
    ]
    return lambda text: any(all((sought in text) != negated for sought, negated in terms) for terms in alternatives)


def _split_words(words: Sequence[str], operator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == operator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _parse_term(words: list[str], expression: str) -> tuple[str, bool]:
    negated = words[:1] == ["not"]
    sought = words[negated:]
    if not sought or "not" in sought:
        raise UsageError(f"-k {expression!r}: write text to look for, joined by `and`, `or`, `not`")
    return " ".join(sought), negated


def _rounds(suite: Suite, repeats: int | None, project: bool) -> int:
    if repeats is not None:
        return repeats
    whole = any("job" in spec.choices.get("clock", {}).get(ANY, ()) for spec in suite.jobs)
    return max(suite.repeats, PROJECTION_PROCESSES) if project and whole else suite.repeats


def _mark_swept(combinations: Sequence[Combination], name: str, word: str) -> list[tuple[Combination, bool]]:
    """Each cell with whether it was swept together with `word`: such a sweep ends at what there is."""
    others = [tuple(value for key, value in cell.items() if key != name) for cell in combinations]
    swept = {other for other, cell in zip(others, combinations, strict=True) if cell[name] == word}
    return [(cell, other in swept) for other, cell in zip(others, combinations, strict=True)]


def _drop_excess_threads(combinations: Sequence[Combination], device: Device, machine: Machine) -> list[Combination]:
    """Thread counts swept together with `auto` end at the cores allowed: above them threads only wait for each other."""
    return [
        cell
        for cell, swept in _mark_swept(combinations, "threads", AUTO)
        if device.kind != "cpu"
        or cell["threads"] == AUTO
        or not swept
        or int(cell["threads"] or 0) <= machine.cores_allowed
    ]


def _resolve_worlds(combinations: Sequence[Combination], capacity: int) -> list[tuple[Combination, bool]]:
    """The cells with `all` as a number, each with whether it was swept together with `all`; of several ranks none where the
    device is another's to be planned for.
    """
    return [
        ({**cell, "world": capacity} if cell["world"] == EVERY else cell, swept)
        for cell, swept in _mark_swept(combinations, "world", EVERY)
        if capacity or cell["world"] == 1
    ]


def _make_concurrent_job(
    job: Job, combination: Combination, copies: str, capacity: int, machine: Machine, threads: int | None
) -> Job:
    """The job as several copies at once. Raises UsageError where there is no room for two, or its clock is not `steady`."""
    asked_threads = (
        threads if threads is not None else None if combination["threads"] == AUTO else int(combination["threads"] or 1)
    )
    count, each = process_counts.resolve_copies(copies, job, capacity, machine, asked_threads)
    found = job.model_copy(update={"copies": count, "threads": each})
    if found.clock != "steady":
        raise UsageError(
            f"--copies {copies}: {naming.process_label(job)} is timed by the {job.clock} clock; copies need steady steps"
        )
    if count < 2:
        raise UsageError(f"--copies {copies}: {job.device} has room for one copy; choose other devices with --device")
    if (why := process_counts.find_capacity_error(found, capacity, machine)) is not None:
        raise UsageError(f"--copies {copies}: {why}")
    return found


def _make_job(
    combination: Combination,
    device: Device,
    machine: Machine,
    data_kind: DataKind | Callable[[], DataKind],
    threads: int | None,
    nodes: int,
) -> Job:
    values = dict(combination)
    world = int(combination["world"] or 1)
    nodes = nodes if world > 1 else 1
    values["nodes"] = nodes
    values["scaling"] = None if world == 1 else combination["scaling"] or "strong"
    if values["scaling"] == "weak":
        values["batch_size"] = int(combination["batch_size"] or 1) * world
    if device.kind == "cpu":
        suite_threads = (
            max(1, machine.cores_allowed * nodes // world) if combination["threads"] == AUTO else combination["threads"]
        )
        values["threads"] = suite_threads if threads is None else threads
    elif combination["threads"] == AUTO:
        values["threads"] = None
    if combination["data"] == AUTO:
        values["data"] = data_kind() if callable(data_kind) else data_kind
    version = workloads.get(str(combination["workload"])).version
    values |= {"workload_version": version, "device": device.id}
    if combination["batch_size"] == AUTO:
        memory = device.memory_bytes or min(machine.memory_bytes, machine.memory_limit_bytes or machine.memory_bytes)
        values["batch_size"] = workloads.batch_that_fits(
            Job.model_validate(values | {"batch_size": 1}), memory, most=512
        )
    return Job.model_validate(values)


def _interleave(rounds_of: dict[Job, int], seed: int) -> tuple[Job, ...]:
    plan: list[Job] = []
    for number, round_seed in enumerate(round_seeds(seed, max(rounds_of.values(), default=0))):
        jobs = [job for job, rounds in rounds_of.items() if rounds > number]
        random.Random(f"cnnbench order {seed} {number}").shuffle(jobs)
        plan += [job.model_copy(update={"seed": round_seed, "round": number}) for job in jobs]
    return tuple(plan)
