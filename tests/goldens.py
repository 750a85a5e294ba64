#!/usr/bin/env python3
"""Record everything that cnnbench's command line prints from fixed inputs, and compare two trees by value.

    python tests/goldens.py check --base REV               # record REV and the working tree, compare
    python tests/goldens.py record --tree DIR -o OUT       # the outputs of one tree
    python tests/goldens.py compare OLD NEW                # two recorded folders
    python tests/goldens.py digests                        # record tests/golden/digests.json again
    python tests/goldens.py freeze                         # build made-up results that are not frozen yet

Inputs are the committed results and the made-up ones in tests/golden/trees.tar.xz. A tree is copied to one fixed folder and
its commands run there, with an environment of its own: so paths, settings, caches and width are equal for all trees, and
outputs are compared without masking anything. Exit 1 if anything differs that tests/golden/exceptions.toml does not declare:

    [[exception]]
    reason = "why it differs"
    outputs = "*/report/*.csv"      # glob of outputs; default: all
    places = "column peak_text"     # regular expression found in the place; default: any
    old = "gate"                    # regular expression found in the old value; default: any
    new = "regression"              # with it, the old value must become the new one when `old` is replaced
    same_numbers = true             # words may differ, numbers may not; default: false
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import golden_commands
import golden_diff
import golden_trees
from golden_commands import Case

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "golden"
EXCEPTIONS, DIGESTS = FOLDER / "exceptions.toml", FOLDER / "digests.json"
WORK = Path(tempfile.gettempdir()) / f"cnnbench-goldens-{os.getuid()}"
"""Where every tree is copied to and run, one at a time: the same path, so that outputs that name a file are equal."""
LEFT_OUT = (".git", ".venv", "build", "dist", "artifacts", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
PRELOADED = ("numpy", "scipy.special", "scipy.stats", "pandas", "pydantic", "click", "rich.console", "rich.table", "jinja2",
             "altair", "vl_convert", "psutil", "xml.etree.ElementTree", "difflib")  # fmt: skip
"""Packages that most commands load: loaded once, before the processes of all commands are forked."""
PICTURES = (".png",)
"""Not recorded: the same drawing as the .svg beside it, from the same data."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="goldens.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_record(commands.add_parser("record", help="record the outputs of one tree"))
    _add_compare(commands.add_parser("compare", help="compare two recorded folders by value"))
    _add_check(commands.add_parser("check", help="record a revision and the working tree, and compare them"))
    digests = commands.add_parser("digests", help=f"record {DIGESTS.relative_to(ROOT)} again from the working tree")
    digests.set_defaults(run=lambda given: _write_digests())
    freeze = commands.add_parser("freeze", help="build the made-up results that are not frozen yet")
    freeze.add_argument("--replace", nargs="*", default=[], metavar="NAME", help="trees to build again")
    freeze.set_defaults(run=_freeze)
    commands.add_parser("serve").set_defaults(run=lambda given: serve())
    given = parser.parse_args(arguments)
    return int(given.run(given) or 0)


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="DIR", help="the source tree (default: this one)")
    parser.add_argument("--inputs", type=Path, metavar="DIR", help="the tree whose results/ are read (default: --tree)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="an empty or new folder")
    _add_choice(parser)
    parser.set_defaults(run=_record)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    _add_report(parser)
    parser.set_defaults(run=lambda given: _compare(given.old, given.new, given))


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True, metavar="REV", help="the revision to compare the working tree with")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep both records in DIR/old and DIR/new")
    _add_choice(parser)
    _add_report(parser)
    parser.set_defaults(run=_check)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", metavar="PATTERN", default="", help="only cases whose name has this regular expression"
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("-j", "--jobs", type=int, default=cores, help="cases at once (default: the cores)")
    parser.add_argument("--fresh", action="store_true", help="a fresh interpreter per command, about twice as slow")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow", type=Path, default=EXCEPTIONS, metavar="FILE", help="declared exceptions")
    parser.add_argument("--most", type=int, default=10, help="differences printed per output (default: 10)")


# ------------------------------------------------------------------------------------------------------------------ record


def _record(given: argparse.Namespace) -> int:
    record(given.tree, given.inputs or given.tree, given.output, _options(given))
    return 0


@dataclass(frozen=True)
class Options:
    """Which cases are run, how many at once, and whether each command starts a fresh interpreter."""

    wanted: Callable[[Case], object]
    jobs: int
    fresh: bool = False


def _options(given: argparse.Namespace) -> Options:
    return Options(lambda case: re.search(given.only, case.name), given.jobs, given.fresh)


def record(tree: Path, inputs: Path, output: Path, options: Options) -> None:
    """Write what a tree's commands print, and the files they make, into a folder for each case."""
    if output.exists() and any(output.iterdir()):
        raise SystemExit(f"{output}: not empty; name a new folder")
    with _workplace() as work:
        places = [work / "tree", work / "inputs", work / "frozen"]
        for source, place in ((tree, places[0]), (inputs, places[1])):
            shutil.copytree(source, place, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        golden_trees.extract(places[2])
        chosen = [case for case in golden_commands.cases(*places) if options.wanted(case)]
        _run(work, chosen, options)
        _collect(work / "cases", output)


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """Give the fixed folder, empty and held by a lock, and empty it again."""
    WORK.mkdir(exist_ok=True)
    work = WORK / "work"
    with (WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _environment(work: Path) -> dict[str, str]:
    """Return all of a command's environment: nothing of the caller's but where programs are."""
    return {
        **{"PATH": os.environ["PATH"], "PYTHONPATH": str(work / "tree"), "HOME": str(work / "home")},
        **{
            "XDG_CACHE_HOME": str(work / "home/.cache"),
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "200",
            "LINES": "50",
        },
        **{"NO_COLOR": "1", "TERM": "dumb", "CNNBENCH_NO_SETTINGS": "1", "TMPDIR": str(work / "home")},
        **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
    }


def _run(work: Path, chosen: Sequence[Case], options: Options) -> None:
    """Run the cases, the longest first, through one process that forks for each."""
    (work / "home").mkdir()
    times = work / "times.txt"
    environment = _environment(work)
    translate = _Translator(environment, work)
    jobs = []
    for case in sorted(chosen, key=lambda case: -case.weight * len(case.steps)):
        folder = work / "cases" / case.name
        folder.mkdir(parents=True)
        for name, target in case.links.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(target, target_is_directory=target.is_dir())
        for name, text in case.files.items():
            (folder / name).write_text(text)
        steps = [{"arguments": translate(each.arguments), "suffix": each.suffix} for each in case.steps]
        jobs.append({"folder": str(folder), "steps": steps, "times": str(times)})
    asked = json.dumps({"tree": str(work / "tree"), "jobs": jobs, "at_once": options.jobs, "fresh": options.fresh})
    command = [sys.executable, str(Path(__file__).resolve()), "serve"]
    if subprocess.run(command, input=asked, text=True, env=environment, cwd=work, check=False).returncode:
        raise SystemExit("a case could not be run; nothing was recorded")
    spent = [float(line.split()[0]) for line in times.read_text().splitlines()]
    print(f"{len(jobs)} cases, {len(spent)} commands, {sum(spent):.0f} s of CPU time", file=sys.stderr)


class _Translator:
    """Turns today's words of a command line into the tree's, which its help lists."""

    def __init__(self, environment: Mapping[str, str], work: Path) -> None:
        self._environment, self._work = environment, work
        self._help = functools.cache(self._ask)
        self._spelled = functools.cache(self._choose)

    def __call__(self, arguments: Sequence[str]) -> list[str]:
        command = list(self._spelled(arguments[0], ()))
        words = list(arguments[1:])
        return [*command, *(word for each in words for word in self._spelled(each, tuple(command)))]

    def _choose(self, word: str, under: tuple[str, ...]) -> tuple[str, ...]:
        spellings = golden_commands.WORDS.get(word, ((word,),))
        if len(spellings) > 1:
            for spelling in spellings:
                if all(self._lists((*under, *spelling[:n]), spelling[n]) for n in range(len(spelling))):
                    return tuple(spelling)
        return tuple(spellings[0])

    def _lists(self, command: tuple[str, ...], word: str) -> bool:
        pattern = (
            rf"(^|[\s/]){re.escape(word)}(?=[\s,/]|$)" if word.startswith("-") else rf"^  {re.escape(word)}(?=\s|$)"
        )
        return re.search(pattern, self._help(command), re.MULTILINE) is not None

    def _ask(self, command: tuple[str, ...]) -> str:
        arguments = [sys.executable, "-m", "cnnbench", *command, "--help"]
        done = subprocess.run(
            arguments, env=self._environment, cwd=self._work, capture_output=True, text=True, check=False
        )
        return done.stdout


def _collect(cases: Path, output: Path) -> None:
    """Copy what the cases wrote, without their inputs and pictures."""
    for path in sorted(cases.rglob("*")):
        if path.is_file() and path.suffix not in PICTURES and not _is_input(path, cases):
            target = output / path.relative_to(cases)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _is_input(path: Path, cases: Path) -> bool:
    return any(each.is_symlink() for each in (path, *path.parents) if each.is_relative_to(cases))


# ------------------------------------------------------------------------------------------------------------------- serve


def serve() -> int:
    """Run the jobs that standard input describes, each command as a fork of this process that becomes `python -m cnnbench`."""
    asked = json.load(sys.stdin)
    sys.path[0] = ""
    spec = importlib.util.find_spec("cnnbench")
    if spec is None or not str(spec.origin).startswith(asked["tree"]):
        raise SystemExit(f"cnnbench would come from {spec and spec.origin}, not from {asked['tree']}")
    for name in PRELOADED if not asked["fresh"] else ():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    running, broken = 0, 0
    for job in asked["jobs"]:
        if running >= asked["at_once"]:
            broken += os.wait()[1] != 0
            running -= 1
        child = os.fork()
        if child == 0:
            _leave(lambda: _run_job(job, asked["fresh"]))  # noqa: B023 (called at once)
        running += 1
    for _ in range(running):
        broken += os.wait()[1] != 0
    return 1 if broken else 0


def _leave(act: Callable[[], Any]) -> None:
    """Do it and end this process, whatever comes of it, with its exit code."""
    code = 1
    try:
        code = int(act() or 0)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:  # noqa: BLE001 (the fork must not go on as a second parent)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_job(job: Mapping[str, Any], fresh: bool) -> None:
    """Run a case's commands one after another; each has its output, its messages and its exit code in files."""
    os.chdir(job["folder"])
    for number, each in enumerate(job["steps"], 1):
        child = os.fork()
        if child == 0:
            _leave(lambda: _become(each["arguments"], f"{number}-{each['suffix']}", number, fresh))  # noqa: B023
        _, status, usage = os.wait4(child, 0)
        Path(f"{number}-exit.txt").write_text(f"{os.waitstatus_to_exitcode(status)}\n")
        seconds = f"{usage.ru_utime + usage.ru_stime:.2f}"
        with Path(job["times"]).open("a") as times:
            times.write(f"{seconds} {Path(job['folder']).name} {' '.join(each['arguments'])}\n")


def _become(arguments: list[str], name: str, number: int, fresh: bool) -> None:
    number_, suffix = name.split("-", 1)
    for descriptor, path in ((0, os.devnull), (1, f"{number_}-output.{suffix}"), (2, f"{number}-messages.txt")):
        opened = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
    if fresh:
        os.execv(sys.executable, [sys.executable, "-m", "cnnbench", *arguments])
    sys.argv = ["cnnbench", *arguments]
    runpy.run_module("cnnbench", run_name="__main__", alter_sys=True)


# ----------------------------------------------------------------------------------------------------------------- compare


def _compare(old: Path, new: Path, given: argparse.Namespace) -> int:
    """Print each undeclared difference with its place, and the exceptions that explained nothing."""
    exceptions = golden_diff.load_exceptions(given.allow)
    found = golden_diff.compare(old, new)
    left = golden_diff.undeclared(found, exceptions)
    by_output: dict[str, list[golden_diff.Difference]] = {}
    for each in left:
        by_output.setdefault(each.output, []).append(each)
    for output, those in by_output.items():
        for each in those[: given.most]:
            print(each)
        if len(those) > given.most:
            print(f"{output}: {len(those) - given.most} more")
    for each in exceptions:
        if not each.used:
            print(f"exception without use: {each.outputs} {each.places} ({each.reason})")
    outputs = sum(1 for path in old.rglob("*") if path.is_file())
    print(f"{outputs} outputs: {len(left)} differences in {len(by_output)}, {len(found) - len(left)} declared")
    return 1 if left else 0


def _check(given: argparse.Namespace) -> int:
    """Record the base revision and the working tree on the base's results, and compare."""
    with tempfile.TemporaryDirectory() as place:
        base, kept = Path(place) / "base", given.keep or Path(place)
        _git("worktree", "add", "--detach", "--quiet", str(base), given.base)
        try:
            record(base, base, kept / "old", _options(given))
            record(ROOT, base, kept / "new", _options(given))
        finally:
            _git("worktree", "remove", "--force", str(base))
        return _compare(kept / "old", kept / "new", given)


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")


# ----------------------------------------------------------------------------------------------------------------- digests


def digests() -> dict[str, str]:
    """Return the SHA-256 of each output of the cheap cases, recorded now from this tree."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "now"
        record(ROOT, ROOT, output, Options(lambda case: case.cheap, jobs=os.cpu_count() or 1))
        return {
            path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(output.rglob("*"))
            if path.is_file()
        }


def _write_digests() -> int:
    found = digests()
    DIGESTS.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
    print(f"wrote {len(found)} digests to {DIGESTS}")
    return 0


def _freeze(given: argparse.Namespace) -> int:
    sys.path.insert(0, str(ROOT))
    print(f"froze {', '.join(golden_trees.freeze(given.replace)) or 'nothing: all trees are frozen already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
