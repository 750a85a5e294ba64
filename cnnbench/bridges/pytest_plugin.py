"""The pytest plugin: the fixture `cnnbench`, and for pytest-benchmark the facts of the machine of a saved run.

It needs pytest-benchmark for both, and does nothing in a run that does not use it. A run uses it if a test calls the
fixture, if `--cnnbench-facts` is given, or if it is compared with a saved run that did. Then `machine_info` gets
the machine's facts under the key `cnnbench` (processor, cores, accelerators, torch, thread and allocator variables) and
loses the clocks of the moment, so that the same machine is the same in every run. Importing this loads pytest alone.

It leaves commit_info alone: what pytest-benchmark writes there is all that a reader needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
KEY = "cnnbench"
"""Equal to `machine_facts.KEY`; repeated here so that a run without the facts does not load that module."""


class Timer:
    """The value of the fixture `cnnbench`: call it once, with the work to be timed."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark

    def __call__(self, work: Callable[[], T], *, device: str, **options: Any) -> T:
        """Time `work` on `device` and return the result of its last call.

        `options` are calls, rounds, warmup_rounds, flops and images of `cnnbench.engine.pytest_timer.measure`; see there.
        """
        from cnnbench.engine.pytest_timer import measure

        return measure(self.benchmark, work, device=device, **options)

    @property
    def extra_info(self) -> dict[str, Any]:
        """pytest-benchmark's `extra_info` of this test, saved with its times."""
        found: dict[str, Any] = self.benchmark.extra_info
        return found


class _Fixture:
    @pytest.fixture(name="cnnbench")
    def timer(self, benchmark: Any) -> Timer:
        """Time work of this test under pytest-benchmark with a synchronised device; extra_info gets rates and memory.

        Example::

            def test_product(cnnbench):
                a = torch.randn(512, 512)
                cnnbench(lambda: a @ a, device="cpu", calls=10, flops=2 * 512**3)
        """
        return Timer(benchmark)


class _NoFixture:
    @pytest.fixture(name="cnnbench")
    def timer(self) -> Timer:
        """Skip the test, because pytest-benchmark is missing or disabled."""
        pytest.skip("the fixture cnnbench needs pytest-benchmark (pip install pytest-benchmark), enabled in this run")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add two options; neither changes anything unless pytest-benchmark saves or compares."""
    group = parser.getgroup("cnnbench")
    group.addoption(
        "--cnnbench-facts",
        action="store_true",
        help="Add cnnbench's facts of the machine to pytest-benchmark's machine_info, even if no test uses the fixture.",
    )
    group.addoption(
        "--cnnbench-other-machine",
        choices=["warn", "fail"],
        default="warn",
        help="What --benchmark-compare does if the saved run has another machine, torch or thread setting (default: warn).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixture, or one that skips the test if pytest-benchmark is not in this run."""
    there = config.getoption("benchmark_only", None) is not None
    config.pluginmanager.register(_Fixture() if there else _NoFixture(), "cnnbench-fixture")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the facts if the run uses cnnbench: a test that used the fixture has loaded the module with its timer."""
    if config.getoption("cnnbench_facts") or "cnnbench.engine.pytest_timer" in sys.modules:
        _add_facts(machine_info)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: Mapping[str, Any]
) -> None:
    """Warn in words how this machine differs from the saved run's, or end the run with `--cnnbench-other-machine fail`.

    It runs before pytest-benchmark's hook, which prints both objects whole if they differ in anything.
    """
    saved = compared_benchmark.get("machine_info")
    there = saved.get(KEY) if isinstance(saved, Mapping) else None
    if there is None and not config.getoption("cnnbench_facts"):
        return
    from cnnbench.machine_facts import list_differences
    from cnnbench.plain_text import plain

    _add_facts(machine_info)
    lines = [
        "the saved run has no facts of cnnbench: save it again with --cnnbench-facts, or with a test that uses the fixture"
    ]
    if isinstance(there, Mapping):
        lines = [plain(line) for line in list_differences(machine_info[KEY], there)]
    if not lines:
        return
    text = "compared with a run of another machine or set-up:\n" + "\n".join(f"  {line}" for line in lines)
    if config.getoption("cnnbench_other_machine") == "fail":
        raise pytest.UsageError(f"{text}\ncompare runs of one machine, or use --cnnbench-other-machine warn")
    config.issue_config_time_warning(pytest.PytestWarning(text), stacklevel=2)


def _add_facts(machine_info: dict[str, Any]) -> None:
    """Add the facts and remove the current clock rates; a second call changes nothing."""
    from cnnbench.machine.fingerprint import collect_facts

    machine_info.setdefault(KEY, collect_facts(os.environ))
    if isinstance(cpu := machine_info.get("cpu"), dict):
        for name in [name for name in cpu if name.startswith("hz_")]:
            del cpu[name]
