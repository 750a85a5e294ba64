"""Several processes of one job: every image in exactly one share, every core in exactly one group, and figures that add up."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import builders as b
import pytest
import torch

from cnnbench import validity, workloads
from cnnbench.analysis.metrics import compute_metrics
from cnnbench.engine.batches import (
    Batch,
    BatchSource,
    InMemoryBatches,
    LoaderBatches,
    RandomBatches,
    Shard,
    TrainingSetup,
)
from cnnbench.engine.distributed import group, launcher, rank
from cnnbench.engine.distributed.launcher import reduce_outcomes
from cnnbench.errors import UnsupportedError
from cnnbench.schema import Canary, Communication, Energy, Job, Memory, Outcome, Rank, Telemetry, Trial, WorkerInput

CPU = torch.device("cpu")
IMAGES = torch.arange(40.0).reshape(40, 1, 1, 1)
LABELS = torch.arange(40)


def feed(kind: str, share: Shard) -> BatchSource:
    """Batches of 12 of 40 images: 3 an epoch, the rest of 4 left out."""
    order = "shuffled" if kind.endswith("shuffled") else "sequential"
    asked = setup(share, batch_size=12, seed=3, order=order, layout="nchw", loader_workers=0)
    if kind == "random":
        return RandomBatches(replace(asked, workload=replace(asked.workload, input_shape=(3, 2, 2), classes=10)))
    return (LoaderBatches if kind.startswith("loader") else InMemoryBatches)(asked, IMAGES, LABELS)


def setup(share: Shard, **fields: object) -> TrainingSetup:
    return TrainingSetup(b.cnn_job(**fields), workloads.get("mnist-cnn"), None, CPU, share)


@pytest.mark.parametrize("kind", ["resident", "resident shuffled", "loader", "loader shuffled", "random"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_shares_of_a_batch_put_together_are_the_batch_that_one_process_draws(kind: str, ranks: int) -> None:
    """Over epochs, and again after a restart: no image twice, none left out, the order kept."""
    whole, shares = feed(kind, Shard()), [feed(kind, Shard(part, ranks)) for part in range(ranks)]

    def same(batches: list[Batch]) -> None:
        images, labels = whole.draw()
        assert torch.equal(images, torch.cat([each[0] for each in batches]))
        assert torch.equal(labels, torch.cat([each[1] for each in batches]))

    for _ in range(2):
        for _ in range(7):
            same([each.draw() for each in shares])
        assert [each.images_drawn for each in shares] == [7 * 12 // ranks] * ranks
        whole.restart()
        for each in shares:
            each.restart()


def test_a_share_of_a_batch_in_order_is_a_view_and_no_copy() -> None:
    """Of the resident images: a rank's as one process's."""
    part = InMemoryBatches(setup(Shard(1, 2), batch_size=12, order="sequential"), IMAGES, LABELS).draw()[0]
    assert part.data_ptr() == IMAGES[6:].data_ptr()


def topology(folder: Path, places: dict[int, tuple[int, int]]) -> Path:
    """A kernel's word on where each core lies: (package, core of it)."""
    for number, (package, core) in places.items():
        (folder / f"cpu{number}" / "topology").mkdir(parents=True)
        (folder / f"cpu{number}" / "topology" / "physical_package_id").write_text(f"{package}\n")
        (folder / f"cpu{number}" / "topology" / "core_id").write_text(f"{core}\n")
    return folder


def test_the_two_threads_of_a_core_are_in_one_group(tmp_path: Path) -> None:
    """Four cores of two threads each, numbered as kernels do: first threads first."""
    sys = topology(tmp_path, {n: (0, n % 4) for n in range(8)})
    assert rank.split_cores(range(8), 2, sys=sys) == [[0, 4, 1, 5], [2, 6, 3, 7]]
    assert rank.split_cores(range(8), 3, sys=sys) == [[0, 4], [1, 5], [2, 6]]


def test_packages_are_not_mixed_and_without_a_kernels_word_numbers_decide(tmp_path: Path) -> None:
    sys = topology(tmp_path, {0: (0, 0), 1: (1, 0), 2: (0, 1), 3: (1, 1)})
    assert rank.split_cores({3, 1, 0, 2}, 2, sys=sys) == [[0, 2], [1, 3]]
    assert rank.split_cores({5, 9, 7}, 3, sys=tmp_path / "none") == [[5], [7], [9]]
    with pytest.raises(ValueError, match="4 processes need 4 cores, this process may use 3"):
        rank.split_cores({5, 9, 7}, 4, sys=tmp_path / "none")


def test_ranks_on_gpus_exchange_through_nccl_and_wait_through_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its own card; torch's calls are faked, for there is no card here."""
    calls: list[tuple[str, object]] = []

    def init(backend: str, **options: object) -> None:
        calls.append((backend, options.get("device_id")))

    monkeypatch.setattr(group.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(group.distributed, "init_process_group", init)
    monkeypatch.setattr(group.distributed, "new_group", lambda backend, timeout: f"group of {backend}")
    monkeypatch.setattr(group.distributed, "get_rank", lambda: 3)
    monkeypatch.setattr(group.distributed, "get_world_size", lambda: 4)
    job = b.cnn_job(device="cuda:0", world=4, nodes=2, scaling="strong")
    ranks = group.join(job, 1, "cuda:5")
    assert calls == [("nccl", torch.device("cuda", 1))]
    assert (ranks.rank, ranks.local, ranks.world, ranks.control) == (3, 1, 4, "group of gloo")
    assert ranks.share == Shard(3, 4)
    (own,) = ranks.with_rank_record(rank_trial(3, (1.0,)), "ab").ranks
    assert (own.rank, own.node, own.place) == (3, 1, "cuda:5")
    copies = group.join(job.model_copy(update={"world": 1, "nodes": 1, "copies": 4}), 1, "cuda:5")
    assert calls[1:] == [("gloo", None)], "copies exchange nothing"
    assert copies.share == Shard()
    monkeypatch.setattr(group.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(UnsupportedError, match="without NCCL"):
        group.join(job, 1, "cuda:5")
    with pytest.raises(UnsupportedError, match="4 processes on xpu"):
        group.join(job.model_copy(update={"device": "xpu:0"}), 0, "xpu:0")


def test_a_rank_is_told_its_own_card_and_only_the_first_writes_for_tensorboard() -> None:
    given = WorkerInput(
        job=b.cnn_job(device="cuda:0", world=2, scaling="strong"), outcome_path="x", parent_pid=1, spawn_monotonic_ns=5,
        device_uuid="GPU-0", device_uuids=("GPU-0", "GPU-7"), tensorboard_dir="board",
    )  # fmt: skip
    first, second = (launcher._rank_envelope(given, local, 9) for local in (0, 1))
    assert (first.device_uuid, second.device_uuid) == ("GPU-0", "GPU-7")
    assert (first.tensorboard_dir, second.tensorboard_dir) == ("board", None)
    assert {each.parent_pid for each in (first, second)} == {os.getpid()}
    assert (second.spawn_monotonic_ns, second.launcher_ns) == (5, 9)


JOB = b.cnn_job(world=2, scaling="strong", threads=1, blocks=3, block_steps=10, batch_size=128, final_evaluation=False)


def rank_trial(rank: int, blocks: tuple[float, ...], job: Job = JOB, **fields: object) -> Trial:
    """A rank's, or a copy's, as it accounts for itself."""
    steps = len(blocks) * job.block_steps
    memory = Memory(host_peak_bytes=(rank + 1) * 1000, host_method="VmHWM")
    own = Rank(
        rank=rank,
        place=f"cores {rank}",
        block_seconds=blocks,
        images=steps * job.rank_batch,
        memory=memory,
        weights="ab",
    )
    known = {
        "block_seconds": blocks, "steps_per_block": job.block_steps, "steps": steps, "images": steps * job.rank_batch,
        "cold_start_seconds": 3.0 + rank, "phases": {"launch": 1.0 + rank}, "losses": (2.0 + rank, 1.0 + rank),
        "minor_faults": 5 * rank, "cpu_seconds": 1.5, "memory": memory, "ranks": (own,), "test": None,
        "settings": {"affinity": str(rank), "threads": "1"},
    }  # fmt: skip
    return Trial(**(known | fields))  # type: ignore[arg-type]


def together(first: Trial, second: Trial, job: Job = JOB) -> Trial:
    outcome = reduce_outcomes(job, [Outcome(status="ok", trial=first), Outcome(status="ok", trial=second)])
    assert outcome.status == "ok"
    assert outcome.trial is not None
    return outcome.trial


def test_of_ranks_a_block_is_the_slowest_ones_and_images_are_added_up() -> None:
    """Throughput is the sum: all images over the slowest rank's time."""
    trial = together(rank_trial(0, (1.0, 2.0, 1.0)), rank_trial(1, (1.5, 1.0, 1.0)))
    assert trial.block_seconds == (1.5, 2.0, 1.0)
    assert trial.images == JOB.batch_size * trial.steps
    assert (trial.cold_start_seconds, trial.phases) == (4.0, {"launch": 2.0})
    assert trial.memory.host_peak_bytes == 2000
    assert trial.losses == (2.5, 1.5)
    assert trial.cpu_seconds == 3.0
    assert trial.settings["affinity"] == "0; 1"
    assert validity.find_violations(JOB, trial, 100.0, None, b.machine()) == ()


def test_energy_of_devices_is_added_up_and_of_a_shared_package_is_not() -> None:
    def of(source: str) -> float:
        window = {
            "tick_seconds": 0.1,
            "window_seconds": 10.0,
            "window_steps": 100,
            "idle_seconds": 5.0,
            "idle_joules": 50.0,
        }
        both = [rank_trial(n, (1.0,) * 3, energy=Energy(source=source, window_joules=1000.0, **window)) for n in (0, 1)]
        found = together(*both).energy
        assert found is not None
        return found.window_joules

    assert of("nvml-total-energy") == 2000.0
    assert of("rapl-package") == 1000.0


def reading(joules: float, source: str = "rapl-package") -> Energy:
    return Energy(
        source=source, tick_seconds=0.001, window_seconds=10.0, window_steps=100, window_joules=joules, idle_seconds=5.0,
        idle_joules=50.0,
    )  # fmt: skip


def test_energy_of_packages_is_added_up_over_machines() -> None:
    """Four ranks on two machines, where each rank read the joules of its machine: images are everyone's, so joules are too."""
    job = JOB.model_copy(update={"world": 4, "nodes": 2})
    trials = [rank_trial(n, (1.0,) * 3, job, energy=reading(1000.0 + 500 * (n // 2))) for n in range(4)]
    trials = [
        each.model_copy(update={"ranks": (each.ranks[0].model_copy(update={"node": n // 2}),)})
        for n, each in enumerate(trials)
    ]
    outcome = reduce_outcomes(job, [Outcome(status="ok", trial=each) for each in trials])
    assert outcome.trial is not None
    assert outcome.trial.energy is not None
    assert outcome.trial.energy.window_joules == 2500.0
    assert outcome.trial.energy.idle_joules == 100.0


@pytest.mark.parametrize("second", [None, reading(1000.0, "rapl-package")])
def test_energy_of_some_ranks_is_not_the_jobs(second: Energy | None) -> None:
    """The joules of one over the images of both would be too few; a reading of another kind is of other things."""
    first, other = rank_trial(0, (1.0,) * 3, energy=reading(1000.0, "nvml-total-energy")), rank_trial(1, (1.0,) * 3)
    ranks = tuple(
        each.ranks[0].model_copy(update={"energy": energy}) for each, energy in ((first, first.energy), (other, second))
    )
    first, other = first.model_copy(update={"ranks": ranks[:1]}), other.model_copy(update={"ranks": ranks[1:]})
    trial = together(first, other.model_copy(update={"energy": second}))
    assert trial.energy is None
    found = compute_metrics(JOB, trial)
    assert found is not None
    count = 1 if second is None else 2
    assert found.energy_missing == f"{count} of 2 processes have a reading, or they are of different kinds"


@pytest.mark.parametrize("source", ["rapl-package", "nvml-total-energy"])
def test_a_package_that_copies_share_says_nothing_of_one_of_them(source: str) -> None:
    """Each read the joules of all. A card's counter is the copy's own."""
    job = JOB.model_copy(update={"world": 1, "scaling": None, "copies": 2})
    trials = [rank_trial(n, (1.0 + n,) * 3, job, energy=reading(1000.0 + n, source)) for n in (0, 1)]
    trials = [
        each.model_copy(update={"ranks": (each.ranks[0].model_copy(update={"energy": each.energy}),)})
        for each in trials
    ]
    trial = together(*trials, job)
    found = compute_metrics(job, trial)
    assert found is not None
    if source == "rapl-package":
        assert (trial.energy, found.energy) == (None, None)
        assert found.energy_missing == "rapl-package counts all copies together"
    else:
        assert trial.energy == trials[1].energy
        assert found.energy_missing is None


def test_one_devices_throttling_and_one_devices_canary_are_the_jobs() -> None:
    bird = Canary(
        passed=True, side=1, launches=1, small_seconds=1, large_seconds=8, growth=8, sync_seconds=1, readback_seconds=1,
        copy_seconds=0, rounds=1,
    )  # fmt: skip
    hot = Telemetry(device_throttle_reasons=("thermal",))
    first = rank_trial(0, (1.0,) * 3, canary=bird, telemetry_after=Telemetry())
    second = rank_trial(1, (1.0,) * 3, canary=bird.model_copy(update={"passed": False}), telemetry_after=hot)
    trial = together(first, second)
    assert trial.canary is not None
    assert not trial.canary.passed
    assert trial.telemetry_after is not None
    assert trial.telemetry_after.device_throttle_reasons == ("thermal",)


def test_the_exchange_is_as_slow_as_on_the_slowest_rank() -> None:
    def with_blocks(rank: int, sharing: float, alone: float) -> Trial:
        blocks = Communication(steps_per_block=10, with_seconds=(sharing,), without_seconds=(alone,))
        return rank_trial(rank, (1.0,) * 3, communication=blocks)

    found = together(with_blocks(0, 2.0, 1.0), with_blocks(1, 1.5, 1.2)).communication
    assert found == Communication(steps_per_block=10, with_seconds=(2.0,), without_seconds=(1.2,))


def test_of_copies_the_slowest_is_shown_whole() -> None:
    job = JOB.model_copy(update={"world": 1, "scaling": None, "copies": 2})
    first, second = (rank_trial(n, (1.0 + n,) * 3, job) for n in (0, 1))
    trial = together(first, second, job)
    assert trial.block_seconds == second.block_seconds
    assert [rank.rank for rank in trial.ranks] == [0, 1]
    assert validity.find_violations(job, trial, 100.0, None, b.machine()) == ()


def test_a_rank_that_did_not_end_well_decides_how_the_job_ended() -> None:
    second = Outcome(status="diverged", message="the loss is nan", trial=rank_trial(1, (1.0,) * 3))
    found = reduce_outcomes(JOB, [Outcome(status="ok", trial=rank_trial(0, (1.0,) * 3)), second])
    assert (found.status, found.message) == ("diverged", "rank 1 of 2: the loss is nan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranks": ()}, "0 ranks reported, the job has 2"),
        ({"block_seconds": (1.0, 1.0, 1.0)}, "not as long as on the slowest rank"),
        ({"images": 3839}, "the sampler handed out 3,839 images, steps x batch is 3,840"),
    ],
)
def test_ranks_that_do_not_add_up_are_invalid(change: dict[str, object], words: str) -> None:
    trial = together(rank_trial(0, (1.0, 2.0, 1.0)), rank_trial(1, (1.5, 1.0, 1.0)))
    broken = validity.find_violations(JOB, trial.model_copy(update=change), 100.0, None, b.machine())
    assert words in "; ".join(violation.message for violation in broken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": 1}, "the sampler of rank 1 handed out 1 images, its share is 1,920"),
        ({"weights": "cd"}, "different weights"),
        ({"block_seconds": (1.0,)}, "different numbers of blocks"),
        ({"rank": 2}, "2 ranks reported, the job has 2"),
    ],
)
def test_one_rank_apart_from_the_others_makes_the_job_invalid(change: dict[str, object], words: str) -> None:
    trial = together(rank_trial(0, (1.0,) * 3), rank_trial(1, (1.0,) * 3))
    ranks = (trial.ranks[0], trial.ranks[1].model_copy(update=change))
    broken = validity.find_violations(JOB, trial.model_copy(update={"ranks": ranks}), 100.0, None, b.machine())
    assert words in "; ".join(violation.message for violation in broken)


def test_one_process_has_no_ranks() -> None:
    job = b.cnn_job(final_evaluation=False)
    trial = b.trial(job)
    assert validity.find_violations(job, trial, 100.0, None, b.machine()) == ()
    odd = trial.model_copy(update={"ranks": rank_trial(0, (1.0,) * 3).ranks})
    assert "the job has none" in validity.find_violations(job, odd, 100.0, None, b.machine())[0].message
