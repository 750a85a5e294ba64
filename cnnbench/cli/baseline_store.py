"""Where stored baselines lie: `<results>/<machine>/baselines/NAME.json`, beside the machine's ledgers and apart from them.

Reading the ledgers looks for *.jsonl alone, so a baseline is never taken for one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.cli.sides import DEFAULT_RESULTS
from cnnbench.errors import ComparisonError, LedgerError, UsageError
from cnnbench.files import save_file

if TYPE_CHECKING:
    from cnnbench.regression.saved_baseline import SavedBaseline, SavedRun
    from cnnbench.report.saved_baselines import SavedBaselineFile

FOLDER = "baselines"
MAX_BYTES = 64 * 2**20
"""A baseline of 1,000 runs of 20 rows takes 20 MB; a larger file of that name is none."""
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


def results_folder(named: Path | None) -> Path:
    """The tree baselines are kept in: the option's, else the environment's, else ./results. It need not exist yet."""
    return named or Path(os.environ.get("CNNBENCH_RESULTS") or DEFAULT_RESULTS)


def save_baseline(results: Path, baseline: SavedBaseline, *, replace: bool) -> Path:
    """Write the baseline; returns its path. Raises UsageError where one of that name is there and `replace` is not set."""
    from cnnbench.regression.saved_baseline import check_name, to_text

    if not _FOLDER_NAME.fullmatch(baseline.machine_id):
        raise UsageError(f"machine id {baseline.machine_id!r} cannot name a folder; nothing was saved")
    path = results / baseline.machine_id / FOLDER / f"{check_name(baseline.name)}.json"
    if path.exists() and not replace:
        raise UsageError(f"{path}: there is a baseline of that name; give --replace to save over it, or another name")
    save_file(path, to_text(baseline), make_folder=True)
    return path


def find_paths(results: Path, name: str | None = None, machine_id: str | None = None) -> list[Path]:
    """The files of all baselines, or of those of that name or machine (its id or the id's beginning), in a fixed order."""
    from cnnbench.regression.saved_baseline import check_name

    pattern = "*" if name is None else check_name(name)
    found = [path for path in results.glob(f"*/{FOLDER}/{pattern}.json") if path.is_file()]
    return sorted(path for path in found if machine_of_path(path).startswith(machine_id or ""))


def machine_of_path(path: Path) -> str:
    """The machine whose folder the file is in."""
    return path.parent.parent.name


def find_path(results: Path, name: str, machine_id: str | None = None) -> Path:
    """The one file of that name. Raises UsageError, with those there are, where there is none or several machines have it."""
    found = find_paths(results, name, machine_id)
    if len(found) > 1:
        machines = ", ".join(map(machine_of_path, found))
        raise UsageError(f"baseline {name}: {len(found)} machines have one ({machines}); choose with --machine")
    if not found:
        raise UsageError(f"baseline {name}: none of that name in {results}{_list_baselines(results)}")
    return found[0]


def find_path_for_machine(results: Path, name: str, machine_id: str) -> Path:
    """The file of that name for this machine. Raises ComparisonError where only other machines have one."""
    found = find_paths(results, name)
    own = [path for path in found if machine_of_path(path) == machine_id]
    if own:
        return own[0]
    if not found:
        raise UsageError(f"baseline {name}: none of that name in {results}{_list_baselines(results)}")
    machines = ", ".join(map(machine_of_path, found))
    raise ComparisonError(
        f"baseline {name} is of machine {machines}, the run of {machine_id}: not comparable; save one of this machine's runs"
    )


def _list_baselines(results: Path) -> str:
    names = sorted({f"{path.stem} ({machine_of_path(path)})" for path in find_paths(results)})
    return (
        f"; there are: {', '.join(names)}" if names else "; none is stored there, see `cnnbench baseline save --help`"
    )


def load_baseline(path: Path) -> SavedBaseline:
    """The baseline in the file. Raises LedgerError for one that is none, was edited, or was put where another belongs."""
    from cnnbench.regression.saved_baseline import from_text

    try:
        if path.stat().st_size > MAX_BYTES:
            raise LedgerError(f"{path}: too large for a baseline; remove it")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LedgerError(f"{path}: cannot read: {error.strerror}") from error
    baseline = from_text(text, str(path))
    if (baseline.machine_id, baseline.name) != (machine_of_path(path), path.stem):
        place = f"{baseline.machine_id}/{FOLDER}/{baseline.name}.json"
        raise LedgerError(f"{path}: it belongs at {place}; move it back, or save it again")
    return baseline


def remove_baseline(path: Path) -> None:
    """Delete the file. Raises UsageError where that cannot be done."""
    try:
        path.unlink()
    except OSError as error:
        raise UsageError(f"{path}: cannot remove: {error.strerror}") from error


def load_all_baselines(files: Sequence[Path]) -> list[SavedBaselineFile]:
    """Each file as a baseline, or as a problem."""
    from cnnbench.report.saved_baselines import SavedBaselineFile

    found = []
    for path in files:
        try:
            found.append(SavedBaselineFile(machine_of_path(path), path.stem, load_baseline(path)))
        except LedgerError as error:
            found.append(SavedBaselineFile(machine_of_path(path), path.stem, None, str(error)))
    return found


def check_ledgers(results: Path, baseline: SavedBaseline) -> Mapping[str, str]:
    """What has become of the ledger of each run: unchanged, changed, cannot be read, is not there."""
    folder = results / baseline.machine_id
    return {run.run_id: _check_ledger(folder, run) for run in baseline.runs}


def _check_ledger(folder: Path, run: SavedRun) -> str:
    from cnnbench import store

    if not _FOLDER_NAME.fullmatch(run.run_id) or not (path := folder / f"{run.run_id}.jsonl").is_file():
        return "is not there"
    try:
        ledger = store.load(path)
    except LedgerError:
        return "cannot be read"
    return "unchanged" if ledger.final_digest == run.final_digest and not ledger.problems else "changed"
