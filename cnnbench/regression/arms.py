"""What a check compares, settled before its first block: the jobs of both arms, and how each arm's worker is started."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench import workloads
from cnnbench.errors import ComparisonError, UsageError, WorkerError
from cnnbench.naming import describe_job, process_label
from cnnbench.paired_protocol import ARMS, PROTOCOL_VERSION, Arm, Handshake
from cnnbench.plain_text import suggest_nearest
from cnnbench.plan.job_keys import KEYS, find_contradictions, keys_for, split_setting
from cnnbench.regression.check_record import ArmRecord, CheckHeader, jobs_by_arm
from cnnbench.regression.differences import FIELDS_WAIVED_BY_SETTING
from cnnbench.runner.arm_process import MODULE, ArmCommand, ArmError
from cnnbench.runner.launch import build_paired_environment
from cnnbench.runner.paired import PairDesign, perform_handshakes
from cnnbench.runner.revisions import Checkouts, Revision
from cnnbench.schema import AUTO, Device, Job

ArmSettings = Mapping[str, str]


@dataclass(frozen=True)
class ArmSpec:
    """What was asked for of one arm."""

    python: str
    revision: Revision | None
    settings: ArmSettings


@dataclass(frozen=True)
class PairedJobs:
    """The jobs of both arms by number, and the keys in which they differ."""

    base: dict[int, Job]
    head: dict[int, Job]
    declared: tuple[str, ...]


def read_settings(arm: Arm, texts: Sequence[str]) -> dict[str, str]:
    """`key=value` texts as a table. Raises UsageError for one that is none, or a key that changes the work itself."""
    found: dict[str, str] = {}
    for text in texts:
        key, value = split_setting(f"--{arm}-set", text, "threads=1")
        if key not in KEYS:
            hint, choices = suggest_nearest(key, tuple(FIELDS_WAIVED_BY_SETTING)), ", ".join(FIELDS_WAIVED_BY_SETTING)
            raise UsageError(f"--{arm}-set: no key {key!r}{hint}; choose from {choices}")
        if key not in FIELDS_WAIVED_BY_SETTING:
            raise UsageError(
                f"--{arm}-set {key}: it changes the work itself, and times of different work are not compared; "
                f"choose from {', '.join(FIELDS_WAIVED_BY_SETTING)}"
            )
        found[key] = value
    return found


def pair_jobs(jobs: Sequence[Job], base: ArmSettings, head: ArmSettings, cores: int) -> PairedJobs:
    """The jobs as each arm does them. Raises UsageError for values that make no sense, or jobs that cannot be paired."""
    if not jobs:
        raise UsageError("no job is left to check: -k matches none of the suite's")
    ordered = sorted(jobs, key=describe_job)
    for job in ordered:
        if job.clock != "steady":
            what = f"{process_label(job)}: clock {job.clock!r} is one piece and takes no turns"
            raise UsageError(f"{what}; check a suite of steady jobs")
        if job.processes > 1:
            raise UsageError(
                f"{process_label(job)}: an arm is one process; leave jobs of several out with -k 'not ranks'"
            )
    sides = [_apply_settings(ordered, settings, cores) for settings in (base, head)]
    for side in sides:
        if len({job.allocator for job in side}) > 1:
            raise UsageError("jobs with different allocators cannot share a process; check them one by one with -k")
    differing = {
        key
        for its, ours in zip(*sides, strict=True)
        for key in FIELDS_WAIVED_BY_SETTING
        if getattr(its, key) != getattr(ours, key)
    }
    return PairedJobs(dict(enumerate(sides[0])), dict(enumerate(sides[1])), tuple(sorted(differing)))


def _apply_settings(jobs: Sequence[Job], settings: ArmSettings, cores: int) -> list[Job]:
    changed = list(jobs)
    for key, text in settings.items():
        taken = [key in keys_for(workloads.get(job.workload)) for job in jobs]
        if not any(taken):
            raise UsageError(f"{key}={text}: no job of the suite takes {key}")
        changed = [
            _apply_setting(job, key, text, cores) if takes else job for job, takes in zip(changed, taken, strict=True)
        ]
    for job in changed:
        if wrong := find_contradictions(job.model_dump()):
            raise UsageError(f"{process_label(job)}: {'; '.join(wrong)}")
    return changed


def _apply_setting(job: Job, key: str, text: str, cores: int) -> Job:
    rule = keys_for(workloads.get(job.workload))[key]
    value = rule.read_text(text)
    if (wrong := rule.find_mistake(value)) is not None:
        raise UsageError(f"{key} {text!r} {wrong}")
    return job.model_copy(update={key: cores if key == "threads" and value == AUTO else value})


@dataclass(frozen=True)
class Workers:
    """How the workers of both arms are started."""

    places: Checkouts
    pythons: Mapping[Arm, str]
    jobs: Mapping[Arm, Mapping[int, Job]]
    device: Device | None

    def start(self, arm: Arm, first: Arm) -> ArmCommand:
        """The start of an arm's worker; the arm named `first` sits in the first folder from now on."""
        self.places.exchange_arms(first)
        return ArmCommand(
            arm,
            (self.pythons[arm], *MODULE),
            build_paired_environment(list(self.jobs[arm].values()), self.device, self.places.folders(arm, first)),
            self.places.root,
        )


def identify_arms(workers: Workers, specs: Mapping[Arm, ArmSpec]) -> dict[Arm, ArmRecord]:
    """Start each arm once and hear what it runs on.

    Raises ComparisonError where one cannot take part, WorkerError where one does not start (a base that does not build).
    """
    try:
        heard = perform_handshakes(workers.start)
    except ArmError as error:
        arm = error.failed.arm or "base"
        where = f"{arm} ({_label_arm(specs[arm])})"
        if error.failed.status == "outdated":
            raise ComparisonError(f"{where}: {error.failed.message}") from error
        tail = f"\n{error.failed.stderr_tail}" if error.failed.stderr_tail else ""
        raise WorkerError(f"{where} does not start: {error.failed.message}{tail}") from error
    return {arm: _describe_arm(workers, arm, specs[arm], heard[arm]) for arm in ARMS}


def _describe_arm(workers: Workers, arm: Arm, spec: ArmSpec, hello: Handshake) -> ArmRecord:
    if hello.spoken != PROTOCOL_VERSION:
        raise ComparisonError(
            f"{arm} ({_label_arm(spec)}): it takes turns by protocol {hello.spoken}, this by {PROTOCOL_VERSION}"
        )
    _check_package(workers.places, arm, spec, Path(hello.package))
    environment = build_paired_environment(list(workers.jobs[arm].values()), workers.device, ())
    return ArmRecord(
        label=_label_arm(spec),
        python="" if spec.python == sys.executable else spec.python,
        ref=None if spec.revision is None else spec.revision.text,
        commit=None if spec.revision is None else spec.revision.commit,
        settings=dict(spec.settings),
        software=hello.software,
        environment={name: value for name, value in environment.items() if name != "PYTHONPATH"},
    )


def _check_package(places: Checkouts, arm: Arm, spec: ArmSpec, package: Path) -> None:
    tree = (places.root / arm).resolve()
    expected = [tree / place / "cnnbench" for place in ("", "src") if (tree / place / "cnnbench").is_dir()]
    wanted = (expected[0] if expected else places.running_package / "cnnbench").resolve()
    if package != wanted:
        raise ComparisonError(f"{arm} ({_label_arm(spec)}): it imported cnnbench from {package}, not from {wanted}")


def _label_arm(spec: ArmSpec) -> str:
    parts = [spec.revision.label] if spec.revision is not None else []
    parts += [f"{key}={value}" for key, value in spec.settings.items()]
    own = spec.python == sys.executable
    return ", ".join(parts) or ("this Python" if own else f"Python {spec.python}")


def make_block_design(header: CheckHeader, data_dir: Path | None, device_uuid: str | None) -> PairDesign:
    """The blocks of a check, by its header."""
    return PairDesign(
        jobs=jobs_by_arm(header),
        seed=header.seed,
        schedule=header.mode,
        rounds=header.rounds,
        steps_per_turn=header.steps_per_turn,
        data_dir=None if data_dir is None else str(data_dir.resolve()),
        device_uuid=device_uuid,
        injected=header.again,
    )


def require_same_software(old: CheckHeader, sides: Mapping[Arm, ArmRecord]) -> None:
    """Raises ComparisonError where an arm's software is no longer what the first blocks were measured with."""
    for arm, before in (("base", old.base), ("head", old.head)):
        now = sides[arm]  # type: ignore[index]
        if now.software != before.software:
            changed = _describe_changes(before.software.model_dump(), now.software.model_dump())
            raise ComparisonError(f"{arm}: its software changed since the first block ({changed}); start a new check")


def _describe_changes(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    return ", ".join(f"{key}: {old[key]} then, {new[key]} now" for key in old if old[key] != new[key])
