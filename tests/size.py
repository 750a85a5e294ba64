#!/usr/bin/env python3
"""Measure how much of the package a reader must understand: tokens and statements, without comments and docstrings.

    python tests/size.py [TREE] [--against OLD_TREE] [--rooms]

Tokens are Python's own, without comments, docstrings, line ends and indentation. Statements are the nodes of the syntax tree
that are statements, docstrings left out. Functions are measured by the lines from `def` to their end, docstring left out.
Lines and files are reported beside them. With `--against`, each count is given as a share of the other tree's.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Size:
    """What one source file comes to."""

    tokens: int
    statements: int
    lines: int
    function_lines: tuple[int, ...]


def find_docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    """Yield every string that is a statement: docstrings, and those that describe an attribute or a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


def measure_source(source: str) -> Size:
    """Measure one file's text."""
    tree = ast.parse(source)
    docstrings = list(find_docstrings(tree))
    starts = {(each.lineno, each.col_offset) for each in docstrings}
    tokens = sum(
        token.type not in LAYOUT and token.start not in starts
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
    )
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) - len(docstrings)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return Size(tokens, statements, len(source.splitlines()), tuple(map(count_lines, functions)))


def count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the function's lines from `def` to its end, without its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = first.end_lineno - first.lineno + 1 if documented and first.end_lineno else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def measure_tree(root: Path) -> dict[str, Size]:
    """Measure every Python file of the package in a checkout, by its path inside the package."""
    package = root / "cnnbench"
    return {
        path.relative_to(package).as_posix(): measure_source(path.read_text(encoding="utf-8"))
        for path in sorted(package.rglob("*.py"))
    }


def sum_up(sizes: dict[str, Size]) -> dict[str, float]:
    """Sum the files' sizes up: counts, and the median and 90th percentile of function lines."""
    functions = sorted(lines for size in sizes.values() for lines in size.function_lines)
    return {
        "tokens": sum(size.tokens for size in sizes.values()),
        "statements": sum(size.statements for size in sizes.values()),
        "lines": sum(size.lines for size in sizes.values()),
        "files": len(sizes),
        "functions": len(functions),
        "function lines, median": statistics.median(functions),
        "function lines, 90th percentile": statistics.quantiles(functions, n=10)[-1],
    }


def main() -> None:
    """Print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--against", type=Path, help="a checkout to compare with")
    parser.add_argument("--rooms", action="store_true", help="print each room's tokens, statements and files too")
    given = parser.parse_args()
    now = measure_tree(given.tree)
    before = measure_tree(given.against) if given.against else {}
    old = sum_up(before) if before else {}
    for name, value in sum_up(now).items():
        share = f"  {value / old[name]:7.1%} of {old[name]:,.0f}" if old else ""
        print(f"{name:32s} {value:>9,.0f}{share}")
    if given.rooms:
        rooms: dict[str, Counter[str]] = {}
        for path, size in now.items():
            room = rooms.setdefault(path.partition("/")[0], Counter())
            room.update(tokens=size.tokens, statements=size.statements, files=1)
        for name, counts in sorted(rooms.items()):
            print(f"{name:32s} {counts['tokens']:>9,} {counts['statements']:>7,} {counts['files']:>4,}")


if __name__ == "__main__":
    main()
