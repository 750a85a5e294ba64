"""The commands whose complete outputs are recorded, by name, and what another tree may call the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WORDS: Mapping[str, Sequence[Sequence[str]]] = {
    "stopping": (("stopping",), ("learning", "stopping")),
    "bands": (("bands",), ("learning", "bands")),
    "converge": (("converge",), ("learning", "convergence")),
    "claims": (("claims",), ("learning", "open")),
    "fleet report": (("fleet", "report"), ("cluster", "report")),
    "baseline list": (("baseline", "list"), ("check", "baseline", "list")),
    "baseline show": (("baseline", "show"), ("check", "baseline", "show")),
    "baseline judge": (("baseline", "judge"), ("check", "baseline", "judge")),
    "replay": (("check", "--replay"), ("check", "replay")),
    "calibrate": (("calibrate",), ("check", "calibrate")),
    "ingest": (("ingest",), ("show",)),
    "outsize": (("outsize",), ("explain", "output-size")),
    "--baseline": (("--baseline",), ("--relative-to",)),
    "--output": (("--output",), ("--results",)),
    "--all": (("--all",), ()),
}
"""Commands and options by today's name: how trees spell them, the first that the tree's help lists is taken.

A command that is not listed here has its own name in every tree.
"""
SUITES: Mapping[str, Sequence[str]] = {"regression": ("gate", "regression")}
"""Suites by the name that outputs are recorded under: what trees call them."""

TABLES = ("table", "markdown", "latex", "csv", "json")
_SUFFIXES = {"table": "txt", "markdown": "md", "latex": "tex"}
_README = "# Ours\n\n**We have 7 machines.**\n\n<!-- table: ours -->\n<!-- table end -->\n"


@dataclass(frozen=True)
class Step:
    """One command line after `cnnbench`; `suffix` says what it prints."""

    arguments: tuple[str, ...]
    suffix: str = "txt"


@dataclass(frozen=True)
class Case:
    """Commands run one after another in a folder of their own, which sees `links` under the names given and has `files`."""

    name: str
    steps: tuple[Step, ...]
    links: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    cheap: bool = False
    """Whether its outputs are held by `digests.json` too."""
    weight: int = 1
    """About how many times as long as the shortest it takes: long ones begin first."""


def step(*arguments: str, form: str = "table") -> Step:
    """Return the step with `--format`, where the form is one that has to be asked for."""
    asked = ("--format", form) if form != "table" else ()
    return Step((*arguments, *asked), _SUFFIXES.get(form, form))


def cases(tree: Path, inputs: Path, frozen: Path) -> Iterator[Case]:
    """Yield all cases: `tree` gives suites, `inputs` the committed results, `frozen` the made-up ones."""
    yield from _results("committed", inputs / "results", weight=5)
    for name, folder in _frozen_results(frozen):
        yield from _results(name, folder)
    for folder in sorted((frozen / "bad").iterdir()):
        yield Case(f"bad/{folder.name}", (step("show", "results", form="json"),), {"results": folder})
    yield from _comparisons(inputs, frozen)
    yield from _checks(inputs, frozen)
    yield from _exports(inputs, frozen)
    yield from _suites(tree)
    yield from _machine()
    yield from _explained()


_CHEAP = ("report", "ranks", "copies", "older", "failures")
"""Trees whose values are held by `digests.json`."""
_DRAWN = ("committed", "everything", "report", "modes", "ranks", "learning")
"""Trees whose report is made whole, with its drawings (seconds each); of the others the document alone."""
_READ = {
    "history": ("history",),
    "stopping": ("learning",),
    "bands": ("learning", "modes"),
    "converge": ("learning",),
    "claims": ("claims",),
    "fleet report": ("nodes", "machines"),
}
"""Commands with a table of their own, and the trees made for them; the first is read in every format."""
_READ_BY_ALL = ("committed", "everything", "report", "ranks", "failures", "hostile", "older")


def _frozen_results(frozen: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted(frozen.iterdir()):
        if (folder / "results").is_dir():
            yield folder.name, folder / "results"


def _results(name: str, folder: Path, weight: int = 1) -> Iterator[Case]:
    """Yield what can be read from one tree of results: tables, a report with its audit, history, learning."""
    links = {"results": folder}
    forms = TABLES if name in _DRAWN else ("table", "json")
    everyone = (step("show", "results", "--all-runs", "--with-lecture", form="csv"),)
    shows = tuple(step("show", "results", *(("--all",) if form == "table" else ()), form=form) for form in forms)
    yield Case(f"{name}/show", (*shows, *(everyone if name in _DRAWN else ())), links, weight=weight)
    values = (step("show", "results", form="csv"), Step(("export", "results", "--to", "csv"), "csv"))
    yield Case(f"{name}/values", values, links, cheap=name in _CHEAP)
    yield from _report(name, links)
    for command, trees in _READ.items():
        if name in (*trees, *_READ_BY_ALL):
            forms = TABLES if name == trees[0] else ("table", "csv", "json") if name == "committed" else ("json",)
            steps = tuple(step(command, "results", form=form) for form in forms)
            yield Case(f"{name}/{command.replace(' ', '-')}", steps, links, weight=weight)
    if name in ("committed", "history"):
        yield Case(f"{name}/history-picture", (Step(("history", "results", "-o", "history.html")),), links, weight=2)


def _report(name: str, links: Mapping[str, Path]) -> Iterator[Case]:
    """Yield the whole report of a tree and its audit; once with scripts in the page, else with still drawings."""
    if name not in _DRAWN:
        steps = (Step(("report", "results", "-o", "page.md")), Step(("audit", "--json", "results", "page.md"), "json"))
        yield Case(f"{name}/page", steps, links)
        return
    drawn = () if name == "committed" else ("--static",)
    report = ("report", "results", *drawn, "-o", "report", "--into", "README.md")
    steps = (Step(report), Step(("audit", "--json", "results", "report", "README.md"), "json"))
    again = (Step((*report, "--check")),) if name == "report" else ()
    yield Case(
        f"{name}/report", (*steps, *again), links, {"README.md": _README}, weight=40 if name == "committed" else 20
    )
    yield Case(f"{name}/lecture", (Step(("report", "results", "--template", "lecture", "-o", "lecture.md")),), links)


def _comparisons(inputs: Path, frozen: Path) -> Iterator[Case]:
    machines = sorted(path.name for path in (inputs / "results").iterdir() if any(path.glob("*.jsonl")))
    measured = [name for name in machines if name != "reference"]
    pairs = {
        "sides": ({"old": frozen / "sides" / "old", "new": frozen / "sides" / "new"}, "old", "new"),
        "committed": ({"results": inputs / "results"}, measured[0], measured[-1]),
        "published": ({"results": inputs / "results"}, "reference", measured[0]),
        "report": ({"results": frozen / "report" / "results"}, "testbox-0a1b", "gpubox-9f9f"),
        "machines": ({"results": frozen / "everything" / "results"}, "epyc-rack-3f9a", "xeon-cloud-77c2"),
        "keys": ({"results": frozen / "everything" / "results"}, "epyc-rack-3f9a/cuda:0", "epyc-rack-3f9a/cuda:1"),
        "none": ({"results": frozen / "report" / "results"}, "testbox-0a1b", "nowhere"),
    }
    for name, (links, base, new) in pairs.items():
        forms = TABLES if name in ("sides", "committed") else ("table", "json")
        steps = tuple(step("compare", base, new, form=form) for form in forms)
        yield Case(f"compare/{name}", steps, links, cheap=name == "sides")
    links = {"old": frozen / "sides" / "old", "new": frozen / "sides" / "new"}
    whole = Step(("report", "old", "new", "--template", "compare", "--static", "-o", "page"))
    yield Case("compare/page", (whole,), links, weight=10)
    prices = ("--price-per-hour", "2.5", "--price-per-hour", "gpubox-9f9f=12.34567", "--currency", "USD")
    links = {"results": frozen / "report" / "results"}
    over = ("--baseline", "gpubox-9f9f/cpu/8")
    steps = tuple(Step(("report", "results", *prices, *over, "-o", f"page.{form}")) for form in ("md", "csv", "json"))
    yield Case("options/report", (*steps, Step(("audit", "--json", "results", "page.md", "page.json"), "json")), links)


def _checks(inputs: Path, frozen: Path) -> Iterator[Case]:
    """Yield the replay of every record of a check with all it can write, and every calibration's profile."""
    records = {f"committed-{path.stem}": path for path in sorted((inputs / "results").glob("*/checks/*.json"))}
    records |= {f"made-{path.stem}": path for path in sorted((frozen / "checks").glob("*.json"))}
    written = ("--github", "--markdown", "check.md", "--junit", "check.xml", "--plot", "check.svg")
    for name, path in records.items():
        yield Case(f"check/{name}", (Step(("replay", "check.json", *written)),), {"check.json": path}, weight=3)
        verdict = (Step(("replay", "check.json", "-o", "again.json")),)
        yield Case(f"check/{name}-verdict", verdict, {"check.json": path}, cheap=True)
    for path in sorted((inputs / "results").glob("*/noise/*-blocks.json")):
        steps = (Step(("calibrate", "--from", path.name, "--json", "--plot", "curve.svg"), "json"),)
        yield Case(f"calibrate/{path.parent.parent.name}-{path.stem}", steps, {path.name: path}, weight=2)


def _exports(inputs: Path, frozen: Path) -> Iterator[Case]:
    folders = {"committed": inputs / "results", **dict(_frozen_results(frozen))}
    for name in ("committed", "report", "history", "ranks", "failures"):
        yield Case(
            f"{name}/exports",
            (
                Step(("export", "results", "--to", "pytest-benchmark", "--last"), "json"),
                Step(("export", "results", "--to", "github-action-benchmark", "--last"), "json"),
            ),
            {"results": folders[name]},
        )
        yield Case(
            f"{name}/merge",
            (Step(("merge", "results", "--output", "merged", "--json"), "json"), step("show", "merged", form="json")),
            {"results": folders[name]},
        )
    theirs = {path.name: path for path in sorted((frozen / "theirs").glob("*.json"))}
    steps = (Step(("ingest", *theirs)), *(Step(("ingest", *theirs, "-o", f"read.{form}")) for form in ("csv", "json")))
    yield Case("theirs/ingest", steps, theirs)
    judged = tuple(step("baseline judge", "main", "results", form=form) for form in ("table", "json"))
    shown = tuple(step("baseline show", "main", form=form) for form in TABLES)
    steps = (step("baseline list", form="csv"), *shown, *judged)
    history = {f"results/{path.relative_to(folders['history'])}": path for path in folders["history"].rglob("*.*")}
    named = {"results/testbox-0a1b/baselines.toml": Path(__file__).parent / "golden" / "baselines.toml"}
    yield Case("history/baseline", steps, {**history, **named})


def _suites(tree: Path) -> Iterator[Case]:
    """Yield every suite's digest, and on a CPU of two threads the plan of all with every field of their jobs."""
    canonical = {there: name for name, others in SUITES.items() for there in others}
    found = sorted((path.stem for path in (tree / "suites").glob("*.toml")), key=lambda name: canonical.get(name, name))
    yield Case(
        "suites/list", (Step(("list", "--json"), "json"), Step(("list",)), Step(("validate", *found, "--json"), "json"))
    )
    plan = ("run", *found, "--dry-run", "--device", "cpu", "--threads", "2", "--seed", "1")
    yield Case("suites/plan", (Step((*plan, "--json"), "json"), Step(plan)), weight=8)


def _machine() -> Iterator[Case]:
    """Yield what is told of this machine without measuring: equal for two trees on one machine, and nowhere else."""
    yield Case("machine/devices", (Step(("devices", "--json"), "json"), Step(("devices",))), weight=2)


def _explained() -> Iterator[Case]:
    names = ("mnist-cnn", "mnist-cnn-2048", "softmax", "mlp-1", "mlp-5", "vgg16")
    for name in names:
        forms = ("table", "markdown", "json", "latex") if name == "mnist-cnn" else ("json",)
        steps = tuple(step("explain", name, form=form) for form in forms)
        yield Case(f"explain/{name}", (*steps, step("explain", name, "--slide")), cheap=name == "mnist-cnn")
    yield Case("explain/side-by-side", (step("explain", *names, "--compare", form="json"),))
    steps = (
        Step(("outsize", "-i", "224", "-f", "11", "-p", "2", "-s", "4", "--json"), "json"),
        Step(("outsize", "-i", "28", "-f", "5", "--same")),
    )
    yield Case("explain/output-size", steps)
    for name in ("check", "devices", "doctor", "noise", "record", "run"):
        yield Case(f"schema/{name}", (Step(("schema", name), "json"),))
