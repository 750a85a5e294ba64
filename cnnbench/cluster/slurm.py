"""Calls Slurm's own commands: lists nodes and selects those of a fleet (one of each kind, a number, or every one),
looks up the states of jobs, and cancels them.

submitit submits (`submit`), but finds a job's state through sacct alone, which needs a database that many small
clusters do not have. So jobs are looked up in the queue first, where Slurm keeps an ended one for some minutes (its
MinJobAge), and then in the accounting, if there is one; a job that neither knows is UNKNOWN, and its node's folder
decides.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cnnbench.cluster.state import SlurmState
from cnnbench.errors import ClusterError, UsageError

UNKNOWN = "UNKNOWN"
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"}
    | {"TIMEOUT", UNKNOWN}
)
"""States that a job does not leave again (JOB STATE CODES in squeue's manual), and UNKNOWN."""
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_NOT_USABLE = ("down", "drain", "fail", "error", "unknown", "inval", "maint", "perfctrs", "future", "powering_down")
"""Beginnings of the node states in which it takes no job now (NODE STATE CODES in sinfo's manual)."""
_FREE_FIRST = ("idle", "mix", "alloc", "comp")
RESPONSE_TIMEOUT_SECONDS = 60.0
_COMMA = re.compile(r",(?![^(]*\))")
_FEATURES = re.compile(r"[\w.+:/-]+(?:[&|,][\w.+:/-]+)*")
_NOTHING = {"", "(null)", "None", "N/A", "none", "Unknown", "None assigned"}


@dataclass(frozen=True)
class Node:
    """One node as sinfo shows it; `why_not` is None for a node that takes jobs."""

    name: str
    state: str
    cores: int
    memory_mebibytes: int
    features: tuple[str, ...]
    gres: tuple[str, ...]
    why_not: str | None = None

    @property
    def kind(self) -> str:
        """What similar nodes share: `64 cores, 251 GiB, gpu:a100:4, features amd+ib`."""
        features = [f"features {'+'.join(self.features)}"] if self.features else []
        memory = f"{round(self.memory_mebibytes / 1024)} GiB"
        return ", ".join([f"{self.cores} cores", memory, *self.gres, *features])

    @property
    def rank(self) -> tuple[int, str]:
        """Sort key that puts free nodes first."""
        places = (place for place, start in enumerate(_FREE_FIRST) if self.state.startswith(start))
        return next(places, len(_FREE_FIRST)), self.name


def require() -> None:
    """Check that this machine has Slurm; raises UsageError otherwise."""
    missing = [name for name in ("sbatch", "squeue", "sinfo", "scancel") if shutil.which(name) is None]
    if missing:
        raise UsageError(
            f"no Slurm here: {', '.join(missing)} not found; run this on a login node of the cluster "
            "(or go from host to host with ssh, see docs/cluster.md)"
        )


def nodes(partition: str) -> tuple[Node, ...]:
    """List the partition's nodes by name.

    Raises UsageError for a partition that does not exist, ClusterError if Slurm does not answer.
    """
    found = {}
    for line in _ask("sinfo", "-h", "-N", "-p", partition, "-o", "%N|%T|%c|%m|%f|%G|%E").splitlines():
        parts = [part.strip() for part in line.split("|", 6)]
        if len(parts) < 7:
            continue
        name, state, cores, memory, features, gres, reason = parts
        usable = not state.startswith(_NOT_USABLE) and "*" not in state  # *: the node does not answer
        because = "" if reason in _NOTHING else f" ({reason})"
        found[name] = Node(
            name,
            state.lower(),
            _number(cores),
            _number(memory),
            _split_list(features),
            tuple(each.partition("(")[0] for each in _split_list(gres)),
            why_not=None if usable else f"{state.lower()}{because}",
        )
    if not found:
        there = sorted(set(_ask("sinfo", "-h", "-o", "%R").split()))
        raise UsageError(f"--partition {partition}: no such partition, or no node in it; there are: {', '.join(there)}")
    return tuple(found[name] for name in sorted(found))


def _number(text: str) -> int:
    digits = text.rstrip("+")
    return int(digits) if digits.isdigit() else 0


def _split_list(text: str) -> tuple[str, ...]:
    """Split at commas outside brackets: `gpu:a100:4(S:0,1),nic:2` is two."""
    return () if text in _NOTHING else tuple(filter(None, _COMMA.split(text)))


def select_nodes(
    found: Sequence[Node], *, constraint: str | None, gres: str | None, count: int | None, each: bool
) -> tuple[Node, ...]:
    """Select nodes, sorted by name: all that fit (`each`, down ones too), the `count` most idle, or one of each kind.

    Raises UsageError if none fits, or fewer than asked for, with what there is.
    """
    fitting = [node for node in found if _has_features(node, constraint) and _has_gres(node, gres)]
    if not fitting:
        asked = "".join(f" {name} {it}" for name, it in (("--constraint", constraint), ("--gres", gres)) if it)
        kinds = sorted(Counter(node.kind for node in found).items())
        there = "\n".join(f"  {many} x {kind}" for kind, many in kinds)
        raise UsageError(f"no node fits{asked}; there are:\n{there}")
    if each:
        return tuple(fitting)
    usable = sorted((node for node in fitting if node.why_not is None), key=lambda node: node.rank)
    if not usable:
        first = fitting[0]
        raise UsageError(f"none of the {len(fitting)} nodes that fit takes jobs now: {first.name} is {first.why_not}")
    if count is not None and len(usable) < count:
        raise UsageError(f"--nodes {count}: only {len(usable)} of {len(fitting)} nodes that fit take jobs now")
    first_of_kind = {node.kind: node for node in reversed(usable)}
    chosen = first_of_kind.values() if count is None else usable[:count]
    return tuple(sorted(chosen, key=lambda node: node.name))


def _has_features(node: Node, constraint: str | None) -> bool:
    """Check Slurm's constraint, as far as it asks for features of one node: `a&b`, `a|b`.

    & binds first. Raises UsageError for more (counts, brackets): those ask for several nodes at once, and here each job
    has one.
    """
    if constraint is None:
        return True
    if not _FEATURES.fullmatch(constraint):
        raise UsageError(f"--constraint {constraint!r}: a job here has one node; only features with & and | will do")
    return any(all(feature in node.features for feature in re.split("[&,]", every)) for every in constraint.split("|"))


def _has_gres(node: Node, gres: str | None) -> bool:
    """Check that the node has what is asked for, such as `gpu`, `gpu:2`, `gpu:a100` or `gpu:a100:2`.

    Several are separated by commas.
    """
    for wanted in filter(None, (gres or "").split(",")):
        names, count = _count_gres(wanted)
        if sum(many for own, many in map(_count_gres, node.gres) if own[: len(names)] == names) < count:
            return False
    return True


def _count_gres(text: str) -> tuple[list[str], int]:
    """Split `gpu:a100:4` into the name's parts and the number, 1 if it has none."""
    *names, last = text.split(":")
    return (names, int(last)) if last.isdigit() else ([*names, last], 1)


def states(job_ids: Iterable[str]) -> dict[str, SlurmState]:
    """Look up the state of each job now, hidden partitions included.

    Raises ClusterError if Slurm's controller, or its accounting, does not answer, because then no state is known.
    """
    wanted = set(job_ids)
    if not wanted:
        return {}
    queue = _ask("squeue", "-h", "-a", "--me", "-t", "all", "-o", "%i|%T|%N|%r")
    found = _read_states(queue, wanted, "node", "reason")
    rest = wanted - found.keys()
    if rest and shutil.which("sacct") is not None:
        fields = "JobIDRaw,State,NodeList,ExitCode,Reason"
        try:
            answer = _ask("sacct", "-n", "-P", "-X", "-j", ",".join(sorted(rest)), "-o", fields)
            found |= _read_states(answer, rest, "node", "exit_code", "reason")
        except ClusterError as error:
            # sacct's answer if there is no accounting; some versions write SLURM.
            if "slurm accounting storage is disabled" not in str(error).lower():
                raise
    return {job_id: SlurmState(state=UNKNOWN) for job_id in rest} | found


def _read_states(answer: str, wanted: Collection[str], *fields: str) -> dict[str, SlurmState]:
    """Read the states from lines of a job's id, its state and these fields, separated by |."""
    found = {}
    for line in answer.splitlines():
        job_id, _, said = line.partition("|")
        state, *others = said.split("|", len(fields))
        if job_id in wanted and state.split():
            texts = zip(fields, map(str.strip, others), strict=False)
            known = {name: text for name, text in texts if text not in _NOTHING}
            found[job_id] = SlurmState(state=state.split()[0], **known)
    return found


def cancel(job_ids: Sequence[str]) -> None:
    """Ask Slurm to end the jobs; scancel ignores those that have ended.

    Raises ClusterError, quoting scancel.
    """
    if job_ids:
        _ask("scancel", *job_ids)


def _ask(*command: str) -> str:
    """Run a command and return its output.

    Raises ClusterError, quoting the command, if it fails or does not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RESPONSE_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"{command[0]} did not answer within {RESPONSE_TIMEOUT_SECONDS:.0f} s; ask again later"
        ) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit {done.returncode}"
        raise ClusterError(f"{command[0]}: {words}")
    return done.stdout
