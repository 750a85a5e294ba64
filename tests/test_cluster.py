"""Fleets against a fake Slurm: which nodes, what is submitted, what is said of every way a job can end, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import builders as b
import pytest
from fake_slurm import Cluster, begins, ends, fake_cluster, measures, only_fleet, place, sinfo_line

from cnnbench import store
from cnnbench.cli.main import run_cli
from cnnbench.cluster import node_job, slurm, state, submit
from cnnbench.cluster.collect import NodeStatus, read_node_statuses, refresh
from cnnbench.errors import ClusterError, ExitCode, FileError, UsageError

pytest.importorskip("submitit", reason="fleets are submitted through submitit: pip install 'cnnbench[cluster]'")


def run(results: Path, *more: str, suite: str = "quick") -> int:
    return run_cli(["cluster", "run", suite, "--partition", "main", "--results", str(results), *more])


def seen(results: Path) -> dict[str, NodeStatus]:
    folder = only_fleet(results)
    return {view.node: view for view in read_node_statuses(folder, refresh(folder))}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return fake_cluster(tmp_path, monkeypatch)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def test_every_node_gets_one_exclusive_job_of_its_own(cluster: Cluster, results: Path) -> None:
    assert run(results, "--each-node", "--time", "1:30:00", "--sbatch", "account=lab", "--run-options", "-r 3") == 0
    assert cluster.submitted == 2
    script = cluster.script(17)
    for line in ("nodelist=n1", "exclusive", "time=90", "no-requeue", "account=lab", "partition=main", "mem=0"):
        assert f"#SBATCH --{line}\n" in script
    fleet = state.read(only_fleet(results))
    assert {cell.node: cell.last.job_id for cell in fleet.cells if cell.last} == {"n1": "17", "n2": "18"}
    assert fleet.run_options == ("-r", "3")


def test_a_dry_run_prints_the_scripts_and_leaves_nothing(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(results, "--each-node", "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.count("#!/bin/bash") == 2
    assert "#SBATCH --nodelist=n2" in out
    assert cluster.submitted == 0
    assert not state.find_root(results).exists()


def node_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str) -> Path:
    """A folder, and a Python: its `cnnbench devices` does what `machine` says, its `cnnbench run` tells what it was given."""
    python, there = tmp_path / "python", tmp_path / "n1"
    python.write_text(
        f"#!/bin/sh\ncase \"$*\" in *'devices --json') {machine}; exit;; esac\n"
        'ls "$(dirname "$0")"/n1/started-17.json && echo "$@"\nexit 5\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    there.mkdir()
    return there


def test_what_a_node_runs_goes_on_with_a_run_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token comes first, the exit code last; a second job resumes the run by its id."""
    there = node_on(tmp_path, monkeypatch, f"""echo '{{"machine": {{"id": "{b.MACHINE_ID}"}}}}'""")
    assert node_job.run_suites(there, "17", "n1", ["quick"], ["-r", "3"]) == 5
    assert json.loads(node_job.end_path(there, "17").read_text())["exit_code"] == 5
    first = node_job.log_path(there, "17").read_text()
    assert f"-m cnnbench run quick --results {there / 'results'} -r 3\n" in first
    b.write(there / node_job.RESULTS, b.ledger([], run_id="20260301T120000Z-aaaa", unstarted=[b.cnn_job()]))
    node_job.run_suites(there, "18", "n1", ["quick"], [])
    assert node_job.log_path(there, "18").read_text().endswith("--resume --run-id 20260301T120000Z-aaaa\n")
    assert json.loads(node_job.token_path(there, "18").read_text())["lines"] == 1


def test_a_node_that_is_another_machine_now_begins_a_new_run_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cnnbench run --resume` looks among the runs of this machine, so it would fail with every job, for ever."""
    there = node_on(tmp_path, monkeypatch, """echo '{"machine": {"id": "testbox-ffff"}}'""")
    b.write(there / node_job.RESULTS, b.ledger([], run_id="20260301T120000Z-aaaa", unstarted=[b.cnn_job()]))
    node_job.run_suites(there, "17", "n1", ["quick"], [])
    log = node_job.log_path(there, "17").read_text()
    assert "--resume" not in log
    assert f"was begun on {b.MACHINE_ID}, and this node is testbox-ffff now: a new run begins\n" in log
    assert json.loads(node_job.token_path(there, "17").read_text())["lines"] == 0


def test_where_a_node_cannot_say_which_machine_it_is_the_run_is_to_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = node_on(tmp_path, monkeypatch, "echo 'error: torch does not start here' >&2")
    b.write(there / node_job.RESULTS, b.ledger([], run_id="20260301T120000Z-aaaa", unstarted=[b.cnn_job()]))
    node_job.run_suites(there, "17", "n1", ["quick"], [])
    assert node_job.log_path(there, "17").read_text().endswith("--resume --run-id 20260301T120000Z-aaaa\n")


def test_the_records_of_all_nodes_come_into_one_tree(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(results, "--each-node")
    for name, job_id in (("n1", "17"), ("n2", "18")):
        begins(results, name, job_id)
        measures(results, name, done=3)
        ends(results, name, job_id)
    cluster.queue("17|COMPLETED|n1|None", "18|COMPLETED|n2|None")
    assert run_cli(["cluster", "collect", "--results", str(results)]) == ExitCode.DONE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"now: cnnbench show {results} --all; cnnbench cluster report {results}"
    found = store.load_tree([results])
    assert [len(ledger.records) for ledger in found.ledgers] == [3, 3]
    assert found.problems == ()


FAILURES = [
    # Slurm's line, whether the job began, its exit code: what it is called, and words that must be in the message
    ("17|TIMEOUT|n1|TimeLimit", True, None, "timeout", ["TIMEOUT", "TimeLimit"]),
    ("17|NODE_FAIL|n1|NodeDown", True, None, "crashed", ["NODE_FAIL", "NodeDown"]),
    ("17|NODE_FAIL|n1|NodeDown", False, None, "crashed", ["NODE_FAIL", "never began"]),
    ("17|OUT_OF_MEMORY|n1|OutOfMemory", True, None, "oom", ["OUT_OF_MEMORY"]),
    ("17|CANCELLED|n1|None", True, 130, "interrupted", ["CANCELLED", "ended with 130"]),
    ("17|CANCELLED||None", False, None, "interrupted", ["before it began"]),
    ("17|PREEMPTED|n1|None", True, None, "interrupted", ["PREEMPTED"]),
    ("17|FAILED|n1|NonZeroExitCode", True, 2, "crashed", ["ended with 2", "error: no such suite"]),
    ("17|FAILED|n1|NonZeroExitCode", True, -9, "crashed", ["ended with -9"]),
    ("", True, None, "crashed", ["no longer known to Slurm", "ended from outside"]),
]


@pytest.mark.parametrize(("line", "began", "exit_code", "status", "words"), FAILURES)
def test_a_node_that_fails_is_typed_with_its_name_and_slurms_words(
    cluster: Cluster, results: Path, line: str, began: bool, exit_code: int | None, status: str, words: list[str]
) -> None:
    run(results, "--nodes", "1")
    if began:
        begins(results, "n1", "17")
    if exit_code is not None:
        ends(results, "n1", "17", exit_code, log="error: no such suite\ntry --help\n")
    cluster.queue(line)
    view = seen(results)["n1"]
    assert (view.state, view.outcome and view.outcome.status) == ("failed", status)
    message = str(view.outcome and view.outcome.message)
    assert [each for each in ("node n1", "job 17", *words) if each not in message] == []
    assert run_cli(["cluster", "status", "--results", str(results)]) == ExitCode.JOB_FAILED


def test_the_accounting_knows_what_the_queue_forgot(cluster: Cluster, results: Path) -> None:
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    cluster.queue()
    cluster.accounts("17|CANCELLED by 1000|n1|0:15|None")
    outcome = seen(results)["n1"].outcome
    assert outcome is not None
    assert (outcome.status, "exit 0:15" in str(outcome.message)) == ("interrupted", True)


def test_an_accounting_that_is_silent_is_no_end_of_a_job(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The queue forgot the job while the data base was away: nothing is known until that is back."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    cluster.queue()
    cluster.unaccounted("sacct: error: Problem talking to the database: Connection refused\n")
    assert run_cli(["cluster", "status", "--results", str(results)]) == ExitCode.JOB_FAILED
    assert "Problem talking to the database: Connection refused" in capsys.readouterr().err
    last = state.read(only_fleet(results)).cells[0].last
    assert last is not None
    assert last.said is None
    cluster.speaks()
    cluster.accounts("17|TIMEOUT|n1|0:0|TimeLimit")
    outcome = seen(results)["n1"].outcome
    assert outcome is not None
    assert outcome.status == "timeout"


def test_a_job_that_nobody_knew_is_asked_after_again(cluster: Cluster, results: Path) -> None:
    """Not known is no end: the accounting may learn of the job later."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    cluster.queue()
    assert "no longer known to Slurm" in str(seen(results)["n1"].outcome)
    cluster.accounts("17|TIMEOUT|n1|0:0|TimeLimit")
    outcome = seen(results)["n1"].outcome
    assert outcome is not None
    assert (outcome.status, "TIMEOUT" in str(outcome.message)) == ("timeout", True)


def test_a_job_in_a_hidden_partition_is_seen(cluster: Cluster, results: Path) -> None:
    run(results, "--nodes", "1")
    cluster.hide()
    assert seen(results)["n1"].state == "waiting"


def test_a_controller_that_is_silent_is_no_end_of_a_job(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(results, "--nodes", "1")
    cluster.silent("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
    assert run_cli(["cluster", "status", "--results", str(results)]) == ExitCode.JOB_FAILED
    assert "squeue: slurm_load_jobs error: Unable to contact slurm controller" in capsys.readouterr().err
    cluster.speaks()
    assert seen(results)["n1"].state == "waiting"


def test_waiting_outlasts_a_controller_that_is_silent(
    cluster: Cluster, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slurm goes silent, then the job has ended: one warning, each change said once, and the records are there."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    cluster.queue("17|PENDING||Resources")

    def later(seconds: float) -> None:
        if not (cluster.folder / "silent").exists():
            cluster.silent("Unable to contact slurm controller\n")
            return
        cluster.speaks()
        measures(results, "n1", done=3)
        cluster.queue("17|COMPLETED|n1|None")

    monkeypatch.setattr("cnnbench.cli.cluster.time", SimpleNamespace(sleep=later))  # subprocess sleeps too
    assert run_cli(["cluster", "collect", "--wait", "--results", str(results)]) == ExitCode.DONE
    said = capsys.readouterr().err
    assert said.count("n1: waiting Slurm: pending (Resources)") == 1
    assert said.count("Unable to contact slurm controller; still waiting") == 1
    assert "n1: done" in said


@pytest.mark.parametrize("known", [False, True])
def test_waiting_begins_with_a_controller_that_is_silent(
    cluster: Cluster,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    known: bool,
) -> None:
    """At the first question, whether nothing was known of the job or that Slurm had forgotten it."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    cluster.queue()
    if known:
        assert seen(results)["n1"].state == "failed"
    cluster.silent("Unable to contact slurm controller\n")

    def later(seconds: float) -> None:
        cluster.speaks()
        cluster.accounts("17|TIMEOUT|n1|0:0|TimeLimit")

    monkeypatch.setattr("cnnbench.cli.cluster.time", SimpleNamespace(sleep=later))
    assert run_cli(["cluster", "collect", "--wait", "--results", str(results)]) == ExitCode.JOB_FAILED
    out, err = capsys.readouterr()
    assert err.count("Unable to contact slurm controller; still waiting") == 1
    assert "timeout: node n1: Slurm job 17 ended as TIMEOUT" in out


def test_a_results_directory_that_is_not_shared_is_said(cluster: Cluster, results: Path) -> None:
    """Neither the job's token nor Slurm's own log of it: with the log there, Python is to blame instead."""
    run(results, "--each-node")
    cluster.queue("17|FAILED|n1|NonZeroExitCode", "18|FAILED|n2|NonZeroExitCode")
    (place(results, "n2") / node_job.SLURM_FOLDER / "18_0_log.err").write_text("No module named submitit\n")
    found = seen(results)
    assert "not shared" in str(found["n1"].outcome)
    assert "not shared" not in str(found["n2"].outcome)
    assert "No module named submitit" in str(found["n2"].outcome)


def test_what_was_under_way_is_written_down_once_and_a_resume_repeats_it(cluster: Cluster, results: Path) -> None:
    """Of 3 jobs 1 is done when the node fails: job 2 is interrupted, with Slurm's words, and the next attempt is its second."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    path = measures(results, "n1", done=1)
    cluster.queue("17|NODE_FAIL|n1|NodeDown")
    for _ in range(2):
        assert run_cli(["cluster", "collect", "--results", str(results)]) == ExitCode.JOB_FAILED
    ledger = store.load(path)
    assert [(r.index, r.attempt, r.outcome.status) for r in ledger.records] == [(0, 1, "ok"), (1, 1, "interrupted")]
    assert "node n1: Slurm job 17 ended as NODE_FAIL (NodeDown)" in str(ledger.records[1].outcome.message)
    assert ledger.problems == ()
    (brought,) = store.load_tree([results]).ledgers
    assert brought.final_digest == ledger.final_digest

    assert run_cli(["cluster", "run", "--resume", "--results", str(results)]) == ExitCode.DONE
    assert cluster.submitted == 2
    begins(results, "n1", "18", lines=3)
    cluster.queue("18|NODE_FAIL|n1|NodeDown")  # once more, in the first job of the resumed run
    for _ in range(2):
        run_cli(["cluster", "collect", "--results", str(results)])
    again = store.load(path).records
    assert [(r.index, r.attempt) for r in again] == [(0, 1), (1, 1), (1, 2)]
    assert "job 18" in str(again[2].outcome.message)


def test_a_run_that_recorded_its_own_end_gets_no_second_record(cluster: Cluster, results: Path) -> None:
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    records = [b.record(b.cnn_job(), 0.01, status="interrupted")]
    path = measures(results, "n1", done=1, records=records)
    ends(results, "n1", "17", 130)
    cluster.queue("17|CANCELLED|n1|None")
    run_cli(["cluster", "collect", "--results", str(results)])
    assert len(store.load(path).records) == 1


def test_a_run_killed_outright_has_its_process_written_down_for_it(cluster: Cluster, results: Path) -> None:
    """By the kernel for want of memory, say: the job outlives it and says how it ended."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    path = measures(results, "n1", done=1)
    ends(results, "n1", "17", -9)
    cluster.queue("17|FAILED|n1|NonZeroExitCode")
    run_cli(["cluster", "collect", "--results", str(results)])
    assert [(r.index, r.outcome.status) for r in store.load(path).records] == [(0, "ok"), (1, "interrupted")]


def test_a_run_that_is_still_alive_is_left_alone(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slurm may call a job ended while its processes are not."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    path = measures(results, "n1", done=1)
    cluster.queue("17|NODE_FAIL|n1|NodeDown")
    writer, _ = store.reopen(path)
    with writer:
        assert run_cli(["cluster", "collect", "--results", str(results)]) == ExitCode.JOB_FAILED
    assert "still alive" in capsys.readouterr().err
    assert len(store.load(path).records) == 1


@pytest.mark.parametrize(("done", "code"), [(1, ExitCode.JOB_FAILED), (3, ExitCode.FINDING)])
def test_a_node_that_failed_outweighs_copies_that_differ(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str], done: int, code: ExitCode
) -> None:
    """`cluster collect` exits 5 where a node failed, and as `cnnbench merge` does where none did."""
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    path = measures(results, "n1", done=done)
    other = results / path.parent.name / path.name
    other.parent.mkdir(parents=True)
    other.write_text(path.read_text().replace('"attempt":1', '"attempt":2'))
    cluster.queue("17|TIMEOUT|n1|TimeLimit")
    assert run_cli(["cluster", "collect", "--results", str(results)]) == code
    assert "conflict: " in capsys.readouterr().err


def test_a_resume_submits_only_what_is_missing(cluster: Cluster, results: Path) -> None:
    cluster.nodes(*(sinfo_line(f"n{number}") for number in range(1, 5)))
    run(results, "--each-node")
    measures(results, "n1", done=3)  # done
    measures(results, "n2", done=1)  # failed
    cluster.queue("17|COMPLETED|n1|None", "18|TIMEOUT|n2|TimeLimit", "19|RUNNING|n3|None", "20|PENDING||Resources")
    assert run_cli(["cluster", "run", "--resume", "--time", "600", "--results", str(results)]) == ExitCode.DONE
    assert cluster.submitted == 5
    assert "#SBATCH --nodelist=n2" in cluster.script(21)
    assert "#SBATCH --time=600" in cluster.script(21)


def test_two_resumes_at_once_submit_a_node_once(
    cluster: Cluster, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one submits between what the first one read and what it does."""
    run(results, "--nodes", "1")
    cluster.queue("17|TIMEOUT|n1|TimeLimit")
    asked, again = slurm.nodes, ["cluster", "run", "--resume", "--results", str(results)]

    def meanwhile(partition: str) -> tuple[slurm.Node, ...]:
        monkeypatch.setattr(slurm, "nodes", asked)
        assert run_cli(again) == ExitCode.DONE
        return asked(partition)

    monkeypatch.setattr(slurm, "nodes", meanwhile)
    assert run_cli(again) == ExitCode.USAGE
    assert "another command submits" in capsys.readouterr().err
    assert cluster.submitted == 2


def test_a_dry_resume_writes_nothing(cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(results, "--nodes", "1")
    begins(results, "n1", "17")
    path = measures(results, "n1", done=1)
    cluster.queue("17|NODE_FAIL|n1|NodeDown")
    assert run_cli(["cluster", "run", "--resume", "--dry-run", "--results", str(results)]) == ExitCode.DONE
    assert "#SBATCH --nodelist=n1" in capsys.readouterr().out
    assert (len(store.load(path).records), cluster.submitted, results.exists()) == (1, 1, False)


def test_cancel_ends_what_is_not_over(cluster: Cluster, results: Path) -> None:
    run(results, "--each-node")
    cluster.queue("17|COMPLETED|n1|None", "18|RUNNING|n2|None")
    assert run_cli(["cluster", "cancel", "--results", str(results)]) == ExitCode.DONE
    assert cluster.cancelled == ["18"]


def test_a_job_that_slurm_refuses_is_on_record_in_its_own_words(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other nodes are submitted all the same, and a resume tries the refused one again."""
    cluster.refuse("n1")
    assert run(results, "--each-node") == ExitCode.JOB_FAILED
    assert "sbatch refused: Batch job submission failed: Job violates accounting/QOS" in capsys.readouterr().out
    assert cluster.submitted == 1
    found = seen(results)
    assert found["n1"].outcome is not None
    assert (found["n1"].outcome.status, found["n2"].state) == ("interrupted", "waiting")
    cluster.accept("n1")
    assert run_cli(["cluster", "run", "--resume", "--results", str(results)]) == ExitCode.DONE
    assert "#SBATCH --nodelist=n1" in cluster.script(18)


@pytest.mark.parametrize(
    ("lost", "code"),
    [(KeyboardInterrupt(), ExitCode.INTERRUPTED), (OSError(errno.ENOSPC, "No space left"), ExitCode.USAGE)],
    ids=["Ctrl-C", "disk full"],
)
def test_a_job_whose_id_is_lost_is_not_taken_for_none(
    cluster: Cluster, results: Path, monkeypatch: pytest.MonkeyPatch, lost: BaseException, code: ExitCode
) -> None:
    """sbatch has answered when submitit moves its script to where the job's id is in the name."""

    def lose(*_: object, **__: object) -> None:
        raise lost

    with monkeypatch.context() as patch:
        patch.setattr("submitit.core.utils.JobPaths.move_temporary_file", lose)
        assert run(results, "--each-node") == code
    assert cluster.submitted == 1
    found = seen(results)
    assert [len(view.entry.attempts) for view in found.values()] == [1, 0]
    assert "it is not known whether its job was submitted: `squeue --me --name cnnbench-n1`" in str(found["n1"].outcome)
    assert "#SBATCH --job-name=cnnbench-n1\n" in cluster.script(17)
    assert "nothing was submitted" in str(found["n2"].outcome)
    assert run_cli(["cluster", "run", "--resume", "--results", str(results)]) == ExitCode.DONE
    assert cluster.submitted == 3


def test_an_answer_of_sbatch_without_an_id_is_not_taken_for_a_refusal(
    cluster: Cluster, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other nodes are submitted all the same."""
    cluster.mumble()
    assert run(results, "--each-node") == ExitCode.JOB_FAILED
    assert cluster.submitted == 2
    out, err = capsys.readouterr()
    assert "n1: it is not known whether its job was submitted" in out
    assert "2 jobs to submit, 0 of 2 nodes refused, 2 not known" in err
    assert run_cli(["cluster", "status", "--results", str(results)]) == ExitCode.JOB_FAILED


@pytest.mark.parametrize("down", ["down*", "down", "idle*", "drained", "draining", "maint"])
def test_a_node_that_is_down_is_on_record_and_not_submitted(cluster: Cluster, results: Path, down: str) -> None:
    cluster.nodes(sinfo_line("n1"), sinfo_line("n2", down, reason="Not responding"))
    assert run(results, "--each-node") == ExitCode.JOB_FAILED
    assert cluster.submitted == 1
    assert f"node n2: Slurm reports it as {down} (Not responding)" in str(seen(results)["n2"].outcome)
    assert run_cli(["cluster", "run", "--resume", "--results", str(results)]) == ExitCode.JOB_FAILED
    assert cluster.submitted == 1
    cluster.nodes(sinfo_line("n1"), sinfo_line("n2"))
    assert run_cli(["cluster", "run", "--resume", "--results", str(results)]) == ExitCode.DONE
    assert cluster.submitted == 2


def nodes() -> list[slurm.Node]:
    def made(name: str, state_: str = "idle", features: str = "", gres: str = "", why: str | None = None) -> slurm.Node:
        split = (tuple(filter(None, text.split(","))) for text in (features, gres))
        return slurm.Node(name, state_, 64, 256_000, *split, why)

    return [
        made("a1", "allocated", "amd,ib", "gpu:a100:4"),
        made("a2", "idle", "amd,ib", "gpu:a100:4"),
        made("h1", "mixed", "intel", "gpu:h100:8"),
        made("c1", "idle", "amd"),
        made("c2", "down", "amd", why="down"),
    ]


@pytest.mark.parametrize(
    ("constraint", "gres", "count", "each", "names"),
    [
        (None, None, None, False, ["a2", "c1", "h1"]),  # one of each kind, the idle one first
        (None, None, None, True, ["a1", "a2", "c1", "c2", "h1"]),  # the one that is down too: it is to be on record
        (None, None, 2, False, ["a2", "c1"]),
        ("amd", None, None, True, ["a1", "a2", "c1", "c2"]),
        ("amd&ib", None, None, True, ["a1", "a2"]),
        ("ib|intel", None, None, True, ["a1", "a2", "h1"]),
        (None, "gpu", None, True, ["a1", "a2", "h1"]),
        (None, "gpu:a100", None, True, ["a1", "a2"]),
        (None, "gpu:8", None, True, ["h1"]),
        (None, "gpu:a100:4", 1, False, ["a2"]),
    ],
)
def test_which_nodes_a_fleet_takes(
    constraint: str | None, gres: str | None, count: int | None, each: bool, names: list[str]
) -> None:
    chosen = slurm.select_nodes(nodes(), constraint=constraint, gres=gres, count=count, each=each)
    assert sorted(one.name for one in chosen) == names


@pytest.mark.parametrize(
    ("constraint", "gres", "count", "words"),
    [
        ("arm", None, None, "no node fits --constraint arm; there are:\n  2 x 64 cores"),
        (None, "gpu:v100", None, "no node fits --gres gpu:v100"),
        ("[a*2&b]", None, None, "a job here has one node"),
        ("amd", None, 4, "--nodes 4: only 3 of 4 nodes that fit"),
    ],
)
def test_nodes_that_are_not_there_are_said(
    constraint: str | None, gres: str | None, count: int | None, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        slurm.select_nodes(nodes(), constraint=constraint, gres=gres, count=count, each=False)
    assert words in str(caught.value)


def test_gres_with_sockets_and_several_kinds_are_read(cluster: Cluster) -> None:
    cluster.nodes(sinfo_line("n1", gres="gpu:a100:4(S:0,1),nic:2", features="amd,ib"))
    (found,) = slurm.nodes("main")
    assert (found.gres, found.features) == (("gpu:a100:4", "nic:2"), ("amd", "ib"))
    assert found.kind == "8 cores, 31 GiB, gpu:a100:4, nic:2, features amd+ib"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("0:30", 1), ("1:30:00", 90), ("2-0", 2880), ("1-12:30", 2190), ("1-0:0:1", 1441)],
)
def test_times_are_slurms(text: str, minutes: int) -> None:
    assert submit.parse_minutes(text) == minutes


WRONG = [
    (["run", "quick"], ["--partition P"]),
    (["run", "-p", "main"], ["which suites"]),
    (["run", "quick", "-p", "nosuch"], ["--partition nosuch: no such partition", "there are: gpu, main"]),
    (["run", "nosuch", "-p", "main"], ["nosuch"]),
    (["run", "quick", "-p", "main", "--time", "soon"], ["--time 'soon'"]),
    (["run", "quick", "-p", "main", "--nodes", "1", "--each-node"], ["one of them"]),
    (["run", "quick", "-p", "main", "--run-options", "--nosuch"], ["--run-options", "--nosuch"]),
    (["run", "quick", "-p", "main", "--run-options", "--results elsewhere"], ["results"]),
    (["run", "quick", "-p", "main", "--run-options", "-k 'gemm"], ["--run-options", "No closing quotation"]),
    (["run", "quick", "-p", "main", "--run-options", "--help"], ["--run-options '--help'", "No such option"]),
    (["run", "quick", "-p", "main", "--run-options", "--nodes 2 --rdzv a:1"], ["nodes, rdzv are not for these"]),
    (["run", "quick", "-p", "main", "--run-options", "--node-rank 1"], ["node_rank are not for these"]),
    (["run", "--resume"], ["no fleet there"]),
    (["status"], ["no fleet there"]),
    (["cancel"], ["no fleet there"]),
    (["collect"], ["no fleet there"]),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda value: " ".join(value))
def test_what_makes_no_sense_is_said_before_anything_is_submitted(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert (
        run_cli(
            ["cluster", *arguments, *(["--results", str(tmp_path / "results")] if "--results" not in arguments else [])]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert [each for each in words if each not in said] == []
    assert cluster.submitted == 0


@pytest.mark.parametrize("command", [["run", "quick", "-p", "main"], ["status"]])
def test_without_slurm_that_is_said(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    folder = state.find_root(results) / "20260301T120000Z-0001"
    request = state.SlurmRequest(partition="main", minutes=1)
    made = state.ClusterRun(
        fleet_id=folder.name, created_at="", results="", suites=("quick",), request=request, cells=()
    )
    state.write(folder, made)
    monkeypatch.setenv("PATH", "/nowhere")
    assert run_cli(["cluster", *command, "--results", str(results)]) == ExitCode.USAGE
    assert "no Slurm here: sbatch" in capsys.readouterr().err


def test_without_submitit_what_to_install_is_said(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert run(results) == ExitCode.USAGE
    assert "pip install 'cnnbench[cluster]'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"kind": "fleet", "cells": 1}', "\xff"])
def test_a_broken_state_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / state.FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ClusterError, match=r"not a fleet|newer than this cnnbench"):
        state.read(tmp_path)


def test_the_state_is_written_whole_or_not_at_all(
    cluster: Cluster, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full as the new state goes there: the old one stands, and nothing lies about."""
    run(results, "--nodes", "1")
    folder = only_fleet(results)
    before = (folder / state.FILE).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    fleet = state.read(folder).model_copy(update={"suites": ("other",)})
    with pytest.raises(FileError, match="No space left on device"):
        state.write(folder, fleet)
    assert (folder / state.FILE).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [state.FILE, state.LOCK, "n1"]
