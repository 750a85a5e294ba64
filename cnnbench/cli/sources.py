"""Where results come from when no path is named."""

from __future__ import annotations

import os
from pathlib import Path

from cnnbench.errors import UsageError

DEFAULT_RESULTS = Path("results")


def default_results() -> Path:
    """The results directory by the environment, else ./results. Raises UsageError where it is not there."""
    named = os.environ.get("CNNBENCH_RESULTS")
    path = Path(named) if named else DEFAULT_RESULTS
    if not path.exists():
        origin = "CNNBENCH_RESULTS names it" if named else "name a path or set CNNBENCH_RESULTS"
        raise UsageError(f"no results directory {path} ({origin}); measure first with `cnnbench run quick`")
    return path
