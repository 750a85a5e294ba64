"""Who imports whom, read from the sources without running them, and the circles in it."""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "cnnbench"
BY_NAME = re.compile(rf"{PACKAGE}(\.\w+)+:\w+")
"""`package.module:attribute` in a string is imported by that name. A bare module in one is started as another process."""

Graph = Mapping[str, Mapping[str, "Import"]]
"""Each module with those it imports, and the first line that does; names are without the package's own."""


class Import(NamedTuple):
    """One name that one line imports, and when: as the module is imported, when a function is called, or for types alone."""

    module: str
    name: str
    line: int
    when: str

    @property
    def at_start(self) -> bool:
        """Tell whether importing the module runs it."""
        return self.when == "at start"


def read_sources(package: Path) -> dict[str, ast.Module]:
    """Parse every module of the package but those shipped for other places; `__init__` has its package's name."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8"), str(path)
        )
        for path in sorted(package.rglob("*.py"))
        if "_shipped" not in path.parts
    }


def walk_imports(module: str, node: ast.AST, when: str = "at start") -> Iterator[Import]:
    """Yield every import under the node, those inside functions, for the type checker and by a name in a string too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, child.lineno, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}: relative import"
            names = (f"{child.module}.{alias.name}" for alias in child.names)
            yield from (Import(module, name, child.lineno, when) for name in names)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str) and BY_NAME.fullmatch(child.value):
            yield Import(module, child.value.replace(":", "."), child.lineno, "in a function")
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from walk_imports(module, ast.Module(child.body, []), "for types")
            yield from walk_imports(module, ast.Module(child.orelse, []), when)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk_imports(module, child, "in a function" if inside and when == "at start" else when)


def build_graph(imports: Iterable[Import], modules: Collection[str], unit: Callable[[str], str] = str) -> Graph:
    """Build the graph of the package's own modules, each named by `unit`.

    Importing `a.b.c` runs `a` and `a.b` first, so an importer outside of them imports them too.
    """
    graph: dict[str, dict[str, Import]] = {}
    for each in imports:
        name = each.name.removeprefix(f"{PACKAGE}.")
        if name != each.name:
            for target in _modules_of(each.module, name, modules):
                if unit(target) != unit(each.module):
                    graph.setdefault(unit(each.module), {}).setdefault(unit(target), each)
    return graph


def _modules_of(importer: str, name: str, modules: Collection[str]) -> Iterator[str]:
    """Yield the module that the name is, or is in, then the packages around it that are not around the importer too."""
    target = name if name in modules else name.rpartition(".")[0]
    while target:
        yield target
        target = target.rpartition(".")[0]
        if f"{importer}.".startswith(f"{target}."):
            return


def find_circles(graph: Graph) -> list[tuple[str, ...]]:
    """Return the shortest circle through each module that is in one; each circle once, beginning with its first name."""
    found = set()
    for start in graph:
        circle = _shortest_circle(graph, start)
        first = circle.index(min(circle)) if circle else 0
        found.add(circle[first:] + circle[:first])
    return sorted(found - {()})


def _shortest_circle(graph: Graph, start: str) -> tuple[str, ...]:
    """Search by breadth from `start` back to it; empty where no way leads back."""
    paths = deque([(start,)])
    seen = set()
    while paths:
        path = paths.popleft()
        for target in graph.get(path[-1], {}):
            if target == start:
                return path
            if target not in seen:
                seen.add(target)
                paths.append((*path, target))
    return ()


def describe(graph: Graph, circle: tuple[str, ...]) -> str:
    """Write the circle as one line per import, such as `engine.worker:67 imports engine.oom (in a function)`."""
    pairs = zip(circle, (*circle[1:], circle[0]), strict=True)
    lines = [(graph[one][other], other) for one, other in pairs]
    return "\n".join(["a circle:", *(f"  {each.module}:{each.line} imports {to} ({each.when})" for each, to in lines)])
