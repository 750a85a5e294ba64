"""Fleets on a real Slurm: `tests/slurm/cluster.sh` starts Debian's on this machine alone, two nodes of it, and ends it again.

Skipped where Slurm is not installed, and where this is not root; where CNNBENCH_SLURM is `required`, as in `.ci/run`, it fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import processes
import psutil
import pytest

import cnnbench
from cnnbench import store
from cnnbench.cli.main import run_cli
from cnnbench.cluster import state
from cnnbench.cluster.collect import NodeStatus, read_node_statuses, refresh
from cnnbench.cluster.node_job import newest_ledger
from cnnbench.errors import ExitCode

pytestmark = pytest.mark.slow("Slurm")

REQUIRED = os.environ.get("CNNBENCH_SLURM") == "required"
"""Read here, at import: no test sees settings from outside (`conftest`)."""
SCRIPT = Path(__file__).parent / "slurm" / "cluster.sh"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
PATIENCE_SECONDS = 240.0
WORKER = "cnnbench.engine.worker"


def missing() -> str | None:
    """Why no Slurm can be started; None where one can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"no {', '.join(absent)}: apt install slurmctld slurmd slurm-client munge (Debian, Ubuntu)"
    if os.geteuid() != 0:
        return "slurmd needs root"
    if importlib.util.find_spec("submitit") is None:
        return "fleets are submitted through submitit: pip install 'cnnbench[cluster]'"
    return None


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a running Slurm with the nodes n1 and n2."""
    if (reason := missing()) is not None:
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    up = subprocess.run(
        [SCRIPT, "up", folder, "n1", "n2"], capture_output=True, text=True, env=environment, check=False
    )
    assert up.returncode == 0, up.stderr
    yield folder / "slurm.conf"
    subprocess.run([SCRIPT, "down", folder], env=environment, check=True)


@pytest.fixture(autouse=True)
def _on_it(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(conf))
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin", prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path(cnnbench.__file__).parents[1]), prepend=os.pathsep)


def fleet(results: Path, *arguments: str) -> int:
    return run_cli(["cluster", *arguments, "--results", str(results)])


def look(results: Path) -> NodeStatus:
    """The one node of the newest fleet."""
    folder = state.find(results)
    (view,) = read_node_statuses(folder, refresh(folder))
    return view


def node_is(name: str, *words: str) -> None:
    """Tell Slurm what a node's state is."""
    subprocess.run(["scontrol", "update", f"NodeName={name}", *words], check=True, timeout=60)


def until(happens: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS:.0f} s"
        time.sleep(0.2)


def runs_of(results: Path) -> list[psutil.Process]:
    """The `cnnbench run` processes of the fleet's nodes, not their workers."""
    place = str(state.find_root(results))
    lines = [(each, processes.command_line(each)) for each in psutil.process_iter()]
    return [each for each, words in lines if any(place in word for word in words) and "run" in words]


def begun(results: Path, records: int = 0) -> Callable[[], bool]:
    """Whether a worker is under way, with so many records before it."""

    def found() -> bool:
        ledger = newest_ledger(state.find(results) / look(results).node)
        runs = runs_of(results)
        if ledger is None or len(ledger.records) < records:
            return False
        return any(processes.descendants(each.pid, WORKER, recursive=False) for each in runs)

    return found


def test_quick_on_a_node_cancelled_killed_resumed_and_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The suite `quick`, one process a job: cut off twice, gone on with twice, and nothing measured twice or lost.

    One thread: two that wait for one another would make the test take minutes where others use the machine too.
    """
    results = tmp_path / "results"
    options = ("--run-options", "-r 1 -d cpu --threads 1")
    assert fleet(results, "run", "quick", "--partition", "main", "--nodes", "1", *options) == ExitCode.DONE
    until(begun(results), "the first process")
    assert look(results).state == "running"
    assert fleet(results, "cancel") == ExitCode.DONE
    until(lambda: look(results).state == "failed" and not runs_of(results), "the end of what was cancelled")
    outcome = look(results).outcome
    assert outcome is not None
    assert (outcome.status, "n1: Slurm job" in str(outcome.message)) == ("interrupted", True)
    assert "CANCELLED" in str(outcome.message)
    assert fleet(results, "collect") == ExitCode.JOB_FAILED

    assert fleet(results, "run", "--resume") == ExitCode.DONE
    until(begun(results, records=1), "the first process of the resumed run")
    runs = runs_of(results)
    workers = [worker.pid for each in runs for worker in processes.descendants(each.pid, WORKER)]
    for each in runs:
        with contextlib.suppress(psutil.Error):  # it may end on its own first
            each.kill()
    until(lambda: not any(map(processes.lives, workers)), "the end of the workers, which hold the ledger's lock")
    until(lambda: look(results).state == "failed", "the end of what was killed")
    outcome = look(results).outcome
    assert outcome is not None
    assert (outcome.status, "ended with -9" in str(outcome.message)) == ("crashed", True)

    capsys.readouterr()
    assert fleet(results, "run", "--resume", "--wait", "--poll", "0.5") == ExitCode.DONE
    assert "3 of 3" in capsys.readouterr().out
    (ledger,) = store.load_tree([results]).ledgers
    by_status = [record.outcome.status for record in ledger.records]
    assert sorted(set(by_status)) == ["interrupted", "ok"]
    assert by_status.count("ok") == len(ledger.header.plan) == 3
    killed = [str(record.outcome.message) for record in ledger.records if record.outcome.status == "interrupted"]
    assert any("node n1: Slurm job" in message for message in killed)
    assert ledger.problems == ()
    assert run_cli(["show", str(results), "--format", "json"]) == ExitCode.DONE
    rows = [row for table in json.loads(capsys.readouterr().out)["tables"] for row in table["rows"]]
    assert {row.get("workload") for row in rows} >= {"gemm", "mnist-cnn"}


def test_a_node_that_fails_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Slurm is told that its node is down while its job runs: NODE_FAIL, nothing submitted until it is back."""
    results = tmp_path / "results"
    assert (
        fleet(results, "run", "quick", "-p", "main", "--nodes", "1", "--run-options", "-k gemm -r 1 -d cpu --threads 1")
        == 0
    )
    until(begun(results), "the first process")
    name = look(results).node
    node_is(name, "State=DOWN", "Reason=a-fan-failed")
    try:
        until(lambda: look(results).state == "failed" and not runs_of(results), "the end of the job")
        outcome = look(results).outcome
        assert outcome is not None
        assert f"node {name}: " in str(outcome.message)
        assert "NODE_FAIL" in str(outcome.message)
        assert fleet(results, "collect") == ExitCode.JOB_FAILED
        (ledger,) = store.load_tree([results]).ledgers
        assert [record.outcome.status for record in ledger.records] == ["interrupted"]
        capsys.readouterr()
        assert fleet(results, "run", "--resume") == ExitCode.JOB_FAILED
        assert "a-fan-failed" in capsys.readouterr().out
    finally:
        node_is(name, "State=RESUME")
    until(lambda: fleet(results, "run", "--resume") == ExitCode.DONE, "the node")
    assert fleet(results, "cancel") == ExitCode.DONE
    until(lambda: not runs_of(results), "the end of the cancelled job")


def test_a_results_directory_that_a_node_does_not_share(tmp_path: Path, conf: Path) -> None:
    """The node's daemon sees an empty folder where ours has the results: a mount of its own, as on a node without the share."""
    apart = f"mount --make-rprivate / && mount -t tmpfs none {tmp_path} && exec slurmd -N n2"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespaces in this container")
    results, pid = tmp_path / "results", conf.parent / "run" / "slurmd-n2.pid"

    def restarted(command: list[str]) -> None:
        psutil.Process(int(pid.read_text())).terminate()
        until(lambda: not pid.exists(), "the end of slurmd")
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        until(pid.exists, "slurmd")

    node_is("n1", "State=DRAIN", "Reason=the-other-one")
    restarted(["unshare", "-m", "sh", "-c", apart])
    try:
        assert fleet(results, "run", "quick", "-p", "main", "--nodes", "1", "--run-options", "-k gemm") == ExitCode.DONE
        until(lambda: look(results).state == "failed", "the end of the job")
        view = look(results)
        assert view.node == "n2"
        assert "not shared with the node" in str(view.outcome)
    finally:
        restarted(["slurmd", "-N", "n2"])
        node_is("n1", "State=RESUME")


def test_slurm_says_no_in_its_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    assert fleet(results, "run", "quick", "-p", "nosuch") == ExitCode.USAGE
    assert "there are: main" in capsys.readouterr().err
    assert fleet(results, "run", "quick", "-p", "main", "--nodes", "1", "--sbatch", "mem=999T") == ExitCode.JOB_FAILED
    assert "sbatch refused: " in capsys.readouterr().out
