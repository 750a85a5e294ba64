"""The order of the rooms, held by reading the sources: who may import whom, torch, pandas, the environment, or print."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import cnnbench

PACKAGE = Path(cnnbench.__file__).parent
ROOMS = (
    *(
        "errors",
        "units",
        "schema",
        "pairing",
        "profiling",
        "workloads",
        "data",
        "devices",
        "machine",
        "gates",
        "plan",
        "store",
        "merge",
    ),
    *("engine", "runner", "fleet", "analysis", "audit", "gate", "report", "cli", "pytest_plugin", "__main__"),
)
"""From the ground up: a room imports only rooms before it."""
APART = {
    "workloads": {"units"},
    "data": {"workloads", "units"},
    "devices": {"data", "workloads", "units"},
    "plan": {"data", "devices", "gates"},
    "merge": {"units", "workloads", "data", "devices", "machine", "gates", "plan"},
    "engine": {"machine", "gates", "plan", "store", "merge"},
    "runner": {"engine", "data"},
    "fleet": {"engine", "plan", "data", "devices", "machine", "gates"},
    "analysis": {"engine", "runner", "fleet", "plan", "data"},
    "audit": {"engine", "runner", "fleet", "plan", "data", "analysis"},
    "gate": {"engine", "data", "fleet"},
    "report": {"engine", "runner", "fleet", "plan", "data", "audit"},
    "cli": {"engine"},
    "pytest_plugin": {"plan", "store", "merge", "gates", "data", "runner", "fleet", "analysis", "audit", "gate", "cli"},
    "__main__": {"pytest_plugin"},
}
"""Rooms below that are none of a room's business; nobody imports the torch wing: it is started as a process. But for the
pytest plugin, in a function: whoever times torch in a test has it in that process already."""
TORCH_ROOMS = {"engine", "workloads", "devices"}
PANDAS_ROOMS = {"analysis", "report"}


class Import(NamedTuple):
    """One name imported; `at_start` where importing the module runs it (so not in a function or for the type checker)."""

    module: str
    name: str
    at_start: bool


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "_shipped" not in path.parts:
            module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
            yield module, ast.parse(path.read_text(encoding="utf-8"), str(path))


def walk_imports(module: str, node: ast.AST, at_start: bool = True) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, at_start) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}: relative import"
            yield from (Import(module, f"{child.module}.{alias.name}", at_start) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk_imports(module, child, at_start and not inside)


def room(module: str) -> str:
    return module.partition(".")[0]


IMPORTS = [each for module, tree in sources() for each in walk_imports(module, tree)]
OWN = [each for each in IMPORTS if each.name.startswith("cnnbench.") and not each.name.endswith(".__version__")]


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(module) for module, _ in sources()} - {"__init__", "bootstrap"} <= set(ROOMS)


def test_a_room_imports_only_rooms_below_it() -> None:
    def below(each: Import) -> bool:
        own, other = room(each.module), room(each.name.removeprefix("cnnbench."))
        return own == other or (ROOMS.index(other) < ROOMS.index(own) and other not in APART.get(own, set()))

    assert [each for each in OWN if not below(each)] == []


def test_modules_import_each_other_in_no_circle() -> None:
    modules = {f"cnnbench.{module}" for module, _ in sources()}
    graph: dict[str, set[str]] = {}
    for each in OWN:
        target = each.name if each.name in modules else each.name.rpartition(".")[0]
        if each.at_start and target != f"cnnbench.{each.module}":
            graph.setdefault(f"cnnbench.{each.module}", set()).add(target)

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    done: set[str] = set()
    for module in sorted(graph):
        visit(module, ())


def test_torch_is_imported_in_the_engine_and_within_functions_of_workloads_and_devices() -> None:
    torch = [each for each in IMPORTS if room(each.name) == "torch"]
    assert {room(each.module) for each in torch} <= TORCH_ROOMS
    assert {room(each.module) for each in torch if each.at_start} == {"engine"}


def test_the_pytest_plugin_loads_pytest_alone() -> None:
    """It is imported in every pytest run of whoever installed cnnbench."""
    own = [each.name for each in IMPORTS if each.module == "pytest_plugin" and each.at_start]
    assert {room(name) for name in own} <= {"__future__", "pytest", *sys.stdlib_module_names}
    code = "import pytest, sys; before = set(sys.modules); import cnnbench.pytest_plugin; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"cnnbench", "cnnbench.pytest_plugin"}


def test_submitit_is_imported_where_a_fleet_needs_it() -> None:
    """It is an optional dependency: nothing but submitting a job may ask for it."""
    submitit = [each for each in IMPORTS if room(each.name) == "submitit"]
    assert {each.module for each in submitit} == {"fleet.submit", "fleet.node"}
    assert not any(each.at_start for each in submitit)


def test_pandas_is_imported_in_the_reading_wing_alone() -> None:
    assert {room(each.module) for each in IMPORTS if room(each.name) == "pandas"} <= PANDAS_ROOMS


def test_the_bootstrap_needs_the_standard_library_alone() -> None:
    used = {room(each.name) for each in IMPORTS if each.module == "bootstrap"}
    assert used <= set(sys.stdlib_module_names)


def test_the_environment_is_read_in_the_command_line_and_written_by_the_launcher() -> None:
    # The plugin's command line is pytest's; the compiler and the cache of what it builds are the user's.
    allowed = {"bootstrap", "runner.launch", "pytest_plugin", "engine.tuned.native"}
    users = {
        module
        for module, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")
    }
    assert {module for module in users if room(module) != "cli"} <= allowed


def test_only_the_command_line_prints() -> None:
    users = {
        module
        for module, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {module for module in users if room(module) != "cli"} <= {"bootstrap"}


def test_every_module_says_what_it_is_for() -> None:
    assert [module for module, tree in sources() if not ast.get_docstring(tree)] == []


LIGHT = {"torch", "pandas", "numpy", "scipy", "submitit"}


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], LIGHT | {"pydantic", "rich", "psutil"}),
        (["--version"], LIGHT | {"pydantic", "rich", "psutil"}),
        (["list"], LIGHT | {"rich"}),
        (["list", "--json"], LIGHT | {"rich"}),
        (["validate", "quick", "standard"], LIGHT | {"rich"}),
        (["validate", "nosuch"], LIGHT | {"rich"}),
        (["run", "--help"], LIGHT),
        (["show", "--help"], LIGHT),
        (["compare", "--help"], LIGHT),
        (["profile", "--help"], LIGHT),
        (["profile", "nosuch"], LIGHT),
        (["data", "--help"], LIGHT),
        (["fleet", "--help"], LIGHT | {"pydantic", "rich", "psutil"}),
        (["fleet", "run", "--help"], LIGHT | {"pydantic", "rich", "psutil"}),
        (["baseline", "save", "--help"], LIGHT),
        (["history", "--help"], LIGHT),
        (["explain", "mnist-cnn"], LIGHT),
        (["explain", "mnist-cnn-2048", "--slide", "--format", "markdown"], LIGHT),
        (["explain", "vgg16", "--format", "json"], LIGHT | {"rich"}),
        (["outsize", "-i", "5", "-f", "4", "-p", "2"], LIGHT | {"rich"}),
    ],
    ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value),
)
def test_a_command_that_measures_nothing_loads_nothing_heavy(arguments: list[str], absent: set[str]) -> None:
    code = (
        "import json, sys; from cnnbench.cli.main import run_cli; run_cli(sys.argv[1:]);"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "click" in loaded
    assert loaded & absent == set()
