"""A job on two machines: here two runners on the loopback, which meet, measure together and are refused what cannot be."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders as b
import pytest
from click.testing import CliRunner

from cnnbench import validity
from cnnbench.cli import run_session
from cnnbench.cli.main import cli
from cnnbench.cli.run_session import jobs_after_local
from cnnbench.devices.nvml import NvmlResult
from cnnbench.errors import UsageError
from cnnbench.machine import inventory
from cnnbench.plan.matrix import make_plan
from cnnbench.plan.suite import load_suite
from cnnbench.runner.launch import LaunchOptions, WorkerExit, launch
from cnnbench.runner.run import PendingJob, complete_options
from cnnbench.schema import Job, Outcome, Rendezvous, Status

JOB = b.ranks_job(nodes=2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def node(rank: int, port: int, seconds: int, name: str = "test", job: Job = JOB) -> WorkerExit:
    meeting = Rendezvous(endpoint=f"127.0.0.1:{port}", node_rank=rank, name=name, seconds=seconds)
    return launch(job, LaunchOptions(rendezvous=meeting, timeout_seconds=120.0))


def at_once(*work: Callable[[], WorkerExit]) -> list[WorkerExit]:
    found: dict[int, WorkerExit] = {}
    threads = [threading.Thread(target=lambda n=n, do=do: found.update({n: do()})) for n, do in enumerate(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[n] for n in range(len(work))]


@pytest.mark.slow("real workers")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks need two cores")
def test_two_machines_do_one_job_and_each_knows_the_whole_of_it() -> None:
    """The second begins first and waits for the first to be there; both end with the same figures, but for the start."""
    port = free_port()

    def late() -> WorkerExit:
        time.sleep(2)
        return node(0, port, 60)

    first, second = at_once(late, lambda: node(1, port, 60))
    for ended in (first, second):
        assert ended.outcome.status == "ok", ended.outcome
        trial = ended.outcome.trial
        assert trial is not None
        assert trial.images == JOB.batch_size * trial.steps
        assert sorted(rank.node for rank in trial.ranks) == [0, 1]
        assert validity.find_violations(JOB, trial, ended.process_seconds, None, None) == ()  # type: ignore[arg-type]
        assert trial.cold_start_seconds is not None
        assert trial.cold_start_seconds < ended.process_seconds
    assert first.outcome.trial.block_seconds == second.outcome.trial.block_seconds  # type: ignore[union-attr]


@pytest.mark.slow("real workers")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_meeting_that_nobody_comes_to_is_a_timeout(rank: int) -> None:
    """Whether this machine is the meeting place or looks for it."""
    outcome = node(rank, free_port(), 3).outcome
    assert outcome.status == "timeout", outcome
    assert "2 nodes did not meet at 127.0.0.1:" in (outcome.message or "")
    assert "within 3 s" in (outcome.message or "")


def plan(folder: Path, text: str, nodes: int, cores: int = 4) -> tuple[Job, ...]:
    path = folder / "x.toml"
    path.write_text(f'repeats = 1\n[[job]]\nworkload = "mnist-cnn"\nbatch_size = 120\n{text}')
    machine = b.machine(cores_allowed=cores)
    return make_plan([load_suite(path)], machine, (b.CPU,), data_kind="mnist", seed=1, nodes=nodes)


def test_all_is_of_all_machines_and_ranks_are_as_many_on_each(tmp_path: Path) -> None:
    """One process is on one machine; three ranks are not on two."""
    jobs = plan(tmp_path, 'world = [1, 2, 3, 4, "all"]\n', nodes=2)
    assert {(job.world, job.nodes, job.threads) for job in jobs} == {(1, 1, 4), (2, 2, 4), (4, 2, 2), (8, 2, 1)}
    with pytest.raises(UsageError, match="3 ranks cannot be split evenly over 2 nodes"):
        plan(tmp_path, "world = 3\n", nodes=2)
    with pytest.raises(UsageError, match="6 ranks on cpu need 6 cores, this process may use 4"):
        plan(tmp_path, "world = 12\n", nodes=2)


def meeting_of(job: Job, rendezvous: Rendezvous | None, index: int = 0) -> Rendezvous | None:
    """Where the launchers of this job of a plan meet."""
    options = LaunchOptions(rendezvous=rendezvous)
    return complete_options(options, PendingJob(index, 1, job), b.header(unstarted=[job])).rendezvous


def test_only_jobs_on_several_machines_meet_and_no_two_by_the_same_name() -> None:
    meeting = Rendezvous(endpoint="10.0.0.1:29400", seconds=10)
    assert meeting_of(JOB.model_copy(update={"nodes": 1}), meeting) is None
    assert meeting_of(JOB, None) is None
    found = [meeting_of(job, meeting, n) for n in (0, 1) for job in (JOB, JOB.model_copy(update={"seed": 5}))]
    assert len({each.name for each in found if each}) == 4


@pytest.mark.parametrize("status", ["ok", "timeout"])
def test_a_further_machine_takes_part_in_jobs_of_ranks_and_records_nothing(
    status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the names under which machine 0 meets; one job that did not end well is exit 5."""
    seen: list[tuple[Job, Rendezvous | None]] = []

    def fake(job: Job, options: LaunchOptions, *_: object) -> WorkerExit:
        seen.append((job, options.rendezvous))
        return WorkerExit(Outcome(status=status, message="nobody came"), 1.0, 0.0, {})

    monkeypatch.setattr(run_session, "launch", fake)
    known = inventory.Inventory(b.machine(cores_allowed=2), b.software(), NvmlResult(), ())  # type: ignore[arg-type]
    monkeypatch.setattr(inventory, "take_inventory", lambda **options: known)
    suite = tmp_path / "s.toml"
    suite.write_text('repeats = 2\n[[job]]\nworkload = "mlp-1"\ndata = "synthetic"\nworld = [1, 2, 4]\n')
    words = ["run", str(suite), "--nodes", "2", "--node-rank", "1", "--rdzv", "10.0.0.1:29400", "--seed", "1"]
    done = CliRunner().invoke(cli, [*words, "--results", str(tmp_path / "results")])
    assert done.exit_code == (0 if status == "ok" else 5), done.output
    assert [(job.world, job.nodes) for job, _ in seen] == [(job.world, 2) for job, _ in seen]
    assert sorted(job.world for job, _ in seen) == [2, 2, 4, 4]
    header = make_plan([load_suite(suite)], known.machine, known.devices, data_kind="mnist", seed=1, nodes=2)
    mine = [meeting_of(job, seen[0][1], n) for n, job in enumerate(header) if job.nodes > 1]
    assert [each and each.name for each in mine] == [each and each.name for _, each in seen]
    assert not (tmp_path / "results").exists()
    assert ("nobody came" in done.output) == (status != "ok")


def suite_of(*jobs: str, folder: Path) -> str:
    path = folder / "s.toml"
    path.write_text(
        "repeats = 1\n" + "".join(f'[[job]]\nworkload = "mlp-1"\ndata = "synthetic"\n{job}\n' for job in jobs)
    )
    return str(path)


def taking_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch, suite: str, outcome: Outcome, *more: str, met: bool
) -> tuple[str, int, list[LaunchOptions]]:
    """What machine 1 says, its exit code and how it started its workers, which all end so."""
    seen: list[LaunchOptions] = []

    def fake(job: Job, options: LaunchOptions, *_: object) -> WorkerExit:
        seen.append(options)
        return WorkerExit(outcome, 1.0, 0.0, {}, met)

    monkeypatch.setattr(run_session, "launch", fake)
    known = inventory.Inventory(b.machine(cores_allowed=4), b.software(), NvmlResult(), ())  # type: ignore[arg-type]
    monkeypatch.setattr(inventory, "take_inventory", lambda **options: known)
    words = ["run", suite, "--nodes", "2", "--node-rank", "1", "--rdzv", "10.0.0.1:29400", "--seed", "1", *more]
    done = CliRunner().invoke(cli, words)
    return done.output, done.exit_code, seen


@pytest.mark.parametrize("met", [True, False])
def test_a_machine_that_missed_a_meeting_stops_and_says_so(
    met: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a job behind for good. One whose job failed after all had met is in step, and goes on."""
    suite = suite_of("world = [2, 4, 8]", folder=tmp_path)
    late = Outcome(status="timeout", message="nobody came")
    said, code, seen = taking_part(tmp_path, monkeypatch, suite, late, met=met)
    assert code == 5
    assert len(seen) == (3 if met else 1)
    assert ("out of step with machine 0; start all again; 2 jobs are left undone" in said) == (not met)


def test_a_further_machine_sits_through_what_machine_0_does_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each such job before a meeting it waits as long again, or as that job may take where that is longer; none of it is
    taken from the time that its own job may take.
    """
    suite = suite_of("world = [1, 2, 4]", folder=tmp_path)
    ok = Outcome(status="ok")
    more = ("--rdzv-timeout", "100", "-r", "4")
    _, _, seen = taking_part(tmp_path, monkeypatch, suite, ok, *more, met=True)
    known = b.machine(cores_allowed=4)
    plan = make_plan([load_suite(Path(suite))], known, known.devices, data_kind="mnist", seed=1, repeats=4, nodes=2)
    before = [alone for _, alone in jobs_after_local(PendingJob(n, 1, job) for n, job in enumerate(plan))]
    assert sum(before) >= 1
    assert [each.rendezvous.seconds for each in seen if each.rendezvous] == [100 * (1 + alone) for alone in before]
    assert [each.hang_seconds for each in seen] == [LaunchOptions.hang_seconds + 100 * (1 + alone) for alone in before]
    assert {each.timeout_seconds for each in seen} == {None}
    _, _, seen = taking_part(tmp_path, monkeypatch, suite, ok, *more, "--timeout", "300.5", met=True)
    assert [each.rendezvous.seconds for each in seen if each.rendezvous] == [100 + 301 * alone for alone in before]
    assert [each.timeout_seconds for each in seen] == [300.5 + 301 * alone for alone in before]


def test_jobs_of_machine_0_alone_are_counted_up_to_the_meeting_after_them() -> None:
    plan = [PendingJob(n, 1, JOB.model_copy(update={"nodes": nodes})) for n, nodes in enumerate((1, 1, 2, 2, 1, 2, 1))]
    assert [(item.index, alone) for item, alone in jobs_after_local(plan)] == [(2, 2), (3, 0), (5, 1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nodes", "2"], "--nodes 2 needs --rdzv HOST:PORT"),
        (["--rdzv", "10.0.0.1:29400"], "say how many with --nodes"),
        (["--node-rank", "1"], "say how many with --nodes"),
        (["--nodes", "2", "--rdzv", "10.0.0.1"], "write HOST:PORT"),
        (["--nodes", "2", "--rdzv", "10.0.0.1:0"], "write HOST:PORT"),
        (["--nodes", "2", "--rdzv", "10.0.0.1:29400", "--node-rank", "2"], "the ranks are 0 to 1"),
        (["--nodes", "2", "--rdzv", "10.0.0.1:29400", "--resume"], "--resume cannot resume a run of several machines"),
        (["--nodes", "2", "--rdzv", "10.0.0.1:29400", "--copies", "all"], "are one machine's"),
        (["--nodes", "2", "--rdzv", "10.0.0.1:29400"], "needs --seed, the same on every machine"),
    ],
)
def test_options_that_make_no_meeting_are_refused(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: Any = inventory.Inventory(b.machine(), b.software(), NvmlResult(), ())  # type: ignore[arg-type]
    monkeypatch.setattr(inventory, "take_inventory", lambda **options: known)
    done = CliRunner().invoke(cli, ["run", "quick", "--dry-run", *arguments])
    said = str(done.exception) + done.output
    assert words in said
    assert done.exit_code != 0
