"""One block: who has which turn, that the other one waits, and that whatever happens there is one typed block."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import pytest
from processes import lives

from cnnbench.paired_protocol import Arm, PairRecord, Setup, other_arm
from cnnbench.runner.arm_process import ArmCommand, ArmError, ArmProcess
from cnnbench.runner.paired import PairDesign, draw_coins, measure_pair, perform_handshakes
from cnnbench.schema import Job

FAKE = Path(__file__).with_name("fake_arm.py")
ROOT = Path(__file__).parents[1]
JOBS = {0: Job(workload="mnist-cnn", workload_version=1), 1: Job(workload="gemm", workload_version=1, size=8)}


class Event(NamedTuple):
    at: float
    pid: int
    words: tuple[str, ...]


def start(arm: Arm, first: Arm, **more: float) -> ArmCommand:
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return ArmCommand(arm, (sys.executable, str(FAKE), arm), {"PYTHONPATH": search}, ROOT, **more)


def block(mode: str = "turns") -> PairRecord:
    design = PairDesign(jobs={"base": JOBS, "head": JOBS}, seed=5, schedule=mode, rounds=8, steps_per_turn=3)  # type: ignore[arg-type]
    return measure_pair(design, start, 0, "screening", (0, 1))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    monkeypatch.setenv("FAKE_LOG", str(path))
    return path


def events(path: Path) -> list[Event]:
    split = [line.split() for line in path.read_text().splitlines()]
    return sorted(Event(float(at), int(pid), tuple(words)) for at, pid, *words in split)


def test_the_coins_are_fair_independent_and_the_same_when_thrown_again() -> None:
    """Within 5 standard deviations of a half over 2,000 blocks: who is first, who has the first turn, and both together."""
    thrown = [draw_coins(1, number, (0, 1), 10) for number in range(2000)]
    assert thrown == [draw_coins(1, number, (1, 0), 10) for number in range(2000)]
    first = [coins.first == "base" for coins in thrown]
    turn = [coins.orders[0][0] == "b" for coins in thrown]
    for heads in (sum(first), sum(turn), sum(a == b for a, b in zip(first, turn, strict=True))):
        assert abs(heads - 1000) < 5 * (2000 / 4) ** 0.5
    assert {coins.job_order for coins in thrown} == {(0, 1), (1, 0)}


def test_turns_alternate_as_the_coin_says(log: Path) -> None:
    """In each round the arm that the letter names has the first turn and the other the second."""
    measured = block()
    assert measured.failure is None
    begun = [event.words[1] for event in events(log) if event.words[0] == "turn" and event.words[2] == "begins"]
    expected: list[str] = []
    for job in measured.job_order:
        for letter in measured.orders[job]:
            first: Arm = "base" if letter == "b" else "head"
            expected += [first, other_arm(first)]
    assert begun == expected
    assert {len(set(order)) for order in measured.orders.values()} == {2}, "the seed should give both orders"


def test_the_waiting_arm_does_nothing(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn begins before the one before it has ended."""
    monkeypatch.setenv("FAKE_SLEEP", "0.02")
    block()
    turns = [event.words[2] for event in events(log) if event.words[0] == "turn"]
    assert turns == ["begins", "ends"] * (len(turns) // 2)


def test_a_block_has_every_round_of_both_arms_and_both_are_gone(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HEAD", "1.5")
    measured = block()
    for job in (0, 1):
        assert measured.base[job].step_seconds == ((0.01, 0.01),) * 8
        assert measured.head[job].step_seconds == ((0.015, 0.015),) * 8
        assert measured.head[job].work.images == 8 * 3 * JOBS[job].batch_size
    assert set(measured.spans) == {"both"}
    assert not any(lives(event.pid) for event in events(log))


def test_one_after_the_other_means_that_the_first_is_gone_before_the_second_starts(log: Path) -> None:
    measured = block("sequential")
    assert measured.failure is None
    assert set(measured.spans) == {"base", "head"}
    starts = [event.pid for event in events(log) if event.words == ("start",)]
    gone = next(event.at for event in events(log) if event.words == ("end",))
    second = next(event.at for event in events(log) if event.words == ("start",) and event.pid == starts[1])
    assert gone < second
    assert next(event.words[1] for event in events(log) if event.words[0] == "build") == measured.first


@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [
        ("crash", "crashed", "deliberate crash"),
        ("segfault", "crashed", "SIGSEGV"),
        ("junk", "outdated", "not understood"),
        ("unsupported", "unsupported", "cannot do this"),
    ],
)
def test_a_failure_in_one_arm_is_an_invalid_block_with_the_arm_named(
    mode: str, status: str, words: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_HEAD", mode)
    measured = block()
    assert measured.failure is not None
    assert (measured.failure.arm, measured.failure.status) == ("head", status)
    assert words in measured.failure.message
    assert not measured.base
    assert not measured.head
    assert not any(lives(event.pid) for event in events(log))


def test_an_arm_that_does_not_answer_hangs(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BASE", "hang")
    design = PairDesign(jobs={"base": JOBS, "head": JOBS}, seed=5, rounds=2, steps_per_turn=2)
    measured = measure_pair(design, lambda arm, first: start(arm, first, hang_seconds=3.0), 0, "screening", (0,))
    assert measured.failure is not None
    assert (measured.failure.arm, measured.failure.status) == ("base", "hang")
    assert not any(lives(event.pid) for event in events(log))


def test_what_a_library_prints_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HEAD", "chatty")
    assert block().failure is None


@pytest.mark.parametrize(("mode", "status"), [("old", "outdated"), ("broken", "crashed")])
def test_an_arm_that_cannot_take_part_says_why_before_any_work(
    mode: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older cnnbench lacks the module; a base that does not build ends with its traceback's last line."""
    monkeypatch.setenv("FAKE_BOTH", mode)
    with pytest.raises(ArmError) as caught:
        perform_handshakes(start)
    assert caught.value.failed.status == status
    assert ("older" in caught.value.failed.message) == (mode == "old")


def test_an_arm_is_told_only_what_is_not_usual_so_that_an_older_one_understands_it() -> None:
    """A key that jobs have got since is at its default in every job that does not use it."""
    told = ArmProcess(start("base", "base"))
    told._process.stdin = pipe = Mock(wraps=told._process.stdin)
    try:
        told.send(Setup(jobs={0: JOBS[1].model_copy(update={"threads": 1})}))
        told.receive_handshake()
    finally:
        told.close()
    setup = json.loads(pipe.write.call_args_list[0].args[0])
    assert setup == {"jobs": {"0": {"workload": "gemm", "workload_version": 1, "size": 8, "threads": 1}}}
    assert Setup.model_validate(setup).jobs[0].precision == "fp32"


def test_a_program_that_is_not_there_is_an_arm_that_failed() -> None:
    with pytest.raises(ArmError, match="cannot be started"):
        ArmProcess(ArmCommand("base", ("/no/such/python",), {}, ROOT))


def test_an_interrupt_ends_both_and_passes_on(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BASE", "hang")
    monkeypatch.setenv("FAKE_HEAD", "hang")

    def interrupt() -> None:
        deadline = time.monotonic() + 20
        while not (log.exists() and "turn" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        block()
    assert not any(lives(event.pid) for event in events(log))


def test_kill_9_of_the_parent_ends_the_workers(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their standard input ends with it; the fakes ask for no parent-death signal, so this is the pipe alone."""
    monkeypatch.setenv("FAKE_SLEEP", "0.05")
    code = "import sys; sys.path.insert(0, 'tests'); from test_paired import block; block()"
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": search})
    deadline = time.monotonic() + 30
    while not (log.exists() and "turn" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    pids = {event.pid for event in events(log)}
    deadline = time.monotonic() + 10
    while any(lives(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)
