"""The size that a reader must understand is counted by tokens and statements, whatever the layout and the comments."""

from __future__ import annotations

import size

PLAIN = "def add(a, b):\n    total = a + b\n    return total\n"


def test_comments_docstrings_and_blank_lines_are_free() -> None:
    written = '"""Module."""\n\n# why\n' + PLAIN.replace(":\n", ':\n    """Add."""\n\n', 1).replace(
        "+ b", "+ b  # here"
    )
    plain, documented = size.measure_source(PLAIN), size.measure_source(written)
    assert (documented.tokens, documented.statements) == (plain.tokens, plain.statements)
    assert documented.lines > plain.lines


def test_tokens_and_statements_are_those_of_the_language() -> None:
    """def add ( a , b ) : / total = a + b / return total: 8 + 5 + 2 tokens, 3 statements."""
    found = size.measure_source(PLAIN)
    assert (found.tokens, found.statements, found.lines) == (15, 3, 3)


def test_breaking_a_line_changes_no_count_but_lines() -> None:
    broken = size.measure_source("def add(\n    a, b\n):\n    total = (a\n        + b)\n    return total\n")
    plain = size.measure_source(PLAIN.replace("a + b", "(a + b)"))
    assert (broken.tokens, broken.statements) == (plain.tokens, plain.statements)


def test_a_functions_lines_are_counted_without_its_docstring() -> None:
    found = size.measure_source(
        'def one():\n    """Say\n    it.\n    """\n    return 1\n\n\ndef two():\n    return 2\n'
    )
    assert found.function_lines == (2, 2)
