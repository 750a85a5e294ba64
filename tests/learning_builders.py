"""Records of what was learned: the lecture's recipe looked at after every epoch, runs under its stopping rule, modes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import builders as b

from cnnbench.analysis import process_table, speedup
from cnnbench.analysis.rows import Row
from cnnbench.schema import Evaluation, Job, Record
from cnnbench.store import Ledger

Losses = tuple[float, ...]
CURVES = ((9850, 9900, 9915, 9920), (9840, 9895, 9921, 9919), (9861, 9890, 9917, 9931))
"""Test images right after epochs 1 to 4 of three processes."""


def notebook_job(**fields: Any) -> Job:
    """The lecture's notebook: batches of 125, 440 an epoch, shuffled."""
    known: dict[str, Any] = {
        "clock": "job",
        "epochs": 4,
        "steps_per_epoch": 440,
        "batch_size": 125,
        "order": "shuffled",
    }
    return b.cnn_job(**(known | fields))


def evaluations(right: Sequence[int], *, images: int = 10_000, steps_per_epoch: int = 440) -> tuple[Evaluation, ...]:
    """Evaluations after each epoch."""
    return tuple(
        Evaluation(after_steps=(n + 1) * steps_per_epoch, images=images, correct=correct, seconds=0.5)
        for n, correct in enumerate(right)
    )


def looked_at(curves: Sequence[Sequence[int]] = CURVES, *, start: int = 0, **fields: Any) -> list[Record]:
    """A process a curve, all 10,000 test images after each of its epochs."""
    job = notebook_job(**({"epochs": len(curves[0]), "epoch_eval_images": 10_000} | fields))
    return [
        b.record(
            job.model_copy(update={"round": n, "seed": 100 + n}),
            0.05,
            index=start + n,
            epoch_evaluations=evaluations(curve),
            test=evaluations(curve)[-1],
        )
        for n, curve in enumerate(curves)
    ]


def stopped(samples: Sequence[int], accuracy: int, *, start: int = 0, epochs: int = 20) -> Record:
    """A process under the rule: so many of 200 images right after each epoch, so many of 10,000 at the end."""
    job = notebook_job(epochs=epochs, epoch_eval_images=200, stop_when_all_right=True, extra_forwards=2)
    done = len(samples)
    return b.record(
        job.model_copy(update={"seed": 7 + start, "round": start}),
        0.05,
        index=start,
        block_seconds=(22.0,) * done,
        steps=440 * done,
        images=440 * 125 * done,
        job_seconds=30.0 * done,
        stopped_early=done < epochs,
        epoch_evaluations=evaluations(samples, images=200),
        test=Evaluation(after_steps=440 * done, images=10_000, correct=accuracy, seconds=1.0),
    )


def trained(
    right: Mapping[int, int] | Sequence[int], *, start: int = 0, diverged: int = 0, **fields: Any
) -> list[Record]:
    """A process a seed of one epoch of the CNN, so many of 10,000 test images right at the end; `diverged` more that did not
    learn. A sequence has seeds 0, 1, 2...
    """
    by_seed = dict(right) if isinstance(right, Mapping) else dict(enumerate(right))
    job = b.cnn_job(**({"blocks": 39, "block_steps": 11} | fields))
    found = [
        b.record(
            job.model_copy(update={"round": n, "seed": seed}),
            0.05,
            index=start + n,
            test=Evaluation(after_steps=429, images=10_000, correct=correct, seconds=1.0),
        )
        for n, (seed, correct) in enumerate(by_seed.items())
    ]
    for n in range(len(found), len(found) + diverged):
        own = job.model_copy(update={"round": n, "seed": 1000 + n})
        found.append(b.record(own, index=start + n, status="diverged", message="the loss is nan after 429 steps"))
    return found


PLAIN = (9910, 9915, 9908, 9921, 9912)
EQUAL = (9913, 9911, 9909, 9919, 9915)
WORSE = (9871, 9880, 9868, 9879, 9869)
UNSURE = (9909, 9880, 9921, 9890, 9925)


def modes(**fields: Any) -> Ledger:
    """A plain row and three modes of five seeds: one that learns as well, one that learns worse, one that is undecided."""
    rows: list[Record] = []
    for right, mode in (
        (PLAIN, {}),
        (EQUAL, {"layout": "nhwc"}),
        (WORSE, {"precision": "bf16"}),
        (UNSURE, {"loader": "dataloader", "loader_workers": 2}),
    ):
        rows += trained(right, start=len(rows), **mode)
    return b.ledger(rows, **fields)


def losses(
    seeds: Sequence[int], epochs: int = 3, *, stream: int = 0, ratios: Sequence[float] = ()
) -> dict[int, Losses]:
    """Losses that fall by half each epoch, by seed: a share of the noise is the seed's batches', the rest of this `stream`;
    each epoch's then times its ratio.
    """
    found: dict[int, Losses] = {}
    for seed in seeds:
        batches, own = random.Random(seed), random.Random(1000 * stream + seed)
        logs = [0.3 * batches.gauss(0, 1) + 0.1 * own.gauss(0, 1) - 0.7 * n for n in range(epochs)]
        found[seed] = tuple(
            math.exp(each) * ratio for each, ratio in zip(logs, [*ratios, *[1.0] * epochs], strict=False)
        )
    return found


def with_losses(curves: Mapping[int, Losses], *, start: int = 0, epochs: int = 3, **fields: Any) -> list[Record]:
    """A process a seed of whole jobs, with the loss of each epoch's last step."""
    found = trained(
        {seed: 9910 + seed % 5 for seed in curves}, start=start, clock="job", epochs=epochs, order="shuffled", **fields
    )
    return [
        each.model_copy(update={"outcome": each.outcome.model_copy(update={"trial": trial})})
        for each in found
        if each.outcome.trial is not None
        for trial in [each.outcome.trial.model_copy(update={"losses": curves[each.job.seed]})]
    ]


def curved(**fields: Any) -> Ledger:
    """A plain row of eight seeds and modes of the same accuracy: with curves alike, with some higher, with other seeds and
    lower ones, with too few seeds that have any.
    """
    rows = with_losses(losses(range(8)))
    for curves, mode in (
        (losses(range(8), stream=1), {"layout": "nhwc"}),
        (losses(range(8), stream=2, ratios=(1.0, 1.6, 1.5)), {"precision": "bf16"}),
        (losses(range(50, 57), stream=3, ratios=(0.3, 1.0, 0.4)), {"precision": "fp16"}),
        ({seed: () if seed else each for seed, each in losses(range(5), stream=4).items()}, {"execution": "compiled"}),
    ):
        rows += with_losses(curves, start=len(rows), **mode)
    return b.ledger(rows, **fields)


def everything() -> list[Ledger]:
    """Both kinds of rows of the stopping rule in one run, and the modes in another."""
    records = looked_at()
    records += [stopped([190, 197, 200], 9906, start=len(records))]
    records += [stopped([199] * 20, 9931, start=len(records))]
    return [
        b.ledger(records, run_id="20260304T120000Z-0001", created_at="2026-03-04T12:00:00Z"),
        modes(run_id="20260305T120000Z-0001", created_at="2026-03-05T12:00:00Z"),
    ]


def rows_of(*ledgers: Ledger | Sequence[Record]) -> tuple[Row, ...]:
    """The compared rows of ledgers, or of records as ledgers."""
    found = [each if isinstance(each, Ledger) else b.ledger(each, run_id=f"run-{n}") for n, each in enumerate(ledgers)]
    return speedup.compute_speedups(process_table.read_processes(found)[0]).rows
