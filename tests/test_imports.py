"""The order of the rooms, held by reading the sources: who may import whom, torch, pandas, the environment, or print."""

from __future__ import annotations

import ast
import graphlib
import itertools
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from import_graph import Graph, Import, build_graph, describe, find_circles, read_sources, walk_imports

import cnnbench

PACKAGE = Path(cnnbench.__file__).parent
ROOMS = (
    *("errors", "units", "files", "plain_text"),
    "schema",
    *("paired_protocol", "profile_model"),
    "workloads",
    *("naming", "machine_facts"),  # a job's optimiser is named where it is not its workload's own
    *("data", "devices", "machine"),
    # What a stored record names, and what it cannot be, is the workloads' and the machine's to say: both come after them.
    *("store", "validity"),
    *("plan", "merge"),  # merging is done to stored ledgers, and a cluster run merges what its nodes bring
    "engine",
    "runner",
    "analysis",
    "regression",  # before the report, which prints its verdicts and draws its noise
    "report",
    "verify",  # after the report only so that nothing printed can import what checks it: it imports neither (APART)
    "cluster",
    "bridges",  # what other tools read and write is made of rows, tables and verdicts
    "cli",
    "__main__",
)
"""From the ground up: a room imports only rooms before it. Not in it is `bootstrap`, which runs before any of them can."""
APART = {
    "workloads": {"units"},
    "data": {"workloads", "units"},
    "devices": {"data", "workloads", "units"},
    "validity": {"store"},
    "plan": {"data", "validity", "store"},
    "merge": {"units", "workloads", "data", "devices", "machine", "validity", "plan"},
    "engine": {"machine", "validity", "plan", "store", "merge"},
    "runner": {"engine", "data"},
    "analysis": {"engine", "runner", "plan", "data"},
    "regression": {"engine", "data"},
    "report": {"engine", "runner", "plan", "data"},
    "verify": {"naming", "machine_facts", "engine", "runner", "plan", "data", "analysis", "regression", "report"},
    "cluster": {
        "engine",
        "plan",
        "data",
        "devices",
        "machine",
        "validity",
        "analysis",
        "regression",
        "report",
        "verify",
    },
    "bridges": {"engine", "runner", "plan", "data", "merge", "verify", "cluster"},
    "cli": {"engine"},
}
"""Rooms below that are none of a room's business; nobody imports the torch wing: it is started as a process."""
PYTEST_PLUGIN = "bridges.pytest_plugin"
"""It alone imports the torch wing, in a function: whoever times torch in a test has it in that process already."""
TORCH_ROOMS = {"engine", "workloads", "devices"}
PANDAS_ROOMS = {"analysis", "report"}
SOURCES = read_sources(PACKAGE)
ALL_IMPORTS = [each for module, tree in SOURCES.items() for each in walk_imports(module, tree)]
"""Those for the type checker too, which nobody runs: for the order and for circles they count all the same."""
IMPORTS = [each for each in ALL_IMPORTS if each.when != "for types"]
OWN = [each for each in ALL_IMPORTS if each.name.startswith("cnnbench.") and not each.name.endswith(".__version__")]


def room(module: str) -> str:
    return module.partition(".")[0]


def part(module: str) -> str:
    """The package inside a room that the module is in, else the module: `engine.tuned` of all in it, and `engine.trial`."""
    inside = ".".join(module.split(".")[:2])
    return inside if any(each.startswith(f"{inside}.") for each in SOURCES) else module


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(module) for module in SOURCES} - {"__init__", "bootstrap"} == set(ROOMS)
    assert set(APART) | set().union(*APART.values()) <= set(ROOMS)


def test_the_readmes_tree_lists_the_rooms_in_their_order() -> None:
    """It says so above the list."""
    readme = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
    tree = re.search(r"a room imports only rooms above it in this list\n(.*?)  bootstrap\.py ", readme, re.DOTALL)
    assert tree is not None
    listed = re.findall(r"(\w+)(?:/|\.py) ", re.sub(r"   .*", "  ", tree[1], flags=re.MULTILINE))
    assert (*listed, "__main__") == ROOMS


def test_a_room_imports_only_rooms_below_it() -> None:
    """In its functions too, and for the type checker."""

    def below(each: Import) -> bool:
        own, other = room(each.module), room(each.name.removeprefix("cnnbench."))
        if (each.module, other) == (PYTEST_PLUGIN, "engine"):
            return True
        return own == other or (ROOMS.index(other) < ROOMS.index(own) and other not in APART.get(own, set()))

    assert any(not each.at_start for each in OWN)
    assert [each for each in OWN if not below(each)] == []


@pytest.mark.parametrize("unit", [str, part], ids=["modules", "packages inside rooms"])
def test_modules_import_each_other_in_no_circle(unit: Callable[[str], str]) -> None:
    """In their functions too; and a package inside a room (`engine/tuned`) lies wholly above or below each module outside it."""
    graph = build_graph(OWN, SOURCES.keys(), unit)
    assert [describe(graph, circle) for circle in find_circles(graph)] == []


def made_up(sources: dict[str, str], unit: Callable[[str], str] = str) -> Graph:
    imports = [each for module, text in sources.items() for each in walk_imports(module, ast.parse(text))]
    return build_graph(imports, sources.keys(), unit)


@pytest.mark.parametrize(
    ("back", "when"),
    [
        ("from cnnbench.room.a import x", "at start"),
        ("def f():\n    from cnnbench.room.a import x", "in a function"),
        ("class C:\n    async def f(self):\n        def g():\n            import cnnbench.room.a", "in a function"),
        ("try:\n    from cnnbench.room import a\nexcept ImportError:\n    pass", "at start"),
        ("if TYPE_CHECKING:\n    from cnnbench.room.a import x", "for types"),
        ("LAZY = {'a': 'cnnbench.room.a:x'}", "in a function"),
    ],
)
def test_a_planted_circle_is_found_and_told_line_by_line(back: str, when: str) -> None:
    """Whichever way its last import is written; without that import there is none."""
    sources = {
        "room": "",
        "room.a": "def f():\n    from cnnbench.room import b",
        "room.b": "\nfrom cnnbench.other.c import x",
        "room.d": "from cnnbench.room import a",
        "other": "",
        "other.c": back,
    }
    graph = made_up(sources)
    (circle,) = find_circles(graph)
    assert describe(graph, circle).splitlines() == [
        "a circle:",
        f"  other.c:{back.count(chr(10), 0, back.index('cnnbench')) + 1} imports room.a ({when})",
        "  room.a:2 imports room.b (in a function)",
        "  room.b:2 imports other.c (at start)",
    ]
    assert find_circles(made_up(sources | {"other.c": "import os"})) == []


def test_importing_a_module_imports_the_package_around_it() -> None:
    """It runs the package's `__init__`; of a package that both are in that has happened."""
    sources = {"a": "from cnnbench.b import x", "b": "", "a.d": "from cnnbench.a import e", "a.e": ""}
    assert find_circles(made_up(sources)) == []
    assert find_circles(made_up(sources | {"b": "import cnnbench.a.d"})) == [("a", "b")]


def test_a_module_between_two_of_a_package_closes_a_circle_of_the_package() -> None:
    """No module imports itself that way, but there is no reading the package before the module, nor after it."""
    sources = {
        "engine": "",
        "engine.tuned": "",
        "engine.tuned.low": "",
        "engine.mid": "from cnnbench.engine.tuned import low",
        "engine.tuned.high": "from cnnbench.engine import mid",
    }
    assert find_circles(made_up(sources)) == []
    assert find_circles(made_up(sources, part)) == [("engine.mid", "engine.tuned")]


def random_graph(seed: int) -> Graph:
    coin, names = random.Random(seed), "abcdefgh"
    graph: dict[str, dict[str, Import]] = {}
    for one, other in coin.sample([*itertools.permutations(names, 2)], coin.randrange(3, 14)):
        graph.setdefault(one, {})[other] = Import(one, other, 1, "at start")
    return graph


def has_an_order(graph: Graph) -> bool:
    """By the standard library's sorting."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError:
        return False
    return True


def test_a_graph_has_a_circle_where_the_standard_library_finds_no_order_for_it() -> None:
    """In 500 random graphs, about half of which have one; every step of a circle is an import."""
    graphs = [random_graph(seed) for seed in range(500)]
    found = [find_circles(graph) for graph in graphs]
    assert [circles == [] for circles in found] == [has_an_order(graph) for graph in graphs]
    assert 0.25 < sum(circles == [] for circles in found) / len(graphs) < 0.75
    for graph, circles in zip(graphs, found, strict=True):
        for circle in circles:
            assert all(other in graph[one] for one, other in itertools.pairwise((*circle, circle[0])))


def test_torch_is_imported_in_the_engine_and_within_functions_of_workloads_and_devices() -> None:
    torch = [each for each in IMPORTS if room(each.name) == "torch"]
    assert {room(each.module) for each in torch} <= TORCH_ROOMS
    assert {room(each.module) for each in torch if each.at_start} == {"engine"}


def test_the_pytest_plugin_loads_pytest_alone() -> None:
    """It is imported in every pytest run of whoever installed cnnbench."""
    own = [each.name for each in IMPORTS if each.module == PYTEST_PLUGIN and each.at_start]
    assert {room(name) for name in own} <= {"__future__", "pytest", *sys.stdlib_module_names}
    assert not [each for each in IMPORTS if each.name == f"cnnbench.{PYTEST_PLUGIN}"]
    code = (
        f"import pytest, sys; old = set(sys.modules); import cnnbench.{PYTEST_PLUGIN}; print(*set(sys.modules) - old)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"cnnbench", "cnnbench.bridges", f"cnnbench.{PYTEST_PLUGIN}"}


def test_submitit_is_imported_where_a_fleet_needs_it() -> None:
    """It is an optional dependency: nothing but submitting a job may ask for it."""
    submitit = [each for each in IMPORTS if room(each.name) == "submitit"]
    assert {each.module for each in submitit} == {"cluster.submit", "cluster.node_job"}
    assert not any(each.at_start for each in submitit)


def test_pandas_is_imported_in_the_reading_wing_alone() -> None:
    assert {room(each.module) for each in IMPORTS if room(each.name) == "pandas"} <= PANDAS_ROOMS


def test_the_bootstrap_needs_the_standard_library_alone() -> None:
    used = {room(each.name) for each in IMPORTS if each.module == "bootstrap"}
    assert used <= set(sys.stdlib_module_names)


def test_the_environment_is_read_in_the_command_line_and_written_by_the_launcher() -> None:
    # The plugin's command line is pytest's; the compiler and the cache of what it builds are the user's.
    allowed = {"bootstrap", "runner.launch", PYTEST_PLUGIN, "engine.tuned.native"}
    users = {
        module
        for module, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")
    }
    assert {module for module in users if room(module) != "cli"} <= allowed


def test_only_the_command_line_prints() -> None:
    users = {
        module
        for module, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {module for module in users if room(module) != "cli"} <= {"bootstrap"}


def test_every_module_says_what_it_is_for() -> None:
    assert [module for module, tree in SOURCES.items() if not ast.get_docstring(tree)] == []


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
        (["cluster", "--help"], LIGHT | {"pydantic", "rich", "psutil"}),
        (["cluster", "run", "--help"], LIGHT | {"pydantic", "rich", "psutil"}),
        (["check", "baseline", "save", "--help"], LIGHT),
        (["history", "--help"], LIGHT),
        (["explain", "mnist-cnn"], LIGHT),
        (["explain", "mnist-cnn-2048", "--slide", "--format", "markdown"], LIGHT),
        (["explain", "vgg16", "--format", "json"], LIGHT | {"rich"}),
        (["explain", "output-size", "-i", "5", "-f", "4", "-p", "2"], LIGHT | {"rich"}),
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
