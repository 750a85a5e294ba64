"""One word, one thing: no class or alias has the name of another, and no function is named by a particle."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from import_graph import read_sources

import cnnbench

SOURCES = read_sources(Path(cnnbench.__file__).parent)
CAMEL = re.compile(r"_*[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")
"""The spelling of a type's name; constants are in capitals throughout."""
PARTICLES = frozenset(
    {
        "about",
        "above",
        "after",
        "against",
        "alike",
        "among",
        "around",
        "at",
        "before",
        "behind",
        "below",
        "beside",
        "between",
        "by",
        "down",
        "for",
        "from",
        "in",
        "into",
        "like",
        "of",
        "off",
        "on",
        "onto",
        "over",
        "said",
        "than",
        "then",
        "through",
        "to",
        "together",
        "told",
        "toward",
        "under",
        "until",
        "up",
        "upon",
        "with",
        "within",
        "without",
        # Nouns and adjectives that hide what is done as well.
        "raw",
        "words",
        "wrong",
    }
)
"""Words that a function's name may hold but not consist of."""
OPENINGS = frozenset({"of", "said", "told", "under", "wrong"})
"""Words that it may not begin with either: `of_row` says neither what it does nor to what, `wrong_row` not what it gives."""


def defined_types(tree: ast.Module) -> Iterator[str]:
    """The classes and type aliases at a module's top level."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name) and CAMEL.fullmatch(each.id))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and CAMEL.fullmatch(node.target.id):
            yield node.target.id


def find_doubles(sources: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """The names of types that several modules define, each with those modules."""
    modules: dict[str, set[str]] = defaultdict(set)
    for module, tree in sources.items():
        for name in defined_types(tree):
            modules[name].add(module)
    return {name: sorted(found) for name, found in sorted(modules.items()) if len(found) > 1}


def find_particles(sources: Mapping[str, ast.Module]) -> list[str]:
    """The functions and methods that are named by a particle alone, or begin with one of `OPENINGS`."""
    return [
        f"{module}:{node.lineno} {node.name}"
        for module, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and ((name := node.name.strip("_")) in PARTICLES or name.partition("_")[0] in OPENINGS)
    ]


def test_no_class_or_alias_has_the_name_of_one_in_another_module() -> None:
    assert find_doubles(SOURCES) == {}


def test_each_function_says_what_it_does() -> None:
    assert find_particles(SOURCES) == []


@pytest.mark.parametrize(
    "definition", ["class Row: ...", "Row = int | str", "Row: TypeAlias = int", "class Row(Base):\n    x = 1"]
)
def test_a_planted_double_is_found_whichever_way_it_is_written(definition: str) -> None:
    sources = {"a": ast.parse("class Row: ..."), "b": ast.parse(definition), "c": ast.parse("ROW = 1\nrow = 2")}
    assert find_doubles(sources) == {"Row": ["a", "b"]}


def test_a_planted_particle_is_found_and_a_verb_is_none() -> None:
    code = "def of(): ...\nclass C:\n    def _under_row(self): ...\n    def count_of_rows(self): ...\n    def raw_rows(self): ..."
    assert find_particles({"a": ast.parse(code)}) == ["a:1 of", "a:3 _under_row"]
