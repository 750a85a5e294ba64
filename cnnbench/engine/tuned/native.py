"""The C++ kernels and the networks they support; built once by the system's compiler, cached, called by ctypes.

The library is linked with the very OpenMP runtime that torch has loaded: two runtimes in one process would each keep
threads spinning on the same cores. Without Linux, a compiler or an OpenMP runtime in torch, UnsupportedError is raised.

A network's layers are computed in stages, one pass each. Supported are: convolution 3x3 without bias, ReLU, max pooling
of 2, dropout or none (a `FusedConvStage`), any number of times; then dense, ReLU, dropout or none, any number of times;
last a dense layer for the logits.
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from cnnbench.data import default_cache_dir
from cnnbench.errors import DataError, UnsupportedError
from cnnbench.files import staged
from cnnbench.workloads import flops

SOURCE = Path(__file__).with_name("kernels") / "kernels.cpp"
"""The kernels' source, which includes the headers beside it."""
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp"),
    # Sums may be taken in another order, as every library's are; NaN and infinity stay what they are, so a training that
    # diverges still shows it.
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
BUILD_SECONDS = 120

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
"""Functions that exist if the processor multiplies bfloat16."""
_TILES = {
    "pack_tiles": "PPPLL",
    "stage_forward_tiles": _SIGNATURES["stage_forward"],
    "stage_backward_tiles": _SIGNATURES["stage_backward"],
    "dense_forward_tiles": "PPPPPLLL",
    "dense_backward_tiles": "PPPPPPLLL",
}
"""Functions that exist if the processor multiplies tiles of bfloat16 (Intel's AMX)."""


class Kernels:
    """The functions of `kernels/kernels.cpp` by their names without `cnnbench_`; tensors are given by `data_ptr()`."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._bind(_SIGNATURES)
        self.lanes = int(self._library.cnnbench_vector_lanes())
        """float32 values in one vector."""
        self.bf16 = bool(self._library.cnnbench_knows_bf16())
        """Whether the functions of `_BF16` exist."""
        self.tiles = bool(self._library.cnnbench_knows_tiles())
        """Whether the functions of `_TILES` exist, and the system grants this process the registers."""
        self._bind((_BF16 if self.bf16 else {}) | (_TILES if self.tiles else {}))

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
    """Load the kernels, built first if the cache lacks this source, compiler, processor and runtime.

    Raises UnsupportedError with the reason if that is impossible here.
    """
    if not sys.platform.startswith("linux"):
        raise UnsupportedError(f"native kernels are built on Linux only, this is {sys.platform}")
    compiler, runtime = _find_compiler(), _find_runtime()
    try:
        folder = default_cache_dir(os.environ).parent / "native"
        folder.mkdir(parents=True, exist_ok=True)
    except (DataError, OSError) as error:
        raise UnsupportedError(f"native kernels need a folder to be built in: {error}") from error
    library = folder / f"kernels-{_make_key(compiler, runtime)}.so"
    if not library.exists():
        _build(compiler, runtime, library)
    try:
        return Kernels(library)
    except (OSError, AttributeError) as error:
        broken = f"{library} cannot be loaded: {error}; delete it to build it again"
        raise UnsupportedError(f"native kernels: {broken}") from error


def _find_compiler() -> str:
    named = os.environ.get("CXX")
    names = (named,) if named else ("g++", "c++")
    for name in names:
        if found := shutil.which(name):
            return found
    looked = f"{' or '.join(names)} was not found; install g++, or name one with CXX"
    raise UnsupportedError(f"native kernels need a C++ compiler, {looked}")


def _find_runtime() -> Path:
    """Find the OpenMP runtime that `import torch` has loaded into this process."""
    assert torch.__version__  # imported, so the runtime is there
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = sorted({line.split(None, 5)[5].strip() for line in maps if line.count("/")})
    for name in ("libgomp", "libiomp5", "libomp"):
        for path in paths:
            if Path(path).name.startswith(name):
                return Path(path)
    raise UnsupportedError("native kernels need torch's OpenMP runtime, and torch has loaded none")


def _make_key(compiler: str, runtime: Path) -> str:
    """Hash all that a library depends on: source, flags, compiler and version, runtime, processor features."""
    digest = hashlib.sha256()
    for each in (SOURCE, *sorted(SOURCE.parent.glob("*.h"))):
        digest.update(each.read_bytes())
    version = _run([compiler, "--version"])
    wanted = ("flags", "Features", "model name", "cpu family", "model\t", "stepping")
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        processor = "".join(sorted({line for line in lines if line.startswith(wanted)}))
    digest.update("\0".join((*FLAGS, compiler, version, str(runtime), processor)).encode())
    return digest.hexdigest()[:20]


def _build(compiler: str, runtime: Path, library: Path) -> None:
    """Compile and link beside the final place, then move the library there: another process may be building it too."""
    try:
        with tempfile.TemporaryDirectory(prefix="cnnbench-") as folder, staged(library) as built:
            made = str(Path(folder) / "kernels.o")
            _run([compiler, *FLAGS, "-c", str(SOURCE), "-o", made])
            # Without -fopenmp, which would link the compiler's own runtime; -z defs makes a missing symbol an error.
            _run([compiler, "-shared", "-o", str(built), made, str(runtime), "-Wl,-z,defs"])
    except OSError as error:
        why = f"{library.parent} cannot be written: {error.strerror or error}"
        raise UnsupportedError(f"native kernels: {why}") from error


def _run(command: list[str]) -> str:
    """Run the compiler and return what it printed. Raises UnsupportedError with its error."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedError(f"native kernels: the compiler took more than {BUILD_SECONDS} s") from error
    except OSError as error:
        raise UnsupportedError(f"native kernels: {command[0]} cannot be run: {error}") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:300])
        raise UnsupportedError(f"native kernels: {command[0]} failed: {said.partition(chr(10))[0]}")
    return done.stdout


T = TypeVar("T")


@dataclass(frozen=True)
class FusedConvStage:
    """Convolution, ReLU, pooling, dropout: `(channels, side, side)` in, `(out_channels, ceil(side / 2), ...)` out."""

    channels: int
    side: int
    out_channels: int
    keep: float


@dataclass(frozen=True)
class NativeStages:
    """The whole network; its last dense layer gives the logits."""

    convolutions: tuple[FusedConvStage, ...]
    dense: tuple[float | None, ...]
    """Share kept by the dropout after each dense layer and its ReLU; None for the last layer, which has neither."""


def group_layers(layers: tuple[flops.Layer, ...], input_shape: flops.Shape, lanes: int) -> NativeStages:
    """Group the layers into stages for vectors of `lanes` values. Raises UnsupportedError naming the first misfit."""
    left = list(flops.count_layers(layers, input_shape))
    convolutions: list[FusedConvStage] = []
    dense: list[float] = []

    def take(kind: type[T]) -> tuple[T, flops.Shape] | None:
        layer = left[0].layer if left else None
        return (layer, left.pop(0).input) if isinstance(layer, kind) else None

    def take_keep() -> float:
        dropout = take(flops.Dropout)
        return 1.0 if dropout is None else dropout[0].keep

    while (conv := take(flops.Conv2d)) is not None:
        layer, (channels, height, width) = conv
        if layer.side != 3 or layer.bias or height != width:
            raise _make_unsupported_error("a convolution other than 3x3 without bias on a square image")
        if take(flops.Relu) is None:
            raise _make_unsupported_error("a convolution without ReLU after it")
        pool = take(flops.MaxPool2d)
        if pool is None or pool[0].side != 2:
            raise _make_unsupported_error("a convolution without max pooling of 2 after it")
        flat = take(flops.Flatten) is not None
        _check_channels(channels, layer.out_channels, first=not convolutions, lanes=lanes)
        convolutions.append(FusedConvStage(channels, height, layer.out_channels, take_keep()))
        if flat:
            break
    if len(convolutions) == 1:
        raise _make_unsupported_error("a single convolution, which would be first and last")
    take(flops.Flatten)
    while take(flops.Dense) is not None:
        if not left:
            return NativeStages(tuple(convolutions), (*dense, None))
        if take(flops.Relu) is None:
            raise _make_unsupported_error("a dense layer without ReLU after it")
        dense.append(take_keep())
    strange = f"a layer {type(left[0].layer).__name__} in this place" if left else ""
    raise _make_unsupported_error(strange or "a network without a dense layer at its end")


def _check_channels(channels: int, out_channels: int, *, first: bool, lanes: int) -> None:
    if first:
        if channels != 1 or out_channels not in (2 * lanes, 4 * lanes):
            known = f"1 to {2 * lanes} or {4 * lanes}"
            raise _make_unsupported_error(
                f"a first convolution of {channels} to {out_channels} channels; supported are {known}"
            )
        return
    block, half = (4 if lanes == 16 else 2) * lanes, 2 * lanes
    if out_channels % block or channels % half:
        raise _make_unsupported_error(
            f"a convolution of {channels} to {out_channels} channels; supported are multiples of {half} and {block}"
        )


def _make_unsupported_error(what: str) -> UnsupportedError:
    return UnsupportedError(f"native kernels do not support {what}")
