"""How launchers meet, told without any rank: torch's launch is faked, or has nobody to start."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import builders as b
import pytest
from torch.distributed.elastic.rendezvous.api import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousTimeoutError,
)
from torch.distributed.launcher.api import LaunchConfig

from cnnbench.engine.distributed import launcher, rank
from cnnbench.engine.process import ProgressWriter
from cnnbench.schema import RENDEZVOUS_DONE, Job, Outcome, Rendezvous, WorkerInput

JOB = b.ranks_job(nodes=2)


def envelope(folder: Path, rank: int = 1, port: int = 29400, job: Job = JOB, seconds: int = 60) -> WorkerInput:
    meeting = Rendezvous(endpoint=f"127.0.0.1:{port}", node_rank=rank, name="test", seconds=seconds)
    return WorkerInput(
        job=job, outcome_path=str(folder / "outcome.json"), parent_pid=os.getpid(), spawn_monotonic_ns=0, rendezvous=meeting
    )  # fmt: skip


def measure(given: WorkerInput) -> Outcome:
    return launcher.run_ranks(given, ProgressWriter(None), 0)


def faked(monkeypatch: pytest.MonkeyPatch, *answers: RendezvousError | None, starts: bool = False) -> list[str]:
    """torch's launch answers so, in turn, None being ranks that measured; once it has begun to start them where it `starts` any.
    The names it was told to meet by.
    """
    left, tries = list(answers), []

    def elastic_launch(config: LaunchConfig, program: str) -> Callable[..., None]:
        def launch(*words: str) -> None:
            tries.append(config.run_id)
            if starts:
                assert config.logs_specs is not None
                config.logs_specs.reify({0: {}})
            answer = left.pop(0)
            if answer is not None:
                raise answer
            measured = Outcome(status="ok", trial=b.trial(JOB)).model_dump_json()
            (Path(words[2]) / rank.OUTCOMES_FILE).write_text("\n".join([measured] * 2))
            (Path(words[2]) / rank.OUTCOME_FILE.format(0)).write_text(Outcome(status="ok").model_dump_json())

        return launch

    monkeypatch.setattr(launcher, "elastic_launch", elastic_launch)
    monkeypatch.setattr(launcher, "RETRY_SECONDS", 0.01)
    return tries


def test_a_further_machine_tries_again_until_machine_0_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of its job; what the ranks then measured is what counts."""
    tries = faked(monkeypatch, RendezvousConnectionError(), RendezvousConnectionError(), None)
    assert measure(envelope(tmp_path)).status == "ok"
    assert tries == ["test"] * 3


def test_a_further_machine_gives_up_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = faked(monkeypatch, RendezvousConnectionError("refused"))
    outcome = measure(envelope(tmp_path, seconds=0))
    assert outcome.status == "timeout"
    assert (outcome.message or "").startswith("2 nodes did not meet at 127.0.0.1:29400 within 0 s: refused; start")
    assert tries == ["test"]
    assert not (tmp_path / RENDEZVOUS_DONE).exists()


@pytest.mark.parametrize("error", [RendezvousTimeoutError(), RendezvousClosedError()])
def test_a_meeting_that_runs_out_or_that_another_closed_did_not_come_about(
    error: RendezvousError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives up first closes it for those still waiting."""
    faked(monkeypatch, error)
    outcome = measure(envelope(tmp_path, rank=0))
    assert outcome.status == "timeout"
    assert f"did not meet at 127.0.0.1:29400 within 60 s: {type(error).__name__}" in (outcome.message or "")


def test_a_machine_0_that_goes_while_ranks_work_is_a_crash_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next meeting has another name: nobody would ever come to this one again."""
    tries = faked(monkeypatch, RendezvousConnectionError("reset by peer"), starts=True)
    outcome = measure(envelope(tmp_path))
    assert (outcome.status, tries) == ("crashed", ["test"])
    assert outcome.message == "machine 0 was lost while the job ran; see what it printed there"
    assert (tmp_path / RENDEZVOUS_DONE).exists()


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
    """By torch's own words for it, through its own launch."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = int(other.getsockname()[1])
        outcome = measure(envelope(tmp_path, rank=0, port=port))
    assert outcome.status == "crashed"
    message = outcome.message or ""
    assert message.startswith(f"cannot listen at 127.0.0.1:{port}: ")
    assert "address already in use" in message.lower()
    assert message.endswith("; choose a free port of this machine with --rdzv")


def resolving(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    found = [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, 9))]
    monkeypatch.setattr(launcher.socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize(
    ("endpoint", "address", "expected"),
    [
        ("head:29400", "127.0.1.1", None),  # Debian's line for the machine's own name
        ("head:29400", "127.0.0.1", None),
        ("localhost:29400", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:29400", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_no_machine_is_told_to_look_for_another_on_its_own_loopback(
    endpoint: str, address: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless that is what was asked for: then all are this one."""
    resolving(monkeypatch, address)
    assert launcher._address_towards(endpoint) == expected


def test_a_name_that_no_host_can_have_leads_nowhere() -> None:
    assert launcher._address_towards("a..b:29400") is None


def test_each_process_without_cores_of_its_own_still_has_a_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system deals out no cores (macOS): tables tell copies apart by their places."""
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    given = envelope(tmp_path, job=b.ranks_job(world=1, scaling=None, copies=3))
    places = [rank.claim_device(given, local) for local in range(3)]
    assert places == ["cpu, number 0", "cpu, number 1", "cpu, number 2"]
