"""No law is lost: each test that there was is still there, or another is named that holds its law."""

from __future__ import annotations

from pathlib import Path

import pytest
from laws import Replacement, lost, present, problems, recorded, replaced


def test_every_law_is_still_held() -> None:
    assert problems(recorded(), present(), replaced()) == []


def test_the_ledger_is_not_empty_and_sorted() -> None:
    names = list(recorded())
    assert len(names) > 1000
    assert names == sorted(names)


def test_a_test_that_is_gone_is_a_lost_law() -> None:
    (problem,) = problems(["test_a::test_x", "test_a::test_y"], ["test_a::test_x"], {})
    assert problem.startswith("test_a::test_y is gone")


@pytest.mark.parametrize("place", ["test_b::test_x", "test_a::TestX.test_x"])
def test_a_test_may_move_to_another_file_or_class(place: str) -> None:
    assert problems(["test_a::test_x"], [place], {}) == []


def test_of_two_tests_of_one_name_both_are_counted() -> None:
    laws = ["test_a::test_x", "test_b::test_x"]
    assert lost(laws, ["test_b::test_x"]) == ["test_a::test_x"]
    assert lost(laws, ["test_b::test_x", "test_c::test_x"]) == []


def test_a_lost_law_may_be_held_by_another_test_that_exists() -> None:
    entry = {"test_a::test_x": Replacement("test_b::test_y", "merged")}
    assert problems(["test_a::test_x"], ["test_b::test_y"], entry) == []
    (problem,) = problems(["test_a::test_x"], ["test_b::test_z"], entry)
    assert "does not exist" in problem


def test_a_replacement_that_replaces_nothing_is_found() -> None:
    entry = {"test_a::test_x": Replacement("test_b::test_y", "merged")}
    there = ["test_a::test_x", "test_b::test_y"]
    assert "still there" in problems(["test_a::test_x"], there, entry)[0]
    assert "was never in" in problems([], ["test_b::test_y"], entry)[0]


def test_a_replacement_needs_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "replaced.toml"
    path.write_text('[replaced]\n"test_a::test_x" = { by = "test_b::test_y", reason = "" }\n')
    with pytest.raises(ValueError, match="test_a::test_x needs"):
        replaced(path)


def test_methods_of_test_classes_are_found_and_helpers_are_not(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        'class TestX:\n    def test_y(self):\n        """The law.\n\n        More."""\n\ndef helper(): ...\ndef test_z(): ...\n'
    )
    assert present(tmp_path) == {"test_a::TestX.test_y": "The law.", "test_a::test_z": ""}
