"""The plan: pure, interleaved, seeded. Round after round every cell once, the same seed within a round, another in the next."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from builders import CPU, GPU, machine
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.errors import UsageError
from cnnbench.naming import describe_job
from cnnbench.plan.matrix import make_plan, round_seeds
from cnnbench.plan.suite import Suite, find_suite, load_suite, suite_names
from cnnbench.schema import Job

seeds = st.integers(0, 2**31 - 1)
shipped = st.lists(st.sampled_from(suite_names()), min_size=1, max_size=4)


def plan(*suites: Suite | str, devices: Any = (CPU, GPU), **options: Any) -> tuple[Job, ...]:
    loaded = [suite if isinstance(suite, Suite) else load_suite(find_suite(suite)) for suite in suites]
    return make_plan(loaded, machine(gpus=[GPU]), devices, **({"data_kind": "mnist", "seed": 1} | options))


def suite(folder: Path, text: str, name: str = "x") -> Suite:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return load_suite(path)


def cell(job: Job) -> str:
    return job.row_key


def rounds(jobs: tuple[Job, ...]) -> list[list[Job]]:
    last = max((job.round for job in jobs), default=-1)
    return [[job for job in jobs if job.round == number] for number in range(last + 1)]


@given(shipped, seeds, st.integers(1, 6))
def test_the_same_suites_machine_and_seed_give_the_same_plan(names: list[str], seed: int, repeats: int) -> None:
    assert plan(*names, seed=seed, repeats=repeats) == plan(*names, seed=seed, repeats=repeats)


@given(shipped, seeds, st.integers(1, 6))
def test_rounds_follow_each_other_and_each_is_a_permutation_of_the_cells(
    names: list[str], seed: int, repeats: int
) -> None:
    jobs = plan(*names, seed=seed, repeats=repeats)
    assert [job.round for job in jobs] == sorted(job.round for job in jobs)
    cells = {cell(job) for job in jobs}
    for each in rounds(jobs):
        assert Counter(map(cell, each)) == Counter(cells)
    assert len(rounds(jobs)) == repeats


@given(shipped, seeds, st.integers(2, 8))
def test_cells_of_a_round_share_a_seed_that_no_other_round_has(names: list[str], seed: int, repeats: int) -> None:
    found = [{job.seed for job in each} for each in rounds(plan(*names, seed=seed, repeats=repeats))]
    assert all(len(each) == 1 for each in found)
    assert len(set.union(*found)) == repeats


@given(seeds, st.integers(1, 50), st.integers(0, 50))
def test_a_rounds_seed_does_not_depend_on_how_many_rounds_follow(seed: int, few: int, more: int) -> None:
    many = round_seeds(seed, few + more)
    assert many[:few] == round_seeds(seed, few)
    assert len(set(many)) == few + more


def test_the_order_is_drawn_anew_for_each_round_and_from_the_seed() -> None:
    orders = {tuple(map(cell, each)) for each in rounds(plan("standard", repeats=8))}
    assert len(orders) > 1
    assert [cell(job) for job in plan("standard", seed=1)] != [cell(job) for job in plan("standard", seed=2)]


@given(shipped, seeds)
def test_a_cell_that_two_suites_share_is_planned_once(names: list[str], seed: int) -> None:
    once = plan(*dict.fromkeys(names), seed=seed)
    assert plan(*names, *names, seed=seed) == once
    assert len({(cell(job), job.round) for job in once}) == len(once)


def test_a_cell_given_twice_in_one_suite_is_planned_once_and_for_the_longer_of_two_suites(tmp_path: Path) -> None:
    gemm = '[[job]]\nworkload = "gemm"\nsize = [64, 64, 128]\n'
    three, five = suite(tmp_path, f"repeats = 3\n{gemm}{gemm}", "a"), suite(tmp_path, f"repeats = 5\n{gemm}", "b")
    assert len(plan(three, devices=[CPU])) == 6
    assert len(plan(three, five, devices=[CPU])) == 10


def test_rounds_are_the_suites_unless_repeats_says_otherwise() -> None:
    assert len(plan("lecture", devices=[CPU])) == 1
    assert len(plan("lecture", devices=[CPU], repeats=4)) == 4
    both = plan("lecture", "quick", devices=[CPU])
    assert Counter(job.clock for job in both) == {"job": 1, "steady": 3 + 3 + 8}


def test_a_job_may_have_repeats_of_its_own_unless_the_command_line_says_otherwise(tmp_path: Path) -> None:
    text = "repeats = 4\n" + "".join(f'[[job]]\nworkload = "gemm"\nsize = {8 * n}\n' for n in (1, 2))
    own = suite(tmp_path, f"{text}repeats = 2\n")
    for planned, expected in (
        (plan(own, devices=[CPU]), {8: 4, 16: 2}),
        (plan(own, devices=[CPU], repeats=3), {8: 3, 16: 3}),
        (plan(load_suite(own.path, {"repeats": 1}), devices=[CPU]), {8: 1, 16: 1}),
    ):
        assert Counter(job.size for job in planned) == expected
        assert {job.round for job in planned if job.size == 16} == set(range(expected[16]))


def test_threads_are_all_cores_allowed_on_the_cpu_and_torchs_own_on_a_gpu() -> None:
    assert {(job.device, job.threads) for job in plan("quick")} == {("cpu", 8), ("cuda:0", None)}
    assert {(job.device, job.threads) for job in plan("quick", threads=3)} == {("cpu", 3), ("cuda:0", None)}


def test_a_thread_sweep_is_planned_as_written(tmp_path: Path) -> None:
    sweep = suite(tmp_path, '[[job]]\nworkload = "gemm"\nsize = 64\nthreads = [1, 2, "auto"]\n')
    assert {(job.device, job.threads) for job in plan(sweep)} == {("cpu", 1), ("cpu", 2), ("cpu", 8), ("cuda:0", None)}


def test_data_left_open_becomes_the_kind_at_hand_and_a_kind_named_stays(tmp_path: Path) -> None:
    named = suite(tmp_path, '[[job]]\nworkload = "mnist-cnn"\ndata = ["auto", "mnist"]\n')
    kinds = {kind: {job.data for job in plan(named, data_kind=kind)} for kind in ("mnist", "synthetic")}
    assert kinds == {"mnist": {"mnist"}, "synthetic": {"synthetic", "mnist"}}
    assert {job.data for job in plan(named, data_kind=lambda: "synthetic")} == {"synthetic", "mnist"}
    gemm = suite(tmp_path, '[[job]]\nworkload = "gemm"\nsize = 4\n', "gemm")
    assert {(job.data, job.final_evaluation, job.split) for job in plan(gemm)} == {("random", False, None)}


def test_a_cell_its_device_cannot_do_is_planned_all_the_same(tmp_path: Path) -> None:
    odd = suite(tmp_path, '[[job]]\nworkload = "mnist-cnn"\nprecision = ["fp32", "tf32"]\nlayout = "nhwc"\n')
    assert {job.precision for job in plan(odd, devices=[CPU])} == {"fp32", "tf32"}


@pytest.mark.parametrize("name", ["lecture", "lecture-notebook"])
def test_a_projected_job_is_as_long_does_the_same_steps_and_has_three_processes_of_100(name: str) -> None:
    (whole,) = plan(name, devices=[CPU])
    steady = plan(name, devices=[CPU], project=True)
    assert len(steady) == 3
    for job in steady:
        assert (job.clock, job.job_steps) == ("steady", whole.job_steps)
        assert job.blocks * job.block_steps >= 100
        assert (job.epoch_eval_images, job.stop_when_all_right) == (0, False)
        same = ("batch_size", "order", "init", "optimizer", "extra_forwards", "split", "final_evaluation")
        assert [getattr(job, field) for field in same] == [getattr(whole, field) for field in same]


def test_a_projection_has_enough_steps_whatever_the_blocks(tmp_path: Path) -> None:
    short = suite(tmp_path, '[[job]]\nworkload = "mnist-cnn"\nclock = "job"\nepochs = 1\nblocks = 2\nblock_steps = 7\n')
    assert {job.blocks * job.block_steps for job in plan(short, project=True)} == {105}


def test_projecting_leaves_steady_jobs_alone_and_refuses_too_few_processes() -> None:
    assert plan("quick", project=True) == plan("quick")
    with pytest.raises(UsageError, match="at least 3 processes"):
        plan("lecture", project=True, repeats=2)


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("gemm", lambda job: job.workload == "gemm"),
        ("GEMM 4096", lambda job: job.size == 4096),
        ("not gemm", lambda job: job.workload != "gemm"),
        ("gemm and not cuda:0", lambda job: job.workload == "gemm" and job.device == "cpu"),
        ("size=1024 or size=2048", lambda job: job.size in (1024, 2048)),
        ("init=truncated-0.1 and on cuda", lambda job: job.init is not None and job.device == "cuda:0"),
        ("no such thing", lambda job: False),
    ],
)
def test_a_filter_keeps_whole_cells_by_their_text(expression: str, kept: Any) -> None:
    whole, some = plan("quick"), plan("quick", name_filter=expression)
    assert {cell(job) for job in some} == {cell(job) for job in whole if kept(job)}
    assert len(some) == len([job for job in whole if kept(job)])


@pytest.mark.parametrize("expression", ["", "not", "gemm and", "or gemm", "gemm and and cpu", "not not"])
def test_a_filter_that_lacks_a_text_is_an_error(expression: str) -> None:
    with pytest.raises(UsageError, match="write text to look for"):
        plan("quick", name_filter=expression)


def test_a_jobs_text_names_its_keys_but_neither_round_nor_seed() -> None:
    first, *_ = plan("lecture", devices=[CPU])
    assert describe_job(first).startswith("mnist-cnn b128 fp32 on cpu workload=mnist-cnn ")
    assert "order=sequential" in describe_job(first)
    assert "seed=" not in describe_job(first)
    assert "round" not in describe_job(first)


def test_no_devices_no_jobs() -> None:
    assert plan("quick", devices=()) == ()


def test_a_sweep_of_threads_with_auto_ends_at_the_cores_allowed(tmp_path: Path) -> None:
    """On 6 cores: 1, 2, 4 and auto (6); a single count above them is planned as it stands, for the doubt to say so."""

    def planned(threads: str) -> list[int | None]:
        text = f'description = "t"\nrepeats = 1\n[[job]]\nworkload = "gemm"\nsize = 64\nthreads = {threads}\n'
        jobs = make_plan([suite(tmp_path, text)], machine(cores_allowed=6), [CPU], data_kind="mnist", seed=0)
        return sorted((job.threads for job in jobs), key=lambda threads: threads or 0)

    assert planned('["auto", 1, 2, 4, 8, 16]') == [1, 2, 4, 6]
    assert planned("8") == [8]
    assert planned("[1, 8]") == [1, 8]
