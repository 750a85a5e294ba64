"""Hooks and fixtures of every test: no settings from outside (neither CNNBENCH_* nor files), examples that repeat, GPUs only
where there are, no child process left behind, and slow tests only where they are asked for.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import left_out
import processes
import pytest
from hypothesis import settings
from left_out import Counted

settings.register_profile("cnnbench", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("cnnbench")


@pytest.fixture(autouse=True)
def _no_personal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """CNNBENCH_DATA stays: it says where the real MNIST is, for the tests that want it."""
    for name in os.environ:
        if name.startswith("CNNBENCH_") and name != "CNNBENCH_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("CNNBENCH_NO_SETTINGS", "1")


@pytest.fixture(autouse=True)
def _no_child_left_behind() -> Iterator[None]:
    """Fail the test that ends before a process it started, or never waits for it: later tests would meet its child.

    Children of fixtures with a wider scope, which are set up before this one, may live on.
    """
    before = processes.children()
    yield
    if new := processes.children() - before:
        pytest.fail(f"left behind: {'; '.join(map(processes.describe, sorted(new)))}")


def pytest_configure() -> None:
    """Hear Ctrl-C, which tests send: a script's shell starts what runs in the background with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the slow tests too")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _skip_without_gpu([item for item in items if item.get_closest_marker("gpu") is not None])
    slow = [item for item in items if left_out.is_slow(item)]
    counted = Counted(len(items), left_out.count_slow(slow), left_out=not left_out.wants_slow(config))
    config.stash[left_out.COUNTED] = counted
    if counted.left_out and slow:
        items[:] = [item for item in items if not left_out.is_slow(item)]
        config.hook.pytest_deselected(items=slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed every global generator, before fixtures too: whatever ran before, a test draws the same numbers."""
    random.seed(0)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    if not items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device that torch can use"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist hands its count to the process that prints."""
    if left_out.COUNTED in session.config.stash and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["counted"] = asdict(session.config.stash[left_out.COUNTED])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the count of a worker of xdist; all of them count the same."""
    if (counted := getattr(node, "workeroutput", {}).get("counted")) is not None:
        node.config.stash[left_out.COUNTED] = Counted(**counted)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counted = config.stash.get(left_out.COUNTED, None)
    if counted is not None and counted.left_out and counted.slow:
        terminalreporter.write_line(left_out.describe(counted))
