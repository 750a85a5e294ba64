"""`check baseline judge` after a suspicious time: the paired check of the two commits, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import builders as b
import pytest
import run_builders as r
from revision_builders import BROKEN, SAME, SUITE, repository, worktrees
from test_check_command import command, log  # noqa: F401 (fixtures)

from cnnbench.errors import ExitCode
from cnnbench.plan import suite as suites
from cnnbench.plan.matrix import make_plan
from cnnbench.regression import check_record
from cnnbench.regression.check_record import CheckRecord
from cnnbench.regression.screen import worst_exit_code
from cnnbench.schema import Job
from cnnbench.store import Ledger

SLOW_CNN = "mnist-cnn 1.2\ngemm 1.0\n"


@dataclass
class World:
    """A machine with recorded runs of a suite and a baseline of them, in a repository that has the runs' commits."""

    folder: Path
    commits: tuple[str, ...]
    results: Path
    run: Callable[..., int]

    def judge(self, *arguments: object) -> int:
        return self.run("check", "baseline", "judge", "main", *arguments)

    @property
    def records(self) -> list[CheckRecord]:
        found = sorted((self.folder.parent / "cache" / "cnnbench" / "checks").glob("*.json"))
        return [check_record.load_record(path) for path in found]


def planned() -> dict[str, Job]:
    """The suite's jobs on the tests' machine."""
    loaded = suites.load_suite(suites.find_suite("pair"))
    here = b.machine()
    return {job.workload: job for job in make_plan((loaded,), here, here.devices, data_kind="mnist", seed=1, repeats=1)}


def recorded(
    number: int, seconds: Mapping[str, float], commit: str | None, *, dirty: bool = False, of: tuple[str, ...] = ("pair",),
    software: Mapping[str, Any] | None = None, machine: str = b.MACHINE_ID, **measured: Any,
) -> Ledger:  # fmt: skip
    """Run `number` of the suite's jobs, three processes each, 1 % apart."""
    records = []
    for place, (workload, job) in enumerate(sorted(planned().items())):
        for round_ in range(3):
            each = job.model_copy(update={"round": round_, "seed": 100 * number + round_})
            step = seconds[workload] * (1 + (round_ - 1) / 100)
            records.append(b.record(each, step, index=3 * place + round_, **measured))
    ledger = b.ledger(
        records,
        run_id=f"202603{number:02d}T120000Z-{number:04x}",
        created_at=f"2026-03-{number:02d}T12:00:00Z",
        software=b.software(git_commit=commit, git_dirty=dirty, **(software or {})),
        machine=b.machine(machine),
    )
    return replace(ledger, header=ledger.header.model_copy(update={"suites": dict.fromkeys(of, "0" * 64)}))


@pytest.fixture
def world(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> Callable[..., World]:  # fmt: skip
    """Makes one: `head` is what its second commit's workers do, `slow` the last run's jobs that took twice as long."""
    shelf = tmp_path / "suites"
    shelf.mkdir()
    (shelf / "pair.toml").write_text(SUITE)
    monkeypatch.setattr(suites, "suites_dir", lambda: shelf)
    for name, value in {"ROUNDS": "2", "STEPS_PER_TURN": "2", "KEEP_DISTURBED": "1", "SEED": "1"}.items():
        monkeypatch.setenv(f"CNNBENCH_CHECK_{name}", value)

    def make(
        head: str = SLOW_CNN, slow: tuple[str, ...] = ("mnist-cnn",), factor: float = 2.0, base: Any = SAME,
        of_all: Mapping[str, Any] | None = None, **of_last: Any,
    ) -> World:  # fmt: skip
        first = {"fake-arm": base} if isinstance(base, str) else base
        commits = repository(tmp_path / "toy", first, {"fake-arm": head})
        results, shared = tmp_path / "results", dict(of_all or {})
        for number, step in enumerate(r.STEPS, start=1):
            b.write(results, recorded(number, dict.fromkeys(planned(), step), **({"commit": commits[0]} | shared)))
        monkeypatch.setenv("CNNBENCH_RESULTS", str(results))
        monkeypatch.chdir(tmp_path / "toy")
        assert command("check", "baseline", "save", "main") == 0
        seconds = {workload: 0.01 * (factor if workload in slow else 1.0) for workload in planned()}
        b.write(results, recorded(20, seconds, **({"commit": commits[1]} | shared | of_last)))
        capfd.readouterr()
        return World(tmp_path / "toy", commits, results, command)

    return make


def test_a_slower_commit_is_regressed_by_the_check_of_the_suspicious_row_alone(
    world: Callable[..., World], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = world()
    assert here.judge() == ExitCode.FINDING
    out, err = capfd.readouterr()
    assert out.index("suspicious: slower") < out.index("REGRESSED: slower than +5 %")
    assert f"--base {here.commits[0]} --head {here.commits[1]}" in err
    (record,) = here.records
    assert (record.header.base.commit, record.header.head.commit) == here.commits
    assert list(record.header.names.values()) == ["mnist-cnn/cpu"]
    assert worktrees(here.folder) == 0


def test_a_suspicion_that_the_check_does_not_confirm_is_none(
    world: Callable[..., World], capfd: pytest.CaptureFixture[str]
) -> None:
    here = world(head=SAME)
    assert here.judge() == ExitCode.DONE
    assert "PASS: no job is slower" in capfd.readouterr().out


def test_a_faster_run_is_looked_into_as_well(world: Callable[..., World], capfd: pytest.CaptureFixture[str]) -> None:
    here = world(head="mnist-cnn 0.5\ngemm 1.0\n", factor=0.5)
    assert here.judge() == ExitCode.DONE
    assert "IMPROVED" in capfd.readouterr().out


def test_a_run_that_is_faster_by_doing_less_is_not_comparable(
    world: Callable[..., World], capfd: pytest.CaptureFixture[str]
) -> None:
    here = world(head="mnist-cnn less-work\ngemm 1.0\n", factor=0.5)
    assert here.judge() == ExitCode.UNFIT
    assert "did not do the same work" in capfd.readouterr().out


def test_two_suspicious_rows_of_a_device_are_one_check(world: Callable[..., World]) -> None:
    here = world(head="mnist-cnn 1.0\ngemm 1.2\n", slow=("mnist-cnn", "gemm"))
    assert here.judge() == ExitCode.FINDING
    (record,) = here.records
    assert sorted(record.header.names.values()) == ["gemm/cpu", "mnist-cnn/cpu"]


def test_a_check_that_cannot_tell_is_inconclusive_or_a_warning(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six blocks alone never suspect."""
    here = world()
    monkeypatch.setenv("CNNBENCH_CHECK_MAX_BLOCKS", "6")
    assert here.judge() == ExitCode.INCONCLUSIVE
    assert here.judge("--inconclusive", "warn") == ExitCode.DONE


def test_a_finding_of_the_judges_own_outranks_a_check_that_passes(world: Callable[..., World]) -> None:
    """Other operators than the stored runs had; the check is made all the same."""
    here = world(head=SAME, of_all={"operators_per_step": 85}, operators_per_step=86)
    assert here.judge() == ExitCode.FINDING
    assert [record.ending.outcome for record in here.records] == ["pass"]


def test_without_a_suspicion_nothing_is_measured(world: Callable[..., World], log: Path) -> None:  # noqa: F811
    assert world(slow=()).judge() == ExitCode.DONE
    assert not log.exists()


def test_no_check_leaves_it_at_the_warning(
    world: Callable[..., World], log: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    here = world()
    assert here.judge("--no-check") == ExitCode.DONE
    out = " ".join(capfd.readouterr().out.split())
    assert f"cnnbench check pair --base {here.commits[0][:12]} --head {here.commits[1][:12]}" in out
    assert not log.exists()


def test_a_table_for_a_machine_to_read_stays_one(
    world: Callable[..., World], capfd: pytest.CaptureFixture[str]
) -> None:
    here = world(head=SAME)
    assert here.judge("--format", "json") == ExitCode.DONE
    out, err = capfd.readouterr()
    assert json.loads(out)["tables"]
    assert "PASS: no job is slower" in err


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"of_all": {"commit": "f" * 40}, "commit": "e" * 40}, f"--base '{'f' * 40}' is not a revision of"),
        ({"commit": "e" * 40}, f"--head '{'e' * 40}' is not a revision of"),
        ({"of_all": {"dirty": True}}, "no commit without local changes"),
        ({"of_all": {"commit": None}}, "no commit without local changes"),
        ({"of_all": {"commit": "HEAD"}}, "no commit without local changes"),
        ({"dirty": True}, "No commit has the code"),
        ({"commit": None}, "No commit has the code"),
        ({"of_all": {"software": {"torch": "2.12.0"}}}, "the run had torch 2.12.0 (cpu), Python 3.11, here is torch 2.13.0"),
        ({"of_all": {"software": {"python": "3.12.1"}}}, "Python 3.12, here is torch 2.13.0 (cpu), Python 3.11"),
        ({"of_all": {"machine": "other-1f2e"}}, "the run is of machine other-1f2e, this is testbox-0a1b"),
        ({"of_all": {"of": ("--replay=x",)}}, "suite '--replay=x' is none of those shipped; give its file with --suite"),
        ({"of_all": {"of": ("pair", "quick")}}, "the run is of 2 suites; name the one to check with --suite"),
        ({"base": BROKEN}, "does not start: the worker exited with 1: ImportError: deliberate"),
    ],
    ids=[
        *("base unknown", "head unknown", "base dirty", "base without git", "base a name", "run dirty", "run without git"),
        *("torch", "python", "machine", "own suite", "suites", "base broken"),
    ],
)  # fmt: skip
def test_where_it_cannot_be_checked_the_reason_is_a_warning(
    made: dict[str, Any], words: str, world: Callable[..., World], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = world(**made)
    assert here.judge() == ExitCode.DONE
    err = capfd.readouterr().err
    assert "warning: not checked: " in err
    assert words in err
    assert "Traceback" not in err
    assert (here.records, worktrees(here.folder)) == ([], 0)


def test_outside_of_a_repository_it_is_a_warning(
    world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here = world()
    monkeypatch.chdir(tmp_path)
    assert here.judge() == ExitCode.DONE
    assert "warning: not checked: " in (err := capfd.readouterr().err)
    assert "not in a git repository" in err


def test_a_row_that_the_suite_no_longer_plans_is_named(
    world: Callable[..., World], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Alone it is a warning; of two rows the other one is checked."""
    here = world(head="mnist-cnn 1.0\ngemm 1.2\n", slow=("mnist-cnn", "gemm"))
    other = tmp_path / "other.toml"
    other.write_text(SUITE.replace("batch_size = 32", "batch_size = 64"))
    gone = "warning: not checked: suite other as it is now does not plan mnist-cnn b32 fp32 on cpu, 8 threads here"
    assert here.judge("--suite", other) == ExitCode.FINDING
    assert gone in capfd.readouterr().err
    assert [list(record.header.names.values()) for record in here.records] == [["gemm/cpu"]]
    other.write_text(other.read_text().partition('[[job]]\nworkload = "gemm"')[0])
    assert here.judge("--suite", other) == ExitCode.DONE
    assert "gemm 64 fp32 on cpu" in capfd.readouterr().err


def test_a_suite_of_ones_own_is_named_by_its_file(world: Callable[..., World], tmp_path: Path) -> None:
    here = world(of_all={"of": ("mine",)})
    mine = tmp_path / "mine.toml"
    mine.write_text(SUITE)
    assert here.judge("--suite", mine) == ExitCode.FINDING


def test_the_number_of_threads_of_the_run_is_the_checks(
    world: Callable[..., World], capfd: pytest.CaptureFixture[str]
) -> None:
    """`run --threads 4` planned the rows with four; a text that is no number is left out."""
    here = world()
    ledger = here.results / b.MACHINE_ID / "20260320T120000Z-0014.jsonl"
    changed = ledger.read_text().replace('"options":{}', '"options":{"threads":"4"}', 1)
    assert changed != ledger.read_text()
    ledger.write_text(changed)
    assert here.judge() == ExitCode.DONE
    err = capfd.readouterr().err
    assert "--threads 4" in err
    assert "does not plan mnist-cnn b32 fp32 on cpu, 8 threads here" in err
    ledger.write_text(changed.replace('"threads":"4"', '"threads":"-o"'))
    assert here.judge() == ExitCode.FINDING


@pytest.mark.parametrize(
    ("codes", "together"), [((), 0), ((0, 4), 4), ((4, 5), 5), ((5, 3), 3), ((0, 3, 1), 1), ((0, 0), 0)]
)
def test_the_gravest_of_several_codes_counts(codes: tuple[int, ...], together: int) -> None:
    assert worst_exit_code(map(ExitCode, codes)) == together
