"""The C++ kernels: built once with the system's compiler, kept in the user's cache, called through ctypes.

Enters nothing; leaves the kernels' functions, or UnsupportedError with the reason (no compiler, not Linux, no OpenMP
runtime in torch). The library is linked against the very OpenMP runtime that torch has loaded: two runtimes in one
process would each keep threads spinning on the same cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

from cnnbench.data import default_cache_dir
from cnnbench.errors import DataError, UnsupportedError
from cnnbench.files import staged

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

_LONG, _FLOAT, _SEED, _UINT, _POINTER = ctypes.c_long, ctypes.c_float, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[type, ...]] = {
    "pack": (_POINTER,) * 2 + (_LONG,) * 2,
    "first_forward": (_POINTER,) * 4 + (_LONG,) * 4 + (_SEED, _UINT, _FLOAT),
    "first_backward": (_POINTER,) * 5 + (_LONG,) * 4 + (_FLOAT, ctypes.c_int),
    "stage_forward": (_POINTER,) * 4 + (_LONG,) * 5 + (ctypes.c_int, _SEED, _UINT, _FLOAT),
    "stage_backward": (_POINTER,) * 7 + (_LONG,) * 5 + (ctypes.c_int, _FLOAT, ctypes.c_int),
    "sparse_forward": (_POINTER,) * 3 + (_LONG,) * 3,
    "sparse_backward": (_POINTER,) * 3 + (_LONG,) * 3,
    "dense_finish": (_POINTER,) * 2 + (_LONG,) * 2 + (_SEED, _UINT, _FLOAT),
    "dense_backward": (_POINTER,) * 2 + (_LONG,) * 2 + (_FLOAT,),
    "cross_entropy": (_POINTER,) * 3 + (_LONG,) * 2,
    "rmsprop": (_POINTER,) * 3 + (_LONG,) + (_FLOAT,) * 3,
    "adam": (_POINTER,) * 4 + (_LONG,) + (_FLOAT,) * 6,
    "vector_lanes": (),
    "knows_bf16": (),
    "knows_tiles": (),
}
_BOTH = ("first_forward", "stage_forward", "stage_backward", "dense_finish", "dense_backward")
"""Of these there is one more, with `_bf16` after its name, where the processor multiplies bfloat16."""
_TILES: dict[str, tuple[type, ...]] = {
    "pack_tiles": (_POINTER,) * 3 + (_LONG,) * 2,
    "stage_forward_tiles": _SIGNATURES["stage_forward"],
    "stage_backward_tiles": _SIGNATURES["stage_backward"],
    "dense_forward_tiles": (_POINTER,) * 5 + (_LONG,) * 3,
    "dense_backward_tiles": (_POINTER,) * 6 + (_LONG,) * 3,
}
"""These are there where the processor multiplies tiles of bfloat16 (Intel's AMX)."""


class Kernels:
    """The functions of `kernels/kernels.cpp` by their names without `cnnbench_`; tensors are given by `data_ptr()`."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, arguments in _SIGNATURES.items():
            self._bind(name, arguments)
        self.lanes = int(self._library.cnnbench_vector_lanes())
        """float32 values in one vector."""
        self.bf16 = bool(self._library.cnnbench_knows_bf16())
        """Whether the functions in `_bf16` are there."""
        for name in _BOTH if self.bf16 else ():
            self._bind(f"{name}_bf16", _SIGNATURES[name])
        self.tiles = bool(self._library.cnnbench_knows_tiles())
        """Whether those in `_tiles` are there, and the system lends this process the registers."""
        for name, arguments in _TILES.items() if self.tiles else ():
            self._bind(name, arguments)

    def _bind(self, name: str, arguments: tuple[type, ...]) -> None:
        function = getattr(self._library, f"cnnbench_{name}")
        function.argtypes = arguments
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
        with tempfile.TemporaryDirectory(prefix="cnnbench-") as folder, staged(library) as built:
            made = str(Path(folder) / "kernels.o")
            _run([compiler, *FLAGS, "-c", str(SOURCE), "-o", made])
            # Without -fopenmp here, which would bring the compiler's own runtime; -z defs makes what is missing an error.
            _run([compiler, "-shared", "-o", str(built), made, str(runtime), "-Wl,-z,defs"])
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
        with contextlib.suppress(ValueError):
            said = said[: said.index("\n")]
        raise UnsupportedError(f"native kernels: {command[0]} failed: {said}")
