"""Slurm asked and told through its own commands: which nodes there are, what became of jobs, cancel them.

submitit submits (`submit`), but knows a job's state through sacct alone, which needs a data base that many small clusters do
without. So jobs are looked up in the queue first, where Slurm keeps an ended one for some minutes (its MinJobAge), and then
in the accounting, where there is one; a job that neither knows is UNKNOWN, and its node's folder has to tell.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnbench.cluster.state import SlurmState
from cnnbench.errors import ClusterError, UsageError

UNKNOWN = "UNKNOWN"
NO_ACCOUNTING = "slurm accounting storage is disabled"
"""What sacct says where there is none, in small letters: some versions write SLURM."""
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"}
    | {"TIMEOUT", UNKNOWN}
)
"""States a job does not leave again (JOB STATE CODES in squeue's manual), and the one of a job that nobody knows now."""
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_NOT_USABLE = ("down", "drain", "fail", "error", "unknown", "inval", "maint", "perfctrs", "future", "powering_down")
"""Beginnings of a node's state in which it takes no job now (NODE STATE CODES in sinfo's manual)."""
_FREE_FIRST = ("idle", "mix", "alloc", "comp")
RESPONSE_TIMEOUT_SECONDS = 60.0
_NOTHING = {"", "(null)", "None", "N/A", "none", "Unknown", "None assigned"}


@dataclass(frozen=True)
class Node:
    """One node as sinfo shows it; `why_not` is None for one that takes jobs."""

    name: str
    state: str
    cores: int
    memory_mebibytes: int
    features: tuple[str, ...]
    gres: tuple[str, ...]
    why_not: str | None = None

    @property
    def kind(self) -> str:
        """What nodes bought alike share: `64 cores, 251 GiB, gpu:a100:4, features amd+ib`."""
        parts = [f"{self.cores} cores", f"{round(self.memory_mebibytes / 1024)} GiB", *self.gres]
        return ", ".join([*parts, *([f"features {'+'.join(self.features)}"] if self.features else [])])

    @property
    def rank(self) -> tuple[int, str]:
        """Those that are free come first."""
        places = [place for place, start in enumerate(_FREE_FIRST) if self.state.startswith(start)]
        return (places[0] if places else len(_FREE_FIRST), self.name)


def require() -> None:
    """Raises UsageError where this machine has no Slurm."""
    missing = [name for name in ("sbatch", "squeue", "sinfo", "scancel") if shutil.which(name) is None]
    if missing:
        raise UsageError(
            f"no Slurm here: {', '.join(missing)} not found; run this on a login node of the cluster "
            "(or go from host to host with ssh, see docs/fleet.md)"
        )


def nodes(partition: str) -> tuple[Node, ...]:
    """The partition's nodes by name. Raises UsageError for a partition that is not there, FleetError where Slurm is silent."""
    found: dict[str, Node] = {}
    for line in _ask("sinfo", "-h", "-N", "-p", partition, "-o", "%N|%T|%c|%m|%f|%G|%E").splitlines():
        parts = line.split("|", 6)
        if len(parts) == 7:
            found[parts[0]] = _node(parts)
    if not found:
        there = sorted(set(_ask("sinfo", "-h", "-o", "%R").split()))
        raise UsageError(f"--partition {partition}: no such partition, or no node in it; there are: {', '.join(there)}")
    return tuple(found[name] for name in sorted(found))


def _node(parts: Sequence[str]) -> Node:
    name, state, cores, memory, features, gres, reason = (part.strip() for part in parts)
    usable = not state.startswith(_NOT_USABLE) and "*" not in state  # *: the node does not answer
    because = "" if reason in _NOTHING else f" ({reason})"
    return Node(
        name=name,
        state=state.lower(),
        cores=_number(cores),
        memory_mebibytes=_number(memory),
        features=_split_list(features),
        gres=tuple(each.partition("(")[0] for each in _split_list(gres)),
        why_not=None if usable else f"{state.lower()}{because}",
    )


def _number(text: str) -> int:
    digits = text.rstrip("+")
    return int(digits) if digits.isdigit() else 0


def _split_list(text: str) -> tuple[str, ...]:
    """Split at commas outside brackets: `gpu:a100:4(S:0,1),nic:2` is two."""
    parts, depth = [""], 0
    for letter in "" if text in _NOTHING else text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return tuple(part for part in parts if part)


def states(job_ids: Iterable[str]) -> dict[str, SlurmState]:
    """What Slurm says of each job now, those in hidden partitions too.

    Raises FleetError where its controller, or its accounting, does not answer: then nothing is known.
    """
    wanted = set(job_ids)
    found: dict[str, SlurmState] = {}
    if not wanted:
        return found
    for line in _ask("squeue", "-h", "-a", "--me", "-t", "all", "-o", "%i|%T|%N|%r").splitlines():
        job_id, state, node, reason = (*line.split("|", 3), "", "", "")[:4]
        if job_id in wanted:
            found[job_id] = SlurmState(
                state=state.strip(), node=_drop_placeholder(node), reason=_drop_placeholder(reason)
            )
    for job_id, slurm_state in _read_accounting(wanted - found.keys()).items():
        found[job_id] = slurm_state
    return found | {job_id: SlurmState(state=UNKNOWN) for job_id in wanted - found.keys()}


def _read_accounting(job_ids: set[str]) -> dict[str, SlurmState]:
    """The jobs that the accounting knows; none where there is no accounting. Raises FleetError where it does not answer."""
    if not job_ids or shutil.which("sacct") is None:
        return {}
    fields = "JobIDRaw,State,NodeList,ExitCode,Reason"
    try:
        answer = _ask("sacct", "-n", "-P", "-X", "-j", ",".join(sorted(job_ids)), "-o", fields)
    except ClusterError as error:
        if NO_ACCOUNTING in str(error).lower():
            return {}
        raise
    found = {}
    for line in answer.splitlines():
        job_id, state, node, exit_code, reason = (*line.split("|", 4), "", "", "", "", "")[:5]
        if job_id in job_ids and state.split():
            found[job_id] = SlurmState(
                state=state.split()[0],
                node=_drop_placeholder(node),
                exit_code=_drop_placeholder(exit_code),
                reason=_drop_placeholder(reason),
            )
    return found


def cancel(job_ids: Sequence[str]) -> None:
    """Ask Slurm to end the jobs; those that ended already are none of its concern. Raises FleetError in scancel's words."""
    if job_ids:
        _ask("scancel", *job_ids)


def _drop_placeholder(text: str) -> str | None:
    return None if text.strip() in _NOTHING else text.strip()


def _ask(*command: str) -> str:
    """The command's output. Raises FleetError with its own words where it fails, or where it does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RESPONSE_TIMEOUT_SECONDS, check=False)
    except FileNotFoundError as error:
        raise UsageError(f"no Slurm here: {command[0]} not found; run this on a login node of the cluster") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"{command[0]} did not answer within {RESPONSE_TIMEOUT_SECONDS:.0f} s; ask again later"
        ) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit {done.returncode}"
        raise ClusterError(f"{command[0]}: {words}")
    return done.stdout
