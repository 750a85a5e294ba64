"""Several processes of one job in the plan: what there is room for, what they run on, what is refused beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders as b
import pytest

from cnnbench import naming
from cnnbench.errors import SuiteError, UsageError
from cnnbench.plan import matrix
from cnnbench.plan.matrix import make_plan
from cnnbench.plan.suite import load_suite
from cnnbench.regression.arms import pair_jobs
from cnnbench.runner.launch import LaunchOptions, build_environment
from cnnbench.runner.run import PendingJob, complete_options
from cnnbench.schema import Device, Job, Machine, RunHeader

HEAD = 'repeats = 1\n[[job]]\nworkload = "mnist-cnn"\n'


def card(number: int, name: str = "NVIDIA Testla T1", **fields: Any) -> Device:
    return Device(id=f"cuda:{number}", kind="cuda", name=name, uuid=f"GPU-{number}", **fields)


def box(cores: int = 4, gpus: tuple[Device, ...] = ()) -> Machine:
    return b.machine(cores_allowed=cores, gpus=gpus)


def plan(
    folder: Path, text: str, machine: Machine, devices: tuple[Device, ...] = (b.CPU,), **options: Any
) -> tuple[Job, ...]:
    path = folder / "x.toml"
    path.write_text(HEAD + ("" if "batch_size" in text else "batch_size = 120\n") + text)
    return make_plan([load_suite(path)], machine, devices, **({"data_kind": "mnist", "seed": 1} | options))


def told(jobs: tuple[Job, ...]) -> set[tuple[Any, ...]]:
    return {(job.device, job.world, job.scaling, job.batch_size, job.threads) for job in jobs}


def test_strong_scaling_keeps_the_batch_and_weak_the_share(tmp_path: Path) -> None:
    """One process is the same job in both, and is planned once."""
    jobs = plan(tmp_path, 'world = [1, 2, "all"]\nscaling = ["strong", "weak"]\nthreads = 1\n', box(4))
    assert told(jobs) == {
        ("cpu", 1, None, 120, 1),
        ("cpu", 2, "strong", 120, 1),
        ("cpu", 2, "weak", 240, 1),
        ("cpu", 4, "strong", 120, 1),
        ("cpu", 4, "weak", 480, 1),
    }
    assert {job.rank_batch for job in jobs if job.scaling == "weak"} == {120}
    assert len(jobs) == 5


def test_ranks_share_the_cores_out(tmp_path: Path) -> None:
    """With nothing said, the threads of a rank are the cores over the ranks; strong is what is meant."""
    assert told(plan(tmp_path, "world = [1, 2, 3]\n", box(7))) == {
        ("cpu", 1, None, 120, 7),
        ("cpu", 2, "strong", 120, 3),
        ("cpu", 3, "strong", 120, 2),
    }


def test_one_process_is_the_job_it_always_was(tmp_path: Path) -> None:
    """Its key has no word of ranks, so what was measured before there were any stays its row."""
    (job,) = plan(tmp_path, "world = 1\n", box())
    plain = plan(tmp_path, "", box())
    assert (job,) == plain
    assert not {"world", "scaling", "nodes", "copies"} & {
        word.strip('"') for word in job.row_key.replace(":", ",").split(",")
    }
    several = job.model_copy(update={"world": 2, "scaling": "strong"})
    assert several.work_key != job.work_key


def test_a_sweep_with_all_ends_at_what_there_is(tmp_path: Path) -> None:
    assert {job.world for job in plan(tmp_path, 'world = [1, 2, 8, "all"]\nthreads = 1\n', box(2))} == {1, 2}
    assert {job.world for job in plan(tmp_path, 'world = [1, "all"]\n', box(1))} == {1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("world = 8\n", "8 ranks on cpu need 8 cores, this process may use 4"),
        ("world = 4\nthreads = 2\n", "4 ranks of 2 threads on cpu need 8 cores, this process may use 4"),
        ("world = 2\nbatch_size = 121\n", "batch_size 121 cannot be split evenly over 2 ranks"),
        ('world = 4\nbatch_size = 20000\nscaling = "weak"\n', "batch_size 80000 of 4 ranks together is more than"),
    ],
)
def test_more_than_there_is_room_for_is_refused_before_anything_runs(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"x: {words}"):
        plan(tmp_path, text, box(4))
    assert plan(tmp_path, text, box(4), name_filter="not ranks") == ()


def test_threads_of_the_command_line_must_fit_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 ranks of 3 threads on cpu need 6 cores"):
        plan(tmp_path, "world = 2\n", box(4), threads=3)


def test_a_job_of_several_gpus_is_planned_once_and_on_equal_ones(tmp_path: Path) -> None:
    """For the first of its name; one process is planned on each."""
    cards = (card(0), card(1, "NVIDIA Other"), card(2), card(3, usable=False), card(4))
    jobs = plan(tmp_path, 'world = [1, 2, 3, 4, "all"]\n', box(8, cards), cards)
    assert {(job.device, job.world) for job in jobs} == {
        *((each.id, 1) for each in cards),
        *(("cuda:0", world) for world in (2, 3)),
    }
    three = next(job for job in jobs if job.world == 3)
    devices = matrix.select_devices(three, cards)
    assert [device.id for device in devices] == ["cuda:0", "cuda:2", "cuda:4"]
    environment = build_environment(three, cards[0], devices)
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-2,GPU-4"
    with pytest.raises(UsageError, match="4 ranks on cuda:0 need as many devices of one name, there are 3"):
        plan(tmp_path, "world = 4\n", box(8, cards), cards)


def test_each_process_gets_a_device_of_those_that_the_run_was_to_use() -> None:
    """By UUID, for its telemetry, and by the machine's own name, for the record."""
    cards = tuple(card(number) for number in range(4))
    job = b.cnn_job(device="cuda:1", world=2, scaling="strong")
    header = b.header(machine=box(8, cards)).model_copy(update={"options": {"device": "cuda:1,cuda:3"}})

    def list_devices(job: Job, header: RunHeader) -> list[str]:
        return [device.id for device in complete_options(LaunchOptions(), PendingJob(0, 1, job), header).devices]

    assert list_devices(job, header) == ["cuda:1", "cuda:3"]
    assert list_devices(job, b.header(machine=box(8, cards))) == ["cuda:1", "cuda:2"]
    assert list_devices(b.cnn_job(world=2, scaling="strong"), header) == []


def test_a_kind_of_device_that_nothing_exchanges_gradients_on_has_one_rank(tmp_path: Path) -> None:
    apple = Device(id="mps", kind="mps", name="Apple M9")
    assert {job.world for job in plan(tmp_path, 'world = [1, 2, "all"]\n', box(), (apple,))} == {1}
    with pytest.raises(UsageError, match="2 ranks on mps need as many devices of one name, there is 1"):
        plan(tmp_path, "world = 2\n", box(), (apple,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('world = "most"\n', "world 'most' must be a whole number from 1 to 65536 or 'all'"),
        ("world = 0\n", "world 0 must be a whole number"),
        ('scaling = "weak"\n', "scaling 'weak' needs world"),
        ('world = 2\nscaling = "middling"\n', "scaling 'middling' is not one of strong, weak"),
        ('world = 2\ntask = "inference"\n', "world 2 needs task 'training', not 'inference'"),
        ('world = 2\ndivision = "tuned"\n', "world 2 needs division 'reference', not 'tuned'"),
        ('world = 2\nexecution = "compiled"\n', "world 2 needs execution 'eager', not 'compiled'"),
        ('world = 2\nclock = "job"\nepochs = 1\n', "world 2 needs clock 'steady', not 'job'"),
        ('world = 2\nscaling = "weak"\nepochs = 1\n', "scaling 'weak' has no whole job"),
    ],
)
def test_what_ranks_cannot_do_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SuiteError) as caught:
        plan(tmp_path, text, box())
    assert words in str(caught.value)


def test_a_product_has_no_ranks(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[[job]]\nworkload = "gemm"\nsize = 64\nworld = 2\n')
    with pytest.raises(SuiteError, match="world 2: gemm takes no world"):
        load_suite(path)


def test_ranks_are_in_the_words_of_a_job() -> None:
    """In progress lines, in what `-k` looks in, in tables: no two kinds of work read alike."""
    job = b.cnn_job(world=2, scaling="weak", batch_size=256, threads=1)
    assert naming.process_label(job) == "mnist-cnn b256 2 ranks weak fp32 on cpu, round 1"
    assert naming.place_label(job) == "cpu, 2 ranks, 1 thread"
    works = {
        naming.work_label(job.model_copy(update=each))
        for each in ({}, {"scaling": "strong"}, {"world": 4}, {"world": 1})
    }
    assert len(works) == 4
    assert "2 ranks" in naming.work_label(job)
    assert "weak scaling · 128 per rank" in naming.work_label(job)


def test_an_arm_of_the_regression_check_is_one_process() -> None:
    """Ranks cannot take turns inside it, so such a job is refused before anything runs, with the way to leave it out."""
    ranks = b.cnn_job(world=2, scaling="strong", threads=1)
    with pytest.raises(UsageError, match="2 ranks strong fp32 on cpu, round 1: an arm is one process"):
        pair_jobs([ranks], {}, {}, 8)
    assert pair_jobs([b.cnn_job()], {}, {}, 8).base
