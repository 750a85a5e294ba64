"""Settings of the command line that replace a suite's: `--set KEY=VALUE` gives a key one value, `-L KEY V1,V2` several.

They are put into the suite's tables before these are checked, so they can say what a file can, and are judged as a file is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench import workloads
from cnnbench.errors import UsageError, WorkloadError
from cnnbench.plan.job_keys import (
    FROM_ELSEWHERE,
    KEYS,
    TOP_KEYS,
    Key,
    describe_unknown_key,
    keys_for,
    read_choices,
    split_setting,
)

Overrides = Mapping[str, Any]
"""Values by key, as a suite's file would have them: one value, or a list of them."""
WORDS_OF_WORKLOADS = ("optimizer", "init")
"""Keys whose words each workload has of its own: they are judged where they are put in."""


def read_overrides(
    settings: Sequence[str], sweeps: Sequence[tuple[str, str]] = (), warmup_steps: int | None = None
) -> Overrides:
    """Read the values of `--set`, `-L` and `--warmup`. Raises UsageError with every mistake in them, one per line."""
    given = [("--set", *split_setting("--set", text, "batch_size=64")) for text in settings]
    given += [("-L", name, values) for name, values in sweeps]
    given += [] if warmup_steps is None else [("--warmup", "warmup_steps", str(warmup_steps))]
    found: dict[str, Any] = {}
    problems = []
    known = {"workload": Key(), **KEYS, **TOP_KEYS}
    elsewhere = {name: text for name, text in FROM_ELSEWHERE.items() if name not in TOP_KEYS}
    for flag, name, text in given:
        if name not in known:
            problems.append(f"{flag}: {describe_unknown_key(name, tuple(known), elsewhere)}")
        elif name in found:
            problems.append(f"{flag} {name}: it is given twice; -L {name} V1,V2 takes several values")
        else:
            texts = [each.strip() for each in text.split(",")] if flag == "-L" else [text]
            values = [known[name].read_text(each) for each in texts]
            several = f"; for several: -L {name} {text}" if flag == "--set" and "," in text else ""
            wrong = _find_mistakes(name, known[name], texts, values)
            problems += (f"{flag} {name}: {each}{several}" for each in wrong)
            found[name] = values if flag == "-L" else values[0]
    if problems:
        raise UsageError("\n".join(problems))
    return found


def _find_mistakes(name: str, key: Key, texts: Sequence[str], values: Sequence[object]) -> Iterator[str]:
    if len(values) > 1 and name != "workload" and (name in TOP_KEYS or not key.axis):
        yield "takes one value"
        return
    for text, value in zip(texts, values, strict=True):
        if name == "workload":
            try:
                workloads.find(text)
            except WorkloadError as error:
                yield str(error)
        elif name not in WORDS_OF_WORKLOADS and (wrong := key.find_mistake(value)) is not None:
            yield f"{text!r} {wrong}"


def describe_overrides(overrides: Overrides) -> str:
    """`batch_size=64,128 precision=bf16`."""
    return " ".join(
        f"{name}={','.join(map(_format, value if isinstance(value, list) else [value]))}"
        for name, value in overrides.items()
    )


def _format(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Place(NamedTuple):
    """A job's table, the name of its workload, and the keys that may be set in it; none of a job that cannot be read."""

    job: Any
    workload: str | None
    keys: Mapping[str, Key]


def apply_overrides(table: Mapping[str, Any], overrides: Overrides, folder: Path) -> dict[str, Any]:
    """Put the values into the suite's table: a job's key into every job whose workload takes the value.

    A value that no workload takes is put into every job with its key, for the suite's reader to name the mistake. A workload
    replaces those of its own kind, networks or products. `folder` is where the suite's files of workloads are. Raises
    UsageError for a key that no job has.
    """
    top = {name: value for name, value in overrides.items() if name in TOP_KEYS}
    jobs = table.get("job")
    if not isinstance(jobs, list):
        return {**table, **top}
    if "repeats" in top:  # in place of every job's own too
        jobs = [{k: v for k, v in job.items() if k != "repeats"} if isinstance(job, dict) else job for job in jobs]
    places = [place for job in jobs for place in _choose_workloads(job, overrides.get("workload", []), folder)]
    for name, value in overrides.items():
        having = [place for place in places if name in place.keys]
        if name not in TOP_KEYS and not having and all(place.workload for place in places):
            names = ", ".join(dict.fromkeys(str(place.workload) for place in places))
            raise UsageError(f"{name}: no job takes it; the workloads are {names}")
        taking = [place for place in having if not read_choices(name, place.keys[name], value)[1]]
        for place in taking or having:
            place.job[name] = place.workload if name == "workload" else value
    return {**table, **top, "job": [place.job for place in places]}


def _choose_workloads(job: Any, wanted: Any, folder: Path) -> Iterator[_Place]:
    """Copy the job for each wanted workload of its own workload's kind; without any, keep its own."""
    try:
        own = workloads.find(job["workload"], folder)
    except (WorkloadError, KeyError, TypeError):  # a mistake that the suite's reader names
        yield _Place(job, None, {})
        return
    replacing = map(workloads.find, wanted if isinstance(wanted, list) else [wanted])
    fitting = [each for each in replacing if each.kind == own.kind]
    for each in fitting or [own]:
        keys = {name: key for name, key in keys_for(each).items() if name != "workload"}
        yield _Place(dict(job), each.name, keys | ({"workload": Key()} if fitting else {}))
