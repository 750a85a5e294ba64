"""What several processes of one job measured, as one trial.

Ranks: a block is as long as on the slowest, images and energy are added up, memory is the rank's that took most, and what is
the same on all is rank 0's. Copies: the slowest copy's trial, whole, with all of them in `ranks`. One that did not end well
decides how the job ended.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from cnnbench.schema import PACKAGE_COUNTER, Communication, Energy, Job, Memory, Outcome, Telemetry, Trial


def reduce_outcomes(job: Job, outcomes: Sequence[Outcome], local_ranks: Collection[int] = ()) -> Outcome:
    """Reduce the ranks' outcomes, in order of ranks and each with a trial, to one.

    `local_ranks` are this machine's, all if none is named: the cold start is theirs, without the time that other machines
    waited for the rendezvous.
    """
    trials = [outcome.trial for outcome in outcomes if outcome.trial is not None]
    if job.world > 1:
        trial = _reduce_ranks(trials, local_ranks or range(len(trials)))
    else:  # the slowest copy's; a package's counter counts all copies, so no copy has it
        slowest = max(trials, key=lambda trial: sum(trial.block_seconds))
        energy = None if slowest.energy and slowest.energy.source == PACKAGE_COUNTER else slowest.energy
        ranks = tuple(rank for trial in trials for rank in trial.ranks)
        trial = slowest.model_copy(update={"ranks": ranks, "energy": energy})
    for number, outcome in enumerate(outcomes):
        if outcome.status != "ok":
            name = f"{'rank' if job.world > 1 else 'copy'} {number} of {job.processes}"
            return outcome.model_copy(update={"message": f"{name}: {outcome.message}", "trial": trial})
    return Outcome(status="ok", trial=trial)


def _reduce_ranks(trials: Sequence[Trial], local_ranks: Collection[int]) -> Trial:
    """Make the trial of the whole job."""
    first = trials[0]
    last = max((trials[rank] for rank in local_ranks), key=lambda trial: trial.cold_start_seconds or 0.0)
    update = {
        **{name: rule([getattr(trial, name) for trial in trials]) for name, rule in RULES.items()},
        "cold_start_seconds": last.cold_start_seconds,
        "phases": last.phases,
        "energy": _reduce_energy(trials),
        "canary": next((each.canary for each in trials if each.canary and not each.canary.passed), first.canary),
        "settings": first.settings | {"affinity": "; ".join(trial.settings.get("affinity", "n/a") for trial in trials)},
    }
    return first.model_copy(update=update)


def _find_longest(found: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(map(max, zip(*found, strict=True)))


def _find_most(found: Sequence[int | None]) -> int | None:
    return max((value for value in found if value is not None), default=None)


def _reduce_memory(found: Sequence[Memory]) -> Memory:
    """Take each mark from the rank that took most; how it was read is the same on all."""
    marks = (name for name in Memory.model_fields if name.endswith("_bytes"))
    return found[0].model_copy(update={name: _find_most([getattr(each, name) for each in found]) for name in marks})


def _reduce_telemetry(found: Sequence[Telemetry | None]) -> Telemetry | None:
    """Take rank 0's, with every device's reasons for having slowed itself."""
    first = found[0]
    reasons = dict.fromkeys(reason for each in found if each for reason in each.device_throttle_reasons or ())
    if first is None or not reasons:
        return first
    return first.model_copy(update={"device_throttle_reasons": tuple(reasons)})


def _reduce_energy(trials: Sequence[Trial]) -> Energy | None:
    """Add up energy over devices; of a package's counter, whose joules all ranks of a machine read, take one per machine.

    The window is rank 0's: ranks agree on its steps and wait for one another at its end. None where a rank has no reading, or
    another kind of it: the joules of some over the images of all would be too few.
    """
    read = [trial.energy for trial in trials if trial.energy is not None]
    if len(read) < len(trials) or len({each.source for each in read}) != 1:
        return None
    if read[0].source == PACKAGE_COUNTER:
        nodes = [trial.ranks[0].node for trial in trials]
        read = [each for number, each in enumerate(read) if number == nodes.index(nodes[number])]
    together = {
        "window_joules": sum(each.window_joules for each in read),
        "idle_joules": sum(each.idle_joules * read[0].idle_seconds / each.idle_seconds for each in read),
    }
    return read[0].model_copy(update=together)


def _reduce_communication(found: Sequence[Communication | None]) -> Communication | None:
    known = [each for each in found if each is not None]
    both = ("with_seconds", "without_seconds")
    longest = {name: _find_longest([getattr(each, name) for each in known]) for name in both}
    return known[0].model_copy(update=longest) if known else None


RULES: Mapping[str, Callable[[Any], Any]] = {
    "block_seconds": _find_longest,
    "warmup_seconds": _find_longest,
    "images": sum,
    "losses": lambda found: tuple(map(statistics.fmean, zip(*found, strict=False))),
    "minor_faults": _find_most,
    "cpu_seconds": lambda found: sum(seconds or 0.0 for seconds in found),
    "memory": _reduce_memory,
    "telemetry_after": _reduce_telemetry,
    "ranks": lambda found: tuple(itertools.chain(*found)),
    "communication": _reduce_communication,
}
"""How a field of all ranks' trials becomes the whole job's; one that is not here is the same on all."""
