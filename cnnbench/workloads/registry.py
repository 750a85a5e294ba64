"""Which workloads there are, by name: cnnbench's own and those of other packages, which are installed; the files of the user's
that this process was given; and, for reading, those described in the headers of ledgers it has read, so that a result can be
understood where its workload is not at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from cnnbench.errors import UsageError, WorkloadError
from cnnbench.schema import WorkloadFacts
from cnnbench.workloads import gemm, mlp, mnist_cnn, vgg16
from cnnbench.workloads.base import Workload
from cnnbench.workloads.flops import Counts
from cnnbench.workloads.user_files import WorkloadFile, find_problems, is_file, load

GROUP = "cnnbench.workloads"
_BUILT_IN: tuple[Workload, ...] = (
    gemm.WORKLOAD,
    *mlp.WORKLOADS,
    *(mnist_cnn.WORKLOAD, mnist_cnn.WORKLOAD_2048),
    vgg16.WORKLOAD,
)
_FILES: dict[str, WorkloadFile] = {}
_FROM_LEDGERS: dict[str, dict[int, Workload]] = {}
"""By name and version."""


class _Installed(NamedTuple):
    workload: Workload
    source: str


@cache
def _registry() -> dict[str, _Installed]:
    """All that is installed. Raises UsageError for an entry point that gives no workload: it is no mistake of whoever asks for
    a name, so it must not be taken for one.
    """
    found = {workload.name: _Installed(workload, "cnnbench") for workload in _BUILT_IN}
    for point in entry_points(group=GROUP):
        source = f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.module
        place = f"entry point {point.name} = {point.value} of {source}"
        workload = _load(point, place)
        if workload.name in found:
            raise UsageError(f"{place}: a workload named {workload.name!r} exists already; uninstall one of the two")
        found[workload.name] = _Installed(workload, source)
    return found


def _load(point: EntryPoint, place: str) -> Workload:
    try:
        workload = point.load()
    except (Exception, SystemExit) as error:
        raise UsageError(f"{place}: {type(error).__name__}: {error}; mend or uninstall that package") from error
    if not isinstance(workload, Workload):
        raise UsageError(f"{place}: expected a cnnbench.workloads.Workload, got {type(workload).__name__}")
    if wrong := find_problems(workload):
        raise UsageError(f"{place}: {'; '.join(wrong)}")
    return workload


def names() -> tuple[str, ...]:
    """The names of all workloads, sorted."""
    return tuple(sorted({*_registry(), *_FILES, *_FROM_LEDGERS}))


def get(name: str, version: int | None = None) -> Workload:
    """The workload of that name: in that version where it is known, else as it is here.

    Raises WorkloadError with the names there are.
    """
    here = _registry().get(name) or _FILES.get(name)
    described = _FROM_LEDGERS.get(name, {})
    if version in described and (here is None or here.workload.version != version):
        return described[version]
    if here is not None:
        return here.workload
    if described:
        return described[max(described)]
    raise WorkloadError(f"workload {name!r} is not one of {', '.join(names())}")


def find(text: str, folder: Path = Path()) -> Workload:
    """The workload of that name, or in that file (`my_net.py`, `my_net.py:NAME`), which is run. Raises WorkloadError."""
    return add_file(text, folder) if is_file(text) else get(text)


def add_file(text: str, folder: Path = Path()) -> Workload:
    """The workload in a file of the user's, known by its name from now on in this process. Raises WorkloadError."""
    found = load(text, folder)
    name = found.workload.name
    if name in _registry():
        raise WorkloadError(
            f"{found.path}: a workload named {name!r} exists already ({source_of(name)}); choose another name"
        )
    other = _FILES.get(name)
    if other is not None and other.text != found.text:
        raise WorkloadError(f"{found.path}: {other.path} has a workload named {name!r} too; choose another name")
    _FILES[name] = found
    return found.workload


def file_of(name: str) -> WorkloadFile | None:
    """The file that a workload came from; None for one that is installed."""
    return _FILES.get(name)


def forget_files() -> None:
    """Know no file any more, as at the start of the process."""
    _FILES.clear()


def is_built_in(name: str) -> bool:
    """Whether it is one of cnnbench's own."""
    return any(workload.name == name for workload in _BUILT_IN)


def source_of(name: str) -> str:
    """Where a workload comes from: `cnnbench`, another package with its version, or a file's name."""
    installed, file = _registry().get(name), _FILES.get(name)
    if installed is not None:
        return installed.source
    return "a ledger" if file is None else file.path.name


def collect_header_facts(used: Iterable[str]) -> dict[str, WorkloadFacts]:
    """Of these workloads those that are not cnnbench's own, as a ledger's header keeps them for its readers."""
    found: dict[str, WorkloadFacts] = {}
    for name in sorted({name for name in used if not is_built_in(name)}):
        workload, file = get(name), file_of(name)
        facts: dict[str, Any] = {
            field: getattr(workload, field) for field in WorkloadFacts.model_fields if hasattr(workload, field)
        }
        found[name] = WorkloadFacts(**facts, source=source_of(name), sha256=None if file is None else file.sha256)
    return found


def register_from_ledger(facts: Mapping[str, WorkloadFacts]) -> None:
    """Know workloads from a ledger's header, for reading its records; cnnbench's own stay as they are."""
    for name, each in facts.items():
        if is_built_in(name):
            continue
        counts = Counts(
            parameters=each.parameters,
            forward=each.flops_forward_per_image,
            training=each.flops_training_per_image,
            activations=each.activations_per_image,
            convolves=each.convolves,
        )
        _FROM_LEDGERS.setdefault(name, {})[each.version] = Workload(
            name=name,
            kind="training",
            declared=counts,
            **each.model_dump(include={"version", "title", "input_shape", "classes", "dataset"}),
        )
