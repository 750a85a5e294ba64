"""How often `compare` errs between two runs: the committed ledgers' components, their real pairs, and simulated runs.

Ledgers, a seed and a number of comparisons go in; a `VerdictStudy` comes out, which `compare_verdicts` writes as a page.
Ratios, spreads and verdicts are the package's own (`analysis.ratio`, `analysis.run_spread`), not copies of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtr

from cnnbench import naming, store, units
from cnnbench.analysis import stats
from cnnbench.analysis.process_table import read_processes
from cnnbench.analysis.ratio import RowRatio, classify_ratio, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.run_spread import LEAST_HISTORY, PRIORS, WorkKind, classify_work
from cnnbench.analysis.speedup import compute_speedups
from cnnbench.analysis.stats import RunSpread
from cnnbench.regression.signed_rank import Float64Array

TOLERANCE = 0.05
REAL_CHANGE = 0.25
"""A base that takes 25 % longer is to be found."""
PROCESSES = (3, 8)
"""Processes of each run in the simulation; runs of a history have as many."""
HISTORIES = (0, LEAST_HISTORY, 2 * LEAST_HISTORY)
"""Other runs of the row that are known; 0: the prior is taken."""
MAX_FALSE_SHARE = 0.05
CHANCE = 3.0
"""Standard errors of a simulated share that a target allows."""
MIN_POWERS = {True: 0.95, False: 0.5}
"""Share of real changes to be found between runs of a training row of 8 processes: of one boot, and of different ones."""
COVERED = (3, 6, 10)
LOG_SD_BOUNDS = (-8.0, 0.0)
"""Where the log of the SD between runs is searched: 0.03 % to 100 %."""
PROCESS_HOURS = 20 / 3600
"""From one process of a run to the next: 20 s, which matters for drift alone."""
Runs = Sequence[Float64Array]
"""Log times of the processes of each run of one row."""


@dataclass(frozen=True)
class Components:
    """The spread of log times between runs and between processes of a run, by REML over `rows` rows."""

    kind: WorkKind
    one_boot: bool
    """Whether runs are compared within one kernel and memory size, the nearest to a boot that these ledgers record."""
    run_sd: float
    process_sd: float
    degrees: int
    """Runs less groups of runs: rows of one run share its spread, so more rows add none."""
    rows: int


@dataclass(frozen=True)
class RealPair:
    """Two runs of one row whose code for it did not change, with both verdicts."""

    row: str
    machine: str
    base: str
    new: str
    one_kernel: bool
    ratio: float
    processes_low: float
    processes_high: float
    processes_verdict: str
    """By the interval of the processes alone (Welch's), as printed before runs were in it."""
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class SimulatedVerdicts:
    """Comparisons of two simulated runs: how many read FASTER or SLOWER unchanged, and FASTER with a real change."""

    kind: WorkKind
    one_boot: bool
    noise: str
    processes: int
    history: int
    comparisons: int
    false: int
    found: int


@dataclass(frozen=True)
class Coverage:
    """How often the interval of one run's n processes holds the mean of all runs, exactly, for normal components."""

    processes: int
    share: float


@dataclass(frozen=True)
class StudyTarget:
    """Something that the verdicts are to reach, and whether they do."""

    wanted: str
    measured: str
    met: bool


@dataclass(frozen=True)
class VerdictStudy:
    """Everything measured, in the order of the page."""

    seed: int
    comparisons: int
    components: tuple[Components, ...]
    pairs: tuple[RealPair, ...]
    simulated: tuple[SimulatedVerdicts, ...]
    beyond: tuple[SimulatedVerdicts, ...]
    """The same on machines whose runs differ more than the components say; no target."""
    coverage: tuple[Coverage, ...]
    targets: tuple[StudyTarget, ...]


def load_rows(paths: Sequence[Path]) -> tuple[Row, ...]:
    """Load every timed row of every run under the paths."""
    processes, _ = read_processes(store.load_tree(paths).ledgers)
    return tuple(row for row in compute_speedups(processes, all_runs=True).rows if row.costs)


def run_study(
    rows: Sequence[Row], seed: int, comparisons: int, on_progress: Callable[[str], None] = lambda _: None
) -> VerdictStudy:
    """Estimate, compare and simulate; each simulated case has its own random stream."""
    components = tuple(estimate_components(rows, kind, one_boot) for kind, one_boot in PRIORS)
    pairs = tuple(compare_real_pairs(rows))
    simulated: list[SimulatedVerdicts] = []
    beyond: list[SimulatedVerdicts] = []
    for place, found in enumerate(components):
        on_progress(f"{found.kind}, {'one boot' if found.one_boot else 'different boots'}")
        for cases, noises in ((simulated, list_noises(found)), (beyond, list_worse_noises(found))):
            for name, noise in noises.items():
                rng = np.random.default_rng([seed, place, *name.encode()])
                cases += simulate_cases(found, name, noise, comparisons, rng)
    mixed = next(each for each in components if each.kind == "training" and not each.one_boot)
    coverage = tuple(Coverage(n, compute_coverage(n, mixed.run_sd / mixed.process_sd)) for n in COVERED)
    targets = assess_targets(pairs, simulated)
    return VerdictStudy(seed, comparisons, components, pairs, tuple(simulated), tuple(beyond), coverage, targets)


def estimate_components(rows: Sequence[Row], kind: WorkKind, one_boot: bool) -> Components:
    """Estimate both components for rows of a kind that two runs or more have.

    With `one_boot` runs are grouped by kernel and memory size too; without, only rows that runs of several kernels have
    are taken, since the others say nothing about hosts.
    """
    logs: list[Runs] = []
    runs: dict[object, set[str]] = {}
    for same in group_by([row for row in rows if classify_work(row) == kind and row.rates], _name_step).values():
        kernels = group_by(same, _name_kernel)
        groups = list(kernels.values()) if one_boot else [same] * (len(kernels) > 1)
        for group in groups:
            by_run = group_by(group, lambda row: row.run_id)
            if len(by_run) > 1:
                logs.append([_read_logs(members) for members in by_run.values()])
                place = (group[0].machine.id, _name_kernel(group[0]) if one_boot else None)
                runs.setdefault(place, set()).update(by_run)
    run_sd, process_sd = fit_components(logs)
    degrees = sum(len(each) - 1 for each in runs.values())
    return Components(kind, one_boot, run_sd, process_sd, degrees, len(logs))


def fit_components(rows: Sequence[Runs]) -> tuple[float, float]:
    """Fit the standard deviation between runs by REML, with a mean and a variance of its processes for each row.

    D. A. Harville, Journal of the American Statistical Association 72, 1977. The second value is the median over rows
    of the standard deviation between processes of a run.
    """
    within = [sum(float(((each - each.mean()) ** 2).sum()) for each in runs) for runs in rows]
    variances = [square / sum(len(each) - 1 for each in runs) for square, runs in zip(within, rows, strict=True)]

    def deviance(log_sd: float) -> float:
        total = 0.0
        for runs, process in zip(rows, variances, strict=True):
            means = np.array([each.mean() for each in runs])
            weights = 1 / (math.exp(2 * log_sd) + process / np.array([len(each) for each in runs]))
            mean = (weights * means).sum() / weights.sum()
            total += float((weights * (means - mean) ** 2 - np.log(weights)).sum()) + math.log(weights.sum())
        return total

    found = minimize_scalar(deviance, bounds=LOG_SD_BOUNDS, method="bounded", options={"xatol": 1e-9})
    return math.exp(found.x), float(np.median(np.sqrt(variances)))


def compare_real_pairs(rows: Sequence[Row]) -> Iterable[RealPair]:
    """Compare every two runs of a row under one machine id, timing rule and torch."""
    same = group_by(rows, lambda row: (row.machine.id, row.row_key, row.protocol, row.software.torch))
    for members in same.values():
        members.sort(key=lambda row: (row.created_at, row.run_id))
        for base, new in itertools.combinations(members, 2):
            pair = RowRatio(base, new, TOLERANCE, history=tuple(rows))
            alone = stats.unpaired_ratio(list(base.costs.values()), list(new.costs.values()))
            found = pair.ratio
            if found is None or None in (found.low, alone.low):
                continue
            size = "" if base.job.size is None else f" {base.job.size}"
            yield RealPair(
                row=f"{naming.describe_job(base.job)}{size}",
                machine=base.machine.id,
                base=base.run_id,
                new=new.run_id,
                one_kernel=_name_kernel(base) == _name_kernel(new),
                ratio=found.value,
                processes_low=alone.low or 0.0,
                processes_high=alone.high or 0.0,
                processes_verdict=classify_ratio(alone, TOLERANCE),
                low=found.low or 0.0,
                high=found.high or 0.0,
                verdict=pair.verdict or "",
            )


Noise = Callable[[np.random.Generator, tuple[int, int, int]], Float64Array]
"""Log times of processes, shape (comparisons, runs, processes)."""
ProcessNoise = Callable[[np.random.Generator, tuple[int, int, int], float], Float64Array]


def list_noises(found: Components) -> Mapping[str, Noise]:
    """List the simulated machines; on each, runs and processes spread as the components say, by another law."""
    draw = partial(draw_runs, found)
    noises: dict[str, Noise] = {
        "normal": partial(draw, draw_normal),
        "heavy tails, t3": partial(draw, draw_t3),
        "two modes 12 % apart": partial(draw, draw_modes),
        "AR(1)": partial(draw_correlated_runs, found),
        "drift 5 % per hour": partial(draw, draw_normal, drift=True),
        "each machine its own run SD": partial(draw, draw_normal, uncertain=True),
    }
    if not found.one_boot:
        noises["two hosts"] = partial(draw, draw_normal, hosts=True)
    return noises


def list_worse_noises(found: Components) -> Mapping[str, Noise]:
    """List machines on which runs differ more than the components say."""
    return {
        "runs differ 1.5 times as much": partial(draw_runs, found, draw_normal, factor=1.5),
        "AR(1) with 0.6 on top": partial(draw_runs, found, draw_autoregressive),
    }


def draw_runs(
    found: Components,
    noise: ProcessNoise,
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    factor: float = 1.0,
    drift: bool = False,
    hosts: bool = False,
    uncertain: bool = False,
) -> Float64Array:
    """Draw unchanged runs: an effect of each run, and noise of its processes.

    With `uncertain` the run SD of each comparison's machine is drawn as the degrees of the estimate say. With `hosts`
    each run is on one of two hosts, with `drift` at any time of the hours in which the drift adds up to the run SD.
    """
    comparisons, runs, processes = shape
    deviations = np.full((comparisons, 1), factor * found.run_sd)
    if uncertain:
        deviations = deviations * np.sqrt(found.degrees / rng.chisquare(found.degrees, (comparisons, 1)))
    effects = rng.standard_normal((comparisons, runs))
    if hosts:
        effects = rng.choice([-1.0, 1.0], (comparisons, runs))
    elif drift:
        effects = rng.uniform(-math.sqrt(3), math.sqrt(3), (comparisons, runs))
    logs = (deviations * effects)[..., np.newaxis] + noise(rng, shape, found.process_sd)
    return np.asarray(logs + drift * math.log(1.05) * PROCESS_HOURS * np.arange(processes))


def draw_correlated_runs(found: Components, rng: np.random.Generator, shape: tuple[int, int, int]) -> Float64Array:
    """Draw runs that differ only because neighbouring processes are alike.

    The correlation is the one at which three processes show the components: v (1 - c) between processes and v c between
    runs, with c = (2 r + r^2) / 3 the mean correlation of two of three.
    """
    run, process = found.run_sd**2, found.process_sd**2
    correlation = math.sqrt(1 + 3 * run / (run + process)) - 1
    return draw_autoregressive(rng, shape, math.sqrt(run + process), correlation)


def draw_normal(rng: np.random.Generator, shape: tuple[int, int, int], sd: float) -> Float64Array:
    """Draw independent normal processes."""
    return rng.normal(0.0, sd, shape)


def draw_t3(rng: np.random.Generator, shape: tuple[int, int, int], sd: float) -> Float64Array:
    """Draw processes of Student's t with 3 degrees of freedom, scaled to the SD."""
    return np.asarray(rng.standard_t(3, shape) * sd / math.sqrt(3))


def draw_modes(rng: np.random.Generator, shape: tuple[int, int, int], sd: float) -> Float64Array:
    """Draw processes that are slow by 12 % with probability 1/2, with 1 % of noise."""
    return np.asarray(math.log(1.12) * (rng.random(shape) < 0.5) + rng.normal(0.0, 0.01, shape))


def draw_autoregressive(
    rng: np.random.Generator, shape: tuple[int, int, int], sd: float, correlation: float = 0.6
) -> Float64Array:
    """Draw processes whose errors have this correlation with the next one's of the run."""
    shocks = rng.normal(0.0, sd, shape)
    for place in range(1, shape[-1]):
        fresh = math.sqrt(1 - correlation**2) * shocks[..., place]
        shocks[..., place] = correlation * shocks[..., place - 1] + fresh
    return shocks


def simulate_cases(
    found: Components, name: str, noise: Noise, comparisons: int, rng: np.random.Generator
) -> list[SimulatedVerdicts]:
    """Simulate every number of processes and every history."""
    cases = []
    for processes, history in itertools.product(PROCESSES, HISTORIES):
        logs = noise(rng, (comparisons, history + 2, processes))
        verdicts = [classify_runs(each, found) for each in logs]
        false = sum(unchanged in ("FASTER", "SLOWER") for unchanged, _ in verdicts)
        power = sum(changed == "FASTER" for _, changed in verdicts)
        cases.append(SimulatedVerdicts(found.kind, found.one_boot, name, processes, history, comparisons, false, power))
    return cases


def classify_runs(logs: Float64Array, found: Components) -> tuple[str, str]:
    """Classify the last two of the runs, unchanged and with the real change; the runs before them are the history."""
    *before, base, new = logs
    spread = PRIORS[found.kind, found.one_boot]
    if before:
        means = [float(each.mean()) for each in before]
        spread = RunSpread(stats.estimate_variance(means), len(means) - 1, with_processes=True)
    times = np.exp(new).tolist()
    ratios = (
        stats.ratio_between_runs((longer * np.exp(base)).tolist(), times, (spread, spread))
        for longer in (1.0, 1 + REAL_CHANGE)
    )
    unchanged, changed = (classify_ratio(ratio, TOLERANCE) for ratio in ratios)
    return unchanged, changed


def compute_coverage(processes: int, run_over_process: float) -> float:
    """Compute how often the t-interval of one run's processes holds the mean of all runs.

    The run's mean is normal about that mean with variance run^2 + process^2 / n, and the interval's width knows only
    the second part: the share is P(|t| < quantile / sqrt(1 + n (run / process)^2)).
    """
    wide = stats.t_quantile(processes - 1) / math.sqrt(1 + processes * run_over_process**2)
    return float(2 * stdtr(processes - 1, wide) - 1)


def assess_targets(pairs: Sequence[RealPair], simulated: Sequence[SimulatedVerdicts]) -> tuple[StudyTarget, ...]:
    """Compare the real pairs and the simulation with what the verdicts are to reach."""
    alarms = sum(each.verdict in ("FASTER", "SLOWER") for each in pairs)
    worst = max(simulated, key=lambda each: each.false)
    allowed = MAX_FALSE_SHARE + CHANCE * math.sqrt(MAX_FALSE_SHARE * (1 - MAX_FALSE_SHARE) / worst.comparisons)
    return (
        StudyTarget(
            "at most 5 % of the real pairs of unchanged runs read FASTER or SLOWER",
            f"{alarms} of {len(pairs)}",
            alarms <= MAX_FALSE_SHARE * len(pairs),
        ),
        StudyTarget(
            "at most 5 % of simulated pairs of unchanged runs do, in every case (three standard errors allowed)",
            f"at most {_percent(worst.false, worst)} ({worst.kind}, {worst.noise}, n={worst.processes})",
            worst.false / worst.comparisons <= allowed,
        ),
        *(_assess_power(simulated, one_boot) for one_boot in MIN_POWERS),
    )


def _assess_power(simulated: Sequence[SimulatedVerdicts], one_boot: bool) -> StudyTarget:
    """Assess the power of training rows of the most processes by the prior, on the machine where it is lowest."""
    usual = [each for each in simulated if (each.kind, each.one_boot, each.history) == ("training", one_boot, 0)]
    weakest = min((each for each in usual if each.processes == max(PROCESSES)), key=lambda each: each.found)
    where = "on one boot" if one_boot else "of different boots"
    return StudyTarget(
        f"a training row of 8 processes that takes 25 % longer is found in {100 * MIN_POWERS[one_boot]:g} % of pairs {where}",
        f"at least {_percent(weakest.found, weakest)} ({weakest.noise})",
        weakest.found >= MIN_POWERS[one_boot] * weakest.comparisons,
    )


def _percent(hits: int, case: SimulatedVerdicts) -> str:
    return units.percent(hits / case.comparisons, 1)


def _name_step(row: Row) -> object:
    return row.machine.id, row.protocol, row.software.torch, row.job.step_key


def _name_kernel(row: Row) -> tuple[str, int | None]:
    return row.machine.kernel, row.machine.memory_bytes


def _read_logs(members: Sequence[Row]) -> Float64Array:
    """Read the log times per step of a run's processes, but for a constant."""
    return -np.log(np.array([rate for row in members for rate in row.rates.values()]))
