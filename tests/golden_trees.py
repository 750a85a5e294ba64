"""The made-up results that `goldens.py` reads: built once by the tests' builders, then frozen as data in one archive.

Frozen, because a builder changes with the code that it tests: two trees are compared on the same bytes or not at all.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ARCHIVE = Path(__file__).parent / "golden" / "trees.tar.xz"


def builders() -> dict[str, Callable[[Path], object]]:
    """Return what writes each tree into a folder, by the tree's name."""
    import builders as b
    import hostile_ledgers
    import learning_builders
    import pages_records
    import report_builders
    import scaling_records
    import table_builders
    import test_cluster_report
    import test_concurrent
    import test_open_division
    import variant_records

    def ledgers(make: Callable[[], Sequence[Any]]) -> Callable[[Path], object]:
        return lambda folder: report_builders.write(folder / "results", make())

    def claims() -> Sequence[Any]:
        return [
            b.ledger(
                test_open_division.recorded(right),
                run_id=f"2026030{n}T120000Z-0001",
                created_at=f"2026-03-0{n}T12:00:00Z",
            )
            for n, right in enumerate(
                (test_open_division.GOOD, [9899, 9901] * 15, test_open_division.GOOD[:3]), start=1
            )
        ]

    return {
        "everything": ledgers(pages_records.everything),
        "report": ledgers(report_builders.everything),
        "bit": ledgers(lambda: [table_builders.a_bit_of_everything()]),
        "machines": ledgers(pages_records.many_machines),
        "modes": ledgers(pages_records.modes),
        "one": ledgers(pages_records.one_record),
        "failures": ledgers(pages_records.only_failures),
        "products": ledgers(pages_records.only_products),
        "ranks": ledgers(lambda: [scaling_records.ledger()]),
        "copies": ledgers(lambda: [test_concurrent.ledger()]),
        "learning": ledgers(lambda: [*learning_builders.everything(), learning_builders.curved(run_id="curved")]),
        "ladder": ledgers(lambda: [variant_records.ladder(), scaling_records.ledger()]),
        "claims": ledgers(claims),
        "nodes": ledgers(lambda: [*test_cluster_report.good(11), test_cluster_report.node(12, 0.13)]),
        "hostile-pages": ledgers(pages_records.hostile),
        "hostile": lambda folder: hostile_ledgers.write_all(folder / "results", hostile_ledgers.TEXTS.values()),
        "hostile-files": lambda folder: hostile_ledgers.write_all(
            folder / "results", hostile_ledgers.TEXTS.values(), named=False
        ),
        "older": lambda folder: _older(folder / "results", report_builders.everything()),
        "bad": _bad,
        "history": _history,
        "sides": _sides,
        "checks": _checks,
        "theirs": _theirs,
    }


def _older(folder: Path, runs: Sequence[Any]) -> None:
    """Write runs as schema 1 had them: no field that only has its default, which is how later fields are missing."""
    from cnnbench.schema import digest

    for run in runs:
        lines: list[str] = []
        for each in (run.header, *run.records):
            values = each.model_dump(mode="json", exclude_defaults=True) | {"kind": each.kind, "schema_version": 1}
            if lines:
                values["prev"] = digest(lines[-1])
            lines.append(json.dumps(values))
        path = folder / run.header.machine.id / f"{run.header.run_id}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


def _bad(folder: Path) -> None:
    """Write a folder of results for each way that a ledger can be broken."""
    import test_bad_ledgers

    for name, (make, _) in (test_bad_ledgers.PAGES | test_bad_ledgers.REFUSALS).items():
        place = folder / name.replace(" ", "-").replace(",", "")
        place.mkdir(parents=True)
        make(place)


def _history(folder: Path) -> None:
    """Write ten runs, the last half as fast again as the others, and a saved baseline of the first nine."""
    import report_builders
    import run_builders

    from cnnbench import store
    from cnnbench.regression.saved_baseline import save_baseline

    runs = run_builders.runs()
    report_builders.write(folder / "results", [*runs[:9], run_builders.run(10, 0.015)])
    ledgers = store.load_tree([folder / "results"]).ledgers
    save_baseline(folder / "results", run_builders.saved(runs[:9]), ledgers, replace=False)


def _sides(folder: Path) -> None:
    """Write two runs to be compared, each in a folder of its own."""
    import report_builders
    import side_builders

    report_builders.write(folder / "old", [side_builders.old_run()])
    report_builders.write(folder / "new", [side_builders.new_run()])


def _theirs(folder: Path) -> None:
    """Write a file of each shape that pytest-benchmark wrote."""
    import test_pytest_benchmark

    folder.mkdir()
    for make in (test_pytest_benchmark.version_2, test_pytest_benchmark.version_3, test_pytest_benchmark.version_5):
        test_pytest_benchmark.write(folder / f"{make.__name__}.json", make())


def _checks(folder: Path) -> None:
    """Write a record for each way that a check can end, from pairs with a chosen slowdown and spread."""
    import pair_builders as p

    from cnnbench.regression import check_record
    from cnnbench.regression.sequential import NextBlock, conclude, find_answer

    def run(true: Mapping[int, float], spread: float = 0.005, **fields: Any) -> Any:
        header, blocks = p.header(**fields), []
        measure = p.measurer(true, spread)
        while isinstance(wish := find_answer(header, blocks), NextBlock):
            blocks.append(measure(len(blocks), wish))
        return conclude(header, blocks)

    folder.mkdir()
    crashed = [p.block(0, failure=p.crash()), p.block(1, failure=p.crash()), p.block(2, failure=p.crash())]
    other = [p.block(0, head_work={"flops": 999})]
    disturbed = [p.block(n, steal_seconds=2.0) for n in range(40)]
    for name, record in {
        "pass": run({0: 0.0, 1: 0.0}),
        "improved": run({0: -0.3, 1: 0.0}),
        "regressed": run({0: 0.1, 1: 0.0}),
        "inconclusive": run({0: 0.05, 1: 0.0}, 0.2),
        "crashed": conclude(p.header(), crashed),
        "other-work": conclude(p.header(), other),
        "disturbed": conclude(p.header(), disturbed),
    }.items():
        check_record.save_record(folder / f"{name}.json", record)


def frozen() -> dict[str, bytes]:
    """Return the archive's files by path; empty where there is no archive."""
    if not ARCHIVE.exists():
        return {}
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        return {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def extract(folder: Path) -> None:
    """Write all frozen trees into a folder, one folder for each."""
    for name, content in frozen().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def freeze(replace: Sequence[str] = ()) -> list[str]:
    """Build the trees that are not in the archive, and those to replace; return the names of the trees written.

    Raises SystemExit where a tree to replace has no builder: it would be lost.
    """
    known = builders()
    if unknown := sorted(set(replace) - set(known)):
        raise SystemExit(f"no builder for {', '.join(unknown)}; there are {', '.join(known)}")
    files = {name: content for name, content in frozen().items() if name.split("/")[0] not in replace}
    there = {name.split("/")[0] for name in files}
    wanted = [name for name in known if name not in there]
    with TemporaryDirectory() as place:
        for name in wanted:
            known[name](Path(place) / name)
        for path in sorted(Path(place).rglob("*")):
            if path.is_file():
                files[path.relative_to(place).as_posix()] = path.read_bytes()
    _pack(files)
    return wanted


def _pack(files: Mapping[str, bytes]) -> None:
    """Write the archive: sorted, without times or owners, so that equal trees are equal bytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))
    ARCHIVE.parent.mkdir(exist_ok=True)
    ARCHIVE.write_bytes(lzma.compress(raw.getvalue(), preset=9 | lzma.PRESET_EXTREME))
