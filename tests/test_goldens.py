"""What the command line prints from fixed inputs is what it was, and the comparison of two trees finds any change."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import goldens
import pytest
from golden_diff import Difference, Exemption, compare, differences, load_exceptions, undeclared

PAGE = """<h1>Two &amp; three</h1><table><tr><th>step</th><td>{cell}</td></tr></table>
<script type="application/json" id="data-speed">{{"rows": [{{"seconds": {seconds}}}]}}</script>"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="commands are forked, and their paths are those of one fixed folder"
)
def test_values_and_verdicts_are_those_recorded() -> None:
    """Where a change is meant: `python tests/goldens.py check --base REV` shows it, `digests` records it."""
    now, recorded = goldens.digests(), json.loads(goldens.DIGESTS.read_text())
    changed = sorted(name for name in now.keys() | recorded.keys() if now.get(name) != recorded.get(name))
    assert changed == [], goldens.DIGESTS.name


@pytest.mark.parametrize(
    ("name", "old", "new", "place", "values"),
    [
        ("a.csv", "row,step\ncnn,1.0\n", "row,step\ncnn,1.5\n", "row 2, column step", ("1.0", "1.5")),
        ("a.csv", "row,step\ncnn,1.0\n", "row\ncnn\n", "column step", ("step", "(absent)")),
        ("a.csv", "row\na\nb\nc\n", "row\na\nc\n", "row 3", ("row=b", "(absent)")),
        ("a.json", '{"a": [{"b": 1}]}', '{"a": [{"b": 2}]}', "$.a[0].b", ("1", "2")),
        ("a.json", '{"a": 1}', '{"a": 1.0}', "$.a", ("1", "1.0")),
        ("a.json", '{"a": null}', "{}", "$.a", ("null", "(absent)")),
        ("a.json", "[1, 2, 3]", "[1, 3]", "$[1]", ("2", "(absent)")),
        ("a.md", "one\ntwo\n", "one\n2\n", "line 2", ("two", "2")),
        ("a.json", "error: no results", "error: none", "line 1", ("error: no results", "error: none")),
    ],
)
def test_a_change_is_found_at_its_place(name: str, old: str, new: str, place: str, values: tuple[str, str]) -> None:
    assert differences(name, old.encode(), new.encode()) == [Difference(name, place, *values)]


def test_a_page_is_compared_by_cell_and_by_embedded_data() -> None:
    old, new = PAGE.format(cell="1.0 s", seconds="1.0"), PAGE.format(cell="1.1 s", seconds="1.25")
    cell, data = differences("a.html", old.encode(), new.encode())
    assert (cell.place, cell.old, cell.new) == ("table 1, row 1, cell 2", "1.0 s", "1.1 s")
    assert (data.place, data.old, data.new) == ("script data-speed 0.rows[0].seconds", "1.0", "1.25")


def test_of_long_values_the_part_that_differs_is_printed() -> None:
    old, new = f"{'a' * 500}1.25 s{'b' * 500}", f"{'a' * 500}1.75 s{'b' * 500}"
    printed = str(Difference("a.md", "line 1", old, new))
    assert "1.25 s" in printed
    assert "1.75 s" in printed
    assert len(printed) < 400


def test_a_drawing_whose_words_are_equal_and_lines_are_not_differs_too() -> None:
    old, new = b'<svg><path d="M0 1"/><text>cnn</text></svg>', b'<svg><path d="M0 2"/><text>cnn</text></svg>'
    (found,) = differences("a.svg", old, new)
    assert found.place == "bytes"


def test_an_output_that_one_side_lacks_differs(tmp_path: Path) -> None:
    for side in ("old", "new"):
        (tmp_path / side).mkdir()
    (tmp_path / "old" / "1-output.csv").write_text("a\n")
    assert compare(tmp_path / "old", tmp_path / "new") == [
        Difference("1-output.csv", "file", "recorded", "(absent)")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exception", "declared"),
    [
        ({"outputs": "*.csv"}, True),
        ({"outputs": "*.json"}, False),
        ({"places": "column suite"}, True),
        ({"places": "column step"}, False),
        ({"old": "gate"}, True),
        ({"old": "gate", "new": "regression"}, True),
        ({"old": "gate", "new": "guard"}, False),
    ],
)
def test_an_exception_declares_what_it_describes_and_nothing_else(exception: dict[str, str], declared: bool) -> None:
    found = Difference("a.csv", "row 2, column suite", "the gate of it", "the regression of it")
    known = Exemption(reason="a suite was renamed", **exception)
    assert undeclared([found], [known]) == ([] if declared else [found])
    assert bool(known.used) == declared


def test_exceptions_that_rewrite_apply_one_after_the_other() -> None:
    found = Difference("a.md", "line 1", "the gate's rung", "the check's variant")
    known = [Exemption("a", old="gate", new="check"), Exemption("b", old="rung", new="variant")]
    assert undeclared([found], known) == []


def test_an_exception_needs_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "exceptions.toml"
    path.write_text('[[exception]]\noutputs = "*"\n')
    with pytest.raises(ValueError, match="without a reason"):
        load_exceptions(path)


@pytest.mark.parametrize(("new", "declared"), [("12 ms per step", True), ("13 ms per step", False)])
def test_an_exception_for_words_alone_declares_no_other_number(new: str, declared: bool) -> None:
    known = Exemption("plain words", old="a step", same_numbers=True)
    found = Difference("show/1-output.txt", "line 1", "12 ms a step", new)
    assert (undeclared([found], [known]) == []) is declared


def test_the_declared_exceptions_can_be_read() -> None:
    load_exceptions(goldens.EXCEPTIONS)
