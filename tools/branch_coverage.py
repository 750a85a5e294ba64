"""A pytest plugin that measures branch coverage of cnnbench in this process, be it the only one or a worker of xdist.

Given with `-p`, it is loaded before cnnbench. The data goes to `COVERAGE_FILE`, a file per process.
"""

from __future__ import annotations

import coverage

_measured = coverage.Coverage(branch=True, source_pkgs=["cnnbench"], data_suffix=True)
_measured.start()


def pytest_unconfigure() -> None:
    """Save what was measured."""
    _measured.stop()
    _measured.save()
