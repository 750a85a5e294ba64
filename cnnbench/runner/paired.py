"""One block: base and head alive together, taking turns, or one after the other. In go the arms and a coin, out comes a Block.

The parent grants a turn over a pipe and sleeps until it is over, so at any time at most one of the two works. On CPUs
both use the same cores, since both would on their own. Everything random (which arm is started first and sits in the
first folder, the order of the jobs, who has the first turn in each round) is drawn from the check's seed and the block's
number, so a record can be held against its seed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cnnbench.devices import telemetry
from cnnbench.pairing import ARMS, Arm, Block, Failed, Hello, JobRun, Mode, Setup, Share, Span, StageName, Turn, other
from cnnbench.runner.arms import ArmError, ArmProcess, Start
from cnnbench.schema import Job, Telemetry

Starter = Callable[[Arm, Arm], Start]
"""(arm, the arm that sits in the first folder) to how its worker is started."""
Sample = Callable[[], Telemetry]


@dataclass(frozen=True)
class Design:
    """What is the same for every block of a check."""

    jobs: Mapping[Arm, Mapping[int, Job]]
    seed: int
    mode: Mode = "turns"
    rounds: int = 60
    steps_per_turn: int = 5
    data_dir: str | None = None
    device_uuid: str | None = None
    again: Mapping[Arm, Mapping[int, float]] = field(default_factory=dict)

    def setup(self, arm: Arm) -> Setup:
        """What an arm's worker is told."""
        return Setup(
            jobs=dict(self.jobs[arm]),
            again=dict(self.again.get(arm, {})),
            data_dir=self.data_dir,
            device_uuid=self.device_uuid,
        )


@dataclass(frozen=True)
class Coins:
    """All that chance decides about one block."""

    first: Arm
    job_order: tuple[int, ...]
    orders: dict[int, str]


def throw(seed: int, number: int, jobs: Sequence[int], rounds: int) -> Coins:
    """The coins of block `number`: fair, independent, and the same whenever they are thrown again."""
    source = random.Random(f"cnnbench block {seed} {number}")
    first = ARMS[source.getrandbits(1)]
    order = sorted(jobs)
    source.shuffle(order)
    return Coins(first, tuple(order), {job: "".join(source.choices("bh", k=rounds)) for job in sorted(jobs)})


def measure_block(
    design: Design,
    start: Starter,
    number: int,
    stage: StageName,
    jobs: Sequence[int],
    *,
    starting: Callable[[Start], ArmProcess] = ArmProcess,
    sample: Sample | None = None,
) -> Block:
    """Measure one block of these jobs. An arm that fails makes it an invalid block with the failure; both are gone after.

    KeyboardInterrupt ends both processes and passes on.
    """
    coins = throw(design.seed, number, jobs, design.rounds)
    look = sample or (lambda: telemetry.sample(design.device_uuid))
    started_at, began = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    runs: dict[Arm, dict[int, JobRun]] = {"base": {}, "head": {}}
    spans: dict[str, Span] = {}
    failure: Failed | None = None
    try:
        if design.mode == "turns":
            with _alive(coins, ARMS, start, starting) as arms, _watch(spans, "both", look):
                _in_turns(design, coins, arms, runs)
        else:
            for arm in (coins.first, other(coins.first)):
                with _alive(coins, (arm,), start, starting) as arms, _watch(spans, arm, look):
                    _alone(design, coins, arm, arms[arm], runs)
    except ArmError as error:
        failure = error.failed
    return Block(
        number=number,
        stage=stage,
        started_at=started_at,
        wall_seconds=round(time.monotonic() - began, 3),
        first=coins.first,
        job_order=coins.job_order,
        orders=coins.orders,
        base=runs["base"] if failure is None else {},
        head=runs["head"] if failure is None else {},
        spans=spans,
        failure=failure,
    )


def greet(start: Starter, starting: Callable[[Start], ArmProcess] = ArmProcess) -> dict[Arm, Hello]:
    """Start both arms, hear who they are, and end them. Raises ArmError where one cannot start or does not understand."""
    with _alive(Coins("base", (), {}), ARMS, start, starting, heard=False) as arms:
        return {arm: process.hello() for arm, process in arms.items()}


def find_shares(
    design: Design, start: Starter, share: float, starting: Callable[[Start], ArmProcess] = ArmProcess
) -> dict[int, Share]:
    """For each job the work that makes its step longer by `share`, found once so that all blocks do the same. ArmError."""
    found: dict[int, Share] = {}
    with _alive(Coins("head", (), {}), ("head",), start, starting) as arms:
        arms["head"].set_up(design.setup("head"))
        for job in sorted(design.jobs["head"]):
            arms["head"].build(job)
            found[job] = arms["head"].share(share)
    return found


@contextlib.contextmanager
def _alive(
    coins: Coins,
    arms: Sequence[Arm],
    start: Starter,
    starting: Callable[[Start], ArmProcess],
    *,
    heard: bool = True,
) -> Iterator[dict[Arm, ArmProcess]]:
    """These arms' processes, the first of them started first; they import torch at the same time, untimed, and are
    `heard` to say who they are unless the caller does that."""
    alive: dict[Arm, ArmProcess] = {}
    ended = False
    try:
        for arm in (coins.first, other(coins.first)):
            if arm in arms:
                alive[arm] = starting(start(arm, coins.first))
        if heard:
            for process in alive.values():
                process.hello()
        yield alive
        ended = True
    finally:
        for process in alive.values():
            if ended:
                process.close()
            else:
                process.kill()


@contextlib.contextmanager
def _watch(spans: dict[str, Span], name: str, look: Sample) -> Iterator[None]:
    before, began = look(), time.monotonic()
    yield
    wall = round(time.monotonic() - began, 3)
    spans[name] = Span(wall_seconds=wall, before=before, after=look())


def _in_turns(
    design: Design, coins: Coins, arms: Mapping[Arm, ArmProcess], runs: Mapping[Arm, dict[int, JobRun]]
) -> None:
    for arm, process in arms.items():
        process.set_up(design.setup(arm))
    for job in coins.job_order:
        turns: dict[Arm, list[Turn]] = {"base": [], "head": []}
        for process in arms.values():
            process.build(job)
        for letter in coins.orders[job]:
            first: Arm = "base" if letter == "b" else "head"
            for arm in (first, other(first)):
                turns[arm].append(arms[arm].turn(design.steps_per_turn))
        for arm, process in arms.items():
            runs[arm][job] = _run(turns[arm], process)


def _alone(design: Design, coins: Coins, arm: Arm, process: ArmProcess, runs: Mapping[Arm, dict[int, JobRun]]) -> None:
    process.set_up(design.setup(arm))
    for job in coins.job_order:
        process.build(job)
        turns = [process.turn(design.steps_per_turn) for _ in range(design.rounds)]
        runs[arm][job] = _run(turns, process)


def _run(turns: Sequence[Turn], process: ArmProcess) -> JobRun:
    return JobRun(
        step_seconds=tuple(turn.step_seconds for turn in turns),
        control_seconds=tuple(turn.control_seconds for turn in turns),
        work=process.finish(),
    )
