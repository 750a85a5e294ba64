"""The C++ kernels: built once with the system's compiler, kept in the user's cache, called through ctypes.

Enters nothing; leaves the kernels' functions, or UnsupportedError with the reason (no compiler, not Linux, no OpenMP
runtime in torch). The library is linked against the very OpenMP runtime that torch has loaded: two runtimes in one
process would each keep threads spinning on the same cores.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from cnnbench.data import default_cache_dir
from cnnbench.errors import DataError, UnsupportedError

SOURCE = Path(__file__).with_name("kernels") / "kernels.cpp"
"""Includes the headers beside it."""
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp"),
    # Sums may be taken in another order, as every library's are; NaN and infinity stay what they are, so a training that
    # diverges still shows it.
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
COMPILERS = ("g++", "c++")
BUILD_SECONDS = 120
RUNTIMES = ("libgomp", "libiomp5", "libomp")

_TYPES = {
    "P": ctypes.c_void_p,
    "L": ctypes.c_long,
    "I": ctypes.c_int,
    "F": ctypes.c_float,
    "U": ctypes.c_uint32,
    "S": ctypes.c_uint64,
}
"""A letter for each type of an argument: pointer, long, int, float, unsigned int, and a seed."""
_SIGNATURES = {
    "pack": "PPLL",
    "first_forward": "PPPPLLLLSUF",
    "first_backward": "PPPPPLLLLFI",
    "stage_forward": "PPPPLLLLLISUF",
    "stage_backward": "PPPPPPPLLLLLIFI",
    "sparse_forward": "PPPLLL",
    "sparse_backward": "PPPLLL",
    "dense_finish": "PPLLSUF",
    "dense_backward": "PPLLF",
    "cross_entropy": "PPPLL",
    "rmsprop": "PPPLFFF",
    "adam": "PPPPLFFFFFF",
    "vector_lanes": "",
    "knows_bf16": "",
    "knows_tiles": "",
}
_BF16 = {
    f"{name}_bf16": _SIGNATURES[name]
    for name in ("first_forward", "stage_forward", "stage_backward", "dense_finish", "dense_backward")
}
"""These are there where the processor multiplies bfloat16."""
_TILES = {
    "pack_tiles": "PPPLL",
    "stage_forward_tiles": _SIGNATURES["stage_forward"],
    "stage_backward_tiles": _SIGNATURES["stage_backward"],
    "dense_forward_tiles": "PPPPPLLL",
    "dense_backward_tiles": "PPPPPPLLL",
}
"""These are there where the processor multiplies tiles of bfloat16 (Intel's AMX)."""


class Kernels:
    """The functions of `kernels/kernels.cpp` by their names without `cnnbench_`; tensors are given by `data_ptr()`."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._bind(_SIGNATURES)
        self.lanes = int(self._library.cnnbench_vector_lanes())
        """float32 values in one vector."""
        self.bf16 = bool(self._library.cnnbench_knows_bf16())
        """Whether the functions in `_bf16` are there."""
        self.tiles = bool(self._library.cnnbench_knows_tiles())
        """Whether those in `_tiles` are there, and the system lends this process the registers."""
        if self.bf16:
            self._bind(_BF16)
        if self.tiles:
            self._bind(_TILES)

    def _bind(self, signatures: Mapping[str, str]) -> None:
        for name, arguments in signatures.items():
            function = getattr(self._library, f"cnnbench_{name}")
            function.argtypes = [_TYPES[letter] for letter in arguments]
            function.restype = ctypes.c_float if name == "cross_entropy" else ctypes.c_int
            setattr(self, name, function)

    def __getattr__(self, name: str) -> ctypes._FuncPointer:
        raise AttributeError(name)  # set in __init__; this tells the type checker that names are looked up


@cache
def load() -> Kernels:
    """The kernels, built if this source, compiler, processor and runtime have not been built before.

    Raises UnsupportedError with the reason where they cannot be had.
    """
    if not sys.platform.startswith("linux"):
        raise UnsupportedError(f"native kernels are built on Linux only, this is {sys.platform}")
    compiler, runtime = _compiler(), _runtime()
    library = _folder() / f"kernels-{_key(compiler, runtime)}.so"
    if not library.exists():
        _build(compiler, runtime, library)
    try:
        return Kernels(library)
    except (OSError, AttributeError) as error:
        raise UnsupportedError(
            f"native kernels: {library} cannot be loaded: {error}; delete it to build it anew"
        ) from error


def _compiler() -> str:
    named = os.environ.get("CXX")
    for name in (named,) if named else COMPILERS:
        if found := shutil.which(name):
            return found
    looked = named or " or ".join(COMPILERS)
    raise UnsupportedError(
        f"native kernels need a C++ compiler, {looked} was not found; install g++, or name one with CXX"
    )


def _runtime() -> Path:
    """The OpenMP runtime in this process, which `import torch` has loaded."""
    assert torch.__version__  # imported, so the runtime is there
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.split(None, 5)[5].strip() for line in maps if line.count("/")}
    for name in RUNTIMES:
        for path in sorted(paths):
            if Path(path).name.startswith(name):
                return Path(path)
    raise UnsupportedError("native kernels need torch's OpenMP runtime, and torch has loaded none")


def _key(compiler: str, runtime: Path) -> str:
    digest = hashlib.sha256()
    for each in (SOURCE, *sorted(SOURCE.parent.glob("*.h"))):
        digest.update(each.read_bytes())
    digest.update("\0".join((*FLAGS, compiler, _version(compiler), str(runtime), _processor())).encode())
    return digest.hexdigest()[:20]


def _version(compiler: str) -> str:
    try:
        done = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, check=True, timeout=BUILD_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnsupportedError(f"native kernels: {compiler} --version failed: {error}") from error
    return done.stdout


def _processor() -> str:
    """What -march=native depends on."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        wanted = ("flags", "Features", "model name", "cpu family", "model\t", "stepping")
        return "".join(sorted({line for line in lines if line.startswith(wanted)}))


def _folder() -> Path:
    try:
        folder = default_cache_dir(os.environ).parent / "native"
        folder.mkdir(parents=True, exist_ok=True)
    except (DataError, OSError) as error:
        raise UnsupportedError(f"native kernels need a place to be built in: {error}") from error
    return folder


def _build(compiler: str, runtime: Path, library: Path) -> None:
    """Compile and link beside the final place, then move there: another process may be building the same."""
    try:
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
            made, built = str(Path(folder) / "kernels.o"), str(Path(folder) / "kernels.so")
            _run([compiler, *FLAGS, "-c", str(SOURCE), "-o", made])
            # Without -fopenmp here, which would bring the compiler's own runtime; -z defs makes what is missing an error.
            _run([compiler, "-shared", "-o", built, made, str(runtime), "-Wl,-z,defs"])
            Path(built).replace(library)
    except OSError as error:
        raise UnsupportedError(
            f"native kernels: {library.parent} cannot be written: {error.strerror or error}"
        ) from error


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedError(f"native kernels: the compiler took more than {BUILD_SECONDS} s") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:300])
        raise UnsupportedError(f"native kernels: {command[0]} failed: {said.partition(chr(10))[0]}")
