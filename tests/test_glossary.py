"""The glossary is short, in order, and of words that are used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ENTRIES = {
    term: " ".join(words.split())
    for term, words in re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=\n- |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
SOURCES = [*(ROOT / "cnnbench").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
USES = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name != "glossary.md").lower()


def test_it_has_at_most_15_entries_in_order() -> None:
    assert len(ENTRIES) == TEXT.count("\n- ") <= 15
    assert list(ENTRIES) == sorted(ENTRIES)


@pytest.mark.parametrize("term", ENTRIES)
def test_each_entry_is_of_a_word_in_use_and_at_most_two_sentences(term: str) -> None:
    assert len(re.findall(rf"\b{re.escape(term)}s?\b", USES)) >= 5
    assert 1 <= len(re.findall(r"\.(?=\s|$)", ENTRIES[term])) <= 2
    assert len(ENTRIES[term]) <= 260
