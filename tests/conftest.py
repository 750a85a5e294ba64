"""What holds for every test: no settings from outside (neither CNNBENCH_* nor files), examples that repeat, GPUs only where
there are.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("cnnbench", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("cnnbench")


@pytest.fixture(autouse=True)
def _no_personal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """CNNBENCH_DATA stays: it says where the real MNIST is, for the tests that want it."""
    for name in os.environ:
        if name.startswith("CNNBENCH_") and name != "CNNBENCH_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("CNNBENCH_NO_SETTINGS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wanted = [item for item in items if item.get_closest_marker("gpu") is not None]
    if not wanted:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason="no CUDA device that torch can use"))
