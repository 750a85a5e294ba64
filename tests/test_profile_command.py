"""`cnnbench profile` as a user meets it: every rung in one table, traces that open, nothing kept, mistakes named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import builders as b
import profile_builders as p
import pytest
from test_tuned import available

from cnnbench.cli.main import run_cli
from cnnbench.devices.nvml import NvmlResult
from cnnbench.errors import ExitCode
from cnnbench.machine import inventory
from cnnbench.plan.matrix import TUNED_VARIANTS
from cnnbench.profile_model import ProfileResult
from cnnbench.runner import launch

SMALL = ["-d", "cpu", "--threads", "1", "--steps", "3", "--warmup", "1", "-s", "data=synthetic", "-s", "batch_size=16"]


@pytest.mark.slow("real workers")
def test_every_rung_is_profiled_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["profile", "mlp-1", *SMALL, "--trace", "traces", "--format", "json", "-q"]) == ExitCode.DONE
    rungs = {each["rung"]: each for each in json.loads(capsys.readouterr().out)["rungs"]}
    assert list(rungs) == ["reference", *TUNED_VARIANTS]
    profiled = {"reference", "fused", *(["native"] if available() else [])}
    assert profiled == {name for name, found in rungs.items() if found["status"] == "ok"}
    assert all(found["message"] for name, found in rungs.items() if name not in profiled)
    for name in profiled:
        found = rungs[name]
        assert found["profiled_steps"] == 3
        assert sum(part["share"] for part in found["breakdown"]["groups"]) == pytest.approx(1.0)
        assert found["environment"]["MALLOC_TRIM_THRESHOLD_"] == "4294967296"
        events = json.loads(Path(found["trace"]).read_text())["traceEvents"]
        assert sum(each.get("name") == "cnnbench::step" for each in events) == 3
    if available():
        assert any(each["name"] == "native::cross_entropy" for each in rungs["native"]["breakdown"]["operators"])
    assert [each.name for each in tmp_path.iterdir()] == ["traces"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU alone, that nobody has to be asked for."""
    found = inventory.Inventory(b.machine(), b.software(), NvmlResult((), "none"), ())
    monkeypatch.setattr(inventory, "take_inventory", lambda **_: found)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch, machine: None) -> Callable[..., None]:
    """Workers that answer at once, rung by rung."""

    def answer(*results: ProfileResult) -> None:
        left = list(results)
        monkeypatch.setattr(launch, "run_profile", lambda rung, options, trace: left.pop(0))

    return answer


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["mnist-cmm"], ExitCode.USAGE, "workload 'mnist-cmm' is not one of"),
        (["mnist-cnn", "-d", "cuda:0"], ExitCode.UNFIT, "device 'cuda:0' is not here; there are: cpu"),
        (["mnist-cnn", "-s", "precision=fp23"], ExitCode.USAGE, "'fp23' is not one of"),
        (["mnist-cnn", "--steps", "0"], ExitCode.USAGE, "--steps"),
        (["mnist-cnn", "--trace", "taken"], ExitCode.USAGE, "taken"),
        (["mnist-cnn", "--trace", "taken/below"], ExitCode.USAGE, "--trace taken/below: cannot be made"),
    ],
)
def test_mistakes_are_one_error_each(
    machine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: ExitCode,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("")
    assert run_cli(["profile", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (p.failed("native"), ExitCode.DONE),
        (p.failed("native", "crashed", "the worker was ended by SIGSEGV"), ExitCode.JOB_FAILED),
        (p.failed("native", "oom", "out of memory"), ExitCode.JOB_FAILED),
    ],
)
def test_a_rung_the_device_cannot_do_is_named_and_one_that_fails_is_a_failure(
    answered: Callable[..., None], capsys: pytest.CaptureFixture[str], last: ProfileResult, code: ExitCode
) -> None:
    answered(p.profiled("reference"), *(p.profiled(name) for name in TUNED_VARIANTS[1:]), last)
    assert run_cli(["profile", "mnist-cnn", *SMALL]) == code
    out, err = capsys.readouterr()
    assert f"native on cpu: {last.outcome.status}: {last.outcome.message}" in " ".join(out.split())
    assert err.count("profiling mnist-cnn b16 fp32 on cpu, 1 thread: ") == 1 + len(TUNED_VARIANTS)


def test_where_nothing_could_be_profiled_the_reason_is_all_there_is(
    answered: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    answered(p.failed("native"))
    assert run_cli(["profile", "mnist-cnn", *SMALL, "-s", "execution=native", "-q"]) == ExitCode.JOB_FAILED
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "- native on cpu: unsupported: no compiler"
    assert err == ""


def test_a_file_is_written_whole_and_its_name_said(
    answered: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answered(p.profiled())
    page = tmp_path / "profile.md"
    arguments = ["-s", "division=reference", "--format", "markdown", "-o", str(page)]
    assert run_cli(["profile", "mnist-cnn", *SMALL, *arguments]) == ExitCode.DONE
    assert f"wrote {page}" in capsys.readouterr().err
    assert page.read_text().startswith("## mnist-cnn b16 fp32 on cpu, 2 threads: rungs\n")
