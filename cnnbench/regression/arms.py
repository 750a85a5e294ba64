"""What a check compares, decided before its first block: the jobs of both arms, and how each worker is started."""

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
from cnnbench.regression.blocks import FIELDS_WAIVED_BY_SETTING
from cnnbench.regression.check_record import ArmRecord, CheckHeader
from cnnbench.runner.arm_process import MODULE, ArmCommand, ArmError
from cnnbench.runner.launch import build_paired_environment
from cnnbench.runner.paired import PairDesign, perform_handshakes
from cnnbench.runner.revisions import Checkouts, Revision
from cnnbench.schema import AUTO, Device, Job

ArmSettings = Mapping[str, str]


@dataclass(frozen=True)
class ArmSpec:
    """What was asked for in one arm."""

    python: str
    revision: Revision | None
    settings: ArmSettings

    @property
    def label(self) -> str:
        """The arm's revision and settings in words; if it has neither, its Python."""
        parts = [self.revision.label] if self.revision is not None else []
        parts += [f"{key}={value}" for key, value in self.settings.items()]
        return ", ".join(parts) or ("this Python" if self.python == sys.executable else f"Python {self.python}")


@dataclass(frozen=True)
class PairedJobs:
    """The jobs of both arms by number, and the keys in which they differ."""

    base: dict[int, Job]
    head: dict[int, Job]
    declared: tuple[str, ...]


def read_settings(arm: Arm, texts: Sequence[str]) -> dict[str, str]:
    """Parse `key=value` texts.

    Raises UsageError for a malformed text, or a key that changes the work itself.
    """
    found = {}
    choices = f"choose from {', '.join(FIELDS_WAIVED_BY_SETTING)}"
    for text in texts:
        key, value = split_setting(f"--{arm}-set", text, "threads=1")
        if key not in KEYS:
            hint = suggest_nearest(key, tuple(FIELDS_WAIVED_BY_SETTING))
            raise UsageError(f"--{arm}-set: no key {key!r}{hint}; {choices}")
        if key not in FIELDS_WAIVED_BY_SETTING:
            raise UsageError(
                f"--{arm}-set {key}: it changes the work itself, and times of different work are not compared; {choices}"
            )
        found[key] = value
    return found


def pair_jobs(jobs: Sequence[Job], base: ArmSettings, head: ArmSettings, cores: int) -> PairedJobs:
    """Make the jobs that each arm does.

    Raises UsageError for impossible values, or jobs that cannot be paired.
    """
    if not jobs:
        raise UsageError("no job is left to check: -k matches none of the suite's jobs")
    ordered = sorted(jobs, key=describe_job)
    for job in ordered:
        if job.clock != "steady":
            raise UsageError(
                f"{process_label(job)}: clock {job.clock!r} times one piece and cannot take turns; check a suite of steady jobs"
            )
        if job.processes > 1:
            raise UsageError(
                f"{process_label(job)}: an arm is one process; leave out jobs of several with -k 'not ranks'"
            )
    its_jobs, our_jobs = (dict(enumerate(_apply_settings(ordered, settings, cores))) for settings in (base, head))
    if any(len({job.allocator for job in side.values()}) > 1 for side in (its_jobs, our_jobs)):
        raise UsageError("jobs with different allocators cannot share a process; check them one by one with -k")
    differing = [
        key
        for key in sorted(FIELDS_WAIVED_BY_SETTING)
        if any(getattr(its_jobs[number], key) != getattr(our_jobs[number], key) for number in its_jobs)
    ]
    return PairedJobs(its_jobs, our_jobs, tuple(differing))


def _apply_settings(jobs: Sequence[Job], settings: ArmSettings, cores: int) -> list[Job]:
    changed = list(jobs)
    for key, text in settings.items():
        rules = [keys_for(workloads.get(job.workload)).get(key) for job in jobs]
        if not any(rules):
            raise UsageError(f"{key}={text}: no job of the suite takes {key}")
        for place, rule in enumerate(rules):
            if rule is None:
                continue
            value = rule.read_text(text)
            if (mistake := rule.find_mistake(value)) is not None:
                raise UsageError(f"{key} {text!r} {mistake}")
            chosen = cores if key == "threads" and value == AUTO else value
            changed[place] = changed[place].model_copy(update={key: chosen})
    for job in changed:
        if wrong := find_contradictions(job.model_dump()):
            raise UsageError(f"{process_label(job)}: {'; '.join(wrong)}")
    return changed


@dataclass(frozen=True)
class Workers:
    """How the workers of both arms are started."""

    places: Checkouts
    pythons: Mapping[Arm, str]
    jobs: Mapping[Arm, Mapping[int, Job]]
    device: Device | None

    def start(self, arm: Arm, first: Arm) -> ArmCommand:
        """Make the command of an arm's worker, and put the arm named `first` into the first folder."""
        self.places.exchange_arms(first)
        return ArmCommand(
            arm,
            (self.pythons[arm], *MODULE),
            build_paired_environment(list(self.jobs[arm].values()), self.device, self.places.folders(arm, first)),
            self.places.root,
        )


def identify_arms(workers: Workers, specs: Mapping[Arm, ArmSpec]) -> dict[Arm, ArmRecord]:
    """Start each arm once and read what it runs on.

    Raises ComparisonError if one cannot take part, WorkerError if one does not start (a base that does not build).
    """
    try:
        heard = perform_handshakes(workers.start)
    except ArmError as error:
        arm = error.failed.arm or "base"
        where = f"{arm} ({specs[arm].label})"
        if error.failed.status == "outdated":
            raise ComparisonError(f"{where}: {error.failed.message}") from error
        tail = f"\n{error.failed.stderr_tail}" if error.failed.stderr_tail else ""
        raise WorkerError(f"{where} does not start: {error.failed.message}{tail}") from error
    return {arm: _describe_arm(workers, arm, specs[arm], heard[arm]) for arm in ARMS}


def _describe_arm(workers: Workers, arm: Arm, spec: ArmSpec, hello: Handshake) -> ArmRecord:
    if hello.spoken != PROTOCOL_VERSION:
        raise ComparisonError(
            f"{arm} ({spec.label}): its turns follow protocol {hello.spoken}, this cnnbench's {PROTOCOL_VERSION}"
        )
    tree, package = (workers.places.root / arm).resolve(), Path(hello.package)
    own = (place for place in (tree / "cnnbench", tree / "src" / "cnnbench") if place.is_dir())
    wanted = next(own, workers.places.running_package / "cnnbench").resolve()
    if package != wanted:
        raise ComparisonError(f"{arm} ({spec.label}): it imported cnnbench from {package}, not from {wanted}")
    environment = build_paired_environment(list(workers.jobs[arm].values()), workers.device, ())
    return ArmRecord(
        label=spec.label,
        python="" if spec.python == sys.executable else spec.python,
        ref=None if spec.revision is None else spec.revision.text,
        commit=None if spec.revision is None else spec.revision.commit,
        settings=dict(spec.settings),
        software=hello.software,
        environment={name: value for name, value in environment.items() if name != "PYTHONPATH"},
    )


def make_block_design(header: CheckHeader, data_dir: Path | None, device_uuid: str | None) -> PairDesign:
    """Make the design of a check's blocks from its header."""
    return PairDesign(
        jobs={"base": header.jobs, "head": header.head_jobs},
        seed=header.seed,
        schedule=header.mode,
        rounds=header.rounds,
        steps_per_turn=header.steps_per_turn,
        data_dir=None if data_dir is None else str(data_dir.resolve()),
        device_uuid=device_uuid,
        injected=header.again,
    )


def require_same_software(old: CheckHeader, sides: Mapping[Arm, ArmRecord]) -> None:
    """Check that each arm's software is what the first blocks were measured with.

    Raises ComparisonError otherwise.
    """
    for arm, side in sides.items():
        before, now = (each.software.model_dump() for each in (getattr(old, arm), side))
        if changed := [f"{key}: {before[key]} then, {now[key]} now" for key in before if before[key] != now[key]]:
            found = f"its software changed since the first block ({', '.join(changed)})"
            raise ComparisonError(f"{arm}: {found}; start a new check")
