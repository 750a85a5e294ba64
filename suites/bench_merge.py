"""What bringing a large fleet's records together costs, with its bar: 10,000 records of 100 nodes."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from cnnbench import store
from cnnbench.merge import merge
from cnnbench.schema import digest

NODES, RECORDS = 100, 100
MERGE_BAR_SECONDS = 10.0
MEASURED = Path(__file__).parents[1] / "results"
"""Real records, over and over: what a line weighs decides what it costs."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder a node with one ledger each, its digest chain whole."""
    ledgers = [ledger for ledger in store.load_tree([MEASURED]).ledgers if ledger.records]
    header = ledgers[0].header
    lines = itertools.cycle(record for ledger in ledgers for record in ledger.records)
    folders = []
    for number in range(NODES):
        folder = tmp_path_factory.getbasetemp() / "fleet" / f"n{number}"
        run_id = f"20260301T120000Z-{number:04x}"
        own = [header.model_copy(update={"run_id": run_id}).model_dump_json()]
        for index, record in zip(range(RECORDS), lines, strict=False):
            moved = {"run_id": run_id, "machine_id": header.machine.id, "index": index, "prev": digest(own[-1])}
            own.append(record.model_copy(update=moved).model_dump_json())
        path = folder / header.machine.id / f"{run_id}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(own) + "\n")
        folders.append(folder)
    return folders


def test_merge_ten_thousand_records_of_a_hundred_nodes(benchmark, fleet: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Under 10 s into an empty tree; each record is read as a reader would, and every file is on disk (fsync)."""
    results = tmp_path / "results"

    def empty() -> None:
        shutil.rmtree(results, ignore_errors=True)

    merged = benchmark.pedantic(lambda: merge(fleet, results), setup=empty, rounds=3)
    assert (merged.count("brought"), merged.records, merged.exit_code) == (NODES, NODES * RECORDS, 0)
    assert not any(entry.problems for entry in merged.entries)
    size = sum(path.stat().st_size for path in results.rglob("*.jsonl"))
    benchmark.extra_info["megabytes"] = round(size / 1e6, 1)
    if benchmark.enabled:
        assert benchmark.stats["max"] < MERGE_BAR_SECONDS
