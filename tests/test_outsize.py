"""Output sides: the lecture's formula and TensorFlow's SAME against counting, and the command that works them out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from said import printed, refused

from cnnbench.errors import WorkloadError
from cnnbench.workloads import explanation

sides = st.integers(min_value=1, max_value=300)


@given(i=sides, f=sides, s=sides, p=st.integers(min_value=0, max_value=150))
def test_a_side_counts_the_positions_of_the_filter(i: int, f: int, s: int, p: int) -> None:
    """o is how often the filter fits, counted; what it never reaches is less than a stride."""
    if i + 2 * p < f:
        with pytest.raises(WorkloadError, match="does not fit"):
            explanation.padded_side(i, f, s, p)
        return
    side = explanation.padded_side(i, f, s, p)
    assert side.output == len(range(0, i + 2 * p - f + 1, s))
    assert 0 <= side.unreached < s


@given(i=sides, f=sides, s=sides)
def test_same_padding_is_just_enough(i: int, f: int, s: int) -> None:
    """ceil(i / s) positions fit into the padded input, with one value less of padding they do not; right has the more."""
    side = explanation.same_side(i, f, s)
    assert side.output == len(range(0, i, s))
    padding = side.before + side.after
    reach = (side.output - 1) * s + f
    assert reach <= i + padding
    assert padding == 0 or reach > i + padding - 1
    assert side.after - side.before in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "o", "formula"),
    [
        ("-i 4 -f 3 -s 1", 2, "floor((4 - 3 + 2*0) / 1) + 1 = 2"),
        ("-i 5 -f 3 -s 2", 2, "floor((5 - 3 + 2*0) / 2) + 1 = 2"),
        ("-i 5 -f 4 -p 2 -s 1", 6, "floor((5 - 4 + 2*2) / 1) + 1 = 6"),
        ("-i 5 -f 3", 3, "floor((5 - 3 + 2*0) / 1) + 1 = 3"),
        ("-i 7 -f 2 -s 2 --same", 4, "ceil(7 / 2) = 4"),
        ("-i 2147483647 -f 2147483647 -s 2147483647 -p 2147483647", 3, "= 3"),
    ],
)
def test_outsize_works_the_slides_examples_out(
    arguments: str, o: int, formula: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """lecture.md, section 1. The first line is the number alone, as JSON has it."""
    first, second, *_ = printed(capsys, "explain", "output-size", *arguments.split()).splitlines()
    assert first == str(o)
    assert second.startswith("o = ")
    assert second.endswith(formula)
    assert json.loads(printed(capsys, "explain", "output-size", *arguments.split(), "--json"))["output"] == o


def test_outsize_says_where_same_pads_and_what_is_never_reached(capsys: pytest.CaptureFixture[str]) -> None:
    """TensorFlow's SAME of 7 with stride 2 pads on the right and bottom only."""
    text = printed(capsys, "explain", "output-size", "-i", "7", "-f", "2", "-s", "2", "--same")
    assert text.splitlines()[2].endswith(
        "= max((4 - 1)*2 + 2 - 7, 0) = 1: 0 on the left and top, 1 on the right and bottom"
    )
    found = json.loads(printed(capsys, "explain", "output-size", "-i", "28", "-f", "3", "--same", "--json"))
    assert (found["padding_before"], found["padding_after"], found["output"]) == (1, 1, 28)
    assert "never reaches the last 1 of the padded input's 7" in printed(
        capsys, "explain", "output-size", "-i", "7", "-f", "2", "-s", "2"
    )
    assert "never" not in printed(capsys, "explain", "output-size", "-i", "8", "-f", "2", "-s", "2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("-i 5 -f 9", "a filter of 9 does not fit into an input of 5"),
        ("-i 5 -f 10 -p 2", "padded by 2 on each side, 9 in all"),
        ("-i 5 -f 3 -s 0", "0 is not in the range"),
        ("-i 5 -f 3 -p -1", "-1 is not in the range"),
        ("-i 0 -f 3", "0 is not in the range"),
        ("-i 2147483648 -f 3", "is not in the range"),
        ("-i five -f 3", "'five' is not a valid integer"),
        ("-i 5 -f 3 -p 0 --same", "leave out -p or --same"),
        ("-i 5", "Missing option"),
    ],
)
def test_an_impossible_output_is_one_error(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, "explain", "output-size", *arguments.split())
