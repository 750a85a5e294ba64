"""Compare the timing of two revisions of cnnbench in pairs: `python tests/timing_net.py --base REV` from a checkout.

A refactoring may not change what the clocks read. Five times are measured with both revisions, in pairs:

- worker path: CPU seconds of one whole worker process that trains the CNN briefly, from its start to its end;
- timed loop: CPU seconds per step in that worker's timed region;
- reference step: seconds per step of the reference CNN, in turns of two living workers;
- tuned step: seconds per step of the CNN in the tuned division's native kernels, in the same turns;
- paired turn: seconds of a whole turn of the reference CNN, from the parent's grant to the worker's answer.

The two whole workers of a pair run at the same time on one core. The kernel alternates them every few milliseconds, so
both meet the same neighbours, clock rate and caches. Sharing the core makes both take about twice as long by the wall
clock, but the kernel charges each only with the time that it ran itself; so CPU seconds are compared. They do not count
a wait without work.

Each pair gives d = log(head / base) per time. The ratio old / new is exp(-d), estimated by Hodges and Lehmann with the exact
95 % interval of the signed-rank test, which decides; Student's interval of the mean is printed beside it. Pairs are added
until every half-width is at most 2 %, or pairs or minutes are used up. Exit 0 where each interval contains 1 and is narrow
enough, 1 where one excludes 1, 4 where one is too wide, else as every command of cnnbench.

Workers are started by module name and get plain JSON, so revisions before and after a renaming can be compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # head's cnnbench drives both, wherever this is started and whatever is installed

import signed_rank_values  # noqa: E402
from scipy import stats  # noqa: E402

from cnnbench import workloads  # noqa: E402
from cnnbench.data import default_cache_dir  # noqa: E402
from cnnbench.errors import CnnbenchError, ComparisonError, ExitCode, UsageError, WorkerError  # noqa: E402
from cnnbench.naming import process_label  # noqa: E402
from cnnbench.paired_protocol import ARMS, Arm, PairRecord, Turn, other_arm  # noqa: E402
from cnnbench.regression import signed_rank  # noqa: E402
from cnnbench.regression.arms import ArmSpec, Workers, identify_arms  # noqa: E402
from cnnbench.regression.blocks import median_ratio  # noqa: E402
from cnnbench.runner import revisions  # noqa: E402
from cnnbench.runner.arm_process import ArmCommand, ArmProcess  # noqa: E402
from cnnbench.runner.launch import build_paired_environment, complete_environment, kill_tree, read_tail  # noqa: E402
from cnnbench.runner.paired import PairDesign, draw_coins, measure_pair  # noqa: E402
from cnnbench.schema import Job  # noqa: E402

HALF_WIDTH = 0.02
LEAST_PAIRS = 10
"""Six would give an interval; with ten, one pair that another program disturbed no longer sets its end."""
MOST_PAIRS = signed_rank.MAX_DIFFERENCES
MINUTES = 12.0
WORKER_SECONDS = 600.0
ROUNDS, STEPS_PER_TURN = 16, 5
WORKER_MODULES = ("worker",)
PAIRED_MODULES = ("paired_worker", "turns")
"""Files of cnnbench/engine, the newest name first: a revision is started by the first that it has."""
TUNED, CNN = 0, 1
STEP_FIGURES = {"reference step": CNN, "tuned step": TUNED}
TURN_FIGURE = "paired turn"
FIGURES = {"worker": ("worker path", "timed loop"), "turns": (*STEP_FIGURES, TURN_FIGURE)}
"""By kind of pair: two whole processes at the same time on one core, or two living ones in turns."""

Outcome = Literal["same", "differs", "too wide"]


@dataclass(frozen=True)
class Pair:
    """One pair of measurements: d of each figure, and the seconds they were computed from."""

    kind: str
    number: int
    first: Arm
    log_ratios: Mapping[str, float]
    raw: Any = None


Measure = Callable[[int], Pair]
"""Measures the pair of that number."""


@dataclass(frozen=True)
class Estimate:
    """The ratio old / new of one figure. `low` and `high` are the exact interval, None for fewer than six pairs."""

    figure: str
    pairs: int
    ratio: float
    low: float | None
    high: float | None
    student_low: float | None
    student_high: float | None

    @property
    def half_width(self) -> float | None:
        """Half the length of the exact interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def outcome(self) -> Outcome:
        """What the interval says; one that excludes 1 says so however wide it is."""
        if self.low is None or self.high is None:
            return "too wide"
        if not self.low <= 1 <= self.high:
            return "differs"
        return "same" if (self.high - self.low) / 2 <= HALF_WIDTH else "too wide"


def estimate(figure: str, d: Sequence[float]) -> Estimate:
    """Estimate old / new from at least one d = log(new / old)."""
    exact = signed_rank_values.confidence_interval(d)
    student = student_interval(d)
    return Estimate(
        figure,
        len(d),
        math.exp(-signed_rank.hodges_lehmann(d)),
        None if exact is None else math.exp(-exact[1]),
        None if exact is None else math.exp(-exact[0]),
        None if student is None else math.exp(-student[1]),
        None if student is None else math.exp(-student[0]),
    )


def student_interval(d: Sequence[float]) -> tuple[float, float] | None:
    """Compute the 95 % interval of the mean by Student's t; None for a single value."""
    if len(d) < 2:
        return None
    mean = statistics.fmean(d)
    half = float(stats.t.ppf(0.975, len(d) - 1)) * statistics.stdev(d) / math.sqrt(len(d))
    return mean - half, mean + half


def exit_code(estimates: Sequence[Estimate]) -> ExitCode:
    """Choose the exit code of a finished comparison: a difference outweighs an interval that is too wide."""
    outcomes = {each.outcome for each in estimates}
    if "differs" in outcomes:
        return ExitCode.FINDING
    return ExitCode.INCONCLUSIVE if "too wide" in outcomes or not outcomes else ExitCode.DONE


def estimates_of(pairs: Sequence[Pair], kind: str) -> list[Estimate]:
    """Estimate each figure of a kind of pairs; none where there is no pair of it."""
    mine = [pair for pair in pairs if pair.kind == kind]
    return [estimate(name, [pair.log_ratios[name] for pair in mine]) for name in FIGURES[kind]] if mine else []


def is_settled(pairs: Sequence[Pair], kind: str, least: int, most: int) -> bool:
    """Tell whether a kind needs no further pair: all its intervals are narrow, or the pairs are used up.

    The rule reads the widths alone, never where an interval is: else it would stop at the first that excludes 1.
    """
    found = estimates_of(pairs, kind)
    if not found or found[0].pairs < min(least, most):
        return False
    return found[0].pairs >= most or all((each.half_width or math.inf) <= HALF_WIDTH for each in found)


def measure_pairs(
    measures: Mapping[str, Measure],
    pairs: list[Pair],
    *,
    most: int,
    seconds: float,
    least: int = LEAST_PAIRS,
    clock: Callable[[], float] = time.monotonic,
    show: Callable[[Pair], None] = lambda pair: None,
) -> None:
    """Append pairs, the kinds by turns, until all kinds are settled or another pair would overrun the seconds."""
    began, longest = clock(), 0.0
    while open_kinds := [kind for kind in measures if not is_settled(pairs, kind, least, most)]:
        for kind in open_kinds:
            start = clock()
            if start + longest > began + seconds:
                return
            # Number 0 is the warm-up's.
            pair = measures[kind](1 + sum(pair.kind == kind for pair in pairs))
            pairs.append(pair)
            longest = max(longest, clock() - start)
            show(pair)


@dataclass(frozen=True)
class NamedWorkers(Workers):
    """The check's workers, each started by the name that the module has in its own revision."""

    def command(self, arm: Arm, modules: Sequence[str]) -> tuple[str, ...]:
        """Return the command that starts the first of these modules that the arm's checkout has."""
        engine = self.places.root / arm / "cnnbench" / "engine"
        name = next((each for each in modules if (engine / f"{each}.py").exists()), None)
        if name is None:
            raise ComparisonError(f"{arm}: its cnnbench/engine has none of {', '.join(modules)}: it cannot be compared")
        return (sys.executable, "-P", "-m", f"cnnbench.engine.{name}")

    def start(self, arm: Arm, first: Arm) -> ArmCommand:
        """Return how to start the arm's paired worker."""
        return replace(super().start(arm, first), command=self.command(arm, PAIRED_MODULES))


@dataclass(frozen=True)
class Bench:
    """Two revisions, checked out, and how to measure a pair of them."""

    workers: NamedWorkers
    seed: int
    worker_job: Job
    data_dir: Path | None

    def measure_turns(self, number: int) -> Pair:
        """Measure a block of turns of two living workers. Raises WorkerError, ComparisonError."""
        design = PairDesign(self.workers.jobs, self.seed, rounds=ROUNDS, steps_per_turn=STEPS_PER_TURN,
                        data_dir=None if self.data_dir is None else str(self.data_dir))  # fmt: skip
        timed: dict[Arm, TimedArm] = {}

        def starting(start: ArmCommand) -> TimedArm:
            timed[start.arm] = TimedArm(start)
            return timed[start.arm]

        block = measure_pair(
            design, self.workers.start, number, "screening", tuple(design.jobs["base"]), starting=starting
        )
        if block.failure is not None:
            raise WorkerError(f"{block.failure.arm}: {block.failure.status}: {block.failure.message}")
        for job in block.base:
            works = [run[job].work.model_dump(exclude=LOSSES) for run in (block.base, block.head)]
            require_equal_work(process_label(design.jobs["base"][job]), *works)
        turns = {arm: turns_of(timed[arm].turn_seconds, block) for arm in ARMS}
        return Pair(
            "turns", number, block.first, ratios_of_block(block, turns), {"block": block, "turn_seconds": turns}
        )

    def measure_workers(self, number: int) -> Pair:
        """Measure two whole workers at the same time, started in the order of a coin. Raises WorkerError, ComparisonError."""
        first, core = draw_coins(self.seed, number, (), 0).first, draw_core(self.seed, number)
        self.workers.places.exchange_arms(first)
        starts = [self.worker_start(arm, first) for arm in (first, other_arm(first))]
        ran = run_workers(starts, core, self.worker_job, self.data_dir)
        base, head = ran["base"], ran["head"]
        require_equal_work(process_label(self.worker_job), base.work, head.work)
        ratios = {"worker path": math.log(head.cpu_seconds / base.cpu_seconds),
                  "timed loop": math.log(head.step_cpu_seconds / base.step_cpu_seconds)}  # fmt: skip
        return Pair("worker", number, first, ratios, {"core": core, **{arm: asdict(run) for arm, run in ran.items()}})

    def worker_start(self, arm: Arm, first: Arm) -> WorkerStart:
        """Return how to start the arm's whole worker."""
        folders = self.workers.places.folders(arm, first)
        environment = complete_environment(build_paired_environment([self.worker_job], None, folders))
        return WorkerStart(arm, self.workers.command(arm, WORKER_MODULES), environment)


LOSSES = {"first_losses", "final_loss", "minor_faults"}
"""Not compared: a loss differs by rounding, and page faults are no work."""


class TimedArm(ArmProcess):
    """An arm whose turns are timed by the parent's clock too, from the grant to the answer."""

    def __init__(self, start: ArmCommand) -> None:
        super().__init__(start)
        self.turn_seconds: list[float] = []

    def turn(self, steps: int) -> Turn:
        """Grant a turn, and keep how long the answer took."""
        began = time.perf_counter_ns()
        answer = super().turn(steps)
        self.turn_seconds.append(round((time.perf_counter_ns() - began) * 1e-9, 9))
        return answer


def turns_of(seconds: Sequence[float], block: PairRecord) -> tuple[float, ...]:
    """Select the CNN's turns from an arm's turns of all jobs, which came in the block's order."""
    rounds = len(block.orders[CNN])
    begin = block.job_order.index(CNN) * rounds
    return tuple(seconds[begin : begin + rounds])


def ratios_of_block(block: PairRecord, turns: Mapping[Arm, Sequence[float]]) -> dict[str, float]:
    """Compute d of each figure of a block: the median over its rounds, as the check does."""
    steps = {name: median_ratio(block.base[job], block.head[job], "turns") for name, job in STEP_FIGURES.items()}
    rounds = [math.log(head / base) for base, head in zip(turns["base"], turns["head"], strict=True)]
    return {**steps, TURN_FIGURE: statistics.median(rounds)}


def require_equal_work(label: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Raise ComparisonError where the two did not do the same."""
    unequal = [f"{name}: head {head.get(name)}, base {base[name]}" for name in base if base[name] != head.get(name)]
    if unequal:
        raise ComparisonError(f"{label}: the revisions did not do the same work: {'; '.join(unequal)}")


@dataclass(frozen=True)
class WorkerStart:
    """How to start an arm's whole worker."""

    arm: Arm
    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class LivingWorker:
    """A worker that was started, and where it leaves its outcome and what it prints."""

    arm: Arm
    process: subprocess.Popen[bytes]
    outcome_path: Path
    printed: BinaryIO


@dataclass(frozen=True)
class WorkerRun:
    """One worker process: CPU seconds of all of it and of its timed region, and what it did."""

    cpu_seconds: float
    timed_cpu_seconds: float
    work: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step_cpu_seconds(self) -> float:
        """CPU seconds per step of the timed region."""
        return self.timed_cpu_seconds / float(self.work["steps"])


def draw_core(seed: int, number: int) -> int:
    """Draw the core that both workers of this pair run on, from those this process may use."""
    return random.Random(f"timing net core {seed} {number}").choice(sorted(os.sched_getaffinity(0)))


def run_workers(starts: Sequence[WorkerStart], core: int, job: Job, data_dir: Path | None) -> dict[Arm, WorkerRun]:
    """Run workers at the same time on one core, each from its start to its end. Raises WorkerError, ComparisonError."""
    with contextlib.ExitStack() as stack:
        with pin_to(core):
            living = [stack.enter_context(open_worker(start, job, data_dir)) for start in starts]
        deadline = time.monotonic() + WORKER_SECONDS
        for each in living:
            wait_for_exit(each.arm, each.process.pid, deadline)
        return {each.arm: read_outcome(each, reap(each.process)) for each in living}


@contextlib.contextmanager
def pin_to(core: int) -> Iterator[None]:
    """Let processes started meanwhile run on this core alone; this process may use its cores again at the end."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def open_worker(start: WorkerStart, job: Job, data_dir: Path | None) -> Iterator[LivingWorker]:
    """Start a worker as the runner does, and end it with all that it started where it still lives at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="cnnbench-") as folder,
        tempfile.TemporaryFile() as printed,
        _pipe() as progress,
    ):
        path = Path(folder) / "outcome.json"
        started = time.monotonic_ns()
        process = subprocess.Popen(
            start.command, stdin=subprocess.PIPE, stdout=printed, stderr=printed, env=dict(start.environment), cwd=folder,
            pass_fds=(progress,), start_new_session=True,
        )  # fmt: skip
        try:
            envelope = {
                # Defaults are left out: the other revision may not know a later field.
                "job": job.model_dump(mode="json", exclude_defaults=True),
                "outcome_path": str(path),
                "progress_fd": progress,
                "parent_pid": os.getpid(),
                "spawn_monotonic_ns": started,
                "data_dir": None if data_dir is None else str(data_dir),
            }
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # one that died at once left no outcome, and that is reported
                process.stdin.write(json.dumps(envelope).encode())
                process.stdin.close()
            yield LivingWorker(start.arm, process, path, printed)
        finally:
            if process.returncode is None:
                reap(process)


def wait_for_exit(arm: Arm, pid: int, deadline: float) -> None:
    """Sleep until the process ends. Raises WorkerError where it still lives at the deadline."""
    # Popen.wait with a limit wakes up every 50 ms, which would disturb the workers; this sleeps until the end.
    descriptor = os.pidfd_open(pid)
    try:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise WorkerError(f"{arm}: its worker was ended after {WORKER_SECONDS:.0f} s")
    finally:
        os.close(descriptor)


def reap(process: subprocess.Popen[bytes]) -> float:
    """End what is left of a worker; return its CPU seconds, with those of children that it waited for."""
    # While the process is not yet waited for, no other can have its number.
    kill_tree(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def _pipe() -> Iterator[int]:
    """Open a pipe that takes a worker's progress messages; a minute of them fits unread."""
    read_end, write_end = os.pipe()
    try:
        yield write_end
    finally:
        os.close(read_end)
        os.close(write_end)


def read_outcome(ended: LivingWorker, cpu_seconds: float) -> WorkerRun:
    """Read what a worker measured. Raises WorkerError where it did not end well, ComparisonError without CPU seconds."""
    if not ended.outcome_path.exists():
        printed = read_tail(ended.printed)
        last = printed.splitlines()[-1] if printed else "it printed nothing"
        raise WorkerError(f"{ended.arm}: its worker left no outcome: {last}")
    outcome = json.loads(ended.outcome_path.read_text())
    if outcome["status"] != "ok":
        raise WorkerError(f"{ended.arm}: {outcome['status']}: {outcome['message']}")
    trial = outcome["trial"]
    if not trial.get("cpu_seconds"):
        raise ComparisonError(
            f"{ended.arm}: its worker reports no CPU seconds of its timed region: it cannot be compared"
        )
    work = {name: trial[name] for name in ("steps", "steps_per_block", "images", "parameters")}
    return WorkerRun(cpu_seconds, trial["cpu_seconds"], work)


def jobs_of(threads: int, data: Literal["mnist", "synthetic"]) -> tuple[dict[int, Job], Job]:
    """Make the jobs that take turns, by number, and the job of a whole worker."""

    def job(name: str, **settings: Any) -> Job:
        workload = workloads.get(name)
        return Job(workload=name, workload_version=workload.version, optimizer=workload.default_optimizer,
                   init=workload.default_init, data=data, split="train-55000", batch_size=32, threads=threads,
                   final_evaluation=False, **settings)  # fmt: skip

    turns = {
        TUNED: job("mnist-cnn", division="tuned", execution="native"),
        CNN: job("mnist-cnn"),
    }
    return turns, job("mnist-cnn", blocks=20, block_steps=5)


@contextlib.contextmanager
def open_bench(arguments: argparse.Namespace) -> Iterator[tuple[Bench, dict[str, Any]]]:
    """Check both revisions out, hear from each what it runs on, and remove the checkouts at the end."""
    repository = revisions.find_repository(ROOT)
    found: dict[Arm, revisions.Revision] = {"base": revisions.resolve(repository, "base", arguments.base)}
    if arguments.head == ".":
        with tempfile.TemporaryDirectory(prefix="cnnbench-") as scratch:
            found["head"] = revisions.snapshot(repository, Path(scratch))
    else:
        found["head"] = revisions.resolve(repository, "head", arguments.head)
    turn_jobs, worker_job = jobs_of(arguments.threads, "synthetic" if arguments.data_dir is None else "mnist")
    cache = default_cache_dir(os.environ).parent / "arms"  # the check's own: it removes what a killed run left there
    with revisions.open_checkouts(cache, repository, found) as places:
        workers = NamedWorkers(places, dict.fromkeys(ARMS, sys.executable), dict.fromkeys(ARMS, turn_jobs), None)
        sides = identify_arms(workers, {arm: ArmSpec(sys.executable, found[arm], {}) for arm in ARMS})
        about: dict[str, Any] = {arm: {"label": side.label, "commit": side.commit, "software": side.software.model_dump()}
                 for arm, side in sides.items()}  # fmt: skip
        yield Bench(workers, arguments.seed, worker_job, arguments.data_dir), about


def table(estimates: Sequence[Estimate]) -> list[str]:
    """Format the estimates, a line per figure."""
    lines = [f"{'':15}pairs  old/new  95 % interval     half-width  Student's         verdict"]
    for each in estimates:
        half = "n/a" if each.half_width is None else f"{100 * each.half_width:.2f} %"
        exact, student = interval(each.low, each.high), interval(each.student_low, each.student_high)
        lines.append(
            f"{each.figure:15}{each.pairs:5}   {each.ratio:.4f}  {exact:16}  {half:>10}  {student:16}  {each.outcome}"
        )
    return lines


def interval(low: float | None, high: float | None) -> str:
    """Format an interval: `[0.9950, 1.0051]`."""
    return "n/a" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def verdict_line(estimates: Sequence[Estimate]) -> str:
    """Say in a line how the comparison ended, and what to do about it."""
    match exit_code(estimates):
        case ExitCode.DONE:
            return f"PASS: every interval contains 1, half-widths are at most {100 * HALF_WIDTH:g} %"
        case ExitCode.FINDING:
            names = ", ".join(each.figure for each in estimates if each.outcome == "differs")
            # Bonferroni's bound for five intervals at 95 %.
            return f"DIFFERS: {names}; by chance in up to one run of four: repeat with another --seed before searching"
        case _:
            names = ", ".join(each.figure for each in estimates if each.outcome == "too wide") or "no pair"
            return f"INCONCLUSIVE: {names}; give more --minutes, on a quiet machine"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="timing_net.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", metavar="REV", required=True, help="the old revision")
    parser.add_argument("--head", metavar="REV", default=".", help="the new revision  [default: ., the working tree]")
    parser.add_argument("--pairs", type=_count(MOST_PAIRS), default=MOST_PAIRS, metavar="N",
                        help=f"pairs of each kind at most  [default: {MOST_PAIRS}, the most]")  # fmt: skip
    parser.add_argument("--minutes", type=_positive, default=MINUTES, metavar="M",
                        help=f"begin no pair that would end after these  [default: {MINUTES:g}]")  # fmt: skip
    parser.add_argument("--seed", type=int, default=None, metavar="N",
                        help="seed for the random order of the two revisions  [default: random, saved]")  # fmt: skip
    parser.add_argument("--threads", type=_count(1024), default=1, metavar="N",
                        help="CPU threads  [default: 1]")  # fmt: skip
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CNNBENCH_DATA"), metavar="DIR",
                        help="directory of MNIST's four files  [default: CNNBENCH_DATA, else synthetic digits]")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write every pair's raw times as JSON")
    found = parser.parse_args(arguments)
    found.seed = random.SystemRandom().randrange(2**31) if found.seed is None else found.seed
    if found.data_dir is not None:
        found.data_dir = found.data_dir.resolve()  # workers are started in folders of their own
    return found


def _count(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return count


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def save(path: Path, arguments: argparse.Namespace, about: Mapping[str, Any], pairs: Sequence[Pair]) -> None:
    """Write the settings, every pair and the estimates."""
    found = [each for kind in FIGURES for each in estimates_of(pairs, kind)]
    content = {
        "seed": arguments.seed,
        "threads": arguments.threads,
        "cores": os.cpu_count(),
        **about,
        "pairs": [asdict(pair) for pair in pairs],
        "estimates": [{**asdict(each), "half_width": each.half_width, "outcome": each.outcome} for each in found],
    }
    path.write_text(json.dumps(content, default=lambda value: value.model_dump(mode="json"), indent=1) + "\n")


def run(arguments: argparse.Namespace) -> ExitCode:
    """Measure, print and save. Pairs measured before an interrupt or an error are saved too."""
    if arguments.output is not None and not arguments.output.absolute().parent.is_dir():
        raise UsageError(f"{arguments.output}: its folder does not exist; make it first")
    began = time.monotonic()
    pairs: list[Pair] = []
    with open_bench(arguments) as (bench, about):
        measures: dict[str, Measure] = {"worker": bench.measure_workers, "turns": bench.measure_turns}
        print(f"base      {about['base']['label']}\nhead      {about['head']['label']}\nseed      {arguments.seed}")
        for measure in measures.values():
            measure(0)  # bytecode, native kernels and the file cache: not counted
        left = 60 * arguments.minutes - (time.monotonic() - began)
        try:
            measure_pairs(measures, pairs, most=arguments.pairs, seconds=left, show=show_pair)
        finally:
            if arguments.output is not None:
                save(arguments.output, arguments, about, pairs)
    estimates = [each for kind in FIGURES for each in estimates_of(pairs, kind)]
    print("\n".join([*table(estimates), verdict_line(estimates)]))
    return exit_code(estimates)


def show_pair(pair: Pair) -> None:
    """Print a pair on standard error as it ends: old / new of each of its figures."""
    ratios = ", ".join(f"{name} {math.exp(-d):.4f}" for name, d in pair.log_ratios.items())
    print(f"{pair.kind} {pair.number}: {ratios}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        return int(run(parse(arguments)))
    except CnnbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
