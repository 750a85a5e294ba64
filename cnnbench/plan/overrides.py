"""Settings of the command line that replace a suite's: `--set KEY=VALUE` gives a key one value, `-L KEY V1,V2` several.

They are put into the suite's tables before these are checked, so they can say what a file can, and are judged as a file is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import workloads
from cnnbench.errors import UsageError, WorkloadError
from cnnbench.plan.job_keys import FROM_ELSEWHERE, KEYS, TOP_KEYS, Key, describe_unknown_key, keys_for, split_setting

Overrides = Mapping[str, Any]
"""Values by key, as a suite's file would have them: one value, or a list of them."""
WORDS_OF_WORKLOADS = ("optimizer", "init")
"""Keys whose words each workload has of its own: they are judged where they are put in."""


def read_overrides(
    settings: Sequence[str], sweeps: Sequence[tuple[str, str]] = (), warmup_steps: int | None = None
) -> Overrides:
    """The values of `--set`, `-L` and `--warmup`. Raises UsageError with every mistake in them, one a line."""
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
            problems += (f"{flag} {name}: {wrong}" for wrong in _find_mistakes(name, known[name], texts, values))
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


def apply_overrides(table: Mapping[str, Any], overrides: Overrides, folder: Path) -> dict[str, Any]:
    """The suite's table with the values in place of its own: a job's key in every job whose workload takes it.

    A workload replaces those of its own kind, networks or products. `folder` is where the suite's files of workloads are. Raises
    UsageError for a key that no job takes.
    """
    top = {name: value for name, value in overrides.items() if name in TOP_KEYS}
    jobs = table.get("job")
    if not isinstance(jobs, list) or len(top) == len(overrides):
        return {**table, **top}
    used: set[str] = set()
    changed = [made for job in jobs for made in _change_job(job, overrides, folder, used)]
    unused = [name for name in overrides if name not in used and name not in TOP_KEYS]
    if unused:
        names = dict.fromkeys(str(job.get("workload")) for job in changed if isinstance(job, dict))
        raise UsageError(f"--set {unused[0]}: no job takes it; the workloads are {', '.join(names)}")
    return {**table, **top, "job": changed}


def _change_job(job: Any, overrides: Overrides, folder: Path, used: set[str]) -> Iterator[Any]:
    """The job with what it takes of the values, once for each workload; `used` gets the keys that it took."""
    try:
        workload = workloads.find(job["workload"], folder)
    except (WorkloadError, KeyError, TypeError):  # a mistake that the suite's reader names
        yield job
        return
    wanted = overrides.get("workload", [])
    replacing = map(workloads.find, wanted if isinstance(wanted, list) else [wanted])
    fitting = [each for each in replacing if each.kind == workload.kind]
    if fitting:
        used.add("workload")
    for each in fitting or [workload]:
        mine = {name: value for name, value in overrides.items() if name != "workload" and name in keys_for(each)}
        used |= set(mine)
        yield {**job, "workload": each.name, **mine}
