"""Slurm's commands as little scripts that answer from files: what a cluster says is what a test wrote there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import builders as b
import pytest

from cnnbench.cluster import node_job, state
from cnnbench.schema import Record

SCRIPTS = {
    "sinfo": 'case "$*" in *"-p main "*) cat nodes;; *-N*) ;; *) echo main; echo gpu;; esac',
    "squeue": """[ ! -e silent ] || { cat silent >&2; exit 1; }
case "$*" in *"-a "*) cat queue;; *) [ -e hidden ] || cat queue;; esac""",
    "sacct": """[ ! -e unaccounted ] || { cat unaccounted >&2; exit 1; }
[ -e accounts ] || { echo 'Slurm accounting storage is disabled' >&2; exit 1; }
cat accounts""",
    "scancel": 'echo "$@" >> cancelled',
    "srun": "exit 1",
    "sbatch": """script="$1"; name=$(sed -n 's/^#SBATCH --nodelist=//p' "$script")
[ ! -e "refuse-$name" ] || { cat "refuse-$name" >&2; exit 1; }
id=$(($(cat last) + 1)); echo $id > last; cp "$script" "job-$id.sh"; echo "$id|PENDING||Priority" >> queue
[ ! -e mumbling ] || { echo "Thank you"; exit; }
echo "Submitted batch job $id\"""",
}
SBATCH_REFUSES = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)\n"


@dataclass
class Cluster:
    """The files the scripts answer from, and what they wrote."""

    folder: Path

    def nodes(self, *lines: str) -> None:
        (self.folder / "nodes").write_text("".join(f"{line}\n" for line in lines))

    def queue(self, *lines: str) -> None:
        (self.folder / "queue").write_text("".join(f"{line}\n" for line in lines))

    def accounts(self, *lines: str) -> None:
        (self.folder / "accounts").write_text("".join(f"{line}\n" for line in lines))

    def silent(self, words: str) -> None:
        """The controller does not answer."""
        (self.folder / "silent").write_text(words)

    def speaks(self) -> None:
        """The controller and the accounting answer again."""
        for name in ("silent", "unaccounted"):
            (self.folder / name).unlink(missing_ok=True)

    def unaccounted(self, words: str) -> None:
        """The accounting does not answer."""
        (self.folder / "unaccounted").write_text(words)

    def hide(self) -> None:
        """The partition is hidden: squeue shows its jobs to those who ask for all."""
        (self.folder / "hidden").touch()

    def mumble(self) -> None:
        """sbatch takes the job and answers without its id."""
        (self.folder / "mumbling").touch()

    def refuse(self, name: str, words: str = SBATCH_REFUSES) -> None:
        (self.folder / f"refuse-{name}").write_text(words)

    def accept(self, name: str) -> None:
        (self.folder / f"refuse-{name}").unlink()

    @property
    def cancelled(self) -> list[str]:
        path = self.folder / "cancelled"
        return path.read_text().split() if path.exists() else []

    def script(self, job_id: int) -> str:
        return (self.folder / f"job-{job_id}.sh").read_text()

    @property
    def submitted(self) -> int:
        return len(list(self.folder.glob("job-*.sh")))


def sinfo_line(
    name: str, state_: str = "idle", features: str = "(null)", gres: str = "(null)", reason: str = "none"
) -> str:
    return f"{name}|{state_}|8|32000|{features}|{gres}|{reason}"


def fake_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Two idle nodes, n1 and n2, in the partition main; nothing else of Slurm on the path."""
    folder, programs = tmp_path / "slurm", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name, text in SCRIPTS.items():
        (programs / name).write_text(f"#!/bin/sh\ncd {folder} || exit 9\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    made = Cluster(folder)
    made.nodes(sinfo_line("n1"), sinfo_line("n2"))
    made.queue()
    (folder / "last").write_text("16\n")
    return made


def only_fleet(results: Path) -> Path:
    """The folder of the one fleet of these results."""
    return state.find(results)


def place(results: Path, name: str) -> Path:
    return only_fleet(results) / name


def begins(results: Path, name: str, job_id: str, **facts: Any) -> None:
    """What a job on the node writes first."""
    path = node_job.token_path(place(results, name), job_id)
    path.write_text(json.dumps({"node": name, "lines": 0, "at": "2026-03-01T12:00:00+00:00"} | facts))


def ends(results: Path, name: str, job_id: str, exit_code: int = 0, log: str = "") -> None:
    """What it writes last."""
    node_job.log_path(place(results, name), job_id).write_text(log)
    node_job.end_path(place(results, name), job_id).write_text(json.dumps({"exit_code": exit_code}))


def measures(
    results: Path, name: str, done: int, planned: int = 3, *, run: int = 1, records: list[Record] | None = None
) -> Path:
    """The node's ledger with the first `done` of `planned` jobs."""
    jobs = [b.cnn_job(round=n, seed=n) for n in range(planned)]
    found = records or [b.record(job, 0.01, index=n) for n, job in enumerate(jobs[:done])]
    suffix = name.encode().hex()[-4:]
    ledger = b.ledger(found, run_id=f"2026030{run}T120000Z-{suffix}", unstarted=jobs[done:])
    return b.write(place(results, name) / node_job.RESULTS, ledger)
