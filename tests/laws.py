#!/usr/bin/env python3
"""Keep the ledger of laws: every test that there was, with its law, so that none is lost when tests are moved or merged.

    python tests/laws.py record      # add the tests of this tree to laws.json; none is ever taken out
    python tests/laws.py missing     # tests that are gone, as lines to complete for laws_replaced.toml

`laws.json` is generated: file::test to the first line of its docstring, or nothing where the name says it all.
`laws_replaced.toml` is written by hand: what holds the law of a test that is gone, and why the test went.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
LEDGER, REPLACED = TESTS / "laws.json", TESTS / "laws_replaced.toml"


@dataclass(frozen=True)
class Replacement:
    """The test that holds a law now, as file::test, and why the one before is gone."""

    by: str
    reason: str


def present(folder: Path = TESTS) -> dict[str, str]:
    """Return every test of the folder as file::test, methods as file::Class.test, with its law."""
    return {
        f"{path.stem}::{name}": law
        for path in sorted(folder.glob("test_*.py"))
        for name, law in _tests(ast.parse(path.read_text(encoding="utf-8")).body)
    }


def _tests(body: Iterable[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield f"{prefix}{node.name}", (ast.get_docstring(node) or "").partition("\n")[0]
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(node.body, f"{prefix}{node.name}.")


def recorded(path: Path = LEDGER) -> dict[str, str]:
    """Return the laws in the ledger; none where there is no ledger yet."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def replaced(path: Path = REPLACED) -> dict[str, Replacement]:
    """Return the replacements by the test that is gone. Raises ValueError for an entry without `by` or `reason`."""
    found = tomllib.loads(path.read_text(encoding="utf-8")).get("replaced", {}) if path.exists() else {}
    for name, entry in found.items():
        if set(entry) != {"by", "reason"} or not all(entry.values()):
            raise ValueError(f"{path}: {name} needs `by` and `reason`, and nothing else")
    return {name: Replacement(**entry) for name, entry in found.items()}


def problems(laws: Iterable[str], there: Iterable[str], replacements: Mapping[str, Replacement]) -> list[str]:
    """Return what is wrong: laws that nothing holds any more, and replacements that hold none.

    A test is found by its function's name, whatever file or class it is in. Where several files have one of that name,
    as many must remain as there were.
    """
    laws, there = sorted(laws), set(there)
    found = [f"{name} is gone: restore it, or list in {REPLACED.name} what holds its law" for name in lost(
        [name for name in laws if name not in replacements], there
    )]  # fmt: skip
    for name, entry in replacements.items():
        if name not in laws:
            found.append(f"{name} is listed as replaced, and was never in {LEDGER.name}")
        if name in there:
            found.append(f"{name} is listed as replaced, and is still there")
        if entry.by not in there:
            found.append(f"{name} is replaced by {entry.by}, which does not exist")
    return found


def lost(laws: Iterable[str], there: Iterable[str]) -> list[str]:
    """Return the laws whose test is not there: not where it was, and no unclaimed one of its name elsewhere."""
    there = set(there)
    moved = [name for name in laws if name not in there]
    unclaimed = Counter(_function(name) for name in there - set(laws))
    found = []
    for name in moved:
        if unclaimed[_function(name)]:
            unclaimed[_function(name)] -= 1
        else:
            found.append(name)
    return found


def _function(name: str) -> str:
    return name.rpartition("::")[2].rpartition(".")[2]


def record() -> int:
    """Write the ledger: what it has, and the tests of this tree. Tests that only moved keep the place they had."""
    known, now = recorded(), present()
    gone = lost(known, now)
    moved = Counter(_function(name) for name in set(known) - set(now) - set(gone))
    for name, law in now.items():
        if name not in known and moved[_function(name)]:
            moved[_function(name)] -= 1
        else:
            known[name] = law
    lines = (f"{json.dumps(name)}: {json.dumps(law, ensure_ascii=False)}" for name, law in sorted(known.items()))
    LEDGER.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(known)} laws in {LEDGER.name}")
    return 0


def missing() -> int:
    """Print an entry for each test that is gone, with the likeliest test of this tree to hold its law; to be completed."""
    known, now = recorded(), present()
    new = sorted(set(now) - set(known))
    for name in lost([name for name in known if name not in replaced()], now):
        (likely, *_) = [*difflib.get_close_matches(name, new, 1, 0.5), ""]
        print(f'"{name}" = {{ by = "{likely}", reason = "" }}')
    return 0


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("record", "missing"))
    return {"record": record, "missing": missing}[parser.parse_args().command]()


if __name__ == "__main__":
    sys.exit(main())
