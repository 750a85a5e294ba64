"""The timing net: its estimator by closed forms, its verdict, when it stops, and both kinds of workers, made up and real."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import timing_net
from hypothesis import given
from hypothesis import strategies as st
from revision_builders import git, repository, worktrees
from timing_net import Pair, WorkerStart, estimate, exit_code, is_settled, measure_pairs, run_workers

from cnnbench.errors import ComparisonError, ExitCode, WorkerError
from cnnbench.paired_protocol import ARMS
from cnnbench.schema import Job

SMALL = [0.001 * step for step in (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)]
"""Ten d's around 0, at most 0.5 % away."""
DIFFERENCES = st.lists(st.floats(-0.5, 0.5), min_size=6, max_size=12)
FAKE_ARM = Path(__file__).with_name("fake_arm.py").read_text()
FAKE_WORKER = """
import json, os, sys, time
from pathlib import Path
import cnnbench
envelope = json.loads(sys.stdin.buffer.read())
job = envelope["job"]
if meeting := os.environ.get("FAKE_MEETING"):
    with open(meeting, "a") as file:
        file.write(json.dumps(sorted(os.sched_getaffinity(0))) + chr(10))
    limit = time.monotonic() + 20
    while len(Path(meeting).read_text().splitlines()) % 2:
        if time.monotonic() > limit:
            sys.exit("no other worker came")
        time.sleep(0.01)
seconds = float((Path(cnnbench.__file__).parents[1] / "cpu-seconds").read_text())
trial = {"cpu_seconds": seconds, "steps_per_block": job["block_steps"], "images": 1, "parameters": 1}
trial["steps"] = job["blocks"] * job["block_steps"]
Path(envelope["outcome_path"]).write_text(json.dumps({"status": "ok", "trial": trial}))
"""
"""Its CPU seconds are made up. With FAKE_MEETING it writes its cores there, and waits for the other worker of its pair."""


def test_the_exact_interval_of_six_pairs_is_from_the_least_to_the_most() -> None:
    """2.5 % of the 64 sign vectors is one: W = 0, so the bounds are the extreme Walsh averages, which are d's own."""
    found = estimate("any", [0.01, -0.02, 0.03, 0.005, -0.01, 0.02])
    assert (found.low, found.high) == pytest.approx((math.exp(-0.03), math.exp(0.02)))


def test_the_estimate_is_the_median_of_the_pairwise_means() -> None:
    """Of 0, 0.01 and 0.05 the means are 0, 0.005, 0.01, 0.025, 0.03 and 0.05: their median is 0.0175."""
    assert estimate("any", [0.0, 0.01, 0.05]).ratio == pytest.approx(math.exp(-0.0175))


def test_students_interval_of_ten_pairs_by_its_table() -> None:
    """For d = s and -s five times each: t(0.975, 9) = 2.262157, s.d. = s sqrt(10/9), so the half-width is t s / 3."""
    found = estimate("any", [0.03, -0.03] * 5)
    half = 2.262157 * 0.03 / 3
    assert (found.student_low, found.student_high) == pytest.approx((math.exp(-half), math.exp(half)), rel=1e-6)


@given(DIFFERENCES, st.floats(-0.2, 0.2))
def test_a_slower_head_moves_estimate_and_interval_by_its_factor(d: list[float], shift: float) -> None:
    plain, slower = estimate("any", d), estimate("any", [each + shift for each in d])
    factor = math.exp(-shift)
    for name in ("ratio", "low", "high", "student_low", "student_high"):
        assert getattr(slower, name) == pytest.approx(getattr(plain, name) * factor)


@given(DIFFERENCES)
def test_exchanging_the_revisions_inverts_estimate_and_interval(d: list[float]) -> None:
    plain, exchanged = estimate("any", d), estimate("any", [-each for each in d])
    assert exchanged.ratio == pytest.approx(1 / plain.ratio)
    assert exchanged.low == pytest.approx(1 / plain.high)  # type: ignore[operator]
    assert exchanged.student_low == pytest.approx(1 / plain.student_high)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("d", "outcome"),
    [
        (SMALL, "same"),
        ([each + 0.01 for each in SMALL], "differs"),
        ([each - 0.01 for each in SMALL], "differs"),
        ([20 * each for each in SMALL], "too wide"),
        ([20 * each + 0.5 for each in SMALL], "differs"),
        ([0.0] * 10, "same"),
        ([0.0] * 5, "too wide"),  # 2^-5 is more than 2.5 %: no interval
    ],
)
def test_what_an_interval_says(d: list[float], outcome: str) -> None:
    assert estimate("any", d).outcome == outcome


def test_an_interval_is_narrow_enough_at_two_percent_and_not_above() -> None:
    """Six pairs from -x to x give [exp(-x), exp(x)], of half-width sinh(x)."""
    for half, outcome in ((0.0199, "same"), (0.0201, "too wide")):
        x = math.asinh(half)
        found = estimate("any", [-x, x, 0.001, -0.001, 0.002, -0.002])
        assert found.half_width == pytest.approx(half)
        assert found.outcome == outcome


def test_the_exit_code_is_the_gravest_outcome() -> None:
    same, wide, differs = (estimate("any", [scale * each + shift for each in SMALL])
                           for scale, shift in ((1, 0), (20, 0), (1, 0.01)))  # fmt: skip
    assert exit_code([same, same]) == ExitCode.DONE == 0
    assert exit_code([same, wide]) == ExitCode.INCONCLUSIVE == 4
    assert exit_code([differs, wide, same]) == ExitCode.FINDING == 1
    assert exit_code([]) == ExitCode.INCONCLUSIVE


def stub(kind: str, d: Sequence[float], seen: list[tuple[str, int]]) -> Callable[[int], Pair]:
    """Measures of that kind whose d's are those given, over and over."""
    values = itertools.cycle(d)

    def measure(number: int) -> Pair:
        seen.append((kind, number))
        return Pair(kind, number, "base", dict.fromkeys(timing_net.FIGURES[kind], next(values)))

    return measure


def measured(worker: Sequence[float], turns: Sequence[float], **limits: float) -> list[tuple[str, int]]:
    """Kind and number of each pair, in the order measured."""
    seen: list[tuple[str, int]] = []
    measures = {"worker": stub("worker", worker, seen), "turns": stub("turns", turns, seen)}
    measure_pairs(measures, [], **{"most": 32, "seconds": 1e9, **limits})  # type: ignore[arg-type]
    return seen


def test_kinds_take_turns_and_stop_each_when_its_intervals_are_narrow() -> None:
    """The quiet kind after the least number of pairs; the other, of d's 40 % apart, takes all there are."""
    seen = measured([0.2, -0.2], SMALL)
    both = [(kind, number) for number in range(1, 11) for kind in ("worker", "turns")]
    assert seen == both + [("worker", number) for number in range(11, 33)]


def test_no_kind_gets_more_pairs_than_allowed() -> None:
    assert measured([0.2, -0.2], [0.2, -0.2], most=2) == [("worker", 1), ("turns", 1), ("worker", 2), ("turns", 2)]


@given(st.floats(-0.001, 0.001), st.lists(st.floats(-0.03, 0.03), min_size=10, max_size=10))
def test_when_to_stop_does_not_depend_on_the_sign_of_the_difference(shift: float, d: list[float]) -> None:
    """Nor, but for the scale of the ratio, on its size: the rule reads widths."""

    def pairs(sign: float) -> list[Pair]:
        return [Pair("worker", number, "base", dict.fromkeys(timing_net.FIGURES["worker"], sign * (each + shift)))
                for number, each in enumerate(d)]  # fmt: skip

    low, high = (timing_net.estimates_of(pairs(sign), "worker")[0].half_width for sign in (1, -1))
    assert low == pytest.approx(high, rel=0.1)
    if not 0.018 < float(low or 0) < 0.022:
        assert is_settled(pairs(1), "worker", 10, 32) == is_settled(pairs(-1), "worker", 10, 32)


def test_no_pair_begins_that_would_end_after_the_minutes() -> None:
    """Pairs of 10 s in 45 s: the fifth would end at 50."""
    now = 0.0

    def measure(number: int) -> Pair:
        nonlocal now
        now += 10.0
        return Pair("worker", number, "base", dict.fromkeys(timing_net.FIGURES["worker"], 0.2 * (-1) ** number))

    pairs: list[Pair] = []
    measure_pairs({"worker": measure}, pairs, most=32, seconds=45.0, clock=lambda: now)
    assert (len(pairs), now) == (4, 40.0)


JOB = Job(workload="mlp-1", workload_version=1, blocks=3, block_steps=4, batch_size=32)


def worker(tmp_path: Path, code: str) -> timing_net.WorkerRun:
    (tmp_path / "stub.py").write_text(code)
    start = WorkerStart("head", (sys.executable, "-S", str(tmp_path / "stub.py")), dict(os.environ))
    return run_workers([start], min(os.sched_getaffinity(0)), JOB, None)["head"]


def test_a_workers_seconds_are_its_own_cpu_seconds(tmp_path: Path) -> None:
    """It sleeps 0.5 s, which no CPU second counts; then the busy one works until it has used 0.5."""
    code = """
import json, sys, time
envelope = json.loads(sys.stdin.buffer.read())
assert envelope["job"] == {"workload": "mlp-1", "workload_version": 1, "blocks": 3, "block_steps": 4, "batch_size": 32}
time.sleep(0.5)
while time.process_time() < BUSY:
    pass
trial = {"cpu_seconds": 0.06, "steps_per_block": 4, "steps": 12, "images": 384, "parameters": 10}
open(envelope["outcome_path"], "w").write(json.dumps({"status": "ok", "trial": trial}))
"""
    idle = worker(tmp_path, code.replace("BUSY", "0"))
    busy = worker(tmp_path, code.replace("BUSY", "0.5"))
    assert 0 < idle.cpu_seconds < 0.3
    assert 0.5 <= busy.cpu_seconds < 0.8
    assert idle.step_cpu_seconds == 0.06 / 12
    assert idle.work == {"steps": 12, "steps_per_block": 4, "images": 384, "parameters": 10}


def test_a_worker_without_cpu_seconds_cannot_be_compared(tmp_path: Path) -> None:
    code = """
import json, sys
outcome = {"status": "ok", "trial": {"cpu_seconds": None}}
open(json.load(sys.stdin)["outcome_path"], "w").write(json.dumps(outcome))
"""
    with pytest.raises(ComparisonError, match="head: its worker reports no CPU seconds"):
        worker(tmp_path, code)


def test_a_failure_leaves_neither_worker_nor_a_changed_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first never ends, so both are killed and waited for."""
    monkeypatch.setattr(timing_net, "WORKER_SECONDS", 0.2)
    allowed, started = os.sched_getaffinity(0), []
    popen = subprocess.Popen

    def start(*words: Any, **settings: Any) -> Any:
        started.append(popen(*words, **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    command = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    starts = [WorkerStart(arm, command, dict(os.environ)) for arm in ARMS]
    with pytest.raises(WorkerError, match="base: its worker was ended after"):
        run_workers(starts, min(allowed), JOB, None)
    assert [each.returncode for each in started] == [-signal.SIGKILL] * 2
    for each in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(each.pid, os.WNOHANG)
    assert os.sched_getaffinity(0) == allowed


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no such thing')", "head: its worker left no outcome: no such thing"),
        ("import os; os._exit(3)", "head: its worker left no outcome: it printed nothing"),
        (
            "import json, sys; e = json.load(sys.stdin); o = {'status': 'crashed', 'message': 'deliberate'}\n"
            "open(e['outcome_path'], 'w').write(json.dumps(o))",
            "head: crashed: deliberate",
        ),
    ],
)
def test_a_worker_that_fails_is_named_with_its_reason(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(WorkerError) as caught:
        worker(tmp_path, code)
    assert str(caught.value) == message


def test_a_worker_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing_net, "WORKER_SECONDS", 0.2)
    with pytest.raises(WorkerError, match="its worker was ended after"):
        worker(tmp_path, "import time; time.sleep(600)")


def commit(paired_name: str, cpu_seconds: float, speeds: str = "mnist-cnn 1.0\n") -> dict[str, str]:
    """A cnnbench with made-up workers, whose paired one has that module name."""
    return {
        "cnnbench/__init__.py": "",
        "cnnbench/engine/__init__.py": "",
        f"cnnbench/engine/{paired_name}.py": FAKE_ARM,
        "cnnbench/engine/worker.py": FAKE_WORKER,
        "cpu-seconds": str(cpu_seconds),
        "fake-arm": speeds,
    }


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a repository of these commits, which the net then compares revisions of."""

    def make(*commits: dict[str, str]) -> Path:
        repository(tmp_path / "toy", *commits)
        monkeypatch.setattr(timing_net, "ROOT", tmp_path / "toy")
        monkeypatch.setattr(timing_net, "ROUNDS", 3)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("CNNBENCH_DATA", raising=False)
        return tmp_path / "toy"

    return make


def test_a_slower_revision_is_found_across_a_renamed_module_in_each_time_that_it_slows(
    toy: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Head's timed loop takes 5/4 as long, its reference steps 9/8, its tuned ones as long: ratios 0.8, 0.8889 and 1."""
    folder = toy(commit("turns", 0.04), commit("paired_worker", 0.05, "mnist-cnn 1.125\ntuned 1.0\n"))
    output = tmp_path / "net.json"
    arguments = ["--base", "HEAD~1", "--pairs", "6", "--seed", "1", "-o", str(output)]
    assert timing_net.main(arguments) == ExitCode.FINDING
    saved = json.loads(output.read_text())
    found = {each["figure"]: each for each in saved["estimates"]}
    expected = {"timed loop": 0.8, "reference step": 8 / 9, "tuned step": 1.0}
    assert {name: found[name]["ratio"] for name in expected} == pytest.approx(expected)
    outcomes = {name: found[name]["outcome"] for name in expected}
    assert outcomes == {"timed loop": "differs", "reference step": "differs", "tuned step": "same"}
    assert [each["pairs"] for each in saved["estimates"]] == [6] * 5
    commits = (saved["base"]["commit"], saved["head"]["commit"])
    assert commits == (git(folder, "rev-parse", "HEAD~1"), git(folder, "rev-parse", "HEAD"))
    said = capfd.readouterr().out
    assert "DIFFERS: " in said
    assert "timed loop         6   0.8000" in said
    assert worktrees(folder) == 0


def test_both_workers_of_a_pair_run_at_the_same_time_on_one_core(
    toy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other, so one after the other would fail. The warm-up and two pairs are three meetings."""
    toy(commit("turns", 0.04))
    meeting, output, allowed = tmp_path / "meeting", tmp_path / "net.json", os.sched_getaffinity(0)
    monkeypatch.setenv("FAKE_MEETING", str(meeting))
    assert timing_net.main(["--base", "HEAD", "--pairs", "2", "-o", str(output)]) == ExitCode.INCONCLUSIVE
    came = [json.loads(line) for line in meeting.read_text().splitlines()]
    cores = [pair["raw"]["core"] for pair in json.loads(output.read_text())["pairs"] if pair["kind"] == "worker"]
    assert len(came) == 6
    assert came[2:] == [[cores[0]], [cores[0]], [cores[1]], [cores[1]]]
    assert came[0] == came[1]
    assert len(came[0]) == 1
    assert os.sched_getaffinity(0) == allowed


def test_each_core_that_may_be_used_is_drawn_for_some_pair_and_again_by_the_same_seed() -> None:
    numbers = range(50 * len(os.sched_getaffinity(0)))
    drawn = [timing_net.draw_core(1, number) for number in numbers]
    assert set(drawn) == os.sched_getaffinity(0)
    assert drawn == [timing_net.draw_core(1, number) for number in numbers]


def test_the_working_tree_is_compared_as_it_is(toy: Callable[..., Path], tmp_path: Path) -> None:
    folder = toy(commit("turns", 0.04))
    (folder / "cpu-seconds").write_text("0.08")
    output = tmp_path / "net.json"
    timing_net.main(["--base", "HEAD", "--pairs", "2", "-o", str(output)])
    saved = json.loads(output.read_text())
    assert [pair["log_ratios"]["timed loop"] for pair in saved["pairs"] if pair["kind"] == "worker"] == [
        math.log(2)
    ] * 2
    assert git(folder, "status", "--porcelain") == "M cpu-seconds"


@pytest.mark.parametrize(
    ("head", "code", "message"),
    [
        ({**commit("turns", 0.04), "fake-arm": "mnist-cnn less-work\n"}, 3, "did not do the same work: images: "),
        (commit("some_other_name", 0.04), 3, "head: its cnnbench/engine has none of paired_worker, turns"),
        ({**commit("turns", 0.04), "fake-arm": "mnist-cnn crash\n"}, 5, "head: crashed: "),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_ends_with_a_line_and_its_exit_code(
    toy: Callable[..., Path], capfd: pytest.CaptureFixture[str], head: dict[str, str], code: int, message: str
) -> None:
    folder = toy(commit("turns", 0.04), head)
    assert timing_net.main(["--base", "HEAD~1", "--head", "HEAD", "--pairs", "1"]) == code
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert worktrees(folder) == 0


def test_an_unknown_revision_is_named(toy: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    toy(commit("turns", 0.04))
    assert timing_net.main(["--base", "nosuch"]) == 2
    assert "error: --base 'nosuch' is not a revision of" in capfd.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--pairs", "0"], ["--pairs", "33"], ["--minutes", "0"], ["--minutes", "nan"], ["--nosuch"]]
)
def test_wrong_options_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        timing_net.main(["--base", "HEAD", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.slow("real workers")
def test_a_revision_and_itself_are_measured_with_real_workers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pairs of each kind give no exact interval: inconclusive, never passed. All times are there, nothing is left behind."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a git checkout: there are no revisions")
    before = worktrees(root)
    monkeypatch.setattr(timing_net, "ROUNDS", 3)
    output = tmp_path / "net.json"
    assert (
        timing_net.main(["--base", "HEAD", "--head", "HEAD", "--pairs", "2", "--minutes", "60", "-o", str(output)]) == 4
    )
    saved = json.loads(output.read_text())
    assert [(pair["kind"], pair["number"]) for pair in saved["pairs"]] == [
        (kind, number) for number in (1, 2) for kind in ("worker", "turns")
    ]
    names = ["worker path", "timed loop", "reference step", "tuned step", "paired turn"]
    assert [(each["figure"], each["pairs"]) for each in saved["estimates"]] == [(name, 2) for name in names]
    assert all(0.1 < each["ratio"] < 10 for each in saved["estimates"])
    assert "INCONCLUSIVE" in capfd.readouterr().out
    assert worktrees(root) == before
