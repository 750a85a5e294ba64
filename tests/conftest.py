"""Hooks and fixtures of every test: no settings from outside (neither CNNBENCH_* nor files), examples that repeat, GPUs only
where there are, no child process left behind, and slow tests only where they are asked for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import processes
import pytest
from hypothesis import settings

settings.register_profile("cnnbench", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("cnnbench")

COUNTED = pytest.StashKey[tuple[int, Counter[str]]]()
"""How many tests were found, and how many slow ones of each kind were left out."""


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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the slow tests too")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _skip_without_gpu([item for item in items if item.get_closest_marker("gpu") is not None])
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    left_out = set() if _wants_slow(config) else set(slow)
    config.stash[COUNTED] = len(items), Counter(_kind(item) for item in slow if item in left_out)
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    if not items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device that torch can use"))


def _wants_slow(config: pytest.Config) -> bool:
    """Whether slow tests run: with --all, with a -m that decides by itself, and where files or single tests are named."""
    named = any(".py" in word for word in config.args)
    return bool(config.option.all or config.option.markexpr or named)


def _kind(item: pytest.Item) -> str:
    """What makes a test slow: the word that its mark must give."""
    mark = item.get_closest_marker("slow")
    assert mark is not None
    if not mark.args:
        raise pytest.UsageError(f"{item.nodeid}: say what makes it slow, as in @pytest.mark.slow('real workers')")
    return str(mark.args[0])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist, a worker hands its count to the process that prints."""
    if COUNTED in session.config.stash and (output := getattr(session.config, "workeroutput", None)) is not None:
        found, kinds = session.config.stash[COUNTED]
        output["counted"] = found, dict(kinds)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take the count of a worker of xdist; they all count the same."""
    output, config = getattr(node, "workeroutput", {}), node.config  # type: ignore[attr-defined]
    if "counted" in output:
        found, kinds = output["counted"]
        config.stash[COUNTED] = found, Counter(kinds)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found, kinds = config.stash.get(COUNTED, (0, Counter[str]()))
    if kinds:
        terminalreporter.write_line(left_out_line(found, kinds))


def left_out_line(found: int, kinds: Counter[str]) -> str:
    """Say how many tests of which kinds were left out, and how to run them.

    >>> left_out_line(400, Counter({"real workers": 12, "Slurm": 4}))
    'left out: 16 slow tests of 400 (12 real workers, 4 Slurm); --all runs them too'
    """
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"left out: {kinds.total()} slow tests of {found} ({listed}); --all runs them too"
