"""Paired checks with real workers, a few short blocks each. Slow: each worker imports torch."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
from builders import machine
from junitparser import Failure, JUnitXml
from pair_builders import run_check, side
from test_revisions import git

from cnnbench.paired_protocol import Arm
from cnnbench.regression import check_record
from cnnbench.regression.arms import Workers, identify_arms, pair_jobs
from cnnbench.regression.check_record import CheckHeader, CheckRecord
from cnnbench.regression.decision import GEOMETRIC_MEAN, Decision
from cnnbench.regression.design import CheckPlan, Look
from cnnbench.runner.paired import PairDesign, calibrate_injections, measure_pair
from cnnbench.runner.revisions import find_repository, open_checkouts
from cnnbench.schema import Job

pytestmark = pytest.mark.slow("real workers")

ROOT = Path(__file__).parents[1]
JOB = Job(
    workload="mnist-cnn", workload_version=1, batch_size=16, optimizer="rmsprop", init="truncated-0.1",
    data="synthetic", split="train-60000", threads=1, warmup_steps=2, final_evaluation=False,
)  # fmt: skip
SHORT = CheckPlan(tolerance=0.1, looks=(Look(4, 0.07),), pass_alpha=0.07, confirm_blocks=4, confirm_alpha=0.07)
"""Four blocks all above the tolerance are suspect (1 of 16), four fresh ones confirm; a machine under load will do."""


def header(again: dict[Arm, dict[int, float]]) -> CheckHeader:
    return CheckHeader(
        check_id="c1",
        created_at="2026-03-01T12:00:00+00:00",
        cnnbench="0",
        suite="short",
        suite_digest="0",
        machine=machine(),
        base=side(),
        head=side(),
        jobs={0: JOB},
        head_jobs={0: JOB},
        names={0: "mnist-cnn/cpu"},
        rounds=12,
        steps_per_turn=4,
        seed=1,
        plan=SHORT,
        limits=None,
        again=again,
    )


def checked(tmp_path: Path, share: float) -> CheckRecord:
    """A check of this cnnbench against itself, with that share of head's step run again."""
    jobs = {"base": {0: JOB}, "head": {0: JOB}}
    with open_checkouts(tmp_path / "arms", None, {}) as places:
        pythons = {"base": sys.executable, "head": sys.executable}
        workers = Workers(places, pythons, jobs, None)  # type: ignore[arg-type]
        plain = PairDesign(jobs=jobs, seed=1, rounds=12, steps_per_turn=4)  # type: ignore[arg-type]
        again = calibrate_injections(plain, workers.start, share)[0].again if share else 0.0
        design = PairDesign(jobs=jobs, seed=1, rounds=12, steps_per_turn=4, injected={"head": {0: again}})  # type: ignore[arg-type]
        start = header({"head": {0: again}} if share else {})
        with check_record.begin_journal(tmp_path / "check.json", start) as journal:
            return run_check(
                journal,
                start,
                (),
                lambda number, wanted: measure_pair(design, workers.start, number, wanted.stage, wanted.jobs),
            )


def test_a_suite_against_itself_does_not_regress(tmp_path: Path) -> None:
    record = checked(tmp_path, 0.0)
    assert record.ending.outcome in ("pass", "improved", "inconclusive"), record.ending
    (job,) = record.blocks[0].base.values()
    assert len(job.step_seconds) == 12
    assert {len(turn) for turn in job.step_seconds} == {3}
    assert job.work.images == 12 * 4 * 16
    assert record.blocks[0].base[0].work.first_losses == record.blocks[0].head[0].work.first_losses


def test_half_a_step_more_of_real_work_regresses(tmp_path: Path) -> None:
    record = checked(tmp_path, 0.5)
    assert record.ending.outcome == Decision.REGRESSED, record.ending
    estimate = record.ending.verdict["findings"][0]["estimate"]  # type: ignore[index]
    assert math.expm1(estimate) == pytest.approx(0.5, abs=0.25)


TOY = '''
"""A workload of a package of its own."""

from cnnbench.workloads import Workload
from cnnbench.workloads.flops import Dense, Flatten, Relu


class Toy(Workload):
    def build(self, init, seed):
        import torch

        net = super().build(init, seed)
        REGISTER
        return net


WORKLOAD = Toy(
    name="toy", version=1, title="toy", kind="training", layers=(Flatten(), Dense(WIDTH), Relu(), Dense(10)),
    input_shape=(1, 28, 28), classes=10, optimizers=("rmsprop",), inits=("truncated-0.1",),
)
'''
SLOWER = (
    "net.register_forward_hook(lambda *_: [torch.randn(400, 400) @ torch.randn(400, 400) for _ in range(8)] and None)"
)
TOY_SUITE = """
description = "toy and product"
[[job]]
workload = "toy"
data = "synthetic"
batch_size = 32
threads = 1
warmup_steps = 2
[[job]]
workload = "gemm"
size = 256
threads = 1
warmup_steps = 2
"""


def toy_repository(folder: Path) -> Path:
    """A package with one workload; its second commit does real extra work in every forward pass."""
    folder.mkdir()
    info = folder / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cnnbench.workloads]\ntoy = toy:WORKLOAD\n")
    git(folder, "init", "-q", "-b", "main")
    for extra in ("pass", SLOWER):
        (folder / "toy.py").write_text(TOY.replace("REGISTER", extra).replace("WIDTH", "32"))
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", extra[:4])
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cnnbench", *map(str, arguments)]


def environment(folder: Path, cache: Path) -> dict[str, str]:
    search = os.pathsep.join([str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": search, "XDG_CACHE_HOME": str(cache)}


SPARE = ("--rounds", 6, "--steps-per-turn", 3, "--keep-disturbed", "--no-profile")


def test_two_commits_that_differ_in_one_workload_are_told_apart_and_no_other_job_is_named(tmp_path: Path) -> None:
    """Several times the work in `toy`, none in the product: REGRESSED for toy (and the mean over both), for no other job."""
    toy = toy_repository(tmp_path / "toy")
    (tmp_path / "toy.toml").write_text(TOY_SUITE)
    path, junit = tmp_path / "check.json", tmp_path / "check.xml"
    arguments = (
        "check",
        tmp_path / "toy.toml",
        "--base",
        "HEAD~1",
        "--head",
        "HEAD",
        "--tolerance",
        "50%",
        *SPARE,
        "-o",
        path,
        "--junit",
        junit,
    )
    done = subprocess.run(
        command(*arguments),
        cwd=toy,
        env=environment(toy, tmp_path / "cache"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    findings = check_record.load_record(path).ending.verdict["findings"]  # type: ignore[index]
    regressed = {each["series"]["job"] for each in findings if each["decision"] == "regressed"}
    assert regressed - {GEOMETRIC_MEAN} == {"toy/cpu"}
    suites = JUnitXml.fromfile(str(junit))
    failing = {each.name for each in suites for case in each if any(isinstance(r, Failure) for r in case.result)}
    assert failing == {f"{job}: median step" for job in regressed}
    assert git(toy, "worktree", "list").count("\n") == 0


def test_kill_9_leaves_no_process_and_the_next_start_no_worktree(tmp_path: Path) -> None:
    toy = toy_repository(tmp_path / "toy")
    (tmp_path / "toy.toml").write_text(TOY_SUITE)
    cache, path = tmp_path / "cache", tmp_path / "check.json"
    arguments = ("check", tmp_path / "toy.toml", "--base", "HEAD~1", "--head", "HEAD", *SPARE, "-o", path)
    parent = subprocess.Popen(command(*arguments), cwd=toy, env=environment(toy, cache), stderr=subprocess.PIPE)
    deadline, family = time.monotonic() + 240, []
    while not (len(family) == 2 and check_record.journal_path(path).exists()):
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.1)
        family = processes.descendants(parent.pid, "cnnbench.engine.turns")
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 30
    while any(processes.lives(each.pid) for each in family):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    assert git(toy, "worktree", "list").count("\n") == 2
    with open_checkouts(cache / "cnnbench" / "arms", find_repository(toy), {}):
        assert git(toy, "worktree", "list").count("\n") == 0


def test_both_arms_run_this_package_where_no_revision_is_named(tmp_path: Path) -> None:
    """And say so themselves: what they imported, and on which torch."""
    from cnnbench.regression.arms import ArmSpec

    pair = pair_jobs([JOB], {}, {"threads": "1"}, 2)
    assert pair.declared == ()
    wishes: dict[Arm, ArmSpec] = {arm: ArmSpec(sys.executable, None, {}) for arm in ("base", "head")}
    with open_checkouts(tmp_path / "arms", None, {}) as places:
        pythons: dict[Arm, str] = {"base": sys.executable, "head": sys.executable}
        sides = identify_arms(Workers(places, pythons, {"base": pair.base, "head": pair.head}, None), wishes)
    assert sides["base"].software == sides["head"].software
    assert "MALLOC_TRIM_THRESHOLD_" in sides["base"].environment
