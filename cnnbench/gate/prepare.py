"""What a check compares, settled before its first block: the jobs of both arms, and how each arm's worker is started."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench import workloads
from cnnbench.errors import ComparisonError, UsageError, WorkerError
from cnnbench.gate.observe import WAIVED
from cnnbench.gate.recording import ArmSide, CheckHeader, jobs_of
from cnnbench.pairing import ARMS, SPOKEN, Arm, Hello
from cnnbench.plan.combinations import contradictions
from cnnbench.plan.keys import AUTO, KEYS, is_whole, keys_for, nearest
from cnnbench.plan.matrix import describe
from cnnbench.runner.arms import MODULE, ArmError, Start
from cnnbench.runner.launch import paired_environment
from cnnbench.runner.paired import Design, greet
from cnnbench.runner.revisions import Places, Revision
from cnnbench.schema import Device, Job

Settings = Mapping[str, str]


@dataclass(frozen=True)
class ArmWish:
    """What was asked for of one arm."""

    python: str
    revision: Revision | None
    settings: Settings


@dataclass(frozen=True)
class Pair:
    """The jobs of both arms by number, and the keys in which they differ."""

    base: dict[int, Job]
    head: dict[int, Job]
    declared: tuple[str, ...]


def read_settings(arm: Arm, texts: Sequence[str]) -> dict[str, str]:
    """`key=value` texts as a table. Raises UsageError for one that is none, or a key that changes the work itself."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"--{arm}-set {text!r}: write key=value, such as threads=1")
        if key not in KEYS:
            raise UsageError(
                f"--{arm}-set: no key {key!r}{nearest(key, tuple(WAIVED))}; choose from {', '.join(WAIVED)}"
            )
        if key not in WAIVED:
            raise UsageError(
                f"--{arm}-set {key}: it changes the work itself, and times of different work are not compared; "
                f"choose from {', '.join(WAIVED)}"
            )
        found[key] = value
    return found


def pair_jobs(jobs: Sequence[Job], base: Settings, head: Settings, cores: int) -> Pair:
    """The jobs as each arm does them. Raises UsageError for values that make no sense, or jobs that cannot be paired."""
    if not jobs:
        raise UsageError("no job is left to check: -k matches none of the suite's")
    ordered = sorted(jobs, key=describe)
    for job in ordered:
        if job.clock != "steady":
            what = f"{job.label}: clock {job.clock!r} is one piece and takes no turns"
            raise UsageError(f"{what}; check a suite of steady jobs")
        if job.processes > 1:
            raise UsageError(f"{job.label}: an arm is one process; leave jobs of several out with -k 'not ranks'")
    sides = [_with_settings(ordered, settings, cores) for settings in (base, head)]
    for side in sides:
        if len({job.allocator for job in side}) > 1:
            raise UsageError("jobs with different allocators cannot share a process; check them one by one with -k")
    differing = {
        key for its, ours in zip(*sides, strict=True) for key in WAIVED if getattr(its, key) != getattr(ours, key)
    }
    return Pair(dict(enumerate(sides[0])), dict(enumerate(sides[1])), tuple(sorted(differing)))


def _with_settings(jobs: Sequence[Job], settings: Settings, cores: int) -> list[Job]:
    changed = list(jobs)
    for key, text in settings.items():
        taken = [key in keys_for(workloads.get(job.workload)) for job in jobs]
        if not any(taken):
            raise UsageError(f"{key}={text}: no job of the suite takes {key}")
        changed = [_set(job, key, text, cores) if takes else job for job, takes in zip(changed, taken, strict=True)]
    for job in changed:
        if wrong := contradictions(job.model_dump()):
            raise UsageError(f"{job.label}: {'; '.join(wrong)}")
    return changed


def _set(job: Job, key: str, text: str, cores: int) -> Job:
    rule = keys_for(workloads.get(job.workload))[key]
    value: str | int | bool = text
    if rule.boolean:
        value = {"true": True, "false": False}.get(text, text)
    elif rule.low is not None and is_whole(text):
        value = int(text)
    if (wrong := rule.complaint(value)) is not None:
        raise UsageError(f"{key} {text!r} {wrong}")
    return job.model_copy(update={key: cores if key == "threads" and value == AUTO else value})


@dataclass(frozen=True)
class Workers:
    """How the workers of both arms are started."""

    places: Places
    pythons: Mapping[Arm, str]
    jobs: Mapping[Arm, Mapping[int, Job]]
    device: Device | None

    def start(self, arm: Arm, first: Arm) -> Start:
        """The start of an arm's worker; the arm named `first` sits in the first folder from now on."""
        self.places.exchange(first)
        return Start(
            arm,
            (self.pythons[arm], *MODULE),
            paired_environment(list(self.jobs[arm].values()), self.device, self.places.folders(arm, first)),
            self.places.root,
        )


def introduce(workers: Workers, wishes: Mapping[Arm, ArmWish]) -> dict[Arm, ArmSide]:
    """Start each arm once and hear what it runs on.

    Raises ComparisonError where one cannot take part, WorkerError where one does not start (a base that does not build).
    """
    try:
        heard = greet(workers.start)
    except ArmError as error:
        arm = error.failed.arm or "base"
        where = f"{arm} ({_label(wishes[arm])})"
        if error.failed.status == "outdated":
            raise ComparisonError(f"{where}: {error.failed.message}") from error
        tail = f"\n{error.failed.stderr_tail}" if error.failed.stderr_tail else ""
        raise WorkerError(f"{where} does not start: {error.failed.message}{tail}") from error
    return {arm: _side(workers, arm, wishes[arm], heard[arm]) for arm in ARMS}


def _side(workers: Workers, arm: Arm, wish: ArmWish, hello: Hello) -> ArmSide:
    if hello.spoken != SPOKEN:
        raise ComparisonError(f"{arm} ({_label(wish)}): it takes turns by protocol {hello.spoken}, this by {SPOKEN}")
    _check_package(workers.places, arm, wish, Path(hello.package))
    environment = paired_environment(list(workers.jobs[arm].values()), workers.device, ())
    return ArmSide(
        label=_label(wish),
        python="" if wish.python == sys.executable else wish.python,
        ref=None if wish.revision is None else wish.revision.text,
        commit=None if wish.revision is None else wish.revision.commit,
        settings=dict(wish.settings),
        software=hello.software,
        environment={name: value for name, value in environment.items() if name != "PYTHONPATH"},
    )


def _check_package(places: Places, arm: Arm, wish: ArmWish, package: Path) -> None:
    tree = (places.root / arm).resolve()
    expected = [tree / place / "cnnbench" for place in ("", "src") if (tree / place / "cnnbench").is_dir()]
    wanted = (expected[0] if expected else places.own / "cnnbench").resolve()
    if package != wanted:
        raise ComparisonError(f"{arm} ({_label(wish)}): it imported cnnbench from {package}, not from {wanted}")


def _label(wish: ArmWish) -> str:
    parts = [wish.revision.label] if wish.revision is not None else []
    parts += [f"{key}={value}" for key, value in wish.settings.items()]
    own = wish.python == sys.executable
    return ", ".join(parts) or ("this Python" if own else f"Python {wish.python}")


def design_of(header: CheckHeader, data_dir: Path | None, device_uuid: str | None) -> Design:
    """The blocks of a check, by its header."""
    return Design(
        jobs=jobs_of(header),
        seed=header.seed,
        mode=header.mode,
        rounds=header.rounds,
        steps_per_turn=header.steps_per_turn,
        data_dir=None if data_dir is None else str(data_dir.resolve()),
        device_uuid=device_uuid,
        again=header.again,
    )


def same_software(old: CheckHeader, sides: Mapping[Arm, ArmSide]) -> None:
    """Raises ComparisonError where an arm's software is no longer what the first blocks were measured with."""
    for arm, before in (("base", old.base), ("head", old.head)):
        now = sides[arm]  # type: ignore[index]
        if now.software != before.software:
            changed = _differences(before.software.model_dump(), now.software.model_dump())
            raise ComparisonError(f"{arm}: its software changed since the first block ({changed}); start a new check")


def _differences(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    return ", ".join(f"{key}: {old[key]} then, {new[key]} now" for key in old if old[key] != new[key])
