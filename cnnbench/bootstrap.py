"""All the set-up from a fresh clone with nothing but Python, pip and git: `python3 -m cnnbench.bootstrap quick`.

Standard library only, since nothing is installed yet. It makes `.venv` in the clone (unless it already runs inside a
virtual environment), installs the build of torch that suits this machine, then cnnbench, and does the command:
`quick` measures and shows the table, `test` runs the tests, `setup` stops here. A second call finds all installed.
Further words are passed to `cnnbench run quick`, or to pytest.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

OLDEST_PYTHON = (3, 11)
TESTED = "torch==2.13.0"
WHEELS = "https://download.pytorch.org/whl"
"""PyTorch's own index of builds (https://pytorch.org/get-started): `cpu`, `cu126`, `rocm7.2` and so on are below it."""
CUDA_13_DRIVER = 580
"""CUDA 13 needs NVIDIA's driver R580 or later, and compute capability 7.5 or later (Turing)."""
CUDA_13_CAPABILITY = (7, 5)
BLACKWELL = (10, 0)
"""First capability that builds for CUDA 12.6 lack; those for 12.8 have it and ended with torch 2.11 (pytorch issue
178665)."""
CUDA_SIZE = "about 3 GB"
STAMP = "cnnbench-bootstrap.json"
TEST_BYTES = 3 << 29
"""Memory for each process of tests: 1.5 GiB."""


class BootstrapError(Exception):
    """The set-up cannot go on; the message says what to do."""


class Facts(NamedTuple):
    """Facts that decide the build of torch."""

    platform: str
    torch: str | None = None
    """Version installed, such as `2.13.0+cpu`."""
    torch_build: str | None = None
    """`cpu`, `cuda 13.0` or `rocm 7.2`."""
    nvidia: bool = False
    amd: bool = False
    capabilities: tuple[tuple[int, ...], ...] = ()
    driver: int | None = None
    """The first number of NVIDIA's driver version."""


class Attempt(NamedTuple):
    """One way to install torch: its name, pip's arguments, and the index that must answer first, if any."""

    what: str
    arguments: tuple[str, ...]
    ask_first: str | None = None


def choose_torch(facts: Facts) -> tuple[Attempt, ...]:
    """List the ways to install torch, best first; empty if a good one is installed."""
    if facts.torch is not None and version_tuple(facts.torch)[:2] >= (2, 9):
        return ()
    configured = Attempt("the build of the configured index", (TESTED,))
    if facts.platform != "linux":
        return (configured,)
    if facts.nvidia:
        configured = configured._replace(what="the CUDA build of the configured index")
    if not facts.nvidia:
        wheel = ("the ROCm build", "rocm7.2", TESTED) if facts.amd else ("the CPU build, no GPU found", "cpu", TESTED)
    # A build for CUDA 12 goes first where the GPU or its driver is too old for CUDA 13.
    elif min(facts.capabilities, default=CUDA_13_CAPABILITY) < CUDA_13_CAPABILITY:
        wheel = ("the CUDA 12.6 build for GPUs before compute capability 7.5", "cu126", "torch>=2.9,<2.15")
    elif facts.driver is None or facts.driver >= CUDA_13_DRIVER:
        return (configured,)
    elif max(facts.capabilities, default=()) >= BLACKWELL:
        wheel = (f"the CUDA 12.8 build for driver {facts.driver}", "cu128", "torch>=2.9,<2.12")
    else:
        wheel = (f"the CUDA 12.6 build for driver {facts.driver}", "cu126", "torch>=2.9,<2.15")
    what, name, requirement = wheel
    index = f"{WHEELS}/{name}"
    arguments = ("--index-url", index, "--timeout", "15", "--retries", "2", requirement)
    return (Attempt(f"{what} ({index})", arguments, index), configured)


def describe_torch(facts: Facts) -> str:
    """Describe the installed torch in a line: its build, and a warning if that does not suit this machine."""
    line = f"torch {facts.torch}, build: {facts.torch_build}"
    build = facts.torch_build or ""
    if build.startswith("cuda") and not facts.nvidia:
        line += (
            f"\nwarning: a CUDA build ({CUDA_SIZE}) though no NVIDIA GPU was found; it works, the CPU build is smaller"
        )
    if build == "cpu" and (facts.nvidia or facts.amd):
        line += "\nwarning: a CPU build though a GPU was found; `pip uninstall torch` and run this again to use the GPU"
    return line


def version_tuple(version: str) -> tuple[int, ...]:
    """Parse the leading numbers of a version: `2.13.0+cpu` -> (2, 13, 0)."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def parse_nvidia_smi(text: str) -> tuple[tuple[tuple[int, ...], ...], int | None]:
    """Parse compute capabilities and the driver's first number from lines such as `9.0, 580.65.06`."""
    capabilities, driver = [], None
    for line in text.splitlines():
        capability, _, version = (version_tuple(part.strip()) for part in line.partition(","))
        if capability:
            capabilities.append(capability)
        driver = version[0] if version else driver
    return tuple(capabilities), driver


def find_gpus() -> Facts:
    """Collect the facts about GPUs without torch: nvidia-smi, the device files, the driver's version file."""
    asked = _ask(("nvidia-smi", "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"))
    capabilities, driver = parse_nvidia_smi(asked or "")
    nvidia = bool(capabilities) or any(Path("/dev").glob("nvidia[0-9]*"))
    version_file = Path("/proc/driver/nvidia/version")
    if nvidia and driver is None and version_file.exists():
        found = re.search(r"\b(\d{3,})\.\d+", version_file.read_text(errors="replace"))
        driver = int(found[1]) if found else None
    return Facts(sys.platform, None, None, nvidia, Path("/dev/kfd").exists(), capabilities, driver)


_INSTALLED = """
import importlib.metadata, importlib.util, json, pathlib, runpy, sys
found = {"python": sys.version_info[:2], "torch": None, "build": None, "cnnbench": None}
try:
    found["torch"] = importlib.metadata.version("torch")
    build = runpy.run_path(str(pathlib.Path(importlib.util.find_spec("torch").origin).parent / "version.py"))
    cuda, hip = build.get("cuda"), build.get("hip")
    found["build"] = f"cuda {cuda}" if cuda else f"rocm {hip}" if hip else "cpu"
except Exception:  # a torch that is missing or too broken to be read, in whatever way, is installed again
    pass
spec = importlib.util.find_spec("cnnbench")
found["cnnbench"] = spec and spec.origin
print(json.dumps(found))
"""


def _facts(python: Path, gpus: Facts) -> tuple[Facts, str | None]:
    """Add the facts of this Python's torch, without importing it; return the place of its cnnbench too."""
    answer = _ask((str(python), "-I", "-c", _INSTALLED))
    if answer is None:
        raise BootstrapError(f"{python} does not run; remove its environment and try again")
    found = json.loads(answer)
    if tuple(found["python"]) < OLDEST_PYTHON:
        raise BootstrapError(
            f"{python} is Python {found['python'][0]}.{found['python'][1]}; cnnbench needs 3.11 or later"
        )
    return gpus._replace(torch=found["torch"], torch_build=found["build"]), found["cnnbench"]


def set_up(root: Path, extras: Sequence[str]) -> Path:
    """Install everything and return the environment's Python. Raises BootstrapError."""
    python, prefix = _environment(root)
    facts, origin = _facts(python, find_gpus())
    project = {"root": str(root), "project": hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()}
    here = origin is not None and Path(origin).resolve().is_relative_to(root)
    attempts = choose_torch(facts)
    if here and not attempts and _is_stamped(prefix / STAMP, project, extras):
        _print_message(describe_torch(facts))
        return python
    if _ask((str(python), "-m", "pip", "--version")) is None and _ask((str(python), "-m", "ensurepip")) is None:
        raise BootstrapError(
            f"{python} has no pip; install it (`{python} -m ensurepip`, Debian, Ubuntu: `apt install python3-pip`), "
            "or set up with uv (see docs/install.md)"
        )
    if attempts:
        _install_torch(python, attempts)
        facts, _ = _facts(python, facts)
    _print_message(describe_torch(facts))
    target = f"{root}[{','.join(extras)}]" if extras else str(root)
    _print_message(f"installing cnnbench from {root}")
    if _pip(python, "install", "--editable", target) != 0:
        raise BootstrapError("pip could not install cnnbench (its message is above); is the package index reachable?")
    (prefix / STAMP).write_text(json.dumps({**project, "extras": sorted(extras)}))
    return python


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until no other set-up of this clone is under way."""
    with (root / "pyproject.toml").open() as held:
        with contextlib.suppress(ImportError, OSError):  # Windows, or a file system without locks
            import fcntl

            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _print_message(f"waiting for another set-up of {root}")
                fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _environment(root: Path) -> tuple[Path, Path]:
    """Find this virtual environment, or `.venv` in the clone, which is made if it does not work."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.executable), Path(sys.prefix)
    prefix = root / ".venv"
    python = prefix / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists() or _ask((str(python), "-c", "pass")) is None:
        _print_message(f"making {prefix}")
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(prefix)], stdout=sys.stderr, check=False)
        if made.returncode != 0:
            raise BootstrapError(
                "this Python cannot make virtual environments; install its venv module (Debian, Ubuntu: "
                "`apt install python3-venv`), or run this from inside an environment you made"
            )
    return python, prefix


def _install_torch(python: Path, attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        index = attempt.ask_first
        if index is not None:
            # Asked through pip for its proxies and certificates; other places that the user configured do not count.
            # Once, with a short timeout whatever PIP_DEFAULT_TIMEOUT is: an index without an answer costs seconds.
            question = ("index", "versions", "torch", "--index-url", index, "--timeout", "4", "--retries", "0")
            alone = {**os.environ, "PIP_EXTRA_INDEX_URL": index, "PIP_FIND_LINKS": os.devnull}
            if _ask((str(python), "-m", "pip", *question), 20, alone) is None:
                _print_message(
                    f"warning: {index} does not answer; continuing without it, which may bring {CUDA_SIZE} of CUDA"
                )
                continue
        _print_message(f"installing torch: {attempt.what}")
        if _pip(python, "install", *attempt.arguments) == 0:
            return
    raise BootstrapError("pip could not install torch (its message is above); is the package index reachable?")


def _is_stamped(stamp: Path, project: Mapping[str, str], extras: Sequence[str]) -> bool:
    """Tell whether this state of the project was installed here, with at least these extras."""
    try:
        had = json.loads(stamp.read_text())
        return {*had.pop("extras")} >= {*extras} and bool(had == project)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _pip(python: Path, *arguments: str) -> int:
    command = (str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode


def _ask(command: Sequence[str], seconds: float = 60, environment: Mapping[str, str] | None = None) -> str | None:
    """Run a command and return what it prints, or None if it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _call(command: Sequence[str], root: Path, **options: Any) -> int:
    """Run to the end and return the exit code. Ctrl-C reaches the child as well, which ends by itself cleanly."""
    with subprocess.Popen(command, cwd=root, **options) as process:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue
            return code if code >= 0 else 128 - code


def _print_message(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def allowed_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_cnnbench(command: str, rest: Sequence[str], python: Path, root: Path) -> int:
    if command == "test":
        # In one process per core, as far as memory allows, unless the arguments for pytest (the last wins) differ.
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        spread = ("-n", str(max(1, min(allowed_cores(), memory // TEST_BYTES))), "--dist", "worksteal")
        # One thread per process, and one that sleeps while it waits: threads that spin would take each other's core.
        environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **os.environ}
        return _call([str(python), "-m", "pytest", *spread, *rest], root, env=environment)
    if command == "setup":
        _print_message(f"ready: {python.parent / 'cnnbench'} run quick")
        return 0
    run = [str(python), "-m", "cnnbench", "run", "quick", *rest]
    # Its table is part of the one that `show` prints next.
    code = _call(run, root, stdout=None if rest else subprocess.DEVNULL)
    if code not in (0, 5):  # after all was done, or some job failed, there is a table to show
        return code
    shown = _call([str(python), "-m", "cnnbench", "show", "--with-lecture", "--last"], root)
    return code or shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: that of the command, or 2 if the set-up fails."""
    if sys.version_info < OLDEST_PYTHON:
        this = f"{sys.version.split()[0]} ({sys.executable})"
        _print_message(f"error: cnnbench needs Python 3.11 or later, this is {this}")
        return 2
    parser = argparse.ArgumentParser(
        prog="python3 -m cnnbench.bootstrap",
        description="Set up cnnbench, then measure or run the tests.",
        epilog="Further words go to `cnnbench run quick`, or to pytest: `test --all` runs the slow tests too, "
        "`test -n 0` uses one process instead of one per core, `test -k WORD` or `test FILE` runs some.",
    )
    parser.add_argument("command", choices=("quick", "test", "setup"), help="measure; run the tests; only set up")
    chosen, rest = parser.parse_known_args(arguments)
    root = Path(__file__).resolve().parents[1]
    try:
        if not (root / "pyproject.toml").is_file():
            raise BootstrapError(
                f"{root} is not a clone of cnnbench; it is installed already: run `cnnbench run quick`"
            )
        with _alone(root):
            python = set_up(root, ("test",) if chosen.command == "test" else ())
    except BootstrapError as error:
        _print_message(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return _run_cnnbench(chosen.command, rest, python, root)


if __name__ == "__main__":
    sys.exit(main())
