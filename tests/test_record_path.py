"""The path of a record through the rooms, as CONTRIBUTING lists it call by call, is the one that `show` takes."""

from __future__ import annotations

import ast
import itertools
import re
import sys
from pathlib import Path
from types import FrameType

import builders as b
import pytest
from click.testing import CliRunner
from test_imports import PACKAGE, ROOMS

from cnnbench.cli.read import show

SECTION = (
    Path(__file__)
    .parents[1]
    .joinpath("CONTRIBUTING.md")
    .read_text()
    .split("## The path of a record")[1]
    .split("\n## ")[0]
)
STOPS = re.findall(r"^\d+\. `([\w/]+\.py)` `([\w.]+)`", SECTION, re.MULTILINE)


def test_the_list_is_short_enough_to_read() -> None:
    assert 10 <= len(STOPS) <= 25
    assert len(STOPS) == len(re.findall(r"^\d+\.", SECTION, re.MULTILINE))


@pytest.mark.parametrize(("path", "name"), STOPS, ids=" ".join)
def test_every_stop_is_a_function_of_its_file(path: str, name: str) -> None:
    found: ast.AST | None = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    for part in name.split("."):
        named = (each for each in getattr(found, "body", ()) if getattr(each, "name", None) == part)
        found = next(named, None)
    assert isinstance(found, ast.FunctionDef)


def test_the_path_goes_down_through_the_rooms_with_at_most_two_steps_back_up() -> None:
    places = [ROOMS.index(path.partition("/")[0].removesuffix(".py")) for path, _ in STOPS]
    steps = zip(itertools.pairwise(places), STOPS[1:], strict=True)
    up = [stop for (place, following), stop in steps if following > place]
    assert len(up) <= 2, up
    assert SECTION.count("(up).") == len(up)


def test_show_makes_the_calls_in_the_order_of_the_list(tmp_path: Path) -> None:
    """By the first call of each, as the profiler's hook of the interpreter sees them."""
    b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.02] * 3)))
    firsts: dict[tuple[str, str], int] = {}

    def note(frame: FrameType, event: str, argument: object) -> None:
        _, inside, path = frame.f_code.co_filename.partition(f"{PACKAGE}/")
        if event == "call" and inside:
            firsts.setdefault((path, frame.f_code.co_qualname), len(firsts))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        done = CliRunner().invoke(show, [str(tmp_path), "--all"])
    finally:
        sys.setprofile(before)
    assert done.exit_code == 0, done.output
    assert [stop for stop in STOPS if stop not in firsts] == []
    assert sorted(STOPS, key=firsts.__getitem__) == STOPS
